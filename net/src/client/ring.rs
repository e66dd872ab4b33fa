//! The ring of gateways that requests go around, and whose turn it is.
//!
//! "Try the next one" after a failure would keep a dead node's turns and give all of them to its
//! neighbour: of twelve requests over three nodes with the middle one dead, 4/0/8. Here a node leaves
//! the ring at its first failure, and the cursor means *the next healthy node after the last one
//! used*: 6/0/6.
//!
//! Not here: where the cursor is kept. [`Turns`] is pure, [`MemoryRing`] keeps it for one process, and
//! `logctl` keeps it in a file that parallel processes share.

use std::cmp::Ordering;

use parking_lot::Mutex;
use proto::member::ring_order;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How long a node that failed stays out of the ring, in milliseconds, unless the live list shows
/// earlier that it is back. Longer than the cluster takes to notice a dead node, after which the
/// list itself leaves it out.
const OUT_MS: u64 = 10_000;

/// A node that clients should be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// Its name.
    pub name: String,
    /// Number of starts of its store; 0 if unknown.
    pub incarnation: u64,
    /// Whether it was not heard for a moment.
    pub suspect: bool,
}

/// Whose turn it is.
pub trait Ring: std::fmt::Debug + Send + Sync {
    /// Takes the next turn among these nodes, which are in the order of the ring. `None` if there
    /// are none. A turn is taken once, whoever asks at the same time.
    fn next(&self, live: &[LiveNode]) -> Option<String>;

    /// A node was of no use: it leaves the ring for a while.
    fn failed(&self, node: &LiveNode);

    /// A request went to a node out of turn, and was answered.
    fn used(&self, node: &str);
}

/// The cursor, and the nodes that are out of the ring.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    /// The node used last; empty before the first.
    last: String,
    out: Vec<Out>,
}

/// A node that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Out {
    node: String,
    /// Which start of it failed: a later one may be tried.
    incarnation: u64,
    /// Whether the list has called it suspect since; when it no longer does, it is back.
    suspect: bool,
    since_ms: u64,
}

impl Out {
    /// Whether the node is still to be left out.
    fn holds(&self, live: &[LiveNode], now_ms: u64) -> bool {
        // A clock that was reset lies before what was noted.
        let age = now_ms.checked_sub(self.since_ms);
        // Where the list has left it out by itself, the list also says when it is back.
        let Some(node) = live.iter().find(|node| node.name == self.node) else { return false };
        let back = node.incarnation != self.incarnation || self.suspect && !node.suspect;
        !back && age.is_some_and(|age| age < OUT_MS)
    }
}

impl Turns {
    /// See [`Ring::next`]; `now_ms` is any clock that does not go back, and need not mean anything.
    pub fn next(&mut self, live: &[LiveNode], now_ms: u64) -> Option<String> {
        self.out.retain(|out| out.holds(live, now_ms));
        for out in &mut self.out {
            out.suspect |= live.iter().any(|node| node.name == out.node && node.suspect);
        }
        if self.out.len() >= live.len() {
            // Nobody is left, so whatever was noted helps no more.
            self.out.clear();
        }
        let healthy = |node: &&LiveNode| !self.out.iter().any(|out| out.node == node.name);
        let after = |node: &&LiveNode| ring_order(&node.name, &self.last) == Ordering::Greater;
        let mut ring = live.iter().filter(healthy);
        let next = ring.clone().find(after).or_else(|| ring.next())?;
        self.last.clone_from(&next.name);
        Some(next.name.clone())
    }

    /// See [`Ring::failed`].
    pub fn failed(&mut self, node: &LiveNode, now_ms: u64) {
        self.out.retain(|out| out.node != node.name);
        self.out.push(Out {
            node: node.name.clone(),
            incarnation: node.incarnation,
            suspect: node.suspect,
            since_ms: now_ms,
        });
    }

    /// See [`Ring::used`].
    pub fn used(&mut self, node: &str) {
        self.out.retain(|out| out.node != node);
        node.clone_into(&mut self.last);
    }
}

/// The cursor of one process.
#[derive(Debug)]
pub struct MemoryRing {
    began: Instant,
    turns: Mutex<Turns>,
}

impl Default for MemoryRing {
    fn default() -> Self {
        Self { began: Instant::now(), turns: Mutex::default() }
    }
}

impl MemoryRing {
    fn with<T>(&self, act: impl FnOnce(&mut Turns, u64) -> T) -> T {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        act(&mut self.turns.lock(), now_ms)
    }
}

impl Ring for MemoryRing {
    fn next(&self, live: &[LiveNode]) -> Option<String> {
        self.with(|turns, now_ms| turns.next(live, now_ms))
    }

    fn failed(&self, node: &LiveNode) {
        self.with(|turns, now_ms| turns.failed(node, now_ms));
    }

    fn used(&self, node: &str) {
        self.with(|turns, _| turns.used(node));
    }
}

#[cfg(test)]
mod tests {
    //! Seen to fail with the failed node's turns given to its neighbour (the cursor moved by place
    //! and not by who was used: 5/0/7), with `out` never shortened (a node that is back gets no
    //! turn), and with `next` that does not move the cursor.

    use std::collections::BTreeMap;

    use super::*;

    fn live(names: &[&str]) -> Vec<LiveNode> {
        let node =
            |name: &&str| LiveNode { name: (*name).to_owned(), incarnation: 1, suspect: false };
        names.iter().map(node).collect()
    }

    /// Requests one after the other; returns who answered how often, and the failed attempts.
    fn requests(
        turns: &mut Turns,
        live: &[LiveNode],
        dead: &[&str],
        count: usize,
    ) -> (Vec<u32>, u32) {
        let mut counts: BTreeMap<String, u32> = live.iter().map(|n| (n.name.clone(), 0)).collect();
        let mut failed = 0;
        for _ in 0..count {
            loop {
                let node = turns.next(live, 0).unwrap();
                if !dead.contains(&node.as_str()) {
                    *counts.get_mut(&node).unwrap() += 1;
                    break;
                }
                failed += 1;
                turns.failed(live.iter().find(|live| live.name == node).unwrap(), 0);
            }
        }
        (counts.into_values().collect(), failed)
    }

    #[test]
    fn turns_are_even_for_any_number_of_nodes_and_requests() {
        for (names, count, wanted) in [
            (&["n1", "n2", "n3"][..], 12, vec![4, 4, 4]),
            (&["n1", "n2", "n3", "n4"], 12, vec![3, 3, 3, 3]),
            (&["n1", "n2", "n3"], 10, vec![4, 3, 3]),
            (&["n1"], 5, vec![5]),
        ] {
            let mut turns = Turns::default();
            assert_eq!(requests(&mut turns, &live(names), &[], count), (wanted, 0), "{names:?}");
        }
        assert_eq!(Turns::default().next(&[], 0), None);
    }

    /// Both cases: the node is dead before the first request, and it dies between two of them.
    #[test]
    fn a_dead_node_leaves_at_its_first_failure_and_its_turns_are_shared() {
        let nodes = live(&["n1", "n2", "n3"]);
        let mut turns = Turns::default();
        assert_eq!(requests(&mut turns, &nodes, &["n2"], 12), (vec![6, 0, 6], 1));
        for before in 0..6 {
            let mut turns = Turns::default();
            requests(&mut turns, &nodes, &[], before);
            let (counts, failed) = requests(&mut turns, &nodes, &["n2"], 12);
            assert_eq!((counts, failed), (vec![6, 0, 6], 1), "after {before} requests");
        }
        // Even if it were tried at every turn of its own.
        let mut turns = Turns::default();
        let mut counts = BTreeMap::new();
        for _ in 0..12 {
            let mut node = turns.next(&nodes, 0).unwrap();
            if node == "n2" {
                turns.failed(&nodes[1], 0);
                node = turns.next(&nodes, 0).unwrap();
                turns.out.clear();
            }
            *counts.entry(node).or_insert(0) += 1;
        }
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("n1".into(), 6), ("n3".into(), 6)]);
    }

    #[test]
    fn a_node_that_is_added_or_removed_gets_or_loses_its_turn_and_no_other_does() {
        let (three, four) = (live(&["n1", "n2", "n3"]), live(&["n1", "n2", "n3", "n4"]));
        for before in 0..5 {
            let mut turns = Turns::default();
            requests(&mut turns, &three, &[], before);
            assert_eq!(requests(&mut turns, &four, &[], 12).0, [3, 3, 3, 3], "{before}");
            assert_eq!(requests(&mut turns, &three, &[], 12).0, [4, 4, 4], "{before}");
        }
        // The node used last is gone: the one after it is next.
        let mut turns = Turns::default();
        turns.used("n2");
        assert_eq!(turns.next(&live(&["n1", "n3", "n10"]), 0).as_deref(), Some("n3"));
        assert_eq!(turns.next(&live(&["n1", "n3", "n10"]), 0).as_deref(), Some("n10"));
    }

    #[test]
    fn a_node_comes_back_with_a_new_start_or_when_it_is_heard_again_or_in_time() {
        let nodes = live(&["n1", "n2"]);
        let out = || {
            let mut turns = Turns::default();
            turns.failed(&nodes[1], 1000);
            assert_eq!((turns.next(&nodes, 1000), turns.next(&nodes, 1000)), {
                let n1 = Some("n1".to_owned());
                (n1.clone(), n1)
            });
            turns
        };
        let second = |turns: &mut Turns, live: &[LiveNode], now| turns.next(live, now).unwrap();
        assert_eq!(second(&mut out(), &nodes, 1000 + OUT_MS - 1), "n1");
        assert_eq!(second(&mut out(), &nodes, 1000 + OUT_MS), "n2");
        assert_eq!(second(&mut out(), &nodes, 999), "n2", "the clock has started again");
        let mut restarted = nodes.clone();
        restarted[1].incarnation = 2;
        assert_eq!(second(&mut out(), &restarted, 1000), "n2");
        let mut suspect = nodes.clone();
        suspect[1].suspect = true;
        let mut turns = out();
        assert_eq!(second(&mut turns, &suspect, 1000), "n1");
        assert_eq!(second(&mut turns, &nodes, 1000), "n2");
        // The list leaves it out, and takes it in again.
        let mut turns = out();
        assert_eq!(second(&mut turns, &nodes[..1], 1000), "n1");
        assert_eq!(second(&mut turns, &nodes, 1000), "n2");
    }

    #[test]
    fn when_all_have_failed_all_are_tried_again() {
        let nodes = live(&["n1", "n2"]);
        let mut turns = Turns::default();
        nodes.iter().for_each(|node| turns.failed(node, 0));
        assert_eq!(requests(&mut turns, &nodes, &[], 4), (vec![2, 2], 0));
    }
}
