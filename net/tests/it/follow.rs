//! A followed read goes on where it was, whatever becomes of the gateway.

use std::sync::Arc;

use net::{Client, Follow};
use parking_lot::Mutex;
use proto::wire::{Instant, Op, Position, Read, TimePoint};
use proto::{ErrorCode, Failure};

use crate::harness::*;

async fn collect(follow: &mut Follow, until: u64) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.last() != Some(&until) {
        let page = within(follow.next()).await.unwrap().expect("the end is not here yet");
        seqs.extend(page.records.iter().map(|record| record.seq));
    }
    seqs
}

async fn fill(client: &Client, ids: std::ops::Range<u64>) {
    for id in ids {
        within(client.call(send(&format!("m{id}")))).await.unwrap();
    }
}

fn follow() -> Read {
    Read { follow: true, ..Read::default() }
}

#[tokio::test]
async fn what_comes_is_shown_as_it_comes() {
    let (pki, world) = (Pki::new(1), World::new());
    let node = Node::start(&pki, &world, "n1");
    let client = client(&pki, &[&node]);
    let mut read = within(client.follow(follow())).await.unwrap();
    fill(&client, 0..5).await;
    assert_eq!(collect(&mut read, 5).await, [1, 2, 3, 4, 5]);
    fill(&client, 5..7).await;
    assert_eq!(collect(&mut read, 7).await, [6, 7]);
}

#[tokio::test]
async fn a_killed_gateway_leaves_no_gap_and_no_repetition() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let client = client(&pki, &[&n1, &n2]);
    let mut read = within(client.follow(follow())).await.unwrap();
    fill(&client, 0..4).await;
    assert_eq!(collect(&mut read, 4).await, [1, 2, 3, 4]);
    assert_eq!(client.gateway().as_deref(), Some("n1"));
    n1.kill();
    fill(&client, 4..9).await;
    assert_eq!(collect(&mut read, 9).await, [5, 6, 7, 8, 9]);
    assert_eq!(client.gateway().as_deref(), Some("n2"));
}

#[tokio::test]
async fn an_idle_reader_notices_the_death_by_itself() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let (reader, writer) = (client(&pki, &[&n1, &n2]), client(&pki, &[&n2]));
    let mut read = within(reader.follow(follow())).await.unwrap();
    fill(&writer, 0..1).await;
    assert_eq!(collect(&mut read, 1).await, [1]);
    n1.kill();
    fill(&writer, 1..2).await;
    assert_eq!(collect(&mut read, 2).await, [2]);
}

#[tokio::test]
async fn a_stopping_gateway_is_left_at_once() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let client = client(&pki, &[&n1, &n2]);
    let mut read = within(client.follow(follow())).await.unwrap();
    fill(&client, 0..2).await;
    assert_eq!(collect(&mut read, 2).await, [1, 2]);
    n1.endpoint.close(net::CloseCode::Moving, "n1 is stopping");
    fill(&client, 2..4).await;
    assert_eq!(collect(&mut read, 4).await, [3, 4]);
}

#[tokio::test]
async fn a_read_that_does_not_follow_ends_at_the_end() {
    let (pki, world) = (Pki::new(1), World::new());
    let node = Node::start(&pki, &world, "n1");
    let client = client(&pki, &[&node]);
    fill(&client, 0..8).await;
    let after = vec![Position { shard: 1, seq: 2 }];
    let mut read = within(client.follow(Read { after, ..Read::default() })).await.unwrap();
    assert_eq!(collect(&mut read, 8).await, [3, 4, 5, 6, 7, 8]);
    assert!(within(read.next()).await.unwrap().is_none());
    assert!(within(read.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_limit_holds_across_gateways() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let client = client(&pki, &[&n1, &n2]);
    fill(&client, 0..3).await;
    let limited = Read { limit: 5, follow: true, ..Read::default() };
    let mut read = within(client.follow(limited)).await.unwrap();
    assert_eq!(collect(&mut read, 3).await, [1, 2, 3]);
    n1.kill();
    fill(&client, 3..9).await;
    assert_eq!(collect(&mut read, 5).await, [4, 5]);
    assert!(within(read.next()).await.unwrap().is_none());
}

/// The fault: every gateway is asked for the time as it was given, and n2 makes another "now" of it.
#[tokio::test]
async fn a_relative_time_is_the_instant_that_it_was_at_the_first_gateway() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asking = Arc::clone(&asked);
    world.script(move |node, op| {
        if let Op::Read(read) = op {
            asking.lock().push((node.to_owned(), read.clone()));
        }
        None
    });
    let client = client(&pki, &[&n1, &n2]);
    fill(&client, 0..1).await;
    let since = Some(TimePoint { at: Some(Instant::AgoNs(5)) });
    let mut read = within(client.follow(Read { since, ..follow() })).await.unwrap();
    assert_eq!(collect(&mut read, 1).await, [1]);
    n1.kill();
    fill(&client, 1..2).await;
    assert_eq!(collect(&mut read, 2).await, [2]);
    let asked = asked.lock();
    let [(first, relative), .., (last, exact)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((first.as_str(), last.as_str()), ("n1", "n2"));
    assert!(relative.is_relative() && !exact.is_relative());
    let resolved = b"n1n1n1n1n1n1".to_vec();
    assert_eq!(exact.since, Some(TimePoint { at: Some(Instant::Hlc(resolved)) }));
    assert_eq!(exact.after, [Position { shard: 1, seq: 1 }]);
}

/// The first gateway dies before it has said what it made of it: "now" is still when the read began.
#[tokio::test]
async fn a_relative_time_counts_from_the_beginning_of_the_read() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asking = Arc::clone(&asked);
    world.script(move |node, op| {
        let Op::Read(read) = op else { return None };
        asking.lock().push(read.clone());
        (node == "n1").then_some(Act::Hold)
    });
    let client = client(&pki, &[&n1, &n2]);
    fill(&client, 0..1).await;
    let since = Some(TimePoint { at: Some(Instant::AgoNs(5)) });
    let mut read = within(client.follow(Read { since, ..follow() })).await.unwrap();
    assert_eq!(collect(&mut read, 1).await, [1]);
    let ago = |read: &Read| match read.since.as_ref().and_then(|since| since.at.clone()) {
        Some(Instant::AgoNs(ago)) => ago,
        other => panic!("{other:?}"),
    };
    let asked = asked.lock();
    // n1 was given some time before n2 was asked.
    assert!(ago(&asked[1]) > ago(&asked[0]) + 1_000_000, "{asked:?}");
}

/// The fault: the reader stays with a gateway that is told nothing any more.
#[tokio::test]
async fn an_idle_reader_leaves_a_gateway_that_hears_nobody() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    world.script(|node, op| match op {
        Op::Read(read) if node == "n1" && !read.follow => {
            Some(Act::Fail(Failure::new(ErrorCode::NoQuorum, "it hears no primary")))
        }
        _ => None,
    });
    let (client, writer) = (client(&pki, &[&n1, &n2]), client(&pki, &[&n2]));
    let mut read = within(client.follow(follow())).await.unwrap();
    fill(&writer, 0..1).await;
    assert_eq!(collect(&mut read, 1).await, [1]);
    assert_eq!(client.gateway().as_deref(), Some("n1"));
    let idle = async {
        tokio::select! {
            page = read.next() => panic!("nothing was sent: {page:?}"),
            () = async { while client.gateway().as_deref() != Some("n2") { tokio::task::yield_now().await; } } => {}
        }
    };
    within(idle).await;
    fill(&writer, 1..2).await;
    assert_eq!(collect(&mut read, 2).await, [2]);
}

#[tokio::test]
async fn a_refused_read_ends_with_the_reason() {
    let (pki, world) = (Pki::new(1), World::new());
    let node = Node::start(&pki, &world, "n1");
    world.script(|_, op| match op {
        Op::Read(_) => Some(Act::Fail(Failure::new(ErrorCode::Denied, "not your cursor"))),
        _ => None,
    });
    let mut read = within(client(&pki, &[&node]).follow(follow())).await.unwrap();
    let error = within(read.next()).await.unwrap_err();
    assert_eq!((error.exit_code().number(), error.to_string()), (4, "not your cursor".to_owned()));
}
