//! The tasks that ask the time servers: one per server, and one that looks after the machine.
//!
//! All belong to one supervisor, end with one token, and are joined. They wait by the clock's own
//! counter, so a test that moves it moves them.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::pause;

use super::node_clock::NodeClock;
use super::sntp::{self, Queried};
use super::steps::StepWatch;

/// How often suspension, the wall clock and the passing of time are looked at, nanoseconds.
const LOOK_EVERY_NS: u64 = 1_000_000_000;

/// Asks all servers until the token is cancelled.
pub(super) async fn run(node_clock: NodeClock, cancel: CancellationToken) {
    let mut tasks = JoinSet::new();
    for index in 0..node_clock.inner.servers.iter().len() {
        let (node_clock, cancel) = (node_clock.clone(), cancel.clone());
        tasks.spawn(pause::inherit(async move {
            cancel.run_until_cancelled(follow(&node_clock, index)).await;
        }));
    }
    tasks.spawn(pause::inherit(async move {
        cancel.run_until_cancelled(look_after(&node_clock)).await;
    }));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of the clock failed");
        }
    }
}

/// Asks one server for ever; one that says that it must not be asked, only after a reload.
async fn follow(node_clock: &NodeClock, index: usize) {
    let servers = &node_clock.inner.servers;
    let Some(server) = servers.get(index) else { return };
    let timeout = Duration::from_millis(u64::from(server.config.timeout_ms));
    let mut reloads = servers.reloads();
    let mut known = None;
    let (counter, scale) = (&node_clock.inner.counter, &node_clock.inner.scale);
    loop {
        reloads.mark_unchanged();
        let asked = if let Some(known) = counter.servers() {
            sntp::query_virtual(&**known, &server.config.address, counter, timeout).await
        } else {
            match servers.locate(index).await {
                Err(failure) => Queried::failed(failure),
                Ok((address, loser)) => {
                    // What was measured belongs to the machine that said it, not to the entry: kept
                    // under two entries, or beside another machine's, it would count wrongly.
                    loser.into_iter().for_each(|loser| node_clock.restart(loser));
                    if known.replace(address).is_some_and(|known| known != address) {
                        node_clock.restart(index);
                    }
                    sntp::query(address, counter, scale, timeout).await
                }
            }
        };
        let (next_ns, lost) = node_clock.answered(index, &asked);
        if lost {
            servers.forget(index);
        }
        if let Some(at_ns) = next_ns {
            tokio::select! {
                () = node_clock.inner.counter.until(at_ns) => {}
                () = servers.hurried() => {}
            }
        } else {
            let server = &server.config.address;
            tracing::warn!(server, "the time server refuses this node: not asked until a reload");
            // The sender lives as long as the node's clock, so this wait cannot fail.
            drop(reloads.changed().await);
        }
    }
}

/// Notices that the machine was suspended or its clock set, and what time alone does to the state.
async fn look_after(node_clock: &NodeClock) {
    let mut steps = StepWatch::new(node_clock.inner.counter.os_clock());
    loop {
        node_clock.inner.counter.pause(LOOK_EVERY_NS).await;
        node_clock.notice_suspension();
        if let Some(by_ns) = steps.look(node_clock.inner.counter.os_clock()) {
            node_clock.os_stepped(by_ns);
        }
        node_clock.refresh();
    }
}
