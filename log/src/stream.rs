//! Writing groups: one write and one sync for everything queued, whichever shard it is of.
//!
//! Owned by whoever is flushing; nobody else writes to a segment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::format::{Body, Entry, GroupMark, Mark, Place, Position, ShardMark, Vote};
use crate::index::Location;
use crate::record::{self, ALIGN, FULL, Head, LAST, SEAL};
use crate::segment::{SEAL_ROOM, SECTOR, Segment};
use crate::segments::Segments;
use crate::verdict::LogError;
use planted::Bug;

/// Something that waits to be written.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) ticket: u64,
    pub(crate) shard: u16,
    pub(crate) op: Op,
}

#[derive(Debug)]
pub(crate) enum Op {
    /// An entry with its place.
    Append(Entry, Place),
    Vote(Vote),
    /// The entries behind this one are cut off.
    Truncate(Option<Place>),
    Purge(Place),
    /// Nothing, but what is durable shall be marked.
    Mark,
}

impl Op {
    /// Bytes of its record; `None` if it makes none.
    pub(crate) fn size(&self) -> Option<usize> {
        match self {
            Self::Append(entry, _) => Some(record::entry_size(entry.payload.len())),
            Self::Vote(_) => Some(record::size(17)),
            Self::Truncate(_) | Self::Purge(_) => Some(record::size(32)),
            Self::Mark => None,
        }
    }
}

/// What became of something queued.
#[derive(Debug)]
pub(crate) enum Effect {
    Entry { shard: u16, place: Place, location: Location, ticket: u64 },
    Truncated { shard: u16, end: u64 },
    Purged { shard: u16, floor: Place },
}

/// What a shard comes to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tail {
    pub(crate) floor: Option<Place>,
    pub(crate) last: Option<Place>,
    pub(crate) vote: Option<Vote>,
}

impl Tail {
    fn mark(&self, shard: u16) -> ShardMark {
        ShardMark { shard, floor: self.floor, last: self.last, vote: self.vote }
    }

    fn append(&mut self, place: Place) {
        let next = self.last.map_or(0, |last| last.index + 1);
        assert_eq!(place.index, next, "indexes have no gap");
        let term = self.last.map_or(0, |last| last.term);
        assert!(place.term >= term, "terms never go back: {} after {term}", place.term);
        self.last = Some(place);
    }

    fn vote(&mut self, vote: Vote) {
        let known = self.vote.map(|known| known.order());
        assert!(known <= Some(vote.order()), "votes never go back: {vote:?} after {known:?}");
        self.vote = Some(vote);
    }

    fn truncate(&mut self, last: Option<Place>) {
        let end = last.map_or(0, |last| last.index + 1);
        let floor = self.floor.map_or(0, |floor| floor.index + 1);
        assert!(end >= floor, "nothing below the purge floor is cut off");
        self.last = last;
    }

    fn purge(&mut self, floor: Place) {
        let known = self.floor.map(|floor| floor.index);
        assert!(known <= Some(floor.index), "the purge floor never goes back");
        self.floor = Some(floor);
        if self.last.is_none_or(|last| last.index <= floor.index) {
            self.last = Some(floor);
        }
    }
}

/// Where the log is written on.
#[derive(Debug)]
pub(crate) struct Stream<D: Disk> {
    pub(crate) segment: Arc<Segment<D::File>>,
    /// Where the next group begins.
    pub(crate) next: usize,
    /// The last group, and where it ended.
    pub(crate) group: u64,
    pub(crate) end: Position,
    /// Number of the next group.
    pub(crate) next_group: u64,
    pub(crate) tails: BTreeMap<u16, Tail>,
    /// Shards that the last group changed: the next one marks them.
    pub(crate) changed: BTreeSet<u16>,
    /// Whether the next group marks all shards.
    pub(crate) full: bool,
    /// Whether the last group changed anything, which no later group has marked yet.
    pub(crate) unmarked: bool,
    pub(crate) buffer: Vec<u8>,
}

impl<D: Disk> Stream<D> {
    /// Everything is durable up to and with the last group.
    pub(crate) fn mark(&self) -> Mark {
        let shards = self.tails.iter().map(|(shard, tail)| tail.mark(*shard)).collect();
        Mark { group: self.group, shards }
    }

    /// Writes everything queued, durably. It takes more than one group where a segment ends.
    ///
    /// # Errors
    /// When the disk refuses, or the log turns out to be damaged. Nothing more may be written then.
    pub(crate) fn write(
        &mut self,
        segments: &Segments<D>,
        mut queued: &[Queued],
    ) -> Result<Vec<Effect>, LogError> {
        let mut effects = Vec::with_capacity(queued.len());
        if queued.iter().all(|queued| queued.op.size().is_none()) {
            // Only a mark is wanted, and there may be nothing that has none.
            if self.unmarked || self.full {
                self.make_room(segments, 0)?;
                self.write_group(&[], &mut effects)?;
            }
            return Ok(effects);
        }
        while let Some(first) = queued.iter().position(|queued| queued.op.size().is_some()) {
            queued = queued.get(first..).unwrap_or_default();
            let size = queued.first().and_then(|queued| queued.op.size()).unwrap_or(0);
            self.make_room(segments, size)?;
            let count = self.fits(queued);
            assert!(count > 0, "a fresh segment has room for any record");
            let (group, rest) = queued.split_at_checked(count).unwrap_or((queued, &[]));
            self.write_group(group, &mut effects)?;
            queued = rest;
        }
        Ok(effects)
    }

    /// Goes on in the next segment, whatever room there is in this one.
    ///
    /// # Errors
    /// As [`Stream::write`].
    pub(crate) fn roll(&mut self, segments: &Segments<D>) -> Result<(), LogError> {
        self.make_room(segments, self.segment.size)?;
        self.write_group(&[], &mut Vec::new())
    }

    /// Bytes that the next group may have in this segment.
    fn room(&self) -> usize {
        self.segment.size.saturating_sub(self.next + SEAL_ROOM)
    }

    /// How many of these the next group takes.
    fn fits(&self, queued: &[Queued]) -> usize {
        let mut size = self.mark_size();
        let fit = queued.iter().take_while(|queued| {
            size += queued.op.size().unwrap_or(0);
            size <= self.room()
        });
        fit.count()
    }

    fn mark_size(&self) -> usize {
        let mut payload = Vec::new();
        self.group_mark(self.full).put(&mut payload);
        record::size(payload.len())
    }

    fn group_mark(&self, full: bool) -> GroupMark {
        let told = self.tails.iter().filter(|(shard, _)| full || self.changed.contains(shard));
        let shards = told.map(|(shard, tail)| tail.mark(*shard)).collect();
        GroupMark { previous: self.group, end: self.end, shards }
    }

    /// Goes on in the next segment if a record of this size has no room.
    fn make_room(&mut self, segments: &Segments<D>, size: usize) -> Result<(), LogError> {
        if self.mark_size() + size <= self.room() {
            return Ok(());
        }
        // In its place before the seal says so. And the seal is durable before anything is written
        // to the next one, so that what lies there proves all of this one.
        let next = segments.ready()?;
        let seal = GroupMark { shards: Vec::new(), ..self.group_mark(false) };
        let head = Head { group: self.next_group, back: 0, shard: 0, flags: LAST | SEAL };
        self.buffer.clear();
        record::put(&mut self.buffer, self.segment.seed, head, &Body::Mark(seal));
        assert!(self.buffer.len() <= SEAL_ROOM, "there is room for a seal");
        self.write_buffer()?;
        let life = next.seed.life;
        assert_eq!(life, self.segment.seed.life + 1, "segments follow each other");
        assert!(segments.activate(life).is_some(), "the next segment is in its place");
        (self.segment, self.next, self.full) = (next, SECTOR, true);
        Ok(())
    }

    fn write_group(
        &mut self,
        queued: &[Queued],
        effects: &mut Vec<Effect>,
    ) -> Result<(), LogError> {
        let records = queued.iter().filter(|queued| queued.op.size().is_some()).count();
        let last = |left: usize| if left == 0 { LAST } else { 0 };
        let full = if self.full { FULL } else { 0 };
        let group = self.next_group;
        let mark = Body::Mark(self.group_mark(self.full));
        let head = Head { group, back: 0, shard: 0, flags: full | last(records) };
        self.buffer.clear();
        record::put(&mut self.buffer, self.segment.seed, head, &mark);
        (self.full, self.unmarked) = (false, records > 0);
        self.changed.clear();
        let mut left = records;
        for Queued { ticket, shard, op } in queued {
            if op.size().is_none() {
                continue;
            }
            left -= 1;
            self.changed.insert(*shard);
            let head = Head { group, back: self.buffer.len(), shard: *shard, flags: last(left) };
            self.put(head, *ticket, op, effects)?;
        }
        self.write_buffer()
    }

    /// Appends the record of one operation to the group.
    fn put(
        &mut self,
        head: Head,
        ticket: u64,
        op: &Op,
        effects: &mut Vec<Effect>,
    ) -> Result<(), LogError> {
        let shard = head.shard;
        let seed = self.segment.seed;
        let body = match op {
            Op::Append(entry, place) => {
                let place = *place;
                self.tails.entry(shard).or_default().append(place);
                let location = Location {
                    life: seed.life,
                    offset: u32::try_from(self.next + head.back).unwrap_or(u32::MAX),
                    length: u32::try_from(record::entry_size(entry.payload.len()))
                        .unwrap_or(u32::MAX),
                    term: entry.term,
                };
                effects.push(Effect::Entry { shard, place, location, ticket });
                Body::Entry { place, payload: &entry.payload }
            }
            Op::Vote(vote) => {
                self.tails.entry(shard).or_default().vote(*vote);
                Body::Vote(*vote)
            }
            Op::Truncate(last) => {
                self.tails.entry(shard).or_default().truncate(*last);
                let end = last.map_or(0, |last| last.index + 1);
                effects.push(Effect::Truncated { shard, end });
                Body::Truncation(*last)
            }
            Op::Purge(floor) => {
                self.tails.entry(shard).or_default().purge(*floor);
                effects.push(Effect::Purged { shard, floor: *floor });
                Body::Floor(*floor)
            }
            // It makes no record.
            Op::Mark => return Ok(()),
        };
        record::put(&mut self.buffer, seed, head, &body);
        Ok(())
    }

    /// Writes the group and makes it durable.
    fn write_buffer(&mut self) -> Result<(), LogError> {
        let start = self.next;
        let shares = planted::is(Bug::SectorSharedByGroups);
        assert!(shares || start.is_multiple_of(SECTOR), "a group has its sectors for itself");
        let end = start + self.buffer.len();
        self.buffer.resize(self.buffer.len().next_multiple_of(SECTOR), 0);
        assert!(start + self.buffer.len() <= self.segment.size, "a group ends in its segment");
        let file = &self.segment.file;
        file.write_at(&self.buffer, start as u64).map_err(LogError::disk("writing the log"))?;
        match file.sync() {
            Err(_) if planted::is(Bug::SyncErrorIgnored) => {}
            synced => synced.map_err(LogError::disk("syncing the log"))?,
        }
        assert!(self.next_group > self.group, "numbers of groups only grow");
        (self.group, self.next_group) = (self.next_group, self.next_group + 1);
        self.end = Position { life: self.segment.seed.life, offset: end as u64 };
        self.next = if shares { end.next_multiple_of(ALIGN) } else { start + self.buffer.len() };
        Ok(())
    }
}
