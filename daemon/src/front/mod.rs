//! HTTPS for whoever does not speak our protocol: curl, browsers, probes, monitoring. What a request means
//! is asked of the node as `server` asks it; here are connections, paths and answers.
//!
//! Who asks is proven by a client's certificate, with the same check as over QUIC, or by an access token that
//! stands for one, and holds the same shares of the node. Without either only the health and the files
//! of the page are answered.
//!
//! Invariant: no request has a way of its own to the log or the state: all go through [`Server::answer`], and
//! followed reads through what that server follows.
//!
//! Not here: what is shown, as JSON (`views`); what a request means (`node`). There is none in a simulator:
//! only a process has a TCP port (`start::process`).

mod answer;
mod asking;
mod browser;
mod cluster;
mod follow;
mod health;
mod leftover;
mod listen;
mod messages;
mod metrics;
mod openapi;
mod page;
mod report;
mod routes;
mod sign_in;
mod visit;

use std::sync::Arc;

use arc_swap::ArcSwap;
use certs::{CertError, Credentials};
use config::Http;
use net::{Crowd, Endpoint};
use proto::limits::HTTP_STRANGERS_MAX;
use proto::wire::Status;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::server::Server;
use crate::tasks::Tasks;

use self::health::{Balancers, Lately};

/// What is spoken, the best first.
const ALPNS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A port for HTTPS that is taken, and not served yet.
pub(crate) struct Door {
    listener: TcpListener,
    acceptor: ArcSwap<TlsAcceptor>,
    open_metrics: bool,
}

/// The HTTPS side of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Front(Arc<Inner>);

struct Inner {
    server: Server,
    endpoint: Endpoint,
    acceptor: ArcSwap<TlsAcceptor>,
    strangers: Crowd<AbortHandle>,
    /// Held while a token is looked up that is not known here.
    looks: tokio::sync::Mutex<()>,
    readiness: Lately<Result<(), String>>,
    balancers: Balancers,
    verdict: Lately<Status>,
    /// What Prometheus is told that is no client.
    metrics: Lately<String>,
    /// Whether that is told to who shows no certificate, too.
    open_metrics: bool,
    /// Where the way of a message runs.
    core: Handle,
}

impl Door {
    /// Takes the port.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(crate) fn open(http: &Http, credentials: &Credentials) -> anyhow::Result<Self> {
        let listen = http.listen;
        let acceptor = ArcSwap::from_pointee(acceptor(credentials)?);
        let socket = if listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A port that a process had a moment ago is nobody's.
        socket.set_reuseaddr(true)?;
        socket.bind(listen)?;
        let listener = socket.listen(BACKLOG)?;
        Ok(Self { listener, acceptor, open_metrics: http.open_metrics })
    }
}

impl Front {
    /// Serves what comes in at a door until the tasks stop. To be called on the runtime of the way of a
    /// message.
    pub(crate) fn start(door: Door, server: Server, endpoint: Endpoint, tasks: &Tasks) -> Self {
        let Door { listener, acceptor, open_metrics } = door;
        let front = Self(Arc::new(Inner {
            server,
            endpoint,
            acceptor,
            strangers: Crowd::new(HTTP_STRANGERS_MAX),
            looks: tokio::sync::Mutex::default(),
            readiness: Lately::default(),
            balancers: Balancers::default(),
            verdict: Lately::default(),
            metrics: Lately::default(),
            open_metrics,
            core: Handle::current(),
        }));
        tasks.aside().keep("https", listen::run(front.clone(), listener));
        front
    }

    /// Completes once balancers know that the node stops, as far as there are any.
    pub(crate) async fn balancers_told(&self) {
        self.0.balancers.told().await;
    }

    /// Shows other certificates from now on.
    ///
    /// # Errors
    /// When they cannot be used; the old ones stay in use then.
    pub(crate) fn reload(&self, credentials: &Credentials) -> Result<(), CertError> {
        self.0.acceptor.store(Arc::new(acceptor(credentials)?));
        Ok(())
    }
}

fn acceptor(credentials: &Credentials) -> Result<TlsAcceptor, CertError> {
    Ok(TlsAcceptor::from(credentials.web_config(&ALPNS)?))
}
