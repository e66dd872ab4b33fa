//! `logctl group`: groups and their members.

use proto::group::{self, GroupOp, GroupView, Groups};
use proto::limits::GROUP_CHANGE_NAMES_MAX;
use proto::wire::{GroupChange, ListGroups, Op, Reply};
use proto::{ExitCode, MessageId, Name};
use views::group::{GroupLine, WholeGroup};

use crate::cli::{Globals, Group, GroupMembers};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Out, Shape};
use crate::session::Session;

pub(crate) async fn run(args: Group, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let single = |name: &Name| group::GroupName { name: name.to_string() };
    let (op, id) = match args {
        Group::List => return list(globals, out).await,
        Group::Show { name } => return show(&name, globals, out).await,
        Group::Create(args) => (GroupOp::Create(single(&args.name)), args.id),
        Group::Delete(args) => (GroupOp::Delete(single(&args.name)), args.id),
        Group::Add(args) => (GroupOp::Add(members(&args)?), args.id),
        Group::Remove(args) if args.history => {
            return Err(CtlError::usage(
                "--history says what new members see; who goes keeps what it saw",
                format!("run logctl group remove {} without --history", args.name),
            ));
        }
        Group::Remove(args) => (GroupOp::Remove(members(&args)?), args.id),
    };
    change(op, id.as_ref(), globals, out).await
}

fn members(args: &GroupMembers) -> Result<group::GroupMembers, CtlError> {
    if args.members.len() > GROUP_CHANGE_NAMES_MAX {
        return Err(CtlError::usage(
            format!("{} names; at most {GROUP_CHANGE_NAMES_MAX} at a time", args.members.len()),
            "run logctl group several times, with fewer names each",
        ));
    }
    Ok(group::GroupMembers {
        name: args.name.to_string(),
        members: args.members.iter().map(Name::to_string).collect(),
        history: args.history,
    })
}

async fn change(
    op: GroupOp,
    id: Option<&MessageId>,
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CtlError> {
    // Drawn once: however often the client retries, it stays one change.
    let id = id.map_or_else(|| uuid::Uuid::now_v7().to_string(), MessageId::to_string);
    let change = GroupChange { op: Some(op), id: id.clone() };
    let session = Session::open(globals, &Home::from_env()?)?;
    let answer = session.call(Op::Group(change)).await;
    session.close().await;
    match answer {
        Ok((_, Reply::Groups(groups))) => {
            let line = GroupLine::from(only(groups)?);
            out.did(format!("the group @{} is changed, by id {id}", line.name));
            out.one(&line)
        }
        Ok(_) => Err(CtlError::unexpected("no group")),
        Err(error) if error.exit_code() == ExitCode::Unknown => Err(CtlError::refused(
            ExitCode::Unknown,
            error.line(),
            format!("run the same command with --id {id}: it is done only once"),
        )),
        Err(error) => Err(hinted(error)),
    }
}

/// Refusals of groups have other ways out than those of messages.
fn hinted(error: CtlError) -> CtlError {
    let hint = match error.exit_code() {
        ExitCode::Denied | ExitCode::NotFound => "logctl group list, logctl clients",
        ExitCode::Conflict => "logctl group show NAME, or choose another name",
        ExitCode::Other
        | ExitCode::Usage
        | ExitCode::Unreachable
        | ExitCode::Unknown
        | ExitCode::Degraded
        | ExitCode::NoQuorum
        | ExitCode::Clock
        | ExitCode::Integrity
        | ExitCode::Interrupted
        | ExitCode::ReaderGone => return error,
    };
    CtlError::refused(error.exit_code(), error.line(), hint)
}

async fn list(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let groups = ask(String::new(), globals).await?;
    out.list(&groups.groups.into_iter().map(GroupLine::from).collect::<Vec<_>>())
}

async fn show(name: &Name, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let whole = WholeGroup::from(only(ask(name.to_string(), globals).await?)?);
    match out.shape() {
        Shape::Json => out.json(&whole),
        Shape::Ndjson => out.json_line(&whole),
        Shape::Table | Shape::Plain | Shape::Raw => {
            out.list(&whole.members)?;
            out.hand_over();
            let GroupLine { name, owner, size, .. } = &whole.group;
            out.note(&format!("@{name} of {owner}: {size} members"));
            Ok(())
        }
    }
}

async fn ask(name: String, globals: &Globals) -> Result<Groups, CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let answer = session.call(Op::Groups(ListGroups { name })).await;
    session.close().await;
    match answer {
        Ok((_, Reply::Groups(groups))) => Ok(groups),
        Ok(_) => Err(CtlError::unexpected("no groups")),
        Err(error) => Err(hinted(error)),
    }
}

fn only(groups: Groups) -> Result<GroupView, CtlError> {
    groups.groups.into_iter().next().ok_or_else(|| CtlError::unexpected("no group"))
}
