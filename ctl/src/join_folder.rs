//! The folder of a node that joins: key, certificate, configuration, and the permission to create a
//! store. It is laid out as that of a cluster's first nodes, without the authority's key.
//!
//! What was begun is written down before the cluster is asked, so that the same command after an
//! interruption asks for the same name, key and store again, and is admitted once.
//!
//! Not here: the conversation (`net::join`), what can be typed (`verb/join`).

use std::io;
use std::path::{Path, PathBuf};

use certs::Credentials;
use config::seed::{SEED_FILE, Seed};
use config::template::NodeConfig;
use net::join::Admitted;
use proto::token::JoinToken;
use proto::{Name, Role};
use serde::{Deserialize, Serialize};

use crate::error::CtlError;
use crate::home::{make_private_dir, refuse_shared, write_atomic};
use crate::layout;
use crate::system::{self, System};

/// The configuration's file name.
const CONFIG: &str = system::CONFIG;

/// What was begun; written before the cluster is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begun {
    /// The cluster.
    pub(crate) cluster: String,
    /// Name of the node.
    pub(crate) node: String,
    /// Incarnation of the store that it will make.
    pub(crate) incarnation: String,
    /// `ip:port` that it will listen on.
    pub(crate) listen: String,
    /// Where the others will dial it.
    pub(crate) advertise: String,
}

/// The folder of one node.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    name: Name,
    /// Where it is that of the machine's service.
    system: Option<System>,
}

impl Folder {
    /// The folder for a node; nothing is looked at yet.
    pub(crate) fn new(dir: PathBuf, name: Name) -> Self {
        Self { dir, name, system: None }
    }

    /// Where the node of the machine has its files.
    pub(crate) fn of_system(system: System, name: Name) -> Self {
        Self { dir: system.conf(), name, system: Some(system) }
    }

    /// What to do with a folder of a node that was removed.
    pub(crate) fn put_aside(&self) -> String {
        let dir = self.dir.display();
        match &self.system {
            None => format!("move {dir} away, or give another --dir; and make a new token"),
            Some(_) => {
                let stores = self.stores();
                format!("move {dir} and {} away, and make a new token", stores.display())
            }
        }
    }

    /// Gives the service's user what is its own.
    ///
    /// # Errors
    /// When something cannot be given away.
    pub(crate) fn hand_over(&self) -> Result<(), CtlError> {
        self.system.as_ref().map_or(Ok(()), |system| system.hand_over(&self.name))
    }

    /// The configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join(CONFIG)
    }

    fn pki(&self, file: &str) -> PathBuf {
        self.dir.join("pki").join(file)
    }

    fn begun_file(&self) -> PathBuf {
        self.pki("join.toml")
    }

    fn key(&self) -> PathBuf {
        self.pki(&format!("{}.key", self.name))
    }

    fn cert(&self) -> PathBuf {
        self.pki(&format!("{}.crt", self.name))
    }

    fn stores(&self) -> PathBuf {
        self.system.as_ref().map_or_else(|| self.dir.join("data"), System::data)
    }

    fn data(&self) -> PathBuf {
        self.stores().join(self.name.as_str())
    }

    /// What an earlier run began here for the same cluster and node; `None` in a folder that is
    /// empty or not there.
    ///
    /// # Errors
    /// Exit code 6 when the folder is somebody else's.
    pub(crate) fn begun(&self, token: &JoinToken) -> Result<Option<Begun>, CtlError> {
        let file = self.begun_file();
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match (first_entry(&self.dir)?, first_entry(&self.stores())?) {
                    (None, None) => Ok(None),
                    (Some(entry), _) => Err(self.foreign(&format!("it holds {entry}"))),
                    (None, Some(entry)) => {
                        let stores = self.stores();
                        Err(self.foreign(&format!("{} holds {entry}", stores.display())))
                    }
                };
            }
            Err(error) => return Err(CtlError::file("read", &file)(error)),
        };
        let begun: Begun = toml::from_str(&text)
            .map_err(|error| self.foreign(&format!("{}: {error}", file.display())))?;
        if begun.cluster != token.cluster.as_str() {
            let (there, here) = (&begun.cluster, &token.cluster);
            return Err(
                self.foreign(&format!("it is of cluster {there}, the token of cluster {here}"))
            );
        }
        if begun.node != self.name.as_str() {
            return Err(self.foreign(&format!("it is that of node {}", begun.node)));
        }
        Ok(Some(begun))
    }

    /// Whether the node was admitted and has all it needs.
    pub(crate) fn is_complete(&self) -> bool {
        let data = self.data();
        data.join("init.toml").exists() || data.join("init.done.toml").exists()
    }

    /// Writes down what is begun and makes the key, unless both are there. Returns the certificate
    /// request.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn begin(&self, begun: &Begun) -> Result<Vec<u8>, CtlError> {
        if let Some(system) = &self.system {
            system.make_parents()?;
        }
        for folder in [self.dir.join("pki"), self.stores()] {
            refuse_shared(&folder, self.system.as_ref().map(System::uid))?;
            make_private_dir(&folder)?;
        }
        // Strings always serialize.
        let body = toml::to_string(begun).unwrap_or_default();
        let text =
            format!("# What 'logctl cluster join' began here; it goes on from this.\n{body}");
        write_atomic(&self.begun_file(), text.as_bytes())?;
        for folder in ["pki", "data"].into_iter().filter(|_| self.system.is_none()) {
            let ignore = self.dir.join(folder).join(".gitignore");
            write_atomic(&ignore, layout::IGNORE)?;
        }
        let key = self.key();
        match std::fs::read_to_string(&key) {
            Ok(pem) => Ok(certs::request_for_key(&pem)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (pem, csr) = certs::new_request()?;
                certs::write_private(&key, &pem)?;
                Ok(csr)
            }
            Err(error) => Err(CtlError::file("read", &key)(error)),
        }
    }

    /// A certificate request for the key that is there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn request(&self) -> Result<Vec<u8>, CtlError> {
        let key = self.key();
        let pem = std::fs::read_to_string(&key).map_err(CtlError::file("read", &key))?;
        Ok(certs::request_for_key(&pem)?)
    }

    /// Takes back what [`Folder::begin`] wrote into a folder of its own, after a clear refusal.
    pub(crate) fn forget(&self) {
        for path in [self.begun_file(), self.key(), self.pki(".gitignore")] {
            // What stays is in the way of nothing: the next run goes on from it.
            let _ = std::fs::remove_file(path);
        }
        let _ = std::fs::remove_file(self.dir.join("data").join(".gitignore"));
        for folder in [self.dir.join("pki"), self.stores(), self.dir.clone()] {
            let _ = std::fs::remove_dir(folder);
        }
    }

    /// Writes everything that the admitted node needs; the seed last, for it is what makes the
    /// folder complete.
    ///
    /// # Errors
    /// When the answer does not fit, or a file cannot be written.
    pub(crate) fn complete(
        &self,
        begun: &Begun,
        admitted: &Admitted,
        time_servers: &[String],
    ) -> Result<(), CtlError> {
        let unexpected = |what: &str| CtlError::unexpected(what);
        let (ca, cert) = (self.pki("ca.crt"), self.cert());
        certs::write_public(&ca, &admitted.ca)?;
        certs::write_public(&cert, &admitted.joined.certificate)?;
        let credentials = Credentials::load(&ca, &cert, &self.key())?;
        let identity = credentials.identity();
        if identity.name != self.name
            || identity.role != Role::Node
            || identity.cluster.as_str() != begun.cluster
        {
            return Err(unexpected(&format!("a certificate of {identity}")));
        }
        let rows = admitted.joined.members.as_ref().ok_or_else(|| unexpected("no members"))?;
        let cluster = identity.cluster.clone();
        let seed = Seed::of_admitted(cluster, self.name.clone(), &rows.members)
            .ok_or_else(|| unexpected("members that make no sense"))?;
        let apart = self.system.as_ref().map(|_| System::data_dir(&self.name));
        let config = NodeConfig {
            name: &self.name,
            address: &begun.listen,
            data_dir: apart.as_deref(),
            advertise: (begun.advertise != begun.listen).then_some(begun.advertise.as_str()),
            time_servers,
            file: CONFIG,
            signs: false,
            cert_life: None,
        };
        if !self.config().exists() {
            write_atomic(&self.config(), config.text().as_bytes())?;
        }
        write_atomic(&self.data().join(SEED_FILE), seed.to_text().as_bytes())
    }

    fn foreign(&self, reason: &str) -> CtlError {
        let hint = match self.system {
            None => "another --dir; nothing was changed in this one",
            Some(_) => system::IN_THE_WAY,
        };
        let what =
            format!("{} is not for {} to join from: {reason}", self.dir.display(), self.name);
        CtlError::conflict(what, hint)
    }
}

/// The first thing in a folder, hidden ones too; `None` if it is empty or not there.
fn first_entry(dir: &Path) -> Result<Option<String>, CtlError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CtlError::file("list", dir)(error)),
    };
    let name = |entry: io::Result<std::fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    entries
        .map(name)
        .find(|name| !name.as_ref().is_ok_and(|name| System::is_no_sign(name)))
        .transpose()
        .map_err(CtlError::file("list", dir))
}

#[cfg(test)]
mod tests {
    use proto::ClusterId;
    use uuid::Uuid;

    use proto::ExitCode;

    use super::*;

    fn token(byte: u8) -> JoinToken {
        JoinToken {
            cluster: ClusterId::from_bytes([byte; 16]),
            ca_sha256: [9; 32],
            addresses: vec!["127.0.0.1:7101".to_owned()],
            role: Role::Node,
            id: [1; 8],
            secret: [2; 16],
            expires_unix_s: 0,
            name: String::new(),
        }
    }

    fn begun() -> Begun {
        Begun {
            cluster: token(7).cluster.to_string(),
            node: "n4".to_owned(),
            incarnation: Uuid::from_u128(4).to_string(),
            listen: "0.0.0.0:7101".to_owned(),
            advertise: "10.0.0.4:7101".to_owned(),
        }
    }

    fn folder(dir: &Path, name: &str) -> Folder {
        Folder::new(dir.to_owned(), name.parse().unwrap())
    }

    #[test]
    fn what_was_begun_is_gone_on_with_and_a_refusal_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("logd-n4");
        let folder = folder(&dir, "n4");
        assert_eq!(folder.begun(&token(7)).unwrap(), None);
        folder.begin(&begun()).unwrap();
        let key = std::fs::read(folder.key()).unwrap();
        assert_eq!(folder.begun(&token(7)).unwrap(), Some(begun()));
        folder.begin(&begun()).unwrap();
        assert_eq!(std::fs::read(folder.key()).unwrap(), key, "another key");
        assert!(!folder.is_complete());
        folder.forget();
        assert!(!dir.exists());
    }

    /// Seen to fail with the cluster not compared.
    #[test]
    fn another_clusters_or_nodes_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mine = folder(dir.path(), "n4");
        mine.begin(&begun()).unwrap();
        let error = mine.begun(&token(8)).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Conflict);
        assert!(error.line().contains("the token of cluster 0808"), "{}", error.line());
        let error = folder(dir.path(), "n5").begun(&token(7)).unwrap_err();
        assert!(error.line().contains("that of node n4"), "{}", error.line());
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("thesis.tex"), "x").unwrap();
        let error = folder(other.path(), "n4").begun(&token(7)).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Conflict);
        assert!(error.line().contains("thesis.tex"), "{}", error.line());
    }
}
