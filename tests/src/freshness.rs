//! Reads while sends are acknowledged: whatever was acknowledged before a read began must be in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use net::Client;
use parking_lot::Mutex;
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
    seen: Arc<Mutex<Vec<(Instant, Seen)>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Begins to read through every node what `load` sends.
    ///
    /// # Errors
    /// When a client cannot be made.
    pub fn start(cluster: &Cluster, load: &Load) -> anyhow::Result<Self> {
        let stop: Arc<AtomicBool> = Arc::default();
        let all: Arc<Mutex<Vec<(Instant, Seen)>>> = Arc::default();
        let mut readers = Vec::new();
        for node in cluster.names() {
            let client = cluster.client("admin", Some(&node), READ_TIME)?;
            let (stop, highest, all) = (Arc::clone(&stop), load.highest(), Arc::clone(&all));
            readers.push(cluster.runtime().spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let acked = highest.load(Ordering::SeqCst);
                    // A node that is down answers nothing; that is no stale read.
                    let last = last_from(&client, acked).await;
                    let seen = last.map(|last| Seen { node: node.clone(), acked, last });
                    all.lock().extend(seen.map(|seen| (Instant::now(), seen)));
                }
            }));
        }
        Ok(Self { stop, seen: all, readers })
    }

    /// Stops; returns every read that was answered, in the order of each reader.
    ///
    /// # Errors
    /// When a reader died.
    pub fn finish(self, cluster: &Cluster) -> anyhow::Result<Vec<Seen>> {
        self.stop.store(true, Ordering::Relaxed);
        cluster.wait(async {
            for reader in self.readers {
                reader.await?;
            }
            Ok(std::mem::take(&mut *self.seen.lock()).into_iter().map(|(_, seen)| seen).collect())
        })
    }

    /// Ends the readers at once, and returns what was answered until `at`. For a cluster that goes on
    /// from the state of that moment.
    pub fn cut(self, cluster: &Cluster, at: Instant) -> Vec<Seen> {
        cluster.wait(async {
            for reader in self.readers {
                reader.abort();
                // It was ended: that is its error.
                let _ = reader.await;
            }
        });
        let seen = std::mem::take(&mut *self.seen.lock()).into_iter();
        seen.filter(|(when, _)| *when <= at).map(|(_, seen)| seen).collect()
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
