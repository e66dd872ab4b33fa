//! Old copies that were brought back: of one file, and of all of them.
//!
//! Seen to fail with: a mark beyond the end let pass; a checksum and a reader that know nothing of
//! lives.

use log::{Disk, LogError};

use crate::history::Run;

/// The log under way at some moments, with the files that it had.
fn copies(seed: u64) -> (Run, Vec<(u64, log::memory::MemoryDisk)>) {
    let mut run = Run::new(seed);
    let mut copies = Vec::new();
    for _ in 0..12 {
        run.steps(15).unwrap();
        run.flush().unwrap();
        copies.push((run.mark.group, run.disk.kill()));
    }
    run.steps(15).unwrap();
    run.mark_idle();
    (run, copies)
}

#[test]
fn an_old_copy_of_everything_is_seen_by_the_note() {
    for seed in 0..20 {
        let (run, copies) = copies(seed);
        for (group, copy) in copies {
            assert!(group < run.mark.group);
            let found = Run::open(copy.kill(), 1, Some(&run.mark));
            assert!(matches!(found, Err(LogError::Damaged(_))), "seed {seed}, group {group}");
            Run::open(copy, 1, None).unwrap();
        }
    }
}

/// A file is what it was, or its old copy is damage, or it was the last one with anything in it.
#[test]
fn an_old_copy_of_one_file_is_never_taken_for_the_log() {
    let (mut damaged, mut set_back) = (0, 0);
    for seed in 0..20 {
        let (run, copies) = copies(seed);
        let last = run.disk.list().unwrap();
        for (_, copy) in &copies {
            for name in copy.list().unwrap().iter().filter(|name| last.contains(name)) {
                let disk = run.disk.kill();
                disk.put(name, &copy.bytes(name).unwrap());
                match Run::open(disk.kill(), 1, Some(&run.mark)) {
                    Ok(found) => assert_eq!(found.state(), run.state(), "seed {seed}: {name}"),
                    Err(LogError::Damaged(_)) => damaged += 1,
                    Err(error) => panic!("{error}"),
                }
                match Run::open(disk, 1, None) {
                    Ok(found) => set_back += u64::from(found.state() != run.state()),
                    Err(LogError::Damaged(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    assert!(damaged > 100, "{damaged} copies were damage");
    assert!(set_back > 0, "no copy of the last segment was tried");
}
