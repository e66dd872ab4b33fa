//! Groups: one stream with many readers. A member reads from where it joined up to where it left.

/// Header that says what kind of record this is, see [`TYPE_GROUP`].
pub const TYPE: &str = "type";
/// The type of the records that the cluster writes into a group's stream when the group changes. No
/// message to a group may claim it.
pub const TYPE_GROUP: &str = "group";
/// Header that says what was done: `created`, `deleted`, `added` or `removed`.
pub const ACTION: &str = "action";
/// Header with the names of those who came or went, apart by commas.
pub const NAMES: &str = "names";
/// Header that is there if those who came see the group from its beginning.
pub const HISTORY: &str = "history";

/// A change of groups.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GroupChange {
    /// Which.
    #[prost(oneof = "GroupOp", tags = "1, 2, 3, 4")]
    pub op: Option<GroupOp>,
    /// Id of the change, drawn once and kept across every retry, so that a retry of what was done is
    /// answered as done and not as a conflict.
    #[prost(string, tag = "15")]
    pub id: String,
}

/// What changes. Who creates a group owns it; the owner and admins change its members, and a member
/// may take itself out.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum GroupOp {
    /// Make a group; the caller becomes its owner and, unless it is an admin, its first member.
    #[prost(message, tag = "1")]
    Create(GroupName),
    /// End a group. What was sent to it stays, for those who were members then.
    #[prost(message, tag = "2")]
    Delete(GroupName),
    /// Add members, all or none; who is one already stays as it is.
    #[prost(message, tag = "3")]
    Add(GroupMembers),
    /// Take members out, all or none; who is none stays none.
    #[prost(message, tag = "4")]
    Remove(GroupMembers),
}

/// A group's name, without `@`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GroupName {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Members of a group.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GroupMembers {
    /// The group, without `@`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The clients.
    #[prost(string, repeated, tag = "2")]
    pub members: Vec<String>,
    /// When adding: they see the group from its beginning, not only from here on.
    #[prost(bool, tag = "3")]
    pub history: bool,
}

/// Which groups to list: one, or all that the caller may see (an admin all, a client its own).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListGroups {
    /// Name of the one group; empty = all.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Groups.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Groups {
    /// By name.
    #[prost(message, repeated, tag = "1")]
    pub groups: Vec<GroupView>,
}

/// One group as it is now.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GroupView {
    /// Its name, without `@`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Who created it.
    #[prost(string, tag = "2")]
    pub owner: String,
    /// 12-byte stamp of its creation.
    #[prost(bytes = "vec", tag = "3")]
    pub since: Vec<u8>,
    /// Its members, by name. In a list of groups they are left out; after a change only those of
    /// the named ones are there who are members now.
    #[prost(message, repeated, tag = "4")]
    pub members: Vec<GroupMember>,
    /// How many members it has.
    #[prost(uint64, tag = "5")]
    pub size: u64,
}

/// One member.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GroupMember {
    /// The client.
    #[prost(string, tag = "1")]
    pub name: String,
    /// It sees the group's messages from this seq on.
    #[prost(uint64, tag = "2")]
    pub from_seq: u64,
}
