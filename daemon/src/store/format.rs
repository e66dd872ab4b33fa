//! Values on disk: identity of the store, votes, floors, applied state, and log entries.

use bytes::Bytes;
pub use proto::chain::ChainHash;

use super::StoreError;

/// Version of the disk format that this release writes and reads.
pub const FORMAT: u32 = 1;
/// Bytes in front of the payload of a stored log entry: crc32c, term, chain hash.
const ENTRY_HEADER: usize = 4 + 8 + 32;

/// Who this store is, written once at its creation.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Identity {
    /// Format version of the store.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Id of the cluster.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// Name of the node.
    #[prost(string, tag = "3")]
    pub node: String,
    /// Raft id; never reused.
    #[prost(uint64, tag = "4")]
    pub raft_id: u64,
    /// Incarnation of the store, 16 bytes; one per raft id, for ever.
    #[prost(bytes = "vec", tag = "5")]
    pub incarnation: Vec<u8>,
    /// Drawn when the store was made, 16 bytes: a second store of one incarnation has another.
    /// Empty in stores of releases that drew none.
    #[prost(bytes = "vec", tag = "6")]
    pub nonce: Vec<u8>,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cluster, node, raft_id, .. } = self;
        write!(f, "{node} of cluster {cluster} with raft id {raft_id}")
    }
}

/// The processes of the last starts, the newest first.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Lives {
    /// Each with the number of its start.
    #[prost(message, repeated, tag = "1")]
    pub lives: Vec<proto::attest::Life>,
}

/// A vote of a shard.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Vote {
    /// Term.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Raft id of the node voted for.
    #[prost(uint64, tag = "2")]
    pub node: u64,
    /// Whether a quorum granted it.
    #[prost(bool, tag = "3")]
    pub committed: bool,
}

/// A place in the log with the chain hash there.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LogMark {
    /// Index.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// Term.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Chain hash, 32 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub hash: Vec<u8>,
}

impl LogMark {
    /// The chain hash.
    ///
    /// # Errors
    /// When the field is not 32 bytes.
    pub fn chain_hash(&self) -> Result<ChainHash, StoreError> {
        let hash = self.hash.as_slice().try_into();
        hash.map_err(|_| StoreError::Damaged(format!("a chain hash of {} bytes", self.hash.len())))
    }
}

/// A log entry as the store keeps it; what the payload means is the engine's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Index.
    pub index: u64,
    /// Term.
    pub term: u64,
    /// Payload.
    pub payload: Bytes,
}

impl LogEntry {
    /// The chain hash at this entry.
    #[must_use]
    pub fn chain(&self, previous: &ChainHash) -> ChainHash {
        proto::chain::chain(previous, self.index, self.term, &self.payload)
    }

    /// The stored form: crc32c of all that follows, term, chain hash, payload.
    pub(crate) fn encode(&self, chain: &ChainHash) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENTRY_HEADER + self.payload.len());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.term.to_be_bytes());
        out.extend_from_slice(chain);
        out.extend_from_slice(&self.payload);
        let (head, rest) = out.split_at_mut(4);
        head.copy_from_slice(&crc32c::crc32c(rest).to_be_bytes());
        out
    }

    /// Reads the stored form back, with the chain hash.
    ///
    /// # Errors
    /// When the checksum does not match.
    pub(crate) fn decode(index: u64, value: &[u8]) -> Result<(Self, ChainHash), StoreError> {
        let damaged = |what| StoreError::Damaged(format!("log entry {index}: {what}"));
        let (crc, rest) = value.split_first_chunk::<4>().ok_or_else(|| damaged("too short"))?;
        if crc32c::crc32c(rest) != u32::from_be_bytes(*crc) {
            return Err(damaged("checksum mismatch"));
        }
        let (term, rest) = rest.split_first_chunk::<8>().ok_or_else(|| damaged("too short"))?;
        let (chain, payload) =
            rest.split_first_chunk::<32>().ok_or_else(|| damaged("too short"))?;
        let payload = Bytes::copy_from_slice(payload);
        Ok((Self { index, term: u64::from_be_bytes(*term), payload }, *chain))
    }
}

/// Where the state machine of a shard stands; lies in the same batch as the effects.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AppliedState {
    /// Last applied entry; absent before the first.
    #[prost(message, optional, tag = "1")]
    pub last: Option<LogMark>,
    /// Index of the membership entry.
    #[prost(message, optional, tag = "2")]
    pub membership_at: Option<LogMark>,
    /// The membership, as the engine's module encodes it.
    #[prost(bytes = "vec", tag = "3")]
    pub membership: Vec<u8>,
}

/// Decodes a protobuf value of the store.
///
/// # Errors
/// When it is not one.
pub(crate) fn decode<M: prost::Message + Default>(
    what: &str,
    bytes: &[u8],
) -> Result<M, StoreError> {
    M::decode(bytes).map_err(|error| StoreError::Damaged(format!("{what}: {error}")))
}

/// Encodes a protobuf value of the store.
pub(crate) fn encode(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_round_trip_and_every_flipped_bit_is_seen(
            index: u64, term: u64, payload: Vec<u8>, flip: prop::sample::Index,
        ) {
            let entry = LogEntry { index, term, payload: payload.into() };
            let chain = entry.chain(&[7; 32]);
            let mut value = entry.encode(&chain);
            prop_assert_eq!(LogEntry::decode(index, &value).unwrap(), (entry, chain));
            let bit = flip.index(value.len() * 8);
            value[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(LogEntry::decode(index, &value).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = LogEntry::decode(1, &bytes);
            let _ = decode::<AppliedState>("applied", &bytes);
        }
    }
}
