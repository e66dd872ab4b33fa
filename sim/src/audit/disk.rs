//! What a disk durably holds of a log, by what was made durable in it and not by what its node says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use log::StoreId;
use log::facts::{Fact, What, facts, owner};
use log::memory::MemoryDisk;

/// Term and index.
pub(super) type At = (u64, u64);

/// How the name of a segment ends that is in its place.
const SEGMENT: &str = ".segment";

/// How long before the end of its process something must have been durable for the watermark to tell of
/// it, and for others to have heard of it.
pub(super) const TOLD_AFTER: Duration = Duration::from_secs(2);

/// An entry of the log as it is now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// Its term.
    pub(super) term: u64,
    /// The group that it was written in.
    pub(super) group: u64,
    /// When it became durable.
    pub(super) at: Duration,
}

/// What a disk has lost.
#[derive(Debug, Clone)]
pub(super) struct Owed {
    pub(super) what: String,
    /// Whether the disk itself shows that.
    pub(super) shows: bool,
}

/// The log of a disk.
#[derive(Debug, Clone, Default)]
pub(super) struct OnDisk {
    /// Whose log it is.
    pub(super) store: Option<StoreId>,
    /// Entries that lie there, in the log or cut off it, with when they became durable.
    entries: BTreeMap<At, Duration>,
    /// The log as it is now, by index.
    pub(super) now: BTreeMap<u64, Kept>,
    /// Terms and candidates of its votes, with when each became durable.
    votes: BTreeMap<(u64, u64), Duration>,
    /// Entries up to and with this one are purged.
    pub(super) floor: Option<u64>,
    /// The last group.
    group: u64,
}

impl OnDisk {
    /// What lies on a disk. What was there before keeps its time.
    pub(super) fn scan(disk: &MemoryDisk, before: &Self, now: Duration) -> Self {
        let mut this = Self::default();
        disk.each_durable(|name, bytes| {
            // One that is being made holds nothing yet.
            let Some((store, life)) = owner(bytes).filter(|_| name.ends_with(SEGMENT)) else {
                return;
            };
            for fact in facts(&store, bytes, Some(life)) {
                // A record proves whose it is.
                this.store = Some(store);
                this.add(&fact, now);
            }
        });
        for (at, when) in &mut this.entries {
            *when = before.entries.get(at).copied().unwrap_or(now);
        }
        for (vote, when) in &mut this.votes {
            *when = before.votes.get(vote).copied().unwrap_or(now);
        }
        for (index, kept) in &mut this.now {
            kept.at = this.entries.get(&(kept.term, *index)).copied().unwrap_or(now);
        }
        this
    }

    /// Notes a record that is durable.
    pub(super) fn add(&mut self, fact: &Fact, at: Duration) {
        self.group = self.group.max(fact.group);
        match fact.what {
            What::Entry(place) => {
                self.entries.entry((place.term, place.index)).or_insert(at);
                self.cut(place.index);
                let kept = Kept { term: place.term, group: fact.group, at };
                self.now.insert(place.index, kept);
            }
            What::Vote(vote) => {
                self.votes.entry((vote.term, vote.node)).or_insert(at);
            }
            What::Cut(last) => self.cut(last.map_or(0, |last| last.index + 1)),
            What::Floor(floor) => self.floor = self.floor.max(Some(floor.index)),
            What::Began => {}
        }
    }

    /// The log ends before this entry.
    pub(super) fn cut(&mut self, end: u64) {
        self.now.split_off(&end);
    }

    /// Whether an entry lies there, or is purged.
    pub(super) fn holds(&self, at: At) -> bool {
        self.entries.contains_key(&at) || Some(at.1) <= self.floor
    }

    /// Whether the log goes as far as this, or is purged that far.
    pub(super) fn reaches(&self, index: u64) -> bool {
        let last = self.now.last_key_value().map(|(index, _)| *index);
        Some(index) <= last.max(self.floor)
    }

    /// Whether a vote lies there.
    pub(super) fn has_voted(&self, vote: (u64, u64)) -> bool {
        self.votes.contains_key(&vote)
    }

    /// What is gone that its node must miss, by what lies behind it, by its watermark (if `is_same` disk
    /// has that still) or by what others remember. `told` is until when all of these were told; `None` if
    /// they may not have been. `marked` is the last group that the watermark knows.
    pub(super) fn owes(
        &self,
        after: &Self,
        told: Option<Duration>,
        is_same: bool,
        marked: Option<u64>,
    ) -> Option<Owed> {
        let heard = |at: Duration| told.is_some_and(|told| at <= told);
        let lost = self.now.iter().find(|(index, kept)| {
            let known = heard(kept.at) || Some(kept.group) <= marked;
            !after.holds((kept.term, **index)) && (kept.group < after.group || known)
        });
        if let Some((index, kept)) = lost {
            let what = format!("entry {index} of term {}", kept.term);
            return Some(Owed { what, shows: is_same || kept.group < after.group });
        }
        let term = |votes: &mut dyn Iterator<Item = u64>| votes.max().unwrap_or(0);
        let before = self.votes.iter().filter(|(_, at)| heard(**at));
        let before = term(&mut before.map(|((term, _), _)| *term));
        let left = term(&mut after.votes.keys().map(|(term, _)| *term));
        let owed = || Owed { what: format!("its vote in term {before}"), shows: is_same };
        (left < before).then(owed)
    }
}

/// What a store has ever made durable, whatever became of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Ever {
    /// Entries.
    pub(super) entries: BTreeSet<At>,
    /// A snapshot holds what the entries up to and with this one did.
    pub(super) snapshot: u64,
}

impl Ever {
    /// Whether it has held an entry, or what it did.
    pub(super) fn held(&self, at: At) -> bool {
        self.entries.contains(&at) || at.1 <= self.snapshot
    }
}
