//! The seam between the machine and stored state: tables of byte strings in key order. RocksDB is
//! one implementation, [`MemoryView`] the other.
//!
//! Keys here begin after shard and generation, which the store puts in front.

use std::collections::BTreeMap;
use std::error::Error;

use bytes::Bytes;

/// A table of the state. The numbers stand on disk and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// seq → stamp ‖ record.
    Records = 1,
    /// stream key, seq → nothing. Its last row per stream is the stream's head.
    Streams = 2,
    /// name → registered client.
    Clients = 3,
    /// id, sender → seq of the newest kept record with them.
    Ids = 4,
    /// sender, id → the first ack, while the dedup window lasts.
    Dedup = 5,
    /// clock value → key in `Dedup`, so that the oldest is found.
    DedupAge = 6,
    /// name → owner and positions.
    Cursors = 7,
    /// One row: the slot table.
    Slots = 8,
    /// One row: last stamp, last seq, digest and counts.
    Meta = 9,
    /// sender, seq → nothing.
    Senders = 10,
    /// owner → number of cursors it owns.
    CursorOwners = 11,
    /// level, number → what the bounds of a block's records span together.
    Blocks = 12,
    /// One row: the cluster's settings.
    Settings = 13,
    /// name → node, removed ones too.
    Members = 14,
    /// id → join token.
    Tokens = 15,
    /// name → group.
    Groups = 16,
    /// group, client → from where to where the client is or was a member.
    GroupMembers = 17,
    /// client, group → the same, so that an inbox finds its groups.
    ClientGroups = 18,
    /// key → value.
    Kv = 19,
    /// name → administrator.
    Admins = 20,
    /// fingerprint of a key that was an administrator's → nothing.
    FormerAdmins = 21,
    /// stream, sender or all → the highest that retention removed of it.
    Floors = 22,
}

impl Table {
    /// All tables, in the order of their numbers.
    pub const ALL: [Self; 22] = [
        Self::Records,
        Self::Streams,
        Self::Clients,
        Self::Ids,
        Self::Dedup,
        Self::DedupAge,
        Self::Cursors,
        Self::Slots,
        Self::Meta,
        Self::Senders,
        Self::CursorOwners,
        Self::Blocks,
        Self::Settings,
        Self::Members,
        Self::Tokens,
        Self::Groups,
        Self::GroupMembers,
        Self::ClientGroups,
        Self::Kv,
        Self::Admins,
        Self::FormerAdmins,
        Self::Floors,
    ];

    /// The table's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The table of a number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.number() == number)
    }
}

const _: () = assert!(Table::Floors.number() as usize == Table::ALL.len(), "numbers are dense");

/// Which end of a range a scan begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Lowest key first.
    Forward,
    /// Highest key first.
    Backward,
}

/// The store failed to read.
#[derive(Debug, thiserror::Error)]
#[error("reading stored state failed")]
pub struct ViewError(#[source] Box<dyn Error + Send + Sync>);

impl ViewError {
    /// Wraps the store's own error.
    #[must_use]
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// Stored state at one moment: every call on one view must answer from the same state, or a read
/// beside a running apply would find index rows without their records.
pub trait View {
    /// The value of a key.
    ///
    /// # Errors
    /// When the store fails.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ViewError>;

    /// At most `limit` rows with `from <= key < to`, beginning at the end that `direction` names.
    ///
    /// # Errors
    /// When the store fails.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, ViewError>;
}

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// One row to write, or to remove where `value` is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The table.
    pub table: Table,
    /// The key, without shard and generation.
    pub key: Vec<u8>,
    /// The new value.
    pub value: Option<Vec<u8>>,
}

/// State in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryView {
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, Bytes>>,
}

impl MemoryView {
    /// Writes what a machine changed.
    pub fn write(&mut self, changes: impl IntoIterator<Item = Change>) {
        for Change { table, key, value } in changes {
            let rows = self.tables.entry(table).or_default();
            match value {
                Some(value) => {
                    rows.insert(key, Bytes::from(value));
                }
                None => {
                    rows.remove(&key);
                }
            }
        }
    }

    /// All rows of a table, in key order.
    pub fn rows(&self, table: Table) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.tables.get(&table).into_iter().flatten().map(|(key, value)| (&key[..], &value[..]))
    }
}

impl View for MemoryView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        Ok(self.tables.get(&table).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        let Some(rows) = self.tables.get(&table).filter(|_| from < to) else {
            return Ok(Vec::new());
        };
        let range =
            rows.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Excluded(to)));
        let copy = |(key, value): (&Vec<u8>, &Bytes)| (key.clone(), value.to_vec());
        Ok(match direction {
            Direction::Forward => range.take(limit).map(copy).collect(),
            Direction::Backward => range.rev().take(limit).map(copy).collect(),
        })
    }
}
