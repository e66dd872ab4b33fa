//! The simulator: whole nodes, their clients and the faults of disks, networks, clocks and processes, in
//! one thread and in virtual time, all from one seed.
//!
//! ```text
//! shape    what a seed draws: nodes, clients, which faults and how often
//! world    the nodes of one run, what happens to them, and the verdict at the end
//! machine  one machine: its disk, its clock, and the process on it
//! cluster  names, keys and configurations of the nodes
//! client   senders and readers, and what they were told
//! time_servers  who tells the nodes the time, and lies
//! fault    the faults, and how each is done and ends
//! audit    what must hold at every moment, by what lies on all disks and passes all wires
//! verdict  what must hold at the end, shared with the tests of real processes
//! trace    what happened, in order: the same for the same seed
//! chance.c where all chance and the date of the process come from
//! ```
//!
//! A node here is put together by the code that does it in the process (`daemon::start`), from other
//! parts: a switchboard for the network, a disk in memory that loses what was not synced, a clock that
//! follows the runtime's virtual time. The engine, the log, the rules, the dispatch are the real ones.
//!
//! Every run has a process of its own: what a process counts for itself, in any library, begins anew.
//!
//! Not simulated: QUIC, RocksDB, and threads that run at the same time.

// Whole nodes are deep: a request passes all of their layers in one future.
#![recursion_limit = "256"]

pub mod audit;
pub mod client;
pub mod cluster;
pub mod fault;
pub mod machine;
pub mod shape;
pub mod time_servers;
pub mod trace;
pub mod verdict;
pub mod world;

pub use log::memory::Random;
pub use world::{Order, Report, run};
