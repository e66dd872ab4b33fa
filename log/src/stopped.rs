//! A log that nobody has open, read as an opening does, and left as it is.

use crate::disk::{Disk, DiskFile as _};
use crate::format::{Entry, Mark, Place, Position, StoreId, Vote};
use crate::index::Location;
use crate::open::{ByLife, recover};
use crate::read::entry_of;
use crate::replay::{Recovered, Shard};
use crate::verdict::{Finding, LogError};

/// An intact log that nobody has open.
pub struct Stopped<D: Disk> {
    recovered: Recovered,
    segments: ByLife<D::File>,
}

impl<D: Disk> Stopped<D> {
    /// Reads a log with every record of it. Changes nothing.
    ///
    /// # Errors
    /// When it is damaged, or something stands in the way of reading it.
    pub fn read(disk: &D, store: StoreId, claimed: Option<&Mark>) -> Result<Self, LogError> {
        let (recovered, segments) = recover(disk, store, claimed)?;
        Ok(Self { recovered, segments })
    }

    fn shard(&self, shard: u16) -> Option<&Shard> {
        self.recovered.shards.get(&shard)
    }

    /// The purge floor of a shard.
    #[must_use]
    pub fn floor(&self, shard: u16) -> Option<Place> {
        self.shard(shard)?.floor
    }

    /// The last entry of a shard, or its purge floor.
    #[must_use]
    pub fn last(&self, shard: u16) -> Option<Place> {
        self.shard(shard)?.last
    }

    /// The vote of a shard.
    #[must_use]
    pub fn vote(&self, shard: u16) -> Option<Vote> {
        self.shard(shard)?.vote
    }

    /// The place of an entry that the shard holds, or of its purge floor; `None` if it is neither.
    ///
    /// # Errors
    /// When the entry is damaged, or the disk refuses.
    pub fn place_at(&self, shard: u16, index: u64) -> Result<Option<Place>, LogError> {
        if let Some(floor) = self.floor(shard).filter(|floor| floor.index == index) {
            return Ok(Some(floor));
        }
        Ok(self.entry(shard, index)?.map(|(place, _)| place))
    }

    /// An entry with its place; `None` if the shard does not hold it.
    ///
    /// # Errors
    /// When it is damaged, or the disk refuses.
    pub fn entry(&self, shard: u16, index: u64) -> Result<Option<(Place, Entry)>, LogError> {
        let Some(location) = self.shard(shard).and_then(|shard| shard.index.get(index)) else {
            return Ok(None);
        };
        let Location { life, offset, length, .. } = *location;
        let at = Position { life, offset: u64::from(offset) };
        let gone = || Finding::Entry { shard, index, at };
        let segment = &self.segments.get(&life).ok_or_else(gone)?.segment;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = segment.file.read_at(&mut bytes, at.offset);
        read.map_err(LogError::disk(format!("reading entry {index}")))?;
        Ok(Some(entry_of(&bytes, segment.seed, shard, index, location).ok_or_else(gone)?))
    }
}
