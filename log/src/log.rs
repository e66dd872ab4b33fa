//! The log: what can be asked of it, and group commit.
//!
//! Operations are queued, and [`Log::flush`] makes durable what is queued. Whoever comes while
//! somebody else flushes waits for that, and the first of those that waited writes for all of them:
//! one write and one sync, whatever has come meanwhile. There is no timer and no thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use crate::disk::Disk;
use crate::format::{Entry, Mark, Place, StoreId, Vote};
use crate::front::Front;
use crate::index::Index;
use crate::segment::SECTOR;
use crate::segments::{Segments, Upkeep};
use crate::stream::{Effect, Op, Queued, Stream};
use crate::verdict::LogError;
use planted::Bug;

/// Sizes that a log is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a segment: a multiple of 512, and at most 4 GiB. Segments that are there keep
    /// theirs.
    pub segment_bytes: usize,
    /// Bytes that are written at once, more or less.
    pub group_bytes: usize,
    /// Bytes of durable entries that stay in memory.
    pub recent_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 8 << 20, group_bytes: 4 << 20, recent_bytes: 32 << 20 }
    }
}

impl Options {
    /// Bytes that the payload of an entry may have.
    #[must_use]
    pub fn payload_max(&self) -> usize {
        // The mark in front of a group may tell of many shards.
        self.segment_bytes / 2
    }

    pub(crate) fn check(&self) {
        assert_eq!(self.segment_bytes % SECTOR, 0, "a segment is a number of sectors");
        assert!(self.segment_bytes >= 8 * SECTOR, "a segment has room for something");
        assert!(u32::try_from(self.segment_bytes).is_ok(), "a segment has at most 4 GiB");
    }
}

/// Number of something queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durable {
    /// Everything queued up to and with this.
    pub ticket: Ticket,
    /// What the log comes to with it.
    pub mark: Arc<Mark>,
}

/// Where the durable entries of the shards lie. Changed only by whoever flushes.
pub(crate) type Written = BTreeMap<u16, Index>;

/// An open log that is proven intact. Cheap to clone.
#[derive(Debug)]
pub struct Log<D: Disk> {
    pub(crate) shared: Arc<Shared<D>>,
}

impl<D: Disk> Clone for Log<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
pub(crate) struct Shared<D: Disk> {
    options: Options,
    front: Mutex<Front<D>>,
    settled: Condvar,
    /// Taken after `front` where both are.
    written: RwLock<Written>,
    pub(crate) segments: Segments<D>,
}

/// Makes the log fail for good if a flush ends in a panic: others wait for it.
struct Alarm<'a, D: Disk>(&'a Shared<D>);

impl<D: Disk> Drop for Alarm<'_, D> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut front = self.0.lock();
            front.failed.get_or_insert_with(|| "a flush ended in a panic".into());
        }
        self.0.settled.notify_all();
    }
}

impl<D: Disk> Shared<D> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Front<D>> {
        // A broken invariant panics before anything is changed.
        self.front.lock()
    }

    pub(crate) fn written(&self) -> RwLockReadGuard<'_, Written> {
        self.written.read()
    }
}

impl<D: Disk> Log<D> {
    pub(crate) fn from_parts(
        options: Options,
        front: Front<D>,
        written: Written,
        segments: Segments<D>,
    ) -> Self {
        let (front, written) = (Mutex::new(front), RwLock::new(written));
        let shared = Shared { options, front, settled: Condvar::new(), written, segments };
        Self { shared: Arc::new(shared) }
    }

    /// Creates a log in an empty folder. Only for a store that is being made.
    ///
    /// # Errors
    /// When there is one already, or the disk refuses.
    ///
    /// # Panics
    /// When the options make no sense.
    pub fn create(disk: D, store: StoreId, options: Options) -> Result<(), LogError> {
        crate::open::create(disk, store, options)
    }

    /// Opens a log and judges whether it is intact. `claimed` is what was durable by a note that is
    /// kept elsewhere, if there is one. What lies behind everything durable and is broken is dropped.
    ///
    /// # Errors
    /// When it is damaged, or something stands in the way. Nothing was changed then.
    ///
    /// # Panics
    /// When the options make no sense.
    pub fn open(
        disk: D,
        store: StoreId,
        options: Options,
        claimed: Option<&Mark>,
    ) -> Result<(Self, Found), LogError> {
        crate::open::open(disk, store, options, claimed)
    }

    /// Queues entries for the end of a shard's log. They are read back at once.
    ///
    /// # Errors
    /// When one is too large, and then none is queued; or when the log failed.
    ///
    /// # Panics
    /// When they do not follow the last one, or a term goes back.
    pub fn append(&self, shard: u16, entries: Vec<Entry>) -> Result<Ticket, LogError> {
        let most = self.shared.options.payload_max();
        let large = entries.iter().map(|entry| entry.payload.len()).find(|bytes| *bytes > most);
        if let Some(bytes) = large {
            return Err(LogError::TooLarge { bytes, most });
        }
        self.queue(|front, ticket| {
            for entry in entries {
                let place = front.append(shard, entry.clone(), ticket);
                front.push(ticket, shard, Op::Append(entry, place));
            }
        })
    }

    /// Queues a vote.
    ///
    /// # Errors
    /// When the log failed.
    ///
    /// # Panics
    /// When it goes back.
    pub fn vote(&self, shard: u16, vote: Vote) -> Result<Ticket, LogError> {
        self.queue(|front, ticket| {
            let known = &mut front.shards.entry(shard).or_default().vote;
            let before = known.map(|known| known.order());
            assert!(before <= Some(vote.order()), "votes never go back: {vote:?} after {before:?}");
            *known = Some(vote);
            front.push(ticket, shard, Op::Vote(vote));
        })
    }

    /// Queues that the entries behind `last` are cut off; all, if it is `None`. They are hidden at
    /// once. What lies beyond the end is not there to be cut.
    ///
    /// # Errors
    /// When the log failed, or the entry that would be the last one cannot be read.
    ///
    /// # Panics
    /// When an entry would be cut off that is purged, or if others append or truncate meanwhile.
    pub fn truncate_after(&self, shard: u16, last: Option<u64>) -> Result<Ticket, LogError> {
        let end = last.map_or(0, |last| last + 1);
        if self.range(shard).1 <= end {
            return self.queue(|_, _| {});
        }
        let place = match last {
            Some(last) => self.place_at(shard, last)?,
            None => None,
        };
        assert_eq!(
            place.map(|place| place.index),
            last,
            "nothing below the purge floor is cut off"
        );
        self.queue(|front, ticket| {
            front.truncate(shard, place);
            if !planted::is(Bug::CutNotSaved) {
                front.push(ticket, shard, Op::Truncate(place));
            }
        })
    }

    /// Queues that the entries up to and with `floor` are purged: a snapshot holds what they did.
    /// They are hidden at once. A floor beyond the end empties the log, which goes on behind it.
    ///
    /// # Errors
    /// When the log failed.
    ///
    /// # Panics
    /// When the floor goes back.
    pub fn purge_to(&self, shard: u16, floor: Place) -> Result<Ticket, LogError> {
        self.queue(|front, ticket| {
            front.purge(shard, floor);
            front.push(ticket, shard, Op::Purge(floor));
        })
    }

    /// Queues a mark: what is durable now is proven to be by the next flush, even if nothing else
    /// is queued. An idle log asks for it a moment after the last group ([`Log::wants_mark`]).
    ///
    /// # Errors
    /// When the log failed.
    pub fn mark(&self) -> Result<Ticket, LogError> {
        self.queue(|front, ticket| front.push(ticket, 0, Op::Mark))
    }

    fn queue(&self, add: impl FnOnce(&mut Front<D>, u64)) -> Result<Ticket, LogError> {
        let mut front = self.shared.lock();
        if let Some(reason) = &front.failed {
            return Err(LogError::Stopped(Arc::clone(reason)));
        }
        let ticket = front.tickets + 1;
        add(&mut front, ticket);
        front.tickets = ticket;
        Ok(Ticket(ticket))
    }

    /// Makes everything durable that was queued before this call, by itself or by waiting for
    /// somebody who does.
    ///
    /// # Errors
    /// When a write or a sync failed, now or earlier: the log takes nothing any more, and what was
    /// not durable before is unknown.
    pub fn flush(&self) -> Result<Durable, LogError> {
        let goal = self.shared.lock().tickets;
        loop {
            let mut front = self.shared.lock();
            if let Some(reason) = &front.failed {
                return Err(LogError::Stopped(Arc::clone(reason)));
            }
            if front.durable >= goal {
                return Ok(front.durable());
            }
            if front.stream.is_none() {
                self.shared.settled.wait(&mut front);
                continue;
            }
            self.write(front)?;
        }
    }

    /// Writes what is queued, for everybody who waits.
    fn write(&self, mut front: MutexGuard<'_, Front<D>>) -> Result<(), LogError> {
        let Some(mut stream) = front.stream.take() else { return Ok(()) };
        let (taken, covers) = front.take(self.shared.options.group_bytes);
        drop(front);
        let alarm = Alarm(&self.shared);
        let written = stream.write(&self.shared.segments, &taken);
        if let Ok(effects) = &written {
            self.note_segments(effects);
            self.shared.segments.note_used(stream.next);
        }
        let mut front = self.shared.lock();
        let result = written.map(|effects| {
            self.note_written(&effects);
            front.settle(&taken, covers, &effects);
        });
        front.give_back(stream, &result);
        drop(front);
        drop(alarm);
        result
    }

    /// Goes on in a segment that held nothing before. What is purged may be gone from the disk only
    /// behind this: see [`Log::erase`].
    ///
    /// # Errors
    /// See [`Log::flush`].
    pub fn roll(&self) -> Result<(), LogError> {
        self.flush()?;
        self.shared.segments.begin_erasing();
        loop {
            let mut front = self.stream_is_there();
            if let Some(reason) = &front.failed {
                return Err(LogError::Stopped(Arc::clone(reason)));
            }
            let Some(mut stream) = front.stream.take() else { continue };
            drop(front);
            let alarm = Alarm(&self.shared);
            let result = stream.roll(&self.shared.segments);
            let mut front = self.shared.lock();
            front.give_back(stream, &result);
            drop(front);
            drop(alarm);
            result?;
            if self.shared.segments.is_fresh() {
                return Ok(());
            }
        }
    }

    /// Removes every segment in which all is purged, and uses none again, so that nothing of it is
    /// left on the disk. To be called after [`Log::roll`], and after the purge is durable. Waits for
    /// [`Log::check`].
    ///
    /// # Errors
    /// When the disk refuses. The log itself is as it was.
    pub fn erase(&self) -> Result<(), LogError> {
        self.shared.segments.erase()
    }

    /// Waits until nobody writes.
    pub(crate) fn stream_is_there(&self) -> MutexGuard<'_, Front<D>> {
        let mut front = self.shared.lock();
        while front.stream.is_none() && front.failed.is_none() {
            self.shared.settled.wait(&mut front);
        }
        front
    }

    fn note_segments(&self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Entry { shard, place, location, .. } => {
                    self.shared.segments.note_entry(location.life, *shard, place.index);
                }
                Effect::Purged { shard, floor } => {
                    self.shared.segments.note_floor(*shard, floor.index);
                }
                Effect::Truncated { shard, end } => {
                    self.shared.segments.note_truncation(*shard, *end);
                }
            }
        }
    }

    fn note_written(&self, effects: &[Effect]) {
        let mut written = self.shared.written.write();
        for effect in effects {
            match effect {
                Effect::Entry { shard, place, location, .. } => {
                    written.entry(*shard).or_default().push(place.index, *location);
                }
                Effect::Truncated { shard, end } => {
                    written.entry(*shard).or_default().truncate(*end);
                }
                Effect::Purged { shard, floor } => {
                    written.entry(*shard).or_default().purge(floor.index + 1);
                }
            }
        }
    }

    /// What is durable.
    #[must_use]
    pub fn durable(&self) -> Durable {
        self.shared.lock().durable()
    }

    /// Whether the entry that the shard holds at this index is durable; what is purged is.
    #[must_use]
    pub fn is_durable(&self, shard: u16, index: u64) -> bool {
        let front = self.shared.lock();
        let Some(shard) = front.shards.get(&shard).filter(|shard| index < shard.end) else {
            return false;
        };
        let Some(recent) = shard.recent(index) else { return true };
        assert_eq!(recent.entry.index, index, "what is in memory has no gap");
        recent.durable
    }

    /// Why the log takes nothing any more, if it has failed.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<str>> {
        self.shared.lock().failed.clone()
    }

    /// Whether something is durable that no mark on the disk proves to be, and nothing is queued
    /// that will.
    #[must_use]
    pub fn wants_mark(&self) -> bool {
        let front = self.shared.lock();
        front.unmarked && front.queue.is_empty()
    }

    /// Bytes that wait for the disk.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.lock().queued_bytes
    }

    /// Whether a segment is ready for when the current one is full.
    #[must_use]
    pub fn has_spare(&self) -> bool {
        self.shared.segments.has_ready()
    }

    /// Whether it is time for [`Log::upkeep`]: a segment can be cleared away, or the current one is used
    /// so far that the next should be ready.
    #[must_use]
    pub fn wants_upkeep(&self) -> bool {
        self.shared.segments.wants_upkeep()
    }

    /// One step of making and clearing away segments, beside the path of a write; to be called again
    /// until it has nothing to do. `pace` is told how many bytes are to be written next, and may
    /// wait.
    ///
    /// # Errors
    /// When the disk refuses. The log itself is as it was.
    pub fn upkeep(&self, pace: &mut dyn FnMut(usize)) -> Result<Upkeep, LogError> {
        self.shared.segments.upkeep(pace)
    }

    /// The range of entries that a shard holds, `first..end`, queued ones included.
    #[must_use]
    pub fn range(&self, shard: u16) -> (u64, u64) {
        let front = self.shared.lock();
        front.shards.get(&shard).map_or((0, 0), |shard| (shard.first, shard.end))
    }

    /// The purge floor of a shard, a queued one included.
    #[must_use]
    pub fn floor(&self, shard: u16) -> Option<Place> {
        self.shared.lock().shards.get(&shard)?.floor
    }

    /// The vote of a shard, a queued one included; what is durable is in [`Log::durable`].
    #[must_use]
    pub fn last_vote(&self, shard: u16) -> Option<Vote> {
        self.shared.lock().shards.get(&shard)?.vote
    }
}

impl<D: Disk> Front<D> {
    fn push(&mut self, ticket: u64, shard: u16, op: Op) {
        self.queued_bytes += op.size().unwrap_or(0);
        self.queue.push_back(Queued { ticket, shard, op });
    }

    /// Takes the stream back from whoever wrote.
    fn give_back(&mut self, stream: Box<Stream<D>>, result: &Result<(), LogError>) {
        match result {
            Ok(()) => {
                let mark = stream.mark();
                assert!(mark.group >= self.mark.group, "marks only move on");
                (self.mark, self.unmarked) = (Arc::new(mark), stream.unmarked);
            }
            Err(error) => self.failed = Some(error.to_string().into()),
        }
        self.stream = Some(stream);
    }

    fn durable(&self) -> Durable {
        Durable { ticket: Ticket(self.durable), mark: Arc::clone(&self.mark) }
    }
}

/// What an opening found besides an intact log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    /// Valid records of a broken tail that were dropped: nobody was told of them.
    pub dropped: usize,
    /// Whether the last group was kept in part.
    pub torn: bool,
}
