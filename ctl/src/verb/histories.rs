//! Whether the nodes have one history: the chain hashes of their logs at the same entries. Where they
//! differ, from which entry on, and who is on which side. Neither side is right or wrong by that.

use std::collections::BTreeMap;
use std::fmt;

use proto::Name;
use proto::attest::Place;
use proto::limits::PLACES_MAX;
use proto::wire::{self, Op, Reply, Verified};

use crate::each_node::EachNode;

/// Rounds of questions at most; each divides what is left by the number of places in one.
const ROUNDS: usize = 16;

/// The nodes by the chain hash that they have at an entry.
type Sides = BTreeMap<Vec<u8>, Vec<String>>;

/// Two or more histories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Histories {
    /// Index of the first entry that is known to differ.
    from: u64,
    /// Whether the entry before it is known to be the same everywhere.
    exact: bool,
    sides: Sides,
}

impl Histories {
    /// What is to be said of a node; `None` if it was not compared.
    pub(super) fn side_of(&self, node: &str) -> Option<String> {
        let (hash, with) =
            self.sides.iter().find(|(_, nodes)| nodes.iter().any(|name| name == node))?;
        let (from, hash) = (self.from, short(hash));
        let others: Vec<&str> =
            with.iter().map(String::as_str).filter(|name| *name != node).collect();
        let with = match others.as_slice() {
            [] => String::new(),
            others => format!(" with {}", others.join(", ")),
        };
        Some(format!("has {hash} at log index {from}{with}"))
    }
}

impl fmt::Display for Histories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sides: Vec<String> = self.sides.values().map(|nodes| nodes.join(", ")).collect();
        let (from, sides) = (self.from, sides.join(" / "));
        let place = if self.exact { "from" } else { "at the latest from" };
        write!(f, "two histories {place} log index {from} on: {sides}; none is called wrong")
    }
}

fn short(hash: &[u8]) -> String {
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Compares the nodes that have answered; `None` if they have one history as far as can be told.
pub(super) async fn compare(
    each: &EachNode,
    answers: impl Iterator<Item = &Verified>,
) -> Option<Histories> {
    let mut search = Search::new(answers)?;
    for _ in 0..ROUNDS {
        let places = search.places();
        if places.is_empty() {
            break;
        }
        let op = Op::Verify(wire::Verify { deep: false, places });
        let told = each.ask_all(&search.nodes, &op).await.into_iter();
        let told = told.filter_map(|(node, reply)| match reply {
            Ok(Reply::Verified(verified)) => Some((node.to_string(), verified.places)),
            Ok(_) | Err(_) => None,
        });
        if !search.take(told.collect()) {
            break;
        }
    }
    search.found()
}

/// A search for the first entry that differs.
#[derive(Debug)]
struct Search {
    nodes: Vec<Name>,
    /// The last entry that is known to be the same everywhere; `None` before one is known.
    same: Option<u64>,
    /// Index of the first place that all of them still tell.
    first: u64,
    /// Index of the last place that all of them have committed.
    last: u64,
    /// The first entry that is known to differ.
    differs: Option<(u64, Sides)>,
    asked_ends: bool,
}

impl Search {
    /// `None` where there is nothing to compare.
    fn new<'a>(answers: impl Iterator<Item = &'a Verified>) -> Option<Self> {
        let answers: Vec<&Verified> = answers.filter(|node| node.committed.is_some()).collect();
        let nodes: Vec<Name> = answers.iter().filter_map(|node| node.node.parse().ok()).collect();
        let first = answers.iter().map(|node| node.first).max()?;
        let last = answers.iter().filter_map(|node| node.committed.as_ref()).map(|p| p.index);
        let last = last.min()?;
        (nodes.len() > 1 && first <= last).then_some(Self {
            nodes,
            same: None,
            first,
            last,
            differs: None,
            asked_ends: false,
        })
    }

    /// What to ask for next; nothing once it is known.
    fn places(&self) -> Vec<u64> {
        if !self.asked_ends {
            return vec![self.first, self.last];
        }
        let (Some(same), Some((differs, _))) = (self.same, &self.differs) else {
            return Vec::new();
        };
        let between = differs.saturating_sub(same).saturating_sub(1);
        let count = between.min(PLACES_MAX as u64);
        (1..=count).map(|n| same + n * between.div_ceil(count)).filter(|at| at < differs).collect()
    }

    /// Takes what the nodes have told; false if they no longer tell enough.
    fn take(&mut self, told: BTreeMap<String, Vec<Place>>) -> bool {
        self.asked_ends = true;
        let mut at: BTreeMap<u64, Sides> = BTreeMap::new();
        for (node, places) in told {
            for place in places {
                let sides = at.entry(place.index).or_default();
                sides.entry(place.hash).or_default().push(node.clone());
            }
        }
        let all = self.nodes.len();
        let mut news = false;
        for (index, sides) in at {
            if sides.values().map(Vec::len).sum::<usize>() < all {
                continue;
            }
            if sides.len() == 1 {
                news |= self.same.is_none_or(|same| index > same);
                self.same = self.same.max(Some(index));
            } else if self.differs.as_ref().is_none_or(|(differs, _)| index < *differs) {
                news = true;
                self.differs = Some((index, sides));
            }
        }
        news
    }

    fn found(self) -> Option<Histories> {
        let (from, sides) = self.differs?;
        let exact = self.same.is_some_and(|same| same + 1 == from) || from == 0;
        Some(Histories { from, exact, sides })
    }
}

/// Meant to catch the first place that differs in a round taken for the first of all.
#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, first: u64, committed: u64) -> Verified {
        let committed = Some(Place { index: committed, term: 1, hash: vec![0; 32] });
        Verified { node: name.to_owned(), first, committed, ..Verified::default() }
    }

    /// Runs the search against logs that are the same before `fork`.
    fn search(nodes: &[(&str, u64, u64, u8)], fork: u64) -> Option<Histories> {
        let answers: Vec<_> =
            nodes.iter().map(|(n, first, last, _)| node(n, *first, *last)).collect();
        let mut search = Search::new(answers.iter())?;
        for _ in 0..ROUNDS {
            let places = search.places();
            assert!(places.len() <= PLACES_MAX, "{places:?}");
            if places.is_empty() {
                break;
            }
            let told = nodes.iter().map(|(name, first, last, side)| {
                let held = places.iter().filter(|at| *first <= **at && **at <= *last);
                let hash = |at: u64| vec![if at < fork { 0 } else { *side }; 32];
                let place = |at: &u64| Place { index: *at, term: 1, hash: hash(*at) };
                ((*name).to_owned(), held.map(place).collect())
            });
            if !search.take(told.collect()) {
                break;
            }
        }
        search.found()
    }

    #[test]
    fn the_first_entry_that_differs_is_found() {
        for fork in [1, 2, 63, 64, 65, 131, 99_999, 100_000] {
            let nodes =
                [("n1", 0, 120_000, b'b'), ("n2", 0, 130_000, b'b'), ("n3", 0, 100_000, b'a')];
            let found = search(&nodes, fork).unwrap();
            assert_eq!((found.from, found.exact), (fork, true));
            let text = found.to_string();
            assert!(text.starts_with(&format!("two histories from log index {fork} on: ")));
            assert!(text.contains("n1, n2") && text.contains("n3"), "{text}");
            assert!(found.side_of("n1").unwrap().ends_with("with n2"));
            assert_eq!(found.side_of("n4"), None);
        }
    }

    #[test]
    fn one_history_is_none_and_what_was_purged_is_said() {
        let nodes = [("n1", 0, 120, b'b'), ("n2", 0, 130, b'a')];
        assert_eq!(search(&nodes, 500), None, "where only one has committed");
        assert_eq!(search(&nodes[..1], 1), None);
        let purged = [("n1", 100, 120, b'b'), ("n2", 0, 130, b'a')];
        let found = search(&purged, 50).unwrap();
        assert_eq!((found.from, found.exact), (100, false));
        assert!(found.to_string().contains("at the latest from log index 100"));
        let apart = [("n1", 200, 220, b'b'), ("n2", 0, 130, b'a')];
        assert_eq!(search(&apart, 50), None, "nothing to compare");
    }
}
