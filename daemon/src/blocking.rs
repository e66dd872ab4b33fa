//! Where work goes that waits for a disk, or takes long: beside the runtime's tasks, or, in a node that
//! is to do everything in one order, on the spot.

use std::fmt;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{block_in_place, spawn_blocking};

/// Where such work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// On threads of the runtime that are there for it.
    Threads,
    /// On the spot: everything else waits.
    OnTheSpot,
}

/// The work panicked, or the runtime is ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotDone(String);

impl fmt::Display for NotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotDone {}

impl Blocking {
    /// Does the work and waits for it. Work that has begun goes on where nobody waits any more.
    ///
    /// # Errors
    /// When it was not done, or not to the end.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        match self {
            Self::Threads => spawn_blocking(work).await.map_err(|error| NotDone(error.to_string())),
            Self::OnTheSpot => Ok(work()),
        }
    }
}

/// Does something that may wait for the disk where it is, without holding up the runtime's other tasks.
pub(crate) fn in_place<T>(work: impl FnOnce() -> T) -> T {
    let multi = Handle::try_current()
        .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if multi { block_in_place(work) } else { work() }
}
