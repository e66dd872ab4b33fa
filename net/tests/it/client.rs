//! The client finds a node that serves, and says honestly what became of a call.

use std::sync::Arc;
use std::time::Duration;

use net::{Client, ClientConfig, ClientError};
use parking_lot::Mutex;
use proto::wire::{Empty, Op, Reply};
use proto::{ErrorCode, Failure, Role};

use crate::harness::*;

async fn gateway_of(client: &Client) -> String {
    within(client.call(ping())).await.unwrap().gateway
}

#[tokio::test]
async fn a_request_is_answered_through_any_one_address() {
    let (pki, world) = (Pki::new(1), World::new());
    let node = Node::start(&pki, &world, "n1");
    let config = ClientConfig::new(vec![node.address.to_string()], pki.issue(Role::Client, "bob"));
    let client = Client::new(config).unwrap();
    let answer = within(client.call(send("a"))).await.unwrap();
    assert!(matches!(answer.reply, Some(Reply::Ack(ack)) if ack.seq == 1 && !ack.duplicate));
    assert_eq!(client.gateway().as_deref(), Some("n1"));
    assert_eq!(world.log.borrow()[0].from, "bob");
    within(client.close()).await;
}

#[tokio::test]
async fn many_calls_share_one_connection() {
    let (pki, world) = (Pki::new(1), World::new());
    let node = Node::start(&pki, &world, "n1");
    let client = client(&pki, &[&node]);
    let calls = (0..1000).map(|i| {
        let client = client.clone();
        async move { client.call(send(&format!("m{i}"))).await.unwrap() }
    });
    within(futures::future::join_all(calls)).await;
    assert_eq!(world.log.borrow().len(), 1000);
}

#[tokio::test]
async fn large_requests_pass_many_at_a_time() {
    let (pki, world) = (Pki::new(1), World::new());
    let node = Node::start(&pki, &world, "n1");
    let client = client(&pki, &[&node]);
    let body = bytes::Bytes::from(vec![7; 1 << 20]);
    let calls = (0..40).map(|i| {
        let (client, body) = (client.clone(), body.clone());
        let op = proto::wire::Send {
            to: "bob".into(),
            id: format!("m{i}"),
            headers: vec![],
            body,
            ..Default::default()
        };
        async move { client.call(Op::Send(op)).await.unwrap() }
    });
    within(futures::future::join_all(calls)).await;
    assert!(world.log.borrow().iter().all(|record| record.body == body));
}

#[tokio::test]
async fn a_killed_gateway_costs_less_than_a_second() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let client = client(&pki, &[&n1, &n2]);
    assert_eq!(gateway_of(&client).await, "n1");
    n1.kill();
    let calls = (0..50).map(|i| {
        let client = client.clone();
        async move { client.call(send(&format!("m{i}"))).await.unwrap() }
    });
    let answers = within(futures::future::join_all(calls)).await;
    assert!(answers.iter().all(|answer| answer.gateway == "n2"));
    assert_eq!(client.gateway().as_deref(), Some("n2"));
}

#[tokio::test]
async fn a_dead_first_address_is_passed_over() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let config = config(pki.issue(Role::Client, "bob"), &[&n1, &n2]);
    n1.kill();
    assert_eq!(gateway_of(&Client::new(config).unwrap()).await, "n2");
}

#[tokio::test]
async fn a_slow_gateway_is_not_taken_for_a_dead_one() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asking = Arc::clone(&asked);
    world.script(move |node, op| {
        matches!(op, Op::Get(_)).then(|| {
            asking.lock().push(node.to_owned());
            Act::Hold
        })
    });
    let mut config = config(pki.issue(Role::Client, "bob"), &[&n1, &n2]);
    config.timeout = Duration::from_secs(2);
    let client = Client::new(config).unwrap();
    let slow = client.call(Op::Get(Default::default()));
    let error = within(slow).await.unwrap_err();
    // One second for each of two gateways, the second asked while the first still had time.
    assert!(matches!(&error, ClientError::Failure(f) if f.error_code() == ErrorCode::Deadline));
    assert_eq!(error.exit_code().number(), 7);
    assert_eq!(asked.lock()[..2], ["n1", "n2"]);
}

/// The fault: half of the call's time for one gateway, and only then another one.
#[tokio::test]
async fn a_gateway_that_takes_long_gets_company() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let (held, seen) = (Arc::clone(&world), Arc::new(Mutex::new(0)));
    let saw = Arc::clone(&seen);
    world.script(move |node, op| match op {
        Op::Send(_) | Op::Get(_) if node == "n1" => Some(Act::Hold),
        Op::Send(_) | Op::Get(_) => {
            *saw.lock() += *held.held.lock();
            None
        }
        _ => None,
    });
    let client = client(&pki, &[&n1, &n2]);
    assert_eq!(gateway_of(&client).await, "n1");
    let answer = within(client.call(send("a"))).await.unwrap();
    assert!(matches!(answer.reply, Some(Reply::Ack(ack)) if ack.gateway == "n2"));
    assert_eq!((*seen.lock(), world.log.borrow().len()), (1, 1));
    // What must not be out twice waits for its gateway, and goes on only when that is over.
    let mut config = config(pki.issue(Role::Client, "bob"), &[&n1, &n2]);
    config.timeout = Duration::from_secs(2);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asking = Arc::clone(&asked);
    let held = Arc::clone(&world);
    world.script(move |node, op| {
        matches!(op, Op::Delete(_)).then(|| {
            asking.lock().push((node.to_owned(), *held.held.lock()));
            Act::Hold
        })
    });
    let delete = Op::Delete(proto::wire::Delete { id: "a".into(), ..Default::default() });
    let error = within(Client::new(config).unwrap().call(delete)).await.unwrap_err();
    assert_eq!(error.exit_code().number(), 7);
    assert!(asked.lock().len() >= 2);
}

/// The fault: a client that stays where "unknown" was heard.
#[tokio::test]
async fn a_gateway_that_does_not_know_is_left() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let spreads = [net::Spread::Home, net::Spread::Random, net::Spread::Primary];
    for (n, spread) in spreads.into_iter().enumerate() {
        let mut asked = Vec::new();
        world.script(move |node, op| match op {
            // Whoever is asked first does not know, as often as it is asked.
            Op::Send(_) => {
                asked.push(node.to_owned());
                let unknown = || Act::Fail(Failure::new(ErrorCode::Unknown, "nobody can say"));
                (asked[0] == node).then(unknown)
            }
            _ => None,
        });
        let client = client(&pki, &[&n1, &n2]);
        let op = send(&format!("m{n}"));
        let answer = within(client.call_over(op, &spread)).await.unwrap();
        assert_eq!(answer.retried, 1, "{spread:?}");
    }
}

/// The fault: "there is no node n4", because the list that was kept knows none.
#[tokio::test]
async fn a_pinned_node_that_has_just_joined_is_found() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, _n4) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n4"));
    let mut config = config(pki.issue(Role::Client, "bob"), &[&n1]);
    config.via = Some("n4".to_owned());
    assert_eq!(gateway_of(&Client::new(config.clone()).unwrap()).await, "n4");
    // One that has moved as well: what was told of it leads nowhere.
    let nowhere = Node::start(&pki, &World::new(), "n4").kill();
    config.addresses.push(format!("n4={nowhere}"));
    assert_eq!(gateway_of(&Client::new(config.clone()).unwrap()).await, "n4");
    // Where nobody answers, nobody says that there is none.
    n1.kill();
    config.via = Some("n9".to_owned());
    config.addresses.truncate(1);
    let error = within(Client::new(config).unwrap().call(ping())).await.unwrap_err();
    assert_eq!(error.exit_code().number(), 3, "{error}");
}

#[tokio::test]
async fn the_live_list_is_learnt_kept_and_used_by_the_next_process() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let mut config = config(pki.issue(Role::Client, "bob"), &[&n1]);
    config.cache = Some(pki.path("state/nodes.json"));
    let first = Client::new(config.clone()).unwrap();
    assert_eq!(gateway_of(&first).await, "n1");
    within(first.close()).await;
    n1.kill();
    let second = Client::new(config.clone()).unwrap();
    assert_eq!(gateway_of(&second).await, "n2");
    drop(n2);
    // Whatever stands in the file, it is no more than a help.
    for garbage in ["", "{", "[1,2]", "{\"cluster\":\"x\",\"epoch\":1,\"nodes\":[]}"] {
        std::fs::write(pki.path("state/nodes.json"), garbage).unwrap();
        assert!(Client::new(config.clone()).is_ok());
    }
}

#[tokio::test]
async fn home_is_preferred_and_gone_back_to() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let mut config = config(pki.issue(Role::Client, "bob"), &[&n1, &n2]);
    config.home = Some("n2".to_owned());
    let client = Client::new(config).unwrap();
    assert_eq!(gateway_of(&client).await, "n2");
    let at = n2.kill();
    assert_eq!(gateway_of(&client).await, "n1");
    let _back = Node::start_at(pki.issue(Role::Node, "n2"), &world, at);
    within(async { while gateway_of(&client).await != "n2" {} }).await;
}

#[tokio::test]
async fn a_pinned_gateway_is_the_only_one() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let mut config = config(pki.issue(Role::Client, "bob"), &[&n1, &n2]);
    config.via = Some("n2".to_owned());
    let client = Client::new(config.clone()).unwrap();
    assert_eq!(gateway_of(&client).await, "n2");
    // Without names, the certificate tells which address is meant.
    config.addresses = vec![n1.address.to_string(), n2.address.to_string()];
    assert_eq!(gateway_of(&Client::new(config.clone()).unwrap()).await, "n2");
    n2.kill();
    let error = within(client.call(ping())).await.unwrap_err();
    assert_eq!((error.exit_code().number(), world.served("n1")), (3, 0), "{error}");
    config.addresses = vec![format!("n1={}", n1.address)];
    config.via = Some("n9".to_owned());
    let error = within(Client::new(config).unwrap().call(ping())).await.unwrap_err();
    assert_eq!(
        (error.exit_code().number(), error.to_string()),
        (5, "there is no node n9".to_owned())
    );
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_says_who_was_tried() {
    let (pki, world) = (Pki::new(1), World::new());
    let n1 = Node::start(&pki, &world, "n1");
    let config = config(pki.issue(Role::Client, "bob"), &[&n1]);
    let at = n1.kill();
    let error = within(Client::new(config).unwrap().call(send("a"))).await.unwrap_err();
    assert_eq!(error.exit_code().number(), 3);
    assert!(error.to_string().contains(&format!("n1 at {at}")), "{error}");
}

#[tokio::test]
async fn a_refusal_that_may_pass_is_asked_again() {
    let (pki, world) = (Pki::new(1), World::new());
    let node = Node::start(&pki, &world, "n1");
    let mut left =
        [ErrorCode::Busy, ErrorCode::NoQuorum, ErrorCode::Stopping, ErrorCode::Unknown].into_iter();
    world.script(move |_, op| match op {
        Op::Send(_) => left.next().map(|code| Act::Fail(Failure::new(code, "not now"))),
        _ => None,
    });
    let client = client(&pki, &[&node]);
    let answer = within(client.call(send("a"))).await.unwrap();
    assert!(matches!(answer.reply, Some(Reply::Ack(_))));
    assert_eq!(world.served("n1"), 5);
}

#[tokio::test]
async fn a_final_refusal_is_not_asked_again() {
    let (pki, world) = (Pki::new(1), World::new());
    let node = Node::start(&pki, &world, "n1");
    world.script(|_, _| Some(Act::Fail(Failure::new(ErrorCode::NotFound, "who is that?"))));
    let error = within(client(&pki, &[&node]).call(send("a"))).await.unwrap_err();
    assert_eq!((error.exit_code().number(), error.to_string()), (5, "who is that?".to_owned()));
    assert_eq!(world.served("n1"), 1);
}

#[tokio::test]
async fn what_was_done_unseen_is_found_by_its_id() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    world.script(|node, op| match op {
        Op::Send(_) if node == "n1" => Some(Act::DoAndHangUp),
        _ => None,
    });
    let answer = within(client(&pki, &[&n1, &n2]).call(send("a"))).await.unwrap();
    assert!(matches!(answer.reply, Some(Reply::Ack(ack)) if ack.duplicate && ack.seq == 1));
    assert_eq!(world.log.borrow().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_known_is_called_unknown() {
    let (pki, world) = (Pki::new(1), World::new());
    let n1 = Node::start(&pki, &world, "n1");
    world.script(|_, op| matches!(op, Op::Send(_)).then_some(Act::DoAndHangUp));
    let mut config = config(pki.issue(Role::Client, "bob"), &[&n1]);
    config.timeout = Duration::from_secs(1);
    let client = Client::new(config).unwrap();
    let error = within(client.call(send("a"))).await.unwrap_err();
    assert!(matches!(&error, ClientError::Failure(f) if f.error_code() == ErrorCode::Unknown));
    assert_eq!(error.exit_code().number(), 7);
    // A refusal afterwards does not make it known.
    let mut first = true;
    world.script(move |_, op| match op {
        Op::Send(_) if std::mem::take(&mut first) => Some(Act::DoAndHangUp),
        Op::Send(_) => Some(Act::Fail(Failure::new(ErrorCode::NoQuorum, "no majority"))),
        _ => None,
    });
    let error = within(client.call(send("b"))).await.unwrap_err();
    assert!(matches!(&error, ClientError::Failure(f) if f.error_code() == ErrorCode::Unknown));
}

#[tokio::test]
async fn no_quorum_is_reported_once_the_time_is_over() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    world.script(|_, op| match op {
        Op::Send(_) => Some(Act::Fail(Failure::new(ErrorCode::NoQuorum, "no majority"))),
        _ => None,
    });
    let mut config = config(pki.issue(Role::Client, "bob"), &[&n1, &n2]);
    config.timeout = Duration::from_secs(1);
    let error = within(Client::new(config).unwrap().call(send("a"))).await.unwrap_err();
    assert_eq!((error.exit_code().number(), error.to_string()), (11, "no majority".to_owned()));
    assert!(world.served("n1") > 0 && world.served("n2") > 0);
}

#[tokio::test]
async fn a_stopping_gateway_hands_its_clients_over() {
    let (pki, world) = (Pki::new(1), World::new());
    let (n1, n2) = (Node::start(&pki, &world, "n1"), Node::start(&pki, &world, "n2"));
    let client = client(&pki, &[&n1, &n2]);
    assert_eq!(gateway_of(&client).await, "n1");
    n1.endpoint.close(net::CloseCode::Moving, "n1 is stopping");
    within(n1.endpoint.wait_idle()).await;
    assert_eq!(gateway_of(&client).await, "n2");
}

#[tokio::test]
async fn stamps_seen_are_carried_along() {
    let (pki, world) = (Pki::new(1), World::new());
    let node = Node::start(&pki, &world, "n1");
    let mut config = config(pki.issue(Role::Client, "bob"), &[&node]);
    let earlier = clock::Hlc::from_ns(77);
    config.causal_token = Some(earlier);
    let client = Client::new(config).unwrap();
    assert_eq!(client.causal_token(), Some(earlier));
    within(client.call(Op::Ping(Empty {}))).await.unwrap();
    assert_eq!(client.causal_token(), Some(earlier));
}

#[tokio::test]
async fn a_wrong_configuration_is_named() {
    let pki = Pki::new(1);
    let make = |address: &str| {
        let addresses = vec![address.to_owned()];
        Client::new(ClientConfig::new(addresses, pki.issue(Role::Client, "bob")))
    };
    for (address, wrong) in [("localhost", "host:port"), ("x:99999", "host:port"), ("N1=x:1", "N1")]
    {
        let error = make(address).unwrap_err();
        assert!(error.exit_code().number() == 2 && error.to_string().contains(wrong), "{error}");
    }
    let none = ClientConfig::new(vec![], pki.issue(Role::Client, "bob"));
    assert_eq!(Client::new(none).unwrap_err().exit_code().number(), 2);
}
