//! What stands in front of the engine: live entries stamped in this node's future are refused, and
//! candidates whose clock is proven wrong are not heard. A refusal is a lost message to the engine.
//!
//! Invariants:
//! * a request is refused whole and before the engine sees any of it;
//! * what is proven committed passes, and so do snapshots: else replicas would diverge;
//! * what refused voters mean for a primary is counted by entry: a heartbeat or an older entry
//!   that passes does not end a refusal.
//!
//! Not here: the rules themselves (`clock::guard`), and what a refused primary does (`clock::lead`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clock::guard::{StampInFuture, check};
use openraft::EntryPayload;
use openraft::entry::RaftEntry as _;
use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;
use planted::Bug;
use tokio::time::Instant;

use super::types::{Entry, Types};

/// Refusals with less than this between them are one episode, and one line of the log.
const EPISODE: Duration = Duration::from_secs(10);

/// Judges what other nodes send, by this node's clock.
pub struct Guard {
    limit_ns: Box<dyn Fn() -> Option<u64> + Send + Sync>,
    may_be_elected: Box<dyn Fn(&str) -> bool + Send + Sync>,
    refused: AtomicU64,
    last_refusal: Mutex<Option<Instant>>,
}

impl Guard {
    /// A guard. `limit_ns` gives the highest stamp, in nanoseconds since 1970, that a live entry
    /// may have, or `None` while this node's clock is no judge; `may_be_elected` says whether a node, given
    /// by its name, may stand for election as far as clocks are concerned.
    #[must_use]
    pub fn new(
        limit_ns: impl Fn() -> Option<u64> + Send + Sync + 'static,
        may_be_elected: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (refused, last_refusal) = (AtomicU64::new(0), Mutex::new(None));
        Self {
            limit_ns: Box::new(limit_ns),
            may_be_elected: Box::new(may_be_elected),
            refused,
            last_refusal,
        }
    }

    /// A guard that lets everything pass.
    #[must_use]
    pub fn open() -> Self {
        Self::new(|| None, |_| true)
    }

    /// Requests refused for stamps in the future since the start.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn may_be_elected(&self, candidate: &str) -> bool {
        (self.may_be_elected)(candidate)
    }

    /// Looks through a request in front of the engine.
    pub(super) fn check(&self, request: &AppendEntriesRequest<Types>) -> Result<(), StampInFuture> {
        if request.entries.is_empty() || planted::is(Bug::GuardOpen) {
            return Ok(());
        }
        let Some(limit_ns) = (self.limit_ns)() else { return Ok(()) };
        let commit_index = request.leader_commit.as_ref().map_or(0, |commit| commit.index());
        let stamps = request.entries.iter().filter_map(stamp_of);
        check(stamps, commit_index, limit_ns).inspect_err(|refusal| {
            assert!(refusal.index > commit_index, "what is committed was refused: {refusal}");
            assert!(refusal.stamp_ns > limit_ns, "a stamp within the limit was refused: {refusal}");
            self.refused.fetch_add(1, Ordering::Relaxed);
            let last = self.last_refusal.lock().replace(Instant::now());
            if last.is_none_or(|last| last.elapsed() > EPISODE) {
                tracing::warn!(
                    primary = request.vote.leader_id().voted_for,
                    term = request.vote.leader_id().term,
                    "a live entry is stamped in this node's future and refused: {refusal}"
                );
            }
        })
    }
}

/// Index and last stamp of an entry; `None` if it has none, or none that can be read: apply will
/// stop the node on that.
fn stamp_of(entry: &Entry) -> Option<(u64, u64)> {
    let EntryPayload::Normal(payload) = &entry.payload else { return None };
    let (base, count) = model::stamps_of(payload.batch()).ok()?;
    let last = base.hlc.advance(u64::from(count.saturating_sub(1)));
    assert!(last >= base.hlc, "the last stamp of an entry is not before its first");
    Some((entry.log_id().index(), last.ns))
}

/// Which voters refuse this node's entries, as a primary.
#[derive(Debug, Default)]
pub struct Refusals {
    by_voter: Mutex<BTreeMap<u64, Refused>>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    what: StampInFuture,
    at: Instant,
}

impl Refusals {
    /// The voters that refused an entry within this time and have not taken it since, with what
    /// they said.
    #[must_use]
    pub fn within(&self, time: Duration) -> BTreeMap<u64, StampInFuture> {
        let by_voter = self.by_voter.lock();
        let fresh = by_voter.iter().filter(|(_, refused)| refused.at.elapsed() < time);
        fresh.map(|(voter, refused)| (*voter, refused.what)).collect()
    }

    /// Forgets all: a new term, or another primary.
    pub fn clear(&self) {
        self.by_voter.lock().clear();
    }

    pub(super) fn refused(&self, voter: u64, what: StampInFuture) {
        self.by_voter.lock().insert(voter, Refused { what, at: Instant::now() });
    }

    /// A voter's log now matches up to `index`.
    pub(super) fn accepted(&self, voter: u64, index: u64) {
        let mut by_voter = self.by_voter.lock();
        if by_voter.get(&voter).is_some_and(|refused| index >= refused.what.index) {
            by_voter.remove(&voter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(index: u64) -> StampInFuture {
        StampInFuture { index, stamp_ns: 2, limit_ns: 1 }
    }

    #[tokio::test]
    async fn a_refusal_lasts_until_the_entry_is_taken_or_grows_old() {
        let refusals = Refusals::default();
        let time = Duration::from_secs(1000);
        refusals.refused(2, refusal(7));
        refusals.refused(3, refusal(7));
        refusals.accepted(2, 6);
        assert_eq!(refusals.within(time).keys().collect::<Vec<_>>(), [&2, &3]);
        refusals.accepted(2, 7);
        assert_eq!(refusals.within(time).keys().collect::<Vec<_>>(), [&3]);
        assert!(refusals.within(Duration::ZERO).is_empty(), "as if that long had passed");
        refusals.refused(3, refusal(8));
        refusals.clear();
        assert!(refusals.within(time).is_empty());
    }
}
