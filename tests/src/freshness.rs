//! Reads while sends are acknowledged: whatever was acknowledged before a read began must be in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use net::Client;
use proto::wire::{Op, Position, Read, Reply};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::load::Load;

/// Time for one read: more than a failover.
const READ_TIME: Duration = Duration::from_secs(20);

/// One read that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The node that was asked.
    pub node: String,
    /// Highest number that was acknowledged when the read began.
    pub acked: u64,
    /// Highest number that the answer held.
    pub last: u64,
}

/// Readers, one a node, that go on until they are told to stop.
pub struct Readers {
    stop: Arc<AtomicBool>,
    readers: Vec<JoinHandle<Vec<Seen>>>,
}

impl Readers {
    /// Begins to read through every node what `load` sends.
    ///
    /// # Errors
    /// When a client cannot be made.
    pub fn start(cluster: &Cluster, load: &Load) -> anyhow::Result<Self> {
        let stop: Arc<AtomicBool> = Arc::default();
        let mut readers = Vec::new();
        for node in cluster.names() {
            let client = cluster.client("admin", Some(&node), READ_TIME)?;
            let (stop, highest) = (Arc::clone(&stop), load.highest());
            readers.push(cluster.runtime().spawn(async move {
                let mut seen = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let acked = highest.load(Ordering::SeqCst);
                    // A node that is down answers nothing; that is no stale read.
                    let last = last_from(&client, acked).await;
                    seen.extend(last.map(|last| Seen { node: node.clone(), acked, last }));
                }
                seen
            }));
        }
        Ok(Self { stop, readers })
    }

    /// Stops; returns every read that was answered, in the order of each reader.
    ///
    /// # Errors
    /// When a reader died.
    pub fn finish(self, cluster: &Cluster) -> anyhow::Result<Vec<Seen>> {
        self.stop.store(true, Ordering::Relaxed);
        cluster.wait(async {
            let mut all = Vec::new();
            for reader in self.readers {
                all.extend(reader.await?);
            }
            Ok(all)
        })
    }
}

/// The highest number that a fresh read finds from `acked` on; 0 if it finds nothing there.
async fn last_from(client: &Client, acked: u64) -> Option<u64> {
    let after = vec![Position { shard: 1, seq: acked.saturating_sub(1) }];
    let answer = client.call(Op::Read(Read { after, ..Read::default() })).await.ok()?;
    match answer.reply {
        Some(Reply::Page(page)) => Some(page.records.last().map_or(0, |record| record.seq)),
        _ => None,
    }
}
