//! `logctl nodes`: the live list.

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
    let nodes = session.nodes().await;
    session.close().await;
    let nodes: Vec<NodeView> = nodes?.iter().map(NodeView::from).collect();
    if out.shape() == Shape::Json {
        return out.json(&Document { n: nodes.len(), nodes });
    }
    out.list(&nodes)
}
