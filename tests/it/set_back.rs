//! A node whose store is older than what it has acknowledged: put back from a copy, made anew from
//! its seed, cut together with its evidence, or run twice. Nothing in the store shows it; the other
//! nodes remember. It takes no part, and nothing that was acknowledged is lost or cut off.
//!
//! Promises: 1 durable, 8 refuses clearly. Meant to catch a daemon that says and judges no
//! attestation: in each of these the node would soon vote, and its entries could go over the
//! acknowledged ones, but for the copy beside a living node, which would pass for it.

use std::fs;
use std::path::{Path, PathBuf};

use config::seed::{SEED_FILE, USED_SEED_FILE};
use proto::wire::NodeRow;
use proto::{Problem, ProblemCode};
use rustix::process::Signal;
use tests::{Cluster, Logd, segments, until, watermark};

use crate::smoke::alice_and_bob;

/// What a node says that takes no part.
pub(crate) const NO_PROOF: &str = "cannot prove its store intact";
/// Messages that are acknowledged between the copy and its return.
const SENT: usize = 20;

pub(crate) fn stop(cluster: &mut Cluster, node: &str) {
    assert_eq!(cluster.stop(node).unwrap(), Some(0), "{}", cluster.node(node).unwrap().log());
    cluster.set_away(node);
}

/// Stops a node, copies its directory and starts it again.
pub(crate) fn copied(cluster: &mut Cluster, node: &str) -> PathBuf {
    let aside = cluster.folder().join(format!("{node}.copy"));
    stop(cluster, node);
    tests::folder::copy(&cluster.data(node), &aside).unwrap();
    cluster.start_node(node).unwrap();
    cluster.wait_healthy().unwrap();
    aside
}

pub(crate) fn put_back(cluster: &Cluster, node: &str, aside: &Path) {
    let data = cluster.data(node);
    fs::remove_dir_all(&data).unwrap();
    tests::folder::copy(aside, &data).unwrap();
}

pub(crate) fn send(cluster: &Cluster, body: &str, count: usize) {
    let count = count.to_string();
    let send = ["--as", "alice", "send", "--to", "bob", body, "--repeat", &count];
    cluster.user().ok(&send).unwrap();
}

/// How many messages of that body a node holds.
pub(crate) fn held(cluster: &Cluster, node: &str, body: &str, stale: bool) -> usize {
    let records = cluster.records(node, stale).unwrap();
    records.iter().filter(|record| record.body.starts_with(body.as_bytes())).count()
}

/// A node must notice what it lacks, be repairing from then on, and never have taken part in an
/// election.
fn refuses_itself(cluster: &mut Cluster, name: &str, why: &str) {
    cluster.never_repair(name).unwrap();
    let before = cluster.node(name).unwrap().log().len();
    cluster.start_node(name).unwrap();
    let node = cluster.node(name).unwrap();
    until("a node that notices what it lacks", || {
        let log = node.log();
        let said = log.get(before..).unwrap_or_default();
        tests::patience::when(said.contains(NO_PROOF) && said.contains(why), said)
    })
    .unwrap();
    let log = node.log();
    let said = log.get(before..).unwrap_or_default();
    assert!(!said.contains("takes part in elections"), "{said}");
    cluster.set_away(name);
}

/// The case in which the holder of the acknowledged messages is down, and the only other node knows
/// no more of the one that was set back than that it was started once more since.
#[test]
fn a_node_that_was_set_back_does_not_vote_where_the_holder_is_down() {
    let mut cluster = alice_and_bob();
    let aside = copied(&mut cluster, "n1");
    stop(&mut cluster, "n2");
    send(&cluster, "acked", SENT);
    stop(&mut cluster, "n3");
    stop(&mut cluster, "n1");
    put_back(&cluster, "n1", &aside);
    // Alone it cannot know; and it counts as many starts as are remembered, and more.
    for _ in 0..2 {
        cluster.start_node("n1").unwrap();
        until("n1 alone", || cluster.status("n1").map(drop).map_err(|error| error.to_string()))
            .unwrap();
        stop(&mut cluster, "n1");
    }
    cluster.start_node("n2").unwrap();
    refuses_itself(&mut cluster, "n1", "set back");
    let alone = ["--as", "alice", "send", "--to", "bob", "no", "--timeout", "2s"];
    cluster.user().refused(&alone, 11).unwrap();
    cluster.start_node("n3").unwrap();
    cluster.wait_primary("n2").unwrap();
    for node in ["n2", "n3"] {
        assert_eq!(held(&cluster, node, "acked", false), SENT);
    }
    send(&cluster, "later", 1);
}

#[test]
fn a_node_that_was_set_back_does_not_vote_where_all_are_up() {
    let mut cluster = alice_and_bob();
    let aside = copied(&mut cluster, "n1");
    send(&cluster, "acked", SENT);
    cluster.wait_level().unwrap();
    stop(&mut cluster, "n1");
    put_back(&cluster, "n1", &aside);
    refuses_itself(&mut cluster, "n1", "set back");
    until("a status that tells of it", || {
        let status = cluster.status("n2").map_err(|error| error.to_string())?;
        let tells = |p: &Problem| {
            p.kind() == ProblemCode::Damaged && p.subject == "n1" && p.detail.contains("set back")
        };
        let told = status.problems.iter().any(tells);
        tests::patience::when(told, format!("{:?}", status.problems))
    })
    .unwrap();
    assert_eq!(held(&cluster, "n2", "acked", false), SENT);
}

/// A cluster in which n3 holds acknowledged messages that n1 and n2, which are up, know nothing of: n1
/// was set back, n2 was away. n3 is down.
fn two_sided() -> Cluster {
    let mut cluster = alice_and_bob();
    stop(&mut cluster, "n2");
    let aside = copied(&mut cluster, "n1");
    send(&cluster, "acked", SENT);
    stop(&mut cluster, "n3");
    stop(&mut cluster, "n1");
    put_back(&cluster, "n1", &aside);
    cluster.start_node("n1").unwrap();
    cluster.start_node("n2").unwrap();
    cluster.wait_primary("n2").unwrap();
    send(&cluster, "other", 2 * SENT);
    cluster
}

fn tells_of_two_histories(cluster: &Cluster, node: &str) {
    until("two histories", || {
        let status = cluster.status(node).map_err(|error| error.to_string())?;
        let told = status.problems.iter().any(|p| p.kind() == ProblemCode::TwoHistories);
        tests::patience::when(told, format!("{node}: {:?}", status.problems))
    })
    .unwrap();
}

/// Nobody who is there can know. When the holder comes back, nothing is cut off, and both sides are
/// named, also when they are alone with what they found. Seen to fail with a finding that is kept in
/// memory only.
#[test]
fn two_histories_stay_as_they_are_until_a_person_decides() {
    let mut cluster = two_sided();
    cluster.start_node("n3").unwrap();
    for node in ["n1", "n2", "n3"] {
        tells_of_two_histories(&cluster, node);
    }
    assert_eq!(cluster.ctl(&["status", "--via", "n1"]).unwrap().code, 10);
    assert_eq!(held(&cluster, "n3", "acked", true), SENT, "something was cut off");
    assert_eq!(held(&cluster, "n2", "other", true), 2 * SENT);
    let verify = cluster.ctl(&["verify", "--state"]).unwrap();
    assert_eq!(verify.code, 13, "{verify}");
    let text = verify.to_string();
    assert!(text.contains("two histories from log index "), "{text}");
    assert!(text.contains("n1, n2") && !text.contains("damaged"), "{text}");
    // Over restarts as well, and without the other side.
    for node in ["n3", "n2", "n1"] {
        stop(&mut cluster, node);
    }
    cluster.start_node("n3").unwrap();
    tells_of_two_histories(&cluster, "n3");
    assert_eq!(held(&cluster, "n3", "acked", true), SENT);
    stop(&mut cluster, "n3");
    cluster.start_node("n1").unwrap();
    tells_of_two_histories(&cluster, "n1");
    cluster.start_node("n2").unwrap();
    cluster.wait_primary("n2").unwrap();
    // A person decides: n3 goes, and its store is put aside.
    until("n3 as removed", || {
        // Refused until the others are seen as a majority without it.
        let run = cluster.ctl(&["node", "remove", "n3", "--force", "-y"]);
        let run = run.map_err(|error| error.to_string())?;
        tests::patience::when(run.code == 0, run.to_string())
    })
    .unwrap();
    cluster.set_away("n3");
    cluster.wait_healthy().unwrap();
}

/// The log that could be compared is gone, and a snapshot would replace everything. Seen to fail
/// with chain hashes that are not kept and snapshots that are not compared: nobody tells of two.
#[test]
fn two_histories_are_told_where_the_log_is_purged() {
    let mut cluster = two_sided();
    for node in ["n1", "n2"] {
        cluster.user().ok(&["compact", "-y", "--via", node]).unwrap();
    }
    cluster.start_node("n3").unwrap();
    for node in ["n1", "n2", "n3"] {
        tells_of_two_histories(&cluster, node);
    }
    assert_eq!(held(&cluster, "n3", "acked", true), SENT, "something was replaced");
}

/// The seed is the permission to make a store, once: a second store of one incarnation has
/// forgotten what the first one acknowledged.
#[test]
fn a_seed_that_is_put_back_makes_no_voter() {
    let mut cluster = alice_and_bob();
    stop(&mut cluster, "n2");
    send(&cluster, "acked", SENT);
    stop(&mut cluster, "n3");
    stop(&mut cluster, "n1");
    let data = cluster.data("n1");
    fs::remove_dir_all(data.join("store")).unwrap();
    fs::rename(data.join(USED_SEED_FILE), data.join(SEED_FILE)).unwrap();
    cluster.start_node("n2").unwrap();
    refuses_itself(&mut cluster, "n1", "created again under an old identity");
    cluster.start_node("n3").unwrap();
    cluster.wait_primary("n2").unwrap();
    assert_eq!(held(&cluster, "n2", "acked", false), SENT);
}

/// A node that takes no part is no judge of the others: as soon as it knows that, and before.
///
/// Meant to catch its first words believed: no quorum, and two nodes down that serve all the time.
#[test]
fn a_node_that_takes_no_part_does_not_speak_for_the_cluster() {
    let mut cluster = alice_and_bob();
    stop(&mut cluster, "n1");
    let data = cluster.data("n1");
    fs::remove_dir_all(data.join("store")).unwrap();
    fs::rename(data.join(USED_SEED_FILE), data.join(SEED_FILE)).unwrap();
    let before = cluster.node("n1").unwrap().log().len();
    cluster.never_repair("n1").unwrap();
    cluster.start_node("n1").unwrap();
    cluster.set_away("n1");
    until("n1 as a node that takes no part, by every word that is asked for", || {
        // Each node has its turn to be asked.
        for _ in 0..3 {
            let run = cluster.ctl(&["status", "--spread", "round-robin"]);
            let run = run.map_err(|error| error.to_string())?;
            assert_ne!(run.code, 11, "{run}");
        }
        let log = cluster.node("n1").unwrap().log();
        let knows = log.get(before..).is_some_and(|said| said.contains(NO_PROOF));
        let own = cluster.status("n1").map_err(|error| error.to_string())?;
        let fits = knows && own.quorum && own.nodes.iter().all(|row| row.up);
        tests::patience::when(fits, format!("{:?} {:?}", own.problems, own.nodes))
    })
    .unwrap();
}

/// The log ends earlier, where a group begins, and what is noted of it once a second was not noted.
///
/// Seen to fail with what others remember not judged: n3 took part.
#[test]
fn a_log_that_was_cut_within_a_second_is_noticed() {
    let mut cluster = alice_and_bob();
    stop(&mut cluster, "n3");
    cluster.start_node("n3").unwrap();
    cluster.wait_healthy().unwrap();
    send(&cluster, "acked", SENT);
    cluster.wait_level().unwrap();
    cluster.kill("n3").unwrap();
    let data = cluster.data("n3");
    segments::cut_in_half(&data).unwrap();
    watermark::forget_mark(&data).unwrap();
    refuses_itself(&mut cluster, "n3", "lost the end of its log");
    assert_eq!(held(&cluster, "n1", "acked", false), SENT);
}

/// A copy of a node's machine, on another port: the key and the store are the node's.
fn second_of(cluster: &mut Cluster, node: &str, aside: &Path) -> (Logd, String) {
    let config = cluster.node(node).unwrap().config().to_owned();
    let text = fs::read_to_string(&config).unwrap();
    let (address, port) = (cluster.address(node).unwrap(), tests::ports::in_a_row(1).unwrap());
    let elsewhere = format!("127.0.0.1:{port}");
    let changed = text
        .replace(&address, &elsewhere)
        .replace(&format!("data/{node}"), aside.to_str().unwrap());
    assert!(changed.contains(aside.to_str().unwrap()), "{text}");
    let second = config.with_file_name("second.toml");
    fs::write(&second, changed).unwrap();
    (Logd::new(node, second, cluster.folder().join("clone.log")), elsewhere)
}

/// Waits until a node, as others see it, is as wanted.
fn seen(cluster: &Cluster, node: &str, by: &[&str], what: &str, is: impl Fn(&NodeRow) -> bool) {
    for via in by {
        until(&format!("{node} {what}, seen by {via}"), || {
            let status = cluster.status(via).map_err(|error| error.to_string())?;
            let row = status.nodes.iter().find(|row| row.name == node);
            let fits = status.quorum && row.is_some_and(&is);
            tests::patience::when(fits, format!("{:?}: {:?}", status.problems, row))
        })
        .unwrap();
    }
}

#[test]
fn a_second_process_with_the_same_store_does_not_pass_for_the_node() {
    let mut cluster = alice_and_bob();
    let aside = copied(&mut cluster, "n1");
    let (mut clone, elsewhere) = second_of(&mut cluster, "n1", &aside);
    clone.start(&[]).unwrap();
    clone.says(NO_PROOF).unwrap();
    assert!(!clone.log().contains("takes part in elections"), "{}", clone.log());
    until("a status that tells of two, and where the second is", || {
        let mut told = Vec::new();
        for node in ["n2", "n3"] {
            let status = cluster.status(node).map_err(|error| error.to_string())?;
            told.extend(status.problems.into_iter().filter(|p| p.kind() == ProblemCode::TwoLives));
        }
        let named = told.iter().any(|problem| problem.detail.contains(&elsewhere));
        tests::patience::when(named, format!("{told:?}"))
    })
    .unwrap();
    // Nor does it once the node itself is gone.
    cluster.node("n1").unwrap().signal(Signal::KILL).unwrap();
    cluster.node("n1").unwrap().ended().unwrap();
    cluster.set_away("n1");
    let address = cluster.address("n1").unwrap();
    seen(&cluster, "n1", &["n2", "n3"], "away", |row| !row.up && row.address == address);
    until("a word on who speaks in its name", || {
        let status = cluster.status("n2").map_err(|error| error.to_string())?;
        let says = |p: &Problem| {
            p.kind() == ProblemCode::ListensElsewhere && p.detail.contains(&elsewhere)
        };
        tests::patience::when(status.problems.iter().any(says), format!("{:?}", status.problems))
    })
    .unwrap();
    send(&cluster, "later", 1);
    // Both of the others are needed now.
    cluster.kill("n3").unwrap();
    let refused = ["--as", "alice", "send", "--to", "bob", "no", "--timeout", "3s"];
    until("a refusal", || {
        let run = cluster.ctl(&refused).map_err(|error| error.to_string())?;
        assert_ne!(run.code, 0, "a copy made up a majority");
        tests::patience::when(run.code == 11, run.to_string())
    })
    .unwrap();
}

/// The node itself is intact, whatever becomes of its copy.
///
/// Seen to fail with every process that is heard taken for the node while the node is away: it was
/// refused then, called itself broken for ever, and the table moved it to where the copy was. And with a
/// repair that goes by who spoke last: the copy was taken back in the place of the node.
#[test]
fn a_node_takes_part_again_beside_its_copy_and_after_it() {
    let mut cluster = alice_and_bob();
    let aside = copied(&mut cluster, "n1");
    let (mut clone, _) = second_of(&mut cluster, "n1", &aside);
    clone.start(&[]).unwrap();
    clone.says(NO_PROOF).unwrap();
    let address = cluster.address("n1").unwrap();
    let part = |row: &NodeRow| {
        row.up && row.role != "repairing" && row.state == "joined" && row.address == address
    };
    seen(&cluster, "n1", &["n2", "n3"], "beside its copy", part);
    // An orderly restart, and one after a crash while the copy is all that is heard.
    stop(&mut cluster, "n1");
    cluster.start_node("n1").unwrap();
    seen(&cluster, "n1", &["n2", "n3"], "restarted beside its copy", part);
    cluster.node("n1").unwrap().signal(Signal::KILL).unwrap();
    cluster.node("n1").unwrap().ended().unwrap();
    cluster.set_away("n1");
    seen(&cluster, "n1", &["n2", "n3"], "away", |row| !row.up);
    cluster.start_node("n1").unwrap();
    seen(&cluster, "n1", &["n1", "n2", "n3"], "killed beside its copy", part);
    send(&cluster, "beside", 1);
    clone.signal(Signal::KILL).unwrap();
    clone.ended().unwrap();
    stop(&mut cluster, "n1");
    cluster.start_node("n1").unwrap();
    cluster.wait_healthy().unwrap();
    assert_eq!(held(&cluster, "n1", "beside", false), 1);
    let log = cluster.node("n1").unwrap().log();
    assert!(!log.contains(NO_PROOF), "{log}");
    let events = cluster.events("n2").unwrap();
    assert!(events.iter().all(|event| !event.text.contains("moved")), "{events:?}");
}
