//! Promise 2, I1: final stamps strictly ascend with seq and over entries, whatever was proposed;
//! a raised stamp still covers the proposed instant.
//!
//! Seen to fail with `Machine::stamp` returning the proposed stamp, and with the stamps of blank and
//! membership entries counted as a proposer's fault.

use clock::{Hlc, Stamp};
use model::{Batch, Caller, Command, CommandOp, Machine, MemoryView, Outcome};
use proptest::prelude::*;
use proto::record::read_stamp;

use crate::arbitrary::history;

proptest! {
    #[test]
    fn stamps_ascend(history in history()) {
        let mut view = MemoryView::default();
        let mut last = Hlc::ZERO;
        for (index, batch) in (1u64..).zip(&history) {
            let mut machine = Machine::new(&view).unwrap();
            prop_assert_eq!(machine.last_stamp(), last);
            let outcomes = machine.apply(index, 1, batch.as_ref()).unwrap();
            // Events of changed settings take stamps of their own.
            let mut events = false;
            for (i, outcome) in (0u64..).zip(outcomes) {
                events |= matches!(outcome, Outcome::Configured(_) | Outcome::Done);
                let Outcome::Sent(ack) = outcome else { continue };
                if ack.duplicate {
                    continue;
                }
                let stamp = read_stamp(&ack.stamp).unwrap();
                prop_assert!(stamp.hlc > last);
                last = stamp.hlc;
                let base = batch.as_ref().unwrap().base;
                let proposed = base.hlc.advance(i);
                prop_assert!(stamp.hlc >= proposed);
                let earliest = base.hlc.ns - u64::from(base.early_us) * 1000;
                prop_assert!(stamp.earliest_ns().is_none_or(|ns| ns <= earliest));
                prop_assert_eq!(machine.ratcheted() > 0 || events || stamp.hlc == proposed, true);
            }
            prop_assert!(machine.last_stamp() > Hlc::ZERO && machine.last_stamp() >= last);
            prop_assert_eq!(machine.last_stamp().ns == 0, false);
            last = machine.last_stamp();
            let changes = machine.into_changes();
            view.write(changes);
        }
    }
}

/// A batch of ticks that was stamped at the nth instant of one nanosecond.
fn ticks(logical: u32, count: usize) -> Batch {
    let tick = Command {
        caller: Caller::node(&"n1".parse().unwrap()),
        gateway: "n1".to_owned(),
        op: CommandOp::Tick,
    };
    let base = Stamp::unbounded(Hlc { ns: 7_000_000_000, logical });
    Batch { base, primary: "n1".to_owned(), commands: vec![tick; count] }
}

/// A primary whose clock is a little behind its predecessor's stamps the next instants of one
/// nanosecond. An entry of the engine that comes between takes one of them: nobody's fault.
#[test]
fn entries_of_the_engine_are_no_fault_of_the_proposer() {
    let view = MemoryView::default();
    let mut machine = Machine::new(&view).unwrap();
    machine.apply(1, 1, Some(&ticks(0, 2))).unwrap();
    machine.apply(2, 1, None).unwrap();
    machine.apply(3, 1, None).unwrap();
    machine.apply(4, 1, Some(&ticks(2, 2))).unwrap();
    machine.apply(5, 1, Some(&ticks(4, 1))).unwrap();
    assert_eq!(machine.ratcheted(), 0, "two entries took two instants");
    assert_eq!(machine.last_stamp(), Hlc { ns: 7_000_000_000, logical: 6 });
    machine.apply(6, 1, Some(&ticks(4, 1))).unwrap();
    assert_eq!(machine.ratcheted(), 1, "an instant that was given twice is one");
}
