//! Where a page's records come from: ascending seqs out of index rows, merged (an inbox is several
//! streams) and intersected (a stream, but only from one sender), without reading a record that
//! the page does not show.

use std::collections::VecDeque;

use crate::error::StateError;
use crate::keys;
use crate::view::{Direction, Table, View};

/// Index rows fetched at a time.
const CHUNK: usize = 256;

/// A set of seqs in ascending order.
pub(crate) enum Source<'v> {
    /// Every seq.
    All,
    /// The rows of one text in an index table.
    Index(Index<'v>),
    /// What is in any of them.
    Any(Vec<Self>),
    /// What is in both.
    Both(Box<[Self; 2]>),
}

/// Rows of `Streams` or `Senders`, read ahead in chunks.
pub(crate) struct Index<'v> {
    view: &'v dyn View,
    table: Table,
    text: String,
    ahead: VecDeque<u64>,
    exhausted: bool,
}

impl<'v> Source<'v> {
    pub(crate) fn index(view: &'v dyn View, table: Table, text: String) -> Self {
        Self::Index(Index { view, table, text, ahead: VecDeque::new(), exhausted: false })
    }

    /// The lowest seq that is not below `from`. Later calls must not ask for a lower one.
    pub(crate) fn seek(&mut self, from: u64) -> Result<Option<u64>, StateError> {
        match self {
            Self::All => Ok(Some(from)),
            Self::Index(index) => index.seek(from),
            Self::Any(sources) => {
                let mut lowest = None;
                for source in sources {
                    let seq = source.seek(from)?;
                    lowest = lowest.into_iter().chain(seq).min();
                }
                Ok(lowest)
            }
            Self::Both(sources) => {
                let [one, other] = &mut **sources;
                let mut from = from;
                loop {
                    let Some(a) = one.seek(from)? else { return Ok(None) };
                    let Some(b) = other.seek(a)? else { return Ok(None) };
                    if a == b {
                        return Ok(Some(a));
                    }
                    from = b;
                }
            }
        }
    }
}

impl Index<'_> {
    fn seek(&mut self, from: u64) -> Result<Option<u64>, StateError> {
        while self.ahead.front().is_some_and(|&seq| seq < from) {
            self.ahead.pop_front();
        }
        if self.ahead.is_empty() && !self.exhausted {
            let (first, end) = (keys::indexed(&self.text, from), keys::after(&self.text));
            let rows = self.view.scan(self.table, &first, &end, Direction::Forward, CHUNK)?;
            self.exhausted = rows.len() < CHUNK;
            for (key, _) in rows {
                let seq = keys::seq_of(&key)
                    .ok_or_else(|| StateError::corrupt(self.table, "a key has no seq"))?;
                self.ahead.push_back(seq);
            }
        }
        Ok(self.ahead.front().copied())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::view::{Change, MemoryView};

    fn all(mut source: Source<'_>, from: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        let mut next = from;
        while let Some(seq) = source.seek(next).unwrap() {
            seqs.push(seq);
            next = seq + 1;
        }
        seqs
    }

    proptest! {
        /// Sources over many chunks are set operations.
        ///
        /// Seen to fail with `exhausted` set at a full chunk, with `Both` going on from `b + 1`,
        /// and with `Any` returning the highest.
        #[test]
        fn sources_are_set_operations(
            sets in prop::array::uniform3(prop::collection::btree_set(1u64..3000, 0..900)),
            from in 1u64..3000,
        ) {
            let mut view = MemoryView::default();
            for (text, set) in ["a", "b", "c"].into_iter().zip(&sets) {
                view.write(set.iter().map(|&seq| Change {
                    table: Table::Streams,
                    key: keys::indexed(text, seq),
                    value: Some(Vec::new()),
                }));
            }
            let index = |text: &str| Source::index(&view, Table::Streams, text.to_owned());
            let union: BTreeSet<u64> = sets[0].union(&sets[1]).copied().collect();
            let both = union.intersection(&sets[2]).copied();
            let any = Source::Any(vec![index("a"), index("b")]);
            let found = all(Source::Both(Box::new([any, index("c")])), from);
            prop_assert_eq!(found, both.filter(|&seq| seq >= from).collect::<Vec<_>>());
            prop_assert_eq!(
                all(Source::Any(vec![index("a"), index("b")]), from),
                union.into_iter().filter(|&seq| seq >= from).collect::<Vec<_>>()
            );
        }
    }
}
