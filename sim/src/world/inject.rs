//! What each fault does to the machines.

use std::sync::Arc;
use std::time::Duration;

use log::memory::Fault;
use net::switchboard::Switchboard;
use proto::limits::REPAIRS_MAX;

use super::{Ends, World};
use crate::fault::{Kind, OUTAGE_MAX};
use crate::machine::{End, pick};
use crate::note;
use crate::shape::up_to;

/// How long a power cut waits for a write that it comes into.
const WRITES_WITHIN: Duration = Duration::from_millis(100);
/// Longest time for which a disk does not answer.
const HANGS_MAX: Duration = Duration::from_secs(12);

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

    pub(super) async fn stop(&mut self, at: usize) -> bool {
        let Some(process) = self.machine(at).process() else { return false };
        note!(self.trace, "{} is told to stop", self.machine(at).name);
        let stopped = process.died.run_until_cancelled(process.running.stop()).await.is_some();
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
        note!(self.trace, "{} reaches nobody", self.machine(kept).name);
        self.board.isolate(&self.machine(kept).name);
        let time = OUTAGE_MAX + up_to(&mut self.random, OUTAGE_MAX);
        self.ends_after(time, Ends::Isolation(kept));
        let others = self.members().into_iter().filter(|other| *other != kept);
        let bit: Vec<_> = others.map(|other| self.lose(other, Kind::SetBack)).collect();
        bit.contains(&true)
    }

    /// Takes away what a machine had made durable.
    fn lose(&mut self, at: usize, kind: Kind) -> bool {
        let machine = Arc::clone(self.machine(at));
        let copies = self.copies.iter().enumerate().filter(|(_, (of, _))| *of == at);
        let copies: Vec<_> = copies.map(|(place, _)| place).collect();
        let copy = pick(&mut self.random, &copies).copied();
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
            self.copies.retain(|(of, _)| *of != at);
        }
        bit
    }
}
