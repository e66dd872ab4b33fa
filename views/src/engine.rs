//! The engine of a node, in the forms that are shown.

use proto::wire::RaftView;
use serde::Serialize;

use crate::show::{Cell, Show, Tone};

/// The engine of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineView {
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
