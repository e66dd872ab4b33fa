//! A connection that a peer opened to us.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::Peer;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use proto::Identity;
use proto::peer::{Hello, Refusal};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::frames::{FrameRx, FrameTx};
use crate::hello;
use crate::reason::{End, end_of};
use crate::repeat::Repeats;
use crate::switchboard::Called;
use crate::{CloseCode, Lane, LinkError, Refused, tune};

/// Time for both sides to say who they are.
pub(crate) const HELLO_TIME: Duration = Duration::from_secs(5);

/// A stream that a peer opened.
#[derive(Debug)]
pub struct PeerStream {
    /// Who opened it: name, raft id and incarnation are checked.
    pub from: Arc<Hello>,
    /// What it is for.
    pub lane: Lane,
    /// Answers.
    pub tx: FrameTx,
    /// What the peer sends.
    pub rx: FrameRx,
}

/// A connection from a node of our cluster. Nothing passes before [`PeerConn::handshake`].
#[derive(Debug)]
pub struct PeerConn {
    wire: Wire,
    peer: Peer,
    own: Identity,
    /// Where the peer was when it connected. A peer does not move.
    from: SocketAddr,
    hello: Option<Arc<Hello>>,
    repeats: Arc<Repeats>,
}

/// What it runs on.
#[derive(Debug)]
enum Wire {
    Quic(Quic),
    Board(Called),
}

#[derive(Debug)]
struct Quic {
    connection: Connection,
    opening: Mutex<FuturesUnordered<BoxFuture<'static, Option<PeerStream>>>>,
}

impl PeerConn {
    pub(crate) fn new(
        connection: Connection,
        peer: Peer,
        own: Identity,
        repeats: Arc<Repeats>,
    ) -> Self {
        tune::raise_for_peer(&connection);
        let from = connection.remote_address();
        let wire = Wire::Quic(Quic { connection, opening: Mutex::default() });
        Self { wire, peer, own, from, hello: None, repeats }
    }

    /// Over a switchboard; `from` stands for the address of the caller.
    pub(crate) fn on_board(called: Called, peer: Peer, own: Identity, from: SocketAddr) -> Self {
        let wire = Wire::Board(called);
        Self { wire, peer, own, from, hello: None, repeats: Arc::default() }
    }

    /// What the peer's certificate says.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Where the peer is.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.from
    }

    /// What the peer said of itself; `None` before the handshake.
    #[must_use]
    pub fn hello(&self) -> Option<&Arc<Hello>> {
        self.hello.as_ref()
    }

    /// Takes the peer's hello, checks cluster, name and the name it wanted, asks `check` whether the
    /// key, see [`PeerConn::peer`], is one that comes with that raft id and incarnation, and answers with `mine`. A refusal is told to the peer, logged, and
    /// closes the connection. May take seconds: not in the loop that accepts.
    ///
    /// # Errors
    /// When either side refuses, or the peer says nothing for some seconds.
    pub async fn handshake<E: Into<Refused>>(
        &mut self,
        mine: Hello,
        check: impl Fn(&Hello) -> Result<(), E> + Send,
    ) -> Result<(), LinkError> {
        let peer = self.peer.identity.name.to_string();
        let done = timeout(HELLO_TIME, self.exchange(mine, check)).await;
        match done.unwrap_or_else(|_| Err(LinkError::Lost("it said nothing".to_owned()))) {
            Ok(hello) => {
                self.hello = Some(Arc::new(hello));
                Ok(())
            }
            Err(error) => {
                let passes = matches!(error, LinkError::Refused { why: Refusal::NotYet, .. });
                if !passes && self.repeats.is_news(&format!("{peer} {error}")) {
                    tracing::warn!(%peer, remote = %self.from, %error, "refused a peer");
                } else {
                    tracing::debug!(%peer, remote = %self.from, %error, "refused a peer again");
                }
                let code = match error {
                    LinkError::Refused { why: Refusal::Removed, .. } => CloseCode::Revoked,
                    LinkError::Refused { why: Refusal::NotYet, .. } => CloseCode::Busy,
                    LinkError::Refused { .. } => CloseCode::Refused,
                    LinkError::Frame(_) | LinkError::Lost(_) | LinkError::Unreachable { .. } => {
                        CloseCode::Protocol
                    }
                };
                self.close(code, &error.to_string());
                Err(error)
            }
        }
    }

    async fn exchange<E: Into<Refused>>(
        &self,
        mine: Hello,
        check: impl Fn(&Hello) -> Result<(), E> + Send,
    ) -> Result<Hello, LinkError> {
        let stream = self.wire.first().await?;
        hello::answer(stream, (&self.own, &self.peer.identity), mine, check).await
    }

    /// The next stream that the peer opens; `None` when the connection is over. Must follow a
    /// successful handshake.
    pub async fn next(&self) -> Option<PeerStream> {
        let hello = self.hello.as_ref()?;
        match &self.wire {
            Wire::Quic(quic) => quic.next(hello, self).await,
            Wire::Board(called) => called.next(hello).await,
        }
    }

    /// Closes the connection; the peer is told the reason.
    pub fn close(&self, code: CloseCode, reason: &str) {
        match &self.wire {
            Wire::Quic(Quic { connection, .. }) => connection.close(code.code(), reason.as_bytes()),
            Wire::Board(called) => called.close(reason),
        }
    }

    fn log_end(&self, end: &End) {
        let (peer, remote, reason) = (&self.peer.identity.name, self.from, end.reason());
        match end {
            End::RefusedUs(_) | End::RevokedUs(_) | End::WeRefused(_) => {
                tracing::warn!(%peer, %remote, reason, "a peer refuses this node");
            }
            End::Moving(_) | End::Busy(_) | End::Lost(_) => {
                tracing::info!(%peer, %remote, reason, "a peer's connection ended");
            }
        }
    }
}

impl Wire {
    /// The stream that the hellos pass on.
    async fn first(&self) -> Result<(FrameTx, FrameRx), LinkError> {
        match self {
            Self::Quic(Quic { connection, .. }) => {
                let lost = |error| LinkError::Lost(end_of(&error).reason().to_owned());
                let (tx, rx) = connection.accept_bi().await.map_err(lost)?;
                Ok((FrameTx::quic(tx), FrameRx::quic(rx)))
            }
            Self::Board(called) => called.first().await,
        }
    }
}

impl Quic {
    async fn next(&self, hello: &Arc<Hello>, conn: &PeerConn) -> Option<PeerStream> {
        let mut opening = self.opening.lock().await;
        loop {
            tokio::select! {
                Some(done) = opening.next(), if !opening.is_empty() => {
                    if let Some(stream) = done {
                        return Some(stream);
                    }
                }
                accepted = self.connection.accept_bi() => match accepted {
                    Ok((tx, rx)) => {
                        if !self.stays_put(conn) {
                            return None;
                        }
                        let mut stream = begin(tx, rx, Arc::clone(hello)).boxed();
                        match (&mut stream).now_or_never() {
                            Some(Some(stream)) => return Some(stream),
                            Some(None) => {}
                            None => opening.push(stream),
                        }
                    }
                    Err(error) => {
                        conn.log_end(&end_of(&error));
                        return None;
                    }
                },
            }
        }
    }

    fn stays_put(&self, conn: &PeerConn) -> bool {
        let now = self.connection.remote_address();
        if now == conn.from {
            return true;
        }
        tracing::warn!(peer = %conn.peer.identity.name, from = %conn.from, %now, "a peer moved");
        conn.close(CloseCode::Protocol, "a peer must not change its address");
        false
    }
}

/// Reads the lane of a new stream.
async fn begin(tx: SendStream, rx: RecvStream, from: Arc<Hello>) -> Option<PeerStream> {
    let mut rx = FrameRx::quic(rx);
    let lane = match rx.first_byte().await {
        Ok(byte) => byte.and_then(Lane::from_byte),
        Err(_) => return None,
    };
    let Some(lane) = lane else {
        tracing::warn!(peer = %from.name, "a peer opened a stream in an unknown lane");
        return None;
    };
    drop(tx.set_priority(lane.priority()));
    Some(PeerStream { from, lane, tx: FrameTx::quic(tx), rx })
}
