//! The replication engine: openraft behind a handle of our own. The only module that names it.
//!
//! What the handle promises to the rest of the daemon:
//! - a proposal that is answered with outcomes is in fsynced storage on a majority of voters;
//! - one that is answered with [`ProposeError::NotDone`] never takes effect;
//! - everything else is unknown, and the same message id may be sent again;
//! - proposals handed over in order under one leadership are in the log in that order.
//!
//! Not here: stamps (`proposer`), who may ask for what (`node`), lease reads (never: the lease is
//! void after a restart).

mod ballots;
mod codec;
mod elections;
mod ending;
mod engine_state;
mod guard;
mod lineage;
mod log;
mod machine;
mod membership;
mod network;
pub mod overheard;
mod runtime;
mod server;
mod states;
mod timing;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clock::Hlc;
use model::Outcome;
use net::Link;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::raft::linearizable_read::{Linearizer, ReadLogId};
use tokio::sync::watch;

use crate::chance::Chance;
use crate::pause;
use crate::stages::Stages;
use crate::store::{Store, StoreError, Writer};
use crate::tally::Tally;
use planted::Bug;

pub use self::ballots::PATIENCE_MAX;
pub(crate) use self::ballots::pace;
pub(crate) use self::ending::is_expected;
pub use self::engine_state::{EngineState, Role};
pub use self::guard::{Guard, Refusals};
pub(crate) use self::lineage::{Alone, highest_stamp, known_members};
pub use self::log::Observe;
pub use self::machine::Progress;
pub use self::membership::{Change, ChangeError, EngineInternals, Follower};
pub use self::network::peer_address;
pub(crate) use self::network::{URGENT_INFO, URGENT_RAFT};
pub use self::timing::{LogKept, Timing};
pub use self::types::{Member, Payload};

use self::ballots::Ballots;
use self::elections::Elections;
use self::log::LogStore;
use self::machine::StateMachine;
use self::network::Network;
use self::server::Receiving;
use self::types::{CommittedLeader, Entry, LogId, Membership, Reply, Types};

type Raft = openraft::Raft<Types, StateMachine>;

/// Proof of leadership at one moment: a proposal under it is refused once it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership(CommittedLeader);

impl Leadership {
    /// The term.
    #[must_use]
    pub fn term(self) -> u64 {
        self.0.term
    }
}

/// A voter that could take the primary role over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Successor {
    /// Its raft id.
    pub id: u64,
    /// How many entries its log is behind this primary's; `None` if not known.
    pub behind: Option<u64>,
}

/// Why a proposal gave no outcomes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Refused before it was appended; it will never take effect.
    #[error("this node is not the primary")]
    NotDone,
    /// It may or may not take effect.
    #[error("the primary changed while the entry was under way")]
    Unknown,
    /// The engine stopped; the process must end. The outcome is unknown.
    #[error("the engine stopped: {0}")]
    Stopped(String),
}

/// A place that a linearizable read has to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// Raft id of the primary that gave it.
    pub primary: u64,
    /// Term of the log id.
    pub term: u64,
    /// Index of the log id.
    pub index: u64,
}

/// Why there is no barrier, or it was not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// This node is not the primary.
    #[error("this node is not the primary")]
    NotPrimary,
    /// The primary cannot reach a majority.
    #[error("the primary cannot reach a majority")]
    NoQuorum,
    /// The state machine did not reach it in time.
    #[error("this node lags behind the primary")]
    Behind,
    /// The engine stopped.
    #[error("the engine stopped: {0}")]
    Stopped(String),
}

/// The running engine. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    raft: Raft,
    store: Store,
    writer: Writer,
    observe: Observe,
    machine: machine::Watch,
    receiving: Arc<Receiving>,
    view: watch::Receiver<EngineState>,
    /// See [`engine_state::lease`].
    lease: Arc<AtomicBool>,
    guard: Arc<Guard>,
    refusals: Arc<Refusals>,
    /// Whether heartbeats are off, so that others elect.
    silent: Arc<AtomicBool>,
    elections: Arc<Elections>,
    ballots: Arc<Ballots>,
    stages: Stages,
    /// Whether it was told to stop: then it is asked nothing.
    stopping: Arc<AtomicBool>,
}

impl Handle {
    /// Starts the engine on a store that is proven intact. `observe` is told the highest stamp of
    /// everything that enters the log, before anything else can be stamped; `guard` judges what
    /// other nodes send before the engine sees it; it draws its election timeouts from `chance`.
    ///
    /// # Errors
    /// When the store cannot be read or the timing is out of range.
    pub async fn start(
        store: Store,
        timing: Timing,
        link: Arc<dyn Link>,
        observe: Observe,
        guard: Guard,
        chance: Chance,
    ) -> Result<Self, StoreError> {
        let id = store.identity().raft_id;
        let last_stamp = machine::last_stamp(&store)?;
        let log = LogStore::new(store.clone(), last_stamp, Arc::clone(&observe))?;
        let stages = log.stages().clone();
        let (state_machine, machine) =
            StateMachine::new(store.clone(), log.committed(), stages.clone())?;
        let config = timing.engine_config();
        let config = config.map_err(|error| StoreError::Foreign(error.to_string()))?;
        let refusals: Arc<Refusals> = Arc::default();
        let silent = Arc::<AtomicBool>::default();
        let ballots = log.ballots();
        let network = Network::new(
            link,
            id,
            Arc::clone(&refusals),
            Arc::clone(&silent),
            Arc::clone(&ballots),
        );
        let starting = Raft::new(id, Arc::new(config), network, log, state_machine);
        let raft = runtime::drawing(chance, starting).await;
        let raft = raft.map_err(|error| StoreError::Damaged(error.to_string()))?;
        let writer = store.writer()?;
        ending::has_begun();
        let view = engine_state::follow(&raft);
        let lease = engine_state::lease(&view);
        let (receiving, guard) = (Arc::default(), Arc::new(guard));
        let elections = Arc::new(Elections::new(timing.from_the_start));
        Ok(Self {
            raft,
            store,
            writer,
            observe,
            machine,
            receiving,
            view,
            lease,
            guard,
            refusals,
            silent,
            elections,
            ballots,
            stages,
            stopping: Arc::default(),
        })
    }

    /// How long the stages of a message's way take here.
    pub(crate) fn stages(&self) -> &Stages {
        &self.stages
    }

    /// Role, term, primary and members, as they change.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<EngineState> {
        self.view.clone()
    }

    /// Where the state machine stands, as it moves.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.machine.progress.clone()
    }

    /// Version of the table of nodes, as it grows.
    #[must_use]
    pub fn members_epoch(&self) -> watch::Receiver<u64> {
        self.machine.members_epoch.clone()
    }

    /// Digests of the state after its last entries, with the entries' indexes, the newest last.
    #[must_use]
    pub fn digests(&self) -> Vec<(u64, [u8; 32])> {
        self.machine.digests.list()
    }

    /// How many stamps had to be raised at apply; expected to stay 0.
    #[must_use]
    pub fn ratcheted(&self) -> u64 {
        self.machine.ratcheted.load(Ordering::Relaxed)
    }

    /// What was applied since the start.
    pub(crate) fn tally(&self) -> &Tally {
        &self.machine.tally
    }

    /// Proof that this node leads now; `None` if it does not.
    #[must_use]
    pub fn leadership(&self) -> Option<Leadership> {
        let leader = self.raft.as_leader().ok()?;
        Some(Leadership(leader.to_committed_leader_id()))
    }

    /// Hands an entry to the engine, bound to a leadership, and returns once it is queued. `reply`
    /// is called when it is decided, or when that will not be known; it must not look at the state, which
    /// waits for it (`Store::answering`).
    ///
    /// # Errors
    /// When the engine stopped; `reply` is then not called.
    pub async fn propose(
        &self,
        leadership: Leadership,
        payload: Payload,
        reply: impl FnOnce(Result<Vec<Outcome>, ProposeError>) + Send + 'static,
    ) -> Result<(), ProposeError> {
        let reply = Reply::new(move |result: openraft::raft::ClientWriteResult<Types>| {
            reply(match result {
                Ok(response) => Ok(response.data.outcomes),
                Err(ClientWriteError::ForwardToLeader(_)) => Err(ProposeError::NotDone),
                Err(_) => Err(ProposeError::Unknown),
            });
        });
        let write = self.raft.write(payload).with_leader(leadership.0).responder(reply);
        write.await.map_err(|error| ProposeError::Stopped(error.to_string()))
    }

    /// Confirms with a majority that this node leads, and gives the place that reads wait for.
    ///
    /// # Errors
    /// See [`BarrierError`].
    pub async fn barrier(&self) -> Result<Barrier, BarrierError> {
        if self.silent.load(Ordering::Relaxed) {
            // The round of heartbeats that it takes would keep the others from electing.
            return Err(BarrierError::NoQuorum);
        }
        let leased = planted::is(Bug::LeaseRead) && self.lease.load(Ordering::Relaxed);
        if (planted::is(Bug::ReadAsksNobody) || leased)
            && let Some(barrier) = self.own_barrier()
        {
            return Ok(barrier);
        }
        let linearizer = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
        let linearizer = linearizer.map_err(|error| match error {
            RaftError::APIError(LinearizableReadError::ForwardToLeader(_)) => {
                BarrierError::NotPrimary
            }
            RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => {
                BarrierError::NoQuorum
            }
            RaftError::Fatal(error) => BarrierError::Stopped(error.to_string()),
        })?;
        let place = linearizer.read_log_id();
        Ok(Barrier {
            primary: *linearizer.node_id(),
            term: place.committed_leader_id().term,
            index: place.index(),
        })
    }

    /// What a primary that asks nobody would take for a barrier.
    fn own_barrier(&self) -> Option<Barrier> {
        let term = self.leadership()?.term();
        let index = self.progress().borrow().index?;
        Some(Barrier { primary: self.view().borrow().id, term, index })
    }

    /// Waits until this node's state machine has reached a barrier.
    ///
    /// # Errors
    /// See [`BarrierError`].
    pub async fn reach(&self, barrier: Barrier, timeout: Duration) -> Result<(), BarrierError> {
        if planted::is(Bug::ReadDoesNotWait) {
            return Ok(());
        }
        let index = barrier.index.saturating_sub(u64::from(planted::is(Bug::ReadOneBehind)));
        let place = LogId::new(CommittedLeader::new(barrier.term), index);
        let place = ReadLogId::from_log_id(place);
        let linearizer = Linearizer::<Types>::new(barrier.primary, place, None);
        match linearizer.try_await_ready(&self.raft, Some(timeout)).await {
            Ok(Ok(_)) => {
                let reached = self.progress().borrow().index;
                assert!(reached >= Some(barrier.index), "a read before {barrier:?}: {reached:?}");
                Ok(())
            }
            Ok(Err(_)) => Err(BarrierError::Behind),
            Err(error) => Err(BarrierError::Stopped(error.to_string())),
        }
    }

    /// Notes how long a sync takes at a majority, see [`pace`]: elections take their time by it.
    pub(crate) fn note_pace(&self, pace: Duration) {
        self.ballots.note_pace(pace);
    }

    /// What was noted of it last.
    pub(crate) fn pace(&self) -> Duration {
        self.ballots.pace()
    }

    /// Lets this node send heartbeats as primary, or not: then the others elect another. Nothing
    /// else that a primary sends goes out meanwhile, and barriers, which are made of heartbeats, are
    /// refused.
    pub fn allow_heartbeats(&self, allowed: bool) {
        self.silent.store(!allowed, Ordering::Relaxed);
        self.raft.runtime_config().heartbeat(allowed);
    }

    /// Whether this node has heard from a primary within `lease`. A primary hears itself.
    pub async fn hears_primary(&self, lease: Duration) -> bool {
        if self.view.borrow().is_primary() {
            return true;
        }
        if self.is_stopping() {
            return false;
        }
        let look = look(&self.raft, move |state| {
            let heard = state.vote_last_modified();
            state.vote_ref().is_committed()
                && heard.is_some_and(|at| openraft::Instant::elapsed(&at) < lease)
        });
        // A core that is held up by its disk hears nobody, and elects nobody either.
        matches!(tokio::time::timeout(lease, look).await, Ok(Some(true)))
    }

    /// Who refuses this node's entries for stamps in the future.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// What stands in front of the engine.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Asks a voter to take the primary role over; whether it did shows in the view. Until another
    /// one leads, this node takes no entries and sends no heartbeats: there is no way back.
    ///
    /// # Errors
    /// When the engine stopped.
    pub async fn transfer(&self, to: u64) -> Result<(), StoreError> {
        let asked = self.raft.trigger().transfer_leader(to).await;
        asked.map_err(|error| StoreError::Stopped(error.to_string()))
    }

    /// The other voters, the one whose log is known to match this primary's furthest last.
    #[must_use]
    pub fn successors(&self) -> Vec<Successor> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = |id: &u64| {
            let matched = metrics.replication.as_ref()?.get(id)?.as_ref()?;
            Some(matched.index())
        };
        let voters = metrics.membership_config.voter_ids().filter(|id| *id != metrics.id);
        let mut voters: Vec<_> = voters.map(|id| (matched(&id), id)).collect();
        voters.sort_unstable();
        let behind = |matched: Option<u64>| Some(metrics.last_log_index?.saturating_sub(matched?));
        let successor = |(matched, id)| Successor { id, behind: behind(matched) };
        voters.into_iter().map(successor).collect()
    }

    /// Purges the log up to what it holds now, so that nothing deleted is left in it, and lets it go on
    /// in a file that held nothing before.
    ///
    /// # Errors
    /// When the engine stopped, or no majority has what the log holds.
    pub async fn purge(&self) -> Result<(), StoreError> {
        let stopped =
            |error: openraft::errors::Fatal<Types>| StoreError::Stopped(error.to_string());
        let Some(applied) = self.store.roll().await?.checked_sub(1) else { return Ok(()) };
        let mut progress = self.progress();
        let reached = progress.wait_for(|progress| progress.index >= Some(applied));
        let waited = tokio::time::timeout(Duration::from_secs(10), reached).await;
        if !waited.is_ok_and(|reached| reached.is_ok()) {
            let held = format!("entry {applied} of the log is not committed: try again later");
            return Err(StoreError::Refused(held));
        }
        self.raft.trigger().snapshot().await.map_err(stopped)?;
        let metrics = self.raft.wait(Some(Duration::from_secs(10)));
        let has = |m: &openraft::RaftMetrics<Types>| {
            m.snapshot.as_ref().is_some_and(|at| at.index() >= applied)
        };
        let waited = metrics.metrics(has, "a snapshot before a purge").await;
        waited.map_err(|error| StoreError::Stopped(error.to_string()))?;
        self.raft.trigger().purge_log(applied).await.map_err(stopped)?;
        // The purge is queued behind everything before it; its durability is the barrier's.
        let purged = self.raft.wait(Some(Duration::from_secs(10)));
        let has = |m: &openraft::RaftMetrics<Types>| {
            m.purged.as_ref().is_some_and(|at| at.index() >= applied)
        };
        let waited = purged.metrics(has, "a purge").await;
        waited.map_err(|error| StoreError::Stopped(error.to_string()))?;
        self.writer.barrier().await
    }

    /// Stops the engine. Whoever waits for that may go away meanwhile.
    pub async fn stop(&self) {
        if !self.stopping.swap(true, Ordering::SeqCst) {
            ending::ends();
        }
        let raft = self.raft.clone();
        // In a task of its own: if whoever waits first for the engine's end is dropped, all others
        // that wait for it panic.
        let stopped = pause::spawn(async move { raft.shutdown().await }).await;
        if let Err(error) = stopped.unwrap_or_else(Err) {
            tracing::error!(%error, "the engine did not stop cleanly");
        }
    }

    /// Whether it was told to stop. What is asked of it from then on finds nobody.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// The highest stamp that this node's log and state hold, or a little more. Reads the disk.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn highest_stamp(&self) -> Result<Hlc, StoreError> {
        let applied = self.last_stamp();
        let highest = log::highest_stamp(&self.store)?;
        assert!(highest >= applied, "the highest stamp is {highest}, and {applied} is applied");
        Ok(highest)
    }

    /// Final stamp of the last applied entry.
    #[must_use]
    pub fn last_stamp(&self) -> Hlc {
        self.machine.progress.borrow().stamp
    }
}

/// Makes the first membership of a new cluster in a store; every first member says the same. Does
/// nothing where the log holds something already. To be called before the engine starts: the
/// engine's own way would stand for election at once, whatever the clock says.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn bootstrap(store: &Store, members: BTreeMap<u64, Member>) -> Result<(), StoreError> {
    if store.applied()?.last.is_some() || store.floor().is_some() || store.range().1 > 0 {
        return Ok(());
    }
    let membership = Membership::from(members);
    let payload = openraft::EntryPayload::Membership(membership);
    let entry = Entry { log_id: LogId::new(CommittedLeader::new(0), 0), payload };
    let entries = vec![codec::stored_entry(&entry)];
    let writer = store.writer()?;
    writer.append(entries, Box::new(drop));
    writer.barrier().await
}

/// What the engine's core sees of its state. `None` once it has ended. Whoever waits may go away
/// meanwhile: the engine's own way of asking calls that an error.
async fn look<V: Send + 'static>(
    raft: &Raft,
    see: impl FnOnce(&openraft::RaftState<Types>) -> V + Send + 'static,
) -> Option<V> {
    let (seen, wait) = tokio::sync::oneshot::channel();
    // A receiver that is gone wants no answer.
    let asked = raft.external_request(move |state| drop(seen.send(see(state)))).await;
    asked.ok()?;
    wait.await.ok()
}

#[cfg(test)]
mod cluster_test;
#[cfg(test)]
mod membership_test;
#[cfg(test)]
mod suite_test;
#[cfg(test)]
pub(crate) mod test_cluster;
#[cfg(test)]
mod two_histories_test;
