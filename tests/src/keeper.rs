//! A node's clock without the node: what it measures, next to the machine's own clock, in one
//! process and without a network in between.

use std::net::SocketAddr;

use daemon::config::{Clock, ClockMode, ClockServer};
use daemon::time::Keeper;
use tokio_util::sync::CancellationToken;

/// A clock that asks these servers. Its tasks run on the runtime that is entered, and end with the
/// token.
#[must_use]
pub fn asking(servers: &[SocketAddr], poll_s: u32, cancel: CancellationToken) -> Keeper {
    let server = |address: &SocketAddr| ClockServer {
        address: address.to_string(),
        poll_s,
        private: true,
        timeout_ms: 1000,
    };
    let servers = servers.iter().map(server).collect();
    Keeper::start(&Clock { mode: ClockMode::Sntp, max_error_ms: 100, servers }, 0, cancel)
}

/// A clock that nobody checks; it has no tasks.
#[must_use]
pub fn local() -> Keeper {
    let config = Clock { mode: ClockMode::Local, max_error_ms: 100, servers: Vec::new() };
    Keeper::start(&config, 0, CancellationToken::new())
}
