//! The replicated log on disk: segments, group commit, marks and recovery.
//!
//! ```text
//! disk      trait Disk, and the real one    memory   the one that loses what was not synced
//! format    places, votes, marks            record   one record as bytes
//! segment   a file and its label            segments those that are open, and ready
//! replay    the rule of recovery            verdict  what it can find
//! stream    writing groups                  front    what is queued, and the newest entries
//! open      creating and opening            read     entries and places
//! check     all of the disk, again         scrub     the same in small pieces
//! log       what can be asked, and group commit
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
//! How it is meant to be used, as the daemon's store does:
//!
//! * Whoever has something queues it ([`Log::append`], [`Log::vote`], [`Log::truncate_after`],
//!   [`Log::purge_to`]) and keeps what waits under its [`Ticket`]. One thread calls [`Log::flush`] and
//!   answers what the ticket covers. When nothing came for 10 ms and [`Log::wants_mark`], it marks.
//! * Another thread calls [`Log::upkeep`] when [`Log::wants_upkeep`], purges, and keeps
//!   [`Mark::to_bytes`] elsewhere now and then: an opening with it notices a log that lost its end.
//! * [`Log::range`], [`Log::entries`] and [`Log::place_at`] answer for what is queued, too. So a state
//!   may be made of entries that are not durable here yet, if others say that they are committed. After
//!   a crash it may be ahead of the log, like one that a snapshot brought.
//! * A purge waits until the state on the disk holds what the entries did.
//!
//! Knows `proto` for the chain hash and nothing else of the product: no engine, no database, no
//! runtime. It reads no clock and starts no thread; callers say when to flush, to mark and to make
//! segments.

// What is done for one more variant is decided where it is added, not by whoever comes by.
#![deny(clippy::wildcard_enum_match_arm)]

mod check;
pub mod disk;
pub mod facts;
mod format;
mod front;
mod index;
mod log;
pub mod memory;
mod open;
mod read;
mod record;
mod replay;
mod scrub;
mod segment;
mod segments;
mod stopped;
mod stream;
mod verdict;

pub use self::disk::{Disk, DiskFile, FileDisk};
pub use self::format::{Entry, FORMAT, Mark, Place, Position, ShardMark, StoreId, Vote};
pub use self::log::{Durable, Found, Log, Options, Ticket};
pub use self::scrub::{Piece, Scrub};
pub use self::segments::Upkeep;
pub use self::stopped::Stopped;
pub use self::verdict::{DamageKind, Finding, LogError, Rule};
