//! The hybrid logical clock of one node: mints stamps that strictly increase, crashes included.
//!
//! Four numbers bound what may be minted:
//! * the **floor**, highest value minted or observed: the next stamp is above it;
//! * the **ceiling**, persisted: no stamp lies beyond it, so a restart that begins above the
//!   ceiling cannot issue a value twice. It is a whole nanosecond as a rule; while the log counts on
//!   ahead of the clock, a count within one;
//! * the **cap**, from the reading: how far ahead of true time a stamp may be, so that one bad
//!   clock or token cannot push the cluster's time away;
//! * the **log floor**, highest stamp accepted into the log: may be used although it lies beyond the
//!   cap, with growing logical parts only, so writes go on after a spell with a bad clock.
//!
//! A floor that lies beyond all of them, because a ceiling was persisted while the clock was ahead,
//! leaves nothing that could be minted until the clock has come up to it: it is *behind its own
//! ceiling*. Only a person ends that earlier ([`HlcClock::release`], whose rule is in `release`).
//!
//! Not here: who persists the ceiling, and waiting for it (`daemon::time`).

use parking_lot::{Mutex, MutexGuard};

use crate::hlc::{Hlc, utc_text};
use crate::reading::Reading;
use crate::stamp::Stamp;

/// How far beyond the highest value a new ceiling is put, nanoseconds. A restart waits at most
/// this long before it mints.
pub const CEILING_LEAD_NS: u64 = 3_000_000_000;
/// How near to the ceiling the highest value comes before a new one is wanted, nanoseconds.
pub const CEILING_MARGIN_NS: u64 = 2_000_000_000;
/// A floor that lies this far beyond the cap is no restart's lead: the clock was ahead once, or set
/// back. Waiting for it could take hours, so nobody waits: minting is refused. Nanoseconds.
pub const WAIT_MAX_NS: u64 = 2 * CEILING_LEAD_NS;
/// As [`CEILING_LEAD_NS`], while only the count grows: in counts.
pub const COUNT_LEAD: u64 = 1 << 20;
/// As [`CEILING_MARGIN_NS`], while only the count grows: in counts.
pub const COUNT_MARGIN: u64 = 1 << 19;

/// A hybrid logical clock; shared by reference between threads.
///
/// Invariants: what `tick` returns is greater than everything it returned and everything observed
/// before; it is at most the persisted ceiling. [`HlcClock::release`] alone takes back what was
/// observed, never what was issued.
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
    /// The clock is behind its own ceiling by more than anybody should wait: refuse.
    #[error(
        "no stamp can be minted until {}: the clock is {} s behind its own ceiling",
        utc_text(*.until_ns), .by_ns / 1_000_000_000
    )]
    Behind {
        /// Nanoseconds until the clock has come up to it.
        by_ns: u64,
        /// What the clock reads then, nanoseconds since 1970.
        until_ns: u64,
    },
    /// No time server has been believed yet.
    #[error("the clock is not synchronised yet")]
    Unsynced,
    /// The clock has been sealed: the node is stopping.
    #[error("the clock is closed, the node is stopping")]
    Sealed,
}

/// A value in twelve bytes, not sixteen: the clock has to fit its cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(4))]
struct Packed {
    ns: u64,
    logical: u32,
}

impl Packed {
    const fn of(hlc: Hlc) -> Self {
        Self { ns: hlc.ns, logical: hlc.logical }
    }

    const fn hlc(self) -> Hlc {
        Hlc { ns: self.ns, logical: self.logical }
    }
}

#[derive(Debug)]
struct Inner {
    floor: Packed,
    log_floor: Packed,
    ceiling: Packed,
    /// Highest value minted, admitted, or refused for want of a ceiling. Kept apart from `floor`,
    /// which starts at the ceiling: else every restart would push the ceiling on. What is only
    /// observed is not in it: an instant far ahead that a log holds must not become a ceiling.
    reach: Packed,
    /// Whether only the count grows: the log is ahead of the clock.
    counts: bool,
    sealed: bool,
}

/// The ceiling that covers a whole nanosecond.
const fn whole(ns: u64) -> Hlc {
    Hlc { ns, logical: u32::MAX }
}

impl HlcClock {
    /// A clock that starts above a persisted ceiling, a whole nanosecond; 0 for a node that never
    /// had one.
    #[must_use]
    pub fn new(persisted_ceiling_ns: u64) -> Self {
        // A stamp at the ceiling itself may have been issued, with any logical part.
        Self::above(if persisted_ceiling_ns == 0 { Hlc::ZERO } else { whole(persisted_ceiling_ns) })
    }

    /// A clock that starts above a persisted ceiling; [`Hlc::ZERO`] for a node that never had one.
    #[must_use]
    pub fn above(ceiling: Hlc) -> Self {
        let zero = Packed::of(Hlc::ZERO);
        let ceiling = Packed::of(ceiling);
        let inner = Inner {
            floor: ceiling,
            log_floor: zero,
            ceiling,
            reach: zero,
            counts: false,
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
        let (first, last, clock_ns) = inner.next(reading, cap_ns, count);
        let log_floor = inner.log_floor.hlc();
        if let Some(by_ns) = beyond(last.ns, clock_ns, log_floor) {
            return Err(if by_ns <= WAIT_MAX_NS {
                TickError::Ahead { by_ns }
            } else {
                let until_ns = reading.now_ns.saturating_add(by_ns);
                TickError::Behind { by_ns, until_ns }
            });
        }
        inner.counts = last.ns > clock_ns;
        if last > inner.ceiling.hlc() {
            inner.reach(last);
            return Err(TickError::Ceiling { needed_ns: last.ns });
        }
        assert!(first > inner.floor.hlc(), "a minted stamp lies above the floor");
        assert!(first <= last, "the stamps of a batch ascend");
        inner.floor = Packed::of(last);
        inner.reach(last);
        // Others may mint while this one's bounds are worked out.
        drop(inner);
        Ok(bounded(first, reading))
    }

    /// Until when nothing can be minted because the clock is behind its own ceiling: a
    /// [`TickError::Behind`], or nothing.
    #[must_use]
    pub fn behind(&self, reading: &Reading, cap_ns: u64) -> Option<TickError> {
        let inner = self.lock();
        let (_, last, clock_ns) = inner.next(reading, cap_ns, 1);
        let by_ns = beyond(last.ns, clock_ns, inner.log_floor.hlc())?;
        let until_ns = reading.now_ns.saturating_add(by_ns);
        (by_ns > WAIT_MAX_NS).then_some(TickError::Behind { by_ns, until_ns })
    }

    /// Puts floor and ceiling down to a value that is known to lie above everything that was ever
    /// committed, see `release`; never below what this clock has issued in this life of it. Returns
    /// the ceiling to persist, at once: until then nothing can be minted beyond it.
    pub fn release(&self, highest: Hlc) -> Hlc {
        let mut inner = self.lock();
        let highest = highest.max(inner.reach.hlc());
        inner.floor = Packed::of(highest);
        inner.log_floor = Packed::of(highest);
        inner.ceiling = Packed::of(highest);
        assert!(inner.reach.hlc() <= highest, "what was given out lies below the ceiling");
        highest
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
        inner.floor = Packed::of(inner.floor.hlc().max(seen));
        inner.log_floor = Packed::of(inner.log_floor.hlc().max(seen));
        assert!(inner.log_floor.hlc() <= inner.floor.hlc(), "stamps lie above the whole log");
    }

    /// Raises the floor to a client's token, so that what it sends is later than what it saw.
    ///
    /// # Errors
    /// When the token lies beyond the cap. It is never lowered to the cap: the client would get a
    /// stamp that is not later.
    pub fn admit(&self, token: Hlc, cap_ns: u64) -> Result<(), TickError> {
        let mut inner = self.lock();
        let log_floor = inner.log_floor.hlc();
        let cap_ns = cap_ns.max(log_floor.ns);
        if token.ns > cap_ns {
            return Err(TickError::Ahead { by_ns: token.ns - cap_ns });
        }
        inner.floor = Packed::of(inner.floor.hlc().max(token));
        assert!(token.ns <= cap_ns && token <= inner.floor.hlc(), "what comes next follows it");
        if token.ns > log_floor.ns {
            inner.reach(token);
        }
        Ok(())
    }

    /// The highest value minted or observed: the next stamp is above it.
    #[must_use]
    pub fn floor(&self) -> Hlc {
        self.lock().floor.hlc()
    }

    /// The highest stamp accepted into the log.
    #[must_use]
    pub fn log_floor(&self) -> Hlc {
        self.lock().log_floor.hlc()
    }

    /// How far the next stamp would lie beyond what any honest backup accepts from this node,
    /// nanoseconds: beyond the cap of [`HlcClock::cap_ns`] and the last stored stamp, which is in
    /// every backup's log or comes there as proven. 0 unless a stamp minted by a bad clock was
    /// never stored, a restart begins above the ceiling, or the clock was set back: none may be
    /// issued again, so such a node is a bad choice as primary until time has caught up.
    #[must_use]
    pub fn ahead_ns(&self, cap_ns: u64, last_stored: Hlc) -> u64 {
        self.lock().floor.hlc().succ().ns.saturating_sub(cap_ns.max(last_stored.ns))
    }

    /// The persisted ceiling, nanoseconds since 1970.
    #[must_use]
    pub fn ceiling_ns(&self) -> u64 {
        self.lock().ceiling.ns
    }

    /// The persisted ceiling.
    #[must_use]
    pub fn ceiling(&self) -> Hlc {
        self.lock().ceiling.hlc()
    }

    /// The ceiling that should be persisted now, given that stamps up to `soon_ns` are wanted soon
    /// (0: only what was minted or refused so far). `None` if the present one will do.
    #[must_use]
    pub fn ceiling_needed(&self, soon_ns: u64) -> Option<Hlc> {
        let inner = self.lock();
        let reach = inner.reach.hlc();
        let (ceiling, sealed) = (inner.ceiling.hlc(), inner.sealed);
        if inner.counts && reach.ns >= soon_ns {
            let near = reach.advance(COUNT_MARGIN) > ceiling;
            let needed = reach.advance(COUNT_LEAD);
            assert!(!near || needed > ceiling, "a ceiling is only ever raised");
            return (near && !sealed).then_some(needed);
        }
        let reach_ns = reach.ns.max(soon_ns);
        let near = reach_ns.saturating_add(CEILING_MARGIN_NS) > ceiling.ns;
        let wanted = near && reach_ns > 0 && !sealed;
        wanted.then(|| whole(reach_ns.saturating_add(CEILING_LEAD_NS)))
    }

    /// Says that a ceiling is on disk. A lower one than the present changes nothing.
    pub fn ceiling_persisted(&self, ceiling: Hlc) {
        let mut inner = self.lock();
        inner.ceiling = Packed::of(inner.ceiling.hlc().max(ceiling));
    }

    /// Ends minting and returns the lowest ceiling that covers everything issued. Persisted by a
    /// clean stop, it spares the next start the wait.
    pub fn seal(&self) -> Hlc {
        let mut inner = self.lock();
        inner.sealed = true;
        let floor = inner.floor.hlc();
        // While only the count grows, or the log alone has come so far, a whole nanosecond would leave
        // the next start no room.
        let exact = inner.counts || floor == inner.log_floor.hlc() || floor == Hlc::ZERO;
        let ceiling = if exact { floor } else { whole(floor.ns) };
        assert!(ceiling >= floor, "the next start goes on above what was given out");
        ceiling
    }

    /// Whether minting has ended.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.lock().sealed
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Inner {
    /// The first and last value that a batch would get, and up to where the clock vouches for it.
    #[inline]
    fn next(&self, reading: &Reading, cap_ns: u64, count: u32) -> (Hlc, Hlc, u64) {
        let physical = Hlc::from_ns(reading.now_ns);
        let floor = self.floor.hlc();
        let first = if physical > floor { physical } else { floor.succ() };
        let last = first.advance(u64::from(count.saturating_sub(1)));
        // The clock itself is not ahead of the clock, however far its earliest lies back: with wide
        // bounds the cap is for tokens and floors alone.
        (first, last, cap_ns.max(physical.ns))
    }

    #[inline]
    fn reach(&mut self, value: Hlc) {
        self.reach = Packed::of(self.reach.hlc().max(value));
    }
}

/// How far a value lies beyond the clock, if the log does not reach there either.
#[inline]
fn beyond(ns: u64, clock_ns: u64, log_floor: Hlc) -> Option<u64> {
    (ns > clock_ns.max(log_floor.ns)).then(|| ns - clock_ns)
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
const _: () = assert!(CEILING_MARGIN_NS < CEILING_LEAD_NS, "a new ceiling is not near at once");
const _: () = assert!(COUNT_MARGIN < COUNT_LEAD, "nor one that only the count has moved");
const _: () = assert!(CEILING_LEAD_NS <= WAIT_MAX_NS, "a start waits for its own ceiling");
