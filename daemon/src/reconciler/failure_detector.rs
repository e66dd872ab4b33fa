//! What the primary notices of the nodes: who fell silent, who stopped, who is back.
//!
//! A node that is not heard for a second is suspect, after four it has left: cut off, if others say
//! that they hear it, else unreachable. One that announces its stop has left at once. Who is heard
//! again has to be heard for a moment before it counts as back, so that one packet through a failing
//! link is no return.
//!
//! Silence counts only while this node could have heard something: from the moment on when it became
//! primary, and anew after it was not scheduled itself. A paused primary would else accuse everybody.
//!
//! Not here: the exchanges (`peer_monitor`), how a notice is ordered (`reconciler`), which of them change
//! anything and what event each becomes (`model::members`).

use std::collections::BTreeMap;
use std::time::Duration;

use proto::member::{LeftReason, MemberRow, MemberState, NodeRole, Notice};
use tokio::time::Instant;

use crate::peer_monitor::{PeerMonitor, PeerStatus};

/// A node that is silent for this long is suspect.
const SUSPECT_AFTER: Duration = Duration::from_secs(1);
/// A node that is silent for this long has left.
const LEFT_AFTER: Duration = Duration::from_secs(4);
/// A node that is heard for this long without a pause is back.
const BACK_AFTER: Duration = Duration::from_millis(300);
/// A longer pause between two looks means that this node itself was not scheduled.
const OWN_PAUSE: Duration = Duration::from_millis(500);

/// One look at the others, on the primary.
pub(crate) struct Observed<'a> {
    /// The primary's own name.
    pub(crate) name: &'a str,
    /// Starts of the primary's own store.
    pub(crate) starts: u64,
    /// Nonce of the primary's own store.
    pub(crate) nonce: &'a [u8],
    /// The members as the state keeps them, by name.
    pub(crate) rows: &'a [MemberRow],
    /// What is heard of the others.
    pub(crate) members: &'a PeerMonitor,
    /// How long this node has been primary.
    pub(crate) leading_for: Duration,
}

/// Since when this node could have heard the others. One for each time of being primary.
#[derive(Debug, Default)]
pub(crate) struct FailureDetector {
    looked: Option<Instant>,
    awake_since: Option<Instant>,
}

impl FailureDetector {
    /// What is to be noted now, one notice per change. Looks have to follow each other more closely
    /// than half a second: a longer pause counts as one of this node's own.
    pub(crate) fn transitions(&mut self, looked: &Observed<'_>) -> Vec<Notice> {
        let watching = self.watching_at(Instant::now()).min(looked.leading_for);
        let heard = looked.members.all_heard();
        let voices = heard.iter().map(|(name, heard)| (name.as_str(), Voice::of(heard))).collect();
        transitions(&Look {
            name: looked.name,
            starts: looked.starts,
            nonce: looked.nonce,
            rows: looked.rows,
            voices: &voices,
            watching,
        })
    }

    /// How long this node has been watching without a pause of its own.
    fn watching_at(&mut self, now: Instant) -> Duration {
        let paused = |looked| now.saturating_duration_since(looked) > OWN_PAUSE;
        if let Some(looked) = self.looked.replace(now)
            && paused(looked)
        {
            tracing::debug!("this node was not scheduled: silence counts from now on");
            self.awake_since = Some(now);
        }
        now.saturating_duration_since(*self.awake_since.get_or_insert(now))
    }
}

/// What is heard of a node.
#[derive(Debug, Clone, Default)]
struct Voice {
    /// How long ago, as one that answers.
    age: Duration,
    /// Whether its words come here, though it may not answer.
    speaks: bool,
    /// For how long without a pause, when it was heard last.
    run: Duration,
    starts: u64,
    /// Nonce of its store.
    nonce: Vec<u8>,
    leaving: bool,
    /// It speaks, but its store is not proven intact: it takes no part.
    repairing: bool,
    /// Whom it hears.
    hears: Vec<String>,
}

impl Voice {
    fn of(heard: &PeerStatus) -> Self {
        Self {
            age: heard.silence(),
            speaks: heard.speaks(),
            run: heard.run(),
            starts: heard.info.starts,
            nonce: heard.info.shown.as_ref().map_or_else(Vec::new, |shown| shown.nonce.clone()),
            leaving: heard.info.leaving,
            repairing: NodeRole::read(&heard.info.role) == NodeRole::Repairing,
            hears: heard.info.hears.clone(),
        }
    }

    fn is_fresh(&self) -> bool {
        self.age < SUSPECT_AFTER
    }
}

/// Everything that a decision rests on.
struct Look<'a> {
    name: &'a str,
    starts: u64,
    nonce: &'a [u8],
    rows: &'a [MemberRow],
    voices: &'a BTreeMap<&'a str, Voice>,
    /// How long silence can count at most.
    watching: Duration,
}

/// What is to be noted of all nodes.
fn transitions(look: &Look<'_>) -> Vec<Notice> {
    look.rows.iter().filter_map(|row| look.due_of(row)).collect()
}

impl Look<'_> {
    fn due_of(&self, row: &MemberRow) -> Option<Notice> {
        if row.noticed() == MemberState::Removed {
            return None;
        }
        if row.name == self.name {
            return joined(row, self.starts, self.nonce);
        }
        let voice = self.voices.get(row.name.as_str());
        if let Some(voice) = voice.filter(|voice| !voice.repairing) {
            if voice.leaving {
                return stopped(row, voice.starts);
            }
            // Who was never heard has not fallen silent either: it need not prove that it is back.
            let steady = row.noticed() == MemberState::Admitted || voice.run >= BACK_AFTER;
            if voice.is_fresh() && steady {
                return joined(row, voice.starts, &voice.nonce);
            }
        }
        let repairing = voice.is_some_and(|voice| voice.repairing);
        let age = voice.filter(|voice| !voice.repairing).map(|voice| voice.age);
        let silence = age.map_or(self.watching, |age| age.min(self.watching));
        match row.noticed() {
            MemberState::Joined | MemberState::Suspect if silence >= LEFT_AFTER => {
                let (reason, detail) = self.why_silent(&row.name, repairing);
                Some(notice(row, MemberState::Left, Some(reason), 0, detail))
            }
            MemberState::Joined if silence >= SUSPECT_AFTER => {
                Some(notice(row, MemberState::Suspect, None, 0, String::new()))
            }
            MemberState::Joined
            | MemberState::Suspect
            | MemberState::Admitted
            | MemberState::Left
            | MemberState::Removed => None,
        }
    }

    /// Why a silent node left, and what else is known.
    fn why_silent(&self, name: &str, repairing: bool) -> (LeftReason, String) {
        if repairing {
            return (LeftReason::Unreachable, "it cannot prove its store intact".to_owned());
        }
        let hears = |voice: &Voice| {
            voice.is_fresh() && !voice.leaving && voice.hears.iter().any(|heard| heard == name)
        };
        let hearing = self.voices.iter().filter(|(other, voice)| **other != name && hears(voice));
        let hearing: Vec<_> = hearing.map(|(other, _)| *other).collect();
        let speaks = self.voices.get(name).is_some_and(|voice| voice.speaks);
        match hearing.as_slice() {
            [] if speaks => (LeftReason::CutOff, "it is heard but does not answer".to_owned()),
            [] => (LeftReason::Unreachable, String::new()),
            [one] => (LeftReason::CutOff, format!("{one} hears it")),
            all => (LeftReason::CutOff, format!("{} hear it", all.join(", "))),
        }
    }
}

/// A node takes part, in this life of it.
fn joined(row: &MemberRow, starts: u64, nonce: &[u8]) -> Option<Notice> {
    let news = row.noticed() != MemberState::Joined || starts > row.starts;
    let joined = || notice(row, MemberState::Joined, None, starts, String::new());
    news.then(|| Notice { nonce: nonce.to_vec(), ..joined() })
}

/// A node announced its stop. One that never took part, or is known to be away, is no news; nor is
/// the announcement of an earlier life.
fn stopped(row: &MemberRow, starts: u64) -> Option<Notice> {
    let there = matches!(row.noticed(), MemberState::Joined | MemberState::Suspect);
    (there && starts >= row.starts)
        .then(|| notice(row, MemberState::Left, Some(LeftReason::Stopped), starts, String::new()))
}

fn notice(
    row: &MemberRow,
    state: MemberState,
    why: Option<LeftReason>,
    starts: u64,
    detail: String,
) -> Notice {
    let (name, raft_id) = (row.name.clone(), row.raft_id);
    let (state, reason) =
        (state.into(), why.map(|why| why.as_str().to_owned()).unwrap_or_default());
    Notice { name, raft_id, state, reason, starts, detail, nonce: Vec::new() }
}

#[cfg(test)]
#[path = "failure_detector_test.rs"]
mod tests;
