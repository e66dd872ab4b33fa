//! A process that stands still for a while, as one that got SIGSTOP: none of its tasks runs, while time
//! and all others go on. In a simulator, where many processes are tasks of one thread.
//!
//! Every task that runs for a process belongs to it, and so does every task that it starts by `spawn` or
//! around `inherit`. A task of a real process belongs to none: the system stops it, if anybody does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::future::Either;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::task::futures::TaskLocalFuture;

tokio::task_local! {
    /// The process that the task is one of.
    static PROCESS: Pause;
}

/// Stops a process, and lets it go on. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Pause(Arc<Mutex<Standing>>);

#[derive(Debug, Default)]
struct Standing {
    stands: bool,
    /// Who wanted to go on meanwhile.
    waiting: Vec<Waker>,
}

/// What is done by a process, and only while that does not stand still.
pub struct Within<F> {
    pause: Pause,
    work: Pin<Box<TaskLocalFuture<Pause, F>>>,
}

impl Pause {
    /// Does something as this process.
    pub fn within<F: Future>(&self, work: F) -> Within<F> {
        let work = Box::pin(PROCESS.scope(self.clone(), work));
        Within { pause: self.clone(), work }
    }

    /// Lets the process stand still.
    pub fn stop(&self) {
        self.0.lock().stands = true;
    }

    /// Lets it go on. Its tasks are woken in the order that `order` brings them in.
    pub fn go_on(&self, order: impl FnOnce(&mut Vec<Waker>)) {
        let mut waiting = {
            let mut standing = self.0.lock();
            standing.stands = false;
            std::mem::take(&mut standing.waiting)
        };
        order(&mut waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether it stands still; if so, whoever asks is woken when it goes on.
    fn holds(&self, asks: &Waker) -> bool {
        let mut standing = self.0.lock();
        if standing.stands {
            standing.waiting.push(asks.clone());
        }
        standing.stands
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.pause.holds(cx.waker()) {
            return Poll::Pending;
        }
        self.work.as_mut().poll(cx)
    }
}

/// Work for a task that belongs to the process of the task that starts it.
pub fn inherit<F: Future>(work: F) -> Either<Within<F>, F> {
    match PROCESS.try_with(Clone::clone) {
        Ok(process) => Either::Left(process.within(work)),
        Err(_) => Either::Right(work),
    }
}

/// Starts a task, which belongs to the process of the one that starts it.
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    spawn_on(&Handle::current(), work)
}

/// The same on a runtime that may be another one.
pub(crate) fn spawn_on<F>(runtime: &Handle, work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    runtime.spawn(inherit(work))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::{Instant, sleep};

    use super::*;

    /// Seen to fail with: a task that the first one starts by `tokio::spawn`, which goes on.
    #[tokio::test(start_paused = true)]
    async fn nothing_of_a_process_that_stands_still_runs_and_time_goes_on() {
        let (pause, (said, mut heard)) = (Pause::default(), mpsc::unbounded_channel());
        let ticks = async move {
            loop {
                sleep(Duration::from_millis(10)).await;
                if said.send(Instant::now()).is_err() {
                    return;
                }
            }
        };
        let mut task = None;
        pause.within(async { task = Some(spawn(ticks)) }).await;
        heard.recv().await.unwrap();
        pause.stop();
        let stopped = Instant::now();
        sleep(Duration::from_secs(1)).await;
        assert!(heard.try_recv().is_err(), "it went on");
        pause.go_on(|_| {});
        let at = heard.recv().await.unwrap();
        assert_eq!(at - stopped, Duration::from_secs(1), "the timer was due long ago");
        task.unwrap().abort();
    }
}
