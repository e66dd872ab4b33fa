//! Values on disk: identity of the store, votes, places in the log, applied state.

pub use log::Entry as LogEntry;
pub use proto::chain::ChainHash;

use super::StoreError;

/// Version of the disk format that this release writes. It also reads [`FORMAT_LOG_IN_DB`].
pub const FORMAT: u32 = 2;
/// Version of the disk format whose log lies in the database.
pub const FORMAT_LOG_IN_DB: u32 = 1;
/// Version of the rows that snapshots carry.
pub const SNAPSHOT_FORMAT: u32 = 1;

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

impl From<log::Place> for LogMark {
    fn from(log::Place { index, term, hash }: log::Place) -> Self {
        Self { index, term, hash: hash.to_vec() }
    }
}

impl From<log::Vote> for Vote {
    fn from(log::Vote { term, node, committed }: log::Vote) -> Self {
        Self { term, node, committed }
    }
}

impl From<Vote> for log::Vote {
    fn from(Vote { term, node, committed }: Vote) -> Self {
        Self { term, node, committed }
    }
}

/// The stored form of a place: crc32c of all that follows, term, chain hash.
pub(crate) fn encode_place(place: &log::Place) -> [u8; 44] {
    let mut out = [0; 44];
    let (crc, rest) = out.split_at_mut(4);
    let (term, hash) = rest.split_at_mut(8);
    term.copy_from_slice(&place.term.to_be_bytes());
    hash.copy_from_slice(&place.hash);
    crc.copy_from_slice(&crc32c::crc32c(rest).to_be_bytes());
    out
}

/// Reads the stored form back, with what follows it: the payload of an entry, in format 1.
///
/// # Errors
/// When the checksum does not match.
pub(crate) fn decode_place(index: u64, value: &[u8]) -> Result<(log::Place, &[u8]), StoreError> {
    let parts = || {
        let (crc, rest) = value.split_first_chunk::<4>()?;
        let (term, hashed) = rest.split_first_chunk::<8>()?;
        let (hash, payload) = hashed.split_first_chunk::<32>()?;
        let whole = crc32c::crc32c(rest) == u32::from_be_bytes(*crc);
        let place = log::Place { index, term: u64::from_be_bytes(*term), hash: *hash };
        whole.then_some((place, payload))
    };
    parts().ok_or_else(|| StoreError::Damaged(format!("log entry {index} is not what was written")))
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

/// The place of a mark. One without a hash is of a state that was made without a log.
pub(crate) fn place(mark: &LogMark) -> Result<log::Place, StoreError> {
    let hash = if mark.hash.is_empty() { [0; 32] } else { mark.chain_hash()? };
    Ok(log::Place { index: mark.index, term: mark.term, hash })
}

/// Whose log it is. Stores of releases that drew no nonce are told apart by their incarnation.
pub(crate) fn store_id(identity: &Identity) -> log::StoreId {
    let known = [&identity.nonce, &identity.incarnation];
    let known = known.into_iter().find_map(|id| log::StoreId::try_from(id.as_slice()).ok());
    known.unwrap_or_default()
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
        fn places_round_trip_and_every_flipped_bit_is_seen(
            index: u64, term: u64, hash: [u8; 32], flip: prop::sample::Index,
        ) {
            let place = log::Place { index, term, hash };
            let mut value = encode_place(&place);
            prop_assert_eq!(decode_place(index, &value).unwrap(), (place, &b""[..]));
            let bit = flip.index(value.len() * 8);
            value[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode_place(index, &value).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode_place(1, &bytes);
            let _ = decode::<AppliedState>("applied", &bytes);
        }
    }
}
