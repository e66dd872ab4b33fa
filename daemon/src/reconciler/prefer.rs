//! To whom the primary role belongs: the node of the highest priority among those that are fit. It
//! moves only if that has held without a break for a while, so a node that comes and goes does not
//! draw it to and fro. A primary that is drained or stepped down gives it away at once.
//!
//! Invariant: whoever gets the role by preference is the best of all. So the role moves at most once
//! for every change of who is the best.
//!
//! Not here: a primary whose clock is not good enough; it gives the role away for that (`lead`), and no
//! such node is a candidate here.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use proto::member::{MemberRow, MemberState, ring_order};

use crate::lead::CAUGHT_UP;
use crate::raft::EngineState;

use super::plan::Health;

/// For how long the same other node must have been the best before it gets the role, and for how long
/// this node must have had it.
const PREFERRED_FOR: Duration = Duration::from_secs(5);
/// Before a role that could not be handed over is handed over again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Another voter that could lead now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its raft id.
    pub(super) id: u64,
    /// Its name, which decides among equals.
    pub(super) name: String,
    /// The one with the highest leads.
    pub(super) priority: u32,
}

impl Candidate {
    /// The other voters that are fit to lead: heard, joined, not drained, not stepped down, meant to
    /// vote, with a clock that is good enough, a disk that is not slow, and a log that is not far
    /// behind.
    pub(super) fn all(
        view: &EngineState,
        rows: &[MemberRow],
        health: &BTreeMap<u64, Health>,
        now_ns: u64,
    ) -> Vec<Self> {
        let fit = |row: &&MemberRow| {
            let health = health.get(&row.raft_id);
            let health = health.filter(|health| health.may_lead && !health.slow);
            let behind = health.and_then(|health| health.behind);
            row.raft_id != view.id
                && view.voters.contains(&row.raft_id)
                && row.noticed() == MemberState::Joined
                && row.wants_vote()
                && !gives_away(row, now_ns)
                && behind.is_some_and(|behind| behind <= CAUGHT_UP)
        };
        let candidate = |row: &MemberRow| Self {
            id: row.raft_id,
            name: row.name.clone(),
            priority: row.priority,
        };
        rows.iter().filter(fit).map(candidate).collect()
    }
}

/// The best of them.
pub(super) fn best(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates.iter().max_by(|a, b| order(a.priority, &a.name, b.priority, &b.name))
}

/// Among equals the one that comes first in the ring.
fn order(a: u32, a_name: &str, b: u32, b_name: &str) -> Ordering {
    a.cmp(&b).then_with(|| ring_order(b_name, a_name))
}

/// Whether a node does not want the role: it is drained, or stepped down a while ago.
fn gives_away(row: &MemberRow, now_ns: u64) -> bool {
    row.drained || row.aside_until_ns > now_ns
}

/// One moment of a term.
pub(super) struct Moment<'a> {
    /// Since the term began.
    pub(super) at: Duration,
    /// This primary's row; `None` where nothing is to be preferred.
    pub(super) own: Option<&'a MemberRow>,
    /// Log time, nanoseconds.
    pub(super) now_ns: u64,
    /// Who else could lead.
    pub(super) candidates: &'a [Candidate],
}

/// Who has been better than this primary, and for how long.
#[derive(Debug, Default)]
pub(super) struct Preference {
    better: Option<(u64, Duration)>,
    /// When the role was handed over last, in vain if this node still has it.
    asked: Option<Duration>,
}

impl Preference {
    /// To whom the role goes now, if to another one.
    pub(super) fn decide(&mut self, now: &Moment<'_>) -> Option<u64> {
        let Some(own) = now.own else {
            self.better = None;
            return None;
        };
        let at_once = gives_away(own, now.now_ns);
        let is_better = |best: &&Candidate| at_once || best.priority > own.priority;
        let Some(best) = best(now.candidates).filter(is_better) else {
            self.better = None;
            return None;
        };
        let since = match self.better {
            Some((id, since)) if id == best.id => since,
            _ => now.at,
        };
        self.better = Some((best.id, since));
        let long = now.at >= PREFERRED_FOR && now.at.saturating_sub(since) >= PREFERRED_FOR;
        let again = self.asked.is_none_or(|asked| now.at.saturating_sub(asked) >= AGAIN_AFTER);
        ((at_once || long) && again).then_some(best.id)
    }

    /// Notes that somebody was asked to take the role over.
    pub(super) fn handed_over(&mut self, at: Duration) {
        self.asked = Some(at);
    }
}

#[cfg(test)]
#[path = "prefer_test.rs"]
mod tests;
