//! Which process lives with which store. A copy of a node's directory, started elsewhere, has its
//! key and its store; that it is a second one shows only while the first is heard, too.
//!
//! A process that takes the place of one that was heard a moment ago has to wait until that one is
//! silent. If the first answers a question that was asked after the second had come, both live.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::attest::Shown;
use tokio::time::Instant;

/// Who was not heard for this long has ended: each node is heard ten times a second.
const SILENT_AFTER: Duration = Duration::from_millis(600);

/// How a process stands that says it is a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
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

impl Lives {
    /// Takes the word of a process that has just proven its key.
    pub(super) fn admit(&mut self, shown: &Shown, now: Instant) -> Standing {
        if shown.raft_id == 0 {
            // Its store cannot even say whose it is: it takes no part.
            return Standing::Current;
        }
        let new = || Life { life: shown.life.clone(), heard: now, leaving: false, rival: None };
        let current = self.0.entry(shown.raft_id).or_insert_with(new);
        if current.life == shown.life {
            current.heard = now;
            return Standing::Current;
        }
        if current.leaving || now.saturating_duration_since(current.heard) > SILENT_AFTER {
            *current = new();
            return Standing::Current;
        }
        match &current.rival {
            Some(rival) if rival.life == shown.life && rival.proven => Standing::Second,
            Some(rival) if rival.life == shown.life => Standing::Waits,
            _ => {
                let life = shown.life.clone();
                current.rival = Some(Rival { life, since: now, proven: false });
                Standing::Waits
            }
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
            return false;
        }
        current.heard = now;
        current.leaving |= leaving;
        if let Some(rival) = &mut current.rival {
            rival.proven |= asked.is_some_and(|asked| asked > rival.since);
        }
        true
    }

    /// Whether no other one has taken its place.
    pub(super) fn is_current(&self, shown: &Shown) -> bool {
        self.0.get(&shown.raft_id).is_none_or(|current| current.life == shown.life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(byte: u8) -> Shown {
        Shown { raft_id: 1, life: vec![byte; 16], ..Shown::default() }
    }

    /// Seen to fail with a rival that is let in at once, and with one that a late word of the first
    /// proves to be a second.
    #[test]
    fn a_copy_is_refused_and_a_restart_waits_for_silence() {
        let mut lives = Lives::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(lives.admit(&life(1), at(0)), Standing::Current);
        assert!(lives.heard(&life(1), false, Some(at(90)), at(100)));
        // A copy comes, and the first goes on answering.
        assert_eq!(lives.admit(&life(2), at(150)), Standing::Waits);
        assert!(lives.heard(&life(1), false, Some(at(140)), at(160)));
        assert_eq!(lives.admit(&life(2), at(170)), Standing::Waits, "it was asked before");
        assert!(lives.heard(&life(1), false, Some(at(200)), at(201)));
        assert_eq!(lives.admit(&life(2), at(250)), Standing::Second);
        assert!(!lives.is_current(&life(2)) && lives.is_current(&life(1)));
        assert!(!lives.heard(&life(2), false, None, at(260)));
        // The first is killed and started again: nobody answers, so it is let in.
        assert_eq!(lives.admit(&life(3), at(400)), Standing::Waits);
        assert_eq!(lives.admit(&life(3), at(802)), Standing::Current);
        assert!(!lives.heard(&life(1), false, None, at(803)), "a late word of the old life");
        // One that announces its stop makes room at once.
        assert!(lives.heard(&life(3), true, None, at(810)));
        assert_eq!(lives.admit(&life(4), at(811)), Standing::Current);
    }
}
