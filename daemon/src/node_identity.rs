//! Who this node is, proven: its certificate and key, loaded and checked against the configuration.
//!
//! Loaded at the start and again at every reload; whoever holds a [`NodeIdentity`] may serve with it.
//!
//! Not here: how certificates are made and verified (`certs`).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use certs::{Authority, CertError, Credentials, IssueOptions};
use config::{Config, Tls};
use proto::address::host;
use proto::{ClusterId, Identity, Name, Role};

/// What lets this node prove who it is.
pub struct NodeIdentity {
    /// Certificate, key and the authority of the cluster.
    pub credentials: Credentials,
    /// The authority with its key, if this node may sign certificates.
    pub signer: Option<Signer>,
}

/// The cluster's authority in the hands of this node.
pub struct Signer {
    authority: Authority,
    /// How long a certificate lives where the cluster does not say.
    life: Duration,
}

impl Signer {
    /// Signs a request (PKCS #10, DER) for whom it was found to be. Returns the certificate (PEM).
    /// It lives as long as the cluster has set, or where that is not known, as the node's file says. A
    /// node's also names the hosts of the addresses where it is reached.
    ///
    /// # Errors
    /// As [`Authority::sign_csr`].
    pub fn sign(
        &self,
        csr: &[u8],
        identity: &Identity,
        cluster_life: Option<Duration>,
        addresses: &[String],
    ) -> Result<String, CertError> {
        let life = IssueOptions::living(cluster_life.unwrap_or(self.life));
        let opts = life.reached_at(addresses.iter().filter_map(|address| host(address)));
        let signed = self.authority.sign_csr(csr, identity, &opts)?;
        Ok(signed.cert_pem)
    }

    /// The authority's key (PEM), for another node that may sign.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.authority.key_pem()
    }
}

/// Names the cluster, and never a key.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("cluster", self.authority.cluster()).finish_non_exhaustive()
    }
}

/// Names the node, and never a key.
impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signer = self.signer.is_some();
        let identity = self.credentials.identity();
        f.debug_struct("NodeIdentity").field("identity", identity).field("signer", &signer).finish()
    }
}

/// Why the files do not prove that this is the configured node.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// A file is wrong, or two do not belong together.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// The certificate is somebody else's.
    #[error(
        "the certificate in {} is that of {found}, but the configuration is for node {wanted}",
        cert.display()
    )]
    Other {
        /// The file.
        cert: PathBuf,
        /// Whom it names.
        found: Identity,
        /// The configured node.
        wanted: Name,
    },
    /// The key that shall sign for clients is another cluster's.
    #[error(
        "the key in {} is that of the authority of cluster {found}, this node is in {wanted}",
        ca_key.display()
    )]
    Signer {
        /// The file.
        ca_key: PathBuf,
        /// The cluster it signs for.
        found: ClusterId,
        /// The node's cluster.
        wanted: ClusterId,
    },
}

impl ProofError {
    /// What to try, in one line.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Cert(error) => error.hint(),
            Self::Other { .. } => {
                "set tls.cert and tls.key to those of this node, or node = \"…\" to the name in \
                 them"
            }
            Self::Signer { .. } => {
                "set tls.ca and tls.ca_key to those of the same cluster, or leave tls.ca_key out"
            }
        }
    }
}

impl NodeIdentity {
    /// Loads and checks the files that a configuration names.
    ///
    /// # Errors
    /// When they do not prove that this is the configured node.
    pub fn load(config: &Config) -> Result<Self, ProofError> {
        let tls = &config.tls;
        let credentials = Credentials::load(&tls.ca, &tls.cert, &tls.key)?;
        let identity = credentials.identity();
        if identity.role != Role::Node || identity.name != config.node {
            let (found, wanted) = (identity.clone(), config.node.clone());
            return Err(ProofError::Other { cert: tls.cert.clone(), found, wanted });
        }
        let signer = Signer::load(tls, &identity.cluster)?;
        let credentials = match &config.http.pair {
            Some((cert, key)) => credentials.with_web(cert, key)?,
            None => credentials,
        };
        Ok(Self { credentials, signer })
    }
}

impl Signer {
    /// The authority's key that the configuration names, else the one that another node has handed
    /// over; `None` if there is neither.
    ///
    /// # Errors
    /// When there is one that is no good, or another cluster's.
    pub fn load(tls: &Tls, wanted: &ClusterId) -> Result<Option<Self>, ProofError> {
        let handed = Some(tls.handed_key()).filter(|path| path.exists());
        let Some(ca_key) = tls.ca_key.clone().or(handed) else { return Ok(None) };
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| {
                let path = path.to_owned();
                CertError::File { verb: "read", path, source }
            })
        };
        let authority = Authority::load(&read(&tls.ca)?, &read(&ca_key)?)?;
        if authority.cluster() != wanted {
            let found = authority.cluster().clone();
            return Err(ProofError::Signer { ca_key, found, wanted: wanted.clone() });
        }
        Ok(Some(Self { authority, life: tls.cert_life }))
    }
}

#[cfg(test)]
mod tests {
    use certs::{IssueOptions, write_private, write_public};

    use super::*;

    /// A folder with an authority, and one certificate of `role` named `n1`.
    fn folder(role: Role) -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path();
        let authority = Authority::create(&ClusterId::from_bytes([1; 16])).unwrap();
        write_public(&pki.join("ca.crt"), authority.cert_pem()).unwrap();
        write_private(&pki.join("ca.key"), &authority.key_pem()).unwrap();
        let cluster = authority.cluster().clone();
        let identity = Identity { cluster, role, name: "n1".parse().unwrap() };
        let issued = authority.issue(&identity, &IssueOptions::default()).unwrap();
        write_public(&pki.join("n1.crt"), &issued.cert_pem).unwrap();
        write_private(&pki.join("n1.key"), &issued.key_pem).unwrap();
        let text = "node = \"n1\"\nlisten = \"127.0.0.1:1\"\ndata_dir = \"d\"\n\
                    clock.mode = \"local\"\n[tls]\nca = \"ca.crt\"\ncert = \"n1.crt\"\n\
                    key = \"n1.key\"\nca_key = \"ca.key\"\n";
        let config = Config::parse(text, &pki.join("node1.toml")).unwrap();
        (folder, config)
    }

    #[test]
    fn files_that_fit_prove_the_node() {
        let (_folder, mut config) = folder(Role::Node);
        assert!(NodeIdentity::load(&config).unwrap().signer.is_some());
        config.tls.ca_key = None;
        assert!(NodeIdentity::load(&config).unwrap().signer.is_none());
    }

    #[test]
    fn another_name_role_or_cluster_is_refused_with_the_reason() {
        let (_folder, mut config) = folder(Role::Node);
        config.node = "n2".parse().unwrap();
        let error = NodeIdentity::load(&config).unwrap_err().to_string();
        assert!(error.contains("that of node n1, but the configuration is for node n2"), "{error}");

        let (_folder, config) = folder(Role::Client);
        let error = NodeIdentity::load(&config).unwrap_err().to_string();
        assert!(error.contains("that of client n1"), "{error}");

        let (_mine, mut config) = folder(Role::Node);
        let (_other, others) = folder(Role::Node);
        config.tls.key = others.tls.key;
        let error = NodeIdentity::load(&config).unwrap_err().to_string();
        assert!(error.contains("does not belong to the certificate"), "{error}");
        config.tls.key = config.tls.cert.with_file_name("n1.key");
        config.tls.ca_key = others.tls.ca_key;
        assert!(NodeIdentity::load(&config).is_err());
    }
}
