//! The nodes of a cluster as the replicated state keeps them, and every way in which that changes.
//!
//! Here is what the cluster *wants* and what it has *noticed*; who votes at this moment is the
//! engine's membership, which the primary brings in line with this, one change at a time.

use crate::wire::NodeRow;

/// What a node is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum MemberWants {
    /// Votes, and may be primary. Begins as a learner and is promoted once it has caught up.
    Voter = 0,
    /// Replicates and serves clients; never votes.
    Learner = 1,
}

/// What was last noticed of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum MemberState {
    /// It has its certificate and was never heard.
    Admitted = 0,
    /// It takes part.
    Joined = 1,
    /// It was not heard for a moment.
    Suspect = 2,
    /// It stopped, or was not heard for long; `MemberRow::reason` says which.
    Left = 3,
    /// It was removed. The row stays: neither its raft id nor its key is ever taken again.
    Removed = 4,
}

impl MemberState {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Joined => "joined",
            Self::Suspect => "suspect",
            Self::Left => "left",
            Self::Removed => "removed",
        }
    }

    const ALL: [Self; 5] = [Self::Admitted, Self::Joined, Self::Suspect, Self::Left, Self::Removed];
}

/// What a node does in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// It leads.
    Primary,
    /// It follows, with a vote.
    Backup,
    /// It stands for an election.
    Candidate,
    /// It follows without a vote.
    Learner,
    /// It takes no part: it cannot prove its store intact.
    Repairing,
    /// It has led and is not followed any more, whatever it believes.
    Isolated,
    /// Nobody knows, or a newer release has another word.
    Unknown,
}

impl NodeRole {
    const ALL: [Self; 7] = [
        Self::Primary,
        Self::Backup,
        Self::Candidate,
        Self::Learner,
        Self::Repairing,
        Self::Isolated,
        Self::Unknown,
    ];

    /// The word on the wire, which users see, too.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Repairing => "repairing",
            Self::Isolated => "isolated",
            Self::Unknown => "unknown",
        }
    }

    /// What a word on the wire says.
    #[must_use]
    pub fn read(word: &str) -> Self {
        Self::ALL.into_iter().find(|role| role.as_str() == word).unwrap_or(Self::Unknown)
    }
}

impl NodeRow {
    /// What it does.
    #[must_use]
    pub fn node_role(&self) -> NodeRole {
        NodeRole::read(&self.role)
    }

    /// What was last noticed of it; `None` before the first primary, or for a word of a newer release.
    #[must_use]
    pub fn noticed(&self) -> Option<MemberState> {
        MemberState::ALL.into_iter().find(|state| state.as_str() == self.state)
    }

    /// Why it left, if it has and a reason that this release knows was given.
    #[must_use]
    pub fn left(&self) -> Option<LeftReason> {
        let left = self.noticed() == Some(MemberState::Left);
        LeftReason::read(&self.reason).filter(|_| left)
    }
}

/// A node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MemberRow {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Raft id of its store; no other store ever has it.
    #[prost(uint64, tag = "2")]
    pub raft_id: u64,
    /// Incarnation of its store, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub incarnation: Vec<u8>,
    /// Where it is dialled, `host:port`.
    #[prost(string, tag = "4")]
    pub address: String,
    /// SHA-256 of its public key, 32 bytes; empty for a first member of an earlier release until a
    /// primary has noted it.
    #[prost(bytes = "vec", tag = "5")]
    pub fingerprint: Vec<u8>,
    /// Among nodes fit to lead, the one with the highest leads.
    #[prost(uint32, tag = "6")]
    pub priority: u32,
    /// What it is meant to be.
    #[prost(enumeration = "MemberWants", tag = "7")]
    pub wants: i32,
    /// What was last noticed of it.
    #[prost(enumeration = "MemberState", tag = "8")]
    pub state: i32,
    /// Why it left: a word of [`LeftReason`]; empty otherwise.
    #[prost(string, tag = "9")]
    pub reason: String,
    /// Number of starts of its store: the incarnation that people see.
    #[prost(uint64, tag = "10")]
    pub starts: u64,
    /// Whether clients are kept away from it.
    #[prost(bool, tag = "11")]
    pub drained: bool,
    /// Until when it is not preferred as primary, nanoseconds of log time; 0 = it may be.
    #[prost(uint64, tag = "12")]
    pub aside_until_ns: u64,
    /// 12-byte stamp of the last change of `state`.
    #[prost(bytes = "vec", tag = "13")]
    pub since: Vec<u8>,
    /// Nonce of its store, 16 bytes: the first one that was noted. Another store of this incarnation
    /// is never let in. Empty before the first notice.
    #[prost(bytes = "vec", tag = "14")]
    pub nonce: Vec<u8>,
    /// Whether it may sign certificates: others that hold the authority's key hand it over.
    #[prost(bool, tag = "20")]
    pub signs: bool,
    /// The repair under way: it was taken back with a new store, and has no vote yet.
    #[prost(message, optional, tag = "21")]
    pub repair: Option<Repair>,
    /// When its last repairs began, nanoseconds of log time; the oldest first, few.
    #[prost(uint64, repeated, tag = "22")]
    pub repairs_ns: Vec<u64>,
    /// Whether an administrator lets it come back with a new store, once.
    #[prost(bool, tag = "23")]
    pub may_return: bool,
}

/// A repair under way.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Repair {
    /// What was the matter with the store that ended, as its node said.
    #[prost(string, tag = "1")]
    pub why: String,
    /// 12-byte stamp of its beginning.
    #[prost(bytes = "vec", tag = "2")]
    pub since: Vec<u8>,
}

impl MemberRow {
    /// What was last noticed; a number of a newer release reads as `Left`, which is careful.
    #[must_use]
    pub fn noticed(&self) -> MemberState {
        MemberState::try_from(self.state).unwrap_or(MemberState::Left)
    }

    /// Whether it is meant to vote.
    #[must_use]
    pub fn wants_vote(&self) -> bool {
        self.wants == i32::from(MemberWants::Voter)
    }

    /// Whether clients should be sent to it. A node that is merely suspected still is: it may have
    /// paused for a second, and a client that cannot reach it goes on to the next.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self.noticed(), MemberState::Joined | MemberState::Suspect) && !self.drained
    }
}

/// Why a node left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftReason {
    /// It announced its stop.
    Stopped,
    /// No node hears it.
    Unreachable,
    /// Some nodes hear it, the primary does not.
    CutOff,
    /// It was removed.
    Removed,
}

impl LeftReason {
    const ALL: [Self; 4] = [Self::Stopped, Self::Unreachable, Self::CutOff, Self::Removed];

    /// The word on the wire, which users see, too.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Unreachable => "unreachable",
            Self::CutOff => "cut off",
            Self::Removed => "removed",
        }
    }

    /// What a word on the wire says; `None` if this release does not know it.
    #[must_use]
    pub fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// A change of the members.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MemberChange {
    /// Which.
    #[prost(oneof = "MemberOp", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    pub op: Option<MemberOp>,
    /// Id of the change, drawn once and kept across every retry, so that a retry of what was done is
    /// answered as done and not as a conflict.
    #[prost(string, tag = "15")]
    pub id: String,
}

/// What changes. `Remove`, `Set`, `StepDown` and `Recover` come from admins only, the others from nodes
/// only.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum MemberOp {
    /// Enter the first members of the cluster; those that are known stay as they are.
    #[prost(message, tag = "1")]
    Init(Members),
    /// Admit a node that brought a token. Idempotent for the same token, name and key.
    #[prost(message, tag = "2")]
    Admit(AdmitNode),
    /// Note what a primary has noticed of a node.
    #[prost(message, tag = "3")]
    Notice(Notice),
    /// Note that the calling node has become primary.
    #[prost(message, tag = "4")]
    Lead(Lead),
    /// Remove nodes, all or none.
    #[prost(message, tag = "5")]
    Remove(RemoveNodes),
    /// Change what a node is meant to be.
    #[prost(message, tag = "6")]
    Set(SetNode),
    /// Give the primary role away, and do not take it back for a while.
    #[prost(message, tag = "7")]
    StepDown(StepDown),
    /// Note the key of a member that has none in the table: a first member of an earlier release.
    #[prost(message, tag = "8")]
    Bind(BindKey),
    /// Note that a node is dialled at another address now.
    #[prost(message, tag = "9")]
    Move(MoveNode),
    /// End the store of a node that cannot prove it, and begin a new one under the same name and key.
    #[prost(message, tag = "10")]
    Readmit(ReadmitNode),
    /// Note that a node that was taken back is what it was before.
    #[prost(message, tag = "11")]
    Repaired(RepairedNode),
    /// Let a node come back with a new store, once, whatever its file says and however often it did.
    #[prost(message, tag = "12")]
    Recover(RecoverNode),
    /// Go on with one node, after the majority of the voters was lost: the stores of all nodes end.
    /// Nobody asks for it: `logd recover` writes it into the log of the node that goes on.
    #[prost(message, tag = "13")]
    NewLineage(NewLineage),
}

/// Rows.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Members {
    /// Version of the table after the change: the epoch of the live list.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// The rows, by name.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<MemberRow>,
}

/// See [`MemberOp::Admit`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AdmitNode {
    /// Which token was brought, and the proof that its secret is known.
    #[prost(message, optional, tag = "1")]
    pub token: Option<crate::token::TokenProof>,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// SHA-256 of its public key, 32 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub fingerprint: Vec<u8>,
    /// Incarnation of the store that it will make, 16 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub incarnation: Vec<u8>,
    /// Where it is dialled, `host:port`; verified by the gateway.
    #[prost(string, tag = "5")]
    pub address: String,
    /// What it is meant to be.
    #[prost(enumeration = "MemberWants", tag = "6")]
    pub wants: i32,
    /// Its priority; absent = the number at the end of its name.
    #[prost(uint32, optional, tag = "7")]
    pub priority: Option<u32>,
}

/// See [`MemberOp::Notice`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Notice {
    /// The node.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its raft id: news of a store that is replaced by now changes nothing.
    #[prost(uint64, tag = "2")]
    pub raft_id: u64,
    /// `Joined`, `Suspect` or `Left`.
    #[prost(enumeration = "MemberState", tag = "3")]
    pub state: i32,
    /// Why, see [`LeftReason`].
    #[prost(string, tag = "4")]
    pub reason: String,
    /// Number of starts of its store; 0 if nothing new is known.
    #[prost(uint64, tag = "5")]
    pub starts: u64,
    /// One more sentence for a person; may be empty.
    #[prost(string, tag = "6")]
    pub detail: String,
    /// Nonce of its store; empty if it is not known.
    #[prost(bytes = "vec", tag = "7")]
    pub nonce: Vec<u8>,
}

/// See [`MemberOp::Lead`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Lead {
    /// The term.
    #[prost(uint64, tag = "1")]
    pub term: u64,
}

/// See [`MemberOp::Bind`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BindKey {
    /// The node.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Raft id of its store, as the table has it.
    #[prost(uint64, tag = "2")]
    pub raft_id: u64,
    /// SHA-256 of the public key that its connection proved, 32 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub fingerprint: Vec<u8>,
}

/// See [`MemberOp::Remove`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RemoveNodes {
    /// Their names.
    #[prost(string, repeated, tag = "1")]
    pub names: Vec<String>,
    /// Also those that have not stopped and are not drained. Never more than a majority can bear.
    #[prost(bool, tag = "2")]
    pub force: bool,
}

/// See [`MemberOp::Set`]; what is absent stays.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SetNode {
    /// The node.
    #[prost(string, tag = "1")]
    pub name: String,
    /// See [`MemberRow::priority`].
    #[prost(uint32, optional, tag = "2")]
    pub priority: Option<u32>,
    /// See [`MemberRow::wants`].
    #[prost(enumeration = "MemberWants", optional, tag = "3")]
    pub wants: Option<i32>,
    /// See [`MemberRow::drained`].
    #[prost(bool, optional, tag = "4")]
    pub drained: Option<bool>,
    /// See [`MemberRow::signs`].
    #[prost(bool, optional, tag = "20")]
    pub signs: Option<bool>,
}

/// See [`MemberOp::StepDown`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StepDown {
    /// The node that gives the role away; must be the primary.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How long it is not preferred again, nanoseconds of log time.
    #[prost(uint64, tag = "2")]
    pub hold_ns: u64,
}

/// See [`MemberOp::Move`]. Whoever says so has dialled that address, and that node's store answered
/// there with that node's key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MoveNode {
    /// The node.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Raft id of the store that answered.
    #[prost(uint64, tag = "2")]
    pub raft_id: u64,
    /// Where it is dialled now, `host:port`.
    #[prost(string, tag = "3")]
    pub address: String,
}

/// See [`MemberOp::Readmit`]. The primary says so of a node whose key it has seen proven, and which
/// answers where the table says that it listens.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReadmitNode {
    /// The node.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Raft id of the store that ends, as the table has it.
    #[prost(uint64, tag = "2")]
    pub raft_id: u64,
    /// SHA-256 of the public key that its connection proved, 32 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub fingerprint: Vec<u8>,
    /// Incarnation of the store that it will make, 16 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub incarnation: Vec<u8>,
    /// What is the matter with the store that ends, as the node says.
    #[prost(string, tag = "5")]
    pub why: String,
    /// Whether the node's own file lets it come back.
    #[prost(bool, tag = "6")]
    pub permitted: bool,
}

/// See [`MemberOp::Repaired`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RepairedNode {
    /// The node.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Raft id of its new store.
    #[prost(uint64, tag = "2")]
    pub raft_id: u64,
}

/// See [`MemberOp::Recover`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RecoverNode {
    /// The node.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// See [`MemberOp::NewLineage`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NewLineage {
    /// The node that goes on.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Raft id of its new store: the first of the new lineage.
    #[prost(uint64, tag = "2")]
    pub raft_id: u64,
    /// Incarnation of its new store, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub incarnation: Vec<u8>,
    /// Index of the last entry that it held.
    #[prost(uint64, tag = "4")]
    pub last_index: u64,
    /// Up to which entry it knew the log to be committed.
    #[prost(uint64, tag = "5")]
    pub committed_index: u64,
}

/// The priority of a node that was given none: the number at the end of its name, 0 without one. Nodes of
/// equal priority leave the role where it is; whoever is first in [`ring_order`] gets it if it must go.
#[must_use]
pub fn default_priority(name: &str) -> u32 {
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    name.get(name.len() - digits..).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Names in the order that people count: `n2` before `n10`. The ring of gateways turns in it.
#[must_use]
pub fn ring_order(a: &str, b: &str) -> std::cmp::Ordering {
    let key = |name: &str| {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let number = name.get(stem..).and_then(|digits| digits.parse::<u64>().ok());
        (name.get(..stem).unwrap_or(name).to_owned(), number, name.to_owned())
    };
    key(a).cmp(&key(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_come_from_names() {
        for (name, priority) in [("n1", 1), ("n12", 12), ("host", 0), ("3", 3), ("a1b", 0)] {
            assert_eq!(default_priority(name), priority, "{name}");
        }
        assert_eq!(default_priority("n99999999999999999999"), 0);
    }

    #[test]
    fn the_ring_counts_as_people_do() {
        let mut names = vec!["n10", "n2", "m3", "n1", "n", "n02"];
        names.sort_by(|a, b| ring_order(a, b));
        assert_eq!(names, ["m3", "n", "n1", "n02", "n2", "n10"]);
    }
}
