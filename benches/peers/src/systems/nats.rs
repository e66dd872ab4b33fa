//! Three nodes of NATS with a JetStream of three replicas in files.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use async_nats::jetstream::{self, stream};
use bytes::Bytes;

use super::{NODES, until};
use crate::args::Args;
use crate::process::{Process, ports};

const SUBJECT: &str = "bench.receiver";
const STREAM: &str = "bench";

pub(super) struct Access {
    /// Addresses by the servers' names.
    servers: Vec<(String, String)>,
}

/// Starts the cluster with one stream; with `sync`, each message is synced before it is acknowledged.
pub(super) async fn start(
    args: &Args,
    folder: &Path,
    sync: bool,
) -> anyhow::Result<(Vec<Process>, Access)> {
    let (clients, peers) = (ports(NODES)?, ports(NODES)?);
    let routes = peers.iter().map(|port| format!("\"nats://127.0.0.1:{port}\""));
    let routes = routes.collect::<Vec<_>>().join(", ");
    let sync = if sync { "sync_interval: always" } else { "" };
    let (mut nodes, mut servers) = (Vec::new(), Vec::new());
    for (at, (client, peer)) in clients.iter().zip(&peers).enumerate() {
        let (name, store) = (format!("s{at}"), folder.join(format!("s{at}")));
        let store = store.to_str().context("a folder whose name is no text")?;
        let text = format!(
            "server_name: {name}\nlisten: 127.0.0.1:{client}\n\
             jetstream {{ store_dir: \"{store}\"\n {sync} }}\n\
             cluster {{ name: bench, listen: 127.0.0.1:{peer}, routes: [{routes}] }}\n"
        );
        let config = folder.join(format!("{name}.conf"));
        std::fs::write(&config, text)?;
        let mut command = Command::new(&args.nats);
        command.arg("-c").arg(config);
        nodes.push(Process::start(&mut command, &folder.join(format!("{name}.log")))?);
        servers.push((name, format!("nats://127.0.0.1:{client}")));
    }
    let access = Access { servers };
    until(|| access.create()).await?;
    until(|| access.clients(1)).await?;
    Ok((nodes, access))
}

impl Access {
    async fn any(&self) -> anyhow::Result<jetstream::Context> {
        let (_, address) = self.servers.first().context("no server")?;
        Ok(jetstream::new(async_nats::connect(address).await?))
    }

    async fn create(&self) -> anyhow::Result<()> {
        let config = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            storage: stream::StorageType::File,
            num_replicas: NODES,
            ..stream::Config::default()
        };
        self.any().await?.get_or_create_stream(config).await?;
        Ok(())
    }

    /// Connections to the leader of the stream.
    pub(super) async fn clients(&self, count: usize) -> anyhow::Result<Vec<jetstream::Context>> {
        let mut stream = self.any().await?.get_stream(STREAM).await?;
        let leader = stream.info().await?.cluster.as_ref().and_then(|it| it.leader.clone());
        let leads = |(name, _): &&(String, String)| Some(name) == leader.as_ref();
        let (_, address) = self.servers.iter().find(leads).context("no leader")?;
        let mut clients = Vec::new();
        for _ in 0..count {
            let context = jetstream::new(async_nats::connect(address).await?);
            send(&context, Bytes::new()).await?;
            clients.push(context);
        }
        Ok(clients)
    }
}

/// Publishes one.
pub(super) async fn send(client: &jetstream::Context, body: Bytes) -> anyhow::Result<()> {
    client.publish(SUBJECT, body).await?.await?;
    Ok(())
}
