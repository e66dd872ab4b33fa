//! Keeping the blocks of `blocks`: a row for every one that is full, none for one that has expired.

use clock::Stamp;

use crate::rows::blocks::{ALL, LEVELS, OpenBlock, encode};
use crate::rows::error::StateError;
use crate::rows::view::{Table, View};
use crate::rules::machine::Machine;

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
            assert!(open.since <= seq, "a block is open from a record on that is there");
            open.span.add(stamp);
            let Some(block) = level.ended_by(seq) else { continue };
            if open.since <= level.first_of(block) {
                self.put(Table::Blocks, level.key(block), encode(open.span));
            }
            *open = OpenBlock::at(seq + 1);
        }
        let starts = |open: &OpenBlock| open.since <= seq + 1;
        assert!(blocks.iter().all(starts), "no block begins beyond the next record");
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
