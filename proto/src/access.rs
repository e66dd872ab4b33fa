//! Access tokens: what stands for the certificate of one client where there can be none, over HTTPS.
//!
//! The text is `logd-access-1.` and base32 of id, secret and CRC-32C, so that a cut paste is told from a wrong
//! token. The cluster keeps a hash of the secret, never the secret.

use crate::token::{ID_BYTES, SECRET_BYTES, TokenError, TokenProof, base32, unbase32};

/// In front of every access token.
pub const PREFIX: &str = "logd-access-1.";
/// Longest text that is looked at.
const TEXT_BYTES_MAX: usize = 256;

/// An access token, as its client holds it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AccessToken {
    /// Its id.
    pub id: [u8; ID_BYTES],
    /// Its secret.
    pub secret: [u8; SECRET_BYTES],
}

impl AccessToken {
    /// The text to send as `Authorization: Bearer …`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = [&self.id[..], &self.secret[..]].concat();
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        format!("{PREFIX}{}", base32(&bytes))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn decode(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix(PREFIX).filter(|rest| rest.len() <= TEXT_BYTES_MAX)
        else {
            let other = text.starts_with("logd-access-") && text.contains('.');
            return Err(if other { TokenError::Release } else { TokenError::Prefix });
        };
        let bytes = unbase32(rest)?;
        let (bytes, crc) = bytes.split_last_chunk::<4>().ok_or(TokenError::Checksum)?;
        if crc32c::crc32c(bytes) != u32::from_be_bytes(*crc) {
            return Err(TokenError::Checksum);
        }
        let (id, secret) = bytes.split_first_chunk::<ID_BYTES>().ok_or(TokenError::Checksum)?;
        let secret = secret.try_into().map_err(|_| TokenError::Checksum)?;
        Ok(Self { id: *id, secret })
    }
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Remember an access token.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateAccess {
    /// Its id and the hash of its secret.
    #[prost(message, optional, tag = "1")]
    pub token: Option<TokenProof>,
    /// The client that it stands for.
    #[prost(string, tag = "2")]
    pub client: String,
    /// How long it lives from the stamp of this change on, nanoseconds of log time.
    #[prost(uint64, tag = "3")]
    pub ttl_ns: u64,
}

/// An access token as the cluster remembers it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AccessView {
    /// Its id, [`ID_BYTES`] bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// The client that it stands for.
    #[prost(string, tag = "2")]
    pub client: String,
    /// When it expires, nanoseconds of log time.
    #[prost(uint64, tag = "3")]
    pub expires_ns: u64,
    /// `live`, `expired` or `revoked`, as of the answer.
    #[prost(string, tag = "4")]
    pub state: String,
    /// Who made it.
    #[prost(string, tag = "5")]
    pub by: String,
    /// 12-byte stamp of its creation.
    #[prost(bytes = "vec", tag = "6")]
    pub since: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Meant to catch: the checksum not looked at.
    #[test]
    fn a_token_reads_back_whole_or_not_at_all() {
        let token = AccessToken { id: [7; ID_BYTES], secret: [0xa5; SECRET_BYTES] };
        let text = token.encode();
        assert_eq!(AccessToken::decode(&format!(" {text}\n")), Ok(token));
        for at in PREFIX.len()..text.len() {
            let mut cut = text.clone();
            cut.remove(at);
            assert!(AccessToken::decode(&cut).is_err(), "without character {at}");
            let mut wrong = text.clone();
            let other = if wrong.as_bytes()[at] == b'a' { "b" } else { "a" };
            wrong.replace_range(at..=at, other);
            assert!(AccessToken::decode(&wrong).is_err(), "with character {at} wrong");
        }
        assert_eq!(AccessToken::decode("hello"), Err(TokenError::Prefix));
        assert_eq!(AccessToken::decode("logd-access-2.aaaa"), Err(TokenError::Release));
        assert!(!format!("{token:?}").contains("165"), "no secret in a log");
    }
}
