//! How the process ends: the exit codes of `logd`, and the error that carries one.

use std::fmt;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::logging::LoggingError;
use crate::proof::ProofError;
use crate::seed::SeedError;

/// The exit codes of `logd`; part of the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was asked to stop and did.
    Stopped = 0,
    /// Anything else: a disk that refuses, a second signal before the end, a bug.
    Other = 1,
    /// The command line or the configuration is wrong. Starting again will not help.
    Config = 2,
    /// The address is in use, or does not belong to this machine; or none of the nodes answers
    /// that it was told to join.
    Network = 3,
    /// The certificates do not fit: to each other, to the node's name, or in time. Or the token
    /// with which it would join is not good, or of another cluster.
    Certificates = 4,
    /// It may not join: its name is taken, or its release and the cluster's do not fit.
    Conflict = 6,
    /// Whether it joined is not known; the same command again is safe.
    Unknown = 7,
    /// The nodes that it would join have no quorum.
    NoQuorum = 11,
    /// Its clock is too far from the clocks of those that it would join.
    Clock = 12,
    /// The store is damaged, belongs to another node or cluster, is of a newer format, or there is
    /// none and no permission to create one.
    Store = 13,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the daemon ended, with its exit code and what to try.
#[derive(Debug)]
pub struct Failed {
    exit: Exit,
    source: anyhow::Error,
    hint: String,
}

impl Failed {
    /// An ending with its reason and one line that says what to try.
    pub fn new(exit: Exit, source: impl Into<anyhow::Error>, hint: impl Into<String>) -> Self {
        Self { exit, source: source.into(), hint: hint.into() }
    }

    /// For failures of the system itself; `attempted` completes "cannot …".
    pub fn other<E: Into<anyhow::Error>>(attempted: &'static str) -> impl Fn(E) -> Self {
        move |error| {
            let error = error.into().context(format!("cannot {attempted}"));
            Self::new(Exit::Other, error, "look at the limits and the memory of this machine")
        }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

/// The reason with its causes, then the line that says what to try.
impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.source.to_string();
        for cause in self.source.chain().skip(1).map(ToString::to_string) {
            // Some errors say their cause themselves; nobody wants to read it twice.
            if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        write!(f, "{text}\ntry: {}", self.hint)
    }
}

impl From<ConfigError> for Failed {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, error, "correct the file, then logd --config FILE --check-config")
    }
}

impl From<LoggingError> for Failed {
    fn from(error: LoggingError) -> Self {
        Self::new(Exit::Config, error, "LOGD_LOG=info, or log.filter = \"info\"")
    }
}

impl From<ProofError> for Failed {
    fn from(error: ProofError) -> Self {
        let hint = error.hint();
        Self::new(Exit::Certificates, error, hint)
    }
}

impl From<SeedError> for Failed {
    fn from(error: SeedError) -> Self {
        Self::new(Exit::Store, error, "make the node's folder anew: logctl cluster create")
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn causes_are_told_once_and_then_what_to_try() {
        let source = io::Error::new(io::ErrorKind::NotFound, "gone");
        let error = ConfigError::Read { file: PathBuf::from("n.toml"), source };
        let failed = Failed::from(error);
        assert_eq!(failed.exit(), Exit::Config);
        let want = "cannot read the configuration n.toml: gone\ntry: ";
        assert!(failed.to_string().starts_with(want), "{failed}");
        let failed = Failed::other("do it: gone")(io::Error::other("gone"));
        assert!(failed.to_string().starts_with("cannot do it: gone\ntry: "), "{failed}");
    }
}
