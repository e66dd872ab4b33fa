//! More rows than a chunk of any scan, and more than one command may remove.
//!
//! Seen to fail with `last_chunk` set at a full chunk, in each of the scans; seen to hang with `from`
//! of the next chunk left where it was.

use bytes::Bytes;
use clock::{Hlc, Stamp};
use model::{Batch, Command, CommandOp, Found, Machine, MemoryView, Outcome, Query, Reader, query};
use proto::ErrorCode;
use proto::group::{GroupChange, GroupName, GroupOp};
use proto::limits::{EXPIRE_RECORDS_MAX, GROUPS_PER_OWNER_MAX, PAGE_RECORDS_MAX};

use crate::arbitrary::caller;

const CLIENTS: usize = 2500;

fn apply(view: &mut MemoryView, index: u64, commands: Vec<Command>) -> Vec<Outcome> {
    let base = Stamp::unbounded(Hlc::from_ns(1_000_000 * index));
    let batch = Batch { base, primary: "n1".into(), commands };
    let mut machine = Machine::new(view).unwrap();
    let outcomes = machine.apply(index, 1, Some(&batch)).unwrap();
    let changes = machine.into_changes();
    view.write(changes);
    outcomes
}

fn name(i: usize) -> String {
    format!("c{i:04}")
}

/// Every client is registered and has sent one message with the id `1` to everyone.
fn busy() -> MemoryView {
    let mut view = MemoryView::default();
    let command = |name: &str, op| Command { caller: caller(name), gateway: "n2".into(), op };
    let register =
        |i| CommandOp::Register { name: name(i), fingerprint: [7; 32], home: String::new() };
    apply(&mut view, 1, (0..CLIENTS).map(|i| command("admin", register(i))).collect());
    let send = || CommandOp::Send {
        to: "*".into(),
        id: "1".into(),
        headers: Vec::new(),
        body: Bytes::from_static(b"x"),
    };
    apply(&mut view, 2, (0..CLIENTS).map(|i| command(&name(i), send())).collect());
    view
}

#[test]
fn chunks_join() {
    let view = busy();
    let names: Vec<String> = query::clients(&view).unwrap().into_iter().map(|c| c.name).collect();
    assert_eq!(names, (0..CLIENTS).map(name).collect::<Vec<_>>());

    // Beyond the first chunk of senders of the id: the message is to everyone, so it is seen.
    let reader = Reader { name: name(7), admin: false };
    let found = query::get(&view, &reader, "1", &name(2000)).unwrap();
    assert!(matches!(found, Found::One(record) if record.seq == 2001));
    let found = query::get(&view, &reader, "1", "").unwrap();
    assert!(matches!(found, Found::Several(senders) if senders.len() == 8));

    let page = query::page(&view, &reader, &Query::default()).unwrap();
    assert_eq!((page.records.len(), page.end), (PAGE_RECORDS_MAX, false));
}

#[test]
fn an_id_is_found_behind_those_that_are_not_shown() {
    let mut view = busy();
    let to = |to: &str| CommandOp::Send {
        to: to.into(),
        id: "2".into(),
        headers: Vec::new(),
        body: Bytes::new(),
    };
    let mut commands: Vec<Command> = (0..CLIENTS - 1)
        .map(|i| Command { caller: caller(&name(i)), gateway: "n2".into(), op: to(&name(0)) })
        .collect();
    let last = caller(&name(CLIENTS - 1));
    commands.push(Command { caller: last, gateway: "n2".into(), op: to("admin") });
    apply(&mut view, 3, commands);
    let sender = Reader { name: name(CLIENTS - 1), admin: false };
    let found = query::get(&view, &sender, "2", "").unwrap();
    assert!(matches!(found, Found::One(record) if record.to == "admin"));
}

#[test]
fn expiry_says_that_there_is_more() {
    let mut view = busy();
    let max = EXPIRE_RECORDS_MAX as u64;
    for (index, (records, more)) in (3u64..).zip([(max, true), (max, true), (490, false)]) {
        let op = CommandOp::Expire { max_age_ns: 0, max_records: 10, max_bytes: 0 };
        let command = Command { caller: caller("n1"), gateway: "n1".into(), op };
        let outcome = apply(&mut view, index, vec![command]).remove(0);
        assert!(
            matches!(&outcome, Outcome::Expired { records: r, more: m, .. } if (*r, *m) == (records, more)),
            "{outcome:?}"
        );
    }
    assert_eq!(query::stats(&view).unwrap().first_seq, CLIENTS as u64 - 9);
}

#[test]
fn one_client_cannot_take_the_names_of_all_groups() {
    let mut view = MemoryView::default();
    let mut index = 0;
    let mut one = |who: &str, op| {
        index += 1;
        let command = Command { caller: caller(who), gateway: "n2".into(), op };
        apply(&mut view, index, vec![command]).remove(0)
    };
    let change = |name: usize, number: usize, op: fn(GroupName) -> GroupOp| {
        let op = op(GroupName { name: format!("g{name}") });
        CommandOp::Group(GroupChange { op: Some(op), id: number.to_string() })
    };
    let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(failure) if failure.error_code() == ErrorCode::Conflict);
    for name in ["alice", "bob"] {
        let name = name.to_owned();
        one("admin", CommandOp::Register { name, fingerprint: [7; 32], home: String::new() });
    }
    let most = GROUPS_PER_OWNER_MAX;
    for n in 0..most {
        let made = one("alice", change(n, n, GroupOp::Create));
        assert!(matches!(made, Outcome::Groups(_)), "{made:?}");
    }
    assert!(refused(&one("alice", change(most, most, GroupOp::Create))));
    assert!(matches!(one("bob", change(most, 0, GroupOp::Create)), Outcome::Groups(_)));
    for n in 0..=most {
        let made = one("admin", change(1000 + n, n, GroupOp::Create));
        assert!(matches!(made, Outcome::Groups(_)), "{made:?}");
    }
    // A deleted one counts while its records are kept, unless somebody else takes the name; its owner
    // may make it again.
    for n in 0..3 {
        let deleted = one("alice", change(n, 100 + n, GroupOp::Delete));
        assert!(matches!(deleted, Outcome::Groups(_)), "{deleted:?}");
    }
    assert!(refused(&one("alice", change(most + 1, 200, GroupOp::Create))));
    assert!(matches!(one("alice", change(0, 201, GroupOp::Create)), Outcome::Groups(_)));
    assert!(refused(&one("alice", change(most + 1, 202, GroupOp::Create))));
    assert!(matches!(one("bob", change(1, 1, GroupOp::Create)), Outcome::Groups(_)));
    assert!(matches!(one("alice", change(most + 1, 203, GroupOp::Create)), Outcome::Groups(_)));
    assert!(refused(&one("alice", change(most + 2, 204, GroupOp::Create))));
    one("admin", CommandOp::Expire { max_age_ns: 0, max_records: 1, max_bytes: 0 });
    assert!(matches!(one("alice", change(most + 2, 205, GroupOp::Create)), Outcome::Groups(_)));
    assert!(refused(&one("alice", change(most + 3, 206, GroupOp::Create))));
}
