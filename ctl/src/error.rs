//! What can go wrong in a command, what the exit code is, and what to try.

use proto::ExitCode;
use std::io;
use std::path::Path;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CtlError {
    /// Found out on this side: bad input, a missing context, a refused overwrite, an unhealthy
    /// answer.
    #[error("{what}")]
    Refused {
        /// Exit code, from the table in docs/troubleshooting.md.
        code: ExitCode,
        /// What was attempted and why it cannot be.
        what: String,
        /// What to try.
        hint: String,
    },
    /// A file could not be read or written.
    #[error("{what}")]
    File {
        /// The file and what was attempted.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// Standard output is gone or full.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// A certificate or key is not usable.
    #[error(transparent)]
    Cert(#[from] certs::CertError),
    /// Told already; only the number is left. Those of Nagios and of a shell are not ours.
    #[error("ended with exit code {0}")]
    Told(u8),
    /// The cluster did not let somebody in.
    #[error(transparent)]
    Join(#[from] net::join::JoinError),
    /// The cluster could not be asked, or it refused.
    #[error(transparent)]
    Client(#[from] net::ClientError),
}

impl From<views::Unreadable> for CtlError {
    fn from(answer: views::Unreadable) -> Self {
        Self::unexpected(&answer.to_string())
    }
}

impl From<views::Unwell> for CtlError {
    fn from(views::Unwell { code, what, hint }: views::Unwell) -> Self {
        Self::refused(code, what, hint)
    }
}

impl CtlError {
    /// Bad input: exit code 2.
    pub(crate) fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::refused(ExitCode::Usage, what, hint)
    }

    /// Not found on this side: exit code 5.
    pub(crate) fn not_found(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::refused(ExitCode::NotFound, what, hint)
    }

    /// Something else is in the way: exit code 6.
    pub(crate) fn conflict(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::refused(ExitCode::Conflict, what, hint)
    }

    /// Any refusal of our own.
    pub(crate) fn refused(
        code: ExitCode,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Refused { code, what: what.into(), hint: hint.into() }
    }

    /// A file error, for `map_err`: `action` is a verb such as "read".
    pub(crate) fn file(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("cannot {action} {}", path.display());
        move |source| Self::File { what, source }
    }

    /// An answer that does not fit the question; only a node of another release sends one.
    pub(crate) fn unexpected(what: &str) -> Self {
        Self::refused(
            ExitCode::Conflict,
            format!("the node's answer is not one this release understands: {what}"),
            "use the same release of logctl and logd",
        )
    }

    /// The number that the process ends with.
    pub(crate) fn number(&self) -> u8 {
        match self {
            Self::Told(number) => *number,
            Self::Refused { .. }
            | Self::File { .. }
            | Self::Output(_)
            | Self::Cert(_)
            | Self::Join(_)
            | Self::Client(_) => self.exit_code().number(),
        }
    }

    /// What kind of end it is.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Refused { code, .. } => *code,
            Self::File { .. }
            | Self::Output(_)
            | Self::Told(_)
            | Self::Cert(certs::CertError::File { verb: "write", .. }) => ExitCode::Other,
            Self::Cert(_) => ExitCode::Denied,
            Self::Join(error) => error.exit_code(),
            Self::Client(error) => error.exit_code(),
        }
    }

    /// Whether everything about it was said before.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self, Self::Told(_))
    }

    /// What to try, in one line.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Refused { hint, .. } => hint.clone(),
            Self::File { source, .. } => file_hint(source.kind()).to_owned(),
            Self::Output(_) => "choose another place for the output".to_owned(),
            Self::Told(_) => "read what was said before".to_owned(),
            Self::Cert(error) => error.hint().to_owned(),
            Self::Join(error) => error.hint().to_owned(),
            Self::Client(error) => error.hint().to_string(),
        }
    }

    /// The error and its causes in one line.
    pub(crate) fn line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.ends_with(&text) {
                line = format!("{line}: {text}");
            }
            cause = error.source();
        }
        line
    }
}

/// What to try where a file could not be read or written.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the standard library may add kinds at any time"
)]
fn file_hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "check the owner and the mode of the file: ls -l",
        _ => "free space and permissions of the folder: df -h, ls -ld",
    }
}
