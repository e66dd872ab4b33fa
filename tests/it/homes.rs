//! A small messaging cluster: clients with a home, shared data, nodes that die.

use serde_json::Value;
use tests::patience::when;
use tests::{Cluster, Follower, Load, User, until};

use crate::failover::account_for;

const HOMES: [(&str, &str); 6] =
    [("c1", "n1"), ("c2", "n1"), ("c3", "n2"), ("c4", "n2"), ("c5", "n3"), ("c6", "n3")];

/// The row of a client, as a node tells it.
fn client(cluster: &Cluster, via: &str, name: &str) -> Value {
    let rows = cluster.user().json(&["clients", "--via", via]).unwrap();
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == name);
    row.unwrap_or_else(|| panic!("no {name} in {rows}")).clone()
}

/// Waits until a client is connected through a node that is, or is not, the one named.
#[track_caller]
fn wait_via(cluster: &Cluster, asked: &str, name: &str, is: impl Fn(&str) -> bool) -> String {
    until(&format!("{name} elsewhere"), || {
        let row = client(cluster, asked, name);
        let via = row["via"].as_str().unwrap_or_default().to_owned();
        when(row["connected"] == true && is(&via), row.to_string()).map(|()| via)
    })
    .unwrap()
}

#[test]
fn clients_have_homes_and_outlive_them() {
    let mut cluster = Cluster::start(3).unwrap();
    three_are_up_and_one_leads(&cluster);
    every_node_lists_the_clients_of_each(&cluster);
    a_name_is_taken_once(&cluster);
    data_goes_through_the_nodes(&cluster);
    a_home_dies_and_comes_back(&mut cluster);
}

fn three_are_up_and_one_leads(cluster: &Cluster) {
    let status = cluster.user().json(&["status"]).unwrap();
    let nodes = status["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3, "{status}");
    assert_eq!(nodes.iter().filter(|node| node["role"] == "primary").count(), 1, "{status}");
    assert_eq!(status["healthy"], true, "{status}");
}

fn every_node_lists_the_clients_of_each(cluster: &Cluster) {
    for (name, home) in HOMES {
        cluster.user().ok(&["register", name, "--home", home]).unwrap();
    }
    for via in cluster.names() {
        for home in cluster.names() {
            let rows = cluster.user().json(&["clients", "--home", &home, "--via", &via]).unwrap();
            let names: Vec<_> = rows.as_array().unwrap().iter().map(|row| &row["name"]).collect();
            let wanted = HOMES.iter().filter(|(_, at)| *at == home).map(|(name, _)| *name);
            assert_eq!(names, wanted.collect::<Vec<_>>(), "{home} as {via} tells it");
        }
    }
}

fn a_name_is_taken_once(cluster: &Cluster) {
    let before = cluster.user().json(&["clients"]).unwrap();
    let pki = cluster.dir().join("pki");
    let file = |name: &str| pki.join(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (file("ca.crt"), file("admin.crt"), file("admin.key"));
    let address = format!("n1={}", cluster.address("n1").unwrap());
    let add = ["context", "add", "admin", "--ca", &ca, "--cert", &cert, "--key", &key];
    let other = User::new(cluster.folder().join("other"));
    other.ok(&[&add[..], &["--node", &address]].concat()).unwrap();
    let said = other.refused(&["register", "c1", "--home", "n3"], 6).unwrap();
    assert!(said.contains("c1"), "{said}");
    // The same key again is the same registration.
    cluster.user().ok(&["register", "c1", "--home", "n1"]).unwrap();
    let after = cluster.user().json(&["clients"]).unwrap();
    let homes = |rows: &Value| -> Vec<(Value, Value)> {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| (row["name"].clone(), row["home"].clone())).collect()
    };
    assert_eq!(homes(&after), homes(&before));
}

fn data_goes_through_the_nodes(cluster: &Cluster) {
    let user = cluster.user();
    let payload: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let path = cluster.folder().join("payload");
    std::fs::write(&path, &payload).unwrap();
    let path = path.to_str().unwrap();
    let sent = [&["--to", "c4", "hi"][..], &["--to", "c4", "--file", path, "--id", "payload"]];
    for args in sent {
        let ack = user.json(&[&["--as", "c1", "send"], args].concat()).unwrap();
        assert_eq!(ack["gateway"], "n1", "c1 is at home at n1: {ack}");
    }
    let read = user.json(&["--as", "c4", "read"]).unwrap();
    let read = read.as_array().unwrap();
    assert_eq!(read.len(), 2);
    assert!(read.iter().all(|record| record["from"] == "c1" && record["gateway"] == "n1"));
    let got = user.ok(&["--as", "c4", "get", "payload", "-o", "raw", "--via", "n2"]).unwrap();
    assert!(got.stdout == payload, "{} of {} bytes", got.stdout.len(), payload.len());
}

fn a_home_dies_and_comes_back(cluster: &mut Cluster) {
    let folder = cluster.folder().to_owned();
    let follow = ["--as", "c1", "read", "--follow", "--from", "0", "-o", "ndjson"];
    let mut follower = Follower::start(cluster.user(), &follow, &folder, "c1").unwrap();
    wait_via(cluster, "n2", "c1", |via| via == "n1");
    let load = Load::start(cluster, &["c2"], 2, "c4", "home").unwrap();
    load.wait_more(30).unwrap();
    cluster.kill("n1").unwrap();
    load.wait_more(30).unwrap();
    // One that is called while its home is down finds another by itself.
    let ack = cluster.user().json(&["--as", "c1", "send", "--to", "c4", "still here"]).unwrap();
    assert_ne!(ack["gateway"], "n1");
    let elsewhere = wait_via(cluster, "n2", "c1", |via| via != "n1" && !via.is_empty());
    assert_eq!(client(cluster, "n3", "c1")["home"], "n1", "a home is a preference that stays");
    cluster.start_node("n1").unwrap();
    // It goes back by itself, and nobody started it anew.
    wait_via(cluster, &elsewhere, "c1", |via| via == "n1");
    let ack = cluster.user().json(&["--as", "c1", "send", "--to", "c1", "home again"]).unwrap();
    assert_eq!(ack["gateway"], "n1");
    let shown = |lines: &[String]| lines.iter().filter(|line| line.contains("home again")).count();
    follower
        .wait("the last message in the tail", |lines| (shown(lines) > 0).then_some(()))
        .unwrap();
    assert_eq!(follower.stop().unwrap(), 0);
    assert_eq!(shown(&follower.text()), 1);
    let history = load.finish(cluster).unwrap();
    let failed: Vec<_> = history.failed().collect();
    assert!(failed.is_empty(), "{failed:?}");
    account_for(cluster, &history);
}
