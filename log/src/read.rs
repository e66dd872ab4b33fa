//! Reading the log back: from memory what is there, from the disk what is not, checked.

use crate::disk::{Disk, DiskFile};
use crate::format::{Body, Entry, Place, Position};
use crate::index::Location;
use crate::log::Log;
use crate::record::{self, Seed};
use crate::verdict::{Finding, LogError};

/// Bytes that are read at once, unless one entry has more.
const RUN_BYTES: u32 = 256 << 10;

/// Entries with where they lie, in order.
type Located = [(u64, Location)];

/// How many of these, from the first on, lie so close that they are read at once.
fn run_length(entries: &Located) -> usize {
    let Some((_, first)) = entries.first() else { return 0 };
    let near = |(_, next): &&(u64, Location)| {
        let span = next.end().checked_sub(first.offset);
        next.life == first.life && span.is_some_and(|span| span <= RUN_BYTES)
    };
    entries.iter().take_while(near).count().max(1)
}

impl<D: Disk> Log<D> {
    /// Entries `from..to` of a shard, queued ones included; stops after `bytes`, but never before
    /// one entry. What lies outside the log is left out.
    ///
    /// # Errors
    /// When an entry is damaged, or the disk refuses.
    pub fn entries(
        &self,
        shard: u16,
        from: u64,
        to: u64,
        bytes: usize,
    ) -> Result<Vec<Entry>, LogError> {
        loop {
            let start = from.max(self.range(shard).0);
            let result = self.entries_once(shard, start, to, bytes);
            // A purge may have passed between the two looks; what it took is not damaged.
            if result.is_ok() || self.range(shard).0 <= start {
                return result;
            }
        }
    }

    fn entries_once(
        &self,
        shard: u16,
        from: u64,
        to: u64,
        bytes: usize,
    ) -> Result<Vec<Entry>, LogError> {
        let (older, recent) = self.find(shard, from, to, bytes);
        let (mut found, mut size) = (Vec::new(), 0);
        let mut add = |entry: Entry| {
            if size >= bytes && !found.is_empty() {
                return false;
            }
            size += entry.payload.len();
            found.push(entry);
            true
        };
        let mut older = older.as_slice();
        while !older.is_empty() {
            let (run, rest) = older.split_at_checked(run_length(older)).unwrap_or((older, &[]));
            for (_, entry) in self.read_run(shard, run)? {
                if !add(entry) {
                    return Ok(found);
                }
            }
            older = rest;
        }
        for entry in recent {
            if !add(entry) {
                break;
            }
        }
        Ok(found)
    }

    /// Where the entries lie that are not in memory, and those that are; no more than `bytes` need.
    fn find(
        &self,
        shard: u16,
        from: u64,
        to: u64,
        bytes: usize,
    ) -> (Vec<(u64, Location)>, Vec<Entry>) {
        let (mut older, mut recent, mut size) = (Vec::new(), Vec::new(), 0);
        let front = self.shared.lock();
        let Some(seen) = front.shards.get(&shard) else { return (older, recent) };
        let to = to.min(seen.end);
        let written = self.shared.written();
        let index = written.get(&shard);
        for at in from..to.min(seen.recent_first()) {
            if size >= bytes && !older.is_empty() {
                return (older, recent);
            }
            let location = index.and_then(|index| index.get(at));
            assert!(location.is_some(), "what is not in memory is durable");
            size += location.map_or(0, |location| record::payload_min(location.length));
            older.extend(location.map(|location| (at, *location)));
        }
        for entry in from.max(seen.recent_first())..to {
            if size >= bytes && !recent.is_empty() {
                break;
            }
            let entry = seen.recent(entry).map(|recent| recent.entry.clone());
            size += entry.as_ref().map_or(0, |entry| entry.payload.len());
            recent.extend(entry);
        }
        (older, recent)
    }

    /// The place of an entry that the shard holds, queued ones included, or of its purge floor;
    /// `None` if it is neither.
    ///
    /// # Errors
    /// When the entry is damaged, or the disk refuses.
    pub fn place_at(&self, shard: u16, index: u64) -> Result<Option<Place>, LogError> {
        loop {
            let location = {
                let front = self.shared.lock();
                let Some(seen) = front.shards.get(&shard) else { return Ok(None) };
                if let Some(floor) = seen.floor.filter(|floor| floor.index == index) {
                    return Ok(Some(floor));
                }
                if index < seen.first || index >= seen.end {
                    return Ok(None);
                }
                if let Some(recent) = seen.recent(index) {
                    return Ok(Some(recent.place));
                }
                let written = self.shared.written();
                written.get(&shard).and_then(|written| written.get(index)).copied()
            };
            let Some(location) = location else { return Ok(None) };
            match self.read(shard, index, location) {
                Ok(place) => return Ok(Some(place)),
                Err(_) if self.range(shard).0 > index => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&self, shard: u16, index: u64, location: Location) -> Result<Place, LogError> {
        let found = self.read_run(shard, &[(index, location)])?;
        let place = found.first().map(|(place, _)| *place);
        let hole = Finding::Hole { shard, from: index, to: index };
        Ok(place.ok_or(hole)?)
    }

    /// Reads entries that lie close to each other, and checks each.
    fn read_run(&self, shard: u16, run: &Located) -> Result<Vec<(Place, Entry)>, LogError> {
        let (Some((index, first)), Some((_, last))) = (run.first(), run.last()) else {
            return Ok(Vec::new());
        };
        let at = Position { life: first.life, offset: u64::from(first.offset) };
        let gone = Finding::Entry { shard, index: *index, at };
        let segment = self.shared.segments.get(first.life).ok_or(gone)?;
        let span = last.end().saturating_sub(first.offset);
        let mut bytes = vec![0; usize::try_from(span).unwrap_or(0)];
        let read = segment.file.read_at(&mut bytes, at.offset);
        read.map_err(LogError::disk(format!("reading entry {index}")))?;
        let mut found = Vec::with_capacity(run.len());
        for (index, location) in run {
            let start = usize::try_from(location.offset.saturating_sub(first.offset)).unwrap_or(0);
            let record = bytes.get(start..).unwrap_or_default();
            let at = Position { life: location.life, offset: u64::from(location.offset) };
            let entry = entry_of(record, segment.seed, shard, *index, location);
            found.push(entry.ok_or(Finding::Entry { shard, index: *index, at })?);
        }
        Ok(found)
    }
}

/// The entry in a record that should hold just that one.
pub(crate) fn entry_of(
    record: &[u8],
    seed: Seed,
    shard: u16,
    index: u64,
    location: &Location,
) -> Option<(Place, Entry)> {
    let record = record::read(record, seed)?;
    let Some(Body::Entry { place, payload }) = record.body else { return None };
    let same = record.head.shard == shard && place.index == index && place.term == location.term;
    let payload = payload.to_vec().into();
    same.then_some((place, Entry { index, term: place.term, payload }))
}
