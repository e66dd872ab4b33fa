//! Reading the log back: bounds at start, and entries that have left memory.

use super::db::Database;
use super::format::{ChainHash, LogEntry, LogMark, decode};
use super::keys::{self, LOG, MetaKind};
use super::{SHARD, Store, StoreError};

/// The purge floor of a shard.
pub(crate) fn floor(db: &Database, shard: u16) -> Result<Option<LogMark>, StoreError> {
    let value = db.get_meta(keys::meta(shard, MetaKind::Floor))?;
    value.map(|bytes| decode("purge floor", &bytes)).transpose()
}

/// First index that the log holds or would hold next, and the mark of the last entry (or of the
/// floor, when nothing lies above it). Walks the whole log and checks every entry and the chain.
pub(crate) fn bounds(db: &Database, shard: u16) -> Result<(u64, Option<LogMark>), StoreError> {
    let floor = floor(db, shard)?;
    let first = floor.as_ref().map_or(0, |floor| floor.index + 1);
    let mut last = floor;
    scan(db, shard, first, u64::MAX, |entry, hash| {
        let before: ChainHash = last.as_ref().map_or(Ok([0; 32]), LogMark::chain_hash)?;
        if entry.chain(&before) != hash {
            let broken = format!("the hash chain breaks at log entry {}", entry.index);
            return Err(StoreError::Damaged(broken));
        }
        last = Some(LogMark { index: entry.index, term: entry.term, hash: hash.to_vec() });
        Ok(true)
    })?;
    Ok((first, last))
}

/// Reads entries `from..to` in order until `each` says stop. A gap is damage, never the end.
fn scan(
    db: &Database,
    shard: u16,
    from: u64,
    to: u64,
    mut each: impl FnMut(LogEntry, ChainHash) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    // Beginning above the purge floor lets the iterator skip what was range-deleted.
    let mut iterator = db.raw().raw_iterator_cf(db.family(LOG)?);
    iterator.seek(keys::log(shard, from));
    let mut expected = from;
    while let (Some(key), Some(value)) = (iterator.key(), iterator.value()) {
        let Some(index) = keys::log_index(shard, key).filter(|index| *index < to) else { break };
        if index != expected {
            return Err(missing(expected));
        }
        let (entry, hash) = LogEntry::decode(index, value)?;
        expected += 1;
        if !each(entry, hash)? {
            break;
        }
        iterator.next();
    }
    // An iterator over a damaged block just ends: who forgets this sees a short log.
    iterator.status().map_err(db.failed_read("scanning the log"))
}

/// The mark of a log entry that the database holds, or of the purge floor.
pub(crate) fn mark_in(db: &Database, shard: u16, index: u64) -> Result<LogMark, StoreError> {
    written_at(db, shard, index)?.ok_or_else(|| missing(index))
}

/// The same; `None` where it is neither.
pub(crate) fn written_at(
    db: &Database,
    shard: u16,
    index: u64,
) -> Result<Option<LogMark>, StoreError> {
    if let Some(value) = db.get(LOG, &keys::log(shard, index))? {
        let (entry, hash) = LogEntry::decode(index, &value)?;
        return Ok(Some(LogMark { index, term: entry.term, hash: hash.to_vec() }));
    }
    Ok(floor(db, shard)?.filter(|floor| floor.index == index))
}

/// The place of an entry that was purged, as far as its chain hash is kept.
pub(crate) fn purged_at(
    db: &Database,
    shard: u16,
    index: u64,
) -> Result<Option<LogMark>, StoreError> {
    let Some(value) = db.get(LOG, &keys::chain(shard, index))? else { return Ok(None) };
    let (entry, hash) = LogEntry::decode(index, &value)?;
    Ok(Some(LogMark { index, term: entry.term, hash: hash.to_vec() }))
}

fn missing(index: u64) -> StoreError {
    StoreError::Damaged(format!("log entry {index} is missing"))
}

impl Store {
    /// Entries `from..to`, from memory where they are, else from the database; stops after `bytes`
    /// but never before one entry. What lies outside the log is left out.
    ///
    /// # Errors
    /// When an entry is damaged or missing.
    pub fn entries(&self, from: u64, to: u64, bytes: usize) -> Result<Vec<LogEntry>, StoreError> {
        loop {
            let start = from.max(self.tail().range().0);
            let result = self.entries_once(start, to, bytes);
            // A purge may have passed between the two looks; what it took is not missing.
            if result.is_ok() || self.tail().range().0 <= start {
                return self.inner.db.noted(result);
            }
        }
    }

    fn entries_once(&self, from: u64, to: u64, bytes: usize) -> Result<Vec<LogEntry>, StoreError> {
        // Memory first: what leaves it between the two reads is in the database already.
        let (db_end, recent) = self.tail().read(from, to);
        let mut found = Vec::new();
        let mut size = 0;
        if from < db_end {
            scan(&self.inner.db, SHARD, from, db_end, |entry, _| {
                size += entry.payload.len();
                found.push(entry);
                Ok(size < bytes)
            })?;
            let expected = db_end - from;
            if size < bytes && (found.len() as u64) < expected {
                return Err(missing(from + found.len() as u64));
            }
        }
        for entry in recent {
            if size >= bytes && !found.is_empty() {
                break;
            }
            size += entry.payload.len();
            found.push(entry);
        }
        Ok(found)
    }

    /// The mark of a log entry that is written, or of the purge floor.
    ///
    /// # Errors
    /// When it is neither, or damaged.
    pub fn mark_at(&self, index: u64) -> Result<LogMark, StoreError> {
        self.inner.db.noted(mark_in(&self.inner.db, SHARD, index))
    }

    /// The place of an entry with its chain hash, as apply notes it; the entry must be written.
    ///
    /// # Errors
    /// When the entry is missing.
    pub fn applied_mark(&self, index: u64) -> Result<LogMark, StoreError> {
        let handle = self.inner.db.family(LOG)?;
        let found = self.inner.db.raw().get_pinned_cf(handle, keys::log(SHARD, index));
        let found = found.map_err(self.inner.db.failed_read("reading the log"))?;
        let head = found.as_ref().and_then(|value| value.first_chunk::<44>());
        let [_, _, _, _, a, b, c, d, e, f, g, h, hash @ ..] =
            self.inner.db.noted(head.ok_or_else(|| missing(index)))?;
        let term = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
        Ok(LogMark { index, term, hash: hash.to_vec() })
    }
}
