//! A node whose disk is not what it was: of another cluster or node, wiped, cut where nothing shows,
//! or with a byte that changed. It takes no part and says why, now and after every start; the others
//! go on. That it comes back by itself is forbidden here, see `repair`.
//!
//! Promises: 1 durable, 8 refuses clearly. Negative control, seen to fail: a daemon that calls every
//! store intact starts on the cut log without a word.

use std::fs;

use proto::Problem;
use serde_json::json;
use tests::slow_disk::SlowDisk;
use tests::{Cluster, Load, segments, until};

use crate::failover::account_for;
use crate::smoke::alice_and_bob;

/// n3 must end with code 13, say this, and leave its data directory as it is.
#[track_caller]
fn not_admitted(cluster: &mut Cluster, part: &str) {
    let data = cluster.data("n3");
    let before = entries(&data);
    cluster.start_node("n3").unwrap();
    let node = cluster.node("n3").unwrap();
    assert_eq!(node.ended().unwrap().code(), Some(13), "{}", node.log());
    let log = node.log();
    assert!(log.contains(part), "'{part}' was not said: {log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("try: "), "{log}");
    assert_eq!(entries(&data), before, "something was made or removed");
    let send = ["--as", "alice", "send", "--to", "bob", "the others go on"];
    cluster.user().ok(&send).unwrap();
}

/// Names of what lies in a data directory and in its store.
fn entries(data: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for folder in [data.to_owned(), data.join("store")] {
        let found = fs::read_dir(folder).into_iter().flatten();
        names.extend(found.map(|entry| entry.unwrap().path().display().to_string()));
    }
    names.sort();
    names
}

#[test]
fn a_wiped_or_foreign_data_directory_is_not_admitted() {
    let mut cluster = alice_and_bob();
    cluster.never_repair("n3").unwrap();
    cluster.kill("n3").unwrap();
    let (data, aside) = (cluster.data("n3"), cluster.folder().join("aside"));
    fs::rename(&data, &aside).unwrap();
    // It knows nobody any more.
    fs::remove_file(cluster.folder().join("cluster/pki/n3.members.toml")).unwrap();
    not_admitted(&mut cluster, "a normal start never creates");
    assert!(!data.exists(), "a data directory was made");
    fs::create_dir(&data).unwrap();
    not_admitted(&mut cluster, "a normal start never creates");
    fs::remove_dir(&data).unwrap();

    // Of another node.
    assert_eq!(cluster.stop("n2").unwrap(), Some(0));
    tests::folder::copy(&cluster.data("n2"), &data).unwrap();
    cluster.start_node("n2").unwrap();
    cluster.wait_primary("n2").unwrap();
    not_admitted(&mut cluster, "belongs to node n2, this is n3");
    fs::remove_dir_all(&data).unwrap();

    // Of another cluster.
    let mut other = Cluster::start(3).unwrap();
    other.kill("n3").unwrap();
    tests::folder::copy(&other.data("n3"), &data).unwrap();
    not_admitted(&mut cluster, "the store belongs to cluster");
    fs::remove_dir_all(&data).unwrap();

    fs::rename(&aside, &data).unwrap();
    cluster.start_node("n3").unwrap();
    cluster.wait_healthy().unwrap();
}

#[test]
fn a_log_that_was_cut_where_nothing_shows_is_noticed() {
    let mut cluster = alice_and_bob();
    let load = Load::start(&cluster, &["alice"], 2, "bob", "cut").unwrap();
    load.wait_more(300).unwrap();
    cluster.never_repair("n3").unwrap();
    cluster.kill("n3").unwrap();
    segments::cut_in_half(&cluster.data("n3")).unwrap();
    cluster.start_node("n3").unwrap();
    load.wait_more(100).unwrap();
    cluster.node("n3").unwrap().says("cannot prove its store intact").unwrap();
    shows_repairing(&cluster);

    // It is no voter: with one of the others gone nothing is acknowledged any more.
    let history = load.finish(&cluster).unwrap();
    let failed: Vec<_> = history.failed().collect();
    assert!(failed.is_empty(), "{failed:?}");
    cluster.kill("n2").unwrap();
    let user = cluster.user().clone();
    until("a refusal", || {
        let send = ["--as", "alice", "send", "--to", "bob", "hi", "--timeout", "2s"];
        let run = user.run(&send).map_err(|error| error.to_string())?;
        assert_ne!(run.code, 0, "a node that cannot prove its log intact made up a majority");
        tests::patience::when(run.code == 11, run.to_string())
    })
    .unwrap();
    // Asked itself, it serves no read of its own, stale or not.
    let stale = ["--as", "bob", "read", "--stale", "--via", "n3", "--timeout", "2s"];
    user.refused(&stale, 13).unwrap();

    cluster.start_node("n2").unwrap();
    cluster.wait_primary("n1").unwrap();
    for node in ["n1", "n2"] {
        let records = cluster.records(node, false).unwrap();
        let wrong = tests::checks::acked_is_there(&history, &records);
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

/// The cluster works and is degraded, and says which node it is and why.
fn shows_repairing(cluster: &Cluster) {
    shows_repairing_via(cluster, "n1");
}

fn shows_repairing_via(cluster: &Cluster, via: &str) {
    until(&format!("a status of {via} that tells of n3"), || {
        let run = cluster.ctl(&["status", "--json", "--via", via, "--timeout", "5s"]);
        let run = run.map_err(|error| error.to_string())?;
        tests::patience::when(run.code == 10, run.to_string())?;
        let status = run.json().map_err(|error| error.to_string())?;
        let nodes = status["nodes"].as_array().unwrap();
        let role = &nodes.iter().find(|node| node["id"] == "n3").unwrap()["role"];
        tests::patience::when(role == "repairing", status.to_string())?;
        let told = status["problems"].to_string();
        let tells = told.contains("n3") && told.contains("cannot prove its store intact");
        tests::patience::when(tells && status["quorum"] == json!(true), status.to_string())
    })
    .unwrap();
    let health = cluster.ctl(&["health", "--node", "n3"]).unwrap();
    assert_eq!(health.code, 13, "{health}");
}

#[test]
fn a_store_without_its_evidence_takes_no_part() {
    let mut cluster = alice_and_bob();
    let load = Load::start(&cluster, &["alice"], 2, "bob", "evidence").unwrap();
    load.wait_more(50).unwrap();
    cluster.never_repair("n3").unwrap();
    cluster.kill("n3").unwrap();
    let data = cluster.data("n3");
    let watermark = data.join("store/watermark");
    let whole = fs::read(&watermark).unwrap();
    fs::write(&watermark, vec![0; whole.len()]).unwrap();
    cluster.start_node("n3").unwrap();
    load.wait_more(50).unwrap();
    shows_repairing(&cluster);
    // Put back, it is the node that it was.
    assert_eq!(cluster.stop("n3").unwrap(), Some(0));
    fs::write(&watermark, whole).unwrap();
    cluster.start_node("n3").unwrap();
    cluster.wait_healthy().unwrap();
    let history = load.finish(&cluster).unwrap();
    account_for(&cluster, &history);
}

/// Files of the database's tables.
pub(crate) fn tables(data: &std::path::Path) -> Vec<std::path::PathBuf> {
    let found = fs::read_dir(data.join("store/db")).unwrap().map(|entry| entry.unwrap().path());
    found.filter(|path| path.extension().is_some_and(|extension| extension == "sst")).collect()
}

/// Flips a bit of each table's first block, which holds rows.
pub(crate) fn flip_in_tables(data: &std::path::Path) {
    for table in tables(data) {
        // One that was merged into another meanwhile is not read any more.
        let Ok(mut bytes) = fs::read(&table) else { continue };
        bytes[16] ^= 1;
        fs::write(&table, bytes).unwrap();
    }
}

/// A cluster with messages that lie in tables of n3, and what was sent.
pub(crate) fn with_tables() -> (Cluster, tests::History) {
    let cluster = alice_and_bob();
    let load = Load::start(&cluster, &["alice"], 2, "bob", "byte").unwrap();
    load.wait_more(100).unwrap();
    let history = load.finish(&cluster).unwrap();
    cluster.wait_level().unwrap();
    cluster.user().ok(&["compact", "-y", "--via", "n3"]).unwrap();
    assert!(!tables(&cluster.data("n3")).is_empty(), "nothing lies in a table");
    (cluster, history)
}

/// Found broken with reads that only return their error: they ended with 13 through n3, which stayed
/// up with a clean status and voted after its next start.
#[test]
fn a_byte_that_changed_is_met_remembered_and_read_elsewhere() {
    let (mut cluster, history) = with_tables();
    cluster.never_repair("n3").unwrap();
    cluster.kill("n3").unwrap();
    flip_in_tables(&cluster.data("n3"));
    cluster.start_node("n3").unwrap();
    // Whoever prefers n3 gets everything, and nobody is told of n3's trouble.
    let user = cluster.user().clone();
    user.ok(&["register", "dora", "--home", "n3"]).unwrap();
    let acked = history.acked().count();
    until("a read that met the damage, or a start that did", || {
        let read = ["--as", "admin", "read", "--from", "0", "--output", "ndjson"];
        let run = user.run(&read).map_err(|error| error.to_string())?;
        tests::patience::when(run.code == 0, run.to_string())?;
        let lines = run.lines().map_err(|error| error.to_string())?;
        assert!(lines.len() >= acked, "{} of {acked}", lines.len());
        let pinned = ["read", "--from", "0", "--stale", "--via", "n3", "--timeout", "2s"];
        let run = user.run(&pinned).map_err(|error| error.to_string())?;
        tests::patience::when(run.code == 13, run.to_string())
    })
    .unwrap();
    for via in ["n1", "n2", "n3"] {
        shows_repairing_via(&cluster, via);
    }
    // The mark outlives the process, and the byte that it is about.
    cluster.kill("n3").unwrap();
    flip_in_tables(&cluster.data("n3"));
    cluster.start_node("n3").unwrap();
    for via in ["n1", "n2", "n3"] {
        shows_repairing_via(&cluster, via);
    }
    // And it is no voter.
    cluster.kill("n2").unwrap();
    until("a refusal", || {
        let send = ["--as", "alice", "send", "--to", "bob", "hi", "--timeout", "2s"];
        let run = user.run(&send).map_err(|error| error.to_string())?;
        assert_ne!(run.code, 0, "a node that met damage made up a majority");
        tests::patience::when(run.code == 11, run.to_string())
    })
    .unwrap();
}

/// A sector that cannot be read back from the disk. Seen to fail with reads that end the process, which
/// would be started again for as long as it takes, and vote in between.
#[test]
fn a_disk_that_does_not_give_back_is_named_and_read_elsewhere() {
    let mut cluster = Cluster::create(3).unwrap();
    cluster.never_repair("n3").unwrap();
    let Some(disk) = SlowDisk::new(cluster.folder(), "n3").unwrap() else { return };
    cluster.node("n3").unwrap().set_environment(disk.environment());
    assert!(cluster.start_and_settle().unwrap(), "a port was taken");
    cluster.register(&["alice", "bob"]).unwrap();
    let user = cluster.user().clone();
    user.ok(&["register", "dora", "--home", "n3"]).unwrap();
    user.ok(&["--as", "alice", "send", "--to", "*", "hi", "--repeat", "50"]).unwrap();
    cluster.wait_level().unwrap();
    user.ok(&["compact", "-y", "--via", "n3"]).unwrap();
    disk.keep_back(".sst").unwrap();
    until("a read that met it", || {
        // Who prefers n3 gets everything, and is not told of its trouble.
        let read = ["--as", "dora", "read", "--from", "0", "--output", "ndjson"];
        let run = user.run(&read).map_err(|error| error.to_string())?;
        tests::patience::when(run.code == 0, run.to_string())?;
        assert_eq!(run.lines().map_err(|error| error.to_string())?.len(), 50);
        let status = cluster.status("n1").map_err(|error| error.to_string())?;
        let named = |p: &Problem| p.subject == "n3" && p.detail.contains("cannot be read back");
        let named = status.problems.iter().any(named);
        tests::patience::when(named, format!("{:?}", status.problems))
    })
    .unwrap();
    // It stays so, also where the disk thinks better of it.
    cluster.kill("n3").unwrap();
    disk.keep_back("-").unwrap();
    cluster.start_node("n3").unwrap();
    for via in ["n1", "n2", "n3"] {
        shows_repairing_via(&cluster, via);
    }
}

/// Found broken with a look through the cache of the node: 27 places, "same".
#[test]
fn a_deep_look_reads_the_disk_and_not_the_cache() {
    let (mut cluster, _) = with_tables();
    cluster.never_repair("n3").unwrap();
    let user = cluster.user();
    // All that it will be asked for lies in its memory.
    user.ok(&["read", "--from", "0", "--stale", "--via", "n3"]).unwrap();
    user.ok(&["verify", "--state", "--deep"]).unwrap();
    flip_in_tables(&cluster.data("n3"));
    let run = user.run(&["verify", "--state", "--deep"]).unwrap();
    assert_eq!(run.code, 13, "{run}");
    let verdict = |node: &str| {
        let text = run.text();
        let line = text.lines().find(|line| line.starts_with(node)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(["n1", "n2", "n3"].map(verdict), ["same", "same", "damaged"], "{run}");
    for via in ["n1", "n2", "n3"] {
        shows_repairing_via(&cluster, via);
    }
}
