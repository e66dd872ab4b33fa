//! `logctl clock lower-ceiling`: a node whose clock is behind its own ceiling mints stamps again.

use clock::Hlc;
use proto::wire::{CeilingLowered, Empty, Op, Reply};
use serde::Serialize;

use crate::cli::{Globals, Whose};
use crate::each_node::EachNode;
use crate::error::CtlError;
use crate::out::{Cell, Out, Show};

/// What became of a node's ceiling.
#[derive(Debug, Serialize)]
struct LoweredView {
    node: String,
    lowered: bool,
    was: String,
    now: String,
}

impl LoweredView {
    fn of(lowered: &CeilingLowered) -> Result<Self, CtlError> {
        let at = |bytes: &[u8]| {
            let at = Hlc::from_slice(bytes).ok_or_else(|| CtlError::unexpected("no ceiling"))?;
            Ok::<_, CtlError>(at.to_string())
        };
        Ok(Self {
            node: lowered.node.clone(),
            lowered: lowered.was != lowered.now,
            was: at(&lowered.was)?,
            now: at(&lowered.now)?,
        })
    }
}

impl Show for LoweredView {
    fn headings() -> &'static [&'static str] {
        &["NODE", "LOWERED", "WAS", "NOW"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        let lowered = if self.lowered { "yes" } else { "no" };
        vec![self.node.clone(), lowered.to_owned(), self.was.clone(), self.now.clone()]
    }
}

pub(super) async fn run(whose: Whose, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let each = EachNode::open(globals)?;
    let op = Op::LowerCeiling(Empty {});
    let (mut rows, mut failed) = (Vec::new(), None);
    if whose.all {
        super::refuse_via(globals)?;
        let nodes = each.names().await?;
        for (node, answer) in each.ask_all(&nodes, &op).await {
            match answer.and_then(view) {
                Ok(row) => rows.push(row),
                Err(error) => {
                    out.warn(&format!("{node}: {}", error.line()));
                    failed = failed.or(Some(error));
                }
            }
        }
    } else {
        let (_, reply) = each.ask(globals.via.as_ref(), op).await?;
        rows.push(view(reply)?);
    }
    for LoweredView { node, now, .. } in rows.iter().filter(|row| row.lowered) {
        out.did(format!("the ceiling of {node} is lowered to {now}"));
    }
    out.list(&rows)?;
    out.flush()?;
    if rows.iter().all(|row| !row.lowered) && failed.is_none() {
        out.note("nothing was in the way of stamps");
    }
    failed.map_or(Ok(()), Err)
}

fn view(reply: Reply) -> Result<LoweredView, CtlError> {
    let Reply::CeilingLowered(lowered) = reply else {
        return Err(CtlError::unexpected("no ceiling"));
    };
    LoweredView::of(&lowered)
}
