//! Tests of the state machine: golden scripts in `testscripts/`, and one file per property.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod access;
mod arbitrary;
mod audit;
mod cluster;
mod cluster_history;
mod golden;
mod world;

mod damage;
mod decode_any_bytes;
mod dense_seqs;
mod grouping;
mod groups_are_a_scan;
mod kv_is_a_map;
mod many;
mod members_hold;
mod modes_are_a_scan;
mod old_entries;
mod once;
mod order;
mod page_is_a_scan;
mod past;
mod retention_bounds;
mod shares;
mod stamps_ascend;
