//! One property a file. Each returns what is wrong, names the promise it protects, and is tried on
//! a planted fault: a check that has never complained proves nothing.

mod acked_is_there;
mod bounds_hold;
mod equal_everywhere;
mod no_stamp_ahead;
mod nobody_panicked;
mod one_primary_per_term;
mod order_of_time;
mod reads_are_fresh;
mod refused_is_not_there;
mod seqs_are_dense;
mod stamps_ascend;
mod stored_once;

pub use acked_is_there::acked_is_there;
pub use bounds_hold::bounds_hold;
pub use equal_everywhere::equal_everywhere;
pub use no_stamp_ahead::no_stamp_ahead;
pub use nobody_panicked::nobody_panicked;
pub use one_primary_per_term::one_primary_per_term;
pub use order_of_time::order_of_time;
pub use reads_are_fresh::reads_are_fresh;
pub use refused_is_not_there::refused_is_not_there;
pub use seqs_are_dense::seqs_are_dense;
pub use stamps_ascend::stamps_ascend;
pub use stored_once::stored_once;

use proto::Record;

use crate::history::History;

/// Everything that must hold of what the nodes hold and what the senders were told.
#[must_use]
pub fn all(history: &History, nodes: &[(String, Vec<Record>)]) -> Vec<String> {
    let mut wrong = equal_everywhere(nodes);
    for (name, records) in nodes {
        let found = [
            acked_is_there(history, records),
            stored_once(records),
            refused_is_not_there(history, records),
            seqs_are_dense(records),
            stamps_ascend(records),
        ];
        wrong.extend(found.into_iter().flatten().map(|text| format!("{name}: {text}")));
    }
    wrong.extend(order_of_time(history));
    wrong
}

#[cfg(test)]
mod planted {
    //! Small histories and logs for the negative controls.

    use std::time::{Duration, Instant};

    use clock::{Hlc, Stamp};
    use proto::Record;

    use crate::history::{Attempt, History, Outcome};

    pub(super) fn stamp(at: u64) -> Vec<u8> {
        let hlc = Hlc { ns: at, logical: 0 };
        Stamp { hlc, early_us: 1, late_us: 1 }.to_bytes().to_vec()
    }

    /// The record with this number; its stamp and id follow from it.
    pub(super) fn record(seq: u64) -> Record {
        Record {
            shard: 1,
            seq,
            id: format!("m{seq}"),
            from: "alice".to_owned(),
            stamp: stamp(seq),
            ..Record::default()
        }
    }

    pub(super) fn records(seqs: &[u64]) -> Vec<Record> {
        seqs.iter().map(|seq| record(*seq)).collect()
    }

    /// Sends one after the other, each acknowledged with these numbers.
    pub(super) fn history(seqs: &[u64]) -> History {
        let acked = |seq: u64| Outcome::Acked { seq, stamp: stamp(seq), duplicate: false };
        with(seqs.iter().map(|seq| (format!("m{seq}"), acked(*seq))))
    }

    pub(super) fn with(outcomes: impl IntoIterator<Item = (String, Outcome)>) -> History {
        let start = Instant::now();
        let attempts = outcomes.into_iter().zip(0..).map(|((id, outcome), n)| Attempt {
            id,
            invoked: start + Duration::from_secs(2 * n),
            completed: start + Duration::from_secs(2 * n + 1),
            outcome,
        });
        History { attempts: attempts.collect() }
    }
}
