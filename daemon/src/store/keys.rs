//! Keys of the column families: big-endian, shard first, so that one database serves many
//! shards and a range scan is one shard's order.

/// Column families of the database.
pub(crate) const FAMILIES: [&str; 5] = [META, PLACES, RECORDS, STREAMS, STATE];
/// Generation, identity of the store.
pub(crate) const META: &str = "meta";
/// Places of applied log entries, with their chain hashes.
pub(crate) const PLACES: &str = "places";
/// The log of stores of format 1.
pub(crate) const LOG_IN_DB: &str = "log";
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
    /// Number of starts; of shard 0, in format 1.
    Starts = 2,
    /// Ceiling of stamps; of shard 0, in format 1.
    Ceiling = 3,
    /// Vote of a shard, in format 1.
    Vote = 4,
    /// Purge floor of a shard's log, in format 1.
    Floor = 5,
    /// Live generation of a shard's state.
    Generation = 6,
    /// Processes of the last starts; of shard 0, in format 1.
    Lives = 7,
}

/// Key of a `meta` row.
pub(crate) fn meta(shard: u16, kind: MetaKind) -> [u8; 3] {
    let [a, b] = shard.to_be_bytes();
    [a, b, kind as u8]
}

/// Key of what belongs to a log entry.
pub(crate) fn entry(shard: u16, index: u64) -> [u8; 10] {
    let mut key = [0; 10];
    let (head, tail) = key.split_at_mut(2);
    head.copy_from_slice(&shard.to_be_bytes());
    tail.copy_from_slice(&index.to_be_bytes());
    key
}

/// Bit of the shard in the keys of places in [`LOG_IN_DB`], which sort behind the log of every shard.
const PLACES_IN_LOG: u16 = 1 << 15;

/// Key of a place in [`LOG_IN_DB`].
pub(crate) fn place_in_log(shard: u16, index: u64) -> [u8; 10] {
    entry(shard | PLACES_IN_LOG, index)
}

/// Index of the key of a place in [`LOG_IN_DB`]; `None` if it is not one of this shard.
pub(crate) fn index_of_place_in_log(shard: u16, key: &[u8]) -> Option<u64> {
    entry_index(shard | PLACES_IN_LOG, key)
}

/// Index of an entry's key; `None` if it is not one of this shard.
pub(crate) fn entry_index(shard: u16, key: &[u8]) -> Option<u64> {
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
    fn keys_of_entries_sort_by_shard_then_index() {
        assert!(entry(1, u64::MAX) < entry(2, 0));
        assert!(entry(1, 255) < entry(1, 256));
        assert_eq!(entry_index(1, &entry(1, 77)), Some(77));
        assert_eq!(entry_index(2, &entry(1, 77)), None);
        assert_eq!(entry_index(1, b"\0\x01short"), None);
        assert!(entry(u16::MAX >> 1, u64::MAX) < place_in_log(0, 0));
        assert_eq!(entry_index(1, &place_in_log(1, 77)), None);
        assert_eq!(index_of_place_in_log(1, &place_in_log(1, 77)), Some(77));
    }

    #[test]
    fn the_end_of_a_prefix_is_exclusive_and_carries() {
        assert_eq!(after_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255, 255]), None);
    }
}
