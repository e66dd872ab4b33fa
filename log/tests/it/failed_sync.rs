//! A disk that refuses once: the log takes nothing any more, and what it had promised is there
//! after a new start, even if the system kept in memory what never reached the disk.
//!
//! Seen to fail with: a sync that is tried again; a failed write let pass; a log that goes on after
//! either; a start that believes what the system keeps in memory.

use log::memory::Fault;
use log::{LogError, Vote};

use crate::history::{Run, seeds};

#[test]
fn the_first_error_ends_the_log_and_loses_nothing() {
    let mut failed = 0;
    let seeds = seeds(250);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let mut run = Run::new(seed);
        run.steps(usize::try_from(seed % 40).unwrap()).unwrap();
        run.disk.fault_at(run.disk.calls() + 1 + seed % 13, Fault::Error);
        assert!((0..500).any(|_| run.steps(1).is_err()), "seed {seed}: nobody was told");
        let Some(reason) = run.log.failure() else {
            // The error met the making of a segment, of which nothing depends.
            run.steps(30).unwrap();
            continue;
        };
        failed += 1;
        assert!(reason.contains("on purpose"), "{reason}");
        // The disk is well again; the log is not.
        let vote = Vote { term: 999, node: 1, committed: true };
        assert!(matches!(run.log.vote(1, vote), Err(LogError::Stopped(_))));
        assert!(matches!(run.log.flush(), Err(LogError::Stopped(_))));

        let next = Run::open(run.disk.kill(), seed, Some(&run.mark)).unwrap();
        assert!(run.may_become(next.state()), "seed {seed}");
        // What the new start found is durable by its word: a loss of power takes none of it.
        let last = Run::open(next.disk.power_cut(seed), seed, Some(&next.mark)).unwrap();
        assert_eq!(last.state(), next.state(), "seed {seed}");
    }
    assert!(failed > count / 2, "only {failed} errors met the log");
}

/// A full disk stops the making of segments, not the log, as long as one has room.
#[test]
fn a_full_disk_loses_nothing() {
    let mut stopped = 0;
    for seed in 0..40 {
        let mut run = Run::new(seed);
        run.steps(30).unwrap();
        let names = log::Disk::list(&run.disk).unwrap();
        let used: usize = names.iter().map(|name| run.disk.bytes(name).unwrap().len()).sum();
        run.disk.set_room(used as u64 + 700);
        let mut full = 0;
        for _ in 0..200 {
            match run.steps(1) {
                Ok(()) => {}
                Err(LogError::Disk { .. }) if run.log.failure().is_none() => full += 1,
                Err(LogError::Disk { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        stopped += u64::from(full > 0 || run.log.failure().is_some());
        run.disk.set_room(u64::MAX);
        let mut next = Run::open(run.disk.kill(), seed, Some(&run.mark)).unwrap();
        assert!(run.may_become(next.state()), "seed {seed}");
        next.steps(50).unwrap();
    }
    assert!(stopped > 30, "{stopped} disks were full");
}
