//! Where the entries of a shard lie.

use std::collections::VecDeque;

/// Where an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// Life of the segment.
    pub(crate) life: u64,
    pub(crate) offset: u32,
    /// Bytes of the record.
    pub(crate) length: u32,
    pub(crate) term: u64,
}

impl Location {
    /// The byte behind the record.
    pub(crate) fn end(&self) -> u32 {
        self.offset.saturating_add(self.length)
    }
}

/// The locations of consecutive entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Index {
    first: u64,
    entries: VecDeque<Location>,
}

impl Index {
    /// An index whose next entry is `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self { first, entries: VecDeque::new() }
    }

    /// The first entry, if there is one.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// One past the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Location> {
        let at = index.checked_sub(self.first)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    pub(crate) fn push(&mut self, index: u64, location: Location) {
        assert_eq!(index, self.end(), "the index of a log has no hole");
        self.entries.push_back(location);
    }

    /// Forgets the entries from `end` on. Below the first one the index begins there anew.
    pub(crate) fn truncate(&mut self, end: u64) {
        let keep = end.saturating_sub(self.first);
        self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        self.first = self.first.min(end);
        assert!(self.end() <= end.max(self.first), "nothing stays behind a truncation");
    }

    /// Forgets the entries before `first`.
    pub(crate) fn purge(&mut self, first: u64) {
        let gone = first.saturating_sub(self.first);
        let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.drain(..gone);
        self.first = self.first.max(first);
    }
}
