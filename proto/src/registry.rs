//! Clients: how one is admitted, and which there are.

/// Admit a client.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Register {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Preferred gateway; empty = derived from the slot table.
    #[prost(string, tag = "2")]
    pub home: String,
    /// Certificate request (PKCS #10, DER). The key never leaves the client.
    #[prost(bytes = "vec", tag = "3")]
    pub csr: Vec<u8>,
}

/// A client is admitted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Registered {
    /// Its certificate (PEM).
    #[prost(string, tag = "1")]
    pub certificate: String,
    /// The cluster's authority (PEM).
    #[prost(string, tag = "2")]
    pub ca: String,
    /// Its home.
    #[prost(string, tag = "3")]
    pub home: String,
}

/// The registry.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Clients {
    /// By name.
    #[prost(message, repeated, tag = "1")]
    pub clients: Vec<ClientRow>,
}

/// One registered client.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ClientRow {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The gateway it prefers.
    #[prost(string, tag = "2")]
    pub home: String,
    /// The gateway it used last; empty if no live node remembers one.
    #[prost(string, tag = "3")]
    pub via: String,
    /// Whether it has a connection now.
    #[prost(bool, tag = "4")]
    pub connected: bool,
    /// When it was last active, in nanoseconds since 1970; 0 if no live node remembers.
    #[prost(uint64, tag = "5")]
    pub last_seen_ns: u64,
}
