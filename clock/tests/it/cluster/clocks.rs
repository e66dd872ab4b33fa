//! A node's disciplined clock, made of true time and a known error.

use clock::{ClockState, Reading};

use super::{MAX_ERROR_NS, SKEW_NS, START_NS};
use crate::sim::Random;

/// How fast an honest reading wanders, parts per million.
const WANDER_PPM: u64 = 400;

#[derive(Debug, Clone)]
pub(crate) struct Wall {
    /// How far the reading swings to both sides of true time, and where in its swing it begins.
    swing_ns: u64,
    phase_ns: u64,
    /// The bound that is claimed to both sides of the reading.
    pub(crate) bound_ns: u64,
    fault: Option<(u64, Fault)>,
    /// Not synchronised before this.
    synced_from_ns: u64,
    said_ns: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The servers lie: the reading is off by this, the claimed bounds go with it.
    Jump(i64),
    /// The same, slowly; parts per million.
    Creep(i64),
    /// No server answers: the bounds grow, and stay true; parts per million.
    Widen(u64),
}

impl Wall {
    /// An honest clock that reads up to `swing_ns` wrong and claims just that.
    pub(crate) fn new(swing_ns: u64, rng: &mut Random) -> Self {
        let phase_ns = rng.next() % 3_600_000_000_000;
        Self { swing_ns, phase_ns, bound_ns: swing_ns, fault: None, synced_from_ns: 0, said_ns: 0 }
    }

    pub(crate) fn skewed(rng: &mut Random) -> Self {
        Self::new(SKEW_NS, rng)
    }

    pub(crate) fn fail(&mut self, from_ns: u64, fault: Fault) {
        self.fault = Some((from_ns, fault));
    }

    pub(crate) fn heal(&mut self) {
        self.fault = None;
    }

    /// A new process: it knows nothing until it is synchronised.
    pub(crate) fn restart(&mut self, synced_from_ns: u64) {
        self.synced_from_ns = synced_from_ns;
        self.said_ns = 0;
    }

    /// Whether the bounds are claimed wrongly, or may be.
    pub(crate) fn is_bad(&self, true_ns: u64) -> bool {
        self.fault
            .is_some_and(|(from_ns, fault)| true_ns >= from_ns && !matches!(fault, Fault::Widen(_)))
    }

    /// The reading and the state that the servers give, without the peers' verdict.
    pub(crate) fn look(&mut self, true_ns: u64) -> (Reading, ClockState) {
        let (reading, state) = self.at(true_ns);
        if state != ClockState::Unsynced {
            self.said_ns = reading.now_ns;
        }
        (reading, state)
    }

    /// As [`Wall::look`], but nobody is told: later looks may be at earlier moments.
    pub(crate) fn at(&self, true_ns: u64) -> (Reading, ClockState) {
        let (error_ns, wider_ns) = self.faulty(true_ns);
        let error_ns = error_ns + self.wander_ns(true_ns);
        let at_ns = true_ns.checked_add_signed(error_ns).unwrap();
        if true_ns < self.synced_from_ns {
            return (Reading::unbounded(at_ns), ClockState::Unsynced);
        }
        let bound_ns = self.bound_ns + wider_ns;
        let reading = Reading {
            // Readings never go back; bounds do what they must.
            now_ns: at_ns.max(self.said_ns),
            earliest_ns: Some(at_ns - bound_ns),
            latest_ns: Some(at_ns + bound_ns),
        };
        let wide = reading.error_ns().is_none_or(|error_ns| error_ns > MAX_ERROR_NS);
        (reading, if wide { ClockState::Expired } else { ClockState::Synced })
    }

    fn faulty(&self, true_ns: u64) -> (i64, u64) {
        let Some((from_ns, fault)) = self.fault else { return (0, 0) };
        let Some(since_ns) = true_ns.checked_sub(from_ns) else { return (0, 0) };
        match fault {
            Fault::Jump(by_ns) => (by_ns, 0),
            Fault::Creep(ppm) => (since_ns.cast_signed() / 1_000_000 * ppm, 0),
            Fault::Widen(ppm) => (0, since_ns / 1_000_000 * ppm),
        }
    }

    /// A triangle between minus and plus the swing.
    fn wander_ns(&self, true_ns: u64) -> i64 {
        if self.swing_ns == 0 {
            return 0;
        }
        let half_ns = 2 * self.swing_ns * 1_000_000 / WANDER_PPM;
        let at_ns = (true_ns - START_NS + self.phase_ns) % (2 * half_ns);
        let up_ns = at_ns.min(2 * half_ns - at_ns);
        (up_ns * WANDER_PPM / 1_000_000).cast_signed() - self.swing_ns.cast_signed()
    }
}
