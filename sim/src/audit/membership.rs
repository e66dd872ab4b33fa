//! Who decides, and by which store: a raft id is that of one store for ever, and voters change by way of
//! a step that the old ones and the new ones both decide.

use std::collections::{BTreeMap, BTreeSet};

use log::StoreId;

use super::At;

/// What was seen of the membership.
#[derive(Default)]
pub(super) struct Membership {
    /// The first store of each raft id.
    stores: BTreeMap<u64, StoreId>,
    /// The sets of voters from each entry on, by index: the last ones that were sent.
    voters: BTreeMap<u64, (u64, Vec<BTreeSet<u64>>)>,
}

impl Membership {
    /// A store begins under a raft id. What is wrong with that.
    pub(super) fn has_store(&mut self, raft_id: u64, store: StoreId) -> Option<String> {
        let first = self.stores.entry(raft_id).or_insert(store);
        (*first != store).then(|| format!("a second store has the raft id {raft_id}"))
    }

    /// A primary sends an entry with these voters. What is wrong with that.
    pub(super) fn is(&mut self, (term, index): At, sets: &[BTreeSet<u64>]) -> Option<String> {
        let known = self.voters.get(&index).is_some_and(|(known, _)| *known == term);
        if known {
            return None;
        }
        // What came after it was of another history.
        self.voters.split_off(&index);
        let before = self.voters.last_key_value().map(|(_, (_, before))| before.as_slice());
        let wrong = match (before, sets) {
            (Some([before]), [now]) if before != now => {
                Some(format!("entry {index} changes the voters from {before:?} to {now:?} at once"))
            }
            _ => None,
        };
        self.voters.insert(index, (term, sets.to_vec()));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(sets: &[&[u64]]) -> Vec<BTreeSet<u64>> {
        sets.iter().map(|set| set.iter().copied().collect()).collect()
    }

    #[test]
    fn voters_change_by_way_of_both() {
        let mut seen = Membership::default();
        assert_eq!(seen.is((1, 4), &sets(&[&[1, 2, 3]])), None);
        assert_eq!(seen.is((1, 5), &sets(&[&[1, 2, 3], &[1, 2, 3, 4]])), None);
        assert_eq!(seen.is((1, 6), &sets(&[&[1, 2, 3, 4]])), None);
        assert_eq!(seen.is((1, 6), &sets(&[&[1, 2, 3, 4]])), None, "sent again");
        assert!(seen.is((1, 9), &sets(&[&[1, 2, 3]])).is_some());
    }

    #[test]
    fn a_raft_id_is_one_stores() {
        let mut seen = Membership::default();
        assert_eq!(seen.has_store(1, [1; 16]), None);
        assert_eq!(seen.has_store(1, [1; 16]), None);
        assert!(seen.has_store(1, [2; 16]).is_some());
    }
}
