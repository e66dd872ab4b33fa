//! What nodes say to each other besides Raft: who they are, how they are, and forwarded requests.
//!
//! What somebody says of itself is a claim. What proves it:
//!
//! | said | in | proof |
//! |---|---|---|
//! | cluster, name, role | certificate | the authority's signature; the hello must say the same |
//! | raft id, incarnation | [`Hello`] | the key: the table binds all three, for ever |
//! | admitted while you were away | [`Hello`] | a member that the node knows by its key ([`PeerOp::Vouch`]), else nobody |
//! | taken back with a newer store while you were away | [`Hello`] | its key, which is bound: only the log gives a member a newer store |
//! | your store lacks what you have shown | [`Hello::refused`] | the refusing node's key, which is bound, whichever store it has by now |
//! | you were removed | [`Hello::refused`] | the refusing node's own key, which is bound |
//! | X asks, with key K | [`Forward`] | the primary's own tables of clients and administrators, before the log and in apply; that X asked is the gateway's word |
//! | the same, many at once | [`Forwards`] | the same |
//! | the gateway | [`Forward`] | not read: it is the node at the other end |
//! | an event | [`NodeEvent`] | the node's own alone; kinds that apply writes are refused |
//! | a change of members | `MemberChange` | a token for an admission; everything else is refused |
//! | a client's admission | `AdmitClient` | a token's hash, in apply |
//! | take me back | [`crate::repair::Rejoin`] | the key; and who answers where the table says that the node listens, asked by the primary |
//! | I cannot prove my store | [`Hello::repairing`] | nothing: who says so takes no part |
//! | an instant to close | [`Close`] | the primary's own clock, which it never moves |
//! | what to sign | [`Sign`] | the signer's own table: that name with that key |
//! | takes many at once | [`Hello::takes_forwards`] | nothing: who does not would end the stream |
//! | `signs` | [`NodeInfo`] | the certificate that comes back |
//! | the clock | [`NodeInfo`] | compared by who asks; it fences, and never widens a bound |
//! | my state's digest | [`States`] | nothing: a majority that says the same about its own makes the node that hears it doubt itself |
//! | everything else | [`NodeInfo`], [`Sessions`] | nothing: shown, and used to prefer or to suspect, never to count a vote or an ack |
//! | address, key, name | `JoinAsk` | the call-back, the request's own signature, the table |
//! | wants, priority, clock | `JoinAsk` | nothing: who gave the token answers for them |
//!
//! A node all of whose acquaintances were replaced while it was away believes nobody: it is removed and
//! joins again. The alternative would be to believe whoever holds the authority's key. Tables of earlier
//! releases have no keys of first members and no administrators: a primary notes a member's key at its
//! first proven connection, and enters the first administrator that it meets.
//!
//! Raft's own messages are encoded where openraft is known, in `daemon::raft`.

use crate::attest::Shown;
use crate::wire::{ClockReport, Request};

/// Name of the peer protocol in the TLS handshake.
pub const PEER_ALPN: &[u8] = b"logd-peer/1";

/// The first frame on a new connection between nodes, from both sides. Before both are accepted,
/// nothing else is said.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Hello {
    /// Id of the cluster.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// Name of the speaker; must match its certificate.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Raft id of the speaker's store.
    #[prost(uint64, tag = "3")]
    pub raft_id: u64,
    /// Incarnation of the speaker's store, 16 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub incarnation: Vec<u8>,
    /// Name of the node that the speaker wanted to reach.
    #[prost(string, tag = "5")]
    pub wanted: String,
    /// Release of the speaker.
    #[prost(string, tag = "6")]
    pub version: String,
    /// Why the speaker refuses the other side; empty if it does not.
    #[prost(string, tag = "7")]
    pub refusal: String,
    /// The same for programs.
    #[prost(enumeration = "Refusal", tag = "8")]
    pub refused: i32,
    /// What the speaker shows of its own store.
    #[prost(message, optional, tag = "20")]
    pub shown: Option<Shown>,
    /// What the speaker remembers of the stores of others, the listener's among them.
    #[prost(message, repeated, tag = "21")]
    pub remembers: Vec<Shown>,
    /// Whether the speaker cannot prove its store, and may ask to be taken back.
    #[prost(bool, tag = "22")]
    pub repairing: bool,
    /// Whether the speaker takes many requests in one frame, see [`PeerOp::Forwards`].
    #[prost(bool, tag = "23")]
    pub takes_forwards: bool,
}

/// Why a node does not let another one in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Refusal {
    /// It says so in words only, as an earlier release does, or it does not refuse.
    Other = 0,
    /// Of another cluster.
    Cluster = 1,
    /// The names do not fit: in the certificate, in the hello, or the one that was wanted.
    Name = 2,
    /// The key is a member's, and the store is not the one that belongs to it.
    Store = 3,
    /// Nobody has admitted this key, as far as the refusing node knows.
    Unknown = 4,
    /// The key is that of a node that was removed. It stays so for ever.
    Removed = 5,
    /// Its store lacks what is remembered of it.
    Lacks = 20,
    /// The refusing node's own store lacks what the refused one remembers of it.
    LacksItself = 21,
    /// The two have committed different entries.
    TwoHistories = 22,
    /// Another process with its store is alive.
    TwoLives = 23,
    /// Its former life is not known to be over: it may come again in a moment.
    NotYet = 24,
}

impl Hello {
    /// Why the speaker refuses the other side; a reason of a newer release is `Other`.
    #[must_use]
    pub fn why_refused(&self) -> Refusal {
        Refusal::try_from(self.refused).unwrap_or(Refusal::Other)
    }
}

/// How a node is; exchanged on the urgent lane, waits for no disk.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeInfo {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// See `wire::NodeRow::role`.
    #[prost(string, tag = "2")]
    pub role: String,
    /// Its term.
    #[prost(uint64, tag = "3")]
    pub term: u64,
    /// Name of the primary it follows; empty if none.
    #[prost(string, tag = "4")]
    pub primary: String,
    /// Index of the last applied entry.
    #[prost(uint64, tag = "5")]
    pub applied: u64,
    /// Index of the last entry in its log.
    #[prost(uint64, tag = "6")]
    pub last_index: u64,
    /// Its clock; sources are left out.
    #[prost(message, optional, tag = "7")]
    pub clock: Option<ClockReport>,
    /// Release.
    #[prost(string, tag = "8")]
    pub version: String,
    /// What it complains of.
    #[prost(message, repeated, tag = "18")]
    pub problems: Vec<crate::Problem>,
    /// Advertised address.
    #[prost(string, tag = "10")]
    pub address: String,
    /// Whether it is stopping: a stop is not a failure.
    #[prost(bool, tag = "11")]
    pub leaving: bool,
    /// Number of starts of this store: the incarnation that people see.
    #[prost(uint64, tag = "12")]
    pub starts: u64,
    /// The sender's reading when it sent this, nanoseconds since 1970: T1 in a question, T3 in an
    /// answer.
    #[prost(uint64, tag = "13")]
    pub sent_ns: u64,
    /// In an answer, its own reading when the question came: T2.
    #[prost(uint64, tag = "14")]
    pub received_ns: u64,
    /// Names of the nodes that it has heard lately.
    #[prost(string, repeated, tag = "15")]
    pub hears: Vec<String>,
    /// Whether it holds the authority's key.
    #[prost(bool, tag = "16")]
    pub signs: bool,
    /// Requests of clients that it has answered since it started.
    #[prost(uint64, tag = "17")]
    pub requests: u64,
    /// What it shows of its store.
    #[prost(message, optional, tag = "20")]
    pub shown: Option<Shown>,
    /// Names of the nodes that answer it lately.
    #[prost(string, repeated, tag = "19")]
    pub reaches: Vec<String>,
    /// As primary: whether a majority takes what it sends, and what it orders is decided.
    #[prost(bool, tag = "23")]
    pub followed: bool,
    /// As primary: names of the nodes that have taken nothing for seconds.
    #[prost(string, repeated, tag = "21")]
    pub unfed: Vec<String>,
    /// How long a sync of its disk takes now, in microseconds; 0 if there was none lately.
    #[prost(uint64, tag = "22")]
    pub sync_us: u64,
    /// How far it has read its disk again; absent where it takes no part.
    #[prost(message, optional, tag = "24")]
    pub scrub: Option<crate::wire::Scrubbing>,
    /// Last second of its certificate's validity, since 1970; 0 if it does not say.
    #[prost(int64, tag = "40")]
    pub not_after_unix_s: i64,
    /// First second of it.
    #[prost(int64, tag = "41")]
    pub not_before_unix_s: i64,
    /// How many stores lie aside in its data directory.
    #[prost(uint64, tag = "42")]
    pub stores_aside: u64,
    /// Bytes of all of them.
    #[prost(uint64, tag = "43")]
    pub aside_bytes: u64,
}

/// A request that a gateway hands to the primary, and others that nodes ask of each other.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PeerRequest {
    /// What to do.
    #[prost(oneof = "PeerOp", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 21, 22, 23, 24")]
    pub op: Option<PeerOp>,
}

/// What a node asks of another.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum PeerOp {
    /// Serve a client's request. Answered with `wire::Response`.
    #[prost(message, tag = "1")]
    Forward(Forward),
    /// The log id that a linearizable read must wait for. Answered with `ReadBarrier`.
    #[prost(message, tag = "2")]
    Barrier(crate::wire::Empty),
    /// Which clients are connected. Answered with `Sessions`.
    #[prost(message, tag = "3")]
    Sessions(crate::wire::Empty),
    /// Store an event of the asking node. Answered with `wire::Response`.
    #[prost(message, tag = "4")]
    Event(NodeEvent),
    /// Make sure that nothing can be stamped before an instant any more. Answered with
    /// `wire::Response`: a `Pong`, or why not.
    #[prost(message, tag = "5")]
    Close(Close),
    /// Order a change of members of the asking node's own, such as an admission. Answered with
    /// `wire::Response`.
    #[prost(message, tag = "6")]
    Member(crate::member::MemberChange),
    /// Admit a client that brought a token to the asking node. Answered with `wire::Response`.
    #[prost(message, tag = "7")]
    AdmitClient(crate::token::AdmitClient),
    /// Sign a certificate request. Answered with `wire::Response`: a `Registered`.
    #[prost(message, tag = "8")]
    Sign(Sign),
    /// Whether the log has admitted this store with this key, for a node that was away. Answered with
    /// `Vouched`.
    #[prost(message, tag = "9")]
    Vouch(StoreKey),
    /// The highest stamp in log and state. Answered with `HighestStamp`.
    #[prost(message, tag = "10")]
    Highest(crate::wire::Empty),
    /// Make somebody's certificate anew. Answered with `wire::Response`: a `Registered`.
    #[prost(message, tag = "20")]
    Renew(Renew),
    /// Hand over the authority's key: the asking node is to sign, too. Answered with `SignerKey`.
    #[prost(message, tag = "21")]
    SignerKey(crate::wire::Empty),
    /// Take the asking node back, with a new store. Answered with `repair::Rejoined`.
    #[prost(message, tag = "22")]
    Rejoin(crate::repair::Rejoin),
    /// What the state was like at places that all replicas share. Answered with `States`.
    #[prost(message, tag = "23")]
    States(crate::wire::Empty),
    /// From here on the stream carries [`Forwards`], as many as the gateway likes. Answered with a
    /// `wire::Response` each, as frames with the numbers of the requests, many in a frame of the stream.
    /// Asked only of a node that says [`Hello::takes_forwards`].
    #[prost(message, tag = "24")]
    Forwards(crate::wire::Empty),
}

/// What a node's own state was like, by its own word.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct States {
    /// Of each kind the newest last.
    #[prost(message, repeated, tag = "1")]
    pub claims: Vec<StateClaim>,
}

/// What a node's state was like behind an entry.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StateClaim {
    /// The entry. Where two nodes hold another one at an index their histories are two, and their states
    /// say nothing.
    #[prost(message, optional, tag = "1")]
    pub place: Option<crate::attest::Place>,
    /// What was digested.
    #[prost(enumeration = "Digested", tag = "2")]
    pub digested: i32,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub digest: Vec<u8>,
}

/// What a digest of a state is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Digested {
    /// All that was ever changed, in order.
    History = 0,
    /// All rows, as they were read.
    Content = 1,
}

/// A store and the key of the node that says it has it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StoreKey {
    /// Name of the node.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Raft id of the store.
    #[prost(uint64, tag = "2")]
    pub raft_id: u64,
    /// Incarnation of the store, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub incarnation: Vec<u8>,
    /// SHA-256 of the node's public key, 32 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub fingerprint: Vec<u8>,
}

/// The answer to [`PeerOp::Vouch`], from the answering node's own table.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Vouched {
    /// Whether just this store with just this key is a member.
    #[prost(bool, tag = "1")]
    pub member: bool,
}

/// How far a node's log reaches in log time.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HighestStamp {
    /// The highest stamp in its log and its state, 12 bytes; empty where it takes no part, or cannot
    /// read them.
    #[prost(bytes = "vec", tag = "1")]
    pub hlc: Vec<u8>,
}

/// A certificate request for a node that holds the authority's key. It signs only what the
/// replicated state has admitted: that name with that key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Sign {
    /// Synthetic DNS name of who is to be certified.
    #[prost(string, tag = "1")]
    pub identity: String,
    /// Certificate request (PKCS #10, DER).
    #[prost(bytes = "vec", tag = "2")]
    pub csr: Vec<u8>,
    /// Index of an entry that the admission is not behind: the signer waits for it.
    #[prost(uint64, tag = "3")]
    pub index: u64,
}

/// A certificate that is to be renewed for the same name, role and key. The signer believes nobody
/// on the way: it checks the certificate, and that its key has signed the request.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Renew {
    /// The certificate (X.509, DER), which may be over.
    #[prost(bytes = "vec", tag = "1")]
    pub certificate: Vec<u8>,
    /// Certificate request (PKCS #10, DER) by the same key.
    #[prost(bytes = "vec", tag = "2")]
    pub csr: Vec<u8>,
}

/// The authority's key, for a node that the table of members says may sign.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SignerKey {
    /// The private key (PEM); empty if it was refused.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Set when it was refused.
    #[prost(message, optional, tag = "2")]
    pub failure: Option<crate::Failure>,
}

/// Something that a node has to say, for the `$events` stream.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeEvent {
    /// Id, drawn once and kept across every retry.
    #[prost(string, tag = "1")]
    pub id: String,
    /// What it says, see `event`.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<crate::Header>,
    /// One sentence for a person.
    #[prost(string, tag = "3")]
    pub text: String,
}

/// An instant to close.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Close {
    /// Nothing may be stamped before this any more; 12 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub hlc: Vec<u8>,
}

/// A client's request with what the gateway knows of the client.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Forward {
    /// Synthetic DNS name of the client.
    #[prost(string, tag = "1")]
    pub identity: String,
    /// SHA-256 of the client's public key.
    #[prost(bytes = "vec", tag = "2")]
    pub fingerprint: Vec<u8>,
    /// Name of the gateway.
    #[prost(string, tag = "3")]
    pub gateway: String,
    /// The request.
    #[prost(message, optional, tag = "4")]
    pub request: Option<Request>,
}

/// Small requests of clients, as many as were there at once.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Forwards {
    /// Who asks.
    #[prost(message, repeated, tag = "1")]
    pub clients: Vec<Forwarder>,
    /// What they ask.
    #[prost(message, repeated, tag = "2")]
    pub requests: Vec<Forwarded>,
}

/// Who asks, as in [`Forward`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Forwarder {
    /// Synthetic DNS name of the client.
    #[prost(string, tag = "1")]
    pub identity: String,
    /// SHA-256 of the client's public key.
    #[prost(bytes = "vec", tag = "2")]
    pub fingerprint: Vec<u8>,
}

/// One of many requests.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Forwarded {
    /// By which its answer is told; no other of this number is open on the stream.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Place of its client in [`Forwards::clients`].
    #[prost(uint32, tag = "2")]
    pub client: u32,
    /// Time left for it, in milliseconds; goes before what the request says.
    #[prost(uint32, tag = "3")]
    pub deadline_ms: u32,
    /// The request as it came from the client: a `wire::Request` that may share a stream.
    #[prost(bytes = "bytes", tag = "4")]
    pub request: bytes::Bytes,
}

/// The primary's answer to a barrier.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReadBarrier {
    /// Raft id of the primary.
    #[prost(uint64, tag = "1")]
    pub primary: u64,
    /// Term of the log id to wait for; meaningless if `none`.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Index of the log id to wait for.
    #[prost(uint64, tag = "4")]
    pub index: u64,
    /// Set when the barrier was refused.
    #[prost(message, optional, tag = "5")]
    pub failure: Option<crate::Failure>,
}

/// Clients that a node has seen since it started.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sessions {
    /// The clients.
    #[prost(message, repeated, tag = "1")]
    pub sessions: Vec<Session>,
}

/// One client at one gateway.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Session {
    /// The client.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Whether it has a connection now.
    #[prost(bool, tag = "2")]
    pub connected: bool,
    /// When it was last active, nanoseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub last_seen_ns: u64,
}
