//! Seen to fail with: each comparison of `lacks` left out in turn, places compared before they are
//! committed, and a memory that takes an earlier start than it had.

use super::*;

fn place(index: u64, history: u8) -> Place {
    Place { index, term: 2, hash: vec![history; 32] }
}

fn shown(id: u64) -> Shown {
    Shown {
        name: format!("n{id}"),
        raft_id: id,
        incarnation: vec![u8::try_from(id).unwrap(); 16],
        nonce: vec![7; 16],
        starts: 3,
        life: vec![3; 16],
        term: 2,
        committed: Some(place(100, b'a')),
        last: 110,
        former: Vec::new(),
        last_term: 1,
    }
}

/// A log of one history up to an index.
fn log(end: u64, history: u8) -> impl Fn(u64) -> Option<Place> {
    move |index| (index <= end).then(|| place(index, history))
}

#[test]
fn who_has_less_than_is_remembered_lacks_it() {
    let remembered = shown(1);
    let now = || Shown { starts: 4, life: vec![4; 16], ..shown(1) };
    assert_eq!(now().lacks(&remembered), None);
    assert_eq!(shown(1).lacks(&remembered), None, "the same life");
    for (found, lack) in [
        (Shown { nonce: vec![8; 16], starts: 1, ..now() }, Lack::Store),
        (Shown { starts: 2, ..now() }, Lack::Starts { remembered: 3, found: 2 }),
        (Shown { starts: 3, ..now() }, Lack::Life { starts: 3 }),
        (Shown { term: 1, ..now() }, Lack::Term { remembered: 2, found: 1 }),
        (Shown { last: 99, ..now() }, Lack::Tail { remembered: 100, found: 99 }),
    ] {
        assert_eq!(found.lacks(&remembered), Some(lack), "{found:?}");
    }
    let lived = |starts, life: u8| Life { starts, life: vec![life; 16] };
    let often = |life| Shown { starts: 9, former: vec![lived(3, life), lived(2, 2)], ..now() };
    assert_eq!(often(3).lacks(&remembered), None);
    assert_eq!(
        often(5).lacks(&remembered),
        Some(Lack::Life { starts: 3 }),
        "a copy, often started"
    );
    let tail = Shown { last: 100, committed: None, ..now() };
    assert_eq!(tail.lacks(&remembered), None, "an uncommitted tail may be cut off");
    assert_eq!(Shown { starts: 0, ..Shown::default() }.lacks(&remembered), None);
    let joined_again = Shown { raft_id: 17, incarnation: vec![9; 16], starts: 1, ..shown(1) };
    assert_eq!(joined_again.lacks(&remembered), None, "another store may begin again");
    let old = Shown { nonce: Vec::new(), ..remembered };
    assert_eq!(now().lacks(&old), None, "a release that drew no nonce");
}

#[test]
fn a_memory_only_grows() {
    let mut memory = Memory::default();
    assert!(memory.note(&shown(1)));
    assert!(!memory.note(&shown(1)));
    let less = Shown { starts: 2, life: vec![2; 16], term: 1, committed: None, ..shown(1) };
    assert!(!memory.note(&less));
    let copy = Shown { life: vec![9; 16], ..shown(1) };
    assert!(!memory.note(&copy), "the first life of a start stays");
    let recreated = Shown { nonce: vec![8; 16], starts: 9, ..shown(1) };
    assert!(!memory.note(&recreated), "the first nonce of an incarnation stays");
    assert_eq!(memory.get(1).unwrap().starts, 3);
    let more = Shown { starts: 4, life: vec![4; 16], committed: Some(place(7, b'a')), ..shown(1) };
    assert!(memory.note(&more));
    let kept = memory.get(1).unwrap();
    assert_eq!((kept.starts, kept.life[0]), (4, 4));
    assert_eq!(kept.committed, Some(place(100, b'a')));
    assert_eq!(Memory::of(memory.all()), memory);
    memory.retain(|id| id != 1);
    assert_eq!(memory.get(1), None);
}

#[test]
fn a_meeting_finds_who_lacks_what() {
    let mut memory = Memory::default();
    memory.note(&shown(2));
    let (me, they) = (shown(1), shown(2));
    let meet = |they: &Shown, remember: &[Shown]| memory.meet(&me, log(110, b'a'), they, remember);
    assert_eq!(meet(&they, &[]), Finding::Fits);
    assert_eq!(meet(&they, &[shown(1), shown(3)]), Finding::Fits);
    let set_back = Shown { starts: 2, committed: Some(place(50, b'a')), last: 60, ..shown(2) };
    let lack = Lack::Starts { remembered: 3, found: 2 };
    assert_eq!(meet(&set_back, &[]), Finding::They(lack));
    // A hello that was overtaken by later words of the same process. Found broken: all three nodes of
    // a busy cluster called each other set back.
    let overtaken = Shown { term: 1, last: 60, committed: Some(place(50, b'a')), ..shown(2) };
    assert_eq!(meet(&overtaken, &[]), Finding::Fits);
    let ahead = Shown { committed: Some(place(120, b'a')), ..shown(1) };
    let lack = Lack::Tail { remembered: 120, found: 110 };
    assert_eq!(meet(&they, &[ahead]), Finding::We(lack));
    // Entry 105 is held, not committed, and another than the one that was acknowledged.
    let other = Shown { committed: Some(place(105, b'b')), ..shown(1) };
    assert_eq!(meet(&they, &[other]), Finding::We(Lack::Entry { index: 105 }));
    // What they remember of somebody else does not concern this node.
    let third = Shown { committed: Some(place(500, b'b')), ..shown(3) };
    assert_eq!(meet(&they, &[third]), Finding::Fits);
}

#[test]
fn two_histories_prove_nobody_wrong() {
    let mut memory = Memory::default();
    memory.note(&shown(3));
    let me = shown(1);
    let fork = |index| Finding::Fork(Fork { mine: place(index, b'a'), theirs: place(index, b'b') });
    // The holder of another history comes back, set back by numbers too.
    let they = Shown { starts: 2, committed: Some(place(90, b'b')), ..shown(3) };
    assert_eq!(memory.meet(&me, log(110, b'a'), &they, &[]), fork(90));
    // It is ahead, but remembers what this node once acknowledged.
    let they = Shown { committed: Some(place(400, b'b')), last: 400, ..shown(3) };
    let of_me = Shown { committed: Some(place(80, b'b')), ..shown(1) };
    assert_eq!(memory.meet(&me, log(110, b'a'), &they, &[of_me]), fork(80));
    // Where only one side has committed, the other may be cut off.
    let they = Shown { committed: Some(place(105, b'b')), ..shown(3) };
    assert_eq!(memory.meet(&me, log(110, b'a'), &they, &[]), Finding::Fits);
    // What was purged cannot be compared.
    let they = Shown { committed: Some(place(90, b'b')), ..shown(3) };
    assert_eq!(memory.meet(&me, |_| None, &they, &[]), Finding::Fits);
}

#[test]
fn a_voter_waits_for_all_who_could_know() {
    let may = |voters: &[u64], met: &[u64], over| may_vote(1, voters, |id| met.contains(&id), over);
    assert!(!may(&[], &[], true), "nobody knows who votes");
    assert!(may(&[1], &[], false), "alone");
    assert!(may(&[1, 2, 3], &[2, 3], false));
    assert!(!may(&[1, 2, 3], &[2], false), "the third may be there and know");
    assert!(may(&[1, 2, 3], &[2], true), "a cluster of three starts with two");
    assert!(!may(&[1, 2, 3], &[], true));
    assert!(!may(&[1, 2, 3, 4, 5], &[2], true));
    assert!(may(&[1, 2, 3, 4, 5], &[2, 9, 4], true));
    assert!(!may(&[2, 3], &[2], true), "a learner does not make up a majority");
    assert!(may(&[2, 3], &[2, 3], false));
}

#[test]
fn a_vote_goes_to_a_log_that_goes_as_far_as_the_best_that_was_met() {
    let end = |term, index| Some(LogEnd { term, index });
    assert!(goes_as_far(end(1, 68), end(1, 68)));
    assert!(goes_as_far(end(2, 10), end(1, 68)), "a later term goes before a higher index");
    assert!(!goes_as_far(end(1, 67), end(1, 68)));
    assert!(!goes_as_far(None, end(1, 1)), "who holds nothing");
    assert!(goes_as_far(None, None), "nobody has shown anything");
    let shows = |starts, last_term| Shown { starts, last: 68, last_term, ..Shown::default() };
    assert_eq!(shows(1, 2).log_end(), end(2, 68));
    assert_eq!(shows(0, 2).log_end(), None, "a store that cannot be read");
    assert_eq!(shows(1, 0).log_end(), None, "a release that does not say");
}
