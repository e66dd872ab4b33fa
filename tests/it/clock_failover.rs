//! The time servers of one node go wrong, all of them at once, so that its clock must be wrong: while
//! it is primary under load, and while another primary is killed.
//!
//! Promises: 1 durable, 2 one order, 6 bounded time. Every check has its planted
//! fault in `tests::checks`.

use proto::wire::Status;
use proto::{Problem, ProblemCode};
use tests::truth::Anchor;
use tests::{Load, Timed, Watch, checks, patience, until};

const MAX_ERROR_NS: u64 = 100_000_000;
/// What a backup accepts: twice the limit beyond its latest, whose own error is far below this.
const GUARD_NS: u64 = 2 * MAX_ERROR_NS + MAX_ERROR_NS / 2;
const SECOND_NS: i64 = 1_000_000_000;
/// A ceiling that lies further ahead than this is not waited for, nanoseconds.
const STAMPED_AHEAD_NS: u64 = 30_000_000_000;

#[test]
fn a_primary_five_seconds_ahead_hands_over_and_stamps_nothing_from_the_future() {
    a_primary_goes_wrong(5 * SECOND_NS);
}

#[test]
fn a_primary_an_hour_ahead_does_so_too() {
    a_primary_goes_wrong(3600 * SECOND_NS);
}

#[test]
fn a_primary_a_second_behind_does_so_too() {
    a_primary_goes_wrong(-SECOND_NS);
}

#[track_caller]
fn a_primary_goes_wrong(offset_ns: i64) {
    let mut timed = Timed::start(3, "").unwrap();
    timed.cluster.register(&["alice", "bob"]).unwrap();
    let anchor = Anchor::now();
    let watch = Watch::start(&timed.cluster).unwrap();
    let load = Load::start(&timed.cluster, &["alice", "bob"], 2, "bob", "skew").unwrap();
    load.wait_more(50).unwrap();

    let bad = timed.cluster.wait_primary("n1").unwrap();
    let good: Vec<String> = timed.cluster.names().into_iter().filter(|n| *n != bad).collect();
    timed.change(&bad, |manner| manner.offset_ns = offset_ns);
    let second = another_primary(&timed, &good[0], &bad);
    load.wait_more(50).unwrap();
    until("a status that names the bad clock", || {
        let status = timed.cluster.status(&second).map_err(|error| error.to_string())?;
        patience::when(names_bad_clock(&status, &bad), format!("{status:?}"))
    })
    .unwrap();
    // Until the nodes have heard of each other's doubts, two good clocks may be in doubt, too.
    until("a status that is degraded, and no more", || {
        let shown = timed.cluster.ctl(&["--via", &second, "status"]);
        let shown = shown.map_err(|error| error.to_string())?;
        patience::when(shown.code == 10, shown.to_string())
    })
    .unwrap();
    assert!(!timed.clock(&bad).unwrap().may_lead);

    // The bad clock does not lead even if it is one of two that are left: at most it hands over what the
    // good one has not got yet.
    let third = good.iter().find(|name| **name != second).unwrap();
    timed.cluster.kill(&second).unwrap();
    until("the good clock as primary", || {
        let status = timed.cluster.status(third).map_err(|error| error.to_string())?;
        patience::when(status.quorum && status.primary == *third, format!("{status:?}"))
    })
    .unwrap();
    load.wait_more(50).unwrap();
    timed.cluster.start_node(&second).unwrap();

    // Right again. A clock that was ahead is never set back while it runs, so it is restarted.
    timed.behave();
    timed.cluster.kill(&bad).unwrap();
    timed.cluster.start_node(&bad).unwrap();
    let report = timed.wait_state(&bad, "synced").unwrap();
    if report.ceiling_ns < report.now_ns + STAMPED_AHEAD_NS {
        timed.cluster.wait_healthy().unwrap();
    } else {
        // It has stamped an hour ahead, although nobody took that. It issues nothing twice, so it
        // waits that hour, and says so, as one problem; the others go on.
        until("a status that says why it mints nothing", || {
            let status = timed.cluster.status(&second).map_err(|error| error.to_string())?;
            let kinds: Vec<_> = status.problems.iter().map(Problem::kind).collect();
            let of_it = status.problems.iter().all(|problem| problem.subject == bad);
            let so = of_it && kinds == [ProblemCode::ClockBehind];
            patience::when(so && !status.primary.is_empty(), format!("{status:?}"))
        })
        .unwrap();
    }
    load.wait_more(50).unwrap();

    let history = load.finish(&timed.cluster).unwrap();
    let led = watch.finish(&timed.cluster).unwrap();
    assert_eq!(checks::one_primary_per_term(&led), Vec::<String>::new());
    let failed: Vec<_> = history.failed().collect();
    assert!(failed.is_empty(), "sends failed although two good clocks were there: {failed:?}");
    let ahead = checks::no_stamp_ahead(&history, &anchor, GUARD_NS);
    assert!(ahead.is_empty(), "{ahead:#?}");
    timed.compare(&history).unwrap();
}

/// Waits until a node sees another primary than `old`, and returns its name.
#[track_caller]
fn another_primary(timed: &Timed, seen_by: &str, old: &str) -> String {
    until(&format!("a primary that is not {old}"), || {
        let status = timed.cluster.status(seen_by).map_err(|error| error.to_string())?;
        let other = status.quorum && !status.primary.is_empty() && status.primary != old;
        patience::when(other, format!("{status:?}"))?;
        Ok(status.primary)
    })
    .unwrap()
}

fn is_bad_clock(problem: &Problem) -> bool {
    problem.kind() == ProblemCode::BadClock
}

/// Whether a status says that a node's clock is bad.
fn names_bad_clock(status: &Status, node: &str) -> bool {
    let row = status.nodes.iter().find(|row| row.name == node);
    let own = row.is_some_and(|row| row.problems.iter().any(is_bad_clock));
    let of_all = |problem: &Problem| problem.subject == node && is_bad_clock(problem);
    own || status.problems.iter().any(of_all)
}
