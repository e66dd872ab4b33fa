//! The dictionary is a map with one version: every change that is not refused takes the next one, a
//! change that expects another version changes nothing, and a retry gets the first answer whatever
//! happened in between. Lists, page after page, are what a map gives. A key belongs to who made it:
//! nobody but its owner and admins changes it or says with whom it is shared, everybody else only
//! where it is shared with them.
//!
//! Seen to fail with `expected` comparing `<=`, with `again` answering from the row as it is now, with
//! a deletion that keeps the version, with `kv_list` going on at the last key itself, without
//! `require_right`, and with a group to share with that is looked at after the version.

use std::collections::BTreeMap;

use clock::{Hlc, Stamp};
use model::{Batch, Command, CommandOp, Machine, MemoryView, Outcome, query};
use proptest::prelude::*;
use proto::ErrorCode;
use proto::group::{GroupChange, GroupMembers, GroupName, GroupOp};
use proto::kv::{KvRow, KvRows, SHARED};
use proto::wire::KvChange;

use crate::arbitrary::{NAMES, caller};

fn change() -> impl Strategy<Value = (&'static str, KvChange)> {
    let key = prop::sample::select(&["a", "a/b", "a/c", "b", "ä"][..]).prop_map(str::to_owned);
    let value = prop::option::weighted(0.7, prop::sample::select(&["", "x", "y"][..]));
    let expect = prop::option::weighted(0.4, 0u64..12);
    let shared = prop::option::weighted(0.3, prop::sample::select(&["", SHARED, "@ops"][..]));
    (prop::sample::select(&NAMES[..]), key, value, expect, "[a-z]", shared).prop_map(
        |(who, key, value, expect, id, shared)| {
            let value = value.map(|value| value.as_bytes().to_vec());
            let shared_with = shared.filter(|_| value.is_some()).map(str::to_owned);
            (who, KvChange { key, value, expect, id, shared_with })
        },
    )
}

/// The one group: of alice, with bob.
fn in_group(who: &str) -> bool {
    matches!(who, "alice" | "bob")
}

/// Whether somebody may make a change of a key.
fn may(who: &str, change: &KvChange, before: Option<&KvRow>) -> bool {
    if who == "admin" {
        return true;
    }
    let group_anew = change.shared_with.as_deref() == Some("@ops")
        && before.is_none_or(|row| row.shared_with != "@ops");
    if group_anew && !in_group(who) {
        return false;
    }
    let Some(row) = before.filter(|row| row.owner != who) else { return true };
    let shared = match &*row.shared_with {
        SHARED => true,
        "@ops" => in_group(who),
        _ => false,
    };
    shared && change.shared_with.as_ref().is_none_or(|with| *with == row.shared_with)
}

fn apply(view: &mut MemoryView, index: u64, who: &str, op: CommandOp) -> Outcome {
    let base = Stamp::unbounded(Hlc::from_ns(1_700_000_000_000_000_000 + index));
    let command = Command { caller: caller(who), gateway: "n1".into(), op };
    let batch = Batch { base, primary: "n1".into(), commands: vec![command] };
    let mut machine = Machine::new(view).unwrap();
    let outcome = machine.apply(index, 1, Some(&batch)).unwrap().remove(0);
    let changes = machine.into_changes();
    view.write(changes);
    outcome
}

/// What a change comes to by the rules.
fn expected(
    map: &BTreeMap<String, KvRow>,
    who: &str,
    change: &KvChange,
    (version, stamp): (u64, Vec<u8>),
) -> Result<KvRow, ErrorCode> {
    let before = map.get(&change.key);
    if !may(who, change, before) {
        return Err(ErrorCode::Denied);
    }
    let at = before.map_or(0, |row| row.version);
    if change.expect.is_some_and(|expect| expect != at) {
        return Err(ErrorCode::Conflict);
    }
    match &change.value {
        Some(value) => {
            let (key, by) = (change.key.clone(), who.to_owned());
            let owner = before.map_or(&by, |row| &row.owner).clone();
            let as_it_was = before.map(|row| row.shared_with.clone()).unwrap_or_default();
            let shared_with = change.shared_with.clone().unwrap_or(as_it_was);
            Ok(KvRow { key, value: value.clone(), version, by, stamp, owner, shared_with })
        }
        None => before.cloned().ok_or(ErrorCode::NotFound),
    }
}

proptest! {
    #[test]
    fn the_dictionary_is_a_map(
        changes in prop::collection::vec(change(), 1..60),
        prefix in prop::sample::select(&["", "a", "a/", "z", "ä"][..]),
        after in prop::sample::select(&["", "a", "a/b", "b"][..]),
    ) {
        let mut view = MemoryView::default();
        let mut index = 0;
        for name in &NAMES[..3] {
            let (name, home) = ((*name).to_owned(), String::new());
            index += 1;
            apply(&mut view, index, "admin", CommandOp::Register { name, fingerprint: [7; 32], home });
        }
        for op in [
            GroupOp::Create(GroupName { name: "ops".into() }),
            GroupOp::Add(GroupMembers {
                name: "ops".into(),
                members: vec!["bob".into()],
                history: false,
            }),
        ] {
            index += 1;
            let change = GroupChange { op: Some(op), id: index.to_string() };
            let done = apply(&mut view, index, "alice", CommandOp::Group(change));
            assert!(matches!(done, Outcome::Groups(_)), "{done:?}");
        }
        let (mut map, mut version) = (BTreeMap::<String, KvRow>::new(), 0);
        let mut first = BTreeMap::new();
        for (index, (who, change)) in (index + 1..).zip(changes) {
            let outcome = apply(&mut view, index, who, CommandOp::Kv(change.clone()));
            let hlc = Hlc::from_ns(1_700_000_000_000_000_000 + index);
            let stamp = Stamp::unbounded(hlc).to_bytes().to_vec();
            let wanted = match first.get(&(who, change.id.clone())) {
                Some((known, answer)) if *known == change => Ok(Clone::clone(answer)),
                Some(_) => Err(ErrorCode::Conflict),
                None => expected(&map, who, &change, (version + 1, stamp)).inspect(|answer| {
                    version += 1;
                    match change.value {
                        Some(_) => map.insert(change.key.clone(), answer.clone()),
                        None => map.remove(&change.key),
                    };
                    first.insert((who, change.id.clone()), (change.clone(), answer.clone()));
                }),
            };
            let got = match outcome {
                Outcome::Kv(KvRows { mut rows, more: false }) if rows.len() == 1 => {
                    Ok(rows.remove(0))
                }
                Outcome::Refused(failure) => Err(failure.error_code()),
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(got, wanted);
            let shown = query::kv_get(&view, &change.key).unwrap();
            prop_assert_eq!(shown.as_ref(), map.get(&change.key));
        }
        let (mut found, mut at) = (Vec::new(), after.to_owned());
        loop {
            let page = query::kv_list(&view, prefix, &at).unwrap();
            found.extend(page.rows);
            match found.last().filter(|_| page.more) {
                Some(row) => at.clone_from(&row.key),
                None => break,
            }
        }
        let wanted = map.into_values().filter(|row| row.key.starts_with(prefix));
        prop_assert_eq!(found, wanted.filter(|row| &*row.key > after).collect::<Vec<_>>());
    }
}

/// Pages end at their limits and go on behind them.
#[test]
fn long_lists_come_in_pages() {
    let mut view = MemoryView::default();
    for index in 1..=20u64 {
        let value = Some(vec![b'x'; 200_000]);
        let (key, id) = (format!("k{index:02}"), index.to_string());
        let change = KvChange { key, value, expect: Some(0), id, shared_with: None };
        let outcome = apply(&mut view, index, "admin", CommandOp::Kv(change));
        assert!(matches!(outcome, Outcome::Kv(_)));
    }
    let (mut found, mut pages, mut at) = (Vec::new(), 0, String::new());
    loop {
        let page = query::kv_list(&view, "k", &at).unwrap();
        let bytes: usize = page.rows.iter().map(|row| row.value.len()).sum();
        assert!(bytes <= proto::limits::KV_PAGE_BYTES && !page.rows.is_empty());
        pages += 1;
        found.extend(page.rows.iter().map(|row| row.key.clone()));
        match page.rows.last().filter(|_| page.more) {
            Some(row) => at.clone_from(&row.key),
            None => break,
        }
    }
    assert_eq!(found, (1..=20).map(|n| format!("k{n:02}")).collect::<Vec<_>>());
    assert_eq!(pages, 2);
}
