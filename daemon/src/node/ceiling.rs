//! The persisted ceiling of stamps: no stamp beyond it is minted, so a restart that begins above it
//! issues none twice.
//!
//! Invariant: the last ceiling on disk after a clean stop is the sealed one. The task that writes
//! ceilings has ended before it is written, so nothing older can come after it.

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::store::{Op, Store, StoreError};
use crate::time::Keeper;

/// Puts a ceiling on disk, synced.
type Write = Arc<dyn Fn(u64) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync>;

/// The task that persists what the clock asks for.
pub(super) struct Ceiling {
    keeper: Keeper,
    write: Write,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Ceiling {
    /// Starts the task; it ends when `stop` is cancelled, but never in the middle of a write.
    pub(super) fn start(keeper: Keeper, store: Store, stop: CancellationToken) -> Self {
        let write = move |ceiling_ns| {
            let store = store.clone();
            async move { store.writer()?.run(Op::Ceiling(ceiling_ns)).await }.boxed()
        };
        Self::with_disk(keeper, Arc::new(write), stop)
    }

    fn with_disk(keeper: Keeper, write: Write, stop: CancellationToken) -> Self {
        let task = tokio::spawn(persist(keeper.clone(), Arc::clone(&write), stop));
        Self { keeper, write, task: Mutex::new(Some(task)) }
    }

    /// Ends minting and writes the last ceiling, after the task's token was cancelled. The next
    /// start then need not wait.
    pub(super) async fn finish(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the task that writes ceilings failed");
        }
        if let Err(error) = (self.write)(self.keeper.seal()).await {
            tracing::warn!(%error, "the last ceiling of stamps could not be written");
        }
    }
}

/// Writes every ceiling of stamps that the clock asks for.
async fn persist(keeper: Keeper, write: Write, stop: CancellationToken) {
    loop {
        let ceiling_ns = tokio::select! {
            () = stop.cancelled() => return,
            ceiling_ns = keeper.next_ceiling() => ceiling_ns,
        };
        match write(ceiling_ns).await {
            Ok(()) => keeper.ceiling_persisted(ceiling_ns),
            Err(error) => {
                // The store's failure ends the process; until then no stamp passes the old ceiling.
                tracing::error!(%error, "the ceiling of stamps could not be written");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::config::Clock;
    use crate::events::EventSink;

    /// Seen to fail with `finish` not waiting for the task: the disk then holds the older ceiling.
    #[tokio::test]
    async fn the_sealed_ceiling_is_written_last() {
        let stop = CancellationToken::new();
        let (name, events) = ("n1".parse().unwrap(), EventSink::nowhere());
        let keeper = Keeper::start(&Clock::local(), 0, events, name, stop.clone());
        // A disk whose writes begin and end when they are let.
        let (began, may_end) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let disk: Arc<Mutex<Vec<u64>>> = Arc::default();
        let write = {
            let (began, may_end, disk) = (began.clone(), may_end.clone(), disk.clone());
            move |ceiling_ns| {
                let (began, may_end, disk) = (began.clone(), may_end.clone(), disk.clone());
                async move {
                    began.add_permits(1);
                    may_end.acquire().await.unwrap().forget();
                    disk.lock().unwrap().push(ceiling_ns);
                    Ok(())
                }
                .boxed()
            }
        };
        let ceiling = Ceiling::with_disk(keeper.clone(), Arc::new(write), stop.clone());
        keeper.tick().unwrap_err();
        began.acquire().await.unwrap().forget();
        // One write is under way when the node stops. Were it not waited for, the sealed ceiling
        // would get the first permit.
        stop.cancel();
        let finishing = async {
            let mut finished = std::pin::pin!(ceiling.finish());
            assert!(futures::poll!(&mut finished).is_pending());
            assert_eq!(began.available_permits(), 0, "the last write began too early");
            may_end.add_permits(2);
            finished.await;
        };
        finishing.await;
        let disk = disk.lock().unwrap();
        assert_eq!(disk.len(), 2, "{disk:?}");
        assert_eq!(disk.last(), Some(&keeper.hlc().floor().ns));
    }
}
