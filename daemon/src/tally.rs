//! Counts what is applied: messages, those that came again, and how often the order of two neighbours is
//! proven by their bounds.
//!
//! Two messages whose intervals do not meet were stamped in that order, whoever looks. Where they meet, or
//! one has no bounds, the order is agreed and nobody can prove it.

use std::sync::Arc;

use clock::Stamp;
use model::Outcome;
use parking_lot::Mutex;

/// So many of the last pairs are told apart.
const LAST: usize = 1024;

/// What a node has counted since it started. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    told: Tallied,
    /// The last message, once there was one.
    before: Option<Before>,
    /// Whether each of the last pairs is unproven, and where the oldest is once all are there.
    last: Vec<bool>,
    at: usize,
}

/// Up to when the last message can have been stamped, if that is known.
#[derive(Debug, Clone, Copy)]
struct Before(Option<u64>);

/// The counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tallied {
    /// Messages and events.
    pub(crate) records: u64,
    /// Those that were stored before.
    pub(crate) duplicates: u64,
    /// Neighbours.
    pub(crate) pairs: u64,
    /// Those whose order is not proven.
    pub(crate) unproven: u64,
    /// The same of the last ones.
    pub(crate) last: u64,
    /// The same of the last ones.
    pub(crate) last_unproven: u64,
}

impl Tally {
    /// Counts what commands came to, in the order of the log.
    pub(crate) fn count<'o>(&self, outcomes: impl Iterator<Item = &'o Outcome>) {
        let mut counts = self.0.lock();
        for outcome in outcomes {
            let Outcome::Sent(ack) = outcome else { continue };
            if ack.duplicate {
                counts.told.duplicates += 1;
            } else {
                counts.told.records += 1;
                let stamp = ack.stamp.as_slice().try_into().map(Stamp::from_bytes);
                counts.follows(stamp.ok());
            }
        }
    }

    pub(crate) fn told(&self) -> Tallied {
        let counts = self.0.lock();
        let last_unproven = counts.last.iter().filter(|unproven| **unproven).count() as u64;
        Tallied { last: counts.last.len() as u64, last_unproven, ..counts.told }
    }
}

impl Counts {
    fn follows(&mut self, stamp: Option<Stamp>) {
        let earliest = stamp.and_then(Stamp::earliest_ns);
        let latest = stamp.and_then(Stamp::latest_ns);
        let Some(Before(before)) = self.before.replace(Before(latest)) else { return };
        let proven = before.zip(earliest).is_some_and(|(before, earliest)| before < earliest);
        self.told.pairs += 1;
        self.told.unproven += u64::from(!proven);
        if self.last.len() < LAST {
            self.last.push(!proven);
        } else if let Some(oldest) = self.last.get_mut(self.at) {
            *oldest = !proven;
            self.at = (self.at + 1) % LAST;
        }
    }
}

#[cfg(test)]
mod tests {
    use clock::Hlc;
    use proto::wire::Ack;

    use super::*;

    fn sent(at_us: u64, bound_us: Option<u32>, duplicate: bool) -> Outcome {
        let hlc = Hlc::from_ns(1_000_000_000 + at_us * 1000);
        let mut stamp = Stamp::unbounded(hlc);
        if let Some(us) = bound_us {
            (stamp.early_us, stamp.late_us) = (us, us);
        }
        Outcome::Sent(Ack { stamp: stamp.to_bytes().to_vec(), duplicate, ..Ack::default() })
    }

    /// Meant to catch: a pair proven where the intervals touch, and one whose first has no bounds.
    #[test]
    fn neighbours_are_proven_where_their_bounds_do_not_meet() {
        let tally = Tally::default();
        let outcomes = [
            sent(0, Some(10), false),
            Outcome::Done,
            sent(21, Some(10), false),
            sent(5, Some(1), true),
            sent(41, Some(10), false),
            sent(100, None, false),
            sent(200, Some(10), false),
        ];
        tally.count(outcomes.iter());
        let told =
            Tallied { records: 5, duplicates: 1, pairs: 4, unproven: 3, last: 4, last_unproven: 3 };
        assert_eq!(tally.told(), told);
    }

    /// Meant to catch: the oldest kept.
    #[test]
    fn only_the_last_pairs_are_remembered() {
        let tally = Tally::default();
        let few = LAST as u64 / 2;
        let spaced =
            |from: u64, to: u64, us| (from..=to).map(move |n| sent(n * 100, Some(us), false));
        // Each of these meets the next, and none of those that follow does.
        let outcomes: Vec<_> =
            spaced(0, few, 60).chain(spaced(few + 1, few + LAST as u64, 1)).collect();
        tally.count(outcomes.iter());
        let Tallied { unproven, last, last_unproven, .. } = tally.told();
        assert_eq!((unproven, last, last_unproven), (few, LAST as u64, 0));
    }
}
