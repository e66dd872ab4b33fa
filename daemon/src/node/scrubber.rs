//! Reads everything on this node's disk again, slowly, for damage that nobody else meets: blocks that no
//! reader asks for, and a log that is only appended to. What it finds is noted by the store, and the node
//! steps back as for any damage.
//!
//! Invariant: nothing waits for it. It reads in small pieces beside everything else, keeps no lock over a
//! rest, and rests longer while the disk is slow.
//!
//! Not here: what is read (`store::scrub`).

use std::time::Duration;

use proto::wire::Scrubbing;
use tokio::time::Instant;

use super::{Body, Core, Node};
use crate::store::{Scrub, StoreError};

/// A round takes no longer than this, and begins so long after the one before, unless the file says
/// otherwise.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Bytes a second at least: a small store is read within minutes.
const SLOWEST: u64 = 256 << 10;
/// How long a piece and the rest behind it take, about.
const PIECE_EVERY: Duration = Duration::from_millis(250);
/// Bytes of a piece.
const PIECE_MIN: u64 = 4 << 10;
const PIECE_MAX: u64 = 1 << 20;
/// Between the start, or a round, and the next one, at least.
const PAUSE: Duration = Duration::from_secs(2);
/// After a disk that could not be looked at.
const AFTER_ERROR: Duration = Duration::from_secs(60);
/// A disk is slow where a sync takes this long, and then a rest is so many times as long.
const SLOW: Duration = Duration::from_millis(100);
const RESTS_WHILE_SLOW: u32 = 10;

/// How fast everything is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    bytes_per_s: u64,
    /// From the beginning of a round to that of the next one.
    every: Duration,
}

impl Pace {
    /// For so many bytes. `set` is what the file says, 0 if nothing.
    fn of(set_bytes_per_s: u64, all_bytes: u64) -> Self {
        match set_bytes_per_s {
            0 => Self { bytes_per_s: (all_bytes / DAY.as_secs()).max(SLOWEST), every: DAY },
            bytes_per_s => Self { bytes_per_s, every: PAUSE },
        }
    }

    fn piece(self) -> usize {
        let pieces_per_s = 1000 / u64::try_from(PIECE_EVERY.as_millis()).unwrap_or(1000);
        let bytes = (self.bytes_per_s / pieces_per_s).clamp(PIECE_MIN, PIECE_MAX);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// How long so many bytes may take.
    fn time_of(self, bytes: u64) -> Duration {
        // A piece of nothing must not be followed by the next one at once.
        let us = bytes.max(1).saturating_mul(1_000_000) / self.bytes_per_s.max(1);
        Duration::from_micros(us.max(1000))
    }
}

/// How far the reading is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    read_bytes: u64,
    of_bytes: u64,
    rounds: u64,
    ended: Option<Instant>,
}

impl Progress {
    pub(super) fn told(self) -> Scrubbing {
        Scrubbing {
            read_bytes: self.read_bytes,
            of_bytes: self.of_bytes,
            rounds: self.rounds,
            last_round_age_s: self.ended.map(|ended| ended.elapsed().as_secs()),
        }
    }
}

/// Reads everything again and again, for ever.
pub(crate) async fn run(node: Node, set_bytes_per_s: u64) {
    let Body::Whole(core) = &node.inner.body else { return std::future::pending().await };
    tokio::time::sleep(PAUSE).await;
    loop {
        let began = Instant::now();
        let rest = match node.scrub_once(core, set_bytes_per_s).await {
            Ok(pace) => pace.every.saturating_sub(began.elapsed()).max(PAUSE),
            // It steps back.
            Err(_) if core.store.damage().is_some() => return std::future::pending().await,
            Err(error) => {
                tracing::warn!(%error, "the disk cannot be read again now");
                AFTER_ERROR
            }
        };
        tokio::time::sleep(rest).await;
    }
}

impl Node {
    async fn scrub_once(&self, core: &Core, set_bytes_per_s: u64) -> Result<Pace, StoreError> {
        let of_bytes = core.store.scrub_bytes()?;
        let pace = Pace::of(set_bytes_per_s, of_bytes);
        core.engine.set_audit_pace(pace.bytes_per_s);
        {
            let mut progress = self.inner.scrubbing.lock();
            (progress.read_bytes, progress.of_bytes) = (0, of_bytes);
        }
        let mut scrub = Scrub::default();
        loop {
            let began = Instant::now();
            let (next, read) = core.store.scrub(scrub, pace.piece()).await?;
            scrub = next;
            {
                let mut progress = self.inner.scrubbing.lock();
                // What it is of is an estimate; more than all is never read.
                progress.read_bytes = (progress.read_bytes + read.bytes).min(progress.of_bytes);
                if read.ends {
                    progress.read_bytes = progress.of_bytes;
                    progress.rounds += 1;
                    progress.ended = Some(Instant::now());
                    return Ok(pace);
                }
            }
            let sync = core.store.writer().ok().and_then(|writer| writer.sync_time());
            let slow = sync.is_some_and(|sync| sync >= SLOW);
            let rest = pace.time_of(read.bytes).saturating_sub(began.elapsed());
            tokio::time::sleep(if slow { rest * RESTS_WHILE_SLOW } else { rest }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_read_within_a_day_and_a_small_store_within_minutes() {
        const GIB: u64 = 1 << 30;
        for bytes in [0, 16 << 20, GIB, 100 * GIB, 4096 * GIB] {
            let pace = Pace::of(0, bytes);
            assert_eq!(pace.every, DAY);
            assert!(pace.bytes_per_s >= SLOWEST);
            assert!(bytes / pace.bytes_per_s <= DAY.as_secs() + 1, "{bytes}");
        }
        assert!(Pace::of(0, 16 << 20).time_of(16 << 20) <= Duration::from_secs(64));
        let set = Pace::of(8 << 20, 4096 * GIB);
        assert_eq!((set.bytes_per_s, set.every), (8 << 20, PAUSE));
        assert_eq!(set.time_of(set.piece() as u64), Duration::from_millis(125));
    }

    #[test]
    fn pieces_are_small_and_never_follow_each_other_at_once() {
        for rate in [1, 1024, SLOWEST, 64 << 20, u64::MAX] {
            let pace = Pace::of(rate, 0);
            let piece = pace.piece() as u64;
            assert!((PIECE_MIN..=PIECE_MAX).contains(&piece), "{rate}: {piece}");
            assert!(pace.time_of(0) >= Duration::from_millis(1));
        }
    }
}
