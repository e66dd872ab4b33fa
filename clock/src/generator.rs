//! The hybrid logical clock of one node: mints stamps that strictly increase, crashes included.
//!
//! Four numbers bound what may be minted:
//! * the **floor**, highest value minted or observed: the next stamp is above it;
//! * the **ceiling**, persisted: no stamp lies beyond it, so a restart that begins above the
//!   ceiling cannot issue a value twice;
//! * the **cap**, from the reading: how far ahead of true time a stamp may be, so that one bad
//!   clock or token cannot push the cluster's time away;
//! * the **log floor**, highest stamp accepted into the log: may be used although it lies beyond the
//!   cap, with growing logical parts only, so writes go on after a spell with a bad clock.
//!
//! Not here: who persists the ceiling, and waiting for it (`daemon::time`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::hlc::Hlc;
use crate::reading::Reading;
use crate::stamp::Stamp;

/// How far beyond the highest value a new ceiling is put, nanoseconds. A restart waits at most
/// this long before it mints.
pub const CEILING_LEAD_NS: u64 = 3_000_000_000;
/// How near to the ceiling the highest value comes before a new one is wanted, nanoseconds.
pub const CEILING_MARGIN_NS: u64 = 2_000_000_000;
/// A floor that lies this far beyond the cap is no restart's lead: the clock was set back. Waiting
/// for it could take hours, so the floor is used as the log floor is. Nanoseconds.
pub const WAIT_MAX_NS: u64 = 2 * CEILING_LEAD_NS;

/// A hybrid logical clock; shared by reference between threads.
///
/// Invariants: what `tick` returns is greater than everything it returned and everything observed
/// before; its `ns` is at most the persisted ceiling.
// One cache line: threads that mint at a time would else pass two to and fro.
#[derive(Debug)]
#[repr(align(64))]
pub struct HlcClock {
    inner: Mutex<Inner>,
}

/// Why no stamp was minted. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TickError {
    /// The persisted ceiling is too low: wait until one of at least `needed_ns` is on disk.
    #[error("the persisted clock ceiling lies below the next stamp")]
    Ceiling {
        /// Nanoseconds since 1970 that the stamp needs.
        needed_ns: u64,
    },
    /// The next stamp would be too far ahead of the clock: wait, or refuse.
    #[error("the next stamp would lie {} ms too far ahead of the clock", .by_ns.div_ceil(1_000_000))]
    Ahead {
        /// Nanoseconds beyond the cap.
        by_ns: u64,
    },
    /// No time server has been believed yet.
    #[error("the clock is not synchronised yet")]
    Unsynced,
    /// The clock has been sealed: the node is stopping.
    #[error("the clock is closed, the node is stopping")]
    Sealed,
}

#[derive(Debug)]
struct Inner {
    floor: Hlc,
    log_floor: Hlc,
    ceiling_ns: u64,
    /// Highest `ns` minted, observed, or refused for want of a ceiling. Kept apart from `floor`,
    /// which starts at the ceiling: else every restart would push the ceiling on.
    reach_ns: u64,
    sealed: bool,
}

impl HlcClock {
    /// A clock that starts above a persisted ceiling; 0 for a node that never had one.
    #[must_use]
    pub fn new(persisted_ceiling_ns: u64) -> Self {
        // A stamp at the ceiling itself may have been issued, with any logical part.
        let floor = match persisted_ceiling_ns {
            0 => Hlc::ZERO,
            ns => Hlc { ns, logical: u32::MAX },
        };
        let inner = Inner {
            floor,
            log_floor: Hlc::ZERO,
            ceiling_ns: persisted_ceiling_ns,
            reach_ns: 0,
            sealed: false,
        };
        Self { inner: Mutex::new(inner) }
    }

    /// The highest `ns` that may be minted at a reading, apart from the log floor: twice the
    /// allowed error beyond the earliest true time, or beyond the reading if no bound is known.
    #[must_use]
    #[inline]
    pub fn cap_ns(reading: &Reading, max_error_ns: u64) -> u64 {
        let from_ns = reading.earliest_ns.unwrap_or(reading.now_ns);
        from_ns.saturating_add(max_error_ns.saturating_mul(2))
    }

    /// Mints one stamp. See [`HlcClock::tick_batch`].
    ///
    /// # Errors
    /// As [`HlcClock::tick_batch`].
    #[inline]
    pub fn tick(&self, reading: &Reading, cap_ns: u64) -> Result<Stamp, TickError> {
        self.tick_batch(reading, cap_ns, 1)
    }

    /// Mints `count` stamps and returns the first; the others are its next `count - 1` logical
    /// values. `cap_ns` comes from [`HlcClock::cap_ns`].
    ///
    /// # Errors
    /// When the stamp would lie beyond the cap or the ceiling, or the clock is sealed.
    #[inline]
    pub fn tick_batch(
        &self,
        reading: &Reading,
        cap_ns: u64,
        count: u32,
    ) -> Result<Stamp, TickError> {
        let mut inner = self.lock();
        if inner.sealed {
            return Err(TickError::Sealed);
        }
        let physical = Hlc::from_ns(reading.now_ns);
        let first = if physical > inner.floor { physical } else { inner.floor.succ() };
        let last = first.advance(u64::from(count.saturating_sub(1)));
        // The clock itself is not ahead of the clock, however far its earliest lies back: with wide
        // bounds the cap is for tokens and floors alone.
        let limit_ns = cap_ns.max(inner.log_floor.ns).max(physical.ns);
        let ahead_ns = last.ns.saturating_sub(limit_ns);
        if (1..=WAIT_MAX_NS).contains(&ahead_ns) {
            return Err(TickError::Ahead { by_ns: ahead_ns });
        }
        if last.ns > inner.ceiling_ns {
            inner.reach_ns = inner.reach_ns.max(last.ns);
            return Err(TickError::Ceiling { needed_ns: last.ns });
        }
        assert!(first > inner.floor, "a minted stamp lies above the floor");
        inner.floor = last;
        inner.reach_ns = inner.reach_ns.max(last.ns);
        // Others may mint while this one's bounds are worked out.
        drop(inner);
        Ok(bounded(first, reading))
    }

    /// Mints `count` stamps without asking any clock: the next values in the order, with unknown
    /// bounds. For what must be ordered although no clock can be trusted.
    ///
    /// # Errors
    /// When the stamp would lie beyond the ceiling, or the clock is sealed.
    pub fn tick_logical(&self, count: u32) -> Result<Stamp, TickError> {
        self.tick_batch(&Reading::unbounded(0), u64::MAX, count)
    }

    /// Raises the floor to a stamp that the log, the applied state or a snapshot holds.
    pub fn observe(&self, seen: Hlc) {
        let mut inner = self.lock();
        inner.floor = inner.floor.max(seen);
        inner.log_floor = inner.log_floor.max(seen);
        inner.reach_ns = inner.reach_ns.max(seen.ns);
    }

    /// Raises the floor to a client's token, so that what it sends is later than what it saw.
    ///
    /// # Errors
    /// When the token lies beyond the cap. It is never lowered to the cap: the client would get a
    /// stamp that is not later.
    pub fn admit(&self, token: Hlc, cap_ns: u64) -> Result<(), TickError> {
        let mut inner = self.lock();
        let cap_ns = cap_ns.max(inner.log_floor.ns);
        if token.ns > cap_ns {
            return Err(TickError::Ahead { by_ns: token.ns - cap_ns });
        }
        inner.floor = inner.floor.max(token);
        inner.reach_ns = inner.reach_ns.max(token.ns);
        Ok(())
    }

    /// The highest value minted or observed: the next stamp is above it.
    #[must_use]
    pub fn floor(&self) -> Hlc {
        self.lock().floor
    }

    /// The highest stamp accepted into the log.
    #[must_use]
    pub fn log_floor(&self) -> Hlc {
        self.lock().log_floor
    }

    /// How far the next stamp would lie beyond what any honest backup accepts from this node,
    /// nanoseconds: beyond the cap of [`HlcClock::cap_ns`] and the last stored stamp, which is in
    /// every backup's log or comes there as proven. 0 unless a stamp minted by a bad clock was
    /// never stored, a restart begins above the ceiling, or the clock was set back: none may be
    /// issued again, so such a node is a bad choice as primary until time has caught up.
    #[must_use]
    pub fn ahead_ns(&self, cap_ns: u64, last_stored: Hlc) -> u64 {
        self.lock().floor.succ().ns.saturating_sub(cap_ns.max(last_stored.ns))
    }

    /// The persisted ceiling, nanoseconds since 1970.
    #[must_use]
    pub fn ceiling_ns(&self) -> u64 {
        self.lock().ceiling_ns
    }

    /// The ceiling that should be persisted now, given that stamps up to `now_ns` are wanted soon
    /// (0: only what was minted, observed or refused so far). `None` if the present one will do.
    #[must_use]
    pub fn ceiling_needed(&self, now_ns: u64) -> Option<u64> {
        let inner = self.lock();
        let reach_ns = inner.reach_ns.max(now_ns);
        let near = reach_ns.saturating_add(CEILING_MARGIN_NS) > inner.ceiling_ns;
        (near && reach_ns > 0 && !inner.sealed).then(|| reach_ns.saturating_add(CEILING_LEAD_NS))
    }

    /// Says that a ceiling is on disk. A lower one than the present changes nothing.
    pub fn ceiling_persisted(&self, ceiling_ns: u64) {
        let mut inner = self.lock();
        inner.ceiling_ns = inner.ceiling_ns.max(ceiling_ns);
    }

    /// Ends minting and returns the lowest ceiling that covers everything issued. Persisted by a
    /// clean stop, it spares the next start the wait.
    pub fn seal(&self) -> u64 {
        let mut inner = self.lock();
        inner.sealed = true;
        inner.floor.ns
    }

    /// Whether minting has ended.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.lock().sealed
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is a plain assignment after the last check, so a poisoned lock is intact.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stamp of a value minted at a reading: its interval holds the interval of the reading and
/// the value itself.
#[inline]
fn bounded(hlc: Hlc, reading: &Reading) -> Stamp {
    let (Some(earliest_ns), Some(latest_ns)) = (reading.earliest_ns, reading.latest_ns) else {
        return Stamp::unbounded(hlc);
    };
    Stamp {
        hlc,
        early_us: ceil_us(hlc.ns.saturating_sub(earliest_ns)),
        late_us: ceil_us(latest_ns.saturating_sub(reading.now_ns)),
    }
}

/// Microseconds, rounded up; what does not fit is unknown.
fn ceil_us(ns: u64) -> u32 {
    u32::try_from(ns.div_ceil(1000)).unwrap_or(Stamp::UNKNOWN)
}

const _: () = assert!(size_of::<HlcClock>() == 64, "one cache line");
