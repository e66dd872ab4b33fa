//! What people do with bounded time on a healthy cluster: ranges in three modes against a linear scan
//! of all records, stamps as tokens, waiting for certainty, settings, and the auditor's report.
//!
//! Promises: 5 causal, 6 bounded time, 8 refuses clearly. Seen to fail with a primary that
//! lost the entry which sets the first settings.

use clock::Hlc;
use clock::overlap::Overlap;
use proto::Record;
use proto::event::ClockCause;
use serde_json::Value;
use tests::{Load, Timed, patience, truth, until};

const MS: u64 = 1_000_000;
const SENDS: u64 = 300;

#[test]
fn ranges_tokens_settings_and_reports_on_one_cluster() {
    let timed = Timed::start(3, "history_s = 1").unwrap();
    timed.cluster.register(&["alice", "bob"]).unwrap();
    // Several at a time, so that bounds overlap.
    let load = Load::start(&timed.cluster, &["alice"], 4, "bob", "range").unwrap();
    load.wait_more(SENDS).unwrap();
    let history = load.finish(&timed.cluster).unwrap();
    ranges_are_those_of_a_linear_scan(&timed);
    tokens_order_and_far_ones_are_refused(&timed);
    settings_are_the_clusters(&timed);
    an_ack_can_wait_for_certainty(&timed);
    the_report_is_proven_by_the_log(&timed);
    timed.account_for(&history).unwrap();
}

/// A record's earliest and latest time, nanoseconds since 1970.
fn bounds(record: &Record) -> (u64, u64) {
    let stamp = record.full_stamp().unwrap();
    (stamp.earliest_ns().unwrap(), stamp.latest_ns().unwrap())
}

fn seqs(values: &[Value]) -> Vec<u64> {
    values.iter().map(|value| value["seq"].as_u64().unwrap()).collect()
}

#[track_caller]
fn ranges_are_those_of_a_linear_scan(timed: &Timed) {
    let user = timed.cluster.user();
    let records = timed.cluster.records("n1", false).unwrap();
    let read = |more: &[&str]| {
        let run = user.ok(&[&["read", "-o", "ndjson"], more].concat()).unwrap();
        run.lines().unwrap()
    };
    // The mark, too, is what a scan of all records says.
    let mut overlap = Overlap::default();
    let all = read(&[]);
    assert_eq!(all.len(), records.len());
    let mut marked = 0;
    for (value, record) in all.iter().zip(&records) {
        let uncertain = overlap.next(&record.full_stamp().unwrap());
        assert_eq!(value["order_certain"], Value::from(!uncertain), "{value}");
        marked += usize::from(uncertain);
    }
    assert!(marked > 0, "nothing overlaps: four at a time did not bite");
    let plain = user.ok(&["read", "-o", "plain"]).unwrap().text();
    assert_eq!(plain.lines().filter(|line| line.contains("\t~")).count(), marked, "{plain}");

    // Edges on stamps, on bounds, and between them.
    let at = |n: usize| &records[n * (records.len() - 1) / 10];
    let mut edges: Vec<u64> = Vec::new();
    for n in 0..=10 {
        let (earliest, latest) = bounds(at(n));
        let ns = at(n).hlc().unwrap().ns;
        edges.extend([ns, [earliest, latest, ns + 1][n % 3]]);
    }
    edges.sort_unstable();
    edges.dedup();
    for (n, since) in edges.iter().enumerate().step_by(3) {
        for until in edges.iter().skip(n + 1).step_by(4) {
            let text = [since, until].map(|ns| clock::hlc::utc_text(*ns));
            for mode in ["nominal", "possible", "definite"] {
                let found = read(&["--since", &text[0], "--until", &text[1], "--mode", mode]);
                let wanted = scan(&records, mode, *since, *until);
                assert_eq!(seqs(&found), wanted, "{mode} {text:?}");
            }
        }
    }
    // Whole stamps, with their logical part, and times relative to the node's now.
    let (from, to) = (at(3).hlc().unwrap(), at(7).hlc().unwrap());
    let found = read(&["--since", &from.to_string(), "--until", &to.to_string()]);
    let inside = |record: &&Record| (from..to).contains(&record.hlc().unwrap());
    let wanted: Vec<u64> = records.iter().filter(inside).map(|record| record.seq).collect();
    assert_eq!(seqs(&found), wanted);
    assert_eq!(read(&["--since", "10m"]).len(), records.len());
    assert_eq!(read(&["--since", "yesterday"]).len(), records.len());
    assert_eq!(read(&["--until", "10m"]).len(), 0);
    assert_eq!(read(&["--until", "now", "--mode", "possible"]).len(), records.len());
}

/// The numbers of the records that belong to `[since, until)`.
fn scan(records: &[Record], mode: &str, since: u64, until: u64) -> Vec<u64> {
    let belongs = |record: &&Record| {
        let (ns, (earliest, latest)) = (record.hlc().unwrap().ns, bounds(record));
        match mode {
            "nominal" => since <= ns && ns < until,
            "possible" => earliest < until && latest >= since,
            "definite" => earliest >= since && latest < until,
            other => panic!("{other}"),
        }
    };
    records.iter().filter(belongs).map(|record| record.seq).collect()
}

/// Sends one as alice; what was answered.
fn send(timed: &Timed, more: &[&str]) -> tests::Run {
    let send = ["--as", "alice", "--timeout", "15s", "send", "--to", "bob", "hi", "-o", "json"];
    timed.cluster.ctl(&[&send, more].concat()).unwrap()
}

fn stamp(ack: &Value) -> Hlc {
    ack["stamp"].as_str().unwrap().parse().unwrap()
}

#[track_caller]
fn tokens_order_and_far_ones_are_refused(timed: &Timed) {
    // Ahead of true time, but within what any node may stamp.
    let near = Hlc { ns: truth::now_ns() + 60 * MS, logical: 7 };
    let ack = send(timed, &["--after", &near.to_string()]).json().unwrap();
    assert!(stamp(&ack) > near, "{ack} after {near}");
    let ack = send(timed, &["--after", &near.to_hex()]).json().unwrap();
    assert!(stamp(&ack) > near, "{ack} after {near}");

    let before = timed.cluster.records("n1", false).unwrap();
    for far in ["2100-01-01T00:00:00.000000000Z~00000000", "ffffffffffffffffffffffff"] {
        let said = send(timed, &["--after", far]).refused(12).unwrap();
        assert!(said.contains("ahead"), "{said}");
    }
    assert_eq!(timed.cluster.records("n1", false).unwrap(), before, "a refused send is stored");
    // And it has not moved the clock.
    let now = stamp(&send(timed, &[]).json().unwrap());
    assert!(now.ns < truth::now_ns() + 300 * MS, "{now}");
}

#[track_caller]
fn settings_are_the_clusters(timed: &Timed) {
    let user = timed.cluster.user();
    let shown = user.json(&["cluster", "settings"]).unwrap();
    assert_eq!(shown["max_clock_error_us"], 100_000, "{shown}");
    assert_eq!(shown["on_loss"], "degrade", "{shown}");
    for bad in ["max-clock-error=0", "max-clock-error=11s", "on-loss=maybe", "colour=red"] {
        user.refused(&["cluster", "set", bad], 2).unwrap();
    }
    user.refused(&["--as", "alice", "cluster", "set", "on-loss=refuse"], 4).unwrap();
    assert_eq!(user.json(&["cluster", "settings"]).unwrap(), shown, "a refusal changed something");
}

#[track_caller]
fn an_ack_can_wait_for_certainty(timed: &Timed) {
    let user = timed.cluster.user();
    let before = timed.cluster.records("n1", false).unwrap();
    let said = send(timed, &["--commit-wait"]).refused(2).unwrap();
    assert!(said.contains("logctl cluster set on-loss=refuse"), "{said}");
    assert_eq!(timed.cluster.records("n1", false).unwrap(), before, "a refused send is stored");
    user.ok(&["cluster", "set", "on-loss=refuse", "max-clock-error=20ms"]).unwrap();
    // A primary looks at the settings a few times a second.
    until("a commit wait that is taken", || {
        let run = send(timed, &["--commit-wait"]);
        patience::when(run.code == 0, run.to_string())
    })
    .unwrap();
    for _ in 0..5 {
        let ack = send(timed, &["--commit-wait"]);
        let now_ns = truth::now_ns();
        let stamp = stamp(&ack.json().unwrap());
        assert!(now_ns > stamp.ns + 20 * MS, "answered {} ns after", now_ns - stamp.ns);
    }
    user.ok(&["cluster", "set", "on-loss=degrade", "max-clock-error=100ms"]).unwrap();
}

#[track_caller]
fn the_report_is_proven_by_the_log(timed: &Timed) {
    let user = timed.cluster.user();
    let names = timed.cluster.names();
    until("two entries of every node's history", || {
        let events = timed.events().map_err(|error| error.to_string())?;
        let of = |node: &String| {
            let history = |event: &&proto::event::ClockEvent| {
                event.cause == ClockCause::History && event.node == *node
            };
            events.iter().filter(history).count()
        };
        patience::when(names.iter().all(|node| of(node) >= 2), format!("{events:#?}"))
    })
    .unwrap();
    let run = user.ok(&["clock", "report", "--tolerance", "90ms"]).unwrap();
    let text = run.text();
    assert!(text.starts_with("node,from,to,state,worst_error_us,tolerance_us,within,"), "{text}");
    assert!(text.lines().skip(1).all(|line| line.contains(",yes,")), "{text}");

    let rows = user.json(&["clock", "report", "--tolerance", "90ms"]).unwrap();
    let rows = rows.as_array().unwrap();
    let events = timed.cluster.records_to("n1", "$events", false).unwrap();
    for node in &names {
        let of_node: Vec<_> = rows.iter().filter(|row| row["node"] == node.as_str()).collect();
        assert!(of_node.len() >= 2, "{rows:#?}");
        // No gap and no overlap, and each row is what a record says.
        assert!(of_node.windows(2).all(|pair| pair[0]["to"] == pair[1]["from"]), "{of_node:#?}");
        for row in of_node {
            let seq = row["seq"].as_u64().unwrap();
            let record = events.iter().find(|record| record.seq == seq).unwrap();
            assert_eq!((record.from.as_str(), record.to.as_str()), (node.as_str(), "$events"));
            assert_eq!(row["stamp"], record.hlc().unwrap().to_string());
        }
    }
    // The same history does not do for a finer tolerance; and a client may read it as well.
    let strict = user.run(&["--as", "bob", "clock", "report", "--tolerance", "1us"]).unwrap();
    assert_eq!(strict.code, 12, "{strict}");
    assert!(strict.text().contains(",no,"), "{strict}");
    let one = user.json(&["clock", "report", "--tolerance", "1s", "--node", "n2"]).unwrap();
    assert!(one.as_array().unwrap().iter().all(|row| row["node"] == "n2"), "{one}");
    user.refused(&["clock", "report", "--tolerance", "1s", "--node", "n9"], 5).unwrap();
    for bad in ["0s", "soon", "2h"] {
        user.refused(&["clock", "report", "--tolerance", bad], 2).unwrap();
    }
    // What the nodes write is nobody's mail.
    let mail = timed.cluster.records("n1", false).unwrap();
    assert!(mail.iter().all(|record| record.to != "$events"), "events are in the admin's mail");
    // Waiting for a clock.
    user.ok(&["clock", "wait", "--all", "--max-error", "90ms", "--timeout", "20s"]).unwrap();
    let never = ["clock", "wait", "--state", "local", "--timeout", "1s"];
    assert_eq!(user.run(&never).unwrap().code, 7);
}
