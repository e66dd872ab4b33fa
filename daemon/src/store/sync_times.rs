//! How long syncs take here: what a node tells the others of its disk, and judges itself by.
//!
//! One slow sync is an accident; two in a row, or one that does not end, are a slow disk.

use std::time::Duration;

use tokio::time::Instant;

/// A sync that ended longer ago says nothing of now; one that took long says so for longer.
const FRESH: Duration = Duration::from_secs(3);
/// How many times as long as it took.
const FRESH_TIMES: u32 = 3;

/// The last syncs of a store.
#[derive(Debug, Default)]
pub(super) struct SyncTimes {
    /// Since when one runs.
    running: Option<Instant>,
    /// When the last two ended and what they took, the newest first.
    last: [Option<(Instant, Duration)>; 2],
}

impl SyncTimes {
    pub(super) fn begin(&mut self, now: Instant) {
        self.running = Some(now);
    }

    /// The one that runs ended; what it took.
    pub(super) fn end(&mut self, now: Instant) -> Option<Duration> {
        let took = now.saturating_duration_since(self.running.take()?);
        let [newest, _] = self.last;
        self.last = [Some((now, took)), newest];
        Some(took)
    }

    /// The one that runs was none: there was nothing to sync.
    pub(super) fn leave_out(&mut self) -> Option<Duration> {
        self.running = None;
        None
    }

    /// How long the running sync has taken so far; `None` if none runs.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.running.map(|began| now.saturating_duration_since(began))
    }

    /// How long a sync takes now: the shorter of the last two, or what the running one has taken
    /// already if that is more. `None` if there was none lately.
    pub(super) fn typical(&self, now: Instant) -> Option<Duration> {
        let fresh = |last: &Option<(Instant, Duration)>| {
            let (ended, took) = (*last)?;
            let fresh = FRESH.max(took.saturating_mul(FRESH_TIMES));
            (now.saturating_duration_since(ended) < fresh).then_some(took)
        };
        let last: Vec<Duration> = self.last.iter().filter_map(fresh).collect();
        let ended = last.iter().min().copied().filter(|_| last.len() == self.last.len());
        ended.max(self.age(now)).or_else(|| last.first().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Seen to fail with: the longer of the two taken, and the running one left out.
    #[test]
    fn one_slow_sync_is_an_accident() {
        let (mut times, mut now) = (SyncTimes::default(), Instant::now());
        assert_eq!(times.typical(now), None);
        let mut sync = |times: &mut SyncTimes, ms: u32| {
            times.begin(now);
            now += MS * ms;
            times.end(now);
            (times.typical(now), now)
        };
        assert_eq!(sync(&mut times, 2).0, Some(MS * 2));
        assert_eq!(sync(&mut times, 900).0, Some(MS * 2));
        assert_eq!(sync(&mut times, 800).0, Some(MS * 800));
        let (typical, now) = sync(&mut times, 1);
        assert_eq!(typical, Some(MS));
        times.begin(now);
        times.leave_out();
        assert_eq!((times.age(now), times.typical(now)), (None, Some(MS)));
        times.begin(now);
        assert_eq!(times.typical(now + MS * 500), Some(MS * 500), "one that does not end");
        assert_eq!(times.age(now + MS * 500), Some(MS * 500));
        times.end(now + MS * 500);
        assert_eq!(times.typical(now + FRESH + MS * 500), None, "long ago");
        // Two slow ones do not count as one because the first ended long before the second.
        let (mut times, start) = (SyncTimes::default(), Instant::now());
        for began in [0, 4000] {
            times.begin(start + MS * began);
            times.end(start + MS * (began + 4000));
        }
        times.begin(start + MS * 8000);
        assert_eq!(times.typical(start + MS * 8001), Some(MS * 4000));
    }
}
