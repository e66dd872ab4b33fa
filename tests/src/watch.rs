//! What the nodes say of themselves while something happens to them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use net::Client;
use proto::wire::{Op, Reply};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;

/// Between two questions to a node.
const EVERY: Duration = Duration::from_millis(20);
/// Time for a node that is down.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// A node that said of itself that it was primary in a term.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Led {
    /// The term.
    pub term: u64,
    /// The node.
    pub node: String,
}

/// Asks every node all the time who it is.
pub struct Watch {
    stop: Arc<AtomicBool>,
    askers: Vec<JoinHandle<BTreeSet<Led>>>,
}

impl Watch {
    /// Begins to ask.
    ///
    /// # Errors
    /// When a client cannot be made.
    pub fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let stop: Arc<AtomicBool> = Arc::default();
        let mut askers = Vec::new();
        for name in cluster.names() {
            let client = cluster.client("admin", Some(&name), ANSWER_TIME)?;
            askers.push(cluster.runtime().spawn(ask(client, name, Arc::clone(&stop))));
        }
        Ok(Self { stop, askers })
    }

    /// Stops asking; returns who led when.
    ///
    /// # Errors
    /// When an asker died.
    pub fn finish(self, cluster: &Cluster) -> anyhow::Result<Vec<Led>> {
        self.stop.store(true, Ordering::Relaxed);
        cluster.wait(async {
            let mut all = BTreeSet::new();
            for asker in self.askers {
                all.extend(asker.await?);
            }
            Ok(all.into_iter().collect())
        })
    }
}

async fn ask(client: Client, name: String, stop: Arc<AtomicBool>) -> BTreeSet<Led> {
    let mut led = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        if let Ok(answer) = client.call(Op::Status(Default::default())).await
            && let Some(Reply::Status(status)) = answer.reply
        {
            let own = status.nodes.iter().find(|row| row.name == name);
            let own = own.filter(|row| row.role == "primary");
            led.extend(own.map(|row| Led { term: row.term, node: name.clone() }));
        }
        // The pace of asking; nothing waits for it.
        tokio::time::sleep(EVERY).await;
    }
    led
}
