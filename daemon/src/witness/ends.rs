//! How far the logs of the others go, as they say now.
//!
//! A node that has just started may have lost the end of its log without a trace: where it was the
//! primary, it wrote down itself what it acknowledged, and others learn of it a moment later. Then a
//! node that lags would be elected with its vote, though a third one holds what was acknowledged. So a
//! node prefers the best log that it meets in the first seconds. This is care, not proof: nothing shows
//! that the longer log holds anything that was acknowledged, so the wait has an end.

use std::collections::BTreeMap;
use std::time::Duration;

use planted::Bug;
use proto::attest::{LogEnd, Shown};
use tokio::time::Instant;

/// Who was not heard for so long is not there.
const HEARD_FOR: Duration = Duration::from_secs(1);

/// Where the logs of other nodes end, by raft id, and when that was heard.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<u64, (LogEnd, Instant)>);

impl Ends {
    /// Notes what a node shows. One that is leaving, or shows nothing, will not be elected.
    pub(super) fn note(&mut self, shown: &Shown, leaving: bool) {
        match shown.log_end().filter(|_| !leaving) {
            Some(end) => self.0.insert(shown.raft_id, (end, Instant::now())),
            None => self.0.remove(&shown.raft_id),
        };
    }

    /// The best log among the voters that are there; `None` where nobody shows any.
    pub(super) fn best(&self, voters: &[u64]) -> Option<LogEnd> {
        if planted::is(Bug::BestLogIgnored) {
            return None;
        }
        let there = |(end, at): &(LogEnd, Instant)| (at.elapsed() < HEARD_FOR).then_some(*end);
        voters.iter().filter_map(|id| self.0.get(id).and_then(there)).max()
    }
}
