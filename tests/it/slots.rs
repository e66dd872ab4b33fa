//! A consistent-hashing load balancer: slots, shares, nodes that are added and removed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tests::Cluster;

#[test]
fn keys_have_places_and_nodes_their_share() {
    let mut cluster = Cluster::start(3).unwrap();
    a_key_has_one_slot(&cluster);
    the_list_is_the_live_set(&cluster);
    a_plan_moves_the_fair_share(&cluster);
    ten_requests(&cluster);
    counts_and_names_agree(&cluster);
    removals_are_refused_that_cannot_be(&cluster);
    what_was_planned_is_done(&mut cluster);
}

fn route(cluster: &Cluster, key: &str, via: &str) -> Value {
    cluster.user().json(&["route", "--key", key, "--via", via]).unwrap()
}

fn a_key_has_one_slot(cluster: &Cluster) {
    let mut slots = BTreeSet::new();
    for key in ["bob", "@ops", "An order, number 7"] {
        let told: BTreeSet<String> = (cluster.names().iter())
            .map(|via| {
                let told = route(cluster, key, via);
                assert!(told["primary"].is_string() && told["shard"].is_u64(), "{told}");
                assert_eq!(told["replicas"].as_array().unwrap().len(), 3, "{told}");
                slots.insert(told["slot"].as_u64().unwrap());
                format!("{} {} {}", told["slot"], told["shard"], told["home"])
            })
            .collect();
        assert_eq!(told.len(), 1, "{told:?}");
    }
    assert_eq!(slots.len(), 3);
    assert!(slots.iter().all(|slot| *slot < 4096), "{slots:?}");
    // The same key, always the same gateway.
    let ping = ["ping", "--count", "5", "--spread", "hash", "--key", "bob", "--report"];
    let report = cluster.user().json(&ping).unwrap();
    let home = route(cluster, "bob", "n1")["home"].as_str().unwrap().to_owned();
    assert_eq!(report["counts"][&home], 5, "{report}");
}

fn the_list_is_the_live_set(cluster: &Cluster) {
    let list = cluster.user().json(&["nodes"]).unwrap();
    assert_eq!(list["n"], 3, "{list}");
    let names: Vec<String> = cluster.node_rows("n2").unwrap().into_keys().collect();
    assert_eq!(names, cluster.names());
}

/// Slots of every node.
fn shares(value: &Value) -> BTreeMap<String, u64> {
    let rows = value.as_object().unwrap_or_else(|| panic!("no shares: {value}")).iter();
    rows.map(|(node, slots)| (node.clone(), slots.as_u64().unwrap())).collect()
}

fn moved(plan: &Value) -> u64 {
    let moves = plan["moves"].as_array().unwrap_or_else(|| panic!("no moves: {plan}"));
    moves.iter().map(|one| one["slots"].as_u64().unwrap()).sum()
}

#[track_caller]
fn is_even(shares: &BTreeMap<String, u64>, nodes: u64) {
    let (floor, ceil) = (4096 / nodes, 4096_u64.div_ceil(nodes));
    let held: BTreeMap<_, _> = shares.iter().filter(|(_, slots)| **slots > 0).collect();
    assert_eq!(held.len() as u64, nodes, "{shares:?}");
    assert!(held.values().all(|slots| (floor..=ceil).contains(*slots)), "{shares:?}");
    assert_eq!(shares.values().sum::<u64>(), 4096, "{shares:?}");
}

fn a_plan_moves_the_fair_share(cluster: &Cluster) {
    let plan = |args: &[&str]| cluster.user().json(&[&["route"], args].concat()).unwrap();
    let add = plan(&["--plan", "add", "n4"]);
    is_even(&shares(&add["before"]), 3);
    is_even(&shares(&add["after"]), 4);
    assert_eq!((moved(&add), &add["percent"]), (1024, &Value::from(25.0)), "a quarter: {add}");
    assert!(add["moves"].as_array().unwrap().iter().all(|one| one["to"] == "n4"), "{add}");
    let remove = plan(&["--plan", "remove", "n2"]);
    is_even(&shares(&remove["after"]), 2);
    let held = shares(&remove["before"])["n2"];
    assert_eq!(moved(&remove), held, "what it held, and nothing else: {remove}");
    assert!((1365..=1366).contains(&held), "{held}");
    // It was a question.
    assert_eq!(shares(&plan(&["--plan", "add", "n4"])["before"]), shares(&add["before"]));
}

fn ten_requests(cluster: &Cluster) {
    let report = cluster.pings(&["--count", "10", "--spread", "rr"]).unwrap();
    let mut counts: Vec<u64> = report.counts.values().copied().collect();
    counts.sort_unstable();
    assert_eq!((counts, report.failed), (vec![3, 3, 4], 0), "{report:?}");
    let random = ["--count", "90", "--spread", "hash", "--key", "random"];
    let report = cluster.pings(&random).unwrap();
    assert_eq!((report.counts.len(), report.failed), (3, 0), "{report:?}");
    assert_eq!(report.counts.values().sum::<u64>(), 90, "{report:?}");
}

fn counts_and_names_agree(cluster: &Cluster) {
    let user = cluster.user();
    let before = user.json(&["nodes"]).unwrap()["n"].clone();
    // One node, and two names for it.
    user.refused(&["node", "add", "n4", "n5", "--count", "1"], 2).unwrap();
    user.refused(&["node", "add", "n4", "--count", "0"], 2).unwrap();
    user.refused(&["node", "add", "n1"], 6).unwrap();
    assert_eq!(user.json(&["nodes"]).unwrap()["n"], before);
    // Two nodes, and one name: the other is generated.
    let run = user.ok(&["node", "add", "n7", "--count", "2", "--dry-run"]).unwrap();
    let text = format!("{}{}", run.text(), run.stderr);
    assert!(text.contains("n7") && text.contains("n4"), "{run}");
    assert_eq!(user.json(&["nodes"]).unwrap()["n"], before);
}

fn removals_are_refused_that_cannot_be(cluster: &Cluster) {
    let user = cluster.user();
    let said = user.refused(&["-y", "node", "remove", "n9"], 5).unwrap();
    assert!(said.contains("n9"), "{said}");
    for force in [&[][..], &["--force"]] {
        let all = ["-y", "node", "remove", "n1", "n2", "n3"];
        user.refused(&[&all[..], force].concat(), 6).unwrap();
    }
    assert_eq!(user.json(&["nodes"]).unwrap()["n"], 3);
}

fn homes(cluster: &Cluster) -> BTreeMap<String, u64> {
    // A plan that changes nothing would not be one; what is held now stands in any.
    let plan = cluster.user().json(&["route", "--plan", "add", "n99"]).unwrap();
    shares(&plan["before"])
}

fn what_was_planned_is_done(cluster: &mut Cluster) {
    cluster.join_as_voter("n4").unwrap();
    is_even(&homes(cluster), 4);
    let list = cluster.user().json(&["nodes"]).unwrap();
    assert_eq!(list["n"], 4, "{list}");
    let remove = ["-y", "node", "remove", "n1"];
    let dry = cluster.user().json(&[&remove[..], &["--dry-run"]].concat()).unwrap();
    assert!(dry.to_string().contains("1024"), "a quarter of the slots would move: {dry}");
    assert_eq!(cluster.user().json(&["nodes"]).unwrap()["n"], 4);
    cluster.user().ok(&[&remove[..], &["--timeout", "60s"]].concat()).unwrap();
    cluster.set_away("n1");
    cluster.wait_node("n1", "removed").unwrap();
    assert_eq!(cluster.node("n1").unwrap().ended().unwrap().code(), Some(13));
    is_even(&homes(cluster), 3);
    assert_eq!(cluster.user().json(&["nodes"]).unwrap()["n"], 3);
    let events = cluster.wait_event("n2", "left n1 (removed)").unwrap();
    assert!(events.iter().any(|event| event.kind == "shard"), "{events:#?}");
    let report = cluster.pings(&["--count", "12", "--spread", "rr"]).unwrap();
    assert_eq!((report.table().as_str(), report.failed), ("n2 4, n3 4, n4 4", 0));
}
