//! I3, whole: with at most `f` liars of any kind and a drift within the allowance, true time lies in
//! the clock's interval at every moment, and the reading never goes back.
//!
//! A seeded model: a machine whose oscillator wanders, servers on ways of random length, and liars
//! that are far off, creep, collude, answer with nonsense, or hide at the edge.
//!
//! Seen to fail: with the deepest overlap as the bound (max-overlap); with the server of the smallest
//! interval; with the smallest sample of each server, not aged; with an allowance that is
//! 10 ppm short; with `f` counted from the servers that answer.

use clock::packet::{NtpShort, NtpTime, Packet};
use clock::poll::Poll;
use clock::sample::Limits;
use clock::{Answer, ClockState, LeapPolicy, RawExchange, Scale, Source, Tracker};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const BASE_NS: u64 = 1_795_219_200_000_000_000;
const PHI_PPB: u64 = 50_000;

#[derive(Debug, Clone, Copy)]
enum Nature {
    Honest,
    Off {
        by_ns: i64,
    },
    Creeps {
        ppb: i64,
    },
    /// Says what puts its narrow interval at the edge of the honest ones.
    Edge {
        up: bool,
    },
    Silent,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    server: usize,
    wait_ns: u64,
    there_ns: u64,
    back_ns: u64,
    drift_ppb: i64,
}

struct World {
    utc_ns: u64,
    raw_ns: u64,
    drift_ppb: i64,
    carry: i128,
    start_ns: u64,
}

impl World {
    fn pass(&mut self, ns: u64) {
        self.utc_ns += ns;
        let rate = i128::from(1_000_000_000 + self.drift_ppb);
        let exact = i128::from(ns) * 1_000_000_000 + self.carry;
        self.raw_ns += u64::try_from(exact / rate).unwrap();
        self.carry = exact % rate;
    }

    /// What a server says the time is.
    fn says(&self, nature: Nature) -> Option<(u64, NtpShort)> {
        let millisecond = NtpShort(66);
        let moved = |by_ns| self.utc_ns.checked_add_signed(by_ns).unwrap();
        match nature {
            Nature::Honest => Some((self.utc_ns, millisecond)),
            Nature::Off { by_ns } => Some((moved(by_ns), NtpShort(0))),
            Nature::Creeps { ppb } => {
                let elapsed = i128::from(self.utc_ns - self.start_ns);
                let by_ns = i64::try_from(elapsed * i128::from(ppb) / 1_000_000_000).unwrap();
                Some((moved(by_ns), NtpShort(0)))
            }
            Nature::Edge { up } => Some((moved(if up { 900_000 } else { -900_000 }), NtpShort(0))),
            Nature::Silent => None,
        }
    }

    fn exchange(&mut self, nature: Nature, poll: &Asked) -> Answer {
        let t1_raw_ns = self.raw_ns;
        self.pass(poll.there_ns);
        let Some((says_ns, root_dispersion)) = self.says(nature) else {
            return Answer::Failed(clock::Failure::Timeout);
        };
        let now = NtpTime::from_unix_ns(says_ns);
        let packet = Packet {
            stratum: 1,
            precision: -20,
            root_dispersion,
            receive: now,
            transmit: now,
            ..Packet::default()
        };
        self.pass(poll.back_ns);
        Answer::Exchange(RawExchange {
            t1_raw_ns,
            t4_raw_ns: self.raw_ns,
            packet: packet.to_bytes(),
        })
    }
}

fn natures() -> impl Strategy<Value = Vec<Nature>> {
    let liar = prop_oneof![
        prop_oneof![Just(10_000_000_000), -3_000_000..3_000_000_i64]
            .prop_map(|by_ns| Nature::Off { by_ns }),
        (-100_000..100_000_i64).prop_map(|ppb| Nature::Creeps { ppb }),
        any::<bool>().prop_map(|up| Nature::Edge { up }),
        Just(Nature::Silent),
    ];
    (1..6_usize, prop::collection::vec(liar, 2), any::<prop::sample::Index>()).prop_map(
        |(count, liars, at)| {
            let mut all = vec![Nature::Honest; count];
            for (slot, liar) in all.iter_mut().zip(liars).take((count - 1) / 2) {
                *slot = liar;
            }
            all.rotate_left(at.index(count));
            all
        },
    )
}

fn polls() -> impl Strategy<Value = Vec<Asked>> {
    let limit = PHI_PPB.cast_signed();
    let drift = prop_oneof![Just(limit), Just(-limit), -limit..=limit];
    let way = || prop_oneof![20_000..60_000_u64, 20_000..3_000_000_u64];
    let poll = (0..5_usize, 0..20 * SECOND, way(), way(), drift).prop_map(
        |(server, wait_ns, there_ns, back_ns, drift_ppb)| Asked {
            server,
            wait_ns,
            there_ns,
            back_ns,
            drift_ppb,
        },
    );
    prop::collection::vec(poll, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn true_time_is_in_the_interval(
        natures in natures(),
        polls in polls(),
        off_ns in -10_000_000_000..10_000_000_000_i64,
    ) {
        let mut world = World {
            utc_ns: BASE_NS.checked_add_signed(off_ns).unwrap(),
            raw_ns: SECOND,
            drift_ppb: 0,
            carry: 0,
            start_ns: BASE_NS.checked_add_signed(off_ns).unwrap(),
        };
        let scale = Scale { base_ns: BASE_NS, raw0_ns: SECOND };
        let sources = natures.iter().map(|_| Source::new(Poll::new(16_000, true))).collect();
        let mut tracker = Tracker::new(scale, Limits::new(PHI_PPB), 100_000_000, LeapPolicy::Smear, sources);
        let mut said_ns = 0;
        for poll in &polls {
            world.drift_ppb = poll.drift_ppb;
            world.pass(poll.wait_ns);
            let server = poll.server % natures.len();
            for asked in [false, true] {
                if asked {
                    let answer = world.exchange(natures[server], poll);
                    tracker.answered(server, &answer, world.raw_ns);
                }
                let view = tracker.view();
                let reading = view.now(world.raw_ns);
                let (Some(lo), Some(hi)) = (reading.earliest_ns, reading.latest_ns) else {
                    prop_assert_eq!(view.state, ClockState::Unsynced);
                    continue;
                };
                prop_assert!(lo <= world.utc_ns && world.utc_ns <= hi, "{lo} {} {hi}", world.utc_ns);
                prop_assert!(reading.now_ns >= said_ns);
                said_ns = reading.now_ns;
            }
        }
    }
}
