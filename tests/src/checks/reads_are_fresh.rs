//! Promise 4, fresh: a read holds everything that was acknowledged before it began, through any
//! node, and never less than an earlier read through the same node.
//!
//! Negative control: below, and a daemon whose reads asked nobody.

use std::collections::BTreeMap;

use crate::freshness::Seen;

/// Reads that lacked something.
#[must_use]
pub fn reads_are_fresh(reads: &[Seen]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut furthest: BTreeMap<&str, u64> = BTreeMap::new();
    for Seen { node, acked, last } in reads {
        let before = furthest.entry(node).or_default();
        if last < acked {
            wrong.push(format!("{node} showed {last} although {acked} was acknowledged"));
        } else if last < before {
            wrong.push(format!("{node} went back from {before} to {last}"));
        }
        *before = (*before).max(*last);
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_read_is_found() {
        let read = |node: &str, acked, last| Seen { node: node.to_owned(), acked, last };
        assert!(reads_are_fresh(&[read("n1", 1, 2), read("n2", 1, 1)]).is_empty());
        assert_eq!(reads_are_fresh(&[read("n1", 2, 1)]).len(), 1);
        assert_eq!(reads_are_fresh(&[read("n1", 1, 5), read("n1", 1, 4)]).len(), 1);
    }
}
