//! The one task that stamps: it collects what is queued, learns the leader id, ticks the clock,
//! hands one entry to the engine, and does not wait for the result.
//!
//! Invariant: leader id before stamp, stamp before submission, one task, one queue. Read the leader
//! id after the stamp and an entry stamped under an old leadership can be appended under a new one,
//! out of order. A gateway that is not the primary never stamps.
//!
//! Invariant: what is queued is taken in turn by who asks (see `queue`), and no more entries are under
//! way than keep disk and network busy: whoever comes late waits for those, not for all that others
//! have queued. Whoever has nothing in flight does not wait for those either (`Task::next`).
//!
//! Invariant: nothing is stamped that `lead` does not allow at that moment; what it refuses is not
//! done, and is said so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clock::{Hlc, Stamp};
use model::query;
use model::{Batch, Caller, Command, CommandOp, Outcome};
use net::Flushes;
use proto::limits::{
    BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, ENTRY_COMMANDS_MAX, ENTRY_COMMANDS_SHARED,
    PROPOSER_ENTRIES_FRESH, PROPOSER_ENTRIES_MAX,
};
use proto::stage::Stage;
use proto::wire::Configure;
use proto::{ErrorCode, Failure, Name};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lead::{Lead, Stamping};
use crate::queue::{Answer, Cost, NotQueued, Proposal, Queue, Shares, unknown};
use crate::raft::{Handle, Leadership, Payload, ProposeError};
use crate::store::Store;
use crate::tasks::Tasks;
use crate::time::{NodeClock, clock_failure};
use crate::unanswered::Unanswered;
use planted::Bug;

/// Commands of its own that a primary begins a term with, at most.
const OWN_MAX: usize = 2;
/// How long a primary waits before it tries again to begin its term.
const BEGIN_AGAIN: Duration = Duration::from_millis(20);
/// When a client that was told "busy" may come back, in milliseconds.
const BUSY_MS: u32 = 20;

const _: () = assert!(ENTRY_COMMANDS_MAX + OWN_MAX <= BATCH_COMMANDS_MAX);

/// What the task works with.
pub struct Parts {
    /// The engine.
    pub engine: Handle,
    /// The clock.
    pub node_clock: NodeClock,
    /// Whether this node may lead.
    pub lead: Lead,
    /// The state.
    pub store: Store,
    /// The settings of this node's configuration, for a cluster that has none yet.
    pub settings: Configure,
    /// The node's name.
    pub node: Name,
}

/// Hands commands to the proposer. Cheap to clone.
#[derive(Clone)]
pub struct Proposer {
    queue: Queue,
    node_clock: NodeClock,
    unanswered: Unanswered,
}

impl Proposer {
    /// Starts the task.
    #[must_use]
    pub fn start(parts: Parts, tasks: &Tasks) -> Self {
        let (queue, node_clock) = (Queue::default(), parts.node_clock.clone());
        let unanswered = Unanswered::default();
        let task = Task {
            parts,
            queue: queue.clone(),
            entries: Arc::new(Semaphore::new(PROPOSER_ENTRIES_MAX)),
            fresh: Arc::new(Semaphore::new(PROPOSER_ENTRIES_FRESH)),
            company: Company::default(),
            term: Arc::default(),
            again: Arc::default(),
            unanswered: unanswered.clone(),
        };
        tasks.keep("proposer", task.run(tasks.stop().clone()));
        Self { queue, node_clock, unanswered }
    }

    /// How long the command waits that waits longest, from the queue to the majority.
    #[must_use]
    pub fn waits(&self) -> Duration {
        self.unanswered.longest()
    }

    /// Commands that wait to be put into an entry.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Proposes a command and waits for its outcome. `token` is the highest stamp that the caller
    /// has seen: the command gets a later one.
    ///
    /// # Errors
    /// `NotPrimary` and `Busy` say that nothing was done; `Unknown` that nobody can say.
    pub async fn propose(&self, command: Command, token: Option<Hlc>) -> Result<Outcome, Failure> {
        if let Some(token) = token {
            self.node_clock.admit(token).map_err(clock_failure)?;
        }
        let (answer, outcome) = oneshot::channel();
        let answer = Answer::new(move |outcome| {
            // Whoever asked may have given up; the command is done all the same.
            drop(answer.send(outcome));
            None
        });
        self.queue.push(command, answer).map_err(not_queued)?;
        outcome.await.unwrap_or_else(|_| Err(unknown("the node is stopping")))
    }

    /// Proposes commands, in this order. What they have seen is admitted already.
    pub(crate) fn propose_all(&self, several: Vec<(Command, Answer)>) {
        let mut flushes = Flushes::default();
        for (why, answer) in self.queue.push_all(several) {
            answer.give(Err(not_queued(why))).into_iter().for_each(|flush| flushes.add(flush));
        }
        flushes.now();
    }
}

fn not_queued(why: NotQueued) -> Failure {
    match why {
        NotQueued::Full => {
            let message = "the caller has as much waiting as its share of the primary allows";
            Failure::new(ErrorCode::Busy, message).retry_after_ms(BUSY_MS)
        }
        NotQueued::Closed => Failure::new(ErrorCode::Stopping, "the node is stopping"),
    }
}

/// Entries after which a lone caller counts as alone.
const ALONE_AFTER: u32 = 64;

/// Whether several ask at this time. One that is alone waits for nobody but itself, and long entries
/// are cheaper; with company, whoever has little to say waits for what is in flight, so nobody has much
/// of it.
#[derive(Debug, Default)]
struct Company {
    last: String,
    /// Entries since somebody else asked.
    alone: u32,
}

impl Company {
    /// Commands of one caller in one entry.
    fn each(&self) -> usize {
        if self.alone < ALONE_AFTER { ENTRY_COMMANDS_SHARED } else { ENTRY_COMMANDS_MAX }
    }

    /// Notes who asked in one entry. What nodes say of themselves is no company.
    fn saw<'a>(&mut self, callers: impl Iterator<Item = &'a Caller>) {
        let mut asked = false;
        for caller in callers.filter(|caller| !caller.is_node()) {
            asked = true;
            if caller.name != self.last {
                self.last.clone_from(&caller.name);
                self.alone = 0;
            }
        }
        self.alone = self.alone.saturating_add(u32::from(asked));
    }
}

/// What an entry begins with.
struct First {
    proposal: Proposal,
    /// What it takes of whom.
    shares: Shares,
    /// Its place among those in flight.
    room: OwnedSemaphorePermit,
}

struct Task {
    parts: Parts,
    queue: Queue,
    /// One permit for each entry that may be in flight, so that what comes late is not behind all
    /// that others have queued.
    entries: Arc<Semaphore>,
    /// The same for entries of callers alone that have nothing in flight.
    fresh: Arc<Semaphore>,
    company: Company,
    /// The last term that this node began as primary. Forgotten if what begins it was not stored:
    /// an engine that has just won may not take entries yet.
    term: Arc<AtomicU64>,
    /// Told when that happened.
    again: Arc<Notify>,
    unanswered: Unanswered,
}

impl Task {
    async fn run(mut self, stop: CancellationToken) {
        let queue = self.queue.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.propose() => {}
        }
        queue.close();
    }

    /// The first of what is next, once one more entry may be in flight. Beyond the entries that keep
    /// disk and network busy there may be a few of callers that have nothing in flight.
    async fn next(&self) -> First {
        loop {
            if let Ok(room) = Arc::clone(&self.entries).try_acquire_owned() {
                let shares = Shares::of_all(self.company.each());
                if let Some(proposal) = self.queue.pop(&shares) {
                    return First { proposal, shares, room };
                }
                drop(room);
                self.queue.news().await;
                continue;
            }
            if let Ok(room) = Arc::clone(&self.fresh).try_acquire_owned() {
                let shares = Shares::of_the_fresh();
                if let Some(proposal) = self.queue.pop(&shares) {
                    return First { proposal, shares, room };
                }
            }
            tokio::select! {
                () = self.queue.news() => {}
                // Taken in the next round.
                room = self.entries.acquire() => drop(room),
            }
        }
    }

    async fn propose(&mut self) {
        let (mut view, mut lead) = (self.parts.engine.view(), self.parts.lead.news());
        loop {
            let begins = {
                let view = view.borrow();
                view.is_primary() && view.term != self.term.load(Ordering::SeqCst)
            };
            let first = tokio::select! {
                changed = view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    None
                }
                () = lead.changed() => None,
                () = self.again.notified() => continue,
                // The engine and the policy learn of a new term one after the other.
                () = tokio::time::sleep(BEGIN_AGAIN), if begins => None,
                first = self.next() => Some(first),
            };
            view.mark_unchanged();
            let leadership = self.parts.engine.leadership();
            match leadership {
                None => {
                    // Without waiting for what is in flight: it may never be answered.
                    let failure =
                        Failure::new(ErrorCode::NotPrimary, "this node is not the primary");
                    let first = first.map(|first| first.proposal);
                    fail(first.into_iter().chain(self.queue.drain()), &failure);
                }
                Some(leadership) if first.is_none() && self.has_begun(leadership) => {}
                Some(leadership) => {
                    let (batch, room) = first.map(|first| self.collect(first)).unzip();
                    let batch = batch.unwrap_or_default();
                    self.submit(leadership, batch, room).await;
                }
            }
        }
    }

    /// Takes what is queued, in turn by who asks, up to what one entry may hold.
    fn collect(&mut self, first: First) -> (Vec<Proposal>, OwnedSemaphorePermit) {
        let First { proposal, mut shares, room } = first;
        let mut bytes = proposal.command.size();
        shares.took(&proposal);
        let mut batch = vec![proposal];
        while batch.len() < ENTRY_COMMANDS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(next) = self.queue.pop(&shares) else { break };
            bytes += next.command.size();
            shares.took(&next);
            batch.push(next);
        }
        self.company.saw(batch.iter().map(|proposal| &proposal.command.caller));
        (batch, room)
    }

    /// What may be stamped now, and how; the rest is answered. `None` if nothing may.
    fn admitted(&self, batch: Vec<Proposal>) -> Option<(Vec<Proposal>, Stamping)> {
        let Err(failure) = self.parts.lead.may_write() else {
            return Some((batch, Stamping::Clock));
        };
        let lead = &self.parts.lead;
        let (settings, rest): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|proposal| lead.may_order(&proposal.command.op).is_ok());
        fail(rest, &failure);
        (!settings.is_empty()).then_some((settings, Stamping::Order))
    }

    async fn stamp(&self, stamping: Stamping, count: u32) -> Result<Stamp, Failure> {
        let Parts { node_clock, lead, .. } = &self.parts;
        match stamping {
            Stamping::Order => node_clock.stamp_in_order(count).await.map_err(clock_failure),
            Stamping::Clock => {
                // It may take seconds after a crash; the clock must still be good when it is done.
                let base = node_clock.stamp(count).await.map_err(clock_failure)?;
                lead.may_write().map(|()| base)
            }
        }
    }

    async fn submit(
        &mut self,
        leadership: Leadership,
        batch: Vec<Proposal>,
        room: Option<OwnedSemaphorePermit>,
    ) {
        let Some((batch, stamping)) = self.admitted(batch) else { return };
        let mut commands = self.own_commands(leadership);
        let (skip, mut waiting) = (commands.len(), Vec::new());
        let (stages, sealed) = (self.parts.engine.stages().clone(), Instant::now());
        batch.iter().for_each(|proposal| stages.took(Stage::Queue, sealed - proposal.queued));
        let since = batch.iter().map(|proposal| proposal.queued).min();
        let noted = since.map(|since| self.unanswered.note(since));
        for Proposal { command, answer, cost, .. } in batch {
            commands.push(command);
            waiting.push((answer, cost));
        }
        let count = u32::try_from(commands.len()).unwrap_or(u32::MAX);
        let base = match self.stamp(stamping, count).await {
            Ok(base) => base,
            Err(failure) => {
                answer_all(waiting, &failure);
                return;
            }
        };
        let batch = Batch { base, primary: self.parts.node.to_string(), commands };
        stages.had(Stage::Commands, batch.commands.len());
        let payload = Payload::new(batch);
        let handed = Instant::now();
        stages.took(Stage::Stamp, handed - sealed);
        let (begun, term) = (Arc::clone(&self.term), leadership.term());
        let again = Arc::clone(&self.again);
        let reply = move |result: Result<Vec<Outcome>, ProposeError>| {
            let decided = Instant::now();
            drop(room);
            // No caller waits for the answer any more.
            drop(noted);
            match result {
                Ok(mut outcomes) => {
                    if planted::is(Bug::AnswersMixedUp) {
                        outcomes.get_mut(skip..).unwrap_or_default().reverse();
                    }
                    let outcomes = outcomes.into_iter().skip(skip).map(Ok);
                    give_all(waiting.into_iter().zip(outcomes));
                    stages.took(Stage::Decide, decided - handed);
                    stages.took(Stage::Answer, decided.elapsed());
                }
                Err(error) => {
                    if skip > 0 {
                        // Unless another term has begun meanwhile. To begin one twice does no harm.
                        let _ = begun.compare_exchange(term, 0, Ordering::SeqCst, Ordering::SeqCst);
                        again.notify_one();
                    }
                    answer_all(waiting, &propose_failure(&error));
                }
            }
        };
        // Before the entry is handed over: its reply may come at once.
        self.term.store(term, Ordering::SeqCst);
        if let Err(error) = self.parts.engine.propose(leadership, payload, reply).await {
            // The callback is dropped with all answers, which reads as unknown.
            if !self.parts.engine.is_stopping() {
                tracing::error!(%error, "a proposal was not taken");
            }
        }
    }
}

impl Task {
    fn has_begun(&self, leadership: Leadership) -> bool {
        self.term.load(Ordering::SeqCst) == leadership.term()
    }

    /// What a primary says for itself at the beginning of its term, and nothing later: that it
    /// begins, and the settings if the cluster has none yet.
    fn own_commands(&self, leadership: Leadership) -> Vec<Command> {
        if self.has_begun(leadership) {
            return Vec::new();
        }
        let node = &self.parts.node;
        let command = |op| Command { caller: Caller::node(node), gateway: node.to_string(), op };
        let op = CommandOp::TermStart { node: node.to_string(), term: leadership.term() };
        let mut commands = vec![command(op)];
        let known = self.parts.store.snapshot().map(|view| query::settings(&view));
        // Apply sets only what nobody has set: a look at an old state does no harm.
        if !matches!(known, Ok(Ok(Some(settings))) if settings.is_complete()) {
            commands.push(command(CommandOp::InitSettings(self.parts.settings)));
        }
        commands
    }
}

fn propose_failure(error: &ProposeError) -> Failure {
    match error {
        ProposeError::NotDone => Failure::new(ErrorCode::NotPrimary, error),
        ProposeError::Unknown if planted::is(Bug::UnknownCalledNotDone) => {
            Failure::new(ErrorCode::NotPrimary, error)
        }
        ProposeError::Unknown | ProposeError::Stopped(_) => unknown(&error.to_string()),
    }
}

fn fail(batch: impl IntoIterator<Item = Proposal>, failure: &Failure) {
    answer_all(batch.into_iter().map(|proposal| (proposal.answer, proposal.cost)), failure);
}

fn answer_all(waiting: impl IntoIterator<Item = (Answer, Cost)>, failure: &Failure) {
    give_all(waiting.into_iter().map(|waits| (waits, Err(failure.clone()))));
}

/// Gives outcomes to those who wait for them; what goes to one client goes out together.
fn give_all(given: impl Iterator<Item = ((Answer, Cost), Result<Outcome, Failure>)>) {
    let mut flushes = Flushes::default();
    for ((answer, _cost), outcome) in given {
        answer.give(outcome).into_iter().for_each(|flush| flushes.add(flush));
    }
    flushes.now();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Caller {
        Caller { name: name.to_owned(), admin: false, fingerprint: [7; 32] }
    }

    #[test]
    fn entries_are_short_while_several_ask() {
        let mut company = Company::default();
        let (greedy, quiet) = (of("greedy"), of("quiet"));
        let node = Caller::node(&"n1".parse().unwrap());
        assert_eq!(company.each(), ENTRY_COMMANDS_SHARED);
        for _ in 0..=ALONE_AFTER {
            company.saw([&greedy, &greedy, &node].into_iter());
        }
        assert_eq!(company.each(), ENTRY_COMMANDS_MAX);
        company.saw([&node].into_iter());
        assert_eq!(company.each(), ENTRY_COMMANDS_MAX);
        company.saw([&greedy, &quiet, &greedy].into_iter());
        assert_eq!(company.each(), ENTRY_COMMANDS_SHARED);
        for _ in 0..=ALONE_AFTER {
            company.saw([&greedy].into_iter());
        }
        assert_eq!(company.each(), ENTRY_COMMANDS_MAX);
    }
}
