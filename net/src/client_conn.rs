//! A connection that a client opened to us: one request per stream, and one long stream for as many as
//! the client likes, each with a number.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certs::Peer;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use prost::Message;
use proto::frame::{NUMBERED_HEADER_BYTES, NUMBERED_VERSION};
use proto::limits::{CLIENT_BYTES_FREE, NUMBERED_BYTES_MAX};
use proto::wire::{CLIENT_NUMBERED_ALPN, Op, Reply, Request, Response};
use proto::{ErrorCode, Failure};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use crate::answers::{self, Answers, Late, Most, Ticket};
use crate::endpoint::protocol;
use crate::frames::{FrameRx, FrameTx, encode};
use crate::numbered::NumberedRx;
use crate::reason::end_of;
use crate::shares::{Held, Seat};
use crate::{CloseCode, LinkError, tune};

/// Time for a client to send the request it opened a stream for.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Time for a client to take a refusal.
const REFUSAL_TIME: Duration = Duration::from_secs(2);
/// What is said to a client that does not read its answers.
pub(crate) const UNREAD: &str = "the answers that this client has not read fill its share";
/// What is said to one who asks too much at a time.
pub(crate) const TOO_MANY: &str = "as many requests of this client are open as its share allows";
pub(crate) const TOO_MANY_BYTES: &str =
    "the requests of this client hold as many bytes as its share allows";
/// When a client over its share may come back.
const BUSY_MS: u32 = 100;

/// A connection from a client or an admin of our cluster.
#[derive(Debug)]
pub struct ClientConn {
    connection: Connection,
    peer: Arc<Peer>,
    seat: Arc<Seat>,
    /// Whether the client may open a long stream: it has agreed on the protocol that has one.
    numbered: bool,
    reading: Mutex<Reading>,
}

/// Requests that are not here in full yet, and refusals that are not taken yet.
#[derive(Debug, Default)]
struct Reading {
    requests: FuturesUnordered<BoxFuture<'static, Came>>,
    long: Option<LongStream>,
    /// Until when the client is not listened to.
    pause: Option<Instant>,
}

/// What came of a stream that the client opened.
enum Came {
    Request(Box<(Request, ReplyTx)>),
    /// It is a long one.
    Long(SendStream, FrameRx),
    Nothing,
}

/// The long stream of a connection.
#[derive(Debug)]
struct LongStream {
    /// `None` once the client has no more to ask.
    rx: Option<NumberedRx>,
    answers: Arc<Answers>,
}

impl LongStream {
    /// The frames that come next, once there is room for more requests; none at the end.
    async fn recv(&mut self) -> Result<Vec<(u64, Bytes)>, LinkError> {
        let Some(rx) = &mut self.rx else { return std::future::pending().await };
        let most = self.answers.room().await;
        rx.recv(most).await
    }
}

impl Drop for LongStream {
    fn drop(&mut self) {
        self.answers.end();
    }
}

/// What comes from a client.
#[derive(Debug)]
pub enum Incoming {
    /// A request on a stream of its own, and where its answer goes.
    One(Box<(Request, ReplyTx)>),
    /// What came at once on the long stream: at least one.
    Many(Vec<Numbered>),
    /// Requests of the long stream whose time is over, see [`Ticket::expires`].
    Late(Late),
}

impl Incoming {
    /// The same, each request as if it had a stream of its own.
    #[must_use]
    pub fn alone(self) -> Vec<(Request, ReplyTx)> {
        match self {
            Self::One(asked) => vec![*asked],
            Self::Many(batch) => batch.into_iter().map(Numbered::alone).collect(),
            Self::Late(_) => Vec::new(),
        }
    }
}

/// A request of the long stream.
#[derive(Debug)]
pub struct Numbered {
    /// The request. It is answered once.
    pub request: Request,
    /// The same as it came.
    pub frame: Bytes,
    /// Where its answer goes.
    pub ticket: Ticket,
}

impl Numbered {
    /// One that comes from within this process, and its answer; `None` if nobody will give one.
    pub fn within(request: Request) -> (Self, impl Future<Output = Option<Response>>) {
        let (answers, frame) = (Answers::new(Most::CLIENT), request.encode_to_vec().into());
        let ticket = Ticket::alone(&answers);
        let answered = async move {
            loop {
                if let Some((bytes, _)) = answers.take() {
                    let payload = bytes.slice(NUMBERED_HEADER_BYTES.min(bytes.len())..);
                    return Response::decode(payload).ok();
                }
                answers.news().await;
                if answers.is_idle() {
                    return None;
                }
            }
        };
        (Self { request, frame, ticket }, answered)
    }

    /// The same as on a stream of its own.
    #[must_use]
    pub fn alone(self) -> (Request, ReplyTx) {
        (self.request, ReplyTx(Way::Ticket(self.ticket)))
    }
}

/// Reads a request that came with a number.
///
/// # Errors
/// What its client is told if it is none.
pub fn decode_numbered(frame: Bytes) -> Result<Request, Failure> {
    let request = decode(frame)?;
    match request.op.as_ref().is_some_and(Op::shares_a_stream) {
        true => Ok(request),
        false => Err(Failure::new(ErrorCode::Invalid, "this is asked on a stream of its own")),
    }
}

/// Sends the answer to one request: once, or page after page to a follower.
#[derive(Debug)]
pub struct ReplyTx(Way);

#[derive(Debug)]
enum Way {
    Stream(Box<OwnStream>),
    Ticket(Ticket),
}

#[derive(Debug)]
struct OwnStream {
    tx: FrameTx,
    /// The request's place, its bytes, and those of the answer that is not taken yet.
    held: Held,
}

impl ClientConn {
    pub(crate) fn new(connection: Connection, peer: Peer, seat: Arc<Seat>) -> Self {
        tune::raise_for_client(&connection, seat.nth());
        let numbered = protocol(&connection).as_deref() == Some(CLIENT_NUMBERED_ALPN);
        Self { connection, peer: Arc::new(peer), seat, numbered, reading: Mutex::default() }
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

    /// What comes next; `None` when the connection is over. What is not a request is answered with the
    /// reason, logged, and does not disturb the others.
    pub async fn next(&self) -> Option<Incoming> {
        let mut reading = self.reading.lock().await;
        let Reading { requests, pause, long } = &mut *reading;
        loop {
            let until = pause.unwrap_or_else(Instant::now);
            let due = long.as_ref().and_then(|long| long.answers.due());
            let frames = async {
                match long.as_mut() {
                    Some(long) => long.recv().await,
                    None => std::future::pending().await,
                }
            };
            let came = tokio::select! {
                Some(came) = requests.next(), if !requests.is_empty() => came,
                () = sleep_until(until), if pause.is_some() => {
                    *pause = None;
                    continue;
                }
                () = sleep_until(due.unwrap_or(until)), if due.is_some() => {
                    match long.as_ref().and_then(|long| long.answers.late(Instant::now())) {
                        Some(late) => return Some(Incoming::Late(late)),
                        None => continue,
                    }
                }
                frames = frames, if pause.is_none() => {
                    let numbered = self.numbered(frames, long, pause);
                    if !numbered.is_empty() {
                        return Some(Incoming::Many(numbered));
                    }
                    continue;
                }
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
                            Some(came) => came,
                            None => {
                                requests.push(request);
                                continue;
                            }
                        }
                    }
                    Err(error) => {
                        let reason = end_of(&error);
                        let client = &self.peer.identity;
                        tracing::debug!(%client, reason = reason.reason(), "connection ended");
                        return None;
                    }
                },
            };
            match came {
                Came::Request(request) => return Some(Incoming::One(request)),
                Came::Long(tx, rx) => self.begin_long(tx, rx, long),
                Came::Nothing => {}
            }
        }
    }

    /// Takes a stream for the long one. There is one at a time.
    fn begin_long(&self, tx: SendStream, rx: FrameRx, long: &mut Option<LongStream>) {
        if long.is_some() {
            return self.close(CloseCode::Protocol, "a connection has one long stream");
        }
        let Some(rx) = rx.into_numbered(NUMBERED_BYTES_MAX) else { return };
        let answers = Answers::new(Most::CLIENT);
        let way = answers::Way::Client(tx, self.connection.clone());
        tokio::spawn(Arc::clone(&answers).write(way));
        *long = Some(LongStream { rx: Some(rx), answers });
    }

    /// Takes what came on the long stream.
    fn numbered(
        &self,
        frames: Result<Vec<(u64, Bytes)>, LinkError>,
        long: &mut Option<LongStream>,
        pause: &mut Option<Instant>,
    ) -> Vec<Numbered> {
        let frames = match frames {
            Ok(frames) => frames,
            Err(error) => {
                tracing::debug!(client = %self.peer.identity, %error, "a long stream ended");
                *long = None;
                // Does nothing if the connection is what ended.
                self.close(CloseCode::Protocol, &error.to_string());
                return Vec::new();
            }
        };
        let Some(LongStream { rx, answers }) = long else { return Vec::new() };
        if frames.is_empty() {
            *rx = None;
        }
        let mut places = self.seat.requests(frames.len()).into_iter();
        let mut taken = Vec::with_capacity(frames.len());
        for (number, frame) in frames {
            let held = places.next().ok_or_else(|| busy(TOO_MANY)).and_then(|mut held| {
                let fits = held.grow_to(frame.len());
                fits.then_some(held).ok_or_else(|| busy(TOO_MANY_BYTES))
            });
            let request = held.and_then(|held| Ok((decode_numbered(frame.clone())?, held)));
            match request {
                Ok((request, held)) => match answers.open(number, Some(held)) {
                    Some(ticket) => taken.push(Numbered { request, frame, ticket }),
                    None => self.close(CloseCode::Protocol, "two requests with one number"),
                },
                Err(failure) => {
                    if failure.error_code() == ErrorCode::Busy {
                        *pause = self.seat.refused().or(*pause);
                    }
                    self.log_refused(&failure);
                    answers.refuse(number, &refusal(failure));
                }
            }
        }
        taken
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
    fn refuse(&self, tx: SendStream, rx: RecvStream) -> BoxFuture<'static, Came> {
        tracing::debug!(client = %self.peer.identity, "refused a request: too many at a time");
        async move {
            drop(rx);
            tell(tx, busy(TOO_MANY)).await;
            Came::Nothing
        }
        .boxed()
    }

    fn request(&self, tx: SendStream, rx: RecvStream, mut held: Held) -> BoxFuture<'static, Came> {
        let (peer, numbered) = (Arc::clone(&self.peer), self.numbered);
        async move {
            let mut rx = FrameRx::quic(rx);
            let read = timeout(REQUEST_TIME, async {
                match rx.peek_version().await.map_err(invalid)? {
                    Some(NUMBERED_VERSION) if numbered => Ok(Begun::Long),
                    Some(_) | None => read(&mut rx, &mut held).await,
                }
            });
            let failure = match read.await {
                Ok(Ok(Begun::Request(request))) => {
                    rx.close();
                    let way = Way::Stream(Box::new(OwnStream { tx: FrameTx::quic(tx), held }));
                    return Came::Request(Box::new((*request, ReplyTx(way))));
                }
                Ok(Ok(Begun::Long)) => return Came::Long(tx, rx),
                // The client changed its mind.
                Ok(Ok(Begun::Nothing)) => return Came::Nothing,
                Ok(Err(failure)) => failure,
                Err(_) => Failure::new(ErrorCode::Deadline, "the request did not arrive in time"),
            };
            log_refused(&peer, &failure);
            tell(tx, failure).await;
            Came::Nothing
        }
        .boxed()
    }

    fn log_refused(&self, failure: &Failure) {
        log_refused(&self.peer, failure);
    }
}

/// How a stream begins.
enum Begun {
    Request(Box<Request>),
    Long,
    Nothing,
}

fn log_refused(peer: &Peer, failure: &Failure) {
    let client = &peer.identity;
    // Being busy is no news, and who sends too much would fill the log.
    if failure.error_code() == ErrorCode::Busy {
        tracing::debug!(%client, reason = failure.message, "refused a request");
    } else {
        tracing::warn!(%client, reason = failure.message, "refused a request");
    }
}

pub(crate) fn refusal(failure: Failure) -> Response {
    Response { reply: Some(Reply::Failure(failure)), ..Response::default() }
}

/// Answers with a refusal. If the client is gone, or does not listen, nobody is left to tell.
async fn tell(tx: SendStream, failure: Failure) {
    let mut tx = FrameTx::quic(tx);
    if let Ok(Ok(())) = timeout(REFUSAL_TIME, tx.send_message(&refusal(failure))).await {
        tx.finish_now();
    }
}

pub(crate) fn busy(why: &str) -> Failure {
    Failure::new(ErrorCode::Busy, why).retry_after_ms(BUSY_MS)
}

fn invalid(error: LinkError) -> Failure {
    match error {
        LinkError::Frame(proto::frame::FrameError::Version(_)) => {
            Failure::new(ErrorCode::Version, error)
        }
        LinkError::Frame(_)
        | LinkError::Lost(_)
        | LinkError::Refused { .. }
        | LinkError::Unreachable { .. } => Failure::new(ErrorCode::Invalid, error),
    }
}

/// Reads the one frame of a request. Never waits for room: those who hold it may need the window that
/// a waiting request would fill.
async fn read(rx: &mut FrameRx, held: &mut Held) -> Result<Begun, Failure> {
    let frame = rx.recv_if(|arrived| held.grow_to(arrived)).await.map_err(invalid)?;
    match frame.ok_or_else(|| busy(TOO_MANY_BYTES))? {
        Some(frame) => decode(frame).map(Box::new).map(Begun::Request),
        None => Ok(Begun::Nothing),
    }
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
        match &mut self.0 {
            Way::Stream(stream) => stream.send(response).await,
            Way::Ticket(ticket) => {
                ticket.answer(&response).now();
                Ok(())
            }
        }
    }

    /// Whether the client has taken enough of its answers that one of so many bytes can be made for it.
    ///
    /// # Errors
    /// What it is told if not.
    pub fn has_room(&self, bytes: usize) -> Result<(), Failure> {
        match &self.0 {
            Way::Stream(stream) if !stream.held.has_room(bytes) => Err(busy(UNREAD)),
            Way::Stream(_) | Way::Ticket(_) => Ok(()),
        }
    }

    /// Says that this was the last answer.
    pub fn finish(&mut self) {
        match &mut self.0 {
            // If the client is gone, nobody is left to tell.
            Way::Stream(stream) => stream.tx.finish_now(),
            Way::Ticket(_) => {}
        }
    }

    /// Completes when the client stops listening or is gone; after [`ReplyTx::finish`], on a stream of
    /// its own, also when it has received everything.
    pub async fn stopped(&self) {
        match &self.0 {
            Way::Stream(stream) => stream.tx.stopped().await,
            Way::Ticket(ticket) => ticket.gone().await,
        }
    }
}

impl OwnStream {
    async fn send(&mut self, response: Response) -> Result<(), LinkError> {
        let frame = encode(None, &response)?;
        let gateway = response.gateway.clone();
        // Not held twice while the client takes its time.
        drop(response);
        let counted = frame.len().saturating_sub(CLIENT_BYTES_FREE);
        if !self.held.take(counted) {
            self.tx.send_message(&Response { gateway, ..refusal(busy(UNREAD)) }).await?;
            self.tx.finish_now();
            return Err(LinkError::Lost("the client does not read its answers".to_owned()));
        }
        let sent = self.tx.send_encoded(frame).await;
        self.held.give(counted);
        sent
    }
}
