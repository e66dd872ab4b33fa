//! One record: a header of 48 bytes and a payload, at a multiple of 8 bytes. Pure.
//!
//! ```text
//! 0  length   of the payload          28  shard
//! 4  crc32c   of all the rest         30  kind
//! 8  life     of the segment          31  flags
//! 16 group    number                  32  index
//! 24 back     to the group's start    40  term
//! ```
//!
//! The checksum is seeded with whose log it is and the segment's life. So a record of the segment's
//! former life, of another log, or inside a payload is never taken for one.

use crate::format::{Body, GroupMark, Place, Reader, StoreId, Vote, put_vote};
use planted::Bug;

/// Bytes of a header.
pub(crate) const HEADER: usize = 48;
/// Records begin at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// Bytes of a chain hash, which begins the payload of most records.
const HASH: usize = 32;

/// What a record is. The numbers are the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Entry = 1,
    Vote = 2,
    Truncation = 3,
    Floor = 4,
    Mark = 5,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Entry),
            2 => Some(Self::Vote),
            3 => Some(Self::Truncation),
            4 => Some(Self::Floor),
            5 => Some(Self::Mark),
            _ => None,
        }
    }
}

/// Nothing more belongs to the group.
pub(crate) const LAST: u8 = 1;
/// A mark that tells of all shards.
pub(crate) const FULL: u8 = 2;
/// A mark behind which the log goes on in the next segment.
pub(crate) const SEAL: u8 = 4;
/// A truncation that leaves an entry, or a floor.
const LEAVES: u8 = 8;

/// What the checksums of a segment begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed {
    pub(crate) life: u64,
    crc: u32,
}

impl Seed {
    pub(crate) fn new(store: &StoreId, life: u64) -> Self {
        let told = if planted::is(Bug::FormerLifeTaken) { 0 } else { life };
        let crc = crc32c::crc32c_append(crc32c::crc32c(store), &told.to_be_bytes());
        Self { life, crc }
    }

    fn checksum(self, length: &[u8], rest: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.crc, length), rest)
    }
}

/// Where a record belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) group: u64,
    /// Bytes from the group's start to this record.
    pub(crate) back: usize,
    pub(crate) shard: u16,
    pub(crate) flags: u8,
}

impl Head {
    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A record whose checksum is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) head: Head,
    /// Its bytes on the disk, with what fills up to the next multiple.
    pub(crate) length: usize,
    /// `None`: this release does not know such a record.
    pub(crate) body: Option<Body<'a>>,
}

/// Bytes that a record with such a payload takes, with what fills up.
pub(crate) fn size(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(ALIGN)
}

/// Bytes that an entry's record takes.
pub(crate) fn entry_size(payload: usize) -> usize {
    size(HASH + payload)
}

/// Bytes that the payload of an entry has at least whose record takes so many.
pub(crate) fn payload_min(length: u32) -> usize {
    usize::try_from(length).unwrap_or(0).saturating_sub(HEADER + HASH + ALIGN - 1)
}

/// Appends a record to `out`, which begins where the group does, and fills up.
pub(crate) fn put(out: &mut Vec<u8>, seed: Seed, head: Head, body: &Body<'_>) {
    assert_eq!(out.len() % ALIGN, 0, "a record begins at a multiple of {ALIGN}");
    assert_eq!(out.len(), head.back, "a record says where its group begins");
    let start = out.len();
    let (kind, flags, index, term) = numbers(body);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&seed.life.to_be_bytes());
    out.extend_from_slice(&head.group.to_be_bytes());
    let back = u32::try_from(head.back).unwrap_or(u32::MAX);
    assert_eq!(back as usize, head.back, "a group is shorter than a segment");
    out.extend_from_slice(&back.to_be_bytes());
    out.extend_from_slice(&head.shard.to_be_bytes());
    out.extend_from_slice(&[kind as u8, head.flags | flags]);
    out.extend_from_slice(&index.to_be_bytes());
    out.extend_from_slice(&term.to_be_bytes());
    put_payload(out, body);
    let length = out.len() - start - HEADER;
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(([a, b, c, d, crc @ ..], rest)) =
        out.get_mut(start..).and_then(<[u8]>::split_first_chunk_mut::<8>)
    {
        ([*a, *b, *c, *d], *crc) = (length, seed.checksum(&length, rest).to_be_bytes());
    }
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

fn numbers(body: &Body<'_>) -> (Kind, u8, u64, u64) {
    match body {
        Body::Entry { place, .. } => (Kind::Entry, 0, place.index, place.term),
        Body::Vote(vote) => (Kind::Vote, 0, 0, vote.term),
        Body::Truncation(Some(last)) => (Kind::Truncation, LEAVES, last.index, last.term),
        Body::Truncation(None) => (Kind::Truncation, 0, 0, 0),
        Body::Floor(floor) => (Kind::Floor, 0, floor.index, floor.term),
        Body::Mark(_) => (Kind::Mark, 0, 0, 0),
    }
}

fn put_payload(out: &mut Vec<u8>, body: &Body<'_>) {
    match body {
        Body::Entry { place, payload } => {
            out.extend_from_slice(&place.hash);
            out.extend_from_slice(payload);
        }
        Body::Vote(vote) => put_vote(out, vote),
        Body::Truncation(Some(place)) | Body::Floor(place) => out.extend_from_slice(&place.hash),
        Body::Truncation(None) => {}
        Body::Mark(mark) => mark.put(out),
    }
}

/// The record that begins with these bytes; `None` if there is no valid one of this life.
pub(crate) fn read(bytes: &[u8], seed: Seed) -> Option<Record<'_>> {
    let mut reader = Reader(bytes);
    let length_bytes = reader.bytes::<4>()?;
    let crc = reader.u32()?;
    let rest = reader.0;
    // Before the checksum: whoever looks for records at every place has to be fast.
    if reader.u64()? != seed.life && !planted::is(Bug::FormerLifeTaken) {
        return None;
    }
    let length = HEADER.checked_add(usize::try_from(u32::from_be_bytes(*length_bytes)).ok()?)?;
    let covered = rest.get(..length.checked_sub(8)?)?;
    if seed.checksum(length_bytes, covered) != crc && !planted::is(Bug::ChecksumIgnored) {
        return None;
    }
    let group = reader.u64()?;
    let back = usize::try_from(reader.u32()?).ok()?;
    let (shard, kind, flags) = (reader.u16()?, reader.u8()?, reader.u8()?);
    let (index, term) = (reader.u64()?, reader.u64()?);
    let payload = bytes.get(HEADER..length)?;
    let body = Kind::from_number(kind).and_then(|kind| body(kind, flags, index, term, payload));
    let (head, length) =
        (Head { group, back, shard, flags: flags & !LEAVES }, length.next_multiple_of(ALIGN));
    Some(Record { head, length, body })
}

fn body(kind: Kind, flags: u8, index: u64, term: u64, payload: &[u8]) -> Option<Body<'_>> {
    let place = |hash: &[u8]| Some(Place { index, term, hash: hash.try_into().ok()? });
    match kind {
        Kind::Entry => {
            let (hash, payload) = payload.split_first_chunk::<HASH>()?;
            Some(Body::Entry { place: place(hash)?, payload })
        }
        Kind::Vote => {
            let mut reader = Reader(payload);
            let vote: Vote = reader.vote()?;
            (reader.end() && vote.term == term).then_some(Body::Vote(vote))
        }
        Kind::Truncation if flags & LEAVES == 0 => Some(Body::Truncation(None)),
        Kind::Truncation => Some(Body::Truncation(Some(place(payload)?))),
        Kind::Floor => Some(Body::Floor(place(payload)?)),
        Kind::Mark => GroupMark::read(payload).map(Body::Mark),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::{Position, ShardMark};

    const STORE: StoreId = *b"sixteen of bytes";

    fn place(index: u64) -> Place {
        Place { index, term: 5, hash: [0xab; HASH] }
    }

    fn bodies() -> Vec<Body<'static>> {
        let vote = Vote { term: 5, node: 3, committed: true };
        let shards =
            vec![ShardMark { shard: 2, floor: None, last: Some(place(0x11)), vote: Some(vote) }];
        let end = Position { life: 6, offset: 0x1200 };
        vec![
            Body::Entry { place: place(0x11), payload: b"payload" },
            Body::Vote(vote),
            Body::Truncation(Some(place(0x12))),
            Body::Truncation(None),
            Body::Floor(place(0x13)),
            Body::Mark(GroupMark { previous: 8, end, shards }),
        ]
    }

    fn encoded(body: &Body<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let head = Head { group: 9, back: 0, shard: 2, flags: LAST };
        put(&mut out, Seed::new(&STORE, 7), head, body);
        out
    }

    /// Logs of earlier releases are read for ever: these bytes never change.
    #[test]
    fn records_are_these_bytes() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let hash = "ab".repeat(HASH);
        let head = |length: &str, crc: &str, kind: &str| {
            format!("{length}{crc}000000000000000700000000000000090000000000 02{kind}")
                .replace(' ', "")
        };
        let expected = [
            head("00000027", "7df9ccc2", "0101")
                + "00000000000000110000000000000005"
                + &hash
                + "7061796c6f616400",
            head("00000011", "0fd54623", "0201")
                + "00000000000000000000000000000005"
                + "0000000000000005000000000000000301"
                + "00000000000000",
            head("00000020", "4f56c3a0", "0309") + "00000000000000120000000000000005" + &hash,
            head("00000000", "8e575efe", "0301") + "00000000000000000000000000000000",
            head("00000020", "78cdce7b", "0401") + "00000000000000130000000000000005" + &hash,
            head("00000062", "913172c5", "0501")
                + "00000000000000000000000000000000"
                + "000000000000000800000000000000060000000000001200"
                + "00000001"
                + "0002"
                + "00"
                + "0100000000000000110000000000000005"
                + &hash
                + "010000000000000005000000000000000301"
                + "000000000000",
        ];
        for (body, expected) in bodies().iter().zip(&expected) {
            assert_eq!(hex(&encoded(body)), *expected);
        }
    }

    #[test]
    fn records_are_read_as_they_were_written_and_of_this_life_alone() {
        for body in bodies() {
            let bytes = encoded(&body);
            assert_eq!(bytes.len() % ALIGN, 0);
            let record = read(&bytes, Seed::new(&STORE, 7)).unwrap();
            assert_eq!(record.length, bytes.len());
            assert_eq!(record.head, Head { group: 9, back: 0, shard: 2, flags: LAST });
            assert_eq!(record.body, Some(body));
            assert_eq!(read(&bytes, Seed::new(&STORE, 8)), None);
            assert_eq!(read(&bytes, Seed::new(b"another store...", 7)), None);
        }
    }

    /// A record of another life whose number alone was changed. Seen to fail with a checksum that
    /// begins with nothing, or with whose log it is alone.
    #[test]
    fn the_checksum_knows_the_life() {
        for seed in [0, crc32c::crc32c(&STORE)] {
            let mut bytes = encoded(&Body::Truncation(None));
            bytes[15] = 8;
            let crc = crc32c::crc32c_append(seed, &bytes[..4]);
            let crc = crc32c::crc32c_append(crc, &bytes[8..]);
            bytes[4..8].copy_from_slice(&crc.to_be_bytes());
            assert_eq!(read(&bytes, Seed::new(&STORE, 8)), None);
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes: Vec<u8>) {
            let _ = read(&bytes, Seed::new(&STORE, 7));
            let _ = GroupMark::read(&bytes);
            let _ = crate::format::Mark::from_bytes(&bytes);
            // With a right checksum, whatever is in it.
            if bytes.len() >= HEADER {
                let length = u32::try_from(bytes.len() - HEADER).unwrap().to_be_bytes();
                bytes[..4].copy_from_slice(&length);
                bytes[8..16].copy_from_slice(&7_u64.to_be_bytes());
                let seed = Seed::new(&STORE, 7);
                let crc = seed.checksum(&length, &bytes[8..]);
                bytes[4..8].copy_from_slice(&crc.to_be_bytes());
                prop_assert!(read(&bytes, seed).is_some());
            }
        }

        #[test]
        fn every_flipped_bit_is_seen(which in 0_usize..6, flip: prop::sample::Index) {
            let body = bodies().swap_remove(which);
            let mut bytes = encoded(&body);
            let covered = read(&bytes, Seed::new(&STORE, 7)).unwrap();
            let fill = match covered.body {
                Some(Body::Entry { .. }) => 1,
                Some(Body::Vote(_)) => 7,
                Some(Body::Mark(_)) => 6,
                _ => 0,
            };
            let bit = flip.index((bytes.len() - fill) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(read(&bytes, Seed::new(&STORE, 7)), None);
        }
    }
}
