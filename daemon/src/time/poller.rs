//! The tasks that ask the time servers: one per server, and one that looks after the machine.
//!
//! All belong to one supervisor, end with one token, and are joined.

use std::net::SocketAddr;
use std::time::Duration;

use clock::{Answer, Failure};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::keeper::Keeper;
use super::sntp;
use crate::config::ClockServer;

/// How often suspension and the passing of time are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Suspended time that makes the samples worthless, nanoseconds.
const SUSPENDED_NS: u64 = 10_000_000;
/// Longest wait for an address.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks all servers until the token is cancelled.
pub(super) async fn run(keeper: Keeper, servers: Vec<ClockServer>, cancel: CancellationToken) {
    let hurry = std::sync::Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    for (index, server) in servers.into_iter().enumerate() {
        let (keeper, hurry, cancel) = (keeper.clone(), hurry.clone(), cancel.clone());
        tasks.spawn(async move {
            cancel.run_until_cancelled(follow(&keeper, index, &server, &hurry)).await;
        });
    }
    tasks.spawn(async move {
        cancel.run_until_cancelled(look_after(&keeper, &hurry)).await;
    });
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of the clock failed");
        }
    }
}

/// Asks one server for ever, or until it says that it must not be asked.
async fn follow(keeper: &Keeper, index: usize, server: &ClockServer, hurry: &Notify) {
    let timeout = Duration::from_millis(u64::from(server.timeout_ms));
    let mut address = None;
    loop {
        if address.is_none() {
            address = resolve(&server.address).await;
        }
        let (answer, strays) = match address {
            None => (Answer::Failed(Failure::Unresolved), 0),
            Some(address) => {
                let asked = sntp::query(address, keeper.counter(), keeper.scale(), timeout).await;
                (asked.answer, asked.strays)
            }
        };
        let (wait_ms, lost) = keeper.answered(index, &answer, strays);
        if lost {
            address = None;
        }
        let Some(wait_ms) = wait_ms else {
            tracing::warn!(server = server.address, "the time server refuses this node");
            return;
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = hurry.notified() => {}
        }
    }
}

/// One of the server's addresses.
async fn resolve(address: &str) -> Option<SocketAddr> {
    match tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(address)).await {
        Ok(Ok(mut found)) => found.next(),
        Ok(Err(error)) => {
            tracing::debug!(server = address, %error, "no address");
            None
        }
        Err(_elapsed) => None,
    }
}

/// Notices that the machine was suspended, and what time alone does to the clock's state.
async fn look_after(keeper: &Keeper, hurry: &Notify) {
    let mut suspended_ns = keeper.counter().suspended_ns();
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let now_ns = keeper.counter().suspended_ns();
        if now_ns.saturating_sub(suspended_ns) > SUSPENDED_NS {
            let seconds = (now_ns - suspended_ns) / 1_000_000_000;
            tracing::warn!(seconds, "the machine was suspended: the clock is set anew");
            keeper.suspended();
            hurry.notify_waiters();
        }
        suspended_ns = suspended_ns.max(now_ns);
        keeper.refresh();
    }
}
