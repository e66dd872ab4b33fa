//! Damaged state: whatever bytes a stored row holds, reads and applies return, with a result or
//! with an error, and never panic.
//!
//! Seen to fail while a flaw of the counters after an entry was asserted instead of returned.

use clock::Hlc;
use model::{Change, Machine, MemoryView, Query, Reader, Table, query};
use proptest::prelude::*;
use proto::wire::TimeMode;

use crate::arbitrary::{NAMES, apply_all, history};

/// One changed, shortened, removed or replaced row.
#[derive(Debug, Clone)]
enum Damage {
    Byte(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Gone,
    Replaced(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        index().prop_map(Damage::Cut),
        Just(Damage::Gone),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Damage::Replaced),
    ]
}

fn inflict(view: &mut MemoryView, table: Table, row: &prop::sample::Index, damage: &Damage) {
    let rows: Vec<(Vec<u8>, Vec<u8>)> =
        view.rows(table).map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    if rows.is_empty() {
        return;
    }
    let (key, mut value) = rows[row.index(rows.len())].clone();
    let value = match damage {
        Damage::Byte(..) | Damage::Cut(_) if value.is_empty() => None,
        Damage::Byte(at, byte) => {
            let at = at.index(value.len());
            value[at] = *byte;
            Some(value)
        }
        Damage::Cut(at) => {
            value.truncate(at.index(value.len()));
            Some(value)
        }
        Damage::Gone => None,
        Damage::Replaced(other) => Some(other.clone()),
    };
    view.write([Change { table, key, value }]);
}

proptest! {
    #[test]
    fn damage_never_panics(
        (before, after) in (history(), history()),
        wounds in prop::collection::vec(
            (prop::sample::select(&Table::ALL[..]), any::<prop::sample::Index>(), damage()),
            1..4,
        ),
    ) {
        let mut view = MemoryView::default();
        apply_all(&mut view, &before);
        for (table, row, damage) in &wounds {
            inflict(&mut view, *table, row, damage);
        }
        let _ = (query::clients(&view), query::stats(&view), query::slots(&view));
        for name in NAMES {
            let reader = Reader { admin: name == "admin", name: name.to_owned() };
            let from = if reader.admin { "" } else { name };
            let query = Query { from: from.to_owned(), ..Query::default() };
            let _ = query::page(&view, &reader, &query);
            let _ = query::page(&view, &reader, &Query::default());
            for mode in [TimeMode::Possible, TimeMode::Definite] {
                let since = Some(Hlc::from_ns(1_700_000_000_000_000_000));
                let _ = query::page(&view, &reader, &Query { since, mode, ..Query::default() });
            }
            let _ = (query::settings(&view), query::oldest(&view));
            let _ = query::get(&view, &reader, "a", "");
            let _ = query::cursor(&view, name, name);
        }
        if let Ok(mut machine) = Machine::new(&view) {
            for (index, batch) in (1000u64..).zip(&after) {
                if machine.apply(index, 1, batch.as_ref()).is_err() {
                    break;
                }
            }
        }
    }
}
