//! Which process lives with which store. A copy of a node's directory, started elsewhere, has its
//! key and its store; that it is a second one shows only while the first is heard, too.
//!
//! A process that takes the place of one that was heard a moment ago has to wait until that one is
//! silent. If the first answers a question that was asked after the second had come, both live.
//!
//! Invariant: only a process that was let in takes a place. One that is refused, or takes no part for
//! it cannot prove its store intact, never stands in the way of the next.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::attest::Shown;
use tokio::time::Instant;

/// Who was not heard for this long has ended: each node is heard ten times a second.
const SILENT_AFTER: Duration = Duration::from_millis(600);

/// How a process stands that says it is a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LifeVerdict {
    /// It is the one.
    Current,
    /// The one before it may still live.
    Waits,
    /// The one before it does.
    Second,
}

/// The processes by the raft ids of their stores.
#[derive(Debug, Default)]
pub(super) struct Lives(BTreeMap<u64, Life>);

#[derive(Debug)]
struct Life {
    life: Vec<u8>,
    heard: Instant,
    leaving: bool,
    rival: Option<Rival>,
}

/// Another one that came while the first was heard.
#[derive(Debug)]
struct Rival {
    life: Vec<u8>,
    since: Instant,
    /// Whether the first has answered since.
    proven: bool,
}

impl Life {
    fn of(shown: &Shown, now: Instant) -> Self {
        Self { life: shown.life.clone(), heard: now, leaving: false, rival: None }
    }

    fn is_alive(&self, now: Instant) -> bool {
        !self.leaving && now.saturating_duration_since(self.heard) <= SILENT_AFTER
    }
}

/// Whether a process takes part. Who cannot read how often its store was started does not.
fn takes_part(shown: &Shown) -> bool {
    shown.raft_id != 0 && shown.starts != 0
}

impl Lives {
    /// How a process stands that has just proven its key.
    pub(super) fn judge(&mut self, shown: &Shown, now: Instant) -> LifeVerdict {
        let current = self.0.get_mut(&shown.raft_id).filter(|current| current.is_alive(now));
        let Some(current) = current else { return LifeVerdict::Current };
        if current.life == shown.life {
            current.heard = now;
            return LifeVerdict::Current;
        }
        match &current.rival {
            Some(rival) if rival.life == shown.life && rival.proven => LifeVerdict::Second,
            Some(rival) if rival.life == shown.life => LifeVerdict::Waits,
            _ => {
                let life = shown.life.clone();
                current.rival = Some(Rival { life, since: now, proven: false });
                LifeVerdict::Waits
            }
        }
    }

    /// Gives a process the place that is its own: it was judged and let in.
    pub(super) fn let_in(&mut self, shown: &Shown, now: Instant) {
        let same = self.0.get(&shown.raft_id).is_some_and(|current| current.life == shown.life);
        if takes_part(shown) && !same {
            self.0.insert(shown.raft_id, Life::of(shown, now));
        }
    }

    /// Takes what a process says later; says whether it counts.
    pub(super) fn heard(
        &mut self,
        shown: &Shown,
        leaving: bool,
        asked: Option<Instant>,
        now: Instant,
    ) -> bool {
        let Some(current) = self.0.get_mut(&shown.raft_id) else { return true };
        if current.life != shown.life {
            return !takes_part(shown) && !current.is_alive(now);
        }
        current.heard = now;
        current.leaving |= leaving;
        if let Some(rival) = &mut current.rival {
            rival.proven |= asked.is_some_and(|asked| asked > rival.since);
        }
        true
    }

    /// Whether no other one has its place.
    pub(super) fn is_current(&self, shown: &Shown, now: Instant) -> bool {
        self.0.get(&shown.raft_id).is_none_or(|current| {
            current.life == shown.life || !takes_part(shown) && !current.is_alive(now)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(byte: u8) -> Shown {
        Shown { raft_id: 1, starts: 7, life: vec![byte; 16], ..Shown::default() }
    }

    /// Judges, and lets in whom nothing speaks against.
    fn admit(lives: &mut Lives, shown: &Shown, now: Instant) -> LifeVerdict {
        let standing = lives.judge(shown, now);
        if standing == LifeVerdict::Current {
            lives.let_in(shown, now);
        }
        standing
    }

    /// Seen to fail with a rival that is let in at once, and with one that a late word of the first
    /// proves to be a second.
    #[test]
    fn a_copy_is_refused_and_a_restart_waits_for_silence() {
        let mut lives = Lives::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(admit(&mut lives, &life(1), at(0)), LifeVerdict::Current);
        assert!(lives.heard(&life(1), false, Some(at(90)), at(100)));
        // A copy comes, and the first goes on answering.
        assert_eq!(admit(&mut lives, &life(2), at(150)), LifeVerdict::Waits);
        assert!(lives.heard(&life(1), false, Some(at(140)), at(160)));
        assert_eq!(admit(&mut lives, &life(2), at(170)), LifeVerdict::Waits, "it was asked before");
        assert!(lives.heard(&life(1), false, Some(at(200)), at(201)));
        assert_eq!(admit(&mut lives, &life(2), at(250)), LifeVerdict::Second);
        assert!(!lives.is_current(&life(2), at(250)) && lives.is_current(&life(1), at(250)));
        assert!(!lives.heard(&life(2), false, None, at(260)));
        // The first is killed and started again: nobody answers, so it is let in.
        assert_eq!(admit(&mut lives, &life(3), at(400)), LifeVerdict::Waits);
        assert_eq!(admit(&mut lives, &life(3), at(802)), LifeVerdict::Current);
        assert!(!lives.heard(&life(1), false, None, at(803)), "a late word of the old life");
        // One that announces its stop makes room at once.
        assert!(lives.heard(&life(3), true, None, at(810)));
        assert_eq!(admit(&mut lives, &life(4), at(811)), LifeVerdict::Current);
    }

    /// Seen to fail with every process entered that is heard while nobody else is: the node itself was
    /// refused then, as a second one beside the copy that takes no part.
    #[test]
    fn who_takes_no_part_or_is_refused_stands_in_nobodys_way() {
        let mut lives = Lives::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let copy = Shown { starts: 0, ..life(9) };
        assert_eq!(admit(&mut lives, &life(1), at(0)), LifeVerdict::Current);
        assert_eq!(admit(&mut lives, &copy, at(10)), LifeVerdict::Waits);
        assert!(lives.heard(&life(1), false, Some(at(20)), at(30)));
        assert_eq!(admit(&mut lives, &copy, at(40)), LifeVerdict::Second);
        assert!(!lives.heard(&copy, true, None, at(50)), "its stop is not the node's");
        // The node stops; what takes no part is heard meanwhile.
        assert!(lives.heard(&life(1), true, None, at(60)));
        assert_eq!(admit(&mut lives, &copy, at(70)), LifeVerdict::Current);
        assert!(lives.heard(&copy, false, Some(at(80)), at(90)) && lives.is_current(&copy, at(90)));
        // The node is back.
        assert_eq!(admit(&mut lives, &life(2), at(100)), LifeVerdict::Current);
        assert!(!lives.is_current(&copy, at(110)) && !lives.heard(&copy, false, None, at(110)));
        // A copy comes while the node is down, is judged and found lacking.
        assert!(lives.heard(&life(2), true, None, at(120)));
        assert_eq!(lives.judge(&life(3), at(130)), LifeVerdict::Current);
        assert_eq!(admit(&mut lives, &life(4), at(140)), LifeVerdict::Current);
    }
}
