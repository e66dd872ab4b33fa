//! A cluster of real processes in a folder of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use net::{Client, ClientConfig, ClientError};
use parking_lot::{Condvar, Mutex};
use proto::member::MemberState;
use proto::wire::{Op, Position, Read, Reply, Response, Status};
use proto::{Record, Stream};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use crate::checks::nobody_panicked;
use crate::logd::Logd;
use crate::patience::{until, when};
use crate::ports;
use crate::user::{Run, User};

/// Clusters that run at a time, in one test process: each is several daemons that want a disk.
const AT_A_TIME: usize = 2;
/// Exit code of a daemon whose port somebody else has.
const PORT_TAKEN: i32 = 3;
/// Lines of each node's log that a failed test shows.
const SHOWN_LINES: usize = 40;

/// A cluster. Everything ends and its folder goes when this is dropped; then the logs of all nodes
/// must be free of panics.
pub struct Cluster {
    nodes: Vec<Logd>,
    addresses: BTreeMap<String, String>,
    /// Nodes that are down or removed on purpose; the others may say so.
    away: BTreeSet<String>,
    user: User,
    runtime: Runtime,
    folder: tempfile::TempDir,
    dir: PathBuf,
    _place: Place,
}

impl Cluster {
    /// Makes a cluster with the real `logctl cluster create`; nothing runs yet.
    ///
    /// # Errors
    /// When that fails.
    pub fn create(nodes: u16) -> anyhow::Result<Self> {
        Self::create_with(nodes, &[])
    }

    /// The same with further arguments.
    ///
    /// # Errors
    /// When that fails.
    pub fn create_with(nodes: u16, args: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let dir = folder.path().join("cluster");
        Self::create_in(folder, dir, nodes, args)
    }

    /// The same, with all that the nodes store in `dir`, which must not be there yet. What belongs to
    /// nobody's disk, such as the logs of the processes, lies in a new folder below `folder`, and stays
    /// there in the end.
    ///
    /// # Errors
    /// When that fails.
    pub fn create_at(dir: PathBuf, folder: &Path, nodes: u16) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().disable_cleanup(true).tempdir_in(folder)?;
        Self::create_in(folder, dir, nodes, &[])
    }

    fn create_in(
        folder: tempfile::TempDir,
        dir: PathBuf,
        nodes: u16,
        args: &[&str],
    ) -> anyhow::Result<Self> {
        let place = Place::take();
        let user = User::new(folder.path().join("home"));
        let first_port = ports::in_a_row(nodes)?;
        let path = dir.to_str().context("a folder whose name is no text")?;
        let (count, port) = (nodes.to_string(), first_port.to_string());
        let create = ["cluster", "create", path, "--nodes", &count, "--base-port", &port];
        user.ok(&[&create[..], args].concat())?;
        let node = |n: u16| {
            let config = dir.join(format!("node{n}.toml"));
            Logd::new(&format!("n{n}"), config, folder.path().join(format!("n{n}.log")))
        };
        let nodes: Vec<Logd> = (1..=nodes).map(node).collect();
        let address =
            |(node, port): (&Logd, u16)| (node.name().to_owned(), format!("127.0.0.1:{port}"));
        let addresses = nodes.iter().zip(first_port..).map(address).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let away = BTreeSet::new();
        Ok(Self { nodes, addresses, away, user, runtime, folder, dir, _place: place })
    }

    /// Makes a cluster, starts all nodes and waits until it is healthy. Another process that takes
    /// a port in between is made way for.
    ///
    /// # Errors
    /// When it does not become healthy.
    pub fn start(nodes: u16) -> anyhow::Result<Self> {
        Self::start_with(nodes, &[])
    }

    /// The same with further arguments of `cluster create`.
    ///
    /// # Errors
    /// When it does not become healthy.
    pub fn start_with(nodes: u16, args: &[&str]) -> anyhow::Result<Self> {
        for _ in 0..10 {
            let mut cluster = Self::create_with(nodes, args)?;
            if cluster.start_and_settle()? {
                return Ok(cluster);
            }
        }
        anyhow::bail!("the ports were taken ten times")
    }

    /// Starts all nodes and waits for health; `false` if a node found its port taken.
    ///
    /// # Errors
    /// When it does not become healthy.
    pub fn start_and_settle(&mut self) -> anyhow::Result<bool> {
        self.start_all()?;
        let mut taken = false;
        until("a healthy cluster", || {
            let away = &self.away;
            for node in self.nodes.iter_mut().filter(|node| !away.contains(node.name())) {
                if !node.is_running().map_err(|error| error.to_string())? {
                    let status = node.ended().map_err(|error| error.to_string())?;
                    taken |= status.code() == Some(PORT_TAKEN);
                    let said = format!("{} ended with {status}: {}", node.name(), node.log());
                    return if taken { Ok(()) } else { Err(said) };
                }
            }
            self.healthy()
        })?;
        Ok(!taken)
    }

    /// `logctl` with the admin's context.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The folder that holds everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The cluster's own folder, as `cluster create` made it.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// The data directory of a node.
    #[must_use]
    pub fn data(&self, node: &str) -> PathBuf {
        self.dir().join("data").join(node)
    }

    /// Replaces what stands in the `[clock]` section of a node's configuration, from its next start
    /// on.
    ///
    /// # Errors
    /// When there is no such node, or no such section.
    pub fn configure_clock(&mut self, node: &str, section: &str) -> anyhow::Result<()> {
        let path = self.node(node)?.config().to_owned();
        let text = fs::read_to_string(&path)?;
        let cut = || {
            let (head, rest) = text.split_once("\n[clock]\n")?;
            Some((head, rest.split_once("\n[raft]\n")?.1))
        };
        let (head, tail) = cut().with_context(|| format!("no [clock] and [raft] in {text}"))?;
        fs::write(&path, format!("{head}\n[clock]\n{section}\n[raft]\n{tail}"))?;
        Ok(())
    }

    /// Where asynchronous work of the test runs.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Runs something asynchronous to its end.
    pub fn wait<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// Names of the nodes, in the order in which they came; also of those that are away.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name().to_owned()).collect()
    }

    /// Names of the nodes that are not away.
    #[must_use]
    pub fn present(&self) -> Vec<String> {
        self.names().into_iter().filter(|name| !self.away.contains(name)).collect()
    }

    /// Says that a node is down or removed on purpose: health does not wait for it. Starting it
    /// takes that back.
    pub fn set_away(&mut self, node: &str) {
        self.away.insert(node.to_owned());
    }

    /// Says in the file of a node that it does not come back by itself, from its next start on.
    ///
    /// # Errors
    /// When the file cannot be changed.
    pub fn never_repair(&mut self, node: &str) -> anyhow::Result<()> {
        let config = self.node(node)?.config().to_owned();
        let text = fs::read_to_string(&config)?;
        anyhow::ensure!(text.contains("\nrejoin = true\n"), "no rejoin in {}", config.display());
        Ok(fs::write(&config, text.replace("\nrejoin = true\n", "\nrejoin = false\n"))?)
    }

    /// From its next start on a node reads its whole disk again and again, fast.
    ///
    /// # Errors
    /// When the file cannot be changed.
    pub fn scrub_fast(&mut self, node: &str) -> anyhow::Result<()> {
        let config = self.node(node)?.config().to_owned();
        let text = fs::read_to_string(&config)?;
        let (slow, fast) = ("\n#scrub_kib_per_s = 0\n", "\nscrub_kib_per_s = 65536\n");
        anyhow::ensure!(text.contains(slow), "no scrub_kib_per_s in {}", config.display());
        Ok(fs::write(&config, text.replace(slow, fast))?)
    }

    /// Says that a node is there again that was not restarted.
    pub fn set_present(&mut self, node: &str) {
        self.away.remove(node);
    }

    /// Enters a node that was made by other means than `cluster create`.
    pub fn enter(&mut self, node: Logd, address: String) {
        self.addresses.insert(node.name().to_owned(), address);
        self.nodes.retain(|known| known.name() != node.name());
        self.nodes.push(node);
    }

    /// Says that a node has another address, from its next start on.
    pub fn set_address(&mut self, node: &str, address: &str) {
        self.addresses.insert(node.to_owned(), address.to_owned());
    }

    /// Address of a node.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn address(&self, node: &str) -> anyhow::Result<String> {
        let address = self.addresses.get(node);
        Ok(address.with_context(|| format!("no node {node}"))?.clone())
    }

    /// A node.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn node(&mut self, name: &str) -> anyhow::Result<&mut Logd> {
        let node = self.nodes.iter_mut().find(|node| node.name() == name);
        node.with_context(|| format!("no node {name}"))
    }

    /// Starts a node.
    ///
    /// # Errors
    /// When it runs already.
    pub fn start_node(&mut self, name: &str) -> anyhow::Result<()> {
        self.away.remove(name);
        self.node(name)?.start(&[])
    }

    /// Starts every node that does not run.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            if !self.away.contains(node.name()) && !node.is_running()? {
                node.start(&[])?;
            }
        }
        Ok(())
    }

    /// Kills a node with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.node(name)?.kill()
    }

    /// Stops a node with SIGTERM and returns its exit code.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn stop(&mut self, name: &str) -> anyhow::Result<Option<i32>> {
        let node = self.node(name)?;
        node.signal(Signal::TERM)?;
        Ok(node.ended()?.code())
    }

    /// Kills nodes with SIGKILL, all at the same moment.
    ///
    /// # Errors
    /// When one does not run.
    pub fn kill_together(&mut self, names: &[String]) -> anyhow::Result<()> {
        let chosen = self.nodes.iter_mut().filter(|node| names.iter().any(|n| n == node.name()));
        let mut chosen: Vec<&mut Logd> = chosen.collect();
        chosen.iter().try_for_each(|node| node.signal(Signal::KILL))?;
        chosen.iter_mut().try_for_each(|node| node.ended().map(drop))
    }

    /// Runs a `logctl` command as the admin.
    ///
    /// # Errors
    /// When it cannot be run or does not end.
    pub fn ctl(&self, args: &[&str]) -> anyhow::Result<Run> {
        self.user.run(args)
    }

    /// Registers clients.
    ///
    /// # Errors
    /// When one is refused.
    pub fn register(&self, names: &[&str]) -> anyhow::Result<()> {
        names.iter().try_for_each(|name| self.user.ok(&["register", name]).map(drop))
    }

    /// A client of the cluster as a context's identity: through any node, or through one alone.
    ///
    /// # Errors
    /// When there is no such context.
    pub fn client(
        &self,
        context: &str,
        via: Option<&str>,
        timeout: Duration,
    ) -> anyhow::Result<Client> {
        let names = self.names();
        let address = |name: &String| Ok(format!("{name}={}", self.address(name)?));
        let addresses = names.iter().map(address).collect::<anyhow::Result<_>>()?;
        let mut config = ClientConfig::new(addresses, self.user.credentials(context)?);
        (config.via, config.timeout) = (via.map(str::to_owned), timeout);
        let _runtime = self.runtime.enter();
        Ok(Client::new(config)?)
    }

    /// Asks one node as the admin.
    ///
    /// # Errors
    /// What the node or the client says.
    pub fn ask(&self, node: &str, op: Op) -> Result<Response, ClientError> {
        let client = self.client("admin", Some(node), Duration::from_secs(20));
        let client = client.map_err(|error| ClientError::Config(error.to_string()))?;
        self.wait(async {
            let answer = client.call(op).await;
            client.close().await;
            answer
        })
    }

    /// The cluster as one node sees it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self, node: &str) -> anyhow::Result<Status> {
        match self.ask(node, Op::Status(Default::default()))?.reply {
            Some(Reply::Status(status)) => Ok(status),
            other => anyhow::bail!("no status from {node}: {other:?}"),
        }
    }

    /// Whether every node that is not away sees the others up, the same primary, and nothing to complain of.
    ///
    /// # Errors
    /// What is not so.
    pub fn healthy(&self) -> Result<(), String> {
        let mut primaries = Vec::new();
        for name in self.present() {
            let status = self.status(&name).map_err(|error| format!("{name}: {error}"))?;
            let problem =
                status.problems.iter().find(|problem| !self.away.contains(&problem.subject));
            when(problem.is_none(), format!("{name}: {:?}", status.problems))?;
            when(status.quorum, format!("{name}: no quorum"))?;
            // Clients are sent to those alone that the log knows to have joined.
            let waits = status.nodes.iter().find(|row| {
                row.state != MemberState::Joined.as_str() && !self.away.contains(&row.name)
            });
            when(waits.is_none(), format!("{name}: {waits:?}"))?;
            primaries.push(status.primary);
        }
        primaries.dedup();
        when(primaries.len() == 1, format!("several primaries: {primaries:?}"))
    }

    /// Waits until every node sees the cluster healthy.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn wait_healthy(&self) -> anyhow::Result<()> {
        until("a healthy cluster", || self.healthy())
    }

    /// Waits until a node that is given sees a primary that takes writes, and returns its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn wait_primary(&self, seen_by: &str) -> anyhow::Result<String> {
        until("a primary", || {
            let status = self.status(seen_by).map_err(|error| error.to_string())?;
            when(status.quorum && !status.primary.is_empty(), format!("{status:?}"))?;
            Ok(status.primary)
        })
    }

    /// Waits until all nodes have applied the same entries.
    ///
    /// # Errors
    /// When they do not.
    pub fn wait_level(&self) -> anyhow::Result<()> {
        self.wait_healthy()?;
        until("nodes that are level", || {
            let mut applied = Vec::new();
            for name in self.present() {
                let status = self.status(&name).map_err(|error| error.to_string())?;
                let own = status.nodes.iter().find(|row| row.name == name);
                applied.push(own.map_or(0, |row| row.applied));
            }
            let first = applied.first().copied();
            let level = applied.iter().all(|at| Some(*at) == first);
            when(level, format!("they have applied {applied:?}"))
        })
    }

    /// All records that a node holds, as the admin reads them there.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn records(&self, node: &str, stale: bool) -> anyhow::Result<Vec<Record>> {
        self.records_to(node, "", stale)
    }

    /// All records to a recipient that a node holds, as the admin reads them there.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn records_to(&self, node: &str, to: &str, stale: bool) -> anyhow::Result<Vec<Record>> {
        let client = self.client("admin", Some(node), Duration::from_secs(30))?;
        self.wait(async {
            let mut after: Vec<Position> = Vec::new();
            let mut records = Vec::new();
            loop {
                let (after_all, to) = (after.clone(), to.to_owned());
                let read = Read { after: after_all, to, stale, ..Read::default() };
                let page = match client.call(Op::Read(read)).await?.reply {
                    Some(Reply::Page(page)) => page,
                    other => anyhow::bail!("no page from {node}: {other:?}"),
                };
                records.extend(page.records);
                if page.end {
                    client.close().await;
                    return Ok(records);
                }
                anyhow::ensure!(page.next != after, "a page that leads nowhere");
                after = page.next;
            }
        })
    }

    /// All records of all nodes that are not away, events too, up to the last that every one of
    /// them has shown: events may come at any moment.
    ///
    /// # Errors
    /// When one does not answer.
    pub fn all_records(&self) -> anyhow::Result<Vec<(String, Vec<Record>)>> {
        let read = |name: String| {
            let mut records = self.records(&name, false)?;
            records.extend(self.records_to(&name, &Stream::Events.to_string(), false)?);
            records.sort_by_key(|record| record.seq);
            anyhow::Ok((name, records))
        };
        let mut nodes: Vec<_> = self.present().into_iter().map(read).collect::<Result<_, _>>()?;
        let last = nodes.iter().map(|(_, records)| records.last().map_or(0, |record| record.seq));
        let last = last.min().unwrap_or(0);
        for (_, records) in &mut nodes {
            records.retain(|record| record.seq <= last);
        }
        Ok(nodes)
    }

    /// The last lines of every node's log, for a test that failed.
    fn show_logs(&self) {
        let mut out = std::io::stderr().lock();
        for node in &self.nodes {
            let log = node.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(SHOWN_LINES);
            // Nobody can be told that the terminal is gone.
            let _ = writeln!(out, "---- the log of {} from line {} on", node.name(), from + 1);
            for line in lines.iter().skip(from) {
                let _ = writeln!(out, "{line}");
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // A stopped process cannot be waited for politely; a dead one need not be.
            let _ = node.kill();
        }
        if std::thread::panicking() {
            self.show_logs();
            return;
        }
        for node in &self.nodes {
            let panics = nobody_panicked(&node.log());
            assert!(panics.is_empty(), "{}: {panics:?}", node.name());
        }
    }
}

/// Leave to run a cluster.
struct Place;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Place {
    fn take() -> Self {
        let mut taken = TAKEN.lock();
        FREED.wait_while(&mut taken, |taken: &mut usize| *taken >= AT_A_TIME);
        *taken += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.lock() -= 1;
        FREED.notify_one();
    }
}
