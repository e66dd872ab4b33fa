//! Three nodes of etcd, as their manual puts a static cluster together.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use bytes::Bytes;
use etcd_client::{Client, KvClient};

use super::{NODES, until};
use crate::args::Args;
use crate::process::{Process, ports};

pub(super) struct Access {
    endpoints: Vec<String>,
}

/// Starts the cluster and waits for a leader.
pub(super) async fn start(args: &Args, folder: &Path) -> anyhow::Result<(Vec<Process>, Access)> {
    let (clients, peers) = (ports(NODES)?, ports(NODES)?);
    let url = |port: &u16| format!("http://127.0.0.1:{port}");
    let peer = |(at, port): (usize, &u16)| format!("e{at}={}", url(port));
    let all = peers.iter().enumerate().map(peer).collect::<Vec<_>>().join(",");
    let mut nodes = Vec::new();
    for (at, (client, peer)) in clients.iter().zip(&peers).enumerate() {
        let mut command = Command::new(&args.etcd);
        command
            .args(["--name", &format!("e{at}"), "--data-dir"])
            .arg(folder.join(format!("e{at}")))
            .args(["--listen-client-urls", &url(client), "--advertise-client-urls", &url(client)])
            .args(["--listen-peer-urls", &url(peer), "--initial-advertise-peer-urls", &url(peer)])
            .args(["--initial-cluster", &all, "--initial-cluster-state", "new"])
            // Else it stops taking writes at 2 GB.
            .args(["--quota-backend-bytes", "8589934592"]);
        nodes.push(Process::start(&mut command, &folder.join(format!("e{at}.log")))?);
    }
    let access = Access { endpoints: clients.iter().map(url).collect() };
    until(|| access.clients(1)).await?;
    Ok((nodes, access))
}

impl Access {
    /// Connections to the leader.
    pub(super) async fn clients(&self, count: usize) -> anyhow::Result<Vec<KvClient>> {
        for endpoint in &self.endpoints {
            let mut client = Client::connect([endpoint], None).await?;
            let status = client.status().await?;
            let own = status.header().map(etcd_client::ResponseHeader::member_id);
            if own != Some(status.leader()) {
                continue;
            }
            let mut clients = Vec::new();
            for _ in 0..count {
                let mut kv = Client::connect([endpoint], None).await?.kv_client();
                kv.put("warm", "", None).await?;
                clients.push(kv);
            }
            return Ok(clients);
        }
        None.context("no leader")
    }
}

/// Puts one.
pub(super) async fn send(client: &KvClient, id: String, body: Bytes) -> anyhow::Result<()> {
    client.clone().put(id, body, None).await?;
    Ok(())
}
