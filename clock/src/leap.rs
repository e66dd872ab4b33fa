//! Leap seconds: what the servers announce, and what the bound does about it.
//!
//! UTC counts a second twice (insert) or leaves one out (delete) at the end of a day. Servers that
//! *smear* spread it over hours and never step: nothing is to be done, and a server that steps all
//! the same becomes a falseticker. With servers that *step*, the bound is widened by a second at the
//! first moment at which the leap may have happened, on the side to which it moves UTC; samples from
//! before the last moment at which it may happen do not count; the first hull afterwards narrows
//! the bound again. The reading goes on through all this: it never repeats a second. After an
//! inserted one it stands still until the second is over, and its error says so.
//!
//! The moments are values of the raw counter, and they stand in the view: a reader needs nobody to
//! wake up at midnight.
//!
//! Not here: when the servers are asked (`tracker`).

use std::fmt;
use std::str::FromStr;

use crate::interval::Interval;
use crate::reading::ClockView;
use crate::select::liars_max;

/// What a leap second moves UTC by, nanoseconds.
const LEAP_NS: u64 = 1_000_000_000;
/// How long after midnight a server may need to be through with the leap: some repeat the second
/// after midnight instead of the one before. Nanoseconds.
const SETTLE_NS: u64 = 3_000_000_000;
const DAY_NS: u64 = 86_400_000_000_000;

/// How the configured servers treat leap seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeapPolicy {
    /// They spread it: no second is counted twice.
    #[default]
    Smear,
    /// They step at the end of the day.
    Step,
}

/// A text that is no leap policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a leap policy; known are smear and step")]
pub struct LeapError(String);

impl LeapPolicy {
    /// The policy as it stands in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Smear => "smear",
            Self::Step => "step",
        }
    }
}

impl fmt::Display for LeapPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LeapPolicy {
    type Err = LeapError;

    fn from_str(text: &str) -> Result<Self, LeapError> {
        [Self::Smear, Self::Step]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| LeapError(text.chars().take(40).collect()))
    }
}

/// What is announced for the end of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeapNotice {
    /// Nothing.
    #[default]
    None,
    /// The last minute has 61 seconds.
    Insert,
    /// The last minute has 59 seconds.
    Delete,
}

impl LeapNotice {
    /// The notice in the words of chronyc.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "normal",
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }

    /// What servers announce, from the leap indicators of those that are fresh. As many must say
    /// the same as the hull needs, so liars alone cannot announce anything.
    #[must_use]
    pub fn of(indicators: &[u8], configured: usize) -> Self {
        let liars = liars_max(configured);
        let needed = indicators.len().saturating_sub(liars);
        let says = |leap| indicators.iter().filter(|indicator| **indicator == leap).count();
        if needed == 0 {
            Self::None
        } else if says(1) >= needed {
            Self::Insert
        } else if says(2) >= needed {
            Self::Delete
        } else {
            Self::None
        }
    }
}

impl fmt::Display for LeapNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An announced leap, as it stands in a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leap {
    /// Insert or delete.
    notice: LeapNotice,
    /// End of the day, nanoseconds since 1970.
    midnight_ns: u64,
    /// Raw counter from which on the leap may have happened, nanoseconds.
    from_raw_ns: u64,
}

impl Leap {
    /// The leap at the end of the day in which the clock is; `None` if nothing is announced or the
    /// clock has no bounds.
    #[must_use]
    pub fn ahead(notice: LeapNotice, view: &ClockView) -> Option<Self> {
        // A deleted second is the last of the day, so its place comes before midnight.
        let before_ns = match notice {
            LeapNotice::None => return None,
            LeapNotice::Insert => 0,
            LeapNotice::Delete => LEAP_NS,
        };
        let now = view.now(view.raw_at_ns);
        let midnight_ns = (now.earliest_ns? / DAY_NS).checked_add(1)?.checked_mul(DAY_NS)?;
        let missing_ns = (midnight_ns - before_ns).saturating_sub(now.latest_ns?);
        // The latest time gains `phi` on the counter, so it is there that much earlier.
        let per = 1_000_000_000 + u128::from(view.phi_ppb);
        let wait_ns = ns(u128::from(missing_ns) * 1_000_000_000 / per).saturating_sub(GRAIN_NS);
        let from_raw_ns = view.raw_at_ns.saturating_add(wait_ns);
        assert!(from_raw_ns >= view.raw_at_ns, "a leap second that is ahead has not come");
        Some(Self { notice, midnight_ns, from_raw_ns })
    }

    /// Whether the leap may have happened at a value of the raw counter.
    #[must_use]
    pub fn may_have_come(&self, raw_ns: u64) -> bool {
        raw_ns >= self.from_raw_ns
    }

    /// Raw counter from which on every honest server is past the leap, as seen from a view of the
    /// time before, nanoseconds.
    #[must_use]
    pub fn over_raw_ns(&self, view: &ClockView) -> u64 {
        let earliest_ns = view.now(view.raw_at_ns).earliest_ns.unwrap_or(self.midnight_ns);
        let missing_ns = self.midnight_ns.saturating_add(SETTLE_NS).saturating_sub(earliest_ns);
        let per = 1_000_000_000_u128.saturating_sub(u128::from(view.phi_ppb)).max(1);
        let wait_ns = ns((u128::from(missing_ns) * 1_000_000_000).div_ceil(per));
        view.raw_at_ns.saturating_add(wait_ns)
    }

    /// The bound, widened if the leap may have happened.
    #[must_use]
    pub fn widen(&self, bound: Interval, raw_ns: u64) -> Interval {
        match self.notice {
            _ if !self.may_have_come(raw_ns) => bound,
            LeapNotice::None => bound,
            LeapNotice::Insert => bound.stretched(LEAP_NS, 0),
            LeapNotice::Delete => bound.stretched(0, LEAP_NS),
        }
    }
}

/// What rounding may hide, nanoseconds.
const GRAIN_NS: u64 = 2;
const _: () = assert!(LEAP_NS < SETTLE_NS, "no server is asked before it is over");

fn ns(exact: u128) -> u64 {
    u64::try_from(exact).unwrap_or(u64::MAX)
}
