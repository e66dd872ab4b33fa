//! `logctl raft show`: term, vote, log and members of the engines.

use proto::wire::{Empty, Op, RaftView, Reply};
use serde::Serialize;

use crate::cli::Globals;
use crate::each_node::EachNode;
use crate::error::CtlError;
use crate::out::{Cell, Out, Show, Tone};
use proto::ExitCode;

/// The engine of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct EngineView {
    node: String,
    raft_id: u64,
    role: String,
    term: u64,
    voted_for: Option<String>,
    vote_committed: bool,
    last_index: u64,
    committed: u64,
    applied: u64,
    purged: u64,
    voters: Vec<String>,
    learners: Vec<String>,
    joint: bool,
    membership_index: u64,
}

impl From<RaftView> for EngineView {
    fn from(view: RaftView) -> Self {
        Self {
            node: view.node,
            raft_id: view.raft_id,
            role: view.role,
            term: view.term,
            voted_for: Some(view.voted_for).filter(|name| !name.is_empty()),
            vote_committed: view.vote_committed,
            last_index: view.last_index,
            committed: view.committed,
            applied: view.applied,
            purged: view.purged,
            voters: view.voters,
            learners: view.learners,
            joint: view.joint,
            membership_index: view.membership_index,
        }
    }
}

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

impl Show for EngineView {
    fn headings() -> &'static [&'static str] {
        &["NODE", "ID", "ROLE", "TERM", "VOTED FOR", "COMMITTED", "APPLIED", "VOTERS", "LEARNERS"]
    }

    fn row(&self) -> Vec<Cell> {
        let voters = self.voters.join(" ");
        let voters = if self.joint {
            Cell::toned(format!("{voters} (joint)"), Tone::Warning)
        } else {
            voters.into()
        };
        vec![
            self.node.as_str().into(),
            self.raft_id.to_string().into(),
            self.role.as_str().into(),
            self.term.to_string().into(),
            self.voted_for.as_deref().unwrap_or("-").into(),
            self.committed.to_string().into(),
            self.applied.to_string().into(),
            voters,
            self.learners.join(" ").into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.node.clone(),
            self.raft_id.to_string(),
            self.role.clone(),
            self.term.to_string(),
            self.voted_for.clone().unwrap_or_default(),
            self.vote_committed.to_string(),
            self.last_index.to_string(),
            self.committed.to_string(),
            self.applied.to_string(),
            self.purged.to_string(),
            self.voters.join(" "),
            self.learners.join(" "),
            self.joint.to_string(),
            self.membership_index.to_string(),
        ]
    }
}
