//! The engine's part in a cluster that goes on with what one node holds, after the majority was lost:
//! who its members were, and the entries that make one of them the only voter.
//!
//! Not here: whether that may be (`recover`), what becomes of the table (`model::rules::lineage`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clock::Hlc;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use model::Batch;
use net::{FrameRx, FrameTx, Lane, Link, LinkError, PeerAddr};
use openraft::EntryPayload;

use crate::chance::Chance;
use crate::store::format::Vote;
use crate::store::{Stopped, Store, StoreError};

use super::types::{CommittedLeader, Entry, LogId, Member, Membership, Payload};
use super::{Guard, Handle, LogKept, Timing, codec, log};

/// Longest wait for one node to apply what it holds: the state on the disk is never far behind.
const APPLIED_WITHIN: Duration = Duration::from_secs(600);
/// A node alone needs no time for anybody.
fn timing() -> Timing {
    Timing {
        heartbeat_ms: 50,
        election_min_ms: 100,
        election_max_ms: 200,
        from_the_start: true,
        kept: LogKept::default(),
    }
}

/// The engine's members as a store has them, committed or not.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownMembers {
    /// Raft ids of the voters; of a change that is under way, those before and after it.
    pub(crate) voters: BTreeSet<u64>,
    /// All members by raft id.
    pub(crate) members: BTreeMap<u64, Member>,
}

/// The members that log and state of a stopped store name last.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn known_members(store: &Stopped) -> Result<KnownMembers, StoreError> {
    let damaged = |error: codec::CodecError| StoreError::Damaged(error.to_string());
    let mut last = match store.applied().membership.as_slice() {
        [] => Membership::default(),
        bytes => codec::decode_membership(bytes).map_err(damaged)?,
    };
    for stored in store.behind_state()? {
        if let EntryPayload::Membership(membership) = codec::entry(stored).map_err(damaged)?.payload
        {
            last = membership;
        }
    }
    let members = last.nodes().map(|(id, member)| (*id, member.clone())).collect();
    Ok(KnownMembers { voters: last.voter_ids().collect(), members })
}

/// The highest stamp that a store holds.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn highest_stamp(store: &Store) -> Result<Hlc, StoreError> {
    log::highest_stamp(store)
}

/// A node that goes on alone: what is written into its new store, behind everything that it held.
pub(crate) struct Alone {
    /// The only voter; its raft id is that of the new store.
    pub(crate) member: Member,
    /// A term above all that it knows.
    pub(crate) term: u64,
    /// What ends the stores of all nodes in the table.
    pub(crate) batch: Batch,
}

impl Alone {
    /// Writes it behind the log of a store that no engine runs on, and has it applied, with everything
    /// before it.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(crate) async fn begin(self, store: &Store) -> Result<(), StoreError> {
        let Self { member, term, batch } = self;
        let (id, index) = (store.identity().raft_id, store.range().1);
        assert_eq!(member.name, store.identity().node, "a node goes on alone as itself");
        assert!(term > 0, "a lineage begins in a term of its own");
        let entry = |index, payload| {
            let log_id = LogId::new(CommittedLeader::new(term), index);
            codec::stored_entry(&Entry { log_id, payload })
        };
        let membership = Membership::from(BTreeMap::from([(id, member)]));
        let entries = vec![
            entry(index, EntryPayload::Membership(membership)),
            entry(index + 1, EntryPayload::Normal(Payload::new(batch))),
        ];
        let writer = store.writer()?;
        writer.vote(Vote { term, node: id, committed: false }).await?;
        writer.append(entries, Box::new(drop));
        writer.barrier().await?;
        let engine = Handle::start(
            store.clone(),
            timing(),
            std::sync::Arc::new(Nowhere),
            std::sync::Arc::new(|_| {}),
            Guard::new(|| None, |_| true),
            Chance::system(),
        )
        .await?;
        engine.attested();
        let mut progress = engine.progress();
        let applied = progress.wait_for(|now| now.index > Some(index));
        let applied = tokio::time::timeout(APPLIED_WITHIN, applied).await;
        let done = match applied {
            Ok(Ok(_)) => writer.barrier().await,
            Ok(Err(_)) => Err(StoreError::Stopped("the engine ended".to_owned())),
            Err(_) => Err(StoreError::Stopped(format!(
                "what it holds was not applied within {} s",
                APPLIED_WITHIN.as_secs()
            ))),
        };
        engine.stop().await;
        done
    }
}

/// There is nobody else.
struct Nowhere;

impl Link for Nowhere {
    fn open<'a>(
        &'a self,
        to: &'a PeerAddr,
        _lane: Lane,
    ) -> BoxFuture<'a, Result<(FrameTx, FrameRx), LinkError>> {
        let (peer, reason) = (to.name.to_string(), "nobody else takes part".to_owned());
        async move { Err(LinkError::Unreachable { peer, reason }) }.boxed()
    }
}
