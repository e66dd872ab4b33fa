//! Names, keys, seeds and configurations of the nodes of a run.

use std::path::Path;

use certs::{Authority, Credentials, IssueOptions};
use config::Config;
use config::seed::{Admin, KeyHash, Member, Seed};
use daemon::node::Principal;
use daemon::node_identity::NodeIdentity;
use proto::registry::Register;
use proto::{ClusterId, Identity, Name, Role};
use tempfile::TempDir;
use uuid::Uuid;

use crate::time_servers::TimeServers;

/// The cluster's id.
const CLUSTER: &str = "51515151515151515151515151515151";
/// Clients that can send, besides the administrator.
pub const CLIENTS: u8 = 3;
/// The administrator's key.
const ADMIN_KEY: [u8; 32] = [7; 32];

/// What the nodes of a run begin with.
pub struct Cluster {
    /// Keys and certificates, one set a node.
    pki: TempDir,
    members: Vec<Member>,
    clients: Vec<Client>,
    id: ClusterId,
    /// Whether nodes ask time servers.
    asks_time: bool,
}

/// Somebody who sends.
struct Client {
    name: Name,
    request: Vec<u8>,
    fingerprint: [u8; 32],
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The administrator.
    Admin,
    /// A client, by its number.
    Client(u8),
}

impl Cluster {
    /// A cluster of so many nodes, with keys of its own, which ask time servers or believe their machines.
    ///
    /// # Errors
    /// When certificates cannot be made or written.
    pub fn new(nodes: u64, asks_time: bool) -> anyhow::Result<Self> {
        let id: ClusterId = CLUSTER.parse()?;
        let authority = Authority::create(&id)?;
        let pki = folder()?;
        certs::write_public(&pki.path().join("ca.crt"), authority.cert_pem())?;
        certs::write_private(&pki.path().join("ca.key"), &authority.key_pem())?;
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let (_, request) = certs::new_request()?;
            let fingerprint = certs::request_fingerprint(&request)?;
            clients.push(Client { name: format!("c{number}").parse()?, request, fingerprint });
        }
        let mut this = Self { pki, members: Vec::new(), clients, id, asks_time };
        for raft_id in 1..=nodes {
            let name: Name = format!("n{raft_id}").parse()?;
            let identity = this.identity(Role::Node, &name);
            let issued = authority.issue(&identity, &IssueOptions::default())?;
            certs::write_public(&this.file(&name, "crt"), &issued.cert_pem)?;
            certs::write_private(&this.file(&name, "key"), &issued.key_pem)?;
            let key = KeyHash(this.credentials(&name)?.fingerprint());
            let address = format!("{name}:7400");
            let incarnation = Uuid::from_u128(u128::from(raft_id) << 64 | 0x4000_8000);
            this.members.push(Member { name, raft_id, incarnation, address, key: Some(key) });
        }
        Ok(this)
    }

    /// Makes a key for a node that is to join, and the request for its certificate.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn request(&self, node: &Name) -> anyhow::Result<Vec<u8>> {
        let (key, request) = certs::new_request()?;
        certs::write_private(&self.file(node, "key"), &key)?;
        Ok(request)
    }

    /// Takes the certificate that a node has got.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn take_certificate(&self, node: &Name, pem: &str) -> anyhow::Result<()> {
        Ok(certs::write_public(&self.file(node, "crt"), pem)?)
    }

    /// Names of the first nodes, in order.
    #[must_use]
    pub fn names(&self) -> Vec<Name> {
        self.members.iter().map(|member| member.name.clone()).collect()
    }

    /// What a node proves itself with.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn node_identity(&self, node: &Name) -> anyhow::Result<NodeIdentity> {
        Ok(NodeIdentity::load(&self.config(node)?)?)
    }

    /// The seed of a node's store.
    #[must_use]
    pub fn seed(&self, node: &Name) -> Seed {
        let admin = Admin { name: admin_name(), key: KeyHash(ADMIN_KEY) };
        Seed {
            cluster: self.id.clone(),
            node: node.clone(),
            joined: false,
            starts: 0,
            members: self.members.clone(),
            admins: vec![admin],
        }
    }

    /// A node's configuration.
    ///
    /// # Errors
    /// When the text is not one.
    pub fn config(&self, node: &Name) -> anyhow::Result<Config> {
        let time = match self.asks_time {
            true => TimeServers::config(),
            false => "[clock]\nmode = \"local\"\n".to_owned(),
        };
        let text = format!(
            "node = \"{node}\"\nrejoin = true\nlisten = \"127.0.0.1:7400\"\nadvertise = \"{node}:7400\"\n\
             data_dir = \"data-{node}\"\n\
             [tls]\nca = \"ca.crt\"\ncert = \"{node}.crt\"\nkey = \"{node}.key\"\n\
             ca_key = \"ca.key\"\n{time}"
        );
        Ok(Config::parse(&text, &self.pki.path().join("logd.toml"))?)
    }

    /// Somebody, behind this gateway.
    #[must_use]
    pub fn principal(&self, who: Who, gateway: &Name) -> Principal {
        let (role, name, fingerprint) = match who {
            Who::Admin => (Role::Admin, admin_name(), ADMIN_KEY),
            Who::Client(number) => {
                let client = self.client(number);
                (Role::Client, client.name.clone(), client.fingerprint)
            }
        };
        Principal { identity: self.identity(role, &name), fingerprint, gateway: gateway.clone() }
    }

    /// What registers a client.
    #[must_use]
    pub fn register(&self, number: u8) -> Register {
        let Client { name, request, .. } = self.client(number);
        Register { name: name.to_string(), home: String::new(), csr: request.clone() }
    }

    /// Name of somebody.
    #[must_use]
    pub fn name(&self, who: Who) -> Name {
        match who {
            Who::Admin => admin_name(),
            Who::Client(number) => self.client(number).name.clone(),
        }
    }

    #[expect(clippy::indexing_slicing, reason = "numbers are below their count")]
    fn client(&self, number: u8) -> &Client {
        &self.clients[usize::from(number % CLIENTS)]
    }

    /// The cluster's id.
    #[must_use]
    pub fn id(&self) -> &ClusterId {
        &self.id
    }

    fn identity(&self, role: Role, name: &Name) -> Identity {
        Identity { cluster: self.id.clone(), role, name: name.clone() }
    }

    fn file(&self, node: &Name, kind: &str) -> std::path::PathBuf {
        self.pki.path().join(format!("{node}.{kind}"))
    }

    fn credentials(&self, node: &Name) -> anyhow::Result<Credentials> {
        let ca: &Path = &self.pki.path().join("ca.crt");
        Ok(Credentials::load(ca, &self.file(node, "crt"), &self.file(node, "key"))?)
    }
}

/// A folder that no disk waits for, where there is one: a run writes many small files.
fn folder() -> std::io::Result<TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

#[expect(clippy::expect_used, reason = "a constant")]
fn admin_name() -> Name {
    "admin".parse().expect("a name")
}
