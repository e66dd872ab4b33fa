//! Disks that take long to sync: the role leaves a primary that has one for one that has not. Where all
//! are slow it stays, and a primary that is gone is replaced all the same.
//!
//! The first was seen to fail on the code before, which gave the role away only for a single sync of three seconds.

use proto::ProblemCode;
use tests::patience::when;
use tests::slow_disk::SlowDisk;
use tests::{Cluster, Load, until, watermark};

/// Terms that a killed primary may cost: two may stand at the same moment, and the role may go on to
/// whom it belongs.
const TERMS_MAX: u64 = 4;

/// A cluster of three whose disks the test holds.
fn started() -> Option<(Cluster, Vec<(String, SlowDisk)>)> {
    let mut cluster = Cluster::create(3).unwrap();
    let mut disks = Vec::new();
    for node in cluster.names() {
        let disk = SlowDisk::new(cluster.folder(), &node).unwrap()?;
        cluster.node(&node).unwrap().set_environment(disk.environment());
        disks.push((node, disk));
    }
    assert!(cluster.start_and_settle().unwrap(), "a port was taken");
    cluster.register(&["alice", "bob"]).unwrap();
    // To whom the role belongs: nothing else moves it then.
    cluster.wait_node("n3", "primary").unwrap();
    Some((cluster, disks))
}

#[test]
fn a_primary_with_a_slow_disk_gives_the_role_away() {
    let Some((cluster, disks)) = started() else { return };
    let load = Load::start(&cluster, &["alice"], 8, "bob", "slow").unwrap();
    load.wait_more(50).unwrap();
    for (_, disk) in disks.iter().filter(|(node, _)| node == "n3") {
        disk.delay(1500).unwrap();
    }
    until("another primary", || {
        let status = cluster.status("n1").map_err(|error| error.to_string())?;
        let other = status.quorum && !["", "n3"].contains(&status.primary.as_str());
        when(other, format!("{} {:?}", status.primary, status.problems))
    })
    .unwrap();
    // The slow one is a backup now: nobody waits for it, and it says what is wrong.
    load.wait_more(500).unwrap();
    until("a word about the disk", || {
        let status = cluster.status("n1").map_err(|error| error.to_string())?;
        let told = status
            .problems
            .iter()
            .any(|problem| problem.kind() == ProblemCode::DiskSlow && problem.subject == "n3");
        when(told, format!("{:?}", status.problems))
    })
    .unwrap();
    load.wait_more(500).unwrap();
    // Whom it belongs to does not get it back meanwhile, though it has the highest priority.
    // Between the two others it may move, to the one that comes first.
    assert_ne!(cluster.wait_primary("n1").unwrap(), "n3");
    let history = load.finish(&cluster).unwrap();
    assert_eq!(history.failed().collect::<Vec<_>>(), []);
    disks.iter().for_each(|(_, disk)| disk.delay(0).unwrap());
    cluster.wait_healthy().unwrap();
}

/// Seen to fail on the code before: what it waits for did not come in a minute.
#[test]
fn a_cluster_whose_disks_are_all_slow_elects_and_serves() {
    let Some((mut cluster, disks)) = started() else { return };
    disks.iter().for_each(|(_, disk)| disk.delay(400).unwrap());
    let load = Load::start(&cluster, &["alice"], 4, "bob", "slow").unwrap();
    load.wait_more(20).unwrap();
    let before = cluster.status("n1").unwrap();
    // The role stays where it is: nobody would gain by a move.
    assert_eq!(before.primary, "n3");
    load.wait_more(20).unwrap();
    assert_eq!(cluster.status("n1").unwrap().term, before.term, "nobody stood for election");
    cluster.kill("n3").unwrap();
    until("another primary", || {
        let status = cluster.status("n1").map_err(|error| error.to_string())?;
        let other = status.quorum && !["", "n3"].contains(&status.primary.as_str());
        when(other, format!("{} of term {}", status.primary, status.term))
    })
    .unwrap();
    load.wait_more(20).unwrap();
    let after = cluster.status("n1").unwrap();
    let terms = after.term - before.term;
    assert!((1..=TERMS_MAX).contains(&terms), "{terms} terms for one killed primary");
    cluster.start_node("n3").unwrap();
    load.wait_more(20).unwrap();
    disks.iter().for_each(|(_, disk)| disk.delay(0).unwrap());
    let history = load.finish(&cluster).unwrap();
    assert_eq!(history.failed().collect::<Vec<_>>(), []);
    cluster.wait_healthy().unwrap();
}

/// Heartbeats wait for no disk, so a primary whose backups store nothing is heard by all: it is the
/// entries that tell. What was sent before is unknown; what comes after is refused, and not done.
///
/// Seen to fail on the code before: sends went on to end with 7.
#[test]
fn a_primary_whose_backups_store_nothing_says_so() {
    let Some((cluster, disks)) = started() else { return };
    let backups = || disks.iter().filter(|(node, _)| node != "n3");
    backups().for_each(|(_, disk)| disk.delay(3_600_000).unwrap());
    let send = |id: &str| {
        let args = ["--as", "alice", "send", "--to", "bob", "--id", id, "--timeout", "1s", "hi"];
        cluster.user().run(&args).map_err(|error| error.to_string())
    };
    let first = send("first").unwrap();
    assert_eq!(first.code, 7, "{first}");
    let mut tries = 0;
    until("a refusal that knows", || {
        tries += 1;
        let run = send(&format!("later-{tries}"))?;
        when(run.code == 11, run.to_string())
    })
    .unwrap();
    send("refused").unwrap().refused(11).unwrap();
    let health = cluster.ctl(&["health"]).unwrap();
    assert_eq!(health.code, 11, "{health}");
    backups().for_each(|(_, disk)| disk.delay(0).unwrap());
    cluster.wait_healthy().unwrap();
    assert_eq!(cluster.status("n1").unwrap().primary, "n3", "nobody else could have led");
    let ids: Vec<String> =
        cluster.records("n3", false).unwrap().into_iter().map(|record| record.id).collect();
    assert!(ids.contains(&"first".to_owned()), "what was unknown is stored after all: {ids:?}");
    assert!(!ids.contains(&"refused".to_owned()), "what was refused was not done: {ids:?}");
}

/// The log of the primary hangs, its other files do not: what the others' disks have made safe is
/// acknowledged, applied and flushed, and then the primary is killed. Its state is ahead of its log then,
/// like one that a snapshot brought.
///
/// Seen to fail with a state ahead of its log called a contradiction: n3 took no part any more.
#[test]
fn a_state_that_is_ahead_of_its_log_is_taken_up() {
    let Some((mut cluster, disks)) = started() else { return };
    let body = cluster.folder().join("body");
    std::fs::write(&body, vec![b'x'; 1 << 20]).unwrap();
    let send = |id: &str| {
        let body = body.display().to_string();
        let args = ["--as", "alice", "send", "--to", "bob", "--id", id, "--file", &body];
        cluster.user().ok(&args).map(drop)
    };
    // The state is flushed after 16 MiB, so with the next one.
    let before: Vec<String> = (0..15).map(|n| format!("before-{n}")).collect();
    before.iter().for_each(|id| send(id).unwrap());
    // Not so much faster that the role goes to one of them.
    for (node, disk) in &disks {
        disk.delay_of("/store/log/", if node == "n3" { 0 } else { 1000 }).unwrap();
    }
    let slow = ["slow-1", "slow-2", "slow-3"];
    slow.iter().for_each(|id| send_small(&cluster, id));
    let flushed = || watermark::noted(&cluster.data("n3")).unwrap().db_sequence;
    let flushed_before = flushed();
    for (_, disk) in disks.iter().filter(|(node, _)| node == "n3") {
        disk.delay_of("/store/log/", 3_600_000).unwrap();
    }
    // What is written and not yet synced outlives a kill; what waits behind it does not.
    send_small(&cluster, "written");
    send("after").unwrap();
    until("a flush of the state", || {
        let noted = flushed();
        when(noted > flushed_before, format!("{noted} after {flushed_before}"))
    })
    .unwrap();
    cluster.kill("n3").unwrap();
    disks.iter().for_each(|(_, disk)| disk.delay(0).unwrap());
    cluster.start_node("n3").unwrap();
    cluster.wait_healthy().unwrap();
    let log = cluster.node("n3").unwrap().log();
    assert!(log.contains("the state is ahead of the log"), "it did not come to that: {log}");
    let wanted: Vec<&str> =
        before.iter().map(String::as_str).chain(slow).chain(["written", "after"]).collect();
    for (node, records) in cluster.all_records().unwrap() {
        let ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
        let missing: Vec<_> = wanted.iter().filter(|id| !ids.contains(id)).collect();
        assert!(missing.is_empty(), "{node} lacks {missing:?}");
    }
    // And it is as sound as any after the next start.
    assert_eq!(cluster.stop("n3").unwrap(), Some(0));
    cluster.start_node("n3").unwrap();
    cluster.wait_healthy().unwrap();
}

fn send_small(cluster: &Cluster, id: &str) {
    cluster.user().ok(&["--as", "alice", "send", "--to", "bob", "--id", id, "hi"]).unwrap();
}
