//! Connections: accepted, proven, served, and ended when the node is drained or stops.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use certs::Peer;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use net::Place;
use proto::limits::{HTTP_HEADER_BYTES_MAX, HTTP_STREAMS_MAX};
use proto::{ErrorCode, Failure, Role};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::node::Principal;
use crate::pause;

use super::visit::{Caller, Stranger, Visit};
use super::{Front, routes};

/// Time for a handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// Time for the headers of a request; an idle connection is closed after it, too.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// An HTTP/2 connection is asked after so long whether it is still there, and given as long to answer.
const ALIVE_EVERY: Duration = Duration::from_secs(20);
/// Wait where no connection can be accepted: those that end give back what it takes.
const AGAIN: Duration = Duration::from_millis(100);

/// Accepts connections until the node stops.
pub(super) async fn run(front: Front, listener: TcpListener) {
    let stop = front.0.server.stop.clone();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => front.begin(stream, remote),
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTPS connection");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

impl Front {
    /// Begins to serve a connection. If too many strangers are here, one that came before is let go.
    fn begin(&self, stream: TcpStream, remote: SocketAddr) {
        let Some((place, out)) = self.0.strangers.enter(remote.ip()) else { return };
        if let Some(out) = out {
            out.abort();
        }
        let place = Arc::new(place);
        let (front, held) = (self.clone(), Arc::clone(&place));
        let stop = front.0.server.stop.clone();
        let task = pause::spawn(async move {
            let serving = Box::pin(front.connection(stream, remote, held));
            stop.run_until_cancelled_owned(serving).await;
        });
        if !place.holds(task.abort_handle()) {
            task.abort();
        }
    }

    async fn connection(
        self,
        stream: TcpStream,
        remote: SocketAddr,
        place: Arc<Place<AbortHandle>>,
    ) {
        // Small answers would wait for acknowledgements; without it they still come.
        drop(stream.set_nodelay(true));
        let acceptor = self.0.acceptor.load_full();
        let stream = match timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let text = error.to_string();
                let reason = certs::refusal(&text).unwrap_or(&text);
                tracing::info!(%remote, reason, "an HTTPS handshake failed");
                return;
            }
            Err(_) => {
                tracing::info!(%remote, "an HTTPS handshake took too long");
                return;
            }
        };
        let caller = self.caller(&stream, &place);
        let crowded = match &caller {
            Caller::Node(_) | Caller::Refused(_) => Some(place),
            // The one has its own place, the other holds this one itself.
            Caller::Known(..) | Caller::Nobody(_) => {
                drop(place);
                None
            }
        };
        let Caller::Known(principal, _) = &caller else {
            self.serve(stream, caller, None).await;
            drop(crowded);
            return;
        };
        let principal = principal.clone();
        let (node, name) = (&self.0.server.node, principal.identity.name.clone());
        let now = || node.node_clock().reading().now_ns;
        tracing::debug!(client = %principal.identity, %remote, "connected by HTTPS");
        node.sessions().connected(&name, now());
        self.serve(stream, caller, Some(&principal)).await;
        node.sessions().disconnected(&name, now());
    }

    /// Who is at the other end.
    fn caller(&self, stream: &TlsStream<TcpStream>, place: &Arc<Place<AbortHandle>>) -> Caller {
        let (_, tls) = stream.get_ref();
        let Some(chain) = tls.peer_certificates() else {
            return Caller::Nobody(Arc::new(Stranger::new(Arc::clone(place))));
        };
        let proven = certs::peer_of(chain)
            .map_err(|error| Failure::new(ErrorCode::Denied, error))
            .and_then(|peer: Peer| match peer.identity.role {
                Role::Node => Ok((peer, None)),
                Role::Client | Role::Admin => {
                    self.0.endpoint.seat(&peer.identity).map(|seat| (peer, Some(seat)))
                }
            });
        match proven {
            Ok((peer, None)) => Caller::Node(Box::new(peer)),
            Ok((peer, Some(seat))) => {
                Caller::Known(Principal::of(&peer, self.0.server.node.name()), seat)
            }
            Err(failure) => Caller::Refused(failure),
        }
    }

    /// Serves requests until the other side goes, the node is drained or stops, or an administrator is one
    /// no more.
    async fn serve(
        &self,
        stream: TlsStream<TcpStream>,
        caller: Caller,
        principal: Option<&Principal>,
    ) {
        let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let visit = Visit { front: self.clone(), caller };
        let service = TowerToHyperService::new(routes::router(visit));
        let builder = builder(two);
        let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let server = &self.0.server;
        let mut leaves = pin!(async {
            tokio::select! {
                () = server.drain.cancelled() => {}
                () = server.node.drained() => {}
            }
        });
        let mut revoked = pin!(self.revoked(principal));
        let mut leaving = false;
        loop {
            tokio::select! {
                ended = serving.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "an HTTPS connection ended");
                    }
                    return;
                }
                () = &mut leaves, if !leaving => {
                    leaving = true;
                    serving.as_mut().graceful_shutdown();
                }
                () = &mut revoked => return,
            }
        }
    }

    /// Completes when an administrator is one no more.
    async fn revoked(&self, principal: Option<&Principal>) {
        let admin = principal.filter(|principal| principal.identity.role == Role::Admin);
        let Some(admin) = admin else { return std::future::pending().await };
        let node = &self.0.server.node;
        let (mut changes, mut is_admin) = (node.trust_changes(), false);
        node.was_admin(admin, &mut is_admin);
        loop {
            changes.next().await;
            if node.was_admin(admin, &mut is_admin) {
                return;
            }
        }
    }
}

fn builder(two: bool) -> auto::Builder<TokioExecutor> {
    // Told by the handshake: to look at the first bytes would wait for them without end.
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = if two { builder.http2_only() } else { builder.http1_only() };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HTTP_HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP_STREAMS_MAX)
        .max_header_list_size(u32::try_from(HTTP_HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(ALIVE_EVERY)
        .keep_alive_timeout(ALIVE_EVERY);
    builder
}
