//! No time server answers: later, and from the start. The bound grows and says so; at the limit the
//! cluster degrades or refuses, as it is set; nobody leads on a clock that never was right.
//!
//! Promises: 6 bounded time, 8 refuses clearly.

use std::time::Duration;

use proto::wire::ClockReport;
use tests::{History, Load, Run, Timed, patience, until};

use crate::clock_truth::Witness;

const READINGS: usize = 200;
const SEND: [&str; 7] = ["--as", "alice", "--timeout", "10s", "send", "--to", "bob"];

fn send(timed: &Timed, body: &str) -> Run {
    timed.cluster.ctl(&[&SEND[..], &[body, "-o", "json"]].concat()).unwrap()
}

fn width_ns(report: &ClockReport) -> u64 {
    report.latest_ns.unwrap() - report.earliest_ns.unwrap()
}

#[test]
fn without_servers_it_coasts_then_degrades_or_refuses_and_recovers() {
    // Wide, so that the clocks coast for long before they pass it.
    let timed = Timed::start(3, "max_error_ms = 1000").unwrap();
    timed.cluster.register(&["alice", "bob"]).unwrap();
    for node in timed.cluster.names() {
        timed.change(&node, |manner| manner.silent = true);
    }
    for node in timed.cluster.names() {
        let report = timed.wait_state(&node, "holdover").unwrap();
        assert!(!report.reason.is_empty());
        assert!(report.may_lead, "far from the limit: {report:?}");
    }
    coasting(&timed);
    assert_eq!(send(&timed, "coasting").code, 0);

    // Now the limit lies below what the bounds have grown to.
    timed.cluster.user().ok(&["cluster", "set", "max-clock-error=3ms"]).unwrap();
    for node in timed.cluster.names() {
        let report = timed.wait_state(&node, "expired").unwrap();
        assert_eq!(report.refusal_in_ms, None, "the limit is passed: {report:?}");
    }
    degraded(&timed);
    refusing(&timed);

    timed.behave();
    until("writes that are taken again", || {
        let run = send(&timed, "recovered");
        patience::when(run.code == 0, run.to_string())
    })
    .unwrap();
    let as_before = ["cluster", "set", "max-clock-error=1s", "on-loss=degrade"];
    timed.cluster.user().ok(&as_before).unwrap();
    timed.cluster.wait_healthy().unwrap();
    timed.account_for(&History::default()).unwrap();
    let refused = timed.cluster.records("n1", false).unwrap();
    assert!(refused.iter().all(|record| record.body != b"refused"[..]), "it was stored");
}

/// The bound grows, holds true time, and the report says until when it will do.
#[track_caller]
fn coasting(timed: &Timed) {
    let client = timed.cluster.client("admin", Some("n1"), Duration::from_secs(20)).unwrap();
    let mut witness = Witness::default();
    let first = witness.look(&timed.cluster, &client);
    let mut last = first.clone();
    for _ in 0..READINGS {
        let report = witness.look(&timed.cluster, &client);
        assert!(width_ns(&report) >= width_ns(&last), "narrower without a sample: {report:?}");
        last = report;
    }
    timed.cluster.wait(client.close());
    assert!(width_ns(&last) > width_ns(&first), "it does not age");
    let (before, after) = (first.refusal_in_ms.unwrap(), last.refusal_in_ms.unwrap());
    assert!(after <= before && before > 1000, "{before} then {after} ms to refusal");
    let clock = timed.cluster.ctl(&["--via", "n1", "clock", "-o", "json"]).unwrap();
    assert_eq!(clock.code, 10, "{clock}");
    assert_eq!(clock.json().unwrap()["state"], "holdover");
    assert_eq!(timed.cluster.ctl(&["status"]).unwrap().code, 10);
}

/// Writes go on, with bounds that are wide and true, and every status says so.
#[track_caller]
fn degraded(timed: &Timed) {
    until("a status that says CLOCK_DEGRADED", || {
        let status = timed.cluster.ctl(&["status"]).map_err(|error| error.to_string())?;
        let said = format!("{}{}", status.text(), status.stderr);
        patience::when(status.code == 12 && said.contains("CLOCK_DEGRADED"), status.to_string())
    })
    .unwrap();
    let load = Load::start(&timed.cluster, &["alice"], 2, "bob", "degraded").unwrap();
    load.wait_more(50).unwrap();
    let history = load.finish(&timed.cluster).unwrap();
    assert_eq!(history.failed().collect::<Vec<_>>(), []);
    let wrong = tests::checks::bounds_hold(&history, &tests::truth::Anchor::now());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Writes are refused and leave nothing; reads go on, and settings can be changed.
#[track_caller]
fn refusing(timed: &Timed) {
    timed.cluster.user().ok(&["cluster", "set", "on-loss=refuse"]).unwrap();
    until("writes that are refused", || {
        let run = send(timed, "maybe refused");
        patience::when(run.code == 12, run.to_string())
    })
    .unwrap();
    send(timed, "refused").refused(12).unwrap();
    for node in timed.cluster.names() {
        timed.cluster.user().ok(&["--as", "bob", "--via", &node, "read"]).unwrap();
    }
    let status = timed.cluster.ctl(&["status"]).unwrap();
    assert_eq!(status.code, 12, "{status}");
    // The way out stays open.
    timed.cluster.user().ok(&["cluster", "set", "on-loss=degrade"]).unwrap();
    until("writes that are taken without a clock", || {
        let run = send(timed, "degraded again");
        patience::when(run.code == 0, run.to_string())
    })
    .unwrap();
}

#[test]
fn nobody_leads_on_a_clock_that_never_was_right() {
    let mut timed = Timed::create(3, "").unwrap();
    for node in timed.cluster.names() {
        timed.change(&node, |manner| manner.silent = true);
    }
    timed.cluster.start_all().unwrap();
    for node in timed.cluster.names() {
        let asked = || timed.servers(&node).iter().all(|server| server.asked() >= 5);
        until("five questions to each server", || patience::when(asked(), "fewer")).unwrap();
        let report = timed.wait_state(&node, "unsynced").unwrap();
        assert_eq!((report.earliest_ns, report.latest_ns), (None, None));
        assert!(report.reason.contains("0 of 3"), "{}", report.reason);
        let status = timed.cluster.status(&node).unwrap();
        assert_eq!(status.primary, "", "{status:?}");
        let shown = timed.cluster.ctl(&["--via", &node, "status"]).unwrap();
        assert_eq!(shown.code, 12, "{shown}");
        let clock = timed.cluster.ctl(&["--via", &node, "clock"]).unwrap();
        assert_eq!(clock.code, 12, "{clock}");
    }
    // It heals by itself.
    timed.behave();
    timed.cluster.wait_healthy().unwrap();
    timed.cluster.register(&["alice", "bob"]).unwrap();
    let ack = send(&timed, "hello").json().unwrap();
    assert!(ack["earliest"].is_string(), "{ack}");
}

#[test]
fn an_unsynced_node_leads_where_that_is_allowed_and_claims_nothing() {
    let mut timed = Timed::create(1, "unsynced_start = \"allow-after:1s\"").unwrap();
    timed.change("n1", |manner| manner.silent = true);
    timed.cluster.start_all().unwrap();
    timed.cluster.wait_primary("n1").unwrap();
    timed.cluster.register(&["alice", "bob"]).unwrap();
    let ack = send(&timed, "unsynced").json().unwrap();
    assert!(ack["earliest"].is_null() && ack["latest"].is_null(), "{ack}");
    let status = timed.cluster.ctl(&["status"]).unwrap();
    assert_eq!(status.code, 12, "{status}");
    timed.behave();
    timed.cluster.wait_healthy().unwrap();
    let ack = send(&timed, "synced").json().unwrap();
    assert!(ack["earliest"].is_string(), "{ack}");
    timed.account_for(&History::default()).unwrap();
}
