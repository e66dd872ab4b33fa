//! The verdict at start, before any Raft exists: is what this store holds at least what it once
//! said was durable?
//!
//! The log judges itself, by what lies in it and by the mark that the watermark file keeps. Here is
//! what the other parts say, and whether they belong together.

use std::path::Path;

use log::{LogError, Place};

use super::db::Database;
use super::format::{AppliedState, FORMAT, Identity, decode, place, store_id};
use super::keys::{self, MetaKind};
use super::media::Media;
use super::watermark::{Damage, DamageKind, Watermark, newer};
use super::{RaftLog, StoreError, environment};

/// Why a store is not taken as intact.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It is damaged, and nobody knew: what was expected, and what was found.
    Damaged(Damage),
    /// It proves nothing, and no mark is to be made: it carries one, or whoever has changed its files
    /// can put them right.
    Unmarked(Damage),
    /// An error, which may tell of damage, too.
    By(StoreError),
}

impl Refused {
    /// What the parts of a store say contradicts each other.
    pub(crate) fn contradicted(found: impl std::fmt::Display) -> Self {
        Self::Damaged(Damage::new(DamageKind::Contradicted, found))
    }

    /// Something that was durable is gone.
    pub(crate) fn lost(found: impl std::fmt::Display) -> Self {
        Self::Damaged(Damage::new(DamageKind::Lost, found))
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Incomplete(_)) {
            return Self::Unmarked(Damage::new(DamageKind::Lost, error));
        }
        Self::By(error)
    }
}

impl From<LogError> for Refused {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Damaged(finding) => Self::Damaged(StoreError::of_log(&finding)),
            LogError::Mixed { .. } => Self::Unmarked(Damage::new(DamageKind::Contradicted, error)),
            LogError::Disk { .. }
            | LogError::Newer(_)
            | LogError::Stopped(_)
            | LogError::TooLarge { .. }
            | LogError::Exists => Self::By(error.into()),
        }
    }
}

/// Opens the database of a store, which `open` does with its path.
///
/// # Errors
/// `Damaged` if it cannot be read; `Environment` and its like if something else stands in the way.
pub(crate) fn open(
    store: &Path,
    open: impl Fn(&Path) -> Result<Database, StoreError>,
) -> Result<Database, StoreError> {
    let path = store.join("db");
    // Opening would make an empty folder.
    if !path.try_exists().map_err(StoreError::file(&path))? {
        return Err(StoreError::Incomplete(format!("{} is gone", path.display())));
    }
    let refused = match open(&path) {
        Ok(db) => return Ok(db),
        Err(refused) => refused,
    };
    // It does not say in a type what it lacks. If nothing stands in the way, a file is missing, or the
    // disk does not give it back.
    let StoreError::Database { .. } = &refused else { return Err(refused) };
    environment::look(store)?;
    open(&path).map_err(|error| match (&error, environment::unreadable(store)) {
        (StoreError::Database { .. }, Some(found)) => StoreError::Unreadable(found),
        (StoreError::Database { .. }, None) => StoreError::Incomplete(error.to_string()),
        _ => error,
    })
}

/// Opens the log of a store, which must hold what the watermark says was durable.
///
/// # Errors
/// When it is damaged, or something stands in the way. Nothing was changed then.
pub(crate) fn open_log(
    media: &Media,
    identity: &Identity,
    watermark: &Watermark,
) -> Result<RaftLog, LogError> {
    let claimed = log::Mark::from_bytes(&watermark.mark);
    let (disk, options) = media.log();
    let (log, found) = log::Log::open(disk, store_id(identity), options, claimed.as_ref())?;
    if found != log::Found::default() {
        tracing::info!(
            records = found.dropped,
            "the end of the log was never acknowledged and is dropped"
        );
    }
    Ok(log)
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

/// Judges a store whose database opened, all but its log.
///
/// # Errors
/// When it is not intact.
pub(crate) fn judge(
    db: &Database,
    identity: Option<&Identity>,
    watermark: Option<&Watermark>,
) -> Result<Identity, Refused> {
    let identity = identity.ok_or_else(|| Refused::lost("the database carries no identity"))?;
    let watermark =
        watermark.ok_or_else(|| Refused::lost("no valid slot in the watermark file"))?;
    if watermark.identity.as_ref() != Some(identity) {
        let found = format!(
            "the watermark belongs to {}, but the database to {identity}: two stores are mixed",
            watermark.identity.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string)
        );
        return Err(Refused::Unmarked(Damage::new(DamageKind::Contradicted, found)));
    }
    if !watermark.mark.is_empty() && log::Mark::from_bytes(&watermark.mark).is_none() {
        let damage = Damage::new(DamageKind::Corrupt, "the watermark's mark of the log");
        return Err(Refused::Damaged(damage));
    }
    if db.sequence() < watermark.db_sequence {
        return Err(Refused::lost(format_args!(
            "{} changes of the database were durable, but it holds {}",
            watermark.db_sequence,
            db.sequence()
        )));
    }
    Ok(identity.clone())
}

/// How a state goes together with the log beside it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fits {
    /// The log holds the entry that the state stands at, or is purged up to it.
    Together,
    /// The state holds more than the log, or a later history of what the log holds uncommitted: the
    /// log goes on behind the state, like behind a snapshot.
    Ahead(Place),
    /// They contradict each other.
    Not(String),
}

/// Whether the state was made from this log. It may be behind the log's end: what is missing is
/// applied again. And it may be ahead of it: what a majority holds is applied, whatever this node's own
/// disk has of it, and the database flushes when it likes. All that is committed, and nothing that this
/// node has acknowledged by itself is missing then, so it is like a snapshot that was installed.
///
/// # Errors
/// When the log cannot be read.
pub(crate) fn fits(
    floor: Option<Place>,
    place_at: impl Fn(u64) -> Result<Option<Place>, StoreError>,
    applied: &AppliedState,
) -> Result<Fits, StoreError> {
    let Some(mark) = &applied.last else {
        return Ok(floor.map_or(Fits::Together, |floor| {
            let index = floor.index;
            Fits::Not(format!("the log begins after entry {index}, but the state holds nothing"))
        }));
    };
    if let Some(floor) = floor.filter(|floor| floor.index > mark.index) {
        return Ok(Fits::Not(format!(
            "the state holds entries up to {}, but those up to {} are purged",
            mark.index, floor.index
        )));
    }
    let stands_at = place(mark)?;
    let Some(logged) = place_at(mark.index)? else { return Ok(Fits::Ahead(stands_at)) };
    // The hash is missing where an earlier release or a test applied without a log.
    if logged.term == mark.term && (mark.hash.is_empty() || logged == stands_at) {
        return Ok(Fits::Together);
    }
    if logged.term < mark.term {
        // Left of a primary that lost its office: it was replaced in memory, and not on the disk yet.
        return Ok(Fits::Ahead(stands_at));
    }
    Ok(Fits::Not(format!(
        "the state was made with another entry {} than the log holds: of term {}, not {}",
        mark.index, mark.term, logged.term
    )))
}
