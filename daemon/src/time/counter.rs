//! Where elapsed time comes from: the one place that reads the operating system's clocks.
//!
//! The raw oscillator is the scale that everything is measured on; nobody slews or sets it. The wall
//! clock gives the century at start and is then only watched, so that a step of it can be told.
//!
//! Not here: what time it is (`node_clock`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::ClockMode;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

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

    /// The counter, nanoseconds since some moment in the past.
    #[must_use]
    pub fn raw_ns(&self) -> u64 {
        match self {
            Self::Raw => os_ns(ClockId::MonotonicRaw),
            Self::Boot => os_ns(ClockId::Boottime),
            Self::Manual(clock) => *clock.raw_ns.borrow(),
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
            Self::Manual(_) => self.raw_ns() + self.suspended_ns(),
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
