//! Creating a log, and opening one: reading all of it, the verdict, and a first group that closes
//! what was found.
//!
//! What is read of the end is what the disk has: what the system still has to write is synced first,
//! and what it keeps is let go of. After a sync that failed, it may keep what never reached the disk.
//! A segment that is sealed was durable before anything was written behind it.
//!
//! The first group after an opening is one record. If power is lost while it is written, nothing of
//! it is left; so what comes behind a tail that was kept in part always proves that part.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::format::{Mark, Position, StoreId};
use crate::front::{Front, Shard};
use crate::log::{Found, Log, Options, Written};
use crate::record::Seed;
use crate::replay::{Recovered, Replay};
use crate::segment::{Label, SECTOR, Segment, file_name, life_of, read_label};
use crate::segments::{READY_MAX, Segments, discard};
use crate::stream::{Stream, Tail};
use crate::verdict::{Finding, LogError};
use planted::Bug;

/// A segment that was found, and what is wrong with its first sector or its size.
pub(crate) struct Opened<F> {
    pub(crate) segment: Segment<F>,
    wrong: Option<Finding>,
}

/// Creates a log: its first segment with a mark of nothing.
pub(crate) fn create<D: Disk>(disk: D, store: StoreId, options: Options) -> Result<(), LogError> {
    options.check();
    let names = disk.list().map_err(LogError::disk("listing the log"))?;
    if names.iter().any(|name| life_of(name).is_some()) {
        return Err(LogError::Exists);
    }
    let segments = Segments::new(disk, store, options.segment_bytes);
    let segment = segments.make(1, &mut |_| {})?;
    segments.hold(segment, BTreeMap::new());
    let start = Position { life: 1, offset: SECTOR as u64 };
    begin(&segments, start, 0, 1, start, BTreeMap::new()).map(drop)
}

/// Opens a log.
pub(crate) fn open<D: Disk>(
    disk: D,
    store: StoreId,
    options: Options,
    claimed: Option<&Mark>,
) -> Result<(Log<D>, Found), LogError> {
    options.check();
    // A renaming that a process did before it died counts only once it is durable.
    disk.sync_names().map_err(LogError::disk("listing the log"))?;
    let (recovered, mut found) = recover(&disk, store, claimed)?;
    let next = recovered.next.life;
    // Nothing was changed so far, and all that follows can be done again.
    discard(&disk).map_err(LogError::disk("clearing away a segment that was being made"))?;
    drop_unusable(&disk, &mut found, next, options.segment_bytes)?;
    let segments = Segments::new(disk, store, options.segment_bytes);
    for (life, opened) in found {
        let highest = recovered.highest.get(&life).cloned().unwrap_or_default();
        segments.hold(opened.segment, highest);
    }
    assemble(segments, recovered, options)
}

/// Segments by their lives.
pub(crate) type ByLife<F> = BTreeMap<u64, Opened<F>>;

/// What the segments come to.
pub(crate) fn recover<D: Disk>(
    disk: &D,
    store: StoreId,
    claimed: Option<&Mark>,
) -> Result<(Recovered, ByLife<D::File>), LogError> {
    let failed = |source| LogError::disk("listing the log")(source);
    let names = disk.list().map_err(failed)?;
    let mut lives: Vec<u64> = names.iter().filter_map(|name| life_of(name)).collect();
    lives.sort_unstable();
    let mut found = ByLife::new();
    let mut replay = Replay::new(store, claimed);
    let sealed = lives.len().saturating_sub(1 + READY_MAX);
    for (at, life) in lives.into_iter().enumerate() {
        let (opened, bytes) = read_segment(disk, &store, life, at >= sealed)?;
        replay.segment(life, &bytes)?;
        found.insert(life, opened);
    }
    let recovered = replay.finish()?;
    let next = recovered.next.life;
    if let Some(finding) = found.range(..=next).find_map(|(_, opened)| opened.wrong.clone()) {
        return Err(finding.into());
    }
    if !found.contains_key(&next) {
        return Err(Finding::SegmentMissing { life: next }.into());
    }
    Ok((recovered, found))
}

/// Opens and reads one segment, past what the system keeps of it, if it may be the last one.
fn read_segment<D: Disk>(
    disk: &D,
    store: &StoreId,
    life: u64,
    is_end: bool,
) -> Result<(Opened<D::File>, Vec<u8>), LogError> {
    let failed = |source| LogError::disk(format!("reading segment {life}"))(source);
    let file = disk.open(&file_name(life)).map_err(failed)?;
    if is_end && !planted::is(Bug::OpenDoesNotSync) {
        file.sync().map_err(failed)?;
        file.forget().map_err(failed)?;
    }
    let found = file.size().map_err(failed)?;
    let mut bytes = vec![0; usize::try_from(found).unwrap_or(usize::MAX)];
    file.read_at(&mut bytes, 0).map_err(failed)?;
    let wrong = match read_label(store, &bytes) {
        Label::Newer(format) => return Err(LogError::Newer(format)),
        Label::Foreign => return Err(LogError::Mixed { life }),
        Label::Ours { life: named, size } if named == life && size == found => None,
        Label::Ours { life: named, size } if named == life => {
            Some(Finding::SegmentSize { life, expected: size, found })
        }
        Label::Ours { .. } | Label::Broken => Some(Finding::Label { life }),
    };
    let segment = Segment { seed: Seed::new(store, life), size: bytes.len(), file };
    Ok((Opened { segment, wrong }, bytes))
}

/// Removes segments behind the active one that are not as they are made: nothing was ever written
/// to them.
fn drop_unusable<D: Disk>(
    disk: &D,
    found: &mut ByLife<D::File>,
    active: u64,
    size: usize,
) -> Result<(), LogError> {
    let unusable = |opened: &Opened<D::File>| opened.wrong.is_some() || opened.segment.size != size;
    let mut ready = found.range(active + 1..);
    let Some((&first, _)) = ready.find(|(_, opened)| unusable(opened)) else { return Ok(()) };
    // From the end, so that none is ever missing between others.
    for life in found.split_off(&first).into_keys().rev() {
        let failed = |source| LogError::disk(format!("removing segment {life}"))(source);
        disk.remove(&file_name(life)).map_err(failed)?;
        disk.sync_names().map_err(failed)?;
    }
    Ok(())
}

fn assemble<D: Disk>(
    segments: Segments<D>,
    recovered: Recovered,
    options: Options,
) -> Result<(Log<D>, Found), LogError> {
    let found = Found { dropped: recovered.dropped, torn: recovered.torn };
    let (mut written, mut tails, mut shards) = (Written::new(), BTreeMap::new(), BTreeMap::new());
    for (number, shard) in recovered.shards {
        let (first, end) = (shard.index.first(), shard.index.end());
        let (floor, last, vote) = (shard.floor, shard.last, shard.vote);
        assert_eq!(end, last.map_or(0, |last| last.index + 1), "the last entry is the last one");
        if let Some(floor) = floor {
            segments.note_floor(number, floor.index);
        }
        shards.insert(number, Shard { first, end, floor, vote, last, recent: VecDeque::new() });
        tails.insert(number, Tail { floor, last, vote });
        written.insert(number, shard.index);
    }
    let Recovered { group, next_group, end, next, .. } = recovered;
    let stream = begin(&segments, next, group, next_group, end, tails)?;
    let front = Front {
        shards,
        queue: VecDeque::new(),
        queued_bytes: 0,
        tickets: 0,
        durable: 0,
        mark: Arc::new(stream.mark()),
        unmarked: false,
        stream: Some(Box::new(stream)),
        failed: None,
        cached: 0,
        cached_max: options.recent_bytes,
    };
    Ok((Log::from_parts(options, front, written, segments), found))
}

/// Begins to write at `next`, with a mark of everything as the first group.
fn begin<D: Disk>(
    segments: &Segments<D>,
    next: Position,
    group: u64,
    next_group: u64,
    end: Position,
    tails: BTreeMap<u16, Tail>,
) -> Result<Stream<D>, LogError> {
    let missing = Finding::SegmentMissing { life: next.life };
    let mut stream = Stream {
        segment: segments.activate(next.life).ok_or(missing)?,
        next: usize::try_from(next.offset).unwrap_or(usize::MAX),
        group,
        end,
        next_group,
        tails,
        changed: BTreeSet::new(),
        full: true,
        unmarked: false,
        buffer: Vec::new(),
    };
    stream.write(segments, &[])?;
    Ok(stream)
}
