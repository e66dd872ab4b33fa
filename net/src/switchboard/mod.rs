//! Links between nodes of one process, which a test can cut, delay and reset.
//!
//! Streams behave as QUIC's do. A cut holds frames back; if it is mended in time they arrive, else
//! the stream breaks. A cut in one direction also keeps new streams from being opened in the
//! other, since a handshake needs both. Waiting is on tokio's clock, so paused time works.
//!
//! Frames pass encoded, so what the nodes say is the same as over QUIC.
//!
//! A node's place on it is a [`SwitchPort`]: it dials, is called, and judges who calls as over QUIC.
//!
//! Not here: loss and reordering inside a stream, which QUIC does not show either. Streams are not
//! ordered among each other; delaying one lane reorders it against the rest.

mod line;
mod pipe;
mod port;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use certs::Peer;
use parking_lot::{Mutex, MutexGuard};
use proto::peer::Hello;
use proto::{ClusterId, Identity, Name, Role};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::{Accepted, Lane, LinkError, PeerConn, PeerStream, Port, Refused};

pub(crate) use self::line::Called;
pub(crate) use self::pipe::{PipeRx, PipeTx};
pub use self::port::{SwitchLink, SwitchPort};

/// New streams, and new connections, that one node holds.
const ARRIVALS: usize = 256;

/// The wires between the nodes of one process.
#[derive(Debug, Clone)]
pub struct Switchboard(Arc<Board>);

#[derive(Debug)]
struct Board {
    wires: Mutex<Wires>,
    /// Counts changes of `wires`, to wake whoever waits for one.
    changes: watch::Sender<u64>,
    /// How long opening a stream tries.
    reach: Duration,
    /// How long a stream survives a cut.
    patience: Duration,
    /// Who hears all that passes.
    listener: OnceLock<Listener>,
}

/// What a frame is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passing {
    /// Number of the stream, counted over all of the switchboard.
    pub stream: u64,
    /// Its lane.
    pub lane: Lane,
    /// Whether it is said by whoever opened the stream.
    pub asks: bool,
    /// Whether the stream is the one that the hellos of a connection pass on.
    pub hello: bool,
}

/// A frame that is under way.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// What it is a part of.
    pub passing: Passing,
    /// The node that says it.
    pub from: &'a str,
    /// The node that it is for.
    pub to: &'a str,
    /// Its bytes.
    pub frame: &'a [u8],
}

/// Who hears all that passes.
struct Listener(Box<dyn Fn(&Heard<'_>) + Send + Sync>);

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

#[derive(Debug, Default)]
struct Wires {
    nodes: BTreeMap<String, Attached>,
    /// How many nodes were attached so far.
    attached: u64,
    /// How many streams were opened so far.
    streams: u64,
    /// Directions that nothing passes.
    cut: BTreeSet<(String, String)>,
    delays: BTreeMap<(String, String, Option<Lane>), Duration>,
    /// Streams opened before this count of the pair are broken.
    resets: BTreeMap<(String, String), u64>,
    /// How often somebody began to open a stream.
    tries: BTreeMap<(String, String, Lane), u64>,
}

#[derive(Debug, Clone)]
struct Attached {
    me: Peer,
    /// Counted over all that were ever attached.
    number: u64,
    calls: mpsc::Sender<PeerConn>,
}

impl Default for Switchboard {
    fn default() -> Self {
        Self::new()
    }
}

impl Switchboard {
    /// A switchboard whose streams survive a cut as long as a QUIC connection does (10 s) and
    /// whose nodes try for a second to reach each other.
    #[must_use]
    pub fn new() -> Self {
        Self::with_times(Duration::from_secs(1), Duration::from_secs(10))
    }

    /// A switchboard where opening a stream tries for `reach` and a stream survives a cut of
    /// `patience`.
    #[must_use]
    pub fn with_times(reach: Duration, patience: Duration) -> Self {
        let (changes, _) = watch::channel(0);
        Self(Arc::new(Board {
            wires: Mutex::default(),
            changes,
            reach,
            patience,
            listener: OnceLock::new(),
        }))
    }

    /// Lets somebody hear every frame, at the moment when it is sent and before anybody gets it. Once;
    /// a second listener hears nothing.
    pub fn overhear(&self, listener: impl Fn(&Heard<'_>) + Send + Sync + 'static) {
        // The first one stays.
        let _ = self.0.listener.set(Listener(Box::new(listener)));
    }

    /// Connects a node that proves to be this one with this key (its SHA-256). A node of the same name
    /// that was connected before is disconnected.
    #[must_use]
    pub fn port(&self, identity: Identity, fingerprint: [u8; 32]) -> SwitchPort {
        let (not_before_unix, not_after_unix) = (0, i64::MAX);
        let serial = String::new();
        let me = Peer { identity, fingerprint, not_before_unix, not_after_unix, serial };
        SwitchPort::open(&self.0, me)
    }

    /// Connects what is no whole node: it always says the same of itself, lets everybody in, and gets
    /// the streams as they come. To be called on a runtime. See [`Switchboard::port`].
    #[must_use]
    pub fn attach(&self, name: &Name, hello: Hello) -> (SwitchLink, Arrivals) {
        let cluster = hello.cluster.parse().unwrap_or_else(|_| ClusterId::from_bytes([0; 16]));
        let hello = Hello { cluster: cluster.to_string(), ..hello };
        let port = self.port(Identity { cluster, role: Role::Node, name: name.clone() }, [0; 32]);
        let said = hello.clone();
        let link = port.dial_from(Arc::new(move || said.clone()), Arc::new(|_, _| Ok(())));
        let (arrivals, inbox) = mpsc::channel(ARRIVALS);
        tokio::spawn(let_all_in(port, hello, arrivals));
        (link, Arrivals(inbox))
    }

    /// Disconnects a node at once, as when its process is killed.
    pub fn detach(&self, name: &Name) {
        self.0.change(|wires| wires.detach(name.as_str()));
    }

    /// Lets nothing pass between two nodes.
    pub fn cut(&self, a: &Name, b: &Name) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Lets nothing pass from one node to another.
    pub fn cut_one_way(&self, from: &Name, to: &Name) {
        self.0.change(|wires| {
            wires.cut.insert(way(from, to));
        });
    }

    /// Lets nothing pass between a node and all others that are connected now.
    pub fn isolate(&self, name: &Name) {
        self.0.change(|wires| {
            let others: Vec<String> = wires.nodes.keys().cloned().collect();
            for other in others.into_iter().filter(|other| other != name.as_str()) {
                wires.cut.insert((name.to_string(), other.clone()));
                wires.cut.insert((other, name.to_string()));
            }
        });
    }

    /// Mends both directions between two nodes.
    pub fn heal(&self, a: &Name, b: &Name) {
        self.0.change(|wires| {
            wires.cut.remove(&way(a, b));
            wires.cut.remove(&way(b, a));
        });
    }

    /// Mends every cut and forgets every delay.
    pub fn heal_all(&self) {
        self.0.change(|wires| {
            wires.cut.clear();
            wires.delays.clear();
        });
    }

    /// Delays every frame from one node to another; zero ends it.
    pub fn delay(&self, from: &Name, to: &Name, by: Duration) {
        self.0.set_delay(from, to, None, by);
    }

    /// Delays the frames of one lane from one node to another; zero ends it. Goes before
    /// [`Switchboard::delay`].
    pub fn delay_lane(&self, from: &Name, to: &Name, lane: Lane, by: Duration) {
        self.0.set_delay(from, to, Some(lane), by);
    }

    /// How often a node has tried to open a stream to another in this lane, with or without success.
    #[must_use]
    pub fn tries(&self, from: &Name, to: &Name, lane: Lane) -> u64 {
        let (from, to) = way(from, to);
        self.0.lock().tries.get(&(from, to, lane)).copied().unwrap_or(0)
    }

    /// Breaks every stream between two nodes; what was on the way is lost.
    pub fn reset(&self, a: &Name, b: &Name) {
        self.0.change(|wires| wires.reset(a.as_str(), b.as_str()));
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock()
    }

    fn change(&self, edit: impl FnOnce(&mut Wires)) {
        edit(&mut self.lock());
        self.changes.send_modify(|count| *count += 1);
    }

    fn set_delay(&self, from: &Name, to: &Name, lane: Option<Lane>, by: Duration) {
        let (from, to) = way(from, to);
        self.change(|wires| {
            wires.delays.insert((from, to, lane), by);
        });
    }

    /// Notes that somebody begins to open a stream.
    fn tried(&self, from: &str, to: &str, lane: Lane) {
        *self.lock().tries.entry((from.to_owned(), to.to_owned(), lane)).or_default() += 1;
    }

    /// Waits until both directions are open and the node is there, as long as `reach` allows. `own` is
    /// who asks, with its number.
    async fn reach(&self, own: (&str, u64), to: &str) -> Result<Attached, LinkError> {
        let mut changes = self.changes.subscribe();
        let found = async {
            loop {
                if let Some(found) = self.lock().route(own, to) {
                    return found;
                }
                // The sender is ours, so it cannot be gone.
                drop(changes.changed().await);
            }
        };
        timeout(self.reach, found).await.map_err(|_| LinkError::Unreachable {
            peer: to.to_owned(),
            reason: "no answer".to_owned(),
        })
    }

    /// Number of a stream that is opened.
    fn count_stream(&self) -> u64 {
        let mut wires = self.lock();
        wires.streams += 1;
        wires.streams
    }

    /// How long a connection may take to come about between two that reach each other.
    fn dial_time(&self) -> Duration {
        self.reach.saturating_mul(3) / 2
    }

    /// What stands for a node's address.
    fn address(number: u64) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], u16::try_from(number).unwrap_or(u16::MAX)))
    }
}

/// Answers every hello with the same, and hands all streams on.
async fn let_all_in(port: SwitchPort, hello: Hello, arrivals: mpsc::Sender<PeerStream>) {
    while let Some(Accepted::Peer(mut conn)) = port.accept().await {
        let (hello, arrivals) = (hello.clone(), arrivals.clone());
        tokio::spawn(async move {
            if conn.handshake(hello, |_| Ok::<(), Refused>(())).await.is_err() {
                return;
            }
            while let Some(stream) = conn.next().await {
                if arrivals.send(stream).await.is_err() {
                    return;
                }
            }
        });
    }
}

impl Wires {
    fn reset(&mut self, a: &str, b: &str) {
        *self.resets.entry(pair(a, b)).or_default() += 1;
    }

    fn resets_of(&self, a: &str, b: &str) -> u64 {
        self.resets.get(&pair(a, b)).copied().unwrap_or(0)
    }

    /// The other node, if there is a way to it and back, and whoever asks is still the one of its name.
    fn route(&self, (own, number): (&str, u64), to: &str) -> Option<Attached> {
        let cut = |from: &str, to: &str| self.cut.contains(&(from.to_owned(), to.to_owned()));
        let is_there = self.nodes.get(own).is_some_and(|node| node.number == number);
        if !is_there || cut(own, to) || cut(to, own) {
            return None;
        }
        self.nodes.get(to).cloned()
    }

    fn detach(&mut self, name: &str) {
        self.nodes.remove(name);
        let others: Vec<String> = self.nodes.keys().cloned().collect();
        for other in others {
            self.reset(name, &other);
        }
    }

    fn delay_of(&self, from: &str, to: &str, lane: Lane) -> Duration {
        let of = |lane| self.delays.get(&(from.to_owned(), to.to_owned(), lane)).copied();
        of(Some(lane)).or_else(|| of(None)).unwrap_or_default()
    }
}

fn way(from: &Name, to: &Name) -> (String, String) {
    (from.to_string(), to.to_string())
}

fn pair(a: &str, b: &str) -> (String, String) {
    let (a, b) = if a < b { (a, b) } else { (b, a) };
    (a.to_owned(), b.to_owned())
}

/// New streams at what is no whole node.
#[derive(Debug)]
pub struct Arrivals(mpsc::Receiver<PeerStream>);

impl Arrivals {
    /// The next stream; `None` once the node is disconnected.
    pub async fn recv(&mut self) -> Option<PeerStream> {
        self.0.recv().await
    }
}
