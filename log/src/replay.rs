//! The rule of recovery: what a log that was read comes to, or why it is damaged. Pure.
//!
//! The log is a stream of groups over the segments in the order of their lives. A group was written
//! only after everything before it was durable; so:
//!
//! 1. The log ends at the first position where no valid record of this life goes on with it.
//! 2. A valid record of a group that was begun *behind* that end shows that what cannot be read was
//!    durable: damage, and never an end.
//! 3. What is left of groups that were begun *at* the end, or before it, is the broken rest of
//!    something that nobody was told of: it is dropped.
//! 4. Every group says which one came before, where that one ended, and what the shards that it
//!    changed came to. A group that is not there, or other hashes, are damage.
//! 5. A segment is left only behind a durable seal, so what lies in a later one proves all of it.
//! 6. A mark that was kept elsewhere must be met: a log that ends before it has lost something.

use std::collections::BTreeMap;

use crate::format::{Body, GroupMark, Mark, Place, Position, ShardMark, StoreId, Vote};
use crate::index::{Index, Location};
use crate::record::{self, ALIGN, FULL, LAST, Record, SEAL, Seed};
use crate::segment::SECTOR;
use crate::segments::cut_off;
use crate::verdict::{Finding, Rule};
use planted::Bug;

/// What one shard of the log comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Shard {
    pub(crate) floor: Option<Place>,
    pub(crate) last: Option<Place>,
    pub(crate) vote: Option<Vote>,
    pub(crate) index: Index,
}

impl Shard {
    pub(crate) fn mark(&self, shard: u16) -> ShardMark {
        ShardMark { shard, floor: self.floor, last: self.last, vote: self.vote }
    }

    /// Begins with what lies before the oldest segment.
    fn from_mark(mark: &ShardMark) -> Self {
        let next = mark.last.map_or(0, |last| last.index + 1);
        let index = Index::new(next);
        Self { floor: mark.floor, last: mark.last, vote: mark.vote, index }
    }

    fn append(&mut self, place: Place, payload: &[u8], location: Location) -> Result<(), Rule> {
        let (index, term) = (place.index, place.term);
        if index != self.index.end() {
            return Err(Rule::Dense);
        }
        if self.last.is_some_and(|last| last.term > term) {
            return Err(Rule::Terms);
        }
        let previous = self.last.map_or(proto::chain::CHAIN_START, |last| last.hash);
        if proto::chain::chain(&previous, index, term, payload) != place.hash {
            return Err(Rule::Chain);
        }
        self.index.push(index, location);
        self.last = Some(place);
        Ok(())
    }

    fn vote(&mut self, vote: Vote) -> Result<(), Rule> {
        if self.vote.is_some_and(|known| known.order() > vote.order()) {
            return Err(Rule::Votes);
        }
        self.vote = Some(vote);
        Ok(())
    }

    fn truncate(&mut self, last: Option<Place>) -> Result<(), Rule> {
        let end = last.map_or(0, |last| last.index + 1);
        let cuts_settled = self.floor.is_some_and(|floor| end <= floor.index);
        let other = last.is_some_and(|last| {
            self.index.get(last.index).is_some_and(|found| found.term != last.term)
        });
        if end > self.index.end() || cuts_settled || other {
            return Err(Rule::Truncations);
        }
        self.index.truncate(end);
        self.last = last;
        Ok(())
    }

    fn purge(&mut self, floor: Place) -> Result<(), Rule> {
        if self.floor.is_some_and(|known| known.index > floor.index) {
            return Err(Rule::Floors);
        }
        self.floor = Some(floor);
        if self.last.is_none_or(|last| last.index <= floor.index) {
            self.last = Some(floor);
            self.index = Index::new(floor.index + 1);
        }
        self.index.purge(floor.index + 1);
        Ok(())
    }

    /// Entries above the floor that no segment holds.
    fn hole(&self, shard: u16) -> Option<Finding> {
        let from = self.floor.map_or(0, |floor| floor.index + 1);
        let first = self.index.first();
        (from < first).then(|| Finding::Hole { shard, from, to: first - 1 })
    }
}

/// What an intact log comes to.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) shards: BTreeMap<u16, Shard>,
    /// The last group of which anything is kept.
    pub(crate) group: u64,
    /// Higher than every number that any record carries, dropped ones too.
    pub(crate) next_group: u64,
    /// Where what is kept ends.
    pub(crate) end: Position,
    /// Where the next group begins.
    pub(crate) next: Position,
    /// The oldest segment that is still needed holds entries up to these, by life and shard.
    pub(crate) highest: BTreeMap<u64, BTreeMap<u16, u64>>,
    /// Valid records that were dropped, and whether the last group is kept in part.
    pub(crate) dropped: usize,
    pub(crate) torn: bool,
}

/// The group that is being read, or was read last.
#[derive(Debug, Clone, Copy)]
struct Group {
    number: u64,
    start: usize,
    complete: bool,
    seal: bool,
}

/// Reads segments, one after the other in the order of their lives.
#[derive(Debug)]
pub(crate) struct Replay {
    store: StoreId,
    claimed: Option<Mark>,
    claim_met: bool,
    shards: BTreeMap<u16, Shard>,
    /// `None` until the first mark is read.
    group: Option<Group>,
    first_group: u64,
    highest_group: u64,
    end: Position,
    /// Whether the stream may go on in the next segment.
    open: bool,
    last_life: u64,
    highest: BTreeMap<u64, BTreeMap<u16, u64>>,
    dropped: usize,
}

impl Replay {
    /// Begins with nothing. `claimed` is what was durable by a note elsewhere.
    pub(crate) fn new(store: StoreId, claimed: Option<&Mark>) -> Self {
        let claimed = claimed.filter(|_| !planted::is(Bug::LostTailUnseen)).cloned();
        Self {
            store,
            claimed,
            claim_met: false,
            shards: BTreeMap::new(),
            group: None,
            first_group: 0,
            highest_group: 0,
            end: Position { life: 0, offset: 0 },
            open: true,
            last_life: 0,
            highest: BTreeMap::new(),
            dropped: 0,
        }
    }

    /// Reads the next segment.
    ///
    /// # Errors
    /// When the log is damaged.
    pub(crate) fn segment(&mut self, life: u64, bytes: &[u8]) -> Result<(), Finding> {
        assert!(life > self.last_life, "segments are read in the order of their lives");
        if self.last_life != 0 && life != self.last_life + 1 {
            return Err(Finding::SegmentMissing { life: self.last_life + 1 });
        }
        let first = self.last_life == 0;
        self.last_life = life;
        let seed = Seed::new(&self.store, life);
        if !self.open {
            // Nothing was written here before the segment before it was closed.
            return self.rest(bytes, seed, SECTOR, None);
        }
        self.groups(bytes, seed)?;
        let Some(group) = self.group else {
            debug_assert!(first, "a later segment follows a group");
            return Err(Finding::NoBeginning { life });
        };
        self.open = group.complete && group.seal && self.end.life == life;
        if self.end.life < life {
            // Nothing was written here yet.
            return self.rest(bytes, seed, SECTOR, Some(SECTOR));
        }
        let end = usize::try_from(self.end.offset).unwrap_or(usize::MAX);
        // A group that is begun behind this shows that all before it was durable.
        let harmless = if group.complete { end.next_multiple_of(SECTOR) } else { group.start };
        self.rest(bytes, seed, end, Some(harmless))
    }

    /// Reads groups up to the end of the stream in this segment.
    fn groups(&mut self, bytes: &[u8], seed: Seed) -> Result<(), Finding> {
        let mut start = SECTOR;
        while self.begins(bytes, seed, start)? {
            self.records(bytes, seed)?;
            let Some(group) = self.group else { break };
            if group.seal {
                break;
            }
            start = usize::try_from(self.end.offset).unwrap_or(usize::MAX);
            start = start.checked_next_multiple_of(SECTOR).unwrap_or(usize::MAX);
        }
        Ok(())
    }

    /// Whether the group that follows begins here.
    fn begins(&mut self, bytes: &[u8], seed: Seed, start: usize) -> Result<bool, Finding> {
        let Some(found) = bytes.get(start..).and_then(|bytes| record::read(bytes, seed)) else {
            return Ok(false);
        };
        let at = Position { life: seed.life, offset: start as u64 };
        let Record { head, length, body } = found;
        if head.back != 0 || self.group.is_some_and(|group| head.group <= group.number) {
            // What is left of something older that was dropped.
            return Ok(false);
        }
        let Some(Body::Mark(mark)) = body else { return Err(Finding::Unreadable { at }) };
        match self.group {
            None if !head.is(FULL) => return Ok(false),
            None => self.begin_with(&mark, head.group),
            Some(group) => self.follows(group, &mark, head.is(FULL), at)?,
        }
        self.group =
            Some(Group { number: head.group, start, complete: head.is(LAST), seal: head.is(SEAL) });
        self.highest_group = self.highest_group.max(head.group);
        self.end = Position { life: seed.life, offset: (start + length) as u64 };
        if head.is(LAST) {
            self.group_ends()?;
        }
        Ok(true)
    }

    fn begin_with(&mut self, mark: &GroupMark, group: u64) {
        self.first_group = group;
        let shards = mark.shards.iter().map(|mark| (mark.shard, Shard::from_mark(mark)));
        self.shards = shards.collect();
    }

    /// Checks that what was read is what the mark of the next group says was durable.
    fn follows(
        &self,
        group: Group,
        mark: &GroupMark,
        full: bool,
        at: Position,
    ) -> Result<(), Finding> {
        if mark.previous != group.number || mark.end != self.end {
            let (wanted, found) = (mark.previous, group.number);
            return Err(Finding::GroupMissing { at, wanted, found });
        }
        self.compare(group.number, &mark.shards, full)
    }

    /// Whether the shards come to what a mark says; a full one tells of all of them.
    fn compare(&self, group: u64, marks: &[ShardMark], full: bool) -> Result<(), Finding> {
        let differs = |shard| Finding::MarkDiffers { group, shard };
        for mark in marks {
            let found = self.shards.get(&mark.shard).map(|shard| shard.mark(mark.shard));
            if found.as_ref() != Some(mark) {
                return Err(differs(mark.shard));
            }
        }
        let untold = |shard: &&u16| marks.iter().all(|mark| mark.shard != **shard);
        match self.shards.keys().find(untold) {
            Some(shard) if full => Err(differs(*shard)),
            _ => Ok(()),
        }
    }

    /// Reads the records of a group behind its mark, up to its last one or the end of the stream.
    fn records(&mut self, bytes: &[u8], seed: Seed) -> Result<(), Finding> {
        while let Some(group) = self.group.filter(|group| !group.complete) {
            let end = usize::try_from(self.end.offset).unwrap_or(usize::MAX);
            let at = end.next_multiple_of(ALIGN);
            let found = bytes.get(at..).and_then(|bytes| record::read(bytes, seed));
            let belongs = |found: &Record<'_>| {
                found.head.group == group.number && found.head.back == at - group.start
            };
            let Some(found) = found.filter(belongs) else { break };
            let place = Position { life: seed.life, offset: at as u64 };
            self.apply(&found, place)?;
            self.end = Position { life: seed.life, offset: (at + found.length) as u64 };
            if found.head.is(LAST) {
                self.group = Some(Group { complete: true, ..group });
                self.group_ends()?;
            }
        }
        Ok(())
    }

    fn apply(&mut self, record: &Record<'_>, at: Position) -> Result<(), Finding> {
        let number = record.head.shard;
        let shard = self.shards.entry(number).or_default();
        let result = match &record.body {
            None | Some(Body::Mark(_)) => return Err(Finding::Unreadable { at }),
            Some(Body::Entry { place, payload }) => {
                let highest = self.highest.entry(at.life).or_default().entry(number).or_default();
                *highest = (*highest).max(place.index);
                let location = Location {
                    life: at.life,
                    offset: u32::try_from(at.offset).unwrap_or(u32::MAX),
                    length: u32::try_from(record.length).unwrap_or(u32::MAX),
                    term: place.term,
                };
                shard.append(*place, payload, location)
            }
            Some(Body::Vote(vote)) => shard.vote(*vote),
            Some(Body::Truncation(last)) => {
                let end = last.map_or(0, |last| last.index + 1);
                self.highest.values_mut().for_each(|highest| cut_off(highest, number, end));
                shard.truncate(*last)
            }
            Some(Body::Floor(floor)) => shard.purge(*floor),
        };
        result.map_err(|rule| Finding::Rule { at, shard: number, rule })
    }

    /// Whether the segments so far end with the group of this mark, and come to what it says.
    ///
    /// # Errors
    /// When they do not: the log is damaged.
    pub(crate) fn comes_to(&self, mark: &Mark) -> Result<(), Finding> {
        let found = self.group.map_or(0, |group| group.number - u64::from(!group.complete));
        if found != mark.group {
            return Err(Finding::MarkBeyondEnd { marked: mark.group, found });
        }
        self.compare(mark.group, &mark.shards, true)
    }

    /// A group is whole: if it is the one that was marked elsewhere, it must come to the same.
    fn group_ends(&mut self) -> Result<(), Finding> {
        let (Some(claimed), Some(group)) = (&self.claimed, self.group) else { return Ok(()) };
        if group.number == claimed.group {
            self.claim_met = true;
            return self.compare(claimed.group, &claimed.shards, true);
        }
        let passed = self.first_group <= claimed.group && claimed.group < group.number;
        if passed && !self.claim_met {
            let shard = claimed.shards.first().map_or(0, |mark| mark.shard);
            return Err(Finding::MarkDiffers { group: claimed.group, shard });
        }
        Ok(())
    }

    /// Looks at what lies behind the end. Groups that were begun up to and with `harmless` are the
    /// broken rest of what nobody was told of; `None` if there can be none at all.
    fn rest(
        &mut self,
        bytes: &[u8],
        seed: Seed,
        from: usize,
        harmless: Option<usize>,
    ) -> Result<(), Finding> {
        let from = from.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX);
        for at in (from..bytes.len()).step_by(ALIGN) {
            let found = bytes.get(at..).and_then(|bytes| record::read(bytes, seed));
            let Some(Record { head, .. }) = found else { continue };
            let start = at.checked_sub(head.back);
            let unseen = planted::is(Bug::BrokenMiddleUnseen);
            if !unseen && (start.is_none() || harmless.is_none() || start > harmless) {
                let proof = Position { life: seed.life, offset: at as u64 };
                return Err(Finding::Broken { at: self.end, proof });
            }
            self.highest_group = self.highest_group.max(head.group);
            self.dropped += 1;
        }
        Ok(())
    }

    /// What it all comes to.
    ///
    /// # Errors
    /// When the log is damaged.
    pub(crate) fn finish(self) -> Result<Recovered, Finding> {
        let Some(group) = self.group else { return Err(Finding::Nothing) };
        if self.open {
            // The last segment is sealed, which it never is before the next one is in its place.
            return Err(Finding::SegmentMissing { life: self.last_life + 1 });
        }
        if let Some(claimed) = &self.claimed {
            let found = group.number - u64::from(!group.complete);
            if claimed.group >= self.first_group && !self.claim_met {
                return Err(Finding::MarkBeyondEnd { marked: claimed.group, found });
            }
        }
        if let Some(hole) = self.shards.iter().find_map(|(number, shard)| shard.hole(*number)) {
            return Err(hole);
        }
        let next = if group.complete && group.seal {
            Position { life: self.end.life + 1, offset: SECTOR as u64 }
        } else {
            let offset = self.end.offset.next_multiple_of(SECTOR as u64);
            Position { life: self.end.life, offset }
        };
        assert!(next >= self.end, "what is durable is never written again");
        Ok(Recovered {
            shards: self.shards,
            group: group.number,
            next_group: self.highest_group + 1,
            end: self.end,
            next,
            highest: self.highest,
            dropped: self.dropped,
            torn: !group.complete,
        })
    }
}

#[cfg(test)]
#[path = "replay_test.rs"]
mod replay_test;
