//! A member's own certificate, key and trusted authorities, and the TLS configurations from them.

use std::path::Path;
use std::sync::Arc;

use proto::life::{Date, Life};
use proto::{ClusterId, Identity};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::CertError;
use crate::files::{content, read_certs, read_certs_text, read_key};
use crate::identity::{Peer, hash_text, hmac_sha256, hosts_of, peer_of, sha256};
use crate::pin;
use crate::provider::provider;
use crate::verify::{Callers, Nodes};

/// What a member proves itself with. Cheap to clone; the key is never shown.
#[derive(Clone)]
pub struct Credentials {
    own: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    ca_pem: Arc<String>,
    peer: Peer,
    seed: [u8; 32],
    /// What is shown by HTTPS, if that is another.
    web: Option<Arc<CertifiedKey>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads and checks the three files: present, PEM, key private and the certificate's own, the
    /// certificate signed by an authority in `ca` (several while it is rotated), and in time.
    ///
    /// # Errors
    /// See [`CertError`]; the message names the file.
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Self, CertError> {
        let credentials = Self::load_any_age(ca, cert, key)?;
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        let Peer { not_before_unix, not_after_unix, .. } = credentials.peer;
        if now > not_after_unix {
            return Err(CertError::Expired { path: cert.to_owned(), at: Date(not_after_unix) });
        }
        if now < not_before_unix {
            let at = Date(not_before_unix);
            return Err(CertError::NotYetValid { path: cert.to_owned(), at });
        }
        Ok(credentials)
    }

    /// Like [`Credentials::load`], but leaves the dates to the other side, whose clock may be the
    /// better one. For clients: the answer is then the cluster's, and both sides know the reason.
    ///
    /// # Errors
    /// See [`CertError`]; the message names the file.
    pub fn load_any_age(ca: &Path, cert: &Path, key: &Path) -> Result<Self, CertError> {
        let mut roots = RootCertStore::empty();
        let (authorities, ca_pem) = read_certs_text(ca)?;
        for authority in authorities {
            roots.add(authority).map_err(|error| content(ca, error))?;
        }
        let chain = read_certs(cert)?;
        let peer = peer_of(&chain).map_err(|error| content(cert, error))?;
        let roots = Arc::new(roots);
        check_issuer(&chain, &peer, &roots)
            .map_err(|_| CertError::Untrusted { cert: cert.to_owned(), ca: ca.to_owned() })?;
        let private = read_key(key)?;
        let seed = sha256(private.secret_der());
        let own = certified(chain, (cert, key), private)?;
        Ok(Self { own: Arc::new(own), roots, ca_pem: Arc::new(ca_pem), peer, seed, web: None })
    }

    /// The same with another certificate for HTTPS, of any authority that browsers trust. Who comes is
    /// proven by the cluster's own all the same.
    ///
    /// # Errors
    /// When the files are no certificate and its key; the message names the file.
    pub fn with_web(self, cert: &Path, key: &Path) -> Result<Self, CertError> {
        let own = certified(read_certs(cert)?, (cert, key), read_key(key)?)?;
        Ok(Self { web: Some(Arc::new(own)), ..self })
    }

    /// Who this is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.peer.identity
    }

    /// Last second of the certificate's validity, since 1970.
    #[must_use]
    pub fn not_after_unix(&self) -> i64 {
        self.peer.not_after_unix
    }

    /// From when to when the certificate is valid.
    #[must_use]
    pub fn life(&self) -> Life {
        let Peer { not_before_unix, not_after_unix, .. } = self.peer;
        Life { from_unix_s: not_before_unix, until_unix_s: not_after_unix }
    }

    /// The certificate itself (X.509, DER).
    #[must_use]
    pub fn cert_der(&self) -> Vec<u8> {
        self.own.cert.first().map(|cert| cert.to_vec()).unwrap_or_default()
    }

    /// The host names and addresses in the certificate, besides the name that proves who this is.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        self.own.cert.first().map(|cert| hosts_of(cert)).unwrap_or_default()
    }

    /// SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` prints it. It is another one after
    /// a renewal; the key's, [`Self::fingerprint`], stays.
    #[must_use]
    pub fn cert_sha256_text(&self) -> String {
        hash_text(&sha256(&self.cert_der()))
    }

    /// SHA-256 of the public key (SubjectPublicKeyInfo).
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.peer.fingerprint
    }

    /// SHA-256 of the public key (SubjectPublicKeyInfo) of the authority that signed this certificate:
    /// what a join token names the authority by. Others may be trusted beside it, in any order.
    ///
    /// # Errors
    /// When the trusted authorities cannot be read any more.
    pub fn authority_sha256(&self) -> Result<[u8; 32], CertError> {
        let attempted = "find the authority of the own certificate";
        for authority in CertificateDer::pem_slice_iter(self.ca_pem.as_bytes()) {
            let authority = authority.map_err(CertError::crypto(attempted))?;
            let mut alone = RootCertStore::empty();
            alone.add(authority.clone()).map_err(CertError::crypto(attempted))?;
            if check_issuer(&self.own.cert, &self.peer, &Arc::new(alone)).is_ok() {
                let key = pin::spki_of(&authority);
                return key.ok_or_else(|| CertError::crypto(attempted)("it is no certificate"));
            }
        }
        Err(CertError::crypto(attempted)("it is not among those that are trusted"))
    }

    /// The authorities that are trusted (PEM).
    #[must_use]
    pub fn ca_pem(&self) -> &Arc<String> {
        &self.ca_pem
    }

    /// A secret that only the holder of the private key can make, and makes again after a restart.
    /// Different labels give unrelated secrets.
    #[must_use]
    pub fn secret(&self, label: &str) -> [u8; 32] {
        hmac_sha256(&self.seed, label.as_bytes())
    }

    /// The side that is dialled. A certificate that is shown must be of this cluster. Showing none
    /// is not refused here: the caller must ask who it is before anything but joining is talked of.
    ///
    /// # Errors
    /// When the TLS library refuses the configuration.
    pub fn server_config(&self, alpns: &[&[u8]]) -> Result<Arc<ServerConfig>, CertError> {
        self.serving(Arc::clone(&self.own), alpns)
    }

    /// The same for HTTPS, where somebody else's certificate may be shown.
    ///
    /// # Errors
    /// As [`Credentials::server_config`].
    pub fn web_config(&self, alpns: &[&[u8]]) -> Result<Arc<ServerConfig>, CertError> {
        self.serving(Arc::clone(self.web.as_ref().unwrap_or(&self.own)), alpns)
    }

    fn serving(
        &self,
        shown: Arc<CertifiedKey>,
        alpns: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, CertError> {
        let verifier = Callers { inner: callers(&self.roots)?, cluster: self.cluster() };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(CertError::crypto("configure TLS"))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
        // A resumed session would skip the check of the certificate, and so outlive it.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    /// The side that dials. Whoever answers must be a node of this cluster, and the one dialled. It
    /// picks one of the protocols.
    ///
    /// # Errors
    /// When the TLS library refuses the configuration.
    pub fn client_config(&self, alpns: &[&[u8]]) -> Result<Arc<ClientConfig>, CertError> {
        let roots = Arc::clone(&self.roots);
        let inner = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(CertError::crypto("trust the cluster's authority"))?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(CertError::crypto("configure TLS"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Nodes { inner, cluster: self.cluster() }))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.own))));
        config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(Arc::new(config))
    }

    /// Whether an authority that is trusted signed a chain, whatever its age.
    pub(crate) fn check_issuer(
        &self,
        chain: &[CertificateDer<'static>],
        peer: &Peer,
    ) -> Result<(), CertError> {
        check_issuer(chain, peer, &self.roots)
    }

    fn cluster(&self) -> ClusterId {
        self.peer.identity.cluster.clone()
    }
}

/// A certificate with its key, which must fit together.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    (cert, key): (&Path, &Path),
    private: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, CertError> {
    CertifiedKey::from_der(chain, private, &provider()).map_err(|error| {
        if matches!(error, rustls::Error::InconsistentKeys(_)) {
            CertError::KeyMismatch { key: key.to_owned(), cert: cert.to_owned() }
        } else {
            content(key, error)
        }
    })
}

/// Whether an authority in `roots` signed the chain; asked for the first second of its validity,
/// so that its age plays no part.
fn check_issuer(
    chain: &[CertificateDer<'static>],
    peer: &Peer,
    roots: &Arc<RootCertStore>,
) -> Result<(), CertError> {
    let untrusted = CertError::crypto("verify the certificate");
    let (first, rest) = chain.split_first().ok_or_else(|| untrusted("no certificate"))?;
    let since = u64::try_from(peer.not_before_unix).unwrap_or(0);
    let then = UnixTime::since_unix_epoch(std::time::Duration::from_secs(since));
    let verified = callers(roots)?.verify_client_cert(first, rest, then);
    verified.map(drop).map_err(CertError::crypto("verify the certificate"))
}

fn callers(roots: &Arc<RootCertStore>) -> Result<Arc<dyn ClientCertVerifier>, CertError> {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider())
        .build()
        .map_err(CertError::crypto("trust the cluster's authority"))
}
