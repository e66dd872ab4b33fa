//! Gate G9: with one liar of three or two of five, true time stays inside and every liar that can be
//! told is named within two polls of its first lie; no honest server is named in its place.
//!
//! Seen to fail: with the newest of contradicting samples replaced by the oldest in the filter; with
//! the deepest overlap of fewer than `f + 1` servers taken for a majority.

use clock::{LeapPolicy, Tracker, Verdict};

use crate::sim::machine::Wander;
use crate::sim::server::Nature::{self, Honest};
use crate::sim::world::{Scenario, World};
use crate::sim::{Random, SECOND};

/// Offsets that no two bounds of these worlds bridge.
fn far(random: &mut Random) -> i64 {
    let by_ns = 200_000_000 << random.within(0, 12);
    if random.percent(50) { by_ns } else { -by_ns }
}

/// Runs until the liars have been asked `polls` times since their first lie, or until all are named.
/// Returns how often each was asked by then.
fn polls_until_named(world: &mut World, tracker: &mut Tracker) -> Vec<u64> {
    let lying = |world: &World| -> Vec<usize> {
        (0..world.servers.len()).filter(|at| world.servers[*at].lies()).collect()
    };
    while lying(world).is_empty() {
        world.run(tracker, SECOND / 10);
        assert_named(world, tracker);
    }
    let liars = lying(world);
    let first: Vec<u64> = liars.iter().map(|at| world.servers[*at].queries()).collect();
    while !liars.iter().all(|at| verdict(tracker, *at) == Verdict::Falseticker) {
        world.run(tracker, SECOND / 10);
        let now: Vec<u64> = liars.iter().map(|at| world.servers[*at].queries()).collect();
        assert!(now.iter().zip(&first).all(|(now, first)| now - first < 2), "{liars:?} not named");
        assert_named(world, tracker);
    }
    let asked = liars.iter().zip(&first);
    asked.map(|(at, first)| world.servers[*at].queries() - first + 1).collect()
}

/// No honest server is named.
fn assert_named(world: &World, tracker: &Tracker) {
    for (at, server) in world.servers.iter().enumerate() {
        let verdict = verdict(tracker, at);
        assert!(server.lies() || verdict != Verdict::Falseticker, "server {at} is honest");
    }
}

fn verdict(tracker: &Tracker, at: usize) -> Verdict {
    tracker.sources().nth(at).unwrap().1
}

fn check(natures: Vec<Nature>, wide_area: bool, seed: u64) {
    let wander = Wander::around(Random::new(seed, 3).within(-150_000, 150_000));
    let lan = Scenario::lan("liars", natures.clone(), wander);
    let scenario = if wide_area { Scenario::wan("liars", natures, wander) } else { lan };
    let mut world = World::new(&scenario, seed);
    world.servers.iter_mut().for_each(|server| server.way.loss_percent = 0);
    let mut tracker = World::tracker(&scenario, LeapPolicy::Smear);
    let polls = polls_until_named(&mut world, &mut tracker);
    assert!(polls.iter().all(|polls| *polls <= 2), "{polls:?}");
    world.run(&mut tracker, 600 * SECOND);
    assert_named(&world, &tracker);
    assert_eq!(world.audit.violations(), 0, "{scenario:?} {:?}", world.audit);
}

#[test]
fn one_of_three_is_named_from_the_start() {
    for seed in 0..100 {
        let mut natures = vec![Honest; 3];
        let mut random = Random::new(seed, 5);
        natures[usize::try_from(random.upto(2)).unwrap()] = Nature::Off { by_ns: far(&mut random) };
        check(natures, seed % 2 == 0, seed);
    }
}

#[test]
fn two_of_five_are_named_from_the_start_even_if_they_collude() {
    for seed in 0..100 {
        let mut random = Random::new(seed, 6);
        let lie = Nature::Off { by_ns: far(&mut random) };
        let other = if random.percent(50) { lie } else { Nature::Off { by_ns: far(&mut random) } };
        let mut natures = vec![lie, other, Honest, Honest, Honest];
        natures.rotate_left(usize::try_from(random.upto(4)).unwrap());
        check(natures, seed % 2 == 0, seed);
    }
}

#[test]
fn servers_that_turn_are_named() {
    for seed in 0..100 {
        let mut random = Random::new(seed, 8);
        let at_query = 5 + random.upto(20);
        let turns = Nature::Turns { at_query, by_ns: far(&mut random) };
        let natures = if random.percent(50) {
            vec![Honest, turns, Honest]
        } else {
            vec![turns, Honest, turns, Honest, Honest]
        };
        check(natures, false, seed);
    }
}
