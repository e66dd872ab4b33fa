//! A machine: its raw counter against true time.

use super::{Random, SECOND};

/// How the oscillator's rate changes. Every 8 s it walks a little; now and then it jumps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wander {
    /// The rate stays in this range: what true time gains on the counter, parts per billion.
    pub(crate) lo_ppb: i64,
    pub(crate) hi_ppb: i64,
    /// Largest step of the walk, parts per billion.
    pub(crate) walk_ppb: i64,
    /// How often in a hundred the walk jumps to anywhere in the range.
    pub(crate) jumps_percent: u64,
}

/// Raw counter between changes of the rate.
const CHANGE_NS: u64 = 8 * SECOND;

#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) raw_ns: u64,
    pub(crate) utc_ns: u64,
    pub(crate) drift_ppb: i64,
    /// What true time has stepped by in leap seconds.
    pub(crate) stepped_ns: i64,
    /// The leap second to come: when true time gets there, it steps by so much.
    pub(crate) leap: Option<(u64, i64)>,
    carry: i128,
    change_at_ns: u64,
    wander: Wander,
    random: Random,
}

impl Wander {
    /// A range of 15 ppm around a rate: what the drift guard's margin promises to cover.
    pub(crate) fn around(mid_ppb: i64) -> Self {
        let (lo_ppb, hi_ppb) = (mid_ppb - 7_500, mid_ppb + 7_500);
        Self { lo_ppb, hi_ppb, walk_ppb: 1_500, jumps_percent: 1 }
    }

    /// Anywhere within what is allowed for without a measurement.
    pub(crate) fn cool() -> Self {
        Self { lo_ppb: -45_000, hi_ppb: 45_000, walk_ppb: 5_000, jumps_percent: 2 }
    }
}

impl Machine {
    pub(crate) fn new(utc_ns: u64, wander: Wander, mut random: Random) -> Self {
        Self {
            raw_ns: SECOND,
            utc_ns,
            drift_ppb: random.within(wander.lo_ppb, wander.hi_ppb),
            stepped_ns: 0,
            leap: None,
            carry: 0,
            change_at_ns: SECOND + CHANGE_NS,
            wander,
            random,
        }
    }

    /// Lets the counter run.
    pub(crate) fn pass(&mut self, ns: u64) {
        let end_ns = self.raw_ns + ns;
        while self.raw_ns < end_ns {
            let stop_ns = end_ns.min(self.change_at_ns);
            self.run(stop_ns - self.raw_ns);
            if self.raw_ns == self.change_at_ns {
                self.change();
            }
        }
    }

    /// True time goes on and the counter does not: a machine that is suspended, or paused by its
    /// host.
    pub(crate) fn miss(&mut self, ns: u64) {
        self.utc_ns += ns;
    }

    /// Another oscillator from now on.
    pub(crate) fn become_other(&mut self, wander: Wander) {
        self.wander = wander;
        self.drift_ppb = self.random.within(wander.lo_ppb, wander.hi_ppb);
    }

    fn run(&mut self, ns: u64) {
        let gain = i128::from(ns) * i128::from(self.drift_ppb) + self.carry;
        let gain_ns = gain.div_euclid(1_000_000_000);
        self.carry = gain.rem_euclid(1_000_000_000);
        self.raw_ns += ns;
        self.utc_ns = u64::try_from(i128::from(self.utc_ns + ns) + gain_ns).unwrap();
        if let Some((_, by_ns)) = self.leap.take_if(|(at_ns, _)| self.utc_ns >= *at_ns) {
            self.utc_ns = self.utc_ns.checked_add_signed(by_ns).unwrap();
            self.stepped_ns += by_ns;
        }
    }

    fn change(&mut self) {
        let Wander { lo_ppb, hi_ppb, walk_ppb, jumps_percent } = self.wander;
        self.change_at_ns += CHANGE_NS;
        self.drift_ppb = if self.random.percent(jumps_percent) {
            self.random.within(lo_ppb, hi_ppb)
        } else {
            (self.drift_ppb + self.random.within(-walk_ppb, walk_ppb)).clamp(lo_ppb, hi_ppb)
        };
    }
}
