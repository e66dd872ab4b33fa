//! The database: options, strict opening, and the few calls that the rest of the store uses.
//!
//! What opens silently and what is refused was measured per recovery mode; see `ARCHITECTURE.md`.
//! Only an incomplete last write is forgiven. What RocksDB cannot see, the watermark does.
//!
//! Invariant: every error of the database passes through [`Database::failed`], which tells the
//! evidence: a block that is not what was written is damage, wherever it is met; anything else of a
//! write or a sync ends the process.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, ErrorKind, FlushOptions, InfoLogger, LogLevel, Options, WriteBatch,
    WriteOptions,
};

use super::StoreError;
use super::environment::OPEN_TABLES_MAX;
use super::evidence::Evidence;
use super::keys::{FAMILIES, LOG, META};
use super::watermark::{Damage, DamageKind};

/// Memory for cached blocks.
const CACHE_BYTES: usize = 64 << 20;
/// A memtable; also how much of the log is replayed at start, per family.
const MEMTABLE_BYTES: usize = 32 << 20;
/// All write-ahead logs together, before families that hold old ones are flushed.
const WAL_BYTES: u64 = 256 << 20;

/// Tables that a look keeps open at most.
const LOOKING_TABLES_MAX: i32 = 128;

/// The open database.
pub struct Database {
    db: DB,
    /// Told of what is met; `None` while nobody relies on the database yet.
    evidence: Option<Arc<Evidence>>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.db.path()).finish()
    }
}

/// How the write-ahead logs are replayed when the database is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replay {
    /// Whatever is wrong with them is an error, but for an incomplete last write.
    Strict,
    /// They end where the first thing is wrong. Only if what is then there is all that was durable.
    Prefix,
    /// The same, and the database's own notes of which logs there were and how long do not count.
    PrefixUnchecked,
}

impl Database {
    /// Makes a new database. Only for a new store: a normal start never makes one, since an empty
    /// directory may be a wrong mount.
    ///
    /// # Errors
    /// When RocksDB refuses.
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        let mut options = base_options(Replay::Strict)?;
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
    pub(crate) fn open(
        path: &Path,
        replay: Replay,
        evidence: &Arc<Evidence>,
    ) -> Result<Self, StoreError> {
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let db = DB::open_cf_descriptors(&base_options(replay)?, path, families(Some(&cache)));
        let db = db.map_err(StoreError::database("opening"))?;
        Ok(Self { db, evidence: Some(Arc::clone(evidence)) })
    }

    /// Opens the database to look at it, as with [`Replay::Prefix`]. Nothing on the disk changes,
    /// another handle may go on with it, and what is met is told to nobody.
    ///
    /// # Errors
    /// When RocksDB refuses.
    pub(crate) fn look(path: &Path) -> Result<Self, StoreError> {
        let options = looking_options(Replay::Prefix)?;
        let db = DB::open_cf_descriptors_read_only(&options, path, families(None), false);
        Ok(Self { db: db.map_err(StoreError::database("looking"))?, evidence: None })
    }

    /// Opens a copy of the database, which nobody relies on, as the real one would be.
    ///
    /// # Errors
    /// When RocksDB refuses.
    pub(crate) fn try_out(copy: &Path, replay: Replay) -> Result<Self, StoreError> {
        let options = looking_options(replay)?;
        let db = DB::open_cf_descriptors(&options, copy, families(None));
        Ok(Self { db: db.map_err(StoreError::database("trying it out"))?, evidence: None })
    }

    /// A look at the disk itself: past this process's caches and, where the file system can do
    /// that, the system's. No file may be deleted meanwhile.
    ///
    /// # Errors
    /// When RocksDB refuses.
    pub(crate) fn look_past_caches(path: &Path) -> Result<Self, StoreError> {
        // Not with its notes of logs left out: a look would then try to change them, and crash.
        let mut options = looking_options(Replay::Prefix)?;
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
                evidence.look(self.db.path().to_owned(), move || {
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

    /// Writes a batch into the write-ahead log and the memtables, without syncing.
    ///
    /// Written and synced apart on purpose: inside one synced write, a slow sync would hold up
    /// every other writer, apply among them.
    ///
    /// # Errors
    /// When the database fails; the caller must treat the store as failed.
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(false);
        self.db.write_opt(batch, &options).map_err(self.failed("writing"))?;
        // See `base_options`: the log is handed to the system here and not inside the write.
        self.db.flush_wal(false).map_err(self.failed("writing"))
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// When the disk refuses; never to be retried.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.db.flush_wal(true).map_err(self.failed("syncing"))
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
        let handles = FAMILIES.into_iter().map(|name| self.family(name));
        let handles = handles.collect::<Result<Vec<_>, _>>()?;
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

fn base_options(replay: Replay) -> Result<Options, StoreError> {
    let mut options = Options::default();
    if replay != Replay::PrefixUnchecked {
        // No setter reaches this one; measured to work through the text form.
        let checked = options.get_options_from_string("track_and_verify_wals=true");
        options = checked.map_err(StoreError::database("reading its options"))?;
    }
    options.set_track_and_verify_wals_in_manifest(replay != Replay::PrefixUnchecked);
    options.set_wal_recovery_mode(match replay {
        Replay::Strict => DBRecoveryMode::TolerateCorruptedTailRecords,
        Replay::Prefix | Replay::PrefixUnchecked => DBRecoveryMode::PointInTime,
    });
    // The engine then takes an error of a log for the end of everything. Else it goes on by itself
    // once there is room again, in a new log, and leaves the torn one in the middle.
    options.set_manual_wal_flush(true);
    options.set_recycle_log_file_num(0);
    options.set_paranoid_checks(true);
    options.set_max_total_wal_size(WAL_BYTES);
    options.set_max_background_jobs(2);
    options.set_max_open_files(i32::try_from(OPEN_TABLES_MAX).unwrap_or(i32::MAX));
    options.set_keep_log_file_num(4);
    options.set_bytes_per_sync(1 << 20);
    Ok(options)
}

/// Options for one that only looks: it writes no log of its own either.
fn looking_options(replay: Replay) -> Result<Options, StoreError> {
    let mut options = base_options(replay)?;
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    Ok(options)
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
    if name != LOG {
        table.set_bloom_filter(10.0, false);
    }
    options.set_block_based_table_factory(&table);
    options
}
