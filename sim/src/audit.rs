//! An eye on all disks and all wires at once: it names a broken promise at the moment when it breaks,
//! whatever comes of that later.
//!
//! * A vote that is given, and an entry that is acknowledged, is on the disk of whoever says so.
//! * Nobody gives two votes in a term, nobody votes before it has met those who could know more of it,
//!   and a term has one primary.
//! * What is committed, or applied, lies on the disks of a majority, every later primary holds it, no other
//!   entry is committed in its place, and nobody cuts it off.
//! * Whoever has lost what it acknowledged takes no part; whoever has lost nothing is not repaired.
//! * Whoever has taken an entry stamps above it from then on, and a primary above all that is committed.
//!
//! What the nodes say of themselves is used only where it makes a check milder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clock::Hlc;
use daemon::node::Node;
use daemon::raft::overheard::{self, Overheard};
use log::facts::{Fact, What, facts};
use log::memory::MemoryDisk;
use net::Lane;
use net::switchboard::{Heard, Switchboard};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::note;
use crate::trace::Trace;

mod committed;
mod disk;
mod future;
mod membership;

use self::disk::{At, Ever, OnDisk, Owed, TOLD_AFTER};
use self::future::Future;
use self::membership::Membership;

/// A node that was started waits so long for all others before it votes, or a little more.
const MEETS_WITHIN: Duration = Duration::from_millis(1_150);
/// Frames that nodes say to each other in a second of virtual time at most; a busy second has hundreds.
const FRAMES_MAX: u64 = 10_000;

/// Watches a run. Clones are the same.
#[derive(Clone)]
pub struct Auditor {
    state: Arc<Mutex<State>>,
    broken: CancellationToken,
    trace: Trace,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Watched>,
    /// What the opener of a stream has asked, by the stream's number.
    asked: BTreeMap<u64, Overheard>,
    /// Whom a store voted for, by its raft id and the term.
    votes: BTreeMap<(u64, u64), u64>,
    /// Raft ids of primaries, by term.
    primaries: BTreeMap<u64, u64>,
    /// Terms of entries that a primary has said are committed, by index.
    committed: BTreeMap<u64, u64>,
    /// The term of the primary that first said so, by index: those of earlier terms need not know.
    said_in: BTreeMap<u64, u64>,
    stamps: BTreeMap<At, Hlc>,
    /// What every store has ever made durable, by raft id.
    ever: BTreeMap<u64, Ever>,
    membership: Membership,
    future: Future,
    /// The second of virtual time, and the frames in it.
    flow: (u64, u64),
    /// Whether disks are damaged so that nobody may know: then two histories may come about.
    reckless: bool,
    wrong: Vec<String>,
    /// What does not come to its end.
    late: Vec<String>,
}

/// What is known of a node.
#[derive(Default)]
struct Watched {
    raft_id: u64,
    /// While its process runs.
    node: Option<Node>,
    /// When its last process began, and how far its log went then.
    began: Duration,
    began_with: u64,
    /// Whether its store is being opened: where the state is ahead of the log, that is cut then.
    opens: bool,
    /// How far it had applied at its last syncs, the later one first.
    applied: [Option<u64>; 2],
    /// The highest stamp that it has sent as a primary.
    minted: Hlc,
    /// When its last process ended.
    ended: Option<Duration>,
    /// Whom that process has met.
    met: BTreeSet<String>,
    disk: OnDisk,
    /// Whether its disk was damaged.
    damaged: bool,
    /// What its disk has lost that it must miss.
    owes: Option<Owed>,
}

impl Watched {
    /// Whether it runs, and its clock is trusted.
    fn has_good_clock(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.node_clock().state().is_trusted())
    }
}

impl Auditor {
    /// One that listens to a switchboard.
    #[must_use]
    pub fn new(board: &Switchboard, trace: &Trace) -> Self {
        let this =
            Self { state: Arc::default(), broken: CancellationToken::new(), trace: trace.clone() };
        let listener = this.clone();
        board.overhear(move |heard| listener.look(|state, now| state.heard(heard, now)));
        this
    }

    /// From now on disks may be damaged whoever knows of it.
    pub fn is_reckless(&self) {
        self.state.lock().reckless = true;
    }

    /// The clock of a node jumps.
    pub fn clock_jumps(&self, name: &str) {
        self.state.lock().future.jumps(name);
    }

    fn look(&self, look: impl FnOnce(&mut State, Duration)) {
        let mut state = self.state.lock();
        let (wrong, late) = (state.wrong.len(), state.late.len());
        look(&mut state, self.trace.now());
        for wrong in state.wrong.iter().skip(wrong).chain(state.late.iter().skip(late)) {
            note!(self.trace, "WRONG: {wrong}");
            self.broken.cancel();
        }
    }

    /// Completes when a promise is broken.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Everything that was seen to be wrong.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        self.state.lock().wrong.clone()
    }

    /// What was seen not to come to its end.
    #[must_use]
    pub fn late(&self) -> Vec<String> {
        self.state.lock().late.clone()
    }

    /// A process begins on a disk.
    pub fn begins(&self, name: &str, raft_id: u64, disk: &MemoryDisk) {
        self.look(|state, now| {
            let node = state.nodes.entry(name.to_owned()).or_default();
            let scanned = OnDisk::scan(disk, &node.disk, now);
            (node.raft_id, node.began, node.ended) = (raft_id, now, None);
            (node.disk, node.node) = (scanned, None);
            node.met.clear();
            (node.opens, node.applied) = (true, [None; 2]);
            let ever = state.ever.entry(raft_id).or_default();
            ever.entries.extend(node.disk.now.iter().map(|(index, kept)| (kept.term, *index)));
            let store = node.disk.store;
            let given = store.and_then(|store| state.membership.has_store(raft_id, store));
            let given = given.filter(|_| !state.reckless);
            state.wrong.extend(given.map(|wrong| format!("{name}: {wrong}")));
        });
        let (this, name) = (self.clone(), name.to_owned());
        disk.watch(move |bytes| this.look(|state, now| state.durable(&name, bytes, now)));
    }

    /// Its store proves intact, and its log ends before this entry.
    pub fn opened(&self, name: &str, end: u64) {
        self.look(|state, _| {
            if let Some(node) = state.nodes.get_mut(name) {
                if let Some(lacks) = end.checked_sub(1).filter(|last| !node.disk.reaches(*last)) {
                    let wrong = "as durable, which its disk does not hold";
                    state.wrong.push(format!("{name} begins with entry {lacks} {wrong}"));
                }
                node.disk.cut(end);
                (node.began_with, node.opens) = (end, false);
                if let Some(Owed { what, shows: true }) = node.owes.as_ref() {
                    let wrong = format!("{name} has lost {what}, and takes its disk for intact");
                    state.say(wrong);
                }
            }
        });
    }

    /// Its store does not prove intact.
    pub fn is_repairing(&self, name: &str, damage: &str) {
        self.look(|state, _| {
            if state.nodes.get(name).is_some_and(|node| !node.damaged) {
                state.wrong.push(format!("{name} has lost nothing and is repaired: {damage}"));
            }
        });
    }

    /// Its process runs.
    pub fn runs(&self, name: &str, node: &Node) {
        self.look(|state, _| {
            let Some(watched) = state.nodes.get_mut(name) else { return };
            watched.node = Some(node.clone());
            let (floor, minted) = (node.node_clock().hlc().floor(), watched.minted);
            if node.engine().is_some() && floor < minted {
                let wrong =
                    format!("{name} starts again, and could stamp below what it has stamped");
                state.say(wrong);
            }
        });
    }

    /// Its process is dead.
    pub fn ends(&self, name: &str) {
        self.look(|state, now| {
            if let Some(node) = state.nodes.get_mut(name) {
                node.node = None;
                node.ended.get_or_insert(now);
            }
        });
    }

    /// What was durable on its disk is gone. `quiet` if all others have heard for a while what it did;
    /// `is_same` unless another disk took its place, watermark and all.
    /// `marked` is the last group of its log that its watermark knows.
    pub fn is_damaged(
        &self,
        name: &str,
        disk: &MemoryDisk,
        (quiet, is_same): (bool, bool),
        marked: Option<u64>,
    ) {
        self.look(|state, now| {
            if state.reckless {
                // What nobody remembers may be done again.
                state.votes.clear();
            }
            let Some(node) = state.nodes.get_mut(name) else { return };
            let after = OnDisk::scan(disk, &node.disk, now);
            let told = node.ended.unwrap_or(now).checked_sub(TOLD_AFTER);
            let told = told.filter(|told| quiet && node.began <= *told);
            let marked = marked.filter(|_| is_same);
            node.owes = node.disk.owes(&after, told, is_same, marked);
            // An old watermark cannot know. What it stamps is compared with what is committed.
            if !is_same {
                node.minted = Hlc::default();
            }
            (node.damaged, node.disk) = (true, after);
            if let Some(owes) = &node.owes {
                note!(self.trace, "{name} has lost {}, and must notice", owes.what);
            }
        });
    }

    /// It has a new store, which holds nothing.
    pub fn is_renewed(&self, name: &str) {
        self.look(|state, _| drop(state.nodes.remove(name)));
    }
}

impl State {
    fn say(&mut self, wrong: String) {
        self.wrong.push(wrong);
    }

    /// Something became durable on the disk of a node.
    fn durable(&mut self, name: &str, bytes: &[u8], now: Duration) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let Some(store) = node.disk.store else { return };
        for fact in facts(&store, bytes, None) {
            if let What::Cut(last) = fact.what {
                self.cut(name, last.map_or(0, |last| last.index + 1));
            }
            self.add(name, &fact, now);
        }
        let Some(node) = self.nodes.get_mut(name) else { return };
        let engine = node.node.as_ref().and_then(Node::engine);
        let applied = engine.and_then(|engine| engine.progress().borrow().index);
        let [before, _] = node.applied;
        node.applied = [applied, before];
        if let Some(applied) = applied.filter(|applied| Some(*applied) > before) {
            self.applies(name, applied);
        }
    }

    fn add(&mut self, name: &str, fact: &Fact, now: Duration) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.disk.add(fact, now);
        let ever = self.ever.entry(node.raft_id).or_default();
        match fact.what {
            What::Entry(place) => {
                ever.entries.insert((place.term, place.index));
            }
            What::Floor(floor) => ever.snapshot = ever.snapshot.max(floor.index),
            What::Vote(_) | What::Cut(_) | What::Began => {}
        }
    }

    /// A node cuts its log off before this entry.
    fn cut(&mut self, name: &str, end: u64) {
        let Some(node) = self.nodes.get(name).filter(|node| !node.opens) else { return };
        // What is applied now may have come behind the cut, which was only now made durable. What was
        // applied when the sync before this one began had not.
        let [_, applied] = node.applied;
        let settled = node.disk.now.range(end..).find(|(index, kept)| {
            let committed = self.committed.get(*index) == Some(&kept.term) && !self.reckless;
            Some(**index) <= applied || committed
        });
        if let Some((index, kept)) = settled {
            let term = kept.term;
            self.say(format!("{name} cuts off entry {index} of term {term}, which is committed"));
        }
    }

    fn heard(&mut self, heard: &Heard<'_>, now: Duration) {
        let (second, frames) = &mut self.flow;
        *frames = if *second == now.as_secs() { *frames + 1 } else { 1 };
        *second = now.as_secs();
        // Of two histories that meet, one refuses the other again and again.
        if *frames == FRAMES_MAX && !(self.reckless && planted::hides_from_attestation()) {
            let (from, to) = (heard.from, heard.to);
            self.late.push(format!("the nodes talk without end: {from} to {to} at last"));
        }
        let passing = heard.passing;
        if passing.hello {
            if !passing.asks {
                self.meet(heard.from, heard.to);
                self.meet(heard.to, heard.from);
            }
            return;
        }
        if passing.asks {
            let goes_on =
                passing.lane == Lane::Snapshot && self.asked.contains_key(&passing.stream);
            let asked = if goes_on { None } else { overheard::asked(passing.lane, heard.frame) };
            if let Some(asked) = asked {
                self.asked(heard.from, &asked, now);
                self.asked.insert(passing.stream, asked);
            }
        } else if let Some(asked) = self.asked.get(&passing.stream).cloned()
            && let Some(answer) = overheard::answered(heard.frame)
        {
            self.answered(heard.from, &asked, &answer, now);
            if let (Overheard::Snapshot(Some((_, index))), Overheard::Installed) = (&asked, &answer)
            {
                self.installs(heard.from, heard.to, *index);
            }
        }
    }

    fn meet(&mut self, one: &str, other: &str) {
        if let Some(node) = self.nodes.get_mut(one) {
            node.met.insert(other.to_owned());
        }
    }

    fn asked(&mut self, from: &str, asked: &Overheard, now: Duration) {
        match asked {
            Overheard::Append { term, primary, committed, entries, voters } => {
                let changed = voters.iter().filter_map(|(at, sets)| self.membership.is(*at, sets));
                let changed: Vec<_> = changed.collect();
                if !self.reckless {
                    self.wrong.extend(changed);
                }
                self.takes_part(from, "is primary");
                let stamped = entries.iter().filter_map(|(at, stamp)| Some((*at, (*stamp)?)));
                let stamped: Vec<_> = stamped.collect();
                let highest = stamped.iter().map(|(_, stamp)| *stamp).max();
                if let Some(node) = self.nodes.get_mut(from) {
                    node.minted = node.minted.max(highest.unwrap_or_default());
                }
                for (at, stamp) in stamped {
                    self.stamped(from, at, stamp, now);
                }
                let known = self.primaries.insert(*term, *primary);
                if known.is_some_and(|known| known != *primary) && !self.reckless {
                    self.say(format!("term {term} has two primaries: {known:?} and {primary}"));
                }
                if known.is_none() {
                    self.leads(from, *term);
                }
                if let Some(committed) = committed {
                    self.commits(from, *term, *committed);
                }
            }
            Overheard::Ballot { term, candidate, pre } => {
                self.takes_part(from, "stands for election");
                self.may_vote(from, now);
                if !pre {
                    self.votes(from, *term, *candidate);
                }
            }
            Overheard::Snapshot(_)
            | Overheard::Appended(_)
            | Overheard::Voted { .. }
            | Overheard::Installed
            | Overheard::Other => {}
        }
    }

    /// A primary has put an entry behind all that is committed.
    fn stamped(&mut self, name: &str, at: At, stamp: Hlc, now: Duration) {
        if self.stamps.insert(at, stamp).is_some() || self.reckless {
            return;
        }
        let nodes = &self.nodes;
        self.future.sent(at, stamp, now, || {
            let good = nodes.iter().filter(|(_, watched)| watched.has_good_clock());
            good.map(|(name, _)| name.clone()).collect()
        });
        let (term, index) = at;
        let before = self.said_in.range(..index).rev().filter(|(_, said_in)| **said_in <= term);
        let mut before = before.filter_map(|(index, _)| self.committed.get_key_value(index));
        let before = before.find_map(|(index, term)| self.stamps.get(&(*term, *index)));
        if before.is_some_and(|before| stamp <= *before) {
            self.say(format!("{name} stamps entry {index} of term {term} below a committed one"));
        }
    }

    fn answered(&mut self, from: &str, asked: &Overheard, answer: &Overheard, now: Duration) {
        match (asked, answer) {
            (Overheard::Ballot { term, candidate, pre }, Overheard::Voted { granted: true }) => {
                self.takes_part(from, "votes");
                self.may_vote(from, now);
                if !pre {
                    self.votes(from, *term, *candidate);
                    let node = self.nodes.get(from);
                    if node.is_some_and(|node| !node.disk.has_voted((*term, *candidate))) {
                        let wrong = "which its disk does not hold";
                        self.say(format!(
                            "{from} gives {candidate} a vote in term {term}, {wrong}"
                        ));
                    }
                }
            }
            (Overheard::Append { .. }, Overheard::Appended(matched)) => {
                self.takes_part(from, "takes entries");
                if let Some(matched) = matched {
                    self.acknowledges(from, *matched, now);
                }
            }
            (Overheard::Snapshot(Some((_, index))), Overheard::Installed) => {
                if let Some(node) = self.nodes.get(from) {
                    let ever = self.ever.entry(node.raft_id).or_default();
                    ever.snapshot = ever.snapshot.max(*index);
                }
            }
            _ => {}
        }
    }

    /// A node does something that one may not do that has lost what it acknowledged.
    fn takes_part(&mut self, name: &str, what: &str) {
        let owes = self.nodes.get(name).and_then(|node| node.owes.clone());
        if let Some(Owed { what: lost, .. }) = owes {
            self.say(format!("{name} has lost {lost}, and {what}"));
        }
    }

    fn votes(&mut self, name: &str, term: u64, candidate: u64) {
        let Some(node) = self.nodes.get(name) else { return };
        let known = *self.votes.entry((node.raft_id, term)).or_insert(candidate);
        if known != candidate {
            self.say(format!("{name} votes twice in term {term}: for {known} and for {candidate}"));
        }
    }

    /// A node takes part in an election.
    fn may_vote(&mut self, name: &str, now: Duration) {
        let Some(node) = self.nodes.get(name) else { return };
        let age = now.saturating_sub(node.began);
        let Some(engine) = node.node.as_ref().and_then(Node::engine) else { return };
        if age >= MEETS_WITHIN {
            return;
        }
        let view = engine.view();
        let view = view.borrow();
        // Who is a voter only since it runs was none when it opened its elections.
        if view.membership_at.is_none_or(|(_, index)| index >= node.began_with) {
            return;
        }
        let stranger = self.nodes.iter().find(|(other, watched)| {
            let votes = view.voters.contains(&watched.raft_id);
            votes && other.as_str() != name && !node.met.contains(*other)
        });
        if let Some((stranger, _)) = stranger {
            let wrong = format!("{name} votes {age:?} after its start, and has not met {stranger}");
            drop(view);
            self.say(wrong);
        }
    }

    /// A node has taken a snapshot of another, which must have come of what it had applied.
    fn installs(&mut self, name: &str, sender: &str, index: u64) {
        let (Some(node), Some(sender)) = (self.nodes.get(name), self.nodes.get(sender)) else {
            return;
        };
        // Where the answer is heard late, what is applied since is what the snapshot brought.
        let Some(applied) = node.applied[1].filter(|applied| *applied < index) else { return };
        let applied = node.disk.now.range(..=applied);
        let other = |(index, kept): &(&u64, &disk::Kept)| {
            let theirs = sender.disk.now.get(index);
            theirs.is_some_and(|theirs| theirs.term != kept.term)
        };
        if let Some((index, kept)) = applied.into_iter().find(other) {
            let lost = format!("entry {index} of term {}, which it had applied", kept.term);
            self.say(format!("{name} takes a snapshot of another history than {lost}"));
        }
    }

    /// A node acknowledges all entries up to this one.
    fn acknowledges(&mut self, name: &str, at: At, now: Duration) {
        let Some(node) = self.nodes.get(name) else { return };
        let (term, index) = at;
        let snapshot = self.ever.get(&node.raft_id).map_or(0, |ever| ever.snapshot);
        // Where histories meet because nobody compares stores, what is acknowledged means little.
        let means = !self.reckless || !planted::hides_from_attestation();
        if !node.disk.holds(at) && index > snapshot && means {
            let wrong = "which its disk does not hold";
            return self.say(format!("{name} acknowledges entry {index} of term {term}, {wrong}"));
        }
        let Some((stamp, running)) = self.stamps.get(&at).zip(node.node.as_ref()) else { return };
        let clock = running.node_clock();
        if clock.hlc().floor() < *stamp {
            let wrong = "its clock, set back, would stamp below it";
            let wrong = format!("{name} has taken entry {index} of term {term}, and {wrong}");
            return self.say(wrong);
        }
        let is_committed = self.committed.range(index..).next().is_some();
        let taken = (at, is_committed);
        let taken = self.future.taken((name, node.has_good_clock()), taken, *stamp, now);
        self.wrong.extend(taken.filter(|_| !self.reckless));
    }
}
