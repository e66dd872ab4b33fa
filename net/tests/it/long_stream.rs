//! Small messages share one stream, whichever release the other side is of, and whatever comes there
//! that should not.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::future::join_all;
use net::{Client, ClientConfig};
use prost::Message;
use proto::frame::{NUMBERED_HEADER_BYTES, encode, numbered, numbered_header};
use proto::limits::{CLIENT_NUMBERED_MAX, NUMBERED_BYTES_MAX};
use proto::wire::{CLIENT_ALPN, CLIENT_NUMBERED_ALPN, Op, Read, Reply, Request, Response, Send};
use proto::{ErrorCode, Role};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};

use crate::harness::{Act, Node, Pki, World, any_port, config, ping, send, within};

/// A node that keeps no log: it answers what it knows and counts the streams that calls came on.
async fn strange_node(pki: &Pki, alpns: &[&[u8]]) -> (String, tokio::task::JoinHandle<usize>) {
    let tls = pki.issue(Role::Node, "n1").server_config(alpns).unwrap();
    let tls = QuicServerConfig::try_from(tls).unwrap();
    let server = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let endpoint = Endpoint::server(server, any_port()).unwrap();
    let address = endpoint.local_addr().unwrap().to_string();
    let serves = tokio::spawn(async move {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let mut streams = 0;
        while let Ok((tx, rx)) = connection.accept_bi().await {
            streams += 1;
            tokio::spawn(answer_all(tx, rx));
        }
        streams
    });
    (address, serves)
}

/// Says pong to everything, in the way of the question.
async fn answer_all(mut tx: SendStream, mut rx: RecvStream) {
    let response =
        Response { reply: Some(Reply::Pong(proto::wire::Empty {})), ..Response::default() };
    let payload = response.encode_to_vec();
    let mut begun = [0; 5];
    rx.read_exact(&mut begun).await.unwrap();
    if begun[4] == 1 {
        drop(rx);
        tx.write_all(&encode(&response).unwrap()).await.unwrap();
        return;
    }
    let mut header = [0; NUMBERED_HEADER_BYTES];
    header[..5].copy_from_slice(&begun);
    rx.read_exact(&mut header[5..]).await.unwrap();
    loop {
        let (number, len) = numbered(header).unwrap();
        rx.read_exact(&mut vec![0; len]).await.unwrap();
        let head = numbered_header(number, payload.len()).unwrap();
        tx.write_all(&[&head[..], &payload].concat()).await.unwrap();
        if rx.read_exact(&mut header).await.is_err() {
            return;
        }
    }
}

async fn streams_of(alpns: &[&[u8]], ops: impl Iterator<Item = Op>) -> usize {
    let pki = Pki::new(1);
    let (address, serves) = strange_node(&pki, alpns).await;
    let config = ClientConfig {
        timeout: Duration::from_secs(20),
        ..ClientConfig::new(vec![address], pki.issue(Role::Client, "bob"))
    };
    let client = Client::new(config).unwrap();
    for answer in within(join_all(ops.map(|op| client.call(op)))).await {
        assert!(matches!(answer.unwrap().reply, Some(Reply::Pong(_))));
    }
    within(client.close()).await;
    within(serves).await.unwrap()
}

#[tokio::test]
async fn small_messages_share_a_stream_where_the_node_knows_how() {
    let many = || (0..50).map(|n| send(&format!("m{n}")));
    assert_eq!(streams_of(&[CLIENT_NUMBERED_ALPN, CLIENT_ALPN], many()).await, 1);
    // An earlier release.
    assert_eq!(streams_of(&[CLIENT_ALPN], many()).await, 50);
    let body = vec![0; NUMBERED_BYTES_MAX].into();
    let large = Op::Send(Send { body, ..Send::default() });
    let mixed = [large, ping(), send("small"), send("too")].into_iter();
    assert_eq!(streams_of(&[CLIENT_NUMBERED_ALPN], mixed).await, 3);
}

/// A connection past our own client.
async fn raw(pki: &Pki, node: &Node, alpn: &[u8]) -> Connection {
    let tls = pki.issue(Role::Client, "bob").client_config(&[alpn]).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = Endpoint::client(any_port()).unwrap();
    let name = certs::any_node(&pki.cluster);
    within(endpoint.connect_with(config, node.address, &name).unwrap()).await.unwrap()
}

fn numbered_frame(number: u64, payload: &[u8]) -> Vec<u8> {
    [&numbered_header(number, payload.len()).unwrap()[..], payload].concat()
}

fn asks(op: Op) -> Vec<u8> {
    Request { op: Some(op), ..Request::default() }.encode_to_vec()
}

async fn answer(rx: &mut RecvStream) -> (u64, Reply) {
    let mut header = [0; NUMBERED_HEADER_BYTES];
    within(rx.read_exact(&mut header)).await.unwrap();
    let (number, len) = numbered(header).unwrap();
    let mut payload = BytesMut::zeroed(len);
    within(rx.read_exact(&mut payload)).await.unwrap();
    (number, Response::decode(payload.freeze()).unwrap().reply.unwrap())
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_disturbs_no_other() {
    let (pki, world) = (Pki::new(1), World::new());
    let node = Node::start(&pki, &world, "n1");
    let connection = raw(&pki, &node, CLIENT_NUMBERED_ALPN).await;
    let (mut tx, mut rx) = connection.open_bi().await.unwrap();
    let follow = Op::Read(Read { follow: true, ..Read::default() });
    let said = [
        numbered_frame(7, &asks(follow)),
        numbered_frame(8, b"\xff\xff\xff"),
        numbered_frame(9, &asks(send("good"))),
    ];
    tx.write_all(&said.concat()).await.unwrap();
    for number in [7, 8] {
        let (told, reply) = answer(&mut rx).await;
        let Reply::Failure(failure) = reply else { panic!("{reply:?}") };
        assert_eq!((told, failure.error_code()), (number, ErrorCode::Invalid), "{failure}");
    }
    assert!(matches!(answer(&mut rx).await, (9, Reply::Ack(_))));
    // The same number again, once it is answered, is another request.
    tx.write_all(&numbered_frame(9, &asks(send("again")))).await.unwrap();
    assert!(matches!(answer(&mut rx).await, (9, Reply::Ack(_))));
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection() {
    let (pki, world) = (Pki::new(1), World::new());
    let node = Node::start(&pki, &world, "n1");
    world.script(|_, op| matches!(op, Op::Send(_)).then_some(Act::Hold));
    let twice = numbered_frame(1, &asks(send("a")));
    let too_long = numbered_header(1, NUMBERED_BYTES_MAX + 1).unwrap();
    for (said, why) in [
        (twice.repeat(2), "two requests with one number"),
        (too_long.to_vec(), "a frame of"),
        (
            [numbered_frame(1, b""), encode(&Request::default()).unwrap().repeat(3)].concat(),
            "version",
        ),
    ] {
        let connection = raw(&pki, &node, CLIENT_NUMBERED_ALPN).await;
        let (mut tx, _rx) = connection.open_bi().await.unwrap();
        tx.write_all(&said).await.unwrap();
        match within(connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => {
                let reason = String::from_utf8_lossy(&close.reason).into_owned();
                assert!(reason.contains(why), "{reason}");
            }
            other => panic!("{other}"),
        }
    }
}

/// What one connection has open is bounded, and the rest waits: nothing is lost or refused for it.
#[tokio::test]
async fn more_than_a_connection_may_have_open_waits() {
    let (pki, world) = (Pki::new(1), World::new());
    let node = Node::start(&pki, &world, "n1");
    let (go, goes) = tokio::sync::watch::channel(false);
    world.script(move |_, op| matches!(op, Op::Send(_)).then(|| Act::Wait(goes.clone())));
    let timeout = Duration::from_secs(60);
    let config = ClientConfig { timeout, ..config(pki.issue(Role::Client, "bob"), &[&node]) };
    let client = Client::new(config).unwrap();
    let count = CLIENT_NUMBERED_MAX + 200;
    let asked: Vec<_> = (0..count)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.call(send(&format!("m{n}"))).await })
        })
        .collect();
    within(async {
        while world.served("n1") < CLIENT_NUMBERED_MAX as u64 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(world.served("n1"), CLIENT_NUMBERED_MAX as u64);
    go.send_replace(true);
    for asked in asked {
        let answer = within(asked).await.unwrap().unwrap();
        assert!(matches!(answer.reply, Some(Reply::Ack(_))));
    }
    assert_eq!(world.log.borrow().len(), count);
}
