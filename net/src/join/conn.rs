//! The gateway's side of joining: a connection without a certificate.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message;
use proto::join::{JoinAnswer, JoinAsk, JoinEcho, JoinHello, JoinOffer, JoinStep, Joined};
use proto::join::{NONCE_BYTES, PROBE_MAGIC};
use proto::wire::Empty;
use proto::{ErrorCode, Failure};
use quinn::{Connection, VarInt};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{FRAME_MAX, PROBE_EVERY, PROBE_FOR};
use crate::crowd::Place;
use crate::frames::{FrameRx, FrameTx};
use crate::reason::end_of;
use crate::{CloseCode, LinkError, quic_link};

/// Time for the joiner to say the next thing.
const STEP_TIME: Duration = Duration::from_secs(5);
/// Time for the joiner to take the last thing that it is told.
const GOODBYE_TIME: Duration = Duration::from_secs(2);
/// Datagrams that a joiner may take for the one that calls back.
const ECHOES_MAX: usize = 8;
/// Bytes that a joiner may have on the way to us.
const WINDOW: u32 = 64 << 10;

/// A connection from somebody who shows no certificate and wants one. It carries one exchange, see
/// [`proto::join`], in the order of the methods here.
#[derive(Debug)]
pub struct JoinConn {
    connection: Connection,
    stream: Option<(FrameTx, FrameRx)>,
    place: Place<Connection>,
}

impl JoinConn {
    pub(crate) fn new(connection: Connection, place: Place<Connection>) -> Self {
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(1));
        connection.set_receive_window(WINDOW.into());
        if !place.holds(connection.clone()) {
            connection.close(CloseCode::Busy.code(), b"too many want to join");
        }
        Self { connection, stream: None, place }
    }

    /// Where the joiner is.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Who wants in.
    ///
    /// # Errors
    /// When nothing comes in time, or what comes is something else.
    pub async fn hello(&mut self) -> Result<JoinHello, LinkError> {
        let opened = timeout(STEP_TIME, self.connection.accept_bi()).await.map_err(|_| late())?;
        let opened = opened.map_err(|error| LinkError::Lost(end_of(&error).reason().to_owned()))?;
        self.stream = Some((FrameTx::quic(opened.0), FrameRx::quic(opened.1)));
        self.read().await
    }

    /// Says who answers.
    ///
    /// # Errors
    /// When the joiner is gone.
    pub async fn offer(&mut self, offer: &JoinOffer) -> Result<(), LinkError> {
        self.send(offer).await
    }

    /// What is wanted.
    ///
    /// # Errors
    /// As [`JoinConn::hello`].
    pub async fn ask(&mut self) -> Result<JoinAsk, LinkError> {
        self.read().await
    }

    /// Calls back: sends a nonce to the advertised address and waits until the joiner says it here.
    /// The inner error says why it did not.
    ///
    /// # Errors
    /// When the joiner is gone, or this machine has no randomness to give.
    pub async fn call_back(&mut self, address: &str) -> Result<Result<(), String>, LinkError> {
        let nonce = certs::random::<NONCE_BYTES>();
        let nonce = nonce.map_err(|error| LinkError::Lost(error.to_string()))?;
        self.send(&JoinAnswer { step: Some(JoinStep::Probe(Empty {})) }).await?;
        let (_, rx) = self.stream()?;
        let mut sending = std::pin::pin!(send_probes(address, &nonce));
        let (mut sent, mut reason) = (false, "nothing that is sent to it arrives".to_owned());
        let echoed = async {
            // A datagram of an earlier try may come first.
            for _ in 0..ECHOES_MAX {
                let echo = loop {
                    tokio::select! {
                        echo = read_message::<JoinEcho>(rx) => break echo?,
                        done = &mut sending, if !sent => {
                            sent = true;
                            if let Err(why) = done {
                                reason = why;
                            }
                        }
                    }
                };
                if echo.nonce == nonce {
                    return Ok(Ok(()));
                }
                if echo.nonce.is_empty() {
                    break;
                }
            }
            Ok(Err(reason))
        };
        timeout(PROBE_FOR + STEP_TIME, echoed).await.unwrap_or_else(|_| Err(late()))
    }

    /// Gives the joiner what it came for, and says goodbye.
    pub async fn joined(self, joined: Joined) {
        self.finish(JoinStep::Joined(joined)).await;
    }

    /// Refuses, and says goodbye.
    pub async fn refuse(self, failure: Failure) {
        self.finish(JoinStep::Failure(failure)).await;
    }

    /// Says goodbye after an offer that said all there is to say.
    pub async fn close(mut self) {
        if let Some((tx, _)) = &mut self.stream {
            tx.finish_now();
            // Whoever does not listen is not waited for.
            drop(timeout(GOODBYE_TIME, tx.stopped()).await);
        }
        self.connection.close(CloseCode::Done.code(), b"");
    }

    async fn finish(mut self, step: JoinStep) {
        if let Err(error) = self.send(&JoinAnswer { step: Some(step) }).await {
            tracing::debug!(%error, "a joiner did not take its answer");
        }
        self.close().await;
    }

    fn stream(&mut self) -> Result<&mut (FrameTx, FrameRx), LinkError> {
        self.stream.as_mut().ok_or_else(|| LinkError::Lost("nothing was said yet".to_owned()))
    }

    async fn send(&mut self, message: &impl Message) -> Result<(), LinkError> {
        let (tx, _) = self.stream()?;
        timeout(STEP_TIME, tx.send_message(message)).await.map_err(|_| late())?
    }

    async fn read<M: Message + Default>(&mut self) -> Result<M, LinkError> {
        self.place.served(false);
        let (_, rx) = self.stream()?;
        let said = timeout(STEP_TIME, read_message(rx)).await.map_err(|_| late())??;
        self.place.served(true);
        Ok(said)
    }
}

fn late() -> LinkError {
    LinkError::Lost("the joiner said nothing in time".to_owned())
}

/// Sends the nonce again and again: a datagram may be lost.
async fn send_probes(address: &str, nonce: &[u8; NONCE_BYTES]) -> Result<(), String> {
    let own = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, 0));
    let to = quic_link::resolve(address, own).await?;
    let any = match to {
        SocketAddr::V4(_) => own,
        SocketAddr::V6(_) => SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await.map_err(|error| error.to_string())?;
    let mut datagram = PROBE_MAGIC.to_vec();
    datagram.extend_from_slice(nonce);
    let until = tokio::time::Instant::now() + PROBE_FOR;
    let mut failed = None;
    while tokio::time::Instant::now() < until {
        if let Err(error) = socket.send_to(&datagram, to).await {
            failed = Some(error.to_string());
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
    failed.map_or(Ok(()), Err)
}

/// The next frame as a message. Nothing that is said in joining is long.
pub(super) async fn read_message<M: Message + Default>(rx: &mut FrameRx) -> Result<M, LinkError> {
    let ended = || LinkError::Lost("it ended without an answer".to_owned());
    let len = rx.peek_len().await?.ok_or_else(ended)?;
    if len > FRAME_MAX {
        return Err(LinkError::Lost(format!("a frame of {len} bytes is too long for joining")));
    }
    let frame = rx.recv().await?.ok_or_else(ended)?;
    M::decode(frame).map_err(|error| LinkError::Lost(format!("it cannot be decoded: {error}")))
}

/// What a gateway of another release says.
#[must_use]
pub fn wrong_protocol(theirs: u32, own: u32) -> Failure {
    Failure::new(
        ErrorCode::Version,
        format!("the joiner speaks version {theirs} of the protocol, this cluster version {own}"),
    )
}
