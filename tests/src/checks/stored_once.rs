//! Promise 3, once: one record for each sender and id, however often it was sent.
//!
//! Negative control: below, and a daemon that remembers no ids.

use std::collections::BTreeMap;

use proto::Record;

/// What is stored more than once.
#[must_use]
pub fn stored_once(records: &[Record]) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let mut wrong = Vec::new();
    for record in records {
        if let Some(before) = seen.insert((&record.from, &record.id), record.seq) {
            let (from, id, seq) = (&record.from, &record.id, record.seq);
            wrong.push(format!("{id} of {from} is stored twice: {before} and {seq}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::planted::{record, records};
    use super::*;

    #[test]
    fn a_double_is_found() {
        let mut double = records(&[1, 2]);
        double.push(Record { seq: 3, ..record(1) });
        assert_eq!(stored_once(&double).len(), 1);
        double[2].from = "bob".to_owned();
        assert!(stored_once(&double).is_empty());
    }
}
