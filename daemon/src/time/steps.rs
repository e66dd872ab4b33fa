//! Steps of the operating system's clock, told from its slewing.
//!
//! Somebody who sets the wall clock moves it against the time since boot, which is never set. Whoever
//! slews it moves both, or the wall clock by so little per second that it cannot be taken for a step.
//! Nothing follows from a step; it is only told, because people ask.

/// The fastest that a wall clock is slewed, as a fraction of elapsed time: 1/10. chrony takes 8.3 %.
const SLEW_PART: u64 = 10;
/// Below this, nanoseconds, it may be the reading that was slow.
const STEP_MIN_NS: u64 = 10_000_000;

/// Two of the operating system's clocks at one moment, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OsClock {
    /// Time since boot, suspended time included.
    pub(super) boot_ns: u64,
    /// Wall clock, since 1970.
    pub(super) wall_ns: u64,
}

/// Watches the wall clock.
#[derive(Debug)]
pub(super) struct StepWatch {
    last: OsClock,
}

impl StepWatch {
    /// Begins to watch.
    pub(super) fn new(now: OsClock) -> Self {
        Self { last: now }
    }

    /// How far the wall clock was set since the last look, nanoseconds; `None` if it was not.
    pub(super) fn look(&mut self, now: OsClock) -> Option<i64> {
        let last = std::mem::replace(&mut self.last, now);
        let elapsed_ns = now.boot_ns.saturating_sub(last.boot_ns);
        let moved_ns = i128::from(now.wall_ns) - i128::from(last.wall_ns);
        let moved_ns = moved_ns - i128::from(elapsed_ns);
        let moved_ns = i64::try_from(moved_ns.clamp(i64::MIN.into(), i64::MAX.into())).ok()?;
        (moved_ns.unsigned_abs() > STEP_MIN_NS + elapsed_ns / SLEW_PART).then_some(moved_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn at(boot_ns: u64, wall_ns: u64) -> OsClock {
        OsClock { boot_ns, wall_ns }
    }

    #[test]
    fn a_step_is_told_once_with_its_size() {
        let mut watch = StepWatch::new(at(5 * SECOND_NS, 900 * SECOND_NS));
        assert_eq!(watch.look(at(6 * SECOND_NS, 901 * SECOND_NS)), None);
        let stepped_ns = 4502 * SECOND_NS;
        assert_eq!(watch.look(at(7 * SECOND_NS, stepped_ns)), Some(3_600_000_000_000));
        assert_eq!(watch.look(at(8 * SECOND_NS, stepped_ns + SECOND_NS)), None);
        assert_eq!(watch.look(at(9 * SECOND_NS, 904 * SECOND_NS)), Some(-3_600_000_000_000));
        assert_eq!(watch.look(at(10 * SECOND_NS, 905 * SECOND_NS)), None);
    }

    #[test]
    fn slewing_is_no_step_however_long_it_lasts() {
        for sign in [1_i64, -1] {
            let (mut boot_ns, mut wall_ns) = (0, 900 * SECOND_NS);
            let mut watch = StepWatch::new(at(boot_ns, wall_ns));
            for _ in 0..1000 {
                boot_ns += SECOND_NS;
                wall_ns += SECOND_NS.saturating_add_signed(sign * 83_333_000);
                assert_eq!(watch.look(at(boot_ns, wall_ns)), None);
            }
        }
    }

    /// The time since boot counts a suspension, as the wall clock does.
    #[test]
    fn a_suspension_is_no_step() {
        let mut watch = StepWatch::new(at(0, 900 * SECOND_NS));
        assert_eq!(watch.look(at(7200 * SECOND_NS, 8100 * SECOND_NS)), None);
    }
}
