//! I10: text, byte and value order of stamps agree, and every form reads back exactly.
//!
//! Seen to fail: with little-endian bytes; with the logical part written without leading zeros; with
//! an id that has the count before the nanoseconds.

use clock::{Hlc, Stamp};
use proptest::prelude::*;

/// Values near each other as often as far apart: order is decided in the last digits.
fn hlcs() -> impl Strategy<Value = Hlc> {
    let ns = prop_oneof![any::<u64>(), 1_795_219_200_000_000_000..1_795_219_200_000_000_003_u64];
    let logical = prop_oneof![any::<u32>(), 0..3_u32, Just(u32::MAX)];
    (ns, logical).prop_map(|(ns, logical)| Hlc { ns, logical })
}

proptest! {
    #[test]
    fn order_is_the_same_in_every_form(a in hlcs(), b in hlcs()) {
        prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
        prop_assert_eq!(a.cmp(&b), a.to_hex().cmp(&b.to_hex()));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        let numbers = |hlc: Hlc| -> Vec<u64> {
            hlc.to_id().split('-').map(|number| number.parse().unwrap()).collect()
        };
        prop_assert_eq!(a.cmp(&b), numbers(a).cmp(&numbers(b)));
    }

    #[test]
    fn every_form_reads_back(hlc in hlcs(), early_us in any::<u32>(), late_us in any::<u32>()) {
        prop_assert_eq!(Hlc::from_bytes(hlc.to_bytes()), hlc);
        prop_assert_eq!(Hlc::from_slice(&hlc.to_bytes()), Some(hlc));
        prop_assert_eq!(hlc.to_hex().parse(), Ok(hlc));
        prop_assert_eq!(hlc.to_id().parse(), Ok(hlc));
        prop_assert_eq!(hlc.to_string().parse(), Ok(hlc));
        prop_assert_eq!(hlc.to_string().len(), 39);
        let stamp = Stamp { hlc, early_us, late_us };
        prop_assert_eq!(Stamp::from_bytes(stamp.to_bytes()), stamp);
    }

    #[test]
    fn the_next_value_is_the_next(hlc in hlcs(), n in 0..5_u64) {
        prop_assert!(hlc.succ() > hlc || hlc == Hlc::MAX);
        let steps = (0..n).fold(hlc, |at, _| at.succ());
        prop_assert_eq!(hlc.advance(n), steps);
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,60}", cut in 0..40_usize, hlc in hlcs()) {
        drop(text.parse::<Hlc>());
        let whole = hlc.to_string();
        let (Some(head), Some(tail)) = (whole.get(..cut), whole.get(cut + 1..)) else {
            return Ok(());
        };
        // A character less is no stamp, or another one; never the same by chance.
        if let Ok(other) = format!("{head}{tail}").parse::<Hlc>() {
            prop_assert_eq!(other.to_string().parse(), Ok(other));
        }
    }
}

#[test]
fn an_id_is_milliseconds_and_what_lies_within() {
    let hlc: Hlc = "2026-11-21T01:30:45.123456789Z~0000002a".parse().unwrap();
    assert_eq!(hlc.to_id(), "1795224645123-1961893816172586");
    assert_eq!(Hlc { ns: 5_000_001, logical: 7 }.to_id(), "0000000000005-4294967303");
    for text in [
        // A month, and milliseconds in nanoseconds' place, and beyond 2554.
        "2026-11",
        "179522464512-3",
        "1795224645123-",
        "1795224645123-4294967296000000",
        "18446744073710-0",
        "1795224645123-1-1",
        "+1795224645123-1",
    ] {
        assert!(text.parse::<Hlc>().is_err(), "{text}");
    }
}

#[test]
fn no_bytes_of_another_length_are_a_value() {
    for length in (0..30).filter(|length| *length != Hlc::BYTES) {
        assert_eq!(Hlc::from_slice(&vec![1; length]), None);
    }
}
