//! The log as the engine uses it: entries, places, its range. What is queued counts as there.

use log::Place;

use super::format::{LogEntry, LogMark, decode_place};
use super::keys::{self, PLACES};
use super::{SHARD, Store, StoreError};

impl Store {
    /// The range of indexes that the log holds, `first..end`, queued ones included.
    #[must_use]
    pub fn range(&self) -> (u64, u64) {
        let (first, end) = self.inner.log.range(SHARD);
        // What the engine has purged may still be there until the state is flushed so far.
        (first.max(self.inner.shared.purge_target()).min(end), end)
    }

    /// Entries `from..to`, queued ones included; stops after `bytes` but never before one entry. What
    /// lies outside the log is left out.
    ///
    /// # Errors
    /// When an entry is damaged, or the disk refuses.
    pub fn entries(&self, from: u64, to: u64, bytes: usize) -> Result<Vec<LogEntry>, StoreError> {
        self.inner.shared.noted(self.inner.log.entries(SHARD, from, to, bytes))
    }

    /// The purge floor of the log.
    #[must_use]
    pub fn floor(&self) -> Option<LogMark> {
        self.inner.log.floor(SHARD).map(LogMark::from)
    }

    /// The place of an entry that the log holds, durable or not, or of its purge floor.
    ///
    /// # Errors
    /// When it is neither, or damaged.
    pub fn logged(&self, index: u64) -> Result<Place, StoreError> {
        let found = self.inner.shared.noted(self.inner.log.place_at(SHARD, index))?;
        found.ok_or_else(|| StoreError::Damaged(format!("log entry {index} is missing")))
    }

    /// The place of an entry that this store holds or has held: in its log, as what its state came to,
    /// or applied and purged from it not too long ago. `None` if it knows none there.
    ///
    /// # Errors
    /// When the database fails or a value is damaged.
    pub fn place_at(&self, index: u64) -> Result<Option<LogMark>, StoreError> {
        if let Some(place) = self.inner.shared.noted(self.inner.log.place_at(SHARD, index))? {
            return Ok(Some(place.into()));
        }
        match self.installed().filter(|installed| installed.index == index) {
            Some(installed) => Ok(Some(installed)),
            None => self.applied_at(index),
        }
    }

    /// The place of an entry that was applied here, as far as it is kept.
    fn applied_at(&self, index: u64) -> Result<Option<LogMark>, StoreError> {
        let value = self.inner.db.get(None, PLACES, &keys::entry(SHARD, index))?;
        let Some(value) = value else { return Ok(None) };
        let (place, _) = self.inner.db.noted(decode_place(index, &value))?;
        Ok(Some(place.into()))
    }
}
