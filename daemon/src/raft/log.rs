//! The engine's log on our store.
//!
//! `append` runs inside the engine's core and never touches the disk: entries are queued in the
//! log, where they are read back, and the clock's floor is raised before it returns. So whatever a
//! later leader stamps on this node lies above everything in its log.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clock::Hlc;
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use proto::limits::APPEND_BYTES_MAX;
use proto::stage::Stage;
use tokio::time::Instant;

use crate::stages::Stages;
use crate::store::format::LogEntry;
use crate::store::{DamageKind, Store, StoreError, Writer};
use planted::Bug;

use super::ballots::Ballots;
use super::codec;
use super::types::{Entry, LogId, Types, Vote};

/// Appends whose commit is waited for to be timed: more than are under way where anything works.
const APPENDED_KEPT: usize = 1024;

/// Told the highest stamp of every accepted entry.
pub type Observe = Arc<dyn Fn(Hlc) + Send + Sync>;

/// The engine's handle to the log. Cheap to clone.
#[derive(Clone)]
pub(super) struct LogStore {
    store: Store,
    writer: Writer,
    shared: Arc<Shared>,
}

/// One past the highest entry that this node knows to be committed. Shared with the state machine, which
/// applies none beyond it.
pub(super) type Committed = Arc<AtomicU64>;

struct Shared {
    observe: Observe,
    /// The stamp that the log's last entry will have when it is applied.
    last_stamp: Mutex<Hlc>,
    vote: Mutex<Option<Vote>>,
    ballots: Arc<Ballots>,
    committed: Committed,
    stages: Stages,
    /// The last entries of the appends that are not known to be committed, with the time of each.
    appended: Mutex<VecDeque<(u64, Instant)>>,
}

/// The highest stamp that log and state of a store hold, or a little more; what was cut off the log
/// does not count.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn highest_stamp(store: &Store) -> Result<Hlc, StoreError> {
    // In this order: what is applied in between is counted twice, and never left out.
    let next = store.applied()?.last.map_or(0, |last| last.index + 1);
    let last_stamp = super::machine::last_stamp(store)?;
    let log = LogStore::with(store.clone(), last_stamp, Arc::new(|_| {}))?;
    log.note_from(next)?;
    Ok(log.last_stamp())
}

impl LogStore {
    /// A log on a store whose state machine stands at `last_stamp`. What the log holds beyond the
    /// machine is observed at once.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) fn new(store: Store, last_stamp: Hlc, observe: Observe) -> Result<Self, StoreError> {
        let next = store.applied()?.last.map_or(0, |last| last.index + 1);
        let this = Self::with(store, last_stamp, observe)?;
        this.note_from(next)?;
        this.tell_stamp();
        Ok(this)
    }

    fn with(store: Store, last_stamp: Hlc, observe: Observe) -> Result<Self, StoreError> {
        let writer = store.writer()?;
        let vote = store.vote().map(codec::vote);
        let (last_stamp, vote) = (Mutex::new(last_stamp), Mutex::new(vote));
        let ballots = Arc::new(Ballots::new(writer.clone()));
        let committed = Committed::default();
        let (stages, appended) = (writer.stages().clone(), Mutex::default());
        let shared = Shared { observe, last_stamp, vote, ballots, committed, stages, appended };
        Ok(Self { store, writer, shared: Arc::new(shared) })
    }

    /// What votes cost here, and whether one is out.
    pub(super) fn ballots(&self) -> Arc<Ballots> {
        Arc::clone(&self.shared.ballots)
    }

    /// How far the log is known to be committed, as it grows.
    pub(super) fn committed(&self) -> Committed {
        Arc::clone(&self.shared.committed)
    }

    /// How long the stages of a message's way take here.
    pub(super) fn stages(&self) -> &Stages {
        &self.shared.stages
    }

    /// Notes the stamps of all entries from this index on.
    fn note_from(&self, mut next: u64) -> Result<(), StoreError> {
        loop {
            let entries = self.store.entries(next, u64::MAX, APPEND_BYTES_MAX)?;
            let Some(last) = entries.last() else { break };
            next = last.index + 1;
            for stored in entries {
                let entry = codec::entry(stored);
                self.note_stamp(&entry.map_err(|error| StoreError::Damaged(error.to_string()))?);
            }
        }
        Ok(())
    }

    /// Moves the last stamp on as the state machine will when it applies the entry.
    fn note_stamp(&self, entry: &Entry) {
        let mut last = self.shared.last_stamp.lock();
        let before = *last;
        *last = match &entry.payload {
            EntryPayload::Normal(payload) => match model::stamps_of(payload.batch()) {
                Ok((base, count)) => {
                    base.hlc.max(last.succ()).advance(u64::from(count.saturating_sub(1)))
                }
                // Apply will stop the node on it; the order must not depend on this node alone.
                Err(_) => last.succ(),
            },
            EntryPayload::Blank | EntryPayload::Membership(_) => last.succ(),
        };
        assert!(*last >= before, "the stamps of the log went back from {before} to {last}");
    }

    fn last_stamp(&self) -> Hlc {
        *self.shared.last_stamp.lock()
    }

    fn tell_stamp(&self) {
        if planted::is(Bug::FloorNotRaised) {
            return;
        }
        let mut stamp = self.last_stamp();
        if planted::is(Bug::FloorWithoutLogical) {
            stamp.logical = 0;
        }
        (self.shared.observe)(stamp);
    }

    fn cached_vote(&self) -> Option<Vote> {
        *self.shared.vote.lock()
    }

    fn note_committed(&self, committed: Option<&LogId>) {
        let Some(committed) = committed else { return };
        self.shared.committed.fetch_max(committed.index() + 1, Ordering::Relaxed);
        let mut appended = self.shared.appended.lock();
        while let Some((_, at)) = appended.front().filter(|(last, _)| *last <= committed.index()) {
            self.shared.stages.took(Stage::Quorum, at.elapsed());
            appended.pop_front();
        }
    }

    /// Whether the log may be cut behind this entry: nothing that is settled may go, and the entry
    /// that stays must be the one that the primary means.
    fn check_cut(&self, keeps: Option<&LogId>) -> Result<u64, StoreError> {
        let end = keeps.map_or(0, |last| last.index() + 1);
        let settled = self.shared.committed.load(Ordering::Relaxed).max(self.store.applied_end());
        let refuse = |found: String| {
            self.store.note_damage(DamageKind::Contradicted, &found);
            Err(StoreError::Damaged(found))
        };
        let settled = if planted::is(Bug::CutBelowCommitted) { 0 } else { settled };
        if end < settled || end < self.store.range().0 {
            // No damage: this node may hold what was acknowledged, and the primary not.
            let last = settled.saturating_sub(1);
            let found = format!(
                "the primary wants the log to end before entry {end}, but everything up to {last} \
                 is committed here"
            );
            self.store.note_two_histories(found.clone());
            return Err(StoreError::TwoHistories(found));
        }
        let Some(keeps) = keeps else { return Ok(end) };
        let log_end = self.store.range().1;
        if end > log_end {
            // Nothing lies there to be cut.
            return Ok(log_end);
        }
        let held = match self.store.entries(keeps.index(), end, usize::MAX)?.pop() {
            Some(entry) => Some(entry.term),
            None => self.store.floor().filter(|f| f.index == keeps.index()).map(|f| f.term),
        };
        let term = keeps.committed_leader_id().term;
        if held != Some(term) {
            return refuse(format!(
                "the log would be cut after entry {} of term {term}, but it holds {held:?} there",
                keeps.index()
            ));
        }
        Ok(end)
    }

    fn read(&self, from: u64, to: u64, bytes: usize) -> Result<Vec<Entry>, io::Error> {
        let stored = self.store.entries(from, to, bytes)?;
        if let (Some(first), Some(last)) = (stored.first(), stored.last()) {
            assert!(from <= first.index && last.index < to, "entries beyond what was asked for");
        }
        assert_in_order(&stored);
        stored.into_iter().map(|entry| codec::entry(entry).map_err(io::Error::other)).collect()
    }
}

/// What stands in the log one after the other has no gap, and no term before that of its predecessor.
fn assert_in_order(entries: &[LogEntry]) {
    for (before, after) in entries.iter().zip(entries.iter().skip(1)) {
        assert_eq!(after.index, before.index + 1, "a gap in the log");
        assert!(after.term >= before.term, "the terms of the log went back at {}", after.index);
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.cached_vote())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, APPEND_BYTES_MAX)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let floor = self.store.floor().as_ref().map(codec::mark_log_id);
        let (first, end) = self.store.range();
        let last = match self.read(end.saturating_sub(1).max(first), end, usize::MAX)?.pop() {
            Some(entry) => Some(entry.log_id()),
            None => floor,
        };
        assert!(floor <= last, "the log is purged up to {floor:?} and ends at {last:?}");
        Ok(LogState { last_purged_log_id: floor, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let before = self.cached_vote();
        assert!(before.is_none_or(|before| *vote >= before), "{vote} after {before:?}");
        self.shared.ballots.note(vote);
        self.writer.vote(codec::stored_vote(vote)).await?;
        *self.shared.vote.lock() = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut stored = Vec::new();
        for entry in entries {
            self.note_stamp(&entry);
            stored.push(codec::stored_entry(&entry));
        }
        assert_in_order(&stored);
        // Before the engine may act on the entries: what is stamped here next lies above them.
        self.tell_stamp();
        if stored.is_empty() {
            callback.io_completed(Ok(()));
            return Ok(());
        }
        let now = Instant::now();
        if let Some(last) = stored.last() {
            let mut appended = self.shared.appended.lock();
            appended.truncate(APPENDED_KEPT - 1);
            appended.push_back((last.index, now));
        }
        let shared = Arc::clone(&self.shared);
        let done = move |result: Result<(), StoreError>| {
            shared.stages.took(Stage::Log, now.elapsed());
            callback.io_completed(result.map_err(io::Error::from));
        };
        self.writer.append(stored, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let end = self.check_cut(last_log_id.as_ref())?;
        let applied = self.store.applied_end().min(self.store.range().1);
        assert!(end >= applied, "what is applied, up to {applied}, would be cut from {end} on");
        self.shared.appended.lock().retain(|(last, _)| *last < end);
        Ok(self.writer.truncate(end)?)
    }

    /// What was known once a second before the last end, if the log holds it. A start applies up to
    /// there by itself: the state on the disk is older, and so are the certificates that it has revoked.
    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        if planted::is(Bug::CommittedOverstated) {
            let last = self.get_log_state().await?.last_log_id;
            self.note_committed(last.as_ref());
            return Ok(last);
        }
        let Some(noted) = self.store.noted_committed() else { return Ok(None) };
        let held = self.store.place_at(noted.index)?;
        let held = held.filter(|held| *held == noted);
        let held = held.as_ref().map(codec::mark_log_id);
        self.note_committed(held.as_ref());
        Ok(held)
    }

    /// Kept in memory, for [`Self::truncate_after`].
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.note_committed(committed.as_ref());
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        Ok(self.writer.purge(log_id.index())?)
    }
}
