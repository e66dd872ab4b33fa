//! How the engine is set: when elections are held, and how much of the log is kept.

use openraft::{Config, SnapshotPolicy};

/// When elections are held; times in milliseconds. The lower limit of the election timeout must exceed the
/// time to connect and to answer, else every vote comes too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between heartbeats.
    pub heartbeat_ms: u64,
    /// Lower limit of the random election timeout.
    pub election_min_ms: u64,
    /// Upper limit; also how long a leader is believed in without a heartbeat.
    pub election_max_ms: u64,
    /// Whether this node may stand for election before
    /// [`Handle::allow_elections`](super::Handle::allow_elections) says so, once it is
    /// [attested](super::Handle::attested).
    pub from_the_start: bool,
    /// How much of the log is kept.
    pub kept: LogKept,
}

/// How much of the log is kept for nodes that were away; whoever lacks more gets a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogKept {
    /// After so many entries the log may be purged anew.
    pub every: u64,
    /// Entries that stay.
    pub entries: u64,
}

impl Default for LogKept {
    fn default() -> Self {
        Self { every: 5_000, entries: 20_000 }
    }
}

impl Timing {
    /// The engine's own configuration.
    ///
    /// # Errors
    /// When the times do not fit each other.
    pub(super) fn engine_config(self) -> Result<Config, openraft::ConfigError> {
        Config {
            cluster_name: "logd".to_owned(),
            // Not before it is attested.
            enable_elect: false,
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            enable_pre_vote: Some(true),
            // Else a restarted leader leads without an election and can serve old state.
            enable_leader_restore: Some(false),
            allow_log_reversion: None,
            // Lets a connected majority elect past a leader that only a bridge node still hears.
            quorum_loss_probe_interval: Some(2 * self.election_max_ms),
            max_payload_entries: 512,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.kept.every),
            max_in_snapshot_log_to_keep: self.kept.entries,
            purge_batch_size: self.kept.every.clamp(1, 1024),
            replication_lag_threshold: 64,
            // Our own idle limit per chunk is the one that counts.
            install_snapshot_timeout: 600_000,
            // The longest is what a peer that is back may wait for.
            backoff: "50ms 100ms 200ms ...200ms".to_owned(),
            broadcast_submitted_on_append: Some(true),
            ..Config::default()
        }
        .validate()
    }
}
