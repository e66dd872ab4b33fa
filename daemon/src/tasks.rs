//! The tasks that a node cannot do without. One that panics, or ends before the node does, is noticed:
//! a node without a proposer would stay primary and answer nobody.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::pause;

/// Starts a node's tasks and watches over them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    stop: CancellationToken,
    /// The first that fell.
    fallen: watch::Sender<Option<Fallen>>,
    /// The runtime of those that may take long; `None`: that of the others.
    aside: Option<Handle>,
    /// Whether these here do.
    long: bool,
}

/// A task that has ended and should not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallen {
    /// Its name.
    pub task: &'static str,
    /// How it ended.
    pub how: End,
}

/// How a task ended before the node did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It panicked, with this text.
    Panicked(String),
    /// It returned.
    Returned,
}

impl fmt::Display for Fallen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, how } = self;
        match how {
            End::Panicked(text) => write!(f, "the task '{task}' panicked: {text}"),
            End::Returned => write!(f, "the task '{task}' ended before the node did"),
        }
    }
}

impl std::error::Error for Fallen {}

impl Tasks {
    /// Tasks that are to end when `stop` is cancelled. What happens to them afterwards is their own affair.
    #[must_use]
    pub fn until(stop: CancellationToken) -> Self {
        Self { stop, fallen: watch::Sender::new(None), aside: None, long: false }
    }

    /// Has a runtime for what may take long or wait for a disk, so that nothing else waits for that.
    #[must_use]
    pub fn beside(self, aside: Handle) -> Self {
        Self { aside: Some(aside), ..self }
    }

    /// For tasks that may take long or wait for a disk.
    #[must_use]
    pub fn aside(&self) -> Self {
        Self { long: true, ..self.clone() }
    }

    /// The runtime of such tasks. To be called on a runtime.
    #[must_use]
    pub fn aside_runtime(&self) -> Handle {
        self.aside.clone().unwrap_or_else(Handle::current)
    }

    /// What tells the tasks to end.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Starts a task that ends by itself when it is told to stop, and not before.
    pub fn keep<F>(&self, task: &'static str, work: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.start(task, work, false)
    }

    /// Starts a task that is dropped, wherever it is, when the tasks are to stop.
    pub fn keep_until_stop<F>(&self, task: &'static str, work: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.keep(task, async move {
            stop.run_until_cancelled_owned(work).await;
        })
    }

    /// Starts a task that may end when its work is done. It must not panic all the same.
    pub fn once<F>(&self, task: &'static str, work: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.start(task, work, true)
    }

    /// Completes when a task has fallen.
    pub async fn fallen(&self) -> Fallen {
        let mut fallen = self.fallen.subscribe();
        match fallen.wait_for(Option::is_some).await.map(|fallen| fallen.clone()) {
            Ok(Some(fallen)) => fallen,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    fn start<F>(&self, task: &'static str, work: F, may_end: bool) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.clone();
        let runtime = if self.long { self.aside_runtime() } else { Handle::current() };
        pause::spawn_on(&runtime, async move {
            let how = match AssertUnwindSafe(work).catch_unwind().await {
                Ok(()) if may_end => return,
                Ok(()) => End::Returned,
                Err(panic) => End::Panicked(text_of(&*panic)),
            };
            if tasks.stop.is_cancelled() {
                return;
            }
            tasks.fallen.send_if_modified(|fallen| {
                let first = fallen.is_none();
                fallen.get_or_insert(Fallen { task, how });
                first
            });
        })
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks() -> Tasks {
        Tasks::until(CancellationToken::new())
    }

    /// Seen to fail without the catch: nobody learns of the panic.
    #[tokio::test]
    async fn a_task_that_panics_is_told_with_its_words() {
        let tasks = tasks();
        let number = 7;
        drop(tasks.once("counting", async move { panic!("lost count at {number}") }));
        let fallen = tasks.fallen().await;
        assert_eq!(fallen.to_string(), "the task 'counting' panicked: lost count at 7");
        // What falls after it, maybe because of it, is not the reason.
        tasks.keep("later", async {}).await.unwrap();
        assert_eq!(tasks.fallen().await, fallen);
    }

    /// Seen to fail with `aside` changing nothing.
    #[tokio::test]
    async fn what_may_take_long_has_threads_of_its_own() {
        let mut aside = tokio::runtime::Builder::new_multi_thread();
        let aside = aside.worker_threads(1).thread_name("aside").build().unwrap();
        let tasks = tasks().beside(aside.handle().clone());
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        for tasks in [tasks.clone(), tasks.aside()] {
            let said = said.clone();
            let name = || std::thread::current().name().map(str::to_owned);
            tasks.once("names", async move { drop(said.send(name())) }).await.unwrap();
        }
        let here = std::thread::current().name().map(str::to_owned);
        assert_eq!(heard.recv().await, Some(here));
        assert_eq!(heard.recv().await, Some(Some("aside".to_owned())));
        aside.shutdown_background();
    }

    #[tokio::test]
    async fn a_task_that_ends_early_has_fallen_unless_it_may() {
        let tasks = tasks();
        tasks.once("greeting", async {}).await.unwrap();
        assert_eq!(tasks.fallen().now_or_never(), None);
        tasks.keep("serving", async {}).await.unwrap();
        let fallen = Fallen { task: "serving", how: End::Returned };
        assert_eq!(tasks.fallen().await, fallen);
    }

    #[tokio::test]
    async fn nothing_falls_that_ends_when_it_is_told_to() {
        let tasks = tasks();
        let stop = tasks.stop().clone();
        let ends = tasks.keep("ends", async move { stop.cancelled().await });
        let dropped = tasks.keep_until_stop("dropped", std::future::pending());
        let stop = tasks.stop().clone();
        let trips = tasks.keep("trips", async move {
            stop.cancelled().await;
            panic!("the others are gone")
        });
        tasks.stop().cancel();
        for task in [ends, dropped, trips] {
            task.await.unwrap();
        }
        assert_eq!(tasks.fallen().now_or_never(), None);
    }
}
