//! What can go wrong with the store, by what the caller must do.

use std::path::PathBuf;

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
        source: std::io::Error,
    },
    /// Something that was written is not what is read: the node's evidence does not fit.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The store belongs to another node or cluster, or to a newer release; or there is none.
    #[error("{0}")]
    Foreign(String),
    /// There is no store and no seed for one.
    #[error("{0}")]
    NotAdmitted(String),
    /// The store failed earlier and takes nothing any more.
    #[error("the store stopped: {0}")]
    Stopped(String),
}

impl StoreError {
    /// Wraps a database error with what was attempted.
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(rocksdb::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    /// Wraps a file error with its path.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

impl From<StoreError> for std::io::Error {
    fn from(error: StoreError) -> Self {
        Self::other(error)
    }
}
