//! The clocks: tracking, sources, peers, waiting, and the report on their history.
//!
//! Seen to fail with the exit code of a report left at 0, a wait that gives up on a node that is
//! down, and the tail of the report's range believed.

use std::sync::atomic::{AtomicUsize, Ordering};

use clock::{Hlc, Stamp};
use proto::event::{ClockCause, ClockEvent};
use proto::wire::{ClockPeer, ClockReport, ClockSource, Empty, Op, Refused, Reply, Status};
use proto::{ErrorCode, Record};

use crate::node::{FakeNode, failure, page, status};
use crate::user::{User, json, text};

/// 2026-11-21T01:30:45Z
const NOW: u64 = 1_795_224_645_000_000_000;
const S: u64 = 1_000_000_000;

fn report(state: &str) -> ClockReport {
    let source = ClockSource {
        address: "ntp.example:123".into(),
        reach: 0b111,
        stratum: 2,
        offset_ns: -1500,
        delay_ns: 250_000,
        distance_ns: 900_000,
        verdict: "selected".into(),
        next_poll_ms: 1500,
        poll_s: 16,
        age_ms: Some(3_000),
        refused: vec![Refused { reason: "timeout".into(), count: 2 }],
        ..ClockSource::default()
    };
    let peer = ClockPeer {
        node: "n2".into(),
        state: "synced".into(),
        offset_ns: 5_000,
        verdict: "compatible".into(),
        ..ClockPeer::default()
    };
    ClockReport {
        node: "n1".into(),
        state: state.into(),
        now_ns: NOW,
        earliest_ns: Some(NOW - 1_000_000),
        latest_ns: Some(NOW + 500_001),
        max_error_us: 100_000,
        sources: vec![source],
        peers: vec![peer],
        may_lead: true,
        leap: "normal".into(),
        alarms: vec!["only 1 server".into()],
        ..ClockReport::default()
    }
}

fn clock_node(user: &User, state: &'static str) -> FakeNode {
    FakeNode::start(user, move |_, op| match op {
        Op::Clock(_) => vec![Reply::Clock(report(state))],
        _ => vec![failure(ErrorCode::Invalid)],
    })
}

#[test]
fn a_clock_is_shown_with_its_sources_and_peers() {
    for (state, exit) in
        [("local", 0), ("synced", 0), ("holdover", 10), ("disagree", 10), ("unsynced", 12)]
    {
        let user = User::with_cluster();
        let _node = clock_node(&user, state);
        for args in [
            &["clock"][..],
            &["clock", "tracking"],
            &["clock", "sources"],
            &["clock", "peers"],
            &["clock", "--all"],
            &["clock", "sources", "--all"],
        ] {
            let output = user.run(args);
            assert_eq!(output.status.code(), Some(exit), "{args:?} {state}");
            assert!(text(&output.stderr).contains("warning: n1: only 1 server"));
        }
        let shown = json(&text(&user.run(&["clock", "--json"]).stdout));
        assert_eq!((&shown["state"], &shown["error_bound_us"]), (&state.into(), &1000.into()));
        assert_eq!(shown["sources"][0]["reach"], "7");
        assert_eq!(shown["peers"][0]["peer"], "n2");
        let all = json(&text(&user.run(&["clock", "--all", "--json"]).stdout));
        assert_eq!(all[0]["node"], "n1");
    }
}

#[test]
fn each_view_has_every_form() {
    let user = User::with_cluster();
    let _node = clock_node(&user, "synced");
    let table = user.ok(&["clock", "tracking", "-o", "table"]);
    for line in [
        "Error bound     : 0.001000000 seconds",
        "Stratum         : 3",
        "n1    ^*  ntp.example:123",
    ] {
        assert!(table.contains(line), "{line}: {table}");
    }
    let plain = user.ok(&["clock"]);
    assert_eq!(plain.lines().nth(5), Some("bound_us\t1000"));
    assert!(plain.contains("\nsource\tn1\t^*\tntp.example:123\t"), "{plain}");
    assert!(plain.ends_with("\npeer\tn1\tn2\tsynced\t5000\t0\t\t0\tcompatible\n"), "{plain}");
    assert_eq!(
        user.ok(&["clock", "sources"]),
        "n1\t^*\tntp.example:123\t2\t16\t7\t3000\t-1500\t900000\t250000\t\tselected\ttimeout=2\n"
    );
    assert_eq!(json(&user.ok(&["clock", "sources", "--json"]))[0]["refused"][0]["count"], 2);
    assert_eq!(user.ok(&["clock", "peers"]), "n1\tn2\tsynced\t5000\t0\t\t0\tcompatible\n");
    let verbose = user.run(&["clock", "sources", "-v", "-o", "table"]);
    let notes = text(&verbose.stderr);
    assert!(notes.contains("2 timeout refused answers of ntp.example:123"), "{notes}");
    assert!(notes.contains("x falseticker"), "{notes}");
    user.fails(&["clock", "--all", "--via", "n1"], 2);
    user.fails(&["clock", "sauces"], 2);
}

#[test]
fn waiting_ends_when_the_clock_is_as_wanted() {
    let user = User::with_cluster();
    let asked = AtomicUsize::new(0);
    let _node = FakeNode::start(&user, move |_, op| match op {
        Op::Clock(_) => match asked.fetch_add(1, Ordering::Relaxed) {
            0 => vec![failure(ErrorCode::Stopping)],
            1 => vec![Reply::Clock(report("unsynced"))],
            2 => vec![Reply::Clock(ClockReport {
                latest_ns: Some(NOW + 20_000_000),
                ..report("synced")
            })],
            _ => vec![Reply::Clock(report("synced"))],
        },
        _ => vec![failure(ErrorCode::Invalid)],
    });
    let args = ["clock", "wait", "--max-error", "10ms", "--timeout", "30s"];
    assert_eq!(user.ok(&args), "n1\tsynced\t1000\n");
    assert_eq!(user.ok(&[&args[..], &["--all"]].concat()), "n1\tsynced\t1000\n");
}

#[test]
fn waiting_in_vain_says_what_is_lacking() {
    let user = User::with_cluster();
    let errors = user.fails(&["clock", "wait", "--timeout", "2500ms"], 7);
    assert!(errors.contains("not synced after 2.5s: no node answers"), "{errors}");
    let _node = clock_node(&user, "holdover");
    let errors = user.fails(&["clock", "wait", "--timeout", "600ms"], 7);
    assert!(errors.contains("n1 is holdover"), "{errors}");
    assert_eq!(user.ok(&["clock", "wait", "--state", "holdover"]), "n1\tholdover\t1000\n");
    let args = ["clock", "wait", "--state", "holdover", "--max-error", "999us", "--timeout"];
    let errors = user.fails(&[&args[..], &["600ms"]].concat(), 7);
    assert!(errors.contains("error bound of n1 is 1000 us"), "{errors}");
    for bad in [&["--max-error", "0s"][..], &["--max-error", "2h"], &["--state", "fine"]] {
        user.fails(&[&["clock", "wait"], bad].concat(), 2);
    }
}

/// A record of the history: what held in the seconds before now.
fn entry(seq: u64, node: &str, from: u64, to: u64, worst: Option<u64>) -> Record {
    let event = ClockEvent {
        node: node.into(),
        cause: ClockCause::History,
        state: "synced".into(),
        was: "synced".into(),
        since_ns: NOW - from * S,
        until_ns: NOW - to * S,
        worst_error_us: worst,
        error_us: worst,
        text: "all, \"quiet\"".into(),
    };
    let stamp = Stamp { hlc: Hlc::from_ns(event.until_ns), early_us: 0, late_us: 0 };
    Record {
        shard: 1,
        seq,
        stamp: stamp.to_bytes().to_vec(),
        from: node.into(),
        to: "$events".into(),
        headers: event.headers(),
        body: event.text.into(),
        ..Record::default()
    }
}

/// A node whose log holds these events; the cluster has only `n1`.
fn history_node(user: &User, records: Vec<Record>) -> FakeNode {
    FakeNode::start(user, move |_, op| match op {
        Op::Clock(_) => vec![Reply::Clock(report("synced"))],
        Op::Read(read) if read.to == "$events" => vec![page(records.clone(), 9, true)],
        Op::Status(_) => vec![Reply::Status(Status { ..status() })],
        _ => vec![failure(ErrorCode::Invalid)],
    })
}

#[test]
fn a_good_history_is_a_csv_and_exit_code_0() {
    let user = User::with_cluster();
    let records = vec![entry(1, "n1", 120, 60, Some(900)), entry(2, "n1", 60, 5, Some(800))];
    let _node = history_node(&user, records);
    let output = user.run(&["clock", "report", "--tolerance", "50ms"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "node,from,to,state,worst_error_us,tolerance_us,within,cause,reason,seq,stamp\r\n\
         n1,2026-11-21T01:28:45.000000000Z,2026-11-21T01:29:45.000000000Z,synced,900,50000,yes,\
         history,\"all, \"\"quiet\"\"\",1,2026-11-21T01:29:45.000000000Z~00000000\r\n\
         n1,2026-11-21T01:29:45.000000000Z,2026-11-21T01:30:40.000000000Z,synced,800,50000,yes,\
         history,\"all, \"\"quiet\"\"\",2,2026-11-21T01:30:40.000000000Z~00000000\r\n"
    );
    assert_eq!(text(&output.stderr), "n1: 115 s within 50ms\n");
    let rows = json(&user.ok(&["clock", "report", "--tolerance", "50ms", "--json"]));
    assert_eq!((&rows[1]["worst_error_us"], &rows[1]["seq"]), (&800.into(), &2.into()));
    let lines = user.ok(&["clock", "report", "--tolerance", "50ms", "-o", "ndjson"]);
    assert_eq!(lines.lines().count(), 2);
    let plain = user.ok(&["clock", "report", "--tolerance", "50ms", "-o", "plain"]);
    assert_eq!(plain.lines().next().unwrap().split('\t').count(), 11);
}

#[test]
fn what_was_not_within_is_exit_code_12_and_summed_up() {
    let user = User::with_cluster();
    let mut broken = entry(4, "n1", 20, 10, Some(1));
    broken.headers.truncate(3);
    let records = vec![
        entry(1, "n1", 120, 60, Some(60_000)),
        entry(2, "n1", 48, 20, Some(900)),
        entry(3, "n2", 100, 40, Some(900)),
        broken,
    ];
    let _node = history_node(&user, records);
    let report = |args: &[&str]| {
        let output = user.run(&[&["clock", "report", "--tolerance", "50ms"], args].concat());
        let errors = text(&output.stderr);
        let last = errors.lines().rev().nth(usize::from(output.status.code() != Some(0)));
        (output.status.code(), text(&output.stdout), last.unwrap_or_default().to_owned(), errors)
    };
    let (code, csv, sum, errors) = report(&[]);
    assert_eq!((code, csv.lines().count()), (Some(12), 5), "{csv}");
    assert_eq!(sum, "error: n1: 60 s above 50ms, 12 s unknown");
    assert!(errors.contains("record 4 is left out"), "{errors}");
    assert!(csv.contains(",no data,,50000,unknown,,"), "{csv}");
    // One node, and a range that begins before its first entry and is not over.
    let (code, _, sum, errors) = report(&["--node", "n2", "--since", "110s"]);
    assert_eq!(code, Some(12));
    assert_eq!(sum, "error: n2: 10 s unknown");
    assert!(errors.contains("the history of n2 in this range begins at"), "{errors}");
    let (code, _, sum, _) = report(&["--node", "n2", "--since", "90s", "--until", "50s"]);
    assert_eq!((code, sum.as_str()), (Some(0), "n2: 40 s within 50ms"));
    let (code, _, sum, _) = report(&["--node", "n2", "--since", "90s", "--until", "now"]);
    assert_eq!((code, sum.as_str()), (Some(12), "error: n2: 40 s unknown"));
    assert_eq!(report(&["--node", "n7"]).0, Some(5));
    let (code, csv, ..) = report(&["--since", "2027-01-01"]);
    assert_eq!((code, csv.as_str()), (Some(2), ""));
}

#[test]
fn a_log_without_history_is_no_proof() {
    let user = User::with_cluster();
    let node = history_node(&user, Vec::new());
    let output = user.run(&["clock", "report", "--tolerance", "50ms"]);
    assert_eq!(output.status.code(), Some(12));
    assert_eq!(text(&output.stdout).lines().count(), 1);
    assert!(text(&output.stderr).contains("n1: no clock history"));
    let output = user.run(&["clock", "report", "--tolerance", "50ms", "--since", "10m"]);
    assert!(text(&output.stdout).contains("no entry at all"));
    let asked = node.ops().len();
    for bad in ["0s", "0", "61m", "fifty", "-1s"] {
        user.fails(&["clock", "report", "--tolerance", bad], 2);
    }
    user.fails(&["clock", "report"], 2);
    let reversed = ["clock", "report", "--tolerance", "1s", "--since", "1m", "--until", "2m"];
    user.fails(&reversed, 2);
    assert_eq!(node.ops().len(), asked);
}

#[test]
fn an_answer_to_another_question_is_no_clock() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, _| vec![Reply::Pong(Empty {})]);
    for args in [
        &["clock", "sources"][..],
        &["clock", "wait"],
        &["clock", "report", "--tolerance", "1s"],
        &["cluster", "settings"],
        &["cluster", "set", "on-loss=refuse"],
        &["health", "--prometheus"],
    ] {
        assert!(user.fails(args, 6).contains("the same release"), "{args:?}");
    }
}
