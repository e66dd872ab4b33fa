//! QUIC endpoints, framing, peer links and the client.
//!
//! One UDP port per node carries three protocols, told apart in the TLS handshake: clients ask one
//! request per stream and get one answer (or, when they follow, many), and send small messages with a
//! number each on one long stream, where many are read and answered at once; nodes keep streams open to
//! each other, in lanes; and whoever has no certificate yet may ask for one, see [`join`], and for
//! nothing else. Everybody else shows a certificate, and 0-RTT is off.
//!
//! **Peers.** Each node dials each other node and opens all its streams on what it dialled. The
//! urgent lane has a connection of its own: flow control, congestion control and the send buffer
//! of a QUIC connection are shared by its streams, so priorities alone could let a full send
//! buffer hold up a heartbeat. Before any stream, both sides say who they are ([`proto::peer::Hello`])
//! and check it: cluster, name against certificate, and whatever the node knows of the key.
//!
//! Beside them stands [`time_server`], a loopback SNTP server for the demonstration and for tests.
//!
//! **Port** and the [`Link`] that it gives are a seam of the product: QUIC in production, [`switchboard`]
//! in simulation.
//!
//! Not here: what requests mean (`daemon`), what is in a certificate (`certs`), message layouts
//! (`proto`).

// What is done for one more variant is decided where it is added, not by whoever comes by.
#![deny(clippy::wildcard_enum_match_arm)]

mod answers;
mod client;
mod client_conn;
mod crowd;
mod due;
mod endpoint;
mod error;
mod forwards;
mod frames;
mod hello;
pub mod join;
mod link;
mod numbered;
mod peer_conn;
mod port;
mod quic_link;
mod reason;
mod repeat;
mod seat;
mod shares;
mod socket;
pub mod switchboard;
pub mod time_server;
mod tune;

pub use answers::{Flush, Flushes, Late, Ticket};
pub use client::{
    Answer, Client, ClientConfig, ClientError, Follow, LiveNode, MemoryRing, Ring, Spread, Turns,
    kept_addresses,
};
pub use client_conn::{ClientConn, Incoming, Numbered, ReplyTx, decode_numbered};
pub use crowd::{Crowd, Place};
pub use due::wait_until;
pub use endpoint::{Accepted, Endpoint};
pub use error::{CloseCode, LinkError, NetError, Refused};
pub use forwards::{Batch, ForwardsRx, HandedOver, refuse_forwards};
pub use frames::{FrameRx, FrameTx};
pub use link::{Lane, Link, PeerAddr};
pub use numbered::{Answered, AnswersRx};
pub use peer_conn::{PeerConn, PeerStream};
pub use port::{CheckPeer, MakeHello, Port};
pub use quic_link::{QuicLink, lookup};
pub use seat::{ClientRequest, ClientSeat};
