//! Three nodes of logd, as `logctl cluster create` lays them out.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use bytes::Bytes;
use certs::Credentials;
use net::{Client, ClientConfig};
use proto::wire::{Op, Reply, Send, Status};

use super::NODES;
use crate::args::Args;
use crate::process::Process;

const SENDER: &str = "sender";
const RECEIVER: &str = "receiver";

pub(super) struct Access {
    home: PathBuf,
    addresses: Vec<String>,
}

/// Creates and starts the cluster.
pub(super) fn start(args: &Args, folder: &Path) -> anyhow::Result<(Vec<Process>, Access)> {
    let (home, cluster) = (folder.join("home"), folder.join("cluster"));
    let first = free_udp()?;
    let logctl = |words: &[&str]| -> anyhow::Result<()> {
        let mut command = Command::new(&args.logctl);
        let ended = command.args(words).env("LOGCTL_HOME", &home).output();
        let ended = ended.with_context(|| args.logctl.display().to_string())?;
        let said = String::from_utf8_lossy(&ended.stderr);
        anyhow::ensure!(ended.status.success(), "logctl {}: {said}", words.join(" "));
        Ok(())
    };
    let path = cluster.to_str().context("a folder whose name is no text")?;
    let (nodes, port) = (NODES.to_string(), first.to_string());
    logctl(&["cluster", "create", path, "--nodes", &nodes, "--base-port", &port])?;
    let node = |number: usize| {
        let mut command = Command::new(&args.logd);
        command.arg("--config").arg(cluster.join(format!("node{number}.toml")));
        Process::start(&mut command, &folder.join(format!("n{number}.log")))
    };
    let nodes = (1..=NODES).map(node).collect::<anyhow::Result<Vec<_>>>()?;
    logctl(&["wait", "ready"])?;
    logctl(&["register", SENDER])?;
    logctl(&["register", RECEIVER])?;
    let addresses = (0u16..).take(NODES).map(|at| format!("n{}=127.0.0.1:{}", at + 1, first + at));
    Ok((nodes, Access { home, addresses: addresses.collect() }))
}

/// The first of as many free UDP ports in a row as there are nodes.
fn free_udp() -> anyhow::Result<u16> {
    let bound = |port: u16| UdpSocket::bind(("127.0.0.1", port)).is_ok();
    let start = 20_000 + u16::try_from(std::process::id() % 5000)?;
    let found =
        (start..start + 5000).find(|first| (0u16..).take(NODES).all(|at| bound(first + at)));
    found.context("no free UDP ports")
}

impl Access {
    /// Connections of the sender to the primary.
    pub(super) async fn clients(&self, count: usize) -> anyhow::Result<Vec<Client>> {
        let any = self.client(None)?;
        let answer = any.call(Op::Status(Default::default())).await?;
        any.close().await;
        let Some(Reply::Status(Status { primary, .. })) = answer.reply else {
            anyhow::bail!("no status: {:?}", answer.reply);
        };
        let clients = (0..count).map(|_| self.client(Some(&primary)));
        let clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
        for client in &clients {
            client.call(Op::Ping(Default::default())).await?;
        }
        Ok(clients)
    }

    fn client(&self, via: Option<&str>) -> anyhow::Result<Client> {
        let context = self.home.join("contexts").join(format!("{SENDER}.toml"));
        let text =
            std::fs::read_to_string(&context).with_context(|| context.display().to_string())?;
        let table: toml::Table = text.parse()?;
        let file = |key: &str| {
            let name = table.get(key).and_then(toml::Value::as_str);
            name.map(|name| self.home.join(name)).with_context(|| format!("no {key}"))
        };
        let credentials = Credentials::load_any_age(&file("ca")?, &file("cert")?, &file("key")?)?;
        let mut config = ClientConfig::new(self.addresses.clone(), credentials);
        config.via = via.map(str::to_owned);
        Ok(Client::new(config)?)
    }
}

/// Sends one.
pub(super) async fn send(client: &Client, id: String, body: Bytes) -> anyhow::Result<()> {
    let (to, headers) = (RECEIVER.to_owned(), Vec::new());
    let op = Op::Send(Send { to, id, headers, body, commit_wait: false });
    match client.call(op).await?.reply {
        Some(Reply::Ack(_)) => Ok(()),
        other => anyhow::bail!("an unfit answer: {other:?}"),
    }
}
