//! The verdict at start, before any Raft exists: is what this store holds at least what it once
//! said was durable?
//!
//! What the watermark proves is not doubted. If the write-ahead log cannot be read to its end, but
//! all that was durable can, then what is broken behind that was never acknowledged: it is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::db::{Database, Replay};
use super::evidence::Evidence;
use super::format::{AppliedState, FORMAT, Identity, LogEntry, LogMark, Vote, decode};
use super::keys::{self, LOG, MetaKind};
use super::watermark::{Damage, DamageKind, ShardMark, Watermark, newer};
use super::{SHARD, StoreError, environment};

/// What the evidence says.
pub(crate) enum Verdict {
    /// Everything that was durable is there; what lies above is an unacknowledged tail.
    Intact(Box<Proven>),
    /// It cannot be proven: what was expected, and what was found.
    Damaged(Damage),
    /// Parts of two stores lie in one folder: whoever put them there can put them right.
    Mixed(String),
}

/// A store that is intact.
pub(crate) struct Proven {
    /// Who it is.
    pub(crate) identity: Identity,
    /// First index that the log holds or would hold next.
    pub(crate) first: u64,
    /// The last entry of the log, or its floor.
    pub(crate) last: Option<LogMark>,
    /// Where the state stands.
    pub(crate) applied: AppliedState,
}

/// Opens the database of a store with this watermark.
///
/// # Errors
/// `Damaged` if it cannot be read as far as it was durable; `Environment` and its like if something
/// else stands in the way.
pub(crate) fn open(
    store: &Path,
    evidence: &Arc<Evidence>,
    watermark: Option<&Watermark>,
) -> Result<Database, StoreError> {
    let path = store.join("db");
    let refused = match Database::open(&path, Replay::Strict, evidence) {
        Ok(db) => return Ok(db),
        Err(refused) => refused,
    };
    match refused {
        StoreError::Damaged(_) => {}
        // It does not say in a type what it lacks. If nothing stands in the way, a file is missing, or
        // the disk does not give it back.
        StoreError::Database { .. } => {
            environment::look_again(store)?;
            let again = Database::open(&path, Replay::Strict, evidence);
            return again.map_err(|error| match (&error, environment::unreadable(&path)) {
                (StoreError::Database { .. }, Some(found)) => StoreError::Unreadable(found),
                (StoreError::Database { .. }, None) => StoreError::Incomplete(error.to_string()),
                _ => error,
            });
        }
        error => return Err(error),
    }
    for replay in [Replay::Prefix, Replay::PrefixUnchecked] {
        if let Some(watermark) = watermark
            && holds_all(store, replay, watermark)
        {
            tracing::warn!(
                %refused,
                "the end of the write-ahead log is broken; all that was durable is there, and what \
                 follows, never acknowledged, is dropped"
            );
            return Database::open(&path, replay, evidence);
        }
    }
    Err(refused)
}

/// A copy of a database, to be tried out; removed when it is dropped.
struct Copy(PathBuf);

impl Copy {
    /// Tables never change: they are linked, and the rest is copied.
    fn of(store: &Path) -> Result<Self, StoreError> {
        let (db, copy) = (store.join("db"), store.join("db.copy"));
        // One that an interrupted start left.
        drop(fs::remove_dir_all(&copy));
        fs::create_dir(&copy).map_err(StoreError::file(&copy))?;
        let this = Self(copy);
        for entry in fs::read_dir(&db).map_err(StoreError::file(&db))? {
            let path = entry.map_err(StoreError::file(&db))?.path();
            let Some(name) = path.file_name().filter(|_| path.is_file()) else { continue };
            let target = this.0.join(name);
            let made = match path.extension().is_some_and(|extension| extension == "sst") {
                true => fs::hard_link(&path, &target),
                false => fs::copy(&path, &target).map(drop),
            };
            made.map_err(StoreError::file(&target))?;
        }
        Ok(this)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "the copy of a database cannot be removed");
        }
    }
}

/// Whether the database, if its logs are read only up to the first thing that is wrong, holds all
/// that was durable. The database itself is not changed.
fn holds_all(store: &Path, replay: Replay, watermark: &Watermark) -> bool {
    let look = || -> Result<bool, StoreError> {
        let copy = match replay {
            Replay::Strict | Replay::Prefix => None,
            Replay::PrefixUnchecked => Some(Copy::of(store)?),
        };
        let db = match &copy {
            None => Database::look(&store.join("db"))?,
            Some(copy) => Database::try_out(&copy.0, replay)?,
        };
        let found = identity(&db)?;
        let intact = matches!(judge(&db, found.as_ref(), Some(watermark))?, Verdict::Intact(_));
        // Its own notes would have told of a log that is missing in the middle; reading all does so.
        if intact && replay == Replay::PrefixUnchecked {
            let audit = model::audit::audit(&super::view::freeze(&db)?);
            return Ok(audit.problems.is_empty());
        }
        Ok(intact)
    };
    look().unwrap_or_else(|error| {
        tracing::debug!(%error, ?replay, "what was durable cannot be read");
        false
    })
}

/// The identity that the database carries.
pub(crate) fn identity(db: &Database) -> Result<Option<Identity>, StoreError> {
    let value = db.get_meta(keys::meta(0, MetaKind::Identity))?;
    value.map(|bytes| decode("store identity", &bytes)).transpose()
}

/// Refuses a store of another release, cluster or node: that is a mistake of an operator, not
/// damage, and nothing may be changed.
pub(crate) fn check_owner(
    store: &Path,
    identity: &Identity,
    cluster: &str,
    node: &str,
) -> Result<(), StoreError> {
    if identity.format > FORMAT {
        return Err(newer(store, identity.format));
    }
    if identity.cluster != cluster {
        return Err(StoreError::Foreign(format!(
            "the store belongs to cluster {}, the certificate to {cluster}: check data_dir and \
             [tls] in the configuration",
            identity.cluster
        )));
    }
    if identity.node != node {
        return Err(StoreError::Foreign(format!(
            "the store belongs to node {}, this is {node}: check data_dir in the configuration",
            identity.node
        )));
    }
    Ok(())
}

/// Judges a store that opened (`reliability`: the verdict at start).
///
/// # Errors
/// When the database cannot be read at all.
pub(crate) fn judge(
    db: &Database,
    identity: Option<&Identity>,
    watermark: Option<&Watermark>,
) -> Result<Verdict, StoreError> {
    let damaged = |kind, found: String| Ok(Verdict::Damaged(Damage::new(kind, found)));
    let Some(identity) = identity else {
        return damaged(DamageKind::Lost, "the database carries no identity".to_owned());
    };
    let Some(watermark) = watermark else {
        return damaged(DamageKind::Lost, "no valid slot in the watermark file".to_owned());
    };
    if let Some(damage) = watermark.found() {
        return Ok(Verdict::Damaged(damage));
    }
    if watermark.identity.as_ref() != Some(identity) {
        return Ok(Verdict::Mixed(format!(
            "the watermark belongs to {}, but the database to {identity}: two stores are mixed",
            watermark.identity.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string)
        )));
    }
    for mark in &watermark.shards {
        if let Some(reason) = judge_shard(db, mark)? {
            return damaged(DamageKind::Lost, reason);
        }
    }
    // Last, since it says least: the others name what is gone.
    if db.sequence() < watermark.db_sequence {
        let gone = format!(
            "{} changes of the database were durable, but it holds {}",
            watermark.db_sequence,
            db.sequence()
        );
        return damaged(DamageKind::Lost, gone);
    }
    let (floor, (first, last)) = (super::log::floor(db, SHARD)?, super::log::bounds(db, SHARD)?);
    let applied = super::read_applied(db, SHARD, super::live_generation(db, SHARD)?)?;
    if let Some(reason) = judge_applied(db, floor.as_ref(), last.as_ref(), &applied)? {
        return damaged(DamageKind::Contradicted, reason);
    }
    let proven = Proven { identity: identity.clone(), first, last, applied };
    Ok(Verdict::Intact(Box::new(proven)))
}

/// Whether the state was made from this log: it may be behind the log's end, and ahead of it where a
/// snapshot was installed, but never behind its floor, nor of another entry at the same place.
fn judge_applied(
    db: &Database,
    floor: Option<&LogMark>,
    last: Option<&LogMark>,
    applied: &AppliedState,
) -> Result<Option<String>, StoreError> {
    let at = |mark: Option<&LogMark>| mark.map(|mark| mark.index);
    let Some(mark) = &applied.last else {
        return Ok(floor.map(|floor| {
            format!("the log begins after entry {}, but the state holds nothing", floor.index)
        }));
    };
    if at(floor) > Some(mark.index) {
        let (floor, applied) = (at(floor).unwrap_or_default(), mark.index);
        return Ok(Some(format!(
            "the state holds entries up to {applied}, but those up to {floor} are purged"
        )));
    }
    if at(last) < Some(mark.index) {
        return Ok(None);
    }
    let logged = super::log::mark_in(db, SHARD, mark.index)?;
    // The hash is missing where an earlier release or a test applied without a log.
    let same = logged.term == mark.term && (mark.hash.is_empty() || logged.hash == mark.hash);
    Ok((!same).then(|| {
        format!(
            "the state was made with another entry {} than the log holds: of term {}, not {}",
            mark.index, mark.term, logged.term
        )
    }))
}

fn judge_shard(db: &Database, mark: &ShardMark) -> Result<Option<String>, StoreError> {
    let Ok(shard) = u16::try_from(mark.shard) else {
        return Ok(Some(format!("shard {} in the watermark", mark.shard)));
    };
    let vote = super::read_vote(db, shard)?;
    if mark.vote.is_some_and(|durable| vote.is_none_or(|found| order(found) < order(durable))) {
        return Ok(Some(format!(
            "the vote {:?} was durable, but the database holds {vote:?}",
            mark.vote
        )));
    }
    let Some(durable) = &mark.last else { return Ok(None) };
    let floor = super::log::floor(db, shard)?;
    if floor.as_ref().is_some_and(|floor| floor.index > durable.index) {
        return Ok(None);
    }
    if floor.as_ref() == Some(durable) {
        return Ok(None);
    }
    let index = durable.index;
    let Some(value) = db.get(LOG, &keys::log(shard, index))? else {
        return Ok(Some(format!("log entry {index} was durable but is gone")));
    };
    match LogEntry::decode(index, &value) {
        Err(error) => Ok(Some(error.to_string())),
        Ok((_, hash)) if hash.as_slice() != durable.hash => {
            Ok(Some(format!("log entry {index} is not the one that was durable")))
        }
        Ok(_) => Ok(None),
    }
}

/// Votes by term, then whether committed: a database may be ahead of the watermark, never behind.
fn order(vote: Vote) -> (u64, bool) {
    (vote.term, vote.committed)
}
