//! Negative controls: each rule that the promises rest on is taken out of the cluster, and the audit
//! must find the break. The same run with the rule must be clean, or the finding proves nothing.

use clock::lead::OnLoss;

use super::cluster::audit::{Broken, false_orders, overtaken};
use super::cluster::clocks::{Fault, Wall};
use super::cluster::world::World;
use super::cluster::{MS, Plan, Rules, SECOND, START_NS};

const HOUR: i64 = 3_600_000_000_000;

/// All clocks were ten seconds ahead for a while, so that the log counts on from there, with no help
/// from the clock. Then everything dies, again and again, with stamps on the way. What was issued
/// and not logged must not be issued again.
fn restarts(nodes: usize, rules: Rules) -> World {
    let plan = Plan { rules, think_ns: 10 * MS, write_every_ns: MS, ..Plan::new(nodes, 7) };
    let mut world = World::new(plan);
    for node in &mut world.nodes {
        node.wall.fail(START_NS + SECOND, Fault::Jump(100_000_000_000));
    }
    world.pass(5 * SECOND);
    world.nodes.iter_mut().for_each(|node| node.wall.heal());
    for _ in 0..20 {
        (0..nodes).for_each(|node| world.crash(node));
        (0..nodes).for_each(|node| world.restart(node, 0));
        world.pass(3 * SECOND);
    }
    assert!(world.audit.committed > 1000);
    world
}

#[test]
fn without_a_ceiling_values_are_issued_twice() {
    for nodes in [1, 3] {
        let with = restarts(nodes, Rules::ALL);
        assert_eq!(with.audit.count(Broken::Twice), 0, "{:?}", with.audit.told);
        let without = restarts(nodes, Rules { ceiling: false, ..Rules::ALL });
        println!("{nodes} nodes: {} values issued twice", without.audit.count(Broken::Twice));
        assert!(without.audit.count(Broken::Twice) > 0);
    }
}

/// Leadership moves to and fro every few milliseconds while stamps are on their way to the log.
fn moves(ratchet: bool, leader_guard: bool) -> World {
    let rules = Rules { ratchet, leader_guard, ..Rules::ALL };
    let plan = Plan { rules, think_ns: 60 * MS, write_every_ns: MS, ..Plan::new(3, 7) };
    let mut world = World::new(plan);
    assert!(world.run(10 * SECOND, |world| world.primary().is_some()));
    while world.audit.elections.len() < 400 {
        if let Some(primary) = world.primary() {
            world.hand_over(primary, usize::from(primary == 0));
        }
        world.pass(25 * MS);
    }
    assert!(world.audit.committed > 200);
    world
}

#[test]
fn without_ratchet_and_leader_guard_the_order_breaks() {
    // Either of the two is enough, and with the guard the ratchet has nothing to do.
    for (ratchet, leader_guard) in [(true, true), (false, true), (true, false)] {
        let audit = moves(ratchet, leader_guard).audit;
        audit.assert_unbroken();
        assert_eq!(audit.raised == 0, leader_guard);
    }
    let without = moves(false, false).audit;
    let (broken, of) = (without.count(Broken::Order), without.committed);
    println!("{broken} of {of} entries out of order");
    assert!(broken > 0);
}

/// The primary's clock is suddenly an hour ahead.
fn an_hour_ahead(stamp_guard: bool) -> World {
    let mut world =
        World::new(Plan { rules: Rules { stamp_guard, ..Rules::ALL }, ..Plan::new(3, 9) });
    world.pass(10 * SECOND);
    let (primary, now_ns) = (world.primary().unwrap(), world.now_ns);
    world.nodes[primary].wall.fail(now_ns, Fault::Jump(HOUR));
    world.pass(10 * SECOND);
    world
}

#[test]
fn without_the_stamp_guard_the_future_is_committed() {
    an_hour_ahead(true).audit.assert_unbroken();
    let without = an_hour_ahead(false).audit;
    println!("{} entries from the future", without.count(Broken::Future));
    assert!(without.count(Broken::Future) > 0);
}

/// Two logs, quiet and with clocks apart: how many records were overtaken though waited for.
fn waits(full_wait: bool) -> usize {
    let (mut records, mut waited) = (Vec::new(), Vec::new());
    for seed in [1, 2] {
        let rules = Rules { full_wait, ..Rules::ALL };
        let mut world = World::new(Plan { rules, on_loss: OnLoss::Refuse, ..Plan::new(3, seed) });
        world.pass(60 * SECOND);
        records.extend(world.audit.records);
        waited.extend(world.audit.waited);
    }
    assert!(waited.len() > 2000);
    overtaken(records, waited)
}

#[test]
fn a_commit_wait_without_the_limit_is_too_short() {
    assert_eq!(waits(true), 0);
    let overtaken = waits(false);
    println!("{overtaken} records with a smaller stamp than one acknowledged before");
    assert!(overtaken > 0);
}

/// Two logs with good clocks, and clients that carry stamps from one to the other.
fn two_logs(two_bounds: bool) -> (usize, u64) {
    let mut records = Vec::new();
    let mut outside = 0;
    for seed in [1, 2] {
        let rules = Rules { two_bounds, ..Rules::ALL };
        let plan = Plan { rules, ..Plan::new(3, seed) };
        let mut world = World::with_clocks(plan, |_, rng| Wall::new(5 * MS, rng));
        world.pass(20 * SECOND);
        outside += world.audit.count(Broken::Interval);
        records.extend(world.audit.records);
    }
    assert!(records.len() > 2000);
    (false_orders(records), outside)
}

#[test]
fn with_one_error_to_both_sides_disjoint_intervals_order_falsely() {
    assert_eq!(two_logs(true), (0, 0));
    let (falsely, outside) = two_logs(false);
    println!("{falsely} records ordered falsely, {outside} made outside of their interval");
    assert!(falsely > 0 && outside > 0);
}
