//! `logctl node drain, step-down, promote, demote, set`: what one node is meant to be.

use std::time::Duration;

use proto::Name;
use proto::member::{MemberOp, MemberRow, MemberWants, SetNode, StepDown};
use proto::wire::Status;
use serde::Serialize;

use crate::cli::Globals;
use crate::error::CtlError;
use crate::out::{Cell, Out, Show};

use super::{MemberView, Talk};

/// Keeps clients away from a node, or lets them come back.
pub(super) async fn drain(
    name: &Name,
    off: bool,
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CtlError> {
    let talk = Talk::open(globals)?;
    let done = drained(&talk, name, off, out).await;
    talk.close().await;
    show(&done?, out)
}

async fn drained(
    talk: &Talk,
    name: &Name,
    off: bool,
    out: &Out,
) -> Result<Vec<MemberRow>, CtlError> {
    let set = SetNode { name: name.to_string(), drained: Some(!off), ..SetNode::default() };
    let rows = talk.change(MemberOp::Set(set)).await?;
    if !off {
        let what = format!("the drain of {name}");
        talk.until(out, &what, async || Ok(still_primary(&talk.status().await?, name))).await?;
    }
    Ok(rows)
}

fn still_primary(status: &Status, name: &Name) -> Option<String> {
    if status.primary.is_empty() {
        return Some("there is no primary at this moment".to_owned());
    }
    (status.primary == name.as_str()).then(|| format!("{name} is the primary"))
}

/// Gives a node a vote, or takes it away.
pub(super) async fn vote(
    name: &Name,
    votes: bool,
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CtlError> {
    let talk = Talk::open(globals)?;
    let done = voted(&talk, name, votes, out).await;
    talk.close().await;
    show(&done?, out)
}

async fn voted(
    talk: &Talk,
    name: &Name,
    votes: bool,
    out: &Out,
) -> Result<Vec<MemberRow>, CtlError> {
    let wants = if votes { MemberWants::Voter } else { MemberWants::Learner };
    let set = SetNode { name: name.to_string(), wants: Some(wants.into()), ..SetNode::default() };
    let rows = talk.change(MemberOp::Set(set)).await?;
    let (what, why) = if votes {
        ("the vote", "has not caught up, or is not up: it has no vote yet")
    } else {
        ("the end of the vote", "still votes")
    };
    let missing = async || {
        let engine = talk.engine().await?;
        let has = engine.voters.iter().any(|voter| voter == name.as_str());
        Ok(if has != votes {
            Some(format!("{name} {why}"))
        } else if engine.joint {
            Some("the change of voters is not committed yet".to_owned())
        } else {
            None
        })
    };
    talk.until(out, &format!("{what} of {name}"), missing).await?;
    Ok(rows)
}

/// Changes a node's priority, or whether it may sign. To whom the role goes then, and when, is the
/// cluster's; that the node has the authority's key, or has it no more, is waited for.
pub(super) async fn set(
    name: &Name,
    priority: Option<u32>,
    signer: Option<bool>,
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CtlError> {
    let talk = Talk::open(globals)?;
    let set = SetNode { name: name.to_string(), priority, signs: signer, ..SetNode::default() };
    let done = async {
        let rows = talk.change(MemberOp::Set(set)).await?;
        if let Some(signs) = signer {
            talk.until(out, &format!("the change of {name}"), async || {
                let status = talk.status().await?;
                let row = status.nodes.iter().find(|row| row.name == name.as_str());
                let fits = row.is_some_and(|row| row.up && row.signs == signs);
                let why = if signs {
                    "has no key yet: no other signer that is up has handed it over"
                } else {
                    "still has the key: does its file name tls.ca_key?"
                };
                Ok((!fits).then(|| format!("{name} {why}")))
            })
            .await?;
        }
        Ok(rows)
    };
    let done: Result<_, CtlError> = done.await;
    talk.close().await;
    show(&done?, out)
}

fn show(rows: &[MemberRow], out: &mut Out) -> Result<(), CtlError> {
    for row in rows {
        out.did(format!("{} is changed as was asked for", row.name));
    }
    match rows {
        [row] => out.one(&MemberView::from(row)),
        rows => out.list(&rows.iter().map(MemberView::from).collect::<Vec<_>>()),
    }
}

/// Who gave the role away, and who has it.
#[derive(Debug, Serialize)]
struct SteppedDown {
    stepped_down: String,
    primary: String,
}

impl Show for SteppedDown {
    fn headings() -> &'static [&'static str] {
        &["STEPPED DOWN", "PRIMARY"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.stepped_down.clone(), self.primary.clone()]
    }
}

/// Has the primary give its role away.
pub(super) async fn step_down(
    name: Option<&Name>,
    hold: Duration,
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CtlError> {
    let talk = Talk::open(globals)?;
    let done = stepped_down(&talk, name, hold, out).await;
    talk.close().await;
    let done = done?;
    out.did(format!("{} has given its role to {}", done.stepped_down, done.primary));
    out.one(&done)
}

async fn stepped_down(
    talk: &Talk,
    name: Option<&Name>,
    hold: Duration,
    out: &Out,
) -> Result<SteppedDown, CtlError> {
    let status = talk.status().await?;
    let was = status.primary.clone();
    if was.is_empty() {
        return Err(CtlError::refused(11, "there is no primary", "logctl status"));
    }
    if let Some(name) = name.filter(|name| name.as_str() != was) {
        let what = format!("{name} is not the primary: {was} is");
        return Err(CtlError::conflict(what, format!("logctl node step-down {was}")));
    }
    let voters = talk.engine().await?.voters;
    let successor =
        |row: &proto::wire::NodeRow| row.name != was && row.up && voters.contains(&row.name);
    if !status.nodes.iter().any(successor) {
        let what = format!("no other voter is up to take the role over from {was}");
        return Err(CtlError::conflict(what, "logctl nodes"));
    }
    let hold_ns = u64::try_from(hold.as_nanos()).unwrap_or(u64::MAX);
    talk.change(MemberOp::StepDown(StepDown { name: was.clone(), hold_ns })).await?;
    let mut primary = String::new();
    let missing = async || {
        let status = talk.status().await?;
        if !status.primary.is_empty() && status.primary != was {
            primary = status.primary;
            return Ok(None);
        }
        Ok(Some(match status.primary.as_str() {
            "" => "there is no primary at this moment".to_owned(),
            _ => format!("{was} is still the primary"),
        }))
    };
    talk.until(out, &format!("the step down of {was}"), missing).await?;
    Ok(SteppedDown { stepped_down: was, primary })
}
