//! A node that was away gets what it missed: from the log, or from a snapshot where the log is gone.
//!
//! Promises: 1 durable, 2 one order, 3 once. Negative control, seen to fail: a daemon that remembers
//! no ids. A run in which the log was not purged beyond the absent node, so that no snapshot was
//! needed, fails for want of the line that tells of it.

use serde_json::json;
use tests::{Cluster, Load};

use crate::failover::account_for;

/// Entries after which the log has been cut: 20,000 are kept beside a snapshot, and one is made
/// every 5,000.
const MANY: u64 = 27_000;

fn backup_of(cluster: &Cluster) -> String {
    let primary = cluster.wait_primary("n1").unwrap();
    cluster.names().into_iter().find(|name| *name != primary).unwrap()
}

#[test]
fn a_short_absence_is_made_up_from_the_log() {
    let mut cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    let load = Load::start(&cluster, &["alice"], 8, "bob", "short").unwrap();
    load.wait_more(200).unwrap();
    let away = backup_of(&cluster);
    cluster.kill(&away).unwrap();
    load.wait_more(1000).unwrap();
    cluster.start_node(&away).unwrap();
    load.wait_more(200).unwrap();
    let history = load.finish(&cluster).unwrap();
    account_for(&cluster, &history);
    assert_eq!(snapshots(&mut cluster, &away), 0, "the log would have done");
}

#[test]
fn a_long_absence_is_made_up_by_a_snapshot() {
    let mut cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    let load = Load::start(&cluster, &["alice"], 8, "bob", "before").unwrap();
    load.wait_more(200).unwrap();
    let away = backup_of(&cluster);
    cluster.kill(&away).unwrap();
    load.wait_more(1000).unwrap();
    // The others drop what they have snapshotted from their logs.
    for node in cluster.names().iter().filter(|name| **name != away) {
        cluster.user().ok(&["compact", "--via", node, "--timeout", "60s"]).unwrap();
    }
    load.wait_more(200).unwrap();
    cluster.start_node(&away).unwrap();
    // Snapshot and log go on under load, and a second absence follows at once.
    load.wait_more(500).unwrap();
    cluster.wait_healthy().unwrap();
    assert!(snapshots(&mut cluster, &away) > 0, "no snapshot was needed: the test tested nothing");
    cluster.kill(&away).unwrap();
    load.wait_more(200).unwrap();
    cluster.start_node(&away).unwrap();
    load.wait_more(200).unwrap();
    let history = load.finish(&cluster).unwrap();
    account_for(&cluster, &history);

    // What a snapshot carried besides records: the registry, and which ids are stored.
    let (id, seq) = history
        .acked()
        .map(|(attempt, seq, _)| (attempt.id.clone(), seq))
        .min_by_key(|(_, seq)| *seq)
        .unwrap();
    let body = format!("body of {id}");
    let send = ["--as", "alice", "--via", &away, "send", "--to", "bob", "--id", &id, &body];
    let again = cluster.user().json(&send).unwrap();
    assert_eq!((&again["duplicate"], &again["seq"]), (&json!(true), &json!(seq)));
    // It leads as well as the others do: with one of them it is a majority.
    let other = cluster.names().into_iter().find(|name| *name != away).unwrap();
    cluster.kill(&other).unwrap();
    cluster.wait_primary(&away).unwrap();
    let send = ["--as", "alice", "--via", &away, "send", "--to", "bob", "after"];
    assert_eq!(cluster.user().json(&send).unwrap()["duplicate"], false);
}

#[test]
fn a_log_that_is_too_long_is_cut_by_itself() {
    let mut cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    let primary = cluster.wait_primary("n1").unwrap();
    let away = backup_of(&cluster);
    cluster.kill(&away).unwrap();
    // Sends of one moment share an entry, so few are in flight at a time.
    let load = Load::start(&cluster, &["alice", "bob"], 2, "bob", "many").unwrap();
    while applied(&cluster, &primary) < MANY {
        load.wait_more(1000).unwrap();
    }
    cluster.start_node(&away).unwrap();
    load.wait_more(500).unwrap();
    let history = load.finish(&cluster).unwrap();
    account_for(&cluster, &history);
    assert!(snapshots(&mut cluster, &away) > 0, "the log was not cut");
}

fn applied(cluster: &Cluster, node: &str) -> u64 {
    let status = cluster.status(node).unwrap();
    status.nodes.iter().find(|row| row.name == node).unwrap().applied
}

/// Snapshots that a node says it has installed.
fn snapshots(cluster: &mut Cluster, node: &str) -> usize {
    let log = cluster.node(node).unwrap().log();
    log.lines().filter(|line| line.contains("receiving a snapshot")).count()
}
