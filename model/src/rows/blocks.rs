//! Blocks: what the bounds of many records in a row span together, so that a search by possible time
//! passes over those that cannot match, without reading them.
//!
//! Four levels, each block 32 times as long as those below it: what is read to find a place is a few
//! dozen rows of each level and one block's records, of ten million as of a billion. A block's row is
//! written when its last record is stored, and removed when that record expires. It is an index: a
//! block without a row may hold anything, and a row may cover records that are gone or deleted, whose
//! bounds were as they are.
//!
//! Blocks are kept from the moment when the cluster's settings are first set. That is an entry of the
//! log, so replicas that were upgraded at different moments write the same rows all the same, and the
//! entries of an earlier release, which had no blocks, still give the state that they gave there.

use bytes::Bytes;
use prost::Message;

use crate::rows::error::StateError;
use crate::rows::keys;
use crate::rows::view::Table;
use crate::rows::window::Span;

/// How many levels there are.
pub(crate) const LEVELS: usize = 4;
/// The levels, finest first.
pub(crate) const ALL: [Level; LEVELS] = [Level(0), Level(1), Level(2), Level(3)];
/// Bits of a seq that lie inside a block of the finest level: 128 records.
const FINEST_BITS: u32 = 7;
/// Bits that each further level adds.
const FURTHER_BITS: u32 = 5;

const _: () = assert!(ALL[LEVELS - 1].bits() < 32, "blocks are far shorter than seqs reach");

/// A level of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level(pub(crate) u8);

/// A block that is not full yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenBlock {
    /// The first seq that it counts; beyond its first seq if counting began inside it.
    pub(crate) since: u64,
    /// What the records so far span.
    pub(crate) span: Span,
}

/// The row of a full block.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct BlockRow {
    #[prost(uint64, tag = "1")]
    earliest_ns: u64,
    #[prost(uint64, tag = "2")]
    latest_ns: u64,
    #[prost(uint64, tag = "3")]
    unknown: u64,
}

impl Level {
    /// How many bits of a seq lie inside a block.
    const fn bits(self) -> u32 {
        FINEST_BITS + self.0 as u32 * FURTHER_BITS
    }

    /// The block that holds a seq.
    pub(crate) fn block_of(self, seq: u64) -> u64 {
        seq >> self.bits()
    }

    /// The lowest seq of a block; there is no seq 0.
    pub(crate) fn first_of(self, block: u64) -> u64 {
        (block << self.bits()).max(1)
    }

    /// How many seqs a block has.
    pub(crate) fn len_of(self, block: u64) -> u64 {
        self.first_of(block + 1) - self.first_of(block)
    }

    /// The block that ends with a seq, if one does.
    pub(crate) fn ended_by(self, seq: u64) -> Option<u64> {
        let block = self.block_of(seq);
        assert!(self.first_of(block + 1) > seq, "a seq lies in its block");
        (self.first_of(block + 1) == seq + 1).then_some(block)
    }

    pub(crate) fn key(self, block: u64) -> [u8; 9] {
        keys::block(self.0, block)
    }
}

impl OpenBlock {
    pub(crate) fn at(seq: u64) -> Self {
        Self { since: seq, span: Span::NOTHING }
    }
}

/// The row of a block.
pub(crate) fn encode(span: Span) -> Vec<u8> {
    let Span { earliest_ns, latest_ns, unknown } = span;
    BlockRow { earliest_ns, latest_ns, unknown }.encode_to_vec()
}

/// The span of a stored block.
pub(crate) fn decode(row: Bytes) -> Result<Span, StateError> {
    let BlockRow { earliest_ns, latest_ns, unknown } = BlockRow::decode(row)
        .map_err(|_| StateError::corrupt(Table::Blocks, "a block does not parse"))?;
    Ok(Span { earliest_ns, latest_ns, unknown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_seq_once() {
        for level in ALL {
            let len = 1u64 << level.bits();
            assert_eq!((level.first_of(0), level.len_of(0)), (1, len - 1));
            assert_eq!((level.first_of(3), level.len_of(3)), (3 * len, len));
            assert_eq!(level.ended_by(len - 1), Some(0));
            assert_eq!(level.ended_by(len), None);
            assert_eq!(level.ended_by(4 * len - 1), Some(3));
            assert_eq!(level.block_of(4 * len - 1), 3);
        }
    }
}
