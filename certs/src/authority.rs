//! The cluster's certificate authority.

use std::net::IpAddr;
use std::time::Duration;

use proto::life::{LIFE_DEFAULT_S, Life};
use proto::{ClusterId, Identity, Role};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, UnixTime};
use x509_parser::prelude::FromDer;

use crate::CertError;
use crate::identity::{is_ours, peer_of, sha256};
use crate::provider::provider;

/// What every node is called on its own machine.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY_S: u64 = 24 * 3600;
/// Clocks are expected to be wrong by up to this when a certificate is made, but by no more than a
/// tenth of a short life: most of it would be over at its beginning.
const BACKDATE_S: u64 = 3600;
/// Life of the authority itself.
const AUTHORITY_DAYS: u64 = 3650;
/// A request holds one public key and a signature; anything much larger is not one.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// How a certificate is issued.
#[derive(Debug, Clone)]
pub struct IssueOptions {
    /// The time of issue; the certificate is valid from an hour before, or a tenth of its life.
    pub now: UnixTime,
    /// How long it lives; never beyond the authority's own end.
    pub life: Duration,
    /// Further host names and addresses, for clients that are not ours (a browser, a probe).
    pub alt_names: Vec<String>,
}

impl Default for IssueOptions {
    fn default() -> Self {
        Self::living(Duration::from_secs(LIFE_DEFAULT_S))
    }
}

impl IssueOptions {
    /// Issued now, for so long.
    #[must_use]
    pub fn living(life: Duration) -> Self {
        Self { now: UnixTime::now(), life, alt_names: Vec::new() }
    }

    /// The same for a node that is reached at these hosts: whoever asks it by HTTPS goes by its host name
    /// or IP address.
    #[must_use]
    pub fn reached_at<'a>(mut self, hosts: impl IntoIterator<Item = &'a str>) -> Self {
        for host in hosts {
            let host = host.trim_end_matches('.');
            let nobodys = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
            // A second name of ours would make it nobody's certificate.
            if !nobodys && !is_ours(host) && !self.alt_names.iter().any(|known| known == host) {
                self.alt_names.push(host.to_owned());
            }
        }
        self
    }

    /// The same, issued so long ago.
    #[must_use]
    pub fn ago(mut self, age: Duration) -> Self {
        let then = self.now.as_secs().saturating_sub(age.as_secs());
        self.now = UnixTime::since_unix_epoch(Duration::from_secs(then));
        self
    }
}

/// A certificate and its new key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub cert_pem: String,
    /// The private key.
    pub key_pem: String,
}

/// A certificate for a key that stayed where it was made.
#[derive(Debug, Clone)]
pub struct SignedCsr {
    /// The certificate (PEM).
    pub cert_pem: String,
    /// SHA-256 of the public key (SubjectPublicKeyInfo).
    pub fingerprint: [u8; 32],
}

/// The authority of one cluster: ECDSA P-256, ten years, signs members and no further authority.
pub struct Authority {
    cluster: ClusterId,
    cert_pem: String,
    not_after_s: u64,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes the authority of a new cluster.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn create(cluster: &ClusterId) -> Result<Self, CertError> {
        let epoch = date_time_ymd(1970, 1, 1);
        let now_s = UnixTime::now().as_secs();
        let mut params = CertificateParams::default();
        params.not_before = epoch + Duration::from_secs(now_s.saturating_sub(DAY_S));
        params.not_after = epoch + Duration::from_secs(now_s + AUTHORITY_DAYS * DAY_S);
        params.serial_number = Some(serial()?);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, cluster.as_str());
        params.distinguished_name.push(DnType::CommonName, "logd cluster authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(CertError::crypto("make the authority's key"))?;
        let cert = params.self_signed(&key);
        let cert = cert.map_err(CertError::crypto("make the authority's certificate"))?;
        Self::load(&cert.pem(), &key.serialize_pem())
    }

    /// Reads an authority from its certificate and key, both PEM. The text may hold the certificates of
    /// other authorities too, as while one is replaced, in any order.
    ///
    /// # Errors
    /// When either is no such thing, they do not belong together, or the certificate is not that
    /// of a cluster's authority.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self, CertError> {
        let refused = |reason: &str| CertError::Crypto {
            attempted: "use the cluster's authority",
            reason: reason.to_owned(),
        };
        let key = KeyPair::from_pem(key_pem)
            .map_err(|_| refused("its key file holds no private key in PEM form"))?;
        let ders: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert_pem.as_bytes()).collect();
        let ders = ders.ok().filter(|ders| !ders.is_empty());
        let ders =
            ders.ok_or_else(|| refused("its certificate file holds no certificate in PEM form"))?;
        let mut own = None;
        for der in &ders {
            let (_, cert) = x509_parser::parse_x509_certificate(der)
                .map_err(|_| refused("its certificate cannot be read"))?;
            if cert.public_key().raw == key.subject_public_key_info() {
                own = Some((der, cert));
            }
        }
        let (der, cert) = own.ok_or_else(|| match ders.len() {
            1 => refused("the key does not belong to the certificate"),
            _ => refused("the key belongs to none of the certificates"),
        })?;
        if !cert.is_ca() {
            return Err(refused("the certificate is not that of an authority"));
        }
        let organization = cert.subject().iter_organization().next();
        let cluster = organization.and_then(|o| o.as_str().ok()?.parse().ok());
        let cluster = cluster.ok_or_else(|| refused("the certificate carries no cluster id"))?;
        let not_after_s = u64::try_from(cert.validity().not_after.timestamp()).unwrap_or(0);
        let issuer = Issuer::from_ca_cert_der(der, key)
            .map_err(CertError::crypto("use the cluster's authority"))?;
        Ok(Self { cluster, cert_pem: cert_pem.to_owned(), not_after_s, issuer })
    }

    /// The authority's certificate (PEM).
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The authority's private key (PEM).
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    pub(crate) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// The cluster that this authority speaks for.
    #[must_use]
    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// Makes a key and a certificate for a member.
    ///
    /// # Errors
    /// When the identity is of another cluster, or an alternative name is not one.
    pub fn issue(&self, identity: &Identity, opts: &IssueOptions) -> Result<Issued, CertError> {
        let key = KeyPair::generate().map_err(CertError::crypto("make a private key"))?;
        let cert = self.sign(&key, identity, opts)?;
        Ok(Issued { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }

    /// Makes a certificate for the key of a request (PKCS #10, DER). Every name in the request is
    /// ignored: the identity is what the caller has established.
    ///
    /// # Errors
    /// When the request is malformed, not signed by its own key, or its key is of a kind that we
    /// do not use.
    pub fn sign_csr(
        &self,
        csr_der: &[u8],
        identity: &Identity,
        opts: &IssueOptions,
    ) -> Result<SignedCsr, CertError> {
        let (request, key) = checked_request(csr_der)?;
        let cert = self.sign(&request.public_key, identity, opts)?;
        let (_, signed) = x509_parser::parse_x509_certificate(cert.der())
            .map_err(CertError::crypto("read back the certificate"))?;
        // The library takes the kind of key from the kind of signature; they may disagree.
        if signed.public_key().raw != key {
            return Err(CertError::Request("its key is not an ECDSA P-256 key".to_owned()));
        }
        let fingerprint = peer_of(&[cert.der().clone()])?.fingerprint;
        Ok(SignedCsr { cert_pem: cert.pem(), fingerprint })
    }

    fn sign(
        &self,
        key: &impl PublicKeyData,
        identity: &Identity,
        opts: &IssueOptions,
    ) -> Result<Certificate, CertError> {
        if identity.cluster != self.cluster {
            return Err(CertError::Identity(format!(
                "the authority of cluster {} cannot sign for cluster {}",
                self.cluster, identity.cluster
            )));
        }
        let mut names = vec![identity.dns_name()];
        if identity.role == Role::Node {
            names.extend(LOCAL_NAMES.map(str::to_owned));
        }
        for name in &opts.alt_names {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let mut params = CertificateParams::new(names).map_err(|error| {
            CertError::Identity(format!("a name cannot be in a certificate: {error}"))
        })?;
        let epoch = date_time_ymd(1970, 1, 1);
        let now_s = opts.now.as_secs();
        let life_s = opts.life.as_secs();
        let end_s = now_s.saturating_add(life_s).min(self.not_after_s);
        let backdate_s = BACKDATE_S.min(life_s / 10);
        params.not_before = epoch + Duration::from_secs(now_s.saturating_sub(backdate_s));
        params.not_after = epoch + Duration::from_secs(end_s);
        params.serial_number = Some(serial()?);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, identity.to_string());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match identity.role {
            // A node dials and is dialled.
            Role::Node => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Role::Client | Role::Admin => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        params.signed_by(key, &self.issuer).map_err(CertError::crypto("sign a certificate"))
    }
}

/// From when to when the first authority of a PEM text is valid.
///
/// # Errors
/// When there is no certificate in it.
pub fn authority_life(ca_pem: &str) -> Result<Life, CertError> {
    let attempted = "read the authority's certificate";
    let der = CertificateDer::from_pem_slice(ca_pem.as_bytes());
    let der = der.map_err(CertError::crypto(attempted))?;
    let (_, cert) =
        x509_parser::parse_x509_certificate(&der).map_err(CertError::crypto(attempted))?;
    let validity = cert.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Ok(Life { from_unix_s: from, until_unix_s: until })
}

/// SHA-256 of the public key (SubjectPublicKeyInfo) that a request (PKCS #10, DER) asks for.
///
/// # Errors
/// As [`Authority::sign_csr`].
pub fn request_fingerprint(csr_der: &[u8]) -> Result<[u8; 32], CertError> {
    checked_request(csr_der).map(|(_, key)| sha256(&key))
}

/// A request that its own key has signed, and that key (SubjectPublicKeyInfo).
fn checked_request(
    csr_der: &[u8],
) -> Result<(CertificateSigningRequestParams, Vec<u8>), CertError> {
    let refused = |reason: String| CertError::Request(reason);
    if csr_der.len() > REQUEST_BYTES_MAX {
        return Err(refused(format!("{} bytes are too many", csr_der.len())));
    }
    // Checks the request's signature by its own key: proof that the asker holds it.
    let request =
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
            .map_err(|error| refused(error.to_string()))?;
    if request.public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
        return Err(refused("its key is not an ECDSA P-256 key".to_owned()));
    }
    let asked = x509_parser::certification_request::X509CertificationRequest::from_der(csr_der)
        .map_err(|error| refused(error.to_string()))?
        .1;
    let key = asked.certification_request_info.subject_pki.raw.to_vec();
    Ok((request, key))
}

/// 16 random bytes, positive: two certificates of one key must differ, so one can be revoked.
fn serial() -> Result<SerialNumber, CertError> {
    let mut bytes = random::<16>()?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Random bytes that nobody can guess, for a secret.
///
/// # Errors
/// When the machine has no randomness to give.
pub fn random<const N: usize>() -> Result<[u8; N], CertError> {
    let mut bytes = [0; N];
    provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| CertError::crypto("draw random bytes")("no randomness"))?;
    Ok(bytes)
}
