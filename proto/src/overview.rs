//! What people and programs ask about the cluster as a whole: placement, the engine's state, who
//! served how much, whether the nodes agree, and how healthy it is.

use crate::settings::Settings;
use crate::wire::NodeRow;

use crate::attest::Place;

/// Where does this key lie?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Route {
    /// A recipient (`bob`, `@ops`, `*`) or any other text.
    #[prost(string, tag = "1")]
    pub key: String,
}

/// Where a key lies.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Routed {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its slot, 0 to 4095.
    #[prost(uint32, tag = "2")]
    pub slot: u32,
    /// The slot's shard.
    #[prost(uint32, tag = "3")]
    pub shard: u32,
    /// The node that the slot's clients call home; empty before the first node is known.
    #[prost(string, tag = "4")]
    pub home: String,
    /// The shard's primary; empty if none is known.
    #[prost(string, tag = "5")]
    pub primary: String,
    /// The nodes that hold the shard, by name.
    #[prost(string, repeated, tag = "6")]
    pub replicas: Vec<String>,
    /// Epoch of the slot table.
    #[prost(uint64, tag = "7")]
    pub epoch: u64,
}

/// What would change hands if nodes came and went?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Plan {
    /// Nodes that would come.
    #[prost(string, repeated, tag = "1")]
    pub add: Vec<String>,
    /// Nodes that would go.
    #[prost(string, repeated, tag = "2")]
    pub remove: Vec<String>,
}

/// What would change hands.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Planned {
    /// Slots per node now, in the order of the ring.
    #[prost(message, repeated, tag = "1")]
    pub before: Vec<Share>,
    /// Slots per node then.
    #[prost(message, repeated, tag = "2")]
    pub after: Vec<Share>,
    /// Who would hand how many to whom.
    #[prost(message, repeated, tag = "3")]
    pub moves: Vec<Move>,
}

/// A node's slots.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Share {
    /// The node.
    #[prost(string, tag = "1")]
    pub node: String,
    /// How many slots.
    #[prost(uint32, tag = "2")]
    pub slots: u32,
}

/// Slots that change hands.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Move {
    /// From this node; empty = from nobody.
    #[prost(string, tag = "1")]
    pub from: String,
    /// To this one; empty = to nobody.
    #[prost(string, tag = "2")]
    pub to: String,
    /// How many.
    #[prost(uint32, tag = "3")]
    pub slots: u32,
}

/// The homes of all slots.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Slots {
    /// Grows with every change.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// The nodes.
    #[prost(string, repeated, tag = "2")]
    pub nodes: Vec<String>,
    /// For each slot the place of its home in `nodes`; all of them, or none before the first node.
    #[prost(uint32, repeated, tag = "3")]
    pub homes: Vec<u32>,
}

/// Who served how much.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Distribution {
    /// In the order of the ring; nodes that are gone last.
    #[prost(message, repeated, tag = "1")]
    pub rows: Vec<DistributionRow>,
}

/// One node's part.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DistributionRow {
    /// The node.
    #[prost(string, tag = "1")]
    pub node: String,
    /// Kept messages that came in through it, as the state counts them. Events are not counted.
    #[prost(uint64, tag = "2")]
    pub messages: u64,
    /// Slots whose home it is.
    #[prost(uint32, tag = "3")]
    pub slots: u32,
    /// Requests of clients that it has answered since it started; absent if it does not say.
    #[prost(uint64, optional, tag = "4")]
    pub requests: Option<u64>,
}

/// The engine of one node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RaftView {
    /// The node.
    #[prost(string, tag = "1")]
    pub node: String,
    /// Its raft id.
    #[prost(uint64, tag = "2")]
    pub raft_id: u64,
    /// See `wire::NodeRow::role`.
    #[prost(string, tag = "3")]
    pub role: String,
    /// Term of its vote.
    #[prost(uint64, tag = "4")]
    pub term: u64,
    /// Whom it voted for in that term; empty if nobody.
    #[prost(string, tag = "5")]
    pub voted_for: String,
    /// Whether that vote is known to have won.
    #[prost(bool, tag = "6")]
    pub vote_committed: bool,
    /// Index of the last entry in its log.
    #[prost(uint64, tag = "7")]
    pub last_index: u64,
    /// Index of the last committed entry that it knows of.
    #[prost(uint64, tag = "8")]
    pub committed: u64,
    /// Index of the last applied entry.
    #[prost(uint64, tag = "9")]
    pub applied: u64,
    /// Index up to which its log is purged.
    #[prost(uint64, tag = "10")]
    pub purged: u64,
    /// Names of the voters. While a change of members is in progress, of both configurations.
    #[prost(string, repeated, tag = "11")]
    pub voters: Vec<String>,
    /// Names of the learners.
    #[prost(string, repeated, tag = "12")]
    pub learners: Vec<String>,
    /// Whether a change of members is in progress.
    #[prost(bool, tag = "13")]
    pub joint: bool,
    /// Index of the entry that holds this membership.
    #[prost(uint64, tag = "14")]
    pub membership_index: u64,
    /// How long the stages of a message's way take here.
    #[prost(message, repeated, tag = "15")]
    pub stages: Vec<crate::stage::Counted>,
}

/// Check a node's state.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Verify {
    /// Read every record from the disk again, too.
    #[prost(bool, tag = "1")]
    pub deep: bool,
    /// Also tell the places of these log entries; at most `PLACES_MAX`.
    #[prost(uint64, repeated, tag = "10")]
    pub places: Vec<u64>,
}

/// What a node found in itself.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Verified {
    /// The node.
    #[prost(string, tag = "1")]
    pub node: String,
    /// Digests of its state at the last entries that it applied, the newest last. Two nodes whose
    /// digests at one index differ are not the same any more.
    #[prost(message, repeated, tag = "2")]
    pub digests: Vec<DigestAt>,
    /// Records that were read, if that was asked for.
    #[prost(uint64, tag = "3")]
    pub records: u64,
    /// Their bytes.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
    /// What is wrong; empty if nothing is.
    #[prost(string, repeated, tag = "5")]
    pub problems: Vec<String>,
    /// Hash of every row of the state, if all were read: equal on all nodes at the same index,
    /// whatever way a node came by its state.
    #[prost(message, optional, tag = "6")]
    pub content: Option<DigestAt>,
    /// The same at entries behind which all nodes read their states, the newest last.
    #[prost(message, repeated, tag = "7")]
    pub contents: Vec<DigestAt>,
    /// The places that were asked for, where its log reaches, in the order of their indexes.
    #[prost(message, repeated, tag = "10")]
    pub places: Vec<Place>,
    /// The last place that it holds and knows to be committed.
    #[prost(message, optional, tag = "11")]
    pub committed: Option<Place>,
    /// Index of the first place that its log still tells.
    #[prost(uint64, tag = "12")]
    pub first: u64,
}

/// A digest.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DigestAt {
    /// Index of the entry after which it was taken.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub digest: Vec<u8>,
}

/// The cluster's health as one node sees it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// Id of the cluster.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// Current term.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Name of the primary; empty if none is known.
    #[prost(string, tag = "3")]
    pub primary: String,
    /// Whether a write would find a majority.
    #[prost(bool, tag = "4")]
    pub quorum: bool,
    /// By name.
    #[prost(message, repeated, tag = "5")]
    pub nodes: Vec<NodeRow>,
    /// What a person should look at; empty if the cluster is healthy.
    #[prost(message, repeated, tag = "11")]
    pub problems: Vec<crate::Problem>,
    /// Highest seq of the data shard on the answering node.
    #[prost(uint64, tag = "7")]
    pub last_seq: u64,
    /// Lowest seq that is still kept.
    #[prost(uint64, tag = "8")]
    pub first_seq: u64,
    /// Records kept, in bytes.
    #[prost(uint64, tag = "9")]
    pub bytes: u64,
    /// Settings of the whole cluster; absent before the first primary has set them.
    #[prost(message, optional, tag = "10")]
    pub settings: Option<Settings>,
}
