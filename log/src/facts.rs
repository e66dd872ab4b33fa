//! What is on a disk, for whoever watches one from outside: the records that lie in it, read without any
//! of the rules by which a log is recovered. A simulator compares with them what a node says of its disk.

use crate::format::{Body, Place, StoreId, Vote};
use crate::record::{self, ALIGN, Record, Seed};
use crate::segment::{self, SECTOR};

/// Bytes in front of the life in a record's header.
const LIFE_AT: usize = 8;

/// A record that lies on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// Number of its group.
    pub group: u64,
    /// The shard that it is of.
    pub shard: u16,
    /// What it says.
    pub what: What,
    /// Where it begins, in bytes.
    pub at: usize,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An entry lies here.
    Entry(Place),
    /// A vote was given.
    Vote(Vote),
    /// The entries behind this one are cut off; all, if it is `None`.
    Cut(Option<Place>),
    /// The entries up to and with this one are purged.
    Floor(Place),
    /// A group was begun.
    Began,
}

/// Whose segment this is, and of which life, as its first sector has it. `None` where that is not whole:
/// what a broken one says may be of nobody.
#[must_use]
pub fn owner(segment: &[u8]) -> Option<(StoreId, u64)> {
    segment::owner(segment)
}

/// Every record of this store in these bytes, which begin where a sector does, in order. Of one life, or
/// of all.
#[must_use]
pub fn facts(store: &StoreId, bytes: &[u8], life: Option<u64>) -> Vec<Fact> {
    assert_eq!(bytes.len() % ALIGN, 0, "whole sectors");
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        at += match read(store, rest, life) {
            Some(record) => {
                note(&record, at, &mut found);
                record.length
            }
            None => ALIGN,
        };
    }
    found
}

fn read<'a>(store: &StoreId, bytes: &'a [u8], wanted: Option<u64>) -> Option<Record<'a>> {
    let (life, _) = bytes.get(LIFE_AT..)?.split_first_chunk()?;
    let life = u64::from_be_bytes(*life);
    let fits = wanted.map_or(life != 0, |wanted| life == wanted);
    if fits { record::read(bytes, Seed::new(store, life)) } else { None }
}

fn note(record: &Record<'_>, at: usize, found: &mut Vec<Fact>) {
    let (group, shard) = (record.head.group, record.head.shard);
    let mut add = |shard, what| found.push(Fact { group, shard, what, at });
    match &record.body {
        None => {}
        Some(Body::Entry { place, .. }) => add(shard, What::Entry(*place)),
        Some(Body::Vote(vote)) => add(shard, What::Vote(*vote)),
        Some(Body::Truncation(last)) => add(shard, What::Cut(*last)),
        Some(Body::Floor(floor)) => add(shard, What::Floor(*floor)),
        Some(Body::Mark(mark)) => {
            add(shard, What::Began);
            for mark in &mark.shards {
                mark.floor.into_iter().for_each(|floor| add(mark.shard, What::Floor(floor)));
                mark.vote.into_iter().for_each(|vote| add(mark.shard, What::Vote(vote)));
            }
        }
    }
}

/// Sectors of a segment, for whoever counts in them.
pub const SECTOR_BYTES: usize = SECTOR;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::memory::MemoryDisk;
    use crate::{Entry, Log, Options};

    #[test]
    fn what_was_made_durable_is_told_at_once_and_found_later() {
        let disk = MemoryDisk::new(1);
        let (store, options) = ([7; 16], Options { segment_bytes: 8192, ..Options::default() });
        Log::create(disk.clone(), store, options).unwrap();
        let told = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let watcher = std::sync::Arc::clone(&told);
        disk.watch(move |bytes| watcher.lock().extend(facts(&[7; 16], bytes, None)));
        let (log, _) = Log::open(disk.clone(), store, options, None).unwrap();
        let entry = |index| Entry { index, term: 3, payload: Bytes::from_static(b"body") };
        log.append(1, vec![entry(0), entry(1)]).unwrap();
        log.vote(1, Vote { term: 4, node: 2, committed: false }).unwrap();
        let entries = |told: &[Fact]| {
            let is_entry = |fact: &&Fact| matches!(fact.what, What::Entry(_));
            told.iter().filter(is_entry).count()
        };
        assert_eq!(entries(&told.lock()), 0, "nothing is durable yet");
        log.flush().unwrap();
        assert_eq!(entries(&told.lock()), 2);
        let voted = |fact: &Fact| matches!(fact.what, What::Vote(vote) if vote.term == 4);
        assert!(told.lock().iter().any(voted));
        let mut found = Vec::new();
        disk.each_durable(|_, bytes| {
            let (owner, life) = owner(bytes).unwrap();
            found.extend(facts(&owner, bytes, Some(life)));
        });
        assert_eq!(entries(&found), 2);
    }

    /// Seen to fail with an `owner` that does not check what it reads.
    #[test]
    fn a_first_sector_that_is_not_whole_is_of_nobody() {
        let label = segment::label(&[7; 16], 3, 8192);
        assert_eq!(owner(&label), Some(([7; 16], 3)));
        for bit in 0..8 * (8 + 4 + 16 + 8 + 8 + 4) {
            let mut broken = label.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(owner(&broken), None, "bit {bit}");
        }
    }
}
