//! Calls spread over gateways: who gets how many, with all nodes there, with one dead, with one more.

use std::collections::BTreeMap;
use std::sync::Arc;

use net::{Client, MemoryRing, Spread};
use proto::member::MemberState;
use proto::wire::{Op, Reply, Slots};
use proto::{ErrorCode, Failure, Role};

use crate::harness::*;

const RR: Spread = Spread::RoundRobin;

/// Calls one after the other; who answered how often, and how many attempts brought nothing.
async fn calls(
    client: &Client,
    spread: &Spread,
    op: impl Fn(usize) -> Op,
    count: usize,
) -> (BTreeMap<String, u32>, u32) {
    let (mut counts, mut retried) = (BTreeMap::new(), 0);
    for n in 0..count {
        let answer = Box::pin(within(client.call_over(op(n), spread))).await.unwrap();
        assert_eq!(answer.gateway, answer.response.gateway);
        *counts.entry(answer.gateway).or_insert(0) += 1;
        retried += answer.retried;
    }
    (counts, retried)
}

fn table(rows: &[(&str, u32)]) -> BTreeMap<String, u32> {
    rows.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// Three nodes, one dead (before the first request and between two), and a fourth, with pings and with sends.
///
/// Seen to fail with the node that failed left in the ring (12 attempts fail), and with the answer's
/// news of a newer list not waited for (n4 gets two).
#[tokio::test]
async fn twelve_calls_are_four_each_then_six_each_then_three_each() {
    let (pki, world) = (Pki::new(1), World::new());
    let n1 = Node::start(&pki, &world, "n1");
    let n2 = Node::start(&pki, &world, "n2");
    let n3 = Node::start(&pki, &world, "n3");
    let client = client(&pki, &[&n1, &n2, &n3]);
    let all = table(&[("n1", 4), ("n2", 4), ("n3", 4)]);
    assert_eq!(calls(&client, &RR, |_| ping(), 12).await, (all.clone(), 0));
    assert_eq!(calls(&client, &RR, |n| send(&format!("a{n}")), 12).await, (all, 0));
    let at = n2.kill();
    let two = table(&[("n1", 6), ("n3", 6)]);
    assert_eq!(calls(&client, &RR, |n| send(&format!("b{n}")), 12).await, (two.clone(), 1));
    assert_eq!(calls(&client, &RR, |_| ping(), 12).await, (two, 0));
    let _n2 = Node::start_at(pki.issue(Role::Node, "n2"), &world, at);
    let _n4 = Node::start(&pki, &world, "n4");
    world.change("n2", |row| row.incarnation = 2);
    let four = table(&[("n1", 3), ("n2", 3), ("n3", 3), ("n4", 3)]);
    assert_eq!(calls(&client, &RR, |_| ping(), 12).await, (four, 0));
    let ids: Vec<_> = world.log.borrow().iter().map(|record| record.id.clone()).collect();
    assert_eq!(ids.len(), 24, "{ids:?}");
}

/// The other case: the node is dead before the client starts.
#[tokio::test]
async fn a_node_that_is_dead_from_the_start_costs_one_attempt_and_no_call() {
    let (pki, world) = (Pki::new(1), World::new());
    let n1 = Node::start(&pki, &world, "n1");
    let n2 = Node::start(&pki, &world, "n2");
    let n3 = Node::start(&pki, &world, "n3");
    let client = client(&pki, &[&n1, &n2, &n3]);
    n2.kill();
    let two = table(&[("n1", 6), ("n3", 6)]);
    assert_eq!(calls(&client, &RR, |_| ping(), 12).await, (two, 1));
}

/// What the list leaves out gets no turn, though it would answer; what it takes in again does.
#[tokio::test]
async fn the_list_says_who_serves() {
    let (pki, world) = (Pki::new(1), World::new());
    let nodes = ["n1", "n2", "n3"].map(|name| Node::start(&pki, &world, name));
    let client = client(&pki, &[&nodes[0]]);
    let state = |state: MemberState| {
        world.change("n2", |row| {
            row.state = state.as_str().to_owned();
            row.serves = state == MemberState::Joined;
        });
    };
    state(MemberState::Left);
    // The first call brings the list to the client, which knows one node and no more.
    assert_eq!(calls(&client, &RR, |_| ping(), 1).await.0, table(&[("n1", 1)]));
    assert_eq!(calls(&client, &RR, |_| ping(), 4).await.0, table(&[("n1", 2), ("n3", 2)]));
    assert_eq!(client.node_names(), ["n1", "n2", "n3"]);
    state(MemberState::Joined);
    calls(&client, &RR, |_| ping(), 1).await;
    assert_eq!(calls(&client, &RR, |_| ping(), 3).await.0.len(), 3);
}

#[tokio::test]
async fn clients_that_share_a_ring_take_each_turn_once() {
    let (pki, world) = (Pki::new(1), World::new());
    let nodes = ["n1", "n2", "n3"].map(|name| Node::start(&pki, &world, name));
    let mut config = config(pki.issue(Role::Client, "bob"), &[&nodes[0], &nodes[1], &nodes[2]]);
    config.ring = Some(Arc::new(MemoryRing::default()));
    let (one, two) = (Client::new(config.clone()).unwrap(), Client::new(config).unwrap());
    let (one, two) = tokio::join!(
        Box::pin(calls(&one, &RR, |_| ping(), 12)),
        Box::pin(calls(&two, &RR, |_| ping(), 12))
    );
    let both = |name: &str| one.0.get(name).unwrap_or(&0) + two.0.get(name).unwrap_or(&0);
    assert_eq!(["n1", "n2", "n3"].map(both), [8, 8, 8]);
}

#[tokio::test]
async fn a_key_stays_at_its_home_and_moves_on_when_that_is_dead() {
    let (pki, world) = (Pki::new(1), World::new());
    let [n1, n2, n3] = ["n1", "n2", "n3"].map(|name| Node::start(&pki, &world, name));
    world.slots(Slots {
        epoch: 1,
        nodes: ["n1", "n2", "n3"].map(str::to_owned).into(),
        homes: (0..4096).map(|slot| slot % 3).collect(),
    });
    let client = client(&pki, &[&n1, &n2, &n3]);
    for key in ["bob", "@ops", "*", "order 7"] {
        let home = ["n1", "n2", "n3"][usize::from(proto::slots::slot_of_key(key)) % 3];
        let hash = Spread::Hash(key.to_owned());
        assert_eq!(calls(&client, &hash, |_| ping(), 3).await.0, table(&[(home, 3)]), "{key}");
    }
    let key = |place: usize| {
        let mut keys = (0..).map(|n: u32| n.to_string());
        keys.find(|key| usize::from(proto::slots::slot_of_key(key)) % 3 == place).unwrap()
    };
    n2.kill();
    let (counts, retried) = calls(&client, &Spread::Hash(key(1)), |_| ping(), 3).await;
    assert_eq!((counts, retried), (table(&[("n3", 3)]), 1));
}

#[tokio::test]
async fn the_primary_is_asked_where_that_is_wanted() {
    let (pki, world) = (Pki::new(1), World::new());
    let [n1, n2, n3] = ["n1", "n2", "n3"].map(|name| Node::start(&pki, &world, name));
    world.change("n2", |row| row.role = "primary".to_owned());
    let client = client(&pki, &[&n1, &n2, &n3]);
    assert_eq!(calls(&client, &Spread::Primary, |_| ping(), 3).await.0, table(&[("n2", 3)]));
    n2.kill();
    let (counts, _) = calls(&client, &Spread::Primary, |_| ping(), 1).await;
    assert_eq!(counts.values().sum::<u32>(), 1);
}

#[tokio::test]
async fn at_random_means_all_of_them() {
    let (pki, world) = (Pki::new(1), World::new());
    let nodes = ["n1", "n2", "n3"].map(|name| Node::start(&pki, &world, name));
    let client = client(&pki, &[&nodes[0], &nodes[1], &nodes[2]]);
    let mut seen = BTreeMap::new();
    while seen.len() < 3 {
        seen.extend(calls(&client, &Spread::Random, |_| ping(), 1).await.0);
    }
}

#[tokio::test]
async fn a_pinned_gateway_gets_every_turn() {
    let (pki, world) = (Pki::new(1), World::new());
    let nodes = ["n1", "n2"].map(|name| Node::start(&pki, &world, name));
    let mut config = config(pki.issue(Role::Client, "bob"), &[&nodes[0], &nodes[1]]);
    config.via = Some("n2".to_owned());
    let client = Client::new(config).unwrap();
    assert_eq!(calls(&client, &RR, |_| ping(), 4).await.0, table(&[("n2", 4)]));
}

/// The id is drawn once: what was done unseen by one gateway is found by the next.
#[tokio::test]
async fn a_send_that_goes_on_elsewhere_is_stored_once() {
    let (pki, world) = (Pki::new(1), World::new());
    let nodes = ["n1", "n2"].map(|name| Node::start(&pki, &world, name));
    world.script(|node, op| match op {
        Op::Send(_) if node == "n1" => Some(Act::DoAndHangUp),
        _ => None,
    });
    let client = client(&pki, &[&nodes[0], &nodes[1]]);
    let answer = Box::pin(within(client.call_over(send("a"), &RR))).await.unwrap();
    assert_eq!((answer.gateway.as_str(), answer.retried), ("n2", 1));
    assert!(matches!(answer.response.reply, Some(Reply::Ack(ack)) if ack.duplicate));
    assert_eq!(world.log.borrow().len(), 1);
}

/// The fault: a silence of 300 ms is taken for death, and n2 gets no turn any more.
#[tokio::test]
async fn a_node_that_pauses_keeps_its_turns() {
    let (pki, world) = (Pki::new(1), World::new());
    let nodes = ["n1", "n2", "n3"].map(|name| Node::start(&pki, &world, name));
    let client = client(&pki, &[&nodes[0], &nodes[1], &nodes[2]]);
    let all = table(&[("n1", 4), ("n2", 4), ("n3", 4)]);
    assert_eq!(calls(&client, &RR, |_| ping(), 12).await, (all.clone(), 0));
    nodes[1].pause(std::time::Duration::from_millis(600));
    assert_eq!(calls(&client, &RR, |_| ping(), 12).await, (all.clone(), 0));
    assert_eq!(calls(&client, &RR, |n| send(&n.to_string()), 12).await, (all, 0));
}

/// The faults: the next node's turn is taken for a slow one's request, or the slow one leaves the ring.
#[tokio::test]
async fn a_late_answer_moves_its_own_request_alone() {
    let (pki, world) = (Pki::new(1), World::new());
    let nodes = ["n1", "n2", "n3"].map(|name| Node::start(&pki, &world, name));
    let client = client(&pki, &[&nodes[0], &nodes[1], &nodes[2]]);
    let go = tokio::sync::watch::Sender::new(false);
    let (wait, mut slow, mut moved) = (go.subscribe(), false, false);
    world.script(move |node, op| match op {
        Op::Ping(_) if node == "n2" && !slow => {
            slow = true;
            Some(Act::Wait(wait.clone()))
        }
        // The second request here is the next turn: the client has its answer to the first.
        // Let go at the first, the slow answer may overtake the one that it is late for.
        Op::Ping(_) if node == "n3" => {
            if std::mem::replace(&mut moved, true) {
                go.send_replace(true);
            }
            None
        }
        _ => None,
    });
    let moved = table(&[("n1", 4), ("n2", 3), ("n3", 5)]);
    assert_eq!(calls(&client, &RR, |_| ping(), 12).await, (moved, 0));
    let all = table(&[("n1", 4), ("n2", 4), ("n3", 4)]);
    assert_eq!(calls(&client, &RR, |_| ping(), 12).await, (all, 0));
}

/// A refusal for want of a majority is no reason to leave the ring: the next call asks it again.
#[tokio::test]
async fn a_gateway_that_refuses_for_now_keeps_its_turns() {
    let (pki, world) = (Pki::new(1), World::new());
    let nodes = ["n1", "n2"].map(|name| Node::start(&pki, &world, name));
    let mut first = true;
    world.script(move |_, op| match op {
        Op::Ping(_) if std::mem::take(&mut first) => {
            Some(Act::Fail(Failure::new(ErrorCode::NoQuorum, "not now")))
        }
        _ => None,
    });
    let client = client(&pki, &[&nodes[0], &nodes[1]]);
    let (counts, retried) = calls(&client, &RR, |_| ping(), 5).await;
    assert_eq!((counts, retried), (table(&[("n1", 2), ("n2", 3)]), 1));
}

/// For a client that says nothing: it is told that its home is back, and goes there.
///
/// Seen to fail without the subscription (the client stays where it is).
#[tokio::test]
async fn a_client_that_stays_is_told_of_changes() {
    let (pki, world) = (Pki::new(1), World::new());
    let nodes = ["n1", "n2"].map(|name| Node::start(&pki, &world, name));
    let mut config = config(pki.issue(Role::Client, "bob"), &[&nodes[0], &nodes[1]]);
    config.home = Some("n2".to_owned());
    world.change("n2", |row| {
        "left".clone_into(&mut row.state);
        row.serves = false;
    });
    let client = Client::new(config).unwrap();
    // It may begin at home, but the list says that home is closed.
    Box::pin(within(async {
        while Box::pin(client.call(ping())).await.unwrap().gateway != "n1" {}
        world.watched().await;
    }))
    .await;
    assert_eq!(client.gateway().as_deref(), Some("n1"));
    world.change("n2", |row| {
        "joined".clone_into(&mut row.state);
        row.serves = true;
    });
    Box::pin(within(async {
        while client.gateway().as_deref() != Some("n2") {
            tokio::task::yield_now().await;
        }
    }))
    .await;
}
