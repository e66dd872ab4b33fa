//! How a caller was proven: by the key of a certificate, by an access token, or as a node of the cluster.
//!
//! The three share the 32 bytes that stand beside a caller's name in requests that are passed on, in the log
//! and in records. So what is stored of one sender says the same, however it came, and is hashed alike.

use std::fmt;

use crate::token::{ID_BYTES, id_text};

/// Bytes in front of the id of a token. SHA-256 of a key begins so with a chance of 1 in 2^192.
const TOKEN_MARK: [u8; 32 - ID_BYTES] = *b"logd access token 1.....";

/// How a caller was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A node, by the connection of its own certificate; it needs no key here.
    Node,
    /// A certificate: SHA-256 of its public key.
    Certificate([u8; 32]),
    /// An access token: its id.
    Token([u8; ID_BYTES]),
}

impl Proof {
    /// Reads the 32 bytes.
    #[must_use]
    pub fn of(bytes: &[u8; 32]) -> Self {
        match bytes.split_last_chunk::<ID_BYTES>() {
            Some((mark, id)) if *mark == TOKEN_MARK => Self::Token(*id),
            _ if *bytes == [0; 32] => Self::Node,
            _ => Self::Certificate(*bytes),
        }
    }

    /// Reads what a record holds; `None` if it says nothing.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self::of(&bytes))
    }

    /// The 32 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        match self {
            Self::Node => [0; 32],
            Self::Certificate(fingerprint) => fingerprint,
            Self::Token(id) => {
                let mut bytes = [0; 32];
                let parts = TOKEN_MARK.into_iter().chain(id);
                bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
                bytes
            }
        }
    }
}

impl fmt::Display for Proof {
    /// `node`, `certificate 0a1b…` with the whole hash of the key, `token ID`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Certificate(fingerprint) => {
                f.write_str("certificate ")?;
                fingerprint.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Token(id) => write!(f, "token {}", id_text(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_proof_reads_back_as_what_it_is() {
        for proof in [Proof::Node, Proof::Certificate([7; 32]), Proof::Token([9; 8])] {
            assert_eq!(Proof::of(&proof.to_bytes()), proof);
            assert_eq!(Proof::read(&proof.to_bytes()), Some(proof));
        }
        let mut almost = Proof::Token([9; 8]).to_bytes();
        almost[23] = b'!';
        assert_eq!(Proof::of(&almost), Proof::Certificate(almost));
        assert_eq!(Proof::read(&[]), None, "a record that says nothing");
        assert_eq!(
            Proof::Certificate([0xa1; 32]).to_string(),
            format!("certificate {}", "a1".repeat(32))
        );
        assert_eq!(Proof::Token([0; 8]).to_string(), "token aaaaaaaaaaaaa");
    }
}
