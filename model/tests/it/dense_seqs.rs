//! Promise 2, one order: seqs are dense from 1, what is kept is one unbroken run of them, and the
//! index rows lead to exactly the kept records.
//!
//! Seen to fail with `last_seq` raised for refused sends too, with `drop_oldest` leaving the
//! sender's index row, and with it removing the id of a newer record.

use std::collections::BTreeSet;

use model::{MemoryView, Outcome, Table, query};
use proptest::prelude::*;
use proto::Record;
use proto::wire::Configure;

use crate::arbitrary::{apply_all, every, history};

fn texts(view: &MemoryView, table: Table) -> BTreeSet<Vec<u8>> {
    view.rows(table).map(|(key, _)| key.to_vec()).collect()
}

fn key(text: &str, seq: u64) -> Vec<u8> {
    [text.as_bytes(), &[0], &seq.to_be_bytes()].concat()
}

/// What a sender is called in keys.
fn sender(record: &Record) -> String {
    if record.to == "$events" { format!("${}", record.from) } else { record.from.clone() }
}

/// How many settings there are. A new one does not compile here.
fn settings() -> u64 {
    let Configure {
        max_clock_error_us,
        on_loss,
        retain_age_ms,
        retain_count,
        retain_bytes,
        cert_life_s,
    } = Configure::default();
    let clock = [max_clock_error_us.is_some(), on_loss.is_some()].len();
    let retain = [retain_age_ms.is_some(), retain_count.is_some(), retain_bytes.is_some()].len();
    (clock + retain + [cert_life_s.is_some()].len()) as u64
}

proptest! {
    #[test]
    fn seqs_are_dense(history in history()) {
        let mut view = MemoryView::default();
        // Changed settings and access tokens are events, one each, which nobody gets an acknowledgement of.
        let (mut next, mut events) = (1, 0);
        for outcome in apply_all(&mut view, &history).into_iter().flatten() {
            match outcome {
                Outcome::Sent(ack) => {
                    prop_assert!(ack.duplicate == (ack.seq < next));
                    prop_assert!(ack.seq <= next + events);
                    if !ack.duplicate {
                        (next, events) = (ack.seq + 1, 0);
                    }
                }
                Outcome::Configured(_) | Outcome::Done => events += settings(),
                Outcome::Tokens(_) => events += 1,
                _ => {}
            }
        }
        let stats = query::stats(&view).unwrap();
        prop_assert!((next - 1..next + events).contains(&stats.last_seq));

        let kept = every(&view);
        let seqs: Vec<u64> = kept.iter().map(|r| r.seq).collect();
        prop_assert_eq!(&seqs, &(stats.first_seq..=stats.last_seq).collect::<Vec<_>>());
        prop_assert!(kept.iter().all(model::hash::verify));

        let rows: usize = view.rows(Table::Records).map(|(_, row)| row.len()).sum();
        prop_assert_eq!(stats.bytes, rows as u64);
        let streams = kept.iter().map(|r| {
            key(&model::slots::stream_key(&r.stream().unwrap()), r.seq)
        });
        prop_assert_eq!(texts(&view, Table::Streams), streams.collect::<BTreeSet<_>>());
        let senders = kept.iter().map(|r| key(&sender(r), r.seq));
        prop_assert_eq!(texts(&view, Table::Senders), senders.collect::<BTreeSet<_>>());
        let ids = kept.iter().map(|r| format!("{}\0{}", r.id, sender(r)).into_bytes());
        prop_assert_eq!(texts(&view, Table::Ids), ids.collect::<BTreeSet<_>>());
        prop_assert_eq!(view.rows(Table::Dedup).count(), view.rows(Table::DedupAge).count());
    }
}
