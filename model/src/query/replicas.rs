//! Whether one replica's state is that of the others, by the digests that each of them tells of its own
//! state behind the same entry.
//!
//! Invariants:
//! * nobody is judged by what it says of itself alone, or by what one other says: only a majority of the
//!   voters that holds one and the same digest makes another one wrong;
//! * what nobody has said is not known, and counts for neither side.
//!
//! Not here: which entries are compared, and that all mean the same one (`daemon::node::states`).

use std::collections::{BTreeMap, BTreeSet};

use crate::rows::hash::Hash;

/// What becomes of a replica that compares itself with the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Too few have told.
    Unknown,
    /// A majority, it among them where it votes, holds the same.
    Same,
    /// A majority without it holds something else; who that is.
    Differs(Vec<String>),
    /// They differ, and whatever is still told, no majority can hold the same: nobody is right by that.
    Undecided,
}

/// Judges the replica `own` that holds a digest. `told` is what the others tell of themselves; only
/// voters count.
#[must_use]
pub fn judge(
    own: (&str, &Hash),
    voters: &BTreeSet<String>,
    told: &BTreeMap<String, Hash>,
) -> Verdict {
    let (myself, mine) = own;
    let majority = voters.len() / 2 + 1;
    let mut holders: BTreeMap<&Hash, Vec<&str>> = BTreeMap::new();
    for (name, digest) in told {
        if voters.contains(name) && name != myself {
            holders.entry(digest).or_default().push(name);
        }
    }
    let told_by: usize = holders.values().map(Vec::len).sum();
    let votes = usize::from(voters.contains(myself));
    assert!(told_by + votes <= voters.len(), "each voter tells once");
    let silent = voters.len().saturating_sub(told_by + votes);
    let same = holders.get(mine).map_or(0, Vec::len) + votes;
    let other = holders.iter().filter(|(digest, _)| **digest != mine);
    let other = other.map(|(_, names)| names).max_by_key(|names| names.len());
    let most = other.map_or(0, Vec::len);
    assert!(most < majority || same < majority, "there are no two majorities");
    match other {
        Some(names) if names.len() >= majority => {
            Verdict::Differs(names.iter().map(ToString::to_string).collect())
        }
        _ if same >= majority => Verdict::Same,
        Some(names) if names.len().max(same) + silent < majority => Verdict::Undecided,
        Some(_) | None => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdicts of n1 to n9 as far as they are there, each of which holds the digest of its letter, or
    /// is silent (`.`); the last `learners` of them have no vote.
    fn verdicts(held: &str, learners: usize) -> String {
        let names: Vec<_> = (1..=held.len()).map(|n| format!("n{n}")).collect();
        let voters = names.iter().take(held.len() - learners).cloned().collect();
        let told: BTreeMap<_, _> = names.iter().zip(held.bytes()).collect();
        let mut out = String::new();
        for (name, byte) in &told {
            if *byte == b'.' {
                out.push('.');
                continue;
            }
            let others = told.iter().filter(|(other, byte)| *other != name && **byte != b'.');
            let others = others.map(|(other, byte)| (other.to_string(), [*byte; 32])).collect();
            out.push(match judge((name, &[*byte; 32]), &voters, &others) {
                Verdict::Unknown => '?',
                Verdict::Same => '=',
                Verdict::Differs(with) => {
                    assert!(with.len() > voters.len() / 2 && !with.contains(name), "{with:?}");
                    '!'
                }
                Verdict::Undecided => 'x',
            });
        }
        out
    }

    /// Seen to fail with a majority of those that told instead of all voters, with the replica's own
    /// digest counted for the others, and with learners counted.
    #[test]
    fn only_a_majority_of_the_voters_makes_another_one_wrong() {
        for (held, learners, expected) in [
            ("a", 0, "="),
            ("aa", 0, "=="),
            ("ab", 0, "xx"),
            ("a.", 0, "?."),
            ("aaa", 0, "==="),
            ("aab", 0, "==!"),
            ("abb", 0, "!=="),
            ("abc", 0, "xxx"),
            ("ab.", 0, "??."),
            ("aa.", 0, "==."),
            ("a..", 0, "?.."),
            ("aabb", 0, "xxxx"),
            ("aaab", 0, "===!"),
            ("aab.", 0, "???."),
            ("aabbb", 0, "!!==="),
            ("aabbc", 0, "xxxxx"),
            ("aabb.", 0, "????."),
            ("abc..", 0, "???.."),
            ("abcd.", 0, "xxxx."),
            // The last has no vote, and is judged all the same.
            ("aaab", 1, "===!"),
            ("abb", 1, "xxx"),
            ("aabb", 1, "==!!"),
            ("aba", 1, "xxx"),
        ] {
            assert_eq!(verdicts(held, learners), expected, "{held} {learners}");
        }
    }
}
