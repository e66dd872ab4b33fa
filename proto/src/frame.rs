//! Frames: `length: u32 BE ‖ version: u8 ‖ payload`, where length counts the payload alone.
//!
//! On a stream that carries many requests, of version 2, each frame has a number by which its answer is
//! told: `length: u32 BE ‖ 2 ‖ number: u64 BE ‖ payload`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits::FRAME_BYTES_MAX;

/// Version of the protocol that this release speaks. A frame of another version is refused.
pub const VERSION: u8 = 1;
/// Bytes in front of every payload.
pub const HEADER_BYTES: usize = 5;
/// Version of a frame with a number.
pub const NUMBERED_VERSION: u8 = 2;
/// The number of no request: what comes with it, first on a stream, answers all that is asked on that
/// stream, none of which is done.
pub const ALL_REFUSED: u64 = u64::MAX;
/// Bytes in front of the payload of a frame with a number.
pub const NUMBERED_HEADER_BYTES: usize = HEADER_BYTES + 8;

/// Why a frame header was refused; the stream is closed then, nothing after it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the limit; nothing was allocated for it.
    #[error("a frame of {0} bytes; at most {FRAME_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// The other side speaks another version.
    #[error("protocol version {0}; this side speaks {VERSION}")]
    Version(u8),
}

/// Reads a header and returns the length of the payload that follows.
///
/// # Errors
/// See [`FrameError`].
pub fn payload_len(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let [a, b, c, d, version] = header;
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    if len > FRAME_BYTES_MAX { Err(FrameError::TooLong(len)) } else { Ok(len) }
}

/// The header for a payload of `len` bytes.
///
/// # Errors
/// When the payload is longer than a frame may be.
pub fn header(len: usize) -> Result<[u8; HEADER_BYTES], FrameError> {
    let short = u32::try_from(len).ok().filter(|_| len <= FRAME_BYTES_MAX);
    let [a, b, c, d] = short.ok_or(FrameError::TooLong(len))?.to_be_bytes();
    Ok([a, b, c, d, VERSION])
}

/// Reads the header of a frame with a number: that, and the length of the payload that follows.
///
/// # Errors
/// See [`FrameError`].
pub fn numbered(header: [u8; NUMBERED_HEADER_BYTES]) -> Result<(u64, usize), FrameError> {
    let [a, b, c, d, version, number @ ..] = header;
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if version != NUMBERED_VERSION {
        return Err(FrameError::Version(version));
    }
    let number = u64::from_be_bytes(number);
    if len > FRAME_BYTES_MAX { Err(FrameError::TooLong(len)) } else { Ok((number, len)) }
}

/// The header of a payload of `len` bytes with a number.
///
/// # Errors
/// When the payload is longer than a frame may be.
pub fn numbered_header(number: u64, len: usize) -> Result<[u8; NUMBERED_HEADER_BYTES], FrameError> {
    let [a, b, c, d, _] = header(len)?;
    let [n0, n1, n2, n3, n4, n5, n6, n7] = number.to_be_bytes();
    Ok([a, b, c, d, NUMBERED_VERSION, n0, n1, n2, n3, n4, n5, n6, n7])
}

/// Encodes a message as one frame.
///
/// # Errors
/// When the message is longer than a frame may be.
pub fn encode(message: &impl prost::Message) -> Result<Bytes, FrameError> {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(HEADER_BYTES + len);
    out.put_slice(&header(len)?);
    out.put_slice(&message.encode_to_vec());
    Ok(out.freeze())
}

/// Reads the message of a frame's payload; `None` if it is not one.
#[must_use]
pub fn decode<M: prost::Message + Default>(payload: Bytes) -> Option<M> {
    M::decode(payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked_before_anything_is_read() {
        assert_eq!(payload_len(header(0).unwrap()), Ok(0));
        assert_eq!(payload_len(header(FRAME_BYTES_MAX).unwrap()), Ok(FRAME_BYTES_MAX));
        assert!(header(FRAME_BYTES_MAX + 1).is_err());
        assert_eq!(
            payload_len([0xff, 0xff, 0xff, 0xff, VERSION]),
            Err(FrameError::TooLong(0xffff_ffff))
        );
        assert_eq!(payload_len([0, 0, 0, 1, 9]), Err(FrameError::Version(9)));
    }

    #[test]
    fn a_number_is_told_from_a_payload() {
        let header = numbered_header(u64::MAX - 7, 300).unwrap();
        assert_eq!(numbered(header), Ok((u64::MAX - 7, 300)));
        // Neither kind of stream takes the frames of the other.
        let head = *header.first_chunk().unwrap();
        assert_eq!(payload_len(head), Err(FrameError::Version(NUMBERED_VERSION)));
        let mut plain = header;
        plain[4] = VERSION;
        assert_eq!(numbered(plain), Err(FrameError::Version(VERSION)));
        assert!(numbered_header(1, FRAME_BYTES_MAX + 1).is_err());
    }
}
