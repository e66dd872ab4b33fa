//! How the other nodes are: each node asks each other ten times a second, on the urgent lane, which
//! waits for no disk. What comes back feeds status, the live list and the choice of a successor.
//!
//! Every question is also an exchange of clocks: it goes out with this node's reading, and the
//! answer brings the peer's readings and bounds. Only the asking side compares, because only it
//! knows how long the way there and back has taken at most; so each pair is compared twice, once by
//! each.
//!
//! A packet of a node's old life may come late, after the first of its new one: whoever names fewer
//! starts of its store than are known is not listened to.
//!
//! It decides nothing about safety: who leads and who votes is the engine's business alone.
//!
//! Not here: when two clocks contradict each other (`clock::peer`), what follows (`fence`, `lead`),
//! and what the cluster notes of a node that falls silent (`reconciler::failure_detector`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::peer::{Claim, Exchange, PeerClock, PeerVerdict};
use clock::{ClockState, Reading};
use net::{FrameRx, FrameTx, Lane, Link, LinkError, PeerAddr};
use parking_lot::{Mutex, MutexGuard};
use prost::Message as _;
use proto::Name;
use proto::peer::NodeInfo;
use proto::wire::{ClockPeer, ClockReport};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::earlier::Earlier;
use crate::raft::URGENT_INFO;

/// Between two questions to a peer.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for an answer before the stream is given up.
const ANSWER_WITHIN: Duration = Duration::from_millis(800);
/// A peer that was not heard for this long counts as down.
const DOWN_AFTER: Duration = Duration::from_millis(1000);
/// One that has not answered for this long counts as down, too, however much it asks. Longer, for an
/// answer that is lost costs more than a question.
const UNANSWERED_AFTER: Duration = Duration::from_millis(2000);
/// After a longer pause than this the time for which a peer was heard starts over.
const RUN_GAP: Duration = Duration::from_millis(500);

/// What is known of a peer.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// What it said last.
    pub info: NodeInfo,
    /// When it was last heard, asking or answering.
    at: Instant,
    /// Since when it is heard without a longer pause, in this life of it.
    since: Instant,
    /// When it last answered, and the round trip of that in microseconds. A peer that only asks is
    /// heard, and not up: nothing may come to it.
    answered: Option<(Instant, u64)>,
    /// Where it said that it listens, when it last answered at the address where it is dialled.
    answers_as: Option<String>,
    /// The process that last answered where it is dialled, as it shows itself.
    answers_life: Vec<u8>,
    /// Where it said that it listens, when it last asked.
    asks_as: Option<(Instant, String)>,
    /// What it had applied.
    applied: Earlier,
}

impl PeerStatus {
    /// What it had applied two seconds ago and has applied now; `None` if that is not known.
    #[must_use]
    pub fn applied_for_long(&self) -> Option<u64> {
        self.applied.before(Instant::now()).map(|before| before.min(self.info.applied))
    }

    /// How long it had been heard without a pause when it was heard last.
    #[must_use]
    pub fn run(&self) -> Duration {
        self.at.saturating_duration_since(self.since)
    }

    /// How long ago it was heard.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.at.elapsed()
    }

    /// Round trip, in microseconds; 0 if it has not answered lately.
    #[must_use]
    pub fn rtt_us(&self) -> u64 {
        let lately = self.answered.filter(|(at, _)| at.elapsed() < DOWN_AFTER);
        lately.map_or(0, |(_, rtt_us)| rtt_us)
    }

    /// Whether it was heard lately, asking or answering.
    #[must_use]
    pub fn speaks(&self) -> bool {
        self.at.elapsed() < DOWN_AFTER && !self.info.leaving
    }

    /// Whether it answers lately: it hears this node, and this node hears it.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.speaks() && self.unanswered() < UNANSWERED_AFTER
    }

    /// Whether this very process answers lately where the node is dialled. One that asks from elsewhere
    /// does not.
    #[must_use]
    pub fn is_answered_by(&self, life: &[u8]) -> bool {
        self.unanswered() < UNANSWERED_AFTER && !life.is_empty() && self.answers_life == life
    }

    /// How long it has been of no use: silent, or without an answer. A little time without an answer
    /// is none.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.age().max(self.unanswered().saturating_sub(UNANSWERED_AFTER - DOWN_AFTER))
    }

    fn unanswered(&self) -> Duration {
        self.answered.map_or(self.since, |(at, _)| at).elapsed()
    }

    /// Where it says that it listens.
    #[must_use]
    pub fn claims(&self) -> Option<&str> {
        let asks = self.asks_as.as_ref().filter(|(at, _)| at.elapsed() < DOWN_AFTER);
        asks.map(|(_, address)| address.as_str()).or(self.answers_as.as_deref())
    }

    /// Whether somebody answers as this peer where the table says that it listens, while another asks
    /// in its name and says that it listens elsewhere.
    #[must_use]
    pub fn is_two(&self, table: &str) -> bool {
        let answers = self.answered.is_some_and(|(at, _)| at.elapsed() < DOWN_AFTER)
            && self.answers_as.as_deref() == Some(table);
        let asks = self.asks_as.as_ref().filter(|(at, _)| at.elapsed() < DOWN_AFTER);
        answers && asks.is_some_and(|(_, address)| !address.is_empty() && address != table)
    }
}

/// A peer's clock as compared with this node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// Whether the two can both be right. Unknown once the last exchange is old.
    pub verdict: PeerVerdict,
    /// How far the two claims are apart at least, nanoseconds: positive if the peer's lies later.
    pub gap_ns: i64,
    /// Whether the last exchange is young enough to count.
    pub fresh: bool,
}

/// Says how this node is.
pub type Myself = Arc<dyn Fn() -> NodeInfo + Send + Sync>;
/// Hears what every peer says of itself, with when it was asked if that was an answer. Says whether the
/// speaker is the one that lives as that node.
pub type Listener = Arc<dyn Fn(&NodeInfo, Option<Instant>) -> bool + Send + Sync>;
/// Reads this node's clock, by its own servers alone.
pub type MyClock = Arc<dyn Fn() -> (Reading, ClockState) + Send + Sync>;

/// What is known of all peers. Cheap to clone.
#[derive(Clone, Default)]
pub struct PeerMonitor {
    known: Arc<Mutex<Known>>,
    listener: Option<Listener>,
}

/// Asks and answers: the exchanges that the knowledge comes from. Cheap to clone.
#[derive(Clone)]
pub struct Exchanges {
    monitor: PeerMonitor,
    myself: Myself,
    clock: MyClock,
}

#[derive(Default)]
struct Known {
    heard: BTreeMap<String, PeerStatus>,
    clocks: BTreeMap<String, Clock>,
    /// What this node itself had applied.
    applied: Option<Earlier>,
}

/// The exchanges with one peer.
struct Clock {
    peer: PeerClock,
    at: Instant,
}

impl Clock {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < DOWN_AFTER
    }
}

impl PeerMonitor {
    /// Knows nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with somebody who hears everything.
    #[must_use]
    pub fn heard_by(self, listener: Listener) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// The exchanges with the peers. `myself` says how this node is, `clock` what its clock says.
    #[must_use]
    pub fn exchanges(&self, myself: Myself, clock: MyClock) -> Exchanges {
        Exchanges { monitor: self.clone(), myself, clock }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    /// What is known of a peer.
    #[must_use]
    pub fn heard(&self, name: &str) -> Option<PeerStatus> {
        self.lock().heard.get(name).cloned()
    }

    /// Everything that is known, by name.
    #[must_use]
    pub fn all_heard(&self) -> BTreeMap<String, PeerStatus> {
        self.lock().heard.clone()
    }

    /// Notes what this node itself has applied, as it tells a peer.
    fn note_applied(&self, applied: u64) {
        let mut known = self.lock();
        let at = Instant::now();
        let before = known.applied.unwrap_or_else(|| Earlier::new(at, applied));
        known.applied = Some(before.then(at, applied));
    }

    /// What this node had applied two seconds ago; `None` if that is not known.
    #[must_use]
    pub fn applied_before(&self) -> Option<u64> {
        self.lock().applied?.before(Instant::now())
    }

    /// Names of the peers that were heard lately, for the others.
    #[must_use]
    pub fn hears(&self) -> Vec<String> {
        self.names(PeerStatus::speaks)
    }

    /// Names of the peers that answer, for the others.
    #[must_use]
    pub fn reaches(&self) -> Vec<String> {
        self.names(PeerStatus::is_up)
    }

    fn names(&self, which: impl Fn(&PeerStatus) -> bool) -> Vec<String> {
        let known = self.lock();
        known.heard.iter().filter(|(_, heard)| which(heard)).map(|(n, _)| n.clone()).collect()
    }

    /// Forgets a node that is a member no more: a later one of its name starts over.
    pub fn forget(&self, name: &str) {
        let mut known = self.lock();
        known.heard.remove(name);
        known.clocks.remove(name);
    }

    /// A peer's clock beside this node's; `None` before the first exchange.
    #[must_use]
    pub fn compared(&self, name: &str) -> Option<Compared> {
        let known = self.lock();
        let clock = known.clocks.get(name)?;
        let fresh = clock.is_fresh();
        let verdict = if fresh { clock.peer.verdict() } else { PeerVerdict::Unknown };
        Some(Compared { verdict, gap_ns: clock.peer.gap_ns(), fresh })
    }

    /// The other nodes' clocks, by name.
    #[must_use]
    pub fn clock_peers(&self) -> Vec<ClockPeer> {
        let known = self.lock();
        let row = |(name, clock): (&String, &Clock)| {
            let report = known.heard.get(name).and_then(|heard| heard.info.clock.as_ref());
            let verdict =
                if clock.is_fresh() { clock.peer.verdict() } else { PeerVerdict::Unknown };
            ClockPeer {
                node: name.clone(),
                state: report.map(|report| report.state.clone()).unwrap_or_default(),
                offset_ns: clock.peer.offset_ns().unwrap_or(0),
                delay_ns: clock.peer.delay_ns().unwrap_or(0),
                error_bound_us: report.and_then(|report| reading_of(report).error_us()),
                verdict: verdict.to_string(),
                age_ms: u64::try_from(clock.at.elapsed().as_millis()).unwrap_or(u64::MAX),
            }
        };
        known.clocks.iter().map(row).collect()
    }

    /// Takes what a peer says of itself: an answer, with its round trip, or a question. Returns
    /// whether it counts.
    fn note(&self, info: NodeInfo, rtt_us: Option<u64>) -> bool {
        self.note_at(info, rtt_us, Instant::now())
    }

    fn note_at(&self, mut info: NodeInfo, rtt_us: Option<u64>, at: Instant) -> bool {
        if let Some(listener) = &self.listener {
            let asked = rtt_us.and_then(|us| at.checked_sub(Duration::from_micros(us)));
            if !listener(&info, asked) {
                tracing::debug!(peer = info.name, "a message of a process that is not the node");
                return false;
            }
        }
        let mut known = self.lock();
        let before = known.heard.get(&info.name);
        // A node that cannot prove its store intact does not know how often that was started.
        if info.starts != 0 && before.is_some_and(|before| info.starts < before.info.starts) {
            tracing::debug!(
                peer = info.name,
                starts = info.starts,
                "a late message of an earlier process"
            );
            return false;
        }
        let same_life = before.filter(|before| {
            before.info.starts == info.starts && at.saturating_duration_since(before.at) < RUN_GAP
        });
        // Questions and answers may overtake each other, and nobody takes a stop back.
        let known_life =
            before.filter(|before| info.starts != 0 && before.info.starts == info.starts);
        info.leaving |= known_life.is_some_and(|before| before.info.leaving);
        let address = info.address.clone();
        let (answers_as, asks_as) = match rtt_us {
            Some(_) => (Some(address), before.and_then(|before| before.asks_as.clone())),
            None => (before.and_then(|before| before.answers_as.clone()), Some((at, address))),
        };
        let answers_life = match (rtt_us, &info.shown) {
            (Some(_), shown) => shown.as_ref().map_or_else(Vec::new, |shown| shown.life.clone()),
            (None, _) => before.map_or_else(Vec::new, |before| before.answers_life.clone()),
        };
        let applied =
            before.map_or_else(|| Earlier::new(at, info.applied), |before| before.applied);
        let heard = PeerStatus {
            applied: applied.then(at, info.applied),
            answers_as,
            answers_life,
            asks_as,
            at,
            since: same_life.map_or(at, |before| before.since),
            answered: rtt_us
                .map(|rtt_us| (at, rtt_us))
                .or_else(|| before.and_then(|before| before.answered)),
            info,
        };
        known.heard.insert(heard.info.name.clone(), heard);
        true
    }

    fn note_exchange(&self, peer: &Name, exchange: &Exchange) {
        let mut known = self.lock();
        let clock = Clock { peer: PeerClock::default(), at: Instant::now() };
        let clock = known.clocks.entry(peer.to_string()).or_insert(clock);
        clock.peer.note(exchange);
        clock.at = Instant::now();
    }
}

impl Exchanges {
    /// How this node is, as it tells a peer.
    fn myself(&self) -> NodeInfo {
        let info = (self.myself)();
        self.monitor.note_applied(info.applied);
        info
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
            let myself = self.myself();
            let asked = Instant::now();
            let (mine_sent, _) = (self.clock)();
            tx.send(info_frame(&NodeInfo { sent_ns: mine_sent.now_ns, ..myself })).await?;
            let answer = tokio::time::timeout(ANSWER_WITHIN, rx.recv()).await;
            let answer = answer.map_err(|_| late())??;
            let (mine_received, my_state) = (self.clock)();
            let info = answer.and_then(|frame| read_info(&frame, &peer.name)).ok_or_else(late)?;
            let rtt_us = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
            let (claim, received_ns) = (claim_of(&info), info.received_ns);
            if !self.monitor.note(info, Some(rtt_us)) {
                return Err(LinkError::Lost(
                    "an answer of an earlier process of the peer".to_owned(),
                ));
            }
            if let Some(claim) = claim {
                let exchange =
                    Exchange { mine_sent, received_ns, peer: claim, mine_received, my_state };
                self.monitor.note_exchange(&peer.name, &exchange);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Answers a peer that asks, beginning with its first frame, until it stops.
    pub async fn answer(&self, from: &Name, first: Bytes, mut tx: FrameTx, mut rx: FrameRx) {
        let mut next = Some(first);
        while let Some(frame) = next {
            let (received, _) = (self.clock)();
            let Some(info) = read_info(&frame, from) else { return };
            if !self.monitor.note(info, None) {
                return;
            }
            // The clock's report inside is read now, after the question came: it is T3.
            let mut answer = self.myself();
            answer.received_ns = received.now_ns;
            answer.sent_ns = answer.clock.as_ref().map_or(0, |report| report.now_ns);
            if tx.send(info_frame(&answer)).await.is_err() {
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

/// What a peer says of its clock at the moment of its answer; `None` if it says nothing.
fn claim_of(info: &NodeInfo) -> Option<Claim> {
    let report = info.clock.as_ref()?;
    // A state of another release is none that this one could compare with.
    let state = report.state.parse().unwrap_or(ClockState::Unsynced);
    let Reading { now_ns, earliest_ns, latest_ns } = reading_of(report);
    Some(Claim { now_ns, earliest_ns, latest_ns, state })
}

fn reading_of(report: &ClockReport) -> Reading {
    let ClockReport { now_ns, earliest_ns, latest_ns, .. } = *report;
    Reading { now_ns, earliest_ns, latest_ns }
}

/// Reads a frame; one that speaks for another node is nothing.
fn read_info(frame: &[u8], from: &Name) -> Option<NodeInfo> {
    let bytes = frame.strip_prefix(&[URGENT_INFO])?;
    NodeInfo::decode(bytes).ok().filter(|info| info.name == from.as_str())
}

#[cfg(test)]
#[path = "peer_monitor_test.rs"]
mod tests;
