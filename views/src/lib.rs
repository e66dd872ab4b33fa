//! What people and programs are shown: the answers of a cluster as JSON, lines and tables, the verdict
//! on its health with the exit code that it asks for, and the metrics.
//!
//! Names of fields, their order and the names of metrics are part of the product: scripts read them, and
//! one place knows them, for `logctl` and for whatever else shows a cluster.
//!
//! Invariant: nothing here reads a clock, a file or a terminal. Where "now" matters it is an argument.
//!
//! Not here: which problems there are, their sentences and their weight, since nodes tell each other of
//! them (`proto::problem`); writing, colours and asking (`ctl`).

// What is done for one more variant is decided where it is added, not by whoever comes by.
#![deny(clippy::wildcard_enum_match_arm)]

use proto::ExitCode;

pub mod certificate;
pub mod client;
pub mod clocks;
pub mod engine;
pub mod event;
pub mod gap;
pub mod group;
pub mod health;
pub mod history;
pub mod key;
pub mod member;
pub mod metrics;
pub mod monitoring;
pub mod node;
pub mod page;
pub mod place;
pub mod range;
pub mod read_hash;
pub mod record;
pub mod refusal;
pub mod setting;
pub mod settings;
pub mod show;
pub mod stages;
pub mod table;
pub mod verified;

pub use show::{Cell, Shape, Show, Tone};

/// Why an answer cannot be shown: only a node of another release sends one like it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// What a view says of something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwell {
    /// The exit code that it asks for.
    pub code: ExitCode,
    /// What is wrong, in one line.
    pub what: String,
    /// What to try, in one line.
    pub hint: String,
}
