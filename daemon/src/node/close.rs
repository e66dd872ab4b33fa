//! Closing an instant: making sure that nothing can be stamped before it any more, so that a range
//! that ends there can be answered completely although nobody writes.
//!
//! The primary waits until its own clock has passed the instant, then has the log move on by one
//! command that changes nothing. It never pushes its clock, so who reads cannot move the cluster's
//! time. Readers that ask at the same time share a command.
//!
//! Not here: up to where a range has to be closed (`model::query::closing`).

use std::time::Duration;

use clock::Hlc;
use model::CommandOp;
use proto::peer::{Close, PeerOp};
use proto::wire::{Empty, Reply, Response};
use proto::{ErrorCode, Failure, Name};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::primary::{GaveUp, Patience, Primary, primary_may_change_that};
use super::{Core, Deadline, Node};

/// How far beyond now an instant may lie that a read waits for, in nanoseconds. A range that ends
/// later is answered at once, as far as it goes.
const AHEAD_MAX_NS: u64 = 1_000_000_000;
/// Longest wait of a read for its range to be closed: until the instant, and then for a majority.
const WITHIN: Duration = Duration::from_secs(2);
/// Least time between two commands that close: what reads cost the log at most.
const APART: Duration = Duration::from_millis(5);
/// Wait before a close that found no primary is tried again.
const AGAIN: Duration = Duration::from_millis(50);
const PATIENCE: Patience = Patience {
    news: AGAIN,
    spare: Duration::ZERO,
    no_primary: None,
    no_majority: None,
    again: primary_may_change_that,
};

/// Makes readers share the commands that close.
#[derive(Debug, Default)]
pub(crate) struct Closer {
    /// When the last one was proposed.
    last: Mutex<Option<Instant>>,
}

impl Closer {
    /// Has `tick` move the log on unless it has passed `at` already. Called once the clock has.
    async fn close(
        &self,
        at: Hlc,
        passed: impl Fn() -> Hlc,
        tick: impl AsyncFnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if passed() >= at {
            return Ok(());
        }
        let mut last = self.last.lock().await;
        if let Some(last) = *last {
            tokio::time::sleep_until(last + APART).await;
        }
        // Whoever held the lock may have closed this instant too.
        if passed() >= at {
            return Ok(());
        }
        *last = Some(Instant::now());
        tick().await
    }
}

impl Node {
    /// Waits until this node's state holds everything that will ever be stamped before `at`, if that
    /// can be had soon. If not, the answer says how far it is complete.
    pub(super) async fn closed(&self, core: &Core, at: Hlc, deadline: Deadline) {
        // Half of the time left stays for the answer.
        let wait = WITHIN.min(deadline.left() / 2);
        let closed = tokio::time::timeout(wait, self.close(core, at, Deadline::within(wait))).await;
        if let Ok(Err(failure)) = closed {
            tracing::debug!(%at, %failure, "a range stays open");
        }
    }

    /// Closes `at` once it has come, however far away it is; never completes without an instant.
    pub(super) async fn close_in_time(&self, core: &Core, at: Option<Hlc>) {
        let Some(at) = at else { return std::future::pending().await };
        while core.engine.last_stamp() < at {
            self.inner.node_clock.passes(at.ns).await;
            self.closed(core, at, Deadline::within(2 * WITHIN)).await;
            // Where no primary could be had, others are not held up by the next try.
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Asks the primary to close `at` and waits until this node has applied what it did for that.
    async fn close(&self, core: &Core, at: Hlc, deadline: Deadline) -> Result<(), Failure> {
        let mut tries = self.tries(core, PATIENCE, deadline);
        while core.engine.last_stamp() < at {
            self.check_near(at)?;
            let asked = match tries.primary() {
                Ok(Primary::Here) => self.close_here(at, deadline).await,
                Ok(Primary::There(primary)) => {
                    let op = PeerOp::Close(Close { hlc: at.to_bytes().to_vec() });
                    self.ask_primary(core, &primary, op, deadline).await.map(drop)
                }
                Err(failure) => Err(failure),
            };
            match asked {
                Ok(()) => {
                    let mut progress = core.engine.progress();
                    let there = progress.wait_for(|progress| progress.stamp >= at).await;
                    let stopping = |_| Failure::new(ErrorCode::Stopping, "the engine ended");
                    return there.map(drop).map_err(stopping);
                }
                Err(failure) => {
                    tries.again_after(failure).await.map_err(|GaveUp { last, .. }| last)?;
                }
            }
        }
        Ok(())
    }

    /// Serves a peer that wants an instant closed.
    pub(crate) async fn peer_close(&self, from: &Name, close: Close) -> Response {
        let closed = match Hlc::from_slice(&close.hlc) {
            Some(at) => self.close_here(at, Deadline::within(WITHIN)).await,
            None => Err(Failure::new(ErrorCode::Invalid, "a stamp has 12 bytes")),
        };
        self.response(from, closed.map_or_else(Reply::Failure, |()| Reply::Pong(Empty {})))
    }

    /// Closes an instant, as the primary.
    async fn close_here(&self, at: Hlc, deadline: Deadline) -> Result<(), Failure> {
        let core = self.core()?;
        self.check_near(at)?;
        let passing =
            tokio::time::timeout_at(deadline.at(), self.inner.node_clock.passes(at.ns)).await;
        passing.map_err(|_| Failure::new(ErrorCode::Deadline, "the instant has not come yet"))?;
        let tick = async || {
            let ticked = self.order_own(core, self.name(), CommandOp::Tick, deadline);
            ticked.await.map(drop)
        };
        core.closer.close(at, || core.engine.last_stamp(), tick).await
    }

    /// Refuses an instant that is too far away to be waited for.
    fn check_near(&self, at: Hlc) -> Result<(), Failure> {
        let now_ns = self.inner.node_clock.reading().now_ns;
        if at.ns > now_ns.saturating_add(AHEAD_MAX_NS) {
            return Err(Failure::new(ErrorCode::ClockAhead, format!("{at} is too far away")));
        }
        Ok(())
    }
}

/// Seen to fail without the second look after the lock, and with the pause left out.
#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn readers_share_a_command() {
        let closer = Closer::default();
        let (stamp, ticks) = (Cell::new(Hlc::ZERO), Cell::new(0u64));
        let close = |at_ns: u64| {
            let tick = async || {
                ticks.set(ticks.get() + 1);
                tokio::task::yield_now().await;
                stamp.set(Hlc::from_ns(1000));
                Ok(())
            };
            closer.close(Hlc::from_ns(at_ns), || stamp.get(), tick)
        };
        let all = futures::future::join_all((1..=100).map(close)).await;
        assert!(all.into_iter().all(|closed| closed.is_ok()));
        assert_eq!(ticks.get(), 1);
        close(1000).await.unwrap();
        assert_eq!(ticks.get(), 1, "what is past needs no command");
    }

    #[tokio::test]
    async fn commands_lie_apart_and_a_failed_one_is_the_asker_s_alone() {
        let closer = Closer::default();
        let begun = Instant::now();
        let stamp = Cell::new(Hlc::ZERO);
        let lost = async || Err(Failure::new(ErrorCode::NotPrimary, "gone"));
        let failed = closer.close(Hlc::from_ns(1), || stamp.get(), lost).await;
        assert_eq!(failed.unwrap_err().error_code(), ErrorCode::NotPrimary);
        for ns in 1..=4 {
            let tick = async || {
                stamp.set(Hlc::from_ns(ns));
                Ok(())
            };
            closer.close(Hlc::from_ns(ns), || stamp.get(), tick).await.unwrap();
        }
        assert!(begun.elapsed() >= 4 * APART);
    }
}
