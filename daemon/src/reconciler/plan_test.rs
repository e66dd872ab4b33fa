//! Protects: the engine's membership becomes what the table says, one step at a time, whoever takes
//! over in the middle of one; no step is begun that could not be finished.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proto::member::Repair;

use super::*;

const UP: Health = Health { may_lead: true, behind: Some(0), slow: false };

fn member(id: u64) -> Member {
    Member { name: format!("n{id}"), address: format!("h{id}:1"), incarnation: [9; 16] }
}

/// A joined node that is meant to vote.
fn row(id: u64) -> MemberRow {
    let Member { name, address, incarnation } = member(id);
    let (state, incarnation) = (MemberState::Joined.into(), incarnation.to_vec());
    let priority = u32::try_from(id).unwrap();
    MemberRow { name, address, incarnation, raft_id: id, priority, state, ..MemberRow::default() }
}

fn rows(ids: &[u64]) -> Vec<MemberRow> {
    ids.iter().map(|id| row(*id)).collect()
}

/// The engine of n1, which leads.
fn view(voters: &[u64], learners: &[u64]) -> EngineState {
    let members = voters.iter().chain(learners).map(|id| (*id, member(*id))).collect();
    EngineState { id: 1, voters: voters.to_vec(), members, ..EngineState::default() }
}

fn planned(view: &EngineState, rows: &[MemberRow], up: &[u64]) -> Option<Step> {
    let health: BTreeMap<u64, Health> =
        up.iter().filter(|id| **id != view.id).map(|id| (*id, UP)).collect();
    let candidates = Candidate::all(view, rows, &health, 0);
    next(&Situation { view, rows, health: &health, candidates: &candidates })
}

fn changed(rows: &mut [MemberRow], id: u64, change: impl Fn(&mut MemberRow)) {
    change(rows.iter_mut().find(|row| row.raft_id == id).unwrap());
}

const ALL: &[u64] = &[1, 2, 3, 4, 5];

#[test]
fn nothing_is_done_where_nothing_is_to_be_done() {
    assert_eq!(planned(&view(&[1, 2, 3], &[]), &rows(&[1, 2, 3]), ALL), None);
    assert_eq!(planned(&view(&[1], &[]), &rows(&[1]), &[]), None);
}

#[test]
fn a_change_that_was_begun_is_finished_first() {
    let joint = EngineState { joint: true, ..view(&[1, 2, 3], &[4]) };
    assert_eq!(planned(&joint, &[], ALL), Some(Step::Change(Change::Finish)));
}

#[test]
fn members_without_rows_are_entered() {
    let Some(Step::Init(rows)) = planned(&view(&[1, 2], &[3]), &rows(&[1]), ALL) else { panic!() };
    let names: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.wants_vote())).collect();
    assert_eq!(names, [("n2", true), ("n3", false)]);
    assert_eq!(rows[0].priority, 2);
}

#[test]
fn an_admitted_node_is_replicated_to_and_promoted_once_it_has_caught_up() {
    let mut table = rows(&[1, 2, 3, 4]);
    changed(&mut table, 4, |row| row.state = MemberState::Admitted.into());
    let add = Step::Change(Change::AddLearner(4, member(4)));
    assert_eq!(planned(&view(&[1, 2, 3], &[]), &table, &[1, 2, 3]), Some(add));
    let learns = view(&[1, 2, 3], &[4]);
    assert_eq!(planned(&learns, &table, ALL), None, "not heard yet");
    changed(&mut table, 4, |row| row.state = MemberState::Joined.into());
    assert_eq!(planned(&learns, &table, &[1, 2, 3]), None, "not up");
    let promote = Some(Step::Change(Change::Promote(4)));
    assert_eq!(planned(&learns, &table, ALL), promote);
    let behind = Health { behind: Some(CAUGHT_UP + 1), ..UP };
    let health = BTreeMap::from([(2, UP), (3, UP), (4, behind)]);
    let slow = Situation { view: &learns, rows: &table, health: &health, candidates: &[] };
    assert_eq!(next(&slow), None, "behind");
    changed(&mut table, 4, |row| row.wants = MemberWants::Learner.into());
    assert_eq!(planned(&learns, &table, ALL), None, "not meant to vote");
    let many: Vec<u64> = (1..=9).collect();
    let full = view(&many, &[10]);
    assert_eq!(planned(&full, &rows(&[&many[..], &[10]].concat()), &many), None, "enough voters");
}

#[test]
fn removed_nodes_go_one_after_the_other_and_the_primary_last() {
    let mut table = rows(&[1, 2, 3, 4, 5]);
    for id in [1, 2, 5] {
        changed(&mut table, id, |row| row.state = MemberState::Removed.into());
    }
    let remove = |id| Some(Step::Change(Change::Remove(id)));
    assert_eq!(planned(&view(&[1, 2, 3, 4], &[5]), &table, ALL), remove(5), "the learner first");
    assert_eq!(planned(&view(&[1, 2, 3, 4], &[]), &table, ALL), remove(2));
    assert_eq!(planned(&view(&[1, 3, 4], &[]), &table, ALL), Some(Step::HandOver(4)));
    assert_eq!(planned(&view(&[1, 3, 4], &[]), &table, &[1]), None, "to nobody");
}

/// Seen to fail with every voter counted as up.
#[test]
fn no_vote_is_given_or_taken_that_would_cost_the_majority() {
    let mut table = rows(&[1, 2, 3]);
    changed(&mut table, 3, |row| row.state = MemberState::Removed.into());
    let voters = view(&[1, 2, 3], &[]);
    assert_eq!(planned(&voters, &table, &[1, 3]), None, "n1 and n3 decide, n1 alone of two cannot");
    assert!(planned(&voters, &table, &[1, 2]).is_some());
    changed(&mut table, 3, |row| {
        (row.state, row.wants) = (MemberState::Joined.into(), MemberWants::Learner.into());
    });
    assert_eq!(planned(&voters, &table, &[1, 3]), None);
    assert_eq!(planned(&voters, &table, ALL), Some(Step::Change(Change::Demote(3))));
    let table = rows(&[1, 2, 3, 4]);
    assert_eq!(planned(&view(&[1, 2, 3], &[4]), &table, &[1, 4]), None, "two of four");
}

/// Seen to fail where the primary is looked for among those that are behind: then the repair of one that
/// got the role too early never ends, and nobody else is taken back.
#[test]
fn a_primary_that_was_taken_back_itself_is_repaired() {
    let mut all = rows(&[1, 2, 3]);
    for id in [1, 3] {
        changed(&mut all, id, |row| row.repair = Some(Repair::default()));
    }
    let behind = BTreeMap::from([(2, Some(0)), (3, Some(CAUGHT_UP + 1))]);
    let ended = |all: &[MemberRow]| -> Vec<u64> {
        let view = view(&[1, 2, 3], &[]);
        let ended = all.iter().filter(|row| is_repaired(&view, row, &behind));
        ended.map(|row| row.raft_id).collect()
    };
    assert_eq!(ended(&all), [1], "n2 was not taken back, and n3 is behind");
    changed(&mut all, 1, |row| row.state = MemberState::Admitted.into());
    assert!(ended(&all).is_empty(), "it was not heard yet");
}

#[test]
fn a_primary_that_is_to_lose_its_vote_hands_over_first() {
    let mut table = rows(&[1, 2, 3]);
    changed(&mut table, 1, |row| row.wants = MemberWants::Learner.into());
    assert_eq!(planned(&view(&[1, 2, 3], &[]), &table, ALL), Some(Step::HandOver(3)));
}

#[test]
fn another_store_under_an_old_name_comes_in_once_the_old_one_is_out() {
    let mut table = rows(&[1, 2, 3]);
    changed(&mut table, 3, |row| row.raft_id = 17);
    let old = view(&[1, 2, 3], &[]);
    assert_eq!(planned(&old, &table, ALL), Some(Step::Change(Change::Remove(3))));
    let without = view(&[1, 2], &[]);
    let add = Step::Change(Change::AddLearner(17, member(3)));
    assert_eq!(planned(&without, &table, ALL), Some(add));
}

#[test]
fn another_address_is_dialled() {
    let mut table = rows(&[1, 2]);
    changed(&mut table, 2, |row| row.address = "h9:1".to_owned());
    let dial = Step::Change(Change::Readdress(2, "h9:1".to_owned()));
    assert_eq!(planned(&view(&[1, 2], &[]), &table, ALL), Some(dial));
}

/// An engine without a network: what a step makes of it, or half of it.
struct Engine {
    leads: u64,
    voters: BTreeSet<u64>,
    /// The voters to be, while a change is in progress, and whether those that go stay as learners.
    next: Option<BTreeSet<u64>>,
    members: BTreeMap<u64, Member>,
}

impl Engine {
    fn view(&self) -> EngineState {
        let voters = self.voters.iter().chain(self.next.iter().flatten()).copied();
        let voters: BTreeSet<u64> = voters.collect();
        EngineState {
            id: self.leads,
            voters: voters.into_iter().collect(),
            joint: self.next.is_some(),
            members: self.members.clone(),
            ..EngineState::default()
        }
    }

    /// Takes a step; cut off in the middle, only what is committed first.
    fn take(&mut self, step: Step, cut: bool) {
        let (mut voters, mut gone) = (self.voters.clone(), None);
        match step {
            Step::Init(_) => unreachable!("every member has a row"),
            Step::HandOver(to) => self.leads = to,
            Step::Change(Change::AddLearner(id, member)) => {
                self.members.insert(id, member);
            }
            Step::Change(Change::Readdress(id, address)) => {
                self.members.get_mut(&id).unwrap().address = address;
            }
            Step::Change(Change::Promote(id)) => {
                voters.insert(id);
            }
            Step::Change(Change::Demote(id)) => {
                voters.remove(&id);
            }
            Step::Change(Change::Remove(id)) => {
                if !voters.remove(&id) {
                    self.members.remove(&id);
                }
                gone = Some(id);
            }
            Step::Change(Change::Finish) => voters = self.next.take().unwrap(),
        }
        assert!(voters.contains(&self.leads), "the primary took its own vote");
        if voters == self.voters {
            return;
        }
        if cut && self.next.is_none() {
            self.next = Some(voters);
            return;
        }
        self.voters = voters;
        if let Some(gone) = gone {
            self.members.remove(&gone);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the table says, and however often somebody else takes over in the middle of a step:
    /// in the end the engine is what the table says. Seen to fail with a missing `Change::Finish`,
    /// and with removed learners left in.
    #[test]
    fn every_table_is_reached_from_everywhere(
        wanted in prop::collection::vec(0_u8..4, 6),
        takeovers in prop::collection::vec((any::<bool>(), 0_usize..6), 0..12),
    ) {
        let mut table: Vec<MemberRow> = (1..=6).map(row).collect();
        for (row, wants) in table.iter_mut().zip(&wanted) {
            match wants {
                0 => row.state = MemberState::Removed.into(),
                1 => row.wants = MemberWants::Learner.into(),
                _ => {}
            }
        }
        let wanted = |row: &&MemberRow| row.noticed() != MemberState::Removed;
        let voters: BTreeSet<u64> = table.iter().filter(wanted)
            .filter(|row| row.wants_vote()).map(|row| row.raft_id).collect();
        // The table never wants nobody, nor fewer of the first voters than somebody.
        prop_assume!(voters.iter().any(|id| *id <= 4));
        let mut engine = Engine {
            leads: 1,
            voters: (1..=4).collect(),
            next: None,
            members: (1..=4).map(|id| (id, member(id))).collect(),
        };
        let mut takeovers = takeovers.into_iter();
        let mut steps = 0;
        while let Some(step) = planned(&engine.view(), &table, &[1, 2, 3, 4, 5, 6]) {
            let (cut, next) = takeovers.next().unwrap_or((false, 0));
            engine.take(step, cut);
            if cut {
                // Any voter of both configurations may lead next.
                let both: Vec<u64> = engine.voters.iter().copied()
                    .filter(|id| engine.next.as_ref().is_none_or(|next| next.contains(id)))
                    .collect();
                engine.leads = both[next % both.len()];
            }
            steps += 1;
            prop_assert!(steps < 60, "it does not come to an end");
        }
        prop_assert_eq!(&engine.voters, &voters);
        let members: BTreeSet<u64> = engine.members.keys().copied().collect();
        let wanted: BTreeSet<u64> = table.iter().filter(wanted).map(|row| row.raft_id).collect();
        prop_assert_eq!(members, wanted);
    }
}
