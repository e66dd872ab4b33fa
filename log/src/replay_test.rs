//! The rule of recovery on segments made by hand: what no writer of ours writes is told by name.
//!
//! Seen to fail with: the number of the group not compared; what a mark says of shards, and what it
//! follows, not compared; a group that is kept in part taken for whole.

use super::*;
use crate::format::{Entry, GroupMark};
use crate::record::Head;

const STORE: StoreId = *b"made by hand....";

/// A segment that is written by hand.
struct Hand {
    bytes: Vec<u8>,
    life: u64,
    group: u64,
    end: Position,
}

impl Hand {
    fn new(life: u64) -> Self {
        let end = Position { life: 0, offset: 0 };
        Self { bytes: vec![0; 8 * SECTOR], life, group: 0, end }
    }

    /// Writes a group of this number at a sector; gives where its records begin.
    fn group_at(
        &mut self,
        sector: usize,
        number: u64,
        flags: u8,
        mark: &[ShardMark],
        bodies: &[Body<'_>],
    ) -> Vec<usize> {
        let (seed, mut out, mut starts) = (Seed::new(&STORE, self.life), Vec::new(), Vec::new());
        let mark = GroupMark { previous: self.group, end: self.end, shards: mark.to_vec() };
        let mark = Body::Mark(mark);
        for (at, body) in std::iter::once(&mark).chain(bodies).enumerate() {
            starts.push(sector * SECTOR + out.len());
            let last = if at == bodies.len() { LAST } else { 0 };
            let flags = if at == 0 { flags | last } else { last };
            let head = Head { group: number, back: out.len(), shard: 1, flags };
            record::put(&mut out, seed, head, body);
        }
        let start = sector * SECTOR;
        self.bytes[start..start + out.len()].copy_from_slice(&out);
        self.group = number;
        self.end = Position { life: self.life, offset: (start + out.len()) as u64 };
        starts
    }

    fn replay(&self) -> Result<Recovered, Finding> {
        let mut replay = Replay::new(STORE, None);
        replay.segment(self.life, &self.bytes)?;
        replay.finish()
    }
}

fn entry(last: Option<&Place>, index: u64, term: u64) -> Place {
    Place::after(last, &Entry { index, term, payload: b"x".as_slice().into() })
}

fn written(place: Place) -> Body<'static> {
    Body::Entry { place, payload: b"x" }
}

fn vote(term: u64) -> Vote {
    Vote { term, node: 1, committed: true }
}

/// A log of entries 0 to 2 of term 2 with a vote, a floor at 0, and then this.
fn after(body: Body<'static>) -> Result<Recovered, Finding> {
    let mut hand = Hand::new(1);
    let zero = entry(None, 0, 2);
    let one = entry(Some(&zero), 1, 2);
    let two = entry(Some(&one), 2, 2);
    hand.group_at(1, 1, FULL, &[], &[]);
    let sound = [written(zero), written(one), written(two), Body::Vote(vote(2)), Body::Floor(zero)];
    hand.group_at(2, 2, 0, &[], &sound);
    let last = ShardMark { shard: 1, floor: Some(zero), last: Some(two), vote: Some(vote(2)) };
    hand.group_at(3, 3, 0, &[last], &[body]);
    hand.replay()
}

#[test]
fn every_rule_that_a_record_breaks_is_named() {
    let two = entry(Some(&entry(Some(&entry(None, 0, 2)), 1, 2)), 2, 2);
    let three = entry(Some(&two), 3, 2);
    let broken = [
        (written(entry(Some(&two), 4, 2)), Rule::Dense),
        (written(entry(Some(&two), 2, 2)), Rule::Dense),
        (written(entry(Some(&two), 3, 1)), Rule::Terms),
        (written(entry(None, 3, 2)), Rule::Chain),
        (written(Place { hash: [1; 32], ..three }), Rule::Chain),
        (Body::Vote(vote(1)), Rule::Votes),
        (Body::Vote(Vote { committed: false, ..vote(2) }), Rule::Votes),
        (Body::Truncation(Some(three)), Rule::Truncations),
        (Body::Truncation(Some(Place { term: 1, ..two })), Rule::Truncations),
        (Body::Truncation(None), Rule::Truncations),
    ];
    for (body, rule) in broken {
        let found = after(body.clone()).unwrap_err();
        let named = matches!(found, Finding::Rule { shard: 1, rule: found, .. } if found == rule);
        assert!(named, "{body:?}: {found:?}");
    }
    for sound in
        [written(three), Body::Vote(vote(3)), Body::Truncation(Some(two)), Body::Floor(two)]
    {
        let found = after(sound).unwrap();
        assert_eq!((found.group, found.torn, found.dropped), (3, false, 0));
    }
    let mut hand = Hand::new(1);
    let floor = |index| Place { index, term: 1, hash: [7; 32] };
    hand.group_at(1, 1, FULL, &[], &[Body::Floor(floor(5)), Body::Floor(floor(4))]);
    assert!(matches!(hand.replay(), Err(Finding::Rule { rule: Rule::Floors, .. })));
}

/// Each group says what came before it: another number, another end, other hashes, a shard left out.
#[test]
fn a_mark_that_differs_is_named() {
    let zero = entry(None, 0, 1);
    let told = ShardMark { shard: 1, floor: None, last: Some(zero), vote: None };
    let other = ShardMark { last: Some(Place { hash: [1; 32], ..zero }), ..told.clone() };
    let begun = || {
        let mut hand = Hand::new(1);
        hand.group_at(1, 1, FULL, &[], &[written(zero)]);
        hand
    };
    let mut hand = begun();
    hand.group_at(2, 2, 0, std::slice::from_ref(&told), &[]);
    assert_eq!(hand.replay().unwrap().group, 2);
    let mut hand = begun();
    hand.group_at(2, 2, 0, &[other], &[]);
    assert_eq!(hand.replay().unwrap_err(), Finding::MarkDiffers { group: 1, shard: 1 });
    let mut hand = begun();
    hand.group_at(2, 2, FULL, &[], &[]);
    assert_eq!(hand.replay().unwrap_err(), Finding::MarkDiffers { group: 1, shard: 1 });
    for change in [|hand: &mut Hand| hand.group = 7, |hand: &mut Hand| hand.end.offset += 8] {
        let mut hand = begun();
        change(&mut hand);
        hand.group_at(2, 9, 0, &[], &[]);
        assert!(matches!(hand.replay(), Err(Finding::GroupMissing { found: 1, .. })));
    }
}

/// The rest of an older group at the same place is not part of the one that was written over it.
#[test]
fn the_rest_of_an_older_group_is_not_taken_for_the_newer() {
    let mut hand = Hand::new(1);
    let zero = entry(None, 0, 1);
    let one = entry(Some(&zero), 1, 1);
    hand.group_at(1, 1, FULL, &[], &[]);
    let before = (hand.group, hand.end);
    hand.group_at(2, 3, 0, &[], &[written(zero), written(one)]);
    let older = hand.bytes.clone();
    (hand.group, hand.end) = before;
    let starts = hand.group_at(2, 4, 0, &[], &[written(zero), written(one)]);
    // The second record of the newer one was not written.
    hand.bytes[starts[2]..].copy_from_slice(&older[starts[2]..]);
    let found = hand.replay().unwrap();
    assert_eq!((found.group, found.torn, found.dropped, found.next_group), (4, true, 1, 5));
    assert_eq!(found.shards[&1].last, Some(zero));

    // Nor is an older group that lies right behind it, whole.
    (hand.group, hand.end) = before;
    hand.group_at(2, 4, 0, &[], &[]);
    hand.group_at(3, 3, 0, &[], &[]);
    assert_eq!(hand.replay().unwrap().group, 4);
}

/// What begins right behind a group that is kept in part proves that group.
#[test]
fn the_next_group_proves_one_that_is_not_whole() {
    let mut hand = Hand::new(1);
    let zero = entry(None, 0, 1);
    let one = entry(Some(&zero), 1, 1);
    hand.group_at(1, 1, FULL, &[], &[]);
    let starts = hand.group_at(2, 2, 0, &[], &[written(zero), written(one)]);
    hand.group_at(3, 3, 0, &[], &[]);
    assert_eq!(hand.replay().unwrap().group, 3);
    hand.bytes[starts[2] + 50] ^= 1;
    assert!(matches!(hand.replay(), Err(Finding::GroupMissing { found: 2, .. })));
    // The same where its own mark cannot be read, but something else of it can.
    let mut hand = Hand::new(1);
    hand.group_at(1, 1, FULL, &[], &[]);
    let starts = hand.group_at(2, 2, 0, &[], &[written(zero), written(one)]);
    let later = hand.group_at(3, 3, 0, &[], &[Body::Vote(vote(1))]);
    hand.bytes[starts[2] + 50] ^= 1;
    hand.bytes[later[0] + 50] ^= 1;
    assert!(matches!(hand.replay(), Err(Finding::Broken { .. })));
}

#[test]
fn what_this_release_does_not_know_is_no_end() {
    let mut hand = Hand::new(1);
    hand.group_at(1, 1, FULL, &[], &[]);
    let mut unknown = Hand::new(1);
    unknown.group_at(2, 2, 0, &[], &[]);
    // The same record of another kind, with its checksum.
    let start = 2 * SECTOR;
    let length = record::read(&unknown.bytes[start..], Seed::new(&STORE, 1)).unwrap().length;
    let mut bytes = unknown.bytes[start..start + length].to_vec();
    bytes[30] = 99;
    let seed = crc32c::crc32c_append(crc32c::crc32c(&STORE), &1_u64.to_be_bytes());
    let covered = 48 + usize::try_from(u32::from_be_bytes(bytes[..4].try_into().unwrap())).unwrap();
    let crc = crc32c::crc32c_append(seed, &bytes[..4]);
    let crc = crc32c::crc32c_append(crc, &bytes[8..covered]);
    bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    hand.bytes[start..start + length].copy_from_slice(&bytes);
    let at = Position { life: 1, offset: start as u64 };
    assert_eq!(hand.replay().unwrap_err(), Finding::Unreadable { at });

    let empty = Hand::new(4).replay().unwrap_err();
    assert_eq!(empty, Finding::NoBeginning { life: 4 });
    assert_eq!(Replay::new(STORE, None).finish().unwrap_err(), Finding::Nothing);
}
