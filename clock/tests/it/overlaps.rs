//! A record is marked exactly if some record before it in the list may have been stamped after
//! it: compared with each of them, one by one.
//!
//! Seen to fail: with only the record before looked at; with touching intervals unmarked; with
//! unknown bounds taken for narrow ones.

use clock::overlap::Overlap;
use clock::{Hlc, Stamp};
use proptest::prelude::*;

fn stamps() -> impl Strategy<Value = Vec<Stamp>> {
    let bound = || prop_oneof![12 => 0..300_u32, 1 => Just(Stamp::UNKNOWN)];
    let stamp = (1..400_000_u64, bound(), bound());
    prop::collection::vec(stamp, 0..30).prop_map(|steps| {
        let mut ns = 1_000_000_000_000;
        let next = steps.into_iter().map(|(step_ns, early_us, late_us)| {
            ns += step_ns;
            Stamp { hlc: Hlc::from_ns(ns), early_us, late_us }
        });
        next.collect()
    })
}

/// Whether the order of two listed records in real time is not known.
fn unclear(before: &Stamp, after: &Stamp) -> bool {
    match (before.latest_ns(), after.earliest_ns()) {
        (Some(latest_ns), Some(earliest_ns)) => earliest_ns <= latest_ns,
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn marked_if_and_only_if_some_order_is_unclear(stamps in stamps()) {
        let mut overlap = Overlap::default();
        for (at, stamp) in stamps.iter().enumerate() {
            let expected = stamps[..at].iter().any(|before| unclear(before, stamp));
            prop_assert_eq!(overlap.next(stamp), expected, "record {}", at);
        }
    }
}

#[test]
fn a_wide_record_marks_all_that_it_covers() {
    let stamp = |ms: u64, early_ms: u32, late_ms: u32| Stamp {
        hlc: Hlc::from_ns(ms * 1_000_000),
        early_us: early_ms * 1000,
        late_us: late_ms * 1000,
    };
    let list =
        [stamp(10, 1, 50), stamp(20, 1, 1), stamp(61, 1, 1), stamp(63, 1, 1), stamp(65, 0, 9)];
    let mut overlap = Overlap::default();
    let marks = list.map(|stamp| overlap.next(&stamp));
    // The third touches the first; the fourth touches the third.
    assert_eq!(marks, [false, true, true, true, false]);
}
