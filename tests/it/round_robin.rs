//! A round-robin load balancer: exact tables of who answered, while nodes stop and come.
//!
//! A table is exact or wrong: 4/0/8 is what a
//! client gets that passes the turns of a dead node to the next one.

use std::collections::BTreeMap;
use std::thread;

use serde_json::Value;
use tests::life::Report;
use tests::patience::when;
use tests::{Cluster, Follower, Hosts, User, until};

/// Twelve pings in the order of the ring.
const TWELVE: [&str; 4] = ["--count", "12", "--spread", "rr"];

#[track_caller]
fn pings(cluster: &Cluster, table: &str) -> Report {
    let report = cluster.pings(&TWELVE).unwrap();
    assert_eq!((report.table().as_str(), report.failed), (table, 0), "{report:?}");
    report
}

/// Twelve sends in the order of the ring, counted by the gateway of each ack.
#[track_caller]
fn sends(cluster: &Cluster, table: &str) {
    let send = ["--as", "alice", "send", "--to", "bob", "--repeat", "12", "--spread", "rr", "hi"];
    let run = cluster.user().ok(&[&send[..], &["-o", "ndjson"]].concat()).unwrap();
    let acks = run.lines().unwrap();
    assert_eq!(acks.len(), 12, "{run}");
    let mut counts = BTreeMap::new();
    for ack in &acks {
        *counts.entry(ack["gateway"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    let ids: std::collections::BTreeSet<_> = acks.iter().map(|ack| ack["id"].as_str()).collect();
    assert_eq!(ids.len(), 12, "twelve messages, not one twelve times: {run}");
    let counted = Report { counts, failed: 0, retried: 0 };
    assert_eq!(counted.table(), table);
}

#[test]
fn tables_are_exact() {
    let mut cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    three_nodes_take_four_each(&cluster);
    processes_share_one_cursor(&cluster);
    one_stopped_six_and_six(&mut cluster);
    one_killed_six_and_six(&mut cluster);
    a_fourth_takes_its_share(&mut cluster);
    charts_are_counted_twice(&mut cluster);
}

fn three_nodes_take_four_each(cluster: &Cluster) {
    pings(cluster, "n1 4, n2 4, n3 4");
    sends(cluster, "n1 4, n2 4, n3 4");
    // One after the other, as the ring turns.
    let run = cluster.user().ok(&["ping", "--count", "6", "--spread", "rr"]).unwrap();
    let text = run.text();
    let order: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| is_node(word)).collect();
    assert_eq!(order.len(), 6, "{text}");
    assert!(order.windows(2).all(|two| two[0] != two[1]), "{text}");
    assert_eq!(order[..3], order[3..], "{text}");
}

fn is_node(word: &str) -> bool {
    ["n1", "n2", "n3"].contains(&word)
}

fn processes_share_one_cursor(cluster: &Cluster) {
    let shell = |user: User, count: usize| -> Vec<String> {
        let one = |_| user.json(&["ping", "--spread", "rr"]).unwrap();
        let answers = (0..count).map(one);
        answers.map(|answer| answer["gateway"].as_str().unwrap().to_owned()).collect()
    };
    let counted = |answers: &[String]| {
        let count = |node: &str| answers.iter().filter(|at| *at == node).count();
        [count("n1"), count("n2"), count("n3")]
    };
    // One shell, twelve processes; then two at the same time.
    let answers = shell(cluster.user().clone(), 12);
    assert_eq!(counted(&answers), [4, 4, 4], "{answers:?}");
    let shells: Vec<_> = (0..2)
        .map(|_| {
            let user = cluster.user().clone();
            thread::spawn(move || shell(user, 12))
        })
        .collect();
    let both: Vec<_> = shells.into_iter().flat_map(|shell| shell.join().unwrap()).collect();
    assert_eq!(counted(&both), [8, 8, 8], "{both:?}");
}

fn one_stopped_six_and_six(cluster: &mut Cluster) {
    // Operations go on while it stops, and none fails.
    let folder = cluster.folder().to_owned();
    let bench = ["--as", "alice", "bench", "--rate", "100", "--duration", "5s", "--to", "bob"];
    let bench = [&bench[..], &["-o", "json"]].concat();
    let mut bench = Follower::start(cluster.user(), &bench, &folder, "bench").unwrap();
    let before = cluster.records_to("n1", "bob", false).unwrap().len();
    until("the first operations", || {
        let now = cluster.records_to("n1", "bob", true).map_err(|error| error.to_string())?.len();
        when(now > before + 20, format!("{before} then, {now} now"))
    })
    .unwrap();
    cluster.set_away("n2");
    assert_eq!(cluster.stop("n2").unwrap(), Some(0));
    // At once: nobody was given time to notice.
    pings(cluster, "n1 6, n3 6");
    assert_eq!(bench.ended().unwrap(), 0, "{}", bench.said());
    let report: Value = serde_json::from_str(&bench.text().join("\n")).unwrap();
    assert_eq!(report["failed"], 0, "{report}");
    let through = |node: &str| report["counts"][node].as_u64().unwrap_or(0);
    assert!(through("n1") + through("n3") > 0, "{report}");
    // Once it is known to have left, no attempt is lost on it.
    cluster.wait_node("n2", "left").unwrap();
    assert_eq!(pings(cluster, "n1 6, n3 6").retried, 0);
    sends(cluster, "n1 6, n3 6");
    cluster.start_node("n2").unwrap();
    cluster.wait_node("n2", "joined").unwrap();
    pings(cluster, "n1 4, n2 4, n3 4");
}

fn one_killed_six_and_six(cluster: &mut Cluster) {
    cluster.wait_healthy().unwrap();
    cluster.kill("n2").unwrap();
    cluster.set_away("n2");
    // It is still on the list: its turns must not go to its neighbour.
    pings(cluster, "n1 6, n3 6");
    cluster.start_node("n2").unwrap();
    cluster.wait_node("n2", "joined").unwrap();
    cluster.wait_healthy().unwrap();
    pings(cluster, "n1 4, n2 4, n3 4");
}

fn a_fourth_takes_its_share(cluster: &mut Cluster) {
    // A client that runs all the while, and is told.
    let folder = cluster.folder().to_owned();
    let bench = ["--as", "alice", "bench", "--rate", "50", "--duration", "10m", "--to", "bob"];
    let bench = [&bench[..], &["--spread", "rr", "-o", "json"]].concat();
    let running = Follower::start(cluster.user(), &bench, &folder, "running").unwrap();
    cluster.join_as_voter("n4").unwrap();
    pings(cluster, "n1 3, n2 3, n3 3, n4 3");
    sends(cluster, "n1 3, n2 3, n3 3, n4 3");
    until("a message of the running client through n4", || {
        let records = cluster.records_to("n1", "bob", true).map_err(|error| error.to_string())?;
        let through = records.iter().filter(|record| record.gateway == "n4").count();
        when(through > 3, format!("{through} through n4"))
    })
    .unwrap();
    drop(running);
    cluster.wait_healthy().unwrap();
}

fn charts_are_counted_twice(cluster: &mut Cluster) {
    let mut recomputed: BTreeMap<String, u64> = BTreeMap::new();
    for record in cluster.records("n1", false).unwrap() {
        *recomputed.entry(record.gateway).or_insert(0) += 1;
    }
    for via in cluster.names() {
        let chart = cluster.user().json(&["chart", "distribution", "--via", &via]).unwrap();
        let rows = chart["nodes"].as_array().unwrap_or_else(|| panic!("{chart}"));
        for (what, key) in [("counted", "messages"), ("recomputed", "from_log")] {
            let count = |row: &Value| {
                (row["node"].as_str().unwrap().to_owned(), row[key].as_u64().unwrap())
            };
            let counted: BTreeMap<_, _> = rows.iter().map(count).filter(|row| row.1 > 0).collect();
            assert_eq!(counted, recomputed, "{what}: {chart}");
        }
    }
    let svg = cluster.folder().join("chart.svg");
    let path = svg.to_str().unwrap();
    cluster.user().ok(&["chart", "distribution", "--svg", path]).unwrap();
    let svg = std::fs::read_to_string(&svg).unwrap();
    assert!(svg.contains("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
    assert!(cluster.names().iter().all(|name| svg.contains(name.as_str())), "{svg}");
    let csv = cluster.user().ok(&["chart", "distribution", "--csv"]).unwrap().text();
    assert_eq!(csv.lines().count(), 5, "{csv}");
    let text = cluster.user().ok(&["chart", "distribution", "--ascii"]).unwrap().text();
    assert!(text.contains("n4"), "{text}");
}

#[test]
fn dev_clusters_come_and_go_without_a_trace() {
    // A host of its own: what is left behind there, processes and ports, is all of this test's.
    let Some(hosts) = Hosts::new(1).unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let user = hosts.user(1, &User::new(folder.path().join("home")));
    let dir = folder.path().join("dev");
    let dir = dir.to_str().unwrap();
    let dev = |args: &[&str]| user.ok(&[&["dev"], args, &["--dir", dir]].concat()).unwrap();
    dev(&["up", "--nodes", "3"]);
    let pids = hosts.pids(1).unwrap();
    assert_eq!(pids.len(), 3, "three daemons");
    // Again: the same processes.
    dev(&["up", "--nodes", "3"]);
    assert_eq!(hosts.pids(1).unwrap(), pids);
    dev(&["status"]);
    user.ok(&["send", "--to", "*", "--id", "kept", "kept"]).unwrap();
    dev(&["down"]);
    assert_eq!(hosts.pids(1).unwrap(), Vec::<u32>::new());
    assert_eq!(hosts.udp_ports(1).unwrap(), Vec::<u16>::new());
    dev(&["down"]);
    // It comes back with what it had; fresh, with nothing.
    dev(&["up", "--nodes", "3"]);
    user.ok(&["get", "kept"]).unwrap();
    dev(&["up", "--nodes", "3", "--fresh"]);
    user.refused(&["get", "kept"], 5).unwrap();
    assert_eq!(hosts.pids(1).unwrap().len(), 3);
    dev(&["down"]);
    assert_eq!(hosts.pids(1).unwrap(), Vec::<u32>::new());
}
