//! Sees every stamp minted and applied, and knows the true time of it.

use std::collections::{BTreeMap, HashSet};

use clock::{Hlc, Stamp};

use super::log::{Entry, Mint};
use super::{MAX_ERROR_NS, SKEW_NS};

/// What nodes report.
#[derive(Debug)]
pub(crate) enum Observation {
    Minted { node: usize, first: Hlc, count: u32 },
    Applied(AppliedEntry),
    Elected { node: usize },
    Waited { stamp: Hlc },
    Happened(Happening),
}

/// What a run must have seen to prove anything, or must not have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    /// Peers contradict a clock.
    Contradicted,
    /// A backup refused entries from the future.
    Refused,
    /// Entries that were never acknowledged were overwritten.
    Overwritten,
    /// A snapshot replaced a log.
    Installed,
    /// A node died between the write of its ceiling and the first stamp under it.
    DiedAtCeiling,
}

/// One entry applied at one node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AppliedEntry {
    pub(crate) now_ns: u64,
    pub(crate) index: u64,
    pub(crate) entry: Entry,
    /// The stamp of the record before it.
    pub(crate) before: Hlc,
    pub(crate) first: Hlc,
    pub(crate) stamp: Option<Stamp>,
}

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Broken {
    /// I1: a final stamp is not above the one before it in the log.
    Order,
    /// Two nodes applied different things at one index.
    Divergence,
    /// I4: a stamp was committed that no good clock would have let in.
    Future,
    /// I5: a node issued a value twice.
    Twice,
    /// I6: the stored interval does not hold the time of stamping, or not the stamp.
    Interval,
}

/// A committed record with known bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) stamp: Stamp,
    pub(crate) mint: Mint,
}

#[derive(Debug, Default)]
pub(crate) struct Audit {
    pub(crate) breaks: BTreeMap<Broken, u64>,
    /// The first break of each kind, in words.
    pub(crate) told: BTreeMap<Broken, String>,
    applied: Vec<(Entry, Hlc)>,
    pub(crate) records: Vec<Record>,
    /// When a record was acknowledged after commit-wait, and its stamp.
    pub(crate) waited: Vec<(u64, Hlc)>,
    issued: Vec<HashSet<Hlc>>,
    /// Stamps issued; entries applied for the first time; proposals that the ratchet raised.
    pub(crate) minted: u64,
    pub(crate) committed: u64,
    pub(crate) raised: u64,
    pub(crate) happened: BTreeMap<Happening, u64>,
    /// When a primary was elected, and which.
    pub(crate) elections: Vec<(u64, usize)>,
}

impl Audit {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { issued: vec![HashSet::new(); nodes], ..Self::default() }
    }

    pub(crate) fn note(&mut self, now_ns: u64, observation: Observation) {
        match observation {
            Observation::Minted { node, first, count } => self.minted(node, first, count),
            Observation::Applied(applied) => self.applied(&applied),
            Observation::Waited { stamp } => self.waited.push((now_ns, stamp)),
            Observation::Happened(what) => *self.happened.entry(what).or_default() += 1,
            Observation::Elected { node } => self.elections.push((now_ns, node)),
        }
    }

    fn minted(&mut self, node: usize, first: Hlc, count: u32) {
        for step in 0..count {
            let value = first.advance(u64::from(step));
            self.minted += 1;
            if !self.issued[node].insert(value) {
                self.broken(Broken::Twice, || format!("node {node} issued {value} twice"));
            }
        }
    }

    fn applied(&mut self, applied: &AppliedEntry) {
        let AppliedEntry { now_ns, index, entry, before, first, stamp } = *applied;
        if first <= before {
            self.broken(Broken::Order, || format!("{first} follows {before} at index {index}"));
        }
        let at = usize::try_from(index - 1).unwrap();
        if let Some(known) = self.applied.get(at).copied() {
            if known != (entry, first) {
                self.broken(Broken::Divergence, || format!("index {index}: {known:?}"));
            }
            return;
        }
        assert_eq!(self.applied.len(), at, "the first to apply an index applied those before it");
        self.applied.push((entry, first));
        self.committed += 1;
        if let (Some(proposed), Some(stamp)) = (entry.proposed, stamp) {
            self.raised += u64::from(stamp.hlc != proposed.stamp.hlc);
            self.judge(now_ns, proposed.stamp, stamp, proposed.mint);
        }
    }

    /// A record that was just committed, for the first time anywhere.
    fn judge(&mut self, now_ns: u64, proposed: Stamp, stamp: Stamp, mint: Mint) {
        // Every good clock's latest is within twice the skew of true time.
        let limit_ns = now_ns + 2 * MAX_ERROR_NS + 2 * SKEW_NS;
        if proposed.hlc.ns > limit_ns {
            let by_ms = (proposed.hlc.ns - limit_ns) / 1_000_000;
            self.broken(Broken::Future, || format!("{by_ms} ms beyond every guard"));
        }
        let (Some(earliest_ns), Some(latest_ns)) = (stamp.earliest_ns(), stamp.latest_ns()) else {
            return;
        };
        if !mint.honest {
            return;
        }
        let held = |ns: u64| earliest_ns <= ns && ns <= latest_ns;
        if !held(stamp.hlc.ns) || !held(mint.true_ns) {
            self.broken(Broken::Interval, || format!("{stamp} minted at {}", mint.true_ns));
        }
        self.records.push(Record { stamp, mint });
    }

    fn broken(&mut self, what: Broken, text: impl FnOnce() -> String) {
        *self.breaks.entry(what).or_default() += 1;
        self.told.entry(what).or_insert_with(text);
    }

    pub(crate) fn count(&self, what: Broken) -> u64 {
        self.breaks.get(&what).copied().unwrap_or(0)
    }

    pub(crate) fn happened(&self, what: Happening) -> u64 {
        self.happened.get(&what).copied().unwrap_or(0)
    }

    pub(crate) fn assert_unbroken(&self) {
        assert!(self.breaks.is_empty(), "{:?} {:?}", self.breaks, self.told);
    }
}

/// Guarantee G4, over the records of any logs that saw the same time: if the intervals of two
/// records are disjoint, the order of their stamps is the order of their making. Returns how often
/// it is not.
pub(crate) fn false_orders(mut records: Vec<Record>) -> usize {
    records.sort_by_key(|record| record.stamp.hlc);
    // Among those with smaller stamps: the highest beginning of an interval.
    let mut earliest_ns = 0;
    let mut wrong = 0;
    for Record { stamp, .. } in &records {
        wrong += usize::from(stamp.latest_ns().unwrap() < earliest_ns);
        earliest_ns = earliest_ns.max(stamp.earliest_ns().unwrap());
    }
    // Among those whose intervals end before this one begins: the latest made.
    let mut by_end = records.clone();
    by_end.sort_by_key(|record| record.stamp.latest_ns());
    records.sort_by_key(|record| record.stamp.earliest_ns());
    let (mut ended, mut made_ns) = (by_end.iter().peekable(), 0);
    for Record { stamp, mint } in &records {
        while let Some(before) = ended.next_if(|r| r.stamp.latest_ns() < stamp.earliest_ns()) {
            made_ns = made_ns.max(before.mint.true_ns);
        }
        wrong += usize::from(mint.true_ns < made_ns);
    }
    wrong
}

/// Guarantee G5, over any logs: what is stamped anywhere after a commit-wait has ended has a larger
/// stamp. Returns how many records do not.
pub(crate) fn overtaken(mut records: Vec<Record>, mut waited: Vec<(u64, Hlc)>) -> usize {
    records.sort_by_key(|record| record.mint.true_ns);
    waited.sort_unstable();
    let (mut ended, mut highest) = (waited.iter().peekable(), Hlc::ZERO);
    let mut wrong = 0;
    for Record { stamp, mint } in &records {
        while let Some((_, stamp)) = ended.next_if(|(at_ns, _)| *at_ns < mint.true_ns) {
            highest = highest.max(*stamp);
        }
        wrong += usize::from(stamp.hlc <= highest);
    }
    wrong
}
