//! Leap seconds: with servers that step, true time stays inside through midnight, the reading repeats
//! no second, and the clock is exact again when enough servers are past it. With servers that smear
//! nothing happens at all, whatever is announced.
//!
//! Seen to fail: without the widening; with the widening one second late; with samples from before the
//! leap used after it; with a notice that needs one server only.

use clock::{ClockState, LeapNotice, LeapPolicy, Tracker, Verdict};

use crate::sim::SECOND;
use crate::sim::machine::Wander;
use crate::sim::server::Nature::{self, Honest};
use crate::sim::world::{BASE_NS, Scenario, World};

const DAY_NS: u64 = 86_400 * SECOND;
const NS: i64 = 1_000_000_000;
const INSERT: Nature = Nature::Announces { indicator: 1 };
const DELETE: Nature = Nature::Announces { indicator: 2 };

/// A world 20 minutes before midnight, in which true time steps by `by_ns` at midnight.
fn evening(natures: Vec<Nature>, policy: LeapPolicy, by_ns: i64, seed: u64) -> (World, Tracker) {
    evening_by(natures, policy, by_ns, seed, 80_000)
}

/// As [`evening`], with servers that admit to be off by so much.
fn evening_by(
    natures: Vec<Nature>,
    policy: LeapPolicy,
    by_ns: i64,
    seed: u64,
    admits_ns: u64,
) -> (World, Tracker) {
    let scenario = Scenario::lan("leap", natures, Wander::around(40_000));
    let mut world = World::new(&scenario, seed);
    world.servers.iter_mut().for_each(|server| server.way.admits_ns = admits_ns);
    // A deleted second is the one before midnight.
    let midnight_ns = BASE_NS + DAY_NS;
    let at_ns = if by_ns > 0 { midnight_ns - SECOND } else { midnight_ns };
    world.machine.leap = (by_ns != 0).then_some((at_ns, by_ns));
    let mut tracker = World::tracker(&scenario, policy);
    // The servers are silent for most of the day: nothing is announced, nothing happens.
    world.machine.miss(midnight_ns - 1200 * SECOND - world.machine.utc_ns);
    world.run(&mut tracker, 600 * SECOND);
    (world, tracker)
}

fn error_ns(world: &World, tracker: &Tracker) -> u64 {
    tracker.view().now(world.machine.raw_ns).error_ns().unwrap()
}

fn half_width_ns(world: &World, tracker: &Tracker) -> u64 {
    tracker.view().bound_at(world.machine.raw_ns).unwrap().width_ns() / 2
}

#[test]
fn true_time_stays_inside_through_a_step() {
    for seed in 0..40 {
        for (nature, notice, by_ns) in
            [(INSERT, LeapNotice::Insert, -NS), (DELETE, LeapNotice::Delete, NS)]
        {
            let (mut world, mut tracker) = evening(vec![nature; 3], LeapPolicy::Step, by_ns, seed);
            assert_eq!(tracker.leap(), notice);
            assert_eq!(world.audit.states, [ClockState::Unsynced, ClockState::Synced]);
            world.servers.iter_mut().for_each(|server| server.way.loss_percent = 20);
            world.run(&mut tracker, 610 * SECOND);
            for server in &mut world.servers {
                server.nature = Honest;
            }
            world.run(&mut tracker, 300 * SECOND);
            assert_eq!(world.machine.stepped_ns, by_ns);
            assert!(half_width_ns(&world, &tracker) < 5_000_000, "narrow again");
            assert_eq!(tracker.leap(), LeapNotice::None);
            // Forward the reading steps; back it waits for the second to be over.
            assert!(error_ns(&world, &tracker) < 10_000_000);
            assert_eq!(world.audit.violations(), 0, "{by_ns} {:?}", world.audit);
            assert_eq!(tracker.view().epoch, 1, "no disruption");
            let states = &world.audit.states;
            assert!(!states.contains(&ClockState::Suspect), "{states:?}");
        }
    }
}

/// The first moment at which the leap may have come is not the last: who answers in between has not
/// stepped yet.
#[test]
fn answers_from_before_the_last_moment_do_not_count() {
    for seed in 0..20 {
        let (mut world, mut tracker) =
            evening_by(vec![INSERT; 3], LeapPolicy::Step, -NS, seed, 50_000_000);
        world.run(&mut tracker, 500 * SECOND);
        while tracker.view().now(world.machine.raw_ns).latest_ns.unwrap() < BASE_NS + DAY_NS {
            world.run(&mut tracker, SECOND / 1000);
        }
        assert!(world.machine.utc_ns < BASE_NS + DAY_NS - 5_000_000, "not yet");
        (0..3).for_each(|index| world.ask(&mut tracker, index));
        assert_eq!(world.machine.stepped_ns, 0);
        world.run(&mut tracker, 60 * SECOND);
        assert_eq!(world.machine.stepped_ns, -NS);
        assert_eq!(world.audit.violations(), 0, "{:?}", world.audit);
    }
}

#[test]
fn a_server_that_does_not_step_is_named() {
    let natures = vec![INSERT, Nature::Ignores { indicator: 1 }, INSERT];
    let (mut world, mut tracker) = evening(natures, LeapPolicy::Step, -NS, 1);
    world.run(&mut tracker, 700 * SECOND);
    let verdicts: Vec<Verdict> = tracker.sources().map(|(_, verdict)| verdict).collect();
    assert_eq!(verdicts, [Verdict::Selected, Verdict::Falseticker, Verdict::Selected]);
    assert_eq!(world.audit.violations(), 0, "{:?}", world.audit);
}

/// The clock knows in time: the view says it, so nobody has to wake up at midnight.
#[test]
fn the_view_widens_by_itself() {
    let (world, tracker) = evening(vec![INSERT; 3], LeapPolicy::Step, -NS, 2);
    let (view, raw_ns) = (tracker.view(), world.machine.raw_ns);
    let midnight_ns = BASE_NS + DAY_NS;
    let width_ns = |raw_ns| {
        let reading = view.now(raw_ns);
        (reading.latest_ns.unwrap(), reading.latest_ns.unwrap() - reading.earliest_ns.unwrap())
    };
    let steps = (0..6200).map(|tenth| width_ns(raw_ns + tenth * SECOND / 10));
    let steps: Vec<(u64, u64)> = steps.collect();
    let grows: Vec<_> =
        steps.windows(2).filter(|pair| pair[1].1 > pair[0].1 + SECOND / 2).collect();
    assert_eq!(grows.len(), 1);
    assert!(grows[0][0].0 < midnight_ns && grows[0][1].0 >= midnight_ns, "{grows:?}");
    let aged_ns = 2 * (SECOND / 10 * view.phi_ppb / SECOND);
    let grown_ns = grows[0][1].1 - grows[0][0].1;
    assert!((SECOND + aged_ns..=SECOND + aged_ns + 4).contains(&grown_ns), "{grown_ns}");
}

#[test]
fn silent_servers_have_announced_it_all_the_same() {
    let (mut world, mut tracker) = evening(vec![INSERT; 3], LeapPolicy::Step, -NS, 3);
    for server in &mut world.servers {
        server.nature = Nature::Silent;
    }
    world.run(&mut tracker, 700 * SECOND);
    assert_eq!(world.audit.violations(), 0, "{:?}", world.audit);
    assert!(half_width_ns(&world, &tracker) > SECOND / 2);
    let reason = tracker.reason(world.machine.raw_ns);
    assert!(reason.ends_with("0 of 3 servers answer; 2 are needed"), "{reason}");
}

#[test]
fn an_announcement_that_is_taken_back_does_nothing() {
    let (mut world, mut tracker) = evening(vec![INSERT; 3], LeapPolicy::Step, 0, 4);
    assert_eq!(tracker.leap(), LeapNotice::Insert);
    for server in &mut world.servers {
        server.nature = Honest;
    }
    world.audit.states.clear();
    world.run(&mut tracker, 700 * SECOND);
    assert_eq!(world.audit.states, [ClockState::Synced]);
    assert_eq!(tracker.leap(), LeapNotice::None);
}

/// If the servers announce a leap and take none, the clock is wide for a moment and no more.
#[test]
fn an_announcement_that_was_wrong_passes() {
    let (mut world, mut tracker) = evening(vec![INSERT; 3], LeapPolicy::Step, 0, 5);
    world.run(&mut tracker, 700 * SECOND);
    let states = &world.audit.states;
    assert_eq!(states[1..], [ClockState::Synced, ClockState::Expired, ClockState::Synced]);
    assert!(error_ns(&world, &tracker) < 5_000_000);
    assert_eq!(world.audit.violations(), 0, "{:?}", world.audit);
}

#[test]
fn smearing_servers_change_nothing() {
    let at_query = 4 + 40;
    let natures = vec![INSERT, Nature::Turns { at_query, by_ns: -NS }, INSERT];
    let (mut world, mut tracker) = evening(natures, LeapPolicy::Smear, 0, 6);
    assert_eq!(tracker.leap(), LeapNotice::Insert, "reported all the same");
    assert_eq!(tracker.view().leap, None);
    world.audit.states.clear();
    world.run(&mut tracker, 900 * SECOND);
    assert_eq!(world.audit.states, [ClockState::Synced]);
    assert_eq!(world.audit.violations(), 0, "{:?}", world.audit);
    let verdicts: Vec<Verdict> = tracker.sources().map(|(_, verdict)| verdict).collect();
    assert_eq!(verdicts, [Verdict::Selected, Verdict::Falseticker, Verdict::Selected]);
}

#[test]
fn as_many_must_announce_it_as_the_hull_needs() {
    use LeapNotice as N;
    let table: [(&[u8], usize, LeapNotice); 14] = [
        (&[], 3, N::None),
        (&[1], 3, N::None),
        (&[1, 1], 3, N::Insert),
        (&[1, 0], 3, N::Insert),
        (&[1, 0, 0], 3, N::None),
        (&[1, 1, 0], 3, N::Insert),
        (&[2, 2, 0], 3, N::Delete),
        (&[1, 2, 0], 3, N::None),
        (&[1, 2, 2], 3, N::Delete),
        (&[1, 1, 0, 0, 0], 5, N::None),
        (&[1, 1, 1, 0, 0], 5, N::Insert),
        (&[1], 1, N::Insert),
        (&[1, 0], 2, N::None),
        (&[1, 1], 2, N::Insert),
    ];
    for (indicators, configured, notice) in table {
        assert_eq!(LeapNotice::of(indicators, configured), notice, "{indicators:?} {configured}");
    }
}

#[test]
fn policies_and_notices_are_words() {
    for policy in [LeapPolicy::Smear, LeapPolicy::Step] {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    let error = "leap".parse::<LeapPolicy>().unwrap_err().to_string();
    assert_eq!(error, "'leap' is not a leap policy; known are smear and step");
    let words = [LeapNotice::None, LeapNotice::Insert, LeapNotice::Delete].map(|n| n.to_string());
    assert_eq!(words, ["normal", "insert", "delete"]);
}
