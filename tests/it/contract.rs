//! The output contract of `logctl`, for every command against a cluster that runs: data alone on
//! standard output, JSON that parses, exit codes, colour, closed pipes.
//!
//! Negative control, seen to fail: one command left out of the list, which is compared with what
//! `--help` names.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::user::finish;
use tests::{Cluster, User};

use crate::smoke::{
    ACK, CLIENT, CLOCK, LISTED, MEMBER, NODE, RECORD, STATUS, alice_and_bob, has_fields,
};

/// What is known of one clock.
const TRACKING: &[&str] = &[
    "node",
    "state",
    "now",
    "earliest",
    "latest",
    "error_bound_us",
    "max_error_us",
    "drift_ppb",
    "hlc",
    "ceiling",
    "reason",
    "reference",
    "stratum",
    "root_distance_ns",
    "update_interval_s",
    "slew_ns",
    "leap",
    "hlc_lead_ns",
    "epoch",
    "refusal_in_ms",
    "may_lead",
    "alarms",
    "sources",
    "peers",
];

const ROUTE: &[&str] = &["key", "slot", "shard", "home", "primary", "replicas", "epoch"];
const RAFT: &[&str] = &[
    "node",
    "raft_id",
    "role",
    "term",
    "voted_for",
    "vote_committed",
    "last_index",
    "committed",
    "applied",
    "purged",
    "voters",
    "learners",
    "joint",
    "membership_index",
];
const SETTINGS: &[&str] = &[
    "max_clock_error_us",
    "on_loss",
    "retain_age_ms",
    "retain_bytes",
    "retain_count",
    "cert_life_s",
];
const VERIFIED: &[&str] = &["node", "verdict", "index", "digest", "records", "bytes", "problems"];
const CERTIFICATE: &[&str] = &[
    "name",
    "role",
    "not_after",
    "not_after_unix_s",
    "left_s",
    "state",
    "signs",
    "file",
    "fingerprint",
];
const EVENT: &[&str] =
    &["seq", "stamp", "earliest", "latest", "order_certain", "type", "node", "text", "headers"];
const KEY: &[&str] = &["key", "value", "version", "by", "owner", "shared_with", "stamp"];
const ROW: &[&str] = &[
    "name",
    "state",
    "wants",
    "priority",
    "drained",
    "address",
    "raft_id",
    "incarnation",
    "aside_until",
];

/// One of every command that answers with data, and what its JSON is: an object with these fields,
/// or (`[]`) an array of such objects.
fn commands() -> Vec<(&'static [&'static str], bool, &'static [&'static str])> {
    vec![
        (&["--as", "alice", "send", "--to", "bob", "--id", "m", "hi"], false, ACK),
        (&["--as", "bob", "read"], true, LISTED),
        (&["--as", "bob", "read", "--stale"], true, LISTED),
        (&["--as", "bob", "get", "m"], false, RECORD),
        (&["clients"], true, CLIENT),
        (&["nodes"], false, &["n", "nodes"]),
        (&["status"], false, STATUS),
        (&["health"], false, &["node", "healthy", "problems"]),
        (&["health", "--node", "n2"], false, &["node", "healthy", "problems"]),
        (&["clock"], false, TRACKING),
        (&["clock", "tracking"], false, TRACKING),
        (&["clock", "--all"], true, TRACKING),
        (&["cluster", "settings"], false, SETTINGS),
        (&["cluster", "set", "max-clock-error=90ms"], false, SETTINGS),
        (&["register", "carol"], false, &["name", "home", "context"]),
        (&["compact"], true, &["node", "compacted", "problem"]),
        (&["access", "create", "alice"], false, &["token", "id", "client", "expires"]),
        (&["access", "list"], true, &["id", "client", "state", "expires", "by", "since"]),
        (&["admin", "list"], true, &["name", "since", "by", "key"]),
        (&["certs", "show"], true, CERTIFICATE),
        (&["certs", "renew"], false, CERTIFICATE),
        (&["context", "list"], true, &["name", "current", "cluster", "identity", "role", "home"]),
        (&["route", "bob"], false, ROUTE),
        (&["raft", "show"], true, RAFT),
        (&["verify", "--state"], true, VERIFIED),
        (&["wait", "ready"], true, &["node", "role", "state"]),
        (&["events", "--types", "join"], true, EVENT),
        (&["node", "set", "n1", "--priority", "1"], false, ROW),
        (&["--as", "alice", "kv", "put", "k", "v"], false, KEY),
        (&["kv", "list"], true, KEY),
    ]
}

#[test]
fn every_command_answers_in_every_form() {
    let cluster = alice_and_bob();
    let user = cluster.user();
    for (args, many, fields) in commands() {
        let run = |form: &[&str]| {
            let run = user.run(&[args, form].concat()).unwrap();
            assert_eq!(run.code, 0, "{run}");
            assert!(!run.text().contains('\u{1b}'), "colour without a terminal: {run}");
            run
        };
        let document = run(&["-o", "json"]).json().unwrap();
        let lines = run(&["-o", "ndjson"]).lines().unwrap();
        let objects = match &document {
            Value::Array(objects) if many => objects.clone(),
            Value::Object(_) if !many => vec![document.clone()],
            other => panic!("{args:?}: {other}"),
        };
        assert!(!objects.is_empty(), "{args:?}");
        for object in &objects {
            has_fields(object, fields);
        }
        // The list of nodes is an object as a document, and the nodes themselves as lines.
        let of_lines = if args == ["nodes"] { MEMBER } else { fields };
        for line in &lines {
            has_fields(line, of_lines);
        }
        let plain = run(&["-o", "plain"]).text();
        let auto = run(&[]).text();
        for text in [&plain, &auto] {
            assert_eq!(text.lines().count(), rows(args, &objects), "{text}");
            let is_one_word = [["context", "list"].as_slice(), &["access", "create", "alice"]];
            assert!(is_one_word.contains(&args) || text.contains('\t'), "{args:?}: {text}");
        }
        let table = run(&["-o", "table"]).text();
        assert!(table.lines().count() > 1 && !table.contains('│'), "{args:?}: {table}");
        let json = run(&["--json"]).json().unwrap();
        assert_eq!(json.is_array(), many);
    }
}

/// Lines of the plain form: one for each thing that is listed.
fn rows(args: &[&str], objects: &[Value]) -> usize {
    match (args, objects) {
        (["nodes"] | ["status"], _) => 3,
        // A fact, a server or a peer a line.
        (["clock"] | ["clock", "tracking"], [clock]) => {
            let listed = |key: &str| clock[key].as_array().unwrap().len();
            TRACKING.len() - 2 + listed("sources") + listed("peers")
        }
        _ => objects.len(),
    }
}

#[test]
fn nested_objects_have_their_fields_too() {
    let cluster = alice_and_bob();
    for (command, fields) in [("status", NODE), ("nodes", MEMBER)] {
        let document = cluster.user().json(&[command]).unwrap();
        let nodes = document["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 3);
        for node in nodes {
            has_fields(node, fields);
            has_fields(&node["clock"], CLOCK);
        }
    }
    let deleted = {
        let user = cluster.user();
        user.ok(&["--as", "alice", "send", "--to", "bob", "--id", "m", "hi"]).unwrap();
        user.json(&["--as", "alice", "delete", "m", "-y"]).unwrap()
    };
    let with_tombstone: Vec<&str> = RECORD.iter().copied().chain(["deleted"]).collect();
    has_fields(&deleted, &with_tombstone);
    has_fields(&deleted["deleted"], &["by", "stamp", "reason"]);
}

#[test]
fn no_command_is_left_out() {
    let home = tempfile::tempdir().unwrap();
    let help = User::new(home.path().to_owned()).ok(&["--help"]).unwrap().text();
    let named: BTreeSet<&str> = help
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let mut tried: BTreeSet<&str> = commands()
        .iter()
        .map(|(args, ..)| match args {
            ["--as", _, verb, ..] | [verb, ..] => *verb,
            [] => "",
        })
        .collect();
    // Those have tests of their own: here, in `smoke`, in `seeds_*`, and beside logctl itself.
    tried.extend(["delete", "cluster", "demo", "completions", "man"]);
    tried.extend(["bench", "chart", "chat", "dev", "group", "ping", "shell"]);
    tried.extend(["doctor", "generate", "support-bundle"]);
    assert_eq!(named, tried);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let cluster = alice_and_bob();
    let user = cluster.user();
    for n in 0..20 {
        let id = format!("m{n}");
        let body = "x".repeat(20_000);
        let send = ["--as", "alice", "send", "--to", "bob", "--id", &id, "-"];
        assert_eq!(user.run_with(&send, body.as_bytes()).unwrap().code, 0);
    }
    for args in [
        &["--as", "bob", "read"][..],
        &["--as", "bob", "read", "-o", "json"],
        &["--as", "bob", "read", "--follow"],
        &["status", "-o", "json"],
        &["clients"],
        &["nodes", "-o", "table"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = user.command(args).unwrap();
        let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        assert!(!said.contains("error") && !said.contains("panic"), "{args:?}: {said}");
    }
    // A cursor that was not shown did not move.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = user.command(&["--as", "bob", "read", "--cursor", "mine"]).unwrap();
    assert!(command.stdout(writer).status().unwrap().success());
    let read = user.json(&["--as", "bob", "read", "--cursor", "mine"]).unwrap();
    assert_eq!(read.as_array().unwrap().len(), 20);
}

#[test]
fn what_watches_ends_when_it_is_told_to() {
    let cluster = alice_and_bob();
    let mut command = cluster.user().command(&["status", "--watch", "-o", "json"]).unwrap();
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let status = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        has_fields(&status, STATUS);
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_demo_runs_without_a_terminal_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let user = User::new(home.path().join("home"));
    let mut command = user.command(&["demo", "-o", "json"]).unwrap();
    command.env("TMPDIR", home.path());
    let run = finish(command, &["demo"], b"").unwrap();
    assert_eq!(run.code, 0, "{run}");
    let report = run.json().unwrap();
    assert_eq!((&report["lost"], &report["doubled"]), (&0.into(), &0.into()), "{report}");
    assert!(report["clock"]["bounds_true"].as_u64().is_some_and(|n| n > 0), "{report}");
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.ends_with("home")), "{left:?}");
    assert_eq!(user.ok(&["context", "list"]).unwrap().text(), "");
}

#[test]
fn notes_are_not_data_and_can_be_silenced() {
    let cluster = alice_and_bob();
    let user = cluster.user();
    let note = user.ok(&["register", "carol"]).unwrap();
    assert!(note.stderr.contains("next:") && !note.text().contains("next:"), "{note}");
    let quiet = user.ok(&["-q", "register", "dave"]).unwrap();
    assert_eq!(quiet.stderr, "");
    let stale = user.ok(&["-q", "--as", "carol", "read", "--stale"]).unwrap();
    assert_eq!((stale.text().as_str(), stale.stderr.as_str()), ("", ""));
    let verbose = user.ok(&["-vv", "status"]).unwrap();
    assert!(verbose.stderr.contains("connected"), "{verbose}");
    assert_eq!(verbose.text().lines().count(), 3);
}

#[test]
fn colour_is_wished_for_or_not_there() {
    let cluster = alice_and_bob();
    let user = cluster.user();
    let coloured = |args: &[&str], set: &[(&str, &str)]| {
        let mut command = user.command(args).unwrap();
        let output = command.envs(set.iter().copied()).output().unwrap();
        assert!(output.status.success());
        output.stdout.contains(&0x1b)
    };
    for args in [&["status", "-o", "table"][..], &["nodes", "-o", "table"]] {
        assert!(coloured(args, &[("CLICOLOR_FORCE", "1")]), "{args:?}");
        assert!(!coloured(args, &[]), "{args:?}");
        assert!(!coloured(args, &[("NO_COLOR", "1")]), "{args:?}");
        let both = [("CLICOLOR_FORCE", "1"), ("LOGCTL_NO_COLOR", "1")];
        assert!(!coloured(args, &both), "{args:?}");
    }
}

#[test]
fn a_client_finds_its_home_and_goes_back_to_it() {
    let mut cluster = Cluster::start(3).unwrap();
    let user = cluster.user().clone();
    user.ok(&["register", "alice", "--home", "n2"]).unwrap();
    let gateway = |cluster: &Cluster| {
        let ack = cluster.user().json(&["--as", "alice", "send", "--to", "alice", "hi"]).unwrap();
        ack["gateway"].as_str().unwrap().to_owned()
    };
    assert_eq!(gateway(&cluster), "n2");
    cluster.kill("n2").unwrap();
    let elsewhere = gateway(&cluster);
    assert_ne!(elsewhere, "n2");
    let clients = user.json(&["clients"]).unwrap();
    assert_eq!((&clients[0]["home"], &clients[0]["via"]), (&"n2".into(), &elsewhere.into()));
    user.refused(&["--via", "n2", "--as", "alice", "read", "--timeout", "1s"], 3).unwrap();
    cluster.start_node("n2").unwrap();
    cluster.wait_healthy().unwrap();
    assert_eq!(gateway(&cluster), "n2");
}
