//! The newest entries of a shard's log, in memory: those that are not yet both durable and
//! applied. The engine reads an entry back right after handing it over, so they must be readable
//! before any disk has them.
//!
//! Invariant: the entries are consecutive and end at the log's end. Whatever lies before them is
//! durable in the database.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};

use super::format::LogEntry;

/// The tail of one shard's log.
#[derive(Debug, Default)]
pub struct Tail {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<u64, LogEntry>,
    /// First index that the log holds, if it is not empty.
    first: u64,
    /// One past the last index.
    end: u64,
    durable: u64,
    applied: u64,
    /// Grows with every truncation, so that a late word of what was cut off is recognised.
    epoch: u64,
}

impl Tail {
    /// A tail of a log that holds `first..end` in the database.
    #[must_use]
    pub fn new(first: u64, end: u64) -> Self {
        let state = State { first, end, durable: end, ..State::default() };
        Self { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while holding this lock cannot leave it half-changed: every change is one step.
        self.state.lock()
    }

    /// The range of indexes that the log holds, `first..end`.
    #[must_use]
    pub fn range(&self) -> (u64, u64) {
        let state = self.lock();
        (state.first, state.end)
    }

    /// Adds entries at the end. Returns the epoch that [`Tail::set_durable`] wants to hear.
    pub fn append(&self, entries: &[LogEntry]) -> u64 {
        let mut state = self.lock();
        for entry in entries {
            assert!(
                entry.index == state.end || state.entries.is_empty() && state.first == state.end,
                "a hole in the log: {} after {}",
                entry.index,
                state.end
            );
            if state.first == state.end {
                state.first = entry.index;
            }
            state.end = entry.index + 1;
            state.entries.insert(entry.index, entry.clone());
        }
        state.epoch
    }

    /// Removes the entries from `end` on; what the database still holds of them is hidden.
    pub fn truncate(&self, end: u64) {
        let mut state = self.lock();
        drop(state.entries.split_off(&end));
        state.end = state.end.min(end);
        state.durable = state.durable.min(end);
        state.first = state.first.min(end);
        state.epoch += 1;
    }

    /// Removes the entries before `first`.
    pub fn purge(&self, first: u64) {
        let mut state = self.lock();
        state.entries = state.entries.split_off(&first);
        state.first = state.first.max(first);
        state.end = state.end.max(first);
        state.durable = state.durable.max(first);
    }

    /// Notes that entries before `durable` are durable and lets go of what is also applied. An
    /// epoch that is over speaks of entries that were cut off, and is ignored.
    pub fn set_durable(&self, durable: u64, epoch: u64) {
        let mut state = self.lock();
        if epoch != state.epoch {
            return;
        }
        state.durable = state.durable.max(durable.min(state.end));
        state.release();
    }

    /// Notes that entries before `applied` are applied and lets go of what is also durable.
    pub fn set_applied(&self, applied: u64) {
        let mut state = self.lock();
        state.applied = state.applied.max(applied);
        state.release();
    }

    /// One past the last entry that is applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.lock().applied
    }

    /// The entries of `from..to` that lie in memory, and the index up to which the database has to
    /// be read for those that do not: `(db_end, entries)`.
    #[must_use]
    pub fn read(&self, from: u64, to: u64) -> (u64, Vec<LogEntry>) {
        let state = self.lock();
        let from = from.max(state.first);
        let to = to.min(state.end);
        if from >= to {
            return (from, Vec::new());
        }
        let found: Vec<_> = state.entries.range(from..to).map(|(_, entry)| entry.clone()).collect();
        (found.first().map_or(to, |entry| entry.index), found)
    }

    /// Bytes held in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().entries.values().map(|entry| entry.payload.len()).sum()
    }
}

impl State {
    fn release(&mut self) {
        let keep_from = self.durable.min(self.applied);
        while let Some(entry) = self.entries.first_entry() {
            if *entry.key() >= keep_from {
                break;
            }
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: std::ops::Range<u64>) -> Vec<LogEntry> {
        range.map(|index| LogEntry { index, term: 1, payload: vec![0; 8].into() }).collect()
    }

    #[test]
    fn entries_stay_until_durable_and_applied() {
        let tail = Tail::new(0, 0);
        tail.append(&entries(0..10));
        tail.set_durable(8, 0);
        assert_eq!(tail.read(0, 100).0, 0);
        tail.set_applied(5);
        let (db_end, found) = tail.read(0, 100);
        assert_eq!((db_end, found.len()), (5, 5));
        tail.set_applied(10);
        assert_eq!(tail.read(0, 100).0, 8, "9 is applied but not durable");
    }

    #[test]
    fn a_truncated_entry_is_gone_at_once() {
        let tail = Tail::new(0, 10);
        tail.truncate(4);
        assert_eq!(tail.range(), (0, 4));
        assert_eq!(tail.read(0, 100), (4, vec![]));
        tail.append(&entries(4..6));
        let (db_end, found) = tail.read(2, 100);
        assert_eq!((db_end, found.len()), (4, 2));
    }

    #[test]
    fn a_late_word_of_cut_off_entries_releases_nothing() {
        let tail = Tail::new(0, 0);
        let old = tail.append(&entries(0..10));
        tail.truncate(5);
        let new = tail.append(&entries(5..8));
        tail.set_applied(8);
        tail.set_durable(10, old);
        assert_eq!(tail.read(0, 100).0, 0, "5 to 7 are in memory only");
        tail.set_durable(8, new);
        assert_eq!(tail.read(0, 100).0, 8);
    }

    #[test]
    fn a_purge_beyond_the_end_leaves_an_empty_log_there() {
        let tail = Tail::new(0, 3);
        tail.purge(10);
        assert_eq!(tail.range(), (10, 10));
        tail.append(&entries(10..11));
        assert_eq!(tail.range(), (10, 11));
    }

    #[test]
    #[should_panic(expected = "a hole in the log")]
    fn a_hole_is_refused() {
        let tail = Tail::new(0, 3);
        tail.append(&entries(5..6));
    }
}
