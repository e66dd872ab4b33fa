//! The database: options, strict opening, and the few calls that the rest of the store uses.
//!
//! What opens silently and what is refused was measured per recovery mode; see `ARCHITECTURE.md`.
//! Only an incomplete last write is forgiven. What RocksDB cannot see, the watermark does.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, Options, WriteBatch, WriteOptions,
};

use super::StoreError;
use super::keys::{FAMILIES, LOG, META};

/// Memory for cached blocks.
const CACHE_BYTES: usize = 64 << 20;
/// A memtable; also how much of the log is replayed at start, per family.
const MEMTABLE_BYTES: usize = 32 << 20;
/// All write-ahead logs together, before families that hold old ones are flushed.
const WAL_BYTES: u64 = 256 << 20;

/// The open database.
pub struct Database {
    db: DB,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.db.path()).finish()
    }
}

impl Database {
    /// Opens the database strictly. `create` is for a new store only: a normal start never makes
    /// one, since an empty directory may be a wrong mount.
    ///
    /// # Errors
    /// When RocksDB refuses; nothing is repaired.
    pub(crate) fn open(path: &Path, create: bool) -> Result<Self, StoreError> {
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let mut options = base_options().map_err(StoreError::database("reading its options"))?;
        options.create_if_missing(create);
        options.create_missing_column_families(create);
        options.set_error_if_exists(create);
        let families = FAMILIES
            .iter()
            .map(|name| ColumnFamilyDescriptor::new(*name, family_options(name, &cache)));
        let db = DB::open_cf_descriptors(&options, path, families);
        Ok(Self { db: db.map_err(StoreError::database("opening"))? })
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
        self.db.get_cf(handle, key).map_err(StoreError::database("reading"))
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
        self.db.write_opt(batch, &options).map_err(StoreError::database("writing"))
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// When the disk refuses; never to be retried.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.db.flush_wal(true).map_err(StoreError::database("syncing"))
    }

    /// Moves everything to sorted files and drops what is overwritten, deleted or purged.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn compact(&self) -> Result<(), StoreError> {
        for name in FAMILIES {
            let handle = self.family(name)?;
            self.db.flush_cf(handle).map_err(StoreError::database("flushing"))?;
        }
        for name in FAMILIES {
            let handle = self.family(name)?;
            let mut options = rocksdb::CompactOptions::default();
            options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
            self.db.compact_range_cf_opt(handle, None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }
}

fn base_options() -> Result<Options, rocksdb::Error> {
    // No setter reaches this one; measured to work through the text form.
    let mut options = Options::default().get_options_from_string("track_and_verify_wals=true")?;
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_recycle_log_file_num(0);
    options.set_paranoid_checks(true);
    options.set_max_total_wal_size(WAL_BYTES);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    options.set_keep_log_file_num(4);
    options.set_bytes_per_sync(1 << 20);
    Ok(options)
}

fn family_options(name: &str, cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(if name == META { 1 << 20 } else { MEMTABLE_BYTES });
    options.set_compression_type(DBCompressionType::Lz4);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    if name != LOG {
        table.set_bloom_filter(10.0, false);
    }
    options.set_block_based_table_factory(&table);
    options
}
