//! `logctl raft show`: term, vote, log and members of the engines. `logctl node stats`: how long the stages
//! of a message's way take.

use proto::wire::{Empty, Op, RaftView, Reply};
use proto::{ExitCode, Name};
use views::Show;
use views::engine::EngineView;
use views::stages::StageView;

use crate::cli::Globals;
use crate::each_node::EachNode;
use crate::error::CtlError;
use crate::out::Out;

/// Shows the engine of every node that answers, or with `--via` of that one.
pub(crate) async fn show(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    of_each(globals.via.as_ref(), globals, out, |view| vec![EngineView::from(view)]).await
}

/// Shows how long the stages take on every node that answers, or on one.
pub(crate) async fn stats(
    node: Option<&Name>,
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CtlError> {
    of_each(node.or(globals.via.as_ref()), globals, out, |view| StageView::all(&view)).await
}

async fn of_each<T: Show>(
    node: Option<&Name>,
    globals: &Globals,
    out: &mut Out,
    shown: impl Fn(RaftView) -> Vec<T>,
) -> Result<(), CtlError> {
    let each = EachNode::open(globals)?;
    let targets = match node {
        Some(node) => vec![node.clone()],
        None => each.names().await?,
    };
    let (mut views, mut answers, mut failed) = (Vec::new(), 0, None);
    for (node, answer) in each.ask_all(&targets, &Op::Raft(Empty {})).await {
        match answer {
            Ok(Reply::Raft(view)) => {
                answers += 1;
                views.extend(shown(view));
            }
            Ok(_) => failed = Some(CtlError::unexpected("no engine")),
            Err(error) => {
                out.warn(&format!("{node}: {}", error.line()));
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if answers == 0 => return Err(error),
        _ => out.list(&views)?,
    }
    match failed {
        None => Ok(()),
        Some(_) => {
            Err(CtlError::refused(ExitCode::Degraded, "not every node answered", "logctl status"))
        }
    }
}
