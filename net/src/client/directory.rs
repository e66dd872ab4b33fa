//! The nodes that a client knows: those it was told, those it learnt, and which were of no use
//! lately. Learnt ones are kept in a file from one process to the next.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::wire::Nodes;
use proto::{ClusterId, Name};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{ClientConfig, ClientError, DEMOTED};

/// No live list is larger; another file may be.
const CACHE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Directory {
    cluster: ClusterId,
    via: Option<Name>,
    home: Option<Name>,
    told: Vec<Node>,
    cache: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    epoch: u64,
    nodes: Vec<Node>,
    /// Addresses that were of no use, and until when they are asked last.
    demoted: Vec<(String, Instant)>,
}

/// A node and where it is. Without a name, any node of the cluster may answer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: Option<Name>,
    pub(super) address: String,
}

impl Directory {
    pub(super) fn new(config: &ClientConfig, cluster: &ClusterId) -> Result<Self, ClientError> {
        let name = |text: &String| {
            text.parse::<Name>().map_err(|error| ClientError::Config(error.to_string()))
        };
        let told: Result<Vec<Node>, ClientError> =
            config.addresses.iter().map(|text| Node::read(text)).collect();
        let directory = Self {
            cluster: cluster.clone(),
            via: config.via.as_ref().map(name).transpose()?,
            home: config.home.as_ref().map(name).transpose()?,
            told: told?,
            cache: config.cache.clone(),
            known: Mutex::default(),
        };
        let kept = config.cache.as_ref().and_then(|path| Kept::read(path, cluster));
        let (epoch, nodes) = kept.map_or((0, Vec::new()), |kept| (kept.epoch, kept.nodes()));
        directory.set(epoch, nodes);
        if directory.lock().nodes.is_empty() {
            return Err(ClientError::Config("no address of a node is given".to_owned()));
        }
        Ok(directory)
    }

    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// The preferred node, if it is known and was not of no use lately.
    pub(super) fn home(&self) -> Option<Node> {
        if self.via.is_some() {
            return None;
        }
        let home = self.home.as_ref()?;
        let known = self.lock();
        let node = known.nodes.iter().find(|node| node.name.as_ref() == Some(home))?;
        (!known.is_demoted(&node.address)).then(|| node.clone())
    }

    /// Whether no other node is preferred to this one.
    pub(super) fn is_home(&self, name: &Name) -> bool {
        self.via.is_some() || self.home.as_ref().is_none_or(|home| home == name)
    }

    /// The nodes to try, best first.
    pub(super) fn candidates(&self) -> Vec<Node> {
        let known = self.lock();
        if let Some(via) = &self.via {
            let named: Vec<Node> = known
                .nodes
                .iter()
                .filter(|node| node.name.as_ref() == Some(via))
                .cloned()
                .collect();
            if !named.is_empty() {
                return named;
            }
            // Only the node of that name passes the check at any of the nameless addresses.
            let nameless = known.nodes.iter().filter(|node| node.name.is_none());
            let named = |node: &Node| Node { name: Some(via.clone()), ..node.clone() };
            return nameless.map(named).collect();
        }
        let mut nodes = known.nodes.clone();
        let home = |node: &Node| self.home.is_some() && node.name == self.home;
        // Stable: what is alike stays in the order it was told or learnt in.
        nodes.sort_by_key(|node| (known.demoted_until(&node.address), !home(node)));
        nodes
    }

    /// The pinned node, if there is one.
    pub(super) fn via(&self) -> Option<&Name> {
        self.via.as_ref()
    }

    /// Asks this address last for a while.
    pub(super) fn demote(&self, address: &str) {
        let mut known = self.lock();
        known.demoted.retain(|(other, _)| other != address);
        known.demoted.push((address.to_owned(), Instant::now() + DEMOTED));
    }

    /// Takes over a live list, unless a newer one is known; returns what to keep, if it is to be kept.
    pub(super) fn learn(&self, list: Nodes) -> Option<Cache> {
        let old = list.epoch < self.epoch();
        if old || list.cluster != self.cluster.as_str() || list.nodes.is_empty() {
            return None;
        }
        let node = |name: &str, address: String| {
            let name = name.parse().ok()?;
            (!address.is_empty()).then_some(Node { name: Some(name), address })
        };
        let nodes = list.nodes.into_iter().filter_map(|row| node(&row.name, row.address));
        let nodes: Vec<Node> = nodes.collect();
        let kept = Kept {
            cluster: self.cluster.to_string(),
            epoch: list.epoch,
            nodes: nodes.iter().filter_map(KeptNode::of).collect(),
        };
        self.set(list.epoch, nodes);
        Some(Cache { path: self.cache.clone()?, kept })
    }

    /// Learnt nodes first, then the told ones that are not among them.
    fn set(&self, epoch: u64, mut nodes: Vec<Node>) {
        for told in &self.told {
            let same = |node: &Node| match &told.name {
                Some(_) => node.name == told.name,
                None => node.address == told.address,
            };
            if !nodes.iter().any(same) {
                nodes.push(told.clone());
            }
        }
        let mut known = self.lock();
        known.epoch = epoch;
        known.nodes = nodes;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// `None`, which sorts first, unless the address was of no use lately.
    fn demoted_until(&self, address: &str) -> Option<Instant> {
        let now = Instant::now();
        let of = self.demoted.iter().find(|(other, until)| other == address && *until > now);
        of.map(|(_, until)| *until)
    }

    fn is_demoted(&self, address: &str) -> bool {
        self.demoted_until(address).is_some()
    }
}

impl Node {
    /// Reads `host:port` or `name=host:port`.
    fn read(text: &str) -> Result<Self, ClientError> {
        let (name, address) = match text.split_once('=') {
            Some((name, address)) => {
                let name = name.parse::<Name>();
                (Some(name.map_err(|error| ClientError::Config(error.to_string()))?), address)
            }
            None => (None, text),
        };
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            let problem = format!("'{address}' is not an address: host:port");
            return Err(ClientError::Config(problem));
        }
        Ok(Self { name, address: address.to_owned() })
    }

    /// For messages: name and address.
    pub(super) fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{name} at {}", self.address),
            None => self.address.clone(),
        }
    }
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    cluster: String,
    epoch: u64,
    nodes: Vec<KeptNode>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptNode {
    name: String,
    address: String,
}

impl KeptNode {
    fn of(node: &Node) -> Option<Self> {
        let name = node.name.as_ref()?.to_string();
        Some(Self { name, address: node.address.clone() })
    }
}

impl Kept {
    /// What an earlier process learnt. A missing, damaged or foreign file is as good as none.
    fn read(path: &PathBuf, cluster: &ClusterId) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        let text = (meta.len() <= CACHE_BYTES_MAX).then(|| std::fs::read(path).ok())??;
        let kept: Self = serde_json::from_slice(&text).ok()?;
        (kept.cluster == cluster.as_str()).then_some(kept)
    }

    fn nodes(&self) -> Vec<Node> {
        let node = |kept: &KeptNode| {
            let node = Node::read(&kept.address).ok()?;
            Some(Node { name: Some(kept.name.parse().ok()?), ..node })
        };
        self.nodes.iter().filter_map(node).collect()
    }
}

/// A live list on its way to the file.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
    kept: Kept,
}

impl Cache {
    /// Writes the file at once or not at all. It is a help and no more, so a failure is only noted.
    pub(super) fn write(&self) {
        if let Err(error) = self.try_write() {
            tracing::debug!(path = %self.path.display(), %error, "the live list was not kept");
        }
    }

    fn try_write(&self) -> std::io::Result<()> {
        let text = serde_json::to_vec_pretty(&self.kept)?;
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut draft = self.path.as_os_str().to_owned();
        // Two processes may learn at a time; each has a draft of its own.
        draft.push(format!(".{}.new", std::process::id()));
        let draft = PathBuf::from(draft);
        std::fs::write(&draft, text)?;
        std::fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
#[path = "directory_test.rs"]
mod tests;
