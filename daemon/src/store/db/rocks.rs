//! The database on the disk: RocksDB, its options, and its calls.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use model::Direction;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, DEFAULT_COLUMN_FAMILY_NAME, ErrorKind, FlushOptions, InfoLogger, LogLevel,
    Options, ReadOptions, ReadTier, SnapshotWithThreadMode, WriteBatch, WriteOptions,
};

use super::super::environment::OPEN_TABLES_MAX;
use super::super::keys::{FAMILIES, LOG_IN_DB, META, PLACES};
use super::{AtHand, Batch, Range, What};

/// Memory for cached blocks.
const CACHE_BYTES: usize = 64 << 20;
/// A memtable, per family.
const MEMTABLE_BYTES: usize = 32 << 20;
/// Tables that a look keeps open at most.
const LOOKING_TABLES_MAX: i32 = 128;

/// A moment of the database.
pub(super) type Moment<'a> = SnapshotWithThreadMode<'a, DB>;

/// The open database.
pub(super) struct Rocks {
    db: DB,
    /// Made once: each is an object of the library's.
    options: CallOptions,
}

struct CallOptions {
    at_hand: ReadOptions,
    write: WriteOptions,
    write_at_once: WriteOptions,
}

impl CallOptions {
    fn new() -> Self {
        let mut at_hand = ReadOptions::default();
        at_hand.set_read_tier(ReadTier::BlockCache);
        let (mut write, mut write_at_once) = (WriteOptions::default(), WriteOptions::default());
        write.disable_wal(true);
        write_at_once.disable_wal(true);
        write_at_once.set_no_slowdown(true);
        Self { at_hand, write, write_at_once }
    }
}

impl Rocks {
    fn new(db: DB) -> Self {
        Self { db, options: CallOptions::new() }
    }

    pub(super) fn create(path: &Path) -> Result<Self, rocksdb::Error> {
        let mut options = base_options();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_error_if_exists(true);
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        DB::open_cf_descriptors(&options, path, families(Some(&cache))).map(Self::new)
    }

    pub(super) fn open(path: &Path) -> Result<Self, rocksdb::Error> {
        Self::open_with(&base_options(), path)
    }

    pub(super) fn open_with_log(path: &Path) -> Result<Self, rocksdb::Error> {
        // No setter reaches this one; measured to work through the text form.
        let mut options = base_options().get_options_from_string("track_and_verify_wals=true")?;
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_atomic_flush(false);
        Self::open_with(&options, path)
    }

    fn open_with(options: &Options, path: &Path) -> Result<Self, rocksdb::Error> {
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
        db.map(Self::new)
    }

    pub(super) fn has(&self, family: &'static str) -> bool {
        self.db.cf_handle(family).is_some()
    }

    pub(super) fn make_family(&mut self, name: &'static str) -> Result<(), Error> {
        Ok(self.db.create_cf(name, &family_options(name, None))?)
    }

    pub(super) fn drop_family(&mut self, name: &'static str) -> Result<(), Error> {
        Ok(self.db.drop_cf(name)?)
    }

    pub(super) fn look_past_caches(path: &Path) -> Result<Self, rocksdb::Error> {
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
        db.map(Self::new)
    }

    pub(super) fn path(&self) -> &Path {
        self.db.path()
    }

    pub(super) fn background_errors(&self) -> u64 {
        self.db.property_int_value("rocksdb.background-errors").ok().flatten().unwrap_or(0)
    }

    pub(super) fn sequence(&self) -> u64 {
        self.db.latest_sequence_number()
    }

    /// A family; there is one of each name after a successful opening.
    fn family(&self, name: &'static str) -> Result<&ColumnFamily, Error> {
        self.db.cf_handle(name).ok_or(Error::NoFamily(name))
    }

    pub(super) fn freeze(&self) -> Moment<'_> {
        self.db.snapshot()
    }

    pub(super) fn get(
        &self,
        at: Option<&Moment<'_>>,
        family: &'static str,
        key: &[u8],
    ) -> Result<Option<Bytes>, Error> {
        let found = self.db.get_pinned_cf_opt(self.family(family)?, key, &read_options(at))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    pub(super) fn walk(
        &self,
        at: Option<&Moment<'_>>,
        range: &Range<'_>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.walk_with(read_options(at), range, each)
    }

    fn walk_with(
        &self,
        mut options: ReadOptions,
        range: &Range<'_>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        options.set_iterate_lower_bound(range.low);
        if let Some(high) = range.high {
            options.set_iterate_upper_bound(high);
        }
        let mut rows = self.db.raw_iterator_cf_opt(self.family(range.family)?, options);
        match range.direction {
            Direction::Forward => rows.seek_to_first(),
            Direction::Backward => rows.seek_to_last(),
        }
        while let (Some(key), Some(value)) = (rows.key(), rows.value()) {
            if !each(key, value) {
                break;
            }
            match range.direction {
                Direction::Forward => rows.next(),
                Direction::Backward => rows.prev(),
            }
        }
        // An iterator over a damaged block just ends: who forgets this sees too few rows.
        Ok(rows.status()?)
    }

    /// See [`Rocks::get`]; as it is now.
    pub(super) fn get_at_hand(
        &self,
        family: &'static str,
        key: &[u8],
    ) -> Result<AtHand<Option<Bytes>>, Error> {
        let found = self.db.get_pinned_cf_opt(self.family(family)?, key, &self.options.at_hand);
        match found {
            Ok(found) => Ok(AtHand::Found(found.map(|value| Bytes::copy_from_slice(&value)))),
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(AtHand::Missed),
            Err(error) => Err(error.into()),
        }
    }

    /// See [`Rocks::walk`]; as it is now.
    pub(super) fn walk_at_hand(
        &self,
        range: &Range<'_>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<AtHand<()>, Error> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::BlockCache);
        match self.walk_with(options, range, each) {
            Ok(()) => Ok(AtHand::Found(())),
            Err(Error::Database(error)) if error.kind() == ErrorKind::Incomplete => {
                Ok(AtHand::Missed)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn write(&self, batch: &Batch) -> Result<(), Error> {
        Ok(self.db.write_opt(self.whole(batch)?, &self.options.write)?)
    }

    /// Whether it was written: not where the database would wait for its disk first.
    pub(super) fn write_at_once(&self, batch: &Batch) -> Result<bool, Error> {
        match self.db.write_opt(self.whole(batch)?, &self.options.write_at_once) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn whole(&self, batch: &Batch) -> Result<WriteBatch, Error> {
        /// What the library puts in front of a row at most.
        const HEAD: usize = 16;
        let room = batch.bytes() + batch.writes.len() * HEAD;
        let mut whole = WriteBatch::with_capacity_bytes(room);
        // Rows of a family come together.
        let mut last: Option<(&'static str, &ColumnFamily)> = None;
        for (family, key, what) in batch.each() {
            let handle = match last.filter(|(name, _)| *name == family) {
                Some((_, handle)) => handle,
                None => last.insert((family, self.family(family)?)).1,
            };
            match what {
                What::Put(value) => whole.put_cf(handle, key, value),
                What::Delete => whole.delete_cf(handle, key),
                What::DeleteTo(to) => whole.delete_range_cf(handle, key, &to[..]),
            }
        }
        Ok(whole)
    }

    pub(super) fn flush(&self) -> Result<(), Error> {
        let handles = FAMILIES.into_iter().chain([LOG_IN_DB]);
        let handles: Vec<_> = handles.filter_map(|name| self.db.cf_handle(name)).collect();
        Ok(self.db.flush_cfs_opt(&handles, &FlushOptions::default())?)
    }

    pub(super) fn compact(&self) -> Result<(), Error> {
        for name in FAMILIES {
            let mut options = rocksdb::CompactOptions::default();
            options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
            let handle = self.family(name)?;
            self.db.compact_range_cf_opt(handle, None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }

    pub(super) fn keep_files(&self) -> Result<(), Error> {
        Ok(self.db.disable_file_deletions()?)
    }

    pub(super) fn let_files_go(&self) -> Result<(), Error> {
        Ok(self.db.enable_file_deletions()?)
    }

    pub(super) fn tables(&self) -> Result<BTreeSet<String>, Error> {
        let name = |file: rocksdb::LiveFile| file.name.trim_start_matches('/').to_owned();
        Ok(self.db.live_files()?.into_iter().map(name).collect())
    }

    pub(super) fn read_piece(
        &self,
        family: &'static str,
        from: &[u8],
        most: usize,
    ) -> Result<(u64, Option<Vec<u8>>), Error> {
        let mut rows = self.db.raw_iterator_cf_opt(self.family(family)?, checking_options());
        let mut bytes = 0;
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            if bytes >= most {
                return Ok((bytes as u64, Some(key.to_vec())));
            }
            bytes += key.len() + value.len();
            rows.next();
        }
        rows.status()?;
        Ok((bytes as u64, None))
    }

    pub(super) fn read_all(&self) -> Result<(), Error> {
        for name in FAMILIES {
            let options = checking_options();
            let mut rows = self.db.raw_iterator_cf_opt(self.family(name)?, options);
            rows.seek_to_first();
            while rows.valid() {
                rows.next();
            }
            rows.status()?;
        }
        Ok(())
    }
}

/// Why a call failed.
pub(super) enum Error {
    Database(rocksdb::Error),
    NoFamily(&'static str),
}

impl From<rocksdb::Error> for Error {
    fn from(error: rocksdb::Error) -> Self {
        Self::Database(error)
    }
}

fn read_options(at: Option<&Moment<'_>>) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(moment) = at {
        options.set_snapshot(moment);
    }
    options
}

/// Options for who reads everything: it would push out of memory what others need.
fn checking_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_verify_checksums(true);
    options
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
