//! I10: text, byte and value order of stamps agree, and every form reads back exactly.
//!
//! Seen to fail: with little-endian bytes, and with the logical part written without leading zeros.

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
    }

    #[test]
    fn every_form_reads_back(hlc in hlcs(), early_us in any::<u32>(), late_us in any::<u32>()) {
        prop_assert_eq!(Hlc::from_bytes(hlc.to_bytes()), hlc);
        prop_assert_eq!(Hlc::from_slice(&hlc.to_bytes()), Some(hlc));
        prop_assert_eq!(hlc.to_hex().parse(), Ok(hlc));
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
fn no_bytes_of_another_length_are_a_value() {
    for length in (0..30).filter(|length| *length != Hlc::BYTES) {
        assert_eq!(Hlc::from_slice(&vec![1; length]), None);
    }
}
