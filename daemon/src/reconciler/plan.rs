//! What has to be done next to bring the engine's membership in line with the table: a pure function
//! of both, and of how the nodes are.
//!
//! Invariants:
//! * no vote is given or taken while the voters of the new configuration that are up are no majority
//!   of it: the change could not be finished, and nothing else would be decided meanwhile;
//! * the primary takes no vote from itself: it hands the role over first.
//!
//! Not here: doing it (`reconciler`), the choice among candidates (`prefer`).

use std::collections::BTreeMap;
use std::fmt;

use planted::Bug;
use proto::limits::VOTERS_MAX;
use proto::member::{MemberRow, MemberState, MemberWants, Members as Rows, default_priority};

use crate::raft::{Change, EngineState, Member};

use super::prefer::{self, Candidate};

/// A learner whose log is this many entries behind at most has caught up.
const CAUGHT_UP: u64 = 64;

/// How another node is. One that is not heard has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Health {
    /// Whether its clock is good enough to lead, as it says.
    pub(super) may_lead: bool,
    /// How many entries its log is behind; `None` if not known.
    pub(super) behind: Option<u64>,
    /// Whether its disk has been slow lately, beside this node's.
    pub(super) slow: bool,
}

/// What a plan goes by.
pub(super) struct Situation<'a> {
    /// The engine on this primary.
    pub(super) view: &'a EngineState,
    /// The table.
    pub(super) rows: &'a [MemberRow],
    /// The other nodes that are up, by raft id.
    pub(super) health: &'a BTreeMap<u64, Health>,
    /// Who could take the primary role over.
    pub(super) candidates: &'a [Candidate],
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Enter members of the engine that the table does not know.
    Init(Vec<MemberRow>),
    /// Change the engine's membership.
    Change(Change),
    /// Give the primary role to another voter.
    HandOver(u64),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init(rows) => write!(f, "enter {} members", rows.len()),
            Self::Change(Change::AddLearner(id, member)) => {
                write!(f, "replicate to {} ({id})", member.name)
            }
            Self::Change(Change::Promote(id)) => write!(f, "give {id} a vote"),
            Self::Change(Change::Demote(id)) => write!(f, "take the vote of {id}"),
            Self::Change(Change::Remove(id)) => write!(f, "remove {id}"),
            Self::Change(Change::Readdress(id, address)) => write!(f, "dial {id} at {address}"),
            Self::Change(Change::Finish) => f.write_str("finish a change that was begun"),
            Self::HandOver(id) => write!(f, "hand over to {id}"),
        }
    }
}

/// The next step; `None` if the engine is what the table says.
pub(super) fn next(now: &Situation<'_>) -> Option<Step> {
    if now.view.joint {
        return Some(Step::Change(Change::Finish));
    }
    None.or_else(|| missing(now.view, now.rows).map(|rows| Step::Init(rows.members)))
        .or_else(|| now.removal())
        .or_else(|| now.addition())
        .or_else(|| now.address())
        .or_else(|| now.demotion())
        .or_else(|| now.promotion())
}

/// Rows for the members that the table does not know: the first ones of a cluster.
pub(crate) fn missing(view: &EngineState, rows: &[MemberRow]) -> Option<Rows> {
    let unknown = |member: &Member| rows.iter().all(|row| row.name != member.name);
    let row = |(id, member): (&u64, &Member)| MemberRow {
        name: member.name.clone(),
        raft_id: *id,
        incarnation: member.incarnation.to_vec(),
        address: member.address.clone(),
        priority: default_priority(&member.name),
        wants: i32::from(if view.voters.contains(id) {
            MemberWants::Voter
        } else {
            MemberWants::Learner
        }),
        state: i32::from(MemberState::Admitted),
        ..MemberRow::default()
    };
    let members: Vec<_> =
        view.members.iter().filter(|(_, member)| unknown(member)).map(row).collect();
    (!members.is_empty()).then(|| Rows { members, ..Rows::default() })
}

/// Whether a node that was taken back is what it was before: it votes again, or follows closely if it is
/// meant to do no more. `behind`: how many entries each other log is behind. The primary itself, which
/// looks, may be one that got the role before its repair was noted as ended.
pub(super) fn is_repaired(
    view: &EngineState,
    row: &MemberRow,
    behind: &BTreeMap<u64, Option<u64>>,
) -> bool {
    let leads = (row.raft_id == view.id).then_some(0);
    let behind = leads.or_else(|| behind.get(&row.raft_id).copied().flatten());
    let votes = view.voters.contains(&row.raft_id) && !view.joint;
    row.repair.is_some()
        && row.noticed() == MemberState::Joined
        && (votes || !row.wants_vote())
        && behind.is_some_and(|behind| behind <= CAUGHT_UP)
}

/// The row of a member that still is one.
fn live(rows: &[MemberRow], id: u64) -> Option<&MemberRow> {
    rows.iter().find(|row| row.raft_id == id && row.noticed() != MemberState::Removed)
}

impl Situation<'_> {
    /// Members whose row says that they are removed, or that another store has their name now.
    fn removal(&self) -> Option<Step> {
        let gone = |id: &u64| live(self.rows, *id).is_none();
        let mut gone: Vec<u64> = self.view.members.keys().copied().filter(gone).collect();
        if planted::is(Bug::VoterStays) {
            gone.retain(|id| !self.votes(*id));
        }
        // Those without a vote first: they take no majority.
        gone.sort_by_key(|id| self.votes(*id));
        let removable = |id: &&u64| {
            **id != self.view.id && (!self.votes(**id) || self.keeps_majority(None, Some(**id)))
        };
        if let Some(id) = gone.iter().find(removable) {
            return Some(Step::Change(Change::Remove(*id)));
        }
        gone.contains(&self.view.id).then(|| self.give_away()).flatten()
    }

    /// Members of the table that the engine does not know.
    fn addition(&self) -> Option<Step> {
        let members = &self.view.members;
        let is_new = |row: &&MemberRow| {
            row.noticed() != MemberState::Removed
                && row.raft_id != 0
                && !members.contains_key(&row.raft_id)
                // Its name is free once the store that had it is out.
                && members.values().all(|member| member.name != row.name)
        };
        let row = self.rows.iter().find(is_new)?;
        let incarnation = row.incarnation.as_slice().try_into().ok()?;
        let (name, address) = (row.name.clone(), row.address.clone());
        let member = Member { name, address, incarnation };
        Some(Step::Change(Change::AddLearner(row.raft_id, member)))
    }

    fn address(&self) -> Option<Step> {
        let other = |(id, member): (&u64, &Member)| {
            let row = live(self.rows, *id)?;
            let other = !row.address.is_empty() && row.address != member.address;
            other.then(|| Step::Change(Change::Readdress(*id, row.address.clone())))
        };
        self.view.members.iter().find_map(other)
    }

    /// Voters that are meant to be learners.
    fn demotion(&self) -> Option<Step> {
        let voters = self.view.voters.iter();
        let surplus = |id: &&u64| live(self.rows, **id).is_some_and(|row| !row.wants_vote());
        let surplus: Vec<u64> = voters.filter(surplus).copied().collect();
        let demotable = |id: &&u64| **id != self.view.id && self.keeps_majority(None, Some(**id));
        if let Some(id) = surplus.iter().find(demotable) {
            return Some(Step::Change(Change::Demote(*id)));
        }
        surplus.contains(&self.view.id).then(|| self.give_away()).flatten()
    }

    /// Learners that are meant to vote, take part, and have caught up.
    fn promotion(&self) -> Option<Step> {
        if self.view.voters.len() >= VOTERS_MAX {
            return None;
        }
        let ready = |id: &&u64| {
            let row = live(self.rows, **id);
            let row = row.filter(|row| row.wants_vote() && row.noticed() == MemberState::Joined);
            let behind = self.health.get(*id).and_then(|health| health.behind);
            row.is_some() && behind.is_some_and(|behind| behind <= CAUGHT_UP)
        };
        let learners = self.view.members.keys().filter(|id| !self.votes(**id));
        let id = learners.filter(ready).find(|id| self.keeps_majority(Some(**id), None))?;
        Some(Step::Change(Change::Promote(*id)))
    }

    /// The best voter takes the role over from this node, which is to lose its vote.
    fn give_away(&self) -> Option<Step> {
        prefer::best(self.candidates).map(|best| Step::HandOver(best.id))
    }

    fn votes(&self, id: u64) -> bool {
        self.view.voters.contains(&id)
    }

    /// Whether a majority of the voters would be up, with one more or one less.
    fn keeps_majority(&self, more: Option<u64>, less: Option<u64>) -> bool {
        let voters = self.view.voters.iter().filter(|id| Some(**id) != less);
        let voters: Vec<u64> = voters.copied().chain(more).collect();
        let is_up = |id: &&u64| **id == self.view.id || self.health.contains_key(*id);
        voters.iter().filter(is_up).count() * 2 > voters.len()
    }
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
