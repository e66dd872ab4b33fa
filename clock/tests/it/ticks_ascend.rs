//! I5 and I6: whatever the reading does, whatever is observed, and however often the process dies,
//! no value is issued twice or out of order, none lies beyond the ceiling on disk or the cap, and
//! the interval of each holds the reading's interval and the value itself.
//!
//! Seen to fail: with a restart at the reading instead of the ceiling; with the ceiling not checked;
//! with a floor of `(ceiling, 0)` at restart; with a batch that reserves one value; with one
//! symmetric error for both bounds.

use clock::{Hlc, HlcClock, Reading, TickError};
use proptest::prelude::*;

const MAX_ERROR_NS: u64 = 100_000_000;
const START_NS: u64 = 1_795_219_200_000_000_000;
const SECOND: u64 = 1_000_000_000;

#[derive(Debug, Clone)]
enum Step {
    /// The reading moves, by much or by little, also backwards; with bounds or without.
    Now {
        at_ns: u64,
        bounds: Option<(u64, u64)>,
    },
    Tick {
        count: u32,
    },
    Observe {
        at_ns: u64,
        logical: u32,
    },
    Admit {
        at_ns: u64,
        logical: u32,
    },
    /// The store writes the ceiling that is wanted, if one is.
    Persist,
    /// The process dies; the log holds what was observed, and perhaps the last issued stamp.
    Crash {
        logged: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || prop_oneof![0..2_000_u64, 0..10 * SECOND].prop_map(|ns| START_NS + ns);
    let bounds = prop::option::of((0..5 * MAX_ERROR_NS, 0..5 * MAX_ERROR_NS));
    let logical = || prop_oneof![0..3_u32, Just(u32::MAX)];
    let step = prop_oneof![
        3 => (place(), bounds).prop_map(|(at_ns, bounds)| Step::Now { at_ns, bounds }),
        6 => (1..5_u32).prop_map(|count| Step::Tick { count }),
        2 => (place(), logical()).prop_map(|(at_ns, logical)| Step::Observe { at_ns, logical }),
        1 => (place(), logical()).prop_map(|(at_ns, logical)| Step::Admit { at_ns, logical }),
        4 => Just(Step::Persist),
        1 => any::<bool>().prop_map(|logged| Step::Crash { logged }),
    ];
    prop::collection::vec(step, 1..120)
}

struct World {
    clock: HlcClock,
    reading: Reading,
    issued: Hlc,
    observed: Hlc,
    on_disk: Hlc,
}

impl World {
    fn tick(&mut self, count: u32) -> Result<(), TestCaseError> {
        let cap_ns = HlcClock::cap_ns(&self.reading, MAX_ERROR_NS);
        let before = self.clock.floor();
        let stamp = match self.clock.tick_batch(&self.reading, cap_ns, count) {
            Ok(stamp) => stamp,
            Err(TickError::Ceiling { needed_ns }) => {
                prop_assert!(needed_ns >= self.on_disk.ns);
                prop_assert!(self.clock.ceiling_needed(0).is_some_and(|at| at.ns >= needed_ns));
                prop_assert_eq!(self.clock.floor(), before);
                return Ok(());
            }
            Err(other) => {
                let ahead = matches!(other, TickError::Ahead { .. } | TickError::Behind { .. });
                prop_assert!(ahead, "{other}");
                prop_assert_eq!(self.clock.floor(), before);
                return Ok(());
            }
        };
        prop_assert!(stamp.hlc > self.issued.max(self.observed));
        let last = stamp.hlc.advance(u64::from(count) - 1);
        prop_assert!(last <= self.on_disk);
        prop_assert_eq!(self.clock.floor(), last);
        self.issued = last;
        prop_assert_eq!(stamp.earliest_ns().is_some(), self.reading.earliest_ns.is_some());
        if let (Some(earliest_ns), Some(latest_ns)) = (stamp.earliest_ns(), stamp.latest_ns()) {
            prop_assert!(earliest_ns <= self.reading.earliest_ns.unwrap());
            prop_assert!(latest_ns >= self.reading.latest_ns.unwrap());
            prop_assert!(earliest_ns <= stamp.hlc.ns && stamp.hlc.ns <= latest_ns);
        }
        Ok(())
    }

    fn crash(&mut self, logged: bool) {
        self.clock = HlcClock::above(self.on_disk);
        if logged {
            self.observed = self.observed.max(self.issued);
        }
        self.clock.observe(self.observed);
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Now { at_ns, bounds } => {
                self.reading = Reading {
                    now_ns: at_ns,
                    earliest_ns: bounds.map(|(before, _)| at_ns - before),
                    latest_ns: bounds.map(|(_, after)| at_ns + after),
                };
            }
            Step::Tick { count } => self.tick(count)?,
            Step::Observe { at_ns, logical } => {
                let seen = Hlc { ns: at_ns, logical };
                self.clock.observe(seen);
                self.observed = self.observed.max(seen);
            }
            Step::Admit { at_ns, logical } => {
                let token = Hlc { ns: at_ns, logical };
                let cap_ns = HlcClock::cap_ns(&self.reading, MAX_ERROR_NS);
                if self.clock.admit(token, cap_ns).is_ok() {
                    prop_assert!(token.ns <= cap_ns.max(self.observed.ns));
                    prop_assert!(self.clock.floor() >= token);
                } else {
                    prop_assert!(token.ns > cap_ns);
                }
            }
            Step::Persist => {
                if let Some(ceiling) = self.clock.ceiling_needed(0) {
                    self.on_disk = self.on_disk.max(ceiling);
                    self.clock.ceiling_persisted(ceiling);
                }
            }
            Step::Crash { logged } => self.crash(logged),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_value_is_issued_twice(steps in steps()) {
        let mut world = World {
            clock: HlcClock::new(0),
            reading: Reading::unbounded(START_NS),
            issued: Hlc::ZERO,
            observed: Hlc::ZERO,
            on_disk: Hlc::ZERO,
        };
        for step in &steps {
            world.step(step)?;
        }
    }
}

/// Threads that share a clock never get the same value.
#[test]
fn threads_share_a_clock() {
    let clock = HlcClock::new(0);
    clock.ceiling_persisted(Hlc::from_ns(START_NS + SECOND));
    let reading = Reading::unbounded(START_NS);
    let mut all: Vec<Hlc> = std::thread::scope(|scope| {
        let tick = || (0..5000).map(|_| clock.tick(&reading, u64::MAX).unwrap().hlc).collect();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(tick)).collect();
        threads.into_iter().flat_map(|thread| -> Vec<Hlc> { thread.join().unwrap() }).collect()
    });
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 20_000);
}
