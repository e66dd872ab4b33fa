//! Between the engine and the disk: one thread that makes the log durable, and one beside it that
//! keeps everything else in order.
//!
//! ```text
//! append, vote, truncate, purge -> queued in the log at once -> LOG: one sync, answers in order
//! flip, flush, purge that waits, spare segments              -> KEEPER (`keeper`)
//! ```
//!
//! While one sync runs, more is queued; the next sync covers all of that. This is the whole group
//! commit; there is no timer. The log keeps call order: a vote and an entry never overtake each
//! other.
//!
//! The first error of a write or a sync fails every waiter, now and later, and ends the process; a
//! sync is never tried again, because a failed one marks pages clean.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ::log::{LogError, Ticket};
use clock::Hlc;
use parking_lot::{Mutex, MutexGuard};
use planted::Bug;
use proto::stage::Stage;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::stages::Stages;

use super::db::Database;
use super::evidence::Evidence;
use super::format::{AppliedState, LogEntry, LogMark, Vote, place};
use super::keeper::{self, Keeper, Task};
use super::sync_times::SyncTimes;
use super::watermark::{Damage, DamageKind};
use super::workers::{self, Asking, Worker, Workers};
use super::{RaftLog, SHARD, StoreError};

/// How long the log is idle before it proves by itself that its last group is durable.
const MARK_AFTER: Duration = Duration::from_millis(10);

/// Told when an operation is durable, or failed for good.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What waits for the log.
enum Message {
    /// Everything up to this is to be durable.
    Wait(Ticket, Done),
    /// The end: what comes later is refused.
    Close,
}

/// Hands work to the threads. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    log: RaftLog,
    messages: Asking<Message>,
    tasks: Asking<Task>,
    shared: Arc<Shared>,
}

/// What the threads and their clients share.
pub(super) struct Shared {
    /// The store's folder.
    store: PathBuf,
    drained: Notify,
    evidence: Arc<Evidence>,
    syncs: Mutex<SyncTimes>,
    stages: Stages,
    /// One past the last entry that is applied, and that the state on the disk holds.
    applied: AtomicU64,
    flushed: AtomicU64,
    /// First index that the engine wants to be there.
    purge_target: AtomicU64,
    /// The place that the state had at the start, or that the last snapshot brought: durable
    /// whatever the log says.
    installed: Mutex<Option<LogMark>>,
    /// Entries and bytes that were applied since the last flush.
    unflushed: AtomicU64,
    unflushed_bytes: AtomicUsize,
    /// See [`Media::flush_entries`](super::Media).
    flush_entries: u64,
    /// Whether the keeper was told that there is something to do.
    nudged: AtomicBool,
    workers: Workers,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("applied", &self.applied).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("queued_bytes", &self.queued_bytes()).finish()
    }
}

impl Writer {
    /// Starts the threads: the log's, and the keeper's.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn start(
        log: RaftLog,
        db: Arc<Database>,
        shared: Arc<Shared>,
    ) -> Result<(Self, Vec<JoinHandle<()>>), StoreError> {
        let log_worker = LogWorker {
            log: log.clone(),
            shared: Arc::clone(&shared),
            waiting: VecDeque::new(),
            closes: false,
            synced: false,
            result: Ok(()),
        };
        let keeper = Keeper::new(log.clone(), db, Arc::clone(&shared));
        let (messages, log_thread) = workers::start(&shared.workers, "store-log", log_worker)?;
        let (tasks, keeper) = workers::start(&shared.workers, "store-keeper", keeper)?;
        let threads = log_thread.into_iter().chain(keeper).collect();
        Ok((Self { log, messages, tasks, shared }, threads))
    }

    /// Queues entries for the end of the log; they are read back at once. `done` is called once they
    /// are durable, from the log's thread.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        self.wait(self.log.append(SHARD, entries), done);
        self.nudge(self.log.wants_upkeep());
    }

    /// Saves a vote, and returns once it is durable.
    ///
    /// # Errors
    /// When the store failed; whether it is durable is then unknown.
    pub async fn vote(&self, vote: Vote) -> Result<(), StoreError> {
        if planted::is(Bug::VoteNotSaved) {
            return Ok(());
        }
        let queued = self.log.vote(SHARD, vote.into());
        if planted::is(Bug::VoteBeforeSync) {
            self.wait(queued, Box::new(drop));
            return Ok(());
        }
        self.run(|done| self.wait(queued, done)).await
    }

    /// Cuts off the entries from `end` on. They are hidden at once.
    ///
    /// # Errors
    /// When the entry that stays cannot be read, or the store failed.
    pub fn truncate(&self, end: u64) -> Result<(), StoreError> {
        let queued = self.shared.noted(self.log.truncate_after(SHARD, end.checked_sub(1)))?;
        self.wait(Ok(queued), Box::new(drop));
        Ok(())
    }

    /// Purges the entries up to and with this one: at once where a snapshot brought what they did, else
    /// as soon as the state on the disk holds it.
    ///
    /// # Errors
    /// When the store failed, or nothing is known of an entry beyond the log's end.
    pub fn purge(&self, index: u64) -> Result<(), StoreError> {
        let installed = self.shared.installed().filter(|installed| installed.index == index);
        match installed.filter(|_| self.shared.flushed() > index) {
            Some(installed) => {
                self.wait(self.log.purge_to(SHARD, place(&installed)?), Box::new(drop));
            }
            None if self.log.range(SHARD).1 <= index => {
                return Err(StoreError::Damaged(format!("no hash for a purge to {index}")));
            }
            None => self.nudge(true),
        }
        self.shared.purge_target.fetch_max(index + 1, Ordering::SeqCst);
        Ok(())
    }

    /// Makes a generation of the state the live one, with what it holds applied, durably.
    ///
    /// # Errors
    /// When the store failed; whether it is live is then unknown.
    pub(super) async fn flip(
        &self,
        generation: u32,
        applied: AppliedState,
    ) -> Result<(), StoreError> {
        self.run(|done| self.ask(Task::Flip(generation, Box::new(applied), done))).await
    }

    /// Puts the ceiling of stamps there, durably.
    ///
    /// # Errors
    /// When the store failed; whether it is there is then unknown.
    pub async fn put_ceiling(&self, ceiling: Hlc) -> Result<(), StoreError> {
        if planted::is(Bug::CeilingNotSaved) {
            return Ok(());
        }
        let low = Duration::from_secs(if planted::is(Bug::CeilingTooLow) { 10 } else { 0 });
        let low_ns = u64::try_from(low.as_nanos()).unwrap_or(0);
        let ceiling = Hlc { ns: ceiling.ns.saturating_sub(low_ns), ..ceiling };
        // Not behind a flush of the state: stamps wait for it.
        let shared = Arc::clone(&self.shared);
        let put = move || {
            let ceiling = ceiling.to_bytes().to_vec();
            let put = shared.evidence.settle(|content| content.ceiling = ceiling);
            put.inspect_err(|error| shared.fail(error))
        };
        self.shared.workers.wait_for(put).await
    }

    /// Returns once everything asked for before is durable, and what is to be purged is.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn barrier(&self) -> Result<(), StoreError> {
        self.run(|done| self.ask(Task::Settle(done))).await
    }

    async fn run(&self, ask: impl FnOnce(Done)) -> Result<(), StoreError> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        ask(Box::new(move |result| drop(tx.send(result))));
        rx.await.unwrap_or_else(|_| Err(StoreError::Stopped(self.shared.why_stopped())))
    }

    fn wait(&self, queued: Result<Ticket, LogError>, done: Done) {
        let message = match queued {
            Ok(ticket) => Message::Wait(ticket, done),
            Err(error) => return done(Err(error.into())),
        };
        if let Err(Message::Wait(_, done)) = self.messages.send(message) {
            done(Err(StoreError::Stopped(self.shared.why_stopped())));
        }
    }

    fn ask(&self, task: Task) {
        if let Err(task) = self.tasks.send(task) {
            task.refuse(&self.shared.why_stopped());
        }
    }

    /// Tells the keeper that there is something to do, if there is and it was not told yet.
    pub(super) fn nudge(&self, wanted: bool) {
        if wanted && !self.shared.nudged.swap(true, Ordering::SeqCst) {
            // One that is gone has nothing left to do.
            let _ = self.tasks.send(Task::Look);
        }
    }

    /// Ends the threads, once what was asked for is done.
    pub(super) fn close(&self) {
        // Threads that are gone have ended.
        let _ = self.messages.send(Message::Close);
        let _ = self.tasks.send(Task::Close);
    }

    /// Bytes that wait for the disk.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.log.queued_bytes()
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
    pub fn failed(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        self.shared.evidence.failure()
    }

    /// How long the running sync has taken so far; `None` if none runs.
    #[must_use]
    pub fn sync_age(&self) -> Option<Duration> {
        self.shared.syncs().age(Instant::now())
    }

    /// What is counted of the way of a message on this store.
    pub(crate) fn stages(&self) -> &Stages {
        &self.shared.stages
    }

    /// How long a sync takes now, the running one included; `None` if there was none lately.
    #[must_use]
    pub fn sync_time(&self) -> Option<Duration> {
        self.shared.syncs().typical(Instant::now())
    }
}

impl Shared {
    /// What is shared on a store whose state stands at this place, on the disk.
    pub(super) fn new(
        store: PathBuf,
        evidence: Arc<Evidence>,
        installed: Option<LogMark>,
        flush_entries: u64,
        workers: Workers,
    ) -> Arc<Self> {
        let applied = installed.as_ref().map_or(0, |last| last.index + 1);
        Arc::new(Self {
            store,
            installed: Mutex::new(installed),
            drained: Notify::new(),
            evidence,
            syncs: Mutex::default(),
            stages: Stages::default(),
            applied: AtomicU64::new(applied),
            flushed: AtomicU64::new(applied),
            purge_target: AtomicU64::new(0),
            unflushed: AtomicU64::new(0),
            unflushed_bytes: AtomicUsize::new(0),
            flush_entries,
            nudged: AtomicBool::new(false),
            workers,
        })
    }

    fn syncs(&self) -> MutexGuard<'_, SyncTimes> {
        self.syncs.lock()
    }

    pub(super) fn workers(&self) -> &Workers {
        &self.workers
    }

    pub(super) fn evidence(&self) -> &Arc<Evidence> {
        &self.evidence
    }

    /// One past the last entry that is applied.
    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::SeqCst)
    }

    /// Notes that the entries before `end` are applied.
    pub(super) fn set_applied(&self, end: u64) {
        self.applied.fetch_max(end, Ordering::SeqCst);
    }

    /// One past the last entry that the state on the disk holds.
    pub(super) fn flushed(&self) -> u64 {
        self.flushed.load(Ordering::SeqCst)
    }

    /// Notes that the state on the disk holds the entries before `end`.
    pub(super) fn set_flushed(&self, end: u64) {
        self.flushed.fetch_max(end, Ordering::SeqCst);
    }

    pub(super) fn installed(&self) -> Option<LogMark> {
        self.installed.lock().clone()
    }

    /// Notes the place of a snapshot that is durable.
    pub(super) fn note_installed(&self, mark: Option<LogMark>) {
        let mut installed = self.installed.lock();
        *installed = super::later(installed.take(), mark);
    }

    pub(super) fn purge_target(&self) -> u64 {
        self.purge_target.load(Ordering::SeqCst)
    }

    /// Counts what was applied, and tells whether it is time for a flush.
    pub(super) fn count_applied(&self, entries: usize, bytes: usize) -> bool {
        let entries = entries as u64;
        let counted = self.unflushed.fetch_add(entries, Ordering::SeqCst) + entries;
        let size = self.unflushed_bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.is_flush_due(counted, size)
    }

    pub(super) fn wants_flush(&self) -> bool {
        let size = self.unflushed_bytes.load(Ordering::SeqCst);
        self.is_flush_due(self.unflushed.load(Ordering::SeqCst), size)
    }

    /// Whether the state is to be flushed after so many entries and bytes.
    fn is_flush_due(&self, entries: u64, bytes: usize) -> bool {
        entries >= self.flush_entries || bytes >= keeper::FLUSH_BYTES
    }

    pub(super) fn begin_flush(&self) {
        self.unflushed.store(0, Ordering::SeqCst);
        self.unflushed_bytes.store(0, Ordering::SeqCst);
    }

    /// The keeper looks now: what comes from here on is to be told again.
    pub(super) fn looked(&self) {
        self.nudged.store(false, Ordering::SeqCst);
    }

    /// Waiters are answered after this: where the process ends in it, they never are, and what they
    /// asked for is unknown.
    pub(super) fn fail(&self, error: &StoreError) {
        if let StoreError::Damaged(found) = error {
            self.evidence.damaged(Damage::new(DamageKind::Corrupt, found));
        }
        self.evidence.failed(error);
        self.drained.notify_waiters();
    }

    fn failure(&self) -> Option<String> {
        self.evidence.failure().borrow().clone()
    }

    pub(super) fn why_stopped(&self) -> String {
        self.failure().unwrap_or_else(|| "it is closed".to_owned())
    }

    /// Tells the evidence of a read of the log that shows damage, and passes it on. One that the disk
    /// refused is looked into first: nothing is in doubt but what was asked for.
    pub(super) fn noted<T>(&self, read: Result<T, LogError>) -> Result<T, StoreError> {
        read.map_err(|error| {
            match &error {
                LogError::Damaged(finding) => self.evidence.damaged(StoreError::of_log(finding)),
                LogError::Disk { .. } => {
                    let (evidence, said) = (Arc::clone(&self.evidence), error.to_string());
                    self.evidence.look(self.store.clone(), move || {
                        evidence.failed(&StoreError::Stopped(said));
                    });
                }
                LogError::Newer(_)
                | LogError::Mixed { .. }
                | LogError::Stopped(_)
                | LogError::TooLarge { .. }
                | LogError::Exists => {}
            }
            StoreError::from(error)
        })
    }
}

/// Makes the log durable, and tells who waits for that.
struct LogWorker {
    log: RaftLog,
    shared: Arc<Shared>,
    waiting: VecDeque<(Ticket, Done)>,
    closes: bool,
    /// Whether the last flush had anything to sync, and what came of it.
    synced: bool,
    result: Result<(), StoreError>,
}

impl Worker<Message> for LogWorker {
    fn patience(&self) -> Option<Duration> {
        self.log.wants_mark().then_some(MARK_AFTER)
    }

    fn take(&mut self, first: Option<Message>, more: &mut dyn Iterator<Item = Message>) {
        if first.is_none() {
            // One that failed says so to the flush.
            let _ = self.log.mark();
        }
        for message in first.into_iter().chain(more) {
            match message {
                Message::Wait(ticket, done) => self.waiting.push_back((ticket, done)),
                Message::Close => self.closes = true,
            }
        }
        if planted::is(Bug::AckBeforeSync) {
            self.waiting.drain(..).for_each(|(_, done)| answer(done, Ok(())));
        }
        self.shared.syncs().begin(Instant::now());
    }

    fn work(&mut self) {
        let before = self.log.durable().ticket;
        let result = self.log.flush();
        // Else somebody has synced it before.
        self.synced = !matches!(&result, Ok(durable) if durable.ticket == before);
        if let (Ok(durable), Some((last, _))) = (&result, self.waiting.back()) {
            assert!(durable.ticket >= *last, "nobody is told before it is durable");
        }
        self.result = result.map(drop).map_err(StoreError::from);
    }

    fn answer(&mut self) -> bool {
        let took = match self.synced {
            true => self.shared.syncs().end(Instant::now()),
            false => self.shared.syncs().leave_out(),
        };
        if let Some(took) = took {
            self.shared.stages.took(Stage::Sync, took);
        }
        if let Err(error) = &self.result {
            self.shared.fail(error);
        }
        self.shared.drained.notify_waiters();
        for (_, done) in self.waiting.drain(..) {
            answer(done, self.result.as_ref().map(drop));
        }
        self.closes || self.result.is_err()
    }

    fn refuse(&mut self, late: Message) {
        match late {
            Message::Wait(_, done) => {
                done(Err(StoreError::Stopped(self.shared.why_stopped())));
            }
            Message::Close => {}
        }
    }
}

/// Tells somebody who waited how it ended.
pub(super) fn answer(done: Done, result: Result<(), &StoreError>) {
    done(result.map_err(|error| StoreError::Stopped(error.to_string())));
}

/// The place that a state says it stands at.
pub(super) fn stands_at(applied: &AppliedState) -> Result<Option<::log::Place>, StoreError> {
    applied.last.as_ref().map(place).transpose()
}
