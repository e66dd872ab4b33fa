//! Whether this node takes part in elections, and who may get its vote.
//!
//! Not here: who says so (`witness` for the store, `node` for the clock), and when a vote may be given
//! as far as the disk is concerned (`ballots`).

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use planted::Bug;
use proto::attest::{LogEnd, goes_as_far};

use super::Handle;

/// What this node's part in elections depends on.
#[derive(Debug)]
pub(super) struct Elections {
    /// Whether its clock lets it stand.
    allowed: AtomicBool,
    /// Whether all who could know that its store was set back were heard.
    attested: AtomicBool,
    /// See [`Handle::wait_for_log`].
    best: Mutex<Option<LogEnd>>,
}

impl Elections {
    pub(super) fn new(allowed: bool) -> Self {
        let (attested, best) = (AtomicBool::new(false), Mutex::default());
        Self { allowed: AtomicBool::new(allowed), attested, best }
    }
}

impl Handle {
    /// Lets this node stand for election when it hears no primary, or not. A transfer of the role
    /// to it is an election of its own and goes on. Before [`Handle::attested`] it never stands.
    pub fn allow_elections(&self, allowed: bool) {
        self.elections.allowed.store(allowed, Ordering::SeqCst);
        self.stand_or_not();
    }

    /// Lets this node take part in elections: whoever could know that its store was set back has
    /// been heard. Until then it neither votes nor stands, and follows a primary all the same.
    pub fn attested(&self) {
        self.elections.attested.store(true, Ordering::SeqCst);
        self.stand_or_not();
    }

    /// Whether it does.
    #[must_use]
    pub fn is_attested(&self) -> bool {
        self.elections.attested.load(Ordering::SeqCst) || planted::is(Bug::VotesBeforeMeeting)
    }

    /// Lets nobody have this node's vote whose log does not go as far as `best`, and lets this node not
    /// stand where its own does not; with `None`, the engine's rule alone decides.
    pub(crate) fn wait_for_log(&self, best: Option<LogEnd>) {
        *self.elections.best.lock() = best;
        self.stand_or_not();
    }

    /// Whether a candidate's log goes as far as the best one that this node waits for.
    pub(super) fn goes_as_far(&self, candidate: Option<LogEnd>) -> bool {
        let best = *self.elections.best.lock();
        let may = goes_as_far(candidate, best);
        if !may {
            tracing::debug!(?candidate, ?best, "a log that goes further was met: no vote");
        }
        may
    }

    fn stand_or_not(&self) {
        let held = self.store.durable().ok().and_then(|durable| durable.last);
        let held = held.map(|last| LogEnd { term: last.term, index: last.index });
        let may = self.elections.allowed.load(Ordering::SeqCst) && self.is_attested();
        self.raft.runtime_config().elect(may && self.goes_as_far(held));
    }
}
