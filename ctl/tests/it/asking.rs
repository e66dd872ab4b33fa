//! Asking how the cluster is, and what every refusal becomes.

use proto::ErrorCode;
use proto::wire::{ClientRow, Clients, ClockReport, ClockSource, Empty, Op, Reply, Status};

use crate::node::{FakeNode, failure, status};
use crate::user::{User, json, text};

#[test]
fn every_refusal_has_its_code_and_says_what_to_try() {
    for (code, exit) in [
        (ErrorCode::Invalid, 2),
        (ErrorCode::Denied, 4),
        (ErrorCode::NotFound, 5),
        (ErrorCode::Conflict, 6),
        (ErrorCode::ClockAhead, 12),
        (ErrorCode::ClockUnavailable, 12),
        (ErrorCode::Integrity, 13),
        (ErrorCode::DiskFull, 10),
        (ErrorCode::NoQuorum, 11),
    ] {
        let user = User::with_cluster();
        let _node = FakeNode::start(&user, move |_, _| vec![failure(code)]);
        let errors = user.fails(&["get", "m-1", "--timeout", "500ms"], exit);
        assert!(errors.contains("as the test wants it"), "{code:?}: {errors}");
    }
}

#[test]
fn an_answer_to_another_question_is_refused() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, _| vec![Reply::Pong(Empty {})]);
    for args in [
        &["send", "--to", "bob", "hi"][..],
        &["read"],
        &["get", "m-1"],
        &["delete", "m-1", "-y"],
        &["clients"],
        &["status"],
        &["health"],
        &["clock"],
        &["register", "alice"],
    ] {
        assert!(user.fails(args, 6).contains("the same release"), "{args:?}");
    }
}

#[test]
fn the_status_decides_the_exit_code() {
    for (change, exit) in [
        ((|_| {}) as fn(&mut Status), 0),
        (|status| status.nodes[1].up = false, 10),
        (|status| status.quorum = false, 11),
        (|status| status.primary.clear(), 11),
        (|status| status.nodes[0].clock_state = "expired".into(), 12),
    ] {
        let user = User::with_cluster();
        let _node = FakeNode::start(&user, move |_, _| {
            let mut status = status();
            change(&mut status);
            vec![Reply::Status(status)]
        });
        let output = user.run(&["status", "--json"]);
        assert_eq!(output.status.code(), Some(exit));
        let shown = json(&text(&output.stdout));
        assert_eq!(shown["healthy"], exit == 0);
        assert_eq!(shown["problems"].as_array().unwrap().is_empty(), exit == 0);
        assert_eq!(shown["nodes"][2]["clock"]["state"], "local");
        let output = user.run(&["health", "--json"]);
        assert_eq!(output.status.code(), Some(exit));
        assert_eq!(json(&text(&output.stdout))["healthy"], exit == 0);
        let errors = text(&output.stderr);
        assert_eq!(errors.lines().last().is_some_and(|line| line.starts_with("try: ")), exit != 0);
    }
}

#[test]
fn a_status_in_every_form() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, _| vec![Reply::Status(status())]);
    let table = user.ok(&["status", "-o", "table"]);
    for part in ["primary n1", "quorum yes", "n3", "healthy"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert_eq!(user.ok(&["status"]).lines().count(), 3);
    assert_eq!(user.ok(&["status", "-o", "ndjson"]).lines().count(), 1);
    assert_eq!(user.ok(&["health"]), "all\thealthy\t\n");
    assert_eq!(user.ok(&["check", "--node", "n1"]), "n1\thealthy\t\n");
}

#[test]
fn health_of_one_node_is_about_that_node() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, _| {
        let mut status = status();
        status.nodes[1].up = false;
        status.problems = vec!["n2 does not answer".into()];
        vec![Reply::Status(status)]
    });
    user.ok(&["health", "--node", "n1"]);
    assert_eq!(user.run(&["health"]).status.code(), Some(10));
}

#[test]
fn watching_ends_when_the_reader_has_enough() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, _| vec![Reply::Status(status())]);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = user.command(&["status", "--watch", "--json"]).stdout(writer).spawn().unwrap();
    let mut first = String::new();
    let mut lines = std::io::BufReader::new(reader);
    std::io::BufRead::read_line(&mut lines, &mut first).unwrap();
    assert_eq!(json(&first)["healthy"], true);
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn clients_are_listed_by_home() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, _| {
        let row = |name: &str, home: &str| ClientRow {
            name: name.into(),
            home: home.into(),
            via: "n1".into(),
            connected: true,
            last_seen_ns: 1,
        };
        let clients = vec![row("alice", "n1"), row("bob", "n2")];
        vec![Reply::Clients(Clients { clients })]
    });
    let all = json(&user.ok(&["clients", "--json"]));
    assert_eq!((&all[0]["name"], &all[1]["home"]), (&"alice".into(), &"n2".into()));
    assert_eq!(
        user.ok(&["clients", "--home", "n2"]),
        "bob\tn2\tn1\ttrue\t1970-01-01T00:00:00.000000001Z\n"
    );
    assert_eq!(json(&user.ok(&["clients", "--home", "n3", "--json"])), serde_json::json!([]));
    let nodes = json(&user.ok(&["nodes", "--json"]));
    assert_eq!((&nodes["n"], &nodes["nodes"][0]["id"]), (&1.into(), &"n1".into()));
    assert_eq!(user.ok(&["nodes"]).split('\t').next(), Some("n1"));
}

#[test]
fn a_clock_is_shown_with_its_sources() {
    for (state, exit) in [("local", 0), ("synced", 0), ("holdover", 10), ("unsynced", 12)] {
        let user = User::with_cluster();
        let _node = FakeNode::start(&user, move |_, _| {
            let source = ClockSource {
                address: "ntp.example:123".into(),
                reach: 0b111,
                stratum: 2,
                offset_ns: -1500,
                delay_ns: 250_000,
                distance_ns: 900_000,
                verdict: "selected".into(),
                next_poll_ms: 1500,
                ..ClockSource::default()
            };
            let report = ClockReport {
                node: "n1".into(),
                state: state.into(),
                now_ns: 2_000_000_000,
                earliest_ns: Some(1_999_000_000),
                latest_ns: Some(2_000_500_001),
                sources: vec![source],
                ..ClockReport::default()
            };
            vec![Reply::Clock(report)]
        });
        let output = user.run(&["clock", "--json"]);
        assert_eq!(output.status.code(), Some(exit), "{state}");
        let shown = json(&text(&output.stdout));
        assert_eq!((&shown["state"], &shown["error_bound_us"]), (&state.into(), &1000.into()));
        assert_eq!(shown["sources"][0]["reach"], "00000111");
        let table = text(&user.run(&["clock", "-o", "table"]).stdout);
        assert!(table.contains("ntp.example:123  00000111  2        -1.500 us"), "{table}");
    }
}

#[test]
fn compacting_tells_of_each_node() {
    let user = User::with_cluster();
    let node = FakeNode::start(&user, |_, op| match op {
        Op::Compact(_) => vec![Reply::Compacted(Empty {})],
        _ => vec![failure(ErrorCode::Invalid)],
    });
    assert_eq!(user.ok(&["compact"]), "n1\ttrue\t\n");
    assert_eq!(user.ok(&["compact", "--via", "n1"]), "n1\ttrue\t\n");
    assert_eq!(node.ops().len(), 2);
}
