//! The one task that stamps: it collects what is queued, learns the leader id, ticks the clock,
//! hands one entry to the engine, and does not wait for the result.
//!
//! Invariant: leader id before stamp, stamp before submission, one task, one queue. Read the leader
//! id after the stamp and an entry stamped under an old leadership can be appended under a new one,
//! out of order. A gateway that is not the primary never stamps.
//!
//! Invariant: nothing is stamped that `lead` does not allow at that moment; what it refuses is not
//! done, and is said so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clock::{Hlc, Stamp, TickError};
use model::query;
use model::{Batch, Caller, Command, CommandOp, Outcome};
use proto::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, PROPOSER_BYTES_MAX, PROPOSER_QUEUE_MAX};
use proto::wire::Configure;
use proto::{ErrorCode, Failure, Name};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::lead::{Lead, Stamping};
use crate::raft::{Handle, Leadership, Payload, ProposeError};
use crate::store::Store;
use crate::time::Keeper;

/// Commands of its own that a primary begins a term with, at most.
const OWN_MAX: usize = 2;
/// How long a primary waits before it tries again to begin its term.
const BEGIN_AGAIN: Duration = Duration::from_millis(20);
/// When a client that was told "busy" may come back, in milliseconds.
const BUSY_MS: u32 = 20;

type Answer = oneshot::Sender<Result<Outcome, Failure>>;

struct Proposal {
    command: Command,
    answer: Answer,
    /// Bytes of the queue and of what is under way; given back when the answer is.
    bytes: OwnedSemaphorePermit,
}

/// What the task works with.
pub struct Parts {
    /// The engine.
    pub engine: Handle,
    /// The clock.
    pub keeper: Keeper,
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
    queue: mpsc::Sender<Proposal>,
    bytes: Arc<Semaphore>,
    keeper: Keeper,
}

impl Proposer {
    /// Starts the task. It ends when `stop` is cancelled.
    #[must_use]
    pub fn start(parts: Parts, stop: CancellationToken) -> Self {
        let (queue, proposals) = mpsc::channel(PROPOSER_QUEUE_MAX);
        let keeper = parts.keeper.clone();
        let task = Task { parts, proposals, term: Arc::default(), again: Arc::default() };
        tokio::spawn(task.run(stop));
        Self { queue, bytes: Arc::new(Semaphore::new(PROPOSER_BYTES_MAX)), keeper }
    }

    /// Proposes a command and waits for its outcome. `token` is the highest stamp that the caller
    /// has seen: the command gets a later one.
    ///
    /// # Errors
    /// `NotPrimary` and `Busy` say that nothing was done; `Unknown` that nobody can say.
    pub async fn propose(&self, command: Command, token: Option<Hlc>) -> Result<Outcome, Failure> {
        let size = u32::try_from(command.size()).unwrap_or(u32::MAX);
        let busy = || Failure::new(ErrorCode::Busy, "the primary has too much to do");
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(size);
        let bytes = bytes.map_err(|_| busy().retry_after_ms(BUSY_MS))?;
        if let Some(token) = token {
            self.keeper.admit(token).map_err(clock_failure)?;
        }
        let (answer, outcome) = oneshot::channel();
        let sent = self.queue.try_send(Proposal { command, answer, bytes });
        sent.map_err(|_| busy().retry_after_ms(BUSY_MS))?;
        outcome.await.unwrap_or_else(|_| Err(unknown("the node is stopping")))
    }
}

fn unknown(why: &str) -> Failure {
    Failure::new(ErrorCode::Unknown, format!("nobody can say whether it was done: {why}"))
}

pub(crate) fn clock_failure(error: TickError) -> Failure {
    let code = match error {
        TickError::Ahead { .. } => ErrorCode::ClockAhead,
        TickError::Sealed => ErrorCode::Stopping,
        TickError::Unsynced | TickError::Ceiling { .. } => ErrorCode::ClockUnavailable,
    };
    Failure::new(code, error)
}

struct Task {
    parts: Parts,
    proposals: mpsc::Receiver<Proposal>,
    /// The last term that this node began as primary. Forgotten if what begins it was not stored:
    /// an engine that has just won may not take entries yet.
    term: Arc<AtomicU64>,
    /// Told when that happened.
    again: Arc<Notify>,
}

impl Task {
    async fn run(mut self, stop: CancellationToken) {
        let (mut view, mut lead) = (self.parts.engine.view(), self.parts.lead.news());
        loop {
            let begins = {
                let view = view.borrow();
                view.is_primary() && view.term != self.term.load(Ordering::SeqCst)
            };
            let first = tokio::select! {
                () = stop.cancelled() => return,
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
                first = self.proposals.recv() => {
                    if first.is_none() {
                        return;
                    }
                    first
                }
            };
            view.mark_unchanged();
            let leadership = self.parts.engine.leadership();
            if leadership.is_none_or(|leadership| self.has_begun(leadership)) && first.is_none() {
                continue;
            }
            let batch = self.collect(first);
            self.submit(leadership, batch).await;
        }
    }

    /// Takes what is queued, up to what one entry may hold.
    fn collect(&mut self, first: Option<Proposal>) -> Vec<Proposal> {
        let mut bytes = first.as_ref().map_or(0, |first| first.command.size());
        let mut batch: Vec<_> = first.into_iter().collect();
        // Some places stay free for the commands that begin a term.
        while !batch.is_empty()
            && batch.len() < BATCH_COMMANDS_MAX - OWN_MAX
            && bytes < BATCH_BYTES_MAX
        {
            let Ok(next) = self.proposals.try_recv() else { break };
            bytes += next.command.size();
            batch.push(next);
        }
        batch
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
        let Parts { keeper, lead, .. } = &self.parts;
        match stamping {
            Stamping::Order => keeper.stamp_in_order(count).await.map_err(clock_failure),
            Stamping::Clock => {
                // It may take seconds after a crash; the clock must still be good when it is done.
                let base = keeper.stamp(count).await.map_err(clock_failure)?;
                lead.may_write().map(|()| base)
            }
        }
    }

    async fn submit(&mut self, leadership: Option<Leadership>, batch: Vec<Proposal>) {
        let Some(leadership) = leadership else {
            fail(batch, &Failure::new(ErrorCode::NotPrimary, "this node is not the primary"));
            return;
        };
        let Some((batch, stamping)) = self.admitted(batch) else { return };
        let mut commands = self.own_commands(leadership);
        let (skip, mut waiting) = (commands.len(), Vec::new());
        for Proposal { command, answer, bytes } in batch {
            commands.push(command);
            waiting.push((answer, bytes));
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
        let payload = Payload::new(&batch.encode());
        let (begun, term) = (Arc::clone(&self.term), leadership.term());
        let again = Arc::clone(&self.again);
        let reply = move |result: Result<Vec<Outcome>, ProposeError>| match result {
            Ok(outcomes) => {
                for ((answer, _bytes), outcome) in
                    waiting.into_iter().zip(outcomes.into_iter().skip(skip))
                {
                    // Whoever asked may have given up; the command is done all the same.
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                if skip > 0 {
                    // Unless another term has begun meanwhile. To begin one twice does no harm.
                    let _ = begun.compare_exchange(term, 0, Ordering::SeqCst, Ordering::SeqCst);
                    again.notify_one();
                }
                answer_all(waiting, &propose_failure(&error));
            }
        };
        // Before the entry is handed over: its reply may come at once.
        self.term.store(term, Ordering::SeqCst);
        if let Err(error) = self.parts.engine.propose(leadership, payload, reply).await {
            // The callback is dropped with all answers, which reads as unknown.
            tracing::error!(%error, "a proposal was not taken");
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
        if !matches!(known, Ok(Ok(Some(_)))) {
            commands.push(command(CommandOp::InitSettings(self.parts.settings)));
        }
        commands
    }
}

fn propose_failure(error: &ProposeError) -> Failure {
    match error {
        ProposeError::NotDone => Failure::new(ErrorCode::NotPrimary, error),
        ProposeError::Unknown | ProposeError::Stopped(_) => unknown(&error.to_string()),
    }
}

fn fail(batch: Vec<Proposal>, failure: &Failure) {
    answer_all(batch.into_iter().map(|proposal| (proposal.answer, proposal.bytes)), failure);
}

fn answer_all(
    waiting: impl IntoIterator<Item = (Answer, OwnedSemaphorePermit)>,
    failure: &Failure,
) {
    for (answer, _bytes) in waiting {
        // Whoever asked may have given up.
        let _ = answer.send(Err(failure.clone()));
    }
}
