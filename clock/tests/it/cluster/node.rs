//! One node: what survives a crash, what does not, and its use of the clock crate.

use clock::guard::{check, stamp_limit_ns};
use clock::lead::{ClockFitness, Decision, Policy, Situation, UnsyncedStart};
use clock::peer::{Claim, Exchange, Fence, PeerClock, PeerVerdict, fence};
use clock::{ClockState, Hlc, HlcClock, Reading};

use super::audit::{Happening, Observation};
use super::clocks::Wall;
use super::log::{Entry, Log, Place};
use super::proposer::Proposer;
use super::{ELECTION_MAX_NS, EXCHANGE_NS, HEARD_NS, MAX_ERROR_NS, MS, Plan, Rules, START_NS};
use crate::sim::Random;

/// How many entries a successor may lack when a hand-over begins.
const CAUGHT_UP: u64 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Backup,
    Candidate,
    Primary,
}

/// What nodes say to each other.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Ballot {
        term: u64,
        pre: bool,
        handed_over: bool,
        last: (u64, u64),
    },
    Vote {
        term: u64,
        pre: bool,
    },
    Append {
        term: u64,
        prev: (u64, u64),
        entries: Vec<Entry>,
        commit: u64,
    },
    Appended {
        term: u64,
        outcome: Outcome,
    },
    Heartbeat {
        term: u64,
        commit: u64,
    },
    /// A higher term than the one that was spoken in.
    Outdated {
        term: u64,
    },
    Snapshot {
        term: u64,
        base: Place,
    },
    TakeOver {
        term: u64,
    },
    Ask {
        sent: Reading,
    },
    Tell {
        sent: Reading,
        received_ns: u64,
        claim: Claim,
        may_lead: bool,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    /// Synced up to here.
    Stored(u64),
    /// The log ends here, or differs before.
    Differs(u64),
    StampInFuture,
}

/// What happens to a node by itself.
#[derive(Debug, Clone)]
pub(crate) enum Moment {
    Tick,
    Synced { index: u64, term: u64, answer_to: Option<usize> },
    CeilingWritten(Hlc),
    CeilingTold(Hlc),
    Submit { term: u64, proposed: super::log::Proposed },
    Send { count: u32, token: Option<Hlc> },
}

/// What a node wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    Say(usize, Message),
    Later(u64, Moment),
}

/// Another node as seen from this one.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    pub(crate) clock: PeerClock,
    pub(crate) heard_ns: Option<u64>,
    pub(crate) may_lead: bool,
    /// As primary: the next entry to send, what it has synced, when something was sent that is not
    /// answered yet, and whether it refused what was sent last.
    pub(crate) next: u64,
    pub(crate) stored: u64,
    pub(crate) sent_ns: Option<u64>,
    pub(crate) refuses: bool,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) me: usize,
    pub(crate) plan: Plan,
    pub(crate) rng: Random,
    pub(crate) wall: Wall,

    // On disk.
    pub(crate) ceiling: Hlc,
    pub(crate) term: u64,
    pub(crate) voted_for: Option<usize>,
    pub(crate) log: Log,

    // In memory.
    pub(crate) up: bool,
    pub(crate) boot: u64,
    pub(crate) hlc: HlcClock,
    pub(crate) proposer: Proposer,
    pub(crate) role: Role,
    pub(crate) primary: Option<usize>,
    pub(crate) heard_ns: u64,
    pub(crate) patience_ns: u64,
    pub(crate) votes: u32,
    pub(crate) pre: bool,
    pub(crate) next_heartbeat_ns: u64,
    /// To whom this primary hands over, and until when it takes no entries for it.
    pub(crate) handing_to: Option<(usize, u64)>,
    pub(crate) commit: u64,
    pub(crate) applied: u64,
    pub(crate) last: Hlc,
    pub(crate) peers: Vec<Peer>,
    pub(crate) fence: Fence,
    pub(crate) policy: Policy,
    pub(crate) decision: Option<Decision>,
    next_ask_ns: u64,

    pub(crate) effects: Vec<Effect>,
    pub(crate) observed: Vec<Observation>,
}

impl Peer {
    pub(crate) fn tell(&self) -> String {
        let Self { may_lead, stored, refuses, .. } = self;
        format!("{} may_lead {may_lead} stored {stored} refuses {refuses}", self.clock.verdict())
    }
}

impl Node {
    pub(crate) fn new(me: usize, plan: Plan, wall: Wall, rng: Random) -> Self {
        let mut node = Self {
            me,
            plan,
            rng,
            wall,
            ceiling: Hlc::ZERO,
            term: 0,
            voted_for: None,
            log: Log::default(),
            up: false,
            boot: 0,
            hlc: HlcClock::new(0),
            proposer: Proposer::default(),
            role: Role::Backup,
            primary: None,
            heard_ns: 0,
            patience_ns: 0,
            votes: 0,
            pre: false,
            next_heartbeat_ns: 0,
            handing_to: None,
            commit: 0,
            applied: 0,
            last: Hlc::ZERO,
            peers: Vec::new(),
            fence: Fence::Clear,
            policy: Policy::new(0, 1, UnsyncedStart::Wait),
            decision: None,
            next_ask_ns: 0,
            effects: Vec::new(),
            observed: Vec::new(),
        };
        node.start(START_NS, START_NS);
        node
    }

    pub(crate) fn rules(&self) -> Rules {
        self.plan.rules
    }

    /// A new process on what the disk holds.
    pub(crate) fn start(&mut self, now_ns: u64, synced_from_ns: u64) {
        self.up = true;
        self.wall.restart(synced_from_ns);
        self.hlc = HlcClock::above(if self.rules().ceiling { self.ceiling } else { Hlc::ZERO });
        if !self.rules().ceiling {
            self.hlc.ceiling_persisted(Hlc::MAX);
        }
        let base = self.log.base();
        (self.commit, self.applied, self.last) = (base.index, base.index, base.last);
        self.hlc.observe(self.log.tail());
        self.proposer = Proposer::default();
        self.role = Role::Backup;
        self.primary = None;
        self.peers = (0..self.plan.nodes).map(|_| Peer::default()).collect();
        self.fence = Fence::Clear;
        let election_ms = ELECTION_MAX_NS / MS;
        self.policy = Policy::new(now_ns / MS, election_ms, UnsyncedStart::Wait);
        self.decision = None;
        self.next_ask_ns = now_ns + self.rng.between(0, EXCHANGE_NS);
        self.wait_for_primary(now_ns);
        // Nobody votes against a cluster of one.
        self.patience_ns *= u64::from(self.plan.nodes > 1);
        self.effects.push(Effect::Later(self.rng.between(0, 10 * MS), Moment::Tick));
    }

    /// Everything that was not synced is gone.
    pub(crate) fn crash(&mut self) {
        self.up = false;
        self.boot += 1;
        self.role = Role::Backup;
        self.log.cut_after(self.log.durable.max(self.log.base().index));
        self.effects.clear();
    }

    pub(crate) fn quorum(&self) -> usize {
        self.plan.nodes / 2 + 1
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.me;
        (0..self.plan.nodes).filter(move |other| *other != me)
    }

    pub(crate) fn say(&mut self, to: usize, message: Message) {
        self.effects.push(Effect::Say(to, message));
    }

    pub(crate) fn tick(&mut self, now_ns: u64) {
        self.effects.push(Effect::Later(10 * MS, Moment::Tick));
        if now_ns >= self.next_ask_ns {
            self.next_ask_ns += EXCHANGE_NS;
            let (sent, _) = self.wall.look(now_ns);
            self.others().for_each(|other| self.say(other, Message::Ask { sent }));
        }
        self.judge_clock(now_ns);
        self.persist_ceiling(now_ns);
        self.end_waits(now_ns);
        self.tick_raft(now_ns);
    }

    /// The reading and the state with the peers' verdict laid over them.
    pub(crate) fn clock(&mut self, now_ns: u64) -> (Reading, ClockState) {
        let (reading, state) = self.wall.look(now_ns);
        if self.fence == Fence::Suspect {
            return (Reading::unbounded(reading.now_ns), ClockState::Suspect);
        }
        (reading, state)
    }

    fn is_fresh(&self, peer: usize, now_ns: u64) -> bool {
        self.peers[peer].heard_ns.is_some_and(|heard_ns| now_ns - heard_ns < HEARD_NS)
    }

    /// What the peers make of this clock, and what follows from it for leading.
    pub(crate) fn judge_clock(&mut self, now_ns: u64) {
        let fresh: Vec<usize> = self.others().filter(|peer| self.is_fresh(*peer, now_ns)).collect();
        self.fence = fence(self.fence, fresh.iter().map(|peer| self.peers[*peer].clock.verdict()));
        if self.fence != Fence::Clear {
            self.observed.push(Observation::Happened(Happening::Contradicted));
        }
        let situation = self.situation(now_ns, &fresh);
        let decision = self.policy.decide(now_ns / MS, &situation);
        self.decision = Some(decision);
        if decision.hand_over
            && let Some(to) = self.successor(&fresh)
        {
            self.hand_over(now_ns, to);
        }
    }

    fn situation(&mut self, now_ns: u64, fresh: &[usize]) -> Situation {
        let (reading, state) = self.clock(now_ns);
        let cap_ns = HlcClock::cap_ns(&reading, MAX_ERROR_NS);
        let is_primary = self.role == Role::Primary;
        let hears = self.primary.is_some() && now_ns < self.heard_ns + super::LEASE_NS;
        let willing = fresh.iter().filter(|peer| !self.peers[**peer].refuses).count();
        let refused = fresh.iter().any(|peer| self.peers[*peer].refuses);
        Situation {
            standing: ClockFitness {
                state,
                error_ns: reading.error_ns(),
                ahead_ns: self.hlc.ahead_ns(cap_ns, self.last),
                behind: self.hlc.behind(&reading, cap_ns).is_some(),
            },
            is_primary,
            has_primary: is_primary || hears,
            another_may_lead: fresh.iter().any(|peer| self.peers[*peer].may_lead),
            successor: is_primary && self.successor(fresh).is_some(),
            refused: is_primary && refused && 1 + willing < self.quorum(),
            max_error_ns: MAX_ERROR_NS,
            on_loss: self.plan.on_loss,
        }
    }

    /// A voter with a good clock that has all of the log, or soon will.
    fn successor(&self, fresh: &[usize]) -> Option<usize> {
        let last_index = self.log.last_index();
        let fits = |peer: &&usize| {
            let peer = &self.peers[**peer];
            peer.may_lead && !peer.refuses && peer.stored + CAUGHT_UP >= last_index
        };
        fresh.iter().find(fits).copied()
    }

    pub(crate) fn answer_ask(&mut self, now_ns: u64, from: usize, sent: Reading) {
        // The claim is the servers' own, even if the peers doubt it; the state says that they do.
        let (claimed, _) = self.wall.look(now_ns);
        let (_, state) = self.clock(now_ns);
        let claim = Claim {
            now_ns: claimed.now_ns,
            earliest_ns: claimed.earliest_ns,
            latest_ns: claimed.latest_ns,
            state,
        };
        let may_lead = self.decision.is_some_and(|decision| decision.may_lead);
        let received_ns = claimed.now_ns;
        self.say(from, Message::Tell { sent, received_ns, claim, may_lead });
    }

    pub(crate) fn note_tell(
        &mut self,
        now_ns: u64,
        from: usize,
        told: (Reading, u64, Claim, bool),
    ) {
        let (mine_sent, received_ns, claim, may_lead) = told;
        let (mine_received, my_state) = self.wall.look(now_ns);
        let peer = &mut self.peers[from];
        peer.clock.note(&Exchange { mine_sent, received_ns, peer: claim, mine_received, my_state });
        peer.heard_ns = Some(now_ns);
        peer.may_lead = may_lead;
        self.judge_clock(now_ns);
    }

    /// The guard in front of the log.
    pub(crate) fn is_from_the_future(
        &mut self,
        now_ns: u64,
        prev: u64,
        entries: &[Entry],
        commit: u64,
    ) -> bool {
        let (reading, state) = self.clock(now_ns);
        let (true, Some(latest_ns)) = (state.is_trusted(), reading.latest_ns) else { return false };
        let limit_ns = stamp_limit_ns(latest_ns, MAX_ERROR_NS, self.hlc.log_floor().ns);
        let stamps = entries.iter().zip(prev + 1..).filter_map(|(entry, index)| {
            let proposed = entry.proposed?;
            let last = proposed.stamp.hlc.advance(u64::from(proposed.count - 1));
            Some((index, last.ns))
        });
        self.rules().stamp_guard && check(stamps, commit, limit_ns).is_err()
    }

    /// Whether a candidate's ballot stays unanswered because of its clock.
    pub(crate) fn shuns(&self, candidate: usize) -> bool {
        self.decision.is_some_and(|decision| decision.shun_disjoint)
            && self.peers[candidate].clock.verdict() == PeerVerdict::Disjoint
    }
}
