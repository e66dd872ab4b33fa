//! Which slot a key falls into. Clients and nodes must agree, so it stands here and not in `model`.

use crate::limits::SLOTS;
use crate::name::Stream;

/// What a stream is called in keys and in placement: `c:bob`, `g:ops`, `*`, `$events`.
#[must_use]
pub fn stream_key(stream: &Stream) -> String {
    match stream {
        // Joined, not formatted: apply makes one for every message.
        Stream::Client(name) => ["c:", name.as_str()].concat(),
        Stream::Group(name) => ["g:", name.as_str()].concat(),
        Stream::Everyone | Stream::Events => stream.to_string(),
    }
}

/// The slot of a stream: the first 12 bits of the BLAKE3 hash of its key.
#[must_use]
pub fn slot_of(stream: &Stream) -> u16 {
    slot_of_bytes(stream_key(stream).as_bytes())
}

/// The slot of what somebody typed: a recipient's own, or for any other text that of its bytes.
#[must_use]
pub fn slot_of_key(key: &str) -> u16 {
    match key.parse::<Stream>() {
        Ok(stream) => slot_of(&stream),
        Err(_) => slot_of_bytes(key.as_bytes()),
    }
}

fn slot_of_bytes(bytes: &[u8]) -> u16 {
    let [a, b, ..] = *blake3::hash(bytes).as_bytes();
    u16::from_be_bytes([a, b]) >> 4
}

const _: () = assert!(SLOTS == 1 << 12);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_and_what_is_sent_agree() {
        let bob: Stream = "bob".parse().unwrap();
        assert_eq!(slot_of_key("bob"), slot_of(&bob));
        assert_ne!(slot_of_key("@ops"), slot_of_key("ops"));
        assert!(usize::from(slot_of_key("An order, number 7")) < SLOTS);
    }
}
