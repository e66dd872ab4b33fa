//! What waits for the proposer: in turn by who asks, whichever gateway it came through, and bounded
//! for each by what is left for the others (see [`proto::share`]).

use std::collections::HashMap;
use std::sync::Arc;

use model::{Caller, Command, Outcome};
use net::Flush;
use parking_lot::{Mutex, MutexGuard};
use proto::limits::{
    PROPOSER_BYTES_KEPT, PROPOSER_BYTES_MAX, PROPOSER_QUEUE_KEPT, PROPOSER_QUEUE_MAX,
};
use proto::share::{Ledger, Rank, Ring};
use proto::{ErrorCode, Failure};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Where the outcome goes. One that is dropped says that nobody can know it.
pub(crate) struct Answer(Option<Settle>);

/// Takes an outcome; whatever that leaves to be written goes out later, with what others leave.
type Settle = Box<dyn FnOnce(Result<Outcome, Failure>) -> Option<Flush> + Send>;

impl Answer {
    /// Does this with the outcome.
    pub(crate) fn new(
        settle: impl FnOnce(Result<Outcome, Failure>) -> Option<Flush> + Send + 'static,
    ) -> Self {
        Self(Some(Box::new(settle)))
    }

    /// Gives the outcome to whoever asked.
    pub(crate) fn give(mut self, outcome: Result<Outcome, Failure>) -> Option<Flush> {
        self.0.take().and_then(|settle| settle(outcome))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(settle) = self.0.take()
            && let Some(flush) = settle(Err(unknown("the node is stopping")))
        {
            flush.now();
        }
    }
}

/// What is said where an outcome will not be known.
pub(crate) fn unknown(why: &str) -> Failure {
    Failure::new(ErrorCode::Unknown, format!("nobody can say whether it was done: {why}"))
}

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
    /// Bytes of the queue and of what is in flight; given back when the answer is.
    pub(crate) cost: Cost,
    /// Since when it waits.
    pub(crate) queued: Instant,
}

/// The bytes of a command.
pub(crate) struct Cost {
    queue: Queue,
    who: Who,
    bytes: usize,
    taken: bool,
}

/// What one entry takes of each caller.
#[derive(Debug)]
pub(crate) struct Shares {
    /// Of one caller, at most.
    each: usize,
    /// Of those alone that have nothing in flight.
    fresh: bool,
    taken: HashMap<Who, usize>,
}

impl Shares {
    /// So many of each.
    pub(crate) fn of_all(each: usize) -> Self {
        Self { each, fresh: false, taken: HashMap::new() }
    }

    /// One of each that has nothing in flight.
    pub(crate) fn of_the_fresh() -> Self {
        Self { each: 1, fresh: true, taken: HashMap::new() }
    }

    /// Notes one more.
    pub(crate) fn took(&mut self, proposal: &Proposal) {
        *self.taken.entry(proposal.cost.who.clone()).or_default() += 1;
    }
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
    /// Commands of each that were taken and are not answered yet.
    under_way: HashMap<Who, usize>,
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
            under_way: HashMap::new(),
            places: Ledger::new(PROPOSER_QUEUE_MAX, PROPOSER_QUEUE_KEPT),
            bytes: Ledger::new(PROPOSER_BYTES_MAX, PROPOSER_BYTES_KEPT),
            closed: false,
        };
        Self(Arc::new(Shared { books: Mutex::new(books), news: Notify::new() }))
    }
}

impl Queue {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock()
    }

    /// Queues a command behind those of the same caller.
    pub(crate) fn push(&self, command: Command, answer: Answer) -> Result<(), NotQueued> {
        let mut refused = self.push_all(vec![(command, answer)]);
        refused.pop().map_or(Ok(()), |(why, _)| Err(why))
    }

    /// Queues commands in this order. Returns the answers of those that it does not take.
    pub(crate) fn push_all(&self, several: Vec<(Command, Answer)>) -> Vec<(NotQueued, Answer)> {
        let (mut refused, queued) = (Vec::new(), Instant::now());
        {
            let mut books = self.books();
            for (command, answer) in several {
                let (who, bytes) = (Who::of(&command.caller), command.size());
                match books.place(&who, bytes) {
                    Ok(()) => {
                        let cost =
                            Cost { queue: self.clone(), who: who.clone(), bytes, taken: false };
                        books.waiting.push(who, Proposal { command, answer, cost, queued });
                    }
                    Err(why) => refused.push((why, answer)),
                }
            }
        }
        self.0.news.notify_one();
        refused
    }

    /// What is next of callers of whom the entry takes more, if anything is.
    pub(crate) fn pop(&self, entry: &Shares) -> Option<Proposal> {
        let mut books = self.books();
        let Books { waiting, under_way, .. } = &mut *books;
        let (who, mut proposal) = waiting.pop_if(|who, _| {
            let fresh = !entry.fresh || !under_way.contains_key(who);
            fresh && entry.taken.get(who).is_none_or(|taken| *taken < entry.each)
        })?;
        *under_way.entry(who.clone()).or_default() += 1;
        books.places.give(&who, 1);
        proposal.cost.taken = true;
        Some(proposal)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.books().places.used()
    }

    /// Waits until something is queued. One waits at a time.
    pub(crate) async fn news(&self) {
        self.0.news.notified().await;
    }

    /// Takes everything.
    pub(crate) fn drain(&self) -> Vec<Proposal> {
        let all = Shares::of_all(usize::MAX);
        std::iter::from_fn(|| self.pop(&all)).collect()
    }

    /// Takes no more; what waits is dropped, and its answers with it.
    pub(crate) fn close(&self) {
        self.books().closed = true;
        drop(self.drain());
    }
}

impl Books {
    /// Takes a place and these bytes, if the caller may have both.
    fn place(&mut self, who: &Who, bytes: usize) -> Result<(), NotQueued> {
        if self.closed {
            return Err(NotQueued::Closed);
        }
        let rank = who.rank();
        if !self.places.may_take(who, rank, 1) || !self.bytes.take(who, rank, bytes) {
            return Err(NotQueued::Full);
        }
        let placed = self.places.take(who, rank, 1);
        assert!(placed, "there was a place a moment ago");
        Ok(())
    }
}

impl Drop for Cost {
    fn drop(&mut self) {
        let mut books = self.queue.books();
        books.bytes.give(&self.who, self.bytes);
        if let Some(under_way) = books.under_way.get_mut(&self.who).filter(|_| self.taken) {
            *under_way -= 1;
            if *under_way == 0 {
                books.under_way.remove(&self.who);
            }
        }
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
        queue.push(command(caller, len), Answer::new(|_| None))
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
        let all = Shares::of_all(usize::MAX);
        let entry: Vec<_> =
            std::iter::from_fn(|| queue.pop(&all)).take(ENTRY_COMMANDS_MAX).collect();
        let of = |name: &str| entry.iter().filter(|p| p.command.caller.name == name).count();
        assert_eq!((of("quiet"), of("n1"), of("admin")), (1, 1, 1));
        assert_eq!(of("greedy"), ENTRY_COMMANDS_MAX - 3);
        // Whoever has the name of an admin is none.
        push(&queue, client("admin"), 10).unwrap();
        assert!(matches!(Who::of(&client("admin")), Who::Client(_)));
    }

    #[test]
    fn an_entry_takes_so_many_of_each_and_of_the_fresh_one() {
        let queue = Queue::default();
        (0..5).for_each(|_| push(&queue, client("greedy"), 10).unwrap());
        push(&queue, client("quiet"), 10).unwrap();
        let take = |mut entry: Shares| {
            let mut taken = Vec::new();
            while let Some(proposal) = queue.pop(&entry) {
                entry.took(&proposal);
                taken.push(proposal);
            }
            taken
        };
        let names = |taken: &[Proposal]| -> Vec<String> {
            taken.iter().map(|proposal| proposal.command.caller.name.clone()).collect()
        };
        let first = take(Shares::of_all(2));
        assert_eq!(names(&first), ["greedy", "quiet", "greedy"]);
        assert_eq!(names(&take(Shares::of_the_fresh())), [""; 0], "both have something under way");
        push(&queue, client("other"), 10).unwrap();
        let other = take(Shares::of_the_fresh());
        assert_eq!(names(&other), ["other"]);
        drop((first, other));
        assert_eq!(names(&take(Shares::of_the_fresh())), ["greedy"]);
        assert_eq!(names(&take(Shares::of_all(8))), ["greedy"; 2]);
        assert!(queue.books().under_way.is_empty());
    }

    #[test]
    fn what_nobody_answers_is_unknown() {
        let (queue, told) = (Queue::default(), Arc::new(Mutex::new(Vec::new())));
        let asked = |n: usize| {
            let told = Arc::clone(&told);
            let answer = Answer::new(move |outcome: Result<Outcome, Failure>| {
                told.lock().push((n, outcome.map_err(|failure| failure.error_code())));
                None
            });
            (command(client("alice"), n), answer)
        };
        assert!(queue.push_all((0..3).map(asked).collect()).is_empty());
        let first = queue.pop(&Shares::of_all(1)).unwrap();
        assert!(first.answer.give(Ok(Outcome::CursorSet)).is_none());
        queue.close();
        let unknown = |n| (n, Err(ErrorCode::Unknown));
        assert_eq!(*told.lock(), [(0, Ok(Outcome::CursorSet)), unknown(1), unknown(2)]);
        let late = queue.push_all(vec![asked(3)]);
        assert!(matches!(late[..], [(NotQueued::Closed, _)]));
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
        let under_way = queue.pop(&Shares::of_all(1)).unwrap();
        assert_eq!(push(&queue, client("greedy"), 1 << 20), Err(NotQueued::Full));
        drop(under_way);
        push(&queue, client("greedy"), 1 << 20).unwrap();
        queue.close();
        assert_eq!(push(&queue, client("late"), 1), Err(NotQueued::Closed));
        let books = queue.books();
        assert_eq!((books.places.used(), books.bytes.used()), (0, 0));
    }
}
