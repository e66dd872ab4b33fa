//! Whatever range is asked for, from memory, from the disk or from both: the entries are those that
//! were queued, as many as fit, and never none where there are some.
//!
//! Seen to fail with: a read for each entry; the limit of bytes that counts fewer than it reads.

use log::Entry;

use crate::history::{Run, SHARDS};

/// As many of these as fit: never none.
fn fitting(entries: &[Entry], from: u64, to: u64, bytes: usize) -> Vec<Entry> {
    let mut size = 0;
    let inside = entries.iter().filter(|entry| (from..to).contains(&entry.index));
    let fit = inside.take_while(|entry| {
        let before = size;
        size += entry.payload.len();
        before == 0 || before < bytes
    });
    fit.cloned().collect()
}

#[test]
fn every_range_is_what_was_queued() {
    let mut read = 0;
    for seed in 0..60 {
        let mut run = Run::new(seed);
        for _ in 0..12 {
            run.steps(10).unwrap();
            for shard in SHARDS {
                let Some(state) = run.state().get(&shard).cloned() else { continue };
                let from = run.random.below(state.end() + 3);
                let to = from + run.random.below(40);
                let bytes = usize::try_from(run.random.below(6000)).unwrap();
                let found = run.log.entries(shard, from, to, bytes).unwrap();
                let wanted = fitting(&state.entries, from, to, bytes);
                assert_eq!(found, wanted, "seed {seed}: {from}..{to}, {bytes} bytes");
                read += found.len();
            }
        }
        let state = run.state().clone();
        run.flush().unwrap();
        for (number, shard) in state {
            for entry in &shard.entries {
                let place = run.log.place_at(number, entry.index).unwrap();
                assert_eq!(place, shard.place(entry.index));
            }
            assert_eq!(run.log.place_at(number, shard.end()).unwrap(), None);
        }
    }
    assert!(read > 1000, "{read} entries");
}

/// Entries that lie beside each other are read at once, and no further than is asked for.
#[test]
fn a_range_takes_few_reads() {
    let run = Run::new(1);
    for index in 0..200 {
        let entry = Entry { index, term: 1, payload: vec![3; 30].into() };
        run.log.append(1, vec![entry]).unwrap();
    }
    run.log.flush().unwrap();
    let reopened = Run::open(run.disk.kill(), 1, None).unwrap();
    let before = reopened.disk.calls();
    assert_eq!(reopened.log.entries(1, 0, 200, usize::MAX).unwrap().len(), 200);
    let segments = log::Disk::list(&reopened.disk).unwrap().len() as u64;
    assert!(reopened.disk.calls() - before <= segments, "{segments} segments");
    assert_eq!(reopened.log.entries(1, 0, 200, 1).unwrap().len(), 1);
}
