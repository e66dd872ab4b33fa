//! Whoever is not in order is refused, both sides know why, and everyone else is served on.

use std::sync::Arc;

use bytes::Bytes;
use certs::Credentials;
use futures::FutureExt as _;
use net::{Client, ClientError};
use prost::Message;
use proto::frame::{self, HEADER_BYTES, VERSION};
use proto::limits::CLIENT_BYTES_MAX;
use proto::peer::PEER_ALPN;
use proto::wire::{CLIENT_ALPN, Op, Reply, Request, Response};
use proto::{ErrorCode, Failure, Role};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint};
use tokio::net::UdpSocket;

use crate::harness::*;

/// A node on this thread, so that its log can be read here.
struct Local {
    endpoint: net::Endpoint,
    logs: Logs,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Local {
    fn start(pki: &Pki) -> Self {
        Self::start_for(pki, proto::limits::CLIENT_CONNECTIONS_MAX)
    }

    fn start_for(pki: &Pki, clients_max: usize) -> Self {
        let (logs, guard) = Logs::collect();
        let own = pki.issue(Role::Node, "n1");
        let endpoint = net::Endpoint::bind_for(any_port(), &own, clients_max).unwrap();
        let accepting = endpoint.clone();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Some(accepted) = accepting.accept().await {
                match accepted {
                    net::Accepted::Client(connection) => {
                        tokio::spawn(pong(connection));
                    }
                    net::Accepted::Peer(connection) => kept.push(connection),
                    net::Accepted::Joiner(_) => {}
                }
            }
        });
        Self { endpoint, logs, _guard: guard }
    }

    fn address(&self) -> String {
        self.endpoint.local_addr().to_string()
    }

    async fn call(&self, credentials: Credentials) -> Result<Response, ClientError> {
        let config = net::ClientConfig::new(vec![self.address()], credentials);
        within(Client::new(config).unwrap().call(ping())).await
    }

    /// The other side may know before this one has logged.
    async fn logged(&self, text: &str) {
        let logged = async {
            while !self.logs.text().contains(text) {
                tokio::task::yield_now().await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, logged).await;
        assert!(seen.is_ok(), "'{text}' is not in:\n{}", self.logs.text());
    }
}

async fn pong(connection: net::ClientConn) {
    while let Some(incoming) = connection.next().await {
        for (_, mut answer) in incoming.alone() {
            let reply = Reply::Pong(proto::wire::Empty {});
            let response =
                Response { gateway: "n1".to_owned(), members_epoch: 1, reply: Some(reply) };
            let _ = answer.send(response).await;
            answer.finish();
        }
    }
}

/// The reason that both sides must have.
async fn denied(node: &Local, credentials: Credentials, reason: &str) {
    let error = node.call(credentials).await.unwrap_err();
    assert!(matches!(error, ClientError::Denied { .. }), "{error:?}");
    assert_eq!(error.exit_code().number(), 4);
    assert!(error.to_string().contains(reason), "{error}");
    node.logged(reason).await;
}

/// A connection past our own client, to do what it would not.
async fn raw(
    node: &Local,
    tls: Arc<rustls::ClientConfig>,
    name: &str,
) -> Result<Connection, ConnectionError> {
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let connecting = endpoint.connect_with(config, node.endpoint.local_addr(), name).unwrap();
    within(connecting).await
}

async fn raw_client(pki: &Pki, node: &Local) -> Connection {
    let credentials = pki.issue(Role::Client, "bob");
    let tls = credentials.client_config(&[CLIENT_ALPN]).unwrap();
    raw(node, tls, &certs::any_node(&pki.cluster)).await.unwrap()
}

async fn ask_raw(connection: &Connection, bytes: &[u8]) -> Failure {
    let (mut tx, mut rx) = connection.open_bi().await.unwrap();
    tx.write_all(bytes).await.unwrap();
    tx.finish().unwrap();
    let answer = within(rx.read_to_end(1 << 20)).await.unwrap();
    let response = Response::decode(&answer[HEADER_BYTES..]).unwrap();
    match response.reply {
        Some(Reply::Failure(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority() {
    let (pki, other) = (Pki::new(1), Pki::new(1));
    let node = Local::start(&pki);
    // It must trust the node, or it would be the first to refuse.
    let stranger = other.trusting(&pki, Role::Client, "bob");
    denied(&node, stranger, "the certificate of client bob was not signed by the authority").await;
    node.call(pki.issue(Role::Client, "bob")).await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_another_cluster() {
    let (pki, other) = (Pki::new(1), Pki::new(2));
    let node = Local::start(&pki);
    let error = node.call(other.issue(Role::Client, "bob")).await.unwrap_err();
    assert!(matches!(error, ClientError::Denied { .. }), "{error:?}");
    let reason = format!("node n1 of cluster {} answers", pki.cluster);
    assert!(error.to_string().contains(&reason), "{error}");
    node.logged(&reason).await;
}

#[tokio::test]
async fn an_expired_certificate() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    let expired = pki.expired(Role::Client, "bob");
    let date = certs::Date(expired.not_after_unix()).to_string();
    denied(&node, expired, &format!("the certificate of client bob expired on {date}")).await;
}

#[tokio::test]
async fn no_certificate() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject;
    let ca = pki.authority.cert_pem().as_bytes();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![CLIENT_ALPN.to_vec()];
    let name = format!("n1.node.{}.logd.internal", pki.cluster);
    // The connection stands before the node has looked; that proves nothing.
    if let Ok(connection) = raw(&node, Arc::new(tls), &name).await {
        within(connection.closed()).await;
    }
    node.logged("no certificate was shown").await;
}

#[tokio::test]
async fn a_client_certificate_on_the_peer_protocol() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    for role in [Role::Client, Role::Admin] {
        let tls = pki.issue(role, "eve").client_config(&[PEER_ALPN]).unwrap();
        let connection = raw(&node, tls, &certs::any_node(&pki.cluster)).await.unwrap();
        let closed = within(connection.closed()).await.to_string();
        let reason = format!("the certificate of {} eve is not a node's", role.label());
        assert!(closed.contains(&reason), "{closed}");
        node.logged(&reason).await;
    }
}

#[tokio::test]
async fn a_node_certificate_on_the_client_protocol() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    let reason = "the certificate of node n2 is not a client's";
    denied(&node, pki.issue(Role::Node, "n2"), reason).await;
}

#[tokio::test]
async fn a_protocol_that_nobody_speaks() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    let tls = pki.issue(Role::Client, "bob").client_config(&[b"h3"]).unwrap();
    assert!(raw(&node, tls, &certs::any_node(&pki.cluster)).await.is_err());
    node.logged("the two sides speak different protocols").await;
}

#[tokio::test]
async fn a_node_that_is_not_the_one_dialled() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    let address = format!("n2={}", node.address());
    let config = net::ClientConfig::new(vec![address], pki.issue(Role::Client, "bob"));
    let error = within(Client::new(config).unwrap().call(ping())).await.unwrap_err();
    assert!(error.to_string().contains("node n1 answers at this address"), "{error}");
    assert_eq!(error.exit_code().number(), 4);
}

#[tokio::test]
async fn frames_that_break_the_rules() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    let connection = raw_client(&pki, &node).await;
    let huge = [0xff, 0xff, 0xff, 0xff, VERSION];
    let garbage = frame_of(Bytes::from_static(&[0xff; 20]));
    for (bytes, code, reason) in [
        (huge.to_vec(), ErrorCode::Invalid, "a frame of 4294967295 bytes"),
        (vec![0, 0, 0, 1, 99, 0], ErrorCode::Version, "protocol version 99"),
        (garbage, ErrorCode::Invalid, "cannot be decoded"),
        (vec![0, 0, 0, 9, VERSION, 1], ErrorCode::Invalid, "ended inside a frame"),
        (vec![0, 0], ErrorCode::Invalid, "ended inside a frame"),
    ] {
        let failure = ask_raw(&connection, &bytes).await;
        assert_eq!(failure.error_code(), code, "{failure}");
        assert!(failure.message.contains(reason), "{failure}");
        node.logged(reason).await;
    }
    // The same connection serves on.
    let (mut tx, mut rx) = connection.open_bi().await.unwrap();
    let request = Request { op: Some(ping()), ..Request::default() };
    tx.write_all(&frame::encode(&request).unwrap()).await.unwrap();
    tx.finish().unwrap();
    assert!(within(rx.read_to_end(1 << 20)).await.unwrap().len() > HEADER_BYTES);
}

fn frame_of(payload: Bytes) -> Vec<u8> {
    let mut bytes = frame::header(payload.len()).unwrap().to_vec();
    bytes.extend(payload);
    bytes
}

/// A request of which the head is here, and so many bytes of what it announced.
async fn begun(connection: &Connection, bytes: usize) -> (quinn::SendStream, quinn::RecvStream) {
    let (mut tx, rx) = connection.open_bi().await.unwrap();
    tx.write_all(&frame::header(4 << 20).unwrap()).await.unwrap();
    // Whoever is told to come back need not send the rest.
    let _ = tx.write_all(&vec![0; bytes]).await;
    (tx, rx)
}

async fn refusal(rx: &mut quinn::RecvStream) -> Failure {
    let answer = within(rx.read_to_end(1 << 20)).await.unwrap();
    let response = Response::decode(&answer[HEADER_BYTES..]).unwrap();
    match response.reply {
        Some(Reply::Failure(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

/// A frame's length was once counted when its head was there: 17 connections with four such requests
/// each left no room for anybody.
#[tokio::test]
async fn what_is_announced_takes_no_room() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    let mut held = Vec::new();
    for _ in 0..17 {
        let connection = raw_client(&pki, &node).await;
        for _ in 0..4 {
            held.push((begun(&connection, 1).await, connection.clone()));
        }
    }
    let large = Op::Send(proto::wire::Send { body: vec![0; 1 << 20].into(), ..Default::default() });
    for name in ["bob", "carol"] {
        let config = net::ClientConfig::new(vec![node.address()], pki.issue(Role::Client, name));
        within(Client::new(config).unwrap().call(large.clone())).await.unwrap();
    }
    drop(held);
}

/// By name and not by connection: bob's second one holds nothing more.
#[tokio::test]
async fn what_has_arrived_is_counted_by_name() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    let connections = [raw_client(&pki, &node).await, raw_client(&pki, &node).await];
    let (mut held, mut refused) = (Vec::new(), None);
    let most = CLIENT_BYTES_MAX / (3 << 20);
    for connection in connections.iter().cycle().take(most) {
        let (tx, mut rx) = begun(connection, 3 << 20).await;
        // The node has mostly taken what it takes before the next ping is answered.
        let (mut ping_tx, mut ping_rx) = connection.open_bi().await.unwrap();
        let request = Request { op: Some(ping()), ..Request::default() };
        ping_tx.write_all(&frame::encode(&request).unwrap()).await.unwrap();
        ping_tx.finish().unwrap();
        within(ping_rx.read_to_end(1 << 20)).await.unwrap();
        if let Some(failure) = refusal(&mut rx).now_or_never() {
            refused = Some(failure);
            break;
        }
        held.push((tx, rx));
    }
    // On a busy machine its word comes later.
    let refused = match refused {
        Some(failure) => failure,
        None => {
            let words = held.iter_mut().map(|(_, rx)| Box::pin(refusal(rx)));
            within(futures::future::select_all(words)).await.0
        }
    };
    assert_eq!(refused.error_code(), ErrorCode::Busy, "{refused}");
    assert!(refused.retry_after_ms > 0);
    assert!(held.len() >= most / 4, "only {} were taken", held.len());
    // Others have as much left.
    let large = Op::Send(proto::wire::Send { body: vec![0; 1 << 20].into(), ..Default::default() });
    let config = net::ClientConfig::new(vec![node.address()], pki.issue(Role::Client, "carol"));
    within(Client::new(config).unwrap().call(large)).await.unwrap();
    // And it is given back.
    drop(held);
    drop(connections);
}

/// With one limit for all together the last connection of one left no place.
#[tokio::test]
async fn one_client_does_not_take_all_places() {
    let pki = Pki::new(1);
    let node = Local::start_for(&pki, 32);
    let mut connections = Vec::new();
    for _ in 0..32 {
        connections.push(raw_client(&pki, &node).await);
    }
    let own = node.call(pki.issue(Role::Client, "bob")).await;
    let Err(ClientError::Failure(failure)) = own else { panic!("{own:?}") };
    assert_eq!(failure.error_code(), ErrorCode::Busy, "{failure}");
    node.call(pki.issue(Role::Client, "carol")).await.unwrap();
    node.call(pki.issue(Role::Admin, "admin")).await.unwrap();
    // Half of what is not kept for admins.
    let left = async {
        while connections.iter().filter(|one| one.close_reason().is_none()).count() != 12 {
            tokio::task::yield_now().await;
        }
    };
    within(left).await;
}

#[tokio::test]
async fn garbage_datagrams_disturb_nobody() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..2000_usize {
        let bytes: Vec<u8> = (0..round % 1500)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_be_bytes()[0]
            })
            .collect();
        let _ = socket.send_to(&bytes, node.endpoint.local_addr()).await;
        if round % 100 == 0 {
            node.call(pki.issue(Role::Client, "bob")).await.unwrap();
        }
    }
    node.call(pki.issue(Role::Client, "bob")).await.unwrap();
}

#[tokio::test]
async fn a_crowd_proves_its_addresses_and_is_served() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    let tls = pki.issue(Role::Client, "bob").client_config(&[CLIENT_ALPN]).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let name = certs::any_node(&pki.cluster);
    // More at a time than may shake hands at a time.
    let dials = (0..200)
        .map(|_| endpoint.connect_with(config.clone(), node.endpoint.local_addr(), &name).unwrap());
    let connections = within(futures::future::join_all(dials)).await;
    for connection in connections {
        let connection = connection.unwrap();
        let (mut tx, mut rx) = within(connection.open_bi()).await.unwrap();
        let request = Request { op: Some(ping()), ..Request::default() };
        tx.write_all(&frame::encode(&request).unwrap()).await.unwrap();
        tx.finish().unwrap();
        assert!(within(rx.read_to_end(1 << 20)).await.unwrap().len() > HEADER_BYTES);
    }
}

#[tokio::test]
async fn a_caller_who_insists_is_logged_once() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    let expired = pki.expired(Role::Client, "bob");
    for _ in 0..5 {
        assert_eq!(node.call(expired.clone()).await.unwrap_err().exit_code().number(), 4);
    }
    node.logged("expired on").await;
    // The caller writes into the same log; the node's own lines are meant.
    let logs = node.logs.text();
    let refusals = logs.lines().filter(|line| line.contains("refused a connection"));
    assert_eq!(refusals.filter(|line| line.contains("expired on")).count(), 1, "{logs}");
}

#[tokio::test]
async fn a_port_in_use() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    let at = node.endpoint.local_addr();
    let error = net::Endpoint::bind(at, &pki.issue(Role::Node, "n2")).unwrap_err().to_string();
    assert!(error.contains(&format!("cannot listen on UDP {at}")), "{error}");
}

#[tokio::test]
async fn reload_takes_the_new_certificate_and_keeps_connections() {
    let pki = Pki::new(1);
    let node = Local::start(&pki);
    let config = net::ClientConfig::new(vec![node.address()], pki.issue(Role::Client, "bob"));
    let connected = Client::new(config).unwrap();
    within(connected.call(ping())).await.unwrap();
    // From now on the node shows a certificate of, and trusts, another authority of the cluster.
    let next = Pki::new(1);
    node.endpoint.reload(&next.issue(Role::Node, "n1")).unwrap();
    within(connected.call(ping())).await.unwrap();
    node.call(next.issue(Role::Client, "bob")).await.unwrap();
    assert!(node.call(pki.issue(Role::Client, "bob")).await.is_err());
    // Another member's certificate is no replacement.
    assert!(node.endpoint.reload(&next.issue(Role::Node, "n2")).is_err());
    node.call(next.issue(Role::Client, "bob")).await.unwrap();
}
