//! The same on real files: what is written is read, over a start and over many segments.

use log::{Disk, Entry, FileDisk, Log, LogError, Options, Upkeep};

use crate::history::STORE;

#[test]
fn real_files_hold_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let disk = || FileDisk::new(folder.path());
    let options = Options { segment_bytes: 64 << 10, group_bytes: 8 << 10, recent_bytes: 4 << 10 };
    Log::create(disk(), STORE, options).unwrap();
    let twice = Log::create(disk(), STORE, options);
    assert!(matches!(twice, Err(LogError::Exists)), "{twice:?}");
    let (log, _) = Log::open(disk(), STORE, options, None).unwrap();
    let entry = |index: u64| {
        let payload = index.to_be_bytes().repeat(usize::try_from(index % 90 + 1).unwrap());
        Entry { index, term: 1 + index / 100, payload: payload.into() }
    };
    for index in 0..1000 {
        log.append(1, vec![entry(index)]).unwrap();
        if index % 10 == 9 {
            log.flush().unwrap();
        }
    }
    let all: Vec<_> = (0..1000).map(entry).collect();
    assert_eq!(log.entries(1, 0, u64::MAX, usize::MAX).unwrap(), all);
    let before = disk().list().unwrap();
    log.purge_to(1, log.place_at(1, 800).unwrap().unwrap()).unwrap();
    let mark = log.flush().unwrap().mark;
    while log.upkeep(&mut |_| {}).unwrap() != Upkeep::Nothing {}
    assert!(log.has_spare());
    assert!(disk().list().unwrap().len() < before.len());
    drop(log);
    let (log, found) = Log::open(disk(), STORE, options, Some(&mark)).unwrap();
    assert_eq!(found, log::Found::default());
    assert_eq!(log.entries(1, 0, u64::MAX, usize::MAX).unwrap(), all[801..]);
    assert_eq!(log.floor(1), log.place_at(1, 800).unwrap());
    drop(log);
    let other = Log::open(disk(), *b"somebody else's.", options, None);
    assert!(matches!(other, Err(LogError::Mixed { .. })), "{other:?}");
}
