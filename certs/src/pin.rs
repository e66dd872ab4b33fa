//! How somebody without a certificate knows the cluster: by the hash of its authority's key.
//!
//! The handshake proves that the other side holds the key of the certificate it shows, whoever
//! signed that. Then it says which authority it trusts, and [`check_offer`] decides: the hash fits,
//! that very authority signed the shown certificate, and it is a node's of the wanted cluster. Only
//! then is this the cluster, and may a secret be shown.

use std::fmt;
use std::sync::Arc;

use proto::{ClusterId, Role};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::provider::provider;
use crate::verify::{explain, refusal, refuse};
use crate::{CertError, Peer, peer_of, sha256};

/// Why an offer is not that of the wanted cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Somebody else answers: the authority, the cluster or the role is another one.
    #[error("{0}")]
    Foreign(String),
    /// The certificate is not valid at the time of this machine's clock.
    #[error("{0}; check this machine's clock")]
    Time(String),
}

/// This machine's clock, whole seconds since 1970: what certificates are checked against.
#[must_use]
pub fn now_unix_s() -> u64 {
    UnixTime::now().as_secs()
}

/// SHA-256 of the public key (SubjectPublicKeyInfo) of the one certificate in a PEM text: what a join
/// token names the authority by. Where there may be several, see
/// [`crate::Credentials::authority_sha256`].
///
/// # Errors
/// When there is no certificate in the text.
pub fn spki_sha256(ca_pem: &str) -> Result<[u8; 32], CertError> {
    let attempted = "read the authority's certificate";
    let first = CertificateDer::from_pem_slice(ca_pem.as_bytes());
    let first = first.map_err(CertError::crypto(attempted))?;
    spki_of(&first).ok_or_else(|| CertError::crypto(attempted)("it is not an X.509 certificate"))
}

pub(crate) fn spki_of(cert: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, cert) = x509_parser::parse_x509_certificate(cert).ok()?;
    Some(sha256(cert.public_key().raw))
}

/// The side that dials and knows nobody: it shows no certificate, and takes any that the other
/// side proves to hold the key of.
///
/// # Errors
/// When the TLS library refuses the configuration.
pub fn client_config(alpn: &[u8]) -> Result<Arc<ClientConfig>, CertError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(CertError::crypto("configure TLS"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider())))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// Decides whether who answered is a node of the wanted cluster: `chain` is what it showed in the
/// handshake, `ca_pem` the authorities that it says it trusts.
///
/// # Errors
/// When it is somebody else, or its certificate is not valid now.
pub fn check_offer(
    chain: &[CertificateDer<'_>],
    ca_pem: &str,
    ca_sha256: &[u8; 32],
    cluster: &ClusterId,
) -> Result<Peer, OfferError> {
    let foreign = |text: String| OfferError::Foreign(text);
    let pinned = CertificateDer::pem_slice_iter(ca_pem.as_bytes())
        .filter_map(Result::ok)
        .find(|authority| spki_of(authority).as_ref() == Some(ca_sha256));
    let pinned = pinned.ok_or_else(|| {
        foreign(
            "it is of another cluster: its authority is not the one that the token names"
                .to_owned(),
        )
    })?;
    let peer = peer_of(chain).map_err(|error| foreign(error.to_string()))?;
    if peer.identity.role != Role::Node || peer.identity.cluster != *cluster {
        let who = &peer.identity;
        return Err(foreign(format!(
            "{who} of cluster {} answers, not a node of cluster {cluster}",
            who.cluster
        )));
    }
    let verified = verify(chain, pinned, &peer);
    verified.map(|_| peer).map_err(|error| {
        let time = is_about_time(&error);
        let said = match chain.first() {
            Some(leaf) => {
                let told = explain(leaf, error, cluster).to_string();
                refusal(&told).map(str::to_owned).unwrap_or(told)
            }
            None => error.to_string(),
        };
        if time { OfferError::Time(said) } else { OfferError::Foreign(said) }
    })
}

fn verify(
    chain: &[CertificateDer<'_>],
    authority: CertificateDer<'static>,
    peer: &Peer,
) -> Result<ServerCertVerified, Error> {
    let said = |problem: &dyn fmt::Display| refuse(problem.to_string());
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| said(&error))?;
    let (leaf, rest) = chain.split_first().ok_or_else(|| said(&"it shows no certificate"))?;
    let name = ServerName::try_from(peer.identity.dns_name()).map_err(|error| said(&error))?;
    verifier.verify_server_cert(leaf, rest, &name, &[], UnixTime::now())
}

fn is_about_time(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    )
}

/// Takes any certificate whose key the other side proves to hold.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Decided by `check_offer`, before anything secret is said.
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refuse("only TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
