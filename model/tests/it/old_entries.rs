//! Entries of the first release, whose logs a later one opens: their bytes still mean what they meant,
//! and applying them gives the digest that it gave there. The constants were recorded with that
//! release.
//!
//! Seen to fail with blocks kept from the first record on, and with a command's tag changed.

use bytes::Bytes;
use clock::{Hlc, Stamp};
use model::{Batch, Command, CommandOp, Machine, MemoryView, query};
use proto::Header;
use proto::wire::Position;

use crate::arbitrary::caller;

/// BLAKE3 of the entry below, as the first release encoded it.
const ENTRY: &str = "b01b10d656ef315179c4b3711cfb70f4c9575a530a76a537b0b5f535952b7222";
/// Digest after that entry and 1100 messages, as the first release computed it.
const DIGEST: &str = "880d815c70112ea6f88ea9ae89847c0b21968c146748dcb511f24f8f39b7206e";

fn first_release_ops() -> Vec<CommandOp> {
    let send = CommandOp::Send {
        to: "*".into(),
        id: "m1".into(),
        headers: vec![Header { key: "kind".into(), value: "greeting".into() }],
        body: Bytes::from_static(b"hi"),
    };
    vec![
        CommandOp::Register { name: "bob".into(), fingerprint: [7; 32], home: "n2".into() },
        send,
        CommandOp::Delete { id: "m1".into(), from: "admin".into(), reason: "typo".into() },
        CommandOp::SetCursor { name: "c".into(), positions: vec![Position { shard: 1, seq: 1 }] },
        CommandOp::TermStart { node: "n1".into(), term: 4 },
        CommandOp::Tick,
        CommandOp::Expire { max_age_ns: 1, max_records: 2000, max_bytes: 3 << 20 },
    ]
}

fn batch(ns: u64, ops: Vec<CommandOp>) -> Batch {
    let commands = ops
        .into_iter()
        .map(|op| Command { caller: caller("admin"), gateway: "n2".into(), op })
        .collect();
    let base = Stamp { hlc: Hlc::from_ns(ns), early_us: 3, late_us: 4 };
    Batch { base, primary: "n1".into(), commands }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn entries_of_the_first_release_mean_the_same() {
    let first = batch(1_700_000_000_000_000_000, first_release_ops());
    let encoded = first.encode();
    assert_eq!(hex(blake3::hash(&encoded).as_bytes()), ENTRY);
    assert_eq!(Batch::decode(&encoded), Ok(first.clone()));

    let send = |n: u32| CommandOp::Send {
        to: "bob".into(),
        id: format!("n{n}"),
        headers: Vec::new(),
        body: Bytes::from_static(b"x"),
    };
    let many = batch(1_700_000_001_000_000_000, (0..1100).map(send).collect());
    let mut view = MemoryView::default();
    for (index, batch) in (1u64..).zip([first, many]) {
        let mut machine = Machine::new(&view).unwrap();
        machine.apply(index, 4, Some(&batch)).unwrap();
        let changes = machine.into_changes();
        view.write(changes);
    }
    assert_eq!(hex(&query::stats(&view).unwrap().digest), DIGEST);
}
