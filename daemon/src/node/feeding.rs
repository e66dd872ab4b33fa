//! As primary: whether the others take what this node sends, as the others are told, and whether what
//! it orders is decided.
//!
//! A node may answer every question and yet get nothing: it listens elsewhere, or its disk hangs. And
//! a majority that answers heartbeats and no entries decides nothing: what clients ask for next is
//! refused before it is begun, so that nobody has to call it unknown. A cluster without entries has
//! nothing to decide, and is well.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::peer_monitor::PeerStatus;
use crate::raft::{EngineState, Follower, Handle};

use super::{Core, Node};

/// A node that has taken nothing for this long, although there was something, gets nothing.
const UNFED_AFTER: Duration = Duration::from_secs(3);
/// A primary whose entries have not been decided for this long has no majority.
const UNDECIDED_AFTER: Duration = Duration::from_secs(2);
/// Where disks are slow: so many syncs of the majority's. An entry waits for the one that runs, for its
/// own, and for the mark behind each.
const UNDECIDED_SYNCS: u32 = 6;
/// However slow they are. A sync that does not end looks slower and slower.
const UNDECIDED_MAX: Duration = Duration::from_secs(6);

/// A majority whose disks are slow answers the engine this late at most, milliseconds.
const SLOW_QUORUM_MS: u64 = 10_000;

/// What a primary knows of the others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fed {
    /// Whether a majority takes what it sends, and what it orders is decided.
    pub(super) followed: bool,
    /// Raft ids of those that take nothing.
    pub(super) unfed: Vec<u64>,
}

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct Feeding(Mutex<Track>);

#[derive(Debug, Default)]
struct Track {
    term: u64,
    /// By raft id: where the log matched, and since when it has not moved although it was behind.
    matched: BTreeMap<u64, (Option<u64>, Instant)>,
    decided: Option<Decided>,
}

/// What was decided, and since when nothing more was although there was more.
#[derive(Debug, Clone, Copy)]
struct Decided {
    index: u64,
    since: Instant,
    /// For how long that says nothing. By the disks of the moment when it began: whatever hangs since
    /// then gets no more time for it.
    limit: Duration,
}

impl Feeding {
    fn look(&self, view: &EngineState, engine: &Handle) -> Fed {
        let mut track = self.0.lock();
        if !view.is_primary() {
            *track = Track::default();
            return Fed::default();
        }
        track.look(Instant::now(), Entries::of(view, engine), &engine.followers())
    }

    /// What of it every request asks for: whether what a primary orders is decided.
    fn decides(&self, view: &EngineState, engine: &Handle) -> bool {
        self.0.lock().decides(Instant::now(), Entries::of(view, engine))
    }
}

impl Node {
    /// As primary: what it knows of the others. Nobody follows where it is not.
    pub(super) fn fed(&self, core: &Core, view: &EngineState) -> Fed {
        let fed = core.feeding.look(view, &core.engine);
        Fed { followed: fed.followed && self.is_heard(view), ..fed }
    }

    /// On the primary: whether what it orders would be stored by a majority; true elsewhere, where
    /// nobody can tell. A majority that answers and stores nothing is none: its disks hang.
    pub(crate) fn is_followed(&self, view: &EngineState) -> bool {
        let Ok(core) = self.core() else { return true };
        !view.is_primary() || core.feeding.decides(view, &core.engine) && self.is_heard(view)
    }

    /// On the primary: whether a majority answers. Who answers the engine late for the sake of its disk,
    /// and says meanwhile that it follows, does: the exchanges of the nodes wait for no disk.
    fn is_heard(&self, view: &EngineState) -> bool {
        let lately = view.quorum_ack_ms().is_some_and(|ms| ms < SLOW_QUORUM_MS);
        view.is_followed() || lately && self.majority_follows(view)
    }

    fn majority_follows(&self, view: &EngineState) -> bool {
        let follows = |id: &&u64| {
            let name = view.members.get(*id).map_or("", |member| member.name.as_str());
            let heard = self.inner.members.heard(name).filter(PeerStatus::is_up);
            **id == view.id
                || heard.is_some_and(|heard| {
                    heard.info.term == view.term && heard.info.primary == self.inner.name.as_str()
                })
        };
        view.voters.iter().filter(follows).count() * 2 > view.voters.len()
    }
}

/// A primary's log at one moment.
#[derive(Debug, Clone, Copy)]
struct Entries {
    term: u64,
    /// The last one.
    last: u64,
    /// The last that a majority has stored.
    decided: u64,
    /// How long a sync takes at a majority.
    pace: Duration,
}

impl Entries {
    fn of(view: &EngineState, engine: &Handle) -> Self {
        let (last, decided) = engine.decided();
        Self { term: view.term, last, decided, pace: engine.pace() }
    }
}

impl Track {
    fn decides(&mut self, now: Instant, seen: Entries) -> bool {
        let Entries { term, last, decided, pace } = seen;
        if self.term != term {
            *self = Self { term, ..Self::default() };
        }
        let before = self.decided.filter(|before| before.index == decided && decided < last);
        let undecided = *self.decided.insert(before.unwrap_or_else(|| {
            let limit = pace.saturating_mul(UNDECIDED_SYNCS);
            let limit = limit.clamp(UNDECIDED_AFTER, UNDECIDED_MAX);
            Decided { index: decided, since: now, limit }
        }));
        now.saturating_duration_since(undecided.since) < undecided.limit
    }

    fn look(&mut self, now: Instant, seen: Entries, followers: &BTreeMap<u64, Follower>) -> Fed {
        let followed = self.decides(now, seen);
        let since = |at: Instant| now.saturating_duration_since(at);
        let last = seen.last;
        let mut unfed = Vec::new();
        self.matched.retain(|id, _| followers.contains_key(id));
        for (id, follower) in followers {
            let Follower { matched, acked } = *follower;
            let is_level = matched.is_some_and(|matched| matched >= last);
            let moved = |(before, _): &(Option<u64>, Instant)| *before != matched || is_level;
            let track = self.matched.entry(*id).or_insert((matched, now));
            if moved(track) {
                *track = (matched, now);
            }
            let silent = acked.unwrap_or_else(|| since(track.1));
            if since(track.1) >= UNFED_AFTER || silent >= UNFED_AFTER {
                unfed.push(*id);
            }
        }
        Fed { followed, unfed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Looks of a primary in one term: at how many milliseconds, its last entry, what is decided, and
    /// where the logs of 2 and 3 match.
    fn looked(looks: &[(u32, u64, u64, [u64; 2])]) -> Vec<(bool, Vec<u64>)> {
        let (mut track, start) = (Track::default(), Instant::now());
        let mut looks = looks.iter().map(|(at, last, decided, matched)| {
            let follower =
                |(id, at): (u64, &u64)| (id, Follower { matched: Some(*at), acked: Some(MS) });
            let followers = (2..).zip(matched).map(follower).collect();
            let seen = Entries { term: 7, last: *last, decided: *decided, pace: MS };
            let fed = track.look(start + MS * *at, seen, &followers);
            (fed.followed, fed.unfed)
        });
        let mut out = Vec::new();
        out.extend(&mut looks);
        out
    }

    /// Seen to fail with: the age of the last heartbeat taken alone. A voter whose appends go nowhere
    /// would be healthy.
    #[test]
    fn who_takes_nothing_for_seconds_gets_nothing() {
        let told = looked(&[
            (0, 9, 9, [9, 8]),
            (2000, 9, 9, [9, 8]),
            (3000, 9, 9, [9, 8]),
            // Slow is not stuck.
            (3100, 20, 20, [20, 9]),
            (6000, 30, 30, [30, 10]),
            (8900, 40, 40, [40, 11]),
            (11_900, 40, 40, [40, 11]),
            (20_000, 40, 40, [40, 40]),
        ]);
        let unfed: Vec<Vec<u64>> = told.iter().map(|(_, unfed)| unfed.clone()).collect();
        let none = Vec::new;
        assert_eq!(unfed, [none(), none(), vec![3], none(), none(), none(), vec![3], none()]);
        assert!(told.iter().all(|(followed, _)| *followed));
    }

    #[test]
    fn what_is_not_decided_for_seconds_has_no_majority() {
        let told = looked(&[
            (0, 9, 8, [8, 8]),
            (1900, 12, 8, [8, 8]),
            (2000, 12, 8, [8, 8]),
            (2100, 12, 9, [9, 9]),
            (9000, 12, 12, [12, 12]),
        ]);
        let followed: Vec<bool> = told.iter().map(|(followed, _)| *followed).collect();
        assert_eq!(followed, [true, true, false, true, true]);
    }

    /// Seen to fail with: one limit for all disks, and with the pace looked up at each look.
    #[test]
    fn slow_disks_get_time_and_disks_that_hang_do_not() {
        let at = |start: Instant, pace: [u32; 3]| {
            let (mut track, looks) = (Track::default(), [0, 2000, 5900]);
            looks
                .into_iter()
                .zip(pace)
                .map(|(at, pace)| {
                    let seen = Entries { term: 7, last: 9, decided: 8, pace: MS * pace };
                    track.look(start + MS * at, seen, &BTreeMap::new()).followed
                })
                .collect::<Vec<_>>()
        };
        let now = Instant::now();
        assert_eq!(at(now, [1, 1, 1]), [true, false, false]);
        assert_eq!(at(now, [900, 900, 900]), [true, true, false], "an entry takes seconds there");
        assert_eq!(at(now, [1, 2000, 5900]), [true, false, false], "the sync that runs never ends");
        assert_eq!(at(now, [60_000, 60_000, 60_000]), [true, true, true], "there is an end to it");
        let mut track = Track::default();
        let seen = Entries { term: 7, last: 9, decided: 8, pace: MS * 60_000 };
        assert!(track.look(now, seen, &BTreeMap::new()).followed);
        assert!(!track.look(now + UNDECIDED_MAX, seen, &BTreeMap::new()).followed);
    }

    #[test]
    fn who_acknowledges_nothing_gets_nothing_and_a_new_term_begins_anew() {
        let (mut track, start) = (Track::default(), Instant::now());
        let seen = |term| Entries { term, last: 0, decided: 0, pace: MS };
        let silent = Follower { matched: None, acked: None };
        let followers = BTreeMap::from([(2, silent)]);
        assert_eq!(track.look(start, seen(7), &followers).unfed, [0; 0]);
        assert_eq!(track.look(start + UNFED_AFTER, seen(7), &followers).unfed, [2]);
        assert_eq!(track.look(start + UNFED_AFTER, seen(8), &followers).unfed, [0; 0]);
        let late = Follower { matched: Some(0), acked: Some(UNFED_AFTER) };
        let followers = BTreeMap::from([(2, late)]);
        assert_eq!(track.look(start + UNFED_AFTER, seen(8), &followers).unfed, [2]);
    }
}
