//! Values of rows. All are protobuf, so that a later release can add fields; a record has its stamp
//! in front, so that a search by time reads twenty bytes and no protobuf.

use bytes::Bytes;
use clock::{Hlc, Stamp};
use prost::Message;
use proto::Record;
use proto::wire::{Ack, Configure, Position, Settings};

use crate::SHARD;
use crate::rows::blocks::{LEVELS, OpenBlock};
use crate::rows::error::StateError;
use crate::rows::gateways::{GatewayCounts, GatewayRow};
use crate::rows::hash::Hash;
use crate::rows::keys;
use crate::rows::view::{Table, View};
use crate::rows::window::Span;

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
    /// The blocks that are not full yet, finest first; `None` while none are kept.
    pub(crate) blocks: Option<[OpenBlock; LEVELS]>,
    /// Grows with every change of the members.
    pub(crate) members_epoch: u64,
    /// Highest raft id ever given to a store; 0 before the first member.
    pub(crate) last_raft_id: u64,
    /// Highest term whose primary was noted.
    pub(crate) led_term: u64,
    /// Stamps that apply took by itself, for events and for the engine's entries, since a proposed
    /// stamp was last good as it was: proposals may lie that far behind without anything being wrong.
    pub(crate) own_stamps: u64,
    /// Kept messages by gateway.
    pub(crate) gateways: GatewayCounts,
    /// Groups, deleted ones of which records are kept too.
    pub(crate) groups: u64,
    /// Version of the last change of the dictionary.
    pub(crate) kv_version: u64,
    /// Keys of the dictionary.
    pub(crate) kv_keys: u64,
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
    #[prost(message, repeated, tag = "10")]
    blocks: Vec<OpenBlockRow>,
    #[prost(uint64, tag = "11")]
    members_epoch: u64,
    #[prost(uint64, tag = "12")]
    last_raft_id: u64,
    #[prost(uint64, tag = "13")]
    led_term: u64,
    #[prost(uint64, tag = "14")]
    own_stamps: u64,
    #[prost(message, repeated, tag = "20")]
    gateways: Vec<GatewayRow>,
    /// First seq that is counted; 0 before gateways were.
    #[prost(uint64, tag = "21")]
    gateways_from: u64,
    #[prost(uint64, tag = "22")]
    groups: u64,
    #[prost(uint64, tag = "23")]
    kv_version: u64,
    #[prost(uint64, tag = "24")]
    kv_keys: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct OpenBlockRow {
    #[prost(uint64, tag = "1")]
    since: u64,
    #[prost(uint64, tag = "2")]
    earliest_ns: u64,
    #[prost(uint64, tag = "3")]
    latest_ns: u64,
    #[prost(uint64, tag = "4")]
    unknown: u64,
}

impl From<OpenBlock> for OpenBlockRow {
    fn from(OpenBlock { since, span }: OpenBlock) -> Self {
        let Span { earliest_ns, latest_ns, unknown } = span;
        Self { since, earliest_ns, latest_ns, unknown }
    }
}

impl From<OpenBlockRow> for OpenBlock {
    fn from(row: OpenBlockRow) -> Self {
        let OpenBlockRow { since, earliest_ns, latest_ns, unknown } = row;
        Self { since, span: Span { earliest_ns, latest_ns, unknown } }
    }
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
        blocks: None,
        members_epoch: 0,
        last_raft_id: 0,
        led_term: 0,
        own_stamps: 0,
        gateways: GatewayCounts::EMPTY,
        groups: 0,
        kv_version: 0,
        kv_keys: 0,
    };

    /// Reads the stored state, which is [`State::EMPTY`] before any entry.
    pub(crate) fn load(view: &dyn View) -> Result<Self, StateError> {
        let Some(bytes) = view.get(Table::Meta, keys::ONLY)? else { return Ok(Self::EMPTY) };
        let corrupt = |what| StateError::corrupt(Table::Meta, what);
        let row = StateRow::decode(bytes).map_err(|_| corrupt("the state does not parse"))?;
        let state = Self {
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
            blocks: open_blocks(row.blocks)
                .ok_or_else(|| corrupt("not one open block per level"))?,
            members_epoch: row.members_epoch,
            last_raft_id: row.last_raft_id,
            led_term: row.led_term,
            own_stamps: row.own_stamps,
            gateways: GatewayCounts::read(row.gateways, row.gateways_from, row.last_seq),
            groups: row.groups,
            kv_version: row.kv_version,
            kv_keys: row.kv_keys,
        };
        state.flaw().map_or(Ok(state), |flaw| Err(corrupt(flaw)))
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
            blocks: self.blocks.into_iter().flatten().map(OpenBlockRow::from).collect(),
            members_epoch: self.members_epoch,
            last_raft_id: self.last_raft_id,
            led_term: self.led_term,
            own_stamps: self.own_stamps,
            gateways: self.gateways.rows(),
            gateways_from: self.gateways.from_seq,
            groups: self.groups,
            kv_version: self.kv_version,
            kv_keys: self.kv_keys,
        }
        .encode_to_vec()
    }

    /// What is wrong with the state, if anything. Checked in pairs: after every entry, before it is
    /// written, and whenever it is read.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        // Far beyond anything real, and far enough from the end of the type to add to.
        const ABSURD: u64 = 1 << 62;
        if self.first_seq == 0 || self.first_seq > ABSURD || self.last_seq > ABSURD {
            return Some("a seq is out of range");
        }
        if self.first_seq > self.last_seq + 1 {
            return Some("the first seq lies beyond the last");
        }
        // A row takes at least the 20 bytes of its stamp.
        if self.bytes > ABSURD || self.bytes < self.records() {
            return Some("the count of bytes is out of range");
        }
        if self.records() == 0 && self.bytes != 0 {
            return Some("bytes are counted without a record");
        }
        let mut open = self.blocks.iter().flatten();
        if open.any(|block| block.since > self.last_seq + 1 || block.span.unknown > self.last_seq) {
            return Some("an open block is out of range");
        }
        if self.gateways.sum() > self.records() {
            return Some("more messages are counted than are kept");
        }
        if self.last == Hlc::ZERO || self.dedup_floor_ns > self.last.ns {
            return Some("the last stamp is out of range");
        }
        if self.members_epoch > ABSURD || self.last_raft_id > ABSURD || self.own_stamps > ABSURD {
            return Some("a counter of the members is out of range");
        }
        None
    }

    /// Every counter that a command may change, but for the stamp that each command gets.
    pub(crate) fn counters(&self) -> [u64; 11] {
        let seqs = [self.first_seq, self.last_seq, self.bytes];
        let members = [self.members_epoch, self.last_raft_id, self.led_term, self.own_stamps];
        let [first, last, bytes] = seqs;
        let [epoch, raft_id, term, own] = members;
        let (clients, groups) = (self.clients, self.groups);
        [
            first,
            last,
            bytes,
            epoch,
            raft_id,
            term,
            own,
            clients,
            groups,
            self.kv_version,
            self.kv_keys,
        ]
    }

    /// Number of kept records.
    pub(crate) fn records(&self) -> u64 {
        self.last_seq + 1 - self.first_seq
    }
}

/// The open blocks of a row: none, or one per level.
fn open_blocks(rows: Vec<OpenBlockRow>) -> Option<Option<[OpenBlock; LEVELS]>> {
    if rows.is_empty() {
        return Some(None);
    }
    let blocks: Vec<OpenBlock> = rows.into_iter().map(OpenBlock::from).collect();
    blocks.try_into().ok().map(Some)
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
    /// Id of the join token that it brought; empty if an admin registered it.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) token: Bytes,
    /// Keys of the dictionary that it owns.
    #[prost(uint64, tag = "5")]
    pub(crate) kv_keys: u64,
    /// Groups that it owns, deleted ones of which records are kept too. Those that were there before
    /// this was counted are not in it.
    #[prost(uint64, tag = "6")]
    pub(crate) groups: u64,
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
    /// Hash of what was asked for.
    #[prost(bytes = "bytes", tag = "7")]
    pub(crate) content_hash: Bytes,
    /// For a change of the dictionary: what was answered, without what the change itself says.
    #[prost(bytes = "bytes", tag = "8")]
    pub(crate) answer: Bytes,
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

/// The cluster's settings; what is absent nobody has set yet.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct SettingsRow {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) max_clock_error_us: Option<u64>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) on_loss: Option<i32>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) retain_age_ms: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) retain_count: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    pub(crate) retain_bytes: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    pub(crate) cert_life_s: Option<u64>,
}

impl From<&Configure> for SettingsRow {
    fn from(change: &Configure) -> Self {
        let &Configure { max_clock_error_us, on_loss, retain_age_ms, .. } = change;
        let &Configure { retain_count, retain_bytes, cert_life_s, .. } = change;
        Self { max_clock_error_us, on_loss, retain_age_ms, retain_count, retain_bytes, cert_life_s }
    }
}

impl SettingsRow {
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, StateError> {
        Message::decode(bytes)
            .map_err(|_| StateError::corrupt(Table::Settings, "the settings do not parse"))
    }

    /// What is set here, and where nothing is, what is set there.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            max_clock_error_us: self.max_clock_error_us.or(other.max_clock_error_us),
            on_loss: self.on_loss.or(other.on_loss),
            retain_age_ms: self.retain_age_ms.or(other.retain_age_ms),
            retain_count: self.retain_count.or(other.retain_count),
            retain_bytes: self.retain_bytes.or(other.retain_bytes),
            cert_life_s: self.cert_life_s.or(other.cert_life_s),
        }
    }

    /// The settings, once a primary has set them.
    pub(crate) fn settings(self) -> Option<Settings> {
        let Self { retain_age_ms, retain_count, retain_bytes, cert_life_s, .. } = self;
        let (max_clock_error_us, on_loss) = (self.max_clock_error_us?, self.on_loss?);
        Some(Settings {
            max_clock_error_us,
            on_loss,
            retain_age_ms,
            retain_count,
            retain_bytes,
            cert_life_s,
        })
    }
}

/// The row of a record: its stamp, then the record without it.
pub(crate) fn encode_record(record: &mut Record) -> Vec<u8> {
    let stamp = std::mem::take(&mut record.stamp);
    assert_eq!(stamp.len(), Stamp::BYTES, "a record begins with a whole stamp");
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

/// The stamp of a record's row.
pub(crate) fn record_stamp(row: &[u8]) -> Result<Stamp, StateError> {
    row.first_chunk::<{ Stamp::BYTES }>()
        .map(|bytes| Stamp::from_bytes(*bytes))
        .ok_or_else(|| StateError::corrupt(Table::Records, "a record has no stamp"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::view::{Change, MemoryView};

    fn reload(state: &State) -> Result<State, StateError> {
        let mut view = MemoryView::default();
        let (key, value) = (keys::ONLY.to_vec(), Some(state.encode()));
        view.write([Change { table: Table::Meta, key, value }]);
        State::load(&view)
    }

    /// Seen to fail with `load` returning what it parsed.
    #[test]
    fn impossible_counters_are_refused() {
        let last = Hlc::from_ns(9);
        let good = State { last, first_seq: 2, last_seq: 4, bytes: 300, ..State::EMPTY };
        assert_eq!(reload(&good).unwrap(), good);
        for bad in [
            State { last_seq: u64::MAX, bytes: 1 << 61, ..good.clone() },
            State { first_seq: 0, ..good.clone() },
            State { first_seq: 6, bytes: 0, ..good.clone() },
            State { bytes: u64::MAX, ..good.clone() },
            State { bytes: 2, ..good.clone() },
            State { first_seq: 5, ..good.clone() },
            State { last: Hlc::ZERO, ..good.clone() },
            State { dedup_floor_ns: 10, ..good },
        ] {
            assert!(reload(&bad).is_err(), "{bad:?}");
        }
    }
}
