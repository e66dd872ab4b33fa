//! Gate G2, I2, I3 and I9 over the whole tracker, in simulated worlds: with at most `f` liars of any
//! kind, whatever the network does, and a drift that wanders by no more than 15 ppm around whatever it
//! is, true time is in the interval at every look; the reading never goes back; it is inside, or on
//! its way back into, its interval; the interval narrows only with a sample.
//!
//! Seen to fail: as `sim_controls` shows, and with samples aged by half, with the smallest bound on the
//! drift, with one that leaves out the samples' errors, with a reading set to the target at every
//! round, with rounds that narrow without a sample.
//!
//! `SIM_SEEDS=1000 cargo test --release -p clock sim_truth -- --nocapture` runs more and prints
//! what the bounds are.

use clock::LeapPolicy;
use clock::select::liars_max;

use crate::sim::audit::Audit;
use crate::sim::machine::Wander;
use crate::sim::server::Nature::{self, Honest};
use crate::sim::world::{Scenario, World};
use crate::sim::{Random, SECOND};

/// How long each world lasts.
pub(crate) const RUN_NS: u64 = 1800 * SECOND;
/// Seeds per scenario unless told otherwise: more than 10 million looks together.
const SEEDS: u64 = 80;

/// Every kind of world in which true time must stay inside.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let hot = Wander::around(120_000);
    let cold = Wander::around(-118_000);
    let cool = Wander::cool();
    let off = Nature::Off { by_ns: 10_000_000_000 };
    let edge = Nature::Off { by_ns: 400_000 };
    let wan_edge = Nature::Off { by_ns: 15_000_000 };
    let creeps = Nature::Creeps { ppb: 20_000 };
    let hides = Nature::HidesDrift;
    let jumps = Nature::Jumps { by_up_to_ns: 3_000_000 };
    let lan = Scenario::lan;
    vec![
        lan("LAN, 3 honest", vec![Honest; 3], cool),
        lan("LAN, 3, one +10 s", vec![Honest, off, Honest], cool),
        lan("LAN, 3, one at the edge", vec![Honest, Honest, edge], cool),
        lan("LAN, 3, one creeping 20 ppm", vec![creeps, Honest, Honest], cool),
        lan("LAN, 5, two colluding", vec![edge, Honest, edge, Honest, Honest], cool),
        Scenario::wan("WAN, 4 honest", vec![Honest; 4], cool),
        Scenario::wan("WAN, 4, one at the edge", vec![Honest, wan_edge, Honest, Honest], cool),
        lan("LAN, 3 honest, +120 ppm", vec![Honest; 3], hot),
        lan("LAN, 3, one hides -118 ppm", vec![Honest, hides, Honest], cold),
        lan("LAN, 5, two hide 120 ppm", vec![hides, Honest, hides, Honest, Honest], hot),
        lan(
            "LAN, 5, creeping, jumping, -118 ppm",
            vec![Honest, creeps, Honest, jumps, Honest],
            cold,
        ),
        Scenario::wan("WAN, 4, one hides 120 ppm", vec![Honest, Honest, hides, Honest], hot),
        lan(
            "rough LAN, 7: kisses, LI 3, silence",
            vec![
                Nature::Rate,
                Nature::Deny,
                Nature::Unsynced,
                Nature::Silent,
                Honest,
                Honest,
                Honest,
            ],
            cool,
        )
        .rough(),
        lan("rough LAN, 4, one jumping, 120 ppm", vec![Honest, jumps, Nature::Rate, Honest], hot)
            .rough(),
        Scenario::wan("rough WAN, 3, one +10 s, -118 ppm", vec![off, Honest, Honest], cold).rough(),
    ]
}

/// Runs the product in a world; returns what was seen.
fn run(scenario: &Scenario, seed: u64) -> Audit {
    let mut world = World::new(scenario, seed);
    let mut tracker = World::tracker(scenario, LeapPolicy::Smear);
    world.run(&mut tracker, RUN_NS);
    world.audit
}

fn seeds() -> u64 {
    std::env::var("SIM_SEEDS").map_or(SEEDS, |text| text.parse().unwrap())
}

#[test]
fn true_time_is_inside_at_ten_million_looks() {
    let seeds = seeds();
    let mut all = Audit::default();
    for scenario in scenarios() {
        let mut audit = Audit::default();
        for seed in 0..seeds {
            audit.add(&run(&scenario, seed));
        }
        let [p50, p99, error_p50, error_p99] = audit.figures_us();
        println!(
            "{:50} {:9} looks, half-width {p50}/{p99} us, error {error_p50}/{error_p99} us",
            scenario.name, audit.evaluations
        );
        assert_eq!(audit.violations(), 0, "{}: {audit:?}", scenario.name);
        all.add(&audit);
    }
    println!("{} looks", all.evaluations);
    assert!(all.evaluations >= seeds * 10_000_000 / SEEDS, "{} looks", all.evaluations);
}

/// Worlds with nothing fixed but the conditions: any number of servers, any liars as many as may be,
/// any drift up to what is ever allowed for, any schedule.
fn any_scenario(seed: u64) -> Scenario {
    let mut random = Random::new(seed, 7);
    let count = usize::try_from(random.within(1, 7)).unwrap();
    let mut natures: Vec<Nature> = (0..count).map(|_| any_honest(&mut random)).collect();
    for slot in natures.iter_mut().take(liars_max(count)) {
        *slot = any_liar(&mut random);
    }
    let turn = usize::try_from(random.upto(6)).unwrap() % count;
    natures.rotate_left(turn);
    let wander = Wander::around(random.within(-485_000, 485_000));
    let wide_area = random.percent(40);
    let scenario = if wide_area {
        Scenario::wan("any", natures, wander)
    } else {
        Scenario::lan("any", natures, wander)
    };
    let poll_ms = 1000 << random.within(2, 8);
    let loss_percent = random.upto(40);
    Scenario { poll_ms, loss_percent, sleeps: random.percent(30), ..scenario }
}

fn any_honest(random: &mut Random) -> Nature {
    match random.upto(9) {
        0 => Nature::Rate,
        1 => Nature::Deny,
        2 => Nature::Unsynced,
        3 => Nature::Silent,
        _ => Honest,
    }
}

fn any_liar(random: &mut Random) -> Nature {
    let magnitude = 10_i64.pow(u32::try_from(random.within(4, 10)).unwrap());
    let by_ns = random.within(-magnitude, magnitude);
    match random.upto(4) {
        0 => Nature::Off { by_ns },
        1 => Nature::Creeps { ppb: random.within(-600_000, 600_000) },
        2 => Nature::HidesDrift,
        3 => Nature::Jumps { by_up_to_ns: by_ns.abs() },
        _ => Nature::Turns { at_query: 2 + random.upto(60), by_ns },
    }
}

#[test]
fn true_time_is_inside_in_any_world() {
    let mut all = Audit::default();
    for seed in 0..5 * seeds() {
        let scenario = any_scenario(seed);
        let audit = run(&scenario, seed);
        assert_eq!(audit.violations(), 0, "{scenario:?}: {audit:?}");
        all.add(&audit);
    }
    println!("{} looks", all.evaluations);
    assert!(all.evaluations > seeds() * 30_000, "{} looks", all.evaluations);
}

/// Every 1024 s, over a day: longer than a sample counts. The drift is measured all the same, from
/// one answer to the next.
#[test]
fn rarely_asked_servers_measure_the_drift_too() {
    let lan = Scenario::lan("rare", vec![Honest; 3], Wander::around(30_000));
    let scenario = Scenario { poll_ms: 1_024_000, ..lan };
    for seed in 0..20 {
        let mut world = World::new(&scenario, seed);
        let mut tracker = World::tracker(&scenario, LeapPolicy::Smear);
        world.run(&mut tracker, 86_400 * SECOND);
        assert_eq!(world.audit.violations(), 0, "{:?}", world.audit);
        let phi_ppb = tracker.view().phi_ppb;
        assert!((50_000..=60_000).contains(&phi_ppb), "{phi_ppb}");
    }
}
