//! Elections where disks are slow.
//!
//! A vote is durable before it is answered, so on slow disks an election takes as long as a few syncs.
//! The engine's own times are fixed when it starts: it gives up on an answer after the shortest
//! election timeout, and stands again after the next one. On disks that take longer than that it would
//! elect nobody, and begin a term each time. So here is how long a vote may take, by how long syncs
//! take now. Until then the candidate waits for answers; and whoever has cast a vote, the candidate
//! included, neither asks for another one nor says that it would give it. Once a primary is known, that
//! is over.
//!
//! Where a majority has fast disks nothing of this applies. A vote proper is never refused here: only
//! the question before it, whether one would be given.
//!
//! Invariant: none of it lasts longer than [`PATIENCE_MAX`], whatever a disk does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::store::Writer;

use super::types::Vote;

/// Syncs that take less are no reason to wait for anything.
const SLOW: Duration = Duration::from_millis(50);
/// Syncs that an election takes one after the other: one that is running and the vote's own, at the
/// candidate and at a voter; or at a voter, and of the vote that makes the candidate primary.
const SYNCS: u32 = 4;
/// The longest wait for anybody's vote.
pub const PATIENCE_MAX: Duration = Duration::from_secs(10);

const _: () = assert!(
    SLOW.as_millis() * (SYNCS as u128) < PATIENCE_MAX.as_millis(),
    "patience grows with the disk before it ends"
);

/// How long an election may take where syncs take this long; zero where they are fast.
fn patience(sync: Duration) -> Duration {
    let patience =
        if sync < SLOW { Duration::ZERO } else { sync.saturating_mul(SYNCS).min(PATIENCE_MAX) };
    assert!(patience <= PATIENCE_MAX, "no disk holds an election up for {patience:?}");
    patience
}

/// How long a sync takes at the slowest node of the fastest majority, of `voters`, as far as they say.
#[must_use]
pub(crate) fn pace(mut syncs: Vec<Duration>, voters: usize) -> Duration {
    syncs.sort_unstable();
    let majority = voters / 2 + 1;
    assert!(2 * majority > voters, "{majority} of {voters} is no majority");
    syncs.get(majority - 1).or_else(|| syncs.last()).copied().unwrap_or_default()
}

/// What votes cost here, and whether one is out.
pub(super) struct Ballots {
    writer: Writer,
    /// See [`pace`], in microseconds.
    pace_us: AtomicU64,
    /// Since when a vote of this node waits for a primary to come of it.
    cast: Mutex<Option<Instant>>,
}

impl Ballots {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer, pace_us: AtomicU64::new(0), cast: Mutex::new(None) }
    }

    /// Notes how long a sync takes elsewhere, see [`pace`].
    pub(super) fn note_pace(&self, pace: Duration) {
        let us = u64::try_from(pace.as_micros()).unwrap_or(u64::MAX);
        self.pace_us.store(us, Ordering::Relaxed);
    }

    /// What was noted of it last.
    pub(super) fn pace(&self) -> Duration {
        Duration::from_micros(self.pace_us.load(Ordering::Relaxed))
    }

    /// Notes a vote that is about to be stored: one that is cast, or a primary that is followed.
    pub(super) fn note(&self, vote: &Vote) {
        let cast = (!vote.committed).then(Instant::now);
        *self.cast.lock() = cast;
    }

    /// How long an answer to a ballot may take beyond the engine's own time.
    pub(super) fn patience(&self) -> Duration {
        let own = self.writer.sync_time().unwrap_or_default();
        patience(own.max(self.pace()))
    }

    /// Whether a vote was cast of which a primary may still come.
    pub(super) fn is_one_out(&self) -> bool {
        let cast = *self.cast.lock();
        cast.is_some_and(|at| at.elapsed() < self.patience())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn patience_grows_with_the_disk_and_ends() {
        assert_eq!(patience(MS * 5), Duration::ZERO);
        assert_eq!(patience(MS * 49), Duration::ZERO);
        assert_eq!(patience(MS * 400), MS * 1600);
        assert_eq!(patience(Duration::MAX), PATIENCE_MAX);
    }

    #[test]
    fn the_pace_is_that_of_a_majority() {
        assert_eq!(pace(vec![MS * 400, MS, MS * 2], 3), MS * 2, "one slow of three");
        assert_eq!(pace(vec![MS * 400, MS, MS * 500], 3), MS * 400, "two slow of three");
        assert_eq!(pace(vec![MS, MS * 400], 3), MS * 400, "one is not heard");
        assert_eq!(pace(vec![MS * 3], 3), MS * 3);
        assert_eq!(pace(Vec::new(), 0), Duration::ZERO);
    }
}
