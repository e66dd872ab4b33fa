//! The administrators of a cluster as the replicated state keeps them: a name, and the key that proves
//! it. A certificate alone makes nobody an administrator.

/// An administrator.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AdminRow {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// SHA-256 of its public key, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub fingerprint: Vec<u8>,
    /// 12-byte stamp of when it was entered; set by apply.
    #[prost(bytes = "vec", tag = "3")]
    pub since: Vec<u8>,
    /// Who entered it: an administrator, or a node for the first ones; set by apply.
    #[prost(string, tag = "4")]
    pub by: String,
}

/// Rows, by name.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Admins {
    /// The rows.
    #[prost(message, repeated, tag = "1")]
    pub admins: Vec<AdminRow>,
}

/// A change of the administrators.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AdminChange {
    /// Which.
    #[prost(oneof = "AdminOp", tags = "1, 2, 3")]
    pub op: Option<AdminOp>,
}

/// What changes. The first comes from nodes only, the others from administrators only. Each is
/// idempotent.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum AdminOp {
    /// Enter the first administrators. Where there are some already nothing changes.
    #[prost(message, tag = "1")]
    First(Admins),
    /// Enter another administrator.
    #[prost(message, tag = "2")]
    Add(AdminKey),
    /// Take an administrator out; never the last one.
    #[prost(message, tag = "3")]
    Remove(AdminName),
}

/// A name and a key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AdminKey {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// SHA-256 of the public key, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub fingerprint: Vec<u8>,
}

/// A name.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AdminName {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
}
