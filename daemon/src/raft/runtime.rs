//! The engine's runtime: tokio, but for two things.
//!
//! The engine ends what it asks of another node after times that were fixed when it started: an answer
//! to a vote, after the shortest election timeout. How long it may take depends on the disks of the
//! day, and our own client of the other node (`network`) knows that and ends every call in time. So the
//! engine's own limit is a backstop behind it.
//!
//! And the engine draws its election timeouts from the node's own source of chance, which every task that
//! it starts inherits: a node that is to do the same again does. So it does with the process that they are of
//! (`pause`).

use std::future::Future;
use std::time::Duration;

use futures::future::Either;
use openraft::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::TokioRuntime;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use crate::chance::Chance;
use crate::pause;

use super::ballots::PATIENCE_MAX;

/// Nothing that the engine waits for with a limit is given up earlier.
const BACKSTOP: Duration = PATIENCE_MAX.saturating_add(Duration::from_secs(5));

tokio::task_local! {
    /// What the tasks of one engine draw from.
    static CHANCE: Chance;
}

/// Runs what starts an engine: that engine draws from `chance`.
pub(super) async fn drawing<T>(chance: Chance, starting: impl Future<Output = T>) -> T {
    CHANCE.scope(chance, Box::pin(starting)).await
}

/// See the module.
#[derive(Debug)]
pub(super) struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(pause::inherit(match CHANCE.try_with(Clone::clone) {
            Ok(chance) => Either::Left(CHANCE.scope(chance, future)),
            Err(_) => Either::Right(future),
        }))
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration.max(BACKSTOP), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        let chance = CHANCE.try_with(Clone::clone).unwrap_or_default();
        SmallRng::seed_from_u64(chance.number())
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
