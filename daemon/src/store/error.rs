//! What can go wrong with the store, by what the caller must do.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use log::LogError;
use model::StateError;
use rocksdb::ErrorKind;

use super::environment::Trouble;
use super::watermark::{Damage, DamageKind};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused a read or write; the disk is in doubt and the process must end.
    #[error("the database failed while {doing}: {source}")]
    Database {
        /// What was attempted.
        doing: &'static str,
        /// What RocksDB said.
        source: rocksdb::Error,
    },
    /// A file beside the database failed.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk refused the log.
    #[error("the log failed while {doing}: {source}")]
    Log {
        /// What was attempted.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something that was written is not what is read: the node's evidence does not fit.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The disk refuses to give back something that was written, also when it is asked again.
    #[error("{0}")]
    Unreadable(String),
    /// The database does not open although nothing stands in the way: it lacks a file. Whoever puts
    /// that back has the store that it was, so nothing is noted in it.
    #[error("a file of the database is missing: {0}")]
    Incomplete(String),
    /// Something stands in the way that is not the store's fault; nothing was changed.
    #[error("{what}")]
    Environment {
        /// What a person can do about it.
        trouble: Trouble,
        /// What stands in the way of what.
        what: String,
    },
    /// What is committed here contradicts what is committed elsewhere: both stay as they are until
    /// a person decides.
    #[error("two histories: {0}")]
    TwoHistories(String),
    /// The store belongs to another node or cluster.
    #[error("{0}")]
    Foreign(String),
    /// There is no store and no seed for one.
    #[error("{0}")]
    NotAdmitted(String),
    /// What another node sent is not what it should be; this store is as it was.
    #[error("{0}")]
    Refused(String),
    /// The store failed earlier and takes nothing any more.
    #[error("the store stopped: {0}")]
    Stopped(String),
}

impl StoreError {
    /// Wraps a database error with what was attempted. A block, a log or a table that is not what
    /// was written is damage; all else is a disk or a database that refuses.
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(rocksdb::Error) -> Self {
        move |source| {
            if matches!(source.kind(), ErrorKind::Corruption) {
                Self::Damaged(format!("the database failed while {doing}: {source}"))
            } else {
                Self::Database { doing, source }
            }
        }
    }

    /// Damage of the log, by its kind.
    pub(crate) fn of_log(finding: &log::Finding) -> Damage {
        let kind = match finding.kind() {
            log::DamageKind::Corrupt => DamageKind::Corrupt,
            log::DamageKind::Lost => DamageKind::Lost,
            log::DamageKind::Contradicted => DamageKind::Contradicted,
        };
        Damage::new(kind, finding)
    }

    /// Wraps a file error with its path.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

/// What an error says, itself or in a cause, of something that was written and is not what is read.
/// No new start heals that, while a disk that refuses may do better the next time.
pub(crate) fn damage_in(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(StoreError::Damaged(found)) = error.downcast_ref() {
            return Some(found.clone());
        }
        if matches!(error.downcast_ref(), Some(StateError::Corrupt { .. })) {
            return Some(error.to_string());
        }
        // An error of the system that wraps one of ours passes it over in `source`.
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        Self::other(error)
    }
}

impl From<LogError> for StoreError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Disk { doing, source } => {
                let known = source.raw_os_error().map(io::Error::from_raw_os_error);
                let source = known.unwrap_or_else(|| io::Error::other(source));
                Self::Log { doing, source }
            }
            LogError::Damaged(finding) => Self::Damaged(finding.to_string()),
            LogError::Newer(_) => {
                Self::Environment { trouble: Trouble::NewerFormat, what: error.to_string() }
            }
            LogError::Mixed { .. } | LogError::Exists => Self::Foreign(error.to_string()),
            LogError::Stopped(reason) => Self::Stopped(reason.to_string()),
            LogError::TooLarge { .. } => Self::Refused(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{ApplyError, ViewError};

    use super::*;

    /// Seen to fail with the first cause passed over, and with the last one alone looked at.
    #[test]
    fn damage_is_found_below_what_wraps_it() {
        let damaged = || StoreError::Damaged("row 7".to_owned());
        let wrapped = ApplyError::State(ViewError::new(damaged()).into());
        for error in [io::Error::from(damaged()), io::Error::other(wrapped)] {
            assert_eq!(damage_in(&error).as_deref(), Some("row 7"), "{error:?}");
        }
        let row = StateError::Corrupt { table: model::Table::Records, what: "too short" };
        let row = io::Error::other(ApplyError::State(row));
        assert!(damage_in(&row).is_some_and(|text| text.contains("too short")), "{row:?}");
        let others =
            [io::Error::from(StoreError::Stopped("closed".to_owned())), io::Error::other("?")];
        for error in others {
            assert_eq!(damage_in(&error), None);
        }
    }
}
