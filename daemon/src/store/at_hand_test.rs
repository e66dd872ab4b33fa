//! What whoever applies does without the disk, and what others see meanwhile.

use model::{Direction, Table, View};

use super::store_test::{applied, change, create, intact};

/// Who applies keeps nobody waiting where it needs no disk. Seen to fail for a row of the first block,
/// which an opening has read: there is nothing to wait for.
#[tokio::test]
async fn only_what_lies_on_the_disk_alone_is_waited_for() {
    let dir = create();
    let store = intact(dir.path());
    let rows = (0..500u32).map(|i| change(&i.to_be_bytes(), &[7; 300]));
    store.apply(rows.collect(), &applied(41, &[3; 32]), &[]).unwrap();
    // Not in the first block, which an opening reads.
    let key = 250u32.to_be_bytes();
    let get = |view: &dyn View| view.get(Table::Clients, &key).unwrap().map(|row| row.len());
    let walk = |view: &dyn View| {
        view.scan(Table::Clients, b"", &[0xff; 8], Direction::Forward, 999).unwrap().len()
    };
    let at_hand = store.at_hand();
    assert_eq!((get(&at_hand), walk(&at_hand), at_hand.waited()), (Some(300), 500, 0));
    drop(at_hand);
    store.writer().unwrap().barrier().await.unwrap();
    store.close();
    drop(store);

    let store = intact(dir.path());
    let at_hand = store.at_hand();
    assert_eq!((get(&at_hand), at_hand.waited()), (Some(300), 1));
    assert_eq!((walk(&at_hand), at_hand.waited()), (500, 2));
    // From here on it is in memory.
    assert_eq!((get(&at_hand), walk(&at_hand), at_hand.waited()), (Some(300), 500, 2));
    assert_eq!(store.damage(), None);
    drop(at_hand);
    store.close();
}

/// Whoever was told that something is stored finds it.
#[test]
fn who_looks_at_the_state_finds_what_was_answered() {
    let dir = create();
    let store = intact(dir.path());
    for round in 1..50u64 {
        let row = round.to_be_bytes();
        let rows = vec![change(b"a", &row)];
        let applying = store.applying(rows, &applied(round, &[3; 32]), &[]).unwrap();
        let answering = store.answering(&applying);
        let (tx, begun) = std::sync::mpsc::channel();
        let other = store.clone();
        let looking = std::thread::spawn(move || {
            tx.send(()).unwrap();
            other.snapshot().unwrap().get(Table::Clients, b"a").unwrap()
        });
        begun.recv().unwrap();
        store.apply_in_time(applying).unwrap();
        drop(answering);
        assert_eq!(looking.join().unwrap().as_deref(), Some(&row[..]));
    }
    store.close();
}
