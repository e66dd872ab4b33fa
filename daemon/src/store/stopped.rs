//! The store of a node that is stopped: opened for reading alone, judged as a start judges it, and left as
//! it is: no start is counted, nothing is taken over, noted or removed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use log::Place;
use model::audit::{Audit, audit};

use super::db::Database;
use super::evidence::Evidence;
use super::format::{AppliedState, FORMAT_LOG_IN_DB, Identity, LogEntry, LogMark, Vote, store_id};
use super::media::{AnyDisk, Media};
use super::open::{damage_of, without_watermark};
use super::tables::Tables;
use super::verdict::{self, Fits, Refused};
use super::view::{self, Snapshot};
use super::watermark::{Damage, Watermark};
use super::workers::Workers;
use super::{Durable, Lock, SHARD, Store, StoreError, later, live_generation, open, read_applied};

/// What a start would find in a store, if it took place now.
pub(crate) struct Look {
    /// Who the store says it is, as far as that can be read.
    pub(crate) identity: Option<Identity>,
    /// What it holds; or why it proves nothing.
    pub(crate) holds: Result<Box<Stopped>, Damage>,
    /// What hinders no start, and leaves it with less than it could have.
    pub(crate) notes: Vec<String>,
    /// How often it was started.
    pub(crate) starts: u64,
    /// Keeps a node from being started on it; `None` where there is nothing to lock.
    pub(crate) lock: Option<Lock>,
}

/// A store whose parts are all sound and belong together.
pub(crate) struct Stopped {
    path: PathBuf,
    db: Database,
    log: log::Stopped<AnyDisk>,
    applied: AppliedState,
    noted: Option<LogMark>,
}

impl Look {
    /// Looks at the store of a data directory.
    ///
    /// # Errors
    /// When there is no store, it belongs to another cluster, node or release, another process has it, or
    /// something else stands in the way of reading it.
    pub(crate) fn at(data_dir: &Path, cluster: &str, node: &str) -> Result<Self, StoreError> {
        let media = Media::from(data_dir);
        let path = media.store();
        if !Store::exists(data_dir)? {
            let what = format!("{} holds no store", data_dir.display());
            return Err(StoreError::NotAdmitted(what));
        }
        // Kept until the end: nobody starts the node meanwhile.
        let (evidence, watermark) = match Evidence::open(&media.folder(), Workers::Threads) {
            Ok(opened) => opened,
            Err(StoreError::File { path, source }) if source.kind() == ErrorKind::NotFound => {
                let holds = Err(without_watermark(&path));
                return Ok(Self {
                    identity: None,
                    holds,
                    notes: Vec::new(),
                    starts: 0,
                    lock: None,
                });
            }
            Err(error) => return Err(error),
        };
        if evidence.format() == FORMAT_LOG_IN_DB {
            let what = "the store is of an earlier release: start this one once, it takes it over";
            let what = what.to_owned();
            return Err(StoreError::Refused(what));
        }
        let owner = |identity: &Identity| verdict::check_owner(&path, identity, cluster, node);
        let mut identity = watermark.as_ref().and_then(|watermark| watermark.identity.clone());
        identity.iter().try_for_each(owner)?;
        let starts = watermark.as_ref().map_or(0, |watermark| watermark.starts);
        let mut notes = Vec::new();
        // Both are written from the first start on.
        if starts > 0 && !evidence.is_whole() {
            notes.push(
                "one of the two slots of the watermark is broken, as by a write that was interrupted: \
                 the other one says all, and a start writes it again"
                    .to_owned(),
            );
        }
        let holds = match judged(&media, watermark.as_ref(), &mut identity, &owner) {
            Ok(stopped) => Ok(Box::new(stopped)),
            Err(refused) => Err(damage_of(&path, refused)?.0),
        };
        if let Ok(stopped) = &holds {
            notes.extend(stopped.notes());
        }
        Ok(Self { identity, holds, notes, starts, lock: Some(Lock { evidence }) })
    }
}

/// The verdict of a start, in its order.
fn judged(
    media: &Media,
    watermark: Option<&Watermark>,
    identity: &mut Option<Identity>,
    owner: &open::Owner<'_>,
) -> Result<Stopped, Refused> {
    if let Some(damage) = watermark.and_then(Watermark::found) {
        return Err(Refused::Unmarked(damage));
    }
    let path = media.store();
    let db = verdict::open(&path, Database::look_past_caches)?;
    let found = verdict::identity(&db)?;
    if let Some(found) = &found {
        owner(found)?;
    }
    *identity = identity.take().or_else(|| found.clone());
    let identity = verdict::judge(&db, found.as_ref(), watermark)?;
    let claimed = watermark.and_then(|watermark| log::Mark::from_bytes(&watermark.mark));
    let (disk, _) = media.log();
    let log = log::Stopped::read(&disk, store_id(&identity), claimed.as_ref())?;
    let applied = read_applied(&db, SHARD, live_generation(&db, SHARD)?)?;
    let place_at = |index| Ok(log.place_at(SHARD, index)?);
    match verdict::fits(log.floor(SHARD), place_at, &applied)? {
        Fits::Together | Fits::Ahead(_) => {}
        Fits::Not(found) => return Err(Refused::contradicted(found)),
    }
    let noted = watermark.and_then(|watermark| watermark.committed.clone());
    Ok(Stopped { path, db, log, applied, noted })
}

impl Stopped {
    /// Reads every row and every block beside, and tells what is not what was written. The log was read as
    /// a whole before.
    ///
    /// # Errors
    /// When something stands in the way of reading.
    pub(crate) fn audit(&self) -> Result<Audit, StoreError> {
        let mut found = audit(&self.state()?);
        if let Err(error) = self.db.read_all() {
            found.problems.push(damage_of(&self.path, error.into())?.0.to_string());
        }
        found.problems.extend(Tables::read(&self.path).changed(&self.db)?);
        Ok(found)
    }

    /// What the log has come to, as far as that is on the disk.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn state(&self) -> Result<Snapshot<'_>, StoreError> {
        view::freeze(&self.db)
    }

    /// Where the state stands.
    pub(crate) fn applied(&self) -> &AppliedState {
        &self.applied
    }

    /// The entries behind the state, which a start applies.
    ///
    /// # Errors
    /// When one is damaged, or the disk refuses.
    pub(crate) fn behind_state(&self) -> Result<Vec<LogEntry>, StoreError> {
        let from = self.applied.last.as_ref().map_or(0, |last| last.index + 1);
        let end = self.log.last(SHARD).map_or(0, |last| last.index + 1);
        let entry = |index| Ok(self.log.entry(SHARD, index)?.map(|(_, entry)| entry));
        (from..end).filter_map(|index| entry(index).transpose()).collect()
    }

    /// What is durable, and the highest that this node knew to be committed.
    pub(crate) fn durable(&self) -> Durable {
        let last = self.log.last(SHARD).map(LogMark::from);
        let last = later(last, self.applied.last.clone());
        let held = |noted: &LogMark| {
            let held = self.log.place_at(SHARD, noted.index).ok().flatten();
            held.map(|held: Place| LogMark::from(held)).as_ref() == Some(noted)
        };
        let noted = self.noted.clone().filter(held);
        let vote = self.log.vote(SHARD).map(Vote::from);
        Durable { last, committed: later(self.applied.last.clone(), noted), vote }
    }

    fn notes(&self) -> Option<String> {
        Tables::why_lost(&self.path, &self.db)
    }
}
