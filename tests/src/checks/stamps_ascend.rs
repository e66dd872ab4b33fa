//! Promise 2, one order: stamps strictly increase along the log, over failovers and restarts.
//!
//! Negative control: below.

use proto::Record;

/// Where a stamp is not later than the one before.
#[must_use]
pub fn stamps_ascend(records: &[Record]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut last = None;
    for record in records {
        match record.hlc() {
            Err(error) => wrong.push(format!("{}: {error}", record.seq)),
            Ok(hlc) => {
                if last.is_some_and(|last| hlc <= last) {
                    wrong.push(format!("{}: {hlc} is not later than the one before", record.seq));
                }
                last = Some(hlc);
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::planted::records;
    use super::*;

    #[test]
    fn a_stamp_that_stands_or_falls_is_found() {
        assert!(stamps_ascend(&records(&[1, 2, 3])).is_empty());
        assert_eq!(stamps_ascend(&records(&[1, 1])).len(), 1);
        assert_eq!(stamps_ascend(&records(&[2, 1])).len(), 1);
        let mut short = records(&[1]);
        short[0].stamp.pop();
        assert_eq!(stamps_ascend(&short).len(), 1);
    }
}
