//! Changes of the engine's membership, and what people see of its state.
//!
//! A change of voters goes through a joint configuration: two entries, of which a majority of the
//! old and of the new voters commits the first. Whoever leads when the first is committed and the
//! second is not sees a joint view, and [`Change::Finish`] ends it.
//!
//! Invariant: a change is made against the membership that its maker saw, or not at all. One that was
//! thought out under an older membership could bring back a voter that was removed meanwhile.
//!
//! Not here: which change comes next (`reconciler`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::Precondition;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::ChangeMembershipRequest;

use super::types::{CommittedLeader, LogId, Member, Types};
use super::{EngineState, Handle, codec};

/// One change of the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Replicate to a node that has no vote. Does not wait until it has caught up.
    AddLearner(u64, Member),
    /// Give a learner a vote.
    Promote(u64),
    /// Take a vote away; the node stays a learner.
    Demote(u64),
    /// Replicate to a node no more; if it has a vote, it is taken away first.
    Remove(u64),
    /// Another address for a node. Its name and the incarnation of its store stay what they were.
    Readdress(u64, String),
    /// Finish a change that is under way for longer than its maker lives.
    Finish,
}

/// Why a membership was not changed, or nobody knows whether it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// This node is not the primary any more. A change that had begun may go on elsewhere.
    #[error("this node is not the primary")]
    NotPrimary,
    /// The membership is another one than the change was made for, or a change is under way.
    #[error("the membership has changed meanwhile: {0}")]
    Overtaken(String),
    /// The engine would not have it.
    #[error("the engine refuses: {0}")]
    Refused(String),
    /// No majority of the old and of the new voters has taken it in time.
    #[error("no majority has confirmed it in {} s", .0.as_secs())]
    Late(Duration),
    /// The engine stopped.
    #[error("the engine stopped: {0}")]
    Stopped(String),
}

/// How another node takes what a primary sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follower {
    /// Up to where its log is known to match; `None` before the first answer.
    pub matched: Option<u64>,
    /// How long ago it acknowledged something, a heartbeat at least; `None` before the first time.
    pub acked: Option<Duration>,
}

/// What people see of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineInternals {
    /// Term of its vote.
    pub vote_term: u64,
    /// Raft id of whom it voted for in that term.
    pub voted_for: Option<u64>,
    /// Whether that vote is known to have won.
    pub vote_committed: bool,
    /// Index of the last entry that this node knows to be committed.
    pub committed: Option<u64>,
    /// Index up to which the log is purged.
    pub purged: Option<u64>,
}

impl Handle {
    /// Changes the membership that `seen` shows, and waits until the new one is committed. Given up,
    /// a change of voters may stay half done: joint.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change(
        &self,
        seen: &EngineState,
        change: Change,
        within: Duration,
    ) -> Result<(), ChangeError> {
        let Some((changes, retain)) = changes(seen, change) else { return Ok(()) };
        let last = seen.membership_at.map(|(term, index)| LogId::new(leader(term), index));
        let precondition = Precondition::LastMembershipLogId { last_membership_log_id: last };
        let request = ChangeMembershipRequest::<Types>::new(changes, retain);
        let request = request.with_preconditions([precondition]);
        let changing = self.raft.change_membership_with_payload(request);
        match tokio::time::timeout(within, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::Fatal(error))) => Err(ChangeError::Stopped(error.to_string())),
            Ok(Err(RaftError::APIError(error))) => Err(refusal(&error)),
            Err(_) => Err(ChangeError::Late(within)),
        }
    }

    /// On the primary: how many entries each other node's log is behind; `None` where nothing is
    /// known yet. Empty elsewhere.
    #[must_use]
    pub fn behind(&self) -> BTreeMap<u64, Option<u64>> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(replication) = &metrics.replication else { return BTreeMap::new() };
        let last = metrics.last_log_index.unwrap_or(0);
        let behind = replication.iter().filter(|(id, _)| **id != metrics.id);
        let behind = behind.map(|(id, matched)| {
            (*id, matched.as_ref().map(|matched| last.saturating_sub(matched.index())))
        });
        behind.collect()
    }

    /// On the primary: the index up to which each other node's log is known to hold the same;
    /// `None` where nothing is known yet. Empty elsewhere.
    #[must_use]
    pub fn matched(&self) -> BTreeMap<u64, Option<u64>> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(replication) = &metrics.replication else { return BTreeMap::new() };
        let others = replication.iter().filter(|(id, _)| **id != metrics.id);
        others.map(|(id, at)| (*id, at.as_ref().map(openraft::LogId::index))).collect()
    }

    /// On the primary: how the other nodes take what it sends; empty elsewhere.
    #[must_use]
    pub fn followers(&self) -> BTreeMap<u64, Follower> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(replication) = &metrics.replication else { return BTreeMap::new() };
        let acked = |id: &u64| {
            let at = metrics.heartbeat.as_ref()?.get(id)?.as_ref()?;
            Some(openraft::Instant::elapsed(&**at))
        };
        let others = replication.iter().filter(|(id, _)| **id != metrics.id);
        let follower = |(id, matched): (&u64, &Option<LogId>)| {
            let matched = matched.as_ref().map(|matched| matched.index());
            (*id, Follower { matched, acked: acked(id) })
        };
        others.map(follower).collect()
    }

    /// Index of the last entry in the log, and of the last that is known to be decided.
    #[must_use]
    pub fn decided(&self) -> (u64, u64) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let committed = metrics.cluster_committed.as_ref().map_or(0, |at| at.index());
        (metrics.last_log_index.unwrap_or(0), committed)
    }

    /// What people see of the engine.
    #[must_use]
    pub fn state(&self) -> EngineInternals {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let vote = codec::stored_vote(&metrics.vote);
        EngineInternals {
            vote_term: vote.term,
            voted_for: Some(vote.node).filter(|_| vote.term > 0),
            vote_committed: vote.committed,
            committed: metrics.local_committed.as_ref().map(|at| at.index()),
            purged: metrics.purged.as_ref().map(|at| at.index()),
        }
    }
}

fn leader(term: u64) -> CommittedLeader {
    CommittedLeader::new(term)
}

/// A change in the engine's terms, and whether voters that lose their vote stay as learners; `None`
/// if there is nothing to do.
fn changes(seen: &EngineState, change: Change) -> Option<(ChangeMembers<u64, Member>, bool)> {
    let only = |id: u64| BTreeSet::from([id]);
    let is_voter = |id: &u64| seen.voters.contains(id);
    Some(match change {
        Change::AddLearner(id, member) => {
            (ChangeMembers::AddNodes(BTreeMap::from([(id, member)])), true)
        }
        Change::Promote(id) => (ChangeMembers::AddVoterIds(only(id)), true),
        Change::Demote(id) => (ChangeMembers::RemoveVoters(only(id)), true),
        Change::Remove(id) if is_voter(&id) => (ChangeMembers::RemoveVoters(only(id)), false),
        Change::Remove(id) => (ChangeMembers::RemoveNodes(only(id)), true),
        Change::Readdress(id, address) => {
            let member = Member { address, ..seen.members.get(&id)?.clone() };
            (ChangeMembers::SetNodes(BTreeMap::from([(id, member)])), true)
        }
        Change::Finish if !seen.joint => return None,
        // Nobody in addition: what is left to do is the second step of what has begun.
        Change::Finish => (ChangeMembers::AddVoterIds(BTreeSet::new()), true),
    })
}

fn refusal(error: &ClientWriteError<Types>) -> ChangeError {
    match error {
        ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_) => {
            ChangeError::NotPrimary
        }
        ClientWriteError::PreconditionFailed(error) => ChangeError::Overtaken(error.to_string()),
        ClientWriteError::ChangeMembershipError(error) => match error {
            ChangeMembershipError::InProgress(_)
            | ChangeMembershipError::UncommittedLeaderLog(_) => {
                ChangeError::Overtaken(error.to_string())
            }
            ChangeMembershipError::EmptyMembership(_)
            | ChangeMembershipError::LearnerNotFound(_)
            | ChangeMembershipError::UnsupportedMembershipTransition(_)
            | ChangeMembershipError::NodeMetadataChanged(_) => {
                ChangeError::Refused(error.to_string())
            }
        },
    }
}
