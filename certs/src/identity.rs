//! Reading the one synthetic name out of a verified certificate.

use std::net::IpAddr;

use proto::Identity;
use proto::identity::DOMAIN;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::tls13::OkmBlock;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::CertError;

/// What a verified certificate says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Cluster, role and name.
    pub identity: Identity,
    /// SHA-256 of the public key (SubjectPublicKeyInfo).
    pub fingerprint: [u8; 32],
    /// First second of validity, since 1970.
    pub not_before_unix: i64,
    /// Last second of validity, since 1970.
    pub not_after_unix: i64,
    /// Serial number, hexadecimal with colons.
    pub serial: String,
}

/// Reads who a chain belongs to. The chain must have been verified before: this looks at names and
/// checks no signature.
///
/// # Errors
/// When the first certificate does not carry exactly one name under `logd.internal`, or that name
/// is not one of ours.
pub fn peer_of(chain: &[CertificateDer<'_>]) -> Result<Peer, CertError> {
    let first = chain.first();
    let first = first.ok_or_else(|| CertError::Identity("it shows no certificate".to_owned()))?;
    let (_, cert) = x509_parser::parse_x509_certificate(first)
        .map_err(|_| CertError::Identity("this is not an X.509 certificate".to_owned()))?;
    Ok(Peer {
        identity: identity_of(&cert)?,
        fingerprint: sha256(cert.public_key().raw),
        not_before_unix: cert.validity().not_before.timestamp(),
        not_after_unix: cert.validity().not_after.timestamp(),
        serial: cert.raw_serial_as_string(),
    })
}

/// The one name of ours. Other names (host names, addresses) are for other people's clients.
fn identity_of(cert: &X509Certificate<'_>) -> Result<Identity, CertError> {
    let names = cert
        .subject_alternative_name()
        .map_err(|_| CertError::Identity("its names cannot be read".to_owned()))?;
    let ours = |name: &GeneralName<'_>| {
        let GeneralName::DNSName(text) = name else { return None };
        is_ours(text).then(|| (*text).to_owned())
    };
    let mut ours = names.iter().flat_map(|san| san.value.general_names.iter()).filter_map(ours);
    let name = ours.next().ok_or_else(|| {
        CertError::Identity(format!("the certificate carries no name under {DOMAIN}"))
    })?;
    if ours.next().is_some() {
        return Err(CertError::Identity(format!(
            "the certificate carries more than one name under {DOMAIN}"
        )));
    }
    Identity::from_dns_name(&name)
        .map_err(|error| CertError::Identity(format!("the certificate names no member: {error}")))
}

/// The names and addresses in a certificate that are not ours.
pub(crate) fn hosts_of(cert: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, cert)) = x509_parser::parse_x509_certificate(cert) else { return Vec::new() };
    let Ok(Some(names)) = cert.subject_alternative_name() else { return Vec::new() };
    let address = |bytes: &[u8]| {
        let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
    };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) => (!is_ours(text)).then(|| (*text).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    };
    names.value.general_names.iter().filter_map(host).collect()
}

/// DNS ignores case, so a name in capitals counts as ours here and is then refused by its form.
pub(crate) fn is_ours(text: &str) -> bool {
    let text = text.trim_end_matches('.').to_ascii_lowercase();
    text == DOMAIN || text.strip_suffix(DOMAIN).is_some_and(|rest| rest.ends_with('.'))
}

/// SHA-256, from the library that TLS uses.
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    if let Some(suite) = TLS13_AES_128_GCM_SHA256.tls13() {
        let hash = suite.common.hash_provider.hash(data);
        out.copy_from_slice(hash.as_ref());
    }
    out
}

/// HMAC-SHA-256, from the library that TLS uses.
pub fn hmac_sha256(key: &[u8; 32], data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    if let Some(suite) = TLS13_AES_128_GCM_SHA256.tls13() {
        let tag = suite.hkdf_provider.hmac_sign(&OkmBlock::new(key), data);
        out.copy_from_slice(tag.as_ref());
    }
    out
}

/// A hash as people compare them, and as openssl prints it: `BA:78:16:…`.
pub(crate) fn hash_text(hash: &[u8]) -> String {
    let pairs: Vec<String> = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_hmac() {
        let hex: String =
            hmac_sha256(&[0x0b; 32], b"Hi There").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7");
    }

    #[test]
    fn sha256_is_sha256() {
        let hex: String = sha256(b"abc").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(hash_text(&sha256(b"abc")).starts_with("BA:78:16:BF:8F:01:"));
    }

    #[test]
    fn names_in_our_domain_are_found_however_written() {
        for ours in ["logd.internal", "x.logd.internal", "X.LOGD.INTERNAL", "x.logd.internal."] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in ["notlogd.internal", "logd.internal.example", "localhost", ""] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
