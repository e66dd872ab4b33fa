//! The replicated log on disk: segments, group commit, marks and recovery.
//!
//! ```text
//! disk      trait Disk, and the real one    memory   the one that loses what was not synced
//! format    places, votes, marks            record   one record as bytes
//! segment   a file and its label            segments those that are open, and ready
//! replay    the rule of recovery            verdict  what it can find
//! stream    writing groups                  front    what is queued, and the newest entries
//! open      creating and opening            log      what can be asked
//! ```
//!
//! All shards of a node share one stream of records over segments of fixed size. What is queued is
//! written as a *group*: one write, one sync. A group is begun only after everything before it is
//! durable, and begins with a mark that says so; so whatever is read of a later group proves the
//! earlier ones, and the mark costs no sync of its own.
//!
//! Invariant: a sector that holds something durable is never written again.
//!
//! Invariant: the first write or sync that fails ends the log. A failed sync marks pages clean, so
//! the next one proves nothing.
//!
//! Invariant: a segment is in its place, durably, before the one before it is sealed, and the seal
//! is durable before anything is written behind it. No name comes twice.
//!
//! Knows `proto` for the chain hash and nothing else of the product: no engine, no database, no
//! runtime. It reads no clock and starts no thread; callers say when to flush, to mark and to make
//! segments.

pub mod disk;
mod format;
mod front;
mod index;
mod log;
pub mod memory;
mod open;
mod record;
mod replay;
mod segment;
mod segments;
mod stream;
mod verdict;

pub use self::disk::{Disk, DiskFile, FileDisk};
pub use self::format::{Entry, FORMAT, Mark, Place, Position, ShardMark, StoreId, Vote};
pub use self::log::{Durable, Found, Log, Options, Ticket};
pub use self::segments::Upkeep;
pub use self::verdict::{DamageKind, Finding, LogError, Rule};
