//! What a node finds in files: its configuration, and the seed of its store. Each key stands here once,
//! with its type, range and default (`parse`), and with what is shown to people (`template`, `manual`).
//!
//! Both are TOML, read strictly, validated once, then plain data.
//! A key that nobody knows, a value of the wrong type or out of range, and a file that is not there
//! are all reported together, each with line, column and what to write instead. Relative paths are
//! relative to the folder of the file, so a cluster's folder can be moved as a whole. Whoever holds
//! a [`Config`] may trust every value in it.
//!
//! Not here: whether the certificates fit together (`certs`), whether the data directory belongs to
//! this node (`store`), and settings that all nodes must agree on (the replicated state).

// What is done for one more variant is decided where it is added, not by whoever comes by.
#![deny(clippy::wildcard_enum_match_arm)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clock::LeapPolicy;
use clock::lead::{OnLoss, UnsyncedStart};
use proto::Name;

mod error;
mod files;
pub mod filter;
pub mod manual;
mod parse;
mod reader;
pub mod seed;
mod suggest;
pub mod template;

#[cfg(test)]
mod config_test;

pub use error::{ConfigError, Problem};
pub use files::read_bounded;

/// Everything that one node is told about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file that all this was read from.
    pub file: PathBuf,
    /// Name of the node; its certificate must carry the same.
    pub node: Name,
    /// Address and UDP port to serve on; the TCP port of the same number is that of `http`.
    pub listen: SocketAddr,
    /// `host:port` that other nodes and clients dial; the listen address unless given.
    pub advertise: String,
    /// Folder of the store. Only a seed (`init.toml`) makes a node create it.
    pub data_dir: PathBuf,
    /// Whether this node may ask to be taken back with a new store: when its own cannot be proven, or is
    /// gone. Not said: only while there is one that cannot be proven.
    pub rejoin: Option<bool>,
    /// Nodes of the cluster to join, `host:port`, in front of those that the token names.
    pub join: Vec<String>,
    /// File with the token to join with; only a node without store and seed looks at it.
    pub token_file: Option<PathBuf>,
    /// Certificates and keys.
    pub tls: Tls,
    /// Where time comes from.
    pub clock: Clock,
    /// Heartbeats and elections.
    pub raft: Raft,
    /// How long records are kept.
    pub retention: Retention,
    /// What is logged.
    pub log: Log,
    /// How programs without our protocol reach it.
    pub http: Http,
    /// What this node allows itself and its clients.
    pub limits: Limits,
}

/// Certificates and keys, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The cluster's authority.
    pub ca: PathBuf,
    /// The node's certificate.
    pub cert: PathBuf,
    /// The key that belongs to `cert`.
    pub key: PathBuf,
    /// The authority's key: lets this node sign certificates.
    pub ca_key: Option<PathBuf>,
    /// How long the certificates live that this node signs.
    pub cert_life: Duration,
}

impl Tls {
    /// Where the authority's key lies if another node has handed it to this one.
    #[must_use]
    pub fn handed_key(&self) -> PathBuf {
        self.key.with_extension("ca.key")
    }

    /// Where this node writes down who the members are, with their keys: whom it believes where its store
    /// is gone.
    #[must_use]
    pub fn members_file(&self) -> PathBuf {
        self.key.with_extension("members.toml")
    }
}

/// Where time comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// Whether time servers are asked.
    pub mode: ClockMode,
    /// A node whose clock may be wrong by more than this cannot be primary, in milliseconds. The
    /// cluster's setting begins with this and wins over it later.
    pub max_error_ms: u32,
    /// What a primary does when no voter's clock is good enough. As for `max_error_ms`.
    pub on_loss: OnLoss,
    /// What a node does that never was synchronised.
    pub unsynced_start: UnsyncedStart,
    /// How the servers treat leap seconds.
    pub leap: LeapPolicy,
    /// Seconds between two entries of the clock's history in the log.
    pub history_s: u32,
    /// The time servers; empty in local mode, never empty otherwise.
    pub servers: Vec<ClockServer>,
    /// Where this node itself serves, `host:port`: no time server is there.
    pub own: Vec<String>,
    /// What the file says of the cluster's settings.
    pub settings: FileSettings,
}

/// What a file says of settings that hold for the whole cluster. The first primary takes them, or
/// their defaults, from its file; later the file is only compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileSettings {
    /// `clock.max_error_ms`, if it is there.
    pub max_error_ms: Option<u32>,
    /// `clock.on_loss`, if it is there.
    pub on_loss: Option<OnLoss>,
    /// `retention.max_age`, if it is there, in milliseconds.
    pub max_age_ms: Option<u64>,
    /// `retention.max_records`, if it is there.
    pub max_records: Option<u64>,
    /// `retention.max_bytes`, if it is there.
    pub max_bytes: Option<u64>,
    /// `tls.cert_life`, if it is there, in seconds.
    pub cert_life_s: Option<u64>,
}

impl Retention {
    /// The longest age in milliseconds; 0 = none.
    #[must_use]
    pub fn max_age_ms(&self) -> u64 {
        self.max_age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Clock {
    /// A clock that asks nobody.
    #[must_use]
    pub fn local() -> Self {
        Self {
            mode: ClockMode::Local,
            max_error_ms: 100,
            on_loss: OnLoss::Degrade,
            unsynced_start: UnsyncedStart::Wait,
            leap: LeapPolicy::Smear,
            history_s: 60,
            servers: Vec::new(),
            own: Vec::new(),
            settings: FileSettings::default(),
        }
    }
}

/// Whether time servers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockMode {
    /// Ask the configured servers; bounds are computed from their answers.
    Sntp,
    /// Trust the machine's clock, with unknown bounds; every status says so.
    Local,
}

/// One time server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockServer {
    /// `host:port`.
    pub address: String,
    /// Seconds between polls.
    pub poll_s: u32,
    /// Whether it is ours: then it may be asked more often.
    pub private: bool,
    /// Longest wait for an answer, in milliseconds.
    pub timeout_ms: u32,
}

/// Heartbeats and elections. All nodes should have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raft {
    /// Milliseconds between heartbeats of a primary.
    pub heartbeat_ms: u32,
    /// Shortest silence before a backup stands for election, in milliseconds.
    pub election_min_ms: u32,
    /// Longest silence before a backup stands for election, in milliseconds.
    pub election_max_ms: u32,
}

/// How long records are kept. What goes first, by any of the three, is expired through the log. A
/// cluster begins with what its first primary's file says; later these are its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Longest age of a record; `None` keeps it.
    pub max_age: Option<Duration>,
    /// Most records; 0 = no limit.
    pub max_records: u64,
    /// Most bytes of records; 0 = no limit.
    pub max_bytes: u64,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A filter in the syntax of `tracing`, for example `info,net=debug`.
    pub filter: String,
}

/// HTTPS, for programs that do not speak our protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Whether it is served.
    pub enabled: bool,
    /// Address and TCP port; the same as those of `listen`, unless given.
    pub listen: SocketAddr,
    /// Certificate and key that are shown instead of the node's own, as PEM files.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// Whether metrics are told to everybody, and not to clients alone.
    pub open_metrics: bool,
}

impl Http {
    /// Served on an address with the node's own certificate.
    #[must_use]
    pub fn at(listen: SocketAddr) -> Self {
        Self { enabled: true, listen, pair: None, open_metrics: false }
    }
}

/// What this node allows itself and its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections served to clients at a time.
    pub client_connections: usize,
    /// Free space on the data disk below which sends are refused, in bytes.
    pub disk_reserve_bytes: u64,
    /// How fast the disk is read again in search of damage, in bytes a second; 0 = all of it in a day.
    pub scrub_bytes_per_s: u64,
}

impl Config {
    /// Reads and validates a file, and checks that the files it names can be read.
    /// `listen` replaces the address in the file.
    ///
    /// # Errors
    /// When the file cannot be read or anything in it is wrong; all problems at once.
    pub fn load(file: &Path, listen: Option<SocketAddr>) -> Result<Self, ConfigError> {
        let text = read_bounded(file)
            .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
        let (config, marks) = parse::parse(&text, file, listen)?;
        let problems = files::check(&config, &marks);
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::invalid(file, &text, problems))
        }
    }

    /// Reads and validates a file, and looks at none of those that it names: a node that has yet to
    /// join has no certificate.
    ///
    /// # Errors
    /// When the file cannot be read or anything in it is wrong; all problems at once.
    pub fn read(file: &Path, listen: Option<SocketAddr>) -> Result<Self, ConfigError> {
        let text = read_bounded(file)
            .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
        parse::parse(&text, file, listen).map(|(config, _)| config)
    }

    /// Validates a text as if it were read from `file`. Touches no file.
    ///
    /// # Errors
    /// When anything in it is wrong; all problems at once.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        parse::parse(text, file, None).map(|(config, _)| config)
    }

    /// What is allowed but rarely meant; one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.clock.mode == ClockMode::Local {
            out.push(
                "clock.mode is \"local\": no time server is asked, so nobody can say how wrong the \
                 stamps are"
                    .to_owned(),
            );
        }
        match self.clock.servers.len() {
            0 | 3.. => {}
            1 => {
                out.push("1 time server: what it says cannot be checked; use 3 or more".to_owned())
            }
            few => out.push(format!(
                "{few} time servers: no liar is tolerated, 3 or more are recommended"
            )),
        }
        out
    }
}
