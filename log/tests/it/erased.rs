//! What is purged can be gone from the disk, and a look at the whole disk finds what memory hides.

use std::fs;
use std::path::Path;

use log::{Entry, FileDisk, Log, LogError, Options};

use crate::history::STORE;

const OPTIONS: Options =
    Options { segment_bytes: 64 << 10, group_bytes: 8 << 10, recent_bytes: 1 << 20 };

fn opened(folder: &Path) -> Log<FileDisk> {
    Log::create(FileDisk::new(folder), STORE, OPTIONS).unwrap();
    Log::open(FileDisk::new(folder), STORE, OPTIONS, None).unwrap().0
}

fn append(log: &Log<FileDisk>, range: std::ops::Range<u64>, body: &'static [u8]) {
    for index in range {
        log.append(1, vec![Entry { index, term: 1, payload: body.repeat(200).into() }]).unwrap();
        log.flush().unwrap();
        keep_up(log);
    }
}

fn keep_up(log: &Log<FileDisk>) {
    while log.upkeep(&mut |_| {}).unwrap() != log::Upkeep::Nothing {}
}

fn files_with(folder: &Path, part: &[u8]) -> usize {
    let holds = |path: &Path| fs::read(path).unwrap().windows(part.len()).any(|at| at == part);
    fs::read_dir(folder).unwrap().filter(|file| holds(&file.as_ref().unwrap().path())).count()
}

/// Seen to fail with only the segment looked at that is written to: one that was ready behind it
/// held the words. And with what is cut off kept in the count: its segment stayed.
#[test]
fn what_is_purged_and_erased_is_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let log = opened(folder.path());
    append(&log, 0..200, b"secret words");
    // Some are cut off, of which no purge tells, and some lie in files that are ready to be used again.
    append(&log, 200..220, b"secret words");
    log.truncate_after(1, Some(199)).unwrap();
    log.flush().unwrap();
    log.purge_to(1, log.place_at(1, 120).unwrap().unwrap()).unwrap();
    log.flush().unwrap();
    keep_up(&log);
    assert!(files_with(folder.path(), b"secret words") > 0);
    log.roll().unwrap();
    append(&log, 200..203, b"other words");
    log.purge_to(1, log.place_at(1, 199).unwrap().unwrap()).unwrap();
    log.flush().unwrap();
    log.erase().unwrap();
    assert_eq!(files_with(folder.path(), b"secret words"), 0);
    let mark = log.durable().mark;
    drop(log);
    let (log, found) =
        Log::open(FileDisk::new(folder.path()), STORE, OPTIONS, Some(&mark)).unwrap();
    assert_eq!((found, log.range(1)), (log::Found::default(), (200, 203)));
    append(&log, 203..300, b"and more");
}

/// What is cut off is counted out after a start, too. Seen to fail with the count of the entries that
/// recovery read.
#[test]
fn what_was_cut_off_before_a_start_is_erased_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = opened(folder.path());
    append(&log, 0..10, b"words");
    append(&log, 10..60, b"secret words");
    log.truncate_after(1, Some(9)).unwrap();
    log.flush().unwrap();
    drop(log);
    let (log, _) = Log::open(FileDisk::new(folder.path()), STORE, OPTIONS, None).unwrap();
    log.roll().unwrap();
    log.purge_to(1, log.place_at(1, 9).unwrap().unwrap()).unwrap();
    log.flush().unwrap();
    log.erase().unwrap();
    assert_eq!(files_with(folder.path(), b"secret words"), 0);
    append(&log, 10..60, b"and more");
}

/// Seen to fail with an erasing that takes a step of upkeep until there is none: while the log is
/// checked there is none, and it ended with the words in their files.
#[test]
fn erasing_waits_for_whoever_reads_everything() {
    let folder = tempfile::tempdir().unwrap();
    let log = opened(folder.path());
    let erase = |round: u64| {
        append(&log, round * 40..round * 40 + 40, b"secret words");
        log.roll().unwrap();
        log.purge_to(1, log.place_at(1, round * 40 + 39).unwrap().unwrap()).unwrap();
        log.flush().unwrap();
        log.erase().unwrap();
        assert_eq!(files_with(folder.path(), b"secret words"), 0, "{round}");
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..20).for_each(erase));
        while !writer.is_finished() {
            log.check().unwrap();
        }
    });
}

/// Every entry lies in memory, so only a look at the disk tells. Seen to fail with a check that trusts
/// the label of a segment that is open, and with one that reads nothing.
#[test]
fn a_look_at_the_disk_finds_a_flipped_bit_while_the_log_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let log = opened(folder.path());
    append(&log, 0..100, b"words");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| append(&log, 100..400, b"words"));
        while !writer.is_finished() {
            log.check().unwrap();
        }
    });
    let path = folder.path().join("0000000000000001.segment");
    let whole = fs::read(&path).unwrap();
    // Its label, the mark in front of its first group, and a body.
    let body = whole.windows(10).rposition(|part| part == b"wordswords").unwrap();
    for at in [20, 512 + 20, body] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let found = log.check();
        assert!(matches!(found, Err(LogError::Damaged(_))), "{at}: {found:?}");
        assert_eq!(log.entries(1, 0, 400, usize::MAX).unwrap().len(), 400);
    }
    fs::write(&path, &whole).unwrap();
    log.check().unwrap();
}

/// An index that changes hands is durable when its new entry is. Seen to fail with the index of the
/// last durable entry compared.
#[test]
fn an_entry_is_durable_when_itself_is_and_not_its_forerunner() {
    let folder = tempfile::tempdir().unwrap();
    let log = opened(folder.path());
    append(&log, 0..10, b"words");
    assert!(log.is_durable(1, 9) && !log.is_durable(1, 10));
    log.truncate_after(1, Some(5)).unwrap();
    log.append(1, (6..10).map(|index| Entry { index, term: 2, payload: "".into() }).collect())
        .unwrap();
    assert!(log.is_durable(1, 5) && !log.is_durable(1, 9));
    log.flush().unwrap();
    assert!(log.is_durable(1, 9));
}
