//! Asking how the cluster is, and what every refusal becomes.

use proto::wire::{
    ClientRow, Clients, Configure, Empty, Metrics, OnLoss, Op, Reply, Settings, Status,
};
use proto::{ErrorCode, Problem, ProblemCode};

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

/// Seen to fail with `wait ready` sent to `status`, which sent back to `wait ready` or to itself.
#[test]
fn no_hint_leads_back_to_where_it_was_said() {
    let user = User::with_cluster();
    let down = Status { problems: vec![Problem::new(ProblemCode::NodeDown).of("n2")], ..status() };
    let _node = FakeNode::start(&user, move |_, op| match op {
        Op::Status(_) => vec![Reply::Status(down.clone())],
        _ => vec![failure(ErrorCode::NoQuorum)],
    });
    for args in [
        &["status"][..],
        &["health"],
        &["wait", "ready", "--timeout", "1s"],
        &["doctor", "--timeout", "300ms"],
        &["clients", "--timeout", "300ms"],
        &["group", "list", "--timeout", "300ms"],
        &["kv", "list", "--timeout", "300ms"],
        &["admin", "list", "--timeout", "300ms"],
        &["access", "list", "--timeout", "300ms"],
        &["cluster", "token", "list", "--timeout", "300ms"],
        &["cluster", "settings", "--timeout", "300ms"],
    ] {
        let output = user.run(args);
        let said = text(&output.stderr);
        let hint = said.lines().last().unwrap().strip_prefix("try: ").unwrap().to_owned();
        let verbs: Vec<&str> =
            args.iter().copied().take_while(|word| !word.starts_with('-')).collect();
        assert_ne!(output.status.code(), Some(0), "{args:?}: {said}");
        assert!(!hint.starts_with(&format!("logctl {}", verbs.join(" "))), "{args:?}: {said}");
        let back = args[0] == "wait" && hint.starts_with("logctl status");
        assert!(!back, "{args:?}: {said}");
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
        status.problems = vec![Problem::new(ProblemCode::NodeDown).of("n2")];
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
    assert_eq!(json(&user.ok(&["clients", "--home", "n1", "--json"]))[0]["name"], "alice");
    assert!(user.fails(&["clients", "--home", "n3", "--json"], 5).contains("no node n3"));
    let nodes = json(&user.ok(&["nodes", "--json"]));
    assert_eq!((&nodes["n"], &nodes["nodes"][0]["id"]), (&1.into(), &"n1".into()));
    assert_eq!(user.ok(&["nodes"]).split('\t').next(), Some("n1"));
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

#[test]
fn settings_are_shown_and_changed() {
    let user = User::with_cluster();
    let settings = Settings {
        max_clock_error_us: 100_000,
        on_loss: OnLoss::Degrade.into(),
        retain_age_ms: Some(0),
        retain_count: Some(7),
        retain_bytes: None,
        cert_life_s: Some(2_592_000),
    };
    let node = FakeNode::start(&user, move |_, op| match op {
        Op::Status(_) => vec![Reply::Status(Status { settings: Some(settings), ..status() })],
        Op::Configure(change) => vec![Reply::Configured(Settings {
            max_clock_error_us: change.max_clock_error_us.unwrap_or(100_000),
            on_loss: change.on_loss.unwrap_or(0),
            retain_age_ms: change.retain_age_ms,
            ..settings
        })],
        _ => vec![failure(ErrorCode::Invalid)],
    });
    assert_eq!(user.ok(&["cluster", "settings"]), "100ms\tdegrade\tnone\t7\tnone\t30d\n");
    let shown = json(&user.ok(&["cluster", "settings", "--json"]));
    assert_eq!(
        shown,
        serde_json::json!({
            "max_clock_error_us": 100_000,
            "on_loss": "degrade",
            "retain_age_ms": null,
            "retain_count": 7,
            "retain_bytes": null,
            "cert_life_s": 2_592_000,
        })
    );
    let set = ["cluster", "set", "max-clock-error=50ms", "on-loss=refuse", "retain-age=90m"];
    let changed = user.run(&set);
    assert_eq!(text(&changed.stdout), "50ms\trefuse\t90m\t7\tnone\t30d\n");
    let said = "max-clock-error=50ms on-loss=refuse retain-age=90m retain-count=7 \
                retain-bytes=none cert-life=30d";
    assert!(text(&changed.stderr).contains(said));
    let wanted = Configure {
        max_clock_error_us: Some(50_000),
        on_loss: Some(1),
        retain_age_ms: Some(5_400_000),
        ..Configure::default()
    };
    assert_eq!(node.ops().last(), Some(&Op::Configure(wanted)));
    user.ok(&["cluster", "set", "on-loss=degrade"]);
    let wanted = Configure { on_loss: Some(0), ..Configure::default() };
    assert_eq!(node.ops().last(), Some(&Op::Configure(wanted)));
    let asked = node.ops().len();
    for bad in [
        &["max-clock-error=0ms"][..],
        &["max-clock-error=11s"],
        &["on-loss=panic"],
        &["speed=fast"],
        &["on-loss"],
        &[],
        &["on-loss=refuse", "on-loss=degrade"],
    ] {
        user.fails(&[&["cluster", "set"], bad].concat(), 2);
    }
    assert_eq!(node.ops().len(), asked, "a bad setting was sent");
}

#[test]
fn settings_that_nobody_has_made_yet_are_not_found() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, _| vec![Reply::Status(status())]);
    assert!(user.fails(&["cluster", "settings"], 5).contains("first primary"));
}

/// Meant to catch: the verdict on the cluster as the exit code, and a node that does not answer as an end.
#[test]
fn metrics_are_what_the_nodes_tell_and_an_answer_is_a_success() {
    let user = User::with_cluster();
    let node = FakeNode::start_each(&user, |name, _, op| match op {
        // As one of an earlier release.
        Op::Metrics(_) if name == "n2" => vec![failure(ErrorCode::Invalid)],
        Op::Metrics(_) => {
            let text =
                "# HELP logd_healthy H.\n# TYPE logd_healthy gauge\nlogd_healthy 0\n".to_owned();
            vec![Reply::Metrics(Metrics { text })]
        }
        _ => vec![failure(ErrorCode::Invalid)],
    });
    let output = user.run(&["health", "--prometheus", "--timeout", "1s"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let metrics = text(&output.stdout);
    for line in [
        "# TYPE logd_healthy gauge",
        "logd_healthy 0",
        "logd_up{node=\"n1\"} 1",
        "logd_up{node=\"n2\"} 0",
        "logd_up{node=\"n3\"} 1",
    ] {
        assert!(metrics.lines().any(|have| have == line), "{line}\n{metrics}");
    }
    assert!(text(&output.stderr).contains("n2 does not answer"));
    let own = user.run(&["health", "--prometheus", "--node", "n1"]);
    assert!(!text(&own.stdout).contains("n2"), "{}", text(&own.stdout));
    drop(node);
    user.fails(&["health", "--prometheus", "--node", "n1", "--timeout", "1s"], 3);
}

/// Meant to catch: no context taken for a mistake, and the places of the shipped file left in.
#[test]
fn what_watches_a_cluster_is_printed() {
    let user = User::with_cluster();
    let scrape = user.ok(&["generate", "prometheus"]);
    assert!(scrape.contains("job_name: logd") && scrape.contains("ca_file: \"/"), "{scrape}");
    assert!(!scrape.contains("10.0.0.1"), "{scrape}");
    assert!(user.ok(&["generate", "alerts"]).contains("alert: LogdNoQuorum"));
    let board = json(&user.ok(&["generate", "grafana"]));
    assert_eq!(board["title"], "logd");
    let nobody = User::new();
    let output = nobody.run(&["generate", "prometheus"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("10.0.0.1:7101"));
}
