//! Keys of rows. Texts in keys are names, ids and stream keys, none of which can hold a zero byte,
//! so a zero byte ends each of them; numbers are big-endian.

use clock::Hlc;

/// The stream of the cluster's own events, which every admitted client may read.
pub(crate) const EVENTS: &str = "$events";
/// Key of the only row in `Meta` and in `Slots`.
pub(crate) const ONLY: &[u8] = b"state";

/// `seq`
pub(crate) fn seq(seq: u64) -> [u8; 8] {
    seq.to_be_bytes()
}

/// `text 0 seq`: rows of `Streams` and `Senders`.
pub(crate) fn indexed(text: &str, seq: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(text.len() + 9);
    key.extend_from_slice(text.as_bytes());
    key.push(0);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

/// The seq at the end of a key that [`indexed`] made.
pub(crate) fn seq_of(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// `first 0 second`: rows of `Ids` (id, sender) and `Dedup` (sender, id).
pub(crate) fn pair(first: &str, second: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(first.len() + second.len() + 1);
    key.extend_from_slice(first.as_bytes());
    key.push(0);
    key.extend_from_slice(second.as_bytes());
    key
}

/// The second text of a key that [`pair`] made.
pub(crate) fn second(key: &[u8]) -> Option<&str> {
    let at = key.iter().position(|&b| b == 0)?;
    key.get(at + 1..).and_then(|rest| std::str::from_utf8(rest).ok())
}

/// First key after all keys that begin with `text 0`.
pub(crate) fn after(text: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(text.len() + 1);
    key.extend_from_slice(text.as_bytes());
    key.push(1);
    key
}

/// `clock value`: rows of `DedupAge`.
pub(crate) fn age(hlc: Hlc) -> [u8; Hlc::BYTES] {
    hlc.to_bytes()
}

/// `level block`: rows of `Blocks`.
pub(crate) fn block(level: u8, block: u64) -> [u8; 9] {
    let [a, b, c, d, e, f, g, h] = block.to_be_bytes();
    [level, a, b, c, d, e, f, g, h]
}

/// Key of the second row in `Slots`: the homes.
pub(crate) const HOMES: &[u8] = b"homes";

/// `t id`: a join token in `Tokens`.
pub(crate) fn token(id: &[u8]) -> Vec<u8> {
    [b"t", id].concat()
}

/// `u id number`: one use of a join token in `Tokens`.
pub(crate) fn token_use(id: &[u8], number: u32) -> Vec<u8> {
    [b"u", id, &number.to_be_bytes()].concat()
}

/// `a id`: an access token in `Tokens`.
pub(crate) fn access(id: &[u8]) -> Vec<u8> {
    [b"a", id].concat()
}

/// Above every key that [`age`] or a text makes.
pub(crate) const END: &[u8] = &[0xff; Hlc::BYTES + 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_its_own_rows_only() {
        let (from, to) = (indexed("c:bob", 0), after("c:bob"));
        let inside = |key: Vec<u8>| from <= key && key < to;
        assert!(inside(indexed("c:bob", 1)) && inside(indexed("c:bob", u64::MAX)));
        assert!(!inside(indexed("c:bo", u64::MAX)) && !inside(indexed("c:bobb", 0)));
        assert!(!inside(indexed("c:bob.x", 7)) && !inside(indexed("c:bob-", 7)));
    }

    #[test]
    fn parts_read_back() {
        assert_eq!(seq_of(&indexed("*", 77)), Some(77));
        assert_eq!(second(&pair("m-1", "alice")), Some("alice"));
    }
}
