//! The format that Prometheus's own checker asks for. Seen to fail with a second `# TYPE` of one
//! name, a metric in milliseconds, a counter without `_total`, and an unescaped quote.

use std::collections::{BTreeMap, BTreeSet};

use proto::wire::{ClockPeer, ClockSource, Refused, Scrubbing, Settings};

use super::*;

fn clock(node: &str) -> ClockReport {
    let source = ClockSource {
        address: "odd\"name\\\n:123".into(),
        verdict: "selected".into(),
        offset_ns: -1_500,
        distance_ns: 900_000,
        age_ms: Some(10),
        refused: ["timeout", "stratum"]
            .map(|reason| Refused { reason: reason.into(), count: 3 })
            .into(),
        ..ClockSource::default()
    };
    let silent = ClockSource { address: "silent:123".into(), ..ClockSource::default() };
    ClockReport {
        node: node.into(),
        state: "synced".into(),
        now_ns: 2_000_000_000,
        earliest_ns: Some(1_999_000_000),
        latest_ns: Some(2_000_500_001),
        refusal_in_ms: Some(1500),
        drift_ppb: 50_000,
        epoch: 1,
        may_lead: true,
        sources: vec![source, silent],
        peers: vec![ClockPeer { node: "n9".into(), offset_ns: -7, ..ClockPeer::default() }],
        ..ClockReport::default()
    }
}

fn sample() -> String {
    let row = |name: &str, lag| NodeRow {
        name: name.into(),
        lag,
        version: "0.1.0".into(),
        not_after_unix_s: 100,
        scrub: Some(Scrubbing { rounds: 3, last_round_age_s: Some(70), ..Scrubbing::default() }),
        ..NodeRow::default()
    };
    let status = Status {
        primary: "n1".into(),
        quorum: true,
        term: 4,
        nodes: vec![row("n1", 0), row("n2", 17)],
        problems: vec![proto::Problem::new(proto::ProblemCode::NodeDown).of("n2")],
        settings: Some(Settings { max_clock_error_us: 100_000, on_loss: 0, ..Settings::default() }),
        ..Status::default()
    };
    let facts = |node: &str, clock| NodeFacts { node: node.into(), clock };
    text(&status, &[facts("n1", Some(clock("n1"))), facts("n2", None)], false, true)
}

#[test]
fn every_value_is_there_in_base_units() {
    let text = sample();
    for line in [
        "logd_healthy 0",
        "logd_problems 1",
        "logd_clock_degraded 1",
        "logd_clock_error_limit_seconds 0.100000000",
        "logd_cert_expiry_timestamp_seconds{node=\"n2\"} 100",
        "logd_cert_left_seconds{node=\"n1\"} 98",
        "logd_scrub_rounds{node=\"n2\"} 3",
        "logd_scrub_age_seconds{node=\"n1\"} 70",
        "logd_up{node=\"n1\"} 1",
        "logd_up{node=\"n2\"} 0",
        "logd_is_primary{node=\"n1\"} 1",
        "logd_is_primary{node=\"n2\"} 0",
        "logd_replication_lag_entries{node=\"n2\"} 17",
        "logd_clock_synchronized{node=\"n1\"} 1",
        "logd_clock_state{node=\"n1\",state=\"synced\"} 1",
        "logd_clock_state{node=\"n1\",state=\"holdover\"} 0",
        "logd_clock_error_bound_seconds{node=\"n1\"} 0.001000000",
        "logd_clock_may_lead{node=\"n1\"} 1",
        "logd_clock_refusal_seconds{node=\"n1\"} 1.500000000",
        "logd_clock_drift_allowance_ratio{node=\"n1\"} 0.000050000",
        "logd_clock_peer_offset_seconds{node=\"n1\",peer=\"n9\"} -0.000000007",
        r#"logd_clock_offset_seconds{node="n1",source="odd\"name\\\n:123"} -0.000001500"#,
        "logd_clock_source_selected{node=\"n1\",source=\"silent:123\"} 0",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    }
    let rejected: Vec<&str> =
        text.lines().filter(|line| line.starts_with("logd_clock_sample_rejected_total{")).collect();
    assert_eq!(rejected.len(), 2);
    assert!(rejected[0].ends_with(",reason=\"timeout\"} 3"), "{rejected:?}");
}

#[test]
fn what_is_not_known_has_no_sample() {
    let text = sample();
    for absent in
        ["logd_clock_offset_seconds{node=\"n1\",source=\"silent", "logd_clock_state{node=\"n2\""]
    {
        assert!(!text.contains(absent), "{absent}");
    }
    let bare = super::text(&Status::default(), &[], true, false);
    assert!(!bare.contains("logd_clock_state"), "{bare}");
    assert!(!bare.contains("limit_seconds"), "{bare}");
}

#[test]
fn names_types_and_labels_follow_the_rules() {
    let text = sample();
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut series = BTreeSet::new();
    let mut current = "";
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["#", "HELP", name, ..] = words[..] {
            assert!(helped.insert(name), "two HELP of {name}");
            assert!(line.ends_with('.'), "{line}");
        } else if let ["#", "TYPE", name, kind] = words[..] {
            assert!(helped.contains(name), "no HELP of {name}");
            assert!(kinds.insert(name, kind).is_none(), "two TYPE of {name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} {kind}");
            current = name;
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert_eq!(name.split('{').next(), Some(current), "not in its family: {line}");
            assert!(series.insert(name), "twice: {name}");
            let quotes = name.replace("\\\\", "").replace("\\\"", "").matches('"').count();
            assert_eq!(quotes % 2, 0, "{line}");
        }
    }
    for name in kinds.keys() {
        let fits = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(name.starts_with("logd_") && name.chars().all(fits), "{name}");
        for unit in ["_ms", "_us", "_ns", "_ppm", "_ppb", "milli", "micro"] {
            assert!(!name.contains(unit), "{name} is not in a base unit");
        }
    }
    assert!(text.ends_with('\n') && kinds.len() > 15, "{text}");
}
