//! Joining: the secret is shown to nobody but a node of the token's cluster, and the address that a
//! node advertises is called back.

use std::sync::Arc;

use net::join::{JoinError, JoinRequest, JoinRole, join};
use net::{Accepted, Endpoint};
use parking_lot::Mutex;
use proto::join::{JoinAsk, JoinClient, JoinNode, JoinOffer, Joined, PROTOCOL};
use proto::token::JoinToken;
use proto::{ErrorCode, Failure, Role};

use crate::harness::*;

/// What a gateway does with who is to be let in.
type Decide = fn(&JoinAsk) -> Result<Joined, Failure>;

/// A gateway that notes every request that it was asked.
struct Gateway {
    address: String,
    asks: Arc<Mutex<Vec<JoinAsk>>>,
}

impl Gateway {
    /// `ca` is the authority that it says it trusts.
    fn start(pki: &Pki, ca: &str, failure: Option<Failure>, decide: Decide) -> Self {
        let endpoint = Endpoint::bind(any_port(), &pki.issue(Role::Node, "n1")).unwrap();
        let address = endpoint.local_addr().to_string();
        let asks = Arc::new(Mutex::new(Vec::new()));
        let (seen, ca) = (Arc::clone(&asks), ca.to_owned());
        tokio::spawn(async move {
            while let Some(accepted) = endpoint.accept().await {
                let Accepted::Joiner(mut joiner) = accepted else { continue };
                let Ok(_) = joiner.hello().await else { continue };
                let (ca, failure) = (ca.clone(), failure.clone());
                let offer = JoinOffer { protocol: PROTOCOL, ca, failure, ..Default::default() };
                joiner.offer(&offer).await.unwrap();
                let Ok(ask) = joiner.ask().await else { continue };
                seen.lock().push(ask.clone());
                if let Some(proto::join::JoinAs::Node(node)) = &ask.role
                    && let Err(why) = joiner.call_back(&node.address).await.unwrap()
                {
                    joiner.refuse(Failure::new(ErrorCode::Invalid, why)).await;
                    continue;
                }
                match decide(&ask) {
                    Ok(joined) => joiner.joined(joined).await,
                    Err(failure) => joiner.refuse(failure).await,
                }
            }
        });
        Self { address, asks }
    }

    fn asked(&self) -> usize {
        self.asks.lock().len()
    }
}

fn token(pki: &Pki, addresses: &[&str]) -> JoinToken {
    JoinToken {
        cluster: pki.cluster.clone(),
        ca_sha256: certs::pin::spki_sha256(pki.authority.cert_pem()).unwrap(),
        addresses: addresses.iter().map(|&address| address.to_owned()).collect(),
        role: Role::Node,
        id: [1; 8],
        secret: [0xa5; 16],
        expires_unix_s: 0,
        name: String::new(),
    }
}

fn client() -> JoinRequest {
    JoinRequest {
        name: "bob".parse().unwrap(),
        csr: vec![1, 2, 3],
        version: "test".to_owned(),
        role: JoinRole::Client(JoinClient::default()),
        time: PATIENCE,
    }
}

fn node(address: String, listen: std::net::SocketAddr) -> JoinRequest {
    let node = JoinNode { address, ..JoinNode::default() };
    JoinRequest { role: JoinRole::Node { node, listen }, ..client() }
}

fn welcome(ask: &JoinAsk) -> Result<Joined, Failure> {
    Ok(Joined { certificate: format!("for {}", ask.name), ..Joined::default() })
}

#[tokio::test]
async fn whoever_knows_the_secret_is_let_in() {
    let pki = Pki::new(1);
    let gateway = Gateway::start(&pki, pki.authority.cert_pem(), None, welcome);
    let admitted = within(join(&token(&pki, &[&gateway.address]), &client())).await.unwrap();
    assert_eq!(admitted.joined.certificate, "for bob");
    assert_eq!(admitted.ca, pki.authority.cert_pem());
    assert_eq!(gateway.asks.lock()[0].secret, [0xa5; 16]);
}

/// Seen to fail with the hash not compared.
#[tokio::test]
async fn a_foreign_authority_never_sees_the_secret() {
    // The same cluster id, another authority: only the hash tells them apart.
    let (pki, other) = (Pki::new(1), Pki::new(1));
    let gateway = Gateway::start(&other, other.authority.cert_pem(), None, welcome);
    let error = within(join(&token(&pki, &[&gateway.address]), &client())).await.unwrap_err();
    assert!(matches!(error, JoinError::Foreign { .. }), "{error}");
    assert_eq!(error.exit_code().number(), 4);
    assert!(error.nothing_done());
    assert_eq!(gateway.asked(), 0);
}

/// Seen to fail with the certificate not checked against the authority.
#[tokio::test]
async fn knowing_the_authoritys_certificate_is_not_being_of_the_cluster() {
    let (pki, other) = (Pki::new(1), Pki::new(1));
    let gateway = Gateway::start(&other, pki.authority.cert_pem(), None, welcome);
    let error = within(join(&token(&pki, &[&gateway.address]), &client())).await.unwrap_err();
    assert!(error.to_string().contains("was not signed by the authority"), "{error}");
    assert_eq!(gateway.asked(), 0);
}

#[tokio::test]
async fn a_node_of_another_cluster_never_sees_the_secret() {
    let (pki, other) = (Pki::new(1), Pki::new(2));
    let gateway = Gateway::start(&other, other.authority.cert_pem(), None, welcome);
    let error = within(join(&token(&pki, &[&gateway.address]), &client())).await.unwrap_err();
    assert!(matches!(error, JoinError::Foreign { .. }), "{error}");
    assert_eq!(gateway.asked(), 0);
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let (pki, other) = (Pki::new(1), Pki::new(2));
    let strange = Gateway::start(&other, other.authority.cert_pem(), None, welcome);
    let busy: Decide = |_| Err(Failure::new(ErrorCode::Stopping, "the node is stopping"));
    let stopping = Gateway::start(&pki, pki.authority.cert_pem(), None, busy);
    let good = Gateway::start(&pki, pki.authority.cert_pem(), None, welcome);
    let token = token(&pki, &[&strange.address, &stopping.address, &good.address]);
    within(join(&token, &client())).await.unwrap();
    assert_eq!((strange.asked(), stopping.asked(), good.asked()), (0, 1, 1));
}

#[tokio::test]
async fn a_refusal_comes_with_its_reason_and_code() {
    let pki = Pki::new(1);
    let used_up: Decide = |_| Err(Failure::new(ErrorCode::Denied, "the join token is used up"));
    let gateway = Gateway::start(&pki, pki.authority.cert_pem(), None, used_up);
    let error = within(join(&token(&pki, &[&gateway.address]), &client())).await.unwrap_err();
    assert_eq!(
        (error.exit_code().number(), error.to_string().as_str()),
        (4, "the join token is used up")
    );
    // Another release says so before anything is asked.
    let version = net::join::wrong_protocol(1, 2);
    let gateway = Gateway::start(&pki, pki.authority.cert_pem(), Some(version), welcome);
    let error = within(join(&token(&pki, &[&gateway.address]), &client())).await.unwrap_err();
    assert_eq!(error.exit_code().number(), 6);
    assert_eq!(gateway.asked(), 0);
}

/// Seen to fail with the call-back not waited for.
#[tokio::test]
async fn an_advertised_address_is_called_back() {
    let pki = Pki::new(1);
    let gateway = Gateway::start(&pki, pki.authority.cert_pem(), None, welcome);
    let free = || std::net::UdpSocket::bind(any_port()).unwrap().local_addr().unwrap();
    let listen = free();
    let token = token(&pki, &[&gateway.address]);
    within(join(&token, &node(listen.to_string(), listen))).await.unwrap();
    // It listens at one address and advertises another.
    let deaf = std::net::UdpSocket::bind(any_port()).unwrap();
    let elsewhere = deaf.local_addr().unwrap().to_string();
    let error = within(join(&token, &node(elsewhere, free()))).await.unwrap_err();
    assert_eq!(error.exit_code().number(), 2, "{error}");
    assert!(error.to_string().contains("nothing that is sent to it arrives"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_and_nobody_there_are_told() {
    let pki = Pki::new(1);
    let held = std::net::UdpSocket::bind(any_port()).unwrap();
    let at = held.local_addr().unwrap();
    let token = token(&pki, &[&at.to_string()]);
    let error = within(join(&token, &node(at.to_string(), at))).await.unwrap_err();
    assert!(error.to_string().contains("cannot listen on UDP"), "{error}");
    let error = within(join(&token, &client())).await.unwrap_err();
    assert!(matches!(error, JoinError::Unreachable { .. }), "{error}");
    assert_eq!(error.exit_code().number(), 3);
}
