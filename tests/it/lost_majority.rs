//! A majority of the voters is lost for ever, and one node goes on with what it holds (`logd recover`): all
//! that it held is there, in order, and no store of before ever counts again.
//!
//! Promises: 1 durable, 2 one order, 8 refuses clearly.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use proto::Record;
use serde_json::Value;
use tests::logd::binary;
use tests::patience::when;
use tests::{Cluster, until, watermark};

use crate::set_back::{NO_PROOF, held, send, stop};
use crate::smoke::alice_and_bob;

/// Messages of each kind.
const SENT: usize = 20;

/// `logd recover` for a node, with further arguments.
fn command(cluster: &mut Cluster, node: &str, args: &[&str]) -> Command {
    let mut command = Command::new(binary("logd").unwrap());
    command.arg("recover").arg("--config").arg(cluster.node(node).unwrap().config()).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn recover(cluster: &mut Cluster, node: &str, args: &[&str]) -> Output {
    command(cluster, node, args).output().unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{:?}\n{}{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Lets a node go on alone.
fn go_on_alone(cluster: &mut Cluster, node: &str) {
    let output = recover(cluster, node, &["--i-have-lost-the-majority"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    cluster.start_node(node).unwrap();
    cluster.wait_primary(node).unwrap();
}

/// What one node says that it can prove.
fn proves(cluster: &mut Cluster, node: &str) -> Value {
    let output = recover(cluster, node, &["--dry-run", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn asides(cluster: &Cluster, node: &str) -> usize {
    let is_aside = |name: &str| name.starts_with("store.aside.");
    let entries = fs::read_dir(cluster.data(node)).unwrap();
    entries.filter(|entry| is_aside(entry.as_ref().unwrap().file_name().to_str().unwrap())).count()
}

/// What was there is there still, in the same order, with the same seqs and stamps.
fn holds(cluster: &Cluster, node: &str, before: &[Record]) {
    let now = cluster.records(node, false).unwrap();
    assert!(now.len() >= before.len(), "{} records of {}", now.len(), before.len());
    assert_eq!(&now[..before.len()], before, "{node}");
    assert!(now.is_sorted_by(|a, b| a.seq < b.seq && a.stamp < b.stamp));
}

/// It serves, and nobody is told that all is well. Seen to fail with nodes that are let go as ones that never
/// came: `status` and `health` ended with 0.
fn is_alone(cluster: &Cluster, node: &str, missing: &[&str]) {
    for ask in ["status", "health"] {
        let run = cluster.ctl(&[ask, "--via", node]).unwrap();
        assert_eq!(run.code, 10, "{run}");
        for missing in missing {
            let word = format!("{missing} has not come back with a new store yet");
            assert!(run.to_string().contains(&word), "{run}");
        }
    }
}

/// Whether all three nodes vote, as this one sees it.
fn all_vote(cluster: &Cluster, node: &str) {
    until("three voters", || {
        let member = cluster.ask(node, proto::wire::Op::Raft(Default::default()));
        let member = member.map_err(|error| error.to_string())?;
        let Some(proto::wire::Reply::Raft(view)) = member.reply else { panic!("no engine") };
        when(view.voters.len() == 3 && !view.joint, format!("{view:?}"))
    })
    .unwrap();
}

/// A cluster that was level, of which n1 and n3 do not run any more; and what all held.
fn only_n2_is_left() -> (Cluster, Vec<Record>) {
    let mut cluster = alice_and_bob();
    send(&cluster, "before", SENT);
    cluster.wait_level().unwrap();
    let before = cluster.records("n2", true).unwrap();
    cluster.kill_together(&["n1".to_owned(), "n3".to_owned()]).unwrap();
    cluster.set_away("n1");
    cluster.set_away("n3");
    (cluster, before)
}

fn wipe(cluster: &Cluster, node: &str) {
    fs::remove_dir_all(cluster.data(node)).unwrap();
}

/// The others come back with new stores. Seen to fail with a dialler that knew only raft ids of before: n1
/// and n3 were refused, and never came back.
#[test]
fn the_cluster_goes_on_with_what_one_node_held() {
    let (mut cluster, before) = only_n2_is_left();
    wipe(&cluster, "n1");
    wipe(&cluster, "n3");
    let in_use = recover(&mut cluster, "n2", &["--i-have-lost-the-majority"]);
    assert_eq!(in_use.status.code(), Some(1), "{}", said(&in_use));
    assert!(said(&in_use).contains("in use by another process"), "{}", said(&in_use));
    stop(&mut cluster, "n2");
    let unasked = recover(&mut cluster, "n2", &[]);
    assert_eq!(unasked.status.code(), Some(2), "{}", said(&unasked));
    let proven = proves(&mut cluster, "n2");
    assert_eq!(proven["intact"], true, "{proven}");
    assert_eq!(proven["majority_is_there"], false, "{proven}");
    assert_eq!(proven["voters"].as_array().unwrap().len(), 3, "{proven}");
    assert!(proven["last_index"].as_u64() >= proven["committed_index"].as_u64(), "{proven}");
    assert_eq!(asides(&cluster, "n2"), 0, "a dry run has changed something");
    go_on_alone(&mut cluster, "n2");
    assert_eq!(asides(&cluster, "n2"), 1);
    holds(&cluster, "n2", &before);
    send(&cluster, "alone", SENT);
    let events = cluster.events("n2").unwrap();
    let lineage: Vec<_> = events.iter().filter(|event| event.kind == "lineage").collect();
    assert_eq!(lineage.len(), 1, "{events:?}");
    assert!(lineage[0].text.starts_with("lineage 1-"), "{lineage:?}");
    is_alone(&cluster, "n2", &["n1", "n3"]);
    // The others have nothing but their keys.
    cluster.start_node("n1").unwrap();
    cluster.start_node("n3").unwrap();
    cluster.wait_level().unwrap();
    all_vote(&cluster, "n2");
    for node in ["n1", "n3"] {
        holds(&cluster, node, &before);
        assert_eq!(held(&cluster, node, "alone", false), SENT, "{node}");
    }
    // Their votes count: without n2 they go on.
    stop(&mut cluster, "n2");
    send(&cluster, "later", 1);
}

/// Both others come back with what they had, which is a majority of what the cluster was. Seen to fail where
/// they met each other before they were told that their stores had ended: they elected one of them.
#[test]
fn old_stores_neither_win_nor_bring_anything_back() {
    let (mut cluster, before) = only_n2_is_left();
    stop(&mut cluster, "n2");
    go_on_alone(&mut cluster, "n2");
    send(&cluster, "alone", SENT);
    for node in ["n1", "n3"] {
        cluster.start_node(node).unwrap();
    }
    cluster.wait_level().unwrap();
    all_vote(&cluster, "n2");
    for node in ["n1", "n2", "n3"] {
        holds(&cluster, node, &before);
        assert_eq!(held(&cluster, node, "alone", false), SENT, "{node}");
        assert_eq!(asides(&cluster, node), 1, "{node}");
    }
    let log = cluster.node("n2").unwrap().log();
    assert!(!log.contains(NO_PROOF), "n2: {log}");
    let events = cluster.events("n2").unwrap();
    assert!(events.iter().any(|event| event.kind == "lineage"), "{events:?}");
}

/// After a kill, too, and as often as it is asked. Seen to fail with a look that opens the store as a start
/// does: a start was counted, and the second time less was known to be committed.
#[test]
fn a_dry_run_changes_nothing_and_says_the_same_again() {
    let (mut cluster, _) = only_n2_is_left();
    // It is noted once a second.
    until("a note of what is committed", || {
        let noted = watermark::noted(&cluster.data("n2")).map_err(|error| error.to_string())?;
        when(noted.committed > SENT as u64, format!("{noted:?}"))
    })
    .unwrap();
    cluster.kill("n2").unwrap();
    let before = tests::folder::contents(&cluster.data("n2")).unwrap();
    let first = proves(&mut cluster, "n2");
    assert!(first["committed_index"].as_u64() > Some(SENT as u64), "{first}");
    let others = first["remembers"].as_array().unwrap();
    assert!(others.iter().all(|of| of["last_index"].as_u64() >= of["committed_index"].as_u64()));
    for _ in 0..2 {
        assert_eq!(proves(&mut cluster, "n2"), first);
    }
    let after = tests::folder::contents(&cluster.data("n2")).unwrap();
    assert!(after == before, "something was changed");
    // Nor is anything forgotten by a start.
    cluster.node("n2").unwrap().start(&[]).unwrap();
    cluster.node("n2").unwrap().says("logd is running").unwrap();
    cluster.kill("n2").unwrap();
    let again = proves(&mut cluster, "n2");
    assert!(again["committed_index"].as_u64() >= first["committed_index"].as_u64(), "{again}");
}

#[test]
fn nothing_is_given_up_that_a_majority_could_have() {
    let mut cluster = alice_and_bob();
    send(&cluster, "before", SENT);
    stop(&mut cluster, "n1");
    for there in ["n2, n3", "n3"] {
        let refused = recover(&mut cluster, "n1", &["--i-have-lost-the-majority"]);
        assert_eq!(refused.status.code(), Some(6), "{}", said(&refused));
        assert!(said(&refused).contains(&format!("{there} and this one")), "{}", said(&refused));
        let proven = proves(&mut cluster, "n1");
        assert_eq!(proven["majority_is_there"], true, "{proven}");
        let why = proven["refused"].as_str().unwrap();
        assert!(why.contains("no majority is lost"), "{proven}");
        // A dry run says that to people, too, and a refusal to programs.
        let dry = said(&recover(&mut cluster, "n1", &["--dry-run"]));
        assert!(dry.contains("may not go on alone: no majority is lost"), "{dry}");
        let json = ["--i-have-lost-the-majority", "-o", "json"];
        let refused = recover(&mut cluster, "n1", &json);
        assert_eq!(refused.status.code(), Some(6), "{}", said(&refused));
        let told: Value = serde_json::from_slice(&refused.stdout).unwrap();
        assert_eq!(told["refused"], why, "{told}");
        if there == "n2, n3" {
            stop(&mut cluster, "n2");
        }
    }
    assert_eq!(asides(&cluster, "n1"), 0);
    cluster.start_node("n1").unwrap();
    cluster.start_node("n2").unwrap();
    cluster.wait_level().unwrap();
    assert_eq!(held(&cluster, "n1", "before", false), SENT);
}

/// It was done by mistake: the others run, and had only been out of reach. Who has a majority does not
/// believe the word of a later lineage.
#[test]
fn a_majority_that_was_not_lost_goes_on() {
    let mut cluster = alice_and_bob();
    send(&cluster, "before", SENT);
    cluster.wait_level().unwrap();
    for node in ["n1", "n2", "n3"] {
        stop(&mut cluster, node);
    }
    let output = recover(&mut cluster, "n1", &["--i-have-lost-the-majority"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    cluster.start_node("n2").unwrap();
    cluster.start_node("n3").unwrap();
    cluster.wait_primary("n2").unwrap();
    cluster.set_away("n1");
    send(&cluster, "others", SENT);
    cluster.node("n1").unwrap().start(&[]).unwrap();
    until("a majority that says what is the matter", || {
        let status = cluster.status("n2").map_err(|error| error.to_string())?;
        let told = status.problems.iter().any(|p| p.about == "n1" && p.detail.contains("lineage"));
        when(told, format!("{:?}", status.problems))
    })
    .unwrap();
    send(&cluster, "more", SENT);
    for node in ["n2", "n3"] {
        assert_eq!(held(&cluster, node, "others", false), SENT, "{node}");
        let log = cluster.node(node).unwrap().log();
        assert!(!log.contains(NO_PROOF), "{node}: {log}");
    }
    // Wiped, the one that went on alone is one of them again.
    stop(&mut cluster, "n1");
    wipe(&cluster, "n1");
    cluster.start_node("n1").unwrap();
    cluster.wait_level().unwrap();
    assert_eq!(held(&cluster, "n1", "more", false), SENT);
}

/// The old store is not touched before the new one is whole.
#[test]
fn it_can_be_killed_at_any_moment() {
    let (mut cluster, before) = only_n2_is_left();
    stop(&mut cluster, "n2");
    let data = cluster.data("n2");
    let moments: [&dyn Fn(&Path) -> bool; 3] = [
        &|data| data.join("recovering/store.new").exists(),
        &|data| data.join("recovering/store").exists(),
        &|data| data.join("store.aside.1").exists(),
    ];
    for moment in moments {
        let mut running = command(&mut cluster, "n2", &["--i-have-lost-the-majority"]);
        let mut running = running.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the moment to kill it", || {
            let ended = running.try_wait().map_err(|error| error.to_string())?;
            when(moment(&data) || ended.is_some(), "not yet")
        })
        .unwrap();
        // It may have ended by itself, where it was quick.
        let _ = running.kill();
        running.wait().unwrap();
        assert!(data.join("store/watermark").exists(), "there is no store");
        let proven = proves(&mut cluster, "n2");
        assert_eq!(proven["intact"], true, "{proven}");
        if proven["lineage"] != "0" {
            break;
        }
    }
    if proves(&mut cluster, "n2")["lineage"] == "0" {
        go_on_alone(&mut cluster, "n2");
    } else {
        cluster.start_node("n2").unwrap();
        cluster.wait_primary("n2").unwrap();
    }
    holds(&cluster, "n2", &before);
    send(&cluster, "alone", 1);
    assert!(!data.join("recovering").exists() || !data.join("recovering/store").exists());
}
