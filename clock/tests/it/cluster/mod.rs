//! A cluster in one thread: the real stamp generator, ratchet, guard, peer check and leadership
//! policy, on a model of a replicated log, with clocks whose distance from true time is known.
//!
//! Everything hangs on one seed: delays, election timeouts, sync times, crashes. Time is true time;
//! nodes see it only through their [`clocks::Wall`], but for timers, which are monotonic.
//!
//! The log is Raft as far as stamps can tell: terms, ballots with pre-votes and a leader lease,
//! appends that overwrite what was never acknowledged, a quorum of synced copies, snapshots. What
//! was not synced is lost in a crash. [`audit::Audit`] sees everything and is seen by nobody.
//!
//! [`Rules`] can be switched off one by one: a suite that stays green then checks nothing.

pub(crate) mod audit;
pub(crate) mod clocks;
pub(crate) mod log;
pub(crate) mod node;
pub(crate) mod proposer;
pub(crate) mod raft;
mod shake;
pub(crate) mod world;

use clock::lead::OnLoss;

use crate::sim::Random;

pub(crate) const START_NS: u64 = 1_795_219_200_000_000_000;
pub(crate) const US: u64 = 1000;
pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Limit of the error bound of a primary.
pub(crate) const MAX_ERROR_NS: u64 = 100 * MS;
/// What every clock's reading is off by at most, and its claimed bound: 80 % of the limit.
pub(crate) const SKEW_NS: u64 = 80 * MS;

pub(crate) const HEARTBEAT_NS: u64 = 50 * MS;
pub(crate) const ELECTION_MIN_NS: u64 = 200 * MS;
pub(crate) const ELECTION_MAX_NS: u64 = 400 * MS;
/// How long a primary is believed in without a heartbeat.
pub(crate) const LEASE_NS: u64 = ELECTION_MAX_NS;
/// Between the clock exchanges of two nodes.
pub(crate) const EXCHANGE_NS: u64 = 100 * MS;
/// How long a peer counts as heard.
pub(crate) const HEARD_NS: u64 = SECOND;

/// The rules that the promises rest on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// A restart begins above the persisted ceiling.
    pub(crate) ceiling: bool,
    /// Apply raises a stamp that is not above the one before it.
    pub(crate) ratchet: bool,
    /// What was stamped under an old leadership is not appended.
    pub(crate) leader_guard: bool,
    /// Backups refuse live entries from the future.
    pub(crate) stamp_guard: bool,
    /// Bounds are stored as two numbers; else as one error to both sides of the stamp.
    pub(crate) two_bounds: bool,
    /// Commit-wait ends when true time is certainly later than the stamp by the limit of the error;
    /// else when it is certainly later than the stamp.
    pub(crate) full_wait: bool,
}

impl Rules {
    pub(crate) const ALL: Self = Self {
        ceiling: true,
        ratchet: true,
        leader_guard: true,
        stamp_guard: true,
        two_bounds: true,
        full_wait: true,
    };
}

/// A run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
    pub(crate) rules: Rules,
    pub(crate) on_loss: OnLoss,
    /// Between two sends of the clients.
    pub(crate) write_every_ns: u64,
    /// Longest time between stamping and submitting.
    pub(crate) think_ns: u64,
    /// One message in so many is lost.
    pub(crate) loss: u64,
    /// Longest time from a start to the first synchronisation.
    pub(crate) sync_ns: u64,
    /// Whether the clock of node 0 fails in every way while the cluster is shaken.
    pub(crate) bad_clock: bool,
}

impl Plan {
    pub(crate) const fn new(nodes: usize, seed: u64) -> Self {
        Self {
            nodes,
            seed,
            rules: Rules::ALL,
            on_loss: OnLoss::Degrade,
            write_every_ns: 8 * MS,
            think_ns: 2 * MS,
            loss: 1000,
            sync_ns: 300 * MS,
            bad_clock: false,
        }
    }
}

impl Random {
    /// From `low` up to, not including, `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.upto(high - low - 1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}
