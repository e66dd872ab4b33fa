//! Links between nodes of one process, which a test can cut, delay and reset.
//!
//! Streams behave as QUIC's do. A cut holds frames back; if it is mended in time they arrive, else
//! the stream breaks. A cut in one direction also keeps new streams from being opened in the
//! other, since a handshake needs both. Waiting is on tokio's clock, so paused time works.
//!
//! Frames pass encoded, so what the nodes say is the same as over QUIC.
//!
//! Not here: loss and reordering inside a stream, which QUIC does not show either. Streams are not
//! ordered among each other; delaying one lane reorders it against the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use proto::Name;
use proto::peer::{Hello, Refusal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{FrameRx, FrameTx, Lane, Link, LinkError, PeerAddr, PeerStream};

/// Frames that one direction of a stream holds.
const PIPE_FRAMES: usize = 64;
/// New streams that one node holds.
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
}

#[derive(Debug, Default)]
struct Wires {
    nodes: BTreeMap<String, Attached>,
    /// Directions that nothing passes.
    cut: BTreeSet<(String, String)>,
    delays: BTreeMap<(String, String, Option<Lane>), Duration>,
    /// Streams opened before this count of the pair are broken.
    resets: BTreeMap<(String, String), u64>,
    /// How often somebody began to open a stream.
    tries: BTreeMap<(String, String, Lane), u64>,
}

#[derive(Debug)]
struct Attached {
    hello: Arc<Hello>,
    arrivals: mpsc::Sender<PeerStream>,
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
        Self(Arc::new(Board { wires: Mutex::default(), changes, reach, patience }))
    }

    /// Connects a node. A node of the same name that was connected before is disconnected.
    #[must_use]
    pub fn attach(&self, name: &Name, hello: Hello) -> (SwitchLink, Arrivals) {
        self.detach(name);
        let (arrivals, inbox) = mpsc::channel(ARRIVALS);
        let attached = Attached { hello: Arc::new(hello), arrivals };
        self.0.change(|wires| {
            wires.nodes.insert(name.to_string(), attached);
        });
        (SwitchLink { board: Arc::clone(&self.0), own: name.to_string() }, Arrivals(inbox))
    }

    /// Disconnects a node at once, as when its process is killed.
    pub fn detach(&self, name: &Name) {
        self.0.change(|wires| {
            wires.nodes.remove(name.as_str());
            let others: Vec<String> = wires.nodes.keys().cloned().collect();
            for other in others {
                wires.reset(name.as_str(), &other);
            }
        });
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

    /// Waits until both directions are open and the node is there, as long as `reach` allows.
    async fn reach(&self, own: &str, to: &PeerAddr) -> Result<(Arc<Hello>, Attached), LinkError> {
        let mut changes = self.changes.subscribe();
        let found = async {
            loop {
                if let Some(found) = self.lock().route(own, to.name.as_str()) {
                    return found;
                }
                // The sender is ours, so it cannot be gone.
                drop(changes.changed().await);
            }
        };
        timeout(self.reach, found).await.map_err(|_| LinkError::Unreachable {
            peer: to.name.to_string(),
            reason: "no answer".to_owned(),
        })
    }
}

impl Wires {
    fn reset(&mut self, a: &str, b: &str) {
        *self.resets.entry(pair(a, b)).or_default() += 1;
    }

    fn resets_of(&self, a: &str, b: &str) -> u64 {
        self.resets.get(&pair(a, b)).copied().unwrap_or(0)
    }

    /// Own hello and the other node, if there is a way to it and back.
    fn route(&self, own: &str, to: &str) -> Option<(Arc<Hello>, Attached)> {
        let cut = |from: &str, to: &str| self.cut.contains(&(from.to_owned(), to.to_owned()));
        if cut(own, to) || cut(to, own) {
            return None;
        }
        let (mine, theirs) = (self.nodes.get(own)?, self.nodes.get(to)?);
        let (hello, arrivals) = (Arc::clone(&theirs.hello), theirs.arrivals.clone());
        Some((Arc::clone(&mine.hello), Attached { hello, arrivals }))
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

/// New streams at one node.
#[derive(Debug)]
pub struct Arrivals(mpsc::Receiver<PeerStream>);

impl Arrivals {
    /// The next stream; `None` once the node is disconnected.
    pub async fn recv(&mut self) -> Option<PeerStream> {
        self.0.recv().await
    }
}

/// One node's end of the switchboard.
#[derive(Debug, Clone)]
pub struct SwitchLink {
    board: Arc<Board>,
    own: String,
}

impl Link for SwitchLink {
    fn open<'a>(
        &'a self,
        to: &'a PeerAddr,
        lane: Lane,
    ) -> BoxFuture<'a, Result<(FrameTx, FrameRx), LinkError>> {
        self.open_stream(to, lane).boxed()
    }
}

impl SwitchLink {
    async fn open_stream(
        &self,
        to: &PeerAddr,
        lane: Lane,
    ) -> Result<(FrameTx, FrameRx), LinkError> {
        let tried = (self.own.clone(), to.name.to_string(), lane);
        *self.board.lock().tries.entry(tried).or_default() += 1;
        let (mine, theirs) = self.board.reach(&self.own, to).await?;
        let refused = |reason: &str| LinkError::Refused {
            peer: to.name.to_string(),
            reason: reason.to_owned(),
            why: Refusal::Store,
        };
        if theirs.hello.raft_id != to.raft_id {
            return Err(refused("another raft id answers"));
        }
        if theirs.hello.incarnation != to.incarnation {
            return Err(refused("another incarnation of the store answers"));
        }
        let other = to.name.as_str();
        let (my_tx, their_rx) = pipe(&self.board, &self.own, other, lane);
        let (their_tx, my_rx) = pipe(&self.board, other, &self.own, lane);
        let stream = PeerStream {
            from: mine,
            lane,
            tx: FrameTx::pipe(their_tx),
            rx: FrameRx::pipe(their_rx),
        };
        theirs.arrivals.send(stream).await.map_err(|_| LinkError::Unreachable {
            peer: other.to_owned(),
            reason: "it is gone".to_owned(),
        })?;
        Ok((FrameTx::pipe(my_tx), FrameRx::pipe(my_rx)))
    }
}

/// One direction of a stream.
fn pipe(board: &Arc<Board>, from: &str, to: &str, lane: Lane) -> (PipeTx, PipeRx) {
    let (tx, rx) = mpsc::channel(PIPE_FRAMES);
    let end = || End {
        board: Arc::clone(board),
        changes: board.changes.subscribe(),
        way: (from.to_owned(), to.to_owned()),
        resets: board.lock().resets_of(from, to),
        aborted: Arc::default(),
    };
    let (sender, mut receiver) = (end(), end());
    receiver.aborted = Arc::clone(&sender.aborted);
    (
        PipeTx { end: sender, lane, frames: Some(tx) },
        PipeRx { end: receiver, frames: rx, held: None },
    )
}

/// What both ends of a pipe know.
#[derive(Debug)]
struct End {
    board: Arc<Board>,
    changes: watch::Receiver<u64>,
    way: (String, String),
    resets: u64,
    aborted: Arc<AtomicBool>,
}

impl End {
    fn check(&self) -> Result<(), LinkError> {
        let (from, to) = &self.way;
        let reset = self.board.lock().resets_of(from, to) != self.resets;
        if reset || self.aborted.load(Ordering::Acquire) {
            return Err(LinkError::Lost("the stream was reset".to_owned()));
        }
        Ok(())
    }

    fn is_cut(&self) -> bool {
        self.board.lock().cut.contains(&self.way)
    }

    /// Completes when the wires change in any way.
    async fn changed(&mut self) {
        // The sender lives in the board, which this holds.
        drop(self.changes.changed().await);
    }
}

/// The sending half of a pipe.
#[derive(Debug)]
pub(crate) struct PipeTx {
    end: End,
    lane: Lane,
    frames: Option<mpsc::Sender<(Instant, Bytes)>>,
}

impl PipeTx {
    pub(crate) async fn send(&mut self, frame: Bytes) -> Result<(), LinkError> {
        let lost = || LinkError::Lost("the other side stopped reading".to_owned());
        self.end.check()?;
        let Some(frames) = &self.frames else { return Err(lost()) };
        let delay = {
            let (from, to) = &self.end.way;
            self.end.board.lock().delay_of(from, to, self.lane)
        };
        let place = loop {
            tokio::select! {
                place = frames.reserve() => break place,
                _ = self.end.changes.changed() => {}
            }
            self.end.check()?;
        };
        place.map_err(|_| lost())?.send((Instant::now() + delay, frame));
        Ok(())
    }

    pub(crate) fn finish(&mut self) {
        self.frames = None;
    }

    pub(crate) fn abort(&mut self) {
        self.end.aborted.store(true, Ordering::Release);
        self.frames = None;
    }

    pub(crate) async fn stopped(&self) {
        if let Some(frames) = &self.frames {
            frames.closed().await;
        }
    }
}

/// The receiving half of a pipe.
#[derive(Debug)]
pub(crate) struct PipeRx {
    end: End,
    frames: mpsc::Receiver<(Instant, Bytes)>,
    /// A frame that has arrived but may not be seen yet; kept here so that `recv` can be cancelled.
    held: Option<(Instant, Bytes)>,
}

impl PipeRx {
    pub(crate) async fn recv(&mut self) -> Result<Option<Bytes>, LinkError> {
        loop {
            self.end.check()?;
            if self.end.is_cut() {
                let patience = self.end.board.patience;
                if timeout(patience, self.end.changed()).await.is_err() {
                    return Err(LinkError::Lost("no answer".to_owned()));
                }
            } else if let Some((_, frame)) = self.held.take_if(|(due, _)| *due <= Instant::now()) {
                return Ok(Some(frame));
            } else if let Some((due, _)) = self.held {
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.end.changed() => {}
                }
            } else {
                tokio::select! {
                    frame = self.frames.recv() => match frame {
                        Some(frame) => self.held = Some(frame),
                        None => return self.end.check().map(|()| None),
                    },
                    () = self.end.changed() => {}
                }
            }
        }
    }
}
