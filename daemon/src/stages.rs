//! Counts how long each stage of a message's way takes, always: see `proto::stage`.
//!
//! Invariant: counting takes no lock and allocates nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::stage::{BUCKETS, Counted, Stage, bucket_of};

/// What a node has counted since it started. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stages(Arc<[Histogram; Stage::ALL.len()]>);

#[derive(Debug)]
struct Histogram {
    sum: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { sum: AtomicU64::new(0), buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl Stages {
    /// Something took so long.
    pub(crate) fn took(&self, stage: Stage, time: Duration) {
        debug_assert!(stage.is_time(), "{stage:?} is no time");
        self.count(stage, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Something had this size.
    pub(crate) fn had(&self, stage: Stage, size: usize) {
        debug_assert!(!stage.is_time(), "{stage:?} is no size");
        self.count(stage, size as u64);
    }

    fn count(&self, stage: Stage, value: u64) {
        let Some(histogram) = self.0.get(stage.place()) else { return };
        if let Some(bucket) = histogram.buckets.get(bucket_of(value)) {
            bucket.fetch_add(1, Ordering::Relaxed);
            histogram.sum.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// What was counted, stages that never were left out.
    pub(crate) fn told(&self) -> Vec<Counted> {
        let of = |stage: Stage| {
            let histogram = self.0.get(stage.place())?;
            let count = |bucket: &AtomicU64| bucket.load(Ordering::Relaxed);
            let mut buckets: Vec<_> = histogram.buckets.iter().map(count).collect();
            let used = buckets.iter().rposition(|count| *count > 0)? + 1;
            buckets.truncate(used);
            Some(Counted { stage: stage.into(), sum: count(&histogram.sum), buckets })
        };
        Stage::ALL.into_iter().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_is_counted_for_itself() {
        let stages = Stages::default();
        assert_eq!(stages.told(), []);
        stages.took(Stage::Log, Duration::from_micros(3));
        stages.took(Stage::Log, Duration::from_micros(1));
        stages.had(Stage::Commands, 2);
        let counted = |stage: Stage, sum, buckets| Counted { stage: stage.into(), sum, buckets };
        let log = counted(Stage::Log, 4, vec![0, 1, 0, 1]);
        assert_eq!(stages.told(), [log, counted(Stage::Commands, 2, vec![0, 0, 1])]);
    }
}
