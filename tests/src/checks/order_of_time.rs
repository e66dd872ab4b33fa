//! Promise 2, one order: what was acknowledged before another send began stands before it, by
//! number and by stamp, whichever nodes took the two.
//!
//! Negative control: below.

use crate::history::History;

/// Sends whose order in the log contradicts the order in which they happened.
#[must_use]
pub fn order_of_time(history: &History) -> Vec<String> {
    // A send that was stored before stands where it stood then.
    let mut sends: Vec<_> = history.acked().collect();
    sends.sort_by_key(|(_, seq, _)| *seq);
    let mut wrong = Vec::new();
    // From the back: the earliest answer among all that stand later.
    let mut earliest: Option<(std::time::Instant, &str)> = None;
    for (attempt, seq, _) in sends.iter().rev() {
        if let Some((completed, later)) = earliest
            && completed < attempt.invoked
        {
            let id = &attempt.id;
            wrong.push(format!("{id} stands at {seq}, before {later} that was acknowledged first"));
        }
        if earliest.is_none_or(|(completed, _)| attempt.completed < completed) {
            earliest = Some((attempt.completed, &attempt.id));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::planted::history;
    use super::*;

    #[test]
    fn an_exchanged_pair_is_found() {
        assert!(order_of_time(&history(&[1, 2, 5])).is_empty());
        assert_eq!(order_of_time(&history(&[1, 5, 2])).len(), 1);
        assert_eq!(order_of_time(&history(&[9, 1, 2])).len(), 2);
    }
}
