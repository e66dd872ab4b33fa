//! What can be wrong with a certificate, a key or the file it should be in.

use std::io;
use std::path::PathBuf;

use proto::life::Date;

/// Why certificates could not be made, read or used. `Display` names the file where there is one.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file could not be read or written.
    #[error("cannot {verb} {path}: {source}")]
    File {
        /// `read` or `write`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file was read and is no good.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A private key can be read by others.
    #[error("{path}: others may read this private key (mode {mode:04o}); chmod 600 {path}")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The private key is another certificate's.
    #[error("the key in {key} does not belong to the certificate in {cert}")]
    KeyMismatch {
        /// File of the key.
        key: PathBuf,
        /// File of the certificate.
        cert: PathBuf,
    },
    /// The certificate was signed by another authority.
    #[error("the certificate in {cert} was not signed by the authority in {ca}")]
    Untrusted {
        /// File of the certificate.
        cert: PathBuf,
        /// File of the authority.
        ca: PathBuf,
    },
    /// The certificate is too old.
    #[error("the certificate in {path} expired on {at}")]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it expired.
        at: Date,
    },
    /// The certificate's time has not come; the clock may be wrong.
    #[error("the certificate in {path} is not valid before {at}; check this machine's clock")]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// When it becomes valid.
        at: Date,
    },
    /// A certificate does not name exactly one member of a cluster.
    #[error("{0}")]
    Identity(String),
    /// A certificate request was refused.
    #[error("the certificate request is refused: {0}")]
    Request(String),
    /// A key or certificate could not be made or used.
    #[error("cannot {attempted}: {reason}")]
    Crypto {
        /// What was attempted.
        attempted: &'static str,
        /// The library's reason.
        reason: String,
    },
}

impl CertError {
    /// What to try, in one line.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File { .. } => "check the path and its permissions",
            Self::Content { .. } | Self::Identity(_) => "name the file that `cluster create` made",
            Self::Mode { .. } => "run chmod 600 on the key file",
            Self::KeyMismatch { .. } | Self::Untrusted { .. } => {
                "use ca, cert and key of the same cluster and the same member"
            }
            Self::Expired { .. } => {
                "logctl certs renew; where no node answers: logctl certs renew --ca-key FILE, with \
                 the authority's key"
            }
            Self::NotYetValid { .. } => "check this machine's clock",
            Self::Request(_) => "make a new request: logctl register NAME",
            Self::Crypto { .. } => "report this; it should not happen",
        }
    }

    /// Builds a map_err argument for a failed library call.
    pub(crate) fn crypto<E: std::fmt::Display>(attempted: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Crypto { attempted, reason: error.to_string() }
    }
}
