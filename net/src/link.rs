//! The seam between nodes: open a stream of frames to a peer.

use futures::future::BoxFuture;
use proto::Name;

use crate::{FrameRx, FrameTx, LinkError};

/// What a stream between nodes is for; its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Entries and commit updates, pipelined.
    Append = 1,
    /// Heartbeats, elections, node health: never waits behind the other lanes.
    Urgent = 2,
    /// A snapshot: gives way to everything.
    Snapshot = 3,
    /// One request and one answer, such as a forwarded send.
    Request = 4,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 4] = [Self::Append, Self::Urgent, Self::Snapshot, Self::Request];

    /// The first byte of a stream in this lane.
    #[must_use]
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// The lane of a stream's first byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.byte() == byte)
    }

    /// What is queued goes out in this order, highest first.
    pub(crate) fn priority(self) -> i32 {
        match self {
            Self::Urgent => 2,
            Self::Append | Self::Request => 1,
            Self::Snapshot => 0,
        }
    }
}

/// Where a peer is and which store must answer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddr {
    /// Its name, as in its certificate.
    pub name: Name,
    /// Raft id of its store.
    pub raft_id: u64,
    /// `host:port`.
    pub address: String,
    /// Incarnation of its store, as in the membership.
    pub incarnation: [u8; 16],
}

/// Opens streams to peers.
pub trait Link: Send + Sync + 'static {
    /// Opens a stream in a lane. The peer learns of it with the first frame.
    ///
    /// # Errors
    /// When the peer cannot be reached in a few seconds or one side refuses the other. Never waits
    /// longer, and a peer that cannot be reached is always an error.
    fn open<'a>(
        &'a self,
        to: &'a PeerAddr,
        lane: Lane,
    ) -> BoxFuture<'a, Result<(FrameTx, FrameRx), LinkError>>;

    /// Ends what is open to a peer that is a member no more.
    fn forget(&self, _peer: &Name) {}
}
