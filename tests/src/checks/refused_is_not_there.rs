//! Promise 8, refuses clearly: what was refused is not in the log. What was called unknown may be.
//!
//! Negative control: below.

use std::collections::BTreeSet;

use proto::Record;

use crate::history::{History, Outcome};

/// What was refused and is there all the same.
#[must_use]
pub fn refused_is_not_there(history: &History, records: &[Record]) -> Vec<String> {
    let ids: BTreeSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    let acked: BTreeSet<&str> = history.acked().map(|(attempt, ..)| attempt.id.as_str()).collect();
    let mut wrong = Vec::new();
    for attempt in &history.attempts {
        let id = attempt.id.as_str();
        // The same id may have been sent again, and taken then.
        if let Outcome::Refused(reason) = &attempt.outcome
            && ids.contains(id)
            && !acked.contains(id)
        {
            wrong.push(format!("{id} was refused ({reason}) and is there"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::planted::{records, with};
    use super::*;

    #[test]
    fn a_message_that_was_refused_and_stored_is_found() {
        let refused = || Outcome::Refused("no".to_owned());
        let there = with([("m1".to_owned(), refused())]);
        assert_eq!(refused_is_not_there(&there, &records(&[1])).len(), 1);
        assert!(refused_is_not_there(&there, &records(&[2])).is_empty());
        let unknown = with([("m1".to_owned(), Outcome::Unknown("?".to_owned()))]);
        assert!(refused_is_not_there(&unknown, &records(&[1])).is_empty());
    }
}
