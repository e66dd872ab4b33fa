//! As primary: whether the others take what this node sends, as the others are told, and whether what
//! it orders is decided.
//!
//! A node may answer every question and yet get nothing: it listens elsewhere, or its disk hangs. And
//! a majority that answers heartbeats and no entries decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::peer_monitor::PeerStatus;
use crate::raft::{EngineState, Follower, Handle};

use super::Node;

/// A node that has taken nothing for this long, although there was something, gets nothing.
const UNFED_AFTER: Duration = Duration::from_secs(3);
/// A primary whose entries have not been decided for this long has no majority.
const UNDECIDED_AFTER: Duration = Duration::from_secs(2);

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
pub(super) struct Feeding(Mutex<Track>);

#[derive(Debug, Default)]
struct Track {
    term: u64,
    /// By raft id: where the log matched, and since when it has not moved although it was behind.
    matched: BTreeMap<u64, (Option<u64>, Instant)>,
    /// What was decided, and since when nothing more was although there was more.
    decided: Option<(u64, Instant)>,
}

impl Feeding {
    /// `followed`: whether a majority follows, see [`Node::is_followed`].
    pub(super) fn look(&self, view: &EngineState, engine: &Handle, followed: bool) -> Fed {
        let mut track = self.0.lock();
        if !view.is_primary() {
            *track = Track::default();
            return Fed::default();
        }
        let (last, decided) = engine.decided();
        let fed = track.look(Instant::now(), view.term, last, decided, &engine.followers());
        Fed { followed: fed.followed && followed, ..fed }
    }
}

impl Node {
    /// On the primary: whether a majority follows it; true elsewhere, where nobody can tell. Who
    /// answers the engine late for the sake of its disk, and says meanwhile that it follows, does: the
    /// exchanges of the nodes wait for no disk.
    pub(crate) fn is_followed(&self, view: &EngineState) -> bool {
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

impl Track {
    fn look(
        &mut self,
        now: Instant,
        term: u64,
        last: u64,
        decided: u64,
        followers: &BTreeMap<u64, Follower>,
    ) -> Fed {
        if self.term != term {
            *self = Self { term, ..Self::default() };
        }
        let since = |at: Instant| now.saturating_duration_since(at);
        let before = self.decided.filter(|(before, _)| *before == decided && decided < last);
        let (_, undecided) = *self.decided.insert(before.unwrap_or((decided, now)));
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
        Fed { followed: since(undecided) < UNDECIDED_AFTER, unfed }
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
            let fed = track.look(start + MS * *at, 7, *last, *decided, &followers);
            (fed.followed, fed.unfed)
        });
        let mut out = Vec::new();
        out.extend(&mut looks);
        out
    }

    /// Meant to catch the age of the last heartbeat taken alone: a voter whose appends go nowhere
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

    #[test]
    fn who_acknowledges_nothing_gets_nothing_and_a_new_term_begins_anew() {
        let (mut track, start) = (Track::default(), Instant::now());
        let silent = Follower { matched: None, acked: None };
        let followers = BTreeMap::from([(2, silent)]);
        assert_eq!(track.look(start, 7, 0, 0, &followers).unfed, [0; 0]);
        assert_eq!(track.look(start + UNFED_AFTER, 7, 0, 0, &followers).unfed, [2]);
        assert_eq!(track.look(start + UNFED_AFTER, 8, 0, 0, &followers).unfed, [0; 0]);
        let late = Follower { matched: Some(0), acked: Some(UNFED_AFTER) };
        let followers = BTreeMap::from([(2, late)]);
        assert_eq!(track.look(start + UNFED_AFTER, 8, 0, 0, &followers).unfed, [2]);
    }
}
