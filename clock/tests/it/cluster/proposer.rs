//! Stamping: one queue per node, and the ceiling that is written before anything is stamped.

use clock::generator::CEILING_LEAD_NS;
use clock::lead::Mint as MayMint;
use clock::{Hlc, HlcClock, Reading, Stamp, TickError};

use super::audit::Observation;
use super::log::{Entry, Mint, Proposed};
use super::node::{Effect, Moment, Node, Role};
use super::{MAX_ERROR_NS, MS, US};

#[derive(Debug, Default)]
pub(crate) struct Proposer {
    /// When the last proposal is submitted: the queue keeps its order.
    submit_ns: u64,
    ceiling_in_flight: bool,
    /// Applied, but not acknowledged yet.
    waits: Vec<Hlc>,
}

impl Node {
    /// A client sends, carrying the highest stamp that it has seen.
    pub(crate) fn send(&mut self, now_ns: u64, count: u32, token: Option<Hlc>) {
        let may = self.decision.map(|decision| decision.mint);
        if self.role != Role::Primary || !matches!(may, Some(MayMint::Allowed | MayMint::Unbounded))
        {
            return;
        }
        let term = self.term;
        let (reading, _) = self.clock(now_ns);
        let cap_ns = HlcClock::cap_ns(&reading, MAX_ERROR_NS);
        if token.is_some_and(|token| self.hlc.admit(token, cap_ns).is_err()) {
            return;
        }
        match self.hlc.tick_batch(&reading, cap_ns, count) {
            Ok(stamp) => {
                let honest = !self.wall.is_bad(now_ns);
                let mint = Mint { by: self.me, true_ns: now_ns, reading, honest };
                self.observed.push(Observation::Minted { node: self.me, first: stamp.hlc, count });
                let stamp = self.stored_bounds(stamp, &reading);
                let think_ns = self.rng.between(0, self.plan.think_ns);
                self.proposer.submit_ns = self.proposer.submit_ns.max(now_ns + think_ns);
                let after_ns = self.proposer.submit_ns - now_ns;
                let proposed = Proposed { stamp, count, mint };
                self.effects.push(Effect::Later(after_ns, Moment::Submit { term, proposed }));
            }
            Err(TickError::Ceiling { .. }) => self.persist_ceiling(now_ns),
            Err(_) => {}
        }
    }

    /// With one error to both sides, what other systems store.
    fn stored_bounds(&self, stamp: Stamp, reading: &Reading) -> Stamp {
        let Some(error_us) = reading.error_us().filter(|_| !self.rules().two_bounds) else {
            return stamp;
        };
        let error_us = u32::try_from(error_us).unwrap();
        Stamp { early_us: error_us, late_us: error_us, ..stamp }
    }

    pub(crate) fn submit(&mut self, now_ns: u64, term: u64, proposed: Proposed) {
        let same = self.term == term || !self.rules().leader_guard;
        if self.role == Role::Primary && self.handing_to.is_none() && same {
            let entry = Entry { term: self.term, proposed: Some(proposed) };
            self.append(entry);
            self.replicate(now_ns);
        }
    }

    /// A record was applied whose sender asked for commit-wait.
    pub(crate) fn wait(&mut self, last: Hlc) {
        self.proposer.waits.push(last);
    }

    /// Acknowledges what has been waited for.
    pub(crate) fn end_waits(&mut self, now_ns: u64) {
        let (reading, _) = self.clock(now_ns);
        let Some(earliest_ns) = reading.earliest_ns else { return };
        let more_ns = if self.rules().full_wait { MAX_ERROR_NS } else { 0 };
        let over = |stamp: &Hlc| earliest_ns > stamp.ns + more_ns;
        for stamp in self.proposer.waits.iter().filter(|stamp| over(stamp)) {
            self.observed.push(Observation::Waited { stamp: *stamp });
        }
        self.proposer.waits.retain(|stamp| !over(stamp));
    }

    /// Puts an entry at the end of the log; it is safe only once it is synced.
    pub(crate) fn append(&mut self, entry: Entry) {
        self.log.push(entry);
        self.hlc.observe(self.log.tail());
        let (index, term) = (self.log.last_index(), entry.term);
        let after_ns = self.rng.between(100 * US, 3 * MS);
        self.effects.push(Effect::Later(after_ns, Moment::Synced { index, term, answer_to: None }));
    }

    /// Writes a new ceiling, if one is wanted. It counts once the write has been reported.
    pub(crate) fn persist_ceiling(&mut self, now_ns: u64) {
        if !self.rules().ceiling || self.proposer.ceiling_in_flight {
            return;
        }
        let leads = self.role == Role::Primary;
        let wall_ns = self.wall.look(now_ns).0.now_ns;
        let log_ns = self.hlc.log_floor().ns;
        // As the daemon does: what backups take soon becomes theirs to go on from, unless it is far
        // ahead of their clock.
        let near_ns = if log_ns <= wall_ns.saturating_add(CEILING_LEAD_NS) { log_ns } else { 0 };
        let soon_ns = if leads { wall_ns.max(near_ns) } else { near_ns };
        if let Some(ceiling) = self.hlc.ceiling_needed(soon_ns) {
            self.proposer.ceiling_in_flight = true;
            let after_ns = self.rng.between(100 * US, 3 * MS);
            self.effects.push(Effect::Later(after_ns, Moment::CeilingWritten(ceiling)));
        }
    }

    pub(crate) fn ceiling_written(&mut self, ceiling: Hlc) {
        assert!(ceiling > self.ceiling, "a ceiling rises");
        self.ceiling = ceiling;
        let after_ns = self.rng.between(10 * US, 2 * MS);
        self.effects.push(Effect::Later(after_ns, Moment::CeilingTold(ceiling)));
    }

    pub(crate) fn ceiling_told(&mut self, ceiling: Hlc) {
        self.hlc.ceiling_persisted(ceiling);
        self.proposer.ceiling_in_flight = false;
    }
}
