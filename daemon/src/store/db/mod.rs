//! The database: what the log comes to, in families of ordered rows.
//!
//! The log can make it anew, so it has no write-ahead log: it is flushed over all families at once, at
//! any time, and a crash leaves it as of its last flush. On a disk it is RocksDB (`rocks`), in runs
//! that can be repeated it is a map (`memory`).
//!
//! Invariant: every error of the database passes through [`Database::failed`] or
//! [`Database::failed_read`], which tell the evidence: a block that is not what was written is damage,
//! wherever it is met; anything else of a write or a sync ends the process.

mod memory;
mod rocks;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::Direction;

pub use self::memory::MemoryState;
use self::rocks::Rocks;
use super::StoreError;
use super::evidence::Evidence;
use super::keys::{FAMILIES, META};
use super::watermark::{Damage, DamageKind};

/// The open database.
pub(crate) struct Database {
    backend: Backend,
    /// Told of what is met; `None` while nobody relies on the database yet.
    evidence: Option<Arc<Evidence>>,
}

enum Backend {
    Rocks(Rocks),
    Memory(MemoryState),
}

/// What is found without waiting for a disk.
pub(crate) enum AtHand<T> {
    /// All that was asked for.
    Found(T),
    /// Some of it can only be had from the disk.
    Missed,
}

/// A frozen moment of a database.
pub(crate) enum Frozen<'a> {
    Rocks(rocks::Moment<'a>),
    Memory(memory::Moment),
}

/// Changes that are made whole or not at all.
#[derive(Default)]
pub(crate) struct Batch {
    writes: Vec<Write>,
    /// The keys, one behind the other.
    keys: Vec<u8>,
    bytes: usize,
}

struct Write {
    family: &'static str,
    /// Where its key ends among all; it begins where the one before ends.
    key_end: usize,
    what: What,
}

enum What {
    Put(Vec<u8>),
    Delete,
    /// From the key to before this one.
    DeleteTo(Vec<u8>),
}

/// Rows of a family, `low..high`, to the family's end without `high`.
pub(crate) struct Range<'a> {
    pub(crate) family: &'static str,
    pub(crate) low: &'a [u8],
    pub(crate) high: Option<&'a [u8]>,
    pub(crate) direction: Direction,
}

impl Batch {
    /// Room for so many rows.
    pub(crate) fn make_room(&mut self, rows: usize) {
        const KEY_BYTES: usize = 64;
        self.writes.reserve(rows);
        self.keys.reserve(rows * KEY_BYTES);
    }

    pub(crate) fn put(
        &mut self,
        family: &'static str,
        key: impl AsRef<[u8]>,
        value: impl Into<Vec<u8>>,
    ) {
        self.add(family, &[key.as_ref()], What::Put(value.into()));
    }

    /// Puts a value under a key of several parts, or deletes it where there is no value.
    pub(crate) fn set(&mut self, family: &'static str, key: &[&[u8]], value: Option<Vec<u8>>) {
        self.add(family, key, value.map_or(What::Delete, What::Put));
    }

    /// Deletes `from..to`.
    pub(crate) fn delete_range(
        &mut self,
        family: &'static str,
        from: impl AsRef<[u8]>,
        to: impl Into<Vec<u8>>,
    ) {
        self.add(family, &[from.as_ref()], What::DeleteTo(to.into()));
    }

    fn add(&mut self, family: &'static str, key: &[&[u8]], what: What) {
        let before = self.keys.len();
        key.iter().for_each(|part| self.keys.extend_from_slice(part));
        let key_end = self.keys.len();
        self.bytes += key_end - before;
        self.bytes += match &what {
            What::Put(value) | What::DeleteTo(value) => value.len(),
            What::Delete => 0,
        };
        self.writes.push(Write { family, key_end, what });
    }

    /// Everything in order: family, key, what is done.
    fn each(&self) -> impl Iterator<Item = (&'static str, &[u8], &What)> {
        let mut begins = 0;
        self.writes.iter().map(move |write| {
            let key = self.keys.get(begins..write.key_end).unwrap_or_default();
            begins = write.key_end;
            (write.family, key, &write.what)
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Database");
        match &self.backend {
            Backend::Rocks(rocks) => shown.field("path", &rocks.path()),
            Backend::Memory(state) => shown.field("memory", state),
        };
        shown.finish()
    }
}

#[cfg(test)]
thread_local! {
    /// Reads that may have had to wait for a disk, by this thread.
    pub(crate) static READS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl Database {
    /// Makes a new database. Only for a new store: a normal start never makes one, since an empty
    /// directory may be a wrong mount.
    ///
    /// # Errors
    /// When RocksDB refuses.
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        let rocks = Rocks::create(path).map_err(StoreError::database("creating"))?;
        Ok(Self { backend: Backend::Rocks(rocks), evidence: None })
    }

    /// Opens the database.
    ///
    /// # Errors
    /// When RocksDB refuses; nothing is repaired.
    pub(crate) fn open(path: &Path, evidence: &Arc<Evidence>) -> Result<Self, StoreError> {
        let rocks = Rocks::open(path).map_err(StoreError::database("opening"))?;
        Ok(Self { backend: Backend::Rocks(rocks), evidence: Some(Arc::clone(evidence)) })
    }

    /// Opens the database of a store of format 1, whose write-ahead log counts.
    ///
    /// # Errors
    /// When RocksDB refuses, or that log is broken; nothing is repaired.
    pub(crate) fn open_with_log(path: &Path, evidence: &Arc<Evidence>) -> Result<Self, StoreError> {
        let rocks = Rocks::open_with_log(path).map_err(StoreError::database("opening"))?;
        Ok(Self { backend: Backend::Rocks(rocks), evidence: Some(Arc::clone(evidence)) })
    }

    /// Whether it has a column family.
    pub(crate) fn has(&self, family: &'static str) -> bool {
        match &self.backend {
            Backend::Rocks(rocks) => rocks.has(family),
            Backend::Memory(_) => FAMILIES.contains(&family),
        }
    }

    /// Makes a column family.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn make_family(&mut self, name: &'static str) -> Result<(), StoreError> {
        let made = match &mut self.backend {
            Backend::Rocks(rocks) => rocks.make_family(name),
            Backend::Memory(_) => Ok(()),
        };
        made.map_err(self.failed("making a column family"))
    }

    /// Drops a column family with all that is in it.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn drop_family(&mut self, name: &'static str) -> Result<(), StoreError> {
        let dropped = match &mut self.backend {
            Backend::Rocks(rocks) => rocks.drop_family(name),
            Backend::Memory(_) => Ok(()),
        };
        dropped.map_err(self.failed("dropping a column family"))
    }

    /// The database in memory.
    pub(crate) fn in_memory(state: MemoryState, evidence: Option<Arc<Evidence>>) -> Self {
        Self { backend: Backend::Memory(state), evidence }
    }

    /// A look at the disk itself: past this process's caches and, where the file system can do
    /// that, the system's. No file may be deleted meanwhile.
    ///
    /// # Errors
    /// When RocksDB refuses.
    pub(crate) fn look_past_caches(path: &Path) -> Result<Self, StoreError> {
        let rocks = Rocks::look_past_caches(path);
        let rocks = rocks.map_err(StoreError::database("reading the disk"))?;
        Ok(Self { backend: Backend::Rocks(rocks), evidence: None })
    }

    /// Tells the evidence of an error of the database, and says what was attempted.
    fn failed(&self, doing: &'static str) -> impl FnOnce(rocks::Error) -> StoreError + '_ {
        move |source| {
            let error = said(doing, source);
            if let Some(evidence) = &self.evidence {
                if let StoreError::Damaged(found) = &error {
                    evidence.damaged(Damage::new(DamageKind::Corrupt, found));
                } else {
                    evidence.failed(&error);
                }
            }
            error
        }
    }

    /// The same of a read. Nothing is in doubt but what was asked for, so the process need not end at
    /// once: whether the disk has lost it is looked at first.
    fn failed_read(&self, doing: &'static str) -> impl FnOnce(rocks::Error) -> StoreError + '_ {
        move |source| match (said(doing, source), &self.evidence, &self.backend) {
            (error @ StoreError::Database { .. }, Some(evidence), Backend::Rocks(rocks)) => {
                let (failed, said) = (Arc::clone(evidence), error.to_string());
                let path = rocks.path();
                let store = path.parent().unwrap_or(path).to_owned();
                evidence.look(store, move || {
                    failed.failed(&StoreError::Stopped(said));
                });
                error
            }
            (StoreError::Damaged(found), Some(evidence), _) => {
                evidence.damaged(Damage::new(DamageKind::Corrupt, &found));
                StoreError::Damaged(found)
            }
            (error, _, _) => error,
        }
    }

    /// The process of a database in memory is gone.
    fn dead(&self) -> impl FnOnce(memory::Dead) -> StoreError + '_ {
        |memory::Dead| {
            let error = StoreError::Stopped("the process is dead (on purpose)".to_owned());
            if let Some(evidence) = &self.evidence {
                evidence.failed(&error);
            }
            error
        }
    }

    /// Errors that it has met in the background since it was opened.
    pub(crate) fn background_errors(&self) -> u64 {
        match &self.backend {
            Backend::Rocks(rocks) => rocks.background_errors(),
            Backend::Memory(_) => 0,
        }
    }

    /// Tells the evidence of something read that is not what was written, and passes it on.
    pub(crate) fn noted<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        if let (Some(evidence), Err(StoreError::Damaged(found))) = (&self.evidence, &read) {
            evidence.damaged(Damage::new(DamageKind::Corrupt, found));
        }
        read
    }

    /// This moment: what is written later is not seen in it.
    pub(crate) fn freeze(&self) -> Frozen<'_> {
        match &self.backend {
            Backend::Rocks(rocks) => Frozen::Rocks(rocks.freeze()),
            Backend::Memory(state) => Frozen::Memory(state.freeze()),
        }
    }

    /// Reads one value; of a frozen moment of this database, if one is given.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn get(
        &self,
        at: Option<&Frozen<'_>>,
        family: &'static str,
        key: &[u8],
    ) -> Result<Option<Bytes>, StoreError> {
        #[cfg(test)]
        READS.set(READS.get() + 1);
        match &self.backend {
            Backend::Rocks(rocks) => {
                rocks.get(rocks_moment(at), family, key).map_err(self.failed_read("reading"))
            }
            Backend::Memory(state) => Ok(state.get(memory_moment(at), family, key)),
        }
    }

    /// Reads one value as it is now, if that can be done without the disk.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn get_at_hand(
        &self,
        family: &'static str,
        key: &[u8],
    ) -> Result<AtHand<Option<Bytes>>, StoreError> {
        match &self.backend {
            Backend::Rocks(rocks) => {
                rocks.get_at_hand(family, key).map_err(self.failed_read("reading"))
            }
            Backend::Memory(state) => Ok(AtHand::Found(state.get(None, family, key))),
        }
    }

    /// Shows the rows of a range as they are now, like [`Database::walk`], and tells whether all that
    /// was wanted could be had without the disk.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn walk_at_hand(
        &self,
        range: &Range<'_>,
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<AtHand<()>, StoreError> {
        match &self.backend {
            Backend::Rocks(rocks) => {
                let walked = rocks.walk_at_hand(range, &mut each);
                walked.map_err(self.failed_read("walking over rows"))
            }
            Backend::Memory(state) => {
                state.walk(None, range, &mut each);
                Ok(AtHand::Found(()))
            }
        }
    }

    /// Reads one `meta` value.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn get_meta(&self, key: [u8; 3]) -> Result<Option<Bytes>, StoreError> {
        self.get(None, META, &key)
    }

    /// Shows the rows of a range in order until `each` says stop; of a frozen moment, if one is given.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn walk(
        &self,
        at: Option<&Frozen<'_>>,
        range: &Range<'_>,
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        #[cfg(test)]
        READS.set(READS.get() + 1);
        match &self.backend {
            Backend::Rocks(rocks) => {
                let walked = rocks.walk(rocks_moment(at), range, &mut each);
                walked.map_err(self.failed_read("walking over rows"))
            }
            Backend::Memory(state) => {
                state.walk(memory_moment(at), range, &mut each);
                Ok(())
            }
        }
    }

    /// Writes a batch into memory. It is durable with the next flush, and a crash leaves the state as
    /// of some flush before it.
    ///
    /// # Errors
    /// When the database fails; the caller must treat the store as failed.
    pub(crate) fn write(&self, batch: Batch) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Rocks(rocks) => rocks.write(&batch).map_err(self.failed("writing")),
            Backend::Memory(state) => state.write(batch).map_err(self.dead()),
        }
    }

    /// The same, unless the database would have to wait for its disk first: then nothing is done, and
    /// the batch is given back.
    ///
    /// # Errors
    /// When the database fails; the caller must treat the store as failed.
    pub(crate) fn write_at_once(&self, batch: Batch) -> Result<Option<Batch>, StoreError> {
        match &self.backend {
            Backend::Rocks(rocks) => {
                let written = rocks.write_at_once(&batch).map_err(self.failed("writing"))?;
                Ok((!written).then_some(batch))
            }
            Backend::Memory(_) => self.write(batch).map(|()| None),
        }
    }

    /// Asks for an error that the database has met in the background: it tells it to who writes.
    pub(crate) fn ask(&self) {
        // The evidence is told.
        let _ = self.write(Batch::default());
    }

    /// Number of the last change: they are numbered without gaps, over restarts too.
    pub(crate) fn sequence(&self) -> u64 {
        match &self.backend {
            Backend::Rocks(rocks) => rocks.sequence(),
            Backend::Memory(state) => state.sequence(),
        }
    }

    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Rocks(rocks) => rocks.flush().map_err(self.failed("flushing")),
            Backend::Memory(state) => state.flush().map_err(self.dead()),
        }
    }

    /// Moves everything to sorted files and drops what is overwritten, deleted or purged.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn compact(&self) -> Result<(), StoreError> {
        self.flush()?;
        match &self.backend {
            Backend::Rocks(rocks) => rocks.compact().map_err(self.failed("compacting")),
            Backend::Memory(_) => Ok(()),
        }
    }

    /// Keeps every file of the database until the value is dropped.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn keep_files(&self) -> Result<KeptFiles<'_>, StoreError> {
        if let Backend::Rocks(rocks) = &self.backend {
            rocks.keep_files().map_err(self.failed("keeping its files"))?;
        }
        Ok(KeptFiles(self))
    }

    /// File names of the tables that it has.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn tables(&self) -> Result<BTreeSet<String>, StoreError> {
        match &self.backend {
            Backend::Rocks(rocks) => rocks.tables().map_err(self.failed("listing its tables")),
            Backend::Memory(_) => Ok(BTreeSet::new()),
        }
    }

    /// Reads rows of a family from this key on, about so many bytes; gives how many, and the key to go on
    /// from, or `None` at the end.
    ///
    /// # Errors
    /// At a block that is not what was written.
    pub(crate) fn read_piece(
        &self,
        family: &'static str,
        from: &[u8],
        most: usize,
    ) -> Result<(u64, Option<Vec<u8>>), StoreError> {
        match &self.backend {
            Backend::Rocks(rocks) => {
                rocks.read_piece(family, from, most).map_err(self.failed_read("reading everything"))
            }
            // It has no blocks.
            Backend::Memory(_) => Ok((0, None)),
        }
    }

    /// Reads every row of every family to the end.
    ///
    /// # Errors
    /// At the first block that is not what was written.
    pub(crate) fn read_all(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Rocks(rocks) => {
                rocks.read_all().map_err(self.failed_read("reading everything"))
            }
            Backend::Memory(_) => Ok(()),
        }
    }
}

/// What an error means.
fn said(doing: &'static str, error: rocks::Error) -> StoreError {
    match error {
        rocks::Error::Database(source) => StoreError::database(doing)(source),
        rocks::Error::NoFamily(name) => {
            StoreError::Damaged(format!("column family {name} is missing"))
        }
    }
}

fn rocks_moment<'a, 'f>(at: Option<&'a Frozen<'f>>) -> Option<&'a rocks::Moment<'f>> {
    match at {
        Some(Frozen::Rocks(moment)) => Some(moment),
        Some(Frozen::Memory(_)) | None => None,
    }
}

fn memory_moment<'a>(at: Option<&'a Frozen<'_>>) -> Option<&'a memory::Moment> {
    match at {
        Some(Frozen::Memory(moment)) => Some(moment),
        Some(Frozen::Rocks(_)) | None => None,
    }
}

/// While it lives, no file of the database is deleted.
pub(crate) struct KeptFiles<'a>(&'a Database);

impl Drop for KeptFiles<'_> {
    fn drop(&mut self) {
        let Backend::Rocks(rocks) = &self.0.backend else { return };
        if let Err(error) = rocks.let_files_go() {
            let error = said("letting its files go", error);
            tracing::warn!(%error, "the database keeps files that it no longer needs");
        }
    }
}
