//! What waits for the proposer: in turn by who asks, whichever gateway it came through, and bounded
//! for each by what is left for the others (see [`proto::share`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{Caller, Command, Outcome};
use proto::Failure;
use proto::limits::{
    PROPOSER_BYTES_KEPT, PROPOSER_BYTES_MAX, PROPOSER_QUEUE_KEPT, PROPOSER_QUEUE_MAX,
};
use proto::share::{Ledger, Rank, Ring};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Where the outcome goes.
pub(crate) type Answer = oneshot::Sender<Result<Outcome, Failure>>;

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    /// A node, for what it has to say itself.
    Node(String),
    /// An admin.
    Admin(String),
    /// A client.
    Client(String),
}

impl Who {
    fn of(caller: &Caller) -> Self {
        let name = caller.name.clone();
        match caller {
            Caller { admin: true, .. } => Self::Admin(name),
            caller if caller.is_node() => Self::Node(name),
            _ => Self::Client(name),
        }
    }

    fn rank(&self) -> Rank {
        match self {
            Self::Node(_) | Self::Admin(_) => Rank::First,
            Self::Client(_) => Rank::Ordinary,
        }
    }
}

/// A command that waits.
pub(crate) struct Proposal {
    /// The command.
    pub(crate) command: Command,
    /// Where its outcome goes.
    pub(crate) answer: Answer,
    /// Bytes of the queue and of what is under way; given back when the answer is.
    pub(crate) cost: Cost,
    /// Since when it waits.
    pub(crate) queued: Instant,
}

/// The bytes of a command.
pub(crate) struct Cost {
    queue: Queue,
    who: Who,
    bytes: usize,
}

/// The queue. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Shared>);

struct Shared {
    books: Mutex<Books>,
    news: Notify,
}

struct Books {
    waiting: Ring<Who, Proposal>,
    places: Ledger<Who>,
    bytes: Ledger<Who>,
    closed: bool,
}

/// Why a command is not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotQueued {
    /// The caller has its share of the queue.
    Full,
    /// Nobody takes from it any more.
    Closed,
}

impl Default for Queue {
    fn default() -> Self {
        let books = Books {
            waiting: Ring::default(),
            places: Ledger::new(PROPOSER_QUEUE_MAX, PROPOSER_QUEUE_KEPT),
            bytes: Ledger::new(PROPOSER_BYTES_MAX, PROPOSER_BYTES_KEPT),
            closed: false,
        };
        Self(Arc::new(Shared { books: Mutex::new(books), news: Notify::new() }))
    }
}

impl Queue {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a command behind those of the same caller.
    pub(crate) fn push(&self, command: Command, answer: Answer) -> Result<(), NotQueued> {
        let (who, bytes) = (Who::of(&command.caller), command.size());
        {
            let mut books = self.books();
            if books.closed {
                return Err(NotQueued::Closed);
            }
            let rank = who.rank();
            if !books.places.may_take(&who, rank, 1) || !books.bytes.take(&who, rank, bytes) {
                return Err(NotQueued::Full);
            }
            let placed = books.places.take(&who, rank, 1);
            assert!(placed, "there was a place a moment ago");
            let cost = Cost { queue: self.clone(), who: who.clone(), bytes };
            let queued = Instant::now();
            books.waiting.push(who, Proposal { command, answer, cost, queued });
        }
        self.0.news.notify_one();
        Ok(())
    }

    /// What is next, if anything is.
    pub(crate) fn pop(&self) -> Option<Proposal> {
        let mut books = self.books();
        let (who, proposal) = books.waiting.pop()?;
        books.places.give(&who, 1);
        Some(proposal)
    }

    /// Waits for what is next. One waits at a time.
    pub(crate) async fn next(&self) -> Proposal {
        loop {
            if let Some(proposal) = self.pop() {
                return proposal;
            }
            self.0.news.notified().await;
        }
    }

    /// Takes everything.
    pub(crate) fn drain(&self) -> Vec<Proposal> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    /// Takes no more; what waits is dropped, and its answers with it.
    pub(crate) fn close(&self) {
        self.books().closed = true;
        drop(self.drain());
    }
}

impl Drop for Cost {
    fn drop(&mut self) {
        self.queue.books().bytes.give(&self.who, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use model::CommandOp;
    use proto::limits::ENTRY_COMMANDS_MAX;

    use super::*;

    fn command(caller: Caller, len: usize) -> Command {
        let body = vec![b'x'; len].into();
        let (to, id) = ("bob".to_owned(), "1".to_owned());
        let op = CommandOp::Send { to, id, headers: Vec::new(), body };
        Command { caller, gateway: "n2".to_owned(), op }
    }

    fn client(name: &str) -> Caller {
        Caller { name: name.to_owned(), admin: false, fingerprint: [7; 32] }
    }

    fn push(queue: &Queue, caller: Caller, len: usize) -> Result<(), NotQueued> {
        queue.push(command(caller, len), oneshot::channel().0)
    }

    #[test]
    fn a_quiet_caller_is_in_the_next_entry() {
        let queue = Queue::default();
        let mut queued = 0;
        while push(&queue, client("greedy"), 10).is_ok() {
            queued += 1;
        }
        assert_eq!(queued, (PROPOSER_QUEUE_MAX - PROPOSER_QUEUE_KEPT) / 2);
        push(&queue, client("quiet"), 10).unwrap();
        push(&queue, Caller::node(&"n1".parse().unwrap()), 10).unwrap();
        push(&queue, Caller { admin: true, ..client("admin") }, 10).unwrap();
        let entry: Vec<_> = std::iter::from_fn(|| queue.pop()).take(ENTRY_COMMANDS_MAX).collect();
        let of = |name: &str| entry.iter().filter(|p| p.command.caller.name == name).count();
        assert_eq!((of("quiet"), of("n1"), of("admin")), (1, 1, 1));
        assert_eq!(of("greedy"), ENTRY_COMMANDS_MAX - 3);
        // Whoever has the name of an admin is none.
        push(&queue, client("admin"), 10).unwrap();
        assert!(matches!(Who::of(&client("admin")), Who::Client(_)));
    }

    #[test]
    fn bytes_are_given_back_with_the_answer() {
        let queue = Queue::default();
        let mut queued = 0;
        while push(&queue, client("greedy"), 1 << 20).is_ok() {
            queued += 1;
        }
        assert_eq!(push(&queue, client("greedy"), 1 << 20), Err(NotQueued::Full));
        assert!(queued * 2 < PROPOSER_BYTES_MAX >> 20);
        push(&queue, client("quiet"), 1 << 20).unwrap();
        let under_way = queue.pop().unwrap();
        assert_eq!(push(&queue, client("greedy"), 1 << 20), Err(NotQueued::Full));
        drop(under_way);
        push(&queue, client("greedy"), 1 << 20).unwrap();
        queue.close();
        assert_eq!(push(&queue, client("late"), 1), Err(NotQueued::Closed));
        let books = queue.books();
        assert_eq!((books.places.used(), books.bytes.used()), (0, 0));
    }
}
