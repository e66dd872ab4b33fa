//! `logctl raft show`: term, vote, log and members of the engines.

use proto::ExitCode;
use proto::wire::{Empty, Op, Reply};
use views::engine::EngineView;

use crate::cli::Globals;
use crate::each_node::EachNode;
use crate::error::CtlError;
use crate::out::Out;

/// Shows the engine of every node that answers, or with `--via` of that one.
pub(crate) async fn show(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let each = EachNode::open(globals)?;
    let targets = match &globals.via {
        Some(node) => vec![node.clone()],
        None => each.names().await?,
    };
    let (mut views, mut failed) = (Vec::new(), None);
    for (node, answer) in each.ask_all(&targets, &Op::Raft(Empty {})).await {
        match answer {
            Ok(Reply::Raft(view)) => views.push(EngineView::from(view)),
            Ok(_) => failed = Some(CtlError::unexpected("no engine")),
            Err(error) => {
                out.warn(&format!("{node}: {}", error.line()));
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if views.is_empty() => return Err(error),
        _ => out.list(&views)?,
    }
    match failed {
        None => Ok(()),
        Some(_) => {
            Err(CtlError::refused(ExitCode::Degraded, "not every node answered", "logctl status"))
        }
    }
}
