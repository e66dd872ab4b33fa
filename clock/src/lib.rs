//! Time that says how exact it is: the hybrid logical clock, stamps with error bounds, and the
//! arithmetic that turns SNTP exchanges into an interval which contains UTC.
//!
//! ```text
//! packet -> sample -> filter -> select -> discipline -> reading -> generator -> stamp
//! 48 bytes  judged   per server  hull    bound, slew    D, [e, l]  floor, cap   20 bytes
//! ```
//! `source` is one server with its schedule (`poll`), `tracker` all of them with the clock. How fast
//! bounds age is measured by `drift`; what a leap second does to them is in `leap`.
//! `peer` compares it with the other nodes' clocks, `lead` says who may lead with it, `guard` what
//! a backup accepts from the primary, `release` when a ceiling may be put down, `overlap` which records' order in real time is unknown.
//!
//! Pure: no I/O and no clock of its own; raw counter values, packets and randomness come in as
//! arguments. Nanoseconds everywhere, unless a name ends in another unit.
//!
//! Not here: sockets and the operating system's clocks (`daemon::time`).

// What is done for one more variant is decided where it is added, not by whoever comes by.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod hlc;
pub mod stamp;

pub mod generator;

pub mod interval;
pub mod leap;
pub mod reading;
pub mod state;

pub mod packet;
pub mod sample;

pub mod filter;
pub mod poll;
pub mod source;

pub mod select;

pub mod drift;

pub mod discipline;
mod health;
pub mod tracker;
pub mod turned;

pub mod guard;
pub mod lead;
pub mod overlap;
pub mod peer;
pub mod release;

pub use generator::{HlcClock, TickError};
pub use hlc::{Hlc, HlcError};
pub use interval::Interval;
pub use leap::{LeapNotice, LeapPolicy};
pub use reading::{ClockView, Reading};
pub use sample::{RawExchange, Reject, Sample, Scale};
pub use source::{Answer, Failure, Source, Verdict};
pub use stamp::Stamp;
pub use state::ClockState;
pub use tracker::Tracker;
