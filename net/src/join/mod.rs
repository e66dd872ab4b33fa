//! Joining, see [`proto::join`]: how somebody without a certificate gets one with a token.
//!
//! The joiner knows the cluster by the hash of its authority's key, and shows the token's secret to
//! nobody who has not proven to be a node of it. Trying again is safe: the cluster remembers which
//! token admitted which name with which key, and answers the same.
//!
//! Not here: what a gateway admits (`daemon`), where the files lie (`ctl`, `daemon`).

mod conn;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use certs::Credentials;
use certs::pin::{self, OfferError};
use proto::join::{
    JOIN_ALPN, JoinAnswer, JoinAs, JoinAsk, JoinClient, JoinEcho, JoinHello, JoinNode, JoinOffer,
    JoinRenew, JoinStep, Joined, NONCE_BYTES, PROBE_MAGIC, PROTOCOL,
};
use proto::token::{ID_BYTES, JoinToken, SECRET_BYTES};
use proto::{Action, ErrorCode, ExitCode, Failure, Name};
use quinn::Connection;
use quinn::rustls::pki_types::CertificateDer;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use self::conn::read_message;
pub use self::conn::{JoinConn, wrong_protocol};
use crate::frames::{FrameRx, FrameTx};
use crate::reason::end_of;
use crate::{LinkError, NetError, quic_link, tune};

/// Time for one node to answer.
const DIAL_TIME: Duration = Duration::from_secs(2);
/// Pause before the addresses are tried again; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The longest thing that is said: a list of all members with their certificates' authority.
const FRAME_MAX: usize = 256 << 10;
/// Between two datagrams of a call-back.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// How long a gateway sends them, and the joiner waits for one.
const PROBE_FOR: Duration = Duration::from_secs(2);

/// Who wants in.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// Its name.
    pub name: Name,
    /// Certificate request (PKCS #10, DER).
    pub csr: Vec<u8>,
    /// Release, for the gateway's log.
    pub version: String,
    /// As what.
    pub role: JoinRole,
    /// Time for all of it.
    pub time: Duration,
}

/// As what somebody joins.
#[derive(Debug, Clone)]
pub enum JoinRole {
    /// A node.
    Node {
        /// Its part of the question.
        node: JoinNode,
        /// Where it will listen, and waits for the call-back now.
        listen: SocketAddr,
    },
    /// A client.
    Client(JoinClient),
    /// Nobody new, see [`renew`].
    Renew(JoinRenew),
}

/// Who is in.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Everything that a new member needs.
    pub joined: Joined,
    /// The authorities of the cluster (PEM).
    pub ca: String,
    /// Name of the node that let it in.
    pub gateway: String,
}

/// Why somebody is not in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// This machine's network cannot be used.
    #[error(transparent)]
    Net(#[from] NetError),
    /// No node answered; nothing was done.
    #[error("no node answers: {}", .tried.join("; "))]
    Unreachable {
        /// Each address that was tried, and what came of it.
        tried: Vec<String>,
    },
    /// Whoever answers is not of the token's cluster; the secret was not shown.
    #[error("{address}: {reason}; the token's secret was not shown")]
    Foreign {
        /// Who was dialled.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The clocks disagree.
    #[error("{address}: {reason}")]
    Clock {
        /// Who was dialled.
        address: String,
        /// What the clock makes wrong.
        reason: String,
    },
    /// The cluster refused.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// Nobody can say whether it was done. The same again, with the same key, is safe.
    #[error("nobody can say whether the cluster has admitted it: {0}")]
    Unknown(String),
}

impl JoinError {
    /// The exit code (see docs/troubleshooting.md).
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Net(NetError::Bind { .. }) | Self::Unreachable { .. } => ExitCode::Unreachable,
            Self::Net(_) => ExitCode::Other,
            Self::Foreign { .. } => ExitCode::Denied,
            Self::Clock { .. } => ExitCode::Clock,
            Self::Refused(failure) => failure.error_code().exit_code(),
            Self::Unknown(_) => ExitCode::Unknown,
        }
    }

    /// What to try, in one line.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Net(NetError::Bind { .. }) => {
                "give another --listen, or stop the process that uses the port"
            }
            Self::Net(_) => "check this machine's network: ip address",
            Self::Unreachable { .. } => {
                "check that logd runs there and that UDP reaches it, or make a new token: it has \
                 the current addresses"
            }
            Self::Foreign { .. } => "make a token of this cluster: logctl cluster token create",
            Self::Clock { .. } => "set this machine's clock, then run the same command again",
            Self::Refused(failure) => refused_hint(failure.error_code()),
            Self::Unknown(_) => "run the same command again: it cannot join twice",
        }
    }

    /// Whether it is certain that nothing was done.
    #[must_use]
    pub fn nothing_done(&self) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::Refused(failure) => failure.error_code() != ErrorCode::Unknown,
            Self::Net(_) | Self::Unreachable { .. } | Self::Foreign { .. } | Self::Clock { .. } => {
                true
            }
        }
    }
}

fn refused_hint(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Denied => {
            "make a new token: logctl cluster token create, on a machine of an admin"
        }
        ErrorCode::Conflict => "choose another name: --name",
        ErrorCode::Removed => {
            "make a new token, and use an empty folder: give another --dir, or move this one away"
        }
        ErrorCode::Invalid => "give --advertise an address that the other nodes can reach",
        ErrorCode::ClockUnavailable => "set this machine's clock, then run the same command again",
        ErrorCode::Busy
        | ErrorCode::Unknown
        | ErrorCode::NoQuorum
        | ErrorCode::Deadline
        | ErrorCode::NotPrimary
        | ErrorCode::Stopping
        | ErrorCode::Repairing
        | ErrorCode::NotFound
        | ErrorCode::ClockAhead
        | ErrorCode::Internal
        | ErrorCode::Integrity
        | ErrorCode::DiskFull
        | ErrorCode::NoSigner
        | ErrorCode::Version => code.hint(),
    }
}

/// Asks the nodes of a token to be let in, one after the other, until one does or refuses for good.
///
/// # Errors
/// See [`JoinError`].
pub async fn join(token: &JoinToken, request: &JoinRequest) -> Result<Admitted, JoinError> {
    let until = Instant::now() + request.time;
    let socket = match &request.role {
        JoinRole::Node { listen, .. } => {
            let bound = UdpSocket::bind(listen).await;
            Some(bound.map_err(|source| NetError::Bind { address: *listen, source })?)
        }
        JoinRole::Client(_) | JoinRole::Renew(_) => None,
    };
    let joiner = Joiner { token, request, socket, until, quic: tune::client_endpoint()? };
    let joined = joiner.any().await;
    joiner.quic.wait_idle().await;
    joined
}

/// Has a member's certificate renewed over a connection that shows none, for one that is over opens
/// no other. `csr` (PKCS #10, DER) is by the member's own key; any node at `addresses` will do that
/// the member's authority has signed.
///
/// # Errors
/// See [`JoinError`]; asking again is safe.
pub async fn renew(
    own: &Credentials,
    csr: Vec<u8>,
    addresses: Vec<String>,
    time: Duration,
) -> Result<String, JoinError> {
    let identity = own.identity();
    let pin = pin::spki_sha256(own.ca_pem());
    let pin = pin.map_err(|error| NetError::Config(error.to_string()))?;
    // Nothing is secret here, so there is nothing to show: the token only says where to ask.
    let nowhere = JoinToken {
        cluster: identity.cluster.clone(),
        ca_sha256: pin,
        addresses,
        role: identity.role,
        id: [0; ID_BYTES],
        secret: [0; SECRET_BYTES],
        expires_unix_s: 0,
        name: identity.name.to_string(),
    };
    let request = JoinRequest {
        name: identity.name.clone(),
        csr,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: JoinRole::Renew(JoinRenew { certificate: own.cert_der() }),
        time,
    };
    Ok(join(&nowhere, &request).await?.joined.certificate)
}

/// The address of this machine from which it reaches the first of these that it can; what a node
/// that was told nothing else advertises.
pub async fn address_towards(addresses: &[String]) -> Option<IpAddr> {
    for address in addresses {
        let any = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, 0));
        let Ok(to) = quic_link::resolve(address, any).await else { continue };
        let any = match to {
            SocketAddr::V4(_) => any,
            SocketAddr::V6(_) => SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0)),
        };
        let Ok(socket) = UdpSocket::bind(any).await else { continue };
        // Nothing is sent: the system picks the route.
        if socket.connect(to).await.is_ok()
            && let Ok(own) = socket.local_addr()
        {
            return Some(own.ip());
        }
    }
    None
}

struct Joiner<'a> {
    token: &'a JoinToken,
    request: &'a JoinRequest,
    /// Where a node waits for the call-back.
    socket: Option<UdpSocket>,
    until: Instant,
    quic: quinn::Endpoint,
}

impl Joiner<'_> {
    async fn any(&self) -> Result<Admitted, JoinError> {
        let (mut unknown, mut pause) = (false, PAUSE);
        loop {
            let (mut tried, mut last) = (Vec::new(), None);
            for address in &self.token.addresses {
                match self.one(address).await {
                    Ok(admitted) => return Ok(admitted),
                    Err(JoinError::Unreachable { tried: these }) => tried.extend(these),
                    Err(error) if goes_on(&error) => {
                        unknown |= !error.nothing_done();
                        last = Some(error);
                    }
                    // What was unknown before may still have been done.
                    Err(error) if unknown => return Err(JoinError::Unknown(error.to_string())),
                    Err(error) => return Err(error),
                }
            }
            let error = last.unwrap_or(JoinError::Unreachable { tried });
            let hopeless = match &error {
                JoinError::Foreign { .. } | JoinError::Clock { .. } => true,
                JoinError::Refused(failure) => failure.error_code() == ErrorCode::NoSigner,
                JoinError::Net(_) | JoinError::Unreachable { .. } | JoinError::Unknown(_) => false,
            };
            let nobody = matches!(error, JoinError::Unreachable { .. }) && !unknown;
            let wait = pause.max(retry_after(&error)).min(PAUSE_MAX);
            if hopeless || nobody || Instant::now() + wait >= self.until {
                // What was unknown before may still have been done.
                let may_be = unknown && !matches!(error, JoinError::Foreign { .. });
                let known = matches!(error, JoinError::Unknown(_)) || !may_be;
                return Err(if known { error } else { JoinError::Unknown(error.to_string()) });
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn one(&self, address: &str) -> Result<Admitted, JoinError> {
        let unreachable = |reason: &dyn std::fmt::Display| JoinError::Unreachable {
            tried: vec![format!("{address}: {reason}")],
        };
        let connection = self.dial(address).await.map_err(|reason| unreachable(&reason))?;
        let (tx, rx) = connection.open_bi().await.map_err(|error| unreachable(&error))?;
        let mut stream = (FrameTx::quic(tx), FrameRx::quic(rx));
        let hello = JoinHello {
            protocol: PROTOCOL,
            version: self.request.version.clone(),
            cluster: self.token.cluster.to_string(),
        };
        let offered = async {
            stream.0.send_message(&hello).await?;
            read_message::<JoinOffer>(&mut stream.1).await
        };
        let until = self.until.min(Instant::now() + DIAL_TIME);
        let offer = match timeout_at(until, offered).await {
            Ok(Ok(offer)) => offer,
            Ok(Err(error)) => return Err(unreachable(&error)),
            Err(_) => return Err(unreachable(&"no answer")),
        };
        self.check(address, &connection, &offer)?;
        if let Some(failure) = offer.failure {
            return Err(JoinError::Refused(failure));
        }
        let answer = self.exchange(&mut stream).await;
        connection.close(crate::CloseCode::Done.code(), b"");
        match answer {
            Ok(Ok(joined)) => Ok(Admitted { joined, ca: offer.ca, gateway: offer.gateway }),
            Ok(Err(failure)) => Err(JoinError::Refused(failure)),
            Err(error) => Err(JoinError::Unknown(format!("{address}: {error}"))),
        }
    }

    async fn dial(&self, address: &str) -> Result<Connection, String> {
        let own = self.quic.local_addr().map_err(|error| error.to_string())?;
        let to = quic_link::resolve(address, own).await?;
        let config = tune::joiner(JOIN_ALPN).map_err(|error| error.to_string())?;
        let name = certs::any_node(&self.token.cluster);
        let connecting = self.quic.connect_with(config, to, &name);
        let connecting = connecting.map_err(|error| error.to_string())?;
        match timeout(DIAL_TIME, connecting).await {
            Ok(connected) => connected.map_err(|error| end_of(&error).reason().to_owned()),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    /// Whether a node of the token's cluster answers.
    fn check(
        &self,
        address: &str,
        connection: &Connection,
        offer: &JoinOffer,
    ) -> Result<(), JoinError> {
        let shown = connection.peer_identity();
        let chain = shown.and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
        let chain = chain.unwrap_or_default();
        let (token, address) = (self.token, address.to_owned());
        match pin::check_offer(&chain, &offer.ca, &token.ca_sha256, &token.cluster) {
            Ok(_) => Ok(()),
            Err(OfferError::Foreign(reason)) => Err(JoinError::Foreign { address, reason }),
            Err(error @ OfferError::Time(_)) => {
                Err(JoinError::Clock { address, reason: error.to_string() })
            }
        }
    }

    /// Shows the secret and says what is wanted; from here on an error says nothing of the outcome.
    async fn exchange(
        &self,
        stream: &mut (FrameTx, FrameRx),
    ) -> Result<Result<Joined, Failure>, LinkError> {
        let (token, request) = (self.token, self.request);
        let ask = JoinAsk {
            token: token.id.to_vec(),
            secret: token.secret.to_vec(),
            name: request.name.to_string(),
            csr: request.csr.clone(),
            now_ns: pin::now_unix_s().saturating_mul(1_000_000_000),
            role: Some(match &request.role {
                JoinRole::Node { node, .. } => JoinAs::Node(node.clone()),
                JoinRole::Client(client) => JoinAs::Client(client.clone()),
                JoinRole::Renew(renew) => JoinAs::Renew(renew.clone()),
            }),
        };
        let talk = async {
            stream.0.send_message(&ask).await?;
            match read_message::<JoinAnswer>(&mut stream.1).await?.step {
                Some(JoinStep::Probe(_)) => self.echo(stream).await,
                step => outcome(step),
            }
        };
        let late = || Err(LinkError::Lost("no answer in time".to_owned()));
        timeout_at(self.until, talk).await.unwrap_or_else(|_| late())
    }

    /// Says what arrives at the advertised address, until the gateway has heard enough.
    async fn echo(
        &self,
        stream: &mut (FrameTx, FrameRx),
    ) -> Result<Result<Joined, Failure>, LinkError> {
        let (tx, rx) = (&mut stream.0, &mut stream.1);
        let give_up = tokio::time::sleep(PROBE_FOR);
        let mut give_up = std::pin::pin!(give_up);
        let (mut last, mut silent) = (Vec::new(), true);
        loop {
            tokio::select! {
                answer = read_message::<JoinAnswer>(rx) => return outcome(answer?.step),
                nonce = self.hear() => {
                    if nonce != last {
                        silent = false;
                        tx.send_message(&JoinEcho { nonce: nonce.clone() }).await?;
                        last = nonce;
                    }
                }
                () = &mut give_up, if silent => {
                    silent = false;
                    tx.send_message(&JoinEcho { nonce: Vec::new() }).await?;
                }
            }
        }
    }

    /// The nonce of the next datagram that calls back.
    async fn hear(&self) -> Vec<u8> {
        let Some(socket) = &self.socket else { return std::future::pending().await };
        let mut bytes = [0; 256];
        loop {
            let len = match socket.recv_from(&mut bytes).await {
                Ok((len, _)) => len,
                // An error of an earlier datagram, if of anything: nothing is sent from here.
                Err(_) => 0,
            };
            let datagram = bytes.get(..len).unwrap_or_default();
            let nonce = datagram.strip_prefix(PROBE_MAGIC.as_slice());
            if let Some(nonce) = nonce.filter(|nonce| nonce.len() == NONCE_BYTES) {
                return nonce.to_vec();
            }
        }
    }
}

fn outcome(step: Option<JoinStep>) -> Result<Result<Joined, Failure>, LinkError> {
    match step {
        Some(JoinStep::Joined(joined)) => Ok(Ok(joined)),
        Some(JoinStep::Failure(failure)) => Ok(Err(failure)),
        Some(JoinStep::Probe(_)) | None => Err(LinkError::Lost("an empty answer".to_owned())),
    }
}

/// When a refusal says to come back.
fn retry_after(error: &JoinError) -> Duration {
    match error {
        JoinError::Refused(failure) => Duration::from_millis(failure.retry_after_ms.into()),
        JoinError::Net(_)
        | JoinError::Unreachable { .. }
        | JoinError::Foreign { .. }
        | JoinError::Clock { .. }
        | JoinError::Unknown(_) => Duration::ZERO,
    }
}

/// Whether the next address may do better.
fn goes_on(error: &JoinError) -> bool {
    match error {
        // A node whose own certificate is over looks like a clock that is wrong.
        JoinError::Foreign { .. } | JoinError::Unknown(_) | JoinError::Clock { .. } => true,
        JoinError::Refused(failure) => {
            // One node may hear a signer that another one does not.
            let code = failure.error_code();
            matches!(code.action(), Action::Retry | Action::GoElsewhere)
                || code == ErrorCode::NoSigner
        }
        JoinError::Net(_) | JoinError::Unreachable { .. } => false,
    }
}
