//! A stored message: what the sender gave and what the log gave it. The same struct lies on disk
//! and travels in read pages.

use clock::{Hlc, Stamp};

use crate::name::Stream;

/// One header of a message.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Header {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// What remains where a message was deleted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Tombstone {
    /// Who deleted it.
    #[prost(string, tag = "1")]
    pub by: String,
    /// When, as a 20-byte stamp.
    #[prost(bytes = "vec", tag = "2")]
    pub stamp: Vec<u8>,
    /// Why, in the deleter's words; may be empty.
    #[prost(string, tag = "3")]
    pub reason: String,
}

/// A stored message.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Record {
    /// The shard whose order it stands in; 1 in this version.
    #[prost(uint32, tag = "1")]
    pub shard: u32,
    /// Dense number in its shard, from 1.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// 20-byte stamp: hybrid logical clock and the two error bounds.
    #[prost(bytes = "vec", tag = "3")]
    pub stamp: Vec<u8>,
    /// Name of the sender, from its certificate.
    #[prost(string, tag = "4")]
    pub from: String,
    /// What it is addressed to, see [`Stream`].
    #[prost(string, tag = "5")]
    pub to: String,
    /// The message id that the sender drew.
    #[prost(string, tag = "6")]
    pub id: String,
    /// Headers in the sender's order.
    #[prost(message, repeated, tag = "7")]
    pub headers: Vec<Header>,
    /// The body; empty once deleted.
    #[prost(bytes = "bytes", tag = "8")]
    pub body: bytes::Bytes,
    /// The node that took the request from the client.
    #[prost(string, tag = "9")]
    pub gateway: String,
    /// How the sender was proven, see [`crate::Proof`]: SHA-256 of its public key, or an access token.
    #[prost(bytes = "vec", tag = "10")]
    pub fingerprint: Vec<u8>,
    /// Hash of headers and body; stays when they are deleted.
    #[prost(bytes = "vec", tag = "11")]
    pub content_hash: Vec<u8>,
    /// Hash of everything above but headers and body, and of `content_hash`; stays for ever.
    #[prost(bytes = "vec", tag = "12")]
    pub leaf_hash: Vec<u8>,
    /// Set once deleted.
    #[prost(message, optional, tag = "13")]
    pub deleted: Option<Tombstone>,
    /// Index of the log entry that brought it.
    #[prost(uint64, tag = "14")]
    pub index: u64,
    /// The primary that stamped it.
    #[prost(string, tag = "15")]
    pub primary: String,
}

/// Why stored or received bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The stamp is not 20 bytes.
    #[error("a stamp of {0} bytes instead of 20")]
    Stamp(usize),
    /// The recipient is not one.
    #[error(transparent)]
    To(#[from] crate::name::NameError),
}

impl Record {
    /// The stamp.
    ///
    /// # Errors
    /// When the field is not 20 bytes.
    pub fn full_stamp(&self) -> Result<Stamp, RecordError> {
        read_stamp(&self.stamp)
    }

    /// The stamp's clock value.
    ///
    /// # Errors
    /// When the field is not 20 bytes.
    pub fn hlc(&self) -> Result<Hlc, RecordError> {
        self.full_stamp().map(|stamp| stamp.hlc)
    }

    /// What it is addressed to.
    ///
    /// # Errors
    /// When the field is not a recipient.
    pub fn stream(&self) -> Result<Stream, RecordError> {
        Ok(self.to.parse()?)
    }
}

/// Reads a 20-byte stamp from a field.
///
/// # Errors
/// When the field has another length.
pub fn read_stamp(bytes: &[u8]) -> Result<Stamp, RecordError> {
    let bytes: [u8; 20] = bytes.try_into().map_err(|_| RecordError::Stamp(bytes.len()))?;
    Ok(Stamp::from_bytes(bytes))
}
