//! What happens when the conditions do not hold: the machine misses time unseen, or its oscillator
//! becomes another. The clock finds out, says so, and is right again; the reading never goes back.
//!
//! Seen to fail: with a disruption that leaves the clock synced; with one that keeps what was measured
//! of the drift, or old samples; with an allowance that is widened as soon as samples contradict each
//! other; with a server that is silent and still counts for the drift; with the bound on the drift
//! instead of the drift in the alarm.

use clock::tracker::Alarm;
use clock::{ClockState, LeapPolicy, Tracker};

use crate::sim::machine::Wander;
use crate::sim::server::Nature::{self, Honest};
use crate::sim::world::{Scenario, World};
use crate::sim::{MILLI, Random, SECOND};

/// Three honest servers and a clock that has followed them for half an hour.
fn settled(natures: Vec<Nature>, wander: Wander, seed: u64) -> (World, Tracker) {
    let scenario = Scenario::lan("faults", natures, wander);
    let mut world = World::new(&scenario, seed);
    let mut tracker = World::tracker(&scenario, LeapPolicy::Smear);
    world.run(&mut tracker, 1800 * SECOND);
    assert_eq!(world.audit.violations(), 0);
    assert_eq!(state(&world, &tracker), ClockState::Synced);
    (world, tracker)
}

fn state(world: &World, tracker: &Tracker) -> ClockState {
    tracker.view().state_at(world.machine.raw_ns)
}

fn holds_truth(world: &World, tracker: &Tracker) -> bool {
    let reading = tracker.view().now(world.machine.raw_ns);
    let (earliest, latest) = (reading.earliest_ns.unwrap(), reading.latest_ns.unwrap());
    (earliest..=latest).contains(&world.machine.utc_ns)
}

#[test]
fn a_pause_that_nobody_saw_is_found() {
    for seed in 0..50 {
        let (mut world, mut tracker) = settled(vec![Honest; 3], Wander::cool(), seed);
        let mut random = Random::new(seed, 9);
        world.machine.miss((50 * MILLI) << random.within(0, 16));
        world.audit.states.clear();
        world.run(&mut tracker, 60 * SECOND);
        let states = [ClockState::Synced, ClockState::Suspect, ClockState::Synced];
        assert_eq!(world.audit.states, states);
        assert!(holds_truth(&world, &tracker));
        assert_eq!(tracker.view().epoch, 2);
        assert_eq!(tracker.alarms(), [], "the jump is no drift");
        let outside = world.audit.outside;
        world.run(&mut tracker, 1800 * SECOND);
        assert_eq!(world.audit.outside, outside, "once right, it stays right");
        assert_eq!(world.audit.went_back + world.audit.shrank + world.audit.astray, 0);
    }
}

#[test]
fn a_suspension_that_was_seen_is_no_disruption() {
    let (mut world, mut tracker) = settled(vec![Honest; 3], Wander::cool(), 1);
    world.machine.miss(3600 * SECOND);
    tracker.suspended(world.machine.raw_ns);
    assert_eq!(state(&world, &tracker), ClockState::Suspect);
    assert_eq!(tracker.view().bound, None);
    let reason = tracker.reason(world.machine.raw_ns);
    assert_eq!(reason, "the machine was suspended; 0 of 3 servers answer; 2 are needed");
    world.run(&mut tracker, 60 * SECOND);
    assert_eq!(state(&world, &tracker), ClockState::Synced);
    assert_eq!(tracker.view().epoch, 2);
    assert_eq!(world.audit.violations(), 0, "{:?}", world.audit);
}

#[test]
fn another_oscillator_is_noticed() {
    for (seed, ppb) in (0..20).zip([150_000, -150_000, 300_000, -450_000].into_iter().cycle()) {
        let (mut world, mut tracker) = settled(vec![Honest; 3], Wander::around(0), seed);
        assert!(tracker.view().phi_ppb < 60_000);
        world.machine.become_other(Wander::around(ppb));
        let mut noticed = false;
        for _ in 0..100 {
            world.run(&mut tracker, SECOND);
            let alarms = tracker.alarms();
            noticed |= alarms.iter().any(|alarm| matches!(alarm, Alarm::Inconsistent { .. }));
        }
        assert!(noticed || world.audit.states.contains(&ClockState::Suspect), "seed {seed}");
        // Within the base of the measurement the drift of before is forgotten.
        world.run(&mut tracker, 1500 * SECOND);
        assert!(tracker.view().phi_ppb >= ppb.unsigned_abs() - 7_500);
        assert!(holds_truth(&world, &tracker));
        let outside = world.audit.outside;
        assert!(outside < 1000, "wrong for {outside} looks, four in a second");
        world.run(&mut tracker, 1800 * SECOND);
        assert_eq!(world.audit.outside, outside, "once right, it stays right");
        assert_eq!(world.audit.went_back + world.audit.shrank + world.audit.astray, 0);
    }
}

/// What a server said of the drift before it fell silent would help a liar to hide another.
#[test]
fn a_silent_server_has_no_say_in_the_drift() {
    let steady =
        |ppb: i64| Wander { lo_ppb: ppb - 2_000, hi_ppb: ppb + 2_000, ..Wander::around(0) };
    let (mut world, mut tracker) = settled(vec![Honest; 3], steady(0), 3);
    world.servers[2].nature = Nature::Silent;
    // So slowly that nobody doubts.
    for ppm in (0..=120_i64).step_by(8) {
        world.machine.become_other(steady(ppm * 1000));
        world.run(&mut tracker, 1100 * SECOND);
    }
    world.servers[1].nature = Nature::HidesDrift;
    world.run(&mut tracker, 3600 * SECOND);
    assert!(tracker.view().phi_ppb >= 122_000, "{}", tracker.view().phi_ppb);
    assert_eq!(world.audit.violations(), 0, "{:?}", world.audit);
}

#[test]
fn a_drift_beyond_any_allowance_is_an_alarm() {
    let scenario = Scenario::lan("wild", vec![Honest; 3], Wander::around(520_000));
    let mut world = World::new(&scenario, 0);
    let mut tracker = World::tracker(&scenario, LeapPolicy::Smear);
    world.run(&mut tracker, 600 * SECOND);
    let alarms = tracker.alarms();
    assert!(matches!(alarms[..], [Alarm::Drift { measured_ppb: 520_000.. }, ..]), "{alarms:?}");
    assert_eq!(tracker.view().phi_ppb, 500_000);
}

/// Two samples of a distant server a minute apart allow for any drift. That is no alarm.
#[test]
fn a_drift_that_is_not_known_yet_is_no_alarm() {
    let scenario = Scenario::wan("early", vec![Honest; 3], Wander::cool());
    for seed in 0..20 {
        let mut world = World::new(&scenario, seed);
        let mut tracker = World::tracker(&scenario, LeapPolicy::Smear);
        let mut widest_ppb = 0;
        for _ in 0..600 {
            world.run(&mut tracker, SECOND);
            assert_eq!(tracker.alarms(), []);
            let sources = tracker.sources().filter_map(|(source, _)| source.drift());
            widest_ppb = sources.map(|drift| drift.bound_ppb).max().unwrap_or(0).max(widest_ppb);
        }
        assert!(widest_ppb > 500_000, "{widest_ppb}");
    }
}

/// From 1 ms at 50 ppm the bound is 10 ms after 3 minutes and 100 ms after 33.
#[test]
fn without_servers_the_clock_holds_over_with_what_was_measured() {
    let (mut world, mut tracker) = settled(vec![Honest; 3], Wander::around(0), 2);
    for server in &mut world.servers {
        server.nature = Nature::Silent;
    }
    let error_ms = |world: &World, tracker: &Tracker| {
        tracker.view().now(world.machine.raw_ns).error_ns().unwrap() / MILLI
    };
    world.run(&mut tracker, 180 * SECOND);
    assert!(error_ms(&world, &tracker) <= 10);
    world.run(&mut tracker, 900 * SECOND);
    assert_eq!(state(&world, &tracker), ClockState::Holdover);
    let reason = tracker.reason(world.machine.raw_ns);
    assert_eq!(reason, "0 of 3 servers answer; 2 are needed");
    world.run(&mut tracker, 800 * SECOND);
    assert_eq!(state(&world, &tracker), ClockState::Holdover);
    world.run(&mut tracker, 200 * SECOND);
    assert_eq!(state(&world, &tracker), ClockState::Expired);
    let reason = tracker.reason(world.machine.raw_ns);
    assert!(reason.starts_with("the error bound is 10"), "{reason}");
    assert!(reason.ends_with("ms, the limit 100.0 ms; 0 of 3 servers answer; 2 are needed"));
    for server in &mut world.servers {
        server.nature = Honest;
    }
    world.run(&mut tracker, 100 * SECOND);
    assert_eq!(state(&world, &tracker), ClockState::Synced);
    assert_eq!(tracker.reason(world.machine.raw_ns), "");
    assert_eq!(world.audit.violations(), 0, "{:?}", world.audit);
}
