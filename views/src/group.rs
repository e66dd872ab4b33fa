//! Groups and their members, in the forms that are shown.

use clock::Hlc;
use proto::group::{GroupMember, GroupView};
use serde::Serialize;

use crate::show::{Cell, Show};

/// A group as a line of a list.
#[derive(Debug, Serialize)]
pub struct GroupLine {
    /// Its name, without the `@`.
    pub name: String,
    /// Who may change it.
    pub owner: String,
    /// How many members it has.
    pub size: u64,
    since: Option<String>,
}

/// A group with its members.
#[derive(Debug, Serialize)]
pub struct WholeGroup {
    /// The group itself.
    #[serde(flatten)]
    pub group: GroupLine,
    /// Its members.
    pub members: Vec<MemberLine>,
}

/// A member of a group.
#[derive(Debug, Serialize)]
pub struct MemberLine {
    name: String,
    from_seq: u64,
}

impl From<GroupView> for WholeGroup {
    fn from(mut group: GroupView) -> Self {
        let members = std::mem::take(&mut group.members);
        let member = |GroupMember { name, from_seq }| MemberLine { name, from_seq };
        Self { group: group.into(), members: members.into_iter().map(member).collect() }
    }
}

impl From<GroupView> for GroupLine {
    fn from(GroupView { name, owner, since, size, .. }: GroupView) -> Self {
        let since = Hlc::from_slice(&since).map(|since| since.to_string());
        Self { name, owner, size, since }
    }
}

impl Show for GroupLine {
    fn headings() -> &'static [&'static str] {
        &["GROUP", "OWNER", "MEMBERS", "SINCE"]
    }

    fn row(&self) -> Vec<Cell> {
        vec![
            format!("@{}", self.name).into(),
            self.owner.as_str().into(),
            self.size.to_string().into(),
            self.since.as_deref().unwrap_or("-").into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.owner.clone(),
            self.size.to_string(),
            self.since.clone().unwrap_or_default(),
        ]
    }
}

impl Show for MemberLine {
    fn headings() -> &'static [&'static str] {
        &["MEMBER", "SEES FROM SEQ"]
    }

    fn row(&self) -> Vec<Cell> {
        vec![self.name.as_str().into(), self.from_seq.to_string().into()]
    }

    fn plain(&self) -> Vec<String> {
        vec![self.name.clone(), self.from_seq.to_string()]
    }
}
