//! What is made of small tables and kept in memory until one of them changes: whoever is on the way of a
//! message, or tells ten times a second how this node is, does not go to the database for it.
//!
//! Not here: what the one task that applies carries on (`model::Machine`).

use std::sync::atomic::{AtomicU64, Ordering};

use model::{Change, Table};
use parking_lot::Mutex;

use crate::blocking::in_place;

use super::{Store, StoreError};

/// Some tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TableSet(u32);

const _: () = assert!(Table::ALL.len() < u32::BITS as usize, "each table has a bit");

impl TableSet {
    /// Those with rows among the changes.
    pub(super) fn of(changes: &[Change]) -> Self {
        Self(changes.iter().fold(0, |set, change| set | 1 << change.table.number()))
    }

    fn has(self, table: Table) -> bool {
        self.0 & 1 << table.number() != 0
    }
}

/// How often each table has changed since the store was opened.
#[derive(Debug, Default)]
pub(super) struct Versions([AtomicU64; Table::ALL.len()]);

impl Versions {
    /// Notes that these changed. To be called where nobody sees the old rows any more: while
    /// [`Store::answering`] is held, or behind the write.
    pub(super) fn changed(&self, tables: TableSet) {
        for (version, table) in self.0.iter().zip(Table::ALL) {
            if tables.has(table) {
                version.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Notes that all of them did.
    pub(super) fn all_changed(&self) {
        self.changed(TableSet(u32::MAX));
    }

    fn of(&self, table: Table) -> u64 {
        let mut versions = self.0.iter().zip(Table::ALL);
        let version = versions.find(|(_, of)| *of == table).map(|(version, _)| version);
        version.map_or(0, |version| version.load(Ordering::SeqCst))
    }
}

/// What was made of a table, for as long as that does not change.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    table: Table,
    value: Mutex<Option<(u64, T)>>,
}

impl<T: Clone> Kept<T> {
    /// Nothing is made of the table yet.
    pub(crate) fn new(table: Table) -> Self {
        Self { table, value: Mutex::new(None) }
    }

    /// What is kept, or what is made now. Whoever makes it may wait for the disk: the runtime is told.
    ///
    /// # Errors
    /// Those of making it; nothing is kept then.
    pub(crate) fn or_made<E>(
        &self,
        store: &Store,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        // Looked up first: what is made next may be of a later moment, and is then made once more.
        let version = store.inner.versions.of(self.table);
        if let Some((at, value)) = &*self.value.lock()
            && *at == version
        {
            return Ok(value.clone());
        }
        let value = in_place(make)?;
        *self.value.lock() = Some((version, value.clone()));
        Ok(value)
    }
}

impl Store {
    /// What a table comes to, kept until it changes.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(crate) fn kept<T: Clone>(
        &self,
        kept: &Kept<T>,
        read: impl FnOnce(&super::Snapshot<'_>) -> Result<T, model::StateError>,
    ) -> Result<T, StoreError> {
        kept.or_made(self, || {
            let view = self.snapshot()?;
            view.judged(read(&view))
        })
    }
}

#[cfg(test)]
mod tests {
    use model::View as _;

    use super::super::store_test::{applied, change, create, intact};
    use super::*;

    /// A change that is not noted would show the old row for ever.
    #[test]
    fn what_is_kept_is_that_of_the_last_change() {
        let dir = create();
        let store = intact(dir.path());
        let kept = Kept::new(Table::Clients);
        let look = |read: &mut u32| {
            let row = store.kept(&kept, |view| {
                *read += 1;
                Ok(view.get(Table::Clients, b"a").unwrap().map(|row| row.to_vec()))
            });
            row.unwrap()
        };
        let mut read = 0;
        assert_eq!((look(&mut read), look(&mut read), read), (None, None, 1));
        for round in 1..9u64 {
            let row = round.to_be_bytes();
            store.apply(vec![change(b"a", &row)], &applied(round, &[3; 32]), &[]).unwrap();
            assert_eq!(look(&mut read).as_deref(), Some(&row[..]));
            assert_eq!(look(&mut read).as_deref(), Some(&row[..]));
            let other = Change { table: Table::Kv, ..change(b"a", b"else") };
            store.apply(vec![other], &applied(round, &[3; 32]), &[]).unwrap();
            assert_eq!(look(&mut read).as_deref(), Some(&row[..]));
        }
        assert_eq!(read, 9, "once for each change of that table");
        store.close();
    }

    /// A change that comes while it is read is not missed: the version is looked up before.
    #[test]
    fn what_changes_while_it_is_read_is_read_again() {
        let dir = create();
        let store = intact(dir.path());
        let kept = Kept::new(Table::Clients);
        let get = |view: &super::super::Snapshot<'_>| {
            Ok(view.get(Table::Clients, b"a").unwrap().map(|row| row.to_vec()))
        };
        let first = store.kept(&kept, |view| {
            let row = get(view);
            store.apply(vec![change(b"a", b"new")], &applied(1, &[3; 32]), &[]).unwrap();
            row
        });
        assert_eq!(first.unwrap(), None);
        assert_eq!(store.kept(&kept, get).unwrap().as_deref(), Some(&b"new"[..]));
        store.close();
    }
}
