//! `logctl node drain, step-down, promote, demote, set`: what one node is meant to be.

use std::time::Duration;

use proto::member::{MemberOp, MemberRow, MemberWants, RecoverNode, SetNode, StepDown};
use proto::wire::{NodeRow, Status};
use proto::{ExitCode, Name, Problem};
use serde::Serialize;
use views::member::MemberView;

use crate::cli::Globals;
use crate::error::CtlError;
use crate::out::{Cell, Out, Show};

use super::Talk;

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

/// Lets a node come back with a new store. When it asks for that is its own affair.
pub(super) async fn recover(name: &Name, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let talk = Talk::open(globals)?;
    let rows = talk.change(MemberOp::Recover(RecoverNode { name: name.to_string() })).await;
    talk.close().await;
    let rows = rows?;
    out.note(&format!(
        "{name} may come back with a new store, once. It does so while it runs and cannot prove its store; \
         with an intact one it just goes on"
    ));
    show(&rows, out)
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

/// Why a node is not fit to take the role over, as far as its row says. `aside`: it has stepped down
/// itself, not long ago.
fn unfit(row: &NodeRow, aside: bool) -> Option<String> {
    let name = &row.name;
    if !row.voter {
        return Some(format!("{name} is a learner"));
    }
    if !row.up {
        return Some(format!("{name} does not answer"));
    }
    if row.drained {
        return Some(format!("{name} is drained"));
    }
    if aside {
        return Some(format!("{name} has stepped down, too"));
    }
    let problems: Vec<_> = row.problems.iter().map(Problem::text).collect();
    (!problems.is_empty()).then(|| format!("{name}: {}", problems.join(", ")))
}

async fn stepped_down(
    talk: &Talk,
    name: Option<&Name>,
    hold: Duration,
    out: &Out,
) -> Result<SteppedDown, CtlError> {
    let status = talk.status().await?;
    let is = |row: &NodeRow, name: &Name| row.name == name.as_str();
    if let Some(name) = name.filter(|name| !status.nodes.iter().any(|row| is(row, name))) {
        return Err(CtlError::not_found(format!("there is no node {name}"), "logctl nodes"));
    }
    let was = status.primary.clone();
    if was.is_empty() {
        return Err(CtlError::refused(ExitCode::NoQuorum, "there is no primary", "logctl status"));
    }
    if let Some(name) = name.filter(|name| name.as_str() != was) {
        let what = format!("{name} is not the primary: {was} is");
        return Err(CtlError::conflict(what, format!("logctl node step-down {was}")));
    }
    let voters = talk.engine().await?.voters;
    let successor = |row: &NodeRow| row.name != was && row.up && voters.contains(&row.name);
    if !status.nodes.iter().any(successor) {
        let what = format!("no other voter is up to take the role over from {was}");
        return Err(CtlError::conflict(what, "logctl nodes"));
    }
    let hold_ns = u64::try_from(hold.as_nanos()).unwrap_or(u64::MAX);
    let step = StepDown { name: was.clone(), hold_ns };
    let own = talk.change(MemberOp::StepDown(step)).await?.into_iter().find(|row| row.name == was);
    // By the log's own time, which is not this machine's.
    let now_ns = own.map_or(u64::MAX, |row| row.aside_until_ns.saturating_sub(hold_ns));
    // It is ordered: without the rows a reason is missing, and no more.
    let rows = talk.members().await.unwrap_or_default();
    let aside = |name: &str| rows.iter().any(|row| row.name == name && row.aside_until_ns > now_ns);
    let mut primary = String::new();
    let missing = async || {
        let status = talk.status().await?;
        if !status.primary.is_empty() && status.primary != was {
            primary = status.primary;
            return Ok(None);
        }
        Ok(Some(match status.primary.as_str() {
            "" => "there is no primary at this moment".to_owned(),
            _ => {
                let others = status.nodes.iter().filter(|row| row.name != was);
                let why: Vec<_> = others.filter_map(|row| unfit(row, aside(&row.name))).collect();
                let why =
                    if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
                format!("{was} is still the primary{why}")
            }
        }))
    };
    talk.until(out, &format!("the step down of {was}"), missing).await?;
    Ok(SteppedDown { stepped_down: was, primary })
}

#[cfg(test)]
mod tests {
    use proto::ProblemCode;

    use super::*;

    #[test]
    fn a_node_that_does_not_take_the_role_is_told_with_its_reason() {
        let fit = NodeRow { name: "n2".into(), voter: true, up: true, ..NodeRow::default() };
        assert_eq!(unfit(&fit, false), None);
        let slow = vec![Problem::new(ProblemCode::DiskSlow).of("n2")];
        for (row, aside, why) in [
            (NodeRow { voter: false, ..fit.clone() }, false, "n2 is a learner"),
            (NodeRow { up: false, drained: true, ..fit.clone() }, false, "n2 does not answer"),
            (NodeRow { drained: true, ..fit.clone() }, false, "n2 is drained"),
            (fit.clone(), true, "n2 has stepped down, too"),
            (NodeRow { problems: slow, ..fit }, false, "n2: its disk is slow to sync"),
        ] {
            assert_eq!(unfit(&row, aside).as_deref(), Some(why));
        }
    }
}
