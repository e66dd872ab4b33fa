//! The one provider of cryptography, named here and nowhere taken from a process-wide default.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The provider.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
