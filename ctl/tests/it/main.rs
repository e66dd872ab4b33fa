//! The binary as a script sees it: standard output, standard error, exit codes, and the closing
//! line of every failure. Where an answer is needed, a fake node gives it over real QUIC with the
//! cluster's own certificates.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod node;
mod user;

mod alone;
mod asking;
mod clocks;
mod completing;
mod doctoring;
mod gaps;
mod interrupting;
mod lost_output;
mod messages;
mod nodes;
mod registering;
mod shell;
mod spreading;
mod system;
mod tail;
mod talking;
mod watching;
