//! The cluster that is measured: real processes, as `logctl cluster create` lays them out.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use net::{Client, ClientConfig};
use proto::wire::{Op, Reply, Status};
use tests::{Logd, User, ports, until};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;
use crate::machine;

/// Nodes of a cluster.
pub(crate) const NODES: u16 = 3;
/// Who sends, and to whom.
pub(crate) const SENDER: &str = "sender";
pub(crate) const RECEIVER: &str = "receiver";
/// Requests that one connection carries: a quarter of what a node allows it.
const PER_CONNECTION: usize = 64;
/// Time for one call: more than any failover, so that what is lost is counted as lost.
const CALL_TIME: Duration = Duration::from_secs(30);
/// Exit code of a daemon whose port somebody else has.
const PORT_TAKEN: i32 = 3;
const ATTEMPTS: usize = 10;

/// Starts a cluster, measures with it, and ends it, also when a signal ends this program. What is measured
/// does not count if a node has panicked.
///
/// # Errors
/// When the cluster does not become healthy, as `measure` says, or by a signal.
pub(crate) fn measured<T>(
    args: &Args,
    nodes: u16,
    measure: impl AsyncFnOnce(&mut Cluster) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    // Made before the first process of ours, so that a signal finds us ready to end them.
    let _guard = runtime.enter();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut cluster = Cluster::start(&args.dir, nodes)?;
    let measured = runtime.block_on(async {
        tokio::select! {
            measured = measure(&mut cluster) => measured,
            _ = term.recv() => Err(anyhow::anyhow!("terminated")),
            _ = int.recv() => Err(anyhow::anyhow!("interrupted")),
        }
    })?;
    let panics = tests::checks::nobody_panicked(&cluster.logs());
    runtime.block_on(async { drop(cluster) });
    anyhow::ensure!(panics.is_empty(), "a node panicked: {panics:?}");
    Ok(measured)
}

/// A running cluster. Its processes end and its folder goes when this is dropped.
pub(crate) struct Cluster {
    nodes: Vec<Logd>,
    first_port: u16,
    user: User,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Makes a cluster in a folder of its own below `dir`, starts it and waits until it is healthy.
    /// Needs a runtime to be entered, but none to be driven by this thread.
    ///
    /// # Errors
    /// When it does not become healthy.
    pub(crate) fn start(dir: &Path, count: u16) -> anyhow::Result<Self> {
        for _ in 0..ATTEMPTS {
            let mut cluster = Self::create(dir, count)?;
            for node in &mut cluster.nodes {
                node.start(&[])?;
            }
            if cluster.is_settled()? {
                cluster.user.ok(&["register", SENDER])?;
                cluster.user.ok(&["register", RECEIVER])?;
                return Ok(cluster);
            }
        }
        anyhow::bail!("the ports were taken {ATTEMPTS} times")
    }

    fn create(dir: &Path, count: u16) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(dir);
        let folder =
            folder.with_context(|| format!("no folder can be made in {}", dir.display()))?;
        let user = User::new(folder.path().join("home"));
        let first_port = ports::in_a_row(count)?;
        let cluster = folder.path().join("cluster");
        let path = cluster.to_str().context("a folder whose name is no text")?;
        let (nodes, port) = (count.to_string(), first_port.to_string());
        user.ok(&["cluster", "create", path, "--nodes", &nodes, "--base-port", &port])?;
        let node = |n: u16| {
            let log = folder.path().join(format!("n{n}.log"));
            Logd::new(&format!("n{n}"), cluster.join(format!("node{n}.toml")), log)
        };
        let nodes = (1..=count).map(node).collect();
        Ok(Self { nodes, first_port, user, folder })
    }

    /// Waits for health; `false` if a node found its port taken.
    pub(crate) fn is_settled(&mut self) -> anyhow::Result<bool> {
        let mut taken = false;
        until("a healthy cluster", || {
            for node in &mut self.nodes {
                if !node.is_running().map_err(|error| error.to_string())? {
                    let status = node.ended().map_err(|error| error.to_string())?;
                    taken |= status.code() == Some(PORT_TAKEN);
                    let said = format!("{} ended with {status}: {}", node.name(), node.log());
                    return if taken { Ok(()) } else { Err(said) };
                }
            }
            let status = self.user.run(&["status"]).map_err(|error| error.to_string())?;
            if status.code == 0 { Ok(()) } else { Err(status.to_string()) }
        })?;
        Ok(!taken)
    }

    /// Its folder, on the disk that is measured.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One of its nodes.
    ///
    /// # Errors
    /// When there is none of this name.
    pub(crate) fn node(&mut self, name: &str) -> anyhow::Result<&mut Logd> {
        let node = self.nodes.iter_mut().find(|node| node.name() == name);
        node.with_context(|| format!("no node {name}"))
    }

    /// Names of its nodes.
    pub(crate) fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name().to_owned()).collect()
    }

    /// The processes: name and id.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.nodes.iter().filter_map(|node| Some((node.name(), machine::child(node.config())?)))
    }

    /// What all nodes have written to their logs.
    pub(crate) fn logs(&self) -> String {
        self.nodes.iter().map(Logd::log).collect()
    }

    /// Connections of the sender through one node, enough for so many requests at a time.
    ///
    /// # Errors
    /// When its certificate is no good.
    pub(crate) fn clients(&self, via: &str, in_flight: usize) -> anyhow::Result<Vec<Client>> {
        let connections = in_flight.div_ceil(PER_CONNECTION).max(1);
        (0..connections).map(|_| self.client(SENDER, Some(via))).collect()
    }

    /// Its user, whose home holds everybody's keys.
    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    /// Where its nodes are, as a client is told.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let address = |(at, node): (u16, &Logd)| {
            format!("{}=127.0.0.1:{}", node.name(), u32::from(self.first_port) + u32::from(at))
        };
        (0..).zip(&self.nodes).map(address).collect()
    }

    /// A client, through any node or through one alone.
    ///
    /// # Errors
    /// When its certificate is no good.
    pub(crate) fn client(&self, name: &str, via: Option<&str>) -> anyhow::Result<Client> {
        client(&self.user, name, self.addresses(), via)
    }

    /// The cluster as any of its nodes sees it.
    ///
    /// # Errors
    /// When none answers.
    pub(crate) async fn status(&self) -> anyhow::Result<Status> {
        let client = self.client(SENDER, None)?;
        let answer = client.call(Op::Status(Default::default())).await;
        client.close().await;
        match answer?.reply {
            Some(Reply::Status(status)) => Ok(status),
            other => anyhow::bail!("no status: {other:?}"),
        }
    }
}

/// A client of a user, through any of these nodes or through one of them alone.
///
/// # Errors
/// When its certificate is no good.
pub(crate) fn client(
    user: &User,
    name: &str,
    addresses: Vec<String>,
    via: Option<&str>,
) -> anyhow::Result<Client> {
    let mut config = ClientConfig::new(addresses, user.credentials(name)?);
    (config.via, config.timeout) = (via.map(str::to_owned), CALL_TIME);
    Ok(Client::new(config)?)
}
