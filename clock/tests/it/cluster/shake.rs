//! What a bad day does to a cluster: primaries that die, stop being heard, are moved, or die between
//! the write of a ceiling and the stamp that needed it; backups that die; all at once; and one clock
//! that fails in every way.

use super::clocks::Fault;
use super::world::World;
use super::{MS, SECOND};

impl World {
    /// Until so many primaries were elected. Panics if there is none for half a minute.
    pub(crate) fn shake(&mut self, elections: usize) {
        while self.audit.elections.len() < elections {
            let there = self.run(30 * SECOND, |world| world.primary().is_some());
            assert!(there, "no primary for half a minute: {}", self.tell());
            let calm_ns = self.rng.between(20 * MS, 300 * MS);
            self.pass(calm_ns);
            if self.plan.bad_clock && self.rng.one_in(4) {
                self.change_clock();
            }
            if let Some(primary) = self.primary() {
                self.disturb(primary);
            }
        }
    }

    fn change_clock(&mut self) {
        let fault = match self.rng.between(0, 9) {
            0 => Fault::Jump(3_600_000_000_000),
            1 => Fault::Jump(-3_600_000_000_000),
            2 => Fault::Jump(300_000_000),
            3 => Fault::Jump(-300_000_000),
            4 => Fault::Creep(100_000),
            5 => Fault::Creep(-100_000),
            6 => Fault::Widen(50_000),
            7 => Fault::Jump(2_000_000_000),
            _ => return self.nodes[0].wall.heal(),
        };
        self.nodes[0].wall.fail(self.now_ns, fault);
    }

    fn disturb(&mut self, primary: usize) {
        let size = self.nodes.len();
        let other = usize::try_from(self.rng.between(0, size as u64)).unwrap();
        match self.rng.between(0, 8) {
            0..3 => self.crash(primary),
            3 => {
                self.dies_at_ceiling = Some(primary);
                self.run(3 * SECOND, |world| !world.nodes[primary].up);
                self.dies_at_ceiling = None;
            }
            4 => {
                self.cut(primary, true);
                self.run(3 * SECOND, |world| world.primary() != Some(primary));
                self.cut(primary, false);
            }
            5 if other != primary => self.hand_over(primary, other),
            5 | 6 => self.crash(other),
            _ => (0..size).for_each(|node| self.crash(node)),
        }
        for node in 0..size {
            if !self.nodes[node].up {
                let down_ns = self.rng.between(5 * MS, 400 * MS);
                self.pass(down_ns);
                let sync_ns = self.rng.between(0, self.plan.sync_ns);
                self.restart(node, sync_ns);
            }
        }
    }
}
