//! Three kinds of trouble: a refusal is an answer, equal on every node; unreadable state or a
//! broken invariant is not, and stops the node.

use clock::Hlc;
use proto::{ErrorCode, Failure};

use crate::rows::view::{Table, ViewError};

/// The stored state cannot be read or is not what this crate wrote.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The store failed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A row does not parse, or one that must exist is missing.
    #[error("table {table:?}: {what}")]
    Corrupt {
        /// Where.
        table: Table,
        /// What is wrong.
        what: &'static str,
    },
}

impl StateError {
    pub(crate) fn corrupt(table: Table, what: &'static str) -> Self {
        Self::Corrupt { table, what }
    }
}

/// Applying an entry failed in a way that no client can be told about: the node must stop, and the
/// machine that returned it must be dropped with its changes.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The state cannot be read.
    #[error("reading the state")]
    State(#[from] StateError),
    /// The entry does not follow the last one applied.
    #[error("entry {index} of term {term} after entry {last_index} of term {last_term}")]
    Order {
        /// Index of the entry.
        index: u64,
        /// Its term.
        term: u64,
        /// Index of the last applied entry.
        last_index: u64,
        /// Its term.
        last_term: u64,
    },
    /// A final stamp is not later than the one before it.
    #[error("entry {index}: stamp {stamp} after {last}")]
    Stamp {
        /// Index of the entry.
        index: u64,
        /// The stamp.
        stamp: Hlc,
        /// The last one.
        last: Hlc,
    },
}

/// Why a read (or, inside this crate, a command) gives no result.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The caller is told so.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<ViewError> for QueryError {
    fn from(error: ViewError) -> Self {
        Self::State(error.into())
    }
}

impl QueryError {
    /// The answer for the caller; unreadable state becomes `Integrity`.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Refused(failure) => failure,
            Self::State(error) => Failure::new(ErrorCode::Integrity, error),
        }
    }
}

pub(crate) fn invalid(message: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorCode::Invalid, message)
}

pub(crate) fn denied(message: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorCode::Denied, message)
}

pub(crate) fn not_found(message: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorCode::NotFound, message)
}

pub(crate) fn conflict(message: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorCode::Conflict, message)
}
