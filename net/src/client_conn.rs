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
use proto::limits::CLIENT_BYTES_FREE;
use proto::wire::{Reply, Request, Response};
use proto::{ErrorCode, Failure};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use crate::frames::{FrameRx, FrameTx, encode};
use crate::reason::end_of;
use crate::shares::{Held, Seat};
use crate::{CloseCode, LinkError, tune};

/// Time for a client to send the request it opened a stream for.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Time for a client to take a refusal.
const REFUSAL_TIME: Duration = Duration::from_secs(2);
/// What is said to a client that does not read its answers.
const UNREAD: &str = "the answers that this client has not read fill its share";
/// When a client over its share may come back.
const BUSY_MS: u32 = 100;

/// A connection from a client or an admin of our cluster.
#[derive(Debug)]
pub struct ClientConn {
    connection: Connection,
    peer: Arc<Peer>,
    seat: Arc<Seat>,
    reading: Mutex<Reading>,
}

/// Requests that are not here in full yet, and refusals that are not taken yet.
#[derive(Debug, Default)]
struct Reading {
    requests: FuturesUnordered<BoxFuture<'static, Option<Incoming>>>,
    /// Until when the client is not listened to.
    pause: Option<Instant>,
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
    /// The request's place, its bytes, and those of the answer that is not taken yet.
    held: Held,
}

impl ClientConn {
    pub(crate) fn new(connection: Connection, peer: Peer, seat: Arc<Seat>) -> Self {
        tune::raise_for_client(&connection, seat.nth());
        Self { connection, peer: Arc::new(peer), seat, reading: Mutex::default() }
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
        let Reading { requests, pause } = &mut *reading;
        loop {
            let until = pause.unwrap_or_else(Instant::now);
            tokio::select! {
                Some(done) = requests.next(), if !requests.is_empty() => {
                    if let Some(incoming) = done {
                        return Some(incoming);
                    }
                }
                () = sleep_until(until), if pause.is_some() => *pause = None,
                accepted = self.connection.accept_bi(), if pause.is_none() => match accepted {
                    Ok((tx, rx)) => {
                        let mut request = match self.seat.request() {
                            Some(held) => self.request(tx, rx, held),
                            None => {
                                *pause = self.seat.refused();
                                self.refuse(tx, rx)
                            }
                        };
                        // A small request is here as soon as its stream is.
                        match (&mut request).now_or_never() {
                            Some(Some(incoming)) => return Some(incoming),
                            Some(None) => {}
                            None => requests.push(request),
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

    /// Says at once that the client asks too much at a time, whatever it asks.
    fn refuse(&self, tx: SendStream, rx: RecvStream) -> BoxFuture<'static, Option<Incoming>> {
        tracing::debug!(client = %self.peer.identity, "refused a request: too many at a time");
        async move {
            drop(rx);
            tell(tx, busy("as many requests of this client are open as its share allows")).await;
            None
        }
        .boxed()
    }

    fn request(
        &self,
        tx: SendStream,
        rx: RecvStream,
        mut held: Held,
    ) -> BoxFuture<'static, Option<Incoming>> {
        let peer = Arc::clone(&self.peer);
        async move {
            let read = timeout(REQUEST_TIME, read(rx, &mut held)).await;
            let failure = match read {
                Ok(Ok(Some(request))) => {
                    let reply = ReplyTx { tx: FrameTx::quic(tx), held };
                    return Some(Incoming { request, reply });
                }
                // The client changed its mind.
                Ok(Ok(None)) => return None,
                Ok(Err(failure)) => failure,
                Err(_) => Failure::new(ErrorCode::Deadline, "the request did not arrive in time"),
            };
            let client = &peer.identity;
            // Being busy is no news, and who sends too much would fill the log.
            if failure.error_code() == ErrorCode::Busy {
                tracing::debug!(%client, reason = failure.message, "refused a request");
            } else {
                tracing::warn!(%client, reason = failure.message, "refused a request");
            }
            tell(tx, failure).await;
            None
        }
        .boxed()
    }
}

/// Answers with a refusal. If the client is gone, or does not listen, nobody is left to tell.
async fn tell(tx: SendStream, failure: Failure) {
    let refusal = Response { reply: Some(Reply::Failure(failure)), ..Response::default() };
    let mut tx = FrameTx::quic(tx);
    if let Ok(Ok(())) = timeout(REFUSAL_TIME, tx.send_message(&refusal)).await {
        tx.finish_now();
    }
}

fn busy(why: &str) -> Failure {
    Failure::new(ErrorCode::Busy, why).retry_after_ms(BUSY_MS)
}

/// Reads the one frame of a request. Never waits for room: those who hold it may need the window that
/// a waiting request would fill.
async fn read(rx: RecvStream, held: &mut Held) -> Result<Option<Request>, Failure> {
    let invalid = |error: LinkError| match error {
        LinkError::Frame(proto::frame::FrameError::Version(_)) => {
            Failure::new(ErrorCode::Version, error)
        }
        LinkError::Frame(_)
        | LinkError::Lost(_)
        | LinkError::Refused { .. }
        | LinkError::Unreachable { .. } => Failure::new(ErrorCode::Invalid, error),
    };
    let mut rx = FrameRx::quic(rx);
    let frame = rx.recv_if(|arrived| held.grow_to(arrived)).await.map_err(invalid)?;
    let too_much = || busy("the requests of this client hold as many bytes as its share allows");
    let Some(frame) = frame.ok_or_else(too_much)? else { return Ok(None) };
    rx.close();
    decode(frame).map(Some)
}

fn decode(frame: Bytes) -> Result<Request, Failure> {
    Request::decode(frame).map_err(|error| {
        Failure::new(ErrorCode::Invalid, format!("the request cannot be decoded: {error}"))
    })
}

impl ReplyTx {
    /// Sends one answer; waits while the client does not read. If the client has not taken so many
    /// answers that this one is more than its share, it is told so instead.
    ///
    /// # Errors
    /// When the answer is longer than a frame may be, the client is gone, or was told to read first:
    /// nothing more can be sent then.
    pub async fn send(&mut self, response: Response) -> Result<(), LinkError> {
        let frame = encode(None, &response)?;
        let gateway = response.gateway.clone();
        // Not held twice while the client takes its time.
        drop(response);
        let counted = frame.len().saturating_sub(CLIENT_BYTES_FREE);
        if !self.held.take(counted) {
            let failure = busy(UNREAD);
            let refusal =
                Response { gateway, reply: Some(Reply::Failure(failure)), members_epoch: 0 };
            self.tx.send_message(&refusal).await?;
            self.finish();
            return Err(LinkError::Lost("the client does not read its answers".to_owned()));
        }
        let sent = self.tx.send_encoded(frame).await;
        self.held.give(counted);
        sent
    }

    /// Whether the client has taken enough of its answers that one of so many bytes can be made for it.
    ///
    /// # Errors
    /// What it is told if not.
    pub fn has_room(&self, bytes: usize) -> Result<(), Failure> {
        match self.held.has_room(bytes) {
            true => Ok(()),
            false => Err(busy(UNREAD)),
        }
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
