//! The persisted ceiling of stamps: no stamp beyond it is minted, so a restart that begins above it
//! issues none twice.
//!
//! A ceiling from a time when the clock was far ahead can be put down by an admin, to the highest stamp
//! that a majority of the voters holds (`clock::release`); that is an event. It goes through the same
//! task, so no higher one that is under way can come after it.
//!
//! Invariant: the last ceiling on disk after a clean stop is the sealed one. The task that writes
//! ceilings has ended before it is written, so nothing older can come after it.

use std::sync::Arc;
use std::time::Duration;

use clock::Hlc;
use clock::hlc::utc_text;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use net::PeerAddr;
use parking_lot::Mutex;
use prost::Message as _;
use proto::event::{CEILING, NODE, TYPE};
use proto::peer::{HighestStamp, NodeEvent, PeerOp};
use proto::wire::{CeilingLowered, Empty};
use proto::{ErrorCode, Failure, Header};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::reader::store_failure;
use crate::store::{Store, StoreError};
use crate::tasks::Tasks;
use crate::time::NodeClock;

use super::{Core, Deadline, Node, Principal};

/// Longest wait for a voter that is asked how far its log reaches.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// Puts a ceiling on disk, synced.
type Write = Arc<dyn Fn(Hlc) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync>;

/// The task that persists what the clock asks for.
pub(crate) struct Ceiling {
    node_clock: NodeClock,
    write: Write,
    lower: mpsc::Sender<Lower>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A request to put the ceiling down, and where to say to what it was put.
type Lower = (Hlc, oneshot::Sender<Result<Hlc, StoreError>>);

impl Ceiling {
    /// Starts the task; it is told to stop, and never ends in the middle of a write.
    pub(crate) fn start(node_clock: NodeClock, store: Store, tasks: &Tasks) -> Self {
        let write = move |ceiling| {
            let store = store.clone();
            async move { store.writer()?.put_ceiling(ceiling).await }.boxed()
        };
        Self::with_disk(node_clock, Arc::new(write), tasks)
    }

    fn with_disk(node_clock: NodeClock, write: Write, tasks: &Tasks) -> Self {
        let (lower, requests) = mpsc::channel(1);
        let task = persist(node_clock.clone(), Arc::clone(&write), requests, tasks.stop().clone());
        let task = tasks.keep("ceiling", task);
        Self { node_clock, write, lower, task: Mutex::new(Some(task)) }
    }

    /// Puts the ceiling down to a stamp above which none was ever committed, and returns it once it is
    /// on disk.
    async fn lower(&self, highest: Hlc) -> Result<Hlc, StoreError> {
        let stopped = |_| StoreError::Stopped("the node is stopping".to_owned());
        let (tell, told) = oneshot::channel();
        self.lower.send((highest, tell)).await.map_err(|_| stopped(()))?;
        told.await.map_err(|_| stopped(()))?
    }

    /// Ends minting and writes the last ceiling, after the task's token was cancelled. The next
    /// start then need not wait.
    pub(crate) async fn finish(&self) {
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the task that writes ceilings failed");
        }
        if let Err(error) = (self.write)(self.node_clock.seal()).await {
            tracing::warn!(%error, "the last ceiling of stamps could not be written");
        }
    }
}

/// Writes every ceiling of stamps that the clock or an admin asks for.
async fn persist(
    node_clock: NodeClock,
    write: Write,
    mut requests: mpsc::Receiver<Lower>,
    stop: CancellationToken,
) {
    loop {
        let ceiling = tokio::select! {
            () = stop.cancelled() => return,
            Some((highest, tell)) = requests.recv() => {
                let ceiling = node_clock.release(highest);
                let written = write(ceiling).await.map(|()| ceiling);
                // Whoever asked may have given up; it is lowered all the same.
                let _ = tell.send(written);
                continue;
            }
            ceiling = node_clock.next_ceiling() => ceiling,
        };
        match write(ceiling).await {
            Ok(()) => node_clock.ceiling_persisted(ceiling),
            Err(error) => {
                // The store's failure ends the process; until then no stamp passes the old ceiling.
                tracing::error!(%error, "the ceiling of stamps could not be written");
                return;
            }
        }
    }
}

impl Node {
    /// Puts the ceiling of this node's stamps down to the highest that a majority holds, if it is in
    /// the way of stamps.
    ///
    /// # Errors
    /// `Denied` for anybody but an admin, `Conflict` while the voters change, `NoQuorum` where no
    /// majority says how far its logs reach: then nothing was done.
    pub(super) async fn lower_ceiling(
        &self,
        principal: &Principal,
        deadline: Deadline,
    ) -> Result<CeilingLowered, Failure> {
        principal.require_admin("lower a node's ceiling")?;
        let core = self.core()?;
        let was = self.inner.node_clock.hlc().ceiling();
        let mut lowered = CeilingLowered {
            node: self.inner.name.to_string(),
            was: was.to_bytes().to_vec(),
            now: was.to_bytes().to_vec(),
        };
        let Some(behind) = self.inner.node_clock.behind() else { return Ok(lowered) };
        let highest = self.highest_of_majority(core, deadline).await?;
        let now = core.ceiling.lower(highest).await.map_err(store_failure)?;
        let who = &principal.identity.name;
        tracing::warn!(%was, %now, %who, "the ceiling of stamps was lowered: {behind}");
        core.events.push(self.lowered_event(was, now, who.as_str()));
        lowered.now = now.to_bytes().to_vec();
        Ok(lowered)
    }

    fn lowered_event(&self, was: Hlc, now: Hlc, who: &str) -> NodeEvent {
        let name = self.inner.name.as_str();
        let header = |key: &str, value: &str| Header { key: key.into(), value: value.into() };
        let (was, now) = (utc_text(was.ns), utc_text(now.ns));
        let text =
            format!("ceiling {name}: {who} lowered its ceiling of stamps from {was} to {now}");
        let headers = vec![
            header(TYPE, CEILING),
            header(NODE, name),
            header("by", who),
            header("was", &was),
            header("now", &now),
        ];
        NodeEvent { id: String::new(), headers, text }
    }

    /// The highest stamp that a majority of the voters holds.
    async fn highest_of_majority(&self, core: &Core, deadline: Deadline) -> Result<Hlc, Failure> {
        let view = core.engine.view().borrow().clone();
        if view.joint {
            let message = "the voters are being changed: try again in a moment";
            return Err(Failure::new(ErrorCode::Conflict, message));
        }
        let own = view.voters.contains(&view.id);
        let own = if own { Some(self.own_highest(core).await?) } else { None };
        let voters = self.peers().into_iter().filter(|peer| view.voters.contains(&peer.raft_id));
        let asked = voters.map(|peer| async move { self.highest_of(&peer, deadline).await });
        let others = futures::future::join_all(asked).await;
        let answers: Vec<Hlc> = others.into_iter().chain([own]).flatten().collect();
        clock::release::highest(view.voters.len(), &answers)
            .map_err(|error| Failure::new(ErrorCode::NoQuorum, error))
    }

    async fn highest_of(&self, peer: &PeerAddr, deadline: Deadline) -> Option<Hlc> {
        let asked = self.ask_peer(peer, PeerOp::Highest(Empty {}), deadline);
        let answer = tokio::time::timeout(ASK_WITHIN, asked).await.ok()?.ok()?;
        Hlc::from_slice(&HighestStamp::decode(answer).ok()?.hlc)
    }

    async fn own_highest(&self, core: &Core) -> Result<Hlc, Failure> {
        let engine = core.engine.clone();
        let read = self.inner.blocking.run(move || engine.highest_stamp()).await;
        let ended = |error| Failure::new(ErrorCode::Internal, format!("reading the log: {error}"));
        read.map_err(ended)?.map_err(store_failure)
    }

    /// Tells a peer how far this node's log reaches.
    pub(crate) async fn peer_highest(&self) -> HighestStamp {
        let Ok(core) = self.core() else { return HighestStamp::default() };
        let highest = self.own_highest(core).await;
        highest.map_or_else(
            |_| HighestStamp::default(),
            |highest| HighestStamp { hlc: highest.to_bytes().to_vec() },
        )
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::events::EventSink;
    use config::Clock;

    /// Seen to fail with `finish` not waiting for the task: the disk then holds the older ceiling.
    #[tokio::test]
    async fn the_sealed_ceiling_is_written_last() {
        let tasks = Tasks::until(CancellationToken::new());
        let (name, events) = ("n1".parse().unwrap(), EventSink::nowhere());
        let node_clock = NodeClock::start(&Clock::local(), Hlc::ZERO, events, name, &tasks);
        // A disk whose writes begin and end when they are let.
        let (began, may_end) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let disk: Arc<Mutex<Vec<Hlc>>> = Arc::default();
        let write = {
            let (began, may_end, disk) = (began.clone(), may_end.clone(), disk.clone());
            move |ceiling| {
                let (began, may_end, disk) = (began.clone(), may_end.clone(), disk.clone());
                async move {
                    began.add_permits(1);
                    may_end.acquire().await.unwrap().forget();
                    disk.lock().push(ceiling);
                    Ok(())
                }
                .boxed()
            }
        };
        let ceiling = Ceiling::with_disk(node_clock.clone(), Arc::new(write), &tasks);
        node_clock.tick().unwrap_err();
        began.acquire().await.unwrap().forget();
        // One write is under way when the node stops. Were it not waited for, the sealed ceiling
        // would get the first permit.
        tasks.stop().cancel();
        let finishing = async {
            let mut finished = std::pin::pin!(ceiling.finish());
            assert!(futures::poll!(&mut finished).is_pending());
            assert_eq!(began.available_permits(), 0, "the last write began too early");
            may_end.add_permits(2);
            finished.await;
        };
        finishing.await;
        let disk = disk.lock();
        assert_eq!(disk.len(), 2, "{disk:?}");
        assert_eq!(disk.last().unwrap().ns, node_clock.hlc().floor().ns);
    }
}
