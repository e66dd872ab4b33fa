//! Values of rows. All are protobuf, so that a later release can add fields; a record has its stamp
//! in front, so that a search by time reads twenty bytes and no protobuf.

use bytes::Bytes;
use clock::{Hlc, Stamp};
use prost::Message;
use proto::Record;
use proto::wire::{Ack, Position};

use crate::SHARD;
use crate::error::StateError;
use crate::hash::Hash;
use crate::keys;
use crate::view::{Table, View};

/// What `Meta` holds: everything that grows with every entry.
///
/// Invariants: `first_seq <= last_seq + 1`, and the records kept are exactly those two and all
/// between; no kept record is stamped after `last`; no dedup row is older than `dedup_floor_ns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// Index of the last applied entry.
    pub(crate) index: u64,
    /// Its term.
    pub(crate) term: u64,
    /// Final stamp of the last command.
    pub(crate) last: Hlc,
    /// Lowest seq that is kept; `last_seq + 1` if none is.
    pub(crate) first_seq: u64,
    /// Highest seq ever given.
    pub(crate) last_seq: u64,
    /// Kept record rows together.
    pub(crate) bytes: u64,
    /// Registered clients.
    pub(crate) clients: u64,
    /// See above.
    pub(crate) dedup_floor_ns: u64,
    /// Digest of all changes ever made.
    pub(crate) digest: Hash,
}

#[derive(Clone, PartialEq, Message)]
struct StateRow {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(bytes = "bytes", tag = "3")]
    last: Bytes,
    #[prost(uint64, tag = "4")]
    first_seq: u64,
    #[prost(uint64, tag = "5")]
    last_seq: u64,
    #[prost(uint64, tag = "6")]
    bytes: u64,
    #[prost(uint64, tag = "7")]
    clients: u64,
    #[prost(uint64, tag = "8")]
    dedup_floor_ns: u64,
    #[prost(bytes = "bytes", tag = "9")]
    digest: Bytes,
}

impl State {
    /// The state before any entry.
    pub(crate) const EMPTY: Self = Self {
        index: 0,
        term: 0,
        last: Hlc::ZERO,
        first_seq: 1,
        last_seq: 0,
        bytes: 0,
        clients: 0,
        dedup_floor_ns: 0,
        digest: [0; 32],
    };

    /// Reads the stored state, which is [`State::EMPTY`] before any entry.
    pub(crate) fn load(view: &dyn View) -> Result<Self, StateError> {
        let Some(bytes) = view.get(Table::Meta, keys::ONLY)? else { return Ok(Self::EMPTY) };
        let corrupt = |what| StateError::corrupt(Table::Meta, what);
        let row = StateRow::decode(bytes).map_err(|_| corrupt("the state does not parse"))?;
        if row.first_seq == 0 || row.first_seq - 1 > row.last_seq {
            return Err(corrupt("the first seq lies beyond the last"));
        }
        Ok(Self {
            index: row.index,
            term: row.term,
            last: Hlc::from_slice(&row.last).ok_or_else(|| corrupt("the stamp has no 12 bytes"))?,
            first_seq: row.first_seq,
            last_seq: row.last_seq,
            bytes: row.bytes,
            clients: row.clients,
            dedup_floor_ns: row.dedup_floor_ns,
            digest: (&row.digest[..])
                .try_into()
                .map_err(|_| corrupt("the digest has no 32 bytes"))?,
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        StateRow {
            index: self.index,
            term: self.term,
            last: Bytes::copy_from_slice(&self.last.to_bytes()),
            first_seq: self.first_seq,
            last_seq: self.last_seq,
            bytes: self.bytes,
            clients: self.clients,
            dedup_floor_ns: self.dedup_floor_ns,
            digest: Bytes::copy_from_slice(&self.digest),
        }
        .encode_to_vec()
    }

    /// Asserts what the type promises, after every entry. What is stored was asserted before it was
    /// written, and is checked again with an error when it is read.
    pub(crate) fn check(&self) {
        assert!(self.first_seq >= 1, "seqs begin at 1");
        assert!(self.first_seq <= self.last_seq + 1, "no seq was left out");
        assert!(self.records() > 0 || self.bytes == 0, "bytes of no record are counted");
        assert!(self.bytes >= self.records(), "a record takes at least a byte");
        assert!(self.last > Hlc::ZERO, "every entry is stamped");
        assert!(self.dedup_floor_ns <= self.last.ns, "what is remembered lies in the past");
    }

    /// Number of kept records.
    pub(crate) fn records(&self) -> u64 {
        self.last_seq + 1 - self.first_seq
    }
}

/// A registered client.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ClientRow {
    /// SHA-256 of its public key.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) fingerprint: Bytes,
    /// Pinned home; empty if none.
    #[prost(string, tag = "2")]
    pub(crate) home: String,
    /// Clock value of its registration.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) since: Bytes,
}

impl ClientRow {
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, StateError> {
        Message::decode(bytes)
            .map_err(|_| StateError::corrupt(Table::Clients, "a client does not parse"))
    }
}

/// The first ack of a (sender, id), and what it was for.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DedupRow {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) stamp: Bytes,
    #[prost(uint64, tag = "3")]
    pub(crate) index: u64,
    #[prost(string, tag = "4")]
    pub(crate) primary: String,
    #[prost(string, tag = "5")]
    pub(crate) gateway: String,
    /// The recipient; its slot is the entry's slot.
    #[prost(string, tag = "6")]
    pub(crate) to: String,
    #[prost(bytes = "bytes", tag = "7")]
    pub(crate) content_hash: Bytes,
}

impl DedupRow {
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, StateError> {
        Message::decode(bytes)
            .map_err(|_| StateError::corrupt(Table::Dedup, "a first ack does not parse"))
    }

    pub(crate) fn hlc(&self) -> Result<Hlc, StateError> {
        self.stamp
            .first_chunk::<{ Hlc::BYTES }>()
            .map(|bytes| Hlc::from_bytes(*bytes))
            .ok_or_else(|| StateError::corrupt(Table::Dedup, "a first ack has no stamp"))
    }

    pub(crate) fn into_ack(self, id: &str, duplicate: bool) -> Ack {
        Ack {
            shard: u32::from(SHARD),
            seq: self.seq,
            stamp: self.stamp.to_vec(),
            primary: self.primary,
            gateway: self.gateway,
            id: id.to_owned(),
            duplicate,
            index: self.index,
        }
    }
}

/// A named cursor.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CursorRow {
    /// The client that created it.
    #[prost(string, tag = "1")]
    pub(crate) owner: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) positions: Vec<Position>,
}

impl CursorRow {
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, StateError> {
        Message::decode(bytes)
            .map_err(|_| StateError::corrupt(Table::Cursors, "a cursor does not parse"))
    }
}

/// The row of a record: its stamp, then the record without it.
pub(crate) fn encode_record(record: &mut Record) -> Vec<u8> {
    let stamp = std::mem::take(&mut record.stamp);
    let mut row = Vec::with_capacity(stamp.len() + record.encoded_len());
    row.extend_from_slice(&stamp);
    record.encode_raw(&mut row);
    record.stamp = stamp;
    row
}

/// Reads a record's row; the body shares its memory.
pub(crate) fn decode_record(mut row: Bytes) -> Result<Record, StateError> {
    if row.len() < Stamp::BYTES {
        return Err(StateError::corrupt(Table::Records, "a record has no stamp"));
    }
    let stamp = row.split_to(Stamp::BYTES);
    let mut record = Record::decode(row)
        .map_err(|_| StateError::corrupt(Table::Records, "a record does not parse"))?;
    record.stamp = stamp.to_vec();
    Ok(record)
}

/// The clock value of a record's row.
pub(crate) fn record_hlc(row: &[u8]) -> Result<Hlc, StateError> {
    row.first_chunk::<{ Hlc::BYTES }>()
        .map(|bytes| Hlc::from_bytes(*bytes))
        .ok_or_else(|| StateError::corrupt(Table::Records, "a record has no stamp"))
}

/// A seq that stands alone in a value.
pub(crate) fn decode_seq(bytes: &[u8]) -> Result<u64, StateError> {
    bytes
        .try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| StateError::corrupt(Table::Ids, "a seq has no 8 bytes"))
}
