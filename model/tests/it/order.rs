//! What no log does and no client may be told about stops the machine: an entry that does not
//! follow the last one, and a stamp that cannot ascend (I1).

use clock::{Hlc, Stamp};
use model::{ApplyError, Batch, Command, CommandOp, Machine, MemoryView};

use crate::arbitrary::caller;

fn tick(hlc: Hlc) -> Batch {
    let command = Command { caller: caller("n1"), gateway: "n1".into(), op: CommandOp::Tick };
    Batch { base: Stamp::unbounded(hlc), primary: "n1".into(), commands: vec![command] }
}

#[test]
fn entries_follow_each_other() {
    let mut view = MemoryView::default();
    let mut machine = Machine::new(&view).unwrap();
    // The first entry of all may have any index; openraft begins at 0.
    machine.apply(0, 0, None).unwrap();
    machine.apply(1, 3, Some(&tick(Hlc::from_ns(5)))).unwrap();
    let changes = machine.into_changes();
    view.write(changes);

    for (index, term) in [(0, 3), (1, 3), (2, 2)] {
        let mut machine = Machine::new(&view).unwrap();
        let error = machine.apply(index, term, None).unwrap_err();
        assert!(matches!(error, ApplyError::Order { last_index: 1, last_term: 3, .. }), "{error}");
    }
    let mut machine = Machine::new(&view).unwrap();
    machine.apply(2, 3, None).unwrap();
    assert_eq!(machine.last_stamp(), Hlc::from_ns(5).succ());
}

#[test]
fn stamps_never_stand_still() {
    let view = MemoryView::default();
    let mut machine = Machine::new(&view).unwrap();
    machine.apply(1, 1, Some(&tick(Hlc::MAX))).unwrap();
    let error = machine.apply(2, 1, Some(&tick(Hlc::from_ns(1)))).unwrap_err();
    assert!(matches!(error, ApplyError::Stamp { index: 2, .. }), "{error}");
}

#[test]
fn a_machine_without_entries_changes_nothing() {
    let view = MemoryView::default();
    assert!(Machine::new(&view).unwrap().into_changes().is_empty());
}
