//! Join tokens: what is pasted on a new machine, and what the cluster remembers of it.
//!
//! The text is `logd-join-1.` and base32 (RFC 4648, lower case, no padding) of a protobuf message
//! and its CRC-32C, so that a cut or mistyped paste is told from a wrong token. The cluster keeps a
//! hash of the secret, never the secret.

use prost::Message as _;

use crate::access::{AccessView, CreateAccess};
use crate::identity::{ClusterId, Role};

/// In front of every token.
pub const PREFIX: &str = "logd-join-1.";
/// Bytes of a token's id.
pub const ID_BYTES: usize = 8;
/// Bytes of a token's secret.
pub const SECRET_BYTES: usize = 16;
/// Longest text that is looked at.
const TEXT_BYTES_MAX: usize = 4096;

/// A token, as the person who pastes it holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster.
    pub cluster: ClusterId,
    /// SHA-256 of the public key (SubjectPublicKeyInfo) of the cluster's authority.
    pub ca_sha256: [u8; 32],
    /// Nodes to ask, `host:port`; at least one.
    pub addresses: Vec<String>,
    /// What it admits.
    pub role: Role,
    /// Its id.
    pub id: [u8; ID_BYTES],
    /// Its secret.
    pub secret: [u8; SECRET_BYTES],
    /// When it expires, seconds since 1970. Only the cluster's log decides; this is for messages.
    pub expires_unix_s: u64,
    /// The only name it may be used for; empty = any.
    pub name: String,
}

/// Why a text is not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin as one.
    #[error("this is not a join token: one begins with '{PREFIX}'")]
    Prefix,
    /// It is one of another release.
    #[error("this join token is of another release: this one reads '{PREFIX}…'")]
    Release,
    /// It holds something that no token holds.
    #[error("this join token is damaged: '{0}' never occurs in a token")]
    Character(char),
    /// It is cut, or a character is wrong.
    #[error(
        "this join token is damaged or cut: its checksum is wrong; copy it again, to the last \
         character"
    )]
    Checksum,
    /// It is whole and makes no sense.
    #[error("this join token makes no sense: {0}")]
    Content(&'static str),
}

/// What has become of a token, a join token or an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// It can be used.
    Live,
    /// It was used as often as it may be.
    UsedUp,
    /// Its time is over.
    Expired,
    /// An admin ended it.
    Revoked,
}

impl TokenState {
    /// The state of a token at an instant of log time.
    #[must_use]
    pub fn at(now_ns: u64, expires_ns: u64, revoked: bool, used_up: bool) -> Self {
        if revoked {
            Self::Revoked
        } else if now_ns >= expires_ns {
            Self::Expired
        } else if used_up {
            Self::UsedUp
        } else {
            Self::Live
        }
    }

    /// As it is shown.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::UsedUp => "used up",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Content {
    #[prost(string, tag = "1")]
    cluster: String,
    #[prost(bytes = "vec", tag = "2")]
    ca_sha256: Vec<u8>,
    #[prost(string, repeated, tag = "3")]
    addresses: Vec<String>,
    #[prost(string, tag = "4")]
    role: String,
    #[prost(bytes = "vec", tag = "5")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    secret: Vec<u8>,
    #[prost(uint64, tag = "7")]
    expires_unix_s: u64,
    #[prost(string, tag = "8")]
    name: String,
}

impl JoinToken {
    /// The text to paste.
    #[must_use]
    pub fn encode(&self) -> String {
        let content = Content {
            cluster: self.cluster.to_string(),
            ca_sha256: self.ca_sha256.to_vec(),
            addresses: self.addresses.clone(),
            role: self.role.label().to_owned(),
            id: self.id.to_vec(),
            secret: self.secret.to_vec(),
            expires_unix_s: self.expires_unix_s,
            name: self.name.clone(),
        };
        let mut bytes = content.encode_to_vec();
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        format!("{PREFIX}{}", base32(&bytes))
    }

    /// Reads a pasted text; spaces around it and line breaks in it do no harm.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn decode(text: &str) -> Result<Self, TokenError> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let text = text.to_ascii_lowercase();
        let Some(rest) = text.strip_prefix(PREFIX) else {
            let other = text.starts_with("logd-join-") && text.contains('.');
            return Err(if other { TokenError::Release } else { TokenError::Prefix });
        };
        if rest.len() > TEXT_BYTES_MAX {
            return Err(TokenError::Content("it is far too long"));
        }
        let bytes = unbase32(rest)?;
        let (bytes, crc) = bytes.split_last_chunk::<4>().ok_or(TokenError::Checksum)?;
        if crc32c::crc32c(bytes) != u32::from_be_bytes(*crc) {
            return Err(TokenError::Checksum);
        }
        let content = Content::decode(bytes).map_err(|_| TokenError::Content("its fields"))?;
        let wrong = TokenError::Content;
        if content.addresses.is_empty() {
            return Err(wrong("it names no node"));
        }
        if !content.name.is_empty() && content.name.parse::<crate::Name>().is_err() {
            return Err(wrong("its name"));
        }
        let role: Option<Role> = content.role.parse().ok();
        // Who may do everything is named before.
        if role == Some(Role::Admin) && content.name.is_empty() {
            return Err(wrong("it is for an administrator without a name"));
        }
        Ok(Self {
            cluster: content.cluster.parse().map_err(|_| wrong("its cluster"))?,
            ca_sha256: content.ca_sha256.try_into().map_err(|_| wrong("its authority"))?,
            addresses: content.addresses,
            role: role.ok_or_else(|| wrong("its role"))?,
            id: content.id.try_into().map_err(|_| wrong("its id"))?,
            secret: content.secret.try_into().map_err(|_| wrong("its secret"))?,
            expires_unix_s: content.expires_unix_s,
            name: content.name,
        })
    }
}

/// A token's id as people see it.
#[must_use]
pub fn id_text(id: &[u8]) -> String {
    base32(id)
}

/// Reads what [`id_text`] wrote; `None` if it is no id.
#[must_use]
pub fn parse_id(text: &str) -> Option<[u8; ID_BYTES]> {
    unbase32(&text.trim().to_ascii_lowercase()).ok()?.try_into().ok()
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

pub(crate) fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut buffer, mut bits) = (0_u32, 0_u32);
    for &byte in bytes {
        buffer = (buffer << 8) | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push(&mut out, buffer >> bits);
            buffer &= (1 << bits) - 1;
        }
    }
    if bits > 0 {
        push(&mut out, buffer << (5 - bits));
    }
    out
}

fn push(out: &mut String, five_bits: u32) {
    let at = usize::try_from(five_bits & 31).unwrap_or(0);
    out.extend(ALPHABET.get(at).map(|&c| char::from(c)));
}

pub(crate) fn unbase32(text: &str) -> Result<Vec<u8>, TokenError> {
    let mut out = Vec::with_capacity(text.len() * 5 / 8);
    let (mut buffer, mut bits) = (0_u32, 0_u32);
    for c in text.chars() {
        let value = ALPHABET.iter().position(|&known| char::from(known) == c);
        let value = value.and_then(|value| u32::try_from(value).ok());
        buffer = (buffer << 5) | value.ok_or(TokenError::Character(c))?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.extend(u8::try_from(buffer >> bits).ok());
            buffer &= (1 << bits) - 1;
        }
    }
    // What is left over is padding: less than a character, and zero.
    if bits >= 5 || buffer != 0 { Err(TokenError::Checksum) } else { Ok(out) }
}

/// A change of the tokens.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TokenChange {
    /// Which.
    #[prost(oneof = "TokenOp", tags = "1, 2, 3, 4, 5")]
    pub op: Option<TokenOp>,
}

/// What changes. All come from admins only, but for what only nodes do: to admit.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum TokenOp {
    /// Remember a token.
    #[prost(message, tag = "1")]
    Create(CreateToken),
    /// End a token; who came in with it stays.
    #[prost(message, tag = "2")]
    Revoke(TokenId),
    /// Admit a client, or enter an administrator, that brought a token. Idempotent for the same token,
    /// name and key.
    #[prost(message, tag = "3")]
    AdmitClient(AdmitClient),
    /// Remember an access token.
    #[prost(message, tag = "4")]
    CreateAccess(CreateAccess),
    /// End an access token, and what is open with it.
    #[prost(message, tag = "5")]
    RevokeAccess(TokenId),
}

/// See [`TokenOp::Create`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateToken {
    /// Its id and the hash of its secret.
    #[prost(message, optional, tag = "1")]
    pub token: Option<TokenProof>,
    /// `node`, `client` or `admin`.
    #[prost(string, tag = "2")]
    pub role: String,
    /// How often it may be used, from 1.
    #[prost(uint32, tag = "3")]
    pub uses: u32,
    /// How long it lives from the stamp of this change on, nanoseconds of log time.
    #[prost(uint64, tag = "4")]
    pub ttl_ns: u64,
    /// The only name that it may be used for; empty = any.
    #[prost(string, tag = "5")]
    pub name: String,
}

/// A token and the proof that its secret is known.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TokenProof {
    /// Its id, [`ID_BYTES`] bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// SHA-256 of its secret, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub hash: Vec<u8>,
}

/// A token's id.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TokenId {
    /// [`ID_BYTES`] bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
}

/// See [`TokenOp::AdmitClient`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AdmitClient {
    /// What it brought.
    #[prost(message, optional, tag = "1")]
    pub token: Option<TokenProof>,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// SHA-256 of its public key, 32 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub fingerprint: Vec<u8>,
    /// Preferred gateway; empty = derived from the slot table.
    #[prost(string, tag = "4")]
    pub home: String,
    /// Whether it is entered as an administrator, and not as a client.
    #[prost(bool, tag = "5")]
    pub admin: bool,
}

/// Tokens.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Tokens {
    /// The newest last.
    #[prost(message, repeated, tag = "1")]
    pub tokens: Vec<TokenView>,
    /// Access tokens, the newest last.
    #[prost(message, repeated, tag = "2")]
    pub access: Vec<AccessView>,
}

/// A token as the cluster remembers it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TokenView {
    /// Its id, [`ID_BYTES`] bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// `node`, `client` or `admin`.
    #[prost(string, tag = "2")]
    pub role: String,
    /// How often it may be used.
    #[prost(uint32, tag = "3")]
    pub uses: u32,
    /// Who came in with it, in order; of many the last ones.
    #[prost(string, repeated, tag = "4")]
    pub used_by: Vec<String>,
    /// When it expires, nanoseconds of log time.
    #[prost(uint64, tag = "5")]
    pub expires_ns: u64,
    /// Whether it was revoked.
    #[prost(bool, tag = "6")]
    pub revoked: bool,
    /// The only name that it may be used for; empty = any.
    #[prost(string, tag = "7")]
    pub name: String,
    /// Who created it.
    #[prost(string, tag = "8")]
    pub by: String,
    /// 12-byte stamp of its creation.
    #[prost(bytes = "vec", tag = "9")]
    pub since: Vec<u8>,
    /// `live`, `expired`, `used up` or `revoked`, as of the answer.
    #[prost(string, tag = "10")]
    pub state: String,
    /// How often it was used.
    #[prost(uint32, tag = "11")]
    pub used: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> JoinToken {
        JoinToken {
            cluster: ClusterId::from_bytes([7; 16]),
            ca_sha256: [9; 32],
            addresses: vec!["10.0.0.1:7101".to_owned(), "n2.example:7101".to_owned()],
            role: Role::Node,
            id: [1, 2, 3, 4, 5, 6, 7, 8],
            secret: [0xa5; 16],
            expires_unix_s: 1_795_219_200,
            name: String::new(),
        }
    }

    #[test]
    fn base32_is_the_rfcs() {
        // RFC 4648, section 10, in lower case and without padding.
        for (bytes, text) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
            assert_eq!(unbase32(text).unwrap(), bytes.as_bytes());
        }
    }

    #[test]
    fn a_token_reads_back_however_it_was_pasted() {
        let text = sample().encode();
        assert_eq!(JoinToken::decode(&text).unwrap(), sample());
        let (a, b) = text.split_at(40);
        let pasted = format!("  {a}\n{}\r\n", b.to_ascii_uppercase());
        assert_eq!(JoinToken::decode(&pasted).unwrap(), sample());
        assert_eq!(parse_id(&id_text(&sample().id)), Some(sample().id));
    }

    /// Seen to fail with the checksum not looked at.
    #[test]
    fn every_missing_or_wrong_character_is_noticed() {
        let text = sample().encode();
        for at in PREFIX.len()..text.len() {
            let mut cut = text.clone();
            cut.remove(at);
            assert!(JoinToken::decode(&cut).is_err(), "without character {at}");
            let mut wrong = text.clone();
            let other = if wrong.as_bytes()[at] == b'a' { "b" } else { "a" };
            wrong.replace_range(at..=at, other);
            assert!(JoinToken::decode(&wrong).is_err(), "with character {at} wrong");
            assert!(JoinToken::decode(&text[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |text: &str| JoinToken::decode(text).unwrap_err();
        assert_eq!(said("hello"), TokenError::Prefix);
        assert_eq!(said("logd-join-2.aaaa"), TokenError::Release);
        assert_eq!(said("logd-join-1.aa!a"), TokenError::Character('!'));
        assert_eq!(said("logd-join-1."), TokenError::Checksum);
        let nobody = JoinToken { addresses: Vec::new(), ..sample() };
        assert!(matches!(said(&nobody.encode()), TokenError::Content(_)));
        let admin = JoinToken { role: Role::Admin, ..sample() };
        assert!(matches!(said(&admin.encode()), TokenError::Content(_)), "an admin without a name");
        let ada = JoinToken { name: "ada".to_owned(), ..admin };
        assert_eq!(JoinToken::decode(&ada.encode()), Ok(ada));
    }
}
