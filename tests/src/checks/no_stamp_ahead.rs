//! Promise 6, bounded time: nothing is stored under a stamp from the future, whatever the primary's
//! clock says: the backups refuse it.
//!
//! Negative control: below, and a daemon whose backups accept every stamp.

use clock::Stamp;

use crate::history::History;
use crate::truth::Anchor;

/// Acknowledged stamps that lay further than `allowance_ns` ahead of true time when they were
/// acknowledged.
#[must_use]
pub fn no_stamp_ahead(history: &History, anchor: &Anchor, allowance_ns: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    for (attempt, seq, stamp) in history.acked() {
        let Some(stamp) = stamp.try_into().ok().map(Stamp::from_bytes) else {
            wrong.push(format!("{seq} has a stamp of {} bytes", stamp.len()));
            continue;
        };
        let ahead_ns = stamp.hlc.ns.saturating_sub(anchor.ns(attempt.completed));
        if ahead_ns > allowance_ns {
            let id = &attempt.id;
            wrong.push(format!("{id} at {seq} lies {ahead_ns} ns ahead of its answer"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::planted::history;
    use super::*;

    #[test]
    fn a_stamp_from_the_future_is_found() {
        let now = Instant::now();
        // A planted stamp lies as many nanoseconds after 1970 as its number says, and its answer
        // comes a second or more after the anchor.
        let at = |wall_ns| Anchor { instant: now, wall_ns };
        assert!(no_stamp_ahead(&history(&[5]), &at(0), 0).is_empty());
        let later = history(&[4_000_000_000]);
        assert_eq!(no_stamp_ahead(&later, &at(0), 1_000_000_000).len(), 1);
        assert!(no_stamp_ahead(&later, &at(0), 4_000_000_000).is_empty());
    }
}
