//! `logctl node add`: prepares nodes to join.
//!
//! Nothing is changed by a call that cannot be done whole: names and counts are looked at first.

use std::path::Path;

use proto::limits::NODES_MAX;
use proto::member::{MemberRow, MemberState};
use proto::wire::{Op, Plan, Reply};
use proto::{Name, Role};
use serde::Serialize;

use crate::cli::{Globals, NodeAdd};
use crate::context;
use crate::dev;
use crate::error::CtlError;
use crate::home::Home;
use crate::join_token::{TokenSpec, make_token};
use crate::local::find_logd;
use crate::out::{Cell, Out, Shape, Show};
use crate::verb::token;

use super::Talk;

/// A node that may come.
#[derive(Debug, Serialize)]
struct Coming {
    name: String,
    token: Option<String>,
    command: Option<String>,
}

#[derive(Serialize)]
struct Document {
    nodes: Vec<Coming>,
}

/// Makes a token for each node, and says what to run where.
pub(super) async fn run(args: NodeAdd, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    distinct(&args.names)?;
    if let Some(count) = args.count.filter(|count| count.get() < args.names.len()) {
        let what = format!("--count {count}, and {} names", args.names.len());
        return Err(CtlError::usage(what, "give as many names as nodes, or fewer"));
    }
    let home = Home::from_env()?;
    let talk = Talk::open(globals)?;
    if !args.dry_run
        && let Some(dir) = dev::folder(&home, talk.change.context())
    {
        let names = coming(&talk, &args).await;
        talk.close().await;
        return start_here(&dir, &names?, (globals, &home), out).await;
    }
    let added = added(&talk, &home, &args, out).await;
    talk.close().await;
    let nodes = added?;
    for name in nodes.iter().filter(|node| node.token.is_some()).map(|node| &node.name) {
        out.did(format!("a token for {name} is made; logctl cluster token list names its id"));
    }
    if out.shape() == Shape::Json {
        return out.json(&Document { nodes });
    }
    out.list(&nodes)?;
    out.hand_over();
    if !args.dry_run {
        out.note("run each command on its node's machine; a token is a secret, and good once");
    }
    Ok(())
}

fn distinct(names: &[Name]) -> Result<(), CtlError> {
    let twice =
        names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|n| n == *name));
    match twice {
        Some((_, name)) => {
            Err(CtlError::usage(format!("{name} is named twice"), "give each name once"))
        }
        None => Ok(()),
    }
}

async fn added(
    talk: &Talk,
    home: &Home,
    args: &NodeAdd,
    out: &Out,
) -> Result<Vec<Coming>, CtlError> {
    let names = coming(talk, args).await?;
    if args.dry_run {
        say_moves(talk, &names, out).await?;
        let coming = |name: Name| Coming { name: name.to_string(), token: None, command: None };
        return Ok(names.into_iter().map(coming).collect());
    }
    let mut nodes = Vec::new();
    for name in names {
        let spec = TokenSpec { role: Role::Node, uses: 1, ttl: args.ttl, name: Some(name.clone()) };
        let made = make_token(&talk.change, home, &spec).await?;
        let (text, command) = (made.encode(), token::command(&made));
        nodes.push(Coming { name: name.to_string(), token: Some(text), command: Some(command) });
    }
    Ok(nodes)
}

/// A node that was started on this machine.
#[derive(Debug, Serialize)]
struct Here {
    name: String,
    address: String,
    pid: u32,
    /// From its start until it took part, with its vote.
    took_ms: u128,
}

impl Show for Here {
    fn headings() -> &'static [&'static str] {
        &["NAME", "ADDRESS", "PID", "MS"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        let (pid, took) = (self.pid.to_string(), self.took_ms.to_string());
        vec![self.name.clone(), self.address.clone(), pid, took]
    }
}

/// Joins and starts the nodes here, beside the others of the cluster.
async fn start_here(
    dir: &Path,
    names: &[Name],
    (globals, home): (&Globals, &Home),
    out: &mut Out,
) -> Result<(), CtlError> {
    let (context_name, context) = context::choose(home, globals.context.as_ref())?;
    let logd = find_logd(std::env::var_os("LOGCTL_LOGD").map(Into::into))?;
    let mut here = Vec::new();
    for name in names {
        let who = (&context_name, &context);
        let added = dev::add_node((globals, home), who, (dir, &logd), name).await?;
        out.did(format!("{name} runs, process {}", added.pid));
        out.note(&format!("{name} takes part {} ms after its start", added.took.as_millis()));
        here.push(Here {
            name: name.to_string(),
            address: added.node.listen,
            pid: added.pid,
            took_ms: added.took.as_millis(),
        });
    }
    out.list(&here)
}

async fn coming(talk: &Talk, args: &NodeAdd) -> Result<Vec<Name>, CtlError> {
    let rows = talk.members().await?;
    let count = args.count.map_or(args.names.len(), std::num::NonZeroUsize::get);
    names(&rows, &args.names, count)
}

/// The names of the nodes to come: those that were given, and the next free ones.
fn names(rows: &[MemberRow], given: &[Name], count: usize) -> Result<Vec<Name>, CtlError> {
    let present = |name: &str| {
        rows.iter().any(|row| row.name == name && row.noticed() != MemberState::Removed)
    };
    if let Some(name) = given.iter().find(|name| present(name.as_str())) {
        let what = format!("{name} is a node of this cluster already");
        return Err(CtlError::conflict(
            what,
            "choose another name; logctl nodes lists those in use",
        ));
    }
    let there = rows.iter().filter(|row| row.noticed() != MemberState::Removed).count();
    if there + count > NODES_MAX {
        let what = format!("{there} nodes and {count} more: a cluster has {NODES_MAX} at most");
        return Err(CtlError::conflict(what, "add fewer, or first logctl node remove NAME"));
    }
    let mut names = given.to_vec();
    // The name of a removed node is better not given to another one without being asked for.
    let free = |name: &Name| rows.iter().all(|row| row.name != name.as_str());
    let mut numbered = (1_u32..).filter_map(|n| format!("n{n}").parse::<Name>().ok()).filter(free);
    while names.len() < count {
        let next = numbered.find(|name| !names.contains(name));
        names.push(next.ok_or_else(|| CtlError::unexpected("no free name"))?);
    }
    Ok(names)
}

async fn say_moves(talk: &Talk, names: &[Name], out: &Out) -> Result<(), CtlError> {
    let add = names.iter().map(Name::to_string).collect();
    let plan = Op::Plan(Plan { add, remove: Vec::new() });
    let (_, Reply::Planned(planned)) = talk.change.call(plan).await? else {
        return Err(CtlError::unexpected("no plan"));
    };
    for moved in planned.moves {
        out.note(&format!("{} slots would move from {} to {}", moved.slots, moved.from, moved.to));
    }
    Ok(())
}

impl Show for Coming {
    fn headings() -> &'static [&'static str] {
        &["NAME", "COMMAND"]
    }

    fn row(&self) -> Vec<Cell> {
        vec![self.name.as_str().into(), self.command.as_deref().unwrap_or("-").into()]
    }

    fn plain(&self) -> Vec<String> {
        vec![self.name.clone(), self.command.clone().unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use proto::ExitCode;

    use super::*;

    fn row(name: &str, state: MemberState) -> MemberRow {
        MemberRow { name: name.to_owned(), state: state.into(), ..MemberRow::default() }
    }

    fn parsed(names: &[&str]) -> Vec<Name> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// Meant to catch the given names left out of what is taken.
    #[test]
    fn names_that_are_not_given_are_the_next_free_ones() {
        let rows = [
            row("n1", MemberState::Joined),
            row("n2", MemberState::Left),
            row("n4", MemberState::Removed),
        ];
        let named = |given: &[&str], count| names(&rows, &parsed(given), count);
        assert_eq!(named(&[], 2).unwrap(), parsed(&["n3", "n5"]));
        assert_eq!(named(&["n3"], 2).unwrap(), parsed(&["n3", "n5"]));
        assert_eq!(named(&["n7", "x"], 2).unwrap(), parsed(&["n7", "x"]));
        assert_eq!(named(&["n4"], 1).unwrap(), parsed(&["n4"]), "a removed one may come back");
        assert_eq!(named(&["n9", "n2"], 2).unwrap_err().exit_code(), ExitCode::Conflict);
        assert_eq!(named(&[], NODES_MAX).unwrap_err().exit_code(), ExitCode::Conflict);
    }
}
