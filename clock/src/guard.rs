//! The guard against stamps from the future: what a backup lets into its log.
//!
//! One bad clock at the primary could push the cluster's time away for ever, because no stamp may
//! lie below an earlier one. So a backup refuses live entries that no honest primary could have
//! sent: an honest one mints at most `earliest + 2 * max_error`, its earliest is not after true
//! time, and true time is not after the backup's own latest.
//!
//! Invariants:
//! * what is proven committed always passes, however it is stamped: else replicas would diverge;
//! * what a log holds already may be counted on from, see `log_floor` in `generator`;
//! * a refusal acts like a lost message. It can cost time, never safety.
//!
//! Not here: when to ask. Only a node whose claim is trusted and not contradicted by its peers
//! guards, in front of the engine, and never against a snapshot.

/// The highest `ns` of a live entry that a node with these numbers lets into its log.
///
/// `latest_ns`: true time is not after this, from the node's own reading. `log_floor_ns`: the
/// highest stamp that its log has held.
#[must_use]
pub fn stamp_limit_ns(latest_ns: u64, max_error_ns: u64, log_floor_ns: u64) -> u64 {
    latest_ns.saturating_add(max_error_ns.saturating_mul(2)).max(log_floor_ns)
}

/// An entry that is stamped beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} is stamped {} ms beyond what this node's clock allows", self.by_ns().div_ceil(1_000_000))]
pub struct StampInFuture {
    /// Its index in the log.
    pub index: u64,
    /// Its stamp, nanoseconds since 1970.
    pub stamp_ns: u64,
    /// The limit that it passes, nanoseconds since 1970.
    pub limit_ns: u64,
}

impl StampInFuture {
    /// How far it lies beyond the limit, nanoseconds.
    #[must_use]
    pub fn by_ns(&self) -> u64 {
        self.stamp_ns.saturating_sub(self.limit_ns)
    }
}

/// Looks through the entries of one append request, in their order: `(index, ns of the entry's
/// last stamp)`, entries without a stamp left out. `commit_index` is the request's own, `limit_ns`
/// comes from [`stamp_limit_ns`]. Committed entries raise the limit for those after them, as they
/// will raise the log's floor.
///
/// # Errors
/// The first entry that may not pass; then nothing of the request may.
pub fn check(
    entries: impl IntoIterator<Item = (u64, u64)>,
    commit_index: u64,
    limit_ns: u64,
) -> Result<(), StampInFuture> {
    let mut limit_ns = limit_ns;
    for (index, stamp_ns) in entries {
        if index <= commit_index {
            limit_ns = limit_ns.max(stamp_ns);
        } else if stamp_ns > limit_ns {
            return Err(StampInFuture { index, stamp_ns, limit_ns });
        }
    }
    Ok(())
}
