//! A cluster in SNTP mode. Every node asks time servers of its own, which the test holds: it may
//! skew, silence or poison what one node is told, and leave the others alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use net::time_server::{Manner, TimeServer};
use proto::event::ClockEvent;
use proto::wire::{ClockReport, Empty, Op, Reply};
use proto::{Record, Stream};

use crate::checks;
use crate::cluster::Cluster;
use crate::history::History;
use crate::patience::until;
use crate::truth::{self, Anchor};

/// Time servers that each node asks.
pub const SERVERS: usize = 3;
/// Seconds between two polls: as often as a node may.
const POLL_S: u32 = 4;
/// Longest wait for an answer, milliseconds: short, so that silence is soon known.
const TIMEOUT_MS: u32 = 500;

/// A cluster and the time servers of its nodes.
pub struct Timed {
    /// The cluster.
    pub cluster: Cluster,
    servers: BTreeMap<String, Vec<TimeServer>>,
}

impl Timed {
    /// Makes a cluster whose nodes have these further lines in their `[clock]` section, and its
    /// time servers; no node runs yet.
    ///
    /// # Errors
    /// When that fails.
    pub fn create(nodes: u16, keys: &str) -> anyhow::Result<Self> {
        let mut timed = Self { cluster: Cluster::create(nodes)?, servers: BTreeMap::new() };
        for node in timed.cluster.names() {
            let started = (0..SERVERS).map(|_| timed.server());
            let servers = started.collect::<anyhow::Result<Vec<_>>>()?;
            let addresses = servers.iter().map(|server| server.address().to_string());
            let section = section(keys, addresses);
            timed.cluster.configure_clock(&node, &section)?;
            timed.servers.insert(node, servers);
        }
        Ok(timed)
    }

    /// Makes a cluster, starts all nodes and waits until it is healthy.
    ///
    /// # Errors
    /// When it does not become healthy.
    pub fn start(nodes: u16, keys: &str) -> anyhow::Result<Self> {
        for _ in 0..10 {
            let mut timed = Self::create(nodes, keys)?;
            if timed.cluster.start_and_settle()? {
                return Ok(timed);
            }
        }
        anyhow::bail!("the ports were taken ten times")
    }

    /// One more time server, an honest one.
    ///
    /// # Errors
    /// When there is no port left.
    pub fn server(&self) -> anyhow::Result<TimeServer> {
        let start = TimeServer::start(0, truth::now_ns);
        self.cluster.wait(start).context("a time server")
    }

    /// The time servers of a node.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn servers(&self, node: &str) -> &[TimeServer] {
        match self.servers.get(node) {
            Some(servers) => servers,
            None => panic!("no node {node}"),
        }
    }

    /// Changes how all time servers of a node answer.
    pub fn change(&self, node: &str, change: impl Fn(&mut Manner)) {
        self.servers(node).iter().for_each(|server| server.change(&change));
    }

    /// Makes all time servers of all nodes honest again.
    pub fn behave(&self) {
        self.servers.values().flatten().for_each(TimeServer::behave);
    }

    /// What a node says of its clock.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn clock(&self, node: &str) -> anyhow::Result<ClockReport> {
        clock(&self.cluster, node)
    }

    /// Waits until a node's clock is as the question wants it.
    ///
    /// # Errors
    /// When it does not become so; with the last reason and report.
    pub fn wait_clock(
        &self,
        node: &str,
        what: &str,
        mut is_so: impl FnMut(&ClockReport) -> Result<(), String>,
    ) -> anyhow::Result<ClockReport> {
        until(&format!("{what} on {node}"), || {
            let report = self.clock(node).map_err(|error| error.to_string())?;
            match is_so(&report) {
                Ok(()) => Ok(report),
                Err(reason) => Err(format!("{reason}: {report:?}")),
            }
        })
    }

    /// Waits until a node's clock is in a state.
    ///
    /// # Errors
    /// When it does not come to it.
    pub fn wait_state(&self, node: &str, state: &str) -> anyhow::Result<ClockReport> {
        self.wait_clock(node, &format!("a clock that is {state}"), |report| {
            crate::patience::when(report.state == state, report.state.clone())
        })
    }

    /// All records of all nodes, events too, up to the last that every node has shown.
    ///
    /// # Errors
    /// When a node does not answer.
    pub fn everything(&self) -> anyhow::Result<Vec<(String, Vec<Record>)>> {
        self.cluster.all_records()
    }

    /// What the nodes wrote of their clocks, in the order of the log.
    ///
    /// # Errors
    /// When the log cannot be read, or holds an event that cannot.
    pub fn events(&self) -> anyhow::Result<Vec<ClockEvent>> {
        events(&self.cluster)
    }

    /// Waits until an event is in the log.
    ///
    /// # Errors
    /// When none comes.
    pub fn wait_event(
        &self,
        what: &str,
        is_it: impl Fn(&ClockEvent) -> bool,
    ) -> anyhow::Result<ClockEvent> {
        until(&format!("an event: {what}"), || {
            let events = self.events().map_err(|error| error.to_string())?;
            let found = events.iter().find(|event| is_it(event)).cloned();
            found.ok_or_else(|| format!("there is none among {events:#?}"))
        })
    }

    /// Compares what the senders were told with what all nodes hold, and the bounds of all stamps
    /// with the truth.
    ///
    /// # Errors
    /// When the nodes do not become healthy, or one does not answer; with all that is wrong, when
    /// something is.
    pub fn account_for(&self, history: &History) -> anyhow::Result<()> {
        self.cluster.wait_healthy()?;
        self.compare(history)
    }

    /// As [`Timed::account_for`], of a cluster that need not be healthy, but all of whose nodes
    /// answer.
    ///
    /// # Errors
    /// When a node does not answer; with all that is wrong, when something is.
    pub fn compare(&self, history: &History) -> anyhow::Result<()> {
        let mut wrong = checks::all(history, &self.everything()?);
        wrong.extend(checks::bounds_hold(history, &Anchor::now()));
        let shown = wrong.get(..20).unwrap_or(&wrong);
        anyhow::ensure!(wrong.is_empty(), "{} faults: {shown:#?}", wrong.len());
        Ok(())
    }
}

/// The text of a `[clock]` section.
#[must_use]
pub fn section(keys: &str, servers: impl IntoIterator<Item = String>) -> String {
    let mut text = format!("mode = \"sntp\"\n{keys}\n");
    for address in servers {
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "\n[[clock.server]]\naddress = \"{address}\"\npoll_s = {POLL_S}\nprivate = true\n\
             timeout_ms = {TIMEOUT_MS}\n"
        );
    }
    text
}

/// What a node says of its clock.
///
/// # Errors
/// When it does not answer.
pub fn clock(cluster: &Cluster, node: &str) -> anyhow::Result<ClockReport> {
    match cluster.ask(node, Op::Clock(Empty {}))?.reply {
        Some(Reply::Clock(report)) => Ok(report),
        other => anyhow::bail!("no clock report from {node}: {other:?}"),
    }
}

/// What the nodes wrote of their clocks, in the order of the log.
///
/// # Errors
/// When the log cannot be read, or holds an event that cannot.
pub fn events(cluster: &Cluster) -> anyhow::Result<Vec<ClockEvent>> {
    let node = cluster.names().into_iter().next().context("no node")?;
    let records = cluster.records_to(&node, &Stream::Events.to_string(), false)?;
    let read = |record: &Record| Ok(ClockEvent::of(record)?);
    records.iter().map(read).filter_map(anyhow::Result::transpose).collect()
}
