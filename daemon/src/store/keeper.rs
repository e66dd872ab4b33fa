//! What is done beside the way of a write: flushing the state, purging the log behind that, making
//! segments ready, and noting in the watermark file what is durable.
//!
//! Invariant: the log is purged only as far as the state on the disk holds what its entries did.

use std::sync::Arc;
use std::time::Duration;

use log::{Mark, Upkeep};
use planted::Bug;

use super::db::{Batch, Database};
use super::format::{AppliedState, LogMark, encode, encode_place};
use super::keys::{self, META, MetaKind, PLACES, STATE};
use super::workers::{Worker, Workers};
use super::writer::{Done, Shared, answer, stands_at};
use super::{RaftLog, SHARD, StoreError};

/// Between two looks at what is to be done, without being told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The state is flushed after so many entries, or bytes: a start applies at most that much again.
pub(super) const FLUSH_ENTRIES: u64 = 65_536;
pub(super) const FLUSH_BYTES: usize = 16 << 20;
/// Places of applied entries that are kept when the log is purged: with them a node that was away is
/// compared, before it takes a snapshot. About 60 bytes each.
const PLACES_KEPT: u64 = 1_000_000;
/// A rest after each piece of a segment that is made, so that writes come in between.
const PACE: Duration = Duration::from_millis(1);

/// What the keeper is asked for.
pub(super) enum Task {
    /// A look at what is to be done.
    Look,
    /// Make a generation the live one, with what it holds applied.
    Flip(u32, Box<AppliedState>, Done),
    /// Everything that was asked for, now.
    Settle(Done),
    /// The end.
    Close,
}

impl Task {
    pub(super) fn refuse(self, why: &str) {
        match self {
            Self::Look | Self::Close => {}
            Self::Flip(_, _, done) | Self::Settle(done) => {
                done(Err(StoreError::Stopped(why.to_owned())));
            }
        }
    }
}

pub(super) struct Keeper {
    log: RaftLog,
    db: Arc<Database>,
    shared: Arc<Shared>,
    /// The group of the log that the watermark file tells of.
    noted: u64,
    /// What it is asked for now, and what came of it.
    task: Option<Task>,
    done: Option<Done>,
    result: Result<(), StoreError>,
    closes: bool,
}

impl Worker<Task> for Keeper {
    fn patience(&self) -> Option<Duration> {
        Some(LOOK_EVERY)
    }

    fn take(&mut self, first: Option<Task>, _: &mut dyn Iterator<Item = Task>) {
        self.task = Some(first.unwrap_or(Task::Look));
    }

    fn work(&mut self) {
        (self.result, self.done) = match self.task.take() {
            None => (Ok(()), None),
            Some(Task::Look) => (self.look(), None),
            Some(Task::Flip(generation, applied, done)) => {
                (self.flip(generation, &applied), Some(done))
            }
            Some(Task::Settle(done)) => (self.settle(), Some(done)),
            Some(Task::Close) => {
                self.closes = true;
                (self.settle(), None)
            }
        };
    }

    fn answer(&mut self) -> bool {
        if let Err(error) = &self.result {
            self.shared.fail(error);
        }
        if let Some(done) = self.done.take() {
            answer(done, self.result.as_ref().map(drop));
        }
        self.closes || self.result.is_err()
    }

    fn refuse(&mut self, late: Task) {
        late.refuse(&self.shared.why_stopped());
    }
}

impl Keeper {
    pub(super) fn new(log: RaftLog, db: Arc<Database>, shared: Arc<Shared>) -> Self {
        let (task, done, result) = (None, None, Ok(()));
        Self { log, db, shared, noted: 0, task, done, result, closes: false }
    }

    fn look(&mut self) -> Result<(), StoreError> {
        self.shared.looked();
        self.make_ready();
        if self.shared.wants_flush() {
            self.flush_state()?;
        }
        self.purge()?;
        self.make_ready();
        self.note()
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        if !planted::is(Bug::PurgeBeforeFlush) {
            self.flush_state()?;
        }
        self.purge()?;
        self.log.mark()?;
        self.log.flush()?;
        self.note()
    }

    /// Moves the state to the disk.
    fn flush_state(&mut self) -> Result<(), StoreError> {
        self.shared.begin_flush();
        // What comes in between is flushed and does not count yet.
        let live = super::live_generation(&self.db, SHARD)?;
        let applied = stands_at(&super::read_applied(&self.db, SHARD, live)?)?;
        let sequence = self.db.sequence();
        self.db.flush()?;
        if let Some(place) = applied {
            self.shared.set_flushed(place.index + 1);
        }
        self.shared.evidence().update(|content| {
            content.db_sequence = content.db_sequence.max(sequence);
        })
    }

    /// Purges the log as far as the engine wants and the state on the disk allows.
    fn purge(&mut self) -> Result<(), StoreError> {
        let to = match planted::is(Bug::PurgeBeforeFlush) {
            true => self.shared.purge_target(),
            false => self.shared.purge_target().min(self.shared.flushed()),
        };
        let purged = self.log.floor(SHARD).map_or(0, |floor| floor.index + 1);
        let Some(last) = to.checked_sub(1).filter(|_| to > purged) else { return Ok(()) };
        let place = self.shared.noted(self.log.place_at(SHARD, last))?;
        let missing = || StoreError::Damaged(format!("log entry {last} is missing"));
        self.log.purge_to(SHARD, place.ok_or_else(missing)?)?;
        self.log.flush()?;
        let Some(kept) = to.checked_sub(PLACES_KEPT).filter(|kept| *kept > 0) else {
            return Ok(());
        };
        let mut batch = Batch::default();
        let (from, to) = (keys::entry(SHARD, 0), keys::entry(SHARD, kept));
        batch.delete_range(PLACES, from, to);
        self.db.write(batch)
    }

    /// Makes the next segment ready where it is time for that, and clears away what is purged. A disk
    /// that refuses is met again by whoever needs one.
    fn make_ready(&self) {
        let rest = match self.shared.workers() {
            Workers::Threads => || std::thread::sleep(PACE),
            Workers::Tasks(_) => || {},
        };
        while self.log.wants_upkeep() {
            match self.log.upkeep(&mut |_| rest()) {
                Ok(Upkeep::Nothing) => return,
                Ok(Upkeep::Made | Upkeep::Reused | Upkeep::Removed) => {}
                Err(error) => {
                    tracing::warn!(%error, "the next segment of the log cannot be made now");
                    return;
                }
            }
        }
    }

    /// Notes what is durable, unless that is noted already.
    fn note(&mut self) -> Result<(), StoreError> {
        let durable = self.log.durable();
        if durable.mark.group == self.noted {
            return Ok(());
        }
        let live = super::live_generation(&self.db, SHARD)?;
        let applied = super::read_applied(&self.db, SHARD, live)?.last;
        let end = durable.mark.shard(SHARD).and_then(|mark| mark.last);
        let committed = applied.filter(|last| end.is_some_and(|end| last.index <= end.index));
        let mut mark = Mark::clone(&durable.mark);
        if planted::is(Bug::WatermarkAhead) {
            mark.group += 1;
        }
        self.shared.evidence().advance(&mark, committed, 0)?;
        self.noted = durable.mark.group;
        Ok(())
    }

    fn flip(&mut self, generation: u32, applied: &AppliedState) -> Result<(), StoreError> {
        // A truncation that goes before it must not be lost behind it.
        self.log.flush()?;
        let mut batch = Batch::default();
        let key = keys::meta(SHARD, MetaKind::Generation);
        batch.put(META, key, generation.to_be_bytes());
        let prefix = keys::generation(SHARD, generation);
        let key = keys::state(prefix, super::APPLIED_TABLE, b"");
        batch.put(STATE, key, encode(applied));
        if let Some(place) = stands_at(applied)? {
            let key = keys::entry(SHARD, place.index);
            batch.put(PLACES, key, encode_place(&place));
        }
        // Whether the log is cut, and where, is the engine's decision: it purges next.
        self.db.write(batch)?;
        if planted::is(Bug::SnapshotFlipNotFlushed) {
            self.shared.set_flushed(applied.last.as_ref().map_or(0, |last| last.index + 1));
            return Ok(());
        }
        self.flush_state()
    }
}

/// The last place that was noted as applied and durable.
pub(super) fn noted_committed(shared: &Shared) -> Option<LogMark> {
    shared.evidence().content().committed
}
