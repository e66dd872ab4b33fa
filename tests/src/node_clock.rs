//! A node's clock without the node: what it measures, next to the machine's own clock, in one
//! process and without a network in between.

use std::net::SocketAddr;

use config::{Clock, ClockMode, ClockServer};
use daemon::events::EventSink;
use daemon::tasks::Tasks;
use daemon::time::NodeClock;
use proto::Name;
use tokio_util::sync::CancellationToken;

/// A clock that asks these servers. Its tasks run on the runtime that is entered, and end with the
/// token.
///
/// # Errors
/// Never, as its name is one.
pub fn asking(
    servers: &[SocketAddr],
    poll_s: u32,
    cancel: CancellationToken,
) -> anyhow::Result<NodeClock> {
    let server = |address: &SocketAddr| ClockServer {
        address: address.to_string(),
        poll_s,
        private: true,
        timeout_ms: 1000,
    };
    let servers = servers.iter().map(server).collect();
    start(&Clock { mode: ClockMode::Sntp, servers, ..Clock::local() }, cancel)
}

/// A clock that nobody checks; it has no tasks.
///
/// # Errors
/// Never, as its name is one.
pub fn local() -> anyhow::Result<NodeClock> {
    start(&Clock::local(), CancellationToken::new())
}

fn start(config: &Clock, cancel: CancellationToken) -> anyhow::Result<NodeClock> {
    let name: Name = "n1".parse()?;
    Ok(NodeClock::start(
        config,
        clock::Hlc::ZERO,
        EventSink::nowhere(),
        name,
        &Tasks::until(cancel),
    ))
}
