//! A node whose store is damaged, set back or gone comes back by itself, under its own name, with a new
//! store: everything that was acknowledged can be read there afterwards, and nobody else is touched.
//!
//! Promises: 1 durable, 8 refuses clearly. Seen to fail with a node that never asks: no word of a repair
//! comes.

use std::fs;

use proto::{ProblemCode, Record};
use tests::life::Event;
use tests::patience::when;
use tests::{Cluster, Load, segments, until};

use crate::damage::{flip_in_tables, with_tables};
use crate::failover::account_for;
use crate::set_back::{NO_PROOF, copied, held, put_back, send, stop};
use crate::smoke::alice_and_bob;

/// Messages that are acknowledged between a copy and its return.
const SENT: usize = 20;

fn repairs(events: &[Event]) -> Vec<String> {
    let of_repairs = events.iter().filter(|event| event.kind == "repair");
    of_repairs.map(|event| event.text.clone()).collect()
}

/// Waits until a node was repaired so many times and votes again, and checks what is said of it.
pub(crate) fn is_repaired(cluster: &Cluster, node: &str, times: usize) {
    let (begins, ends) = (format!("repairing {node} ("), format!("repaired {node} (incarnation "));
    until(&format!("{node} repaired {times} times"), || {
        let events = cluster.events("n1").map_err(|error| error.to_string())?;
        let told = repairs(&events);
        let count = |start: &str| told.iter().filter(|text| text.starts_with(start)).count();
        when(count(&begins) == times && count(&ends) == times, format!("{told:?}"))
    })
    .unwrap();
    cluster.wait_healthy().unwrap();
    let member = cluster.ask(node, proto::wire::Op::Raft(Default::default())).unwrap();
    let Some(proto::wire::Reply::Raft(view)) = member.reply else { panic!("no engine") };
    assert!(view.voters.contains(&node.to_owned()) && !view.joint, "{view:?}");
    let old = cluster.data(node).join(format!("store.aside.{times}"));
    let aside = fs::exists(old).unwrap();
    let wiped =
        repairs(&cluster.events("n1").unwrap()).iter().any(|text| text.contains("no store"));
    assert!(aside || wiped, "the old store was not kept");
}

/// Nobody else ever doubted its own store.
pub(crate) fn others_are_intact(cluster: &mut Cluster, but: &[&str]) {
    for node in cluster.names() {
        if !but.contains(&node.as_str()) {
            let log = cluster.node(&node).unwrap().log();
            assert!(!log.contains(NO_PROOF), "{node}: {log}");
        }
    }
}

/// What a node holds itself, without asking anybody.
pub(crate) fn own(cluster: &Cluster, node: &str) -> Vec<Record> {
    cluster.records(node, true).unwrap()
}

#[test]
fn a_wiped_directory_is_filled_again_from_the_others() {
    let mut cluster = alice_and_bob();
    let load = Load::start(&cluster, &["alice"], 2, "bob", "wiped").unwrap();
    load.wait_more(100).unwrap();
    cluster.kill("n3").unwrap();
    fs::remove_dir_all(cluster.data("n3")).unwrap();
    cluster.start_node("n3").unwrap();
    load.wait_more(100).unwrap();
    is_repaired(&cluster, "n3", 1);
    let history = load.finish(&cluster).unwrap();
    account_for(&cluster, &history);
    let wrong = tests::checks::acked_is_there(&history, &own(&cluster, "n3"));
    assert!(wrong.is_empty(), "{wrong:?}");
    others_are_intact(&mut cluster, &["n3"]);
    // It is a voter like any other: one of the two that are needed.
    stop(&mut cluster, "n1");
    send(&cluster, "later", 1);
    // And starts as what it is now.
    assert_eq!(cluster.stop("n3").unwrap(), Some(0));
    cluster.start_node("n3").unwrap();
    cluster.start_node("n1").unwrap();
    cluster.wait_healthy().unwrap();
    assert_eq!(repairs(&cluster.events("n2").unwrap()).len(), 2, "it was repaired again");
}

#[test]
fn flipped_tables_are_replaced_by_what_the_others_hold() {
    let (mut cluster, history) = with_tables();
    cluster.kill("n3").unwrap();
    flip_in_tables(&cluster.data("n3"));
    cluster.start_node("n3").unwrap();
    let user = cluster.user().clone();
    until("a look that meets the damage", || {
        let verify = user.run(&["verify", "--state", "--deep", "--via", "n3"]);
        drop(verify.map_err(|error| error.to_string())?);
        let events = cluster.events("n1").map_err(|error| error.to_string())?;
        when(!repairs(&events).is_empty(), "no repair has begun")
    })
    .unwrap();
    is_repaired(&cluster, "n3", 1);
    cluster.wait_level().unwrap();
    let wrong = tests::checks::acked_is_there(&history, &own(&cluster, "n3"));
    assert!(wrong.is_empty(), "{wrong:?}");
    user.ok(&["verify", "--state", "--deep"]).unwrap();
    others_are_intact(&mut cluster, &["n3"]);
}

#[test]
fn a_cut_log_is_made_whole_under_load() {
    let mut cluster = alice_and_bob();
    let load = Load::start(&cluster, &["alice"], 2, "bob", "cut").unwrap();
    load.wait_more(200).unwrap();
    cluster.kill("n3").unwrap();
    segments::cut_in_half(&cluster.data("n3")).unwrap();
    cluster.start_node("n3").unwrap();
    load.wait_more(200).unwrap();
    is_repaired(&cluster, "n3", 1);
    let history = load.finish(&cluster).unwrap();
    account_for(&cluster, &history);
    others_are_intact(&mut cluster, &["n3"]);
}

/// An old copy, and then one of a store that has ended since. Seen to fail with the word of the seed taken
/// for a store that has ended: it was let in, and took part in elections.
#[test]
fn a_node_that_was_set_back_is_brought_forward() {
    let mut cluster = alice_and_bob();
    let aside = copied(&mut cluster, "n1");
    send(&cluster, "acked", SENT);
    cluster.wait_level().unwrap();
    for round in 1..=2 {
        stop(&mut cluster, "n1");
        put_back(&cluster, "n1", &aside);
        cluster.start_node("n1").unwrap();
        until(&format!("n1 brought forward, {round}"), || {
            let events = cluster.events("n2").map_err(|error| error.to_string())?;
            when(repairs(&events).len() == 2 * round, format!("{:?}", repairs(&events)))
        })
        .unwrap();
        cluster.wait_level().unwrap();
        assert_eq!(held(&cluster, "n1", "acked", true), SENT);
    }
    others_are_intact(&mut cluster, &["n1"]);
}

/// Without a majority of the others nothing is repaired: n1 alone does not hold all that was acknowledged.
#[test]
fn without_the_other_voter_a_node_waits_and_says_for_what() {
    let mut cluster = alice_and_bob();
    send(&cluster, "acked", SENT);
    cluster.wait_level().unwrap();
    cluster.kill("n3").unwrap();
    stop(&mut cluster, "n2");
    fs::remove_dir_all(cluster.data("n3")).unwrap();
    cluster.start_node("n3").unwrap();
    until("a word on what is missing", || {
        let status = cluster.status("n3").map_err(|error| error.to_string())?;
        let waits = status.problems.iter().find(|p| p.kind() == ProblemCode::RepairWaits);
        let told = waits.is_some_and(|p| p.about == "majority" && p.detail.contains("n2"));
        when(told, format!("{:?}", status.problems))
    })
    .unwrap();
    assert!(!cluster.data("n3").exists(), "something was made");
    let refused = ["--as", "alice", "send", "--to", "bob", "no", "--timeout", "2s"];
    cluster.user().refused(&refused, 11).unwrap();
    cluster.start_node("n2").unwrap();
    is_repaired(&cluster, "n3", 1);
    cluster.wait_level().unwrap();
    assert_eq!(held(&cluster, "n3", "acked", true), SENT);
    others_are_intact(&mut cluster, &["n3"]);
}

/// A start without the permission makes nothing; an administrator gives it, once.
#[test]
fn a_node_that_may_not_come_back_waits_for_an_administrator() {
    let mut cluster = alice_and_bob();
    send(&cluster, "acked", SENT);
    cluster.never_repair("n3").unwrap();
    cluster.kill("n3").unwrap();
    fs::remove_dir_all(cluster.data("n3")).unwrap();
    cluster.start_node("n3").unwrap();
    cluster.set_away("n3");
    until("a word on the permission", || {
        let status = cluster.status("n1").map_err(|error| error.to_string())?;
        let waits = status.problems.iter().find(|p| p.kind() == ProblemCode::RepairWaits);
        let told = waits.is_some_and(|p| p.subject == "n3" && p.about == "permission");
        when(told, format!("{:?}", status.problems))
    })
    .unwrap();
    assert!(!cluster.data("n3").exists(), "something was made");
    cluster.user().ok(&["node", "recover", "n3"]).unwrap();
    cluster.set_present("n3");
    is_repaired(&cluster, "n3", 1);
    cluster.wait_level().unwrap();
    assert_eq!(held(&cluster, "n3", "acked", true), SENT);
    cluster.user().refused(&["node", "recover", "n3"], 6).unwrap();
    others_are_intact(&mut cluster, &["n3"]);
}

/// Two of five at once: one after the other, so that three intact ones are always a majority.
#[test]
fn two_wiped_nodes_are_repaired_one_after_the_other() {
    let mut cluster = Cluster::start(5).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    send(&cluster, "acked", SENT);
    for node in ["n4", "n5"] {
        cluster.kill(node).unwrap();
        fs::remove_dir_all(cluster.data(node)).unwrap();
    }
    for node in ["n4", "n5"] {
        cluster.start_node(node).unwrap();
    }
    is_repaired(&cluster, "n4", 1);
    is_repaired(&cluster, "n5", 1);
    let told = repairs(&cluster.events("n1").unwrap());
    let kinds: Vec<_> = told.iter().map(|text| text.starts_with("repairing")).collect();
    assert_eq!(kinds, [true, false, true, false], "{told:?}");
    cluster.wait_level().unwrap();
    for node in ["n4", "n5"] {
        assert_eq!(held(&cluster, node, "acked", true), SENT);
    }
    others_are_intact(&mut cluster, &["n4", "n5"]);
}
