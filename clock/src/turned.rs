//! A server that was believed for long and is called a falseticker now.
//!
//! One node cannot tell whether such a server went wrong, or whether more of the others lie than may. If
//! all nodes turn against it at once, nobody can: that is said, and nothing follows from it.
//!
//! Not here: what a falseticker is (`select`), how the nodes hear of each other (`daemon`).

use std::collections::BTreeSet;

use crate::source::Verdict;

/// How long a server has to have been selected before it is told that it is not any more, in
/// nanoseconds: three minutes, which no start lasts, and which is three exchanges at the slowest poll of
/// a start.
pub const LONG_NS: u64 = 180 * 1_000_000_000;

/// What is remembered of one server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trust {
    /// Raw counter since when it is selected, nanoseconds; a lost answer in between does not count.
    since_ns: Option<u64>,
    turned: bool,
}

impl Trust {
    /// Takes the verdict of a round at a value of the raw counter.
    pub fn judged(&mut self, verdict: Verdict, raw_ns: u64) {
        match verdict {
            Verdict::Selected => {
                self.since_ns.get_or_insert(raw_ns);
                self.turned = false;
            }
            Verdict::Falseticker => {
                let long = |since_ns| raw_ns.saturating_sub(since_ns) >= LONG_NS;
                self.turned |= self.since_ns.take().is_some_and(long);
            }
            Verdict::Waiting
            | Verdict::TooFew
            | Verdict::Disagrees
            | Verdict::Unreachable
            | Verdict::Kiss(_)
            | Verdict::Rejected(_)
            | Verdict::Failed(_) => {}
        }
    }

    /// Whether it is a falseticker that had been selected for long.
    #[must_use]
    pub fn has_turned(self) -> bool {
        self.turned
    }
}

/// The servers that are doubtful: this node and every other one that measures has turned against them.
/// `others` is what each of those says; with none, one node's verdict is what it always is.
#[must_use]
pub fn doubtful(own: &BTreeSet<String>, others: &[BTreeSet<String>]) -> BTreeSet<String> {
    if others.is_empty() {
        return BTreeSet::new();
    }
    own.iter().filter(|server| others.iter().all(|set| set.contains(*server))).cloned().collect()
}

#[cfg(test)]
mod tests {
    //! Seen to fail with: a server called turned that was believed for a moment only, and one called
    //! doubtful that another node still believes.

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn only_who_was_believed_for_long_turns() {
        let turned = |verdicts: &[(u64, Verdict)]| {
            let mut trust = Trust::default();
            verdicts.iter().for_each(|(s, verdict)| trust.judged(*verdict, s * SECOND_NS));
            trust.has_turned()
        };
        let (good, bad) = (Verdict::Selected, Verdict::Falseticker);
        let lost = Verdict::Failed(crate::Failure::Timeout);
        assert!(turned(&[(1, good), (100, lost), (181, bad)]));
        assert!(turned(&[(1, good), (181, bad), (182, bad), (183, lost)]));
        assert!(!turned(&[(1, good), (180, bad)]));
        assert!(!turned(&[(1, bad), (700, bad)]));
        assert!(!turned(&[(1, good), (100, bad), (101, good), (200, bad)]));
        assert!(!turned(&[(1, good), (700, bad), (701, good)]), "believed again");
    }

    #[test]
    fn doubtful_is_what_all_turned_against() {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let (a, ab, none): (BTreeSet<_>, _, _) = (set(&["a"]), set(&["a", "b"]), set(&[]));
        assert_eq!(doubtful(&ab, &[a.clone(), ab.clone()]), a);
        assert_eq!(doubtful(&ab, &[a.clone(), none.clone()]), none);
        assert_eq!(doubtful(&none, std::slice::from_ref(&a)), none);
        assert_eq!(doubtful(&a, &[]), none);
    }
}
