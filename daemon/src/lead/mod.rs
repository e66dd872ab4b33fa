//! Whether this node may lead with its clock: describes the situation to the policy twenty times a
//! second and whenever it changes, and does what the policy decides.
//!
//! The policy switches the engine's elections and heartbeats, hands the primary role over, and says
//! whether the primary may mint. Here is only what that takes: who is heard, who refuses, what the
//! cluster's settings are.
//!
//! Invariants:
//! * nothing is minted on a decision that was made as a backup, nor on one that was made while the
//!   clock was still trusted and is not any more;
//! * with `clock.mode = "local"` every clock qualifies.
//!
//! Not here: the rules (`clock::lead`), the verdict of the peers (`fence`), the guard of backups
//! (`raft`).

mod fence;
mod task;

use clock::ClockState;
use clock::guard::stamp_limit_ns;
use clock::lead::{Decision, Mint, OnLoss, Policy, Refusal, UnsyncedStart};
use clock::peer::PeerVerdict;
use config::Clock;
use model::CommandOp;
use proto::{ErrorCode, Failure, Problem};
use tokio::sync::watch;

use crate::peer_monitor::PeerMonitor;
use crate::raft::{Guard, Handle};
use crate::store::Store;
use crate::tasks::Tasks;
use crate::time::{NodeClock, clock_failure};

pub(crate) use self::task::{CAUGHT_UP, FASTER, SLOW, candidates, is_slow_beside};

use self::task::Task;

/// What was decided last, for everybody who asks. Cheap to clone.
#[derive(Clone)]
pub struct Lead {
    node_clock: NodeClock,
    last: watch::Sender<LastDecision>,
}

/// What was decided last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LastDecision {
    /// `None` before the first look.
    decision: Option<Decision>,
    /// Whether it was made as primary.
    primary: bool,
    on_loss: OnLoss,
    problems: Vec<Problem>,
}

/// Where a command's stamp comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamping {
    /// The clock.
    Clock,
    /// The order alone: the next value, with unknown bounds.
    Order,
}

/// What the task works with.
pub struct Parts {
    /// The engine.
    pub engine: Handle,
    /// How the other nodes are.
    pub members: PeerMonitor,
    /// The state, which holds the cluster's settings.
    pub store: Store,
    /// Longest election timeout, in milliseconds.
    pub election_max_ms: u64,
}

impl Parts {
    /// Of a running engine.
    pub(crate) fn new(
        engine: &Handle,
        members: &PeerMonitor,
        store: &Store,
        election_max_ms: u64,
    ) -> Self {
        let (engine, members, store) = (engine.clone(), members.clone(), store.clone());
        Self { engine, members, store, election_max_ms }
    }
}

impl Lead {
    /// Nothing is decided yet, so nothing is allowed.
    #[must_use]
    pub fn new(node_clock: NodeClock, config: &Clock) -> Self {
        let on_loss = config.on_loss;
        let said = LastDecision { decision: None, primary: false, on_loss, problems: Vec::new() };
        Self { node_clock, last: watch::Sender::new(said) }
    }

    /// Starts the task.
    pub fn start(&self, parts: Parts, unsynced_start: UnsyncedStart, tasks: &Tasks) {
        let policy = Policy::new(0, parts.election_max_ms, unsynced_start);
        let task = Task::new(self.clone(), parts, policy);
        tasks.keep_until_stop("lead", task.run());
    }

    /// What stands in front of the engine: judges by this node's clock, as long as nobody doubts
    /// it.
    #[must_use]
    pub fn guard(&self, members: PeerMonitor) -> Guard {
        let node_clock = self.node_clock.clone();
        let limit_ns = move || {
            let latest_ns =
                node_clock.reading().latest_ns.filter(|_| node_clock.state().is_trusted())?;
            let log_floor_ns = node_clock.hlc().log_floor().ns;
            Some(stamp_limit_ns(latest_ns, node_clock.max_error_ns(), log_floor_ns))
        };
        let said = self.last.subscribe();
        let hears = move |candidate: &str| {
            let shuns = said.borrow().decision.is_some_and(|decision| decision.shun_disjoint);
            let verdict = members.compared(candidate).map(|compared| compared.verdict);
            !(shuns && verdict == Some(PeerVerdict::Disjoint))
        };
        Guard::new(limit_ns, hears)
    }

    /// Whether this node, as primary, may mint now.
    ///
    /// # Errors
    /// `NotPrimary` if another node is about to lead, `ClockUnavailable` if no clock is good
    /// enough. Nothing was done.
    pub fn may_write(&self) -> Result<(), Failure> {
        let said = self.last.borrow();
        let not_primary = |what: &str| Failure::new(ErrorCode::NotPrimary, what);
        let decision = said.decision.filter(|_| said.primary);
        let decision =
            decision.ok_or_else(|| not_primary("the primary has just begun its term"))?;
        match decision.mint {
            Mint::Unbounded => Ok(()),
            Mint::Allowed => match self.node_clock.state() {
                ClockState::Unsynced | ClockState::Suspect => {
                    Err(not_primary("the primary's clock has just come into doubt"))
                }
                ClockState::Synced
                | ClockState::Local
                | ClockState::Holdover
                | ClockState::Disagree
                | ClockState::Expired => Ok(()),
            },
            Mint::Refused(refusal) => Err(match refusal {
                Refusal::HandingOver | Refusal::InFuture => {
                    Failure::new(ErrorCode::NotPrimary, refusal)
                }
                Refusal::NoClock | Refusal::Unsynced => {
                    Failure::new(ErrorCode::ClockUnavailable, refusal)
                }
                Refusal::Behind => match self.node_clock.behind() {
                    Some(until) => clock_failure(until),
                    None => not_primary("the primary's clock has just caught up with its ceiling"),
                },
            }),
        }
    }

    /// Whether and how this node, as primary, may stamp a command now. Settings are let through where
    /// nothing but a good clock is missing: they may be what ends that.
    ///
    /// # Errors
    /// As [`Lead::may_write`].
    pub fn may_order(&self, op: &CommandOp) -> Result<Stamping, Failure> {
        match self.may_write() {
            Ok(()) => Ok(Stamping::Clock),
            // A clock that is behind its own ceiling is no matter of settings, and the next value in the
            // order would carry all of log time up there.
            Err(failure)
                if failure.error_code() == ErrorCode::ClockUnavailable
                    && matches!(op, CommandOp::Configure(_))
                    && self.node_clock.behind().is_none() =>
            {
                Ok(Stamping::Order)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Whether a send may be acknowledged late enough for its stamp to be certainly past.
    ///
    /// # Errors
    /// `Invalid` if the cluster would write with unknown bounds, `ClockUnavailable` if the bounds
    /// are unknown now.
    pub fn may_commit_wait(&self) -> Result<(), Failure> {
        if self.last.borrow().on_loss != OnLoss::Refuse {
            let message = "a commit wait needs a cluster that refuses writes on a bad clock: \
                           logctl cluster set on-loss=refuse";
            return Err(Failure::new(ErrorCode::Invalid, message));
        }
        match self.node_clock.reading().earliest_ns {
            Some(_) => Ok(()),
            None => {
                let message = "a commit wait needs bounds, and the primary's clock has none";
                Err(Failure::new(ErrorCode::ClockUnavailable, message))
            }
        }
    }

    /// Whether this node is a good choice as primary, as the others are told.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        self.last.borrow().decision.is_some_and(|decision| decision.may_lead)
    }

    /// Whether this node gives the primary role away because of its clock.
    #[must_use]
    pub(crate) fn hands_over(&self) -> bool {
        self.last.borrow().decision.is_some_and(|decision| decision.hand_over)
    }

    /// What a person should look at.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.last.borrow().problems.clone()
    }

    /// For whoever waits for another decision.
    #[must_use]
    pub fn news(&self) -> DecisionChanges {
        DecisionChanges(self.last.subscribe())
    }
}

/// Tells of decisions.
pub struct DecisionChanges(watch::Receiver<LastDecision>);

impl DecisionChanges {
    /// Completes when something else was decided; never again once the node is gone.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod lead_test;
