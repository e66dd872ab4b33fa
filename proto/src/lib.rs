//! What is said on the wire and kept on disk: names, limits, records, messages and error codes.
//!
//! Pure: nothing here opens a socket, reads a clock or draws a random number. Messages are
//! protobuf structs written by hand for `prost`, so no compiler for `.proto` files is needed; the
//! tag numbers are the format and never change their meaning.
//!
//! Not here: how frames travel (`net`), what commands do (`model`), what a log entry looks like
//! inside (`model::command`).

// What is done for one more variant is decided where it is added, not by whoever comes by.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod access;
pub mod address;
pub mod admin;
pub mod attest;
pub mod chain;
pub mod clock_report;
pub mod error;
pub mod event;
pub mod exit_code;
pub mod frame;
pub mod group;
pub mod identity;
pub mod join;
pub mod kv;
pub mod life;
pub mod limits;
pub mod lineage;
pub mod member;
pub mod name;
mod op;
pub mod overview;
pub mod peer;
pub mod problem;
pub mod proof;
pub mod read;
pub mod record;
pub mod registry;
pub mod repair;
pub mod settings;
pub mod share;
pub mod slots;
pub mod stage;
pub mod token;
pub mod wire;

pub use error::{Action, ErrorCode, Executed, Failure, Whose};
pub use exit_code::ExitCode;
pub use identity::{ClusterId, Identity, Role};
pub use name::{MessageId, Name, Stream};
pub use op::Answering;
pub use problem::{Gravity, Problem, ProblemCode};
pub use proof::Proof;
pub use record::{Header, Record, Tombstone};
