//! Groups: who sees what follows from the records of the group's own stream, read in order, and from
//! nothing else. Whoever came sees from the record that says so on (with the history, from the
//! creation), whoever went sees up to the record that says so, and nothing that was sent later. The
//! answers to reads, gets and sends are what those rules give, record by record; so are the counts of
//! messages by gateway.
//!
//! Seen to fail with `MembershipSpans::end` one seq too far, with `MembershipSpans::begin` at the next seq, with `visible`
//! true for every member, and with `delete_group` closing no stay.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::{Hlc, Stamp};
use model::{
    Batch, Command, CommandOp, Found, Machine, MemoryView, Outcome, Query, QueryError, Reader,
    query,
};
use proptest::prelude::*;
use proto::group::{ACTION, GroupMembers, GroupName, GroupOp, HISTORY, NAMES};
use proto::wire::GroupChange;
use proto::{ErrorCode, Record};

use crate::arbitrary::{NAMES as CLIENTS, caller, every};

const GROUPS: [&str; 2] = ["dev", "ops"];

/// Commands of clients and of the cluster; every change and message has an id of its own or, now and
/// then, the one of an earlier one.
fn op() -> impl Strategy<Value = CommandOp> {
    let group = || prop::sample::select(&GROUPS[..]).prop_map(str::to_owned);
    let client = || prop::sample::select(&CLIENTS[..3]).prop_map(str::to_owned);
    let members = || {
        (group(), prop::collection::vec(client(), 1..3), any::<bool>())
            .prop_map(|(name, members, history)| GroupMembers { name, members, history })
    };
    let change = prop_oneof![
        3 => group().prop_map(|name| GroupOp::Create(GroupName { name })),
        1 => group().prop_map(|name| GroupOp::Delete(GroupName { name })),
        6 => members().prop_map(GroupOp::Add),
        5 => members().prop_map(GroupOp::Remove),
    ];
    let change = (change, "c[0-9]{2}")
        .prop_map(|(op, id)| CommandOp::Group(GroupChange { op: Some(op), id }));
    let to = prop_oneof![6 => group().prop_map(|name| format!("@{name}")), 1 => client(), 1 => Just("*".to_owned())];
    let send = (to, "m[0-9]{2}").prop_map(|(to, id)| CommandOp::Send {
        to,
        id,
        headers: Vec::new(),
        body: Bytes::from_static(b"x"),
    });
    let expire = (0u64..20).prop_map(|max_records| CommandOp::Expire {
        max_age_ns: 0,
        max_records: 10 + max_records,
        max_bytes: 0,
    });
    let delete = "m[0-9]{2}".prop_map(|id| CommandOp::Delete {
        id,
        from: String::new(),
        reason: String::new(),
    });
    prop_oneof![12 => change, 12 => send, 1 => expire, 1 => delete]
}

fn history() -> impl Strategy<Value = Vec<(&'static str, &'static str, CommandOp)>> {
    let gateway = prop::sample::select(&["n1", "n2", "n3"][..]);
    let who =
        prop_oneof![3 => Just("alice"), 1 => Just("bob"), 1 => Just("carol"), 2 => Just("admin")];
    prop::collection::vec((who, gateway, op()), 1..80)
}

/// What follows from the records alone.
#[derive(Default)]
struct Naive {
    members: BTreeMap<String, BTreeSet<String>>,
    live: BTreeSet<String>,
    /// Seqs of each group's records since its last creation.
    current: BTreeMap<String, Vec<u64>>,
    /// What each client may see of groups.
    seen: BTreeMap<String, BTreeSet<u64>>,
}

impl Naive {
    fn take(&mut self, record: &Record) {
        let Some(group) = record.to.strip_prefix('@') else { return };
        let header = |key: &str| record.headers.iter().find(|h| h.key == key).map(|h| &*h.value);
        let names: Vec<&str> = header(NAMES).into_iter().flat_map(|n| n.split(',')).collect();
        let members = self.members.entry(group.to_owned()).or_default();
        let current = self.current.entry(group.to_owned()).or_default();
        let before = members.clone();
        match header(ACTION) {
            Some("created") => {
                current.clear();
                self.live.insert(group.to_owned());
                members.extend((record.from != "admin").then(|| record.from.clone()));
            }
            Some("deleted") => {
                self.live.remove(group);
                members.clear();
            }
            Some("added") => {
                for name in names {
                    assert!(members.insert(name.to_owned()), "who is added was no member");
                    if header(HISTORY).is_some() {
                        self.seen.entry(name.to_owned()).or_default().extend(&*current);
                    }
                }
            }
            Some("removed") => {
                for name in names {
                    assert!(members.remove(name), "who is removed was a member");
                }
            }
            _ => {}
        }
        current.push(record.seq);
        for name in before.union(members) {
            self.seen.entry(name.clone()).or_default().insert(record.seq);
        }
    }

    fn shows(&self, reader: &Reader, record: &Record) -> bool {
        let sees = || self.seen.get(&reader.name).is_some_and(|seen| seen.contains(&record.seq));
        reader.admin || record.to == reader.name || record.to == "*" || sees()
    }

    fn is_member(&self, group: &str, name: &str) -> bool {
        self.members.get(group).is_some_and(|members| members.contains(name))
    }
}

struct World {
    view: MemoryView,
    index: u64,
    naive: Naive,
}

impl World {
    fn apply(&mut self, who: &str, gateway: &str, op: CommandOp) -> Outcome {
        self.index += 1;
        let base = Stamp::unbounded(Hlc::from_ns(1_700_000_000_000_000_000 + self.index));
        let command = Command { caller: caller(who), gateway: gateway.into(), op };
        let batch = Batch { base, primary: "n1".into(), commands: vec![command] };
        let before = query::stats(&self.view).unwrap().last_seq;
        let mut machine = Machine::new(&self.view).unwrap();
        let outcome = machine.apply(self.index, 1, Some(&batch)).unwrap().remove(0);
        let changes = machine.into_changes();
        self.view.write(changes);
        for record in every(&self.view).iter().filter(|record| record.seq > before) {
            self.naive.take(record);
        }
        outcome
    }

    fn new() -> Self {
        let mut world = Self { view: MemoryView::default(), index: 0, naive: Naive::default() };
        for name in &CLIENTS[..3] {
            let (name, home) = ((*name).to_owned(), String::new());
            world.apply("admin", "n1", CommandOp::Register { name, fingerprint: [7; 32], home });
        }
        world
    }

    /// Reads page after page.
    fn read(&self, reader: &Reader, mut query: Query) -> Result<Vec<Record>, ErrorCode> {
        let mut found = Vec::new();
        loop {
            let page = match query::page(&self.view, reader, &query) {
                Ok(page) => page,
                Err(QueryError::Refused(failure)) => return Err(failure.error_code()),
                Err(error) => panic!("{error}"),
            };
            query.after = page.next;
            found.extend(page.records);
            if page.end {
                return Ok(found);
            }
        }
    }
}

/// A send to a group is stored if its sender is a member now or an admin, and only then.
fn check_send(world: &World, who: &str, op: &CommandOp, outcome: &Outcome) {
    let CommandOp::Send { to, .. } = op else { return };
    let Some(group) = to.strip_prefix('@') else { return };
    let live = world.naive.live.contains(group);
    let may = live && (who == "admin" || world.naive.is_member(group, who));
    match outcome {
        Outcome::Sent(ack) => assert!(may || ack.duplicate, "{who} to {to}"),
        Outcome::Refused(failure) => match failure.error_code() {
            ErrorCode::NotFound => assert!(!live),
            ErrorCode::Denied => assert!(live && !may),
            code => assert_eq!(code, ErrorCode::Conflict),
        },
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn groups_are_a_scan(history in history(), after in 0u64..30, limit in 1usize..6) {
        let mut world = World::new();
        for (who, gateway, op) in history {
            let outcome = world.apply(who, gateway, op.clone());
            check_send(&world, who, &op, &outcome);
        }
        let all = every(&world.view);
        for name in CLIENTS {
            let reader = Reader { name: name.to_owned(), admin: name == "admin" };
            let expected = |keep: &dyn Fn(&Record) -> bool| -> Vec<Record> {
                let shown = |r: &&Record| r.seq > after && world.naive.shows(&reader, r) && keep(r);
                all.iter().filter(shown).cloned().collect()
            };
            let base = Query { after, limit, ..Query::default() };
            prop_assert_eq!(world.read(&reader, base.clone()), Ok(expected(&|_| true)));
            for from in CLIENTS.into_iter().filter(|from| *from != name) {
                let query = Query { from: from.to_owned(), ..base.clone() };
                prop_assert_eq!(world.read(&reader, query), Ok(expected(&|r| r.from == from)));
            }
            for group in GROUPS {
                let to = format!("@{group}");
                let query = Query { to: to.clone(), ..base.clone() };
                match world.read(&reader, query) {
                    Ok(found) => prop_assert_eq!(found, expected(&|r| r.to == to)),
                    Err(_) => prop_assert!(expected(&|r| r.to == to).is_empty()),
                }
                let shown = query::group(&world.view, &reader, group);
                let member = world.naive.is_member(group, name);
                let live = world.naive.live.contains(group);
                prop_assert!(shown.is_ok() || !live || !(member || reader.admin));
                if let Ok(shown) = shown {
                    let named: BTreeSet<String> =
                        shown.members.into_iter().map(|member| member.name).collect();
                    prop_assert_eq!(shown.size, named.len() as u64);
                    prop_assert_eq!(named, world.naive.members[group].clone());
                }
            }
            for record in &all {
                let found = query::get(&world.view, &reader, &record.id, &record.from).unwrap();
                let own = record.from == name;
                let newest = all.iter().rfind(|r| r.id == record.id && r.from == record.from);
                let shown = newest.is_some_and(|newest| own || world.naive.shows(&reader, newest));
                prop_assert_eq!(matches!(found, Found::One(_)), shown);
            }
        }
        let mut counts = BTreeMap::<String, u64>::new();
        for record in &all {
            *counts.entry(record.gateway.clone()).or_default() += 1;
        }
        prop_assert_eq!(
            query::gateway_counts(&world.view).unwrap(),
            counts.into_iter().collect::<Vec<_>>()
        );
    }
}
