//! Sends in flight while something happens to the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use net::Client;
use parking_lot::Mutex;
use proto::wire::{Op, Send};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::history::{Attempt, History, Outcome};
use crate::patience::{until, when};

/// Time for one send: much more than any failover.
const SEND_TIME: Duration = Duration::from_secs(30);

/// A message to a client: an id, and a body that tells it.
#[must_use]
pub fn message(to: &str, id: &str) -> Send {
    let body = format!("body of {id}");
    Send { to: to.to_owned(), id: id.to_owned(), body: body.into(), ..Send::default() }
}

/// Sends one message and notes what came of it.
pub async fn send(client: &Client, message: Send) -> Attempt {
    let id = message.id.clone();
    let invoked = Instant::now();
    let outcome = Outcome::of(client.call(Op::Send(message)).await);
    Attempt { id, invoked, completed: Instant::now(), outcome }
}

/// Workers that send one message after the other until they are told to stop.
#[derive(Default)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    highest: Arc<AtomicU64>,
    in_flight: Arc<AtomicU64>,
    attempts: Arc<Mutex<Vec<Attempt>>>,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `workers` for each sender, all sending to `to`. Each sender has a connection of its
    /// own, so that several gateways are at work. Ids begin with `prefix`.
    ///
    /// # Errors
    /// When a sender is not registered.
    pub fn start(
        cluster: &Cluster,
        senders: &[&str],
        workers: usize,
        to: &str,
        prefix: &str,
    ) -> anyhow::Result<Self> {
        let mut load = Self::default();
        for sender in senders {
            let client = cluster.client(sender, None, SEND_TIME)?;
            for worker in 0..workers {
                let name = format!("{prefix}-{sender}-{worker}");
                let work = load.work(client.clone(), to.to_owned(), name);
                load.workers.push(cluster.runtime().spawn(work));
            }
        }
        Ok(load)
    }

    /// Sends acknowledged so far.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Highest number that was acknowledged so far.
    #[must_use]
    pub fn highest(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.highest)
    }

    /// Sends that have no answer yet.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Waits until so many more sends are acknowledged.
    ///
    /// # Errors
    /// When they are not.
    pub fn wait_more(&self, more: u64) -> anyhow::Result<()> {
        let goal = self.acked() + more;
        until(&format!("{more} more acknowledgements"), || {
            when(self.acked() >= goal, format!("{} of {goal}", self.acked()))
        })
    }

    /// Lets the workers finish what they have begun, and returns what all sends were told.
    ///
    /// # Errors
    /// When a worker died.
    pub fn finish(self, cluster: &Cluster) -> anyhow::Result<History> {
        self.stop.store(true, Ordering::Relaxed);
        cluster.wait(async {
            for worker in self.workers {
                worker.await?;
            }
            Ok(History { attempts: std::mem::take(&mut *self.attempts.lock()) })
        })
    }

    /// Ends the workers at once, and returns what was known at `at`: what was answered later is
    /// unknown. For a cluster that goes on from the state of that moment.
    pub fn cut(self, cluster: &Cluster, at: Instant) -> History {
        cluster.wait(async {
            for worker in self.workers {
                worker.abort();
                // It was ended: that is its error.
                let _ = worker.await;
            }
        });
        let mut attempts = std::mem::take(&mut *self.attempts.lock());
        for attempt in attempts.iter_mut().filter(|attempt| attempt.completed > at) {
            attempt.outcome = Outcome::Unknown("in flight when all ended".to_owned());
        }
        History { attempts }
    }

    /// One worker.
    fn work(&self, client: Client, to: String, name: String) -> impl Future<Output = ()> + use<> {
        let (stop, acked) = (Arc::clone(&self.stop), Arc::clone(&self.acked));
        let (highest, in_flight) = (self.highest(), Arc::clone(&self.in_flight));
        let attempts = Arc::clone(&self.attempts);
        async move {
            for number in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                in_flight.fetch_add(1, Ordering::Relaxed);
                let attempt = send(&client, message(&to, &format!("{name}-{number}"))).await;
                in_flight.fetch_sub(1, Ordering::Relaxed);
                if let Outcome::Acked { seq, .. } = &attempt.outcome {
                    highest.fetch_max(*seq, Ordering::SeqCst);
                    acked.fetch_add(1, Ordering::Relaxed);
                }
                attempts.lock().push(attempt);
            }
        }
    }
}
