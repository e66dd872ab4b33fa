//! The nodes that a client knows: those it was told, those it learnt, and which were of no use
//! lately. Learnt ones are kept in a file from one process to the next.

use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};
use proto::member::{MemberState, NodeRole, ring_order};
use proto::wire::{NodeRow, Nodes};
use proto::{ClusterId, Name};
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant};

use super::ring::LiveNode;
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
    /// When this process last learnt a list.
    learnt: Option<Instant>,
    /// Addresses that were of no use, and until when they are asked last.
    demoted: Vec<(String, Instant)>,
}

/// A node and where it is. Without a name, any node of the cluster may answer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: Option<Name>,
    pub(super) address: String,
    /// Whether the list says that clients should be sent to it; true if no list says anything.
    pub(super) serves: bool,
    /// Whether it was primary when the list was made.
    pub(super) primary: bool,
    /// Whether it stands in the live list; others were only told.
    listed: bool,
    incarnation: u64,
    suspect: bool,
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
        let (epoch, nodes) =
            kept.map_or((0, Vec::new()), |kept| (kept.members_epoch, kept.nodes()));
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
        if !node.serves && known.nodes.iter().any(|node| node.serves) {
            return None;
        }
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
        nodes.sort_by_key(|node| (known.demoted_until(&node.address), !node.serves, !home(node)));
        nodes
    }

    /// All nodes that are known, whichever is pinned.
    pub(super) fn everyone(&self) -> Vec<Node> {
        self.lock().nodes.clone()
    }

    /// The nodes that requests are spread over, in the order of the ring.
    pub(super) fn live(&self) -> Vec<LiveNode> {
        let known = self.lock();
        let of = |node: &Node| {
            let name = node.name.as_ref()?.to_string();
            Some(LiveNode { name, incarnation: node.incarnation, suspect: node.suspect })
        };
        let serving = known.listed().filter(|node| node.serves);
        let mut live: Vec<LiveNode> = serving.filter_map(of).collect();
        if live.is_empty() {
            // A list on which nobody serves is wrong by now, or nobody answers at all.
            live = known.listed().filter_map(of).collect();
        }
        live.sort_by(|a, b| ring_order(&a.name, &b.name));
        live
    }

    /// Names of all nodes of the list, in the order of the ring.
    pub(super) fn names(&self) -> Vec<String> {
        let known = self.lock();
        let mut names: Vec<String> =
            known.listed().filter_map(|node| Some(node.name.as_ref()?.to_string())).collect();
        names.sort_by(|a, b| ring_order(a, b));
        names
    }

    /// The primary, as far as the list knows.
    pub(super) fn primary(&self) -> Option<String> {
        let known = self.lock();
        let primary = known.nodes.iter().find(|node| node.primary)?;
        Some(primary.name.as_ref()?.to_string())
    }

    /// The node of this name.
    pub(super) fn find(&self, name: &str) -> Option<Node> {
        let named = |node: &&Node| node.name.as_ref().is_some_and(|own| own.as_str() == name);
        self.lock().nodes.iter().find(named).cloned()
    }

    /// Whether the node was of no use lately.
    pub(super) fn is_demoted(&self, name: &str) -> bool {
        self.find(name).is_some_and(|node| self.lock().is_demoted(&node.address))
    }

    /// Whether clients should leave this node, because others serve and it does not.
    pub(super) fn is_closed(&self, name: &Name) -> bool {
        let known = self.lock();
        let closed = |node: &Node| node.name.as_ref() == Some(name) && !node.serves;
        known.nodes.iter().any(closed) && known.nodes.iter().any(|node| node.serves)
    }

    /// Whether this process has learnt a list so lately.
    pub(super) fn is_fresh(&self, age: Duration) -> bool {
        self.lock().learnt.is_some_and(|learnt| learnt.elapsed() < age)
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
        let nodes: Vec<Node> = list.nodes.iter().filter_map(Node::of).collect();
        let kept = Kept {
            cluster: self.cluster.to_string(),
            members_epoch: list.epoch,
            nodes: nodes.iter().filter_map(KeptNode::of).collect(),
        };
        self.set(list.epoch, nodes);
        self.lock().learnt = Some(Instant::now());
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
        self.known.lock()
    }
}

impl Known {
    /// The nodes of the live list; without one, all that are known.
    fn listed(&self) -> impl Iterator<Item = &Node> {
        let any = self.nodes.iter().any(|node| node.listed);
        self.nodes.iter().filter(move |node| node.listed || !any)
    }

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
        Ok(Self::at(name, address.to_owned()))
    }

    /// A node of which nothing but the place is known.
    fn at(name: Option<Name>, address: String) -> Self {
        Self {
            name,
            address,
            serves: true,
            primary: false,
            listed: false,
            incarnation: 0,
            suspect: false,
        }
    }

    /// A row of a live list.
    fn of(row: &NodeRow) -> Option<Self> {
        let name = row.name.parse().ok()?;
        (!row.address.is_empty()).then(|| Self {
            // A cluster without rows of its members yet says of none that it serves.
            serves: row.serves || row.state.is_empty(),
            primary: row.node_role() == NodeRole::Primary,
            listed: true,
            incarnation: row.incarnation,
            suspect: row.noticed() == Some(MemberState::Suspect),
            ..Self::at(Some(name), row.address.clone())
        })
    }

    /// For messages: name and address.
    pub(super) fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{name} at {}", self.address),
            None => self.address.clone(),
        }
    }
}

/// The file's content. Earlier releases kept an epoch of another meaning, under another name.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    cluster: String,
    #[serde(default)]
    members_epoch: u64,
    nodes: Vec<KeptNode>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptNode {
    name: String,
    address: String,
    #[serde(default = "yes")]
    serves: bool,
    #[serde(default)]
    primary: bool,
    #[serde(default)]
    incarnation: u64,
    #[serde(default)]
    suspect: bool,
}

fn yes() -> bool {
    true
}

impl KeptNode {
    fn of(node: &Node) -> Option<Self> {
        Some(Self {
            name: node.name.as_ref()?.to_string(),
            address: node.address.clone(),
            serves: node.serves,
            primary: node.primary,
            incarnation: node.incarnation,
            suspect: node.suspect,
        })
    }
}

impl Kept {
    /// What an earlier process learnt. A missing, damaged or foreign file is treated as missing.
    fn read(path: &Path, cluster: &ClusterId) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        let text = (meta.len() <= CACHE_BYTES_MAX).then(|| std::fs::read(path).ok())??;
        let kept: Self = serde_json::from_slice(&text).ok()?;
        (kept.cluster == cluster.as_str()).then_some(kept)
    }

    fn nodes(&self) -> Vec<Node> {
        let node = |kept: &KeptNode| {
            let node = Node::read(&kept.address).ok()?;
            Some(Node {
                name: Some(kept.name.parse().ok()?),
                serves: kept.serves,
                primary: kept.primary,
                listed: true,
                incarnation: kept.incarnation,
                suspect: kept.suspect,
                ..node
            })
        };
        self.nodes.iter().filter_map(node).collect()
    }
}

/// Addresses of the nodes that an earlier process learnt and kept in this file: none if there is no
/// such file, or it is of another cluster.
#[must_use]
pub fn kept_addresses(file: &Path, cluster: &ClusterId) -> Vec<String> {
    let kept = Kept::read(file, cluster).map_or_else(Vec::new, |kept| kept.nodes);
    kept.into_iter().map(|node| node.address).collect()
}

/// A live list on its way to the file.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
    kept: Kept,
}

impl Cache {
    /// Writes the file at once or not at all, unless it holds a newer list. It is a help and no more,
    /// so a failure is only noted.
    pub(super) fn write(&self) {
        let newer = |there: &Kept| there.members_epoch > self.kept.members_epoch;
        let cluster = self.kept.cluster.parse();
        if cluster.is_ok_and(|own| Kept::read(&self.path, &own).as_ref().is_some_and(newer)) {
            return;
        }
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
