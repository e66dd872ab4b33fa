//! Frames with a number, many at a time, on the long stream of a connection, and within the frames of a
//! stream between nodes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use proto::frame::{ALL_REFUSED, NUMBERED_HEADER_BYTES, numbered, numbered_header};
use proto::limits::FRAME_BYTES_MAX;
use quinn::RecvStream;

use crate::frames::read_lost;
use crate::{FrameRx, LinkError};

/// Pieces taken from a stream at once: each is a packet's.
const CHUNKS: usize = 64;

/// The receiving half of a long stream.
#[derive(Debug)]
pub(crate) struct NumberedRx {
    stream: RecvStream,
    buffer: Buffer,
}

impl NumberedRx {
    /// A stream of which these bytes have been read already. No frame may be longer than `most`.
    pub(crate) fn new(stream: RecvStream, begun: BytesMut, most: usize) -> Self {
        Self { stream, buffer: Buffer { bytes: begun, most } }
    }

    /// The frames that are here whole, so many at most and at least one; none at the end of the stream.
    /// Safe to cancel.
    ///
    /// # Errors
    /// When a frame breaks the rules or the stream is lost. Nothing on it can be trusted then.
    pub(crate) async fn recv(&mut self, most: usize) -> Result<Vec<(u64, Bytes)>, LinkError> {
        loop {
            let mut frames = Vec::new();
            while frames.len() < most
                && let Some(frame) = self.buffer.take()?
            {
                frames.push(frame);
            }
            if !frames.is_empty() {
                return Ok(frames);
            }
            let mut chunks = [const { Bytes::new() }; CHUNKS];
            let Some(count) = self.stream.read_chunks(&mut chunks).await.map_err(read_lost)? else {
                return self.buffer.end().map(|()| Vec::new());
            };
            chunks.iter().take(count).for_each(|chunk| self.buffer.push(chunk));
        }
    }
}

/// Answers to what was handed over, see `forwards`, as they come.
#[derive(Debug)]
pub struct AnswersRx {
    rx: FrameRx,
    buffer: Buffer,
    /// Whether something was answered.
    begun: bool,
}

/// What comes in answer to what was handed over.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered {
    /// Answers that are here, at least one, each with the number of its request.
    Each(Vec<(u64, Bytes)>),
    /// The one answer to all of it, also to what is still to be handed over: nothing was done.
    Refused(Bytes),
    /// No more answers come.
    End,
}

impl AnswersRx {
    /// What comes in answer to what is sent the other way.
    #[must_use]
    pub fn new(rx: FrameRx) -> Self {
        let buffer = Buffer { bytes: BytesMut::new(), most: FRAME_BYTES_MAX };
        Self { rx, buffer, begun: false }
    }

    /// What comes next. Safe to cancel.
    ///
    /// # Errors
    /// When a frame breaks the rules or the stream is lost.
    pub async fn recv(&mut self) -> Result<Answered, LinkError> {
        loop {
            let mut frames: Vec<_> =
                std::iter::from_fn(|| self.buffer.take().transpose()).collect::<Result<_, _>>()?;
            let first = !self.begun;
            self.begun |= !frames.is_empty();
            if let Some(at) = frames.iter().position(|(number, _)| *number == ALL_REFUSED) {
                return match first && at == 0 {
                    true => Ok(Answered::Refused(frames.swap_remove(0).1)),
                    false => Err(LinkError::Lost("it refused what it had answered".to_owned())),
                };
            }
            if !frames.is_empty() {
                return Ok(Answered::Each(frames));
            }
            match self.rx.recv().await? {
                Some(bytes) => self.buffer.push(&bytes),
                None => return self.buffer.end().map(|()| Answered::End),
            }
        }
    }
}

/// Bytes that are not yet taken as frames.
///
/// Invariant: never more than the largest frame and what was read at once.
#[derive(Debug)]
struct Buffer {
    bytes: BytesMut,
    most: usize,
}

impl Buffer {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, once it is here. It holds its own bytes alone, however many came with it.
    fn take(&mut self) -> Result<Option<(u64, Bytes)>, LinkError> {
        let Some(header) = self.bytes.first_chunk::<NUMBERED_HEADER_BYTES>() else {
            return Ok(None);
        };
        let (number, len) = numbered(*header)?;
        if len > self.most {
            return Err(proto::frame::FrameError::TooLong(len).into());
        }
        let whole = NUMBERED_HEADER_BYTES + len;
        let Some(payload) = self.bytes.get(NUMBERED_HEADER_BYTES..whole) else { return Ok(None) };
        let payload = Bytes::copy_from_slice(payload);
        self.bytes.advance(whole);
        Ok(Some((number, payload)))
    }

    /// Whether the stream may end here.
    fn end(&self) -> Result<(), LinkError> {
        match self.bytes.is_empty() {
            true => Ok(()),
            false => Err(LinkError::Lost("the stream ended inside a frame".to_owned())),
        }
    }
}

/// Puts a message behind what is to be sent.
///
/// # Errors
/// When it is longer than a frame may be; nothing is put then.
pub(crate) fn put(
    out: &mut BytesMut,
    number: u64,
    message: &impl prost::Message,
) -> Result<(), LinkError> {
    let len = message.encoded_len();
    let header = numbered_header(number, len)?;
    out.reserve(NUMBERED_HEADER_BYTES + len);
    out.put_slice(&header);
    message.encode(out).map_err(|error| LinkError::Lost(error.to_string()))
}

/// Puts a message that is encoded already behind what is to be sent.
///
/// # Errors
/// As [`put`].
pub(crate) fn put_encoded(
    out: &mut BytesMut,
    number: u64,
    payload: &[u8],
) -> Result<(), LinkError> {
    let header = numbered_header(number, payload.len())?;
    out.reserve(NUMBERED_HEADER_BYTES + payload.len());
    out.put_slice(&header);
    out.put_slice(payload);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::limits::NUMBERED_BYTES_MAX;

    use super::*;

    fn buffer() -> Buffer {
        Buffer { bytes: BytesMut::new(), most: NUMBERED_BYTES_MAX }
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            frames: Vec<(u64, Vec<u8>)>,
            cuts in prop::collection::vec(1usize..60, 1..50),
        ) {
            let mut bytes = BytesMut::new();
            for (number, payload) in &frames {
                put_encoded(&mut bytes, *number, payload).unwrap();
            }
            let (mut buffer, mut got, mut cuts) = (buffer(), Vec::new(), cuts.iter().cycle());
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                buffer.push(now);
                rest = later;
                while let Some((number, payload)) = buffer.take().unwrap() {
                    got.push((number, payload.to_vec()));
                }
            }
            prop_assert_eq!(got, frames);
            prop_assert!(buffer.end().is_ok());
        }

        #[test]
        fn any_bytes_are_taken_or_refused(chunks: Vec<Vec<u8>>) {
            let mut buffer = buffer();
            for chunk in &chunks {
                buffer.push(chunk);
                loop {
                    match buffer.take() {
                        Ok(Some((_, payload))) => prop_assert!(payload.len() <= NUMBERED_BYTES_MAX),
                        Ok(None) => break,
                        Err(_) => return Ok(()),
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_header() {
        let mut buffer = buffer();
        buffer.push(&numbered_header(1, NUMBERED_BYTES_MAX + 1).unwrap());
        assert!(buffer.take().is_err());
    }
}
