//! True time, as a test knows it: the machine's wall clock. The time servers of the harness and
//! chronyd serve that clock, so whoever asks them and claims bounds must have it inside.
//!
//! A node under test reads it once at its start, as a pivot, and never again; so it is true for the
//! test and no help to the node.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The machine's wall clock, nanoseconds since 1970.
#[must_use]
pub fn now_ns() -> u64 {
    ns(ClockId::Realtime)
}

/// A moment on the machine's two clocks, by which a test's timers become times of day.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    /// On the timer.
    pub instant: Instant,
    /// On the wall clock, nanoseconds since 1970.
    pub wall_ns: u64,
}

impl Anchor {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { instant: Instant::now(), wall_ns: now_ns() }
    }

    /// The time of day of a moment on the timer, nanoseconds since 1970.
    #[must_use]
    pub fn ns(&self, instant: Instant) -> u64 {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match instant.checked_duration_since(self.instant) {
            Some(since) => self.wall_ns.saturating_add(ns(since)),
            None => self.wall_ns.saturating_sub(ns(self.instant.duration_since(instant))),
        }
    }
}

/// Something that was read between two looks at the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Between<T> {
    /// Wall clock before the reading, nanoseconds since 1970.
    pub before_ns: u64,
    /// What was read.
    pub read: T,
    /// Wall clock after it.
    pub after_ns: u64,
}

impl<T> Between<T> {
    /// Reads something, again if the two looks lie further apart than `widest_ns`: somebody else
    /// had the processor in between. After a hundred times it takes what there is.
    pub fn look(widest_ns: u64, read: impl Fn() -> T) -> Self {
        let once = || {
            let before_ns = now_ns();
            let read = read();
            Self { before_ns, read, after_ns: now_ns() }
        };
        let narrow = |seen: &Self| seen.after_ns.saturating_sub(seen.before_ns) <= widest_ns;
        (0..100).map(|_| once()).find(narrow).unwrap_or_else(once)
    }

    /// How far `[earliest_ns, latest_ns]` lies from all moments of the reading; 0 if it holds one.
    #[must_use]
    pub fn outside_ns(&self, earliest_ns: u64, latest_ns: u64) -> u64 {
        earliest_ns.saturating_sub(self.after_ns).max(self.before_ns.saturating_sub(latest_ns))
    }

    /// How far a clock's value lies from the middle of the two looks.
    #[must_use]
    pub fn error_ns(&self, value_ns: u64) -> u64 {
        let middle_ns = self.before_ns + self.after_ns.saturating_sub(self.before_ns) / 2;
        value_ns.abs_diff(middle_ns)
    }
}

fn ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_beside_the_moment_is_outside() {
        let seen = Between { before_ns: 100, read: (), after_ns: 110 };
        assert_eq!(seen.outside_ns(90, 100), 0);
        assert_eq!(seen.outside_ns(110, 120), 0);
        assert_eq!(seen.outside_ns(111, 120), 1);
        assert_eq!(seen.outside_ns(80, 97), 3);
        assert_eq!(seen.error_ns(100), 5);
    }
}
