//! What the primary notices of the other nodes.

use std::time::Duration;

use proto::member::{MemberRow, Notice};

use crate::members::Members;

/// One look at the others, on the primary.
pub(crate) struct Looked<'a> {
    /// The primary's own name.
    pub(crate) name: &'a str,
    /// The members as the state keeps them, by name.
    pub(crate) rows: &'a [MemberRow],
    /// What is heard of the others.
    pub(crate) members: &'a Members,
    /// How long this node has been primary.
    pub(crate) leading_for: Duration,
}

/// What was noticed before in this term.
#[derive(Debug, Default)]
pub(crate) struct Noticing {}

impl Noticing {
    /// What is to be noted now, one notice per change.
    pub(crate) fn due(&mut self, _looked: &Looked<'_>) -> Vec<Notice> {
        Vec::new()
    }
}
