//! The replicated dictionary: keys with one current value each.
//!
//! Everybody reads every key. A key belongs to whoever made it: nobody else changes it, unless it is
//! shared. Admins change every key.

/// A key that is shared with everybody.
pub const SHARED: &str = "*";

/// A change of the dictionary.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KvChange {
    /// Key, 1 to `limits::KV_KEY_BYTES_MAX` bytes of text.
    #[prost(string, tag = "1")]
    pub key: String,
    /// New value, at most `limits::KV_VALUE_BYTES_MAX` bytes; absent = the key goes.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub value: Option<Vec<u8>>,
    /// Only if the key is at this version now, 0 = only if there is none; absent = in any case.
    #[prost(uint64, optional, tag = "3")]
    pub expect: Option<u64>,
    /// Id of the change, drawn once and kept across every retry: a retry is answered as the first
    /// try was, and changes nothing again.
    #[prost(string, tag = "4")]
    pub id: String,
    /// Who may change the key from now on besides its owner: `*` everybody, `@group` the members of
    /// a group, empty nobody; absent = as it is, and nobody for a new key. Only the owner and admins
    /// change this.
    #[prost(string, optional, tag = "5")]
    pub shared_with: Option<String>,
}

/// Read keys.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KvRead {
    /// The key; with `prefix`, what keys begin with.
    #[prost(string, tag = "1")]
    pub key: String,
    /// All keys that begin so, instead of the one.
    #[prost(bool, tag = "2")]
    pub prefix: bool,
    /// With `prefix`: only keys after this one.
    #[prost(string, tag = "3")]
    pub after: String,
    /// Answer from this node's own state without asking the primary.
    #[prost(bool, tag = "4")]
    pub stale: bool,
}

/// Keys, in their order.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KvRows {
    /// The rows. After a deletion, the row that was.
    #[prost(message, repeated, tag = "1")]
    pub rows: Vec<KvRow>,
    /// Whether there are more: ask with the last one as `after`.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// One key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KvRow {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
    /// Version of the value; grows with every change of any key.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// Who set it.
    #[prost(string, tag = "4")]
    pub by: String,
    /// 20-byte stamp of the change.
    #[prost(bytes = "vec", tag = "5")]
    pub stamp: Vec<u8>,
    /// Whose key it is: who made it. Empty for a key that was made before keys had owners.
    #[prost(string, tag = "6")]
    pub owner: String,
    /// Who may change it besides its owner and admins, see [`KvChange::shared_with`].
    #[prost(string, tag = "7")]
    pub shared_with: String,
}
