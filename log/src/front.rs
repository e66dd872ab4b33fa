//! The log as its users see it: what is queued counts as there.
//!
//! Invariant: what is in memory of a shard is its newest entries, without gaps, and everything that
//! is not durable is in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::disk::Disk;
use crate::format::{Entry, Mark, Place, Vote};
use crate::stream::{Effect, Queued, Stream};

/// What is known under the lock.
#[derive(Debug)]
pub(crate) struct Front<D: Disk> {
    pub(crate) shards: BTreeMap<u16, Shard>,
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) queued_bytes: usize,
    /// Number of the last operation that was queued, and of the last one that is durable.
    pub(crate) tickets: u64,
    pub(crate) durable: u64,
    /// What is durable.
    pub(crate) mark: Arc<Mark>,
    /// Whether the last group changed anything that no later one has marked.
    pub(crate) unmarked: bool,
    /// `None` while somebody writes.
    pub(crate) stream: Option<Box<Stream<D>>>,
    /// Why nothing is taken any more.
    pub(crate) failed: Option<Arc<str>>,
    /// Bytes of payloads in memory, and how many there may be.
    pub(crate) cached: usize,
    pub(crate) cached_max: usize,
}

/// One shard.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) first: u64,
    /// One past the last entry.
    pub(crate) end: u64,
    pub(crate) floor: Option<Place>,
    pub(crate) vote: Option<Vote>,
    /// Place of the last entry, or the floor if nothing lies above it.
    pub(crate) last: Option<Place>,
    /// The newest entries; the last one is the one before `end`.
    pub(crate) recent: VecDeque<Recent>,
}

/// An entry in memory.
#[derive(Debug)]
pub(crate) struct Recent {
    pub(crate) entry: Entry,
    pub(crate) ticket: u64,
    pub(crate) place: Place,
    pub(crate) durable: bool,
}

/// What an entry counts for besides its payload.
const RECENT_BYTES: usize = 128;

fn bytes(recent: &Recent) -> usize {
    recent.entry.payload.len() + RECENT_BYTES
}

impl Shard {
    /// First index that is in memory.
    pub(crate) fn recent_first(&self) -> u64 {
        self.end - self.recent.len() as u64
    }

    pub(crate) fn recent(&self, index: u64) -> Option<&Recent> {
        let at = index.checked_sub(self.recent_first())?;
        self.recent.get(usize::try_from(at).ok()?)
    }

    fn recent_mut(&mut self, index: u64) -> Option<&mut Recent> {
        let at = index.checked_sub(self.recent_first())?;
        self.recent.get_mut(usize::try_from(at).ok()?)
    }
}

impl<D: Disk> Front<D> {
    /// Gives the place of the entry.
    pub(crate) fn append(&mut self, shard: u16, entry: Entry, ticket: u64) -> Place {
        let shard = self.shards.entry(shard).or_default();
        assert_eq!(entry.index, shard.end, "indexes have no gap");
        let before = shard.last.map_or(0, |last| last.term);
        assert!(entry.term >= before, "terms never go back: {} after {before}", entry.term);
        let place = Place::after(shard.last.as_ref(), &entry);
        (shard.end, shard.last) = (shard.end + 1, Some(place));
        let recent = Recent { entry, ticket, place, durable: false };
        self.cached += bytes(&recent);
        shard.recent.push_back(recent);
        place
    }

    /// Hides the entries behind `last`, which is held.
    pub(crate) fn truncate(&mut self, shard: u16, last: Option<Place>) {
        let end = last.map_or(0, |last| last.index + 1);
        let shard = self.shards.entry(shard).or_default();
        assert!(end >= shard.first, "nothing below the purge floor is cut off");
        while shard.end > end {
            shard.end -= 1;
            if let Some(gone) = shard.recent.pop_back() {
                self.cached -= bytes(&gone);
            }
        }
        let known = shard.recent.back().map(|recent| recent.place);
        assert!(known.is_none() || known == last, "the place that stays is that of its entry");
        shard.last = last;
    }

    /// Hides the entries up to and with the floor.
    pub(crate) fn purge(&mut self, shard: u16, floor: Place) {
        let shard = self.shards.entry(shard).or_default();
        let known = shard.floor.map(|floor| floor.index);
        assert!(known <= Some(floor.index), "the purge floor never goes back");
        shard.floor = Some(floor);
        shard.first = floor.index + 1;
        while !shard.recent.is_empty() && shard.recent_first() < shard.first {
            if let Some(gone) = shard.recent.pop_front() {
                self.cached -= bytes(&gone);
            }
        }
        if shard.end <= shard.first {
            (shard.end, shard.last) = (shard.first, Some(floor));
        }
    }

    /// Takes what the next flush writes: all that is queued, but not much more than `bytes`. Gives
    /// the number of the last operation that is done with it.
    pub(crate) fn take(&mut self, bytes: usize) -> (Vec<Queued>, u64) {
        let mut size = 0;
        let fit = self.queue.iter().take_while(|queued| {
            let first = size == 0;
            size += queued.op.size().unwrap_or(1);
            first || size <= bytes
        });
        let count = fit.count();
        let taken: Vec<_> = self.queue.drain(..count).collect();
        // Entries of one call may be written in two goes; the call is done with the last one.
        let covers = self.queue.front().map_or(self.tickets, |next| next.ticket - 1);
        (taken, covers)
    }

    /// Notes what became of what was taken: it is durable.
    pub(crate) fn settle(&mut self, taken: &[Queued], covers: u64, effects: &[Effect]) {
        assert!(covers >= self.durable, "what is durable stays so");
        self.durable = covers;
        let size: usize = taken.iter().filter_map(|queued| queued.op.size()).sum();
        self.queued_bytes = self.queued_bytes.saturating_sub(size);
        for effect in effects {
            let Effect::Entry { shard, place, ticket, .. } = effect else { continue };
            let recent = self.shards.get_mut(shard).and_then(|s| s.recent_mut(place.index));
            // Another one may stand there by now.
            if let Some(recent) = recent.filter(|recent| recent.ticket == *ticket) {
                assert_eq!(recent.place, *place, "an entry is written where it was queued");
                recent.durable = true;
            }
        }
        self.evict();
    }

    /// Lets go of the oldest durable entries, until what is in memory is within its bound.
    fn evict(&mut self) {
        for shard in self.shards.values_mut() {
            while self.cached > self.cached_max
                && shard.recent.front().is_some_and(|recent| recent.durable)
            {
                if let Some(gone) = shard.recent.pop_front() {
                    self.cached -= bytes(&gone);
                }
            }
        }
    }
}
