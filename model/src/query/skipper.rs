//! A reader's way past the blocks that hold nothing of its range of time.

use crate::query::source::Steps;
use crate::rows::blocks::{ALL, LEVELS, Level, decode};
use crate::rows::error::StateError;
use crate::rows::view::{Table, View};
use crate::rows::window::Window;

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
                    let next = level.first_of(block + 1);
                    assert!(next > seq, "a block that is passed over leads on");
                    seq = next;
                    if !steps.take() {
                        return Ok(seq);
                    }
                    continue 'blocks;
                }
            }
            return Ok(seq);
        }
        assert!(seq >= from, "a way leads forward only");
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
