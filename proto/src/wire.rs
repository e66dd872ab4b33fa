//! What clients and nodes say to each other: one request, one answer (or, for a followed read, many
//! pages) per QUIC stream; and many small requests with a number on one long stream, see [`crate::frame`].

use crate::error::Failure;
use crate::record::{Header, Record};

pub use crate::admin::{AdminChange, Admins};
pub use crate::clock_report::{CeilingLowered, ClockPeer, ClockReport, ClockSource, Refused};
pub use crate::group::{GroupChange, Groups, ListGroups};
pub use crate::kv::{KvChange, KvRead, KvRows};
pub use crate::member::{MemberChange, Members};
pub use crate::overview::{
    Distribution, Plan, Planned, RaftView, Route, Routed, Slots, Status, Verified, Verify,
};
pub use crate::peer::Renew;
pub use crate::read::{Gap, Instant, Page, Position, Read, TimeMode, TimePoint};
pub use crate::registry::{ClientRow, Clients, Register, Registered};
pub use crate::settings::{Configure, OnLoss, Settings};
pub use crate::token::{TokenChange, Tokens};

/// Name of the client protocol in the TLS handshake.
pub const CLIENT_ALPN: &[u8] = b"logd-client/1";
/// Name of the same protocol with a long stream. Who offers both names, and is answered with the first,
/// talks to an earlier release.
pub const CLIENT_NUMBERED_ALPN: &[u8] = b"logd-client/2";

/// One request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Time that the caller still has, in milliseconds; 0 means the node's default.
    #[prost(uint32, tag = "1")]
    pub deadline_ms: u32,
    /// Highest stamp that the caller has seen, 12 bytes, or empty: what it sends gets a later one.
    #[prost(bytes = "vec", tag = "2")]
    pub causal_token: Vec<u8>,
    /// What to do.
    #[prost(
        oneof = "Op",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, \
                31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 45, 60"
    )]
    pub op: Option<Op>,
}

/// What a request asks for.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Op {
    /// Store a message.
    #[prost(message, tag = "10")]
    Send(Send),
    /// Read a page of records, or follow them.
    #[prost(message, tag = "11")]
    Read(Read),
    /// Read one message by its id.
    #[prost(message, tag = "12")]
    Get(Get),
    /// Delete one message by its id.
    #[prost(message, tag = "13")]
    Delete(Delete),
    /// Admit a client: sign its certificate request.
    #[prost(message, tag = "14")]
    Register(Register),
    /// List the registered clients.
    #[prost(message, tag = "15")]
    Clients(Empty),
    /// List the nodes: the live list.
    #[prost(message, tag = "16")]
    Nodes(Empty),
    /// The cluster's health as this node sees it.
    #[prost(message, tag = "17")]
    Status(Empty),
    /// This node's clock.
    #[prost(message, tag = "18")]
    Clock(Empty),
    /// An answer and nothing else.
    #[prost(message, tag = "19")]
    Ping(Empty),
    /// Move a named cursor.
    #[prost(message, tag = "20")]
    SetCursor(SetCursor),
    /// Make this node drop what is deleted, expired or snapshotted from its disk.
    #[prost(message, tag = "21")]
    Compact(Empty),
    /// Change settings of the whole cluster. Admins only.
    #[prost(message, tag = "22")]
    Configure(Configure),
    /// Change the nodes of the cluster. Admins only.
    #[prost(message, tag = "23")]
    Member(MemberChange),
    /// Create or revoke a join token. Admins only.
    #[prost(message, tag = "24")]
    Token(TokenChange),
    /// List the join tokens. Admins only.
    #[prost(message, tag = "25")]
    Tokens(Empty),
    /// Change groups.
    #[prost(message, tag = "26")]
    Group(GroupChange),
    /// List groups.
    #[prost(message, tag = "27")]
    Groups(ListGroups),
    /// Change the dictionary.
    #[prost(message, tag = "28")]
    Kv(KvChange),
    /// Read the dictionary.
    #[prost(message, tag = "29")]
    KvRead(KvRead),
    /// The live list now and whenever it changes; many answers.
    #[prost(message, tag = "30")]
    WatchNodes(Empty),
    /// Every node that ever was, removed ones too, as the state keeps them.
    #[prost(message, tag = "31")]
    Members(Empty),
    /// Where a key lies.
    #[prost(message, tag = "32")]
    Route(Route),
    /// What would change hands if nodes came and went.
    #[prost(message, tag = "33")]
    Plan(Plan),
    /// The homes of all slots.
    #[prost(message, tag = "34")]
    Slots(Empty),
    /// Who served how much.
    #[prost(message, tag = "35")]
    Distribution(Empty),
    /// This node's engine.
    #[prost(message, tag = "36")]
    Raft(Empty),
    /// Check this node's state. Admins only.
    #[prost(message, tag = "37")]
    Verify(Verify),
    /// Change the administrators. Admins only.
    #[prost(message, tag = "38")]
    Admin(AdminChange),
    /// List the administrators. Admins only.
    #[prost(message, tag = "39")]
    Admins(Empty),
    /// Put the ceiling of this node's stamps down to the highest that a majority holds. Admins only.
    #[prost(message, tag = "40")]
    LowerCeiling(Empty),
    /// Make the caller's own certificate anew, for the same key. Answered with `Registered`.
    #[prost(message, tag = "45")]
    Renew(Renew),
    /// What this node tells of itself as metrics.
    #[prost(message, tag = "60")]
    Metrics(Empty),
}

/// No arguments.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// Store a message. The sender is the connection's identity, never a field.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Send {
    /// Recipient: a client, `@group` or `*`.
    #[prost(string, tag = "1")]
    pub to: String,
    /// Message id, drawn once and kept across every retry.
    #[prost(string, tag = "2")]
    pub id: String,
    /// Headers.
    #[prost(message, repeated, tag = "3")]
    pub headers: Vec<Header>,
    /// Body.
    #[prost(bytes = "bytes", tag = "4")]
    pub body: bytes::Bytes,
    /// Answer only once every later message, through any node, is sure to get a later
    /// stamp than this one. Needs `on_loss = "refuse"`.
    #[prost(bool, tag = "5")]
    pub commit_wait: bool,
}

/// Read one message.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Get {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Answer from this node's own state without asking the primary.
    #[prost(bool, tag = "2")]
    pub stale: bool,
    /// Its sender, where several senders used the id; empty = any that the caller may see.
    #[prost(string, tag = "3")]
    pub from: String,
}

/// Delete one message.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Delete {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Why; may be empty.
    #[prost(string, tag = "2")]
    pub reason: String,
    /// Its sender: for an admin, where several senders used the id; empty = the caller, or the
    /// only one.
    #[prost(string, tag = "3")]
    pub from: String,
}

/// Move a named cursor of the caller.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetCursor {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Where it stands now.
    #[prost(message, repeated, tag = "2")]
    pub positions: Vec<Position>,
}

/// One answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// The node that the client is connected to.
    #[prost(string, tag = "1")]
    pub gateway: String,
    /// Epoch of the live list; when it is above the client's, the client asks for the list.
    #[prost(uint64, tag = "2")]
    pub members_epoch: u64,
    /// The result.
    #[prost(
        oneof = "Reply",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, \
                31, 32, 33, 34, 35, 60"
    )]
    pub reply: Option<Reply>,
}

/// The result of a request.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Reply {
    /// It was refused, or its outcome is unknown.
    #[prost(message, tag = "10")]
    Failure(Failure),
    /// The message is stored.
    #[prost(message, tag = "11")]
    Ack(Ack),
    /// Records.
    #[prost(message, tag = "12")]
    Page(Page),
    /// One record.
    #[prost(message, tag = "13")]
    Record(Record),
    /// The client is admitted.
    #[prost(message, tag = "14")]
    Registered(Registered),
    /// The registry.
    #[prost(message, tag = "15")]
    Clients(Clients),
    /// The live list.
    #[prost(message, tag = "16")]
    Nodes(Nodes),
    /// The cluster's health.
    #[prost(message, tag = "17")]
    Status(Status),
    /// The clock.
    #[prost(message, tag = "18")]
    Clock(ClockReport),
    /// The answer to a ping.
    #[prost(message, tag = "19")]
    Pong(Empty),
    /// The cursor stands where it was told to.
    #[prost(message, tag = "20")]
    CursorSet(Empty),
    /// The message is deleted; the record with its tombstone.
    #[prost(message, tag = "21")]
    Deleted(Record),
    /// The node's disk is compacted.
    #[prost(message, tag = "22")]
    Compacted(Empty),
    /// The settings as they are now.
    #[prost(message, tag = "23")]
    Configured(Settings),
    /// Nodes: those that were changed, or all.
    #[prost(message, tag = "24")]
    Members(Members),
    /// Tokens: the one that was changed, or all.
    #[prost(message, tag = "25")]
    Tokens(Tokens),
    /// Groups: the one that was changed, or those that were asked for.
    #[prost(message, tag = "26")]
    Groups(Groups),
    /// Keys of the dictionary.
    #[prost(message, tag = "27")]
    Kv(KvRows),
    /// Where the key lies.
    #[prost(message, tag = "28")]
    Routed(Routed),
    /// What would change hands.
    #[prost(message, tag = "29")]
    Planned(Planned),
    /// The homes of all slots.
    #[prost(message, tag = "30")]
    Slots(Slots),
    /// Who served how much.
    #[prost(message, tag = "31")]
    Distribution(Distribution),
    /// The node's engine.
    #[prost(message, tag = "32")]
    Raft(RaftView),
    /// What the node found in itself.
    #[prost(message, tag = "33")]
    Verified(Verified),
    /// Administrators: the one that was changed, or all.
    #[prost(message, tag = "34")]
    Admins(Admins),
    /// The node's ceiling as it was and is.
    #[prost(message, tag = "35")]
    CeilingLowered(CeilingLowered),
    /// What the node tells of itself as metrics.
    #[prost(message, tag = "60")]
    Metrics(Metrics),
}

/// What a node tells of itself as metrics.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Metrics {
    /// In Prometheus's text format.
    #[prost(string, tag = "1")]
    pub text: String,
}

/// A message is in fsynced storage on a majority of voters.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Ack {
    /// Its shard.
    #[prost(uint32, tag = "1")]
    pub shard: u32,
    /// Its number there.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// Its final 20-byte stamp.
    #[prost(bytes = "vec", tag = "3")]
    pub stamp: Vec<u8>,
    /// The primary that ordered it.
    #[prost(string, tag = "4")]
    pub primary: String,
    /// The node that took the request from the client.
    #[prost(string, tag = "5")]
    pub gateway: String,
    /// Its id.
    #[prost(string, tag = "6")]
    pub id: String,
    /// Whether this id was stored before; then everything above is what the first ack said.
    #[prost(bool, tag = "7")]
    pub duplicate: bool,
    /// Index of the log entry.
    #[prost(uint64, tag = "8")]
    pub index: u64,
}

/// The live list.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Nodes {
    /// Id of the cluster.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// Epoch of the list.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// By name.
    #[prost(message, repeated, tag = "3")]
    pub nodes: Vec<NodeRow>,
}

/// One node as another sees it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeRow {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// `primary`, `backup`, `candidate`, `learner`, `repairing` or `unknown`.
    #[prost(string, tag = "2")]
    pub role: String,
    /// Advertised address, `host:port`.
    #[prost(string, tag = "3")]
    pub address: String,
    /// Whether it answers.
    #[prost(bool, tag = "4")]
    pub up: bool,
    /// Index of the last applied entry.
    #[prost(uint64, tag = "5")]
    pub applied: u64,
    /// Entries behind the most advanced node.
    #[prost(uint64, tag = "6")]
    pub lag: u64,
    /// Release.
    #[prost(string, tag = "7")]
    pub version: String,
    /// Clock state, see `clock::ClockState`.
    #[prost(string, tag = "8")]
    pub clock_state: String,
    /// Half-width of the clock's interval, in microseconds; absent if it is not known.
    #[prost(uint64, optional, tag = "9")]
    pub error_bound_us: Option<u64>,
    /// Its term.
    #[prost(uint64, tag = "10")]
    pub term: u64,
    /// What it complains of, empty if nothing.
    #[prost(message, repeated, tag = "20")]
    pub problems: Vec<crate::Problem>,
    /// Round trip to it from the answering node, in microseconds; 0 for itself or if unknown.
    #[prost(uint64, tag = "12")]
    pub rtt_us: u64,
    /// What was last noticed of it, see `member::MemberState::as_str`.
    #[prost(string, tag = "13")]
    pub state: String,
    /// Why it left; empty otherwise.
    #[prost(string, tag = "14")]
    pub reason: String,
    /// Whether it votes now.
    #[prost(bool, tag = "15")]
    pub voter: bool,
    /// Among nodes fit to lead, the one with the highest leads.
    #[prost(uint32, tag = "16")]
    pub priority: u32,
    /// Number of starts of its store; 0 if unknown.
    #[prost(uint64, tag = "17")]
    pub incarnation: u64,
    /// Whether clients are kept away from it.
    #[prost(bool, tag = "18")]
    pub drained: bool,
    /// Whether clients should be sent to it: the same on every node, from the replicated state.
    #[prost(bool, tag = "19")]
    pub serves: bool,
    /// Last second of its certificate's validity, since 1970; 0 if it does not say.
    #[prost(int64, tag = "40")]
    pub not_after_unix_s: i64,
    /// Whether it holds the authority's key, so that it signs certificates.
    #[prost(bool, tag = "41")]
    pub signs: bool,
    /// First second of its certificate's validity.
    #[prost(int64, tag = "42")]
    pub not_before_unix_s: i64,
    /// How many stores lie aside in its data directory: they could not be proven, or were recovered from.
    #[prost(uint64, tag = "50")]
    pub stores_aside: u64,
    /// Bytes of all of them.
    #[prost(uint64, tag = "51")]
    pub aside_bytes: u64,
    /// How far it has read its disk again; absent where it takes no part, or does not answer.
    #[prost(message, optional, tag = "43")]
    pub scrub: Option<Scrubbing>,
}

/// How far a node has read its disk again, in search of damage.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Scrubbing {
    /// Bytes of this round.
    #[prost(uint64, tag = "1")]
    pub read_bytes: u64,
    /// Bytes that this round will have, about.
    #[prost(uint64, tag = "2")]
    pub of_bytes: u64,
    /// Rounds that came to their end since the node started.
    #[prost(uint64, tag = "3")]
    pub rounds: u64,
    /// Seconds since the last one did; absent before the first.
    #[prost(uint64, optional, tag = "4")]
    pub last_round_age_s: Option<u64>,
}
