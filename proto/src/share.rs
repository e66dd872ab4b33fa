//! Fair shares of something that there is only so much of: places, bytes, turns.
//!
//! The rule: *nobody holds more than is left for the others*. One who is alone has half of it, two
//! greedy ones a third each, and so on; whoever holds nothing always finds room, however greedy the
//! others are. No number has to be set per holder, and none is too small on an idle node.
//!
//! A part may be kept for the first: admins and nodes, who must get through when everything else is
//! full. They share with nobody, for there are few of them.
//!
//! Invariant: what is held together is never more than there is; what others than the first hold
//! never touches what is kept.
//!
//! And whoever has to wait, waits in a [`Ring`]: the holders take turns, whatever each has queued.
//!
//! Not here: what is shared (`net`, `daemon`).

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Who may use what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// Admins and nodes.
    First,
    /// Everybody else.
    Ordinary,
}

/// Who holds how much.
#[derive(Debug)]
pub struct Ledger<K> {
    total: usize,
    kept: usize,
    used: usize,
    held: HashMap<K, usize>,
}

impl<K: Hash + Eq + Clone> Ledger<K> {
    /// A ledger of so much, of which a part is kept for the first.
    ///
    /// # Panics
    /// When more is kept than there is.
    #[must_use]
    pub fn new(total: usize, kept: usize) -> Self {
        assert!(kept <= total, "no more is kept than there is");
        Self { total, kept, used: 0, held: HashMap::new() }
    }

    /// What somebody holds.
    #[must_use]
    pub fn held(&self, who: &K) -> usize {
        self.held.get(who).copied().unwrap_or(0)
    }

    /// What all hold together.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Whether somebody may have so much more.
    #[must_use]
    pub fn may_take(&self, who: &K, rank: Rank, amount: usize) -> bool {
        let Some(used) = self.used.checked_add(amount) else { return false };
        match rank {
            Rank::First => used <= self.total,
            Rank::Ordinary => {
                let left = (self.total - self.kept).checked_sub(used);
                left.is_some_and(|left| self.held(who) + amount <= left)
            }
        }
    }

    /// Gives somebody so much more; `false` if that is more than its share, and nothing is given.
    #[must_use]
    pub fn take(&mut self, who: &K, rank: Rank, amount: usize) -> bool {
        if !self.may_take(who, rank, amount) {
            return false;
        }
        if amount > 0 {
            self.used += amount;
            *self.held.entry(who.clone()).or_default() += amount;
        }
        assert!(self.used <= self.total, "no more is held than there is");
        true
    }

    /// Takes back what somebody gives.
    ///
    /// # Panics
    /// When that is more than it holds.
    pub fn give(&mut self, who: &K, amount: usize) {
        if amount == 0 {
            return;
        }
        let held = self.held(who);
        assert!(amount <= held, "nobody gives what it does not hold");
        self.used -= amount;
        match held - amount {
            0 => drop(self.held.remove(who)),
            held => drop(self.held.insert(who.clone(), held)),
        }
    }
}

/// What waits, in turns: one of each holder, and then the next one of each.
///
/// Invariant: whoever is in the ring has something waiting, and is in it once.
#[derive(Debug)]
pub struct Ring<K, T> {
    order: VecDeque<K>,
    waiting: HashMap<K, VecDeque<T>>,
}

impl<K, T> Default for Ring<K, T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), waiting: HashMap::new() }
    }
}

impl<K: Hash + Eq + Clone, T> Ring<K, T> {
    /// Puts something behind what the same holder has waiting.
    pub fn push(&mut self, who: K, item: T) {
        let queue = self.waiting.entry(who.clone()).or_default();
        if queue.is_empty() {
            self.order.push_back(who);
        }
        queue.push_back(item);
    }

    /// Whether somebody has something waiting.
    #[must_use]
    pub fn waits(&self, who: &K) -> bool {
        self.waiting.contains_key(who)
    }

    /// What is next.
    pub fn pop(&mut self) -> Option<(K, T)> {
        self.pop_if(|_, _| true)
    }

    /// What is next of those whose turn may come now; the others keep theirs.
    pub fn pop_if(&mut self, mut may: impl FnMut(&K, &T) -> bool) -> Option<(K, T)> {
        let (waiting, order) = (&mut self.waiting, &mut self.order);
        let first = |who: &K| waiting.get(who).and_then(VecDeque::front);
        let at = order.iter().position(|who| first(who).is_some_and(|item| may(who, item)))?;
        let who = order.remove(at)?;
        let queue = waiting.get_mut(&who)?;
        let item = queue.pop_front()?;
        if queue.is_empty() {
            waiting.remove(&who);
        } else {
            order.push_back(who.clone());
        }
        assert!(order.len() == waiting.len(), "whoever waits is in the ring once");
        Some((who, item))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_greedy_leave_as_much_as_they_take() {
        for greedy in 1..=8 {
            let mut ledger = Ledger::new(900, 0);
            let mut taken = true;
            while taken {
                taken = false;
                for who in 0..greedy {
                    taken |= ledger.take(&who, Rank::Ordinary, 1);
                }
            }
            let left = 900 - ledger.used();
            assert!(left >= 900 / (greedy + 1) && left < 901 / greedy, "{greedy} leave {left}");
            assert!((0..greedy).all(|who| ledger.held(&who) <= left));
            assert!(ledger.take(&99, Rank::Ordinary, left / 2), "{greedy} leave nothing");
        }
    }

    #[test]
    fn what_is_kept_is_for_the_first() {
        let mut ledger = Ledger::new(100, 40);
        while ledger.take(&"client", Rank::Ordinary, 1) {}
        assert_eq!(ledger.held(&"client"), 30);
        assert!(ledger.take(&"admin", Rank::First, 70) && !ledger.take(&"admin", Rank::First, 1));
        assert!(!ledger.take(&"other", Rank::Ordinary, 1));
        ledger.give(&"admin", 70);
        assert!(
            ledger.take(&"other", Rank::Ordinary, 15) && !ledger.take(&"third", Rank::Ordinary, 16)
        );
        assert!(!ledger.take(&"third", Rank::Ordinary, usize::MAX));
    }

    #[test]
    fn a_crowd_of_one_waits_behind_itself() {
        let mut ring = Ring::default();
        (0..1000).for_each(|n| ring.push("greedy", n));
        assert_eq!(ring.pop(), Some(("greedy", 0)));
        ring.push("quiet", 7);
        ring.push("other", 8);
        let next: Vec<_> = std::iter::from_fn(|| ring.pop()).take(4).collect();
        assert_eq!(next, [("greedy", 1), ("quiet", 7), ("other", 8), ("greedy", 2)]);
        assert!(ring.waits(&"greedy") && !ring.waits(&"quiet"));
        ring.push("quiet", 9);
        assert_eq!(ring.pop_if(|who, _| *who != "greedy"), Some(("quiet", 9)));
        assert_eq!(ring.pop_if(|who, _| *who != "greedy"), None);
        assert_eq!(ring.pop(), Some(("greedy", 3)));
    }

    proptest! {
        #[test]
        fn everybody_is_served_in_turn(
            steps in prop::collection::vec(prop::option::weighted(0.6, 0u8..5), 0..300),
        ) {
            let (mut ring, mut sent, mut got) = (Ring::default(), [0u32; 5], [0u32; 5]);
            // How many others were served since somebody who waits was.
            let mut passed = [[0u32; 5]; 5];
            for step in steps {
                if let Some(who) = step {
                    ring.push(who, sent[usize::from(who)]);
                    sent[usize::from(who)] += 1;
                } else if let Some((who, item)) = ring.pop() {
                    let who = usize::from(who);
                    prop_assert_eq!(item, got[who], "in the order of each");
                    got[who] += 1;
                    for (other, passed) in passed.iter_mut().enumerate() {
                        let waits = got[other] < sent[other];
                        passed[who] = if waits && other != who { passed[who] + 1 } else { 0 };
                        prop_assert!(passed[who] <= 1, "{who} came twice before {other} came once");
                    }
                    passed[who] = [0; 5];
                } else {
                    prop_assert_eq!(sent, got, "something is left in the ring");
                }
            }
        }

        #[test]
        fn the_books_are_right(
            steps in prop::collection::vec((0u8..4, any::<bool>(), 0usize..60, any::<bool>()), 0..200),
        ) {
            let mut ledger = Ledger::new(100, 20);
            let mut held = [0usize; 4];
            for (who, first, amount, takes) in steps {
                let mine = &mut held[usize::from(who)];
                if takes {
                    let rank = if first { Rank::First } else { Rank::Ordinary };
                    let before = ledger.used();
                    if ledger.take(&who, rank, amount) {
                        *mine += amount;
                        prop_assert!(first || amount == 0 || before + amount <= 80);
                    }
                } else {
                    let amount = amount.min(*mine);
                    ledger.give(&who, amount);
                    *mine -= amount;
                }
                prop_assert_eq!(ledger.held(&who), held[usize::from(who)]);
                prop_assert_eq!(ledger.used(), held.iter().sum::<usize>());
                prop_assert!(ledger.used() <= 100);
            }
        }
    }
}
