//! Endpoints, links and the client over real QUIC on loopback.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

mod harness;

mod client;
mod follow;
mod join;
mod long_stream;
mod peers;
mod refusals;
mod spread;
mod switchboard;
