//! A connection that a peer opened to us.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::Peer;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use prost::Message;
use proto::Identity;
use proto::peer::{Hello, Refusal};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::frames::{FrameRx, FrameTx};
use crate::reason::{End, end_of};
use crate::repeat::Repeats;
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
    connection: Connection,
    peer: Peer,
    own: Identity,
    /// Where the peer was when it connected. A peer does not move.
    from: SocketAddr,
    hello: Option<Arc<Hello>>,
    repeats: Arc<Repeats>,
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
        let opening = Mutex::default();
        Self { connection, peer, own, from, hello: None, repeats, opening }
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
                    _ => CloseCode::Protocol,
                };
                self.close(code, &error.to_string());
                Err(error)
            }
        }
    }

    async fn exchange<E: Into<Refused>>(
        &self,
        mut mine: Hello,
        check: impl Fn(&Hello) -> Result<(), E> + Send,
    ) -> Result<Hello, LinkError> {
        let name = self.peer.identity.name.as_str();
        let lost = |error| LinkError::Lost(end_of(&error).reason().to_owned());
        let (tx, rx) = self.connection.accept_bi().await.map_err(lost)?;
        let (mut tx, mut rx) = (FrameTx::quic(tx), FrameRx::quic(rx));
        let said = rx.recv().await?;
        let theirs = said.and_then(|frame| Hello::decode(frame).ok());
        let theirs =
            theirs.ok_or_else(|| LinkError::Lost("it did not begin with a hello".to_owned()))?;
        let verdict = check_hello(&theirs, &self.peer.identity, &self.own).and_then(|()| {
            let own = self.own.name.as_str();
            if theirs.wanted != own {
                let reason = format!("{name} wanted to reach {}, but this is {own}", theirs.wanted);
                return Err(Refused::new(Refusal::Name, reason));
            }
            check(&theirs).map_err(Into::into)
        });
        mine.wanted = name.to_owned();
        if let Err(Refused { why, reason }) = &verdict {
            mine.refusal.clone_from(reason);
            mine.refused = (*why).into();
        }
        tx.send_message(&mine).await?;
        tx.finish().await?;
        if let Err(refused) = verdict {
            // The answer carries the reason; closing at once could overtake it.
            tx.stopped().await;
            return Err(refused.by(name));
        }
        if !theirs.refusal.is_empty() {
            return Err(Refused::new(theirs.why_refused(), theirs.refusal).by(name));
        }
        Ok(theirs)
    }

    /// The next stream that the peer opens; `None` when the connection is over. Must follow a
    /// successful handshake.
    pub async fn next(&self) -> Option<PeerStream> {
        let hello = self.hello.as_ref()?;
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
                        if !self.stays_put() {
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
                        self.log_end(&end_of(&error));
                        return None;
                    }
                },
            }
        }
    }

    /// Closes the connection; the peer is told the reason.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.connection.close(code.code(), reason.as_bytes());
    }

    fn stays_put(&self) -> bool {
        let now = self.connection.remote_address();
        if now == self.from {
            return true;
        }
        tracing::warn!(peer = %self.peer.identity.name, from = %self.from, %now, "a peer moved");
        self.close(CloseCode::Protocol, "a peer must not change its address");
        false
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

/// Checks what both sides check: cluster, and the name against the certificate.
pub(crate) fn check_hello(
    theirs: &Hello,
    certified: &Identity,
    own: &Identity,
) -> Result<(), Refused> {
    if theirs.cluster != own.cluster.as_str() {
        let reason = format!("it is of cluster {}, this is {}", theirs.cluster, own.cluster);
        return Err(Refused::new(Refusal::Cluster, reason));
    }
    if theirs.name != certified.name.as_str() {
        let reason = format!(
            "it says that it is {}, but its certificate says {}",
            theirs.name, certified.name
        );
        return Err(Refused::new(Refusal::Name, reason));
    }
    Ok(())
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
