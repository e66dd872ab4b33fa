//! Verifiers that do what rustls' own do and, where they refuse, say why in one sentence.

use std::fmt;
use std::sync::Arc;

use proto::identity::DOMAIN;
use proto::life::Date;
use proto::{ClusterId, Role};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use crate::identity::{Peer, peer_of};

/// The name to dial when any node of the cluster will do: no certificate carries it.
#[must_use]
pub fn any_node(cluster: &ClusterId) -> String {
    format!("{cluster}.{DOMAIN}")
}

/// Finds the sentence that one of our verifiers wrote in the text of a failed handshake.
#[must_use]
pub fn refusal(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(OPEN)?;
    rest.split_once(CLOSE).map(|(sentence, _)| sentence)
}

const OPEN: &str = "refused: <";
const CLOSE: &str = ">";

/// A sentence in the shape that rustls carries an unknown error in. rustls shows it by `Debug`.
struct Refusal(String);

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPEN}{}{CLOSE}", self.0)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

pub(crate) fn refuse(sentence: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refusal(sentence)))))
}

/// What a refused certificate is, in words; `own` is the cluster of the side that refuses.
#[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add reasons at any time")]
pub(crate) fn explain(cert: &CertificateDer<'_>, error: Error, own: &ClusterId) -> Error {
    let Error::InvalidCertificate(reason) = &error else { return error };
    let peer = match peer_of(std::slice::from_ref(cert)) {
        Ok(peer) => peer,
        Err(problem) => return refuse(problem.to_string()),
    };
    let Peer { identity, not_before_unix, not_after_unix, .. } = peer;
    let whose = format!("the certificate of {identity}");
    refuse(match reason {
        _ if identity.cluster != *own => {
            format!("{whose} is of cluster {}, this is cluster {own}", identity.cluster)
        }
        // Authorities of one cluster share a name, so another one's signature is found to be bad.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("{whose} was not signed by the authority of cluster {own}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("{whose} expired on {}", Date(not_after_unix))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("{whose} is not valid before {}", Date(not_before_unix))
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("{identity} answers at this address, but another member was dialled")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("{whose} is not for this side of a connection")
        }
        other => format!("{whose} is not valid: {other}"),
    })
}

/// Verifies whoever connects and shows a certificate: signed by the cluster's authority, in time,
/// meant for connecting. Whoever shows none is told apart by what it asks for, once the handshake
/// is over: without a certificate one may ask to join, and nothing else.
#[derive(Debug)]
pub(crate) struct Callers {
    pub(crate) inner: Arc<dyn ClientCertVerifier>,
    pub(crate) cluster: ClusterId,
}

impl ClientCertVerifier for Callers {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.inner
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| explain(end_entity, error, &self.cluster))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Verifies whoever was dialled: signed by the cluster's authority, in time, a node, and the very
/// node whose name was dialled, or any node if [`any_node`] was.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) inner: Arc<dyn ServerCertVerifier>,
    pub(crate) cluster: ClusterId,
}

impl Nodes {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if server_name.to_str() != any_node(&self.cluster) {
            return self.inner.verify_server_cert(end_entity, intermediates, server_name, &[], now);
        }
        let peer = peer_of(std::slice::from_ref(end_entity));
        let identity = peer.map_err(|problem| refuse(problem.to_string()))?.identity;
        if identity.role != Role::Node || identity.cluster != self.cluster {
            return Err(refuse(format!(
                "{identity} of cluster {} answers at this address, not a node of cluster {}",
                identity.cluster, self.cluster
            )));
        }
        // The name is one that may answer; whether it is proven is the usual check's to say.
        let name = ServerName::try_from(identity.dns_name())
            .map_err(|_| refuse(format!("{identity} has no name that can be dialled")))?;
        self.inner.verify_server_cert(end_entity, intermediates, &name, &[], now)
    }
}

impl ServerCertVerifier for Nodes {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, server_name, now)
            .map_err(|error| explain_unless_said(end_entity, error, &self.cluster))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn explain_unless_said(cert: &CertificateDer<'_>, error: Error, own: &ClusterId) -> Error {
    if matches!(error, Error::InvalidCertificate(CertificateError::Other(_))) {
        return error;
    }
    explain(cert, error, own)
}
