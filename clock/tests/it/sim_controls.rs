//! Negative controls: in the very worlds where the tracker is never wrong, it would be with any one of
//! its rules exchanged. And the positive control: put together again with nothing exchanged, its parts
//! are the tracker, view for view.

use clock::LeapPolicy;

use crate::sim::assembled::{Assembled, Both, Rule};
use crate::sim::audit::Audit;
use crate::sim::server::Nature;
use crate::sim::world::{Clock, Scenario, World};
use crate::sim_truth::{RUN_NS, scenarios};

const SEEDS: u64 = 3;

fn run(scenario: &Scenario, seed: u64, clock: &mut impl Clock) -> Audit {
    let mut world = World::new(scenario, seed);
    world.run(clock, RUN_NS);
    world.audit
}

/// What a rule does in the worlds that are named so: the share of looks at which true time was
/// outside, in parts per thousand.
fn outside_ppt(rule: Rule, named: &str) -> u64 {
    let mut all = Audit::default();
    for scenario in scenarios().iter().filter(|scenario| scenario.name.contains(named)) {
        for seed in 0..SEEDS {
            all.add(&run(scenario, seed, &mut Assembled::new(scenario, rule)));
        }
    }
    assert!(all.evaluations > 10_000, "{named}: {} looks", all.evaluations);
    println!("{rule:?} in '{named}': {} of {} looks wrong", all.outside, all.evaluations);
    all.outside * 1000 / all.evaluations
}

#[test]
fn nothing_exchanged_is_the_tracker() {
    for scenario in scenarios() {
        for seed in 0..SEEDS {
            let tracker = World::tracker(&scenario, LeapPolicy::Smear);
            let assembled = Assembled::new(&scenario, Rule::Product);
            let audit = run(&scenario, seed, &mut Both(tracker, assembled));
            assert!(audit.evaluations > 1000, "{}: {} looks", scenario.name, audit.evaluations);
            assert_eq!(audit.violations(), 0, "{}", scenario.name);
        }
    }
}

#[test]
fn the_narrowest_overlap_is_no_bound() {
    assert!(outside_ppt(Rule::MaxOverlap, "LAN, 3, one at the edge") > 100);
    assert!(outside_ppt(Rule::MaxOverlap, "LAN, 5, two colluding") > 100);
    assert!(outside_ppt(Rule::MaxOverlap, "WAN, 4, one at the edge") > 100);
    assert_eq!(outside_ppt(Rule::Product, "at the edge"), 0);
}

#[test]
fn the_server_that_is_surest_may_lie() {
    assert!(outside_ppt(Rule::SmallestBound, "+10 s") > 50);
    assert!(outside_ppt(Rule::SmallestBound, "creeping") > 50);
    assert_eq!(outside_ppt(Rule::Product, "+10 s"), 0);
}

#[test]
fn an_assumed_drift_is_wrong_for_some_machine() {
    assert!(outside_ppt(Rule::FixedPhi, "120 ppm") > 500);
    assert!(outside_ppt(Rule::FixedPhi, "-118 ppm") > 500);
    assert_eq!(outside_ppt(Rule::Product, "ppm"), 0);
}

#[test]
fn a_mean_drift_needs_a_margin() {
    assert!(outside_ppt(Rule::NoWander, "LAN, 3 honest, +120 ppm") > 50);
    assert_eq!(outside_ppt(Rule::Product, "LAN, 3 honest, +120 ppm"), 0);
}

/// Three servers tolerate one liar. Two that collude are believed: the condition of I3 is needed, and
/// the audit sees it when it does not hold.
#[test]
fn one_liar_too_many_is_believed() {
    let mut scenario = scenarios().swap_remove(0);
    scenario.natures[1] = Nature::Off { by_ns: 5_000_000 };
    scenario.natures[2] = Nature::Off { by_ns: 5_000_000 };
    let tracker = &mut World::tracker(&scenario, LeapPolicy::Smear);
    let audit = run(&scenario, 0, tracker);
    assert!(audit.outside * 2 > audit.evaluations, "{audit:?}");
}
