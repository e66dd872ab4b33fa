//! `logctl clients`: the registry.

use proto::Name;
use proto::wire::{ClientRow, Empty, Op, Reply};
use views::client::ClientView;

use crate::cli::{Clients, Globals};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::Out;
use crate::session::Session;

pub(crate) async fn run(args: Clients, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let rows = at_home(args.home.as_ref(), &session).await;
    session.close().await;
    out.list(&rows?)
}

/// Those whose home a node is, or all. Of a node without any it is looked whether it is one: its name may be
/// mistyped.
async fn at_home(home: Option<&Name>, session: &Session) -> Result<Vec<ClientView>, CtlError> {
    let (_, Reply::Clients(list)) = session.call(Op::Clients(Empty {})).await? else {
        return Err(CtlError::unexpected("no clients"));
    };
    let at_home = |row: &ClientRow| home.is_none_or(|home| row.home == home.as_str());
    let rows: Vec<ClientView> =
        list.clients.into_iter().filter(at_home).map(ClientView::from).collect();
    if let Some(home) = home.filter(|_| rows.is_empty()) {
        let nodes = session.nodes().await?;
        if nodes.iter().all(|row| row.name != home.as_str()) {
            return Err(CtlError::not_found(format!("there is no node {home}"), "logctl nodes"));
        }
    }
    Ok(rows)
}
