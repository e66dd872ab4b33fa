//! One question to one gateway, with an eye on whether the gateway is alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clock::Hlc;
use prost::{DecodeError, Message};
use proto::frame::HEADER_BYTES;
use proto::limits::NUMBERED_BYTES_MAX;
use proto::wire::{Empty, Instant as At, Op, Read, Reply, Request, Response, TimePoint};
use quinn::WriteError;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout};

use super::dial::Gateway;
use super::long_stream::LongStream;
use super::probe::is_closed;
use super::{Inner, SILENCE, SILENT_MAX};
use crate::frames::{FrameRx, encode};
use crate::reason::{End, end_of};
use crate::{CloseCode, LinkError};

/// Requests up to this size take no room of their own.
const SMALL_BYTES: usize = 4 << 10;
/// A gateway on a long way is given this many round trips before it counts as silent.
const SILENT_ROUND_TRIPS: u32 = 6;
/// Time that a question in the background may take.
const ASIDE_TIME: Duration = Duration::from_secs(2);

/// Why one question has no answer.
#[derive(Debug)]
pub(super) struct Miss {
    /// Whether the whole request went out, so that it may have been done.
    pub(super) sent: bool,
    pub(super) end: End,
}

impl Miss {
    fn unsent(end: End) -> Self {
        Self { sent: false, end }
    }

    fn sent(end: End) -> Self {
        Self { sent: true, end }
    }
}

impl Inner {
    /// As [`Inner::ask`], together with others of its kind if it is small, and the gateway knows how.
    pub(super) async fn ask_sharing(
        &self,
        gateway: &Gateway,
        frame: Bytes,
        limit: Duration,
    ) -> Result<Response, Miss> {
        let long = match &gateway.long {
            Some(long) if frame.len() <= HEADER_BYTES + NUMBERED_BYTES_MAX => long,
            Some(_) | None => return self.ask(gateway, frame, limit).await,
        };
        let _room = self.room_for(&frame).await;
        let open = timeout(limit, long.get_or_try_init(|| LongStream::open(gateway)));
        let full = |_| Miss::unsent(End::Lost("it takes no more streams".to_owned()));
        let long = open.await.map_err(full)?.map_err(Miss::unsent)?;
        let payload = frame.get(HEADER_BYTES..).unwrap_or_default();
        let answer = long.ask(payload, limit).await?;
        Response::decode(answer).map_err(garbled)
    }

    /// Room for a large request, until it is dropped.
    async fn room_for(&self, frame: &Bytes) -> Option<SemaphorePermit<'_>> {
        match u32::try_from(frame.len()) {
            Ok(bytes) if frame.len() > SMALL_BYTES => self.room.acquire_many(bytes).await.ok(),
            _ => None,
        }
    }

    /// Asks and waits for the one answer.
    pub(super) async fn ask(
        &self,
        gateway: &Gateway,
        frame: Bytes,
        limit: Duration,
    ) -> Result<Response, Miss> {
        let _room = self.room_for(&frame).await;
        let sent = AtomicBool::new(false);
        let answer = async {
            let mut rx = begin(gateway, frame).await.map_err(Miss::unsent)?;
            sent.store(true, Ordering::Relaxed);
            let answer = rx.recv().await.map_err(|error| Miss::sent(lost(gateway, error)))?;
            let gone = || Miss::sent(End::Lost("the answer was cut off".to_owned()));
            let answer = answer.ok_or_else(gone)?;
            rx.close();
            Response::decode(answer).map_err(garbled)
        };
        let mut answer = std::pin::pin!(answer);
        let deadline = Instant::now() + limit;
        let mut watch = Watch::new(gateway);
        // The request is to be acknowledged, so silence is telling from the start.
        let (mut telling, mut since) = (true, Instant::now());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(watch.patience().min(left), &mut answer).await {
                Ok(answer) => return answer,
                Err(_) if Instant::now() >= deadline => {
                    let end = End::Lost(format!("no answer in {limit:?}"));
                    return Err(Miss { sent: sent.load(Ordering::Relaxed), end });
                }
                Err(_) if watch.is_silent() => {
                    if !std::mem::replace(&mut telling, true) {
                        since = Instant::now();
                        gateway.prod().await;
                    } else if since.elapsed() >= SILENT_MAX || watch.is_dead().await {
                        watch.hang_up();
                        let end = End::Lost("it stopped answering".to_owned());
                        return Err(Miss { sent: sent.load(Ordering::Relaxed), end });
                    }
                }
                // It has acknowledged all it got; now it may well be quiet, until prodded.
                Err(_) => telling = false,
            }
        }
    }

    /// Whether a gateway serves a fresh read, here of nothing: one that is cut off from the primary
    /// answers much else.
    pub(super) async fn serves(&self, gateway: &Gateway) -> bool {
        let never = At::Hlc(Hlc::from_ns(u64::MAX).to_bytes().to_vec());
        let since = Some(TimePoint { at: Some(never) });
        let look = Op::Read(Read { since, limit: 1, ..Read::default() });
        let answer = self.ask_once(gateway, look).await;
        matches!(answer.and_then(|answer| answer.reply), Some(Reply::Page(_)))
    }

    /// Asks aside from any call; no answer is no harm.
    pub(super) async fn ask_once(&self, gateway: &Gateway, op: Op) -> Option<Response> {
        let request = Request { deadline_ms: 2000, op: Some(op), ..Request::default() };
        let frame = encode(None, &request).ok()?;
        self.ask(gateway, frame, ASIDE_TIME).await.ok()
    }
}

fn garbled(_: DecodeError) -> Miss {
    Miss::sent(End::Lost("the answer cannot be decoded".to_owned()))
}

impl Gateway {
    /// Sends something that a living gateway acknowledges, unless another call just has.
    pub(super) async fn prod(&self) {
        let now = Instant::now();
        {
            let mut prodded = self.prodded.lock();
            if prodded.is_some_and(|last| now < last + SILENCE / 2) {
                return;
            }
            *prodded = Some(now);
        }
        let request = Request { op: Some(Op::Ping(Empty {})), ..Request::default() };
        if let Ok(frame) = encode(None, &request) {
            // The acknowledgement is of interest, not the answer.
            drop(timeout(SILENCE, begin(self, frame)).await);
        }
    }
}

/// Opens a stream and sends the request on it.
pub(super) async fn begin(gateway: &Gateway, frame: Bytes) -> Result<FrameRx, End> {
    let opened = gateway.connection.open_bi().await;
    let (mut tx, rx) = opened.map_err(|error| end_of(&error))?;
    // A request that did not go out whole cannot be done.
    tx.write_chunk(frame).await.map_err(|error| match error {
        WriteError::ConnectionLost(error) => end_of(&error),
        WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            End::Lost(error.to_string())
        }
    })?;
    // Nothing can follow the request, so an end that cannot be marked is no loss.
    drop(tx.finish());
    Ok(FrameRx::quic(rx))
}

/// How a stream ended that was lost: the connection knows better than the stream.
pub(super) fn lost(gateway: &Gateway, error: LinkError) -> End {
    match gateway.connection.close_reason() {
        Some(closed) => end_of(&closed),
        None => End::Lost(error.to_string()),
    }
}

/// Notices that nothing comes from a gateway any more.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    gateway: &'a Gateway,
    seen: u64,
}

impl<'a> Watch<'a> {
    pub(super) fn new(gateway: &'a Gateway) -> Self {
        Self { gateway, seen: received(gateway) }
    }

    /// How long to wait before asking whether it is silent.
    pub(super) fn patience(&self) -> Duration {
        SILENCE.max(self.gateway.connection.rtt() * SILENT_ROUND_TRIPS)
    }

    /// Whether nothing has come since this was last asked.
    pub(super) fn is_silent(&mut self) -> bool {
        let before = std::mem::replace(&mut self.seen, received(self.gateway));
        before == self.seen
    }

    /// Whether its process is gone, as its host says, and nothing has come meanwhile.
    pub(super) async fn is_dead(&mut self) -> bool {
        is_closed(self.gateway.connection.remote_address()).await && self.is_silent()
    }

    /// Ends the connection, and with it every call on it, so that all go elsewhere at once.
    pub(super) fn hang_up(&self) {
        self.gateway.connection.close(CloseCode::Silent.code(), b"no sign of life");
    }
}

fn received(gateway: &Gateway) -> u64 {
    gateway.connection.stats().udp_rx.datagrams
}
