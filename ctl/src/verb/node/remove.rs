//! `logctl node remove`: nodes go for good.

use proto::member::{MemberOp, MemberState, RemoveNodes};
use proto::wire::{Op, Plan, Planned, Reply, Status};
use proto::{ExitCode, Name};
use serde::Serialize;
use views::member::MemberView;

use crate::cli::{Globals, NodeRemove};
use crate::dev;
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Cell, Out, Shape, Show};

use super::Talk;

/// Slots that would change hands.
#[derive(Debug, Serialize)]
pub(super) struct MovesView {
    before: Vec<ShareView>,
    after: Vec<ShareView>,
    moves: Vec<MoveView>,
}

#[derive(Debug, Serialize)]
struct ShareView {
    node: String,
    slots: u32,
}

#[derive(Debug, Serialize)]
struct MoveView {
    from: String,
    to: String,
    slots: u32,
}

impl From<Planned> for MovesView {
    fn from(planned: Planned) -> Self {
        let share =
            |share: proto::overview::Share| ShareView { node: share.node, slots: share.slots };
        Self {
            before: planned.before.into_iter().map(share).collect(),
            after: planned.after.into_iter().map(share).collect(),
            moves: planned
                .moves
                .into_iter()
                .map(|moved| MoveView { from: moved.from, to: moved.to, slots: moved.slots })
                .collect(),
        }
    }
}

impl MovesView {
    /// Shows what would move: a document, or a line for each pair of nodes.
    pub(super) fn show(&self, out: &mut Out) -> Result<(), CtlError> {
        match out.shape() {
            Shape::Json => out.json(self),
            Shape::Ndjson | Shape::Table | Shape::Plain | Shape::Raw => out.list(&self.moves),
        }
    }
}

impl Show for MoveView {
    fn headings() -> &'static [&'static str] {
        &["FROM", "TO", "SLOTS"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.from.clone(), self.to.clone(), self.slots.to_string()]
    }
}

/// Removes nodes, and waits until the others do without them.
pub(super) async fn run(
    args: NodeRemove,
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CtlError> {
    let names: Vec<String> = args.names.iter().map(Name::to_string).collect();
    if args.dry_run {
        return planned(names, globals, out).await;
    }
    let what = names.join(", ");
    let question = format!("Remove {what} for good, with store and certificate?");
    let talk = Talk::open(globals)?;
    if let Err(error) = check(&talk, &names, args.force).await.and_then(|()| {
        out.confirm(&question, &format!("logctl -y node remove {}", names.join(" ")))
    }) {
        talk.close().await;
        return Err(error);
    }
    let here = dev::folder(&Home::from_env()?, talk.change.context());
    if args.force && talk.status().await.is_ok_and(|status| nobody_signs(&status, &names)) {
        out.warn(
            "no node that stays and is up holds the authority's key: nobody can register, join or \
             renew a certificate until one has it (logctl certs --help)",
        );
    }
    let done = removed(&talk, &names, args.force, out).await;
    talk.close().await;
    let done = done?;
    out.did(format!("{what}: removed for good"));
    if let Some(dir) = here {
        for node in dev::retire(&dir, &names).await? {
            let aside = dir.join("removed");
            out.note(&format!("{} is stopped, its files are in {}", node.name, aside.display()));
        }
    }
    out.list(&done)
}

/// Whether there is anything to remove, and the others can do without it: nobody is asked about what would
/// be refused.
async fn check(talk: &Talk, names: &[String], force: bool) -> Result<(), CtlError> {
    let rows = talk.members().await?;
    let row = |name: &String| rows.iter().find(|row| row.name == *name);
    if let Some(name) = names.iter().find(|name| row(name).is_none()) {
        return Err(CtlError::not_found(format!("there is no node {name}"), "logctl nodes"));
    }
    let is = |name: &String, wanted: &[MemberState]| {
        row(name).is_some_and(|row| wanted.contains(&row.noticed()))
    };
    let away = [MemberState::Left, MemberState::Suspect];
    if let Some(name) = names.iter().find(|name| !force && is(name, &away)) {
        let what = format!("{name} does not answer: start it, or remove it with --force");
        return Err(CtlError::conflict(what, "logctl nodes says in which state each is"));
    }
    // A row that is removed stays: an earlier call may have ordered it and not have seen the end.
    if names.iter().any(|name| is(name, &[MemberState::Removed])) {
        return Ok(());
    }
    let plan = Plan { add: Vec::new(), remove: names.to_vec() };
    talk.change.call(Op::Plan(plan)).await.map(drop)
}

/// Whether somebody signs now, and nobody would without these.
fn nobody_signs(status: &Status, going: &[String]) -> bool {
    let mut sign = status.nodes.iter().filter(|row| row.up && row.signs).peekable();
    sign.peek().is_some() && sign.all(|row| going.contains(&row.name))
}

async fn planned(names: Vec<String>, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let talk = Talk::open(globals)?;
    let plan = Plan { add: Vec::new(), remove: names };
    let answer = talk.change.call(Op::Plan(plan)).await;
    talk.close().await;
    let (_, Reply::Planned(planned)) = answer? else { return Err(CtlError::unexpected("no plan")) };
    MovesView::from(planned).show(out)
}

async fn removed(
    talk: &Talk,
    names: &[String],
    force: bool,
    out: &Out,
) -> Result<Vec<MemberView>, CtlError> {
    let remove = RemoveNodes { names: names.to_vec(), force };
    let rows = match talk.change(MemberOp::Remove(remove)).await {
        Ok(rows) => rows,
        // An earlier call may have ordered it and not have seen the end.
        Err(error) if error.exit_code() == ExitCode::NotFound => {
            under_way(talk, names).await.ok_or(error)?
        }
        Err(error) => return Err(error),
    };
    let missing = async || {
        let engine = talk.engine().await?;
        let is_there = |name: &&String| {
            engine.voters.contains(name) || engine.learners.contains(name) || engine.node == **name
        };
        let left: Vec<&str> = names.iter().filter(is_there).map(String::as_str).collect();
        Ok(if !left.is_empty() {
            Some(format!("{} still replicated to", are(&left)))
        } else if engine.joint {
            Some("the change of voters is not committed yet".to_owned())
        } else {
            None
        })
    };
    talk.until(out, &format!("the removal of {}", names.join(", ")), missing).await?;
    Ok(rows.iter().map(MemberView::from).collect())
}

/// The rows of nodes that are removed, and that some engine still has.
async fn under_way(talk: &Talk, names: &[String]) -> Option<Vec<proto::member::MemberRow>> {
    let engine = talk.engine().await.ok()?;
    let is_there = |name: &String| engine.voters.contains(name) || engine.learners.contains(name);
    if !names.iter().any(is_there) {
        return None;
    }
    let rows = talk.members().await.ok()?;
    let gone = rows
        .into_iter()
        .filter(|row| names.contains(&row.name) && row.noticed() == MemberState::Removed);
    let gone: Vec<_> = gone.collect();
    (gone.len() == names.len()).then_some(gone)
}

fn are(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}
