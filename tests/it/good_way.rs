//! The client finds the good way: past a gateway that clients reach and that cannot reach the primary,
//! and not past one that is merely slow.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests::Cluster;

use crate::members_cut::Spread;

/// Makes every command find the nodes anew, as on its first day: no list that was learnt tells it which
/// gateway to leave alone.
fn forget_lists(home: &Path) {
    let mut folders = vec![home.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().ends_with("nodes.json") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

/// Seen to fail with no second gateway asked, and "unknown" not left: code 7.
#[test]
fn a_gateway_that_is_cut_off_from_the_primary_keeps_nobody() {
    let Some(spread) = Spread::start(3, 4) else { return };
    let user = spread.at(4);
    user.ok(&["register", "alice", "--home", "n1"]).unwrap();
    user.ok(&["register", "bob"]).unwrap();
    spread.hosts.cut(1, 3).unwrap();
    spread.hosts.cut(3, 1).unwrap();
    let policies = ["home", "rr", "random", "hash"];
    for (at, policy) in policies.iter().cycle().take(8).enumerate() {
        forget_lists(user.home());
        let id = format!("m{at}");
        let send = ["--as", "alice", "send", "--to", "bob", "--id", &id, "--spread", policy];
        // Time for one gateway that says nothing, and for another one.
        user.ok(&[&send[..], &["--timeout", "4s", "hi"]].concat()).unwrap();
        forget_lists(user.home());
        let get = ["--as", "bob", "get", &id, "--spread", policy, "--timeout", "4s"];
        user.ok(&get).unwrap();
    }
    let read = ["--as", "bob", "read", "--via", "n2", "-o", "ndjson"];
    let lines = user.ok(&read).unwrap().lines().unwrap();
    let ids: Vec<_> = lines.iter().filter_map(|line| line["id"].as_str()).collect();
    assert_eq!(ids, ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"], "each once");
    // The way through n1 is closed, and does not seem so: it answers what it can answer by itself.
    let via = ["--as", "alice", "ping", "--via", "n1"];
    user.ok(&via).unwrap();
    let via = ["--as", "alice", "send", "--to", "bob", "--via", "n1", "--timeout", "2s", "lost"];
    assert!([7, 11].contains(&user.run(&via).unwrap().code));
    let dropped = spread.hosts.mend(1).unwrap() + spread.hosts.mend(3).unwrap();
    assert!(dropped > 0, "nothing was dropped");
}

/// Seen to fail with 250 ms of silence taken for death: 30, 1 and 29.
#[test]
fn a_slow_node_keeps_its_turns() {
    let mut cluster = Cluster::start(3).unwrap();
    let pid = Pid::from_raw(i32::try_from(cluster.node("n2").unwrap().pid().unwrap()).unwrap());
    let (pid, stop) = (pid.unwrap(), Arc::new(AtomicBool::new(false)));
    let pauses = Arc::new(AtomicU32::new(0));
    let (stopping, pausing) = (Arc::clone(&stop), Arc::clone(&pauses));
    // Stops most of the time, and never for so long that it is taken for dead.
    let slowed = std::thread::spawn(move || {
        while !stopping.load(Ordering::Relaxed) {
            kill_process(pid, Signal::STOP).unwrap();
            // The fault itself, not a wait: so long it stands, and so long it goes on.
            std::thread::sleep(Duration::from_millis(450));
            kill_process(pid, Signal::CONT).unwrap();
            std::thread::sleep(Duration::from_millis(150));
            pausing.fetch_add(1, Ordering::Relaxed);
        }
    });
    // Until it was slow often enough, however fast the others are.
    let mut reports = Vec::new();
    while pauses.load(Ordering::Relaxed) <= 4 {
        reports.push(cluster.pings(&["--count", "60", "--spread", "rr"]));
    }
    stop.store(true, Ordering::Relaxed);
    slowed.join().unwrap();
    for report in reports {
        let report = report.unwrap();
        assert_eq!(report.table(), "n1 20, n2 20, n3 20", "{report:?}");
        assert_eq!((report.failed, report.retried), (0, 0), "{report:?}");
    }
    cluster.wait_healthy().unwrap();
}

/// Seen to fail without the list asked for: "there is no node n4".
#[test]
fn a_node_that_has_just_joined_can_be_pinned() {
    let mut cluster = Cluster::start(3).unwrap();
    cluster.register(&["bob"]).unwrap();
    cluster.user().ok(&["--as", "bob", "ping"]).unwrap();
    cluster.join("n4", &tests::life::Joining::default()).unwrap();
    cluster.wait_node("n4", "joined").unwrap();
    let run = cluster.user().json(&["--as", "bob", "ping", "--via", "n4"]).unwrap();
    assert_eq!(run["gateway"], "n4");
    let said = cluster.user().refused(&["--as", "bob", "ping", "--via", "n9"], 5).unwrap();
    assert!(said.contains("there is no node n9"), "{said}");
}
