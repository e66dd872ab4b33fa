//! What nodes remember of each other's stores, and what follows when a store has less than is
//! remembered of it.
//!
//! A store that was set back to an older copy is consistent in itself: nothing in it shows that it
//! once held more. Only the others know. So every node remembers of every other what that one has
//! shown, and both ends say it in their hello, before anything else is said. Only what is durable
//! is ever shown, and only entries that are committed count: an uncommitted tail may rightly be cut
//! off by a new primary.
//!
//! Not here: where the memory is kept and when a node may vote (`daemon::witness`).

use std::collections::BTreeMap;
use std::fmt;

use crate::limits::NODES_MAX;

/// Stores that are remembered at most: those of all members, and of some that were replaced.
const REMEMBERED_MAX: usize = 2 * NODES_MAX;

/// A place in the log, with the chain hash there: equal hashes mean equal histories up to it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Place {
    /// Index of the entry.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// Its term.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Chain hash, 32 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub hash: Vec<u8>,
}

/// What a node shows of its store, or remembers of another's. All of it is durable there.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Shown {
    /// Name of the node.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Raft id of the store.
    #[prost(uint64, tag = "2")]
    pub raft_id: u64,
    /// Incarnation of the store, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub incarnation: Vec<u8>,
    /// Drawn when the store was made, 16 bytes; empty in stores of releases that drew none.
    #[prost(bytes = "vec", tag = "4")]
    pub nonce: Vec<u8>,
    /// Number of starts; 0 if the store cannot be read.
    #[prost(uint64, tag = "5")]
    pub starts: u64,
    /// Drawn by the process at its start, 16 bytes: two with the same number of starts are copies.
    #[prost(bytes = "vec", tag = "6")]
    pub life: Vec<u8>,
    /// Term of the vote.
    #[prost(uint64, tag = "7")]
    pub term: u64,
    /// The last entry that it holds and knows to be committed.
    #[prost(message, optional, tag = "8")]
    pub committed: Option<Place>,
    /// Index of the last entry that it holds.
    #[prost(uint64, tag = "9")]
    pub last: u64,
    /// The processes of its earlier starts, as far as they are known; only in a hello, and only of
    /// the speaker. A copy that was started often enough to count more starts than are remembered
    /// still has other processes among them.
    #[prost(message, repeated, tag = "10")]
    pub former: Vec<Life>,
    /// Term of the last entry that it holds; 0 from a release that does not say.
    #[prost(uint64, tag = "11")]
    pub last_term: u64,
}

/// The end of a log. Whose is greater goes further: a later term goes before a higher index, as in
/// every election (Raft, section 5.4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogEnd {
    /// Term of the last entry.
    pub term: u64,
    /// Index of it.
    pub index: u64,
}

/// A start of a store, and what its process drew.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Life {
    /// Number of the start.
    #[prost(uint64, tag = "1")]
    pub starts: u64,
    /// See [`Shown::life`].
    #[prost(bytes = "vec", tag = "2")]
    pub life: Vec<u8>,
}

/// What a store lacks of what is remembered of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// It is another store under the same identity: the former one was wiped.
    Store,
    /// It was started more often than it knows.
    Starts {
        /// Starts that are remembered.
        remembered: u64,
        /// Starts that it knows of.
        found: u64,
    },
    /// Another process was started on a copy of it.
    Life {
        /// The number that both count for the same start.
        starts: u64,
    },
    /// It has voted in a later term than it knows.
    Term {
        /// The term that is remembered.
        remembered: u64,
        /// Its term.
        found: u64,
    },
    /// It has acknowledged committed entries that it no longer holds.
    Tail {
        /// Index of the last one that is remembered.
        remembered: u64,
        /// Index of the last entry that it holds.
        found: u64,
    },
    /// It holds another entry, not committed, where it acknowledged one that is.
    Entry {
        /// Index of it.
        index: u64,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => f.write_str("its store was created again under an old identity"),
            Self::Starts { remembered, found } => {
                write!(
                    f,
                    "set back: it has started {remembered} times, but its store knows of {found}"
                )
            }
            Self::Life { starts } => {
                write!(
                    f,
                    "set back or copied: another process claims the same start, number {starts}"
                )
            }
            Self::Term { remembered, found } => {
                write!(f, "set back: it voted in term {remembered}, but its store knows of {found}")
            }
            Self::Tail { remembered, found } => write!(
                f,
                "lost the end of its log: it acknowledged entry {remembered}, but its log ends at \
                 {found}"
            ),
            Self::Entry { index } => {
                write!(f, "set back: log entry {index} is not the one that it acknowledged")
            }
        }
    }
}

/// Two histories of one log that both count as committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// What the judging node holds.
    pub mine: Place,
    /// What the other holds, or remembers that the judging node held.
    pub theirs: Place,
}

/// What a node finds when it meets another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Nobody lacks anything that is known of.
    Fits,
    /// The two have committed different entries at one index. Neither is right or wrong by that.
    Fork(Fork),
    /// The other one's store lacks what this node remembers of it.
    They(Lack),
    /// This node's store lacks what the other one remembers of it.
    We(Lack),
}

impl Shown {
    /// The end of its log; `None` where it holds none, or does not say.
    #[must_use]
    pub fn log_end(&self) -> Option<LogEnd> {
        let says = self.starts > 0 && self.last_term > 0;
        says.then_some(LogEnd { term: self.last_term, index: self.last })
    }

    /// Whether both were shown by one process.
    fn is_life_of(&self, other: &Self) -> bool {
        let store = |shown: &Self| (shown.raft_id, shown.incarnation.clone(), shown.nonce.clone());
        store(self) == store(other) && (self.starts, &self.life) == (other.starts, &other.life)
    }

    /// What it lacks of `remembered`, as far as numbers tell. A store that cannot be read shows
    /// nothing, and lacks nothing by that: it takes no part anyway.
    #[must_use]
    pub fn lacks(&self, remembered: &Self) -> Option<Lack> {
        let same = self.raft_id == remembered.raft_id && self.incarnation == remembered.incarnation;
        if self.starts == 0 || !same {
            return None;
        }
        if !self.nonce.is_empty() && !remembered.nonce.is_empty() && self.nonce != remembered.nonce
        {
            return Some(Lack::Store);
        }
        if self.starts < remembered.starts {
            return Some(Lack::Starts { remembered: remembered.starts, found: self.starts });
        }
        if self.starts == remembered.starts && self.life != remembered.life {
            return Some(Lack::Life { starts: self.starts });
        }
        let other = |of: &Life| of.starts == remembered.starts && of.life != remembered.life;
        if self.former.iter().any(other) {
            return Some(Lack::Life { starts: remembered.starts });
        }
        if self.term < remembered.term {
            return Some(Lack::Term { remembered: remembered.term, found: self.term });
        }
        let committed = remembered.committed.as_ref().map_or(0, |place| place.index);
        if self.last < committed {
            return Some(Lack::Tail { remembered: committed, found: self.last });
        }
        None
    }
}

/// What is remembered of the stores of other nodes, by raft id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory(BTreeMap<u64, Shown>);

impl Memory {
    /// A memory of what was written down.
    #[must_use]
    pub fn of(remembered: Vec<Shown>) -> Self {
        let mut this = Self::default();
        for shown in &remembered {
            this.note(shown);
        }
        this
    }

    /// Everything, to tell others or to write down.
    #[must_use]
    pub fn all(&self) -> Vec<Shown> {
        self.0.values().cloned().collect()
    }

    /// What is remembered of a store.
    #[must_use]
    pub fn get(&self, raft_id: u64) -> Option<&Shown> {
        self.0.get(&raft_id)
    }

    /// Remembers the most of what was shown; says whether anything is new. Never less than before:
    /// a store that shows less lacks something, which is judged and not noted.
    pub fn note(&mut self, shown: &Shown) -> bool {
        if shown.raft_id == 0 || shown.starts == 0 {
            return false;
        }
        let known = self.0.entry(shown.raft_id).or_insert_with(|| {
            let (name, incarnation) = (shown.name.clone(), shown.incarnation.clone());
            Shown { name, raft_id: shown.raft_id, incarnation, ..Shown::default() }
        });
        let before = known.clone();
        let other =
            !known.nonce.is_empty() && !shown.nonce.is_empty() && known.nonce != shown.nonce;
        if known.incarnation != shown.incarnation || other {
            return false;
        }
        if known.nonce.is_empty() {
            known.nonce.clone_from(&shown.nonce);
        }
        if known.starts < shown.starts {
            (known.starts, known.life) = (shown.starts, shown.life.clone());
        }
        known.term = known.term.max(shown.term);
        let index = |shown: &Shown| shown.committed.as_ref().map(|place| place.index);
        if index(known) < index(shown) {
            known.committed.clone_from(&shown.committed);
        }
        let new = *known != before;
        while self.0.len() > REMEMBERED_MAX {
            self.0.pop_first();
        }
        new
    }

    /// Forgets the stores that are no member's any more.
    pub fn retain(&mut self, is_member: impl Fn(u64) -> bool) {
        self.0.retain(|raft_id, _| is_member(*raft_id));
    }

    /// Judges the meeting with another node: what it shows, and what it remembers. `place_at` gives
    /// the place of an entry that this node holds.
    ///
    /// Two histories go before everything else: where both sides have committed, neither lacks
    /// anything, and nothing that either remembers proves the other wrong.
    #[must_use]
    pub fn meet(
        &self,
        me: &Shown,
        place_at: impl Fn(u64) -> Option<Place>,
        they: &Shown,
        remember: &[Shown],
    ) -> Finding {
        let myself = |of: &&Shown| of.raft_id == me.raft_id && of.incarnation == me.incarnation;
        let mine: Vec<&Shown> = remember.iter().filter(myself).collect();
        let other = |place: &Place| {
            let held = place_at(place.index)?;
            let known = held.hash.len() == 32 && place.hash.len() == 32;
            (known && held.hash != place.hash).then(|| Fork { mine: held, theirs: place.clone() })
        };
        let committed = me.committed.as_ref().map_or(0, |place| place.index);
        let places = mine.iter().filter_map(|of| of.committed.as_ref());
        let places: Vec<&Place> = they.committed.iter().chain(places).collect();
        let mut both = places.iter().filter(|place| place.index <= committed);
        if let Some(fork) = both.find_map(|place| other(place)) {
            return Finding::Fork(fork);
        }
        // A store is not set back under a running process. What it showed first may arrive last.
        let remembered = self.get(they.raft_id).filter(|of| !they.is_life_of(of));
        if let Some(lack) = remembered.and_then(|remembered| they.lacks(remembered)) {
            return Finding::They(lack);
        }
        for remembered in mine {
            let entry = || {
                let index = remembered.committed.as_ref().and_then(other)?.theirs.index;
                Some(Lack::Entry { index })
            };
            if let Some(lack) = me.lacks(remembered).or_else(entry) {
                return Finding::We(lack);
            }
        }
        Finding::Fits
    }
}

/// Whether a voter knows enough to take part in elections, after its start. Whoever could tell it
/// that it was set back must have been heard first: all other voters, or, once `patience` is over,
/// so many that they are a majority with itself. Those who were not heard by then are not there.
#[must_use]
pub fn may_vote(
    me: u64,
    voters: &[u64],
    met: impl Fn(u64) -> bool,
    patience_is_over: bool,
) -> bool {
    let heard = voters.iter().filter(|id| **id == me || met(**id)).count();
    !voters.is_empty() && (heard == voters.len() || patience_is_over && heard * 2 > voters.len())
}

/// Whether a candidate may get the vote of a node that has just started and has met a log that ends at
/// `best`. What the node itself held, and lost with its disk, only that log may still show: where it was
/// the primary, nobody remembers yet what it acknowledged last.
#[must_use]
pub fn goes_as_far(candidate: Option<LogEnd>, best: Option<LogEnd>) -> bool {
    candidate >= best
}

#[cfg(test)]
#[path = "attest_test.rs"]
mod tests;
