//! `logctl node`: look after the nodes.
//!
//! What is changed is the table of members; the primary makes the cluster follow, one step after the
//! other. A command that waits for that can be ended at any moment: the cluster goes on by itself,
//! and the same command again waits for the rest.

mod add;
mod remove;
mod set;
mod show;

use std::time::Duration;

use proto::member::{MemberOp, MemberRow};
use proto::wire::{Empty, MemberChange, Members, Op, RaftView, Reply, Status};
use proto::{ExitCode, Name};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::cli::{Globals, Node};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::Out;
use crate::session::Session;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Time that one look may take: then another node is asked.
const LOOK_TIME: Duration = Duration::from_secs(2);

/// Runs the verb.
pub(crate) async fn run(args: Node, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    match args {
        Node::Show { name } => show::run(&name, globals, out).await,
        Node::Stats { name } => super::raft::stats(name.as_ref(), globals, out).await,
        Node::Add(args) => add::run(args, globals, out).await,
        Node::Remove(args) => remove::run(args, globals, out).await,
        Node::Drain { name, off } => set::drain(&name, off, globals, out).await,
        Node::StepDown { name, hold } => set::step_down(name.as_ref(), hold, globals, out).await,
        Node::Promote { name } => set::vote(&name, true, globals, out).await,
        Node::Demote { name } => set::vote(&name, false, globals, out).await,
        Node::Recover { name } => set::recover(&name, globals, out).await,
        Node::Set { name, priority, signer } => {
            set::set(&name, priority, signer, globals, out).await
        }
    }
}

/// A conversation about the nodes: one for what is changed, and one for looks, which give up early
/// on a node that falls silent.
struct Talk {
    change: Session,
    look: Session,
    give_up: Instant,
    time: Duration,
}

impl Talk {
    fn open(globals: &Globals) -> Result<Self, CtlError> {
        let home = Home::from_env()?;
        let look = Globals { timeout: LOOK_TIME.min(globals.timeout), ..globals.clone() };
        Ok(Self {
            change: Session::open(globals, &home)?,
            look: Session::open(&look, &home)?,
            give_up: Instant::now() + globals.timeout,
            time: globals.timeout,
        })
    }

    async fn close(self) {
        self.change.close().await;
        self.look.close().await;
    }

    /// Changes the table; the answer is the rows that were meant, as they are then.
    async fn change(&self, op: MemberOp) -> Result<Vec<MemberRow>, CtlError> {
        let change = MemberChange { op: Some(op), id: Uuid::now_v7().to_string() };
        members(self.change.call(Op::Member(change)).await?)
    }

    /// All rows of the table, removed ones too.
    async fn members(&self) -> Result<Vec<MemberRow>, CtlError> {
        members(self.change.call(Op::Members(Empty {})).await?)
    }

    async fn status(&self) -> Result<Status, CtlError> {
        match self.look.call(Op::Status(Empty {})).await? {
            (_, Reply::Status(status)) => Ok(status),
            _ => Err(CtlError::unexpected("no status")),
        }
    }

    /// The engine of a node that answers.
    async fn engine(&self) -> Result<RaftView, CtlError> {
        match self.look.call(Op::Raft(Empty {})).await? {
            (_, Reply::Raft(view)) => Ok(view),
            _ => Err(CtlError::unexpected("no engine")),
        }
    }

    /// Looks until `missing` finds nothing missing any more, and says what is, once, on standard
    /// error.
    async fn until(
        &self,
        out: &Out,
        what: &str,
        mut missing: impl AsyncFnMut() -> Result<Option<String>, CtlError>,
    ) -> Result<(), CtlError> {
        let mut said = String::new();
        loop {
            match timeout_at(self.give_up, missing()).await {
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(why))) => {
                    if why != said {
                        out.note(&format!("waiting: {why}"));
                        said = why;
                    }
                }
                // It is in the nature of these changes that a node or a primary goes.
                Ok(Err(error)) if error.exit_code().may_pass() => {
                    said = error.line();
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
            if Instant::now() + LOOK_EVERY >= self.give_up {
                let time = humantime::format_duration(self.time);
                let text =
                    format!("{what} is ordered, and not done after {time}: {said}; it goes on");
                return Err(CtlError::refused(
                    ExitCode::Unknown,
                    text,
                    "run the same again with a longer --timeout",
                ));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn members(answer: (String, Reply)) -> Result<Vec<MemberRow>, CtlError> {
    match answer {
        (_, Reply::Members(Members { members, .. })) => Ok(members),
        _ => Err(CtlError::unexpected("no members")),
    }
}

/// The row of a node that is one.
fn present<'r>(rows: &'r [MemberRow], name: &Name) -> Result<&'r MemberRow, CtlError> {
    let row = rows.iter().find(|row| row.name == name.as_str());
    let row = row.filter(|row| row.noticed() != proto::member::MemberState::Removed);
    row.ok_or_else(|| CtlError::not_found(format!("there is no node {name}"), "logctl nodes"))
}
