//! `logctl nodes`: the live list.

use views::node::{NodeLine, NodesView};

use crate::cli::Globals;
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Out, Shape};
use crate::renewal::now_s;
use crate::session::Session;

pub(crate) async fn run(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let nodes = session.nodes().await;
    session.close().await;
    let now_s = now_s();
    let nodes: Vec<NodeLine> = nodes?.iter().map(|row| NodeLine::new(row, now_s)).collect();
    if out.shape() == Shape::Json {
        return out.json(&NodesView::new(nodes));
    }
    out.list(&nodes)
}
