//! How long commands wait, from the queue of the proposer to the majority: what clients get of this
//! primary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

/// What has not been answered yet: since when the first command of each entry waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unanswered(Arc<Mutex<Waits>>);

#[derive(Debug, Default)]
struct Waits {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

impl Unanswered {
    fn lock(&self) -> MutexGuard<'_, Waits> {
        self.0.lock()
    }

    /// Notes an entry until what is returned is dropped.
    pub(crate) fn note(&self, since: Instant) -> Waiting {
        let mut waits = self.lock();
        let key = waits.next;
        waits.next += 1;
        waits.since.insert(key, since);
        Waiting { unanswered: self.clone(), key }
    }

    /// How long the one waits that waits longest.
    pub(crate) fn longest(&self) -> Duration {
        self.lock().since.values().min().map_or(Duration::ZERO, Instant::elapsed)
    }
}

/// An entry that is not answered yet.
pub(crate) struct Waiting {
    unanswered: Unanswered,
    key: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.unanswered.lock().since.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_is_that_of_the_oldest_entry_without_an_answer() {
        let unanswered = Unanswered::default();
        assert_eq!(unanswered.longest(), Duration::ZERO);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(9)).unwrap();
        let old = unanswered.note(long_ago);
        let _young = unanswered.note(Instant::now());
        assert!(unanswered.longest() >= Duration::from_secs(9));
        drop(old);
        assert!(unanswered.longest() < Duration::from_secs(9));
    }
}
