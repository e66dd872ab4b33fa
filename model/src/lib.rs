//! The replicated state machine: what a log entry carries, what applying it changes, and how the
//! result is read.
//!
//! Everything that changes replicated state is a [`Command`]; applying it is a pure function of the
//! stored state and the entry. Time, ids and names come from the command, never from this machine,
//! and nothing here depends on the order of an unordered map. So every replica that applied the
//! same entries holds the same bytes and the same [digest](Stats::digest).
//!
//! Not here: the log and its terms (`daemon::raft`), where rows lie on disk and which shard and
//! generation stand in front of their keys (`daemon::store`), who may connect (`certs`, `net`).

pub mod command;
mod wire;

pub mod check;
pub mod error;
pub mod hash;
pub mod slots;
pub mod view;

mod keys;
mod rows;

mod digest;
mod overlay;

mod admins;
pub mod audit;
mod cursors;
mod dedup;
mod delete;
mod events;
mod floors;
mod gateways;
mod groups;
mod homes;
mod kv;
pub mod machine;
mod member_check;
mod member_rows;
mod members;
mod notice;
mod registry;
pub mod retention;
mod send;
mod settings;
mod tokens;

mod blocks;
mod find;
mod membership_spans;
mod page;
pub mod past;
pub mod query;
mod source;
mod window;

pub use check::{ADMIN, check};
pub use command::{Batch, Caller, Command, CommandOp, DecodeError, stamps_of};
pub use error::{ApplyError, QueryError, StateError};
pub use machine::{Machine, Outcome};
pub use query::{Client, Found, Page, Query, Reader, Stats};
pub use slots::{SlotTable, slot_of};
pub use view::{Change, Direction, MemoryView, Table, View, ViewError};

/// The shard that holds the records; version 1 has no other.
pub const SHARD: u16 = 1;
