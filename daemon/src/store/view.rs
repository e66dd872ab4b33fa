//! The model's view of stored state, and the batch that one apply writes.

use std::sync::Arc;

use bytes::Bytes;
use log::Place;
use model::view::Row;
use model::{Change, Direction, StateError, Table, View, ViewError};
use planted::Bug;

use super::db::{Batch, Database, Frozen, Range};
use super::error::damage_in;
use super::format::{AppliedState, encode, encode_place};
use super::keys::{self, PLACES, RECORDS, STATE, STREAMS};
use super::{APPLIED_TABLE, SHARD, Store, StoreError};

/// The column family of a table.
pub(crate) fn family(table: Table) -> &'static str {
    match table {
        Table::Records => RECORDS,
        Table::Streams => STREAMS,
        Table::Clients
        | Table::Ids
        | Table::Dedup
        | Table::DedupAge
        | Table::Cursors
        | Table::Slots
        | Table::Meta
        | Table::Senders
        | Table::CursorOwners
        | Table::Blocks
        | Table::Settings
        | Table::Members
        | Table::Tokens
        | Table::Groups
        | Table::GroupMembers
        | Table::ClientGroups
        | Table::Kv
        | Table::Admins
        | Table::FormerAdmins
        | Table::Floors => STATE,
    }
}

/// The stored key of a row.
pub(crate) fn row_key(prefix: [u8; 6], table: Table, key: &[u8]) -> Vec<u8> {
    if family(table) == STATE {
        keys::state(prefix, table.number(), key)
    } else {
        [prefix.as_slice(), key].concat()
    }
}

/// Stored state as the model reads it: the live state for the one task that applies, or a frozen
/// moment for everybody else.
pub struct Snapshot<'a> {
    db: &'a Database,
    frozen: Option<Frozen<'a>>,
    prefix: [u8; 6],
}

impl Snapshot<'_> {
    /// What the model made of this state. Rows that it cannot read are damage, and are noted.
    ///
    /// # Errors
    /// When it could not read them.
    pub(crate) fn judged<T>(&self, result: Result<T, StateError>) -> Result<T, StoreError> {
        let result = result.map_err(|error| match damage_in(&error) {
            Some(found) => StoreError::Damaged(found),
            None => StoreError::Stopped(error.to_string()),
        });
        self.db.noted(result)
    }

    fn read(&self, family: &'static str, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.db.get(self.frozen.as_ref(), family, key)
    }

    /// Where the state machine stood at this moment.
    ///
    /// # Errors
    /// When the database fails or the value is damaged.
    pub fn applied(&self) -> Result<AppliedState, StoreError> {
        let key = keys::state(self.prefix, APPLIED_TABLE, b"");
        let value = self.read(STATE, &key)?;
        value.map_or_else(
            || Ok(AppliedState::default()),
            |bytes| super::format::decode("applied state", &bytes),
        )
    }

    /// Walks all rows of a table in key order until `each` says stop.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn each_row(
        &self,
        table: Table,
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let low = row_key(self.prefix, table, b"");
        let high = keys::after_prefix(&low);
        let family = family(table);
        let direction = Direction::Forward;
        let range = Range { family, low: &low, high: high.as_deref(), direction };
        self.db.walk(self.frozen.as_ref(), &range, |key, value| {
            each(key.get(low.len()..).unwrap_or_default(), value)
        })
    }

    fn rows(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let (low, high) = (row_key(self.prefix, table, from), row_key(self.prefix, table, to));
        let key_start = row_key(self.prefix, table, b"").len();
        let family = family(table);
        let range = Range { family, low: &low, high: Some(&high), direction };
        let mut rows = Vec::new();
        if limit == 0 {
            return Ok(rows);
        }
        self.db.walk(self.frozen.as_ref(), &range, |key, value| {
            rows.push((key.get(key_start..).unwrap_or_default().to_vec(), value.to_vec()));
            rows.len() < limit
        })?;
        Ok(rows)
    }
}

impl View for Snapshot<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        self.read(family(table), &row_key(self.prefix, table, key)).map_err(ViewError::new)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.rows(table, from, to, direction, limit).map_err(ViewError::new)
    }
}

/// What one apply writes: rows and where the machine then stands, in one batch.
pub struct StateBatch {
    batch: Batch,
    prefix: [u8; 6],
    db: Arc<Database>,
}

impl StateBatch {
    pub(crate) fn new(db: Arc<Database>, generation: u32) -> Self {
        let prefix = keys::generation(SHARD, generation);
        Self { batch: Batch::default(), prefix, db }
    }

    /// Adds rows.
    pub fn rows(&mut self, changes: impl IntoIterator<Item = Change>) {
        for Change { table, key, value } in changes {
            let (family, key) = (family(table), row_key(self.prefix, table, &key));
            match value {
                Some(value) => self.batch.put(family, key, value),
                None => self.batch.delete(family, key),
            }
        }
    }

    /// Bytes collected so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    /// Writes the rows; they are durable with the next flush.
    ///
    /// # Errors
    /// When the database fails; the process must end.
    pub(crate) fn write(self) -> Result<(), StoreError> {
        self.db.write(self.batch)
    }
}

impl Store {
    /// Writes a row that no entry of the log has asked for.
    ///
    /// # Errors
    /// When the database fails.
    #[cfg(test)]
    pub(crate) fn change_behind_its_back(&self, change: Change) -> Result<(), StoreError> {
        let mut batch = StateBatch::new(Arc::clone(&self.inner.db), self.generation());
        batch.rows([change]);
        batch.write()
    }

    /// The live state, for the one task that applies.
    #[must_use]
    pub fn live(&self) -> Snapshot<'_> {
        let prefix = keys::generation(SHARD, self.generation());
        Snapshot { db: &self.inner.db, frozen: None, prefix }
    }

    /// The state at this moment; later changes, even of the generation, are not seen through it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        freeze(&self.inner.db)
    }

    /// Writes what one apply changed, with where the machine then stands and the places of what it
    /// applied, in one batch.
    ///
    /// # Errors
    /// When the database fails; the process must end.
    pub fn apply(
        &self,
        changes: Vec<Change>,
        applied: &AppliedState,
        places: &[Place],
    ) -> Result<(), StoreError> {
        let mut batch = StateBatch::new(Arc::clone(&self.inner.db), self.generation());
        let mut changes = changes;
        let second = self.identity().raft_id == 2;
        if planted::is(Bug::RowLost) && second && places.iter().any(|at| at.index % 20 == 0) {
            changes.pop();
        }
        batch.rows(changes);
        for place in places {
            batch.batch.put(PLACES, keys::entry(SHARD, place.index), encode_place(place));
        }
        if planted::is(Bug::StateInTwoBatches) {
            let rest = StateBatch::new(Arc::clone(&self.inner.db), self.generation());
            std::mem::replace(&mut batch, rest).write()?;
            self.inner.db.flush()?;
        }
        let key = keys::state(batch.prefix, APPLIED_TABLE, b"");
        batch.batch.put(STATE, key, encode(applied));
        let bytes = batch.bytes();
        batch.write()?;
        self.inner.unflushed(places.len(), bytes);
        Ok(())
    }
}

/// The state of a generation, which need not be the live one.
pub(crate) fn of_generation(db: &Database, generation: u32) -> Snapshot<'_> {
    Snapshot { db, frozen: None, prefix: keys::generation(SHARD, generation) }
}

/// The state at this moment.
pub(crate) fn freeze(db: &Database) -> Result<Snapshot<'_>, StoreError> {
    let frozen = db.freeze();
    // The generation of that same moment: one that is swept later stays readable through it.
    let live = super::generation_at(db, Some(&frozen), SHARD)?;
    Ok(Snapshot { db, frozen: Some(frozen), prefix: keys::generation(SHARD, live) })
}
