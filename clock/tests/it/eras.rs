//! NTP's 32 bits of seconds wrap in February 2036 and every 136 years: times are read in the era
//! nearest to the pivot, and differences do not notice.
//!
//! Seen to fail: with plain instead of wrapping subtraction, and with era 0 assumed.

use clock::packet::NtpTime;
use clock::{ClockState, LeapPolicy};
use proptest::prelude::*;

use crate::sim::machine::Wander;
use crate::sim::server::Nature::{self, Honest};
use crate::sim::world::{Scenario, World};

const SECOND: u64 = 1_000_000_000;
/// 2036-02-07T06:28:16Z, when era 1 begins.
const ERA_1_NS: u64 = 2_085_978_496 * SECOND;
/// Less than half an era, nanoseconds.
const REACH_NS: i64 = 2_147_483_000 * 1_000_000_000;

#[test]
fn era_1_begins_in_2036() {
    assert_eq!(NtpTime::from_unix_ns(ERA_1_NS), NtpTime(0));
    assert_eq!(NtpTime(0).to_unix_ns(ERA_1_NS - SECOND), Some(ERA_1_NS));
    assert_eq!(NtpTime::from_unix_ns(0), NtpTime(2_208_988_800 << 32));
    let (before, after) =
        (NtpTime::from_unix_ns(ERA_1_NS - SECOND), NtpTime::from_unix_ns(ERA_1_NS + SECOND));
    assert_eq!(after.since_ns(before), 2_000_000_000);
    assert_eq!(before.since_ns(after), -2_000_000_000);
    assert_eq!(NtpTime::from_unix_ns(0).to_unix_ns(0), Some(0));
    assert_eq!(NtpTime(NtpTime::from_unix_ns(0).0 - 1).to_unix_ns(0), None, "before 1970");
}

#[test]
fn a_clock_runs_through_the_change() {
    let liar = Nature::Jumps { by_up_to_ns: 1_000_000_000_000_000_000 };
    let lan = Scenario::lan("era", vec![Honest, liar, Honest], Wander::cool());
    let scenario = Scenario { base_ns: ERA_1_NS - 900 * SECOND, ..lan };
    for seed in 0..20 {
        let mut world = World::new(&scenario, seed);
        let mut tracker = World::tracker(&scenario, LeapPolicy::Step);
        world.run(&mut tracker, 1800 * SECOND);
        assert!(world.machine.utc_ns > ERA_1_NS);
        assert_eq!(world.audit.violations(), 0, "{:?}", world.audit);
        assert_eq!(world.audit.states, [ClockState::Unsynced, ClockState::Synced]);
    }
}

/// A machine that believes a time some years off finds the right era, too.
#[test]
fn a_clock_starts_in_the_wrong_era() {
    let year_ns = 31_557_600 * 1_000_000_000_i64;
    let lan = Scenario::lan("era", vec![Honest; 3], Wander::cool());
    let scenario = Scenario { base_ns: ERA_1_NS, off_max_ns: 9 * year_ns, ..lan };
    for seed in 0..50 {
        let mut world = World::new(&scenario, seed);
        let mut tracker = World::tracker(&scenario, LeapPolicy::Smear);
        world.run(&mut tracker, 300 * SECOND);
        assert_eq!(world.audit.violations(), 0, "{:?}", world.audit);
        assert_eq!(world.audit.states, [ClockState::Unsynced, ClockState::Synced]);
    }
}

proptest! {
    #[test]
    fn times_read_back_with_any_near_pivot(
        ns in 0..u64::MAX,
        away_ns in -REACH_NS..REACH_NS,
    ) {
        let Some(pivot_ns) = ns.checked_add_signed(away_ns) else { return Ok(()) };
        let back_ns = NtpTime::from_unix_ns(ns).to_unix_ns(pivot_ns);
        // The fraction has a step of 0.23 ns, and both ends are rounded.
        prop_assert!(back_ns.is_some_and(|back_ns| back_ns.abs_diff(ns) <= 2), "{back_ns:?}");
        let away = NtpTime::from_unix_ns(pivot_ns).since_ns(NtpTime::from_unix_ns(ns));
        prop_assert!(away.abs_diff(away_ns) <= 2, "{away}");
    }
}
