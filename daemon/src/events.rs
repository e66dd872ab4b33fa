//! What a node has to say for the `$events` stream: a bounded queue, and the task that brings each
//! event to the primary until it is stored.
//!
//! Invariants: an event keeps its id across every try, so it is stored once; events of one node are
//! stored in the order in which they were pushed; nobody who pushes ever waits. While no primary takes
//! events the queue fills; then the oldest are dropped, counted and logged: what the node is now is
//! worth more than what it was.
//!
//! Not here: what events say (`proto::event`), how one is stored (`node::own`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use proto::limits::EVENTS_WAITING_MAX;
use proto::peer::NodeEvent;
use proto::{ErrorCode, Failure};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;

/// See [`EventQueue::pause_first`].
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest wait between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Where events go in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventSink {
    /// `None`: they go nowhere.
    shared: Option<Arc<Shared>>,
}

/// Where events come out. One task runs it.
#[derive(Debug)]
pub struct EventQueue {
    shared: Arc<Shared>,
    /// Wait after the first failed try; doubled with each further one.
    pause_first: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    chance: Chance,
    waiting: Mutex<Waiting>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<NodeEvent>,
    dropped: u64,
}

/// A queue and its entrance. `chance` gives events their ids.
#[must_use]
pub fn channel(chance: Chance) -> (EventSink, EventQueue) {
    let shared = Arc::new(Shared { chance, ..Shared::default() });
    let sink = EventSink { shared: Some(Arc::clone(&shared)) };
    (sink, EventQueue { shared, pause_first: PAUSE_FIRST })
}

impl EventSink {
    /// A sink that forgets everything: for a node that takes no part, and for tests.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { shared: None }
    }

    /// Hands an event over. One without an id gets one here. Never waits; drops the oldest event
    /// where too many wait.
    pub fn push(&self, mut event: NodeEvent) {
        let Some(shared) = &self.shared else { return };
        if event.id.is_empty() {
            event.id = shared.chance.id().to_string();
        }
        let mut waiting = shared.lock();
        if waiting.events.len() >= EVENTS_WAITING_MAX {
            waiting.events.pop_front();
            waiting.dropped += 1;
            let dropped = waiting.dropped;
            tracing::warn!(
                dropped,
                "no primary takes the events of this node: the oldest was dropped"
            );
        }
        waiting.events.push_back(event);
        drop(waiting);
        shared.pushed.notify_one();
    }

    /// How many events were dropped because too many waited.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.lock().dropped)
    }
}

impl Shared {
    /// Nothing that is locked here is left half changed by a panic.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock()
    }
}

impl EventQueue {
    /// Takes everything out, for tests of those who push.
    #[cfg(test)]
    pub(crate) fn take(&self) -> Vec<NodeEvent> {
        self.shared.lock().events.drain(..).collect()
    }

    /// Has `store` bring one event after the other to the primary, until `stop`.
    pub async fn run<Storing>(self, store: impl Fn(NodeEvent) -> Storing, stop: CancellationToken)
    where
        Storing: Future<Output = Result<(), Failure>>,
    {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.serve_all(store) => {}
        }
    }

    async fn serve_all<Storing>(&self, store: impl Fn(NodeEvent) -> Storing)
    where
        Storing: Future<Output = Result<(), Failure>>,
    {
        let mut pause = self.pause_first;
        loop {
            let oldest = self.shared.lock().events.front().cloned();
            let Some(event) = oldest else {
                self.shared.pushed.notified().await;
                continue;
            };
            let id = event.id.clone();
            match store(event).await {
                Ok(()) => {
                    self.done(&id);
                    pause = self.pause_first;
                }
                // Trying again would not change the answer, and the others would wait for ever.
                Err(failure) if is_final(&failure) => {
                    tracing::error!(id, %failure, "an event was refused for good");
                    self.done(&id);
                }
                Err(failure) => {
                    tracing::debug!(id, %failure, "an event waits");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Takes an event out, unless it was dropped meanwhile.
    fn done(&self, id: &str) {
        let mut waiting = self.shared.lock();
        if waiting.events.front().is_some_and(|oldest| oldest.id == id) {
            waiting.events.pop_front();
        }
    }
}

/// Whether the event itself is refused, and not the moment.
fn is_final(failure: &Failure) -> bool {
    use ErrorCode::{Conflict, Denied, Invalid, NotFound};
    matches!(failure.error_code(), Invalid | Denied | NotFound | Conflict)
}

/// Seen to fail with the id drawn anew for each try, with the new event dropped instead of the
/// oldest, and with `done` blind to the id.
#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn event(text: &str) -> NodeEvent {
        NodeEvent { id: String::new(), headers: Vec::new(), text: text.to_owned() }
    }

    /// Serves until nothing waits, with answers by a script: what to say to the n-th try.
    async fn tries(
        mut queue: EventQueue,
        answer: impl Fn(usize, &NodeEvent) -> Result<(), Failure>,
    ) -> Vec<NodeEvent> {
        queue.pause_first = Duration::from_micros(10);
        let tried = RefCell::new(Vec::new());
        let stop = CancellationToken::new();
        let shared = Arc::clone(&queue.shared);
        let store = async |event: NodeEvent| {
            let number = tried.borrow().len();
            let result = answer(number, &event);
            tried.borrow_mut().push(event);
            if result.is_ok() && shared.lock().events.len() <= 1 {
                stop.cancel();
            }
            result
        };
        queue.run(store, stop.clone()).await;
        tried.into_inner()
    }

    #[tokio::test]
    async fn an_event_keeps_its_id_until_it_is_stored() {
        let (sink, queue) = channel(Chance::system());
        sink.push(event("one"));
        sink.push(event("two"));
        let busy = || Failure::new(ErrorCode::NoQuorum, "nobody leads");
        let tried = tries(queue, |n, _| if n < 5 { Err(busy()) } else { Ok(()) }).await;
        let texts: Vec<&str> = tried.iter().map(|event| &*event.text).collect();
        assert_eq!(texts, ["one", "one", "one", "one", "one", "one", "two"]);
        assert!(tried[..6].iter().all(|event| event.id == tried[0].id && !event.id.is_empty()));
        assert_ne!(tried[6].id, tried[0].id);
    }

    #[tokio::test]
    async fn what_can_never_be_stored_holds_nobody_up() {
        let (sink, queue) = channel(Chance::system());
        sink.push(event("bad"));
        sink.push(event("good"));
        let refused = || Failure::new(ErrorCode::Invalid, "too large");
        let tried = tries(queue, |_, event| match &*event.text {
            "bad" => Err(refused()),
            _ => Ok(()),
        });
        let texts: Vec<String> = tried.await.into_iter().map(|event| event.text).collect();
        assert_eq!(texts, ["bad", "good"]);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_keeps_the_newest() {
        let (sink, queue) = channel(Chance::system());
        for n in 0..EVENTS_WAITING_MAX + 3 {
            sink.push(event(&n.to_string()));
        }
        assert_eq!(sink.dropped(), 3);
        let tried = tries(queue, |_, _| Ok(())).await;
        assert_eq!(tried.len(), EVENTS_WAITING_MAX);
        assert_eq!((&*tried[0].text, &*tried[EVENTS_WAITING_MAX - 1].text), ("3", "258"));
    }

    #[tokio::test]
    async fn an_event_dropped_while_it_is_brought_takes_no_other_with_it() {
        let (sink, queue) = channel(Chance::system());
        for n in 0..EVENTS_WAITING_MAX {
            sink.push(event(&n.to_string()));
        }
        let pushing = sink.clone();
        let tried = tries(queue, |n, _| {
            if n == 0 {
                pushing.push(event("late"));
            }
            Ok(())
        });
        let texts: Vec<String> = tried.await.into_iter().map(|event| event.text).collect();
        assert_eq!(texts[..2], ["0", "1"]);
        assert_eq!(texts.last().unwrap(), "late");
        EventSink::nowhere().push(event("nobody hears"));
        assert_eq!(EventSink::nowhere().dropped(), 0);
    }
}
