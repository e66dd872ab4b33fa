//! A store in memory: whatever a process, a disk or the power does to it, what it said was durable is
//! there at the next start, and it is never called damaged.

use std::time::Duration;

use log::memory::{Fault, MemoryDisk, Random};

use super::format::{AppliedState, Identity, LogEntry, LogMark, Vote};
use super::{Latency, Media, MemoryMedia, MemoryState, Opened, Store};

const CLUSTER: &str = "0123456789abcdef0123456789abcdef";

fn media(seed: u64) -> MemoryMedia {
    let identity = Identity {
        cluster: CLUSTER.to_owned(),
        node: "n1".to_owned(),
        raft_id: 1,
        incarnation: vec![9; 16],
        ..Identity::default()
    };
    let media = MemoryMedia {
        log: MemoryDisk::new(seed),
        marks: MemoryDisk::new(!seed),
        state: MemoryState::default(),
        latency: Latency::new(|| Duration::from_millis(2)),
        options: log::Options { segment_bytes: 16 << 10, ..log::Options::default() },
        flush_entries: 65_536,
    };
    Store::create(Media::Memory(media.clone()), &identity).unwrap();
    media
}

fn intact(media: &MemoryMedia) -> Store {
    match Store::open(Media::Memory(media.clone()), CLUSTER, "n1").unwrap() {
        Opened::Intact(store) => store,
        Opened::Repairing { damage, .. } => panic!("repairing: {damage}"),
    }
}

/// What was said to be durable.
#[derive(Debug, Default)]
struct Promised {
    term: u64,
    /// One past the last durable entry, and past the last that may be there.
    durable: u64,
    queued: u64,
    applied: u64,
}

/// Uses a store until it refuses or the time is over, and remembers what it was told.
async fn work(store: &Store, random: &mut Random, promised: &mut Promised) {
    for _ in 0..random.below(40) {
        let Ok(writer) = store.writer() else { return };
        match random.below(10) {
            0 => {
                let term = promised.term + 1;
                let vote = Vote { term, node: 1, committed: false };
                if writer.vote(vote).await.is_err() {
                    return;
                }
                promised.term = term;
            }
            1 => {
                if writer.barrier().await.is_err() {
                    return;
                }
            }
            2 if promised.applied > 1 && writer.purge(promised.applied - 1).is_err() => return,
            3 => tokio::time::sleep(Duration::from_millis(random.below(1_500))).await,
            4..7 => apply(store, random, promised),
            _ => {
                let end = promised.queued + 1 + random.below(5);
                let entry = |index| {
                    let payload = vec![7; usize::try_from(random.below(900)).unwrap()];
                    LogEntry { index, term: promised.term, payload: payload.into() }
                };
                let entries = (promised.queued..end).map(entry).collect();
                let (tx, told) = tokio::sync::oneshot::channel();
                writer.append(entries, Box::new(move |result| drop(tx.send(result))));
                promised.queued = end;
                // Most wait; of the rest nobody was told anything.
                if random.percent(70) {
                    if !matches!(told.await, Ok(Ok(()))) {
                        return;
                    }
                    promised.durable = end;
                }
            }
        }
    }
}

/// Applies some of what is durable.
fn apply(store: &Store, random: &mut Random, promised: &mut Promised) {
    let end = (promised.applied + random.below(4)).min(promised.durable);
    let indexes = promised.applied..end;
    // A read that the disk refuses, or a process that is dead, applies nothing.
    let places: Result<Vec<_>, _> = indexes.map(|index| store.logged(index)).collect();
    let Ok(places) = places else { return };
    let Some(last) = places.last() else { return };
    let applied = AppliedState { last: Some(LogMark::from(*last)), ..AppliedState::default() };
    if store.apply(Vec::new(), &applied, &places).is_ok() {
        store.set_applied(end);
        promised.applied = end;
    }
}

/// Seen to fail with: entries acknowledged before the sync of the log, votes that are never written or
/// answered before their sync, and a purge that does not wait for the flush of the state.
#[tokio::test(start_paused = true)]
async fn what_is_durable_survives_processes_disks_and_power() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut media = media(seed);
        let mut promised = Promised::default();
        for _ in 0..6 {
            let store = intact(&media);
            let (first, end) = store.range();
            assert!(end >= promised.durable && end <= promised.queued, "seed {seed}: {promised:?}");
            assert!(store.applied_end() >= first, "seed {seed}: purged and not applied");
            let vote = store.vote().map_or(0, |vote| vote.term);
            assert!(vote >= promised.term, "seed {seed}: the vote is of term {vote}");
            (promised.queued, promised.durable) = (end, end);
            (promised.term, promised.applied) = (vote, store.applied_end());
            match random.below(3) {
                0 => media.log.fault_at(media.log.calls() + 1 + random.below(60), Fault::Error),
                1 => media.log.fault_at(media.log.calls() + 1 + random.below(60), Fault::Death),
                _ => {}
            }
            work(&store, &mut random, &mut promised).await;
            let power = random.percent(50);
            let cut =
                |disk: &MemoryDisk, seed| if power { disk.power_cut(seed) } else { disk.kill() };
            let (log, marks) = (cut(&media.log, random.draw()), cut(&media.marks, random.draw()));
            if random.percent(30) {
                media.state.flush_by_itself();
            }
            media.log.die();
            media.marks.die();
            media = MemoryMedia { log, marks, state: media.state.end(), ..media.clone() };
        }
    }
}
