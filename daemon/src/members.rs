//! How the other nodes are: each node asks each other ten times a second, on the urgent lane, which
//! waits for no disk. What comes back feeds status, the live list and the choice of a successor.
//!
//! It decides nothing about safety: who leads and who votes is the engine's business alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use net::{FrameRx, FrameTx, Lane, Link, LinkError, PeerAddr};
use prost::Message as _;
use proto::Name;
use proto::peer::NodeInfo;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::raft::URGENT_INFO;

/// Between two questions to a peer.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for an answer before the stream is given up.
const ANSWER_WITHIN: Duration = Duration::from_millis(800);
/// A peer that was not heard for this long counts as down.
const DOWN_AFTER: Duration = Duration::from_millis(1000);

/// What is known of a peer.
#[derive(Debug, Clone)]
pub struct Heard {
    /// What it said last.
    pub info: NodeInfo,
    /// Round trip, in microseconds; 0 before the first answer.
    pub rtt_us: u64,
    at: Instant,
}

impl Heard {
    /// How long ago it was heard, in milliseconds.
    #[must_use]
    pub fn age_ms(&self) -> u64 {
        u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether it was heard lately.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.at.elapsed() < DOWN_AFTER && !self.info.leaving
    }
}

/// Says how this node is.
pub type Myself = Arc<dyn Fn() -> NodeInfo + Send + Sync>;

/// What is known of all peers. Cheap to clone.
#[derive(Clone)]
pub struct Members {
    heard: Arc<Mutex<BTreeMap<String, Heard>>>,
    myself: Myself,
}

impl Members {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(myself: Myself) -> Self {
        Self { heard: Arc::default(), myself }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a peer.
    #[must_use]
    pub fn heard(&self, name: &str) -> Option<Heard> {
        self.lock().get(name).cloned()
    }

    fn note(&self, info: NodeInfo, rtt_us: Option<u64>) {
        let mut heard = self.lock();
        let before = heard.get(&info.name).map_or(0, |heard| heard.rtt_us);
        let rtt_us = rtt_us.unwrap_or(before);
        heard.insert(info.name.clone(), Heard { info, rtt_us, at: Instant::now() });
    }

    /// Asks a peer until `stop`.
    pub async fn ask(self, link: Arc<dyn Link>, peer: PeerAddr, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = self.ask_on_one_stream(&*link, &peer) => asked,
            };
            if let Err(error) = asked {
                tracing::debug!(peer = %peer.name, %error, "cannot ask how it is");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ASK_EVERY) => {}
            }
        }
    }

    async fn ask_on_one_stream(&self, link: &dyn Link, peer: &PeerAddr) -> Result<(), LinkError> {
        let opened = tokio::time::timeout(ANSWER_WITHIN, link.open(peer, Lane::Urgent)).await;
        let late = || LinkError::Lost("no answer in time".to_owned());
        let (mut tx, mut rx) = opened.map_err(|_| late())??;
        loop {
            let asked = Instant::now();
            tx.send(info_frame(&(self.myself)())).await?;
            let answer = tokio::time::timeout(ANSWER_WITHIN, rx.recv()).await;
            let answer = answer.map_err(|_| late())??;
            let info = answer.and_then(|frame| read_info(&frame, &peer.name)).ok_or_else(late)?;
            let rtt_us = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.note(info, Some(rtt_us));
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Answers a peer that asks, beginning with its first frame, until it stops.
    pub async fn answer(&self, from: &Name, first: Bytes, mut tx: FrameTx, mut rx: FrameRx) {
        let mut next = Some(first);
        while let Some(frame) = next {
            let Some(info) = read_info(&frame, from) else { return };
            self.note(info, None);
            if tx.send(info_frame(&(self.myself)())).await.is_err() {
                return;
            }
            next = rx.recv().await.ok().flatten();
        }
    }
}

fn info_frame(info: &NodeInfo) -> Bytes {
    let mut out = vec![URGENT_INFO];
    out.extend_from_slice(&info.encode_to_vec());
    out.into()
}

/// Reads a frame; one that speaks for another node is nothing.
fn read_info(frame: &[u8], from: &Name) -> Option<NodeInfo> {
    let bytes = frame.strip_prefix(&[URGENT_INFO])?;
    NodeInfo::decode(bytes).ok().filter(|info| info.name == from.as_str())
}
