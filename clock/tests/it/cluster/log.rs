//! A node's log, with the stamp that each entry will have once it is applied.

use std::collections::VecDeque;

use clock::{Hlc, Reading, Stamp};

/// What the audit knows of a stamp's making.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mint {
    pub(crate) by: usize,
    pub(crate) true_ns: u64,
    pub(crate) reading: Reading,
    /// Whether the clock kept its promise then.
    pub(crate) honest: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Proposed {
    pub(crate) stamp: Stamp,
    pub(crate) count: u32,
    pub(crate) mint: Mint,
}

/// An entry; without records it is a new primary's blank one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Entry {
    pub(crate) term: u64,
    pub(crate) proposed: Option<Proposed>,
}

/// A place in the log: what a snapshot stands for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Place {
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// Stamp of the last record up to here.
    pub(crate) last: Hlc,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    base: Place,
    entries: VecDeque<(Entry, Hlc)>,
    /// Index up to which the entries survive a crash.
    pub(crate) durable: u64,
}

impl Log {
    pub(crate) fn base(&self) -> Place {
        self.base
    }

    pub(crate) fn last_index(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    pub(crate) fn last_term(&self) -> u64 {
        self.entries.back().map_or(self.base.term, |(entry, _)| entry.term)
    }

    /// The stamp that the last entry will have.
    pub(crate) fn tail(&self) -> Hlc {
        self.entries.back().map_or(self.base.last, |(_, tail)| *tail)
    }

    pub(crate) fn entry(&self, index: u64) -> Option<Entry> {
        let at = usize::try_from(index.checked_sub(self.base.index + 1)?).unwrap();
        self.entries.get(at).map(|(entry, _)| *entry)
    }

    /// The term at an index; `None` if it is not in the log, or compacted away.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    pub(crate) fn from(&self, index: u64, most: usize) -> Vec<Entry> {
        (index..=self.last_index()).take(most).filter_map(|at| self.entry(at)).collect()
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        let last = self.tail();
        let tail = entry.proposed.map_or_else(
            || last.succ(),
            |proposed| {
                let base = proposed.stamp.hlc.max(last.succ());
                base.advance(u64::from(proposed.count - 1))
            },
        );
        self.entries.push_back((entry, tail));
    }

    /// Drops everything after an index.
    pub(crate) fn cut_after(&mut self, index: u64) {
        let keep = usize::try_from(index - self.base.index).unwrap();
        self.entries.truncate(keep);
        self.durable = self.durable.min(index);
    }

    /// Forgets what lies up to an index: a snapshot holds it.
    pub(crate) fn compact(&mut self, index: u64) {
        while self.base.index < index {
            let (entry, last) = self.entries.pop_front().unwrap();
            self.base = Place { index: self.base.index + 1, term: entry.term, last };
        }
    }

    /// Begins anew at a snapshot.
    pub(crate) fn reset(&mut self, base: Place) {
        self.base = base;
        self.entries.clear();
        self.durable = base.index;
    }
}
