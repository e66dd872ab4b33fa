//! The store through its public face: what survives a restart, what is noticed, what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use clock::Hlc;
use model::{Change, Direction, Table, View as _};

use super::format::{AppliedState, Identity, LogEntry, LogMark, Vote};
use super::{DamageKind, Opened, SnapshotHead, Store};

const CLUSTER: &str = "0123456789abcdef0123456789abcdef";

fn identity() -> Identity {
    Identity {
        cluster: CLUSTER.to_owned(),
        node: "n1".to_owned(),
        raft_id: 1,
        incarnation: vec![9; 16],
        ..Identity::default()
    }
}

pub(super) fn create() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    Store::create(dir.path(), &identity()).unwrap();
    dir
}

fn open(dir: &Path) -> Opened {
    Store::open(dir, CLUSTER, "n1").unwrap()
}

pub(super) fn intact(dir: &Path) -> Store {
    match open(dir) {
        Opened::Intact(store) => store,
        Opened::Repairing { damage, .. } => panic!("repairing: {damage}"),
    }
}

fn repairing(dir: &Path) -> String {
    match open(dir) {
        Opened::Repairing { damage, .. } => damage.found,
        Opened::Intact(_) => panic!("opened as intact"),
    }
}

fn entry(index: u64, term: u64) -> LogEntry {
    LogEntry { index, term, payload: format!("payload {index} of term {term}").into() }
}

async fn append(store: &Store, range: std::ops::Range<u64>, term: u64) {
    let (tx, durable) = tokio::sync::oneshot::channel();
    let entries = range.map(|index| entry(index, term)).collect();
    store.writer().unwrap().append(entries, Box::new(move |result| drop(tx.send(result))));
    durable.await.unwrap().unwrap();
}

/// Notes entries that the log holds as applied, up to and with this one.
fn apply_up_to(store: &Store, last: u64) {
    let (first, _) = store.range();
    let places: Vec<_> = (first..=last).map(|index| store.logged(index).unwrap()).collect();
    let last = places.last().map(|place| LogMark::from(*place));
    store.apply(Vec::new(), &AppliedState { last, ..AppliedState::default() }, &places).unwrap();
}

fn indexes(store: &Store, from: u64) -> Vec<(u64, u64)> {
    let entries = store.entries(from, u64::MAX, usize::MAX).unwrap();
    entries.iter().map(|entry| (entry.index, entry.term)).collect()
}

/// The first segment of the log.
fn segment(dir: &Path) -> PathBuf {
    dir.join("store/log/0000000000000001.segment")
}

fn position(bytes: &[u8], part: &str) -> usize {
    bytes.windows(part.len()).position(|window| window == part.as_bytes()).unwrap()
}

/// Within a nanosecond, as the log of a cluster has it that is ahead of its clocks.
const CEILING: Hlc = Hlc { ns: 77, logical: 9 };

#[tokio::test]
async fn votes_entries_and_truncations_survive_a_restart() {
    let dir = create();
    let store = intact(dir.path());
    let vote = Vote { term: 3, node: 1, committed: true };
    store.writer().unwrap().vote(vote).await.unwrap();
    append(&store, 0..10, 3).await;
    store.writer().unwrap().truncate(6).unwrap();
    append(&store, 6..8, 4).await;
    store.writer().unwrap().put_ceiling(CEILING).await.unwrap();
    store.close();
    drop(store);

    let store = intact(dir.path());
    assert_eq!(store.vote(), Some(vote));
    assert_eq!(store.ceiling().unwrap(), CEILING);
    assert_eq!(store.starts(), 2);
    assert_eq!(indexes(&store, 4), [(4, 3), (5, 3), (6, 4), (7, 4)]);
}

/// Found by twelve kills of the primary in the end-to-end suite, with a log in the database: a
/// restarted primary applied the entry that replaced its own, found the old one in the log, and ended.
#[tokio::test]
async fn an_index_that_changes_hands_is_at_once_that_of_its_new_entry() {
    let dir = create();
    let store = intact(dir.path());
    append(&store, 0..10, 1).await;
    let writer = store.writer().unwrap();
    for term in 2..30 {
        writer.truncate(6).unwrap();
        writer.append((6..10).map(|index| entry(index, term)).collect(), Box::new(drop));
        assert_eq!(store.logged(9).unwrap().term, term);
    }
    store.close();
}

#[tokio::test]
async fn a_purged_log_begins_above_its_floor() {
    let dir = create();
    let store = intact(dir.path());
    append(&store, 0..10, 1).await;
    apply_up_to(&store, 4);
    let writer = store.writer().unwrap();
    writer.purge(4).unwrap();
    assert_eq!(store.range(), (5, 10), "the engine sees it as purged at once");
    writer.barrier().await.unwrap();
    assert_eq!(indexes(&store, 0).first(), Some(&(5, 1)));
    store.close();
    drop((store, writer));

    let store = intact(dir.path());
    assert_eq!(store.floor().unwrap().index, 4);
    assert_eq!(indexes(&store, 0).len(), 5);
}

/// What was purged can be compared, what was cut off cannot. Seen to fail with the rows left in a
/// truncation, left in a flip, and not written.
#[tokio::test]
async fn the_place_of_a_purged_entry_is_known() {
    let dir = create();
    let store = intact(dir.path());
    append(&store, 0..10, 1).await;
    let places: Vec<_> = (0..10).map(|index| store.place_at(index).unwrap()).collect();
    apply_up_to(&store, 6);
    let writer = store.writer().unwrap();
    writer.purge(4).unwrap();
    writer.truncate(9).unwrap();
    writer.barrier().await.unwrap();
    store.close();
    drop((store, writer));

    let store = intact(dir.path());
    for (index, place) in (0..9).zip(&places) {
        assert_eq!(store.place_at(index).unwrap(), *place, "entry {index}");
    }
    assert_eq!(store.place_at(9).unwrap(), None, "cut off");
    // A snapshot that goes further than the log: what lies behind the old state may not be in it.
    let head = SnapshotHead { applied: Some(applied(20, &[5; 32])), ..store.head().unwrap() };
    let other = create();
    let other = intact(other.path());
    other.apply(vec![change(b"a", b"row")], &applied(20, &[5; 32]), &[]).unwrap();
    let (mut incoming, mut reader) =
        (store.write_in(head).unwrap(), other.read_out().await.unwrap());
    while let Some(chunk) = reader.next().await {
        incoming.push(&chunk.unwrap()).unwrap();
    }
    store.flip(incoming).await.unwrap();
    store.writer().unwrap().purge(20).unwrap();
    assert_eq!(store.range(), (21, 21), "at once: the next entry comes behind it");
    assert_eq!(store.place_at(6).unwrap(), places[6]);
    assert_eq!(store.place_at(7).unwrap(), None);
    assert_eq!(store.place_at(20).unwrap().unwrap().hash, [5; 32]);
}

/// A log that was set back is flawless by itself. Seen to fail with a log that is opened without the
/// mark of the watermark file.
#[tokio::test]
async fn a_log_that_lost_its_end_is_noticed() {
    for vote in [None, Some(Vote { term: 9, node: 1, committed: false })] {
        let dir = create();
        let store = intact(dir.path());
        append(&store, 0..1, 1).await;
        store.writer().unwrap().barrier().await.unwrap();
        let before = fs::read(segment(dir.path())).unwrap();
        match vote {
            None => append(&store, 1..2, 1).await,
            Some(vote) => store.writer().unwrap().vote(vote).await.unwrap(),
        }
        store.close();
        drop(store);
        fs::write(segment(dir.path()), before).unwrap();
        let reason = repairing(dir.path());
        assert!(reason.contains("the log was durable up to group"), "{reason}");
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_is_noticed() {
    let dir = create();
    let store = intact(dir.path());
    append(&store, 0..20, 1).await;
    store.close();
    drop(store);
    let mut bytes = fs::read(segment(dir.path())).unwrap();
    let middle = position(&bytes, "payload 10");
    bytes[middle] ^= 4;
    fs::write(segment(dir.path()), bytes).unwrap();
    repairing(dir.path());
}

#[tokio::test]
async fn a_lost_log_or_watermark_is_noticed() {
    let dir = create();
    fs::remove_file(segment(dir.path())).unwrap();
    assert!(repairing(dir.path()).contains("the log has no segment"));
    let dir = create();
    fs::remove_dir_all(dir.path().join("store/log")).unwrap();
    repairing(dir.path());
    let other = create();
    fs::write(other.path().join("store/watermark"), vec![0; 8192]).unwrap();
    assert!(repairing(other.path()).contains("no valid slot"));
}

#[tokio::test]
async fn a_foreign_or_missing_store_is_refused_and_left_alone() {
    let dir = create();
    let other = Store::open(dir.path(), &"f".repeat(32), "n1").unwrap_err();
    assert!(other.to_string().contains("belongs to cluster"), "{other}");
    let other = Store::open(dir.path(), CLUSTER, "n2").unwrap_err();
    assert!(other.to_string().contains("belongs to node n1"), "{other}");
    let store = intact(dir.path());
    let twice = Store::open(dir.path(), CLUSTER, "n1").unwrap_err();
    assert!(twice.to_string().contains("in use by another process"), "{twice}");
    drop(store);
    let empty = tempfile::tempdir().unwrap();
    let none = Store::open(empty.path(), CLUSTER, "n1").unwrap_err();
    assert!(none.to_string().contains("never creates one"), "{none}");
    assert!(fs::read_dir(empty.path()).unwrap().next().is_none(), "nothing was created");
    assert!(Store::create(dir.path(), &identity()).is_err());
}

pub(super) fn change(key: &[u8], value: &[u8]) -> Change {
    Change { table: Table::Clients, key: key.to_vec(), value: Some(value.to_vec()) }
}

pub(super) fn applied(index: u64, hash: &[u8]) -> AppliedState {
    let last = LogMark { index, term: 1, hash: hash.to_vec() };
    AppliedState { last: Some(last), ..AppliedState::default() }
}

#[tokio::test]
async fn a_snapshot_replaces_the_state_whole() {
    let (from, to) = (create(), create());
    let (from, to) = (intact(from.path()), intact(to.path()));
    let rows = (0..5000u32).map(|i| change(&i.to_be_bytes(), &[7; 300]));
    from.apply(rows.collect(), &applied(41, &[3; 32]), &[]).unwrap();
    to.apply(vec![change(b"old", b"row")], &applied(3, &[2; 32]), &[]).unwrap();
    let frozen = to.snapshot().unwrap();

    let mut reader = from.read_out().await.unwrap();
    // Later changes are not part of it.
    from.apply(vec![change(b"later", b"row")], &applied(42, &[4; 32]), &[]).unwrap();
    let mut incoming = to.write_in(reader.head.clone()).unwrap();
    let mut chunks = 0;
    while let Some(chunk) = reader.next().await {
        incoming.push(&chunk.unwrap()).unwrap();
        chunks += 1;
    }
    assert!(chunks > 2, "in pieces");
    to.flip(incoming).await.unwrap();

    assert_eq!(to.applied().unwrap().last.unwrap().index, 41);
    let view = to.live();
    assert_eq!(view.get(Table::Clients, b"old").unwrap(), None);
    assert_eq!(view.get(Table::Clients, b"later").unwrap(), None);
    let rows = view.scan(Table::Clients, b"", &[0xff; 8], Direction::Forward, 9999).unwrap();
    assert_eq!(rows.len(), 5000);
    let last = view.scan(Table::Clients, b"", &[0xff; 8], Direction::Backward, 1).unwrap();
    assert_eq!(last.first().unwrap().0, 4999u32.to_be_bytes());
    assert_eq!(frozen.get(Table::Clients, b"old").unwrap().unwrap(), &b"row"[..]);
}

#[tokio::test]
async fn a_damaged_snapshot_changes_nothing() {
    let (from, to) = (create(), create());
    let (from, to) = (intact(from.path()), intact(to.path()));
    from.apply((0..9u8).map(|i| change(&[i], &[i])).collect(), &applied(8, &[3; 32]), &[]).unwrap();
    to.apply(vec![change(b"old", b"row")], &applied(3, &[2; 32]), &[]).unwrap();

    let mut reader = from.read_out().await.unwrap();
    let mut incoming = to.write_in(reader.head.clone()).unwrap();
    let mut chunk = reader.next().await.unwrap().unwrap();
    chunk.rows[3] ^= 1;
    assert!(incoming.push(&chunk).is_err(), "a flipped bit");
    chunk.rows[3] ^= 1;
    incoming.push(&chunk).unwrap();
    let mut trailer = reader.next().await.unwrap().unwrap();
    trailer.count += 1;
    assert!(incoming.push(&trailer).is_err(), "a wrong count");
    assert!(to.flip(incoming).await.is_err(), "incomplete");

    let mut empty = reader.head.clone();
    empty.applied = Some(AppliedState::default());
    assert!(to.write_in(empty).is_err(), "a snapshot of nothing");
    assert_eq!(to.live().get(Table::Clients, b"old").unwrap().unwrap(), &b"row"[..]);
    assert_eq!(to.applied().unwrap().last.unwrap().index, 3);
}

/// A store whose log holds ten entries, of which nothing proves the last five.
async fn with_a_tail() -> tempfile::TempDir {
    let dir = create();
    let store = intact(dir.path());
    append(&store, 0..5, 1).await;
    store.writer().unwrap().barrier().await.unwrap();
    let proven = fs::read(dir.path().join("store/watermark")).unwrap();
    append(&store, 5..10, 1).await;
    store.close();
    drop(store);
    fs::write(dir.path().join("store/watermark"), proven).unwrap();
    // What proves them is the mark that was written when the log was idle.
    let mut log = fs::read(segment(dir.path())).unwrap();
    let mark = position(&log, "payload 9").next_multiple_of(512);
    log[mark..].fill(0);
    fs::write(segment(dir.path()), log).unwrap();
    dir
}

/// What a power cut can leave of sectors that were never synced. Found broken with a log in the
/// database: such a store was `repairing` for ever.
#[tokio::test]
async fn a_tail_that_no_mark_covers_is_dropped_however_it_is_broken() {
    type Break = fn(&mut Vec<u8>, usize);
    let breaks: [(&str, Break); 5] = [
        ("a flipped bit at its beginning", |log, tail| log[tail + 20] ^= 1),
        ("a flipped bit at its end", |log, tail| log[tail + 300] ^= 1),
        ("zeroes", |log, tail| log[tail + 9..].fill(0)),
        ("zeroes in the middle", |log, tail| log[tail + 40..tail + 90].fill(0)),
        ("another file's bytes", |log, tail| log[tail..].fill(0xa5)),
    ];
    for (name, broken) in breaks {
        let dir = with_a_tail().await;
        let path = segment(dir.path());
        let mut log = fs::read(&path).unwrap();
        let fifth = position(&log, "payload 5") / 512 * 512;
        broken(&mut log, fifth);
        fs::write(&path, log).unwrap();
        let store = intact(dir.path());
        let held = indexes(&store, 0);
        assert!(held.len() >= 5, "{name}: {held:?}");
        // It goes on where it ends now, and is as sound as any after the next start.
        let end = held.len() as u64;
        append(&store, end..end + 3, 2).await;
        store.close();
        drop(store);
        assert_eq!(indexes(&intact(dir.path()), end).len(), 3, "{name}");
    }
}

/// The log alone must not decide what its tail is.
#[tokio::test]
async fn what_a_mark_covers_is_never_dropped_and_its_loss_is_remembered() {
    let dir = create();
    let store = intact(dir.path());
    append(&store, 0..20, 1).await;
    store.close();
    drop(store);
    let path = segment(dir.path());
    let whole = fs::read(&path).unwrap();
    let at = position(&whole, "payload 15");
    let mut log = whole.clone();
    log[at] ^= 1;
    fs::write(&path, &log).unwrap();
    repairing(dir.path());
    // Right again, and nobody can say what else is not.
    fs::write(&path, &whole).unwrap();
    let Opened::Repairing { identity: found, damage, .. } = open(dir.path()) else {
        panic!("forgotten");
    };
    assert_eq!((found.unwrap().raft_id, damage.kind()), (1, DamageKind::Corrupt));
}

/// An idle node whose tables are merged: the database keeps what it met for the next write. Seen to
/// fail with background errors that nobody looks at.
#[tokio::test]
async fn what_a_merge_met_is_known_without_a_write() {
    let dir = create();
    let store = intact(dir.path());
    let rows = (0..500u32).map(|i| change(&i.to_be_bytes(), &[7; 300]));
    store.apply(rows.collect(), &applied(41, &[3; 32]), &[]).unwrap();
    store.compact().unwrap();
    store.look_in_background();
    assert_eq!(store.damage(), None);
    for table in tables(dir.path()) {
        let mut bytes = fs::read(&table).unwrap();
        bytes[16] ^= 1;
        fs::write(&table, bytes).unwrap();
    }
    store.compact().unwrap();
    store.look_in_background();
    let mut told = store.told();
    let met = told.wait_for(|told| told.is_met());
    tokio::time::timeout(std::time::Duration::from_secs(60), met).await.unwrap().unwrap();
    assert!(store.damage().unwrap().found.contains("writing"), "{:?}", store.damage());
    store.close();
}

/// The ceiling is nowhere else. Seen to fail with one slot written.
#[tokio::test]
async fn a_ceiling_outlives_the_loss_of_either_slot() {
    let dir = create();
    let store = intact(dir.path());
    store.writer().unwrap().put_ceiling(CEILING).await.unwrap();
    let path = dir.path().join("store/watermark");
    let whole = fs::read(&path).unwrap();
    store.close();
    drop(store);
    for slot in [20, 4096 + 20] {
        let mut bytes = whole.clone();
        bytes[slot] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let store = intact(dir.path());
        assert_eq!(store.ceiling().unwrap(), CEILING);
        store.close();
    }
}

/// A primary lost its office; what replaced its last entries was applied here and flushed before this
/// disk had it. Seen to fail with every other entry called a contradiction.
#[tokio::test]
async fn a_state_of_a_later_term_replaces_what_the_log_still_holds() {
    let dir = create();
    let store = intact(dir.path());
    append(&store, 0..10, 1).await;
    let last = Some(LogMark { index: 7, term: 2, hash: vec![3; 32] });
    store.apply(Vec::new(), &AppliedState { last, ..AppliedState::default() }, &[]).unwrap();
    store.close();
    drop(store);
    let store = intact(dir.path());
    assert_eq!(store.range(), (8, 8));
    assert_eq!(store.place_at(7).unwrap().unwrap().hash, [3; 32]);
    append(&store, 8..10, 2).await;
    store.close();
    drop(store);
    assert_eq!(indexes(&intact(dir.path()), 0), [(8, 2), (9, 2)]);
}

/// The index alone does not say of which entry a state was made.
#[tokio::test]
async fn a_state_that_another_log_made_is_noticed() {
    for (index, hash, part) in [
        (7, vec![3; 32], "another entry 7"),
        (2, vec![3; 32], "up to 4 are purged"),
        (12, vec![3; 32], ""),
    ] {
        let dir = create();
        let store = intact(dir.path());
        append(&store, 0..10, 1).await;
        apply_up_to(&store, 4);
        store.writer().unwrap().purge(4).unwrap();
        store.writer().unwrap().barrier().await.unwrap();
        store.apply(vec![change(b"a", b"row")], &applied(index, &hash), &[]).unwrap();
        store.close();
        drop(store);
        if part.is_empty() {
            // A snapshot was installed, and the log is still to be purged; or this disk was behind.
            assert_eq!(intact(dir.path()).range(), (13, 13));
        } else {
            let reason = repairing(dir.path());
            assert!(reason.contains(part), "{reason}");
        }
    }
}

/// Found broken: reads only returned their error, and the next start was intact.
#[tokio::test]
async fn whoever_meets_damage_marks_the_store() {
    let dir = create();
    let store = intact(dir.path());
    append(&store, 0..3, 1).await;
    let rows = (0..2000u32).map(|i| change(&i.to_be_bytes(), &[7; 300]));
    store.apply(rows.collect(), &applied(40, &[3; 32]), &[]).unwrap();
    store.compact().unwrap();
    store.close();
    drop(store);
    for table in tables(dir.path()) {
        let mut bytes = fs::read(&table).unwrap();
        bytes[16] ^= 1;
        fs::write(&table, bytes).unwrap();
    }
    let Opened::Intact(store) = open(dir.path()) else { return };
    let read = store.live().scan(Table::Clients, b"", &[0xff; 8], Direction::Forward, 9999);
    assert!(read.is_err());
    let mut told = store.told();
    let durable = told.wait_for(|told| *told == super::Told::Durable).await.is_ok();
    assert!(durable && store.damage().is_some());
    store.close();
    drop(store);
    repairing(dir.path());
}

/// Wherever the bit lies: in a block of rows, an index, a filter or the words about the table. The
/// database reads around a broken filter, so the blocks alone do not tell.
#[tokio::test]
async fn a_look_at_the_disk_finds_every_flipped_bit_of_every_table() {
    let dir = create();
    let store = intact(dir.path());
    append(&store, 0..30, 1).await;
    let rows = (0..400u32).map(|i| change(&i.to_be_bytes(), &i.to_be_bytes()));
    store.apply(rows.collect(), &applied(20, &[]), &[]).unwrap();
    store.compact().unwrap();
    store.close();
    drop(store);
    let (mut flips, mut found) = (0, 0);
    for name in tables(dir.path()) {
        let whole = fs::read(&name).unwrap();
        for place in 0..16 {
            // A copy, since the mark would stay.
            let copy = tempfile::tempdir().unwrap();
            copy_all(dir.path(), copy.path());
            let Opened::Intact(store) = open(copy.path()) else { panic!("the copy is intact") };
            store.live().scan(Table::Clients, b"", &[0xff; 8], Direction::Forward, 999).unwrap();
            let mut bytes = whole.clone();
            bytes[whole.len() * place / 16 + place] ^= 1 << (place % 8);
            let table = copy.path().join(name.strip_prefix(dir.path()).unwrap());
            fs::write(table, bytes).unwrap();
            let told = store.audit_disk().unwrap();
            flips += 1;
            found += usize::from(!told.problems.is_empty());
            assert_eq!(store.damage().is_some(), !told.problems.is_empty());
            store.close();
        }
    }
    assert!(flips >= 32, "{flips} places");
    assert_eq!(found, flips);
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&target).unwrap();
            copy_all(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// Tables of a store's database.
fn tables(dir: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(dir.join("store/db")).unwrap().map(|file| file.unwrap().path());
    found.filter(|path| path.extension().is_some_and(|extension| extension == "sst")).collect()
}
