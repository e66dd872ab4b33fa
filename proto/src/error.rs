//! The closed set of errors that a node answers with, and what each asks of the caller.

use crate::ExitCode;
use std::fmt;

/// Why a request was refused or left open. The numbers are the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ErrorCode {
    /// A bug or a state nobody foresaw; the operator should look at the node's log.
    Internal = 0,
    /// The request breaks a rule: name, size, range, unknown field.
    Invalid = 1,
    /// The certificate does not allow this.
    Denied = 2,
    /// The recipient, message, cursor or node is not known.
    NotFound = 3,
    /// The name is taken, the id was used for another message, the state forbids it.
    Conflict = 4,
    /// Nobody can say whether it was done. Retrying with the same message id is safe.
    Unknown = 5,
    /// The node has too much to do; come back after a while.
    Busy = 6,
    /// There is no primary, or it cannot reach a majority.
    NoQuorum = 7,
    /// The clock cannot vouch for a stamp.
    ClockUnavailable = 8,
    /// The token is ahead of what the cluster's clock may mint.
    ClockAhead = 9,
    /// A checksum, a chain hash or a digest does not match.
    Integrity = 10,
    /// This node is not the primary; `Failure::primary` names it if known.
    NotPrimary = 11,
    /// The data disk has no room for new messages.
    DiskFull = 13,
    /// The node is stopping or still starting; ask another one.
    Stopping = 14,
    /// The two sides speak different protocol or format versions.
    Version = 15,
    /// The node cannot prove its own store intact and takes no part.
    Repairing = 16,
    /// The time given was over before the work was begun; nothing was done.
    Deadline = 17,
    /// The node that asks was removed from the cluster, and its key and store with it.
    Removed = 18,
    /// No node that is up holds the authority's key, so nobody can sign a certificate.
    NoSigner = 30,
}

/// Whether a request that ended in an error may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executed {
    /// It did not and never will.
    No,
    /// It may or may not have.
    Unknown,
}

/// What the caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send the same request again after a pause.
    Retry,
    /// Send the same request to another node.
    GoElsewhere,
    /// Change the request.
    FixInput,
    /// A person must look at the cluster.
    CallOperator,
}

/// Of whom a refusal speaks, which says whether another gateway would refuse as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Of the gateway alone.
    Gateway,
    /// Of what the gateway sees: others may see a majority, have time, or know what became of it.
    Sight,
    /// Of the request, the primary or the cluster: the same whoever is asked.
    Everybody,
}

impl Executed {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

impl ErrorCode {
    /// One word for it, for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Unknown => "unknown",
            Self::Busy => "busy",
            Self::NoQuorum => "no-quorum",
            Self::ClockUnavailable => "clock-unavailable",
            Self::ClockAhead => "clock-ahead",
            Self::Integrity => "integrity",
            Self::NotPrimary => "not-primary",
            Self::DiskFull => "disk-full",
            Self::Stopping => "stopping",
            Self::Version => "version",
            Self::Repairing => "repairing",
            Self::Deadline => "deadline",
            Self::Removed => "removed",
            Self::NoSigner => "no-signer",
        }
    }

    /// What the caller can do.
    #[must_use]
    pub fn action(self) -> Action {
        match self {
            Self::Busy | Self::Unknown | Self::NoQuorum | Self::Deadline => Action::Retry,
            Self::NotPrimary | Self::Stopping | Self::Repairing => Action::GoElsewhere,
            Self::Invalid
            | Self::Denied
            | Self::NotFound
            | Self::Conflict
            | Self::ClockAhead
            | Self::Removed => Action::FixInput,
            Self::Internal
            | Self::ClockUnavailable
            | Self::Integrity
            | Self::DiskFull
            | Self::NoSigner
            | Self::Version => Action::CallOperator,
        }
    }

    /// Of whom the refusal speaks.
    #[must_use]
    pub fn whose(self) -> Whose {
        match self {
            Self::Stopping | Self::Repairing => Whose::Gateway,
            Self::Unknown | Self::NoQuorum | Self::Deadline | Self::NotPrimary => Whose::Sight,
            Self::Busy
            | Self::Invalid
            | Self::Denied
            | Self::NotFound
            | Self::Conflict
            | Self::ClockAhead
            | Self::Removed
            | Self::Internal
            | Self::ClockUnavailable
            | Self::Integrity
            | Self::DiskFull
            | Self::NoSigner
            | Self::Version => Whose::Everybody,
        }
    }

    /// Whether the request may have taken effect all the same.
    #[must_use]
    pub fn executed(self) -> Executed {
        match self {
            Self::Unknown | Self::Internal => Executed::Unknown,
            Self::Invalid
            | Self::Denied
            | Self::NotFound
            | Self::Conflict
            | Self::Busy
            | Self::NoQuorum
            | Self::ClockUnavailable
            | Self::ClockAhead
            | Self::Integrity
            | Self::NotPrimary
            | Self::DiskFull
            | Self::Stopping
            | Self::Version
            | Self::Repairing
            | Self::Deadline
            | Self::Removed
            | Self::NoSigner => Executed::No,
        }
    }

    /// The exit code of `logctl` (see docs/troubleshooting.md).
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Internal => ExitCode::Other,
            Self::Invalid => ExitCode::Usage,
            Self::Denied => ExitCode::Denied,
            Self::NotFound => ExitCode::NotFound,
            Self::Conflict | Self::Version | Self::Removed => ExitCode::Conflict,
            Self::Unknown | Self::Deadline => ExitCode::Unknown,
            Self::Busy | Self::DiskFull | Self::Stopping | Self::NoSigner => ExitCode::Degraded,
            Self::NoQuorum | Self::NotPrimary => ExitCode::NoQuorum,
            Self::ClockUnavailable | Self::ClockAhead => ExitCode::Clock,
            Self::Integrity | Self::Repairing => ExitCode::Integrity,
        }
    }

    /// What to try, in one line.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Internal => "look at the node's log: journalctl -u logd",
            Self::Invalid => "logctl help; the limits are in the README",
            Self::Denied => "use another context: logctl context list, then --as NAME",
            Self::NotFound => "logctl clients, or check the id",
            Self::Conflict => "use another name or id, or leave --id out",
            Self::Unknown => "run the same command with the same --id: it is done only once",
            Self::Busy => "run the same command again in a moment",
            Self::NoQuorum => "logctl status; reads still work with --stale",
            Self::ClockUnavailable => "logctl clock",
            Self::ClockAhead => "wait until the cluster's clock has passed the given stamp",
            Self::Integrity | Self::Repairing => "logctl status; the node's log names the file",
            Self::NotPrimary => "run the same command again; logctl status names the primary",
            Self::DiskFull => "free space on the node's disk, or lower the retention",
            Self::Stopping => "run the same command again, or give another node with --via",
            Self::Version => "use the same release of logctl and logd",
            Self::Deadline => "give a longer --timeout; logctl status",
            Self::Removed => "join again with an empty folder and a new token",
            Self::NoSigner => {
                "start a node that signs (logctl certs show); while one is up, logctl node set \
                 NAME --signer makes another one"
            }
        }
    }
}

/// An error as it travels in an answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Failure {
    /// Which error.
    #[prost(enumeration = "ErrorCode", tag = "1")]
    pub code: i32,
    /// What was attempted and why it was refused, for a person.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Address of the primary, if the node knows it; empty otherwise.
    #[prost(string, tag = "3")]
    pub primary: String,
    /// When to come back, in milliseconds; 0 if nothing is known.
    #[prost(uint32, tag = "4")]
    pub retry_after_ms: u32,
}

impl Failure {
    /// A failure with a message and nothing else.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl fmt::Display) -> Self {
        Self { code: code.into(), message: message.to_string(), ..Self::default() }
    }

    /// Adds when to come back.
    #[must_use]
    pub fn retry_after_ms(mut self, after_ms: u32) -> Self {
        self.retry_after_ms = after_ms;
        self
    }

    /// Adds the address of the primary.
    #[must_use]
    pub fn primary(mut self, address: impl Into<String>) -> Self {
        self.primary = address.into();
        self
    }

    /// The code; a number from a newer release reads as `Internal`.
    #[must_use]
    pub fn error_code(&self) -> ErrorCode {
        ErrorCode::try_from(self.code).unwrap_or(ErrorCode::Internal)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
