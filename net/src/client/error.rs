//! How a call can end other than well.

use proto::{ExitCode, Failure};

use crate::NetError;

/// Why a call has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client cannot be set up as it was told.
    #[error("{0}")]
    Config(String),
    /// The network or the certificates of this machine cannot be used.
    #[error(transparent)]
    Net(#[from] NetError),
    /// One side refuses the other's certificate.
    #[error("{gateway}: {reason}")]
    Denied {
        /// The node, by name or address.
        gateway: String,
        /// Who refuses whom, and why.
        reason: String,
    },
    /// No node of the cluster has this name; nothing was done.
    #[error("there is no node {0}")]
    NoNode(String),
    /// No node answered; nothing was done.
    #[error("no node answers: {}", .tried.join("; "))]
    Unreachable {
        /// Each node that was tried, and what came of it.
        tried: Vec<String>,
    },
    /// The cluster refused, or nobody can say whether it was done.
    #[error("{}", .0.message)]
    Failure(Failure),
}

impl From<Failure> for ClientError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl ClientError {
    /// The exit code of `logctl` (see docs/troubleshooting.md).
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::Usage,
            Self::Unreachable { .. } => ExitCode::Unreachable,
            Self::NoNode(_) => ExitCode::NotFound,
            Self::Denied { .. } | Self::Net(NetError::Certs(_)) => ExitCode::Denied,
            Self::Net(_) => ExitCode::Other,
            Self::Failure(failure) => failure.error_code().exit_code(),
        }
    }

    /// What to try, in one line.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Config(_) => "logctl context show, or logctl help",
            Self::Unreachable { .. } => {
                "check that logd runs on a node (systemctl status logd) and that UDP reaches it"
            }
            Self::NoNode(_) => "logctl nodes",
            Self::Denied { .. } => {
                "logctl context show gives certificate, cluster and dates; --as NAME uses another \
                 context"
            }
            Self::Net(NetError::Certs(error)) => error.hint(),
            Self::Net(_) => "check this machine's network: ip address",
            Self::Failure(failure) => failure.error_code().hint(),
        }
    }
}
