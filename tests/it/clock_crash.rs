//! kill -9 of those who stamp, and a start at once: nothing is stamped twice, whatever the clock says
//! afterwards.
//!
//! Promises: 2 one order, 6 bounded time. Three things stand against a double: the ceiling, the floor
//! taken from the log, and the ratchet at apply. Each alone is tried in `clock` and `model`; here the
//! checks have their planted faults.

use std::time::Duration;

use clock::Hlc;
use proto::wire::{Empty, Op, Reply};
use tests::load::{message, send};
use tests::{Load, Outcome, Timed, Watch, checks};

const ROUNDS: u64 = 6;
/// The clock of a node is that much earlier after its crash than before.
const BACK_NS: i64 = -1_500_000_000;

#[test]
fn a_primary_that_is_killed_and_started_at_once_stamps_nothing_twice() {
    let mut timed = Timed::start(3, "").unwrap();
    timed.cluster.register(&["alice", "bob"]).unwrap();
    let watch = Watch::start(&timed.cluster).unwrap();
    let load = Load::start(&timed.cluster, &["alice", "bob"], 4, "bob", "crash").unwrap();
    for round in 0..ROUNDS {
        load.wait_more(50).unwrap();
        let seen_by = format!("n{}", round % 3 + 1);
        let primary = timed.cluster.wait_primary(&seen_by).unwrap();
        timed.cluster.kill(&primary).unwrap();
        timed.cluster.start_node(&primary).unwrap();
    }
    load.wait_more(50).unwrap();
    timed.cluster.wait_healthy().unwrap();
    let history = load.finish(&timed.cluster).unwrap();
    let led = watch.finish(&timed.cluster).unwrap();
    assert_eq!(checks::one_primary_per_term(&led), Vec::<String>::new());
    assert_eq!(history.failed().collect::<Vec<_>>(), []);
    timed.account_for(&history).unwrap();
}

/// What the node has minted or seen, as it says.
fn highest(timed: &Timed) -> Hlc {
    match timed.cluster.ask("n1", Op::Clock(Empty {})).unwrap().reply {
        Some(Reply::Clock(report)) => Hlc::from_slice(&report.hlc).unwrap(),
        other => panic!("no clock report: {other:?}"),
    }
}

#[test]
fn a_clock_that_is_earlier_after_a_crash_goes_on_above_all_that_it_stamped() {
    let mut timed = Timed::start(1, "").unwrap();
    timed.cluster.register(&["alice", "bob"]).unwrap();
    let alice = timed.cluster.client("alice", None, Duration::from_secs(30)).unwrap();
    for round in 0..3 {
        let load = Load::start(&timed.cluster, &["alice"], 4, "bob", &format!("back{round}"));
        let load = load.unwrap();
        load.wait_more(100).unwrap();
        let stamped = highest(&timed);
        timed.cluster.kill("n1").unwrap();
        // The servers it finds when it comes back are wrong together, or were so before.
        timed.change("n1", |manner| manner.offset_ns = BACK_NS * (round + 1));
        timed.cluster.start_node("n1").unwrap();
        let next = timed.cluster.wait(send(&alice, message("bob", &format!("next{round}"))));
        let Outcome::Acked { stamp, .. } = &next.outcome else { panic!("{next:?}") };
        let stamp = Hlc::from_slice(&stamp[..Hlc::BYTES]).unwrap();
        assert!(stamp > stamped, "{stamp} after {stamped}");
        let history = load.finish(&timed.cluster).unwrap();
        // What came while the only node was down may have been refused.
        let nodes = timed.everything().unwrap();
        let wrong = checks::all(&history, &nodes);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
