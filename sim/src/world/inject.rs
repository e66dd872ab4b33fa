//! What each fault does to the machines.

use std::sync::Arc;
use std::time::Duration;

use log::memory::{Fault, Random};
use net::switchboard::Switchboard;
use proto::limits::REPAIRS_MAX;

use super::{Ends, World};
use crate::fault::{JUMP_MIN, Kind, OUTAGE_MAX};
use crate::machine::{End, pick};
use crate::note;
use crate::shape::up_to;

/// How long a power cut waits for a write that it comes into.
const WRITES_WITHIN: Duration = Duration::from_millis(100);
/// Longest time for which a disk does not answer.
const HANGS_MAX: Duration = Duration::from_secs(12);

/// How far a time server lies at most, milliseconds.
const LIES_MS: [u64; 3] = [10, 200, 10_000];
impl World {
    pub(super) fn between(
        &mut self,
        act: impl FnOnce(&Switchboard, &proto::Name, &proto::Name),
        ends: impl FnOnce(usize, usize) -> Ends,
    ) -> bool {
        let (one, other) = self.pair();
        let ends = ends(one, other);
        let (from, to) = (&self.machine(one).name, &self.machine(other).name);
        note!(self.trace, "{ends:?} begins between {from} and {to}");
        act(&self.board, from, to);
        self.later(ends);
        true
    }

    pub(super) fn fail_disk(&mut self, at: usize, fault: Fault) -> bool {
        note!(self.trace, "{fault:?} waits in the disk of {}", self.machine(at).name);
        let machine = Arc::clone(self.machine(at));
        machine.fail_disk(&mut self.random, fault, 40);
        if fault == Fault::Error && self.random.percent(50) {
            self.later(Ends::Power(at));
        }
        true
    }

    pub(super) fn hang_disk(&mut self, at: usize) -> bool {
        let time = up_to(&mut self.random, HANGS_MAX);
        note!(self.trace, "the disk of {} does not answer for {time:?}", self.machine(at).name);
        self.machine(at).hang_disk(time);
        self.ends_after(time, Ends::Hang);
        true
    }

    pub(super) fn fill_disk(&mut self, at: usize) -> bool {
        note!(self.trace, "the disk of {} is full", self.machine(at).name);
        self.machine(at).fill_disk(true);
        self.later(Ends::Full(at));
        true
    }

    /// Ends a process and keeps its machine off for a while.
    pub(super) fn outage(&mut self, at: usize, how: End) -> bool {
        let bit = self.machine(at).end(how);
        note!(self.trace, "{how:?}: {} (bit: {bit})", self.machine(at).name);
        // Most start again at once; some stay away.
        if self.random.percent(50) {
            self.machine(at).turn(false);
            self.later(Ends::Outage(at));
        }
        bit
    }

    pub(super) fn outage_of_all(&mut self, how: End) -> bool {
        let mut bit = false;
        for at in self.members() {
            bit |= self.outage(at, how);
        }
        bit
    }

    /// Cuts the power of machines at once, in the middle of a write of one of them if one comes soon.
    pub(super) async fn power_cut(&mut self, machines: &[usize]) -> bool {
        let running: Vec<_> =
            machines.iter().filter_map(|at| self.machine(*at).process()).collect();
        // The watermark is written once a second.
        let mark = self.random.percent(30);
        for at in machines {
            let machine = Arc::clone(self.machine(*at));
            match mark {
                true => machine.fail_marks(&mut self.random),
                false => machine.fail_disk(&mut self.random, Fault::Death, 6),
            }
        }
        let first = running.iter().map(|process| Box::pin(process.died.cancelled()));
        if !running.is_empty() {
            let first = futures::future::select_all(first);
            let _ = tokio::time::timeout(WRITES_WITHIN * if mark { 12 } else { 1 }, first).await;
        }
        let mut bit = false;
        for at in machines {
            bit |= self.outage(*at, End::PowerCut);
        }
        bit
    }

    pub(super) fn step_clock(&mut self, at: usize) -> bool {
        let most = if self.random.percent(60) { self.shape.step_max_ms } else { 500 };
        let far = i64::try_from(self.random.below(2 * most)).unwrap_or(0);
        let far = far - i64::try_from(most).unwrap_or(0);
        note!(self.trace, "the wall clock of {} steps by {far} ms", self.machine(at).name);
        self.machine(at).clock.step_wall(far * 1_000_000);
        true
    }

    pub(super) fn let_clock_drift(&mut self, at: usize) -> bool {
        let ppb = i64::try_from(self.random.below(400_000)).unwrap_or(0) - 200_000;
        note!(self.trace, "the clock of {} drifts by {ppb} ppb", self.machine(at).name);
        self.machine(at).clock.set_rate_ppb(ppb);
        self.later(Ends::Drift(at));
        true
    }

    /// Lets one time server lie: by little, which looks honest, or by much.
    pub(super) fn lie_about_time(&mut self) -> bool {
        let most_ms = *pick(&mut self.random, &LIES_MS).unwrap_or(&0);
        let by_ms = i64::try_from(self.random.below(2 * most_ms)).unwrap_or(0);
        let by_ms = by_ms - i64::try_from(most_ms).unwrap_or(0);
        note!(self.trace, "a time server lies by {by_ms} ms");
        self.time_servers.lie(by_ms * 1_000_000);
        self.later(Ends::TimeLie);
        true
    }

    pub(super) fn take_time_away(&mut self) -> bool {
        note!(self.trace, "no time server answers");
        self.time_servers.be_away(true);
        self.later(Ends::TimeAway);
        true
    }

    /// Lets a counter jump, of one machine in a run: the others can prove it wrong.
    pub(super) fn jump(&mut self, at: usize) -> bool {
        if *self.jumped.get_or_insert(at) != at {
            return false;
        }
        let by = JUMP_MIN + up_to(&mut self.random, JUMP_MIN);
        note!(self.trace, "the counter of {} jumps by {by:?}", self.machine(at).name);
        self.auditor.clock_jumps(self.machine(at).name.as_str());
        self.machine(at).clock.jump(u64::try_from(by.as_nanos()).unwrap_or(0));
        true
    }

    /// Lets a process stand still. What it is asked meanwhile finds it as it was.
    pub(super) fn pause(&mut self, at: usize) -> bool {
        let stands = self.machine(at).stand();
        if stands {
            note!(self.trace, "{} stands still", self.machine(at).name);
            self.later(Ends::Pause(at));
            let random = Random::new(self.random.draw());
            let asks = self.clients.clone().ask_often(Arc::clone(self.machine(at)), random);
            drop(tokio::spawn(asks));
        }
        stands
    }

    /// The machine that a fault of this kind comes to. What a fault does to the primary's lead, it does to
    /// nobody else.
    pub(super) fn aim(&mut self, kind: Kind) -> usize {
        let at = self.any();
        let leads =
            |at: &usize| self.machine(*at).engine_state().is_some_and(|view| view.is_primary());
        let primary = self.members().into_iter().find(leads);
        match (kind, primary) {
            (Kind::Pause | Kind::ClockJump | Kind::DiskHang, Some(primary))
                if self.random.percent(50) =>
            {
                primary
            }
            _ => at,
        }
    }

    pub(super) async fn stop(&mut self, at: usize) -> bool {
        let Some(process) = self.machine(at).process() else { return false };
        note!(self.trace, "{} is told to stop", self.machine(at).name);
        // One that stands still does so when it goes on.
        self.machine(at).go_on();
        let stopped = process.pause.within(process.running.stop());
        let stopped = process.died.run_until_cancelled(stopped).await.is_some();
        self.machine(at).end(End::Killed);
        note!(self.trace, "{} has stopped: {stopped}", self.machine(at).name);
        stopped
    }

    /// Takes away what a machine had made durable; others may be away or start again meanwhile.
    pub(super) fn damage(&mut self, at: usize, kind: Kind) -> bool {
        if self.shape.reckless && kind == Kind::SetBack {
            return self.set_back_all_but_one(at);
        }
        let bit = self.lose(at, kind);
        match self.random.below(4) {
            // Whoever holds what was lost may be away,
            0 | 1 if bit => {
                let other = self.other_than(at);
                self.outage(other, End::Killed);
            }
            // or all may start again before they meet.
            2 if bit => {
                for other in self.members().into_iter().filter(|other| *other != at) {
                    self.machine(other).end(End::Killed);
                }
            }
            _ => {}
        }
        bit
    }

    /// Sets every machine back that has a copy, while the one that is not reaches nobody for a while:
    /// whoever is left may begin another history.
    fn set_back_all_but_one(&mut self, at: usize) -> bool {
        let kept = self.other_than(at);
        let members = self.members().into_iter();
        let others: Vec<_> = members.filter(|other| *other != kept).collect();
        let copied = |other: &usize| self.copies.iter().any(|(of, ..)| of == other);
        // One that nobody has set back would know, and the next one would end what this one begins.
        let lasts = self.until.iter().any(|(_, ends)| matches!(ends, Ends::Isolation(_)));
        if lasts || !others.iter().all(copied) {
            return false;
        }
        note!(self.trace, "{} reaches nobody", self.machine(kept).name);
        self.board.isolate(&self.machine(kept).name);
        let time = OUTAGE_MAX + up_to(&mut self.random, OUTAGE_MAX);
        self.ends_after(time, Ends::Isolation(kept));
        let bit: Vec<_> = others.into_iter().map(|other| self.lose(other, Kind::SetBack)).collect();
        bit.contains(&true)
    }

    /// Takes away what a machine had made durable.
    fn lose(&mut self, at: usize, kind: Kind) -> bool {
        let machine = Arc::clone(self.machine(at));
        let copies = self.copies.iter().enumerate().filter(|(_, (of, ..))| *of == at);
        let copies: Vec<_> = copies.map(|(place, _)| place).collect();
        let oldest = copies.first().filter(|_| self.random.percent(60));
        let copy = oldest.or_else(|| pick(&mut self.random, &copies)).copied();
        // After that its disk is in doubt, and an administrator has to look.
        let often = self.losses.get(&at).is_some_and(|losses| *losses >= REPAIRS_MAX);
        if often || (kind == Kind::SetBack && copy.is_none()) {
            return false;
        }
        machine.end(End::Killed);
        let bit = match (kind, copy) {
            (Kind::LostTail, _) => machine.lose_tail(&mut self.random),
            (Kind::Flipped, _) => machine.flip(&mut self.random),
            (Kind::SetBack, Some(copy)) => {
                machine.put(self.copies.remove(copy).1);
                true
            }
            _ => {
                machine.wipe(&mut self.random);
                true
            }
        };
        note!(self.trace, "{}: {} (bit: {bit})", kind.name(), machine.name);
        if bit {
            let quiet = machine.ended().is_some_and(|ended| self.was_quiet(ended));
            let is_same = matches!(kind, Kind::LostTail | Kind::Flipped);
            machine.is_damaged(quiet && !self.shape.reckless, is_same);
            self.damaged.insert(at, machine.raft_id());
            *self.losses.entry(at).or_default() += 1;
            // Of another life: nothing of it may come back.
            self.copies.retain(|(of, ..)| *of != at);
        }
        bit
    }
}
