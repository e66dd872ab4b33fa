//! The clocks of the other nodes: whether what they claim and what this node claims can both be
//! true.
//!
//! Each exchange is a question with this node's reading (T1), received by the peer at its T2,
//! answered at its T3 with its interval, and received here at T4. True time of the answer lies in
//! the peer's interval at T3, and between this node's earliest at T1 and its latest at T4. If these
//! cannot meet, one of the two bounds is provably wrong, whatever the network did: delay and
//! asymmetry only widen what is compared. With symmetric bounds and delays the rule is
//! `|theta| > eps_mine + eps_peer + delta/2`.
//!
//! A contradiction does not say who is wrong. The majority of the voting peers does, see [`fence`].
//! Peers never enter the estimate of true time itself: they follow the same servers.
//!
//! Invariants:
//! * two clocks whose intervals hold true time are never found disjoint;
//! * a verdict changes only after [`IN_A_ROW`] exchanges running that say so, both ways;
//! * whatever a peer says is survived: arithmetic saturates, and nonsense weighs nothing.
//!
//! Not here: when peers are asked and when an answer is too old to count (`daemon`). Readings must
//! be the servers' view, without the fence itself: else a fenced clock could never come back.

use std::collections::VecDeque;
use std::fmt;

use crate::reading::Reading;
use crate::state::ClockState;

/// How many exchanges running must say the same before a verdict changes.
pub const IN_A_ROW: u32 = 3;
/// How many exchanges the offset is chosen from: the one with the smallest delay is shown.
pub const KEPT: usize = 8;

/// What a peer says of its clock at the moment of its answer, T3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Its reading, nanoseconds since 1970.
    pub now_ns: u64,
    /// True time is not before this; `None` if it does not know.
    pub earliest_ns: Option<u64>,
    /// True time is not after this; `None` if it does not know.
    pub latest_ns: Option<u64>,
    /// Its state.
    pub state: ClockState,
}

/// One question and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// This node's reading when it asked, T1.
    pub mine_sent: Reading,
    /// The peer's reading when the question came, T2; 0 if it does not say.
    pub received_ns: u64,
    /// What the peer said when it answered, T3.
    pub peer: Claim,
    /// This node's reading when the answer came, T4.
    pub mine_received: Reading,
    /// This node's state, from its servers alone.
    pub my_state: ClockState,
}

/// What the exchanges with one peer show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PeerVerdict {
    /// Nothing: one of the two claims nothing, or there were too few exchanges.
    #[default]
    Unknown,
    /// Both claims can be true.
    Compatible,
    /// One of the two claims is wrong.
    Disjoint,
}

/// One peer's clock as seen from this node.
#[derive(Debug, Clone, Default)]
pub struct PeerClock {
    /// The last exchanges, oldest first; at most [`KEPT`].
    kept: VecDeque<Measured>,
    verdict: PeerVerdict,
    /// What the last exchange said by itself, and how many running said so.
    last: PeerVerdict,
    running: u32,
    gap_ns: i64,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    offset_ns: i64,
    delay_ns: u64,
}

impl Exchange {
    /// What this exchange shows by itself.
    #[must_use]
    pub fn verdict(&self) -> PeerVerdict {
        match self.gap_ns() {
            None => PeerVerdict::Unknown,
            Some(0) => PeerVerdict::Compatible,
            Some(_) => PeerVerdict::Disjoint,
        }
    }

    /// How far the two claims are apart at least, nanoseconds: positive if the peer's lies later,
    /// 0 if both can be true, `None` if they cannot be compared.
    #[must_use]
    pub fn gap_ns(&self) -> Option<i64> {
        if !claims(self.my_state) || !claims(self.peer.state) {
            return None;
        }
        let my_earliest_ns = self.mine_sent.earliest_ns?;
        let my_latest_ns = self.mine_received.latest_ns?;
        let (earliest_ns, latest_ns) = (self.peer.earliest_ns?, self.peer.latest_ns?);
        if earliest_ns > latest_ns {
            return None;
        }
        // The peer's own clock measured how long it held the question; at most 1000 ppm of that
        // can be its slew and drift. True time at T3 is at least this much after T1.
        let held_ns = self.held_ns();
        let held_ns = held_ns - held_ns.div_ceil(1000);
        let behind_ns = my_earliest_ns.saturating_add(held_ns).saturating_sub(latest_ns);
        let ahead_ns = earliest_ns.saturating_sub(my_latest_ns);
        let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        Some(if ahead_ns > 0 { signed(ahead_ns) } else { -signed(behind_ns) })
    }

    /// Peer's reading minus this node's, nanoseconds.
    #[must_use]
    pub fn offset_ns(&self) -> i64 {
        let half_held = i128::from(self.held_ns()) / 2;
        let peer = i128::from(self.peer.now_ns) - half_held;
        let (t1, t4) = (self.mine_sent.now_ns, self.mine_received.now_ns);
        let offset = peer - i128::from(t1.midpoint(t4));
        i64::try_from(offset).unwrap_or(if offset < 0 { i64::MIN } else { i64::MAX })
    }

    /// Round trip without the time that the peer held the question, nanoseconds.
    #[must_use]
    pub fn delay_ns(&self) -> u64 {
        self.elapsed_ns().saturating_sub(self.held_ns())
    }

    fn elapsed_ns(&self) -> u64 {
        self.mine_received.now_ns.saturating_sub(self.mine_sent.now_ns)
    }

    /// How long the peer held the question, T3 - T2; 0 if what it says cannot be.
    fn held_ns(&self) -> u64 {
        let elapsed_ns = self.elapsed_ns();
        // Two slewed clocks measure one span: they differ by no more than this.
        let most_ns = elapsed_ns.saturating_add(elapsed_ns / 500);
        let held_ns = self.peer.now_ns.checked_sub(self.received_ns);
        let held_ns = held_ns.filter(|held_ns| *held_ns <= most_ns).unwrap_or(0).min(elapsed_ns);
        assert!(held_ns <= elapsed_ns, "held longer than the exchange took");
        held_ns
    }
}

impl PeerClock {
    /// Takes in an exchange. One during which this node's own reading went back, as it may at the
    /// first sync, measures nothing and is left out.
    pub fn note(&mut self, exchange: &Exchange) {
        if exchange.mine_received.now_ns < exchange.mine_sent.now_ns {
            return;
        }
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept
            .push_back(Measured { offset_ns: exchange.offset_ns(), delay_ns: exchange.delay_ns() });
        assert!(self.kept.len() <= KEPT, "{} exchanges kept", self.kept.len());
        self.gap_ns = exchange.gap_ns().unwrap_or(0);
        let says = exchange.verdict();
        self.running = if says == self.last { self.running.saturating_add(1) } else { 1 };
        self.last = says;
        if self.running >= IN_A_ROW {
            self.verdict = says;
        }
    }

    /// What the exchanges show. Changes after [`IN_A_ROW`] of them running that agree.
    #[must_use]
    pub fn verdict(&self) -> PeerVerdict {
        self.verdict
    }

    /// Peer's reading minus this node's, nanoseconds, from the exchange with the smallest delay;
    /// `None` before the first.
    #[must_use]
    pub fn offset_ns(&self) -> Option<i64> {
        self.best().map(|measured| measured.offset_ns)
    }

    /// Smallest round trip of the last exchanges, nanoseconds; `None` before the first.
    #[must_use]
    pub fn delay_ns(&self) -> Option<u64> {
        self.best().map(|measured| measured.delay_ns)
    }

    /// How far the two claims were apart at least in the last exchange, nanoseconds: positive if
    /// the peer's lies later, 0 if both can be true or nothing can be said.
    #[must_use]
    pub fn gap_ns(&self) -> i64 {
        self.gap_ns
    }

    fn best(&self) -> Option<&Measured> {
        self.kept.iter().min_by_key(|measured| measured.delay_ns)
    }
}

/// Whether a clock in this state claims that its bounds hold true time. An expired one does: its
/// bounds are wide, not void. Without it, a fenced clock would be free again once it expired.
const fn claims(state: ClockState) -> bool {
    state.is_trusted() || matches!(state, ClockState::Expired)
}

/// What the peers make of this node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Fence {
    /// Nobody contradicts it.
    #[default]
    Clear,
    /// Somebody does, but it cannot be told who is wrong: for a person to look at.
    Alarm,
    /// A majority does: this clock is suspect, and its bounds must not be given out.
    Suspect,
}

/// What the fresh voting peers together make of this node's clock, `before` being what they made of
/// it last.
///
/// Suspect if more than half of them contradict it, and at least two: of two nodes nobody can tell
/// who is wrong, nor with exactly half. A peer that claims nothing counts as one that does not
/// contradict: a fence must rest on a real majority, not on the first two to have a clock.
///
/// Once suspect, a clock stays so until those that vouch for it are as many as those that still
/// contradict it. Else a proven wrong clock would be trusted again as soon as a witness dies, or
/// the node is cut off.
#[must_use]
pub fn fence(before: Fence, verdicts: impl IntoIterator<Item = PeerVerdict>) -> Fence {
    let (mut voters, mut disjoint, mut compatible) = (0_usize, 0_usize, 0_usize);
    for verdict in verdicts {
        voters += 1;
        match verdict {
            PeerVerdict::Disjoint => disjoint += 1,
            PeerVerdict::Compatible => compatible += 1,
            PeerVerdict::Unknown => {}
        }
    }
    assert!(disjoint + compatible <= voters, "each voter has one verdict");
    let majority = disjoint >= 2 && disjoint * 2 > voters;
    let unrefuted = before == Fence::Suspect && (voters == 0 || disjoint > compatible);
    if majority || unrefuted {
        Fence::Suspect
    } else if disjoint > 0 {
        Fence::Alarm
    } else {
        Fence::Clear
    }
}

impl PeerVerdict {
    /// Every verdict.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Compatible, Self::Disjoint];

    /// The verdict in lower case, as it stands in status and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Compatible => "compatible",
            Self::Disjoint => "disjoint",
        }
    }
}

impl fmt::Display for PeerVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear => "clear",
            Self::Alarm => "alarm",
            Self::Suspect => "suspect",
        })
    }
}

const _: () = assert!(1 < IN_A_ROW, "one exchange alone decides nothing");
