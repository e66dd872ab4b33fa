//! logd, the daemon: one node of a cluster.
//!
//! From the outside in: `process` turns a command line into an exit code around `start::run`;
//! `start` puts a node together; `server` takes connections; `node` tells requests apart; `proposer` stamps and orders what
//! changes something, `reader` answers what does not; `raft` replicates; `store` keeps.

// What is done for one more variant is decided where it is added, not by whoever comes by.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod cli;
pub mod exit;
mod front;
pub mod logging;
pub mod man;
pub mod node_identity;
pub mod notify;
pub mod process;
pub mod signals;

pub mod node;
pub mod server;
pub mod start;

mod alarms;
pub mod blocking;
pub mod chance;
mod check_store;
mod doorman;
mod earlier;
pub mod events;
mod http_counts;
pub mod janitor;
pub mod join;
pub mod late;
pub mod lead;
mod own_process;
pub mod pause;
pub mod peer_monitor;
pub mod proposer;
mod queue;
pub mod reader;
pub mod reconciler;
pub mod recover;
mod seeded;
pub mod sessions;
mod stages;
mod tally;
pub mod tasks;
mod throttle;
mod trust;
pub mod turns;
mod unanswered;

pub mod raft;
pub mod store;
pub mod time;
pub mod witness;
