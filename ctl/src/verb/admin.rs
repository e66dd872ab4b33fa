//! `logctl admin`: who may do everything.

use clock::Hlc;
use clock::hlc::utc_text;
use proto::admin::{AdminChange, AdminName, AdminOp, AdminRow};
use proto::token;
use proto::wire::{Admins, Empty, Op, Reply};
use proto::{ExitCode, Name, Role};
use serde::Serialize;

use crate::cli::{Admin, Globals};
use crate::error::CtlError;
use crate::home::Home;
use crate::join_token::{TokenSpec, make_token};
use crate::out::{Cell, Out, Show};
use crate::session::Session;

use super::token::command;

/// An administrator.
#[derive(Debug, Serialize)]
struct AdminView {
    name: String,
    since: Option<String>,
    by: String,
    /// First bytes of the hash of its key.
    key: String,
}

/// A token that was made.
#[derive(Debug, Serialize)]
struct AddedView {
    name: String,
    token: String,
}

pub(crate) async fn run(args: Admin, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let home = Home::from_env()?;
    let open = || Session::open(globals, &home);
    let (session, done) = match args {
        // The only one that needs no administrator.
        Admin::Recover(args) => return super::recover::run(args, globals, out).await,
        Admin::Add { name, ttl } => {
            let (session, role) = (open()?, Role::Admin);
            let spec = TokenSpec { role, uses: 1, ttl, name: Some(name) };
            let done = add(&session, &home, &spec, out).await;
            (session, done)
        }
        Admin::List => {
            let session = open()?;
            let done = list(&session, out).await;
            (session, done)
        }
        Admin::Remove { name } => {
            let session = open()?;
            let done = remove(&session, &name, out).await;
            (session, done)
        }
    };
    session.close().await;
    done
}

async fn add(
    session: &Session,
    home: &Home,
    spec: &TokenSpec,
    out: &mut Out,
) -> Result<(), CtlError> {
    let token = make_token(session, home, spec).await?;
    let id = token::id_text(&token.id);
    out.did(format!("the token {id} is made; logctl cluster token revoke {id} ends it"));
    out.one(&AddedView { name: token.name.clone(), token: token.encode() })?;
    out.flush()?;
    out.note("whoever has this token can become an administrator with it, once");
    out.note(&format!("next, where the new administrator is: {}", command(&token)));
    Ok(())
}

async fn list(session: &Session, out: &mut Out) -> Result<(), CtlError> {
    let admins = admins(session.call(Op::Admins(Empty {})).await?)?;
    out.list(&admins.admins.iter().map(AdminView::from).collect::<Vec<_>>())
}

async fn remove(session: &Session, name: &Name, out: &mut Out) -> Result<(), CtlError> {
    out.confirm(
        &format!("Remove the administrator {name}, and refuse its key?"),
        &format!("logctl -y admin remove {name}"),
    )?;
    let op = Some(AdminOp::Remove(AdminName { name: name.to_string() }));
    let taken = match session.call(Op::Admin(AdminChange { op })).await {
        Err(error) if error.exit_code() == ExitCode::NotFound => {
            return Err(CtlError::not_found(error.line(), "logctl admin list"));
        }
        answer => admins(answer?)?,
    };
    out.note(&match taken.admins[..] {
        [] => format!("{name} was not an administrator yet: the token for it is revoked"),
        [..] => format!("{name} is no longer an administrator"),
    });
    Ok(())
}

fn admins(answer: (String, Reply)) -> Result<Admins, CtlError> {
    match answer {
        (_, Reply::Admins(admins)) => Ok(admins),
        _ => Err(CtlError::unexpected("no administrators")),
    }
}

impl From<&AdminRow> for AdminView {
    fn from(row: &AdminRow) -> Self {
        Self {
            name: row.name.clone(),
            since: Hlc::from_slice(&row.since).map(|hlc| utc_text(hlc.ns)),
            by: row.by.clone(),
            key: row.fingerprint.iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

impl Show for AdminView {
    fn headings() -> &'static [&'static str] {
        &["NAME", "SINCE", "BY", "KEY"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        let since = self.since.clone().unwrap_or_default();
        vec![self.name.clone(), since, self.by.clone(), self.key.clone()]
    }
}

impl Show for AddedView {
    fn headings() -> &'static [&'static str] {
        &["NAME", "TOKEN"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.name.clone(), self.token.clone()]
    }
}
