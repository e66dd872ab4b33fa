//! The exit codes of `logctl`, which are part of the product: scripts decide by them.

use std::fmt;

/// How a command ended that did not succeed; 0 is success, and docs/troubleshooting.md lists all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExitCode {
    /// Any other error.
    Other = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No node could be reached.
    Unreachable = 3,
    /// Authentication, certificate, token or permission.
    Denied = 4,
    /// Something was not found.
    NotFound = 5,
    /// Something else is in the way: a taken name, another version, another release.
    Conflict = 6,
    /// Timed out, or nobody can say whether it was done.
    Unknown = 7,
    /// The cluster is degraded, or not every node answered.
    Degraded = 10,
    /// No primary, or no majority.
    NoQuorum = 11,
    /// A clock that is not trusted.
    Clock = 12,
    /// Integrity: damaged data, or copies that differ.
    Integrity = 13,
    /// Ended by Ctrl-C, as a shell tells of it.
    Interrupted = 130,
    /// The reader of the output went before all was done, as if SIGPIPE had ended it.
    ReaderGone = 141,
}

impl ExitCode {
    /// The number that a process ends with.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether waiting, or another node, may mend it: nodes that are down, busy or in doubt. Not a
    /// command or a context that is wrong.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        match self {
            Self::Unreachable
            | Self::Unknown
            | Self::Degraded
            | Self::NoQuorum
            | Self::Clock
            | Self::Integrity => true,
            Self::Other
            | Self::Usage
            | Self::Denied
            | Self::NotFound
            | Self::Conflict
            | Self::Interrupted
            | Self::ReaderGone => false,
        }
    }
}

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}
