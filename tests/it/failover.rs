//! Nodes that are killed, stopped, paused and started again while messages are sent.
//!
//! Promises: 1 durable, 2 one order, 3 once, 4 fresh. Negative controls, each seen to fail: a daemon
//! that remembers no ids (doubles in every test), one whose reads ask nobody (stale reads), and one
//! that acknowledges what no disk has (killed, it does not come back). Every check has its planted
//! fault in `tests::checks` besides.

use std::time::Duration;

use proto::wire::{Op, Read};
use rustix::process::Signal;
use tests::load::{message, send};
use tests::{Cluster, History, Load, Outcome, Readers, Watch, checks};

/// Kills of the primary under load.
const ROUNDS: u64 = 12;

/// Compares what the senders were told with what all nodes hold.
#[track_caller]
pub(crate) fn account_for(cluster: &Cluster, history: &History) {
    cluster.wait_level().unwrap();
    let nodes = cluster.all_records().unwrap();
    let wrong = checks::all(history, &nodes);
    assert!(wrong.is_empty(), "{} faults: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
}

fn cluster() -> Cluster {
    let cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    cluster
}

fn others(cluster: &Cluster, node: &str) -> Vec<String> {
    cluster.names().into_iter().filter(|name| name != node).collect()
}

#[test]
fn twelve_kills_of_the_primary_lose_nothing() {
    let mut cluster = cluster();
    let watch = Watch::start(&cluster).unwrap();
    let load = Load::start(&cluster, &["alice", "bob"], 4, "bob", "kill").unwrap();
    for round in 0..ROUNDS {
        load.wait_more(50).unwrap();
        let seen_by = others(&cluster, "").remove(usize::try_from(round % 3).unwrap());
        let primary = cluster.wait_primary(&seen_by).unwrap();
        cluster.kill(&primary).unwrap();
        // Sends go on although it is still down.
        load.wait_more(50).unwrap();
        let survivor = others(&cluster, &primary).remove(0);
        let successor = cluster.wait_primary(&survivor).unwrap();
        assert_ne!(successor, primary);
        cluster.start_node(&primary).unwrap();
        cluster.wait_healthy().unwrap();
    }
    load.wait_more(50).unwrap();
    let history = load.finish(&cluster).unwrap();
    let led = watch.finish(&cluster).unwrap();
    assert_eq!(checks::one_primary_per_term(&led), Vec::<String>::new());
    let terms = u64::try_from(led.len()).unwrap();
    assert!(terms > ROUNDS, "only {terms} terms were seen: the kills did not bite");
    let failed: Vec<_> = history.failed().collect();
    assert!(failed.is_empty(), "sends failed although a majority was there: {failed:?}");
    account_for(&cluster, &history);
}

#[test]
fn killed_backups_are_not_noticed_by_senders() {
    let mut cluster = cluster();
    let load = Load::start(&cluster, &["alice"], 4, "bob", "backup").unwrap();
    for round in 0..4 {
        load.wait_more(50).unwrap();
        let primary = cluster.wait_primary("n1").unwrap();
        let backup = others(&cluster, &primary).remove(round % 2);
        cluster.kill(&backup).unwrap();
        load.wait_more(100).unwrap();
        cluster.start_node(&backup).unwrap();
        cluster.wait_healthy().unwrap();
    }
    let history = load.finish(&cluster).unwrap();
    let failed: Vec<_> = history.failed().collect();
    assert!(failed.is_empty(), "{failed:?}");
    account_for(&cluster, &history);
}

#[test]
fn all_nodes_killed_at_once_come_back_with_everything() {
    let mut cluster = cluster();
    let mut history = History::default();
    for round in 0..3 {
        let load =
            Load::start(&cluster, &["alice", "bob"], 4, "bob", &format!("all{round}")).unwrap();
        load.wait_more(100).unwrap();
        for node in cluster.names() {
            cluster.kill(&node).unwrap();
        }
        cluster.start_all().unwrap();
        // Sends that were in flight find the cluster again by themselves.
        load.wait_more(100).unwrap();
        history.attempts.extend(load.finish(&cluster).unwrap().attempts);
        account_for(&cluster, &history);
    }
}

#[test]
fn a_stopped_primary_hands_over_and_no_send_fails() {
    let mut cluster = cluster();
    let load = Load::start(&cluster, &["alice", "bob"], 4, "bob", "term").unwrap();
    for _ in 0..4 {
        load.wait_more(100).unwrap();
        let primary = cluster.wait_primary("n2").unwrap();
        assert_eq!(cluster.stop(&primary).unwrap(), Some(0));
        load.wait_more(100).unwrap();
        let log = cluster.node(&primary).unwrap().log();
        assert!(log.contains("handing the primary role over"), "{primary} handed nothing over");
        cluster.start_node(&primary).unwrap();
        cluster.wait_healthy().unwrap();
    }
    let history = load.finish(&cluster).unwrap();
    let failed: Vec<_> = history.failed().collect();
    assert!(failed.is_empty(), "{failed:?}");
    account_for(&cluster, &history);
}

#[test]
fn a_retry_after_failover_or_restart_gets_the_first_ack() {
    let mut cluster = cluster();
    let alice = cluster.client("alice", None, Duration::from_secs(30)).unwrap();
    let mut history = History::default();
    let mut resend = |cluster: &Cluster, n: u64, want_duplicate: bool| {
        let id = format!("again-{n}");
        let attempt = cluster.wait(send(&alice, message("bob", &id)));
        let Outcome::Acked { seq, stamp, duplicate } = attempt.outcome.clone() else {
            panic!("{attempt:?}")
        };
        assert_eq!(duplicate, want_duplicate, "{id}");
        if !want_duplicate {
            history.attempts.push(attempt);
        }
        (seq, stamp)
    };
    let first: Vec<_> = (0..20).map(|n| resend(&cluster, n, false)).collect();
    for _ in 0..2 {
        let primary = cluster.wait_primary("n3").unwrap();
        cluster.kill(&primary).unwrap();
        let again: Vec<_> = (0..20).map(|n| resend(&cluster, n, true)).collect();
        assert_eq!(again, first, "after the death of {primary}");
        cluster.start_node(&primary).unwrap();
        cluster.wait_healthy().unwrap();
    }
    for node in cluster.names() {
        cluster.kill(&node).unwrap();
    }
    cluster.start_all().unwrap();
    cluster.wait_healthy().unwrap();
    let again: Vec<_> = (0..20).map(|n| resend(&cluster, n, true)).collect();
    assert_eq!(again, first, "after a restart of all nodes");
    account_for(&cluster, &history);
}

#[test]
fn eight_copies_of_a_send_at_the_same_moment_are_one() {
    let mut cluster = cluster();
    let names = cluster.names();
    let primary = cluster.wait_primary("n1").unwrap();
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let via = names.iter().filter(|name| **name != primary).nth(n % 2).unwrap();
            cluster.client("alice", Some(via), Duration::from_secs(30)).unwrap()
        })
        .collect();
    let copies = |cluster: &Cluster, id: &str| {
        let tasks: Vec<_> = clients
            .iter()
            .map(|client| {
                let (client, message) = (client.clone(), message("bob", id));
                cluster.runtime().spawn(async move { send(&client, message).await })
            })
            .collect();
        tasks.into_iter().map(|task| cluster.wait(task).unwrap()).collect::<Vec<_>>()
    };
    let one = |attempts: &[tests::Attempt]| {
        let mut acks = std::collections::BTreeSet::new();
        let mut new = 0;
        for attempt in attempts {
            let Outcome::Acked { seq, stamp, duplicate } = &attempt.outcome else {
                panic!("{attempt:?}")
            };
            acks.insert((*seq, stamp.clone()));
            new += u32::from(!duplicate);
        }
        assert_eq!(acks.len(), 1, "{attempts:?}");
        new
    };
    for round in 0..10 {
        assert_eq!(one(&copies(&cluster, &format!("calm-{round}"))), 1);
    }
    // And with the primary dead while they are in flight: then the one that was stored may be a
    // retry's, and all know it as stored before.
    let racing = {
        let id = "racing";
        let tasks: Vec<_> = clients
            .iter()
            .map(|client| {
                let (client, message) = (client.clone(), message("bob", id));
                cluster.runtime().spawn(async move { send(&client, message).await })
            })
            .collect();
        cluster.kill(&primary).unwrap();
        tasks.into_iter().map(|task| cluster.wait(task).unwrap()).collect::<Vec<_>>()
    };
    assert!(one(&racing) <= 1);
    cluster.start_all().unwrap();
    account_for(&cluster, &History { attempts: racing });
}

#[test]
fn a_primary_that_was_paused_serves_nothing_old() {
    let mut cluster = cluster();
    let load = Load::start(&cluster, &["alice", "bob"], 2, "bob", "pause").unwrap();
    let readers = Readers::start(&cluster, &load).unwrap();
    let watch = Watch::start(&cluster).unwrap();
    for _ in 0..3 {
        load.wait_more(30).unwrap();
        let paused = cluster.wait_primary("n1").unwrap();
        let survivor = others(&cluster, &paused).remove(0);
        cluster.node(&paused).unwrap().signal(Signal::STOP).unwrap();
        tests::until("another primary", || {
            let status = cluster.status(&survivor).map_err(|error| error.to_string())?;
            let other = status.quorum && status.primary != paused;
            tests::patience::when(other, format!("{} leads", status.primary))
        })
        .unwrap();
        load.wait_more(30).unwrap();
        let newest = cluster.records(&survivor, false).unwrap().last().unwrap().seq;
        // The very first thing it does is to answer a read: it must not be from before.
        cluster.node(&paused).unwrap().signal(Signal::CONT).unwrap();
        let after = vec![proto::wire::Position { shard: 1, seq: newest - 1 }];
        let read = Read { after, limit: 1, ..Read::default() };
        let answer = cluster.ask(&paused, Op::Read(read)).unwrap().reply;
        let Some(proto::wire::Reply::Page(page)) = answer else { panic!("{answer:?}") };
        assert_eq!(page.records.first().map(|record| record.seq), Some(newest), "a stale read");
        cluster.wait_healthy().unwrap();
    }
    let led = watch.finish(&cluster).unwrap();
    assert_eq!(checks::one_primary_per_term(&led), Vec::<String>::new());
    fresh(&cluster, readers);
    let history = load.finish(&cluster).unwrap();
    account_for(&cluster, &history);
}

/// Ends the readers; all that they were shown must have been fresh.
#[track_caller]
fn fresh(cluster: &Cluster, readers: Readers) {
    let reads = readers.finish(cluster).unwrap();
    assert!(reads.len() > 20, "only {} reads were answered", reads.len());
    assert_eq!(checks::reads_are_fresh(&reads), Vec::<String>::new());
}

#[test]
fn reads_are_fresh_through_every_node_while_primaries_die() {
    let mut cluster = cluster();
    let load = Load::start(&cluster, &["alice"], 4, "bob", "fresh").unwrap();
    let readers = Readers::start(&cluster, &load).unwrap();
    for round in 0..4 {
        load.wait_more(50).unwrap();
        let primary = cluster.wait_primary("n2").unwrap();
        if round % 2 == 0 {
            cluster.kill(&primary).unwrap();
        } else {
            cluster.stop(&primary).unwrap();
        }
        load.wait_more(50).unwrap();
        cluster.start_node(&primary).unwrap();
        cluster.wait_healthy().unwrap();
    }
    fresh(&cluster, readers);
    let history = load.finish(&cluster).unwrap();
    account_for(&cluster, &history);
}

#[test]
fn a_follower_sees_every_message_once_and_in_order() {
    let mut cluster = cluster();
    let path = cluster.folder().join("followed");
    let follow =
        ["--as", "bob", "read", "--follow", "--from", "0", "-o", "ndjson", "--timeout", "60s"];
    let mut command = cluster.user().command(&follow).unwrap();
    let mut follower = command.stdout(std::fs::File::create(&path).unwrap()).spawn().unwrap();
    let load = Load::start(&cluster, &["alice"], 4, "bob", "follow").unwrap();
    for round in 0..3 {
        load.wait_more(100).unwrap();
        // The node that it follows through, whichever that is, and the primary are among them.
        let node = cluster.names().remove(round);
        cluster.kill(&node).unwrap();
        load.wait_more(100).unwrap();
        cluster.start_node(&node).unwrap();
        cluster.wait_healthy().unwrap();
    }
    let history = load.finish(&cluster).unwrap();
    account_for(&cluster, &history);
    let wanted: Vec<u64> =
        cluster.records("n1", false).unwrap().iter().map(|record| record.seq).collect();
    let shown = || -> Vec<u64> {
        let text = std::fs::read_to_string(&path).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let seq =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64();
        whole.lines().map(|line| seq(line).unwrap()).collect()
    };
    tests::until("the last message", || {
        tests::patience::when(shown().last() == wanted.last(), format!("{:?}", shown().last()))
    })
    .unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&follower), Signal::INT)
        .unwrap();
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    assert_eq!(shown(), wanted);
}
