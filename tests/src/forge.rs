//! Certificates that the product must refuse: of a rogue authority, expired, in the wrong role.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use certs::{Authority, Credentials, IssueOptions, write_private, write_public};
use proto::{ClusterId, Identity, Role};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, date_time_ymd};

/// A folder of forged identities for one cluster.
pub struct Forge {
    folder: PathBuf,
    authority: Authority,
}

/// Files of a forged identity.
#[derive(Debug, Clone)]
pub struct Forged {
    /// Authority to trust.
    pub ca: PathBuf,
    /// Certificate.
    pub cert: PathBuf,
    /// Key.
    pub key: PathBuf,
}

impl Forged {
    /// Loads them, whatever their age.
    ///
    /// # Errors
    /// When they do not fit each other.
    pub fn credentials(&self) -> anyhow::Result<Credentials> {
        Ok(Credentials::load_any_age(&self.ca, &self.cert, &self.key)?)
    }
}

impl Forge {
    /// With the stolen key of a cluster's authority, from its folder `pki`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn stolen(folder: &Path, pki: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| std::fs::read_to_string(pki.join(name));
        let authority = Authority::load(&read("ca.crt")?, &read("ca.key")?)?;
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), authority })
    }

    /// With a new authority that claims to be the cluster's own.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn rogue(folder: &Path, cluster: &ClusterId) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), authority: Authority::create(cluster)? })
    }

    /// Makes an identity. It trusts `trusted` besides its own authority.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn identity(&self, role: Role, name: &str, trusted: &Path) -> anyhow::Result<Forged> {
        let issued = self.authority.issue(&self.named(role, name)?, &IssueOptions::default())?;
        self.write(role, name, trusted, &issued.cert_pem, &issued.key_pem)
    }

    /// Makes an identity whose certificate expired long ago.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn expired(&self, role: Role, name: &str, trusted: &Path) -> anyhow::Result<Forged> {
        let key = KeyPair::generate()?;
        let signing = KeyPair::from_pem(&self.authority.key_pem())?;
        let issuer = Issuer::from_ca_cert_pem(self.authority.cert_pem(), signing)?;
        let mut params = CertificateParams::new(vec![self.named(role, name)?.dns_name()])?;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 3, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, &issuer)?;
        self.write(role, name, trusted, &cert.pem(), &key.serialize_pem())
    }

    fn named(&self, role: Role, name: &str) -> anyhow::Result<Identity> {
        let name = name.parse().with_context(|| name.to_owned())?;
        Ok(Identity { cluster: self.authority.cluster().clone(), role, name })
    }

    fn write(
        &self,
        role: Role,
        name: &str,
        trusted: &Path,
        cert: &str,
        key: &str,
    ) -> anyhow::Result<Forged> {
        let number = std::fs::read_dir(&self.folder)?.count();
        let file = |end: &str| self.folder.join(format!("{name}-{}-{number}.{end}", role.label()));
        let forged = Forged { ca: file("ca.crt"), cert: file("crt"), key: file("key") };
        let own = self.authority.cert_pem();
        write_public(&forged.ca, &format!("{}{own}", std::fs::read_to_string(trusted)?))?;
        write_public(&forged.cert, cert)?;
        write_private(&forged.key, key)?;
        Ok(forged)
    }
}
