//! Keys of the five column families: big-endian, shard first, so that one database serves many
//! shards and a range scan is one shard's order.

/// Column families, for ever these five (`ARCHITECTURE.md`, storage).
pub(crate) const FAMILIES: [&str; 5] = [META, LOG, RECORDS, STREAMS, STATE];
/// Votes, floors, generation, ceiling, identity of the store.
pub(crate) const META: &str = "meta";
/// Raft log entries.
pub(crate) const LOG: &str = "log";
/// Stored messages by seq.
pub(crate) const RECORDS: &str = "records";
/// Inbox index.
pub(crate) const STREAMS: &str = "streams";
/// Everything else of the state machine.
pub(crate) const STATE: &str = "state";

/// Kinds of rows in `meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum MetaKind {
    /// The store's identity and format; of shard 0.
    Identity = 1,
    /// Number of starts; of shard 0.
    Starts = 2,
    /// Ceiling of stamps; of shard 0.
    Ceiling = 3,
    /// Vote of a shard.
    Vote = 4,
    /// Purge floor of a shard's log.
    Floor = 5,
    /// Live generation of a shard's state.
    Generation = 6,
    /// Processes of the last starts; of shard 0.
    Lives = 7,
}

/// Key of a `meta` row.
pub(crate) fn meta(shard: u16, kind: MetaKind) -> [u8; 3] {
    let [a, b] = shard.to_be_bytes();
    [a, b, kind as u8]
}

/// Key of a log entry.
pub(crate) fn log(shard: u16, index: u64) -> [u8; 10] {
    let mut key = [0; 10];
    let (head, tail) = key.split_at_mut(2);
    head.copy_from_slice(&shard.to_be_bytes());
    tail.copy_from_slice(&index.to_be_bytes());
    key
}

/// Bit of the shard in the keys of chain hashes, which sort behind the log of every shard.
const CHAINS: u16 = 1 << 15;

/// Key of the chain hash at a log entry, which stays for long after the entry is purged.
pub(crate) fn chain(shard: u16, index: u64) -> [u8; 10] {
    log(shard | CHAINS, index)
}

/// Index of a log key; `None` if it is not one of this shard.
pub(crate) fn log_index(shard: u16, key: &[u8]) -> Option<u64> {
    let rest = key.strip_prefix(&shard.to_be_bytes())?;
    rest.try_into().ok().map(u64::from_be_bytes)
}

/// Prefix of everything in one generation of a shard's state.
pub(crate) fn generation(shard: u16, generation: u32) -> [u8; 6] {
    let mut key = [0; 6];
    let (head, tail) = key.split_at_mut(2);
    head.copy_from_slice(&shard.to_be_bytes());
    tail.copy_from_slice(&generation.to_be_bytes());
    key
}

/// A key of the state: generation prefix, table, then the model's own key.
pub(crate) fn state(prefix: [u8; 6], table: u8, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(prefix.len() + 1 + key.len());
    out.extend_from_slice(&prefix);
    out.push(table);
    out.extend_from_slice(key);
    out
}

/// The first key after all keys with this prefix; `None` if there is none.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_keys_sort_by_shard_then_index() {
        assert!(log(1, u64::MAX) < log(2, 0));
        assert!(log(1, 255) < log(1, 256));
        assert_eq!(log_index(1, &log(1, 77)), Some(77));
        assert_eq!(log_index(2, &log(1, 77)), None);
        assert_eq!(log_index(1, b"\0\x01short"), None);
        assert!(log(u16::MAX >> 1, u64::MAX) < chain(0, 0));
        assert_eq!(log_index(1, &chain(1, 77)), None);
    }

    #[test]
    fn the_end_of_a_prefix_is_exclusive_and_carries() {
        assert_eq!(after_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255, 255]), None);
    }
}
