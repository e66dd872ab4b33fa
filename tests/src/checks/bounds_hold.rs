//! Promise 6, bounded time: where a stamp has bounds, they hold a moment at which the send was under
//! way, by the machine's own clock.
//!
//! Negative control: below, and time servers that all lie together.

use clock::Stamp;

use crate::history::History;
use crate::truth::Anchor;

/// Acknowledged stamps whose bounds do not meet the time from the call to its answer.
#[must_use]
pub fn bounds_hold(history: &History, anchor: &Anchor) -> Vec<String> {
    let mut wrong = Vec::new();
    for (attempt, seq, stamp) in history.acked() {
        let Some(stamp) = stamp.try_into().ok().map(Stamp::from_bytes) else {
            wrong.push(format!("{seq} has a stamp of {} bytes", stamp.len()));
            continue;
        };
        let (Some(earliest), Some(latest)) = (stamp.earliest_ns(), stamp.latest_ns()) else {
            continue;
        };
        let (invoked, completed) = (anchor.ns(attempt.invoked), anchor.ns(attempt.completed));
        if earliest > completed || latest < invoked {
            let id = &attempt.id;
            let (from, to) = (early(earliest, completed), early(latest, invoked));
            wrong.push(format!("{id} at {seq} is {stamp:?}: from {from} ns after its answer, to {to} ns after its call"));
        }
    }
    wrong
}

/// How much later, signed.
fn early(one: u64, other: u64) -> i128 {
    i128::from(one) - i128::from(other)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use clock::Hlc;

    use super::super::planted::with;
    use super::*;
    use crate::history::Outcome;

    #[test]
    fn bounds_beside_the_send_are_found() {
        // Planted sends are in flight in the first second after the anchor, about.
        let anchor = Anchor { instant: Instant::now(), wall_ns: 10_000_000_000 };
        let found = |ns, early_us, late_us| {
            let stamp = Stamp { hlc: Hlc::from_ns(ns), early_us, late_us }.to_bytes().to_vec();
            let acked = Outcome::Acked { seq: 1, stamp, duplicate: false };
            bounds_hold(&with([("m1".to_owned(), acked)]), &anchor).len()
        };
        assert_eq!(found(10_500_000_000, 1, 1), 0);
        assert_eq!(found(8_000_000_000, 1, 1), 1);
        assert_eq!(found(8_000_000_000, 1, 3_000_000), 0);
        assert_eq!(found(20_000_000_000, 1, 1), 1);
        assert_eq!(found(20_000_000_000, 10_000_000, 1), 0);
        assert_eq!(found(20_000_000_000, Stamp::UNKNOWN, 1), 0);
    }
}
