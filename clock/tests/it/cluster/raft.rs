//! The replicated log, as far as stamps can tell.

use super::audit::{AppliedEntry, Happening, Observation};
use super::log::{Entry, Place};
use super::node::{Effect, Message, Moment, Node, Outcome, Role};
use super::{ELECTION_MAX_NS, ELECTION_MIN_NS, HEARTBEAT_NS, LEASE_NS, MS, US};

/// Entries in one append.
const BATCH: usize = 64;
/// Applied entries that a primary keeps for backups that lag.
const KEEP: u64 = 10;

impl Node {
    pub(crate) fn receive(&mut self, now_ns: u64, from: usize, message: Message) {
        match message {
            Message::Ballot { term, pre, handed_over, last } => {
                self.on_ballot(now_ns, from, (term, last), pre, handed_over);
            }
            Message::Vote { term, pre } => self.on_vote(now_ns, from, term, pre),
            Message::Append { term, prev, entries, commit } => {
                // In front of the engine: to it, a refused request is one that never came.
                if self.is_from_the_future(now_ns, prev.0, &entries, commit) {
                    self.observed.push(Observation::Happened(Happening::Refused));
                    self.say(from, Message::Appended { term, outcome: Outcome::StampInFuture });
                } else if self.follows(now_ns, from, term) {
                    self.on_append(now_ns, from, prev, &entries, commit);
                }
            }
            Message::Appended { term, outcome } => self.on_appended(now_ns, from, term, outcome),
            Message::Heartbeat { term, commit } => {
                if self.follows(now_ns, from, term) {
                    self.wait_for_primary(now_ns);
                    self.commit_up_to(now_ns, commit);
                }
            }
            Message::Outdated { term } => self.adopt(now_ns, term),
            Message::Snapshot { term, base } => {
                if self.follows(now_ns, from, term) {
                    self.wait_for_primary(now_ns);
                    self.install(base);
                    let outcome = Outcome::Stored(self.log.durable);
                    self.say(from, Message::Appended { term, outcome });
                }
            }
            Message::TakeOver { term } => {
                // Also from a primary whose clock is doubted: it does what it should.
                if term == self.term && self.role == Role::Backup {
                    self.stand(now_ns, false, true);
                }
            }
            Message::Ask { sent } => self.answer_ask(now_ns, from, sent),
            Message::Tell { sent, received_ns, claim, may_lead } => {
                self.note_tell(now_ns, from, (sent, received_ns, claim, may_lead));
            }
        }
    }

    pub(crate) fn tick_raft(&mut self, now_ns: u64) {
        let Some(decision) = self.decision else { return };
        self.finish_hand_over(now_ns);
        if self.role == Role::Primary {
            if decision.heartbeats && now_ns >= self.next_heartbeat_ns {
                self.next_heartbeat_ns = now_ns + HEARTBEAT_NS;
                for other in self.others() {
                    let commit = self.commit.min(self.peers[other].stored);
                    self.say(other, Message::Heartbeat { term: self.term, commit });
                }
            }
            self.replicate(now_ns);
        } else if now_ns >= self.heard_ns + self.patience_ns && decision.elections {
            self.stand(now_ns, true, false);
        }
    }

    /// Begins to hand over: no more entries, and the successor is told once it has all of them.
    pub(crate) fn hand_over(&mut self, now_ns: u64, to: usize) {
        self.handing_to = Some((to, now_ns + ELECTION_MAX_NS));
        self.finish_hand_over(now_ns);
    }

    fn finish_hand_over(&mut self, now_ns: u64) {
        let Some((to, until_ns)) = self.handing_to else { return };
        if self.role != Role::Primary || now_ns >= until_ns {
            self.handing_to = None;
        } else if self.peers[to].stored == self.log.last_index() {
            self.say(to, Message::TakeOver { term: self.term });
        }
    }

    /// Starts to wait for a primary; only then may this node stand.
    pub(crate) fn wait_for_primary(&mut self, now_ns: u64) {
        self.heard_ns = now_ns;
        self.patience_ns = LEASE_NS + self.rng.between(ELECTION_MIN_NS, ELECTION_MAX_NS);
    }

    fn adopt(&mut self, now_ns: u64, term: u64) {
        if term > self.term {
            self.term = term;
            self.voted_for = None;
            if self.role == Role::Primary {
                self.wait_for_primary(now_ns);
            }
            self.role = Role::Backup;
            self.primary = None;
        }
    }

    fn stand(&mut self, now_ns: u64, pre: bool, handed_over: bool) {
        // The next try, should this one fail.
        self.heard_ns = now_ns;
        self.patience_ns = self.rng.between(ELECTION_MIN_NS, ELECTION_MAX_NS);
        self.primary = None;
        self.role = Role::Candidate;
        self.pre = pre;
        self.votes = 1 << self.me;
        if !pre {
            self.term += 1;
            self.voted_for = Some(self.me);
        }
        let last = (self.log.last_term(), self.log.last_index());
        let term = self.term + u64::from(pre);
        for other in self.others() {
            self.say(other, Message::Ballot { term, pre, handed_over, last });
        }
        self.count_votes(now_ns);
    }

    fn on_ballot(
        &mut self,
        now_ns: u64,
        from: usize,
        (term, last): (u64, (u64, u64)),
        pre: bool,
        handed_over: bool,
    ) {
        let leased = self.primary.is_some() && now_ns < self.heard_ns + LEASE_NS;
        let heartbeats = self.decision.is_none_or(|decision| decision.heartbeats);
        let leads = self.role == Role::Primary && heartbeats;
        if self.shuns(from) || (leased || leads) && !handed_over || term < self.term {
            return;
        }
        if !pre {
            self.adopt(now_ns, term);
        }
        let complete = last >= (self.log.last_term(), self.log.last_index());
        let free = pre || self.voted_for.is_none_or(|other| other == from);
        if complete && free && (pre && term > self.term || !pre && term == self.term) {
            if !pre {
                self.voted_for = Some(from);
                self.wait_for_primary(now_ns);
            }
            self.say(from, Message::Vote { term, pre });
        }
    }

    fn on_vote(&mut self, now_ns: u64, from: usize, term: u64, pre: bool) {
        let asked = self.term + u64::from(self.pre);
        if self.role == Role::Candidate && pre == self.pre && term == asked {
            self.votes |= 1 << from;
            self.count_votes(now_ns);
        }
    }

    fn count_votes(&mut self, now_ns: u64) {
        if (self.votes.count_ones() as usize) < self.quorum() {
            return;
        }
        if self.pre {
            self.stand(now_ns, false, false);
            return;
        }
        self.role = Role::Primary;
        self.primary = Some(self.me);
        self.next_heartbeat_ns = now_ns;
        let next = self.log.last_index() + 1;
        for peer in &mut self.peers {
            (peer.next, peer.stored, peer.sent_ns, peer.refuses) = (next, 0, None, false);
        }
        self.observed.push(Observation::Elected { node: self.me });
        // The engine's blank entry, then the term's first stamped one.
        self.append(Entry { term: self.term, proposed: None });
        self.judge_clock(now_ns);
        self.effects.push(Effect::Later(0, Moment::Send { count: 1, token: None }));
        self.tick_raft(now_ns);
    }

    /// Whether a message comes from this term's primary.
    fn follows(&mut self, now_ns: u64, from: usize, term: u64) -> bool {
        if term < self.term {
            self.say(from, Message::Outdated { term: self.term });
            return false;
        }
        self.adopt(now_ns, term);
        assert!(self.role != Role::Primary, "two primaries of one term");
        self.role = Role::Backup;
        self.primary = Some(from);
        true
    }

    fn on_append(
        &mut self,
        now_ns: u64,
        from: usize,
        prev: (u64, u64),
        entries: &[Entry],
        commit: u64,
    ) {
        let term = self.term;
        self.wait_for_primary(now_ns);
        if prev.0 < self.log.base().index || self.log.term_at(prev.0) != Some(prev.1) {
            // Applied entries agree everywhere: sending can begin after them.
            let outcome = Outcome::Differs(
                self.log.last_index().min(prev.0.saturating_sub(1)).max(self.applied),
            );
            self.say(from, Message::Appended { term, outcome });
            return;
        }
        for (entry, index) in entries.iter().zip(prev.0 + 1..) {
            match self.log.term_at(index) {
                Some(old) if old == entry.term => continue,
                Some(_) => {
                    assert!(index > self.commit, "a committed entry is overwritten");
                    self.log.cut_after(index - 1);
                    self.observed.push(Observation::Happened(Happening::Overwritten));
                }
                None => {}
            }
            self.log.push(*entry);
            self.hlc.observe(self.log.tail());
        }
        let index = prev.0 + entries.len() as u64;
        let answer =
            Moment::Synced { index, term: self.log.term_at(index).unwrap(), answer_to: Some(from) };
        self.effects.push(Effect::Later(self.rng.between(100 * US, 3 * MS), answer));
        self.commit_up_to(now_ns, commit.min(index));
    }

    pub(crate) fn on_synced(
        &mut self,
        now_ns: u64,
        index: u64,
        term: u64,
        answer_to: Option<usize>,
    ) {
        if self.log.term_at(index) == Some(term) {
            self.log.durable = self.log.durable.max(index);
            if let Some(primary) = answer_to.filter(|primary| self.primary == Some(*primary)) {
                let outcome = Outcome::Stored(index);
                self.say(primary, Message::Appended { term: self.term, outcome });
            }
        }
        self.advance_commit(now_ns);
    }

    fn on_appended(&mut self, now_ns: u64, from: usize, term: u64, outcome: Outcome) {
        if self.role != Role::Primary || term != self.term {
            return;
        }
        let peer = &mut self.peers[from];
        peer.sent_ns = None;
        match outcome {
            Outcome::Stored(index) => {
                peer.stored = peer.stored.max(index);
                peer.next = peer.next.max(index + 1);
                peer.refuses = false;
                self.advance_commit(now_ns);
                self.finish_hand_over(now_ns);
            }
            Outcome::Differs(last) => peer.next = last + 1,
            Outcome::StampInFuture => {
                peer.refuses = true;
                // Tried again when the engine's patience ends, not at once.
                peer.sent_ns = Some(now_ns);
                self.judge_clock(now_ns);
                return;
            }
        }
        self.replicate(now_ns);
    }

    /// Sends what the others lack, one request at a time.
    pub(crate) fn replicate(&mut self, now_ns: u64) {
        for other in self.others() {
            let (base, last) = (self.log.base(), self.log.last_index());
            let peer = &mut self.peers[other];
            let waits = peer.sent_ns.is_some_and(|sent_ns| now_ns < sent_ns + HEARTBEAT_NS);
            if waits || peer.next > last {
                continue;
            }
            peer.sent_ns = Some(now_ns);
            let (next, term) = (peer.next, self.term);
            let message = if next <= base.index {
                Message::Snapshot { term, base }
            } else {
                let prev = (next - 1, self.log.term_at(next - 1).unwrap());
                let entries = self.log.from(next, BATCH);
                Message::Append { term, prev, entries, commit: self.commit }
            };
            self.say(other, message);
        }
    }

    fn advance_commit(&mut self, now_ns: u64) {
        if self.role != Role::Primary {
            return;
        }
        let mut stored: Vec<u64> = self.others().map(|other| self.peers[other].stored).collect();
        stored.push(self.log.durable);
        stored.sort_unstable_by(|a, b| b.cmp(a));
        let index = stored[self.quorum() - 1];
        if self.log.term_at(index) == Some(self.term) {
            self.commit_up_to(now_ns, index);
        }
    }

    fn commit_up_to(&mut self, now_ns: u64, index: u64) {
        self.commit = self.commit.max(index.min(self.log.last_index()));
        while self.applied < self.commit {
            self.apply_next(now_ns);
        }
        if self.applied > self.log.base().index + 2 * KEEP {
            self.log.compact(self.applied - KEEP);
        }
    }

    /// Apply, with the ratchet.
    fn apply_next(&mut self, now_ns: u64) {
        self.applied += 1;
        let entry = self.log.entry(self.applied).unwrap();
        let before = self.last;
        let fit = |stamp: clock::Stamp| {
            if self.plan.rules.ratchet { stamp.ratcheted(before) } else { stamp }
        };
        let stamp = entry.proposed.map(|proposed| fit(proposed.stamp));
        let first = stamp.map_or_else(|| before.succ(), |stamp| stamp.hlc);
        let count = entry.proposed.map_or(1, |proposed| proposed.count);
        self.last = first.advance(u64::from(count - 1));
        if self.role == Role::Primary {
            self.wait(self.last);
        }
        self.observed.push(Observation::Applied(AppliedEntry {
            now_ns,
            index: self.applied,
            entry,
            before,
            first,
            stamp,
        }));
    }

    fn install(&mut self, base: Place) {
        if base.index <= self.commit {
            return;
        }
        self.hlc.observe(base.last);
        self.observed.push(Observation::Happened(Happening::Installed));
        if self.log.term_at(base.index) == Some(base.term) {
            self.log.durable = self.log.durable.max(base.index);
            self.log.compact(base.index);
        } else {
            self.log.reset(base);
        }
        (self.commit, self.applied, self.last) = (base.index, base.index, base.last);
    }
}
