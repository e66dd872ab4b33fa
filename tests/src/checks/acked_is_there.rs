//! Promise 1, durable: what was acknowledged is in the log, where the acknowledgement said.
//!
//! Negative control: below.

use std::collections::BTreeMap;

use proto::Record;

use crate::history::History;

/// What was acknowledged and is missing, or stands elsewhere.
#[must_use]
pub fn acked_is_there(history: &History, records: &[Record]) -> Vec<String> {
    let by_id: BTreeMap<&str, &Record> = records.iter().map(|r| (r.id.as_str(), r)).collect();
    let mut wrong = Vec::new();
    for (attempt, seq, stamp) in history.acked() {
        let id = &attempt.id;
        match by_id.get(id.as_str()) {
            None => wrong.push(format!("{id} was acknowledged as {seq} and is not there")),
            Some(record) if record.seq != seq || record.stamp != stamp => {
                let found = record.seq;
                wrong.push(format!("{id} was acknowledged as {seq} and is another: {found}"));
            }
            Some(_) => {}
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::planted::{history, records};
    use super::*;

    #[test]
    fn a_lost_or_moved_message_is_found() {
        assert!(acked_is_there(&history(&[1, 2]), &records(&[1, 2, 3])).is_empty());
        assert_eq!(acked_is_there(&history(&[1, 2]), &records(&[1])).len(), 1);
        let mut moved = records(&[1, 2]);
        moved[1].seq = 3;
        assert_eq!(acked_is_there(&history(&[1, 2]), &moved).len(), 1);
        let mut stamped_anew = records(&[1, 2]);
        stamped_anew[0].stamp = vec![0; 20];
        assert_eq!(acked_is_there(&history(&[1, 2]), &stamped_anew).len(), 1);
    }
}
