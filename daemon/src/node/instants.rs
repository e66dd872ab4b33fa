//! What a write has to wait for besides its majority: a token that lies ahead of this clock, and the
//! moment from which its own stamp is certainly past.

use std::time::Duration;

use clock::{Hlc, Stamp, TickError};
use proto::wire::Ack;
use proto::{ErrorCode, Failure};
use tokio::time::Instant;

use crate::time::{NodeClock, clock_failure};

/// Longest wait for the clock to reach a token.
const TOKEN_WAIT: Duration = Duration::from_secs(1);

/// Raises the clock's floor to a token, after a wait if it lies a little ahead: until then at most.
///
/// # Errors
/// `ClockAhead` for a token from the future, which changes nothing: it is never lowered to what the
/// clock allows, because its owner would get a stamp that is not later.
pub(super) async fn admit(
    node_clock: &NodeClock,
    token: Hlc,
    until: Instant,
) -> Result<(), Failure> {
    let until = until.min(Instant::now() + TOKEN_WAIT);
    loop {
        let by_ns = match node_clock.admit(token) {
            Ok(()) => return Ok(()),
            Err(TickError::Ahead { by_ns }) => by_ns,
            Err(error) => return Err(clock_failure(error)),
        };
        let then = Instant::now() + Duration::from_nanos(by_ns);
        if then > until {
            let ms = by_ns.div_ceil(1_000_000);
            let message = format!(
                "the stamp to come after lies {ms} ms too far ahead of the primary's clock: it is \
                 no stamp of this cluster, or one of the two clocks is wrong"
            );
            return Err(Failure::new(ErrorCode::ClockAhead, message));
        }
        tokio::time::sleep_until(then).await;
    }
}

/// Waits until the stamp of a stored message is certainly past by more than any good clock may be
/// wrong: whatever is sent from then on, anywhere, gets a later stamp.
///
/// # Errors
/// `Unknown` if the time is over before that, or the clock's bounds are lost. The message is stored
/// then, and the same id may be sent again.
pub(super) async fn wait_out(
    node_clock: &NodeClock,
    ack: &Ack,
    until: Instant,
) -> Result<(), Failure> {
    let malformed = || Failure::new(ErrorCode::Internal, "an ack with a malformed stamp");
    let bytes = ack.stamp.as_slice().try_into().map_err(|_| malformed())?;
    let past_ns = Stamp::from_bytes(bytes).hlc.ns.saturating_add(node_clock.max_error_ns());
    let stored = |why: &str| {
        let Ack { seq, shard, .. } = ack;
        let message = format!(
            "stored as {seq} of shard {shard}, but its stamp is not certainly past: {why}; the \
             same id may be sent again"
        );
        Failure::new(ErrorCode::Unknown, message)
    };
    match tokio::time::timeout_at(until, node_clock.certainly_passes(past_ns)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(stored("the bounds of the primary's clock are unknown")),
        Err(_) => Err(stored("the time ran out")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clock::ClockState;
    use net::time_server::TimeServer;
    use tokio_util::sync::CancellationToken;

    use crate::tasks::Tasks;

    use super::*;
    use crate::events::EventSink;
    use crate::time::{Counter, ManualClock};
    use config::{Clock, ClockMode, ClockServer};

    /// 2026-11-21T00:00:00Z.
    const WALL_NS: u64 = 1_795_219_200_000_000_000;
    const MS: u64 = 1_000_000;
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A clock that is moved by hand, and one that believes its only server.
    async fn synced(stop: &CancellationToken) -> (Arc<ManualClock>, NodeClock, TimeServer) {
        let clock = ManualClock::new(WALL_NS);
        let counter = Counter::Manual(Arc::clone(&clock));
        let truth = counter.clone();
        let truth = move || WALL_NS + truth.raw_ns() - ManualClock::START_NS;
        let server = TimeServer::start(0, truth).await.unwrap();
        let address = server.address().to_string();
        let server_config = ClockServer { address, poll_s: 1024, private: true, timeout_ms: 5000 };
        let config =
            Clock { mode: ClockMode::Sntp, servers: vec![server_config], ..Clock::local() };
        let (events, node) = (EventSink::nowhere(), "n1".parse().unwrap());
        let node_clock = NodeClock::with_counter(
            &config,
            Hlc::ZERO,
            events,
            node,
            &Tasks::until(stop.clone()),
            counter,
        );
        tokio::time::timeout(PATIENCE, node_clock.reached(ClockState::Synced)).await.unwrap();
        (clock, node_clock, server)
    }

    fn ack(at: Hlc) -> Ack {
        Ack {
            seq: 7,
            stamp: Stamp { hlc: at, ..Stamp::default() }.to_bytes().into(),
            ..Ack::default()
        }
    }

    fn later() -> Instant {
        Instant::now() + PATIENCE
    }

    #[tokio::test]
    async fn a_stamp_is_waited_out_by_the_error_of_any_good_clock() {
        let stop = CancellationToken::new();
        let (clock, node_clock, _server) = synced(&stop).await;
        let at = Hlc::from_ns(node_clock.reading().now_ns);
        let acked = ack(at);
        let mut waiting = std::pin::pin!(wait_out(&node_clock, &acked, later()));
        assert!(futures::poll!(&mut waiting).is_pending());
        clock.advance(node_clock.max_error_ns());
        assert!(node_clock.reading().earliest_ns.unwrap() <= at.ns + node_clock.max_error_ns());
        for _ in 0..100 {
            assert!(futures::poll!(&mut waiting).is_pending(), "the earliest is not past it");
            tokio::task::yield_now().await;
        }
        clock.advance(50 * MS);
        assert!(node_clock.reading().earliest_ns.unwrap() > at.ns + node_clock.max_error_ns());
        assert_eq!(waiting.await, Ok(()));
        stop.cancel();
    }

    #[tokio::test]
    async fn a_wait_that_ends_early_says_that_the_message_is_stored() {
        let stop = CancellationToken::new();
        let (_clock, node_clock, _server) = synced(&stop).await;
        let acked = ack(Hlc::from_ns(node_clock.reading().now_ns));
        let late = wait_out(&node_clock, &acked, Instant::now()).await.unwrap_err();
        assert_eq!(late.error_code(), ErrorCode::Unknown);
        assert!(late.message.contains("stored as 7"), "{}", late.message);
        let mut waiting = std::pin::pin!(wait_out(&node_clock, &acked, later()));
        assert!(futures::poll!(&mut waiting).is_pending());
        node_clock.set_fenced(Some("its peers contradict it".to_owned()));
        let lost = waiting.await.unwrap_err();
        assert_eq!(lost.error_code(), ErrorCode::Unknown);
        assert!(lost.message.contains("stored as 7"), "{}", lost.message);
        stop.cancel();
    }

    #[tokio::test]
    async fn a_token_a_little_ahead_waits_and_a_far_one_changes_nothing() {
        let stop = CancellationToken::new();
        let (clock, node_clock, _server) = synced(&stop).await;
        let allowed_ns = node_clock.reading().earliest_ns.unwrap() + 2 * node_clock.max_error_ns();
        let floor = node_clock.hlc().floor();
        let far = Hlc::from_ns(allowed_ns + 3_600_000 * MS);
        let refused = admit(&node_clock, far, later()).await.unwrap_err();
        assert_eq!(refused.error_code(), ErrorCode::ClockAhead);
        assert!(refused.message.contains("3600000 ms"), "{}", refused.message);
        assert_eq!(node_clock.hlc().floor(), floor, "a token from the future raised the floor");
        let near = Hlc::from_ns(allowed_ns + 20 * MS);
        let at_once = admit(&node_clock, near, Instant::now()).await.unwrap_err();
        assert_eq!(at_once.error_code(), ErrorCode::ClockAhead, "no time to wait");
        let mut waiting = std::pin::pin!(admit(&node_clock, near, later()));
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(node_clock.hlc().floor(), floor);
        clock.advance(30 * MS);
        assert_eq!(waiting.await, Ok(()));
        assert_eq!(node_clock.hlc().floor(), near);
        stop.cancel();
    }
}
