//! Where a page's records come from: ascending seqs out of index rows, merged (an inbox is several
//! streams), intersected (a stream, but only from one sender), cut to what a reader may see of them (a
//! group, while a client was its member) and taken out (all but the events), without reading a record
//! that the page does not show.
//!
//! Invariant: a search takes a bounded number of steps. One that finds nothing within them says how
//! far it came, and the next page goes on from there.

use std::collections::VecDeque;

use crate::rows::error::StateError;
use crate::rows::keys;
use crate::rows::membership_spans::MembershipSpans;
use crate::rows::view::{Direction, Table, View};
use crate::rules::floors::{self, Floor};

/// Index rows fetched at a time.
const CHUNK: usize = 256;

/// A set of seqs in ascending order.
pub(crate) enum Source<'v> {
    /// Every seq but those of an index.
    AllBut(Index<'v>),
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
    /// Only what lies in these; `None` = all.
    spans: Option<MembershipSpans>,
    ahead: VecDeque<u64>,
    exhausted: bool,
}

/// What a search came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seek {
    /// The lowest seq.
    Found(u64),
    /// There is none.
    End,
    /// The steps are used up; there is none below this seq.
    Paused(u64),
}

impl Seek {
    /// What two searches came to together: a find counts only below where the other one paused.
    fn lower(self, other: Self) -> Self {
        match (self, other) {
            (Self::End, other) => other,
            (one, Self::End) => one,
            (Self::Found(a), Self::Found(b)) => Self::Found(a.min(b)),
            (Self::Paused(a), Self::Paused(b)) => Self::Paused(a.min(b)),
            (Self::Found(found), Self::Paused(at)) | (Self::Paused(at), Self::Found(found)) => {
                if found < at {
                    Self::Found(found)
                } else {
                    Self::Paused(at)
                }
            }
        }
    }
}

/// How many steps a page may still take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps(pub(crate) usize);

impl Steps {
    /// Takes one step; false if none is left.
    pub(crate) fn take(&mut self) -> bool {
        let left = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        left
    }
}

impl<'v> Source<'v> {
    /// The lowest seq that is not below `from`. Later calls must not ask for a lower one.
    pub(crate) fn seek(&mut self, from: u64, steps: &mut Steps) -> Result<Seek, StateError> {
        match self {
            Self::AllBut(index) => {
                let mut from = from;
                while index.seek(from)? == Some(from) {
                    from += 1;
                    if !steps.take() {
                        return Ok(Seek::Paused(from));
                    }
                }
                Ok(Seek::Found(from))
            }
            Self::Index(index) => Ok(index.seek(from)?.map_or(Seek::End, Seek::Found)),
            Self::Any(sources) => {
                let mut lowest = Seek::End;
                for source in sources {
                    lowest = lowest.lower(source.seek(from, steps)?);
                }
                Ok(lowest)
            }
            Self::Both(sources) => {
                let [one, other] = &mut **sources;
                let mut from = from;
                loop {
                    let a = match one.seek(from, steps)? {
                        Seek::Found(a) => a,
                        end @ (Seek::End | Seek::Paused(_)) => return Ok(end),
                    };
                    match other.seek(a, steps)? {
                        Seek::Found(b) if b == a => return Ok(Seek::Found(a)),
                        Seek::Found(b) => from = b,
                        end @ (Seek::End | Seek::Paused(_)) => return Ok(end),
                    }
                    if !steps.take() {
                        return Ok(Seek::Paused(from));
                    }
                }
            }
        }
    }
}

impl Source<'_> {
    /// The highest, not below `from`, that retention removed and that can have belonged to it. `view` is
    /// the one that it reads.
    pub(crate) fn floor(&self, view: &dyn View, from: u64) -> Result<Option<Floor>, StateError> {
        let floor = match self {
            Self::AllBut(_) => floors::of_all(view)?,
            Self::Index(index) => index.floor(from)?,
            Self::Any(sources) => {
                let mut highest = None;
                for source in sources {
                    highest = highest.max(source.floor(view, from)?);
                }
                highest
            }
            // Whatever was in both lies no higher than either.
            Self::Both(sources) => {
                let [one, other] = &**sources;
                one.floor(view, from)?.min(other.floor(view, from)?)
            }
        };
        Ok(floor.filter(|floor| floor.seq >= from))
    }
}

impl<'v> Index<'v> {
    /// See [`Source::floor`]; of what its reader may see.
    fn floor(&self, from: u64) -> Result<Option<Floor>, StateError> {
        let Some(highest) = floors::of_index(self.view, self.table, &self.text)? else {
            return Ok(None);
        };
        let Some(spans) = &self.spans else { return Ok(Some(highest)) };
        let (mut at, mut seq) = (from, None);
        while let Some((first, end)) = spans.next(at).filter(|(first, _)| *first <= highest.seq) {
            let last = end.map_or(highest.seq, |end| highest.seq.min(end.saturating_sub(1)));
            seq = Some(last).filter(|last| *last >= first).max(seq);
            match end {
                Some(end) if end > at => at = end,
                Some(_) | None => break,
            }
        }
        assert!(seq <= Some(highest.seq), "a reader misses no more than is gone");
        Ok(seq.map(|seq| Floor { seq, ..highest }))
    }

    pub(crate) fn new(view: &'v dyn View, table: Table, text: String) -> Self {
        Self { view, table, text, spans: None, ahead: VecDeque::new(), exhausted: false }
    }

    /// The same, cut to the spans of a member.
    pub(crate) fn within(self, spans: MembershipSpans) -> Self {
        Self { spans: Some(spans), ..self }
    }

    fn seek(&mut self, from: u64) -> Result<Option<u64>, StateError> {
        if self.spans.is_none() {
            return self.next(from);
        }
        let mut from = from;
        // One turn per span at most, and there are few.
        while let Some((first, end)) = self.spans.as_ref().and_then(|spans| spans.next(from)) {
            match self.next(first)? {
                Some(seq) if end.is_none_or(|end| seq < end) => return Ok(Some(seq)),
                Some(seq) => from = seq,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    fn next(&mut self, from: u64) -> Result<Option<u64>, StateError> {
        while self.ahead.front().is_some_and(|&seq| seq < from) {
            self.ahead.pop_front();
        }
        if self.ahead.is_empty() && !self.exhausted {
            let (first, end) = (keys::indexed(&self.text, from), keys::after(&self.text));
            let rows = self.view.scan(self.table, &first, &end, Direction::Forward, CHUNK)?;
            assert!(rows.len() <= CHUNK, "a view gives no more than was asked for");
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
    use crate::rows::view::{Change, MemoryView};

    /// Everything below `end`, with so few steps at a time that searches pause.
    fn all(mut source: Source<'_>, from: u64, end: u64, steps: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        let mut next = from;
        while next < end {
            match source.seek(next, &mut Steps(steps)).unwrap() {
                Seek::Found(seq) if seq >= end => break,
                Seek::Found(seq) => {
                    seqs.push(seq);
                    next = seq + 1;
                }
                Seek::Paused(seq) => {
                    assert!(seq > next, "a pause leads on");
                    next = seq;
                }
                Seek::End => break,
            }
        }
        seqs
    }

    proptest! {
        /// Sources over many chunks are set operations.
        ///
        /// Seen to fail with `exhausted` set at a full chunk, with `Both` going on from `b + 1`, with
        /// `Any` returning the highest, and with `AllBut` pausing one further.
        #[test]
        fn sources_are_set_operations(
            sets in prop::array::uniform3(prop::collection::btree_set(1u64..3000, 0..900)),
            from in 1u64..3000,
            steps in prop_oneof![0usize..5, Just(9999)],
        ) {
            let mut view = MemoryView::default();
            for (text, set) in ["a", "b", "c"].into_iter().zip(&sets) {
                view.write(set.iter().map(|&seq| Change {
                    table: Table::Streams,
                    key: keys::indexed(text, seq),
                    value: Some(Vec::new()),
                }));
            }
            let index = |text: &str| Index::new(&view, Table::Streams, text.to_owned());
            let union: BTreeSet<u64> = sets[0].union(&sets[1]).copied().collect();
            let both = union.intersection(&sets[2]).copied();
            let any = || Source::Any(["a", "b"].map(|text| Source::Index(index(text))).into());
            let found =
                all(Source::Both(Box::new([any(), Source::Index(index("c"))])), from, 3000, steps);
            prop_assert_eq!(found, both.filter(|&seq| seq >= from).collect::<Vec<_>>());
            let rest = (from..3000).filter(|seq| !sets[0].contains(seq)).collect::<Vec<_>>();
            prop_assert_eq!(all(Source::AllBut(index("a")), from, 3000, steps), rest);
            prop_assert_eq!(
                all(any(), from, 3000, steps),
                union.into_iter().filter(|&seq| seq >= from).collect::<Vec<_>>()
            );
        }
    }
}
