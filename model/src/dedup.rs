//! Once: a (sender, id) is remembered for a window of log time, with the ack it got. Whether a row
//! is still inside the window is decided by stamps alone, so a row that is due but not yet removed
//! already counts as gone.

use clock::Hlc;
use proto::limits::DEDUP_WINDOW_NS;

use crate::error::StateError;
use crate::keys;
use crate::machine::Machine;
use crate::rows::DedupRow;
use crate::view::{Direction, Table, View};

/// Whether an entry made at `then` is forgotten at `now`.
fn is_over(then: Hlc, now: Hlc) -> bool {
    then.ns.saturating_add(DEDUP_WINDOW_NS) <= now.ns
}

/// What is remembered of a (sender, id).
pub(crate) enum Remembered {
    /// It was never used, or is forgotten.
    Nothing,
    /// It is due to be forgotten; its place in the queue must go before the key is written anew.
    Over(Hlc),
    /// Its first ack.
    First(DedupRow),
}

impl Remembered {
    /// The same as if it were due to be forgotten.
    pub(crate) fn forgotten(self) -> Result<Self, StateError> {
        match self {
            Self::First(row) => row.hlc().map(Self::Over),
            other => Ok(other),
        }
    }
}

impl Machine<'_> {
    /// What is remembered of a dedup key.
    pub(crate) fn first_ack(&self, key: &[u8]) -> Result<Remembered, StateError> {
        let Some(row) = self.rows.get(Table::Dedup, key)? else { return Ok(Remembered::Nothing) };
        let row = DedupRow::decode(row)?;
        let hlc = row.hlc()?;
        let over = is_over(hlc, self.state.last);
        Ok(if over { Remembered::Over(hlc) } else { Remembered::First(row) })
    }

    /// Forgets the oldest entries that are over, at most `most`.
    pub(crate) fn retire_dedup(&mut self, most: usize) -> Result<(), StateError> {
        let now = self.state.last;
        if !is_over(Hlc::from_ns(self.state.dedup_floor_ns), now) {
            return Ok(());
        }
        let from = keys::age(Hlc::from_ns(self.state.dedup_floor_ns));
        let queue =
            self.rows.scan(Table::DedupAge, &from, keys::END, Direction::Forward, most + 1)?;
        let mut floor = now;
        for (i, (age, key)) in queue.into_iter().enumerate() {
            let hlc = Hlc::from_slice(&age)
                .ok_or_else(|| StateError::corrupt(Table::DedupAge, "a key has no 12 bytes"))?;
            if i == most || !is_over(hlc, now) {
                floor = hlc;
                break;
            }
            self.remove(Table::DedupAge, age);
            self.remove(Table::Dedup, key);
        }
        assert!(floor.ns >= self.state.dedup_floor_ns, "what was forgotten stays forgotten");
        self.state.dedup_floor_ns = floor.ns;
        Ok(())
    }
}
