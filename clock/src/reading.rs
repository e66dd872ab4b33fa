//! What the clock says now: one subtraction and a few additions away from a raw counter.
//!
//! The local scale `L` runs with the raw counter. True time is `L + offset`; the offset is known
//! to lie in `bound`, which widens with age. The reading is `D = L + c`; `c` moves towards a target
//! by at most [`SLEW_PPB`], so `D` never goes back within one view.
//!
//! Not here: how the bound is found (`select`, `discipline`).

use crate::interval::{Interval, drift_ns};
use crate::leap::Leap;
use crate::state::ClockState;

/// How fast the reading is moved towards its target, in parts per billion.
pub const SLEW_PPB: u64 = 500_000;

/// Everything needed to turn a raw counter into a reading. Published whole, read without a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockView {
    /// Raw counter at publication, nanoseconds.
    pub raw_at_ns: u64,
    /// The local scale `L` at publication, nanoseconds since 1970.
    pub base_ns: u64,
    /// The reading's offset from `L` at publication, nanoseconds.
    pub c_ns: i64,
    /// The offset that `c` moves to, nanoseconds.
    pub target_ns: i64,
    /// The reading is not below this, nanoseconds since 1970; 0 before it ever waited. A clock that
    /// ran far ahead waits here for true time instead of going back.
    pub hold_ns: u64,
    /// Where true time lay at publication, as offsets from `L`; `None` if nobody knows.
    pub bound: Option<Interval>,
    /// How fast the bound widens, in parts per billion.
    pub phi_ppb: u64,
    /// The leap second that is ahead, if the servers step and have announced one.
    pub leap: Option<Leap>,
    /// The state at publication; see [`ClockView::state_at`].
    pub state: ClockState,
    /// Raw counter from which on too few servers are fresh, nanoseconds.
    pub fresh_until_ns: u64,
    /// Limit of the error bound, nanoseconds.
    pub max_error_ns: u64,
    /// Number of times that the clock was set: 0 before the first sync, then 1, and one more at
    /// each disruption and after each suspension.
    pub epoch: u64,
}

/// What the clock says at one moment, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The reading. Inside the bounds, except while it waits for them to come up to it.
    pub now_ns: u64,
    /// True time is not before this; `None` if nobody knows.
    pub earliest_ns: Option<u64>,
    /// True time is not after this; `None` if nobody knows.
    pub latest_ns: Option<u64>,
}

const _: () = assert!(1_000_000_000 % SLEW_PPB == 0, "slewing divides by a whole number");

impl ClockView {
    /// A view of a clock that nobody checks: it starts at `base_ns` and runs with the counter.
    #[must_use]
    pub fn unchecked(raw_at_ns: u64, base_ns: u64, max_error_ns: u64, state: ClockState) -> Self {
        Self {
            raw_at_ns,
            base_ns,
            c_ns: 0,
            target_ns: 0,
            hold_ns: 0,
            bound: None,
            phi_ppb: 0,
            leap: None,
            state,
            fresh_until_ns: u64::MAX,
            max_error_ns,
            epoch: 0,
        }
    }

    /// The reading at a value of the raw counter. It does not decrease as the counter increases.
    #[must_use]
    #[inline]
    pub fn now(&self, raw_ns: u64) -> Reading {
        let bound = self.bound_at(raw_ns);
        Reading {
            now_ns: self.utc_ns(raw_ns, self.c_at(raw_ns)).max(self.hold_ns),
            earliest_ns: bound.map(|b| self.utc_ns(raw_ns, b.lo_ns())),
            latest_ns: bound.map(|b| self.utc_ns(raw_ns, b.hi_ns())),
        }
    }

    /// The state at a value of the raw counter: what was published, unless time alone has made it
    /// worse since.
    #[must_use]
    pub fn state_at(&self, raw_ns: u64) -> ClockState {
        self.state_with(&self.now(raw_ns), raw_ns)
    }

    /// As [`ClockView::state_at`], where the reading of that moment is at hand.
    #[must_use]
    pub fn state_with(&self, reading: &Reading, raw_ns: u64) -> ClockState {
        match self.state {
            ClockState::Synced | ClockState::Holdover | ClockState::Disagree => {
                let error_ns = reading.error_ns().unwrap_or(u64::MAX);
                if error_ns > self.max_error_ns {
                    ClockState::Expired
                } else if self.state == ClockState::Synced && raw_ns > self.fresh_until_ns {
                    ClockState::Holdover
                } else {
                    self.state
                }
            }
            ClockState::Unsynced
            | ClockState::Expired
            | ClockState::Suspect
            | ClockState::Local => self.state,
        }
    }

    /// The reading's offset from `L` at a value of the raw counter, nanoseconds.
    #[must_use]
    #[inline]
    pub fn c_at(&self, raw_ns: u64) -> i64 {
        const PER: u64 = 1_000_000_000 / SLEW_PPB;
        let most = raw_ns.saturating_sub(self.raw_at_ns) / PER;
        let way = self.target_ns.abs_diff(self.c_ns).min(most);
        if self.target_ns >= self.c_ns {
            self.c_ns.saturating_add_unsigned(way)
        } else {
            self.c_ns.saturating_sub_unsigned(way)
        }
    }

    /// Whether the reading stands still until true time has come up to it.
    #[must_use]
    pub fn waits(&self, raw_ns: u64) -> bool {
        self.hold_ns > self.utc_ns(raw_ns, self.c_at(raw_ns))
    }

    /// How far the reading still is from where it goes, at a value of the raw counter: target minus
    /// reading, nanoseconds.
    #[must_use]
    pub fn to_target_ns(&self, raw_ns: u64) -> i64 {
        let (target_ns, now_ns) = (self.utc_ns(raw_ns, self.target_ns), self.now(raw_ns).now_ns);
        let away_ns = i128::from(target_ns) - i128::from(now_ns);
        i64::try_from(away_ns).unwrap_or(if away_ns < 0 { i64::MIN } else { i64::MAX })
    }

    /// Where true time lies at a value of the raw counter, as offsets from `L`.
    #[must_use]
    #[inline]
    pub fn bound_at(&self, raw_ns: u64) -> Option<Interval> {
        let age_ns = raw_ns.abs_diff(self.raw_at_ns);
        let grown = self.bound.map(|b| b.grown(drift_ns(age_ns, self.phi_ppb)));
        grown.map(|b| self.leap.map_or(b, |leap| leap.widen(b, raw_ns)))
    }

    #[inline]
    fn utc_ns(&self, raw_ns: u64, offset_ns: i64) -> u64 {
        let short = raw_ns
            .checked_sub(self.raw_at_ns)
            .and_then(|elapsed_ns| self.base_ns.checked_add(elapsed_ns))
            .and_then(|local_ns| local_ns.checked_add_signed(offset_ns));
        if let Some(utc_ns) = short {
            return utc_ns;
        }
        let elapsed_ns = i128::from(raw_ns) - i128::from(self.raw_at_ns);
        let utc_ns = i128::from(self.base_ns) + elapsed_ns + i128::from(offset_ns);
        u64::try_from(utc_ns.max(0)).unwrap_or(u64::MAX)
    }
}

impl Reading {
    /// A reading whose bounds nobody knows.
    #[must_use]
    pub const fn unbounded(now_ns: u64) -> Self {
        Self { now_ns, earliest_ns: None, latest_ns: None }
    }

    /// The larger distance from the reading to an end of its interval, nanoseconds; `None` if the
    /// bounds are unknown.
    #[must_use]
    pub fn error_ns(&self) -> Option<u64> {
        let (earliest_ns, latest_ns) = (self.earliest_ns?, self.latest_ns?);
        let before_ns = self.now_ns.saturating_sub(earliest_ns);
        Some(before_ns.max(latest_ns.saturating_sub(self.now_ns)))
    }

    /// [`Reading::error_ns`] in microseconds, rounded up.
    #[must_use]
    pub fn error_us(&self) -> Option<u64> {
        self.error_ns().map(|ns| ns.div_ceil(1000))
    }
}
