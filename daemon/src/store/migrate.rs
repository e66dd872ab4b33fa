//! A store of format 1, whose log lies in the database: at its first start it is brought to format 2.
//!
//! ```text
//! log.new     made of what the database holds, checked, durable
//! log         log.new renamed
//! watermark   both slots say format 2, with what stood in the database: the store is of format 2
//! database    the places of what was applied get a family of their own, and the old log goes
//! ```
//!
//! Invariant: the database keeps all of the old log until both slots say format 2, and no start goes on
//! before they do. So whatever interrupts this, the next start begins anew, or ends it.
//!
//! Not here: a log of format 1 whose end is broken, which the release that wrote it can judge.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use log::{Mark, Place};
use model::Direction;

use super::db::{Batch, Database, Range};
use super::environment::Trouble;
use super::evidence::Evidence;
use super::format::{
    AppliedState, FORMAT_LOG_IN_DB, Identity, LogEntry, LogMark, Vote, decode, decode_place, place,
    store_id,
};
use super::keys::{self, LOG_IN_DB, MetaKind, PLACES};
use super::media::Folder;
use super::open::Owner;
use super::verdict::{self, Fits, Refused};
use super::watermark::{ShardMark, Watermark};
use super::{RaftLog, SHARD, StoreError, be_u64, live_generation, read_applied};

/// Folders in the store: the log that is being made, and the log.
const NEW: &str = "log.new";
const LOG: &str = "log";
/// Bytes of entries that are written at once.
const GROUP_BYTES: usize = 1 << 20;
/// Places that are written at once.
const PLACES_AT_ONCE: usize = 4096;

/// The processes of the last starts, as they stood in the database.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Lives {
    #[prost(message, repeated, tag = "1")]
    lives: Vec<proto::attest::Life>,
}

/// Moves the log of a store of format 1 out of its database. The store is of format 2 then.
///
/// # Errors
/// When the store is not intact, or something stands in the way; it is of format 1 as before.
pub(super) fn move_log(
    store: &Path,
    evidence: &Arc<Evidence>,
    owner: &Owner<'_>,
) -> Result<(), Refused> {
    let db = open(store, evidence)?;
    let found = verdict::identity(&db)?;
    if let Some(identity) = &found {
        owner(identity)?;
    }
    let watermark = evidence.content();
    let identity = verdict::judge(&db, found.as_ref(), Some(&watermark))?;
    if !db.has(LOG_IN_DB) {
        // What lies in `log` may be all there is.
        return Err(Refused::lost(format_args!(
            "the watermark has format {FORMAT_LOG_IN_DB}, but the database holds no log"
        )));
    }
    let mark = write_log(store, &db, &identity, &watermark)?;
    put_in_place(store)?;
    settle(evidence, &db, &mark)?;
    tracing::info!("the log was moved out of the database: this store has format 2 now");
    Ok(())
}

fn open(store: &Path, evidence: &Arc<Evidence>) -> Result<Database, StoreError> {
    let opened = verdict::open(store, |db| Database::open_with_log(db, evidence));
    opened.map_err(|error| {
        let StoreError::Damaged(found) = &error else { return error };
        let what = format!(
            "{} has format {FORMAT_LOG_IN_DB}, and does not open cleanly: {found}",
            store.display()
        );
        StoreError::Environment { trouble: Trouble::EarlierFormat, what }
    })
}

/// Writes the log anew beside the old one, durably, and judges it.
fn write_log(
    store: &Path,
    db: &Database,
    identity: &Identity,
    watermark: &Watermark,
) -> Result<Mark, Refused> {
    // What one left that was interrupted.
    for name in [NEW, LOG] {
        let path = store.join(name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(StoreError::file(path)(error).into());
            }
            _ => {}
        }
    }
    let new = store.join(NEW);
    fs::create_dir(&new).map_err(StoreError::file(&new))?;
    let written = fill(&new, db, identity, watermark);
    if written.is_err() {
        // It takes room that others may need more. The next start removes what stays.
        drop(fs::remove_dir_all(&new));
    }
    written
}

fn fill(
    new: &Path,
    db: &Database,
    identity: &Identity,
    watermark: &Watermark,
) -> Result<Mark, Refused> {
    let (id, options) = (store_id(identity), super::log_options());
    let disk = Folder::files(new).disk;
    RaftLog::create(disk.clone(), id, options)?;
    let (log, _) = RaftLog::open(disk, id, options, None)?;
    copy_entries(db, &log)?;
    if let Some(vote) = meta::<Vote>(db, SHARD, MetaKind::Vote)? {
        log.vote(SHARD, vote.into())?;
    }
    log.flush()?;
    log.mark()?;
    let durable = log.flush()?;
    for mark in &watermark.shards {
        holds(&log, mark)?;
    }
    let applied = read_applied(db, SHARD, live_generation(db, SHARD)?)?;
    let place_at = |index| Ok(log.place_at(SHARD, index)?);
    match verdict::fits(log.floor(SHARD), place_at, &applied)? {
        Fits::Together => {}
        // A snapshot was installed, and what lies before it was still to be purged.
        Fits::Ahead(place) if place.index >= log.range(SHARD).1 => {}
        Fits::Ahead(Place { index, .. }) => {
            return Err(Refused::contradicted(format_args!(
                "the state was made with another entry {index} than the log holds"
            )));
        }
        Fits::Not(found) => return Err(Refused::contradicted(found)),
    }
    Ok(Mark::clone(&durable.mark))
}

/// Copies floor and entries, and checks each.
fn copy_entries(db: &Database, log: &RaftLog) -> Result<(), Refused> {
    let floor: Option<LogMark> = meta(db, SHARD, MetaKind::Floor)?;
    let mut last = floor.as_ref().map(place).transpose()?;
    if let Some(floor) = last {
        log.purge_to(SHARD, floor)?;
    }
    let first = last.map_or(0, |last| last.index + 1);
    // Beginning above the purge floor lets the iterator skip what was range-deleted.
    let low = keys::entry(SHARD, first);
    let direction = Direction::Forward;
    let range = Range { family: LOG_IN_DB, low: &low, high: None, direction };
    let mut copied = Ok(());
    db.walk(None, &range, |key, value| {
        let Some(index) = keys::entry_index(SHARD, key) else { return false };
        copied = copy_entry(log, &mut last, index, value);
        copied.is_ok()
    })?;
    copied?;
    log.flush()?;
    Ok(())
}

fn copy_entry(
    log: &RaftLog,
    last: &mut Option<Place>,
    index: u64,
    value: &[u8],
) -> Result<(), Refused> {
    let (place, payload) = decode_place(index, value)?;
    let payload = Bytes::copy_from_slice(payload);
    let entry = LogEntry { index, term: place.term, payload };
    follows(last.as_ref(), &entry, &place)?;
    *last = Some(place);
    log.append(SHARD, vec![entry])?;
    if log.queued_bytes() >= GROUP_BYTES {
        log.flush()?;
    }
    Ok(())
}

/// Whether an entry goes on with the log as the place beside it says.
fn follows(last: Option<&Place>, entry: &LogEntry, place: &Place) -> Result<(), Refused> {
    let index = entry.index;
    let next = last.map_or(0, |last| last.index + 1);
    if index != next {
        return Err(Refused::lost(format_args!("log entry {next} is missing")));
    }
    if last.is_some_and(|last| last.term > entry.term) {
        return Err(Refused::contradicted(format_args!("terms go back at log entry {index}")));
    }
    if Place::after(last, entry) != *place {
        let found = format!("the hash chain breaks at log entry {index}");
        return Err(StoreError::Damaged(found).into());
    }
    Ok(())
}

/// Whether the log holds what a watermark of format 1 says was durable.
fn holds(log: &RaftLog, mark: &ShardMark) -> Result<(), Refused> {
    if mark.shard != u32::from(SHARD) {
        return Err(Refused::contradicted(format_args!("shard {} in the watermark", mark.shard)));
    }
    let (durable, found) = (mark.vote, log.last_vote(SHARD).map(Vote::from));
    let order = |vote: Vote| log::Vote::from(vote).order();
    if durable.map(order) > found.map(order) {
        return Err(Refused::lost(format_args!(
            "the vote {durable:?} was durable, but the log holds {found:?}"
        )));
    }
    let Some(durable) = &mark.last else { return Ok(()) };
    let index = durable.index;
    if log.floor(SHARD).is_some_and(|floor| floor.index > index) {
        return Ok(());
    }
    match log.place_at(SHARD, index)? {
        Some(found) if LogMark::from(found) == *durable => Ok(()),
        Some(_) => {
            Err(Refused::lost(format_args!("log entry {index} is not the one that was durable")))
        }
        None => Err(Refused::lost(format_args!("log entry {index} was durable, but is gone"))),
    }
}

/// Puts the log into its place, durably.
fn put_in_place(store: &Path) -> Result<(), StoreError> {
    let (new, log) = (store.join(NEW), store.join(LOG));
    fs::rename(&new, &log).map_err(StoreError::file(log))?;
    let dir = File::open(store).map_err(StoreError::file(store))?;
    dir.sync_all().map_err(StoreError::file(store))
}

/// Notes in both slots what stood in the database, and by that the new format.
fn settle(evidence: &Evidence, db: &Database, mark: &Mark) -> Result<(), StoreError> {
    // From here on what the database has written beside its tables counts for nothing.
    db.flush()?;
    let starts = db.get_meta(keys::meta(0, MetaKind::Starts))?;
    let starts = starts.map_or(Ok(0), |bytes| be_u64("starts", &bytes))?;
    let lives: Option<Lives> = meta(db, 0, MetaKind::Lives)?;
    let ceiling = db.get_meta(keys::meta(0, MetaKind::Ceiling))?;
    let applied = read_applied(db, SHARD, live_generation(db, SHARD)?)?.last;
    let end = mark.shard(SHARD).and_then(|mark| mark.last);
    let committed = applied.filter(|last| end.is_some_and(|end| last.index <= end.index));
    let sequence = db.sequence();
    evidence.settle(|content| {
        content.shards.clear();
        content.mark = mark.to_bytes();
        content.committed = committed;
        content.db_sequence = sequence;
        content.starts = starts;
        content.lives = lives.unwrap_or_default().lives;
        content.ceiling = ceiling.unwrap_or_default().to_vec();
    })
}

/// Clears away what a store of format 1 had in its database, if it is still there: the places of what
/// was applied are kept, each under its new key.
///
/// # Errors
/// When the database fails, or a place is damaged.
pub(super) fn clear_db(db: &mut Database) -> Result<(), StoreError> {
    if !db.has(LOG_IN_DB) {
        return Ok(());
    }
    if !db.has(PLACES) {
        db.make_family(PLACES)?;
    }
    let applied: AppliedState = read_applied(db, SHARD, live_generation(db, SHARD)?)?;
    let end = applied.last.map_or(0, |last| last.index + 1);
    copy_places(db, end)?;
    db.flush()?;
    db.drop_family(LOG_IN_DB)
}

/// Copies the places before `end`.
fn copy_places(db: &Database, end: u64) -> Result<(), StoreError> {
    let low = keys::place_in_log(SHARD, 0);
    let direction = Direction::Forward;
    let range = Range { family: LOG_IN_DB, low: &low, high: None, direction };
    let (mut batch, mut count, mut copied) = (Batch::default(), 0, Ok(()));
    db.walk(None, &range, |key, value| {
        let index = keys::index_of_place_in_log(SHARD, key).filter(|index| *index < end);
        let Some(index) = index else { return false };
        copied = decode_place(index, value).and_then(|_| {
            batch.put(PLACES, keys::entry(SHARD, index), value);
            count += 1;
            if count % PLACES_AT_ONCE == 0 {
                db.write(std::mem::take(&mut batch))?;
            }
            Ok(())
        });
        copied.is_ok()
    })?;
    copied?;
    db.write(batch)
}

/// A value of `meta` that is a message.
fn meta<M: prost::Message + Default>(
    db: &Database,
    shard: u16,
    kind: MetaKind,
) -> Result<Option<M>, StoreError> {
    let value = db.get_meta(keys::meta(shard, kind))?;
    value.map(|bytes| decode("a row of meta", &bytes)).transpose()
}

#[cfg(test)]
#[path = "migrate_test.rs"]
mod tests;
