//! Time servers for the demonstration: three for each node, so that one node's can be made to lie.
//!
//! They serve the machine's clock as it was when the tour began, counted on from there. They are
//! the world around the cluster, not part of it: the nodes ask them over UDP as they would ask any.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use net::time_server::TimeServer;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use super::tour::Tour;
use crate::error::CtlError;

/// Servers of each node: enough that one of them may lie.
const EACH: usize = 3;
/// Seconds between two polls: the least that is allowed, so that the tour is short.
const POLL_S: u32 = 4;

/// What is true in the tour: the machine's clock at the beginning, and the time since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Truth {
    base_ns: u64,
    began: Instant,
}

impl Truth {
    #[expect(
        clippy::disallowed_methods,
        reason = "these servers are the world that the nodes ask for the time"
    )]
    fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let base_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Self { base_ns, began: Instant::now() }
    }

    /// Nanoseconds since 1970.
    pub(super) fn now_ns(&self) -> u64 {
        let elapsed_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.base_ns.saturating_add(elapsed_ns)
    }
}

/// The running servers. They answer on a thread of their own, whatever the tour does, and end when
/// dropped.
pub(super) struct Servers {
    runtime: Option<Runtime>,
    truth: Truth,
    by_node: BTreeMap<String, Vec<TimeServer>>,
}

impl Servers {
    /// Starts the servers of these nodes.
    pub(super) async fn start(nodes: &[String]) -> Result<Self, CtlError> {
        let failed = |source| CtlError::File { what: "cannot start a time server".into(), source };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let truth = Truth::new();
        let mut servers = Self { runtime: None, truth, by_node: BTreeMap::new() };
        for node in nodes {
            let mut own = Vec::with_capacity(EACH);
            for _ in 0..EACH {
                let started = runtime.spawn(TimeServer::start(0, move || truth.now_ns()));
                own.push(started.await.map_err(std::io::Error::from).flatten().map_err(failed)?);
            }
            servers.by_node.insert(node.clone(), own);
        }
        servers.runtime = Some(runtime);
        Ok(servers)
    }

    /// What is true.
    pub(super) fn truth(&self) -> Truth {
        self.truth
    }

    /// Makes all servers of a node lie by so much.
    pub(super) fn skew(&self, node: &str, by: Duration) {
        let offset_ns = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        for server in self.of(node) {
            server.change(|manner| manner.offset_ns = offset_ns);
        }
    }

    /// Makes all servers of a node tell the truth again.
    pub(super) fn put_right(&self, node: &str) {
        self.of(node).iter().for_each(TimeServer::behave);
    }

    fn of(&self, node: &str) -> &[TimeServer] {
        self.by_node.get(node).map_or(&[], Vec::as_slice)
    }

    fn addresses(&self, node: &str) -> Vec<String> {
        self.of(node).iter().map(|server| server.address().to_string()).collect()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.by_node.clear();
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not allowed here, and nothing is lost.
            runtime.shutdown_background();
        }
    }
}

impl Tour<'_> {
    /// Writes each node's own time servers into its configuration.
    pub(super) fn give_time_servers(&mut self) -> Result<(), CtlError> {
        if self.servers.is_none() {
            return self.say(
                "  the nodes take this machine's clock as it is (mode local): with --keep the \
                 cluster outlives the tour's time servers",
            );
        }
        for node in self.cluster.names() {
            self.give_time_servers_to(&node)?;
        }
        self.say(&format!(
            "  each node measures {EACH} time servers of its own on 127.0.0.1, every {POLL_S} s"
        ))
    }
}

impl Tour<'_> {
    /// Writes one node's time servers into its configuration; nothing where there are none.
    pub(super) fn give_time_servers_to(&self, node: &str) -> Result<(), CtlError> {
        let (Some(servers), Some(path)) = (&self.servers, self.cluster.config(node)) else {
            return Ok(());
        };
        let text = std::fs::read_to_string(path).map_err(CtlError::file("read", path))?;
        let text = with_servers(&text, &servers.addresses(node));
        std::fs::write(path, text).map_err(CtlError::file("write", path))
    }
}

/// The text of a configuration with mode sntp and these servers instead of mode local.
fn with_servers(text: &str, addresses: &[String]) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let line = if line == "mode = \"local\"" { "mode = \"sntp\"" } else { line };
        out.push_str(line);
        out.push('\n');
    }
    for address in addresses {
        // Writing into a String cannot fail.
        let _ = write!(
            out,
            "\n[[clock.server]]\naddress = \"{address}\"\nprivate = true\npoll_s = {POLL_S}\n"
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::template::NodeConfig;

    #[test]
    fn a_configuration_gets_its_servers() {
        let config = NodeConfig {
            name: &"n1".parse().unwrap(),
            address: "127.0.0.1:7101",
            data_dir: None,
            time_servers: &[],
            file: "node1.toml",
            advertise: None,
            signs: true,
            cert_life: None,
        };
        let text = with_servers(&config.text(), &["127.0.0.1:1".into(), "127.0.0.1:2".into()]);
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["clock"]["mode"].as_str(), Some("sntp"));
        let servers = table["clock"]["server"].as_array().unwrap();
        assert_eq!(servers.len(), 2);
        assert_eq!(servers[1]["address"].as_str(), Some("127.0.0.1:2"));
        assert_eq!(servers[1]["poll_s"].as_integer(), Some(4));
        assert!(table["raft"].as_table().is_some());
    }
}
