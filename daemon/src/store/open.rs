//! Opening a store: one part after the other, and the verdict. Until that is spoken nothing is changed,
//! but for a store of format 1, which is brought to this one (`migrate`).

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use model::Table;
use parking_lot::{Mutex, RwLock};
use planted::Bug;
use proto::attest::Life;
use tokio::sync::watch;
use uuid::Uuid;

use super::db::Database;
use super::evidence::Evidence;
use super::format::{FORMAT_LOG_IN_DB, Identity};
use super::media::Media;
use super::tables::Tables;
use super::verdict::{self, Fits, Refused};
use super::versions::Versions;
use super::watermark::{Damage, DamageKind, Watermark};
use super::writer::{Shared, Writer};
use super::{
    Inner, Lock, Opened, RaftLog, SHARD, Store, StoreError, environment, generation,
    live_generation, migrate, read_applied,
};

/// Processes of earlier starts that are remembered.
const LIVES_KEPT: usize = 64;

/// Refuses a store of somebody else.
pub(super) type Owner<'a> = dyn Fn(&Identity) -> Result<(), StoreError> + 'a;

/// A store that nobody else has now, and whose watermark is read.
pub(super) struct Opening<'a> {
    pub(super) media: &'a Media,
    pub(super) evidence: Arc<Evidence>,
    pub(super) watermark: Option<Watermark>,
    /// Who the store says it is, as far as that is known.
    pub(super) identity: Option<Identity>,
    pub(super) owner: &'a Owner<'a>,
}

impl Opening<'_> {
    /// Opens it and judges whether it is intact. Damage that is found is marked.
    ///
    /// # Errors
    /// When it belongs to somebody else, or something stands in the way.
    pub(super) fn open(mut self) -> Result<Opened, StoreError> {
        let (damage, is_new) = match self.judged() {
            Ok(store) => return Ok(Opened::Intact(store)),
            Err(refused) => damage_of(&self.media.store(), refused)?,
        };
        // Without a slot that says whose the store is, there is nothing to write the mark to.
        if is_new && self.watermark.is_some() {
            self.evidence.mark(damage.clone());
        }
        let lock = Some(Lock { evidence: self.evidence });
        Ok(Opened::Repairing { identity: self.identity, damage, lock })
    }

    fn judged(&mut self) -> Result<Store, Refused> {
        if let Some(damage) = self.watermark.as_ref().and_then(Watermark::found) {
            return Err(Refused::Unmarked(damage));
        }
        let mut db = self.database()?;
        let found = verdict::identity(&db)?;
        if let Some(identity) = &found {
            (self.owner)(identity)?;
        }
        self.identity = self.identity.take().or_else(|| found.clone());
        let identity = verdict::judge(&db, found.as_ref(), self.watermark.as_ref())?;
        let watermark = self.watermark.clone().unwrap_or_default();
        let log = verdict::open_log(self.media, &identity, &watermark)?;
        migrate::clear_db(&mut db)?;
        start(self.media, Arc::new(db), log, Arc::clone(&self.evidence), identity)
    }

    fn database(&mut self) -> Result<Database, Refused> {
        if let Media::Memory(memory) = self.media {
            return Ok(Database::in_memory(memory.state.clone(), Some(Arc::clone(&self.evidence))));
        }
        let path = self.media.store();
        environment::look(&path)?;
        if self.evidence.format() == FORMAT_LOG_IN_DB {
            migrate::move_log(&path, &self.evidence, self.owner)?;
            self.watermark = Some(self.evidence.content());
        }
        Ok(verdict::open(&path, |db| Database::open(db, &self.evidence))?)
    }
}

/// Starts a store whose parts are all sound, if they belong together.
fn start(
    media: &Media,
    db: Arc<Database>,
    log: RaftLog,
    evidence: Arc<Evidence>,
    identity: Identity,
) -> Result<Store, Refused> {
    let live = live_generation(&db, SHARD)?;
    let applied = read_applied(&db, SHARD, live)?;
    let place_at = |index| Ok(log.place_at(SHARD, index)?);
    match verdict::fits(log.floor(SHARD), place_at, &applied)? {
        Fits::Together => {}
        Fits::Ahead(place) => {
            let (state, log_end) = (place.index + 1, log.range(SHARD).1);
            tracing::info!(
                state,
                log = log_end,
                "the state is ahead of the log, which goes on behind it"
            );
            log.truncate_after(SHARD, log.floor(SHARD).map(|floor| floor.index))?;
            log.purge_to(SHARD, place)?;
            log.flush()?;
        }
        Fits::Not(found) => return Err(Refused::contradicted(found)),
    }
    // Others are told of this start, and of everything that was found here. What they remember
    // must be there whatever happens next.
    let (starts, lives) = bump_starts(&evidence)?;
    generation::sweep(&db, SHARD, live)?;
    if planted::is(Bug::DedupForgotten) {
        generation::forget(&db, (SHARD, live), Table::Dedup)?;
    }
    let (path, workers) = (media.store(), media.workers());
    let stands = applied.last.clone();
    let shared = Shared::new(
        path.clone(),
        Arc::clone(&evidence),
        applied.last,
        media.flush_entries(),
        workers,
    );
    let (writer, threads) = Writer::start(log.clone(), Arc::clone(&db), Arc::clone(&shared))?;
    let tables = Tables::read(&path);
    let noting = match media {
        Media::Files(_) => Some(tables.note_all(Arc::clone(&db))?),
        Media::Memory(_) => None,
    };
    let inner = Inner {
        db,
        writer: Mutex::new(Some(writer)),
        threads: Mutex::new(threads),
        log,
        shared,
        generation: AtomicU32::new(live),
        answered: RwLock::default(),
        versions: Versions::default(),
        stands: Mutex::new(stands),
        next_generation: AtomicU32::new(live + 1),
        identity,
        starts,
        lives,
        path,
        tables,
        noting: Mutex::new(noting),
        media: media.clone(),
        evidence,
        background_errors: AtomicU64::new(0),
        two_histories: watch::Sender::default(),
    };
    Ok(Store { inner: Arc::new(inner) })
}

/// Counts a start, and notes whose it is, durably.
fn bump_starts(evidence: &Evidence) -> Result<(u64, Vec<Life>), StoreError> {
    let known = evidence.content();
    let starts = known.starts + 1;
    let mut lives = vec![Life { starts, life: Uuid::new_v4().into_bytes().to_vec() }];
    lives.extend(known.lives.into_iter().take(LIVES_KEPT));
    evidence.settle(|content| {
        content.starts = starts;
        content.lives.clone_from(&lives);
    })?;
    Ok((starts, lives))
}

/// The damage for which a store is not taken as intact, and whether it is to be marked.
///
/// # Errors
/// What stands in the way and is no damage.
pub(super) fn damage_of(store: &Path, refused: Refused) -> Result<(Damage, bool), StoreError> {
    match refused {
        Refused::Damaged(damage) => Ok((damage, true)),
        Refused::Unmarked(damage) => Ok((damage, false)),
        Refused::By(error) => match met(store, &error) {
            Some(damage) => Ok((damage, true)),
            None => Err(error),
        },
    }
}

/// What a store is that has no watermark.
pub(super) fn without_watermark(path: &Path) -> Damage {
    let found = format!("{}, which proves what was durable, is gone", path.display());
    Damage::new(DamageKind::Lost, found)
}

/// The damage that an error of an opening tells of, if it does.
pub(super) fn met(store: &Path, error: &StoreError) -> Option<Damage> {
    match error {
        StoreError::Damaged(found) => Some(Damage::new(DamageKind::Corrupt, found)),
        StoreError::Unreadable(found) => Some(Damage::new(DamageKind::Unreadable, found)),
        StoreError::Log { source, .. } if source.kind() == ErrorKind::NotFound => {
            Some(Damage::new(DamageKind::Lost, error))
        }
        StoreError::Database { .. } | StoreError::Log { .. } => {
            environment::unreadable(store).map(|found| Damage::new(DamageKind::Unreadable, found))
        }
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
