//! The replicated state machine: what a log entry carries, what applying it changes, and how the
//! result is read.
//!
//! Everything that changes replicated state is a [`Command`]; applying it is a pure function of the
//! stored state and the entry. Time, ids and names come from the command, never from this machine,
//! and nothing here depends on the order of an unordered map. So every replica that applied the
//! same entries holds the same bytes and the same [digest](Stats::digest).
//!
//! Three floors, each of which stands on those before it: `rows`, the formats; `rules`, which change
//! rows; [`query`], which reads them.
//!
//! Not here: the log and its terms (`daemon::raft`), where rows lie on disk and which shard and
//! generation stand in front of their keys (`daemon::store`), who may connect (`certs`, `net`).

// What is done for one more variant is decided where it is added, not by whoever comes by.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod query;
mod rows;
mod rules;

pub use query::{audit, past, replicas};
pub use rows::{command, error, hash, slots, view};
pub use rules::{check, machine, retention};

pub use query::{Client, Found, Page, Query, Reader, Stats};
pub use rows::command::{ADMIN, Batch, Caller, Command, CommandOp, DecodeError};
pub use rows::error::{ApplyError, QueryError, StateError};
pub use rows::slots::{SlotTable, slot_of};
pub use rows::view::{Change, Direction, MemoryView, Table, View, ViewError};
pub use rows::wire::stamps_of;
pub use rules::check::check;
pub use rules::machine::{Carried, Machine, Outcome};

/// The shard that holds the records; version 1 has no other.
pub const SHARD: u16 = 1;
