//! What the other voters' clocks say of this node's: compared with all of them, a clock that a
//! majority contradicts is fenced off until they agree again.
//!
//! Not here: the exchanges (`peer_monitor`), when a verdict changes and what a majority is
//! (`clock::peer`), what a fenced clock may still do (`lead`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clock::ClockState;
use clock::peer::{Fence, PeerVerdict, fence};
use clock::turned::doubtful;
use proto::event::ClockCause;
use proto::{Problem, ProblemCode};
use tokio::time::Instant;

use crate::peer_monitor::{Compared, PeerMonitor, PeerStatus};
use crate::time::NodeClock;

/// A peer's verdict is told at most this often: a clock at the edge must not fill the log.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Follows the verdicts.
#[derive(Debug, Default)]
pub(crate) struct FenceWatch {
    fence: Fence,
    /// Peers that are contradicted now, and how far they are off.
    contradicted: BTreeMap<String, i64>,
    told: BTreeMap<String, Told>,
}

/// What was last told of a peer.
#[derive(Debug, Clone, Copy)]
struct Told {
    disjoint: bool,
    at: Instant,
}

impl FenceWatch {
    /// Looks at what the exchanges with the other voters show, and tells the clock.
    pub(crate) fn look(
        &mut self,
        members: &PeerMonitor,
        voters: &[String],
        node_clock: &NodeClock,
    ) {
        let compared = |name: &String| Some((name.clone(), members.compared(name)?));
        let fresh: BTreeMap<_, _> =
            voters.iter().filter_map(compared).filter(|(_, compared)| compared.fresh).collect();
        let before = self.fence;
        self.fence = fence(before, fresh.values().map(|compared| compared.verdict));
        let disjoint = fresh.iter().filter(|(_, c)| c.verdict == PeerVerdict::Disjoint);
        let disjoint: BTreeMap<_, _> = disjoint.map(|(n, c)| (n.clone(), c.gap_ns)).collect();
        // A fence outlives its witnesses; then the last ones are still the reason for it.
        let same = disjoint.keys().eq(self.contradicted.keys());
        if !(same || disjoint.is_empty() && self.fence == Fence::Suspect) {
            self.contradicted = disjoint;
        }
        match (before, self.fence) {
            (Fence::Suspect, Fence::Suspect) if same => {}
            (_, Fence::Suspect) => node_clock.set_fenced(Some(self.sentence())),
            (Fence::Suspect, _) => node_clock.set_fenced(None),
            _ => {}
        }
        self.tell(&fresh, node_clock);
        node_clock.set_doubtful(doubted(members, voters, node_clock));
    }

    /// Writes changes of single verdicts to the log's history.
    fn tell(&mut self, fresh: &BTreeMap<String, Compared>, node_clock: &NodeClock) {
        for (peer, compared) in fresh {
            let disjoint = match compared.verdict {
                PeerVerdict::Unknown => continue,
                PeerVerdict::Compatible => false,
                PeerVerdict::Disjoint => true,
            };
            let told = self.told.get(peer);
            let known = told.is_some_and(|told| told.disjoint);
            if disjoint == known || told.is_some_and(|told| told.at.elapsed() < TELL_EVERY) {
                continue;
            }
            let text = if disjoint {
                format!(
                    "its clock and that of {} contradict each other",
                    gap(peer, compared.gap_ns)
                )
            } else {
                format!("its clock and that of {peer} agree again")
            };
            tracing::warn!("{text}");
            node_clock.note(ClockCause::Peers, text);
            self.told.insert(peer.clone(), Told { disjoint, at: Instant::now() });
        }
    }

    /// What a person should look at, if anything.
    pub(crate) fn problem(&self) -> Option<Problem> {
        match self.fence {
            Fence::Clear => None,
            Fence::Alarm => {
                Some(Problem::new(ProblemCode::ClockContradicted).detail(self.sentence()))
            }
            Fence::Suspect => Some(Problem::new(ProblemCode::BadClock).detail(self.sentence())),
        }
    }

    fn sentence(&self) -> String {
        let peers: Vec<_> = self.contradicted.iter().map(|(peer, ns)| gap(peer, *ns)).collect();
        format!("its clock and that of {} contradict each other", peers.join(", "))
    }
}

/// The time servers that this node and all others that measure have turned against.
fn doubted(members: &PeerMonitor, voters: &[String], node_clock: &NodeClock) -> BTreeSet<String> {
    let own = node_clock.turned();
    if own.is_empty() {
        return own;
    }
    let heard = voters.iter().filter_map(|name| members.heard(name)).filter(PeerStatus::is_up);
    let clocks = heard.filter_map(|heard| heard.info.clock);
    let measuring = clocks.filter(|clock| clock.state != ClockState::Local.as_str());
    let others: Vec<_> = measuring.map(|clock| clock.turned.into_iter().collect()).collect();
    doubtful(&own, &others)
}

/// `n2 (3600.000 s ahead at least)`.
fn gap(peer: &str, gap_ns: i64) -> String {
    let way = if gap_ns < 0 { "behind" } else { "ahead" };
    let ns = gap_ns.unsigned_abs();
    let size = if ns < 1_000_000_000 {
        format!("{}.{:03} ms", ns / 1_000_000, ns / 1000 % 1000)
    } else {
        format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1000)
    };
    format!("{peer} ({size} {way} at least)")
}
