//! Which records of a list may have happened in another order than they are listed in.
//!
//! The log's order is exact, and it is the order of the stamps. Whether it is also the order in
//! real time is known only where the bounds do not overlap: a record whose interval lies wholly
//! after those of all records before it certainly was stamped after them.
//!
//! Not here: how the mark looks (`ctl`).

use crate::stamp::Stamp;

/// Goes through the records of one list, in the order in which they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overlap {
    before: LatestSoFar,
}

/// The largest latest time of the records so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum LatestSoFar {
    #[default]
    Nothing,
    UpTo(u64),
    /// One of them has unknown bounds: it may have been stamped at any time.
    Unknown,
}

impl Overlap {
    /// Takes the next record of the list. True if its order in real time against some record
    /// before it is unknown: its earliest time is not after all their latest, or a bound that is
    /// needed is not known. The first record is never marked: nothing is before it.
    pub fn next(&mut self, stamp: &Stamp) -> bool {
        let marked = match (self.before, stamp.earliest_ns()) {
            (LatestSoFar::Nothing, _) => false,
            (LatestSoFar::UpTo(latest_ns), Some(earliest_ns)) => earliest_ns <= latest_ns,
            (LatestSoFar::Unknown, _) | (LatestSoFar::UpTo(_), None) => true,
        };
        self.before = match (self.before, stamp.latest_ns()) {
            (LatestSoFar::Unknown, _) | (_, None) => LatestSoFar::Unknown,
            (LatestSoFar::Nothing, Some(latest_ns)) => LatestSoFar::UpTo(latest_ns),
            (LatestSoFar::UpTo(before_ns), Some(latest_ns)) => {
                LatestSoFar::UpTo(before_ns.max(latest_ns))
            }
        };
        marked
    }
}
