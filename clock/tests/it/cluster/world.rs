//! The events of a run, in the order of true time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use clock::Hlc;

use super::audit::{Audit, Happening, Observation};
use super::clocks::Wall;
use super::node::{Effect, Message, Moment, Node, Peer, Role};
use super::{MS, Plan, START_NS, US};
use crate::sim::Random;

pub(crate) struct World {
    pub(crate) now_ns: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) audit: Audit,
    pub(crate) rng: Random,
    pub(crate) events: u64,
    pub(crate) plan: Plan,
    queue: BinaryHeap<Reverse<Event>>,
    /// Nodes that nobody reaches.
    cut: Vec<bool>,
    /// What the clients carry from elsewhere.
    token: Hlc,
    /// The node that dies right after its next ceiling is written.
    pub(crate) dies_at_ceiling: Option<usize>,
}

#[derive(Debug)]
struct Event {
    at_ns: u64,
    number: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Arrive { from: usize, to: usize, message: Message },
    Happen { node: usize, boot: u64, moment: Moment },
    Write,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.number).cmp(&(other.at_ns, other.number))
    }
}

impl World {
    /// A cluster of skewed, honest clocks.
    pub(crate) fn new(plan: Plan) -> Self {
        Self::with_clocks(plan, |_, rng| Wall::skewed(rng))
    }

    pub(crate) fn with_clocks(plan: Plan, clock: impl Fn(usize, &mut Random) -> Wall) -> Self {
        let mut rng = Random::new(plan.seed, 0);
        let node = |me| {
            let wall = clock(me, &mut rng);
            Node::new(me, plan, wall, Random::new(rng.next(), 0))
        };
        let nodes: Vec<Node> = (0..plan.nodes).map(node).collect();
        let mut world = Self {
            now_ns: START_NS,
            audit: Audit::new(plan.nodes),
            rng,
            events: 0,
            plan,
            queue: BinaryHeap::new(),
            cut: vec![false; plan.nodes],
            token: Hlc::ZERO,
            dies_at_ceiling: None,
            nodes,
        };
        (0..plan.nodes).for_each(|node| world.grant(node));
        world.push(START_NS, What::Write);
        world
    }

    /// Lets time pass, at most until `done`; returns whether it was.
    pub(crate) fn run(&mut self, for_ns: u64, done: impl Fn(&Self) -> bool) -> bool {
        let until_ns = self.now_ns + for_ns;
        while !done(self) {
            let next_ns = self.queue.peek().map_or(u64::MAX, |Reverse(event)| event.at_ns);
            if next_ns > until_ns {
                self.now_ns = until_ns;
                return false;
            }
            self.step();
        }
        true
    }

    pub(crate) fn pass(&mut self, for_ns: u64) {
        self.run(for_ns, |_| false);
    }

    /// The primary of the highest term.
    pub(crate) fn primary(&self) -> Option<usize> {
        let leads = |node: &&Node| node.up && node.role == Role::Primary;
        self.nodes.iter().filter(leads).max_by_key(|node| node.term).map(|node| node.me)
    }

    /// For a test that failed: what every node thinks.
    pub(crate) fn tell(&self) -> String {
        let tell = |node: &Node| {
            let Node { me, up, role, term, fence, decision, .. } = node;
            let peers: Vec<_> = node.peers.iter().map(Peer::tell).collect();
            let last = node.log.last_index();
            format!("{me} {up} {role:?} {term} {last} {fence} {decision:?} {peers:?}\n")
        };
        self.nodes.iter().map(tell).collect()
    }

    pub(crate) fn crash(&mut self, node: usize) {
        if self.nodes[node].up {
            self.nodes[node].crash();
        }
    }

    /// Starts a node whose clock is synchronised after a while.
    pub(crate) fn restart(&mut self, node: usize, sync_ns: u64) {
        if !self.nodes[node].up {
            self.nodes[node].start(self.now_ns, self.now_ns + sync_ns);
            self.grant(node);
        }
    }

    pub(crate) fn cut(&mut self, node: usize, cut: bool) {
        self.cut[node] = cut;
    }

    /// Moves leadership to a node, as `openraft` does on demand.
    pub(crate) fn hand_over(&mut self, from: usize, to: usize) {
        self.nodes[from].hand_over(self.now_ns, to);
        self.grant(from);
    }

    fn push(&mut self, at_ns: u64, what: What) {
        self.events += 1;
        self.queue.push(Reverse(Event { at_ns, number: self.events, what }));
    }

    fn step(&mut self) {
        let Some(Reverse(event)) = self.queue.pop() else { return };
        self.now_ns = event.at_ns;
        match event.what {
            What::Write => self.write(),
            What::Arrive { from, to, message } => {
                if self.nodes[to].up && !self.cut[from] && !self.cut[to] {
                    self.nodes[to].receive(self.now_ns, from, message);
                    self.grant(to);
                }
            }
            What::Happen { node, boot, moment } => {
                if self.nodes[node].up && self.nodes[node].boot == boot {
                    self.happen(node, moment);
                    self.grant(node);
                }
            }
        }
    }

    fn happen(&mut self, at: usize, moment: Moment) {
        let now_ns = self.now_ns;
        let node = &mut self.nodes[at];
        match moment {
            Moment::Tick => node.tick(now_ns),
            Moment::Synced { index, term, answer_to } => {
                node.on_synced(now_ns, index, term, answer_to);
            }
            Moment::CeilingWritten(ceiling) => {
                node.ceiling_written(ceiling);
                if self.dies_at_ceiling == Some(at) {
                    self.dies_at_ceiling = None;
                    node.observed.push(Observation::Happened(Happening::DiedAtCeiling));
                    self.crash(at);
                }
            }
            Moment::CeilingTold(ceiling) => node.ceiling_told(ceiling),
            Moment::Submit { term, proposed } => node.submit(now_ns, term, proposed),
            Moment::Send { count, token } => node.send(now_ns, count, token),
        }
    }

    /// Does what a node wished for.
    fn grant(&mut self, node: usize) {
        for observation in std::mem::take(&mut self.nodes[node].observed) {
            self.audit.note(self.now_ns, observation);
        }
        let boot = self.nodes[node].boot;
        for effect in std::mem::take(&mut self.nodes[node].effects) {
            match effect {
                Effect::Later(after_ns, moment) => {
                    self.push(self.now_ns + after_ns, What::Happen { node, boot, moment });
                }
                Effect::Say(to, message) => {
                    let slow = self.rng.one_in(50);
                    let most_ns = if slow { 20 * MS } else { MS };
                    let at_ns = self.now_ns + self.rng.between(50 * US, most_ns);
                    if !self.rng.one_in(self.plan.loss) {
                        self.push(at_ns, What::Arrive { from: node, to, message });
                    }
                }
            }
        }
    }

    /// A client sends to whoever thinks that it is primary.
    fn write(&mut self) {
        self.push(self.now_ns + self.plan.write_every_ns, What::Write);
        if self.rng.one_in(32) {
            let ahead_ns = self.rng.between(0, 250 * MS);
            self.token = Hlc::from_ns(self.now_ns + ahead_ns);
        }
        let token = self.rng.one_in(4).then_some(self.token);
        let count = u32::try_from(self.rng.between(1, 4)).unwrap();
        for node in 0..self.nodes.len() {
            if self.nodes[node].up {
                self.nodes[node].send(self.now_ns, count, token);
                self.grant(node);
            }
        }
    }
}
