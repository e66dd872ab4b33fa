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
//! and what the cluster notes of a node that falls silent (`steward::notice`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clock::peer::{Claim, Exchange, PeerClock, PeerVerdict};
use clock::{ClockState, Reading};
use net::{FrameRx, FrameTx, Lane, Link, LinkError, PeerAddr};
use prost::Message as _;
use proto::Name;
use proto::peer::NodeInfo;
use proto::wire::{ClockPeer, ClockReport};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::raft::URGENT_INFO;

/// Between two questions to a peer.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for an answer before the stream is given up.
const ANSWER_WITHIN: Duration = Duration::from_millis(800);
/// A peer that was not heard for this long counts as down.
const DOWN_AFTER: Duration = Duration::from_millis(1000);
/// Who pauses for longer than this while it is heard again is heard anew.
const RUN_GAP: Duration = Duration::from_millis(500);

/// What is known of a peer.
#[derive(Debug, Clone)]
pub struct Heard {
    /// What it said last.
    pub info: NodeInfo,
    /// When it was last heard, asking or answering.
    at: Instant,
    /// Since when it is heard without a longer pause, in this life of it.
    since: Instant,
    /// When it last answered, and the round trip of that in microseconds. A peer that only asks is
    /// heard all the same.
    answered: Option<(Instant, u64)>,
}

impl Heard {
    /// How long ago it was heard, in milliseconds.
    #[must_use]
    pub fn age_ms(&self) -> u64 {
        u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX)
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

    /// Whether it was heard lately.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.at.elapsed() < DOWN_AFTER && !self.info.leaving
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
/// Hears what every peer says of itself, with when it was asked if that was an answer.
pub type Listener = Arc<dyn Fn(&NodeInfo, Option<Instant>) + Send + Sync>;
/// Reads this node's clock, by its own servers alone.
pub type MyClock = Arc<dyn Fn() -> (Reading, ClockState) + Send + Sync>;

/// What is known of all peers. Cheap to clone.
#[derive(Clone)]
pub struct Members {
    known: Arc<Mutex<Known>>,
    myself: Myself,
    clock: MyClock,
    listener: Option<Listener>,
}

#[derive(Default)]
struct Known {
    heard: BTreeMap<String, Heard>,
    clocks: BTreeMap<String, Clock>,
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

impl Members {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(myself: Myself, clock: MyClock) -> Self {
        Self { known: Arc::default(), myself, clock, listener: None }
    }

    /// The same, with somebody who hears everything.
    #[must_use]
    pub fn heard_by(self, listener: Listener) -> Self {
        Self { listener: Some(listener), ..self }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a peer.
    #[must_use]
    pub fn heard(&self, name: &str) -> Option<Heard> {
        self.lock().heard.get(name).cloned()
    }

    /// Everything that is known, by name.
    #[must_use]
    pub fn all_heard(&self) -> BTreeMap<String, Heard> {
        self.lock().heard.clone()
    }

    /// Names of the peers that were heard lately, for the others.
    #[must_use]
    pub fn hears(&self) -> Vec<String> {
        let known = self.lock();
        known.heard.iter().filter(|(_, heard)| heard.is_up()).map(|(n, _)| n.clone()).collect()
    }

    /// Forgets a node that is a member no more: a later one of its name begins anew.
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
            listener(&info, rtt_us.and_then(|us| at.checked_sub(Duration::from_micros(us))));
        }
        let mut known = self.lock();
        let before = known.heard.get(&info.name);
        // A node that cannot prove its store intact does not know how often that was started.
        if info.starts != 0 && before.is_some_and(|before| info.starts < before.info.starts) {
            tracing::debug!(peer = info.name, starts = info.starts, "a late word of an old life");
            return false;
        }
        let same_life = before.filter(|before| {
            before.info.starts == info.starts && at.saturating_duration_since(before.at) < RUN_GAP
        });
        // Questions and answers may overtake each other, and nobody takes a stop back.
        let known_life =
            before.filter(|before| info.starts != 0 && before.info.starts == info.starts);
        info.leaving |= known_life.is_some_and(|before| before.info.leaving);
        let heard = Heard {
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
            let myself = (self.myself)();
            let asked = Instant::now();
            let (mine_sent, _) = (self.clock)();
            tx.send(info_frame(&NodeInfo { sent_ns: mine_sent.now_ns, ..myself })).await?;
            let answer = tokio::time::timeout(ANSWER_WITHIN, rx.recv()).await;
            let answer = answer.map_err(|_| late())??;
            let (mine_received, my_state) = (self.clock)();
            let info = answer.and_then(|frame| read_info(&frame, &peer.name)).ok_or_else(late)?;
            let rtt_us = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
            let (claim, received_ns) = (claim_of(&info), info.received_ns);
            if !self.note(info, Some(rtt_us)) {
                return Err(LinkError::Lost("an answer of the peer's old life".to_owned()));
            }
            if let Some(claim) = claim {
                let exchange =
                    Exchange { mine_sent, received_ns, peer: claim, mine_received, my_state };
                self.note_exchange(&peer.name, &exchange);
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
            if !self.note(info, None) {
                return;
            }
            // The clock's report inside is read now, after the question came: it is T3.
            let mut answer = (self.myself)();
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
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use net::switchboard::{Arrivals, Switchboard};
    use proto::peer::Hello;

    use super::*;

    const MS: u64 = 1_000_000;
    /// 2026-11-21T00:00:00Z.
    const WALL_NS: u64 = 1_795_219_200_000_000_000;
    const PATIENCE: Duration = Duration::from_secs(60);

    fn name(id: u64) -> Name {
        format!("n{id}").parse().unwrap()
    }

    fn hello(id: u64) -> Hello {
        let incarnation = vec![0; 16];
        Hello { name: name(id).to_string(), raft_id: id, incarnation, ..Hello::default() }
    }

    /// A node whose clock moves on by a microsecond whenever it is read, and knows true time to
    /// 1 ms; `ahead_ns` is what it is off all the same.
    fn node(id: u64, truth: &Arc<AtomicU64>, ahead_ns: u64) -> Members {
        let truth = Arc::clone(truth);
        let clock = move || {
            let now_ns = truth.fetch_add(1000, Ordering::SeqCst) + ahead_ns;
            let (earliest_ns, latest_ns) = (Some(now_ns - MS), Some(now_ns + MS));
            (Reading { now_ns, earliest_ns, latest_ns }, ClockState::Synced)
        };
        let reading = clock.clone();
        let myself = move || {
            let (Reading { now_ns, earliest_ns, latest_ns }, state) = reading();
            let state = state.to_string();
            let clock =
                ClockReport { now_ns, earliest_ns, latest_ns, state, ..ClockReport::default() };
            NodeInfo { name: name(id).to_string(), clock: Some(clock), ..NodeInfo::default() }
        };
        Members::new(Arc::new(myself), Arc::new(clock))
    }

    async fn serve(members: Members, mut arrivals: Arrivals) {
        while let Some(stream) = arrivals.recv().await {
            let members = members.clone();
            tokio::spawn(async move {
                let net::PeerStream { from, tx, mut rx, .. } = stream;
                if let Ok(Some(first)) = rx.recv().await {
                    members.answer(&from.name.parse().unwrap(), first, tx, rx).await;
                }
            });
        }
    }

    /// Two nodes on a board, the first of which asks the second.
    async fn asking(ahead_ns: u64, board: &Switchboard, held: Option<Arc<AtomicU64>>) -> Members {
        let truth = held.unwrap_or_else(|| Arc::new(AtomicU64::new(WALL_NS)));
        let (one, two) = (node(1, &truth, 0), node(2, &truth, ahead_ns));
        let (link, arrivals) = board.attach(&name(1), hello(1));
        tokio::spawn(serve(one.clone(), arrivals));
        let (_link, arrivals) = board.attach(&name(2), hello(2));
        tokio::spawn(serve(two, arrivals));
        let (name, address, incarnation) = (name(2), String::new(), [0; 16]);
        let peer = PeerAddr { name, raft_id: 2, address, incarnation };
        tokio::spawn(one.clone().ask(Arc::new(link), peer, CancellationToken::new()));
        one
    }

    async fn verdict(members: &Members) -> PeerVerdict {
        let found = async {
            loop {
                match members.compared("n2") {
                    Some(Compared { verdict, fresh: true, .. })
                        if verdict != PeerVerdict::Unknown =>
                    {
                        return verdict;
                    }
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("a verdict")
    }

    #[tokio::test]
    async fn clocks_are_compared_over_the_link() {
        let board = Switchboard::new();
        let good = asking(MS, &board, None).await;
        assert_eq!(verdict(&good).await, PeerVerdict::Compatible);
        let rows = good.clock_peers();
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((row.node.as_str(), row.state.as_str()), ("n2", "synced"));
        assert!(row.offset_ns.abs_diff(1_000_000) < 100_000, "{row:?}");
        assert_eq!(row.error_bound_us, Some(1000));
        let board = Switchboard::new();
        let bad = asking(3 * MS, &board, None).await;
        assert_eq!(verdict(&bad).await, PeerVerdict::Disjoint);
        let gap_ns = bad.compared("n2").unwrap().gap_ns;
        assert!(gap_ns > 0 && gap_ns < 1_000_000, "{gap_ns}");
    }

    /// A link that is slow one way widens what is compared.
    #[tokio::test]
    async fn a_slow_link_makes_no_false_verdict() {
        let board = Switchboard::new();
        let truth = Arc::new(AtomicU64::new(WALL_NS));
        // Time goes on while an answer is under way, by more than both bounds.
        let ticking = Arc::clone(&truth);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                ticking.fetch_add(MS, Ordering::SeqCst);
            }
        });
        let members = asking(0, &board, Some(truth)).await;
        assert_eq!(verdict(&members).await, PeerVerdict::Compatible);
        board.delay(&name(2), &name(1), Duration::from_millis(30));
        let slow = async {
            let mut exchanges = 0;
            while exchanges < 5 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                exchanges += u32::from(members.heard("n2").is_some_and(|h| h.rtt_us() > 25_000));
                assert_eq!(members.compared("n2").unwrap().verdict, PeerVerdict::Compatible);
            }
        };
        tokio::time::timeout(PATIENCE, slow).await.expect("slow exchanges");
    }

    fn said(starts: u64, leaving: bool) -> NodeInfo {
        NodeInfo { name: "n2".to_owned(), starts, leaving, ..NodeInfo::default() }
    }

    fn long_ago() -> Instant {
        Instant::now().checked_sub(DOWN_AFTER).unwrap()
    }

    /// Seen to fail without the comparison of starts.
    #[tokio::test]
    async fn a_late_word_of_an_old_life_is_not_heard() {
        let members = node(1, &Arc::new(AtomicU64::new(WALL_NS)), 0);
        assert!(members.note(said(2, false), None));
        assert!(!members.note(said(1, true), None));
        assert!(!members.heard("n2").unwrap().info.leaving, "the old life left, not this one");
        assert!(members.note(said(2, true), None));
        assert!(members.note(said(2, false), None));
        assert!(members.heard("n2").unwrap().info.leaving, "a stop is not taken back");
        // It does not know its starts: it cannot prove its store intact.
        assert!(members.note(said(0, false), None));
        members.forget("n2");
        assert!(members.note(said(1, false), None), "another node of that name");
    }

    /// Seen to fail with runs that outlive a pause, and with runs that outlive a start.
    #[tokio::test]
    async fn a_run_ends_with_a_pause_and_with_a_start() {
        let members = node(1, &Arc::new(AtomicU64::new(WALL_NS)), 0);
        let mut at = long_ago();
        for (after_ms, starts, run) in
            [(0, 1, 0), (100, 1, 100), (400, 1, 500), (500, 1, 0), (100, 1, 100), (100, 2, 0)]
        {
            at += Duration::from_millis(after_ms);
            members.note_at(said(starts, false), None, at);
            assert_eq!(members.heard("n2").unwrap().run().as_millis(), run);
        }
    }

    /// Seen to fail with leaving peers counted, and without the age of a word or of an answer.
    #[tokio::test]
    async fn the_others_are_told_who_is_heard_by_question_or_answer() {
        let members = node(1, &Arc::new(AtomicU64::new(WALL_NS)), 0);
        let n3 = || NodeInfo { name: "n3".to_owned(), ..said(1, false) };
        assert_eq!(members.hears(), [""; 0]);
        members.note_at(n3(), Some(250), long_ago());
        assert!(members.heard("n3").unwrap().age() >= DOWN_AFTER);
        members.note(said(1, false), None);
        assert_eq!(members.hears(), ["n2"]);
        members.note(n3(), None);
        assert_eq!((members.heard("n3").unwrap().rtt_us(), members.hears().len()), (0, 2));
        members.note(n3(), Some(250));
        members.note(said(1, true), None);
        assert_eq!((members.heard("n3").unwrap().rtt_us(), members.hears().len()), (250, 1));
    }
}
