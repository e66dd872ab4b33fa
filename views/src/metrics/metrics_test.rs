//! The table and the text, by the rules that Prometheus' own checker asks for (it runs itself, in `tests`).

use std::collections::{BTreeMap, BTreeSet};

use proto::stage::Stage;
use proto::wire::{ClockPeer, ClockSource, NodeRow, Refused, Scrubbing, Settings};
use proto::{Problem, ProblemCode};

use super::*;

fn clock() -> ClockReport {
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
        node: "n1".into(),
        state: "synced".into(),
        now_ns: 2_000_000_000,
        earliest_ns: Some(1_999_000_000),
        latest_ns: Some(2_000_500_000),
        refusal_in_ms: Some(1500),
        drift_ppb: 50_000,
        epoch: 1,
        may_lead: true,
        sources: vec![source, silent],
        peers: vec![ClockPeer { node: "n2".into(), offset_ns: -7, ..ClockPeer::default() }],
        ..ClockReport::default()
    }
}

/// A node of which everything is known.
fn full() -> NodeFacts {
    let row = |name: &str, lag| NodeRow {
        name: name.into(),
        up: true,
        voter: true,
        lag,
        rtt_us: 250,
        version: "0.1.0".into(),
        not_before_unix_s: 10,
        not_after_unix_s: 100,
        scrub: Some(Scrubbing { rounds: 3, last_round_age_s: Some(70), ..Scrubbing::default() }),
        ..NodeRow::default()
    };
    let status = Status {
        primary: "n1".into(),
        quorum: true,
        term: 4,
        nodes: vec![row("n1", 5), row("n2", 17)],
        problems: vec![Problem::new(ProblemCode::NodeDown).of("n2")],
        settings: Some(Settings { max_clock_error_us: 100_000, on_loss: 0, ..Settings::default() }),
        last_seq: 9,
        ..Status::default()
    };
    let counted = |stage: Stage| Counted { stage: stage.into(), sum: 200, buckets: vec![0, 0, 2] };
    let work = Work {
        stages: Stage::ALL.into_iter().map(counted).collect(),
        records: 9,
        pairs: Pairs { all: 8, unproven: 3, last: 8, last_unproven: 2 },
        behind: vec![("n2".into(), 12)],
        disk: Some(Disk { free_bytes: 10, size_bytes: 100, reserve_bytes: 1 }),
        ..Work::default()
    };
    let process = Process {
        open_fds: Some(20),
        max_fds: Some(1024),
        resident_bytes: Some(1 << 20),
        cpu_s: Some(1.5),
        threads: Some(9),
    };
    NodeFacts {
        node: "n1".into(),
        status,
        clock: clock(),
        ready: true,
        authority_until_unix_s: Some(1000),
        work: Some(work),
        process,
        requests: 30,
        connected_clients: 2,
        http: vec![HttpCount { route: "/v1/messages/{id}".into(), code: 201, count: 6 }],
    }
}

#[test]
fn every_value_is_there_in_base_units() {
    let text = text(full());
    for line in [
        "logd_healthy 0",
        "logd_problems 1",
        r#"logd_problem{kind="node_down"} 1"#,
        r#"logd_problem{kind="no_quorum"} 0"#,
        "logd_clock_error_limit_seconds 0.1",
        r#"logd_build_info{node="n1",version="0.1.0"} 1"#,
        r#"logd_ready{node="n1"} 1"#,
        r#"logd_cert_expiry_timestamp_seconds{node="n1",cert="node"} 100"#,
        r#"logd_cert_left_seconds{node="n1",cert="authority"} 998"#,
        r#"logd_cert_late_seconds{node="n1",cert="node"} 20"#,
        r#"logd_scrub_age_seconds{node="n1"} 70"#,
        r#"logd_is_primary{node="n1"} 1"#,
        r#"logd_replication_lag_entries{node="n1"} 5"#,
        r#"logd_peer_lag_entries{node="n1",peer="n2"} 12"#,
        r#"logd_peer_rtt_seconds{node="n1",peer="n2"} 0.00025"#,
        r#"logd_pairs_unproven_total{node="n1"} 3"#,
        r#"logd_pairs_unproven_ratio{node="n1"} 0.25"#,
        r#"logd_append_duration_seconds_sum{node="n1",stage="quorum"} 0.0002"#,
        r#"logd_append_duration_seconds_bucket{node="n1",stage="quorum",le="0.001024"} 2"#,
        r#"logd_fsync_duration_seconds_bucket{node="n1",le="+Inf"} 2"#,
        r#"logd_entry_commands_bucket{node="n1",le="3"} 2"#,
        r#"logd_http_requests_total{node="n1",route="/v1/messages/{id}",code="201"} 6"#,
        r#"logd_clock_state{node="n1",state="synced"} 1"#,
        r#"logd_clock_state{node="n1",state="holdover"} 0"#,
        r#"logd_clock_error_bound_seconds{node="n1"} 0.001"#,
        r#"logd_clock_earliest_offset_seconds{node="n1"} -0.001"#,
        r#"logd_clock_latest_offset_seconds{node="n1"} 0.0005"#,
        r#"logd_clock_refusal_seconds{node="n1"} 1.5"#,
        r#"logd_clock_offset_seconds{node="n1",source="odd\"name\\\n:123"} -0.0000015"#,
        r#"logd_clock_source_selected{node="n1",source="silent:123"} 0"#,
        r#"process_cpu_seconds_total{node="n1"} 1.5"#,
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    }
    assert!(!text.contains(r#"logd_clock_offset_seconds{node="n1",source="silent"#), "{text}");
}

/// Seen to fail with: a zero for a bound that is not known.
#[test]
fn what_is_not_known_has_no_sample() {
    let bare = text(NodeFacts { node: "n1".into(), ..NodeFacts::default() });
    for absent in ["_error_bound_", "limit_seconds", "_offset_", "logd_records", "cert_", "process"]
    {
        assert!(!bare.contains(absent), "{absent}\n{bare}");
    }
    assert!(bare.contains("logd_ready{node=\"n1\"} 0\n"), "{bare}");
}

/// The library only asserts in debug builds that a counter's stem lacks `_total`, which it adds.
///
/// Seen to fail with: a counter registered as `…_total`, a metric in milliseconds, and two of one name.
#[test]
fn the_table_follows_the_rules() {
    let closed =
        ["cert", "code", "kind", "peer", "reason", "route", "source", "stage", "state", "version"];
    let mut names = BTreeSet::new();
    for family in families() {
        let name = family.name();
        let fits = |c: char| c.is_ascii_lowercase() || c == '_';
        let ours = name.starts_with("logd_") || name.starts_with("process_");
        assert!(ours && name.chars().all(fits), "{name}");
        assert!(names.insert(name.clone()), "two of {name}");
        assert!(!family.stem.ends_with("_total") && !family.stem.ends_with("_count"), "{name}");
        for unit in ["_ms", "_us", "_ns", "_ppm", "_ppb", "milli", "micro"] {
            assert!(!name.contains(unit), "{name} is not in a base unit");
        }
        assert!(family.help.ends_with('.') && family.help.len() > 5, "{name}: {}", family.help);
        assert!(family.labels.iter().all(|label| closed.contains(label)), "{name}");
    }
    assert!(names.len() > 50, "{names:?}");
}

/// Seen to fail with: a reader that gives a count where its family is a histogram, and a label forgotten.
#[test]
fn the_text_is_the_table() {
    let text = text(full());
    let families: BTreeMap<String, &Family> = families().map(|f| (f.name(), f)).collect();
    let (mut helped, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut series = BTreeSet::new();
    let mut current: Option<&Family> = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["#", "HELP", name, ..] = words[..] {
            assert_eq!(line, format!("# HELP {name} {}", families[name].help));
            assert!(helped.insert(name), "two HELP of {name}");
        } else if let ["#", "TYPE", name, kind] = words[..] {
            assert_eq!(kind, families[name].kind.as_str(), "{line}");
            current = Some(families[name]);
        } else {
            let family = current.unwrap();
            let (head, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(head), "twice: {line}");
            seen.insert(family.name());
            let (name, labels) = head.split_once('{').unwrap_or((head, ""));
            let tail = name.strip_prefix(family.name().as_str()).unwrap();
            let is_part = ["_bucket", "_sum", "_count"].contains(&tail);
            assert_eq!(is_part, family.kind == Kind::Histogram, "{line}");
            let mut wanted: Vec<&str> = family.labels.to_vec();
            wanted.extend(family.of_node.then_some("node"));
            wanted.extend((tail == "_bucket").then_some("le"));
            for label in &wanted {
                assert!(labels.contains(&format!("{label}=\"")), "{label} in {line}");
            }
            assert_eq!(labels.matches("=\"").count(), wanted.len(), "{line}");
        }
    }
    let missing: Vec<&String> = families.keys().filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "no sample of {missing:?} although all is known");
}

/// Seen to fail with: blocks that are put behind each other, and the last one's word on the cluster.
#[test]
fn several_nodes_are_one_text() {
    let of = |node: &str, term| {
        let mut facts = NodeFacts { node: node.into(), ..full() };
        facts.status.term = term;
        Reached { node: node.into(), text: Some(text(facts)) }
    };
    let silent = Reached { node: "n3".into(), text: None };
    let text = joined(&[of("n1", 4), silent, of("n2", 5)]);
    for line in [
        "logd_up{node=\"n1\"} 1",
        "logd_up{node=\"n3\"} 0",
        "logd_term 4",
        "logd_ready{node=\"n1\"} 1",
        "logd_ready{node=\"n2\"} 1",
    ] {
        assert_eq!(text.lines().filter(|have| *have == line).count(), 1, "{line}\n{text}");
    }
    assert!(!text.contains("logd_term 5") && text.ends_with('\n'), "{text}");
    let types = text.lines().filter(|line| line.starts_with("# TYPE "));
    let types: Vec<&str> = types.collect();
    assert_eq!(types.len(), types.iter().collect::<BTreeSet<_>>().len(), "{text}");
    assert_eq!(types.len(), families().count() + 1, "all of them, and who was reached");
}
