//! Where elapsed time comes from: the one place that reads the operating system's clocks.
//!
//! The raw oscillator is the scale that everything is measured on; nobody slews or sets it. The wall
//! clock gives the century at start and is then only watched, so that a step of it can be told.
//!
//! Not here: what time it is (`node_clock`).

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clock::packet::Packet;
use config::ClockMode;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::Instant;

use super::steps::OsClock;

/// A wall clock's reading is paired with the counter's to about this, nanoseconds, if the machine
/// lets us.
const BRACKET_NS: u64 = 1_000;
/// How often that is tried.
const BRACKET_TRIES: usize = 5;

/// Where elapsed time comes from.
#[derive(Debug, Clone)]
pub enum Counter {
    /// The machine's raw oscillator, never slewed by anyone; stands still while suspended.
    Raw,
    /// The machine's time since boot, suspended time included: for a clock that nobody checks.
    Boot,
    /// A test's hand.
    Manual(Arc<ManualClock>),
    /// A machine that is not there: its clocks go by the runtime's time, which may be virtual.
    Virtual(Arc<VirtualClock>),
}

/// The clocks of a machine that is not there. They go at a rate of their own beside the runtime's time.
#[derive(Debug)]
pub struct VirtualClock {
    going: Mutex<Going>,
    /// Counts changes of how it goes.
    changes: watch::Sender<u64>,
    servers: OnceLock<Arc<dyn TimeServers>>,
}

/// The time servers that a machine reaches which is not there.
pub trait TimeServers: fmt::Debug + Send + Sync {
    /// What the server of this address answers, as it comes over the network; `None` if nothing comes.
    fn ask<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Option<Packet>>;
}

#[derive(Debug, Clone, Copy)]
struct Going {
    /// Since when it goes so.
    since: Instant,
    /// What the counter said then.
    raw_ns: u64,
    /// How much faster than the runtime's time, parts in a thousand million.
    rate_ppb: i64,
    /// The wall clock when the counter was at zero.
    wall_ns: u64,
    suspended_ns: u64,
}

impl Going {
    fn now_ns(&self) -> u64 {
        let passed = i128::try_from(self.since.elapsed().as_nanos()).unwrap_or(i128::MAX);
        let passed = passed + passed * i128::from(self.rate_ppb) / 1_000_000_000;
        self.raw_ns.saturating_add(u64::try_from(passed).unwrap_or(0))
    }
}

impl VirtualClock {
    /// A machine whose wall clock says `wall_ns` since 1970 now, and whose counter starts at one second.
    /// To be called on a runtime.
    #[must_use]
    pub fn new(wall_ns: u64) -> Arc<Self> {
        let raw_ns = ManualClock::START_NS;
        let (since, wall_ns) = (Instant::now(), wall_ns.saturating_sub(raw_ns));
        let going = Going { since, raw_ns, rate_ppb: 0, wall_ns, suspended_ns: 0 };
        let (changes, servers) = (watch::Sender::default(), OnceLock::new());
        Arc::new(Self { going: Mutex::new(going), changes, servers })
    }

    /// Lets its machine reach these time servers, once.
    pub fn reaches(&self, servers: Arc<dyn TimeServers>) {
        // The first ones stay.
        let _ = self.servers.set(servers);
    }

    /// Lets its counter go faster than the runtime's time by so much, or slower.
    pub fn set_rate_ppb(&self, rate_ppb: i64) {
        self.change(|going| going.rate_ppb = rate_ppb);
    }

    /// Moves the counter, and the wall clock with it, nanoseconds: what no honest oscillator does.
    pub fn jump(&self, by_ns: u64) {
        self.change(|going| going.raw_ns = going.raw_ns.saturating_add(by_ns));
    }

    /// Sets the wall clock forward, or back, nanoseconds.
    pub fn step_wall(&self, by_ns: i64) {
        self.change(|going| going.wall_ns = going.wall_ns.saturating_add_signed(by_ns));
    }

    /// The machine was suspended for so many nanoseconds: the raw counter misses them.
    pub fn suspend(&self, for_ns: u64) {
        self.change(|going| going.suspended_ns += for_ns);
    }

    fn now(&self) -> Going {
        *self.going.lock()
    }

    fn change(&self, how: impl FnOnce(&mut Going)) {
        {
            let mut going = self.going.lock();
            (going.raw_ns, going.since) = (going.now_ns(), Instant::now());
            how(&mut going);
        }
        self.changes.send_modify(|count| *count += 1);
    }

    async fn until(&self, at_ns: u64) {
        let mut changes = self.changes.subscribe();
        loop {
            let going = self.now();
            let left_ns = at_ns.saturating_sub(going.now_ns());
            if left_ns == 0 {
                return;
            }
            // A slower counter takes longer: the rest is waited for in the next round.
            let left = Duration::from_nanos(left_ns).max(Duration::from_millis(1));
            drop(tokio::time::timeout(left, changes.changed()).await);
        }
    }
}

/// A machine whose clocks stand still until they are moved.
#[derive(Debug)]
pub struct ManualClock {
    raw_ns: watch::Sender<u64>,
    wall_ns: u64,
    suspended_ns: AtomicU64,
    stepped_ns: AtomicI64,
}

impl Counter {
    /// The machine's, as a clock of this mode needs it.
    #[must_use]
    pub fn of(mode: ClockMode) -> Self {
        match mode {
            ClockMode::Sntp => Self::Raw,
            ClockMode::Local => Self::Boot,
        }
    }

    /// The time servers of a machine that is not there.
    pub(super) fn servers(&self) -> Option<&Arc<dyn TimeServers>> {
        match self {
            Self::Raw | Self::Boot | Self::Manual(_) => None,
            Self::Virtual(clock) => clock.servers.get(),
        }
    }

    /// The counter, nanoseconds since some moment in the past.
    #[must_use]
    pub fn raw_ns(&self) -> u64 {
        match self {
            Self::Raw => os_ns(ClockId::MonotonicRaw),
            Self::Boot => os_ns(ClockId::Boottime),
            Self::Manual(clock) => *clock.raw_ns.borrow(),
            Self::Virtual(clock) => clock.now().now_ns(),
        }
    }

    /// Nanoseconds that the machine has spent suspended while this counter stood still. A pause of
    /// the thread can make it too small, never too large.
    pub(super) fn suspended_ns(&self) -> u64 {
        match self {
            Self::Raw => {
                let boot_ns = os_ns(ClockId::Boottime);
                boot_ns.saturating_sub(os_ns(ClockId::Monotonic))
            }
            Self::Boot => 0,
            Self::Manual(clock) => clock.suspended_ns.load(Ordering::SeqCst),
            Self::Virtual(clock) => clock.now().suspended_ns,
        }
    }

    /// The wall clock, nanoseconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub(super) fn wall_ns(&self) -> u64 {
        match self {
            Self::Raw | Self::Boot => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
            Self::Manual(clock) => {
                let passed_ns = self.raw_ns() - ManualClock::START_NS + self.suspended_ns();
                let stepped_ns = clock.stepped_ns.load(Ordering::SeqCst);
                (clock.wall_ns + passed_ns).saturating_add_signed(stepped_ns)
            }
            Self::Virtual(clock) => {
                let going = clock.now();
                going.wall_ns + going.now_ns() + going.suspended_ns
            }
        }
    }

    /// The wall clock beside the time since boot, read as near to each other as the machine lets.
    pub(super) fn os_clock(&self) -> OsClock {
        let read = |_| {
            let before_ns = self.boot_ns();
            let wall_ns = self.wall_ns();
            let width_ns = self.boot_ns().saturating_sub(before_ns);
            (width_ns, OsClock { boot_ns: before_ns + width_ns / 2, wall_ns })
        };
        let mut best = read(0);
        for try_again in 1..BRACKET_TRIES {
            if best.0 <= BRACKET_NS {
                break;
            }
            let next = read(try_again);
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }

    /// Waits until the counter has come to a value, nanoseconds.
    pub(super) async fn until(&self, at_ns: u64) {
        match self {
            Self::Raw | Self::Boot => {
                let wait_ns = at_ns.saturating_sub(self.raw_ns());
                tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
            }
            Self::Manual(clock) => {
                let mut moved = clock.raw_ns.subscribe();
                // The sender lives as long as `clock`, so this wait cannot fail.
                drop(moved.wait_for(|raw_ns| *raw_ns >= at_ns).await);
            }
            Self::Virtual(clock) => clock.until(at_ns).await,
        }
    }

    /// Waits until this much time has passed, nanoseconds.
    pub(super) async fn pause(&self, ns: u64) {
        self.until(self.raw_ns().saturating_add(ns)).await;
    }

    /// Time since boot, suspended time included.
    fn boot_ns(&self) -> u64 {
        match self {
            Self::Raw | Self::Boot => os_ns(ClockId::Boottime),
            Self::Manual(_) | Self::Virtual(_) => self.raw_ns() + self.suspended_ns(),
        }
    }
}

impl ManualClock {
    /// Where the counter starts, nanoseconds; not 0, which could pass for "never".
    pub const START_NS: u64 = 1_000_000_000;

    /// A machine whose wall clock says `wall_ns` since 1970 at start.
    #[must_use]
    pub fn new(wall_ns: u64) -> Arc<Self> {
        Arc::new(Self {
            raw_ns: watch::Sender::new(Self::START_NS),
            wall_ns,
            suspended_ns: AtomicU64::new(0),
            stepped_ns: AtomicI64::new(0),
        })
    }

    /// Lets time pass, nanoseconds.
    pub fn advance(&self, by_ns: u64) {
        self.raw_ns.send_modify(|raw_ns| *raw_ns += by_ns);
    }

    /// Sets the wall clock forward, or back, nanoseconds.
    pub fn step_wall(&self, by_ns: i64) {
        self.stepped_ns.fetch_add(by_ns, Ordering::SeqCst);
    }

    /// Suspends the machine for so many nanoseconds: the raw counter misses them.
    pub fn suspend(&self, for_ns: u64) {
        self.suspended_ns.fetch_add(for_ns, Ordering::SeqCst);
    }
}

fn os_ns(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with: a change that does not take along what has passed.
    #[tokio::test(start_paused = true)]
    async fn a_machine_that_is_not_there_goes_by_the_runtimes_time() {
        const S: u64 = 1_000_000_000;
        let clock = VirtualClock::new(100 * S);
        let counter = Counter::Virtual(Arc::clone(&clock));
        let at =
            |raw: u64, wall: u64| assert_eq!((counter.raw_ns(), counter.wall_ns()), (raw, wall));
        at(S, 100 * S);
        tokio::time::advance(Duration::from_secs(10)).await;
        at(11 * S, 110 * S);
        clock.set_rate_ppb(-100_000_000);
        at(11 * S, 110 * S);
        let began = Instant::now();
        counter.until(20 * S).await;
        assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
        clock.set_rate_ppb(0);
        let (raw, wall) = (counter.raw_ns(), counter.wall_ns());
        clock.step_wall(-5_000_000_000);
        clock.jump(S);
        clock.suspend(2 * S);
        at(raw + S, wall - 5 * S + S + 2 * S);
        let waiting = counter.clone();
        let waits = tokio::spawn(async move { waiting.until(500 * S).await });
        tokio::task::yield_now().await;
        clock.jump(500 * S);
        let began = Instant::now();
        waits.await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
