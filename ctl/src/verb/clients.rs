//! `logctl clients`: the registry.

use proto::Name;
use proto::wire::{Empty, Op, Reply};
use views::client::ClientView;

use crate::cli::{Clients, Globals};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::Out;
use crate::session::Session;

pub(crate) async fn run(args: Clients, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let answer = session.call(Op::Clients(Empty {})).await;
    session.close().await;
    let (_, Reply::Clients(list)) = answer? else { return Err(CtlError::unexpected("no clients")) };
    let at_home = |home: &str| args.home.as_ref().map(Name::as_str).is_none_or(|node| node == home);
    let rows = list.clients.into_iter().filter(|row| at_home(&row.home));
    out.list(&rows.map(ClientView::from).collect::<Vec<_>>())
}
