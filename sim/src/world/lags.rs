//! What keeps a node from what the others do, for how long; and whose disk may be damaged meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use super::{Ends, REMEMBERS_AFTER, World};
use crate::fault::{Kind, OUTAGE_MAX};
use crate::machine::{Machine, pick};
use crate::shape::up_to;

/// How often a fault that damages a disk tries again, and after what time.
const MOMENTS: usize = 16;
const MOMENT: Duration = Duration::from_millis(250);

impl Ends {
    /// Whether it keeps a node from what the others do, until it ends.
    fn lags(&self) -> bool {
        match self {
            Self::Outage(_)
            | Self::Cut(..)
            | Self::Isolation(_)
            | Self::Delay(..)
            | Self::Slow(_)
            | Self::Full(_)
            | Self::Hang
            | Self::Pause(_) => true,
            Self::Drift(_) | Self::TimeLie | Self::TimeAway | Self::Power(_) => false,
        }
    }
}

impl World {
    /// Whom a fault is for. One that damages a disk waits for its moment.
    pub(super) async fn victim_soon(&mut self, kind: Kind) -> Option<usize> {
        for _ in 0..MOMENTS {
            let victim = self.victim(kind);
            if victim.is_some() || !kind.damages() {
                return victim;
            }
            tokio::time::sleep(MOMENT).await;
            self.end_what_is_due(Instant::now());
            self.note_repaired();
        }
        None
    }

    /// Whom a fault is for; nobody where it may not be.
    fn victim(&mut self, kind: Kind) -> Option<usize> {
        let any = self.aim(kind);
        if !kind.damages() {
            return Some(any);
        }
        if kind == Kind::SetBack {
            // Mostly where the others have heard for a while what the copy does not have.
            let (now, members) = (Instant::now(), self.members());
            if self.random.percent(60) && !self.was_quiet(now) {
                return None;
            }
            let old = |at: &Instant| now.duration_since(*at) > REMEMBERS_AFTER;
            let copied = self.copies.iter().filter(|(of, _, at)| members.contains(of) && old(at));
            let copied = copied.map(|(of, ..)| *of);
            let at = *pick(&mut self.random, &copied.collect::<Vec<_>>())?;
            return self.may_damage(at).then_some(at);
        }
        // A disk is often found damaged where its machine was off.
        let off = self.members().into_iter().find(|at| self.machine(*at).process().is_none());
        let at = off.filter(|_| self.random.percent(50)).unwrap_or(any);
        self.may_damage(at).then_some(at)
    }

    /// Whether a machine's disk may lose what was durable: a majority has not, and holds what was
    /// acknowledged and remember it. Where one of two holders is damaged while the other is away, and the
    /// third lacks what they held, nothing can tell (docs/promises.md, P6).
    fn may_damage(&self, at: usize) -> bool {
        let mut others = self.members().into_iter().filter(|other| *other != at);
        let remembers = |machine: &Machine| {
            machine.process().is_some_and(|process| process.since.elapsed() >= REMEMBERS_AFTER)
        };
        if self.shape.reckless {
            // One after the other: nobody may be left who knows what the others have lost.
            return self.leaving.is_empty();
        }
        // The others must be a majority that has lost nothing.
        let few = self.damaged.len() < self.members().len().saturating_sub(1) / 2;
        let few = few && !self.damaged.contains_key(&at) && self.leaving.is_empty();
        let holds = |other| self.damaged.contains_key(&other) || remembers(self.machine(other));
        few && others.all(holds) && !self.others_lag(at)
    }

    /// Whether something keeps another node than this from what the others do.
    fn others_lag(&self, at: usize) -> bool {
        let own = |ends: &Ends| matches!(ends, Ends::Outage(off) if *off == at);
        self.until.iter().any(|(_, ends)| ends.lags() && !own(ends))
    }

    /// Whether nothing kept a node from what the others do for a while before this moment.
    pub(super) fn was_quiet(&self, before: Instant) -> bool {
        let from = before.checked_sub(REMEMBERS_AFTER).unwrap_or(before);
        !self.lags.iter().any(|(began, ended)| *began < before && *ended > from)
    }

    pub(super) fn later(&mut self, ends: Ends) {
        let after = up_to(&mut self.random, OUTAGE_MAX);
        self.ends_after(after, ends);
    }

    pub(super) fn ends_after(&mut self, after: Duration, ends: Ends) {
        let now = Instant::now();
        if ends.lags() {
            // It ends at the next fault behind that, and what it held up comes then.
            self.lags.push((now, now + after + self.shape.rest_max + REMEMBERS_AFTER));
        }
        self.until.push((now + after, ends));
    }
}
