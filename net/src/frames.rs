//! Frames on a stream: `length: u32 BE ‖ version: u8 ‖ payload`, over QUIC or a switchboard pipe.
//!
//! A length is checked against the limit before anything is allocated for it. After the first
//! wrong byte nothing on the stream can be trusted, so every error is final for its stream.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use proto::frame::{HEADER_BYTES, VERSION, header, payload_len};
use quinn::{ReadError, RecvStream, SendStream, WriteError};

use crate::LinkError;
use crate::error::CloseCode;
use crate::numbered::NumberedRx;
use crate::reason::end_of;
use crate::switchboard::{PipeRx, PipeTx};

/// Most bytes taken from a QUIC stream at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Room made for a frame of which little has arrived.
const ROOM_BYTES: usize = 16 << 10;

/// The sending half of a stream. Frames arrive whole and in order, or the stream breaks.
///
/// Dropping it between frames ends the stream as [`FrameTx::finish`] does, so a transfer of many
/// frames carries its own end mark; dropping it inside a frame breaks the stream.
#[derive(Debug)]
pub struct FrameTx(Tx);

#[derive(Debug)]
enum Tx {
    Quic(QuicTx),
    Pipe(PipeTx),
}

#[derive(Debug)]
struct QuicTx {
    stream: SendStream,
    /// What is not written yet: the lane byte with a header, a payload. Kept here, so that a
    /// cancelled send leaves no torn frame behind.
    pending: Vec<Bytes>,
    lane: Option<u8>,
}

/// The receiving half of a stream.
#[derive(Debug)]
pub struct FrameRx(Rx);

#[derive(Debug)]
enum Rx {
    Quic(QuicRx),
    Pipe(PipeRx),
}

#[derive(Debug)]
struct QuicRx {
    stream: RecvStream,
    buffer: Buffer,
}

impl FrameTx {
    pub(crate) fn quic(stream: SendStream) -> Self {
        Self(Tx::Quic(QuicTx { stream, pending: Vec::new(), lane: None }))
    }

    /// A stream whose first byte, sent with the first frame, is its lane.
    pub(crate) fn quic_in_lane(stream: SendStream, lane: u8) -> Self {
        Self(Tx::Quic(QuicTx { stream, pending: Vec::new(), lane: Some(lane) }))
    }

    pub(crate) fn pipe(pipe: PipeTx) -> Self {
        Self(Tx::Pipe(pipe))
    }

    /// Sends one frame with this payload; waits while the stream's window is full. Safe to cancel:
    /// a frame begun is completed by the next call.
    ///
    /// # Errors
    /// When the payload is longer than a frame may be, or the stream is lost.
    pub async fn send(&mut self, payload: Bytes) -> Result<(), LinkError> {
        let head = header(payload.len())?;
        match &mut self.0 {
            Tx::Quic(quic) => {
                quic.flush().await?;
                let mut front = BytesMut::with_capacity(1 + HEADER_BYTES);
                front.extend(quic.lane.take());
                front.put_slice(&head);
                quic.pending.extend([front.freeze(), payload]);
                quic.flush().await
            }
            Tx::Pipe(pipe) => pipe.send(payload).await,
        }
    }

    /// Encodes a message and sends it as one frame.
    ///
    /// # Errors
    /// See [`FrameTx::send`].
    pub async fn send_message(&mut self, message: &impl prost::Message) -> Result<(), LinkError> {
        match &mut self.0 {
            Tx::Quic(quic) => {
                quic.flush().await?;
                quic.pending.push(encode(quic.lane, message)?);
                quic.lane = None;
                quic.flush().await
            }
            Tx::Pipe(pipe) => {
                header(message.encoded_len())?;
                pipe.send(message.encode_to_vec().into()).await
            }
        }
    }

    /// Sends what [`encode`] made of a message for a stream that has no lane.
    pub(crate) async fn send_encoded(&mut self, frame: Bytes) -> Result<(), LinkError> {
        match &mut self.0 {
            Tx::Quic(quic) => {
                assert!(quic.lane.is_none(), "the lane goes before the first frame");
                quic.flush().await?;
                quic.pending.push(frame);
                quic.flush().await
            }
            Tx::Pipe(pipe) => pipe.send(frame.slice(HEADER_BYTES..)).await,
        }
    }

    /// Says that no more frames come. Does not wait for the other side.
    ///
    /// # Errors
    /// When the stream is lost.
    pub async fn finish(&mut self) -> Result<(), LinkError> {
        if let Tx::Quic(quic) = &mut self.0 {
            quic.flush().await?;
        }
        self.finish_now();
        Ok(())
    }

    /// Like [`FrameTx::finish`], for a stream whose last frame is out. A stream that is closed
    /// already has no end to mark.
    pub(crate) fn finish_now(&mut self) {
        match &mut self.0 {
            Tx::Quic(quic) => drop(quic.stream.finish()),
            Tx::Pipe(pipe) => pipe.finish(),
        }
    }

    /// Breaks the stream: the other side gets an error, also for frames in flight.
    pub fn abort(&mut self) {
        match &mut self.0 {
            // A stream that is closed already needs no reset.
            Tx::Quic(quic) => drop(quic.stream.reset(CloseCode::Done.code())),
            Tx::Pipe(pipe) => pipe.abort(),
        }
    }

    /// Completes when the other side stops reading or is gone; after [`FrameTx::finish`] also when
    /// it has received everything.
    pub async fn stopped(&self) {
        match &self.0 {
            Tx::Quic(quic) => drop(quic.stream.stopped().await),
            Tx::Pipe(pipe) => pipe.stopped().await,
        }
    }
}

impl QuicTx {
    async fn flush(&mut self) -> Result<(), LinkError> {
        while !self.pending.is_empty() {
            let written = self.stream.write_chunks(&mut self.pending).await.map_err(write_lost)?;
            self.pending.drain(..written.chunks);
        }
        Ok(())
    }
}

impl Drop for QuicTx {
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            drop(self.stream.reset(CloseCode::Protocol.code()));
        }
    }
}

impl FrameRx {
    pub(crate) fn quic(stream: RecvStream) -> Self {
        Self(Rx::Quic(QuicRx { stream, buffer: Buffer::default() }))
    }

    pub(crate) fn pipe(pipe: PipeRx) -> Self {
        Self(Rx::Pipe(pipe))
    }

    /// The next frame's payload; `None` when the other side has finished. Safe to cancel.
    ///
    /// # Errors
    /// When a frame breaks the rules or the stream is lost, also in the middle of a frame.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, LinkError> {
        match &mut self.0 {
            Rx::Quic(quic) => quic.recv().await,
            Rx::Pipe(pipe) => pipe.recv().await,
        }
    }

    /// As [`FrameRx::recv`], and asks before each piece is kept: with the number of bytes that have
    /// arrived, that one included. `None` in the inner result: the answer was no.
    pub(crate) async fn recv_if(
        &mut self,
        mut keep: impl FnMut(usize) -> bool,
    ) -> Result<Option<Option<Bytes>>, LinkError> {
        let Rx::Quic(quic) = &mut self.0 else { return self.recv().await.map(Some) };
        loop {
            if let Some(payload) = quic.buffer.take()? {
                return Ok(Some(Some(payload)));
            }
            let chunk = quic.stream.read_chunk(CHUNK_BYTES, true).await.map_err(read_lost)?;
            let Some(chunk) = chunk else { return quic.buffer.end().map(|()| Some(None)) };
            if !keep(quic.buffer.0.len() + chunk.bytes.len()) {
                return Ok(None);
            }
            quic.buffer.push(&chunk.bytes);
        }
    }

    /// Waits for the next frame's header and returns the payload's length without taking it.
    pub(crate) async fn peek_len(&mut self) -> Result<Option<usize>, LinkError> {
        match &mut self.0 {
            Rx::Quic(quic) => quic.peek_len().await,
            Rx::Pipe(_) => Ok(Some(0)),
        }
    }

    /// Waits for the next frame's header and returns its version without taking it; `None` at the end
    /// of the stream.
    pub(crate) async fn peek_version(&mut self) -> Result<Option<u8>, LinkError> {
        let Rx::Quic(quic) = &mut self.0 else { return Ok(Some(VERSION)) };
        loop {
            if let Some([.., version]) = quic.buffer.0.first_chunk::<HEADER_BYTES>() {
                return Ok(Some(*version));
            }
            if !quic.fill().await? {
                return quic.buffer.end().map(|()| None);
            }
        }
    }

    /// The stream goes on with numbered frames, of at most so many bytes. `None` if it is no QUIC stream.
    pub(crate) fn into_numbered(self, most: usize) -> Option<NumberedRx> {
        match self.0 {
            Rx::Quic(quic) => Some(NumberedRx::new(quic.stream, quic.buffer.0, most)),
            Rx::Pipe(_) => None,
        }
    }

    /// Takes one byte that stands before the first frame.
    pub(crate) async fn first_byte(&mut self) -> Result<Option<u8>, LinkError> {
        let Rx::Quic(quic) = &mut self.0 else { return Ok(None) };
        loop {
            if let Some(byte) = quic.buffer.take_byte() {
                return Ok(Some(byte));
            }
            if !quic.fill().await? {
                return Ok(None);
            }
        }
    }

    /// If the end of the stream is here already, takes note of it: QUIC then need not tell the
    /// other side to stop.
    pub(crate) fn close(mut self) {
        if let Rx::Quic(quic) = &mut self.0 {
            let end = futures::FutureExt::now_or_never(quic.stream.read_chunk(1, true));
            drop(end);
        }
    }
}

impl QuicRx {
    async fn recv(&mut self) -> Result<Option<Bytes>, LinkError> {
        loop {
            if let Some(payload) = self.buffer.take()? {
                return Ok(Some(payload));
            }
            if !self.fill().await? {
                return self.buffer.end().map(|()| None);
            }
        }
    }

    async fn peek_len(&mut self) -> Result<Option<usize>, LinkError> {
        loop {
            if let Some(len) = self.buffer.peek_len()? {
                return Ok(Some(len));
            }
            if !self.fill().await? {
                return self.buffer.end().map(|()| None);
            }
        }
    }

    /// Takes what is there, at least one byte; `false` at the end of the stream.
    async fn fill(&mut self) -> Result<bool, LinkError> {
        match self.stream.read_chunk(CHUNK_BYTES, true).await.map_err(read_lost)? {
            Some(chunk) => {
                self.buffer.push(&chunk.bytes);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// Bytes of a stream that are not yet taken as frames.
///
/// Invariant: it never holds room for more than one frame and one chunk, nor for more than twice what
/// has arrived and a little, whatever a header claims.
#[derive(Debug, Default)]
struct Buffer(BytesMut);

impl Buffer {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn take_byte(&mut self) -> Option<u8> {
        let first = self.0.first().copied()?;
        self.0.advance(1);
        Some(first)
    }

    /// Length of the next payload, once its header is here and in order.
    fn peek_len(&self) -> Result<Option<usize>, LinkError> {
        let head = self.0.first_chunk::<HEADER_BYTES>();
        Ok(head.map(|head| payload_len(*head)).transpose()?)
    }

    /// The next payload, once it is here.
    fn take(&mut self) -> Result<Option<Bytes>, LinkError> {
        let Some(len) = self.peek_len()? else { return Ok(None) };
        let whole = HEADER_BYTES + len;
        if self.0.len() < whole {
            // Room for what was announced is made as it arrives.
            let more = (whole - self.0.len()).min(self.0.len().max(ROOM_BYTES));
            self.0.reserve(more);
            return Ok(None);
        }
        let mut frame = self.0.split_to(whole);
        frame.advance(HEADER_BYTES);
        Ok(Some(frame.freeze()))
    }

    /// Whether the stream may end here.
    fn end(&self) -> Result<(), LinkError> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(LinkError::Lost("the stream ended inside a frame".to_owned())),
        }
    }
}

/// A message as one frame, after the lane byte if the stream has not sent it yet.
pub(crate) fn encode(lane: Option<u8>, message: &impl prost::Message) -> Result<Bytes, LinkError> {
    let len = message.encoded_len();
    let head = header(len)?;
    let mut out = BytesMut::with_capacity(1 + HEADER_BYTES + len);
    out.extend(lane);
    out.put_slice(&head);
    message.encode(&mut out).map_err(|error| LinkError::Lost(error.to_string()))?;
    Ok(out.freeze())
}

pub(crate) fn write_lost(error: WriteError) -> LinkError {
    match error {
        WriteError::ConnectionLost(error) => LinkError::Lost(end_of(&error).reason().to_owned()),
        WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            LinkError::Lost(error.to_string())
        }
    }
}

pub(crate) fn read_lost(error: ReadError) -> LinkError {
    match error {
        ReadError::ConnectionLost(error) => LinkError::Lost(end_of(&error).reason().to_owned()),
        ReadError::Reset(_)
        | ReadError::ClosedStream
        | ReadError::IllegalOrderedRead
        | ReadError::ZeroRttRejected => LinkError::Lost(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::limits::FRAME_BYTES_MAX;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(chunks: Vec<Vec<u8>>) {
            let (mut buffer, mut given, mut taken) = (Buffer::default(), 0, 0);
            'stream: for chunk in &chunks {
                buffer.push(chunk);
                given += chunk.len();
                loop {
                    match buffer.take() {
                        Ok(Some(payload)) => taken += HEADER_BYTES + payload.len(),
                        Ok(None) => break,
                        Err(_) => break 'stream,
                    }
                }
                prop_assert_eq!(taken + buffer.0.len(), given);
                prop_assert!(buffer.0.capacity() <= 2 * (FRAME_BYTES_MAX + HEADER_BYTES));
            }
        }

        #[test]
        fn frames_survive_any_cut(
            payloads: Vec<Vec<u8>>,
            cuts in prop::collection::vec(1usize..40, 1..50),
        ) {
            let mut bytes = Vec::new();
            for payload in &payloads {
                bytes.extend(header(payload.len()).unwrap());
                bytes.extend(payload);
            }
            let (mut buffer, mut got, mut cuts) = (Buffer::default(), Vec::new(), cuts.iter().cycle());
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                buffer.push(now);
                rest = later;
                while let Some(payload) = buffer.take().unwrap() {
                    got.push(payload.to_vec());
                }
            }
            prop_assert_eq!(got, payloads);
            prop_assert!(buffer.end().is_ok());
        }

        #[test]
        fn a_claimed_length_takes_no_memory_beyond_the_limit(claimed: u32) {
            prop_assume!(claimed as usize > FRAME_BYTES_MAX);
            let mut buffer = Buffer::default();
            buffer.push(&claimed.to_be_bytes());
            buffer.push(&[VERSION]);
            prop_assert!(buffer.take().is_err());
            prop_assert!(buffer.0.capacity() < 4096);
        }
    }

    #[test]
    fn a_message_is_encoded_as_the_protocol_says() {
        let request = proto::wire::Request { deadline_ms: 7, ..Default::default() };
        assert_eq!(encode(None, &request).unwrap(), proto::frame::encode(&request).unwrap());
        assert_eq!(encode(Some(9), &request).unwrap()[1..], encode(None, &request).unwrap());
    }
}
