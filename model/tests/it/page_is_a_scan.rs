//! I7: pages, read one after the other, are what a linear scan over all records gives, filtered.
//!
//! Seen to fail with `seq_at` searching `<=`, with `Source::Both` seeking from `b + 1`, and with
//! `Source::Any` returning the highest.

use clock::Hlc;
use model::{MemoryView, Query, QueryError, Reader, query};
use proptest::prelude::*;
use proto::wire::TimeMode;
use proto::{ErrorCode, Record};

use crate::arbitrary::{NAMES, apply_all, every, history};

fn filters() -> impl Strategy<Value = (String, String, String)> {
    let name = || prop::sample::select(&NAMES[..]).prop_map(str::to_owned);
    let from = prop_oneof![4 => Just(String::new()), 4 => name(), 1 => Just("n1".to_owned())];
    let shared = prop::sample::select(&["*", "$events"][..]).prop_map(str::to_owned);
    let to = prop_oneof![2 => Just(String::new()), 2 => name(), 1 => shared];
    (name(), from, to)
}

/// What the rules of `query` say, record by record.
fn shown(reader: &Reader, query: &Query, record: &Record) -> bool {
    let hlc = record.hlc().unwrap();
    let inbox = record.to == reader.name || record.to == "*";
    let sent = query.from == reader.name;
    // Events are shown to all who ask for them, and to nobody else.
    let event = record.to == "$events";
    (if event { query.to == record.to } else { reader.admin || inbox || sent })
        && (query.from.is_empty() || query.from == record.from)
        && (query.to.is_empty() || query.to == record.to)
        && query.since.is_none_or(|since| hlc >= since)
        && query.until.is_none_or(|until| hlc < until)
        && record.seq > query.after
}

proptest! {
    #[test]
    fn pages_are_a_scan(
        history in history(),
        (name, from, to) in filters(),
        ends in prop::array::uniform2(prop::option::of((0usize..60, -1i64..2))),
        after in 0u64..20,
        limit in 1usize..7,
    ) {
        let mut view = MemoryView::default();
        apply_all(&mut view, &history);
        let all = every(&view);

        // Instants at, just before and just after records are where a search goes wrong.
        let instant = |end: Option<(usize, i64)>| {
            let (at, step) = end?;
            let hlc = all.get(at % all.len().max(1))?.hlc().unwrap();
            Some(match step {
                -1 => Hlc { logical: hlc.logical.saturating_sub(1), ..hlc },
                1 => hlc.succ(),
                _ => hlc,
            })
        };
        let (since, until) = (instant(ends[0]), instant(ends[1]));
        let reader = Reader { admin: name == "admin", name };
        let mode = TimeMode::Nominal;
        let mut query = Query { since, until, mode, from, to, with: String::new(), after, resumes: false, limit };
        let foreign = !reader.admin && query.from != reader.name
            && !["", "*", "$events", &reader.name].contains(&&query.to[..]);
        let backward = matches!((since, until), (Some(since), Some(until)) if until < since);

        let expected: Vec<Record> =
            all.into_iter().filter(|record| shown(&reader, &query, record)).collect();
        let mut found = Vec::new();
        loop {
            let page = match query::page(&view, &reader, &query) {
                Ok(page) => page,
                Err(QueryError::Refused(failure)) => {
                    let code = failure.error_code();
                    prop_assert!(foreign && code == ErrorCode::Denied
                        || backward && code == ErrorCode::Invalid);
                    return Ok(());
                }
                Err(error) => panic!("{error}"),
            };
            prop_assert!(!foreign && !backward);
            prop_assert!(page.records.len() <= limit && page.next >= query.after);
            prop_assert!(page.end || page.records.len() == limit);
            found.extend(page.records);
            query.after = page.next;
            if page.end {
                break;
            }
        }
        prop_assert_eq!(found, expected);
        prop_assert!(query::page(&view, &reader, &query).unwrap().records.is_empty());
    }
}
