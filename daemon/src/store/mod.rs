//! The store: the log in files of its own, one RocksDB for the state that it comes to, and a watermark
//! file beside them that remembers what was durable.
//!
//! The only module that names RocksDB. The engine's types stay out: a log entry here is an index, a
//! term and bytes.
//!
//! On disk, under the data directory:
//! ```text
//! store/log/        the log: segments, one fsync for everything queued
//! store/db/         the database: what the log comes to, flushed now and then
//! store/watermark   evidence of what was durable, and the mark of damage
//! store/tables      checksums of the database's tables, as they were made
//! store.aside.1/    a store that could not be proven: kept, and never looked at again
//! store.new/        a store that is being created; never used, removed at the next start
//! ```
//!
//! Invariant: a normal start never creates a store. An empty directory may be a wrong mount, and a
//! node that starts empty under an old name can vote away what it has acknowledged.
//!
//! Invariant: damage is remembered. Whoever meets it, in an opening, an apply, a read, a merge or a
//! look at everything, marks the watermark, and no later start calls the store intact. What merely
//! stands in the way (a lock, a mode, a mount, a full disk) is named as that, and marks nothing.
//!
//! Not here: repair (`node::repair`). A store that cannot be proven intact is reported and left as it is.

mod aside;
mod audit;
mod db;
mod entries;
mod environment;
mod error;
mod evidence;
pub mod format;
mod generation;
mod keeper;
mod keys;
mod media;
mod migrate;
mod open;
mod scrub;
mod stopped;
mod sync_times;
mod tables;
mod verdict;
mod versions;
mod view;
pub mod watermark;
mod workers;
mod writer;

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

use clock::Hlc;
use parking_lot::{Mutex, RwLock};
use proto::attest::Life;
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use self::aside::Aside;
pub use self::db::MemoryState;
#[cfg(test)]
pub(crate) use self::db::READS;
pub use self::environment::Trouble;
pub use self::error::StoreError;
pub(crate) use self::error::damage_in;
pub use self::evidence::{OnFailure, Told};
pub use self::generation::{Chunk, ChunkReader, Incoming, SnapshotHead};
pub use self::media::{Latency, Media, MemoryMedia};
pub use self::scrub::{Scrub, Scrubbed};
pub(crate) use self::stopped::{Look, Stopped};
pub(crate) use self::versions::Kept;
pub use self::view::{Applying, AtHand, Snapshot, StateBatch};
pub use self::watermark::{Damage, DamageKind};
pub use self::writer::{Done, Writer};

use self::db::{Batch, Database, Frozen};
use self::evidence::Evidence;
use self::format::{AppliedState, FORMAT, Identity, LogMark, Vote, decode, encode, store_id};
use self::keys::{META, MetaKind};
use self::media::{AnyDisk, Folder};
use self::open::Opening;
use self::tables::{Noting, Tables};
use self::versions::Versions;
use self::watermark::{Watermark, WatermarkFile};
use self::writer::Shared;

/// The log on the disk.
type RaftLog = ::log::Log<AnyDisk>;

/// The one Raft group of this version; it carries the data shard and the control shard.
pub const SHARD: u16 = 1;
/// Table number of the applied-state row; the model's tables are numbered below it.
const APPLIED_TABLE: u8 = 0xff;

/// The room on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that are free for an unprivileged process.
    pub free: u64,
    /// Bytes of all of it; `None` if there is no disk.
    pub size: Option<u64>,
}

/// An open store that is proven intact. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    db: Arc<Database>,
    writer: Mutex<Option<Writer>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    log: RaftLog,
    shared: Arc<Shared>,
    generation: AtomicU32,
    /// Held while what is answered already is being written, see [`Store::answering`].
    answered: RwLock<()>,
    versions: Versions,
    /// The last entry whose rows are in the state.
    stands: Mutex<Option<LogMark>>,
    /// Generation that the next incoming snapshot takes.
    next_generation: AtomicU32,
    identity: Identity,
    starts: u64,
    /// The processes of the last starts, this one first.
    lives: Vec<Life>,
    path: PathBuf,
    media: Media,
    tables: Arc<Tables>,
    noting: Mutex<Option<Noting>>,
    evidence: Arc<Evidence>,
    /// Errors that the database has met in the background.
    background_errors: AtomicU64,
    /// How what is committed here was contradicted.
    two_histories: watch::Sender<Option<String>>,
}

/// What a store has made durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durable {
    /// The last entry.
    pub last: Option<LogMark>,
    /// The last entry that is known to be committed.
    pub committed: Option<LogMark>,
    /// The vote.
    pub vote: Option<Vote>,
}

/// What a start found.
#[derive(Debug)]
pub enum Opened {
    /// The store is proven intact.
    Intact(Store),
    /// The store cannot be proven intact; no Raft may start on it.
    Repairing {
        /// Who the store says it is, as far as that can be read.
        identity: Option<Identity>,
        /// What was expected and what was found.
        damage: Damage,
        /// Keeps other processes away from the store.
        lock: Option<Lock>,
    },
}

/// Keeps other processes away from a store, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    evidence: Arc<Evidence>,
}

impl Lock {
    /// What the store's watermark says was durable about a second before its end. A damaged store proves
    /// no more than that.
    #[must_use]
    pub(crate) fn marked(&self) -> (Durable, u64) {
        let content = self.evidence.content();
        let mark = ::log::Mark::from_bytes(&content.mark);
        let shard = mark.as_ref().and_then(|mark| mark.shard(SHARD).cloned());
        let last = shard.as_ref().and_then(|shard| shard.last).map(LogMark::from);
        let vote = shard.and_then(|shard| shard.vote).map(Vote::from);
        (Durable { last, committed: content.committed, vote }, content.starts)
    }
}

impl Store {
    /// Creates a store, whole or not at all. Only for a node that was just admitted. Its stores were
    /// started so many times before: people count on.
    ///
    /// # Errors
    /// When a store is there already, or the disk refuses.
    pub fn create_after(
        media: impl Into<Media>,
        identity: &Identity,
        starts: u64,
    ) -> Result<(), StoreError> {
        let media = media.into();
        let nonce = Uuid::new_v4().into_bytes().to_vec();
        let identity = Identity { format: FORMAT, nonce, ..identity.clone() };
        match &media {
            Media::Files(data_dir) => create_files(data_dir, identity, starts),
            Media::Memory(memory) => {
                let db = Database::in_memory(memory.state.clone(), None);
                fill(&db, media.log(), &media.folder(), identity, starts)
            }
        }
    }

    /// Opens the store of a node and judges whether it is intact. Damage that is found is marked.
    ///
    /// # Errors
    /// When there is no store, or it belongs to another cluster, node or release, or something
    /// stands in the way of opening it; it is then left as it is.
    pub fn open(media: impl Into<Media>, cluster: &str, node: &str) -> Result<Opened, StoreError> {
        let media = media.into();
        let path = media.store();
        if let Media::Files(data_dir) = &media
            && !Self::exists(data_dir)?
        {
            return Err(StoreError::NotAdmitted(format!(
                "{} holds no store, and a normal start never creates one: it may be a wrong mount \
                 or a wiped disk",
                data_dir.display()
            )));
        }
        let (evidence, watermark) = match Evidence::open(&media.folder(), media.workers()) {
            Ok(opened) => opened,
            Err(StoreError::File { path, source }) if source.kind() == ErrorKind::NotFound => {
                let damage = open::without_watermark(&path);
                return Ok(Opened::Repairing { identity: None, damage, lock: None });
            }
            Err(error) => return Err(error),
        };
        let owner = |identity: &Identity| verdict::check_owner(&path, identity, cluster, node);
        let claimed = watermark.as_ref().and_then(|watermark| watermark.identity.clone());
        if let Some(identity) = &claimed {
            owner(identity)?;
        }
        let opening =
            Opening { media: &media, evidence, watermark, identity: claimed, owner: &owner };
        opening.open()
    }

    /// Who this store is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// The processes of the last starts, this one first.
    #[must_use]
    pub fn lives(&self) -> &[Life] {
        &self.inner.lives
    }

    /// How often this store was started, this time included.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.inner.starts
    }

    /// Remembers damage, in this process at once and soon on the disk; the first finding stays. From
    /// then on this store proves nothing, now and after every start.
    pub fn note_damage(&self, kind: DamageKind, found: impl std::fmt::Display) {
        self.inner.evidence.damaged(Damage::new(kind, found));
    }

    /// The damage that was met since the opening, if any was.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.inner.evidence.damage()
    }

    /// What has become of a damage, as it changes.
    #[must_use]
    pub fn told(&self) -> watch::Receiver<Told> {
        self.inner.evidence.told()
    }

    /// Installs what is to happen when the disk or the database refuses, at once and on the thread
    /// that met it: before the database can go on by itself. Counts once.
    pub fn on_failure(&self, act: OnFailure) {
        self.inner.evidence.on_failure(act);
    }

    /// Remembers that what is committed here is contradicted; the first finding stays.
    pub(crate) fn note_two_histories(&self, found: String) {
        self.inner.two_histories.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(found);
            }
            first
        });
    }

    /// How what is committed here was contradicted since the opening, as soon as it is. Nothing is
    /// damaged by that.
    #[must_use]
    pub fn two_histories(&self) -> watch::Receiver<Option<String>> {
        self.inner.two_histories.subscribe()
    }

    /// Looks whether the database has met something in the background that it tells only to the next
    /// write, and asks for that. To be called again and again.
    pub fn look_in_background(&self) {
        let met = self.inner.db.background_errors();
        if self.inner.background_errors.swap(met, Ordering::Relaxed) >= met {
            return;
        }
        let db = Arc::clone(&self.inner.db);
        self.inner.evidence.look(self.inner.path.clone(), move || db.ask());
    }

    /// The pipeline to the disk.
    ///
    /// # Errors
    /// When the store is closed.
    pub fn writer(&self) -> Result<Writer, StoreError> {
        let writer = self.inner.writer.lock();
        writer.clone().ok_or_else(|| StoreError::Stopped("it is closed".to_owned()))
    }

    /// The saved vote; what is queued counts.
    #[must_use]
    pub fn vote(&self) -> Option<Vote> {
        self.inner.log.last_vote(SHARD).map(Vote::from)
    }

    /// One past the last entry that is applied.
    #[must_use]
    pub fn applied_end(&self) -> u64 {
        self.inner.shared.applied()
    }

    /// Notes that the entries before `end` are applied.
    pub fn set_applied(&self, end: u64) {
        self.inner.shared.set_applied(end);
    }

    /// The last entry that was known to be applied when this store ran before: it is committed, and
    /// the log holds it.
    #[must_use]
    pub fn noted_committed(&self) -> Option<LogMark> {
        keeper::noted_committed(&self.inner.shared)
    }

    /// Where the state machine stands.
    ///
    /// # Errors
    /// When the database fails or the value is damaged.
    pub fn applied(&self) -> Result<AppliedState, StoreError> {
        read_applied(&self.inner.db, SHARD, self.generation())
    }

    /// What is durable now. What is applied before it is durable does not count yet.
    ///
    /// # Errors
    /// When the store is closed, the database fails or a value is damaged.
    pub fn durable(&self) -> Result<Durable, StoreError> {
        let mark = self.inner.log.durable().mark;
        let mark = mark.shard(SHARD);
        let last = mark.and_then(|mark| mark.last).map(LogMark::from);
        let installed = self.installed();
        let last = later(last, installed.clone());
        let end = last.as_ref().map(|last| last.index);
        let applied = self.inner.stands.lock().clone();
        let applied = applied.filter(|applied| Some(applied.index) <= end);
        let vote = mark.and_then(|mark| mark.vote).map(Vote::from);
        Ok(Durable { last, committed: later(applied, installed), vote })
    }

    fn installed(&self) -> Option<LogMark> {
        self.inner.shared.installed()
    }

    /// Notes the place of a snapshot that is durable.
    pub(crate) fn note_installed(&self, mark: Option<LogMark>) {
        self.inner.shared.note_installed(mark);
    }

    /// The persisted ceiling of stamps; zero before the first.
    ///
    /// # Errors
    /// When the database fails or the value is damaged.
    pub fn ceiling(&self) -> Result<Hlc, StoreError> {
        let bytes = self.inner.evidence.content().ceiling;
        if bytes.is_empty() {
            return Ok(Hlc::ZERO);
        }
        match Hlc::from_slice(&bytes) {
            Some(ceiling) => Ok(ceiling),
            // Of an earlier release: a whole nanosecond.
            None => Ok(Hlc { ns: be_u64("ceiling", &bytes)?, logical: u32::MAX }),
        }
    }

    /// The live generation of the state.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.inner.generation.load(Ordering::Acquire)
    }

    /// The room on the store's disk.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn room(&self) -> Result<Room, StoreError> {
        if let Media::Memory(_) = self.inner.media {
            return Ok(Room { free: u64::MAX, size: None });
        }
        let stat = rustix::fs::statvfs(&self.inner.path)
            .map_err(|error| StoreError::file(&self.inner.path)(error.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Room { free: bytes(stat.f_bavail), size: Some(bytes(stat.f_blocks)) })
    }

    /// Lets the log go on in a segment that held nothing before, and tells where: what is purged from
    /// before that can then be gone from the disk ([`Store::compact`]).
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn roll(&self) -> Result<u64, StoreError> {
        let (log, shared) = (self.inner.log.clone(), Arc::clone(&self.inner.shared));
        let roll = move || {
            let rolled = log.roll().map_err(StoreError::from);
            rolled.inspect_err(|error| shared.fail(error))?;
            Ok(log.range(SHARD).1)
        };
        self.inner.shared.workers().wait_for(roll).await
    }

    /// Moves everything to sorted files and drops what is deleted, expired or purged. Slow; runs
    /// beside everything else.
    ///
    /// # Errors
    /// When the database fails, or the disk refuses.
    pub fn compact(&self) -> Result<(), StoreError> {
        self.inner.db.compact()?;
        Ok(self.inner.log.erase()?)
    }

    /// Closes it and keeps others away from it all the same.
    pub(crate) fn into_lock(self) -> Lock {
        self.close();
        Lock { evidence: Arc::clone(&self.inner.evidence) }
    }

    /// Lets the queue run dry and joins the threads. Later calls of [`Store::writer`] fail.
    pub fn close(&self) {
        // Clones of the writer may live on; what they submit from here on is refused.
        if let Some(writer) = self.inner.writer.lock().take() {
            writer.close();
        }
        let threads: Vec<_> = {
            let mut threads = self.inner.threads.lock();
            threads.drain(..).collect()
        };
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store ended in a panic");
            }
        }
        let noting = self.inner.noting.lock().take();
        if let Some(noting) = noting {
            noting.finish();
        }
    }
}

impl Inner {
    /// Counts what was applied since the last flush.
    fn unflushed(&self, entries: usize, bytes: usize) {
        if self.shared.count_applied(entries, bytes)
            && let Some(writer) = self.writer.lock().as_ref()
        {
            writer.nudge(true);
        }
    }
}

/// Sizes of the log. A segment is made of zeros, and tests make many stores.
fn log_options() -> ::log::Options {
    let options = ::log::Options::default();
    if cfg!(test) { ::log::Options { segment_bytes: 1 << 20, ..options } } else { options }
}

/// The later of two places.
fn later(a: Option<LogMark>, b: Option<LogMark>) -> Option<LogMark> {
    [a, b].into_iter().flatten().max_by_key(|mark| mark.index)
}

fn be_u64(what: &str, bytes: &[u8]) -> Result<u64, StoreError> {
    let bytes = bytes.try_into();
    bytes.map(u64::from_be_bytes).map_err(|_| StoreError::Damaged(format!("{what}: not 8 bytes")))
}

/// Creates a store in a data directory, whole or not at all.
fn create_files(data_dir: &Path, identity: Identity, starts: u64) -> Result<(), StoreError> {
    let (store, new) = (data_dir.join("store"), data_dir.join("store.new"));
    if store.exists() {
        let there = format!("{} exists already", store.display());
        return Err(StoreError::Foreign(there));
    }
    if new.exists() {
        // A creation that did not finish: no node has ever started on it.
        std::fs::remove_dir_all(&new).map_err(StoreError::file(&new))?;
    }
    let log = new.join("log");
    std::fs::create_dir_all(&log).map_err(StoreError::file(&log))?;
    let db = Database::create(&new.join("db"))?;
    let log = (Folder::files(&log).disk, log_options());
    fill(&db, log, &Folder::files(&new), identity, starts)?;
    drop(db);
    std::fs::rename(&new, &store).map_err(StoreError::file(&store))?;
    let dir = File::open(data_dir).map_err(StoreError::file(data_dir))?;
    dir.sync_all().map_err(StoreError::file(data_dir))
}

/// Puts the first content there, durably.
fn fill(
    db: &Database,
    (log, options): (AnyDisk, ::log::Options),
    marks: &Folder,
    identity: Identity,
    starts: u64,
) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    batch.put(META, keys::meta(0, MetaKind::Identity), encode(&identity));
    db.write(batch)?;
    db.flush()?;
    RaftLog::create(log, store_id(&identity), options)?;
    let first = Watermark { identity: Some(identity), starts, ..Watermark::default() };
    WatermarkFile::create(marks, &first).map(drop)
}

fn live_generation(db: &Database, shard: u16) -> Result<u32, StoreError> {
    generation_at(db, None, shard)
}

/// The live generation, at a frozen moment if one is given.
fn generation_at(db: &Database, at: Option<&Frozen<'_>>, shard: u16) -> Result<u32, StoreError> {
    let Some(value) = db.get(at, META, &keys::meta(shard, MetaKind::Generation))? else {
        return Ok(0);
    };
    let bytes = value.as_ref().try_into();
    bytes
        .map(u32::from_be_bytes)
        .map_err(|_| StoreError::Damaged("generation: not 4 bytes".to_owned()))
}

fn read_applied(db: &Database, shard: u16, generation: u32) -> Result<AppliedState, StoreError> {
    let key = keys::state(keys::generation(shard, generation), APPLIED_TABLE, b"");
    let value = db.get(None, keys::STATE, &key)?;
    value.map_or_else(|| Ok(AppliedState::default()), |bytes| decode("applied state", &bytes))
}

#[cfg(test)]
mod at_hand_test;
#[cfg(test)]
mod memory_test;
#[cfg(test)]
mod store_test;
