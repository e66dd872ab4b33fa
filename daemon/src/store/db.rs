//! The database: options, strict opening, and the few calls that the rest of the store uses.
//!
//! It holds the state, which the log can make anew, so it has no write-ahead log: it is flushed over
//! all families at once, at any time, and a crash leaves it as of its last flush.
//!
//! Invariant: every error of the database passes through [`Database::failed`], which tells the
//! evidence: a block that is not what was written is damage, wherever it is met; anything else of a
//! write or a sync ends the process.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, DEFAULT_COLUMN_FAMILY_NAME, ErrorKind, FlushOptions, InfoLogger, LogLevel,
    Options, WriteBatch, WriteOptions,
};

use super::StoreError;
use super::environment::OPEN_TABLES_MAX;
use super::evidence::Evidence;
use super::keys::{FAMILIES, LOG_IN_DB, META, PLACES};
use super::watermark::{Damage, DamageKind};

/// Memory for cached blocks.
const CACHE_BYTES: usize = 64 << 20;
/// A memtable, per family.
const MEMTABLE_BYTES: usize = 32 << 20;

/// Tables that a look keeps open at most.
const LOOKING_TABLES_MAX: i32 = 128;

/// The open database.
pub(crate) struct Database {
    db: DB,
    /// Told of what is met; `None` while nobody relies on the database yet.
    evidence: Option<Arc<Evidence>>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.db.path()).finish()
    }
}

impl Database {
    /// Makes a new database. Only for a new store: a normal start never makes one, since an empty
    /// directory may be a wrong mount.
    ///
    /// # Errors
    /// When RocksDB refuses.
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        let mut options = base_options();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_error_if_exists(true);
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let db = DB::open_cf_descriptors(&options, path, families(Some(&cache)));
        Ok(Self { db: db.map_err(StoreError::database("creating"))?, evidence: None })
    }

    /// Opens the database.
    ///
    /// # Errors
    /// When RocksDB refuses; nothing is repaired.
    pub(crate) fn open(path: &Path, evidence: &Arc<Evidence>) -> Result<Self, StoreError> {
        Self::open_with(&base_options(), path, evidence)
    }

    /// Opens the database of a store of format 1, whose write-ahead log counts.
    ///
    /// # Errors
    /// When RocksDB refuses, or that log is broken; nothing is repaired.
    pub(crate) fn open_with_log(path: &Path, evidence: &Arc<Evidence>) -> Result<Self, StoreError> {
        // No setter reaches this one; measured to work through the text form.
        let checked = base_options().get_options_from_string("track_and_verify_wals=true");
        let mut options = checked.map_err(StoreError::database("reading its options"))?;
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_atomic_flush(false);
        Self::open_with(&options, path, evidence)
    }

    fn open_with(
        options: &Options,
        path: &Path,
        evidence: &Arc<Evidence>,
    ) -> Result<Self, StoreError> {
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        // One that cannot be listed cannot be opened either, and says why.
        let listed = DB::list_cf(options, path).unwrap_or_default();
        let db = match listed.iter().any(|name| name == LOG_IN_DB) {
            true => {
                let listed = listed.iter().filter(|name| *name != DEFAULT_COLUMN_FAMILY_NAME);
                let family = |name: &String| {
                    ColumnFamilyDescriptor::new(name, family_options(name, Some(&cache)))
                };
                DB::open_cf_descriptors(options, path, listed.map(family))
            }
            false => DB::open_cf_descriptors(options, path, families(Some(&cache))),
        };
        let db = db.map_err(StoreError::database("opening"))?;
        Ok(Self { db, evidence: Some(Arc::clone(evidence)) })
    }

    /// Whether it has a column family.
    pub(crate) fn has(&self, family: &'static str) -> bool {
        self.db.cf_handle(family).is_some()
    }

    /// Makes a column family.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn make_family(&mut self, name: &'static str) -> Result<(), StoreError> {
        let made = self.db.create_cf(name, &family_options(name, None));
        made.map_err(self.failed("making a column family"))
    }

    /// Drops a column family with all that is in it.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn drop_family(&mut self, name: &'static str) -> Result<(), StoreError> {
        let dropped = self.db.drop_cf(name);
        dropped.map_err(self.failed("dropping a column family"))
    }

    /// A look at the disk itself: past this process's caches and, where the file system can do
    /// that, the system's. No file may be deleted meanwhile.
    ///
    /// # Errors
    /// When RocksDB refuses.
    pub(crate) fn look_past_caches(path: &Path) -> Result<Self, StoreError> {
        let mut options = looking_options();
        options.set_max_open_files(LOOKING_TABLES_MAX);
        options.set_use_direct_reads(true);
        let db = DB::open_cf_descriptors_read_only(&options, path, families(None), false);
        let db = db.or_else(|error| {
            // Said by file systems that know no direct reads, among other things.
            if matches!(error.kind(), ErrorKind::Corruption) {
                return Err(error);
            }
            options.set_use_direct_reads(false);
            DB::open_cf_descriptors_read_only(&options, path, families(None), false)
        });
        Ok(Self { db: db.map_err(StoreError::database("reading the disk"))?, evidence: None })
    }

    /// Tells the evidence of an error of the database, and says what was attempted.
    pub(crate) fn failed(
        &self,
        doing: &'static str,
    ) -> impl FnOnce(rocksdb::Error) -> StoreError + '_ {
        move |source| {
            let error = StoreError::database(doing)(source);
            if let Some(evidence) = &self.evidence {
                match &error {
                    StoreError::Damaged(found) => {
                        evidence.damaged(Damage::new(DamageKind::Corrupt, found))
                    }
                    error => evidence.failed(error),
                }
            }
            error
        }
    }

    /// The same of a read. Nothing is in doubt but what was asked for, so the process need not end at
    /// once: whether the disk has lost it is looked at first.
    pub(crate) fn failed_read(
        &self,
        doing: &'static str,
    ) -> impl FnOnce(rocksdb::Error) -> StoreError + '_ {
        move |source| match (StoreError::database(doing)(source), &self.evidence) {
            (error @ StoreError::Database { .. }, Some(evidence)) => {
                let (failed, said) = (Arc::clone(evidence), error.to_string());
                let path = self.db.path();
                let store = path.parent().unwrap_or(path).to_owned();
                evidence.look(store, move || {
                    failed.failed(&StoreError::Stopped(said));
                });
                error
            }
            (StoreError::Damaged(found), Some(evidence)) => {
                evidence.damaged(Damage::new(DamageKind::Corrupt, &found));
                StoreError::Damaged(found)
            }
            (error, _) => error,
        }
    }

    /// Errors that it has met in the background since it was opened.
    pub(crate) fn background_errors(&self) -> u64 {
        self.db.property_int_value("rocksdb.background-errors").ok().flatten().unwrap_or(0)
    }

    /// Tells the evidence of something read that is not what was written, and passes it on.
    pub(crate) fn noted<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        if let (Some(evidence), Err(StoreError::Damaged(found))) = (&self.evidence, &read) {
            evidence.damaged(Damage::new(DamageKind::Corrupt, found));
        }
        read
    }

    /// The raw database, for snapshots and iterators inside the store.
    pub(crate) fn raw(&self) -> &DB {
        &self.db
    }

    /// A column family.
    ///
    /// # Errors
    /// Never after a successful opening.
    pub(crate) fn family(&self, name: &'static str) -> Result<&ColumnFamily, StoreError> {
        let missing = || StoreError::Damaged(format!("column family {name} is missing"));
        self.db.cf_handle(name).ok_or_else(missing)
    }

    /// Reads one value.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn get(
        &self,
        family: &'static str,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let handle = self.family(family)?;
        self.db.get_cf(handle, key).map_err(self.failed_read("reading"))
    }

    /// Reads one `meta` value.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn get_meta(&self, key: [u8; 3]) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(META, &key)
    }

    /// Writes a batch into memory. It is durable with the next flush, and a crash leaves the state as
    /// of some flush before it.
    ///
    /// # Errors
    /// When the database fails; the caller must treat the store as failed.
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(self.failed("writing"))
    }

    /// Asks for an error that the database has met in the background: it tells it to who writes.
    pub(crate) fn ask(&self) {
        // The evidence is told.
        let _ = self.write(WriteBatch::default());
    }

    /// Number of the last change: they are numbered without gaps, over restarts too.
    pub(crate) fn sequence(&self) -> u64 {
        self.db.latest_sequence_number()
    }

    /// Moves everything in memory to tables.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        let handles = FAMILIES.into_iter().chain([LOG_IN_DB]);
        let handles: Vec<_> = handles.filter_map(|name| self.db.cf_handle(name)).collect();
        let flushed = self.db.flush_cfs_opt(&handles, &FlushOptions::default());
        flushed.map_err(self.failed("flushing"))
    }

    /// Moves everything to sorted files and drops what is overwritten, deleted or purged.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn compact(&self) -> Result<(), StoreError> {
        self.flush()?;
        for name in FAMILIES {
            let handle = self.family(name)?;
            let mut options = rocksdb::CompactOptions::default();
            options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
            self.db.compact_range_cf_opt(handle, None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }

    /// Keeps every file of the database until the value is dropped.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn keep_files(&self) -> Result<KeptFiles<'_>, StoreError> {
        self.db.disable_file_deletions().map_err(self.failed("keeping its files"))?;
        Ok(KeptFiles(self))
    }

    /// File names of the tables that it has.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn tables(&self) -> Result<BTreeSet<String>, StoreError> {
        let live = self.db.live_files().map_err(self.failed("listing its tables"))?;
        let name = |file: rocksdb::LiveFile| file.name.trim_start_matches('/').to_owned();
        Ok(live.into_iter().map(name).collect())
    }

    /// Reads every row of every family to the end.
    ///
    /// # Errors
    /// At the first block that is not what was written.
    pub(crate) fn read_all(&self) -> Result<(), StoreError> {
        for name in FAMILIES {
            let mut options = rocksdb::ReadOptions::default();
            options.fill_cache(false);
            options.set_verify_checksums(true);
            let mut rows = self.db.raw_iterator_cf_opt(self.family(name)?, options);
            rows.seek_to_first();
            while rows.valid() {
                rows.next();
            }
            // An iterator over a damaged block just ends: who forgets this sees too few rows.
            rows.status().map_err(self.failed_read("reading everything"))?;
        }
        Ok(())
    }
}

/// While it lives, no file of the database is deleted.
pub(crate) struct KeptFiles<'a>(&'a Database);

impl Drop for KeptFiles<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.db.enable_file_deletions() {
            tracing::warn!(%error, "the database keeps files that it no longer needs");
        }
    }
}

fn families(cache: Option<&Cache>) -> Vec<ColumnFamilyDescriptor> {
    let family = |name| ColumnFamilyDescriptor::new(name, family_options(name, cache));
    FAMILIES.into_iter().map(family).collect()
}

fn base_options() -> Options {
    let mut options = Options::default();
    // What one batch changed is durable whole or not at all.
    options.set_atomic_flush(true);
    options.set_paranoid_checks(true);
    options.set_max_background_jobs(2);
    options.set_max_open_files(i32::try_from(OPEN_TABLES_MAX).unwrap_or(i32::MAX));
    options.set_keep_log_file_num(4);
    options.set_bytes_per_sync(1 << 20);
    options
}

/// Options for one that only looks: it writes no log of its own either.
fn looking_options() -> Options {
    let mut options = base_options();
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    options
}

fn family_options(name: &str, cache: Option<&Cache>) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(if name == META { 1 << 20 } else { MEMTABLE_BYTES });
    options.set_compression_type(DBCompressionType::Lz4);
    let mut table = BlockBasedOptions::default();
    match cache {
        Some(cache) => table.set_block_cache(cache),
        None => table.disable_cache(),
    }
    if name != PLACES {
        table.set_bloom_filter(10.0, false);
    }
    options.set_block_based_table_factory(&table);
    options
}
