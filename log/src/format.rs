//! What the log holds, and how it lies in bytes: places, votes, marks. All numbers big-endian.

use bytes::Bytes;
use proto::chain::{CHAIN_START, ChainHash, chain};

/// Version of the disk format that this release writes and reads.
pub const FORMAT: u32 = 1;

/// Whose log it is: 16 bytes, drawn when the store was made.
pub type StoreId = [u8; 16];

/// An entry; what its payload means is the engine's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Index.
    pub index: u64,
    /// Term.
    pub term: u64,
    /// Payload.
    pub payload: Bytes,
}

/// A place in the log of a shard, with the chain hash there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index.
    pub index: u64,
    /// Term.
    pub term: u64,
    /// Chain hash.
    pub hash: ChainHash,
}

impl Place {
    /// The place of an entry that follows `last`, which is `None` at the log's beginning.
    #[must_use]
    pub fn after(last: Option<&Self>, entry: &Entry) -> Self {
        let Entry { index, term, ref payload } = *entry;
        let previous = last.map_or(&CHAIN_START, |last| &last.hash);
        Self { index, term, hash: chain(previous, index, term, payload) }
    }
}

/// A vote of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// Term.
    pub term: u64,
    /// Raft id of the node voted for.
    pub node: u64,
    /// Whether a majority granted it.
    pub committed: bool,
}

impl Vote {
    /// Votes never go back in this.
    #[must_use]
    pub fn order(&self) -> (u64, bool) {
        (self.term, self.committed)
    }
}

/// What the log of one shard comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardMark {
    /// The shard.
    pub shard: u16,
    /// Entries up to and with this one are purged.
    pub floor: Option<Place>,
    /// The last entry, or the floor if nothing lies above it.
    pub last: Option<Place>,
    /// The vote.
    pub vote: Option<Vote>,
}

/// What was durable once: all of the log up to and with a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    /// Number of the group. Later groups have higher numbers, with gaps.
    pub group: u64,
    /// What the log came to with it, by shard.
    pub shards: Vec<ShardMark>,
}

impl Mark {
    /// What it says of a shard.
    #[must_use]
    pub fn shard(&self, shard: u16) -> Option<&ShardMark> {
        self.shards.iter().find(|mark| mark.shard == shard)
    }

    /// As bytes, to be kept elsewhere.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 160 * self.shards.len());
        out.extend_from_slice(&self.group.to_be_bytes());
        put_shards(&mut out, &self.shards);
        out
    }

    /// The mark in these bytes; `None` if they are something else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let mark = Self { group: reader.u64()?, shards: reader.shards()? };
        reader.end().then_some(mark)
    }
}

/// A place on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Which segment, by the number of its life.
    pub life: u64,
    /// Byte in it.
    pub offset: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "byte {} of segment {}", self.offset, self.life)
    }
}

/// What a record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    Entry {
        place: Place,
        payload: &'a [u8],
    },
    Vote(Vote),
    /// The entries behind this one are cut off; all, if it is `None`.
    Truncation(Option<Place>),
    /// The entries up to and with this one are purged.
    Floor(Place),
    Mark(GroupMark),
}

/// The first record of every group: what was durable when the group was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupMark {
    /// Number of the group before.
    pub(crate) previous: u64,
    /// Where what was durable ends.
    pub(crate) end: Position,
    /// The shards that the group before changed; all of them in a full mark.
    pub(crate) shards: Vec<ShardMark>,
}

impl GroupMark {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.previous.to_be_bytes());
        out.extend_from_slice(&self.end.life.to_be_bytes());
        out.extend_from_slice(&self.end.offset.to_be_bytes());
        put_shards(out, &self.shards);
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let previous = reader.u64()?;
        let end = Position { life: reader.u64()?, offset: reader.u64()? };
        let mark = Self { previous, end, shards: reader.shards()? };
        reader.end().then_some(mark)
    }
}

pub(crate) fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.extend_from_slice(&vote.term.to_be_bytes());
    out.extend_from_slice(&vote.node.to_be_bytes());
    out.push(u8::from(vote.committed));
}

fn put_place(out: &mut Vec<u8>, place: Option<&Place>) {
    out.push(u8::from(place.is_some()));
    if let Some(place) = place {
        out.extend_from_slice(&place.index.to_be_bytes());
        out.extend_from_slice(&place.term.to_be_bytes());
        out.extend_from_slice(&place.hash);
    }
}

fn put_shards(out: &mut Vec<u8>, shards: &[ShardMark]) {
    let count = u32::try_from(shards.len()).unwrap_or(u32::MAX);
    assert_eq!(count as usize, shards.len(), "more shards than their numbers allow");
    out.extend_from_slice(&count.to_be_bytes());
    for mark in shards {
        out.extend_from_slice(&mark.shard.to_be_bytes());
        put_place(out, mark.floor.as_ref());
        put_place(out, mark.last.as_ref());
        out.push(u8::from(mark.vote.is_some()));
        if let Some(vote) = &mark.vote {
            put_vote(out, vote);
        }
    }
}

/// Takes values off the front of bytes; `None` where they are not there.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (found, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(found)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.bytes().map(|[byte]| *byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.bytes().map(|bytes| u16::from_be_bytes(*bytes))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.bytes().map(|bytes| u32::from_be_bytes(*bytes))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.bytes().map(|bytes| u64::from_be_bytes(*bytes))
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn vote(&mut self) -> Option<Vote> {
        Some(Vote { term: self.u64()?, node: self.u64()?, committed: self.flag()? })
    }

    fn place(&mut self) -> Option<Option<Place>> {
        if !self.flag()? {
            return Some(None);
        }
        Some(Some(Place { index: self.u64()?, term: self.u64()?, hash: *self.bytes()? }))
    }

    fn shards(&mut self) -> Option<Vec<ShardMark>> {
        let count = self.u32()?;
        // Memory is taken for what is there, not for what is announced.
        let mut shards = Vec::new();
        for _ in 0..count {
            let shard = self.u16()?;
            let (floor, last) = (self.place()?, self.place()?);
            let vote = if self.flag()? { Some(self.vote()?) } else { None };
            shards.push(ShardMark { shard, floor, last, vote });
        }
        Some(shards)
    }

    pub(crate) fn end(&self) -> bool {
        self.0.is_empty()
    }
}
