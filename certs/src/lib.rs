//! The cluster CA, its certificates, and the rustls configurations made from them.
//!
//! A certificate proves one synthetic DNS name, `<name>.<role>.<cluster>.logd.internal`, and that
//! name is the identity of whoever holds the key. No address stands in it, so no change of address
//! ever breaks it. TLS 1.3 only, nothing is resumed and nothing is sent before the handshake is over.
//! Both sides show a certificate. Only who wants to join has none yet: it knows the hash of the
//! authority's key, see [`pin`].
//!
//! Where a handshake is refused, the verifier writes one sentence a person can act on. It travels
//! in the closing frame, so both sides can log the same one: see [`refusal`].
//!
//! Not here: sockets and QUIC (`net`), who may do what (`daemon`), where files lie (`ctl`).

// What is done for one more variant is decided where it is added, not by whoever comes by.
#![deny(clippy::wildcard_enum_match_arm)]

mod authority;
mod credentials;
mod error;
mod files;
mod identity;
pub mod pin;
mod provider;
mod recovery;
mod renewal;
mod request;
mod verify;

pub use authority::{
    Authority, IssueOptions, Issued, SignedCsr, authority_life, random, request_fingerprint,
};
pub use credentials::Credentials;
pub use error::CertError;
pub use files::{write_private, write_public};
pub use identity::{Peer, hmac_sha256, peer_of, sha256};
pub use proto::life::Date;
pub use recovery::check_recovery;
pub use request::{new_request, request_for_key, request_for_key_file};
pub use verify::{any_node, refusal};

#[cfg(test)]
mod certs_test;
