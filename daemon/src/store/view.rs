//! The model's view of stored state, and the batch that one apply writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use log::Place;
use model::view::Row;
use model::{Change, Direction, StateError, Table, View, ViewError};
use parking_lot::RwLockWriteGuard;
use planted::Bug;

use crate::blocking::in_place;

use super::db::{self, Batch, Database, Frozen, Range};
use super::error::damage_in;
use super::format::{AppliedState, LogMark, encode, encode_place};
use super::keys::{self, PLACES, RECORDS, STATE, STREAMS};
use super::versions::TableSet;
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
        let family = family(table);
        let range = Range { family, low: &low, high: Some(&high), direction };
        let mut rows = Rows::new(row_key(self.prefix, table, b"").len(), limit);
        if limit == 0 {
            return Ok(rows.rows);
        }
        self.db.walk(self.frozen.as_ref(), &range, |key, value| rows.push(key, value))?;
        Ok(rows.rows)
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

/// The live state for the one task that applies: what is in memory is read where the task runs, and for
/// the rest the runtime is told that its thread waits for the disk.
pub struct AtHand<'a> {
    live: Snapshot<'a>,
    waited: AtomicU64,
}

impl AtHand<'_> {
    /// How many reads had to go to the disk.
    #[must_use]
    pub fn waited(&self) -> u64 {
        self.waited.load(Ordering::Relaxed)
    }

    fn wait<T>(&self, read: impl FnOnce() -> Result<T, ViewError>) -> Result<T, ViewError> {
        self.waited.fetch_add(1, Ordering::Relaxed);
        in_place(read)
    }
}

impl View for AtHand<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        let Snapshot { db, prefix, .. } = &self.live;
        let found = db.get_at_hand(family(table), &row_key(*prefix, table, key));
        match found.map_err(ViewError::new)? {
            db::AtHand::Found(found) => Ok(found),
            db::AtHand::Missed => self.wait(|| self.live.get(table, key)),
        }
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let Snapshot { db, prefix, .. } = &self.live;
        let (low, high) = (row_key(*prefix, table, from), row_key(*prefix, table, to));
        let range = Range { family: family(table), low: &low, high: Some(&high), direction };
        let mut rows = Rows::new(row_key(*prefix, table, b"").len(), limit);
        let walked = db.walk_at_hand(&range, |key, value| rows.push(key, value));
        match walked.map_err(ViewError::new)? {
            db::AtHand::Found(()) => Ok(rows.rows),
            db::AtHand::Missed => self.wait(|| self.live.scan(table, from, to, direction, limit)),
        }
    }
}

/// Rows of a table as they are found, up to so many.
struct Rows {
    rows: Vec<Row>,
    /// Bytes in front of the model's own key.
    head: usize,
    limit: usize,
}

impl Rows {
    fn new(head: usize, limit: usize) -> Self {
        Self { rows: Vec::new(), head, limit }
    }

    /// Takes a row, and tells whether there is room for more.
    fn push(&mut self, key: &[u8], value: &[u8]) -> bool {
        let key = key.get(self.head..).unwrap_or_default();
        self.rows.push((key.to_vec(), value.to_vec()));
        self.rows.len() < self.limit
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
            match family(table) {
                STATE => self.batch.set(STATE, &[&self.prefix, &[table.number()], &key], value),
                family => self.batch.set(family, &[&self.prefix, &key], value),
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
        let answered = &self.inner.answered;
        // No longer than a write into memory takes, but for a database that waits for its disk.
        let written = answered.try_read();
        let written = written.unwrap_or_else(|| in_place(|| answered.read()));
        let frozen = self.inner.db.freeze();
        drop(written);
        at(&self.inner.db, frozen)
    }

    /// Lets nobody look at the state until what is answered now is written: whoever was told that
    /// something is stored finds it. To be held for as long as writing that takes. What is kept of the tables
    /// that change is good for nobody any more.
    pub(crate) fn answering(&self, applying: &Applying) -> RwLockWriteGuard<'_, ()> {
        let answering = self.inner.answered.write();
        self.inner.versions.changed(applying.tables);
        answering
    }

    /// The same, for a task beside others: none of them waits where the state is in memory.
    #[must_use]
    pub fn at_hand(&self) -> AtHand<'_> {
        AtHand { live: self.live(), waited: AtomicU64::new(0) }
    }

    /// What one apply changed, with where the machine then stands and the places of what it applied, as
    /// one batch.
    ///
    /// # Errors
    /// When the database fails; the process must end.
    pub fn applying(
        &self,
        changes: Vec<Change>,
        applied: &AppliedState,
        places: &[Place],
    ) -> Result<Applying, StoreError> {
        let mut batch = StateBatch::new(Arc::clone(&self.inner.db), self.generation());
        let mut changes = changes;
        let tables = TableSet::of(&changes);
        let second = self.identity().raft_id == 2;
        if planted::is(Bug::RowLost) && second && places.iter().any(|at| at.index % 20 == 0) {
            changes.pop();
        }
        batch.batch.make_room(changes.len() + places.len() + 1);
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
        let (batch, entries, stands) = (batch.batch, places.len(), applied.last.clone());
        Ok(Applying { batch, entries, tables, stands })
    }

    /// Writes what one apply changed, unless the database would have to wait for its disk first: then
    /// it is given back.
    ///
    /// # Errors
    /// When the database fails; the process must end.
    pub fn apply_at_once(&self, applying: Applying) -> Result<Option<Applying>, StoreError> {
        let Applying { batch, entries, tables, stands } = applying;
        let bytes = batch.bytes();
        if let Some(batch) = self.inner.db.write_at_once(batch)? {
            return Ok(Some(Applying { batch, entries, tables, stands }));
        }
        *self.inner.stands.lock() = stands;
        self.inner.unflushed(entries, bytes);
        Ok(None)
    }

    /// The same, however long it takes.
    ///
    /// # Errors
    /// When the database fails; the process must end.
    pub fn apply(
        &self,
        changes: Vec<Change>,
        applied: &AppliedState,
        places: &[Place],
    ) -> Result<(), StoreError> {
        let applying = self.applying(changes, applied, places)?;
        let tables = applying.tables;
        self.apply_in_time(applying)?;
        self.inner.versions.changed(tables);
        Ok(())
    }

    /// The same of what [`Store::apply_at_once`] gave back.
    ///
    /// # Errors
    /// When the database fails; the process must end.
    pub fn apply_in_time(&self, applying: Applying) -> Result<(), StoreError> {
        let Applying { batch, entries, stands, .. } = applying;
        let bytes = batch.bytes();
        self.inner.db.write(batch)?;
        *self.inner.stands.lock() = stands;
        self.inner.unflushed(entries, bytes);
        Ok(())
    }
}

/// What one apply changed.
pub struct Applying {
    batch: Batch,
    entries: usize,
    /// Which tables it changed.
    tables: TableSet,
    /// The last entry.
    stands: Option<LogMark>,
}

/// The state of a generation, which need not be the live one.
pub(crate) fn of_generation(db: &Database, generation: u32) -> Snapshot<'_> {
    Snapshot { db, frozen: None, prefix: keys::generation(SHARD, generation) }
}

/// The state at this moment.
pub(crate) fn freeze(db: &Database) -> Result<Snapshot<'_>, StoreError> {
    at(db, db.freeze())
}

fn at<'a>(db: &'a Database, frozen: Frozen<'a>) -> Result<Snapshot<'a>, StoreError> {
    // The generation of that same moment: one that is swept later stays readable through it.
    let live = super::generation_at(db, Some(&frozen), SHARD)?;
    Ok(Snapshot { db, frozen: Some(frozen), prefix: keys::generation(SHARD, live) })
}
