//! A connection that a client opened to us: one request per stream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certs::Peer;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use prost::Message;
use proto::wire::{Reply, Request, Response};
use proto::{ErrorCode, Failure};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::frames::{FrameRx, FrameTx};
use crate::reason::end_of;
use crate::{CloseCode, LinkError};

/// Time for a client to send the request it opened a stream for.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Requests up to this size are not counted: a connection's streams bound them well enough.
const SMALL_BYTES: usize = 4 << 10;
/// Bytes of larger requests that one connection may have in the works.
const CONNECTION_BYTES: usize = 16 << 20;
/// Bytes of larger requests that all connections together may have in the works.
pub(crate) const CLIENTS_BYTES: usize = 256 << 20;
/// When a client over its bytes may come back.
const BUSY_MS: u32 = 50;

/// A connection from a client or an admin of our cluster.
#[derive(Debug)]
pub struct ClientConn {
    connection: Connection,
    peer: Arc<Peer>,
    quota: Quota,
    reading: Mutex<FuturesUnordered<BoxFuture<'static, Option<Incoming>>>>,
    _place: OwnedSemaphorePermit,
}

/// Bytes of requests in the works: of one connection, and of all.
#[derive(Debug, Clone)]
struct Quota {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// A request, and where its answer goes.
#[derive(Debug)]
pub struct Incoming {
    /// The request.
    pub request: Request,
    /// The answer.
    pub reply: ReplyTx,
}

/// Sends the answer to one request: once, or page after page to a follower.
#[derive(Debug)]
pub struct ReplyTx {
    tx: FrameTx,
    _bytes: Vec<OwnedSemaphorePermit>,
}

impl ClientConn {
    pub(crate) fn new(
        connection: Connection,
        peer: Peer,
        all: Arc<Semaphore>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let quota = Quota { own: Arc::new(Semaphore::new(CONNECTION_BYTES)), all };
        let peer = Arc::new(peer);
        Self { connection, peer, quota, reading: Mutex::default(), _place: place }
    }

    /// What the client's certificate says.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Where the client is.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// The next request; `None` when the connection is over. What is not a request is answered
    /// with the reason, logged, and does not disturb the others.
    pub async fn next(&self) -> Option<Incoming> {
        let mut reading = self.reading.lock().await;
        loop {
            tokio::select! {
                Some(done) = reading.next(), if !reading.is_empty() => {
                    if let Some(incoming) = done {
                        return Some(incoming);
                    }
                }
                accepted = self.connection.accept_bi() => match accepted {
                    Ok((tx, rx)) => {
                        let mut request = self.request(tx, rx);
                        // A small request is here as soon as its stream is.
                        match (&mut request).now_or_never() {
                            Some(Some(incoming)) => return Some(incoming),
                            Some(None) => {}
                            None => reading.push(request),
                        }
                    }
                    Err(error) => {
                        let reason = end_of(&error);
                        let client = &self.peer.identity;
                        tracing::debug!(%client, reason = reason.reason(), "connection ended");
                        return None;
                    }
                },
            }
        }
    }

    /// Closes the connection; the client is told the reason.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.connection.close(code.code(), reason.as_bytes());
    }

    /// Completes when the connection is over.
    pub async fn closed(&self) {
        self.connection.closed().await;
    }

    fn request(&self, tx: SendStream, rx: RecvStream) -> BoxFuture<'static, Option<Incoming>> {
        let (peer, quota) = (Arc::clone(&self.peer), self.quota.clone());
        async move {
            let mut reply = ReplyTx { tx: FrameTx::quic(tx), _bytes: Vec::new() };
            let read = timeout(REQUEST_TIME, read(rx, &quota)).await;
            let failure = match read {
                Ok(Ok(Some((request, bytes)))) => {
                    reply._bytes = bytes;
                    return Some(Incoming { request, reply });
                }
                // The client changed its mind.
                Ok(Ok(None)) => return None,
                Ok(Err(failure)) => failure,
                Err(_) => Failure::new(ErrorCode::Deadline, "the request did not arrive in time"),
            };
            let client = &peer.identity;
            tracing::warn!(%client, reason = failure.message, "refused a request");
            let refusal = Response { reply: Some(Reply::Failure(failure)), ..Response::default() };
            // If the client is gone, nobody is left to tell.
            drop(reply.send(&refusal).await);
            reply.finish();
            None
        }
        .boxed()
    }
}

/// Reads the one frame of a request.
async fn read(
    rx: RecvStream,
    quota: &Quota,
) -> Result<Option<(Request, Vec<OwnedSemaphorePermit>)>, Failure> {
    let invalid = |error: LinkError| match error {
        LinkError::Frame(proto::frame::FrameError::Version(_)) => {
            Failure::new(ErrorCode::Version, error)
        }
        other => Failure::new(ErrorCode::Invalid, other),
    };
    let mut rx = FrameRx::quic(rx);
    let Some(len) = rx.peek_len().await.map_err(invalid)? else { return Ok(None) };
    let bytes = quota.take(len)?;
    let Some(frame) = rx.recv().await.map_err(invalid)? else { return Ok(None) };
    rx.close();
    let request = decode(frame)?;
    Ok(Some((request, bytes)))
}

fn decode(frame: Bytes) -> Result<Request, Failure> {
    Request::decode(frame).map_err(|error| {
        Failure::new(ErrorCode::Invalid, format!("the request cannot be decoded: {error}"))
    })
}

impl Quota {
    /// Takes room for a request. Never waits: those who hold room may need the window that a
    /// waiting request would fill.
    fn take(&self, len: usize) -> Result<Vec<OwnedSemaphorePermit>, Failure> {
        if len <= SMALL_BYTES {
            return Ok(Vec::new());
        }
        let take = |from: &Arc<Semaphore>| {
            let permits = u32::try_from(len).unwrap_or(u32::MAX);
            Arc::clone(from).try_acquire_many_owned(permits).map_err(|_| {
                Failure::new(ErrorCode::Busy, "too many large requests at a time")
                    .retry_after_ms(BUSY_MS)
            })
        };
        Ok(vec![take(&self.own)?, take(&self.all)?])
    }
}

impl ReplyTx {
    /// Sends one answer; waits while the client does not read.
    ///
    /// # Errors
    /// When the answer is longer than a frame may be, or the client is gone.
    pub async fn send(&mut self, response: &Response) -> Result<(), LinkError> {
        self.tx.send_message(response).await
    }

    /// Says that this was the last answer.
    pub fn finish(&mut self) {
        // If the client is gone, nobody is left to tell.
        self.tx.finish_now();
    }

    /// Completes when the client stops listening or is gone; after [`ReplyTx::finish`] also when
    /// it has received everything.
    pub async fn stopped(&self) {
        self.tx.stopped().await;
    }
}
