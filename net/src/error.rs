//! Errors between nodes, and the codes that a connection is closed with.

use std::io;
use std::net::SocketAddr;

use proto::frame::FrameError;
use proto::peer::Refusal;

/// Why an endpoint could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The UDP port cannot be had.
    #[error("cannot listen on UDP {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The certificates do not make a TLS configuration.
    #[error("cannot use the certificates: {0}")]
    Certs(#[from] certs::CertError),
    /// The QUIC library refuses the configuration.
    #[error("cannot configure QUIC: {0}")]
    Config(String),
}

/// Why a peer could not be reached, or a stream ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nobody answered in time, or the address does not resolve.
    #[error("cannot reach {peer}: {reason}")]
    Unreachable {
        /// Name of the peer.
        peer: String,
        /// What was tried.
        reason: String,
    },
    /// One side refused the other: certificate, cluster, name or store incarnation.
    #[error("{peer}: {reason}")]
    Refused {
        /// Name of the peer.
        peer: String,
        /// Who refused whom, and why.
        reason: String,
        /// The same for programs.
        why: Refusal,
    },
    /// The connection or the stream is gone; what was sent last may or may not have arrived.
    #[error("the connection is lost: {0}")]
    Lost(String),
    /// What came is not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Why a peer is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// For programs.
    pub why: Refusal,
    /// For people.
    pub reason: String,
}

impl Refused {
    /// From both.
    pub fn new(why: Refusal, reason: impl Into<String>) -> Self {
        Self { why, reason: reason.into() }
    }

    pub(crate) fn by(self, peer: &str) -> LinkError {
        LinkError::Refused { peer: peer.to_owned(), reason: self.reason, why: self.why }
    }
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self::new(Refusal::Other, reason)
    }
}

/// Why a side closes a connection. The numbers are the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// Nothing more to say.
    Done = 0,
    /// The node is stopping; another one serves.
    Moving = 1,
    /// The certificate's role does not open this protocol.
    WrongRole = 2,
    /// The other side belongs to another cluster.
    WrongCluster = 3,
    /// The hello was refused: name, store or incarnation.
    Refused = 4,
    /// The key is that of a node that was removed, or of an administrator that was taken out.
    Revoked = 5,
    /// Too many connections.
    Busy = 6,
    /// What came breaks the protocol.
    Protocol = 7,
    /// The other side has been silent for too long.
    Silent = 8,
}

impl CloseCode {
    /// The number on the wire.
    pub(crate) fn code(self) -> quinn::VarInt {
        quinn::VarInt::from_u32(self as u32)
    }

    /// The code of a number on the wire.
    pub(crate) fn from_code(code: quinn::VarInt) -> Option<Self> {
        let all = [
            Self::Done,
            Self::Moving,
            Self::WrongRole,
            Self::WrongCluster,
            Self::Refused,
            Self::Revoked,
            Self::Busy,
            Self::Protocol,
            Self::Silent,
        ];
        all.into_iter().find(|known| known.code() == code)
    }

    /// Whether the other side refuses us for what we are, so that no retry helps.
    pub(crate) fn is_refusal(self) -> bool {
        matches!(self, Self::WrongRole | Self::WrongCluster | Self::Refused | Self::Revoked)
    }
}
