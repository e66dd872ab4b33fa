//! The store: one RocksDB, one write-ahead log, one fsync for everything queued, and a watermark
//! file beside it that remembers what was durable.
//!
//! The only module that names RocksDB. The engine's types stay out: a log entry here is an index, a
//! term and bytes.
//!
//! On disk, under the data directory:
//! ```text
//! store/db/         the database
//! store/watermark   evidence of what was durable, and the mark of damage
//! store/tables      checksums of the database's tables, as they were made
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
//! Not here: repair. A store that cannot be proven intact is reported and left as it is.

mod audit;
mod db;
mod environment;
mod error;
mod evidence;
pub mod format;
mod generation;
mod keys;
pub mod log;
mod sync_times;
mod tables;
mod tail;
mod verdict;
mod view;
pub mod watermark;
mod writer;

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

use clock::Hlc;
use parking_lot::Mutex;
use proto::attest::Life;
use rocksdb::WriteBatch;
use tokio::sync::watch;
use uuid::Uuid;

pub use self::environment::Trouble;
pub use self::error::StoreError;
pub(crate) use self::error::damage_in;
pub use self::evidence::{OnFailure, Told};
pub use self::generation::{Chunk, ChunkReader, Incoming, SnapshotHead};
pub use self::view::{Snapshot, StateBatch};
pub use self::watermark::{Damage, DamageKind};
pub use self::writer::{Done, Op, Writer};

use self::db::Database;
use self::evidence::Evidence;
use self::format::{AppliedState, FORMAT, Identity, Lives, LogMark, Vote, decode, encode};
use self::keys::{META, MetaKind};
use self::tables::{Noting, Tables};
use self::tail::Tail;
use self::verdict::{Proven, Verdict};
use self::watermark::{Watermark, WatermarkFile};

/// The one Raft group of this version; it carries the data shard and the control shard.
pub const SHARD: u16 = 1;
/// Processes of earlier starts that are remembered.
const LIVES_KEPT: usize = 64;
/// Table number of the applied-state row; the model's tables are numbered below it.
const APPLIED_TABLE: u8 = 0xff;

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
    tail: Tail,
    generation: AtomicU32,
    /// Generation that the next incoming snapshot takes.
    next_generation: AtomicU32,
    identity: Identity,
    starts: u64,
    /// The processes of the last starts, this one first.
    lives: Vec<Life>,
    path: PathBuf,
    tables: Arc<Tables>,
    noting: Mutex<Option<Noting>>,
    evidence: Arc<Evidence>,
    /// Errors that the database has met in the background.
    background_errors: AtomicU64,
    /// How what is committed here was contradicted.
    two_histories: watch::Sender<Option<String>>,
    /// The place that the state had at the start, or that the last snapshot brought: durable
    /// whatever the log says.
    installed: Mutex<Option<LogMark>>,
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
    _evidence: Arc<Evidence>,
}

impl Store {
    /// Whether the data directory holds a store.
    ///
    /// # Errors
    /// When nobody can say: the folder may not be looked into.
    pub fn exists(data_dir: &Path) -> Result<bool, StoreError> {
        let path = data_dir.join("store");
        path.try_exists().map_err(StoreError::file(path))
    }

    /// Creates a store, whole or not at all. Only for a node that was just admitted.
    ///
    /// # Errors
    /// When a store is there already, or the disk refuses.
    pub fn create(data_dir: &Path, identity: &Identity) -> Result<(), StoreError> {
        let (store, new) = (data_dir.join("store"), data_dir.join("store.new"));
        if store.exists() {
            let there = format!("{} exists already", store.display());
            return Err(StoreError::Foreign(there));
        }
        if new.exists() {
            // A creation that did not finish: no node has ever started on it.
            std::fs::remove_dir_all(&new).map_err(StoreError::file(&new))?;
        }
        std::fs::create_dir_all(&new).map_err(StoreError::file(&new))?;
        let nonce = Uuid::new_v4().into_bytes().to_vec();
        let identity = Identity { format: FORMAT, nonce, ..identity.clone() };
        {
            let db = Database::create(&new.join("db"))?;
            let mut batch = WriteBatch::default();
            let meta = db.family(META)?;
            batch.put_cf(meta, keys::meta(0, MetaKind::Identity), encode(&identity));
            db.write(batch)?;
            db.sync()?;
        }
        let first = Watermark { identity: Some(identity), ..Watermark::default() };
        WatermarkFile::create(&new, &first)?;
        std::fs::rename(&new, &store).map_err(StoreError::file(&store))?;
        let dir = File::open(data_dir).map_err(StoreError::file(data_dir))?;
        dir.sync_all().map_err(StoreError::file(data_dir))
    }

    /// Opens the store of a node and judges whether it is intact. Damage that is found is marked.
    ///
    /// # Errors
    /// When there is no store, or it belongs to another cluster, node or release, or something
    /// stands in the way of opening it; it is then left as it is.
    pub fn open(data_dir: &Path, cluster: &str, node: &str) -> Result<Opened, StoreError> {
        let path = data_dir.join("store");
        if !Self::exists(data_dir)? {
            return Err(StoreError::NotAdmitted(format!(
                "{} holds no store, and a normal start never creates one: it may be a wrong mount \
                 or a wiped disk",
                data_dir.display()
            )));
        }
        let (evidence, watermark) = match Evidence::open(&path) {
            Ok(opened) => opened,
            Err(StoreError::File { path, source }) if source.kind() == ErrorKind::NotFound => {
                let found = format!("{}, which proves what was durable, is gone", path.display());
                let damage = Damage::new(DamageKind::Lost, found);
                return Ok(Opened::Repairing { identity: None, damage, lock: None });
            }
            Err(error) => return Err(error),
        };
        let owner = |identity: &Identity| verdict::check_owner(&path, identity, cluster, node);
        let claimed = watermark.as_ref().and_then(|watermark| watermark.identity.clone());
        if let Some(identity) = &claimed {
            owner(identity)?;
        }
        Self::open_locked(&path, evidence, watermark, claimed, &owner)
    }

    /// The same once nobody else has the store, and its watermark is read. `owner` refuses a store
    /// of somebody else.
    fn open_locked(
        path: &Path,
        evidence: Arc<Evidence>,
        watermark: Option<Watermark>,
        claimed: Option<Identity>,
        owner: &dyn Fn(&Identity) -> Result<(), StoreError>,
    ) -> Result<Opened, StoreError> {
        let repairing = |identity, damage: Damage, mark: bool| {
            // Without a slot that says whose the store is, there is nothing to write the mark to.
            if mark && watermark.is_some() {
                evidence.mark(damage.clone());
            }
            let lock = Some(Lock { _evidence: Arc::clone(&evidence) });
            Ok(Opened::Repairing { identity, damage, lock })
        };
        if let Some(damage) = watermark.as_ref().and_then(Watermark::found) {
            return repairing(claimed, damage, false);
        }
        environment::look(path)?;
        let db = match verdict::open(path, &evidence, watermark.as_ref()) {
            Ok(db) => Arc::new(db),
            Err(error @ StoreError::Incomplete(_)) => {
                return repairing(claimed, Damage::new(DamageKind::Lost, error), false);
            }
            Err(error) => match met(path, &error) {
                Some(damage) => return repairing(claimed, damage, true),
                None => return Err(error),
            },
        };
        let found = verdict::identity(&db);
        if let Ok(Some(identity)) = &found {
            owner(identity)?;
        }
        let claimed = claimed.or_else(|| found.as_ref().ok().cloned().flatten());
        match found.and_then(|found| verdict::judge(&db, found.as_ref(), watermark.as_ref())) {
            Ok(Verdict::Intact(proven)) => {
                match Self::start(path.to_owned(), db, Arc::clone(&evidence), *proven) {
                    Ok(started) => Ok(Opened::Intact(started)),
                    Err(error) => match met(path, &error) {
                        Some(damage) => repairing(claimed, damage, true),
                        None => Err(error),
                    },
                }
            }
            Ok(Verdict::Damaged(damage)) => repairing(claimed, damage, true),
            Ok(Verdict::Mixed(found)) => {
                repairing(claimed, Damage::new(DamageKind::Contradicted, found), false)
            }
            Err(error) => match met(path, &error) {
                Some(damage) => repairing(claimed, damage, true),
                None => Err(error),
            },
        }
    }

    fn start(
        path: PathBuf,
        db: Arc<Database>,
        evidence: Arc<Evidence>,
        proven: Proven,
    ) -> Result<Self, StoreError> {
        let Proven { identity, first, last, applied } = proven;
        let (starts, lives) = bump_starts(&db)?;
        // Others are told of this start, and of everything that was found here. What they remember
        // must be there whatever happens next.
        db.sync()?;
        let live = live_generation(&db, SHARD)?;
        generation::sweep(&db, SHARD, live)?;
        let end = last.as_ref().map_or(first, |last| last.index + 1);
        let vote = read_vote(&db, SHARD)?;
        let installed = applied.last.clone();
        let shards = vec![watermark::ShardMark { shard: u32::from(SHARD), last, vote }];
        let marks = Watermark { identity: Some(identity.clone()), shards, ..Watermark::default() };
        let (writer, threads) = Writer::start(Arc::clone(&db), Arc::clone(&evidence), marks)?;
        let tail = Tail::new(first, end);
        tail.set_applied(applied.last.map_or(0, |last| last.index + 1));
        let tables = Tables::read(&path);
        let noting = tables.note_all(Arc::clone(&db))?;
        let inner = Inner {
            db,
            writer: Mutex::new(Some(writer)),
            threads: Mutex::new(threads),
            tail,
            generation: AtomicU32::new(live),
            next_generation: AtomicU32::new(live + 1),
            identity,
            starts,
            lives,
            path,
            tables,
            noting: Mutex::new(Some(noting)),
            evidence,
            background_errors: AtomicU64::new(0),
            two_histories: watch::Sender::default(),
            installed: Mutex::new(installed),
        };
        Ok(Self { inner: Arc::new(inner) })
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
        let Ok(writer) = self.writer() else { return };
        let tell = move || writer.submit(Op::Barrier, Box::new(drop));
        self.inner.evidence.look(self.inner.path.join("db"), tell);
    }

    /// The pipeline to the disk.
    ///
    /// # Errors
    /// When the store is closed.
    pub fn writer(&self) -> Result<Writer, StoreError> {
        let writer = self.inner.writer.lock();
        writer.clone().ok_or_else(|| StoreError::Stopped("it is closed".to_owned()))
    }

    /// The newest entries of the log.
    #[must_use]
    pub fn tail(&self) -> &Tail {
        &self.inner.tail
    }

    /// The saved vote.
    ///
    /// # Errors
    /// When the database fails or the value is damaged.
    pub fn vote(&self) -> Result<Option<Vote>, StoreError> {
        read_vote(&self.inner.db, SHARD)
    }

    /// The purge floor of the log.
    ///
    /// # Errors
    /// When the database fails or the value is damaged.
    pub fn floor(&self) -> Result<Option<LogMark>, StoreError> {
        log::floor(&self.inner.db, SHARD)
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
        let mark = self.writer()?.durable(SHARD).unwrap_or_default();
        let installed = self.installed();
        let last = later(mark.last, installed.clone());
        let end = last.as_ref().map(|last| last.index);
        let applied = self.applied()?.last.filter(|applied| Some(applied.index) <= end);
        Ok(Durable { last, committed: later(applied, installed), vote: mark.vote })
    }

    /// The place of an entry that this store holds or has held: in its log, as what its state came to,
    /// or purged from it not too long ago. `None` if it knows none there.
    ///
    /// # Errors
    /// When the database fails or a value is damaged.
    pub fn place_at(&self, index: u64) -> Result<Option<LogMark>, StoreError> {
        if let Some(mark) = log::written_at(&self.inner.db, SHARD, index)? {
            return Ok(Some(mark));
        }
        match self.installed().filter(|installed| installed.index == index) {
            Some(installed) => Ok(Some(installed)),
            None => log::purged_at(&self.inner.db, SHARD, index),
        }
    }

    fn installed(&self) -> Option<LogMark> {
        self.inner.installed.lock().clone()
    }

    /// Notes the place of a snapshot that is durable.
    fn note_installed(&self, mark: Option<LogMark>) {
        let mut installed = self.inner.installed.lock();
        *installed = later(installed.take(), mark);
    }

    /// The persisted ceiling of stamps; zero before the first.
    ///
    /// # Errors
    /// When the database fails or the value is damaged.
    pub fn ceiling(&self) -> Result<Hlc, StoreError> {
        let value = self.inner.db.get_meta(keys::meta(0, MetaKind::Ceiling))?;
        let Some(bytes) = value else { return Ok(Hlc::ZERO) };
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

    /// Bytes free on the store's disk for an unprivileged process.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::statvfs(&self.inner.path)
            .map_err(|error| StoreError::file(&self.inner.path)(error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Moves everything to sorted files and drops what is deleted, expired or purged. Slow; runs
    /// beside everything else.
    ///
    /// # Errors
    /// When the database fails.
    pub fn compact(&self) -> Result<(), StoreError> {
        self.inner.db.compact()
    }

    /// Lets the queue run dry and joins the threads. Later calls of [`Store::writer`] fail.
    pub fn close(&self) {
        let writer = self.inner.writer.lock().take();
        if let Some(writer) = writer {
            // Clones of the writer may live on; what they submit from here on is refused.
            writer.submit(Op::Close, Box::new(drop));
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

/// The damage that an error of an opening tells of, if it does.
fn met(store: &Path, error: &StoreError) -> Option<Damage> {
    match error {
        StoreError::Damaged(found) => Some(Damage::new(DamageKind::Corrupt, found)),
        StoreError::Unreadable(found) => Some(Damage::new(DamageKind::Unreadable, found)),
        StoreError::Database { .. } => environment::unreadable(&store.join("db"))
            .map(|found| Damage::new(DamageKind::Unreadable, found)),
        StoreError::File { .. }
        | StoreError::Incomplete(_)
        | StoreError::Environment { .. }
        | StoreError::TwoHistories(_)
        | StoreError::Foreign(_)
        | StoreError::NotAdmitted(_)
        | StoreError::Refused(_)
        | StoreError::Stopped(_) => None,
    }
}

/// The later of two places.
fn later(a: Option<LogMark>, b: Option<LogMark>) -> Option<LogMark> {
    [a, b].into_iter().flatten().max_by_key(|mark| mark.index)
}

fn be_u64(what: &str, bytes: &[u8]) -> Result<u64, StoreError> {
    let bytes = bytes.try_into();
    bytes.map(u64::from_be_bytes).map_err(|_| StoreError::Damaged(format!("{what}: not 8 bytes")))
}

/// Counts a start, and notes whose it is. Not synced.
fn bump_starts(db: &Database) -> Result<(u64, Vec<Life>), StoreError> {
    let (key, lives_key) = (keys::meta(0, MetaKind::Starts), keys::meta(0, MetaKind::Lives));
    let starts = db.get_meta(key)?.map_or(Ok(0), |bytes| be_u64("starts", &bytes))? + 1;
    let known = db.get_meta(lives_key)?;
    let known: Lives = known.map_or_else(|| Ok(Lives::default()), |b| decode("lives", &b))?;
    let mut lives = vec![Life { starts, life: Uuid::new_v4().into_bytes().to_vec() }];
    lives.extend(known.lives.into_iter().take(LIVES_KEPT));
    let mut batch = WriteBatch::default();
    let meta = db.family(META)?;
    batch.put_cf(meta, key, starts.to_be_bytes());
    batch.put_cf(meta, lives_key, encode(&Lives { lives: lives.clone() }));
    db.write(batch)?;
    Ok((starts, lives))
}

fn read_vote(db: &Database, shard: u16) -> Result<Option<Vote>, StoreError> {
    let value = db.get_meta(keys::meta(shard, MetaKind::Vote))?;
    value.map(|bytes| decode("vote", &bytes)).transpose()
}

fn live_generation(db: &Database, shard: u16) -> Result<u32, StoreError> {
    let Some(value) = db.get_meta(keys::meta(shard, MetaKind::Generation))? else {
        return Ok(0);
    };
    let bytes = value.try_into();
    bytes
        .map(u32::from_be_bytes)
        .map_err(|_| StoreError::Damaged("generation: not 4 bytes".to_owned()))
}

fn read_applied(db: &Database, shard: u16, generation: u32) -> Result<AppliedState, StoreError> {
    let key = keys::state(keys::generation(shard, generation), APPLIED_TABLE, b"");
    let value = db.get(keys::STATE, &key)?;
    value.map_or_else(|| Ok(AppliedState::default()), |bytes| decode("applied state", &bytes))
}

#[cfg(test)]
mod store_test;
