//! The engine's state machine on our store: decode, let the model compute, answer, write one batch.
//!
//! Invariants:
//! - what a quorum has flushed is applied whether or not this node's own disk has it: one that stalls
//!   holds up no answer. A crash may then leave a state that is ahead of the log, which is as good as
//!   a snapshot that was installed (`store::verdict`);
//! - effects and the place of the last applied entry lie in one batch;
//! - nobody sees a state that lacks what was answered ([`Store::answering`]). The answer does not wait for
//!   the rows, because it does not come of them: a crash applies the same entries again;
//! - an error that is not an answer for a client stops the engine: replicas must not diverge.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clock::Hlc;
use futures::{Stream, StreamExt as _};
use log::Place;
use model::command::AuditPace;
use model::hash::Hash;
use model::{ApplyError, Batch, Carried};
use openraft::entry::RaftEntry as _;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use planted::Bug;
use proto::limits::DIGESTS_KEPT;
use proto::stage::Stage;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::blocking::in_place;
use crate::stages::Stages;
use crate::store::format::{AppliedState, LogMark};
use crate::store::{
    Applying, ChunkReader, DamageKind, Incoming, SnapshotHead, Store, StoreError, damage_in,
};
use crate::tally::Tally;

use super::codec;
use super::log::Committed;
use super::states::States;
use super::types::{ApplyResult, Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, Types};

/// Entries that one batch of the state machine takes at most.
const CHUNK_ENTRIES: usize = 64;
/// Bytes of entries that one batch of the state machine takes at most, but never less than one.
const CHUNK_BYTES: usize = 1 << 20;

const _: () = assert!(CHUNK_ENTRIES <= DIGESTS_KEPT, "the digests of one batch are all remembered");

/// Up to so many bytes of entries are applied where the task runs: far less than a heartbeat's time. For
/// more the runtime is told that its thread is busy, which costs a thread's way there and back.
const QUICK_BYTES: usize = 64 << 10;

/// Data of a snapshot, by where it comes from.
#[derive(Debug)]
pub(super) enum SnapshotData {
    /// Known to exist, not read.
    Meta,
    /// Read out of this node's store.
    Out(Box<ChunkReader>),
    /// Written beside the live state, complete and checked.
    In(Box<Incoming>),
}

/// Where the state machine stands, for those who wait for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Index of the last applied entry; `None` before the first.
    pub index: Option<u64>,
    /// Final stamp of the last applied entry.
    pub stamp: Hlc,
}

/// Digests of the state after its last entries, the newest last.
#[derive(Debug, Clone, Default)]
pub(super) struct Digests(Arc<Mutex<VecDeque<(u64, Hash)>>>);

impl Digests {
    /// All that are remembered: index of an entry, and the digest after it.
    pub(super) fn list(&self) -> Vec<(u64, Hash)> {
        self.0.lock().iter().copied().collect()
    }

    fn push(&self, new: impl IntoIterator<Item = (u64, Hash)>) {
        let mut kept = self.0.lock();
        for (index, digest) in new {
            let before = kept.back().map(|(index, _)| *index);
            assert!(before < Some(index), "a digest after entry {index} behind {before:?}");
            kept.push_back((index, digest));
        }
        let surplus = kept.len().saturating_sub(DIGESTS_KEPT);
        kept.drain(..surplus);
        assert!(kept.len() <= DIGESTS_KEPT, "{} digests", kept.len());
    }

    /// Begins anew: the state came from elsewhere.
    fn restart(&self, store: &Store) -> Result<(), StoreError> {
        let stats = stats(store)?;
        self.0.lock().clear();
        // Before the first entry there is nothing to compare.
        if stats.last_stamp > Hlc::ZERO {
            self.push([(stats.index, stats.digest)]);
        }
        Ok(())
    }
}

/// The engine's state machine.
pub(super) struct StateMachine {
    store: Store,
    applied: AppliedState,
    /// What the last machine left, if that is what the store holds.
    carried: Option<Carried>,
    progress: watch::Sender<Progress>,
    members_epoch: watch::Sender<u64>,
    ratcheted: Arc<AtomicU64>,
    digests: Digests,
    states: States,
    committed: Committed,
    stages: Stages,
    tally: Tally,
    /// Whether an entry must be in the log before it is applied: always, but in the engine's own
    /// test suite, which feeds the state machine without a log.
    log_first: bool,
}

/// What some entries come to.
struct Decided {
    results: Vec<ApplyResult>,
    /// `None` if all of them were applied before.
    written: Option<Written>,
    carried: Carried,
    /// Place of each, and the digest behind it.
    digests: Vec<(LogMark, Hash)>,
}

/// What is to be written of it, and where the machine then stands.
struct Written {
    applying: Applying,
    applied: AppliedState,
    stamp: Hlc,
    ratcheted: u64,
    members_epoch: u64,
    audit: Option<AuditPace>,
}

/// What others may know of the state machine.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    /// Where it stands.
    pub progress: watch::Receiver<Progress>,
    /// Version of the table of nodes. It stands in every answer, so nobody reads the store for it.
    pub members_epoch: watch::Receiver<u64>,
    /// How many stamps had to be raised at apply; expected to stay 0.
    pub ratcheted: Arc<AtomicU64>,
    /// What was applied.
    pub tally: Tally,
    /// What it was like after each of its last entries.
    pub digests: Digests,
    /// The same at places that all replicas share.
    pub states: States,
}

impl StateMachine {
    /// The state machine of a store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) fn new(
        store: Store,
        committed: Committed,
        stages: Stages,
    ) -> Result<(Self, Watch), StoreError> {
        let applied = store.applied()?;
        let stamp = last_stamp(&store)?;
        let progress =
            watch::Sender::new(Progress { index: applied.last.as_ref().map(|l| l.index), stamp });
        let members_epoch = watch::Sender::new(members_epoch(&store)?);
        let ratcheted = Arc::new(AtomicU64::new(0));
        let (digests, tally) = (Digests::default(), Tally::default());
        digests.restart(&store)?;
        let states = States::default();
        let watch = Watch {
            progress: progress.subscribe(),
            members_epoch: members_epoch.subscribe(),
            ratcheted: Arc::clone(&ratcheted),
            tally: tally.clone(),
            digests: digests.clone(),
            states: states.clone(),
        };
        let log_first = true;
        let this = Self {
            store,
            applied,
            carried: None,
            progress,
            members_epoch,
            ratcheted,
            digests,
            states,
            committed,
            stages,
            tally,
            log_first,
        };
        Ok((this, watch))
    }

    /// A state machine that is fed without a log.
    #[cfg(test)]
    pub(crate) fn without_log(store: Store) -> Result<Self, StoreError> {
        let (this, _) = Self::new(store, Committed::default(), Stages::default())?;
        Ok(Self { log_first: false, ..this })
    }

    fn last_index(&self) -> Option<u64> {
        self.applied.last.as_ref().map(|last| last.index)
    }

    /// Applies entries, up to one behind which all replicas read their states. Tells how many, and
    /// answers them.
    ///
    /// What each comes to follows from what is committed alone, so it is answered before its rows are
    /// written; who reads waits for them.
    fn apply_some(
        &mut self,
        entries: &[Entry],
        responders: &mut impl Iterator<Item = Option<ApplyResponder<Types>>>,
    ) -> Result<usize, io::Error> {
        let began = Instant::now();
        let Decided { results, written, carried, digests, .. } = self.decide(entries)?;
        let done = results.len();
        assert!(done > 0, "every call applies something");
        assert!(done <= entries.len(), "nothing is answered that was not handed over");
        let Some(written) = written else {
            // All of that was applied before.
            self.carried = Some(carried);
            answer(results, responders);
            return Ok(done);
        };
        let Written { applying, applied, stamp, ratcheted, members_epoch, audit } = written;
        let index = |applied: &AppliedState| applied.last.as_ref().map(|last| last.index);
        assert!(index(&applied) > index(&self.applied), "applied, and no further than before");
        let answering = self.store.answering(&applying);
        self.note_epoch(members_epoch);
        self.tally.count(results.iter().flat_map(|result| &result.outcomes));
        answer(results, responders);
        if let Some(applying) = self.store.apply_at_once(applying)? {
            in_place(|| self.store.apply_in_time(applying))?;
        }
        drop(answering);
        (self.applied, self.carried) = (applied, Some(carried));
        digests.iter().for_each(|(place, digest)| self.states.note_history(place, *digest));
        self.digests.push(digests.into_iter().map(|(place, digest)| (place.index, digest)));
        self.note(stamp, ratcheted);
        self.stages.took(Stage::Apply, began.elapsed());
        if let (Some(pace), Some(place)) = (audit, &self.applied.last) {
            self.states.read(&self.store, place, pace);
        }
        Ok(done)
    }

    /// What entries come to.
    fn decide(&mut self, entries: &[Entry]) -> Result<Decided, io::Error> {
        let view = self.store.at_hand();
        let mut machine = match self.carried.take() {
            Some(carried) => model::Machine::resume(&view, carried),
            None => model::Machine::new(&view).map_err(io::Error::other)?,
        };
        let mut results = Vec::with_capacity(entries.len());
        let mut digests = Vec::with_capacity(entries.len());
        let mut places = Vec::with_capacity(entries.len());
        let mut applied = self.applied.clone();
        let mut audit = None;
        for entry in entries {
            if audit.is_some() {
                break;
            }
            let id = entry.log_id();
            // After a crash, entries whose effects survived are handed over again.
            if let Some(last) = applied.last.as_ref().filter(|last| last.index >= id.index()) {
                self.check_applied(last, &id)?;
                results.push(ApplyResult::default());
                continue;
            }
            let batch = match &entry.payload {
                EntryPayload::Normal(payload) => {
                    Some(Batch::decode_shared(payload.shared()).map_err(io::Error::other)?)
                }
                EntryPayload::Blank => None,
                EntryPayload::Membership(membership) => {
                    if !planted::is(Bug::MembershipNotInState) {
                        applied.membership = codec::encode_membership(membership);
                    }
                    applied.membership_at = Some(mark(&id, Vec::new()));
                    None
                }
            };
            let batch = batch.filter(|_| !self.is_left_out(id.index()));
            let term = id.committed_leader_id().term;
            self.assert_next(applied.last.as_ref(), id.index(), term);
            let outcomes = machine.apply(id.index(), term, batch.as_ref());
            let outcomes = outcomes.map_err(|error| self.cannot_apply(error))?;
            results.push(ApplyResult { outcomes });
            let place = self.place(&id, &mut places)?;
            digests.push((place.clone(), machine.digest()));
            applied.last = Some(place);
            audit = batch.as_ref().and_then(Batch::asks_for_audit);
        }
        let (ratcheted, stamp) = (machine.ratcheted(), machine.last_stamp());
        let members_epoch = machine.members_epoch();
        let (changes, carried) = machine.finish();
        let mut written = None;
        if applied != self.applied {
            let applying = self.store.applying(changes, &applied, &places)?;
            written = Some(Written { applying, applied, stamp, ratcheted, members_epoch, audit });
        }
        Ok(Decided { results, written, carried, digests })
    }

    /// No entry, but for a bug.
    fn is_left_out(&self, index: u64) -> bool {
        let id = self.store.identity().raft_id;
        planted::is(Bug::ApplyByNode) && index.is_multiple_of(20) && id.is_multiple_of(2)
    }

    /// Only what is committed is applied, and in the order of the log.
    fn assert_next(&self, last: Option<&LogMark>, index: u64, term: u64) {
        let last_term = last.map_or(0, |last| last.term);
        assert!(last_term <= term, "entry {index} of term {term} after one of term {last_term}");
        let committed = self.committed.load(Ordering::Relaxed);
        assert!(
            !self.log_first || index < committed,
            "entry {index}, committed before {committed}"
        );
    }

    /// The place of an entry that is applied, as the log has it; it is added to `places`.
    fn place(&self, id: &LogId, places: &mut Vec<Place>) -> Result<LogMark, io::Error> {
        if !self.log_first {
            return Ok(mark(id, Vec::new()));
        }
        let place = self.store.logged(id.index())?;
        assert_eq!(place.index, id.index(), "the log gave the place of another entry");
        if place.term != id.committed_leader_id().term {
            return Err(self.contradicted(id.index(), id.committed_leader_id().term, place.term));
        }
        places.push(place);
        Ok(place.into())
    }

    /// Whether an entry that is handed over once more is the one that was applied. The chain hash at
    /// the last applied entry speaks for all before it.
    fn check_applied(&self, last: &LogMark, again: &LogId) -> Result<(), io::Error> {
        if !self.log_first || last.hash.is_empty() || again.index() < self.store.range().0 {
            return Ok(());
        }
        let term = again.committed_leader_id().term;
        let logged = LogMark::from(self.store.logged(again.index())?);
        if logged.term != term {
            return Err(self.contradicted(again.index(), term, logged.term));
        }
        if last.index == again.index() && (last.term != term || last.hash != logged.hash) {
            return Err(self.contradicted(again.index(), term, last.term));
        }
        Ok(())
    }

    /// An entry is not the one that this node holds at its place, which is settled.
    fn contradicted(&self, index: u64, term: u64, held: u64) -> io::Error {
        let found =
            format!("entry {index} is of term {term}, and the one that is held of term {held}");
        self.store.note_damage(DamageKind::Contradicted, &found);
        StoreError::Damaged(found).into()
    }

    /// Notes what an error of the model says of this node's state.
    fn cannot_apply(&self, error: ApplyError) -> io::Error {
        match &error {
            ApplyError::State(_) => {}
            // The entry is committed: then it is the state that it does not follow.
            ApplyError::Order { .. } | ApplyError::Stamp { .. } => {
                self.store.note_damage(DamageKind::Contradicted, &error);
            }
        }
        io::Error::other(error)
    }

    fn note(&self, stamp: Hlc, ratcheted: u64) {
        let index = self.last_index();
        if ratcheted > 0 {
            self.ratcheted.fetch_add(ratcheted, Ordering::Relaxed);
            tracing::warn!(ratcheted, up_to_index = index, "stamps were raised at apply");
        }
        let before = *self.progress.borrow();
        assert!(index >= before.index, "applied up to {index:?} after {before:?}");
        assert!(stamp >= before.stamp, "the last stamp is {stamp} after {before:?}");
        if let Some(index) = index {
            self.store.set_applied(index + 1);
        }
        self.progress.send_replace(Progress { index, stamp });
    }

    fn note_epoch(&self, members_epoch: u64) {
        self.members_epoch.send_if_modified(|last| {
            assert!(*last <= members_epoch, "epoch {members_epoch} of the members after {last}");
            std::mem::replace(last, members_epoch) != members_epoch
        });
    }

    fn meta(applied: &AppliedState) -> Result<SnapshotMeta, io::Error> {
        let last_membership = codec::applied_membership(applied).map_err(io::Error::other)?;
        Ok(SnapshotMeta {
            last_log_id: applied.last.as_ref().map(codec::mark_log_id),
            last_membership,
        })
    }
}

/// Gives each who waits what its entry came to. None of them may look at the state before it returns.
fn answer(
    results: Vec<ApplyResult>,
    responders: &mut impl Iterator<Item = Option<ApplyResponder<Types>>>,
) {
    for result in results {
        if let Some(responder) = responders.next().flatten() {
            responder.send(result);
        }
    }
}

fn mark(id: &LogId, hash: Vec<u8>) -> LogMark {
    LogMark { index: id.index(), term: id.committed_leader_id().term, hash }
}

/// Version of the table of nodes in a store.
fn members_epoch(store: &Store) -> Result<u64, StoreError> {
    let view = store.snapshot()?;
    view.judged(model::query::members_epoch(&view))
}

/// Final stamp of the last applied entry of a store.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn last_stamp(store: &Store) -> Result<Hlc, StoreError> {
    Ok(stats(store)?.last_stamp)
}

fn stats(store: &Store) -> Result<model::Stats, StoreError> {
    let view = store.snapshot()?;
    view.judged(model::query::stats(&view))
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let membership = codec::applied_membership(&self.applied).map_err(io::Error::other)?;
        Ok((self.applied.last.as_ref().map(codec::mark_log_id), membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        loop {
            let (mut chunk, mut responders) = (Vec::new(), Vec::new());
            let mut bytes = 0;
            while chunk.len() < CHUNK_ENTRIES && bytes < CHUNK_BYTES {
                let Some(next) = entries.next().await else { break };
                let (entry, responder) = next?;
                if let EntryPayload::Normal(payload) = &entry.payload {
                    bytes += payload.batch().len();
                }
                chunk.push(entry);
                responders.push(responder);
            }
            if chunk.is_empty() {
                return Ok(());
            }
            let (mut responders, mut left) = (responders.into_iter(), &chunk[..]);
            while !left.is_empty() {
                let mut apply = || self.apply_some(left, &mut responders);
                let done = if bytes > QUICK_BYTES { in_place(apply) } else { apply() };
                let done = done.inspect_err(|error| {
                    if let Some(found) = damage_in(error) {
                        self.store.note_damage(DamageKind::Corrupt, found);
                    }
                })?;
                left = left.get(done..).unwrap_or_default();
            }
            assert!(responders.next().is_none(), "each entry has one answer");
        }
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(Builder { store: self.store.clone() })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { store: self.store.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let incoming = match snapshot {
            SnapshotData::In(incoming) => incoming,
            SnapshotData::Out(reader) => Box::new(copy(&self.store, *reader).await?),
            SnapshotData::Meta => {
                return Err(io::Error::other("a snapshot without data cannot be installed"));
            }
        };
        let applied = incoming.head.applied.clone().unwrap_or_default();
        let found = applied.last.as_ref().map(codec::mark_log_id);
        if found != meta.last_log_id {
            return Err(io::Error::other(format!("a snapshot of {found:?} announced as {meta}")));
        }
        self.store.flip(*incoming).await?;
        assert_eq!(self.store.applied()?.last, applied.last, "the state is not the snapshot's");
        (self.applied, self.carried) = (applied, None);
        self.digests.restart(&self.store)?;
        self.note_epoch(members_epoch(&self.store)?);
        self.note(last_stamp(&self.store)?, 0);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        if self.applied.last.is_none() {
            return Ok(None);
        }
        let reader = self.store.read_out().await?;
        let applied = reader.head.applied.clone().unwrap_or_default();
        Ok(Some(Snapshot {
            meta: Self::meta(&applied)?,
            snapshot: SnapshotData::Out(reader.into()),
        }))
    }
}

/// Writes a snapshot of this node's own store back into it.
async fn copy(store: &Store, mut reader: ChunkReader) -> Result<Incoming, io::Error> {
    let mut incoming = store.write_in(reader.head.clone())?;
    while let Some(chunk) = reader.next().await {
        incoming.push(&chunk?)?;
    }
    Ok(incoming)
}

/// Makes a snapshot: it notes where the state machine stands, nothing is copied.
#[derive(Debug)]
pub(super) struct Builder {
    store: Store,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let head: SnapshotHead = self.store.head()?;
        let applied = head.applied.unwrap_or_default();
        Ok(Snapshot { meta: StateMachine::meta(&applied)?, snapshot: SnapshotData::Meta })
    }
}
