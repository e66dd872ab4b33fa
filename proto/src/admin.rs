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
    #[prost(oneof = "AdminOp", tags = "1, 2, 3, 4")]
    pub op: Option<AdminOp>,
}

impl AdminChange {
    /// Whom the authority is said to have signed for, if that is what changes.
    #[must_use]
    pub const fn recovery(&self) -> Option<&AdminRecovery> {
        match &self.op {
            Some(AdminOp::Recover(said)) => Some(said),
            Some(AdminOp::First(_) | AdminOp::Add(_) | AdminOp::Remove(_)) | None => None,
        }
    }
}

/// What changes. The first comes from nodes only, the next two from administrators only, the last from
/// the key that it names. Each is idempotent.
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
    /// Enter the caller, whom the authority's key itself has signed for.
    #[prost(message, tag = "4")]
    Recover(AdminRecovery),
}

/// The authority's word for a key, see `certs::check_recovery`. Its signature is checked by the node
/// that takes the request and by the primary, against the authority that each of them trusts.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AdminRecovery {
    /// The name; the caller's.
    #[prost(string, tag = "1")]
    pub name: String,
    /// SHA-256 of the public key, 32 bytes; the caller's.
    #[prost(bytes = "vec", tag = "2")]
    pub fingerprint: Vec<u8>,
    /// The signature of the authority's key.
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
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
