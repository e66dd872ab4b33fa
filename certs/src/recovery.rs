//! The authority's word that a key is an administrator's: the way back for a cluster none of whose
//! administrators has a key any more.
//!
//! It is a signature over a sentence of our own, made with the authority's key itself, and no
//! certificate: nodes that sign sign certificates alone, so nobody is given one by asking them, and a
//! certificate that was issued once proves nothing of this. The key that it names proves itself in the
//! handshake.

use proto::{ClusterId, Name};
use rcgen::SigningKey as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::CertError;
use crate::authority::Authority;
use crate::provider::provider;

/// Longest signature that is looked at: ours have at most 72 bytes.
const SIGNATURE_BYTES_MAX: usize = 512;

impl Authority {
    /// Says that `name` with the key of this `fingerprint` is an administrator of the cluster.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign_recovery(&self, name: &Name, fingerprint: &[u8; 32]) -> Result<Vec<u8>, CertError> {
        let said = sentence(self.cluster(), name, fingerprint);
        self.key().sign(&said).map_err(CertError::crypto("sign with the authority's key"))
    }
}

/// Checks what [`Authority::sign_recovery`] made, against the authorities that are trusted (PEM).
///
/// # Errors
/// When none of them has said it.
pub fn check_recovery(
    ca_pem: &str,
    cluster: &ClusterId,
    name: &Name,
    fingerprint: &[u8; 32],
    signature: &[u8],
) -> Result<(), CertError> {
    let said = sentence(cluster, name, fingerprint);
    let by = |der: CertificateDer<'_>| {
        let Ok((_, ca)) = x509_parser::parse_x509_certificate(&der) else { return false };
        let key = &ca.public_key().subject_public_key.data;
        let ways = provider().signature_verification_algorithms.all;
        ways.iter().any(|way| way.verify_signature(key, &said, signature).is_ok())
    };
    let mut trusted = CertificateDer::pem_slice_iter(ca_pem.as_bytes()).flatten();
    if signature.len() <= SIGNATURE_BYTES_MAX && trusted.any(by) {
        return Ok(());
    }
    let what = "the authority's key has not signed that this key is an administrator's";
    Err(CertError::Identity(what.to_owned()))
}

/// What is signed. It begins like no certificate, and no part of it can run into the next one.
fn sentence(cluster: &ClusterId, name: &Name, fingerprint: &[u8; 32]) -> Vec<u8> {
    let head = format!("logd: an administrator recovered\n{cluster}\n{name}\n");
    [head.as_bytes(), fingerprint].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(cluster: [u8; 16]) -> Authority {
        Authority::create(&ClusterId::from_bytes(cluster)).unwrap()
    }

    #[test]
    fn only_the_authoritys_own_key_says_it_and_only_what_it_said() {
        let (ours, other) = (authority([7; 16]), authority([7; 16]));
        let (ada, eve): (Name, Name) = ("ada".parse().unwrap(), "eve".parse().unwrap());
        let said = ours.sign_recovery(&ada, &[1; 32]).unwrap();
        let forged = other.sign_recovery(&ada, &[1; 32]).unwrap();
        let cluster = ours.cluster();
        let both = format!("{}{}", other.cert_pem(), ours.cert_pem());
        let check = |ca: &str, cluster: &ClusterId, name: &Name, key: [u8; 32], word: &[u8]| {
            check_recovery(ca, cluster, name, &key, word).is_ok()
        };
        assert!(check(ours.cert_pem(), cluster, &ada, [1; 32], &said));
        assert!(check(&both, cluster, &ada, [1; 32], &said));
        let elsewhere = ClusterId::from_bytes([8; 16]);
        for (cluster, name, key, word) in [
            (cluster, &ada, [1; 32], &forged[..]),
            (cluster, &eve, [1; 32], &said[..]),
            (cluster, &ada, [2; 32], &said[..]),
            (&elsewhere, &ada, [1; 32], &said[..]),
            (cluster, &ada, [1; 32], &said[..said.len() - 1]),
            (cluster, &ada, [1; 32], &[][..]),
            (cluster, &ada, [1; 32], &[0x30; 4096][..]),
        ] {
            assert!(!check(ours.cert_pem(), cluster, name, key, word), "{name} {word:?}");
        }
    }
}
