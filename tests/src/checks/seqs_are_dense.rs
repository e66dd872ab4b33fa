//! Promise 2, one order: numbers begin at 1 and have no gap.
//!
//! Negative control: below.

use proto::Record;

/// Where a number does not follow the one before.
#[must_use]
pub fn seqs_are_dense(records: &[Record]) -> Vec<String> {
    let numbered = records.iter().zip(1..);
    let first_wrong = numbered.into_iter().find(|(record, wanted)| record.seq != *wanted);
    first_wrong
        .map(|(record, wanted)| format!("{} instead of {wanted}", record.seq))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::planted::records;
    use super::*;

    #[test]
    fn a_gap_is_found() {
        assert!(seqs_are_dense(&records(&[1, 2, 3])).is_empty());
        assert_eq!(seqs_are_dense(&records(&[1, 3])).len(), 1);
        assert_eq!(seqs_are_dense(&records(&[0, 1])).len(), 1);
        assert_eq!(seqs_are_dense(&records(&[1, 1])).len(), 1);
    }
}
