//! Somebody sets the operating system's clock, by an hour and back, while messages flow: nothing
//! changes but one event in the log.
//!
//! Promise 6, bounded time: stepping the operating system's clock changes nothing. That the steps were
//! real is proven by the events in the log.

use std::time::Duration;

use proto::event::ClockCause;
use tests::faketime::Faketime;
use tests::{Load, Timed};

use crate::clock_truth::Witness;

const HOUR_S: i64 = 3600;
/// Readings of every node after every step.
const READINGS: usize = 100;

#[test]
fn an_hour_forward_and_back_changes_nothing() {
    let mut timed = Timed::create(3, "").unwrap();
    let mut clocks = Vec::new();
    for node in timed.cluster.names() {
        let Some(clock) = Faketime::new(timed.cluster.folder(), &node).unwrap() else { return };
        timed.cluster.node(&node).unwrap().set_environment(clock.environment());
        clocks.push((node, clock));
    }
    assert!(timed.cluster.start_and_settle().unwrap(), "a port was taken");
    timed.cluster.register(&["alice", "bob"]).unwrap();
    wait_preferred(&timed);
    let load = Load::start(&timed.cluster, &["alice"], 2, "bob", "step").unwrap();
    let before = timed.cluster.status("n1").unwrap();
    let mut watched: Vec<_> = timed
        .cluster
        .names()
        .into_iter()
        .map(|node| {
            let client = timed.cluster.client("admin", Some(&node), Duration::from_secs(20));
            (client.unwrap(), Witness::default())
        })
        .collect();
    let mut look = |timed: &Timed| {
        for (client, witness) in &mut watched {
            for _ in 0..READINGS {
                assert_eq!(witness.look(&timed.cluster, client).state, "synced");
            }
        }
    };
    look(&timed);
    // The primary forward; the primary back, two hours at once; all of them forward.
    let steps = [(vec![before.primary.clone()], HOUR_S), (vec![before.primary.clone()], -HOUR_S)];
    for (nodes, seconds) in steps.into_iter().chain([(timed.cluster.names(), 2 * HOUR_S)]) {
        let seen = os_steps(&timed, &nodes);
        for (node, clock) in &clocks {
            if nodes.contains(node) {
                clock.step(seconds).unwrap();
            }
        }
        load.wait_more(100).unwrap();
        look(&timed);
        tests::until("an event of every step", || {
            let now = os_steps(&timed, &nodes);
            let noted = now >= seen + nodes.len();
            tests::patience::when(noted, format!("{now} of {} on {nodes:?}", seen + nodes.len()))
        })
        .unwrap();
        look(&timed);
    }
    // A node that starts with a clock that is two hours wrong is not told the time by it.
    timed.cluster.kill("n2").unwrap();
    timed.cluster.start_node("n2").unwrap();
    timed.cluster.wait_healthy().unwrap();
    look(&timed);

    let history = load.finish(&timed.cluster).unwrap();
    let failed: Vec<_> = history.failed().collect();
    assert!(failed.is_empty(), "{failed:?}");
    timed.account_for(&history).unwrap();
    if before.primary != "n2" {
        let after = timed.cluster.status("n1").unwrap();
        assert_eq!((after.term, after.primary), (before.term, before.primary), "the primary moved");
    }
    assert!(
        timed
            .events()
            .unwrap()
            .iter()
            .all(|event| event.cause != ClockCause::State || event.state == "synced"),
        "a step changed a state"
    );
}

/// Until the node of the highest priority leads; from then on only a fault would move the role.
fn wait_preferred(timed: &Timed) {
    tests::until("the preferred primary", || {
        let primary = timed.cluster.status("n1").map_err(|error| error.to_string())?.primary;
        tests::patience::when(primary == "n3", primary)
    })
    .unwrap();
}

/// Steps that these nodes have written of.
fn os_steps(timed: &Timed, nodes: &[String]) -> usize {
    let of_them = |event: &proto::event::ClockEvent| {
        event.cause == ClockCause::OsStep && nodes.contains(&event.node)
    };
    timed.events().unwrap().iter().filter(|event| of_them(event)).count()
}
