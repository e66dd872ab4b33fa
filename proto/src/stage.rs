//! Where the time of a message goes: the stages of its way on one node, and how often each took how long.
//!
//! Counts go into buckets of fixed bounds, four to each doubling, so a figure read from them is wrong by
//! an eighth at most, and counting costs two additions.

/// Buckets of one stage: up to 16 s, or 16 million.
pub const BUCKETS: usize = 96;

/// A stage, or a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Stage {
    /// On the primary, of each command: from the queue into an entry.
    Queue = 0,
    /// On the primary, of each entry: it waits for its stamp, if the clock lets it wait, is encoded and
    /// handed to the engine.
    Stamp = 1,
    /// Of each append: until the node's own disk holds it.
    Log = 2,
    /// Of each append: until it is known to be on a majority's disks.
    Quorum = 3,
    /// Of each group of committed entries: until the state has them.
    Apply = 4,
    /// On the primary, of each entry: from the outcomes until the answers are handed to the connections.
    Answer = 5,
    /// On the primary, of each entry: from the engine taking it until its outcomes are there. Log, quorum
    /// and apply are parts of it.
    Decide = 6,
    /// On the primary: commands in an entry.
    Commands = 7,
    /// Of each sync of the log: of however much was queued.
    Sync = 8,
}

impl Stage {
    /// All of them, in the order of a message's way; sizes last.
    pub const ALL: [Self; 9] = [
        Self::Queue,
        Self::Stamp,
        Self::Sync,
        Self::Log,
        Self::Quorum,
        Self::Apply,
        Self::Decide,
        Self::Answer,
        Self::Commands,
    ];

    /// Its place among the others.
    #[must_use]
    pub const fn place(self) -> usize {
        self as usize
    }

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Stamp => "stamp",
            Self::Log => "log",
            Self::Quorum => "quorum",
            Self::Apply => "apply",
            Self::Answer => "answer",
            Self::Decide => "decide",
            Self::Commands => "commands",
            Self::Sync => "sync",
        }
    }

    /// Whether it is a time, in microseconds, and no size.
    #[must_use]
    pub const fn is_time(self) -> bool {
        match self {
            Self::Queue
            | Self::Stamp
            | Self::Log
            | Self::Quorum
            | Self::Apply
            | Self::Answer
            | Self::Decide
            | Self::Sync => true,
            Self::Commands => false,
        }
    }
}

/// What one node has counted of one stage since it started.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Counted {
    /// The stage.
    #[prost(enumeration = "Stage", tag = "1")]
    pub stage: i32,
    /// Of all together, in microseconds or pieces.
    #[prost(uint64, tag = "2")]
    pub sum: u64,
    /// How many in each bucket; what is missing at the end is 0.
    #[prost(uint64, repeated, tag = "3")]
    pub buckets: Vec<u64>,
}

impl Counted {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// What so many thousandths of all are not above; `None` if there were none.
    #[must_use]
    pub fn at_most(&self, thousandths: u64) -> Option<u64> {
        let wanted = self.count().checked_mul(thousandths)?.div_ceil(1000).max(1);
        let mut seen = 0u64;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if seen >= wanted {
                return Some(first_of(bucket + 1).saturating_sub(1));
            }
        }
        None
    }

    /// The middle; `None` if there were none.
    #[must_use]
    pub fn mean(&self) -> Option<u64> {
        self.sum.checked_div(self.count())
    }
}

/// The bucket of a value; the last one takes all beyond.
#[must_use]
pub fn bucket_of(value: u64) -> usize {
    let Some(doubling) = value.checked_ilog2().filter(|doubling| *doubling >= 2) else {
        return usize::try_from(value).unwrap_or_default();
    };
    let quarter = (value >> (doubling - 2)) & 3;
    let bucket = u64::from(doubling - 1) * 4 + quarter;
    usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// The least value of a bucket.
#[must_use]
pub fn first_of(bucket: usize) -> u64 {
    let (doubling, quarter) = (bucket / 4, bucket as u64 % 4);
    match u32::try_from(doubling).unwrap_or(u32::MAX) {
        0 => quarter,
        doubling => (4 + quarter).checked_shl(doubling - 1).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_value_has_its_bucket(value in 0u64..1 << 24) {
            let bucket = bucket_of(value);
            prop_assert!(first_of(bucket) <= value && value < first_of(bucket + 1));
            prop_assert!(first_of(bucket + 1) - first_of(bucket) <= value / 4 + 1);
        }
    }

    #[test]
    fn what_is_counted_is_told() {
        let mut counted = Counted { buckets: vec![0; BUCKETS], ..Counted::default() };
        for value in (1..=100).chain([u64::MAX]) {
            counted.buckets[bucket_of(value)] += 1;
            counted.sum = counted.sum.saturating_add(value.min(100));
        }
        assert_eq!((counted.count(), counted.mean()), (101, Some(50)));
        assert_eq!((counted.at_most(500), counted.at_most(990)), (Some(55), Some(111)));
        assert_eq!(counted.at_most(1000), Some(first_of(BUCKETS) - 1));
        assert_eq!(Counted::default().at_most(500), None);
        assert_eq!(Counted::default().mean(), None);
        for (place, stage) in Stage::ALL.iter().enumerate() {
            assert!(Stage::ALL.iter().skip(place + 1).all(|other| other != stage));
            assert!(stage.place() < Stage::ALL.len());
        }
    }
}
