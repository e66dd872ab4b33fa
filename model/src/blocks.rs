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
use clock::Stamp;
use prost::Message;

use crate::error::StateError;
use crate::keys;
use crate::machine::Machine;
use crate::source::Steps;
use crate::view::{Table, View};
use crate::window::{Span, Window};

/// How many levels there are.
pub(crate) const LEVELS: usize = 4;
/// The levels, finest first.
const ALL: [Level; LEVELS] = [Level(0), Level(1), Level(2), Level(3)];
/// Bits of a seq that lie inside a block of the finest level: 128 records.
const FINEST_BITS: u32 = 7;
/// Bits that each further level adds.
const FURTHER_BITS: u32 = 5;

/// A level of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level(u8);

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
    fn bits(self) -> u32 {
        FINEST_BITS + u32::from(self.0) * FURTHER_BITS
    }

    /// The block that holds a seq.
    fn block_of(self, seq: u64) -> u64 {
        seq >> self.bits()
    }

    /// The lowest seq of a block; there is no seq 0.
    fn first_of(self, block: u64) -> u64 {
        (block << self.bits()).max(1)
    }

    /// How many seqs a block has.
    fn len_of(self, block: u64) -> u64 {
        self.first_of(block + 1) - self.first_of(block)
    }

    /// The block that ends with a seq, if one does.
    fn ended_by(self, seq: u64) -> Option<u64> {
        let block = self.block_of(seq);
        (self.first_of(block + 1) == seq + 1).then_some(block)
    }

    fn key(self, block: u64) -> [u8; 9] {
        keys::block(self.0, block)
    }
}

impl OpenBlock {
    fn at(seq: u64) -> Self {
        Self { since: seq, span: Span::NOTHING }
    }
}

impl Machine<'_> {
    /// Begins to keep blocks with the next record, unless they are kept already.
    pub(crate) fn begin_blocks(&mut self) {
        let next = self.state.last_seq + 1;
        self.state.blocks.get_or_insert_with(|| [OpenBlock::at(next); LEVELS]);
    }

    /// Takes a new record into its blocks, and writes those that it fills.
    pub(crate) fn extend_blocks(&mut self, seq: u64, stamp: Stamp) {
        let Some(mut blocks) = self.state.blocks else { return };
        for (level, open) in ALL.into_iter().zip(&mut blocks) {
            open.span.add(stamp);
            let Some(block) = level.ended_by(seq) else { continue };
            if open.since <= level.first_of(block) {
                let Span { earliest_ns, latest_ns, unknown } = open.span;
                let row = BlockRow { earliest_ns, latest_ns, unknown };
                self.put(Table::Blocks, level.key(block), row.encode_to_vec());
            }
            *open = OpenBlock::at(seq + 1);
        }
        self.state.blocks = Some(blocks);
    }

    /// Removes the blocks whose last record is gone.
    pub(crate) fn drop_blocks(&mut self, seq: u64) -> Result<(), StateError> {
        for level in ALL {
            let Some(block) = level.ended_by(seq) else { continue };
            if self.rows.get(Table::Blocks, &level.key(block))?.is_some() {
                self.remove(Table::Blocks, level.key(block));
            }
        }
        Ok(())
    }
}

/// A reader's way over the blocks: forward only.
pub(crate) struct Skipper<'v> {
    view: &'v dyn View,
    window: Window,
    /// Per level, the block looked at last and whether it may hold something.
    known: [Option<(u64, bool)>; LEVELS],
}

impl<'v> Skipper<'v> {
    pub(crate) fn new(view: &'v dyn View, window: Window) -> Self {
        Self { view, window, known: [None; LEVELS] }
    }

    /// The lowest seq not below `from` that may belong to the window, as far as the steps lead;
    /// beyond `last` if there is none up to there.
    pub(crate) fn skip(
        &mut self,
        from: u64,
        last: u64,
        steps: &mut Steps,
    ) -> Result<u64, StateError> {
        let mut seq = from;
        'blocks: while seq <= last {
            for level in ALL.into_iter().rev() {
                let block = level.block_of(seq);
                if !self.may_hold(level, block)? {
                    seq = level.first_of(block + 1);
                    if !steps.take() {
                        return Ok(seq);
                    }
                    continue 'blocks;
                }
            }
            return Ok(seq);
        }
        Ok(seq)
    }

    fn may_hold(&mut self, level: Level, block: u64) -> Result<bool, StateError> {
        let known = self.known.get(usize::from(level.0)).copied().flatten();
        if let Some((_, may)) = known.filter(|(number, _)| *number == block) {
            return Ok(may);
        }
        let may = match self.view.get(Table::Blocks, &level.key(block))? {
            Some(row) => self.window.may_hold(&decode(row)?, level.len_of(block)),
            None => true,
        };
        if let Some(known) = self.known.get_mut(usize::from(level.0)) {
            *known = Some((block, may));
        }
        Ok(may)
    }
}

fn decode(row: Bytes) -> Result<Span, StateError> {
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
