//! `logctl nodes`: the live list.

use proto::wire::{Empty, Op, Reply};
use serde::Serialize;

use crate::cli::Globals;
use crate::error::CtlError;
use crate::health::NodeView;
use crate::home::Home;
use crate::out::{Out, Shape};
use crate::session::Session;

#[derive(Serialize)]
struct Document {
    n: usize,
    nodes: Vec<NodeView>,
}

pub(crate) async fn run(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let nodes = list(&session).await;
    session.close().await;
    let nodes = nodes?;
    if out.shape() == Shape::Json {
        return out.json(&Document { n: nodes.len(), nodes });
    }
    out.list(&nodes)
}

/// Asks for the nodes.
pub(crate) async fn list(session: &Session) -> Result<Vec<NodeView>, CtlError> {
    match session.call(Op::Nodes(Empty {})).await? {
        (_, Reply::Nodes(nodes)) => Ok(nodes.nodes.iter().map(NodeView::from).collect()),
        _ => Err(CtlError::strange("no nodes")),
    }
}
