//! Certificates that are made anew for the same name, role and key.
//!
//! Who asks shows the certificate that it has, which may be over, and a request that the same key has
//! signed. That proves who it is to everybody, whoever carried it; so a signer need believe neither a
//! gateway nor the connection. Whether the name may still have a certificate is for the cluster's
//! state to say.

use proto::life::{Date, RENEW_LATE_MAX_S};
use rustls::pki_types::CertificateDer;

use crate::authority::request_fingerprint;
use crate::files::certs_of;
use crate::identity::{Peer, peer_of};
use crate::{CertError, Credentials};

/// Largest certificate that is looked at: ours have less than a tenth of it.
const CERTIFICATE_BYTES_MAX: usize = 8 << 10;

impl Credentials {
    /// Decides who asks for a renewal: `certificate` (X.509, DER) was signed by an authority that is
    /// trusted here, is not over for too long at `now_unix_s`, and its own key has signed `csr`
    /// (PKCS #10, DER).
    ///
    /// # Errors
    /// When it proves nobody.
    pub fn check_renewal(
        &self,
        certificate: &[u8],
        csr: &[u8],
        now_unix_s: i64,
    ) -> Result<Peer, CertError> {
        let refused = |reason: String| Err(CertError::Request(reason));
        if certificate.len() > CERTIFICATE_BYTES_MAX {
            return refused(format!("a certificate of {} bytes is too long", certificate.len()));
        }
        let chain = [CertificateDer::from(certificate).into_owned()];
        let peer = peer_of(&chain)?;
        let who = &peer.identity;
        let own = &self.identity().cluster;
        if who.cluster != *own {
            return refused(format!("{who} is of cluster {}, this is {own}", who.cluster));
        }
        if self.check_issuer(&chain, &peer).is_err() {
            let what =
                format!("the certificate of {who} was not signed by this cluster's authority");
            return refused(what);
        }
        if now_unix_s.saturating_sub(peer.not_after_unix) > RENEW_LATE_MAX_S {
            return refused(format!(
                "the certificate of {who} expired on {}, more than {} days ago; only the \
                 authority's key can renew it now: logctl certs renew --ca-key FILE",
                Date(peer.not_after_unix),
                RENEW_LATE_MAX_S / (24 * 3600)
            ));
        }
        if request_fingerprint(csr)? != peer.fingerprint {
            return refused(format!("it is for another key than the certificate of {who}"));
        }
        Ok(peer)
    }

    /// Checks an answer to a renewal (PEM) before it takes the place of this certificate: the same
    /// name, role and key, an authority that is trusted, and no earlier end.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_renewed(&self, pem: &str) -> Result<Peer, CertError> {
        let wrong = |what: &str| Err(CertError::Request(format!("the answer is {what}")));
        let Some(chain) = certs_of(pem) else { return wrong("no certificate") };
        let peer = peer_of(&chain)?;
        if peer.identity != *self.identity() || peer.fingerprint != self.fingerprint() {
            return wrong("another member's certificate, or for another key");
        }
        self.check_issuer(&chain, &peer)?;
        if peer.not_after_unix < self.not_after_unix() {
            return wrong("a certificate that ends earlier");
        }
        Ok(peer)
    }
}
