//! A node's UDP port: accepts clients and peers, dials peers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::{Credentials, Peer};
use parking_lot::Mutex;
use proto::identity::DOMAIN;
use proto::join::JOIN_ALPN;
use proto::limits::{CLIENT_CONNECTIONS_MAX, HANDSHAKES_MAX, HANDSHAKES_PROVEN_MAX, JOINS_MAX};
use proto::peer::{Hello, PEER_ALPN};
use proto::wire::{CLIENT_ALPN, CLIENT_NUMBERED_ALPN};
use proto::{ErrorCode, Failure, Identity, Role};
use quinn::crypto::rustls::HandshakeData;
use quinn::rustls::pki_types::CertificateDer;
use quinn::{Connecting, Connection, Incoming};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::crowd::Crowd;
use crate::join::JoinConn;
use crate::reason::{End, end_of};
use crate::repeat::Repeats;
use crate::shares::{Seat, Shares};
use crate::{ClientConn, ClientSeat, CloseCode, NetError, PeerConn, QuicLink, Refused, tune};

/// Time for a handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// What is spoken here, the best first.
const ALPNS: [&[u8]; 4] = [CLIENT_NUMBERED_ALPN, CLIENT_ALPN, PEER_ALPN, JOIN_ALPN];

/// A node's UDP port.
#[derive(Debug, Clone)]
pub struct Endpoint(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dialer: Dialer,
    handshakes: tokio::sync::Mutex<JoinSet<Option<Accepted>>>,
    /// Handshakes in progress, by address.
    strangers: Crowd<AbortHandle>,
    admission: Arc<Admission>,
}

/// What a new connection is checked against.
#[derive(Debug)]
struct Admission {
    own: Identity,
    clients: Shares,
    joiners: Crowd<Connection>,
    repeats: Arc<Repeats>,
}

/// A new connection whose certificate and role are checked, or one without a certificate that may
/// ask for one.
#[derive(Debug)]
pub enum Accepted {
    /// From a client or an admin.
    Client(ClientConn),
    /// From a node.
    Peer(PeerConn),
    /// From somebody who has no certificate and wants one.
    Joiner(JoinConn),
}

impl Endpoint {
    /// Binds the port; must be called on a tokio runtime.
    ///
    /// # Errors
    /// When the port cannot be had or the certificates cannot be used.
    pub fn bind(listen: SocketAddr, credentials: &Credentials) -> Result<Self, NetError> {
        Self::bind_for(listen, credentials, CLIENT_CONNECTIONS_MAX)
    }

    /// As [`Endpoint::bind`], for at most so many clients at a time.
    ///
    /// # Errors
    /// As [`Endpoint::bind`].
    pub fn bind_for(
        listen: SocketAddr,
        credentials: &Credentials,
        clients_max: usize,
    ) -> Result<Self, NetError> {
        let server = tune::server(credentials, &ALPNS)?;
        let quic = tune::endpoint(listen, tune::node_endpoint(credentials), Some(server))?;
        let address =
            quic.local_addr().map_err(|source| NetError::Bind { address: listen, source })?;
        let own = credentials.identity().clone();
        let dialing = Arc::new(Mutex::new(tune::peer(credentials, PEER_ALPN)?));
        Ok(Self(Arc::new(Inner {
            dialer: Dialer { quic, address, own: own.clone(), dialing },
            handshakes: tokio::sync::Mutex::default(),
            strangers: Crowd::new(HANDSHAKES_PROVEN_MAX),
            admission: Arc::new(Admission {
                own,
                clients: Shares::new(clients_max),
                joiners: Crowd::new(JOINS_MAX),
                repeats: Arc::default(),
            }),
        })))
    }

    /// The address that is listened on, with the port that was given.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.0.dialer.address
    }

    /// Uses other certificates from now on, in both directions. Connections that stand go on.
    ///
    /// # Errors
    /// When they cannot be used, or are another member's; the old ones stay in use then.
    pub fn reload(&self, credentials: &Credentials) -> Result<(), NetError> {
        let dialer = &self.0.dialer;
        if *credentials.identity() != dialer.own {
            return Err(NetError::Config(format!(
                "the new certificate is that of {} in cluster {}",
                credentials.identity(),
                credentials.identity().cluster
            )));
        }
        let server = tune::server(credentials, &ALPNS)?;
        let client = tune::peer(credentials, PEER_ALPN)?;
        dialer.quic.set_server_config(Some(server));
        *dialer.dialing.lock() = client;
        Ok(())
    }

    /// The next connection whose certificate is in order; `None` once the endpoint is closed.
    /// Handshakes go on in the background, a bounded number of them, while this is being called;
    /// refused ones are logged with the reason.
    pub async fn accept(&self) -> Option<Accepted> {
        let mut handshakes = self.0.handshakes.lock().await;
        loop {
            tokio::select! {
                incoming = self.0.dialer.quic.accept() => self.0.begin(incoming?, &mut handshakes),
                Some(done) = handshakes.join_next() => {
                    if let Ok(Some(accepted)) = done {
                        return Some(accepted);
                    }
                }
            }
        }
    }

    /// A link that dials peers from this port. `hello` says who this node is; the link fills in
    /// whom it wants.
    pub fn link(&self, hello: impl Fn() -> Hello + Send + Sync + 'static) -> QuicLink {
        self.link_to(hello, |_, _| Ok(()))
    }

    /// As [`Endpoint::link`], to those alone whom `check` lets in: whoever answers must have the
    /// wanted name, raft id and incarnation, and then the right key.
    pub fn link_to(
        &self,
        hello: impl Fn() -> Hello + Send + Sync + 'static,
        check: impl Fn(&Peer, &Hello) -> Result<(), Refused> + Send + Sync + 'static,
    ) -> QuicLink {
        QuicLink::new(self.0.dialer.clone(), Arc::new(hello), Arc::new(check))
    }

    /// A place for one more connection of a client that comes by another way, after the same check as of
    /// those that come here.
    ///
    /// # Errors
    /// `Busy` beyond its share, else `Denied`.
    pub fn seat(&self, who: &Identity) -> Result<ClientSeat, Failure> {
        self.0.admission.seat(who).map(ClientSeat::new).map_err(|(code, reason)| {
            let busy = code == CloseCode::Busy;
            Failure::new(if busy { ErrorCode::Busy } else { ErrorCode::Denied }, reason)
        })
    }

    /// Closes every connection and accepts no more. What is not yet delivered is lost: wait for
    /// replies with [`crate::ReplyTx::stopped`] before.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.0.dialer.quic.close(code.code(), reason.as_bytes());
    }

    /// Waits until every closed connection has told its other side.
    pub async fn wait_idle(&self) {
        self.0.dialer.quic.wait_idle().await;
    }
}

impl Inner {
    /// Begins a handshake. If too many are in progress, one that takes long is let go for it.
    fn begin(&self, incoming: Incoming, handshakes: &mut JoinSet<Option<Accepted>>) {
        let remote = incoming.remote_address();
        if self.strangers.len() >= HANDSHAKES_MAX && incoming.may_retry() {
            // An address that is not its sender's cannot come back with the token.
            if incoming.retry().is_err() {
                tracing::debug!(%remote, "a retry was not possible");
            }
            return;
        }
        // Nobody in a handshake is being served, so there is always one to go.
        let Some((place, out)) = self.strangers.enter(remote.ip()) else {
            incoming.refuse();
            return;
        };
        if let Some(out) = out {
            out.abort();
            self.admission.crowded("too many handshakes at a time: the slowest are dropped");
        }
        match incoming.accept() {
            Ok(connecting) => {
                let admission = Arc::clone(&self.admission);
                let place = Arc::new(place);
                let held = Arc::clone(&place);
                let task = handshakes.spawn(async move {
                    let accepted = admission.handshake(connecting, remote).await;
                    drop(held);
                    accepted
                });
                if !place.holds(task.clone()) {
                    task.abort();
                }
            }
            Err(error) => self.admission.log(remote, &end_of(&error)),
        }
    }
}

impl Admission {
    async fn handshake(&self, connecting: Connecting, remote: SocketAddr) -> Option<Accepted> {
        let connection = match timeout(HANDSHAKE_TIME, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                self.log(remote, &end_of(&error));
                return None;
            }
            Err(_) => {
                tracing::info!(%remote, "a handshake took too long");
                return None;
            }
        };
        match self.admit(connection.clone()) {
            Ok(accepted) => Some(accepted),
            Err((code, reason)) => {
                connection.close(code.code(), reason.as_bytes());
                self.log(remote, &End::WeRefused(reason));
                None
            }
        }
    }

    /// Notes why a connection did not come about; whoever insists is noted once in a while.
    fn log(&self, remote: SocketAddr, end: &End) {
        let reason = end.reason();
        if !self.repeats.is_news(&format!("{} {reason}", remote.ip())) {
            tracing::debug!(%remote, reason, "refused a connection again");
            return;
        }
        match end {
            End::WeRefused(_) => tracing::warn!(%remote, reason, "refused a connection"),
            End::RefusedUs(_) | End::RevokedUs(_) => {
                tracing::warn!(%remote, reason, "a caller refused this node");
            }
            End::Moving(_) | End::Busy(_) | End::Lost(_) => {
                tracing::info!(%remote, reason, "a handshake failed");
            }
        }
    }

    /// Notes that somebody was let go for others: once in a while, however many they are.
    fn crowded(&self, what: &str) {
        if self.repeats.is_news(what) {
            tracing::warn!(what, "crowded");
        }
    }

    /// Checks who connected and what for.
    fn admit(&self, connection: Connection) -> Result<Accepted, (CloseCode, String)> {
        let asked = protocol(&connection);
        if asked.as_deref() == Some(JOIN_ALPN) {
            // Nobody who has a certificate needs this; one that is shown plays no part.
            let full =
                || "too many want to join at this node at once: try again in a moment".to_owned();
            let from = connection.remote_address().ip();
            let (place, out) = self.joiners.enter(from).ok_or_else(|| (CloseCode::Busy, full()))?;
            if let Some(out) = out {
                out.close(CloseCode::Busy.code(), full().as_bytes());
                self.crowded("too many joiners at a time: the most silent are dropped");
            }
            return Ok(Accepted::Joiner(JoinConn::new(connection, place)));
        }
        let peer = certified(&connection).map_err(|reason| (CloseCode::WrongRole, reason))?;
        let who = &peer.identity;
        match (asked.as_deref() == Some(PEER_ALPN), who.role) {
            (true, Role::Node) => {
                self.of_this_cluster(who)?;
                if who.name == self.own.name {
                    return Err((CloseCode::Refused, format!("{who} is this node itself")));
                }
                let repeats = Arc::clone(&self.repeats);
                Ok(Accepted::Peer(PeerConn::new(connection, peer, self.own.clone(), repeats)))
            }
            (true, Role::Client | Role::Admin) => {
                self.of_this_cluster(who)?;
                Err((CloseCode::WrongRole, format!("the certificate of {who} is not a node's")))
            }
            (false, _) => {
                let seat = self.seat(who)?;
                Ok(Accepted::Client(ClientConn::new(connection, peer, seat)))
            }
        }
    }

    fn of_this_cluster(&self, who: &Identity) -> Result<(), (CloseCode, String)> {
        if who.cluster == self.own.cluster {
            return Ok(());
        }
        let reason = format!("{who} is of cluster {}, not {}", who.cluster, self.own.cluster);
        Err((CloseCode::WrongCluster, reason))
    }

    /// A place for one more connection of a client.
    fn seat(&self, who: &Identity) -> Result<Arc<Seat>, (CloseCode, String)> {
        self.of_this_cluster(who)?;
        match who.role {
            Role::Client | Role::Admin => self.clients.connect(who).ok_or_else(|| {
                let full = format!("{who} has as many connections as its share allows");
                (CloseCode::Busy, full)
            }),
            Role::Node => {
                Err((CloseCode::WrongRole, format!("the certificate of {who} is not a client's")))
            }
        }
    }
}

/// Reads the certificate that TLS has verified.
pub(crate) fn certified(connection: &Connection) -> Result<Peer, String> {
    let shown = connection.peer_identity();
    let chain = shown.and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
    let chain =
        chain.ok_or_else(|| format!("no certificate was shown; one under {DOMAIN} is required"))?;
    certs::peer_of(&chain).map_err(|error| error.to_string())
}

/// The protocol that both sides have agreed on.
pub(crate) fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

/// What dialling a peer takes.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    quic: quinn::Endpoint,
    address: SocketAddr,
    own: Identity,
    dialing: Arc<Mutex<quinn::ClientConfig>>,
}

impl Dialer {
    /// Who dials.
    pub(crate) fn own(&self) -> Identity {
        self.own.clone()
    }

    pub(crate) async fn resolve(&self, address: &str) -> Result<SocketAddr, String> {
        crate::quic_link::resolve(address, self.address).await
    }

    pub(crate) fn connect(&self, address: SocketAddr, name: &str) -> Result<Connecting, String> {
        let config = self.dialing.lock().clone();
        self.quic
            .connect_with(config, address, name)
            .map_err(|error| format!("cannot dial {address}: {error}"))
    }
}
