//! Who does what waits for the disk: threads of the system, or, where the disk is in memory, the one
//! thread of the runtime, so that a run can be repeated.

use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::blocking::Blocking;
use crate::pause;

use super::StoreError;
use super::media::Latency;

/// Who does the work.
#[derive(Debug, Clone)]
pub(super) enum Workers {
    /// Threads of the system.
    Threads,
    /// Tasks of the runtime that is there, on a disk that takes so long.
    Tasks(Latency),
}

impl Workers {
    /// Does something on a thread of its own, or at once.
    ///
    /// # Errors
    /// When the system has no thread for it; it is not done then.
    pub(super) fn aside(
        &self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        match self {
            Self::Threads => {
                let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
                thread.map(drop).map_err(StoreError::file(name))
            }
            Self::Tasks(_) => {
                work();
                Ok(())
            }
        }
    }

    /// Does something that waits for the disk, beside the runtime's other tasks.
    ///
    /// # Errors
    /// The work's own, or that it ended in a panic.
    pub(super) async fn wait_for<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self {
            Self::Threads => {
                let done = Blocking::Threads.run(work).await;
                done.unwrap_or_else(|error| Err(StoreError::Stopped(error.to_string())))
            }
            Self::Tasks(latency) => {
                latency.half().await;
                let done = work();
                latency.half().await;
                done
            }
        }
    }
}

/// Where a worker is asked.
pub(super) enum Asking<T> {
    Thread(mpsc::Sender<T>),
    Task(UnboundedSender<T>),
}

// Not derived: what is sent need not be cloned.
impl<T> Clone for Asking<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Thread(sender) => Self::Thread(sender.clone()),
            Self::Task(sender) => Self::Task(sender.clone()),
        }
    }
}

impl<T> Asking<T> {
    /// Asks; gives back what nobody takes any more.
    pub(super) fn send(&self, asked: T) -> Result<(), T> {
        match self {
            Self::Thread(sender) => sender.send(asked).map_err(|mpsc::SendError(asked)| asked),
            Self::Task(sender) => sender.send(asked).map_err(|error| error.0),
        }
    }
}

/// What a worker does with what it is asked.
pub(super) trait Worker<T>: Send + 'static {
    /// How long it waits to be asked before it looks by itself; for ever if it need not look.
    fn patience(&self) -> Option<std::time::Duration>;

    /// Takes up the first that was asked, or `None` when its patience is over, and what else waits. Tells
    /// whether anybody waits for the disk.
    fn take(&mut self, first: Option<T>, more: &mut dyn Iterator<Item = T>);

    /// Does what was taken up; that may wait for the disk.
    fn work(&mut self);

    /// Tells those who wait, and whether the end has come.
    fn answer(&mut self) -> bool;

    /// Refuses what was asked behind the end.
    fn refuse(&mut self, late: T);
}

/// Starts a worker. What is returned is joined at the end.
///
/// # Errors
/// When the system has no thread for it.
pub(super) fn start<T: Send + 'static>(
    workers: &Workers,
    name: &str,
    worker: impl Worker<T>,
) -> Result<(Asking<T>, Option<JoinHandle<()>>), StoreError> {
    match workers {
        Workers::Threads => {
            let (asking, asked) = mpsc::channel();
            let thread = std::thread::Builder::new().name(name.to_owned());
            let thread = thread.spawn(move || on_thread(worker, &asked));
            Ok((Asking::Thread(asking), Some(thread.map_err(StoreError::file(name))?)))
        }
        Workers::Tasks(latency) => {
            let (asking, asked) = unbounded_channel();
            pause::spawn(as_task(worker, asked, latency.clone()));
            Ok((Asking::Task(asking), None))
        }
    }
}

fn on_thread<T>(mut worker: impl Worker<T>, asked: &mpsc::Receiver<T>) {
    loop {
        let first = match worker.patience() {
            Some(patience) => asked.recv_timeout(patience),
            None => asked.recv().map_err(Into::into),
        };
        let first = match first {
            Ok(first) => Some(first),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        };
        worker.take(first, &mut asked.try_iter());
        worker.work();
        if worker.answer() {
            asked.try_iter().for_each(|late| worker.refuse(late));
            return;
        }
    }
}

async fn as_task<T>(mut worker: impl Worker<T>, mut asked: UnboundedReceiver<T>, latency: Latency) {
    loop {
        let first = match worker.patience() {
            Some(patience) => match tokio::time::timeout(patience, asked.recv()).await {
                Ok(Some(first)) => Some(first),
                Ok(None) => return,
                Err(_) => None,
            },
            None => match asked.recv().await {
                Some(first) => Some(first),
                None => return,
            },
        };
        worker.take(first, &mut std::iter::from_fn(|| asked.try_recv().ok()));
        latency.half().await;
        worker.work();
        // Durable, and nobody was told: the process may die now.
        latency.half().await;
        if worker.answer() {
            while let Ok(late) = asked.try_recv() {
                worker.refuse(late);
            }
            return;
        }
    }
}
