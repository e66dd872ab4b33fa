//! HTTP: the parameters behind the question mark, the headers and bodies that ask for something.

mod change;
mod message;
mod query;
mod read;

use std::fmt;

use proto::{ErrorCode, Failure};

pub use change::{GroupPart, kv_change, precondition, setting, verify, version};
pub use message::{Drafted, posted, put};
pub use query::{Query, segment};
pub use read::{Reading, Report, events, messages, report};

/// A refusal of what was asked.
pub(crate) fn invalid(what: impl fmt::Display) -> Failure {
    Failure::new(ErrorCode::Invalid, what)
}
