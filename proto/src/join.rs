//! How somebody without a certificate gets one: one stream, a fixed exchange of frames.
//!
//! ```text
//! joiner                                  gateway
//! JoinHello  ------------------------->
//!            <------------------------- JoinOffer   the authority; the joiner checks its hash and
//!                                                   that the gateway's certificate is signed by it
//! JoinAsk    ------------------------->             now the secret may be shown
//!            <------------------------- JoinStep::Probe   nodes only: a datagram with a nonce is
//!                                                   on its way to the advertised address
//! JoinEcho   ------------------------->
//!            <------------------------- JoinStep::Joined or JoinStep::Failure
//! ```
//!
//! Nothing else can be said on a connection without a certificate.

use crate::error::Failure;
use crate::member::Members;
use crate::wire::Nodes;

/// Name of the protocol in the TLS handshake.
pub const JOIN_ALPN: &[u8] = b"logd-join/1";
/// Version of everything that nodes say to each other; a joiner must speak the same.
pub const PROTOCOL: u32 = 1;
/// In front of the nonce in the datagram that calls back.
pub const PROBE_MAGIC: &[u8; 8] = b"logd-cb1";
/// Bytes of the nonce.
pub const NONCE_BYTES: usize = 32;

/// Who wants in.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinHello {
    /// See [`PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// Release.
    #[prost(string, tag = "2")]
    pub version: String,
    /// Id of the cluster that is wanted.
    #[prost(string, tag = "3")]
    pub cluster: String,
}

/// Who answers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinOffer {
    /// See [`PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// Release.
    #[prost(string, tag = "2")]
    pub version: String,
    /// Name of the gateway.
    #[prost(string, tag = "3")]
    pub gateway: String,
    /// The authorities that the gateway trusts (PEM, one or more).
    #[prost(string, tag = "4")]
    pub ca: String,
    /// Why there is nothing to talk about.
    #[prost(message, optional, tag = "5")]
    pub failure: Option<Failure>,
}

/// What is wanted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinAsk {
    /// Id of the token, 8 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub token: Vec<u8>,
    /// Secret of the token, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub secret: Vec<u8>,
    /// Name to join under.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Certificate request (PKCS #10, DER). The key never leaves the joiner.
    #[prost(bytes = "vec", tag = "4")]
    pub csr: Vec<u8>,
    /// The joiner's clock, nanoseconds since 1970.
    #[prost(uint64, tag = "5")]
    pub now_ns: u64,
    /// As what.
    #[prost(oneof = "JoinAs", tags = "10, 11, 12")]
    pub role: Option<JoinAs>,
}

/// As what somebody joins.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum JoinAs {
    /// A node.
    #[prost(message, tag = "10")]
    Node(JoinNode),
    /// A client.
    #[prost(message, tag = "11")]
    Client(JoinClient),
    /// Nobody new: a member whose certificate is over, or nearly, and is to be renewed for the same
    /// name, role and key. It brings no token: the certificate and the key are its proof.
    #[prost(message, tag = "12")]
    Renew(JoinRenew),
}

/// What a member shows to have its certificate renewed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinRenew {
    /// Its certificate (X.509, DER), which may be over.
    #[prost(bytes = "vec", tag = "1")]
    pub certificate: Vec<u8>,
}

/// A node's part.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinNode {
    /// Where the others shall dial it, `host:port`. It waits there for the datagram.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Incarnation of the store that it will make, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub incarnation: Vec<u8>,
    /// What it is meant to be.
    #[prost(enumeration = "crate::member::MemberWants", tag = "3")]
    pub wants: i32,
    /// Its priority; absent = the number at the end of its name.
    #[prost(uint32, optional, tag = "4")]
    pub priority: Option<u32>,
}

/// A client's part, or that of a further administrator.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinClient {
    /// Preferred gateway; empty = derived from the slot table.
    #[prost(string, tag = "1")]
    pub home: String,
    /// Whether it is to be an administrator; the token must be for one.
    #[prost(bool, tag = "2")]
    pub admin: bool,
}

/// The nonce that came with the datagram.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinEcho {
    /// [`NONCE_BYTES`] bytes; empty if none came in time.
    #[prost(bytes = "vec", tag = "1")]
    pub nonce: Vec<u8>,
}

/// What the gateway says after the ask.
#[derive(Clone, PartialEq, prost::Message)]
pub struct JoinAnswer {
    /// Which.
    #[prost(oneof = "JoinStep", tags = "1, 2, 3")]
    pub step: Option<JoinStep>,
}

/// See [`JoinAnswer`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum JoinStep {
    /// A datagram is on its way.
    #[prost(message, tag = "1")]
    Probe(crate::wire::Empty),
    /// Done.
    #[prost(message, tag = "2")]
    Joined(Joined),
    /// Refused, or unknown.
    #[prost(message, tag = "3")]
    Failure(Failure),
}

/// Everything that a new member needs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Joined {
    /// Its certificate (PEM).
    #[prost(string, tag = "1")]
    pub certificate: String,
    /// A client's home.
    #[prost(string, tag = "2")]
    pub home: String,
    /// The live list.
    #[prost(message, optional, tag = "3")]
    pub nodes: Option<Nodes>,
    /// For a node: every node of the cluster, itself among them, with raft ids and incarnations.
    #[prost(message, optional, tag = "4")]
    pub members: Option<Members>,
}
