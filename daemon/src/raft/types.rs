//! The engine's types, named once.

use std::fmt;

use bytes::Bytes;
use model::{Batch, Outcome};
use openraft::raft::responder::Responder;
use openraft::vote::leader_id_std;
use openraft::{EntryPayload, OptionalSend, RaftTypeConfig};

/// Kind of a log entry: the first byte of its payload in the store and on the wire.
pub(crate) const KIND_BLANK: u8 = 0;
/// See `KIND_BLANK`.
pub(crate) const KIND_NORMAL: u8 = 1;
/// See `KIND_BLANK`.
pub(crate) const KIND_MEMBERSHIP: u8 = 2;

const _: () = assert!(
    KIND_BLANK != KIND_NORMAL && KIND_NORMAL != KIND_MEMBERSHIP && KIND_MEMBERSHIP != KIND_BLANK,
    "the kinds of entries are told apart"
);

/// The engine's configuration of types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Types;

impl RaftTypeConfig for Types {
    type D = Payload;
    type R = ApplyResult;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    // The other kind allows two leaders in one term.
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Payload, u64, Member>;
    type Entry = openraft::Entry<leader_id_std::CommittedLeaderId<u64>, Self::Payload>;
    type AsyncRuntime = super::runtime::Runtime;
    type Responder<T>
        = Reply<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// A vote of the engine.
pub(crate) type Vote = openraft::Vote<leader_id_std::LeaderId<u64, u64>>;
/// The leader of a term, as log ids carry it: the term alone.
pub(crate) type CommittedLeader = leader_id_std::CommittedLeaderId<u64>;
/// A place in the log.
pub(crate) type LogId = openraft::LogId<CommittedLeader>;
/// A log entry of the engine.
pub(crate) type Entry = openraft::Entry<CommittedLeader, EntryPayload<Payload, u64, Member>>;
/// A membership.
pub(crate) type Membership = openraft::Membership<u64, Member>;
/// A membership with its place in the log.
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeader, u64, Member>;
/// What the engine knows of a snapshot.
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeader, u64, Member>;
/// A snapshot with its data.
pub(crate) type Snapshot =
    openraft::Snapshot<CommittedLeader, u64, Member, super::machine::SnapshotData>;

/// A member of the cluster as the membership carries it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Name of the node; stays while raft ids come and go.
    pub name: String,
    /// Advertised address.
    pub address: String,
    /// Incarnation of its store; one per raft id, for ever.
    pub incarnation: [u8; 16],
}

/// What a normal entry carries: its kind, then an encoded [`model::Batch`]. The kind byte
/// lies in front from the beginning, so the bytes go to the store and the wire uncopied.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Bytes);

impl Payload {
    /// Encodes a batch.
    #[must_use]
    pub fn new(batch: Batch) -> Self {
        Self(batch.into_encoded(&[KIND_NORMAL]))
    }

    /// Takes bytes that begin with the kind byte.
    pub(crate) fn from_stored(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes with the kind byte.
    pub(crate) fn stored(&self) -> &Bytes {
        &self.0
    }

    /// The encoded batch, in the memory that this one has.
    pub(crate) fn shared(&self) -> Bytes {
        self.0.slice(1.min(self.0.len())..)
    }

    /// The encoded batch.
    #[must_use]
    pub fn batch(&self) -> &[u8] {
        self.0.get(1..).unwrap_or_default()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What applying an entry gave: one outcome per command.
#[derive(Debug, Clone, Default)]
pub(super) struct ApplyResult {
    /// In the order of the batch's commands; empty for entries without commands.
    pub outcomes: Vec<Outcome>,
}

/// Calls back with a result. No task has to wait for it.
pub(super) struct Reply<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Reply<T> {
    /// Wraps what is to be called.
    pub(super) fn new(call: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(call))
    }
}

impl<T: OptionalSend + 'static> Responder<Types, T> for Reply<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}
