//! A node whose store is damaged, set back or gone comes back by itself, under its own name, with a new
//! store: everything that was acknowledged can be read there afterwards, and nobody else is touched.
//!
//! Promises: 1 durable, 8 refuses clearly. Seen to fail with a node that never asks: no word of a repair
//! comes.

use std::fs;
use std::path::Path;
use std::time::Instant;

use proto::{Problem, ProblemCode, Record};
use tests::life::Event;
use tests::patience::when;
use tests::{Cluster, Load, segments, until};

use crate::damage::{flip_in_tables, with_tables};
use crate::failover::account_for;
use crate::set_back::{NO_PROOF, copied, held, put_back, send, stop};
use crate::smoke::alice_and_bob;

/// Messages that are acknowledged between a copy and its return.
const SENT: usize = 20;
/// Words of a process that was killed may be under way for so long, in seconds.
const UNDER_WAY_S: f64 = 1.0;

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

/// Wipes a node, and waits until the others have filled it again.
fn replaced(cluster: &mut Cluster, node: &str) {
    cluster.kill(node).unwrap();
    fs::remove_dir_all(cluster.data(node)).unwrap();
    cluster.start_node(node).unwrap();
    is_repaired(cluster, node, 1);
}

/// Puts a node's folder back to a copy. The members that it noted beside its key may be those of then, too.
fn put_back_without_note(cluster: &Cluster, node: &str, aside: &Path) {
    put_back(cluster, node, aside);
    forget_members(cluster, node);
}

/// Removes what a node has noted of the members beside its key.
fn forget_members(cluster: &Cluster, node: &str) {
    let noted = cluster.dir().join(format!("pki/{node}.members.toml"));
    fs::remove_file(noted).unwrap();
}

/// The copy knows neither of the stores that the others have by now: their keys are all that it knows. Seen
/// to fail with a peer's word heeded only from the store that is known: it called itself intact for ever.
#[test]
fn a_node_set_back_to_before_all_others_were_repaired_is_brought_forward() {
    let mut cluster = alice_and_bob();
    let aside = copied(&mut cluster, "n1");
    replaced(&mut cluster, "n2");
    replaced(&mut cluster, "n3");
    send(&cluster, "acked", SENT);
    cluster.wait_level().unwrap();
    stop(&mut cluster, "n1");
    put_back_without_note(&cluster, "n1", &aside);
    cluster.start_node("n1").unwrap();
    until("n1 brought forward", || {
        let events = cluster.events("n2").map_err(|error| error.to_string())?;
        let told = repairs(&events);
        when(told.last().is_some_and(|last| last.starts_with("repaired n1")), format!("{told:?}"))
    })
    .unwrap();
    cluster.wait_level().unwrap();
    assert_eq!(held(&cluster, "n1", "acked", true), SENT);
}

/// One of the two that it knows was repaired, and the other is down: it takes no part, and says for whom it
/// waits.
#[test]
fn a_node_set_back_to_before_the_only_other_was_repaired_waits_for_the_third() {
    let mut cluster = alice_and_bob();
    let aside = copied(&mut cluster, "n1");
    replaced(&mut cluster, "n2");
    send(&cluster, "acked", SENT);
    cluster.wait_level().unwrap();
    stop(&mut cluster, "n3");
    stop(&mut cluster, "n1");
    put_back_without_note(&cluster, "n1", &aside);
    cluster.start_node("n1").unwrap();
    until("a word on what is missing", || {
        let status = cluster.status("n1").map_err(|error| error.to_string())?;
        let waits = status.problems.iter().find(|p| p.kind() == ProblemCode::RepairWaits);
        let told = waits.is_some_and(|p| p.about == "majority" && p.detail.contains("n3"));
        when(told, format!("{:?}", status.problems))
    })
    .unwrap();
    let refused = ["--as", "alice", "send", "--to", "bob", "no", "--timeout", "2s"];
    cluster.user().refused(&refused, 11).unwrap();
    cluster.start_node("n3").unwrap();
    is_repaired(&cluster, "n1", 1);
    cluster.wait_level().unwrap();
    assert_eq!(held(&cluster, "n1", "acked", true), SENT);
    others_are_intact(&mut cluster, &["n1", "n2"]);
}

/// Intact, and away while all others got new stores: their keys are known, and nobody lacks anything. Seen to
/// fail with a newer store that a member whom this node knows has to vouch for: nobody is left who could.
#[test]
fn a_node_that_was_away_while_all_others_were_repaired_takes_part_again() {
    let mut cluster = Cluster::start(5).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    cluster.wait_level().unwrap();
    stop(&mut cluster, "n5");
    for node in ["n1", "n2", "n3", "n4"] {
        cluster.kill(node).unwrap();
        fs::remove_dir_all(cluster.data(node)).unwrap();
        cluster.start_node(node).unwrap();
        is_repaired(&cluster, node, 1);
    }
    send(&cluster, "acked", SENT);
    forget_members(&cluster, "n5");
    cluster.start_node("n5").unwrap();
    cluster.wait_level().unwrap();
    assert_eq!(held(&cluster, "n5", "acked", true), SENT);
    others_are_intact(&mut cluster, &["n1", "n2", "n3", "n4"]);
}

/// The copy knows none of those that are members now: what the node noted beside its key does. Seen to fail
/// with a note that is read only where the store is damaged already.
#[test]
fn a_node_set_back_to_before_all_others_came_is_brought_forward() {
    let mut cluster = alice_and_bob();
    let aside = copied(&mut cluster, "n1");
    for node in ["n4", "n5"] {
        cluster.join_as_voter(node).unwrap();
    }
    for node in ["n2", "n3"] {
        cluster.user().ok(&["node", "remove", node, "-y", "--via", "n1"]).unwrap();
        cluster.set_away(node);
    }
    send(&cluster, "acked", SENT);
    cluster.wait_level().unwrap();
    stop(&mut cluster, "n1");
    put_back(&cluster, "n1", &aside);
    cluster.start_node("n1").unwrap();
    until("n1 brought forward", || {
        let events = cluster.events("n4").map_err(|error| error.to_string())?;
        when(repairs(&events).len() == 2, format!("{:?}", repairs(&events)))
    })
    .unwrap();
    cluster.wait_level().unwrap();
    assert_eq!(held(&cluster, "n1", "acked", true), SENT);
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

/// Only one of three is intact. Whoever asks is told that there is no majority, also by those that are
/// damaged; these say for whom they wait; and what the one that is left says of its age is true. Seen to fail
/// with the first word of a damaged gateway kept as the verdict (13), and with any word of the former primary
/// taken for news of a primary.
#[test]
fn two_of_three_that_are_damaged_are_no_majority() {
    let (cluster, left, silent) = two_are_damaged(|primary, _| primary.to_owned());
    // Until then it might order a message that nobody can decide.
    until("the one that is left knows of no primary", || {
        let status = cluster.status(&left).map_err(|error| error.to_string())?;
        when(!status.quorum && status.primary.is_empty(), format!("{status:?}"))
    })
    .unwrap();
    are_no_majority(&cluster, &left, silent);
}

/// As before, and the primary is among the damaged: the backup that is left may take it for the primary still.
#[test]
fn a_damaged_primary_and_a_damaged_backup_leave_no_majority() {
    let (cluster, left, silent) = two_are_damaged(|_, backup| backup.to_owned());
    // What goes out on the connection to the process that was killed is unknown, and finds that it ended.
    let first = ["--as", "alice", "send", "--to", "bob", "no", "--timeout", "4s", "--via", &left];
    let first = cluster.user().run(&first).unwrap();
    assert!([7, 11].contains(&first.code), "{first}");
    are_no_majority(&cluster, &left, silent);
}

/// A cluster whose nodes are damaged but for one, chosen by the primary and a backup, and since when.
fn two_are_damaged(leaves: fn(&str, &str) -> String) -> (Cluster, String, Instant) {
    let mut cluster = alice_and_bob();
    send(&cluster, "acked", SENT);
    cluster.wait_level().unwrap();
    let primary = cluster.wait_primary("n1").unwrap();
    let backup = cluster.names().into_iter().find(|name| *name != primary).unwrap();
    let left = leaves(&primary, &backup);
    let gone: Vec<_> = cluster.names().into_iter().filter(|name| *name != left).collect();
    cluster.kill_together(&gone).unwrap();
    let silent = Instant::now();
    for node in &gone {
        fs::remove_dir_all(cluster.data(node)).unwrap();
        cluster.start_node(node).unwrap();
    }
    for (node, other) in gone.iter().zip(gone.iter().rev()) {
        until(&format!("what {node} waits for"), || {
            let status = cluster.status(node).map_err(|error| error.to_string())?;
            let waits = |p: &&Problem| p.kind() == ProblemCode::RepairWaits && p.subject == *node;
            let waits = status.problems.iter().find(waits);
            let why = format!("{other} cannot prove its own store");
            let told = waits.is_some_and(|p| {
                p.about == "majority"
                    && p.detail.contains(&why)
                    && p.detail.contains("logd recover")
            });
            when(told, format!("{:?}", status.problems))
        })
        .unwrap();
    }
    (cluster, left, silent)
}

/// Whoever asks is told so, and the one that is left tells a true age.
fn are_no_majority(cluster: &Cluster, left: &str, silent: Instant) {
    // Whatever node they are at home at.
    for client in ["alice", "bob"] {
        let refused = ["--as", client, "send", "--to", "bob", "no", "--timeout", "4s"];
        cluster.user().refused(&refused, 11).unwrap();
    }
    let at_least = silent.elapsed().as_secs_f64() - UNDER_WAY_S;
    let run = cluster.ctl(&["read", "--from", "0", "--stale", "--via", left]).unwrap();
    let told = run.to_string();
    let age = told.split("heard from a primary ").nth(1).and_then(|rest| rest.split(' ').next());
    let never = told.contains("has not heard from a primary");
    let age = age.map(|age| age.parse::<f64>().unwrap());
    assert!(never || age >= Some(at_least), "{age:?} of {at_least}: {told}");
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
