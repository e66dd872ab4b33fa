//! `logctl wait`: until the cluster, or one of its nodes, is as a script wants it.
//!
//! It looks again and again: what is waited for may come true on any node, and a node that falls
//! silent announces nothing.

use proto::member::{MemberRow, MemberState, NodeRole};
use proto::wire::{Empty, NodeRow, Op, Reply, Status};
use proto::{ExitCode, Problem, ProblemCode};
use serde::Serialize;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use views::health::{ClockHealth, clock_health};

use crate::cli::{Globals, NodeIs, Wait, WaitFor};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Cell, Out, Show};
use crate::session::Session;

use super::status::{self, Asked};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Time that one look may take: then another node is asked.
const LOOK_TIME: Duration = Duration::from_secs(2);

/// A node that is as it was wanted.
#[derive(Debug, Serialize)]
struct ReadyView {
    node: String,
    role: String,
    state: String,
}

impl From<&NodeRow> for ReadyView {
    fn from(row: &NodeRow) -> Self {
        Self { node: row.name.clone(), role: row.role.clone(), state: row.state.clone() }
    }
}

impl Show for ReadyView {
    fn headings() -> &'static [&'static str] {
        &["NODE", "ROLE", "STATE"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.node.clone(), self.role.clone(), self.state.clone()]
    }
}

pub(crate) async fn run(args: Wait, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let give_up = Instant::now() + args.timeout;
    let look = Globals { timeout: LOOK_TIME.min(args.timeout), ..globals.clone() };
    let session = Session::open(&look, &Home::from_env()?)?;
    let mut waiting = Waiting { what: args.what, front: None };
    let mut missing = vec!["no node has answered".to_owned()];
    let done = loop {
        match timeout_at(give_up, waiting.look(&session, &look)).await {
            Ok(Ok(ready)) => break out.list(&ready),
            Ok(Err(NotYet::Over(error))) => break Err(error),
            Ok(Err(NotYet::Because(why))) => missing = why,
            Err(_) => {}
        }
        if Instant::now() + LOOK_EVERY >= give_up {
            let time = humantime::format_duration(args.timeout);
            let what = format!("not {} after {time}: {}", waiting.wanted(), missing.join("; "));
            break Err(CtlError::refused(
                ExitCode::Unknown,
                what,
                "logctl doctor says what is in the way; or give a longer --timeout",
            ));
        }
        sleep(LOOK_EVERY).await;
    };
    session.close().await;
    done
}

/// Why to look again, or not.
enum NotYet {
    Because(Vec<String>),
    Over(CtlError),
}

impl From<CtlError> for NotYet {
    /// Waiting mends nodes that are down or busy, not a context that is wrong.
    fn from(error: CtlError) -> Self {
        if error.exit_code().may_pass() {
            Self::Because(vec![error.line()])
        } else {
            Self::Over(error)
        }
    }
}

/// What is waited for.
struct Waiting {
    what: WaitFor,
    /// The highest index that was applied anywhere when this began.
    front: Option<u64>,
}

impl Waiting {
    async fn look(
        &mut self,
        session: &Session,
        globals: &Globals,
    ) -> Result<Vec<ReadyView>, NotYet> {
        if let WaitFor::Node { name, state: NodeIs::Removed } = &self.what {
            return removed(name.as_str(), &members(session).await?);
        }
        let Asked { status, apart } = status::ask(session, globals).await?;
        let front = status.nodes.iter().map(|row| row.applied).max().unwrap_or(0);
        let front = *self.front.get_or_insert(front);
        let missing = match &self.what {
            WaitFor::Ready { nodes } => {
                let mut missing = not_ready(&status, nodes.map(usize::from));
                missing.extend(apart.and_then(|name| sees_nobody(&status, &name)));
                missing
            }
            WaitFor::InSync => not_in_sync(&status, front),
            WaitFor::Clock => bad_clocks(&status),
            WaitFor::Node { name, state } => {
                node_is_not(&status, name.as_str(), *state).into_iter().collect()
            }
        };
        if !missing.is_empty() {
            return Err(NotYet::Because(missing));
        }
        Ok(match &self.what {
            WaitFor::Node { name, .. } => status
                .nodes
                .iter()
                .filter(|row| row.name == name.as_str())
                .map(Into::into)
                .collect(),
            WaitFor::Ready { .. } | WaitFor::InSync | WaitFor::Clock => {
                counted(&status).map(Into::into).collect()
            }
        })
    }

    fn wanted(&self) -> String {
        match &self.what {
            WaitFor::Ready { nodes: None } => "ready".to_owned(),
            WaitFor::Ready { nodes: Some(count) } => format!("ready with {count} nodes"),
            WaitFor::InSync => "in sync".to_owned(),
            WaitFor::Clock => "every clock good".to_owned(),
            WaitFor::Node { name, state } => format!("{name} {}", state.as_str()),
        }
    }
}

async fn members(session: &Session) -> Result<Vec<MemberRow>, CtlError> {
    match session.call(Op::Members(Empty {})).await? {
        (_, Reply::Members(members)) => Ok(members.members),
        _ => Err(CtlError::unexpected("no members")),
    }
}

/// A node that was never there is not removed: its name may be mistyped.
fn removed(name: &str, members: &[MemberRow]) -> Result<Vec<ReadyView>, NotYet> {
    match members.iter().find(|row| row.name == name) {
        Some(row) if row.noticed() == MemberState::Removed => Ok(vec![ReadyView {
            node: row.name.clone(),
            role: String::new(),
            state: row.noticed().as_str().to_owned(),
        }]),
        Some(row) => Err(NotYet::Because(vec![format!("{name} is {}", row.noticed().as_str())])),
        None => {
            let what = format!("{name} was never a node of this cluster");
            Err(NotYet::Over(CtlError::not_found(what, "logctl nodes")))
        }
    }
}

/// The nodes that count: a drained one is on its way out.
fn counted(status: &Status) -> impl Iterator<Item = &NodeRow> {
    status.nodes.iter().filter(|row| !row.drained)
}

fn not_ready(status: &Status, nodes: Option<usize>) -> Vec<String> {
    let mut missing = not_led(status);
    missing.extend(counted(status).filter_map(not_there));
    // What `status` and `health` say of who takes part holds here, too; who is away is named already.
    let going = |problem: &Problem| {
        status.nodes.iter().any(|row| row.drained && row.name == problem.subject)
    };
    let hinders = status.problems.iter().filter(|problem| {
        problem.hinders() && !problem.is_absence() && problem.kind() != ProblemCode::NoQuorum
            || problem.kind() == ProblemCode::NodeCutOff
    });
    missing.extend(hinders.filter(|problem| !going(problem)).map(Problem::to_string));
    if let Some(wanted) = nodes {
        let there = counted(status).filter(|row| not_there(row).is_none()).count();
        if there != wanted || counted(status).count() != wanted {
            missing.push(format!("{there} of {wanted} nodes{}", drained(status)));
        }
    }
    missing
}

/// What it means that a node sees no majority where the others see one: it may be drained, or gone; one
/// that counts is not there, whatever the others have noticed so far.
fn sees_nobody(status: &Status, name: &str) -> Option<String> {
    let counts = counted(status).any(|row| row.name == name);
    counts.then(|| format!("{name} sees no majority"))
}

/// Who is there and does not count.
fn drained(status: &Status) -> String {
    let drained = status.nodes.iter().filter(|row| row.drained).map(|row| row.name.as_str());
    match &drained.collect::<Vec<_>>()[..] {
        [] => String::new(),
        [one] => format!(", without {one}, which is drained"),
        more => format!(", without {}, which are drained", more.join(", ")),
    }
}

fn not_led(status: &Status) -> Vec<String> {
    if status.primary.is_empty() {
        vec!["there is no primary".to_owned()]
    } else if !status.quorum {
        vec!["the primary takes no writes".to_owned()]
    } else {
        Vec::new()
    }
}

/// What a node lacks that should take part.
fn not_there(row: &NodeRow) -> Option<String> {
    if !row.up {
        return Some(format!("{} does not answer", row.name));
    }
    match row.state.as_str() {
        "joined" => None,
        "" => Some(format!("{} is not noted as a member yet", row.name)),
        state => Some(format!("{} is {state}", row.name)),
    }
}

fn not_in_sync(status: &Status, front: u64) -> Vec<String> {
    let mut missing = not_led(status);
    missing.extend(counted(status).filter_map(|row| {
        if !row.up {
            return Some(format!("{} does not answer", row.name));
        }
        let behind = front.saturating_sub(row.applied);
        (behind > 0).then(|| format!("{} is {behind} entries behind", row.name))
    }));
    missing
}

fn bad_clocks(status: &Status) -> Vec<String> {
    let bad = |row: &NodeRow| {
        if !row.up {
            return Some(format!("{} does not answer", row.name));
        }
        let good = clock_health(&row.clock_state) == ClockHealth::Fine;
        (!good).then(|| format!("the clock of {} is {}", row.name, row.clock_state))
    };
    counted(status).filter_map(bad).collect()
}

/// Why a node is not in a state; `None` if it is.
fn node_is_not(status: &Status, name: &str, wanted: NodeIs) -> Option<String> {
    let Some(row) = status.nodes.iter().find(|row| row.name == name) else {
        return Some(format!("{name} is not in the list of nodes"));
    };
    let is = match wanted {
        // Who asks may know of the vote before the node itself does, or not know who votes at all.
        NodeIs::Voter => row.voter && row.node_role() != NodeRole::Learner,
        NodeIs::Learner => !row.voter && row.noticed() == Some(MemberState::Joined),
        NodeIs::Joined => row.noticed() == Some(MemberState::Joined),
        NodeIs::Left => row.noticed() == Some(MemberState::Left),
        NodeIs::Removed => row.noticed() == Some(MemberState::Removed),
        NodeIs::Up => row.up,
        NodeIs::Down => !row.up,
        NodeIs::Primary => status.primary == name,
    };
    let state = if row.state.is_empty() { "not noted yet" } else { &row.state };
    let voter = if row.voter { "a voter" } else { "no voter" };
    let up = if row.up { "up" } else { "down" };
    (!is).then(|| format!("{name} is {state}, {up}, {voter}, {}", row.role))
}

#[cfg(test)]
#[path = "wait_test.rs"]
mod tests;
