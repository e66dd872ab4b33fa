//! What the rest of the daemon sees of the engine's state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use planted::Bug;
use proto::member::NodeRole;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::pause;

use super::Raft;
use super::types::{Member, StoredMembership, Types};

/// A primary that no majority has answered for this long is one no more, in milliseconds.
const QUORUM_FRESH_MS: u64 = 1000;

/// How long such a lease lasts, in milliseconds: less than the shortest election.
const LEASE_MS: u64 = 100;
/// How many turns of others may come before that of who looks after the lease.
const LEASE_BEHIND: usize = 16;

const _: () =
    assert!(LEASE_MS < QUORUM_FRESH_MS, "a lease is over before its majority is taken for lost");

/// A node's role in its term.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// Orders and replicates.
    Primary,
    /// Follows a primary.
    Backup,
    /// Asks for votes.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// The engine is starting or stopping.
    #[default]
    Unknown,
}

impl Role {
    /// The word that users see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let role = match self {
            Self::Primary => NodeRole::Primary,
            Self::Backup => NodeRole::Backup,
            Self::Candidate => NodeRole::Candidate,
            Self::Learner => NodeRole::Learner,
            Self::Unknown => NodeRole::Unknown,
        };
        role.as_str()
    }
}

/// The engine's state at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineState {
    /// Raft id of this node.
    pub id: u64,
    /// This node's role.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// Raft id of the primary, if one is known.
    pub primary: Option<u64>,
    /// Index of the last entry in the log.
    pub last_index: Option<u64>,
    /// On the primary: when what a majority last answered was sent; `None` elsewhere.
    pub quorum_acked: Option<Instant>,
    /// Members by raft id.
    pub members: BTreeMap<u64, Member>,
    /// Raft ids that vote; while a change is under way, those of both configurations.
    pub voters: Vec<u64>,
    /// Whether a change of voters is under way: what is decided takes a majority of the old voters
    /// and one of the new.
    pub joint: bool,
    /// Term and index of the entry that holds this membership; `None` before the first.
    pub membership_at: Option<(u64, u64)>,
    /// Why the engine stopped, if it did.
    pub stopped: Option<String>,
}

impl EngineState {
    /// The primary as a member, if one is known.
    #[must_use]
    pub fn primary_member(&self) -> Option<(u64, &Member)> {
        let id = self.primary?;
        self.members.get(&id).map(|member| (id, member))
    }

    /// On the primary: milliseconds since a majority was last heard; `None` elsewhere.
    #[must_use]
    pub fn quorum_ack_ms(&self) -> Option<u64> {
        let at = self.quorum_acked?;
        Some(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// On the primary: whether a majority was heard lately; true elsewhere, where nobody can tell.
    /// A primary that nobody follows any more does not know it at once.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        // The engine notes what others answer: whoever votes alone is its own majority.
        self.voters == [self.id] || self.quorum_ack_ms().is_none_or(|ms| ms < QUORUM_FRESH_MS)
    }

    /// Whether this node is the primary.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.role == Role::Primary
    }
}

/// Follows the engine's metrics until the engine is gone. Whoever waits for a change is woken by one of
/// who leads, who is a member or whether the engine runs; how far the log is, and when a majority last
/// answered, moves with every entry: that is there to be read, and wakes nobody.
pub(crate) fn follow(raft: &Raft) -> watch::Receiver<EngineState> {
    let mut metrics = raft.metrics();
    let mut first = EngineState::default();
    first.move_on(&metrics.borrow_watched());
    let (tx, rx) = watch::channel(first);
    pause::spawn(async move {
        while metrics.changed().await.is_ok() {
            let metrics = metrics.borrow_and_update();
            tx.send_if_modified(|view| view.move_on(&metrics));
        }
        tx.send_modify(|view| {
            view.role = Role::Unknown;
            view.primary = None;
            view.stopped.get_or_insert_with(|| "the engine ended".to_owned());
        });
    });
    rx
}

/// A lease of the primary, kept only where that bug is planted: whether a majority was heard when this was
/// last looked at, which was long ago for a process that stood still.
pub(super) fn lease(view: &watch::Receiver<EngineState>) -> Arc<AtomicBool> {
    let (view, lease) = (view.clone(), Arc::<AtomicBool>::default());
    if planted::is(Bug::LeaseRead) {
        let kept = Arc::clone(&lease);
        pause::spawn(async move {
            loop {
                let fresh = view.borrow().quorum_ack_ms().is_some_and(|ms| ms < LEASE_MS);
                kept.store(fresh, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(LEASE_MS / 5)).await;
                // Others have been woken, too, and may come first.
                for _ in 0..LEASE_BEHIND {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    lease
}

impl EngineState {
    /// Becomes what the metrics say. Returns whether somebody may wait for what is new.
    fn move_on(&mut self, metrics: &openraft::RaftMetrics<Types>) -> bool {
        let before =
            (self.role, self.term, self.primary, self.membership_at, self.voters.is_empty());
        assert!(self.id == metrics.id || self.members.is_empty(), "the engine is another node's");
        assert!(self.term <= metrics.current_term, "{metrics} after term {}", self.term);
        self.id = metrics.id;
        self.role = match metrics.state {
            ServerState::Leader => Role::Primary,
            ServerState::Follower => Role::Backup,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Unknown,
        };
        self.term = metrics.current_term;
        self.primary = metrics.current_leader;
        self.last_index = metrics.last_log_index;
        let acked = metrics.last_quorum_acked.as_ref();
        self.quorum_acked =
            acked.and_then(|at| Instant::now().checked_sub(openraft::Instant::elapsed(&**at)));
        let membership = &metrics.membership_config;
        let at = membership.log_id().as_ref();
        let at = at.map(|at| (at.committed_leader_id().term, at.index()));
        // One entry holds one membership.
        if at.is_none() || at != self.membership_at {
            self.join(membership);
        }
        self.membership_at = at;
        let stopped = metrics.running_state.as_ref().err().map(ToString::to_string);
        let ends = std::mem::replace(&mut self.stopped, stopped) != self.stopped;
        let now = (self.role, self.term, self.primary, self.membership_at, self.voters.is_empty());
        ends || now != before
    }

    fn join(&mut self, membership: &StoredMembership) {
        let is_member = |id: u64| membership.nodes().any(|(member, _)| *member == id);
        assert!(membership.voter_ids().all(is_member), "a voter that is no member: {membership}");
        self.members = membership.nodes().map(|(id, member)| (*id, member.clone())).collect();
        self.voters = membership.voter_ids().collect();
        self.joint = membership.get_joint_config().len() > 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_primary_is_followed_while_a_majority_answers_or_if_it_votes_alone() {
        let now = Instant::now();
        let long_ago = now.checked_sub(Duration::from_millis(QUORUM_FRESH_MS)).unwrap();
        let view = |quorum_acked, voters: &[u64]| EngineState {
            id: 1,
            role: Role::Primary,
            quorum_acked,
            voters: voters.to_vec(),
            ..EngineState::default()
        };
        assert!(view(Some(now), &[1, 2, 3]).is_followed());
        assert!(!view(Some(long_ago), &[1, 2, 3]).is_followed());
        assert!(!view(Some(long_ago), &[2]).is_followed());
        assert!(view(Some(long_ago), &[1]).is_followed());
        assert!(view(None, &[1, 2, 3]).is_followed(), "a backup cannot tell");
    }
}
