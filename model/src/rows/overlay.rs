//! Changes that are not stored yet, in front of a view: a command sees what earlier commands of
//! the same machine did.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;

use crate::rows::view::{Change, Direction, Row, Table, View, ViewError};

type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

pub(crate) struct Overlay<'v> {
    view: &'v dyn View,
    /// By number of the table, from 1.
    changes: [Rows; Table::ALL.len()],
    /// How many rows were set.
    count: usize,
}

impl<'v> Overlay<'v> {
    pub(crate) fn new(view: &'v dyn View) -> Self {
        Self { view, changes: Default::default(), count: 0 }
    }

    /// Writes a row, or removes it where `value` is `None`.
    pub(crate) fn set(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        if let Some(rows) = self.changes.get_mut(usize::from(table.number() - 1)) {
            rows.insert(key, value);
            self.count += 1;
        }
    }

    /// All changes, by table and key.
    pub(crate) fn into_changes(self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(self.count);
        for (table, rows) in Table::ALL.into_iter().zip(self.changes) {
            changes.extend(rows.into_iter().map(|(key, value)| Change { table, key, value }));
        }
        changes
    }

    fn changed(&self, table: Table) -> Option<&Rows> {
        self.changes.get(usize::from(table.number() - 1))
    }
}

impl View for Overlay<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        match self.changed(table).and_then(|rows| rows.get(key)) {
            Some(Some(value)) => Ok(Some(Bytes::copy_from_slice(value))),
            Some(None) => Ok(None),
            None => self.view.get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let rows = self.changed(table);
        let range = rows
            .map(|rows| rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))))
            .into_iter()
            .flatten();
        match direction {
            Direction::Forward => self.merge(table, (from, to), direction, limit, range.peekable()),
            Direction::Backward => {
                self.merge(table, (from, to), direction, limit, range.rev().peekable())
            }
        }
    }
}

impl Overlay<'_> {
    /// Merges stored rows, fetched in chunks, with changed ones; a changed row hides a stored one.
    fn merge<'r>(
        &self,
        table: Table,
        (from, to): (&[u8], &[u8]),
        direction: Direction,
        limit: usize,
        mut changed: Peekable<impl Iterator<Item = (&'r Vec<u8>, &'r Option<Vec<u8>>)>>,
    ) -> Result<Vec<Row>, ViewError> {
        let (mut from, mut to) = (from.to_vec(), to.to_vec());
        let mut out = Vec::new();
        while out.len() < limit {
            let wanted = limit - out.len();
            let stored = self.view.scan(table, &from, &to, direction, wanted)?;
            let last_chunk = stored.len() < wanted;
            assert!(stored.len() <= wanted, "a view gives no more than was asked for");
            for (key, value) in stored {
                let mut hidden = false;
                while let Some((changed_key, new)) =
                    changed.next_if(|(other, _)| order(direction, other, &key).is_le())
                {
                    hidden = *changed_key == key;
                    out.extend(new.clone().map(|new| (changed_key.clone(), new)));
                }
                match direction {
                    Direction::Forward => from = [&key[..], &[0]].concat(),
                    Direction::Backward => to.clone_from(&key),
                }
                if !hidden {
                    out.push((key, value));
                }
            }
            if last_chunk {
                let rest = changed.filter_map(|(key, new)| Some((key.clone(), new.clone()?)));
                let room = limit.saturating_sub(out.len());
                out.extend(rest.take(room));
                break;
            }
        }
        out.truncate(limit);
        debug_assert!(
            out.is_sorted_by(|one, next| order(direction, &one.0, &next.0).is_lt()),
            "rows come in order, each once"
        );
        Ok(out)
    }
}

fn order(direction: Direction, a: &[u8], b: &[u8]) -> Ordering {
    match direction {
        Direction::Forward => a.cmp(b),
        Direction::Backward => b.cmp(a),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rows::view::MemoryView;

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let key = prop::collection::vec(0u8..4, 0..3);
        let row = (key, prop::option::weighted(0.6, prop::collection::vec(any::<u8>(), 0..3)));
        let change = |(key, value)| Change { table: Table::Ids, key, value };
        prop::collection::vec(row.prop_map(change), 0..30)
    }

    proptest! {
        /// An overlay shows what its view would show with the changes written.
        ///
        /// Seen to fail with `hidden` never set, and with `to.clone_from` left out.
        #[test]
        fn an_overlay_shows_what_writing_would(
            stored in changes(),
            changed in changes(),
            from in prop::collection::vec(0u8..4, 0..3),
            to in prop::collection::vec(0u8..5, 0..3),
            limit in 0usize..9,
        ) {
            let mut view = MemoryView::default();
            view.write(stored);
            let mut overlay = Overlay::new(&view);
            for Change { table, key, value } in changed.clone() {
                overlay.set(table, key, value);
            }
            let mut written = view.clone();
            written.write(changed);
            for direction in [Direction::Forward, Direction::Backward] {
                prop_assert_eq!(
                    overlay.scan(Table::Ids, &from, &to, direction, limit).unwrap(),
                    written.scan(Table::Ids, &from, &to, direction, limit).unwrap()
                );
            }
            prop_assert_eq!(
                overlay.get(Table::Ids, &from).unwrap(),
                written.get(Table::Ids, &from).unwrap()
            );
            let mut flushed = view.clone();
            flushed.write(overlay.into_changes());
            prop_assert_eq!(flushed, written);
        }
    }
}
