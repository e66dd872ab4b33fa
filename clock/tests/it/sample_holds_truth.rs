//! I3, its first part: an honest server's sample contains the true offset, now and later, whatever
//! the network did, as long as the counter's drift stays within the allowance.
//!
//! Seen to fail: with `lambda` without `delta/2`, without the root delay, without the drift of the
//! exchange, or with half of the root dispersion; with half of the drift of the age; with `theta` in
//! steps of 4 us.

use clock::filter::Filter;
use clock::packet::{NtpShort, NtpTime, Packet};
use clock::sample::Limits;
use clock::{RawExchange, Sample, Scale};
use proptest::prelude::*;

const PHI_PPB: u64 = 50_000;
const BASE_NS: u64 = 1_795_219_200_000_000_000;
const SCALE: Scale = Scale { base_ns: BASE_NS, raw0_ns: 1_000_000_000 };

/// A machine whose scale started off the truth, and how much true time gains on its counter, as the
/// drift allowance counts it: per unit of the counter.
#[derive(Debug, Clone, Copy)]
struct Machine {
    offset_ns: i64,
    drift_ppb: i64,
}

impl Machine {
    /// The counter when `true_ns` have passed since the start.
    fn raw_ns(&self, true_ns: u64) -> u64 {
        let passed =
            i128::from(true_ns) * 1_000_000_000 / i128::from(1_000_000_000 + self.drift_ppb);
        let raw = i128::from(SCALE.raw0_ns) + passed;
        u64::try_from(raw).unwrap()
    }

    /// UTC when `true_ns` have passed since the start.
    fn utc_ns(&self, true_ns: u64) -> u64 {
        (BASE_NS + true_ns).checked_add_signed(self.offset_ns).unwrap()
    }

    /// The true offset of the scale when `true_ns` have passed.
    fn truth_ns(&self, true_ns: u64) -> i64 {
        self.utc_ns(true_ns).cast_signed() - SCALE.local_ns(self.raw_ns(true_ns)).cast_signed()
    }
}

/// One exchange with an honest server that is off by no more than it says.
#[derive(Debug, Clone)]
struct Query {
    wait_ns: u64,
    there_ns: u64,
    held_ns: u64,
    back_ns: u64,
    root_delay_us: u64,
    root_disp_us: u64,
    /// The server's error, in parts per thousand of what it admits.
    error_ppt: i64,
}

impl Query {
    fn admitted_ns(&self) -> u64 {
        self.root_delay_us * 500 + self.root_disp_us * 1000
    }

    fn sample(&self, machine: &Machine, start_ns: u64) -> (Sample, u64) {
        let error_ns = self.admitted_ns().cast_signed() * self.error_ppt / 1000;
        let says = |true_ns| {
            let utc_ns = machine.utc_ns(true_ns).checked_add_signed(error_ns).unwrap();
            NtpTime::from_unix_ns(utc_ns)
        };
        let short = |us: u64| {
            let units = (u128::from(us) << 16).div_ceil(1_000_000);
            NtpShort(u32::try_from(units).unwrap())
        };
        let received_ns = start_ns + self.there_ns;
        let sent_ns = received_ns + self.held_ns;
        let end_ns = sent_ns + self.back_ns;
        let packet = Packet {
            mode: 4,
            version: 4,
            stratum: 2,
            precision: -30,
            root_delay: short(self.root_delay_us),
            root_dispersion: short(self.root_disp_us),
            receive: says(received_ns),
            transmit: says(sent_ns),
            ..Packet::default()
        };
        let exchange = RawExchange {
            t1_raw_ns: machine.raw_ns(start_ns),
            t4_raw_ns: machine.raw_ns(end_ns),
            packet: packet.to_bytes(),
        };
        (exchange.judge(&SCALE, &Limits::new(PHI_PPB)).unwrap(), end_ns)
    }
}

fn machines() -> impl Strategy<Value = Machine> {
    let offset =
        prop_oneof![Just(0), -1_000_000_000..1_000_000_000_i64, -20_000_000..600_000_000_i64,];
    let limit = PHI_PPB.cast_signed();
    (offset, prop_oneof![-limit..=limit, Just(limit), Just(-limit)])
        .prop_map(|(offset_ns, drift_ppb)| Machine { offset_ns, drift_ppb })
}

fn queries() -> impl Strategy<Value = Query> {
    let way = || prop_oneof![0..1_000_u64, 0..300_000_000_u64];
    let error = prop_oneof![Just(-1000), Just(1000), -1000..=1000_i64];
    (0..64_000_000_000_u64, way(), 0..1_000_000_u64, way(), 0..20_000_u64, 0..20_000_u64, error)
        .prop_map(
            |(wait_ns, there_ns, held_ns, back_ns, root_delay_us, root_disp_us, error_ppt)| Query {
                wait_ns,
                there_ns,
                held_ns,
                back_ns,
                root_delay_us,
                root_disp_us,
                error_ppt,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_honest_sample_holds_the_truth(
        machine in machines(),
        query in queries(),
        age_ns in 0..1_000_000_000_000_u64,
    ) {
        let (sample, end_ns) = query.sample(&machine, query.wait_ns);
        for at_ns in [end_ns, end_ns + age_ns] {
            let interval = sample.interval_at(machine.raw_ns(at_ns), PHI_PPB);
            let truth_ns = machine.truth_ns(at_ns);
            prop_assert!(interval.contains(truth_ns), "{truth_ns} outside {interval:?}");
        }
    }

    #[test]
    fn so_do_all_samples_of_an_honest_server_together(
        machine in machines(),
        queries in prop::collection::vec(queries(), 1..12),
    ) {
        let mut filter = Filter::default();
        let mut at_ns = 0;
        for query in &queries {
            let (sample, end_ns) = query.sample(&machine, at_ns + query.wait_ns);
            filter.add(sample);
            at_ns = end_ns;
            let raw_ns = machine.raw_ns(at_ns);
            let estimate = filter.estimate(raw_ns, PHI_PPB).unwrap();
            prop_assert!(!estimate.inconsistent);
            prop_assert!(estimate.interval.contains(machine.truth_ns(at_ns)));
            prop_assert!(estimate.interval.width_ns() <= 2 * sample.lambda_ns);
        }
    }
}
