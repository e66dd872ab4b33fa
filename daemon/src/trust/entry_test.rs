//! Seen to fail with the raft id looked at before the key: a removed node came in by claiming a higher
//! one, and a stranger as whoever it called itself.

use super::*;

fn key(byte: u8) -> Key {
    [byte; 32]
}

fn member(name: &str, incarnation: u8) -> Member {
    Member { name: name.to_owned(), incarnation: [incarnation; 16], ..Member::default() }
}

/// A store whose incarnation and key are told by its raft id.
fn bound(name: &str, id: u8, removed: bool) -> Binding {
    Binding {
        name: name.to_owned(),
        raft_id: id.into(),
        incarnation: vec![id; 16],
        fingerprint: key(id).to_vec(),
        removed,
        replaced: false,
    }
}

fn hello(name: &str, raft_id: u64, incarnation: u8) -> Hello {
    let incarnation = vec![incarnation; 16];
    Hello { name: name.to_owned(), raft_id, incarnation, ..Hello::default() }
}

/// n1 and n5 are members, n4 was removed, n2 is on its way out, n3 was replaced by n3 with id 18.
struct Table {
    engine: Vec<(u64, Member)>,
    bindings: Vec<Binding>,
    vouched: BTreeMap<Key, StoreKey>,
}

impl Table {
    fn new() -> Self {
        let engine = vec![
            (1, member("n1", 1)),
            (2, member("n2", 2)),
            (17, member("n5", 17)),
            (18, member("n3", 18)),
        ];
        let bindings = vec![
            bound("n1", 1, false),
            bound("n2", 2, true),
            bound("n3", 3, true),
            bound("n3", 18, false),
            bound("n4", 16, true),
            bound("n5", 17, false),
        ];
        Self { engine, bindings, vouched: BTreeMap::new() }
    }

    fn entry(&self, by: u8, hello: &Hello) -> Result<Entry, Refusal> {
        let Self { engine, bindings, vouched } = self;
        let known = Known { engine, bindings, vouched };
        known.entry(&key(by), hello).map_err(|refused| refused.why)
    }
}

#[test]
fn the_key_decides_and_the_rest_must_fit_it() {
    let table = Table::new();
    assert_eq!(table.entry(1, &hello("n1", 1, 1)), Ok(Entry::Member));
    assert_eq!(table.entry(17, &hello("n5", 17, 17)), Ok(Entry::Member));
    assert_eq!(table.entry(18, &hello("n3", 18, 18)), Ok(Entry::Member));
    for (name, id, incarnation) in [("n1", 1, 2), ("n1", 3, 1), ("n1", 0, 1), ("n5", 1, 1)] {
        let said = table.entry(1, &hello(name, id, incarnation));
        assert_eq!(said, Err(Refusal::Store), "{name} {id} {incarnation}");
    }
    // It was taken back while this node was away; and nobody but itself says so.
    for id in [19, 900, 70_000] {
        assert_eq!(table.entry(1, &hello("n1", id, 1)), Ok(Entry::Member), "{id}");
        assert_eq!(table.entry(99, &hello("n1", id, 1)), Err(Refusal::Unknown), "{id}");
        assert_eq!(table.entry(17, &hello("n1", id, 1)), Err(Refusal::Store), "{id}");
    }
    // Of another lineage.
    assert_eq!(table.entry(1, &hello("n1", u64::MAX, 1)), Err(Refusal::Store));
    for stranger in [hello("n1", 1, 1), hello("n5", 17, 17), hello("n3", 18, 18)] {
        assert_eq!(table.entry(99, &stranger), Err(Refusal::Unknown), "{}", stranger.name);
    }
}

#[test]
fn what_was_removed_stays_out_whatever_it_says() {
    let table = Table::new();
    for claimed in [16, 19, 900, u64::MAX, 1, 0] {
        for name in ["n4", "n1", "n9"] {
            for incarnation in [16, 1, 77] {
                let said = table.entry(16, &hello(name, claimed, incarnation));
                assert_eq!(said, Err(Refusal::Removed), "{name} {claimed}");
                let said = table.entry(3, &hello(name, claimed, incarnation));
                assert_eq!(said, Err(Refusal::Removed), "{name} {claimed}");
            }
        }
    }
}

#[test]
fn who_is_on_the_way_out_takes_part_in_that_alone() {
    let mut table = Table::new();
    assert_eq!(table.entry(2, &hello("n2", 2, 2)), Ok(Entry::Leaving));
    assert_eq!(table.entry(2, &hello("n2", 900, 2)), Err(Refusal::Removed));
    assert_eq!(table.entry(99, &hello("n2", 2, 2)), Err(Refusal::Unknown));
    table.engine.retain(|(id, _)| *id != 2);
    assert_eq!(table.entry(2, &hello("n2", 2, 2)), Err(Refusal::Removed));
}

#[test]
fn a_younger_store_needs_somebody_who_knows_it() {
    let mut table = Table::new();
    let younger = hello("n6", 40, 40);
    assert_eq!(table.entry(40, &younger), Err(Refusal::Unknown));
    table.vouched.insert(key(40), store_key(&key(40), &younger));
    assert_eq!(table.entry(40, &younger), Ok(Entry::Member));
    assert_eq!(table.entry(41, &younger), Err(Refusal::Unknown));
    assert_eq!(table.entry(40, &hello("n6", 41, 40)), Err(Refusal::Unknown));
    // What the table says of a key counts more than what was vouched for before.
    table.bindings.push(bound("n6", 40, true));
    assert_eq!(table.entry(40, &younger), Err(Refusal::Removed));
    let Table { engine, bindings, vouched } = Table::new();
    let known = Known { engine: &engine, bindings: &bindings, vouched: &vouched };
    for (id, younger) in [(40, true), (19, true), (18, false), (9, false), (0, false)] {
        assert_eq!(known.is_younger(&hello("n6", id, 1)), younger, "{id}");
    }
}

/// Seen to fail with the seed's word taken for a store that has ended, and with a set-back one let in to
/// all that nodes do because its key is right.
#[test]
fn a_store_that_ended_by_a_repair_is_never_let_in_again() {
    let mut table = Table::new();
    let old = hello("n1", 1, 1);
    // The engine counts it still, and the seed vouches for it.
    table.vouched.insert(key(1), store_key(&key(1), &old));
    table.bindings[0].removed = true;
    table.bindings[0].replaced = true;
    let new = Binding { fingerprint: key(1).to_vec(), ..bound("n1", 20, false) };
    table.bindings.push(new);
    assert_eq!(table.entry(1, &hello("n1", 20, 20)), Ok(Entry::Member));
    assert_eq!(table.entry(1, &old), Err(Refusal::Lacks));
    assert_eq!(table.entry(1, &hello("n1", 19, 77)), Err(Refusal::Lacks), "forgotten since");
    assert_eq!(table.entry(99, &old), Err(Refusal::Unknown), "another key");
    // It may ask to be taken back, and nothing else.
    let returning = |name, id| Hello { repairing: true, ..hello(name, id, 1) };
    for id in [0, 1, 19, 900] {
        assert_eq!(table.entry(1, &returning("n1", id)), Ok(Entry::Returning), "{id}");
    }
    assert_eq!(table.entry(1, &returning("n5", 1)), Err(Refusal::Store), "another name");
    assert_eq!(table.entry(99, &returning("n1", 1)), Err(Refusal::Unknown));
    assert_eq!(table.entry(16, &returning("n4", 16)), Err(Refusal::Removed));
    let same = Hello { repairing: true, ..hello("n1", 20, 20) };
    assert_eq!(table.entry(1, &same), Ok(Entry::Member), "its present store");
}

/// All others may have been taken back with new stores while a node was away, or since the copy was made
/// that its folder was put back to: nobody is left whom it could ask. Seen to fail with a newer store that
/// another member has to vouch for; and with the engine's members counted, where who is dialled is one.
#[test]
fn the_key_of_a_member_is_proof_of_its_newer_store() {
    let mut table = Table::new();
    let younger = hello("n1", 40, 40);
    assert_eq!(table.entry(1, &younger), Ok(Entry::Member));
    for (by, hello) in [(99, &younger), (99, &hello("n9", 41, 41)), (17, &hello("n1", 41, 41))] {
        assert!(table.entry(by, hello).is_err(), "{by} {hello:?}");
    }
    table.engine.push((40, member("n1", 40)));
    assert_eq!(table.entry(1, &younger), Ok(Entry::Member), "the engine knows it first");
    assert_eq!(table.entry(16, &hello("n4", 41, 41)), Err(Refusal::Removed));
    assert_eq!(table.entry(1, &hello("n1", 17, 40)), Err(Refusal::Store), "an id of another");
}

/// Tables of earlier releases have no keys of first members.
#[test]
fn a_first_member_without_a_key_is_told_by_its_store_until_its_key_is_noted() {
    let mut table = Table::new();
    for bound in &mut table.bindings {
        if bound.raft_id < 16 {
            bound.fingerprint.clear();
        }
    }
    assert_eq!(table.entry(1, &hello("n1", 1, 1)), Ok(Entry::Unbound));
    assert_eq!(table.entry(1, &hello("n1", 1, 2)), Err(Refusal::Store));
    assert_eq!(table.entry(1, &hello("n1", 900, 1)), Err(Refusal::Unknown));
    assert_eq!(table.entry(2, &hello("n2", 2, 2)), Ok(Entry::Leaving));
    assert_eq!(table.entry(3, &hello("n3", 3, 3)), Err(Refusal::Removed));
    assert_eq!(table.entry(3, &hello("n3", 900, 3)), Err(Refusal::Unknown));
    assert_eq!(table.entry(17, &hello("n1", 1, 1)), Err(Refusal::Store), "a noted key");
}

#[test]
fn before_the_table_the_seed_says_who_is_a_member() {
    let engine = vec![(1, member("n1", 1)), (2, member("n2", 2))];
    let vouched = BTreeMap::from([(key(1), store_key(&key(1), &hello("n1", 1, 1)))]);
    let table = Table { engine, bindings: Vec::new(), vouched };
    assert_eq!(table.entry(1, &hello("n1", 1, 1)), Ok(Entry::Member));
    assert_eq!(table.entry(9, &hello("n1", 1, 1)), Err(Refusal::Store), "not the seed's key");
    assert_eq!(table.entry(2, &hello("n2", 2, 2)), Ok(Entry::Unbound), "a seed without keys");
    assert_eq!(table.entry(9, &hello("n9", 900, 9)), Err(Refusal::Unknown));
}

/// Of two nodes that have both gone on alone neither is told that its store has ended, whatever the order of
/// their raft ids.
#[test]
fn nobody_mixes_with_another_lineage() {
    let one = Lineage::FIRST.next(5).unwrap().first_raft_id();
    let other = Lineage::FIRST.next(6).unwrap().first_raft_id();
    let two = Lineage::of(one).next(1).unwrap().first_raft_id();
    let in_lineage = |id: u64| {
        let mut table = Table::new();
        table.bindings[0].removed = true;
        table.bindings[0].replaced = true;
        let (raft_id, fingerprint) = (id, key(1).to_vec());
        table.bindings.push(Binding { raft_id, fingerprint, ..bound("n1", 20, false) });
        table
    };
    for (mine, theirs, verdict) in [
        (one, 1, Refusal::Lacks),
        (two, 1, Refusal::Lacks),
        (two, one, Refusal::Lacks),
        (one, two, Refusal::Store),
        (one, other, Refusal::Store),
        (other, one, Refusal::Store),
    ] {
        let entry = in_lineage(mine).entry(1, &hello("n1", theirs, 9));
        assert_eq!(entry, Err(verdict), "{mine} {theirs}");
    }
    assert_eq!(Table::new().entry(1, &hello("n1", one, 9)), Err(Refusal::Store));
    // Whoever cannot prove its store may ask, of whatever lineage that was.
    let returning = Hello { repairing: true, ..hello("n1", other, 1) };
    assert_eq!(in_lineage(one).entry(1, &returning), Ok(Entry::Returning));
}
