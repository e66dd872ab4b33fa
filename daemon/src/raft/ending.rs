//! What the engine says of its own end when it was told to stop.
//!
//! While it stops, others still ask it: streams of other nodes, requests, the policy of the clock. It
//! calls each question that comes too late an error. That is no news, and nobody can do anything
//! about it. What it says of the store is news until the very end.

use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::{Level, Metadata};

/// Engines of this process that were started and not told to stop. A line of the log does not say whose
/// engine it is of: while another node of the process runs, all of them are news.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Where in the engine questions are handed to its core, and only that.
const ASKS_THE_CORE: &str = "openraft::raft";
/// The part of it that beats, and tells the core what came of it.
const HEARTBEATS: &str = "openraft::core::heartbeat";

/// To be called once an engine runs.
pub(super) fn has_begun() {
    RUNNING.fetch_add(1, Ordering::SeqCst);
}

/// To be called when it is told to stop, once.
pub(super) fn ends() {
    let before = RUNNING.fetch_sub(1, Ordering::SeqCst);
    assert!(before > 0, "an engine was stopped twice");
}

/// Whether a line of the log says only that the engine is not there any more, after it was told so.
pub(crate) fn is_expected(meta: &Metadata<'_>) -> bool {
    *meta.level() == Level::ERROR
        && speaks_of_the_core(meta.target())
        && RUNNING.load(Ordering::SeqCst) == 0
}

fn speaks_of_the_core(target: &str) -> bool {
    let within = |part| {
        let rest = target.strip_prefix(part);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    within(ASKS_THE_CORE) || within(HEARTBEATS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_the_core_is_expected_to_miss_it() {
        for quiet in
            ["openraft::raft", "openraft::raft::raft_inner", "openraft::core::heartbeat::worker"]
        {
            assert!(speaks_of_the_core(quiet), "{quiet}");
        }
        for told in [
            "openraft::raft_state",
            "openraft::core::raft_core",
            "openraft::core::sm::worker",
            "openraft::storage::callback",
            "openraft::replication::stream_state",
            "daemon::raft",
        ] {
            assert!(!speaks_of_the_core(told), "{told}");
        }
    }
}
