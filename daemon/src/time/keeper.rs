//! The node's clock: owns the counter, the view, the time servers' tracker and the stamp generator.
//!
//! Invariants:
//! * the operating system's clocks are read here and nowhere else;
//! * readings given out never go back, across threads, from the first sync on (in local mode:
//!   from the start). Before the first sync a reading is a guess without bounds, and the sync may
//!   set it back;
//! * no stamp is minted beyond the ceiling that the store has confirmed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use clock::discipline::Outcome;
use clock::poll::{BURST_QUERIES, Poll};
use clock::sample::{Limits, RELEASE_NS};
use clock::{
    Answer, ClockState, ClockView, Hlc, HlcClock, LeapPolicy, Reading, Scale, Source, Stamp,
    TickError, Tracker,
};
use proto::wire::{ClockReport, ClockSource};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::poller;
use super::sntp::random_u64;
use crate::config::{Clock, ClockMode};

/// How much faster or slower than true time the raw counter may run, parts per billion. The drift
/// guard will measure it; until then it is an assumption that the bounds rest on.
const DRIFT_PPB: u64 = 50_000;

/// Where elapsed time comes from.
#[derive(Debug, Clone)]
pub enum Counter {
    /// The machine's raw oscillator, never slewed by anyone; stands still while suspended.
    Raw,
    /// The machine's time since boot, suspended time included: for a clock that nobody checks.
    Boot,
    /// A test's hand.
    Manual(Arc<ManualClock>),
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    raw_ns: AtomicU64,
    wall_ns: u64,
}

/// A handle to the node's clock; cheap to clone.
#[derive(Debug, Clone)]
pub struct Keeper {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    counter: Counter,
    scale: Scale,
    max_error_ns: u64,
    view: ArcSwap<ClockView>,
    /// Highest reading given out since the first sync.
    said_ns: AtomicU64,
    tracker: Mutex<Tracker>,
    servers: Vec<Server>,
    hlc: HlcClock,
    ceiling_wanted: Notify,
    ceiling_moved: watch::Sender<()>,
    progress: watch::Sender<Progress>,
    poller: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Server {
    address: String,
    /// Raw counter at the next query.
    next_query_ns: AtomicU64,
}

/// What waits on the clock look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    state: ClockState,
    /// How often each server has been asked, at least.
    asked: u64,
}

impl Counter {
    /// The counter, nanoseconds since some moment in the past.
    #[must_use]
    pub fn raw_ns(&self) -> u64 {
        match self {
            Self::Raw => os_ns(ClockId::MonotonicRaw),
            Self::Boot => os_ns(ClockId::Boottime),
            Self::Manual(clock) => clock.raw_ns.load(Ordering::SeqCst),
        }
    }

    /// Nanoseconds that the machine has spent suspended; never too much.
    pub(super) fn suspended_ns(&self) -> u64 {
        match self {
            Self::Raw | Self::Boot => {
                // In this order, a pause between the two reads can only lessen the difference; the
                // largest of a few is right unless all were paused.
                let difference = |_| {
                    let boot_ns = os_ns(ClockId::Boottime);
                    boot_ns.saturating_sub(os_ns(ClockId::Monotonic))
                };
                (0..3).map(difference).max().unwrap_or(0)
            }
            Self::Manual(_) => 0,
        }
    }

    /// The wall clock, nanoseconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn wall_ns(&self) -> u64 {
        match self {
            Self::Raw | Self::Boot => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
            Self::Manual(clock) => clock.wall_ns,
        }
    }
}

impl ManualClock {
    /// What the counter says at start, nanoseconds; not 0, which could pass for "never".
    pub const START_NS: u64 = 1_000_000_000;

    /// A clock that says `wall_ns` since 1970 at start.
    #[must_use]
    pub fn new(wall_ns: u64) -> Arc<Self> {
        Arc::new(Self { raw_ns: AtomicU64::new(Self::START_NS), wall_ns })
    }

    /// Lets time pass, nanoseconds.
    pub fn advance(&self, by_ns: u64) {
        self.raw_ns.fetch_add(by_ns, Ordering::SeqCst);
    }
}

impl Keeper {
    /// Starts the clock. In SNTP mode it spawns its tasks, which end when `cancel` does; see
    /// [`Keeper::stopped`]. `ceiling_ns` is the persisted ceiling, 0 if there never was one.
    #[must_use]
    pub fn start(config: &Clock, ceiling_ns: u64, cancel: CancellationToken) -> Self {
        let counter = match config.mode {
            ClockMode::Sntp => Counter::Raw,
            ClockMode::Local => Counter::Boot,
        };
        Self::with_counter(config, ceiling_ns, cancel, counter)
    }

    /// As [`Keeper::start`], with a counter of the caller's choice.
    #[must_use]
    pub fn with_counter(
        config: &Clock,
        ceiling_ns: u64,
        cancel: CancellationToken,
        counter: Counter,
    ) -> Self {
        let keeper = Self { inner: Arc::new(Inner::new(config, ceiling_ns, counter)) };
        if config.mode == ClockMode::Sntp {
            let task = tokio::spawn(poller::run(keeper.clone(), config.servers.clone(), cancel));
            *lock(&keeper.inner.poller) = Some(task);
        }
        keeper
    }

    /// Waits until the clock's tasks have ended, after their token was cancelled.
    pub async fn stopped(&self) {
        let task = lock(&self.inner.poller).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the clock's task failed");
        }
    }

    /// The raw counter, nanoseconds.
    #[must_use]
    pub fn raw_ns(&self) -> u64 {
        self.inner.counter.raw_ns()
    }

    /// What the clock says now.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.look().0
    }

    /// The clock's state now.
    #[must_use]
    pub fn state(&self) -> ClockState {
        self.look().1
    }

    /// The stamp generator.
    #[must_use]
    pub fn hlc(&self) -> &HlcClock {
        &self.inner.hlc
    }

    /// Mints one stamp. See [`Keeper::tick_batch`].
    ///
    /// # Errors
    /// As [`Keeper::tick_batch`].
    pub fn tick(&self) -> Result<Stamp, TickError> {
        self.tick_batch(1)
    }

    /// Mints `count` stamps at the reading now and returns the first, without waiting.
    ///
    /// # Errors
    /// Before the first sync; when the stamp would lie too far ahead of the clock; when it would lie
    /// beyond the persisted ceiling, which is then asked for; when the clock is sealed.
    pub fn tick_batch(&self, count: u32) -> Result<Stamp, TickError> {
        let (reading, state) = self.look();
        if state == ClockState::Unsynced {
            return Err(TickError::Unsynced);
        }
        let mut cap_ns = HlcClock::cap_ns(&reading, self.inner.max_error_ns);
        if !state.is_trusted() {
            // Wide bounds must not stop a clock that the policy still lets lead.
            cap_ns = cap_ns.max(reading.now_ns);
        }
        let stamp = self.inner.hlc.tick_batch(&reading, cap_ns, count);
        self.hint_ceiling();
        stamp
    }

    /// As [`Keeper::tick_batch`], but waits while the ceiling is being persisted, and after a crash
    /// until the clock has passed the old one: some seconds at most.
    ///
    /// # Errors
    /// Before the first sync, and when the clock is sealed.
    pub async fn stamp(&self, count: u32) -> Result<Stamp, TickError> {
        let mut moved = self.inner.ceiling_moved.subscribe();
        loop {
            match self.tick_batch(count) {
                // The sender lives as long as `self`, so this wait cannot fail.
                Err(TickError::Ceiling { .. }) => drop(moved.changed().await),
                Err(TickError::Ahead { by_ns }) => {
                    let wait = Duration::from_nanos(by_ns);
                    drop(tokio::time::timeout(wait, moved.changed()).await);
                }
                done => return done,
            }
        }
    }

    /// Raises the floor to a stamp that the log, the applied state or a snapshot holds.
    pub fn observe(&self, seen: Hlc) {
        self.inner.hlc.observe(seen);
        self.hint_ceiling();
    }

    /// Raises the floor to a client's token.
    ///
    /// # Errors
    /// When the token lies too far ahead of this clock.
    pub fn admit(&self, token: Hlc) -> Result<(), TickError> {
        let cap_ns = HlcClock::cap_ns(&self.reading(), self.inner.max_error_ns);
        self.inner.hlc.admit(token, cap_ns)?;
        self.hint_ceiling();
        Ok(())
    }

    /// The ceiling that should be on disk, nanoseconds since 1970; `None` if the present one will
    /// do.
    #[must_use]
    pub fn ceiling_wanted(&self) -> Option<u64> {
        self.inner.hlc.ceiling_needed(0)
    }

    /// Waits until a ceiling is wanted and returns it. For the one task that persists it.
    pub async fn next_ceiling(&self) -> u64 {
        loop {
            if let Some(ceiling_ns) = self.ceiling_wanted() {
                return ceiling_ns;
            }
            self.inner.ceiling_wanted.notified().await;
        }
    }

    /// Says that a ceiling is on disk, synced.
    pub fn ceiling_persisted(&self, ceiling_ns: u64) {
        self.inner.hlc.ceiling_persisted(ceiling_ns);
        self.inner.ceiling_moved.send_replace(());
    }

    /// Ends minting. Returns the ceiling to persist last, after every other: the next start then
    /// need not wait.
    pub fn seal(&self) -> u64 {
        let ceiling_ns = self.inner.hlc.seal();
        self.inner.ceiling_moved.send_replace(());
        ceiling_ns
    }

    /// Waits until the clock's state says something: it is synced, or it is known that it is not,
    /// because every server has been asked several times.
    pub async fn decided(&self) {
        let mut progress = self.inner.progress.subscribe();
        let burst = u64::from(BURST_QUERIES);
        let decided = |p: &Progress| p.asked >= burst || p.state != ClockState::Unsynced;
        drop(progress.wait_for(decided).await);
    }

    /// Waits until every server has been asked that often.
    #[cfg(test)]
    pub(super) async fn asked(&self, times: u64) {
        let mut progress = self.inner.progress.subscribe();
        drop(progress.wait_for(|p| p.asked >= times).await);
    }

    /// Waits until the clock is in the given state.
    pub async fn reached(&self, state: ClockState) {
        let mut progress = self.inner.progress.subscribe();
        drop(progress.wait_for(|p| p.state == state).await);
    }

    /// The clock as clients are told of it.
    #[must_use]
    pub fn report(&self, node: &str) -> ClockReport {
        let inner = &self.inner;
        let (reading, state) = self.look();
        let ceiling_ns = inner.hlc.ceiling_ns();
        let told = inner.hlc.floor().min(Hlc { ns: ceiling_ns, logical: u32::MAX });
        ClockReport {
            node: node.to_owned(),
            state: state.to_string(),
            now_ns: reading.now_ns,
            earliest_ns: reading.earliest_ns,
            latest_ns: reading.latest_ns,
            drift_ppb: inner.view.load().phi_ppb,
            max_error_us: inner.max_error_ns / 1000,
            hlc: told.to_bytes().to_vec(),
            ceiling_ns,
            sources: self.report_sources(),
            epoch: inner.view.load().epoch,
            ..ClockReport::default()
        }
    }

    /// How many answers of time servers were refused, by server and reason.
    #[must_use]
    pub fn refused(&self) -> Vec<(String, &'static str, u64)> {
        let tracker = lock(&self.inner.tracker);
        let mut rows = Vec::new();
        for ((source, _), server) in tracker.sources().zip(&self.inner.servers) {
            let counts = source.refused().iter();
            rows.extend(counts.map(|(reason, count)| (server.address.clone(), *reason, *count)));
        }
        rows
    }

    fn report_sources(&self) -> Vec<ClockSource> {
        let raw_ns = self.raw_ns();
        let tracker = lock(&self.inner.tracker);
        let pairs = tracker.sources().zip(&self.inner.servers);
        pairs
            .map(|((source, verdict), server)| {
                let newest = source.newest();
                let wait_ns = server.next_query_ns.load(Ordering::Relaxed).saturating_sub(raw_ns);
                ClockSource {
                    address: server.address.clone(),
                    reach: u32::from(source.reach()),
                    stratum: newest.map_or(0, |sample| u32::from(sample.stratum)),
                    offset_ns: newest.map_or(0, |sample| sample.theta_ns),
                    delay_ns: newest.map_or(0, |sample| sample.delta_ns),
                    distance_ns: newest.map_or(0, |sample| sample.lambda_ns),
                    verdict: verdict.to_string(),
                    next_poll_ms: wait_ns / 1_000_000,
                    ..ClockSource::default()
                }
            })
            .collect()
    }

    /// Reading and state at one moment.
    fn look(&self) -> (Reading, ClockState) {
        let view = self.inner.view.load();
        let raw_ns = self.raw_ns();
        let (mut reading, state) = (view.now(raw_ns), view.state_at(raw_ns));
        if state != ClockState::Unsynced {
            // A thread may have been held between the view and the counter while a new view, slewed
            // the other way, was read by another.
            let said_ns = self.inner.said_ns.fetch_max(reading.now_ns, Ordering::SeqCst);
            reading.now_ns = reading.now_ns.max(said_ns);
        }
        (reading, state)
    }

    fn hint_ceiling(&self) {
        if self.ceiling_wanted().is_some() {
            self.inner.ceiling_wanted.notify_one();
        }
    }
}

/// For the poller.
impl Keeper {
    pub(super) fn counter(&self) -> &Counter {
        &self.inner.counter
    }

    pub(super) fn scale(&self) -> &Scale {
        &self.inner.scale
    }

    /// Takes what came of a query. Returns milliseconds to wait for the next one, or `None` if
    /// there must be none, and whether the address should be looked up again.
    pub(super) fn answered(
        &self,
        index: usize,
        answer: &Answer,
        strays: u64,
    ) -> (Option<u64>, bool) {
        let mut tracker = lock(&self.inner.tracker);
        let raw_ns = self.raw_ns();
        let outcome = tracker.answered(index, answer, raw_ns);
        self.publish(&tracker, raw_ns);
        let Some(source) = tracker.source_mut(index) else { return (None, false) };
        source.count_strays(strays);
        let wait_ms = source.poll_mut().after_query(random_u64());
        let lost = source.is_lost();
        drop(tracker);

        if let (Some(server), Some(wait_ms)) = (self.inner.servers.get(index), wait_ms) {
            server.next_query_ns.store(raw_ns + wait_ms * 1_000_000, Ordering::Relaxed);
        }
        match outcome {
            Outcome::Contradicted => tracing::warn!("time servers contradict the clock's bounds"),
            Outcome::Disrupted => tracing::warn!("the clock was set anew from its servers"),
            Outcome::Resynced => tracing::info!("the clock was set after a suspension"),
            Outcome::FirstSync | Outcome::Narrowed | Outcome::Kept | Outcome::Coasting => {}
        }
        (wait_ms, lost)
    }

    /// The machine was suspended: nothing measured before counts any more.
    pub(super) fn suspended(&self) {
        let mut tracker = lock(&self.inner.tracker);
        let raw_ns = self.raw_ns();
        tracker.suspended(raw_ns);
        self.publish(&tracker, raw_ns);
    }

    /// Tells those who wait what time alone has done to the state.
    pub(super) fn refresh(&self) {
        let tracker = lock(&self.inner.tracker);
        self.publish(&tracker, self.raw_ns());
    }

    /// Called with the tracker locked, so views are published in their order.
    fn publish(&self, tracker: &Tracker, raw_ns: u64) {
        let view = tracker.view();
        let asked = tracker.sources().map(|(source, _)| source.queries()).min().unwrap_or(0);
        let progress = Progress { state: view.state_at(raw_ns), asked };
        self.inner.view.store(Arc::new(view));
        self.inner.progress.send_if_modified(|last| {
            if last.state != progress.state {
                let error_us = view.now(raw_ns).error_us();
                tracing::info!(from = %last.state, to = %progress.state, error_us, "clock state");
            }
            std::mem::replace(last, progress) != progress
        });
    }
}

impl Inner {
    fn new(config: &Clock, ceiling_ns: u64, counter: Counter) -> Self {
        let raw0_ns = counter.raw_ns();
        let wall_ns = counter.wall_ns();
        let base_ns = match config.mode {
            ClockMode::Local => wall_ns,
            // Also the pivot of NTP eras, so a machine without a battery must not say 1970.
            ClockMode::Sntp => wall_ns.max(RELEASE_NS).max(ceiling_ns),
        };
        let scale = Scale { base_ns, raw0_ns };
        let max_error_ns = u64::from(config.max_error_ms) * 1_000_000;
        let sources = config
            .servers
            .iter()
            .map(|server| Source::new(Poll::new(u64::from(server.poll_s) * 1000, server.private)));
        let limits = Limits::new(DRIFT_PPB);
        let tracker =
            Tracker::new(scale, limits, max_error_ns, LeapPolicy::Smear, sources.collect());
        let view = match config.mode {
            ClockMode::Local => {
                ClockView::unchecked(raw0_ns, base_ns, max_error_ns, ClockState::Local)
            }
            ClockMode::Sntp => tracker.view(),
        };
        let servers = config.servers.iter().map(|server| Server {
            address: server.address.clone(),
            next_query_ns: AtomicU64::new(raw0_ns),
        });
        Self {
            counter,
            scale,
            max_error_ns,
            said_ns: AtomicU64::new(0),
            servers: servers.collect(),
            tracker: Mutex::new(tracker),
            hlc: HlcClock::new(ceiling_ns),
            ceiling_wanted: Notify::new(),
            ceiling_moved: watch::Sender::new(()),
            progress: watch::Sender::new(Progress { state: view.state, asked: 0 }),
            view: ArcSwap::from_pointee(view),
            poller: Mutex::new(None),
        }
    }
}

fn os_ns(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Nothing that is locked here can be left half changed by a panic that matters.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
