//! What the state was like at places that all replicas share, so that they can be compared: the digest of
//! its history behind every so many entries, and the digest of all its rows behind an entry that asks for
//! that.
//!
//! All rows are read from a frozen moment, on a thread of its own: apply goes on. One reading at a time;
//! an entry that asks for another one meanwhile is passed over.
//!
//! Not here: who compares (`node::states`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::command::AuditPace;
use model::hash::Hash;
use parking_lot::Mutex;
use proto::attest::Place;
use proto::limits::{STATES_COMPARED_EVERY, STATES_KEPT};
use proto::peer::{Digested, StateClaim};

use super::Handle;
use crate::store::Store;
use crate::store::format::LogMark;

/// Bytes a second at which a state is read before anybody has said how fast.
const PACE_AT_FIRST: u64 = 256 << 10;

/// What is remembered. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct States(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    history: VecDeque<StateClaim>,
    content: VecDeque<StateClaim>,
    /// How fast all rows are being read, in bytes a second, or 0 for as fast as the disk gives them; `None`
    /// while they are not.
    reading: Option<Arc<AtomicU64>>,
    bytes_per_s: Option<u64>,
}

impl Handle {
    /// How fast a state is read that is compared, in bytes a second, where nobody waits for it.
    pub(crate) fn set_audit_pace(&self, bytes_per_s: u64) {
        self.machine.states.set_pace(bytes_per_s);
    }

    /// What the state was like at places that all replicas share.
    #[must_use]
    pub fn states(&self) -> Vec<StateClaim> {
        self.machine.states.claims()
    }
}

impl States {
    /// All that is remembered, of each kind the newest last.
    pub(super) fn claims(&self) -> Vec<StateClaim> {
        let inner = self.0.lock();
        inner.history.iter().chain(&inner.content).cloned().collect()
    }

    pub(super) fn set_pace(&self, bytes_per_s: u64) {
        self.0.lock().bytes_per_s = Some(bytes_per_s);
    }

    /// Notes the digest behind an applied entry, if that is one of those that are compared.
    pub(super) fn note_history(&self, place: &LogMark, digest: Hash) {
        if place.index.is_multiple_of(STATES_COMPARED_EVERY) && place.index > 0 {
            keep(&mut self.0.lock().history, claim(place, Digested::History, digest));
        }
    }

    /// Reads all rows of the state as it is now, behind the entry at this place, aside.
    pub(super) fn read(&self, store: &Store, place: &LogMark, pace: AuditPace) {
        let bytes_per_s = {
            let mut inner = self.0.lock();
            let bytes_per_s = match pace {
                AuditPace::Slow => inner.bytes_per_s.unwrap_or(PACE_AT_FIRST),
                AuditPace::AtOnce => 0,
            };
            if let Some(reading) = &inner.reading {
                // Whoever waits gets what is being read; on every node that is behind the same entry.
                reading.fetch_min(bytes_per_s, Ordering::Relaxed);
                return;
            }
            Arc::clone(inner.reading.insert(Arc::new(AtomicU64::new(bytes_per_s))))
        };
        let (states, place, at) = (self.clone(), place.clone(), place.index);
        let begun = store.audit_aside(bytes_per_s, move |found| {
            assert_eq!(found.index, at, "a frozen state stays where it was");
            let mut inner = states.0.lock();
            inner.reading = None;
            // One that is damaged says nothing of the others.
            if found.problems.is_empty() {
                keep(&mut inner.content, claim(&place, Digested::Content, found.content));
            }
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "the state cannot be read for a comparison now");
            self.0.lock().reading = None;
        }
    }
}

fn claim(place: &LogMark, digested: Digested, digest: Hash) -> StateClaim {
    let LogMark { index, term, hash } = place.clone();
    let place = Some(Place { index, term, hash });
    StateClaim { place, digested: digested.into(), digest: digest.to_vec() }
}

fn keep(kept: &mut VecDeque<StateClaim>, new: StateClaim) {
    if kept.len() >= STATES_KEPT {
        kept.pop_front();
    }
    kept.push_back(new);
    assert!(kept.len() <= STATES_KEPT, "what is remembered is bounded");
}
