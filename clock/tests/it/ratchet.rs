//! I1 and I6: a raised stamp is above the last one, and its interval still holds the proposed one.
//!
//! Seen to fail: with `raised_to` keeping `early`, and with the difference rounded down.

use clock::{Hlc, Stamp};
use proptest::prelude::*;

fn stamps() -> impl Strategy<Value = Stamp> {
    let bound = || prop_oneof![0..1_000_000_u32, Just(Stamp::UNKNOWN), Just(Stamp::UNKNOWN - 1)];
    (1_000_000_000_000..1_000_000_100_000_u64, 0..3_u32, bound(), bound()).prop_map(
        |(ns, logical, early_us, late_us)| Stamp { hlc: Hlc { ns, logical }, early_us, late_us },
    )
}

proptest! {
    #[test]
    fn a_raised_stamp_holds_what_it_held(
        proposed in stamps(),
        last in (1_000_000_000_000..1_000_000_200_000_u64, 0..3_u32),
    ) {
        let last = Hlc { ns: last.0, logical: last.1 };
        let stamp = proposed.ratcheted(last);
        prop_assert!(stamp.hlc > last);
        prop_assert!(stamp.hlc >= proposed.hlc);
        if proposed.hlc > last {
            prop_assert_eq!(stamp, proposed);
        }
        match (proposed.earliest_ns(), stamp.earliest_ns()) {
            (Some(before), Some(after)) => prop_assert!(after <= before),
            (None, after) => prop_assert_eq!(after, None),
            // What does not fit is unknown: wider, never narrower.
            (Some(_), None) => prop_assert!(proposed.early_us > Stamp::UNKNOWN - 1000),
        }
        match (proposed.latest_ns(), stamp.latest_ns()) {
            (Some(before), Some(after)) => prop_assert!(after >= before),
            (before, after) => prop_assert_eq!(before, after),
        }
    }
}
