//! `logctl nodes`: the live list.

use serde::Serialize;
use views::node::NodeLine;

use crate::cli::Globals;
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Out, Shape};
use crate::renewal::now_s;
use crate::session::Session;

#[derive(Serialize)]
struct Document {
    n: usize,
    nodes: Vec<NodeLine>,
}

pub(crate) async fn run(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let nodes = session.nodes().await;
    session.close().await;
    let now_s = now_s();
    let nodes: Vec<NodeLine> = nodes?.iter().map(|row| NodeLine::new(row, now_s)).collect();
    if out.shape() == Shape::Json {
        return out.json(&Document { n: nodes.len(), nodes });
    }
    out.list(&nodes)
}
