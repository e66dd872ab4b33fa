//! A member as the replicated table has it, in the forms that are shown.

use clock::hlc::utc_text;
use proto::member::MemberRow;
use serde::Serialize;

use crate::show::{Cell, Show};

/// A node as the table has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    name: String,
    raft_id: u64,
    state: String,
    wants: &'static str,
    priority: u32,
    drained: bool,
    address: String,
    incarnation: u64,
    aside_until: Option<String>,
}

impl From<&MemberRow> for MemberView {
    fn from(row: &MemberRow) -> Self {
        Self {
            name: row.name.clone(),
            raft_id: row.raft_id,
            state: row.noticed().as_str().to_owned(),
            wants: if row.wants_vote() { "voter" } else { "learner" },
            priority: row.priority,
            drained: row.drained,
            address: row.address.clone(),
            incarnation: row.starts,
            aside_until: (row.aside_until_ns > 0).then(|| utc_text(row.aside_until_ns)),
        }
    }
}

impl Show for MemberView {
    fn headings() -> &'static [&'static str] {
        &["NAME", "STATE", "WANTS", "PRIORITY", "DRAINED", "ADDRESS"]
    }

    fn row(&self) -> Vec<Cell> {
        vec![
            self.name.as_str().into(),
            self.state.as_str().into(),
            self.wants.into(),
            self.priority.to_string().into(),
            if self.drained { "yes" } else { "no" }.into(),
            self.address.as_str().into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.state.clone(),
            self.wants.to_owned(),
            self.priority.to_string(),
            self.drained.to_string(),
            self.address.clone(),
        ]
    }
}
