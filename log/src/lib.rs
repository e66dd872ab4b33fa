//! The replicated log on disk: segments, group commit, marks and recovery.
//!
//! ```text
//! disk      trait Disk, and the real one    memory   the one that loses what was not synced
//! format    places, votes, marks            record   one record as bytes
//! segment   a file and its label            segments those that are open, and ready
//! replay    the rule of recovery            verdict  what it can find
//! stream    writing groups                  front    what is queued, and the newest entries
//! open      creating and opening            read     entries and places
//! check     all of the disk, again
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
//! How the daemon's store is to use it (it does not yet):
//!
//! * `Store::create`: [`Log::create`] in `store.new/log`, with the identity's nonce as [`StoreId`].
//! * `Store::open_locked`, after the lock and before the database: [`Log::open`] with the mark that
//!   the watermark file keeps. [`LogError::Damaged`] becomes `Evidence::mark` with the kind of the
//!   [`Finding`], [`LogError::Mixed`] is repairing without a mark, [`LogError::Newer`] and
//!   [`LogError::Disk`] are the environment's. `judge_applied` asks [`Log::floor`] and
//!   [`Log::place_at`] instead of the database; a state that is ahead of the log's end is judged as
//!   one that a snapshot brought.
//! * `Writer::submit` queues ([`Log::append`], [`Log::vote`], [`Log::truncate_after`],
//!   [`Log::purge_to`]) and keeps the callback under its [`Ticket`]; the writer's thread alone calls
//!   [`Log::flush`] and answers what the ticket covers. The second thread goes. When the queue was
//!   empty for 10 ms and [`Log::wants_mark`], it marks; when [`Log::has_spare`] says no, another
//!   thread calls [`Log::upkeep`]. Once a second `Evidence::advance` writes [`Mark::to_bytes`].
//! * `Tail`, `store/log.rs` and the column family `log` go: [`Log::range`], [`Log::entries`] and
//!   [`Log::place_at`] answer for queued entries, too, and `applied_mark` finds the hash in memory.
//! * The database holds the state alone, without a write-ahead log, flushed atomically over its
//!   families. Apply waits for nothing here: [`Log::place_at`] knows the chain hash of what is queued,
//!   and a state that is ahead of the log after a crash is like one that a snapshot brought. A purge
//!   waits for the flush that covers it. The ceiling and the lives move to the watermark file.
//! * A store of the old kind at its first start: its log is read with `log::bounds`, written to
//!   `log.new` (floor first, then entries and vote, one flush, one mark), renamed to `log`, the
//!   folder synced, and only then deleted from the database.
//!
//! Knows `proto` for the chain hash and nothing else of the product: no engine, no database, no
//! runtime. It reads no clock and starts no thread; callers say when to flush, to mark and to make
//! segments.

mod check;
pub mod disk;
mod format;
mod front;
mod index;
mod log;
pub mod memory;
mod open;
mod read;
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
