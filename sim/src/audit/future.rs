//! Stamps from the future: a node whose clock is good lets none into its log that no honest primary could
//! have minted, unless it is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clock::Hlc;

use super::At;
use crate::world::WALL_NS;

/// How far an honest stamp is ahead of true time at most, with much to spare.
const AHEAD_MAX: Duration = Duration::from_secs(2);

/// What was seen of them.
#[derive(Debug, Default)]
pub(super) struct Future {
    /// Who must refuse an entry: nodes whose clock was good when it was sent.
    refused_by: BTreeMap<At, BTreeSet<String>>,
    /// The highest stamp that somebody could let in, nanoseconds: others may count on from it.
    let_in_ns: u64,
    /// The node whose own clock has jumped.
    jumped: Option<String>,
}

/// Whether a stamp is further ahead than an honest one can be.
fn is_ahead(stamp: Hlc, now: Duration) -> bool {
    let limit_ns = u128::from(WALL_NS) + (now + AHEAD_MAX).as_nanos();
    u128::from(stamp.ns) > limit_ns
}

impl Future {
    /// The clock of a node jumps: it is no judge, and mints what the others must refuse.
    pub(super) fn jumps(&mut self, name: &str) {
        self.jumped = Some(name.to_owned());
    }

    /// An entry is sent for the first time. `good` are the nodes whose clocks are good.
    pub(super) fn sent(
        &mut self,
        at: At,
        stamp: Hlc,
        now: Duration,
        good: impl FnOnce() -> BTreeSet<String>,
    ) {
        if is_ahead(stamp, now) && stamp.ns > self.let_in_ns {
            self.refused_by.entry(at).or_insert_with(good);
        }
    }

    /// A node, whose clock is good or not, acknowledges an entry. What is wrong with that.
    pub(super) fn taken(
        &mut self,
        (name, is_good): (&str, bool),
        (at, is_committed): (At, bool),
        stamp: Hlc,
        now: Duration,
    ) -> Option<String> {
        let refuses = self.refused_by.get(&at).is_some_and(|names| names.contains(name));
        let may_not = refuses && is_good && self.jumped.as_deref() != Some(name);
        // A stamp that true time has caught up with is one of now.
        if may_not && !is_committed && stamp.ns > self.let_in_ns && is_ahead(stamp, now) {
            let (term, index) = at;
            let ahead_ms = stamp.ns.saturating_sub(WALL_NS) / 1_000_000;
            let ahead_ms = u128::from(ahead_ms).saturating_sub(now.as_millis());
            return Some(format!(
                "{name} takes entry {index} of term {term}, stamped {ahead_ms} ms in the future"
            ));
        }
        if is_ahead(stamp, now) {
            self.let_in_ns = self.let_in_ns.max(stamp.ns);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_clock_lets_no_stamp_from_the_future_in() {
        let now = Duration::from_secs(9);
        let far = Hlc::from_ns(WALL_NS + 15_000_000_000);
        let good = || BTreeSet::from(["n2".to_owned(), "n1".to_owned()]);
        let mut seen = Future::default();
        seen.jumps("n1");
        seen.sent((1, 5), far, now, good);
        assert_eq!(seen.taken(("n2", true), ((1, 5), true), far, now), None, "committed");
        let mut seen = Future::default();
        seen.jumps("n1");
        seen.sent((1, 5), far, now, good);
        assert!(seen.taken(("n2", true), ((1, 5), false), far, now).is_some());
        assert_eq!(seen.taken(("n1", true), ((1, 5), false), far, now), None, "its own");
        let later = Duration::from_secs(14);
        assert_eq!(seen.taken(("n2", true), ((1, 5), false), far, later), None, "caught up with");
        let near = Hlc::from_ns(WALL_NS + 9_500_000_000);
        seen.sent((1, 6), near, now, good);
        assert_eq!(seen.taken(("n2", true), ((1, 6), false), near, now), None);
    }
}
