//! One pipeline of two threads between the engine and the disk.
//!
//! ```text
//! append, vote, truncate, purge, flip, ceiling
//!   -> queue -> WRITER: drain, one WriteBatch, write unsynced, publish `written`
//!            -> SYNC:   one sync for all groups written so far, watermark, answers in order
//! ```
//!
//! While one sync runs, the writer goes on; the next sync covers all of that. This is the whole
//! group commit; there is no timer. The queue keeps call order: a vote and the log never overtake
//! each other. A truncation is a group of its own, with the watermark lowered before it: otherwise
//! a crash in between would look like lost entries.
//!
//! The first error of a write, a sync or the watermark fails every waiter, now and later, and ends
//! the process; a sync is never tried again, because a failed one marks pages clean.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use clock::Hlc;
use parking_lot::{Mutex, MutexGuard};
use rocksdb::WriteBatch;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::StoreError;
use super::db::Database;
use super::evidence::Evidence;
use super::format::{AppliedState, LogEntry, LogMark, Vote, encode};
use super::keys::{self, LOG, META, MetaKind, STATE};
use super::sync_times::SyncTimes;
use super::watermark::{Damage, DamageKind, ShardMark, Watermark};

/// Bytes that one write batch may take before the writer stops draining.
const GROUP_BYTES: usize = 4 << 20;

/// Entries whose chain hashes are kept when they are purged: with them a node that was away is
/// compared, before it takes a snapshot. About 50 bytes each.
const CHAIN_KEPT: u64 = 1_000_000;

/// Told when an operation is durable, or failed for good.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What the writer is asked to do.
pub enum Op {
    /// Append log entries.
    Append(u16, Vec<LogEntry>),
    /// Save a vote.
    Vote(u16, Vote),
    /// Remove log entries from this index on.
    Truncate(u16, u64),
    /// Remove log entries up to and with this one.
    Purge(u16, u64, u64),
    /// Make a generation the live one, with what it holds applied.
    Flip(u16, u32, Box<AppliedState>),
    /// Put the ceiling of stamps there.
    Ceiling(Hlc),
    /// Nothing; done once everything before is durable.
    Barrier,
    /// The end: what comes later is refused.
    Close,
}

impl Op {
    fn bytes(&self) -> usize {
        match self {
            Self::Append(_, entries) => entries.iter().map(|e| e.payload.len() + 64).sum(),
            _ => 64,
        }
    }

    /// Whether it must be written alone, after everything before it is durable.
    fn is_alone(&self) -> bool {
        matches!(self, Self::Truncate(..) | Self::Flip(..) | Self::Purge(..) | Self::Close)
    }
}

/// Hands work to the pipeline. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<(Op, Done)>,
    shared: Arc<Shared>,
}

/// What the writer has written.
#[derive(Debug, Default)]
struct Written {
    /// One past the highest written index, per shard.
    ends: BTreeMap<u16, u64>,
    /// Truncations that are done.
    truncations: u64,
}

/// What the threads and their clients share.
struct Shared {
    written: watch::Sender<Written>,
    /// Truncations that were asked for. Until they are done, `written` still counts entries that
    /// are cut off, and whose indexes others take.
    truncations: AtomicU64,
    queued_bytes: AtomicUsize,
    drained: Notify,
    evidence: Arc<Evidence>,
    syncs: Mutex<SyncTimes>,
    /// What every shard has made durable.
    durable: Mutex<Vec<ShardMark>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("queued_bytes", &self.queued_bytes()).finish()
    }
}

impl Writer {
    /// Starts the two threads. `marks` is what the log holds durably now.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        db: Arc<Database>,
        evidence: Arc<Evidence>,
        marks: Watermark,
    ) -> Result<(Self, Vec<JoinHandle<()>>), StoreError> {
        let written = marks.shards.iter().filter_map(|mark| {
            let shard = u16::try_from(mark.shard).ok()?;
            Some((shard, mark.last.as_ref().map_or(0, |last| last.index + 1)))
        });
        let shared = Arc::new(Shared {
            written: watch::Sender::new(Written { ends: written.collect(), truncations: 0 }),
            truncations: AtomicU64::new(0),
            queued_bytes: AtomicUsize::new(0),
            drained: Notify::new(),
            evidence,
            syncs: Mutex::default(),
            durable: Mutex::new(marks.shards.clone()),
        });
        let (queue, ops) = mpsc::channel();
        let (groups_tx, groups) = mpsc::channel();
        let writer = WriterThread {
            db: Arc::clone(&db),
            shared: Arc::clone(&shared),
            ops,
            groups: groups_tx,
            marks,
            truncations: 0,
        };
        let sync = SyncThread { db, shared: Arc::clone(&shared), groups };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
            thread.map_err(StoreError::file(name))
        };
        let threads = vec![
            spawn("store-writer", Box::new(move || writer.run()))?,
            spawn("store-sync", Box::new(move || sync.run()))?,
        ];
        Ok((Self { queue, shared }, threads))
    }

    /// Queues an operation. Never blocks; `done` is called from the sync thread.
    pub fn submit(&self, op: Op, done: Done) {
        let bytes = op.bytes();
        if matches!(op, Op::Truncate(..)) {
            self.shared.truncations.fetch_add(1, Ordering::SeqCst);
        }
        self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Err(mpsc::SendError((_, done))) = self.queue.send((op, done)) {
            done(Err(StoreError::Stopped(self.failure())));
        }
    }

    /// Queues an operation and waits until it is durable.
    ///
    /// # Errors
    /// When the store failed; whether the operation is durable is then unknown.
    pub async fn run(&self, op: Op) -> Result<(), StoreError> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.submit(op, Box::new(move |result| drop(tx.send(result))));
        rx.await.unwrap_or_else(|_| Err(StoreError::Stopped(self.failure())))
    }

    /// Waits until the entry that the log now holds at `index` is written (not synced) to the
    /// database, and not one that a truncation, asked for before this call, has cut off.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn wait_written(&self, shard: u16, index: u64) -> Result<(), StoreError> {
        let mut written = self.shared.written.subscribe();
        let mut failed = self.failed();
        let truncations = self.shared.truncations.load(Ordering::SeqCst);
        let has = |written: &Written| {
            written.truncations >= truncations
                && written.ends.get(&shard).is_some_and(|end| *end > index)
        };
        tokio::select! {
            biased;
            result = written.wait_for(has) => {
                result.map(drop).map_err(|_| StoreError::Stopped(self.failure()))
            }
            _ = failed.wait_for(Option::is_some) => Err(StoreError::Stopped(self.failure())),
        }
    }

    /// What a shard has made durable, as the watermark has it.
    #[must_use]
    pub fn durable(&self, shard: u16) -> Option<ShardMark> {
        let durable = self.shared.durable.lock();
        durable.iter().find(|mark| mark.shard == u32::from(shard)).cloned()
    }

    /// Bytes that wait for the disk.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued_bytes.load(Ordering::Relaxed)
    }

    /// Waits until no more than `limit` bytes wait for the disk.
    pub async fn wait_drained(&self, limit: usize) {
        loop {
            let drained = self.shared.drained.notified();
            if self.queued_bytes() <= limit || self.shared.failure().is_some() {
                return;
            }
            drained.await;
        }
    }

    /// Why the store failed, as soon as it does.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.shared.evidence.failure()
    }

    /// How long the running sync has taken so far; `None` if none runs.
    #[must_use]
    pub fn sync_age(&self) -> Option<Duration> {
        self.shared.syncs().age(Instant::now())
    }

    /// How long a sync takes now, the running one included; `None` if there was none lately.
    #[must_use]
    pub fn sync_time(&self) -> Option<Duration> {
        self.shared.syncs().typical(Instant::now())
    }

    fn failure(&self) -> String {
        self.shared.failure().unwrap_or_else(|| "it is closed".to_owned())
    }
}

impl Shared {
    fn syncs(&self) -> MutexGuard<'_, SyncTimes> {
        self.syncs.lock()
    }

    /// Waiters are answered after this: where the process ends in it, they never are, and what they
    /// asked for is unknown.
    fn fail(&self, error: &StoreError) {
        if let StoreError::Damaged(found) = error {
            self.evidence.damaged(Damage::new(DamageKind::Corrupt, found));
        }
        self.evidence.failed(error);
        self.drained.notify_waiters();
    }

    fn failure(&self) -> Option<String> {
        self.evidence.failure().borrow().clone()
    }

    fn release(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.drained.notify_waiters();
    }
}

/// What goes from the writer to the sync thread.
struct Group {
    /// What is durable once this group is.
    marks: Watermark,
    done: Vec<Done>,
    bytes: usize,
    /// For a group that must be durable before the writer goes on.
    reached: Option<mpsc::Sender<()>>,
}

struct WriterThread {
    db: Arc<Database>,
    shared: Arc<Shared>,
    ops: mpsc::Receiver<(Op, Done)>,
    groups: mpsc::Sender<Group>,
    /// What the database holds, written but perhaps not yet durable.
    marks: Watermark,
    /// Truncations so far.
    truncations: u64,
}

impl WriterThread {
    fn run(mut self) {
        let mut held = None;
        while let Some(first) = held.take().or_else(|| self.ops.recv().ok()) {
            let last = matches!(first, (Op::Close, _));
            if let Err(error) = self.write_group(first, &mut held) {
                self.shared.fail(&error);
                break;
            }
            if last {
                break;
            }
        }
        // Dropping the receiver fails every later submit; those queued are failed here.
        let reason = self.shared.failure();
        if let Some(reason) = reason {
            let queued = held.into_iter().chain(self.ops.try_iter());
            for (_, done) in queued {
                done(Err(StoreError::Stopped(reason.clone())));
            }
        }
    }

    /// Writes one group that begins with `first`; an operation that must stand alone and came
    /// behind it is left in `held`.
    fn write_group(
        &mut self,
        first: (Op, Done),
        held: &mut Option<(Op, Done)>,
    ) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        let mut done = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some((op, callback)) = next {
            let alone = op.is_alone();
            if alone && !done.is_empty() {
                *held = Some((op, callback));
                break;
            }
            bytes += op.bytes();
            done.push(callback);
            if let Err(error) = self.add(op, &mut batch) {
                fail_all(done, &error);
                return Err(error);
            }
            if alone || bytes >= GROUP_BYTES {
                break;
            }
            next = self.ops.try_recv().ok();
        }
        if let Err(error) = self.db.write(batch) {
            fail_all(done, &error);
            return Err(error);
        }
        self.publish_written();
        self.send(Group { marks: self.marks.clone(), done, bytes, reached: None })
    }

    fn send(&self, group: Group) -> Result<(), StoreError> {
        self.groups.send(group).map_err(|mpsc::SendError(group)| {
            let reason = self.shared.failure().unwrap_or_default();
            for done in group.done {
                done(Err(StoreError::Stopped(reason.clone())));
            }
            StoreError::Stopped(reason)
        })
    }

    fn publish_written(&self) {
        self.shared.written.send_modify(|written| {
            written.truncations = self.truncations;
            for mark in &self.marks.shards {
                if let Ok(shard) = u16::try_from(mark.shard) {
                    written.ends.insert(shard, mark.last.as_ref().map_or(0, |last| last.index + 1));
                }
            }
        });
    }

    fn add(&mut self, op: Op, batch: &mut WriteBatch) -> Result<(), StoreError> {
        match op {
            Op::Append(shard, entries) => self.append(shard, &entries, batch),
            Op::Vote(shard, vote) => {
                let key = keys::meta(shard, MetaKind::Vote);
                batch.put_cf(self.db.family(META)?, key, encode(&vote));
                self.mark(shard).vote = Some(vote);
                Ok(())
            }
            Op::Truncate(shard, end) => self.truncate(shard, end, batch),
            Op::Purge(shard, index, term) => self.purge(shard, index, term, batch),
            Op::Flip(shard, generation, applied) => self.flip(shard, generation, &applied, batch),
            Op::Ceiling(ceiling) => {
                let key = keys::meta(0, MetaKind::Ceiling);
                batch.put_cf(self.db.family(META)?, key, ceiling.to_bytes());
                Ok(())
            }
            Op::Barrier | Op::Close => Ok(()),
        }
    }

    fn append(
        &mut self,
        shard: u16,
        entries: &[LogEntry],
        batch: &mut WriteBatch,
    ) -> Result<(), StoreError> {
        let mut chain = match &self.mark(shard).last {
            Some(last) => last.chain_hash()?,
            None => [0; 32],
        };
        for entry in entries {
            let last = self.mark(shard).last.as_ref().map(|last| last.index);
            if last.is_some_and(|last| last + 1 != entry.index) {
                let hole = format!("log entry {} after {last:?}", entry.index);
                return Err(StoreError::Damaged(hole));
            }
            chain = entry.chain(&chain);
            let key = keys::log(shard, entry.index);
            batch.put_cf(self.db.family(LOG)?, key, entry.encode(&chain));
            let bare = LogEntry { payload: Bytes::new(), ..*entry };
            let key = keys::chain(shard, entry.index);
            batch.put_cf(self.db.family(LOG)?, key, bare.encode(&chain));
            self.mark(shard).last =
                Some(LogMark { index: entry.index, term: entry.term, hash: chain.to_vec() });
        }
        Ok(())
    }

    /// Lowers the watermark to the new end, which the log must hold, and waits until that is durable, then removes.
    fn truncate(&mut self, shard: u16, end: u64, batch: &mut WriteBatch) -> Result<(), StoreError> {
        let last = match end.checked_sub(1) {
            Some(index) => Some(super::log::mark_in(&self.db, shard, index)?),
            None => None,
        };
        self.mark(shard).last = last;
        self.truncations += 1;
        let (reached, wait) = mpsc::channel();
        let marks = self.marks.clone();
        self.send(Group { marks, done: Vec::new(), bytes: 0, reached: Some(reached) })?;
        wait.recv().map_err(|_| StoreError::Stopped("lowering the watermark".to_owned()))?;
        let (from, to) = (keys::log(shard, end), keys::log(shard, u64::MAX));
        batch.delete_range_cf(self.db.family(LOG)?, from, to);
        self.forget_chain(shard, end, u64::MAX, batch)
    }

    fn purge(
        &mut self,
        shard: u16,
        index: u64,
        term: u64,
        batch: &mut WriteBatch,
    ) -> Result<(), StoreError> {
        let floor = match self.mark_at(shard, index)? {
            Some(mark) => mark,
            // Beyond the log's end: what an installed snapshot covers, whose hash it brought.
            None => self.applied_mark(shard, index, term)?,
        };
        let (from, to) = (keys::log(shard, 0), keys::log(shard, index + 1));
        batch.delete_range_cf(self.db.family(LOG)?, from, to);
        if let Some(end) = (index + 1).checked_sub(CHAIN_KEPT).filter(|end| *end > 0) {
            self.forget_chain(shard, 0, end, batch)?;
        }
        let key = keys::meta(shard, MetaKind::Floor);
        batch.put_cf(self.db.family(META)?, key, encode(&floor));
        let mark = self.mark(shard);
        if mark.last.as_ref().is_none_or(|last| last.index < floor.index) {
            mark.last = Some(floor);
        }
        Ok(())
    }

    fn flip(
        &mut self,
        shard: u16,
        generation: u32,
        applied: &AppliedState,
        batch: &mut WriteBatch,
    ) -> Result<(), StoreError> {
        // What is logged behind the old state may be of a history that the snapshot does not have.
        let live = super::live_generation(&self.db, shard)?;
        let before = super::read_applied(&self.db, shard, live)?.last;
        self.forget_chain(shard, before.map_or(0, |last| last.index + 1), u64::MAX, batch)?;
        let key = keys::meta(shard, MetaKind::Generation);
        batch.put_cf(self.db.family(META)?, key, generation.to_be_bytes());
        let prefix = keys::generation(shard, generation);
        let key = keys::state(prefix, super::APPLIED_TABLE, b"");
        batch.put_cf(self.db.family(STATE)?, key, encode(applied));
        // Whether the log is cut, and where, is the engine's decision: it purges next.
        Ok(())
    }

    /// Removes the chain hashes at `from..to`.
    fn forget_chain(
        &self,
        shard: u16,
        from: u64,
        to: u64,
        batch: &mut WriteBatch,
    ) -> Result<(), StoreError> {
        let (from, to) = (keys::chain(shard, from), keys::chain(shard, to));
        batch.delete_range_cf(self.db.family(LOG)?, from, to);
        Ok(())
    }

    /// The mark of an entry that the database holds, or of the purge floor.
    fn mark_at(&self, shard: u16, index: u64) -> Result<Option<LogMark>, StoreError> {
        if let Some(value) = self.db.get(LOG, &keys::log(shard, index))? {
            let (entry, hash) = LogEntry::decode(index, &value)?;
            return Ok(Some(LogMark { index, term: entry.term, hash: hash.to_vec() }));
        }
        let floor = super::log::floor(&self.db, shard)?;
        Ok(floor.filter(|floor| floor.index == index))
    }

    /// The mark that the applied state carries at this index.
    fn applied_mark(&self, shard: u16, index: u64, term: u64) -> Result<LogMark, StoreError> {
        let live = super::live_generation(&self.db, shard)?;
        let applied = super::read_applied(&self.db, shard, live)?;
        let mark = applied.last.filter(|last| last.index == index && last.term == term);
        mark.ok_or_else(|| StoreError::Damaged(format!("no hash for a purge to {index}")))
    }

    fn mark(&mut self, shard: u16) -> &mut ShardMark {
        let shard = u32::from(shard);
        let at = self.marks.shards.iter().position(|mark| mark.shard == shard);
        let at = at.unwrap_or_else(|| {
            self.marks.shards.push(ShardMark { shard, last: None, vote: None });
            self.marks.shards.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "found or pushed just above")]
        &mut self.marks.shards[at]
    }
}

fn fail_all(done: Vec<Done>, error: &StoreError) {
    for done in done {
        done(Err(StoreError::Stopped(error.to_string())));
    }
}

struct SyncThread {
    db: Arc<Database>,
    shared: Arc<Shared>,
    groups: mpsc::Receiver<Group>,
}

impl SyncThread {
    fn run(self) {
        while let Ok(first) = self.groups.recv() {
            let mut groups = vec![first];
            while groups.last().is_some_and(|group| group.reached.is_none()) {
                match self.groups.try_recv() {
                    Ok(group) => groups.push(group),
                    Err(_) => break,
                }
            }
            let result = self.make_durable(&groups);
            if let Err(error) = &result {
                self.shared.fail(error);
            }
            for group in groups {
                self.shared.release(group.bytes);
                match &result {
                    Ok(()) => group.done.into_iter().for_each(|done| done(Ok(()))),
                    Err(error) => fail_all(group.done, error),
                }
                if let (Some(reached), Ok(())) = (group.reached, &result) {
                    // The writer waits for this; if it is gone, it has failed by itself.
                    let _ = reached.send(());
                }
            }
            if result.is_err() {
                return;
            }
        }
    }

    fn make_durable(&self, groups: &[Group]) -> Result<(), StoreError> {
        self.shared.syncs().begin(Instant::now());
        // What is numbered so far is in the log already, so the sync covers it.
        let sequence = self.db.sequence();
        let result = self.db.sync().and_then(|()| match groups.last() {
            Some(group) => self.shared.evidence.advance(&group.marks.shards, sequence),
            None => Ok(()),
        });
        if let (Ok(()), Some(group)) = (&result, groups.last()) {
            let mut durable = self.shared.durable.lock();
            durable.clone_from(&group.marks.shards);
        }
        self.shared.syncs().end(Instant::now());
        result
    }
}
