//! Snapshots of a shard's state by generation: read out in checked chunks, written beside the live
//! state, made live in one batch.
//!
//! A generation is a number inside every key of the state. An incoming snapshot fills the next one
//! while the live one serves on; the flip is one batch, which is flushed; what is not live is swept. A crash
//! at any moment leaves a whole generation live.
//!
//! Invariant: nothing of the live generation is deleted before another one is live and durable.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::past::{Past, past};
use model::{Direction, Table, query};
use planted::Bug;
use prost::Message as _;
use proto::limits::SNAPSHOT_CHUNK_BYTES;
use tokio::sync::mpsc;

use super::db::{Batch, Database, Range};
use super::format::{AppliedState, SNAPSHOT_FORMAT};
use super::keys::{self, FAMILIES, META, PLACES};
use super::view::{self, StateBatch};
use super::workers::Workers;
use super::{SHARD, Store, StoreError};

/// Chunks that are read before somebody takes them.
const CHUNKS_AHEAD: usize = 4;
/// The same where they are read at once: more than a run in memory ever has.
const CHUNKS_IN_MEMORY: usize = 4096;

/// What stands at the head of a snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotHead {
    /// Format version of rows and entries.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Id of the cluster.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// The shard.
    #[prost(uint32, tag = "3")]
    pub shard: u32,
    /// Last applied entry with its chain hash, and the membership.
    #[prost(message, optional, tag = "4")]
    pub applied: Option<AppliedState>,
    /// Last final stamp, 12 bytes.
    #[prost(bytes = "vec", tag = "5")]
    pub last_stamp: Vec<u8>,
    /// Last seq.
    #[prost(uint64, tag = "6")]
    pub last_seq: u64,
    /// Digest of the state.
    #[prost(bytes = "vec", tag = "7")]
    pub digest: Vec<u8>,
}

/// One piece of a snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Chunk {
    /// CRC-32C of `rows`.
    #[prost(fixed32, tag = "1")]
    pub crc: u32,
    /// Encoded rows; empty in the last chunk.
    #[prost(bytes = "vec", tag = "2")]
    pub rows: Vec<u8>,
    /// Only in the last chunk: number of rows in all.
    #[prost(uint64, tag = "3")]
    pub count: u64,
    /// Only in the last chunk: BLAKE3 over all `rows`, 32 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub hash: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Rows {
    #[prost(message, repeated, tag = "1")]
    rows: Vec<Row>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Row {
    #[prost(uint32, tag = "1")]
    table: u32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    value: Vec<u8>,
}

/// Reads a frozen moment of the state out in chunks. One thread owns the database's snapshot, which
/// borrows the database, and feeds a bounded channel.
#[derive(Debug)]
pub struct ChunkReader {
    /// What the snapshot holds.
    pub head: SnapshotHead,
    chunks: mpsc::Receiver<Result<Chunk, StoreError>>,
}

impl ChunkReader {
    /// The next chunk; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Chunk, StoreError>> {
        self.chunks.recv().await
    }
}

impl Store {
    /// Freezes the state and starts to read it out.
    ///
    /// # Errors
    /// When the database fails or holds nothing applied yet.
    pub async fn read_out(&self) -> Result<ChunkReader, StoreError> {
        let (head_tx, head) = tokio::sync::oneshot::channel();
        let workers = self.inner.shared.workers();
        // Nobody takes chunks while they are read out at once: then all of them must have room.
        let (chunks_tx, chunks) = mpsc::channel(match workers {
            Workers::Threads => CHUNKS_AHEAD,
            Workers::Tasks(_) => CHUNKS_IN_MEMORY,
        });
        let db = Arc::clone(&self.inner.db);
        let cluster = self.identity().cluster.clone();
        workers.aside("snapshot-out", move || read_out(&db, cluster, head_tx, chunks_tx))?;
        let ended = |_| StoreError::Stopped("the reader of a snapshot ended".to_owned());
        let head = head.await.map_err(ended)??;
        Ok(ChunkReader { head, chunks })
    }

    /// Takes a fresh generation for an incoming snapshot.
    ///
    /// # Errors
    /// When the snapshot is of another cluster, shard or format, or holds nothing.
    pub fn write_in(&self, head: SnapshotHead) -> Result<Incoming, StoreError> {
        let refuse = |what: String| Err(StoreError::Refused(format!("a snapshot {what}")));
        if head.format != SNAPSHOT_FORMAT {
            return refuse(format!("of format {}", head.format));
        }
        if head.cluster != self.identity().cluster || head.shard != u32::from(SHARD) {
            return refuse(format!("of cluster {} shard {}", head.cluster, head.shard));
        }
        // An empty snapshot is an error, never a reason to delete.
        if head.applied.as_ref().is_none_or(|applied| applied.last.is_none()) {
            return refuse("that holds nothing".to_owned());
        }
        let generation = self.inner.next_generation.fetch_add(1, Ordering::AcqRel);
        Ok(Incoming {
            db: Arc::clone(&self.inner.db),
            generation,
            head,
            rows: 0,
            hash: blake3::Hasher::new(),
            complete: false,
            live: false,
        })
    }

    /// What a snapshot taken now would hold.
    ///
    /// # Errors
    /// When the database fails.
    pub fn head(&self) -> Result<SnapshotHead, StoreError> {
        read_head(&self.snapshot()?, self.identity().cluster.clone())
    }

    /// Refuses a snapshot that did not come of what is applied here: that was committed, and must not
    /// be replaced by another history.
    ///
    /// # Errors
    /// `TwoHistories`, which is noted, or why the two cannot be compared.
    pub fn check_past(&self, incoming: &Incoming) -> Result<(), StoreError> {
        if planted::is(Bug::SnapshotOverHistory) {
            return Ok(());
        }
        let (mine, theirs) =
            (self.snapshot()?, view::of_generation(&self.inner.db, incoming.generation));
        match mine.judged(past(&mine, &theirs))? {
            Past::Holds => Ok(()),
            Past::Unknown => {
                // A new store holds nothing that could be contradicted.
                if mine.judged(query::stats(&mine))?.last_seq > 0 {
                    tracing::warn!(
                        "no message is left here that could be compared with a snapshot"
                    );
                }
                Ok(())
            }
            Past::Other(what) => {
                let found = format!("a snapshot is not of what is committed here: {what}");
                self.note_two_histories(found.clone());
                Err(StoreError::TwoHistories(found))
            }
        }
    }

    /// Makes a complete incoming snapshot live, durably, then sweeps what it replaced.
    ///
    /// # Errors
    /// When it is not complete, or the store failed.
    pub async fn flip(&self, mut incoming: Incoming) -> Result<(), StoreError> {
        let applied = incoming.head.applied.clone().filter(|_| incoming.complete);
        let applied =
            applied.ok_or_else(|| StoreError::Refused("an incomplete snapshot".to_owned()))?;
        // Before the flip, since its outcome may stay unknown: what may be live is never swept.
        incoming.live = true;
        let place = applied.last.clone();
        self.writer()?.flip(incoming.generation, applied).await?;
        self.note_installed(place.clone());
        *self.inner.stands.lock() = place;
        self.inner.generation.store(incoming.generation, Ordering::Release);
        self.inner.versions.all_changed();
        sweep(&self.inner.db, SHARD, incoming.generation)
    }
}

/// A snapshot being written into a generation of its own. Dropped before it is live, it is swept.
pub struct Incoming {
    db: Arc<Database>,
    generation: u32,
    /// What the snapshot says it holds.
    pub head: SnapshotHead,
    rows: u64,
    hash: blake3::Hasher,
    complete: bool,
    /// Set once it must not be swept any more.
    live: bool,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("generation", &self.generation).finish()
    }
}

impl Incoming {
    /// Checks one chunk and writes its rows; true after the last one.
    ///
    /// # Errors
    /// When the chunk, the count or the hash does not fit; the snapshot is then to be dropped.
    pub fn push(&mut self, chunk: &Chunk) -> Result<bool, StoreError> {
        // What comes from elsewhere says nothing of this store.
        let damaged = |what: &str| Err(StoreError::Refused(format!("a snapshot chunk: {what}")));
        if self.complete {
            return damaged("comes after the last");
        }
        if crc32c::crc32c(&chunk.rows) != chunk.crc {
            return damaged("checksum mismatch");
        }
        if chunk.rows.is_empty() {
            let whole = chunk.count == self.rows
                && chunk.hash == self.hash.finalize().as_bytes()
                && self.rows > 0;
            if !whole {
                return damaged("count or hash of the whole does not match");
            }
            self.complete = true;
            return Ok(true);
        }
        self.hash.update(&chunk.rows);
        let Ok(rows) = Rows::decode(chunk.rows.as_slice()) else { return damaged("not rows") };
        let mut batch = StateBatch::new(Arc::clone(&self.db), self.generation);
        let mut changes = Vec::with_capacity(rows.rows.len());
        for Row { table, key, value } in rows.rows {
            let Some(table) = u8::try_from(table).ok().and_then(Table::from_number) else {
                return damaged("a table that this release does not know");
            };
            changes.push(model::Change { table, key, value: Some(value) });
        }
        self.rows += changes.len() as u64;
        batch.rows(changes);
        batch.write()?;
        Ok(false)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.live {
            return;
        }
        if let Err(error) = remove(&self.db, SHARD, self.generation) {
            // Swept at the next start at the latest.
            tracing::warn!(%error, "an abandoned snapshot could not be removed");
        }
    }
}

/// Hands a chunk over, and tells whether anybody takes more.
fn hand_over(
    chunks: &mpsc::Sender<Result<Chunk, StoreError>>,
    chunk: Result<Chunk, StoreError>,
) -> bool {
    match chunks.try_send(chunk) {
        Ok(()) => true,
        // On a thread of its own; what is read out at once has room for all.
        Err(mpsc::error::TrySendError::Full(chunk)) => chunks.blocking_send(chunk).is_ok(),
        Err(mpsc::error::TrySendError::Closed(_)) => false,
    }
}

type HeadSender = tokio::sync::oneshot::Sender<Result<SnapshotHead, StoreError>>;

fn read_out(
    db: &Database,
    cluster: String,
    head: HeadSender,
    chunks: mpsc::Sender<Result<Chunk, StoreError>>,
) {
    let (view, found) = match view::freeze(db).and_then(|view| {
        let found = read_head(&view, cluster)?;
        Ok((view, found))
    }) {
        Ok(found) => found,
        Err(error) => {
            drop(head.send(Err(error)));
            return;
        }
    };
    if head.send(Ok(found)).is_err() {
        return;
    }
    let mut hand = |chunk| hand_over(&chunks, chunk);
    if let Err(error) = send_chunks(&view, &mut hand) {
        hand(Err(error));
    }
}

fn read_head(view: &view::Snapshot<'_>, cluster: String) -> Result<SnapshotHead, StoreError> {
    let stats = view.judged(query::stats(view))?;
    Ok(SnapshotHead {
        format: SNAPSHOT_FORMAT,
        cluster,
        shard: u32::from(SHARD),
        applied: Some(view.applied()?),
        last_stamp: stats.last_stamp.to_bytes().to_vec(),
        last_seq: stats.last_seq,
        digest: stats.digest.to_vec(),
    })
}

/// Sends all rows, then the trailer. A receiver that is gone ends it quietly.
fn send_chunks(
    view: &view::Snapshot<'_>,
    hand: &mut dyn FnMut(Result<Chunk, StoreError>) -> bool,
) -> Result<(), StoreError> {
    let mut hash = blake3::Hasher::new();
    let (mut count, mut rows, mut size) = (0u64, Rows::default(), 0usize);
    let mut send = |rows: &mut Rows| {
        let bytes = std::mem::take(rows).encode_to_vec();
        hash.update(&bytes);
        let crc = crc32c::crc32c(&bytes);
        let chunk = Chunk { crc, rows: bytes, count: 0, hash: Vec::new() };
        hand(Ok(chunk))
    };
    for table in Table::ALL {
        if planted::is(Bug::SnapshotWithoutDedup) && table == Table::Dedup {
            continue;
        }
        let mut alive = true;
        view.each_row(table, |key, value| {
            count += 1;
            size += key.len() + value.len() + 16;
            let (key, value) = (key.to_vec(), value.to_vec());
            rows.rows.push(Row { table: u32::from(table.number()), key, value });
            if size >= SNAPSHOT_CHUNK_BYTES {
                size = 0;
                alive = send(&mut rows);
            }
            alive
        })?;
        if !alive {
            return Ok(());
        }
    }
    if !rows.rows.is_empty() && !send(&mut rows) {
        return Ok(());
    }
    let hash = hash.finalize().as_bytes().to_vec();
    let trailer = Chunk { crc: crc32c::crc32c(&[]), rows: Vec::new(), count, hash };
    // Nobody listens any more: nothing is lost.
    hand(Ok(trailer));
    Ok(())
}

/// Removes every generation of a shard that is not live.
pub(crate) fn sweep(db: &Database, shard: u16, live: u32) -> Result<(), StoreError> {
    let below = (keys::generation(shard, 0).to_vec(), keys::generation(shard, live).to_vec());
    let above_from = keys::after_prefix(&keys::generation(shard, live));
    let above_to = keys::after_prefix(&shard.to_be_bytes());
    remove_range(db, &below.0, &below.1)?;
    match (above_from, above_to) {
        (Some(from), Some(to)) => remove_range(db, &from, &to),
        _ => Ok(()),
    }
}

/// Forgets a table, which nothing but a bug does.
pub(super) fn forget(
    db: &Database,
    (shard, generation): (u16, u32),
    table: Table,
) -> Result<(), StoreError> {
    let from = view::row_key(keys::generation(shard, generation), table, b"");
    let to = keys::after_prefix(&from).unwrap_or_default();
    let mut batch = Batch::default();
    batch.delete_range(view::family(table), from, to);
    db.write(batch)
}

fn remove(db: &Database, shard: u16, generation: u32) -> Result<(), StoreError> {
    let from = keys::generation(shard, generation);
    let to = keys::after_prefix(&from).unwrap_or_default();
    remove_range(db, &from, &to)
}

/// Range-deletes in every family of the state where something lies in the range: an empty range
/// would only leave a tombstone for every start.
fn remove_range(db: &Database, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    for family in FAMILIES.into_iter().filter(|name| *name != PLACES && *name != META) {
        let range = Range { family, low: from, high: Some(to), direction: Direction::Forward };
        let mut any = false;
        db.walk(None, &range, |_, _| {
            any = true;
            false
        })?;
        if any {
            batch.delete_range(family, from, to);
        }
    }
    if batch.is_empty() { Ok(()) } else { db.write(batch) }
}
