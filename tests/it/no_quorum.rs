//! One node of three alone: it takes no writes, serves only what it is told may be old, and says so.
//!
//! Promises: 4 fresh, 8 refuses clearly. Negative controls, each seen to fail: a daemon whose reads
//! ask nobody, and a primary that appends although nobody follows it.

use serde_json::json;
use tests::{Cluster, Load, until};

use crate::failover::account_for;
use crate::smoke::alice_and_bob;

/// Kills all nodes but one.
fn alone(cluster: &mut Cluster, node: &str) {
    for name in cluster.names().into_iter().filter(|name| name != node) {
        cluster.kill(&name).unwrap();
    }
}

#[test]
fn without_a_majority_writes_and_fresh_reads_are_refused() {
    let mut cluster = alice_and_bob();
    let user = cluster.user().clone();
    user.ok(&["--as", "alice", "send", "--to", "bob", "--id", "before", "hi"]).unwrap();
    cluster.wait_level().unwrap();
    // The survivor was a backup in one round and the primary in the other.
    let primary = cluster.wait_primary("n1").unwrap();
    let backup = cluster.names().into_iter().find(|name| *name != primary).unwrap();
    for survivor in [backup, primary] {
        alone(&mut cluster, &survivor);
        let quick = ["--timeout", "2s"];
        let as_alice = |args: &[&'static str]| [&["--as", "alice"], args, &quick].concat();
        let as_bob = |args: &[&'static str]| [&["--as", "bob"], args, &quick].concat();
        let send = as_alice(&["send", "--to", "bob", "--id", "during", "hi"]);
        let run = user.run(&send).unwrap();
        // A primary that has just lost its majority may have begun; then it must not claim to know.
        assert!(matches!(run.code, 7 | 11), "{run}");
        until("a refusal that knows", || {
            let run = user.run(&as_alice(&["send", "--to", "bob", "--id", "later", "hi"]));
            let run = run.map_err(|error| error.to_string())?;
            if run.code == 11 { Ok(run) } else { Err(run.to_string()) }
        })
        .unwrap()
        .refused(11)
        .unwrap();
        user.refused(&as_bob(&["read"]), 11).unwrap();
        user.refused(&as_bob(&["get", "before"]), 11).unwrap();
        user.refused(&as_bob(&["clients"]), 11).unwrap();
        user.refused(&["register", "carol", "--timeout", "2s"], 11).unwrap();
        refused_delete(&cluster);

        let stale = user.run(&["--as", "bob", "read", "--stale", "--json"]).unwrap();
        assert_eq!(stale.code, 0, "{stale}");
        assert!(stale.stderr.contains("stale"), "nothing says how old it is: {stale}");
        assert_eq!(stale.json().unwrap()[0]["id"], "before");
        let got = user.json(&["--as", "bob", "get", "before", "--stale"]).unwrap();
        assert_eq!(got["body"], "hi");

        shows_no_quorum(&cluster, &survivor);
        cluster.start_all().unwrap();
        cluster.wait_healthy().unwrap();
        user.ok(&["--as", "alice", "send", "--to", "bob", "after"]).unwrap();
        user.refused(&["--as", "carol", "read"], 5).unwrap();
    }
}

fn refused_delete(cluster: &Cluster) {
    let delete = ["--as", "alice", "delete", "before", "-y", "--timeout", "2s"];
    let run = cluster.ctl(&delete).unwrap();
    assert!(matches!(run.code, 7 | 11), "{run}");
}

/// Status answers, with data, and exits with 11.
fn shows_no_quorum(cluster: &Cluster, survivor: &str) {
    until("a status that has noticed", || {
        let run = cluster.ctl(&["status", "--json"]).map_err(|error| error.to_string())?;
        tests::patience::when(run.code == 11, run.to_string())?;
        let status = run.json().map_err(|error| error.to_string())?;
        assert_eq!((&status["quorum"], &status["healthy"]), (&json!(false), &json!(false)));
        assert!(!status["problems"].as_array().unwrap().is_empty());
        for node in status["nodes"].as_array().unwrap() {
            let state = if node["id"] == survivor { "up" } else { "down" };
            assert_eq!(node["state"], state, "{status}");
        }
        let last = run.stderr.lines().last().unwrap_or_default();
        tests::patience::when(last.starts_with("try: "), run.to_string())
    })
    .unwrap();
    assert_eq!(cluster.ctl(&["health"]).unwrap().code, 11);
}

#[test]
fn one_node_that_comes_back_is_enough() {
    let mut cluster = alice_and_bob();
    let user = cluster.user().clone();
    user.ok(&["--as", "alice", "send", "--to", "bob", "--id", "before", "hi"]).unwrap();
    alone(&mut cluster, "n3");
    // Sent while nobody can store it; it is stored when one more node is there.
    let mut waiting = user.command(&[
        "--as",
        "alice",
        "send",
        "--to",
        "bob",
        "--id",
        "patient",
        "hi",
        "--timeout",
        "60s",
        "--json",
    ]);
    let waiting = waiting.as_mut().unwrap().stdout(std::process::Stdio::piped()).spawn().unwrap();
    shows_no_quorum(&cluster, "n3");
    cluster.start_node("n1").unwrap();
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let status = cluster.ctl(&["status", "--json"]).unwrap();
    assert_eq!(status.code, 10, "{status}");
    assert_eq!(status.json().unwrap()["quorum"], true);
    cluster.start_all().unwrap();
    cluster.wait_healthy().unwrap();
    let read = user.json(&["--as", "bob", "read"]).unwrap();
    let ids: Vec<_> = read.as_array().unwrap().iter().map(|record| &record["id"]).collect();
    assert_eq!(ids, ["before", "patient"]);
}

#[test]
fn five_nodes_survive_two() {
    let mut cluster = Cluster::start(5).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    let load = Load::start(&cluster, &["alice"], 4, "bob", "five").unwrap();
    load.wait_more(50).unwrap();
    let first = cluster.wait_primary("n1").unwrap();
    cluster.kill(&first).unwrap();
    let left: Vec<_> = cluster.names().into_iter().filter(|name| *name != first).collect();
    load.wait_more(50).unwrap();
    let second = cluster.wait_primary(&left[0]).unwrap();
    cluster.kill(&second).unwrap();
    load.wait_more(50).unwrap();
    let history = load.finish(&cluster).unwrap();
    let failed: Vec<_> = history.failed().collect();
    assert!(failed.is_empty(), "{failed:?}");
    let third = left.iter().find(|name| **name != second).unwrap();
    cluster.kill(third).unwrap();
    until("a refusal that knows", || {
        let send = ["--as", "alice", "send", "--to", "bob", "hi", "--timeout", "2s"];
        let run = cluster.ctl(&send).map_err(|error| error.to_string())?;
        run.refused(11).map_err(|error| error.to_string())
    })
    .unwrap();
    cluster.start_all().unwrap();
    account_for(&cluster, &history);
}

#[test]
fn a_cluster_that_is_down_is_not_reachable() {
    let mut cluster = alice_and_bob();
    for name in cluster.names() {
        assert_eq!(cluster.stop(&name).unwrap(), Some(0));
    }
    let user = cluster.user();
    for args in [
        &["status"][..],
        &["health"],
        &["nodes"],
        &["clock"],
        &["clients"],
        &["register", "carol"],
        &["--as", "alice", "send", "--to", "bob", "hi"],
        &["--as", "bob", "read"],
        &["--as", "bob", "read", "--stale"],
        &["--as", "bob", "read", "--follow"],
        &["--as", "bob", "get", "x"],
        &["--as", "bob", "delete", "x", "-y"],
        &["status", "--via", "n2"],
    ] {
        user.refused(&[args, &["--timeout", "300ms"]].concat(), 3).unwrap();
    }
}
