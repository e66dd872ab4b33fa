//! The node's clock: owns the counter, the view, the time servers' tracker and the stamp generator.
//!
//! What the node's own servers say is the *claim*. The peers may overrule it: then the clock is
//! suspect and its bounds are unknown to everybody who asks for a reading, while the discipline
//! below goes on unharmed and the claim can be compared again.
//!
//! Invariants:
//! * readings given out never go back, across threads, from the first sync on (in local mode:
//!   from the start). Before the first sync a reading is a guess without bounds, and the sync may
//!   set it back;
//! * no reading spans a suspension of the machine: it is noticed before the bounds are given out;
//! * no stamp is minted beyond the ceiling that the store has confirmed.
//!
//! Not here: reading the machine's clocks (`counter`), what others are told (`report`), the log's own
//! history of the clock (`history`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use clock::drift::PHI_MAX_PPB;
use clock::generator::{CEILING_LEAD_NS, WAIT_MAX_NS};
use clock::poll::Poll;
use clock::sample::{Limits, RELEASE_NS};
use clock::{
    ClockState, ClockView, Hlc, HlcClock, Reading, Scale, Source, Stamp, TickError, Tracker,
};
use config::{Clock, ClockMode};
use parking_lot::Mutex;
use proto::Name;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::counter::Counter;
use super::history::{History, Moment};
use super::poller;
use super::servers::Servers;
use crate::events::EventSink;
use crate::tasks::Tasks;

/// Suspended time that makes the samples worthless, nanoseconds.
pub(super) const SUSPENDED_NS: u64 = 10_000_000;

/// A handle to the node's clock; cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeClock {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) counter: Counter,
    pub(super) scale: Scale,
    pub(super) mode: ClockMode,
    max_error_ns: AtomicU64,
    pub(super) view: ArcSwap<ClockView>,
    /// Servers that all nodes have turned against after they had believed them for long.
    pub(super) doubtful: ArcSwap<BTreeSet<String>>,
    /// Why the peers overrule this clock, while they do.
    pub(super) fenced: ArcSwapOption<String>,
    /// Whether stamps may be minted before the first sync.
    allow_unsynced: AtomicBool,
    /// Highest reading given out since the first sync.
    said_ns: AtomicU64,
    /// Suspended time that has been dealt with.
    pub(super) suspended_ns: AtomicU64,
    pub(super) tracker: Mutex<Tracker>,
    pub(super) servers: Servers,
    hlc: HlcClock,
    ceiling_wanted: Notify,
    ceiling_moved: watch::Sender<()>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) states: watch::Sender<ClockState>,
    /// Moved whenever the clock may say something that does not follow from time alone.
    pub(super) turned: watch::Sender<()>,
    /// `None` in local mode, whose state never changes.
    pub(super) history: Option<Mutex<History>>,
    pub(super) events: EventSink,
    poller: Mutex<Option<JoinHandle<()>>>,
}

/// What waits on the clock look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) state: ClockState,
    /// How often each server has been asked, at least.
    pub(super) asked: u64,
    /// Whether the state means something: it is synced, or every server has been asked in vain.
    pub(super) decided: bool,
}

impl NodeClock {
    /// Starts the clock. In SNTP mode it spawns its tasks, which end when `cancel` does; see
    /// [`NodeClock::stopped`]. `ceiling` is the persisted one, zero if there never was one; the
    /// clock's history goes to `events`, in the name of `node`.
    #[must_use]
    pub fn start(
        config: &Clock,
        ceiling: Hlc,
        events: EventSink,
        node: Name,
        tasks: &Tasks,
    ) -> Self {
        Self::with_counter(config, ceiling, events, node, tasks, Counter::of(config.mode))
    }

    /// As [`NodeClock::start`], with a counter of the caller's choice.
    #[must_use]
    pub fn with_counter(
        config: &Clock,
        ceiling: Hlc,
        events: EventSink,
        node: Name,
        tasks: &Tasks,
        counter: Counter,
    ) -> Self {
        let inner = Inner::new(config, ceiling, events, node, counter);
        let node_clock = Self { inner: Arc::new(inner) };
        if config.mode == ClockMode::Sntp {
            let task = poller::run(node_clock.clone(), tasks.stop().clone());
            let task = tasks.keep("clock", task);
            *node_clock.inner.poller.lock() = Some(task);
        }
        node_clock
    }

    /// Waits until the clock's tasks have ended, after their token was cancelled.
    pub async fn stopped(&self) {
        let task = self.inner.poller.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the clock's task failed");
        }
    }

    /// What the machine's wall clock says, nanoseconds since 1970. Nothing of the log goes by it.
    #[must_use]
    pub fn wall_ns(&self) -> u64 {
        self.inner.counter.wall_ns()
    }

    /// The raw counter, nanoseconds.
    #[must_use]
    pub fn raw_ns(&self) -> u64 {
        self.inner.counter.raw_ns()
    }

    /// What the clock says now. Without bounds while the peers overrule it.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.look().0
    }

    /// The clock's state now, the peers' verdict included.
    #[must_use]
    pub fn state(&self) -> ClockState {
        self.look().1
    }

    /// Reading and state by the node's own servers alone: what it may compare with its peers.
    #[must_use]
    pub fn claim(&self) -> (Reading, ClockState) {
        self.between_suspensions(Self::claim_at)
    }

    /// The largest error bound with which a node may be primary, nanoseconds.
    #[must_use]
    pub fn max_error_ns(&self) -> u64 {
        self.inner.max_error_ns.load(Ordering::SeqCst)
    }

    /// Sets the largest error bound with which a node may be primary, nanoseconds: the cluster's
    /// setting, which wins over the configuration.
    pub fn set_max_error_ns(&self, ns: u64) {
        if self.inner.max_error_ns.swap(ns, Ordering::SeqCst) != ns {
            self.refresh();
        }
    }

    /// Whether stamps with unknown bounds may be minted before the first sync; at first they may
    /// not.
    pub fn allow_unsynced(&self, allow: bool) {
        self.inner.allow_unsynced.store(allow, Ordering::SeqCst);
    }

    /// Changes of [`NodeClock::state`].
    #[must_use]
    pub fn states(&self) -> watch::Receiver<ClockState> {
        self.inner.states.subscribe()
    }

    /// The stamp generator.
    #[must_use]
    pub fn hlc(&self) -> &HlcClock {
        &self.inner.hlc
    }

    /// Mints one stamp. See [`NodeClock::tick_batch`].
    ///
    /// # Errors
    /// As [`NodeClock::tick_batch`].
    pub fn tick(&self) -> Result<Stamp, TickError> {
        self.tick_batch(1)
    }

    /// Mints `count` stamps at the reading now and returns the first, without waiting.
    ///
    /// # Errors
    /// Before the first sync, unless that is allowed; when the stamp would lie too far ahead of the
    /// clock; when it would lie beyond the persisted ceiling, which is then asked for; when the clock
    /// is sealed.
    pub fn tick_batch(&self, count: u32) -> Result<Stamp, TickError> {
        let (reading, state) = self.look();
        if state == ClockState::Unsynced && !self.inner.allow_unsynced.load(Ordering::SeqCst) {
            return Err(TickError::Unsynced);
        }
        let cap_ns = self.cap_ns(&reading, state);
        let stamp = self.inner.hlc.tick_batch(&reading, cap_ns, count);
        self.hint_ceiling();
        stamp
    }

    /// Until when no stamp can be minted because this clock is behind its own ceiling; `None` if that
    /// is not what is in the way.
    #[must_use]
    pub fn behind(&self) -> Option<TickError> {
        let (reading, state) = self.look();
        if state == ClockState::Unsynced {
            // Its reading is a guess that begins at the ceiling.
            return None;
        }
        self.inner.hlc.behind(&reading, self.cap_ns(&reading, state))
    }

    /// How far the highest stamp of the log is ahead of this clock, nanoseconds; `None` if it is no more
    /// than a restart may leave, or if this clock is no judge.
    #[must_use]
    pub fn log_ahead_ns(&self) -> Option<u64> {
        let (reading, state) = self.look();
        if !state.is_trusted() && state != ClockState::Local {
            return None;
        }
        let clock_ns = self.cap_ns(&reading, state).max(reading.now_ns);
        let ahead_ns = self.inner.hlc.log_floor().ns.saturating_sub(clock_ns);
        (ahead_ns > WAIT_MAX_NS).then_some(ahead_ns)
    }

    fn cap_ns(&self, reading: &Reading, state: ClockState) -> u64 {
        let cap_ns = HlcClock::cap_ns(reading, self.max_error_ns());
        // Wide bounds must not stop a clock that the policy still lets lead.
        if state.is_trusted() { cap_ns } else { cap_ns.max(reading.now_ns) }
    }

    /// Puts the clock down to the highest stamp that a majority holds, and returns the ceiling that is
    /// to be persisted before anything else is. For the one task that persists ceilings.
    pub(crate) fn release(&self, highest: Hlc) -> Hlc {
        let ceiling = self.inner.hlc.release(highest);
        self.inner.ceiling_moved.send_replace(());
        ceiling
    }

    /// As [`NodeClock::tick_batch`], but waits while the ceiling is being persisted, and after a crash
    /// until the clock has passed the old one: some seconds at most.
    ///
    /// # Errors
    /// Before the first sync, when the clock is behind its own ceiling, and when it is sealed.
    pub async fn stamp(&self, count: u32) -> Result<Stamp, TickError> {
        self.mint(|| self.tick_batch(count)).await
    }

    /// As [`NodeClock::stamp`], without asking the clock: only the order counts, see
    /// [`HlcClock::tick_logical`].
    ///
    /// # Errors
    /// When the clock is sealed.
    pub async fn stamp_in_order(&self, count: u32) -> Result<Stamp, TickError> {
        let tick = || {
            let stamp = self.inner.hlc.tick_logical(count);
            self.hint_ceiling();
            stamp
        };
        self.mint(tick).await
    }

    async fn mint(&self, tick: impl Fn() -> Result<Stamp, TickError>) -> Result<Stamp, TickError> {
        let mut moved = self.inner.ceiling_moved.subscribe();
        loop {
            match tick() {
                // The sender lives as long as `self`, so this wait cannot fail.
                Err(TickError::Ceiling { .. }) => drop(moved.changed().await),
                Err(TickError::Ahead { by_ns }) => {
                    tokio::select! {
                        () = self.inner.counter.pause(by_ns) => {}
                        _ = moved.changed() => {}
                    }
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
        let cap_ns = HlcClock::cap_ns(&self.reading(), self.max_error_ns());
        self.inner.hlc.admit(token, cap_ns)?;
        self.hint_ceiling();
        Ok(())
    }

    /// The ceiling that should be on disk; `None` if the present one will do.
    #[must_use]
    pub fn ceiling_wanted(&self) -> Option<Hlc> {
        // Whoever follows may have to lead in a moment, and should not wait for a disk then. What lies
        // far ahead of this clock is nothing that it would mint.
        let log_ns = self.inner.hlc.log_floor().ns;
        let near = log_ns <= self.reading().now_ns.saturating_add(CEILING_LEAD_NS);
        self.inner.hlc.ceiling_needed(if near { log_ns } else { 0 })
    }

    /// Waits until a ceiling is wanted and returns it. For the one task that persists it.
    pub async fn next_ceiling(&self) -> Hlc {
        loop {
            if let Some(ceiling) = self.ceiling_wanted() {
                return ceiling;
            }
            self.inner.ceiling_wanted.notified().await;
        }
    }

    /// Says that a ceiling is on disk, synced.
    pub fn ceiling_persisted(&self, ceiling: Hlc) {
        self.inner.hlc.ceiling_persisted(ceiling);
        self.inner.ceiling_moved.send_replace(());
    }

    /// Ends minting. Returns the ceiling to persist last, after every other: the next start then
    /// need not wait.
    pub fn seal(&self) -> Hlc {
        let ceiling = self.inner.hlc.seal();
        self.inner.ceiling_moved.send_replace(());
        ceiling
    }

    /// Waits until the clock's state says something: it is synced, or it is known that it is not,
    /// because every server has been asked several times.
    pub async fn decided(&self) {
        let mut progress = self.inner.progress.subscribe();
        drop(progress.wait_for(|progress| progress.decided).await);
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

    /// Waits until the reading has passed an instant, nanoseconds since 1970.
    pub async fn passes(&self, ns: u64) {
        let mut turned = self.inner.turned.subscribe();
        loop {
            let now_ns = self.reading().now_ns;
            if now_ns > ns {
                return;
            }
            tokio::select! {
                () = self.inner.counter.pause(ns - now_ns + 1) => {}
                _ = turned.changed() => {}
            }
        }
    }

    /// Waits until an instant, nanoseconds since 1970, has certainly passed: until the earliest that
    /// true time can be lies after it.
    ///
    /// # Errors
    /// When the bounds are unknown, or become so: then nobody can say.
    pub async fn certainly_passes(&self, ns: u64) -> Result<(), TickError> {
        let mut turned = self.inner.turned.subscribe();
        loop {
            let earliest_ns = self.reading().earliest_ns.ok_or(TickError::Unsynced)?;
            if earliest_ns > ns {
                return Ok(());
            }
            tokio::select! {
                () = self.inner.counter.pause(ns - earliest_ns + 1) => {}
                _ = turned.changed() => {}
            }
        }
    }

    /// Reading and state at one moment.
    fn look(&self) -> (Reading, ClockState) {
        self.between_suspensions(Self::look_at)
    }

    /// Asks about now. Suspension is looked for after the counter was read: one that comes later does
    /// not make the answer wrong.
    fn between_suspensions<T>(&self, ask: impl Fn(&Self, u64) -> T) -> T {
        loop {
            let answer = ask(self, self.raw_ns());
            if !self.notice_suspension() {
                return answer;
            }
        }
    }

    /// As [`NodeClock::look`], at a value of the counter that was read just now.
    pub(super) fn look_at(&self, raw_ns: u64) -> (Reading, ClockState) {
        let (reading, state) = self.claim_at(raw_ns);
        let overruled = match state {
            ClockState::Synced
            | ClockState::Holdover
            | ClockState::Disagree
            | ClockState::Expired => self.inner.fenced.load().is_some(),
            // What a suspect clock says of its own bounds may be wrong, so it is not said.
            ClockState::Suspect => true,
            ClockState::Unsynced | ClockState::Local => false,
        };
        if overruled {
            return (Reading::unbounded(reading.now_ns), ClockState::Suspect);
        }
        (reading, state)
    }

    pub(super) fn claim_at(&self, raw_ns: u64) -> (Reading, ClockState) {
        let view = self.inner.view.load();
        let mut reading = view.now(raw_ns);
        let state = view.state_with(&reading, raw_ns);
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

impl Inner {
    fn new(config: &Clock, ceiling: Hlc, events: EventSink, node: Name, counter: Counter) -> Self {
        let raw0_ns = counter.raw_ns();
        let wall_ns = counter.wall_ns();
        let base_ns = match config.mode {
            ClockMode::Local => wall_ns,
            // Also the pivot of NTP eras, so a machine without a battery must not say 1970.
            ClockMode::Sntp => wall_ns.max(RELEASE_NS).max(ceiling.ns),
        };
        let scale = Scale { base_ns, raw0_ns };
        let max_error_ns = u64::from(config.max_error_ms) * 1_000_000;
        let sources = config
            .servers
            .iter()
            .map(|server| Source::new(Poll::new(u64::from(server.poll_s) * 1000, server.private)));
        // The drift allowance is measured; until then it is the largest.
        let limits = Limits::new(PHI_MAX_PPB);
        let tracker = Tracker::new(scale, limits, max_error_ns, config.leap, sources.collect());
        let (view, history) = match config.mode {
            ClockMode::Local => {
                let state = ClockState::Local;
                (ClockView::unchecked(raw0_ns, base_ns, max_error_ns, state), None)
            }
            ClockMode::Sntp => {
                let (now_ns, state) = (base_ns, ClockState::Unsynced);
                let start = Moment { raw_ns: raw0_ns, now_ns, state, error_us: None };
                let every_ns = u64::from(config.history_s) * 1_000_000_000;
                (tracker.view(), Some(History::new(node.to_string(), every_ns, &start)))
            }
        };
        // A pause between its two reads lessens a difference: the largest of a few is right.
        let suspended_ns = (0..3).map(|_| counter.suspended_ns()).max().unwrap_or(0);
        Self {
            mode: config.mode,
            scale,
            max_error_ns: AtomicU64::new(max_error_ns),
            doubtful: ArcSwap::default(),
            fenced: ArcSwapOption::empty(),
            allow_unsynced: AtomicBool::new(false),
            said_ns: AtomicU64::new(0),
            suspended_ns: AtomicU64::new(suspended_ns),
            servers: Servers::new(config, raw0_ns),
            tracker: Mutex::new(tracker),
            hlc: HlcClock::above(ceiling),
            ceiling_wanted: Notify::new(),
            ceiling_moved: watch::Sender::new(()),
            progress: watch::Sender::new(Progress {
                state: view.state,
                asked: 0,
                decided: view.state != ClockState::Unsynced,
            }),
            states: watch::Sender::new(view.state),
            turned: watch::Sender::new(()),
            history: history.map(Mutex::new),
            events,
            view: ArcSwap::from_pointee(view),
            poller: Mutex::new(None),
            counter,
        }
    }
}
