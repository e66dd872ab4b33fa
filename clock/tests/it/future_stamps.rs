//! The guard lets through what an honest primary may send, and what is committed.
//!
//! Seen to fail: with a limit of `latest + max_error`; without the log's floor; with committed
//! entries judged; with a limit that committed entries do not raise.

use clock::guard::{StampInFuture, check, stamp_limit_ns};
use clock::{Hlc, HlcClock, Reading};
use proptest::prelude::*;

const MAX_ERROR_NS: u64 = 100_000_000;
const START_NS: u64 = 1_795_219_200_000_000_000;

#[test]
fn the_limit_is_two_errors_beyond_the_latest_or_the_log() {
    assert_eq!(stamp_limit_ns(1000, 100, 0), 1200);
    assert_eq!(stamp_limit_ns(1000, 100, 5000), 5000);
    assert_eq!(stamp_limit_ns(u64::MAX - 1, u64::MAX, 3), u64::MAX);
}

#[test]
fn the_first_live_entry_beyond_it_refuses_all() {
    assert_eq!(check([(7, 90), (8, 100)], 6, 100), Ok(()));
    let refused = Err(StampInFuture { index: 8, stamp_ns: 101, limit_ns: 100 });
    assert_eq!(check([(7, 90), (8, 101), (9, 500)], 6, 100), refused);
    // What is committed passes, and what comes after it may count on from there.
    assert_eq!(check([(7, 90), (8, 500), (9, 500)], 8, 100), Ok(()));
    let refused = Err(StampInFuture { index: 9, stamp_ns: 501, limit_ns: 500 });
    assert_eq!(check([(8, 500), (9, 501)], 8, 100), refused);
    assert_eq!(check([], 0, 0), Ok(()));
    let far = StampInFuture { index: 9, stamp_ns: 3_600_000_000_000, limit_ns: 0 };
    assert!(far.to_string().contains("entry 9 is stamped 3600000 ms beyond"), "{far}");
}

proptest! {
    /// Both bounds hold true time, both errors are within the limit: nothing is refused, whatever
    /// token or floor pushed the stamp ahead.
    #[test]
    fn an_honest_primary_is_never_refused(
        primary in (0..MAX_ERROR_NS, 0..MAX_ERROR_NS),
        backup_after_ns in 0..MAX_ERROR_NS,
        token_ns in 0..10 * MAX_ERROR_NS,
    ) {
        let reading = Reading {
            now_ns: START_NS,
            earliest_ns: Some(START_NS - primary.0),
            latest_ns: Some(START_NS + primary.1),
        };
        // True time lies anywhere in the primary's interval; its earliest is the worst case.
        let backup_latest_ns = START_NS - primary.0 + backup_after_ns;
        let clock = HlcClock::new(0);
        clock.ceiling_persisted(Hlc::MAX);
        let cap_ns = HlcClock::cap_ns(&reading, MAX_ERROR_NS);
        let _ = clock.admit(Hlc::from_ns(START_NS - primary.0 + token_ns), cap_ns);
        if let Ok(stamp) = clock.tick(&reading, cap_ns) {
            let limit_ns = stamp_limit_ns(backup_latest_ns, MAX_ERROR_NS, 0);
            prop_assert_eq!(check([(1, stamp.hlc.ns)], 0, limit_ns), Ok(()));
        }
    }
}
