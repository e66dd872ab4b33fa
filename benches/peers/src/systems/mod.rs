//! What is measured: clusters of three, and their clients.

mod etcd;
mod logd;
mod nats;

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::args::Args;
use crate::process::Process;
use crate::processor::used_ms;

/// Nodes of each.
pub(crate) const NODES: usize = 3;
/// Requests that one connection of a client carries.
const PER_CONNECTION: usize = 64;
/// Longest wait for a cluster to serve.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// The systems, each as its users run it for data that must not be lost, and one that is run for speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours.
    Logd,
    Etcd,
    /// NATS JetStream as it is by default.
    NatsLazy,
    /// NATS JetStream with `sync_interval: always`.
    NatsSync,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Logd, Self::Etcd, Self::NatsLazy, Self::NatsSync];

    /// What it is called.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Logd => "logd",
            Self::Etcd => "etcd",
            Self::NatsLazy => "nats, no fsync",
            Self::NatsSync => "nats, sync always",
        }
    }

    /// What an acknowledgement of it promises, as it is run here.
    pub(crate) const fn promise(self) -> &'static str {
        match self {
            Self::Logd => {
                "fsynced by a majority; mutual TLS on every connection; order, time stamp and error \
                 bound; sent twice, stored once"
            }
            Self::Etcd => "fsynced by a majority; no TLS; a key with a revision",
            Self::NatsLazy => "in memory of a majority, on disk within two minutes; no TLS",
            Self::NatsSync => "written and fsynced message by message, R3; no TLS",
        }
    }
}

/// A running cluster. Its processes end when this is dropped.
pub(crate) struct System {
    kind: Kind,
    nodes: Vec<Process>,
    access: Access,
}

/// How it is reached.
enum Access {
    Logd(logd::Access),
    Etcd(etcd::Access),
    Nats(nats::Access),
}

/// Its clients, for one level.
#[derive(Clone)]
pub(crate) enum Clients {
    Logd(Vec<net::Client>),
    Etcd(Vec<etcd_client::KvClient>),
    Nats(Vec<async_nats::jetstream::Context>),
}

impl System {
    /// Starts one in an empty folder and waits until it serves.
    ///
    /// # Errors
    /// When it does not come to serve.
    pub(crate) async fn start(kind: Kind, args: &Args, folder: &Path) -> anyhow::Result<Self> {
        let (nodes, access) = match kind {
            Kind::Logd => {
                let (nodes, access) = logd::start(args, folder)?;
                (nodes, Access::Logd(access))
            }
            Kind::Etcd => {
                let (nodes, access) = etcd::start(args, folder).await?;
                (nodes, Access::Etcd(access))
            }
            Kind::NatsLazy | Kind::NatsSync => {
                let (nodes, access) = nats::start(args, folder, kind == Kind::NatsSync).await?;
                (nodes, Access::Nats(access))
            }
        };
        Ok(Self { kind, nodes, access })
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Processor time of its nodes and of this process so far, in milliseconds.
    pub(crate) fn spent_ms(&self) -> u64 {
        self.nodes.iter().map(Process::used_ms).sum::<u64>() + used_ms(std::process::id())
    }

    /// Connections to the node that leads, enough for so many requests at a time.
    ///
    /// # Errors
    /// When none leads.
    pub(crate) async fn clients(&self, in_flight: usize) -> anyhow::Result<Clients> {
        let count = in_flight.div_ceil(PER_CONNECTION).max(1);
        Ok(match &self.access {
            Access::Logd(access) => Clients::Logd(access.clients(count).await?),
            Access::Etcd(access) => Clients::Etcd(access.clients(count).await?),
            Access::Nats(access) => Clients::Nats(access.clients(count).await?),
        })
    }
}

impl Clients {
    /// Has a message stored, and waits for the acknowledgement.
    ///
    /// # Errors
    /// When it is refused or lost.
    pub(crate) async fn send(&self, worker: usize, id: String, body: Bytes) -> anyhow::Result<()> {
        match self {
            Self::Logd(clients) => logd::send(one_of(clients, worker)?, id, body).await,
            Self::Etcd(clients) => etcd::send(one_of(clients, worker)?, id, body).await,
            Self::Nats(clients) => nats::send(one_of(clients, worker)?, body).await,
        }
    }

    /// Ends their connections.
    pub(crate) async fn close(self) {
        if let Self::Logd(clients) = self {
            for client in clients {
                client.close().await;
            }
        }
    }
}

fn one_of<T>(all: &[T], worker: usize) -> anyhow::Result<&T> {
    all.get(worker % all.len().max(1)).ok_or_else(|| anyhow::anyhow!("no connection"))
}

/// Tries until it works, at most for the time that a start may take.
async fn until<T, F: Future<Output = anyhow::Result<T>>>(
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let since = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if since.elapsed() > STARTS_WITHIN => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
