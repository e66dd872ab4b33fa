//! What a node tells of itself as metrics: one table of families, and the text of a scrape.
//!
//! Names follow Prometheus: base units, `_seconds`, `_bytes`, `_total`, one `# HELP` and `# TYPE` for each.
//! A family and where its values come from are one entry of the table, so that text, document, alert
//! rules and dashboard are compared with one list. It comes from facts, at each scrape anew: nothing is
//! counted here.
//!
//! Invariant: a value that nobody knows has no sample: no zero stands for it.
//!
//! Invariant: labels come from small closed sets (nodes, time servers, stages, kinds of problems, routes);
//! a client's name is never one, for there may be a hundred thousand.

mod clock;
mod cluster;
mod joined;
mod process;
mod shape;
mod work;

use proto::stage::Counted;
use proto::wire::{ClockReport, Status};

use crate::health::StatusView;

pub use joined::{Reached, joined};
pub use shape::{Family, Kind};

/// The type of the text, as a server says it.
pub const CONTENT_TYPE: &str = prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// What a node knows of itself, and of the others, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeFacts {
    /// Its name.
    pub node: String,
    /// The cluster as it sees it.
    pub status: Status,
    /// Its clock.
    pub clock: ClockReport,
    /// Whether it takes reads and writes now.
    pub ready: bool,
    /// Last second of the authority's certificate; `None` if it cannot be read.
    pub authority_until_unix_s: Option<i64>,
    /// What it does; `None` where it takes no part.
    pub work: Option<Work>,
    /// Its process; what the system does not tell is missing.
    pub process: Process,
    /// Requests of clients that it has answered since it started.
    pub requests: u64,
    /// Clients that are connected to it.
    pub connected_clients: u64,
    /// Requests over HTTPS that it has answered since it started.
    pub http: Vec<HttpCount>,
}

/// What a node that takes part has done since it started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Work {
    /// How long the stages of a message's way take.
    pub stages: Vec<Counted>,
    /// Records that were applied.
    pub records: u64,
    /// Of the commands that were applied: those that were done before.
    pub duplicates: u64,
    /// Neighbours in the order.
    pub pairs: Pairs,
    /// Stamps that had to be raised at apply.
    pub stamps_raised: u64,
    /// Commands that wait for the proposer.
    pub queued_commands: u64,
    /// Bytes that wait for the disk.
    pub queued_bytes: u64,
    /// How long the command has waited that waits longest, in microseconds.
    pub longest_wait_us: u64,
    /// Entries that each other node is behind, on the primary.
    pub behind: Vec<(String, u64)>,
    /// The data disk.
    pub disk: Option<Disk>,
}

/// Neighbours in the order of the log, since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pairs {
    /// All.
    pub all: u64,
    /// Those whose order is agreed and not proven: their bounds overlap, or one's are unknown.
    pub unproven: u64,
    /// The same of the last ones.
    pub last: u64,
    /// The same of the last ones.
    pub last_unproven: u64,
}

/// A data disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that are free to the node.
    pub free_bytes: u64,
    /// Bytes of all of it.
    pub size_bytes: u64,
    /// Below this a primary refuses what stays.
    pub reserve_bytes: u64,
}

/// A process, as the system tells.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Most that it may have.
    pub max_fds: Option<u64>,
    /// Memory that is in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Processor time, in seconds.
    pub cpu_s: Option<f64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// Requests over HTTPS of one route with one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCount {
    /// The route as the router has it, with its placeholders.
    pub route: String,
    /// Status code.
    pub code: u16,
    /// How many.
    pub count: u64,
}

/// The same, and what follows from it.
#[derive(Debug)]
struct Seen {
    facts: NodeFacts,
    view: StatusView,
    /// The node's own clock, in seconds since 1970: another machine's may be a different one.
    now_unix_s: Option<i64>,
}

/// All families, in the order of the text.
pub fn families() -> impl Iterator<Item = &'static Family> {
    [cluster::FAMILIES, work::FAMILIES, clock::FAMILIES, process::FAMILIES].into_iter().flatten()
}

/// What a scrape of the node returns.
#[must_use]
pub fn text(facts: NodeFacts) -> String {
    let now = facts.clock.now_ns;
    let now_unix_s = i64::try_from(now / 1_000_000_000).ok().filter(|now| *now > 0);
    let view = StatusView::new(facts.status.clone(), now_unix_s.unwrap_or(0));
    let seen = Seen { facts, view, now_unix_s };
    let read = |family: &'static Family| (family, (family.read)(&seen));
    shape::write(&seen.facts.node, families().map(read).collect())
}

#[cfg(test)]
#[path = "metrics_test.rs"]
mod tests;
