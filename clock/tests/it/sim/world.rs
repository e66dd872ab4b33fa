//! A world: one machine, its servers, and a clock that follows them.

use clock::discipline::Outcome;
use clock::poll::Poll;
use clock::sample::Limits;
use clock::{Answer, ClockView, LeapPolicy, Scale, Source, Tracker};

use super::audit::Audit;
use super::machine::{Machine, Wander};
use super::server::{Nature, Server, Way};
use super::{MILLI, Random, SECOND};

/// 2026-11-21T00:00:00Z: where the local scale starts.
pub(crate) const BASE_NS: u64 = 1_795_219_200 * SECOND;
pub(crate) const MAX_ERROR_NS: u64 = 100 * MILLI;
/// Time between looks.
const LOOK_NS: u64 = 250 * MILLI;
/// From when on the figures of a run are worth keeping: the drift guard has its whole base.
const STEADY_NS: u64 = 1200 * SECOND;

/// What a simulated world drives: the tracker, or its parts put together in another way.
pub(crate) trait Clock {
    fn answered(&mut self, index: usize, answer: &Answer, raw_ns: u64) -> Outcome;
    fn pass(&mut self, raw_ns: u64);
    fn suspended(&mut self, raw_ns: u64);
    fn view(&self) -> ClockView;
    fn source(&mut self, index: usize) -> &mut Source;
}

impl Clock for Tracker {
    fn answered(&mut self, index: usize, answer: &Answer, raw_ns: u64) -> Outcome {
        Self::answered(self, index, answer, raw_ns)
    }

    fn pass(&mut self, raw_ns: u64) {
        Self::pass(self, raw_ns);
    }

    fn suspended(&mut self, raw_ns: u64) {
        Self::suspended(self, raw_ns);
    }

    fn view(&self) -> ClockView {
        Self::view(self)
    }

    fn source(&mut self, index: usize) -> &mut Source {
        self.source_mut(index).unwrap()
    }
}

/// What a world is made of.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) natures: Vec<Nature>,
    /// What the machine believes the time to be at start, nanoseconds since 1970.
    pub(crate) base_ns: u64,
    /// What it is off by, at most.
    pub(crate) off_max_ns: i64,
    pub(crate) wide_area: bool,
    pub(crate) poll_ms: u64,
    pub(crate) wander: Wander,
    pub(crate) loss_percent: u64,
    /// Whether the machine is suspended now and then.
    pub(crate) sleeps: bool,
}

impl Scenario {
    pub(crate) fn lan(name: &'static str, natures: Vec<Nature>, wander: Wander) -> Self {
        Self {
            name,
            natures,
            base_ns: BASE_NS,
            off_max_ns: 10_000_000_000,
            wide_area: false,
            poll_ms: 16_000,
            wander,
            loss_percent: 0,
            sleeps: false,
        }
    }

    pub(crate) fn wan(name: &'static str, natures: Vec<Nature>, wander: Wander) -> Self {
        Self { wide_area: true, poll_ms: 64_000, ..Self::lan(name, natures, wander) }
    }

    pub(crate) fn rough(self) -> Self {
        Self { loss_percent: 20, sleeps: true, ..self }
    }
}

pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) servers: Vec<Server>,
    pub(crate) audit: Audit,
    next_query_ns: Vec<Option<u64>>,
    next_pass_ns: u64,
    next_sleep_ns: Option<u64>,
    /// Whether a sample came since the last look.
    new_sample: bool,
    random: Random,
}

impl World {
    pub(crate) fn new(scenario: &Scenario, seed: u64) -> Self {
        let mut random = Random::new(seed, 1);
        let off_ns = random.within(-scenario.off_max_ns, scenario.off_max_ns);
        let utc_ns = scenario.base_ns.checked_add_signed(off_ns).unwrap();
        let machine = Machine::new(utc_ns, scenario.wander, Random::new(seed, 2));
        let servers = scenario.natures.iter().zip(10..).map(|(nature, salt)| {
            let mut way_random = Random::new(seed, 10 * salt);
            let way = if scenario.wide_area {
                Way::wan(&mut way_random)
            } else {
                Way::lan(&mut way_random)
            };
            let loss_percent = way.loss_percent.max(scenario.loss_percent);
            Server::new(*nature, Way { loss_percent, ..way }, &machine, way_random)
        });
        let servers: Vec<Server> = servers.collect();
        let next_query_ns =
            servers.iter().map(|_| Some(machine.raw_ns + random.upto(50 * MILLI))).collect();
        let next_sleep_ns = scenario.sleeps.then(|| machine.raw_ns + random.upto(600 * SECOND));
        Self {
            next_pass_ns: machine.raw_ns + SECOND,
            machine,
            servers,
            audit: Audit::default(),
            next_query_ns,
            next_sleep_ns,
            new_sample: false,
            random,
        }
    }

    /// The local scale and the servers as the clock is told of them.
    pub(crate) fn parts(scenario: &Scenario) -> (Scale, Limits, Vec<Source>) {
        let scale = Scale { base_ns: scenario.base_ns, raw0_ns: SECOND };
        let source = |_| Source::new(Poll::new(scenario.poll_ms, !scenario.wide_area));
        (scale, Limits::new(0), scenario.natures.iter().map(source).collect())
    }

    pub(crate) fn tracker(scenario: &Scenario, policy: LeapPolicy) -> Tracker {
        let (scale, limits, sources) = Self::parts(scenario);
        Tracker::new(scale, limits, MAX_ERROR_NS, policy, sources)
    }

    /// Runs for so many nanoseconds of the raw counter.
    pub(crate) fn run(&mut self, clock: &mut impl Clock, for_ns: u64) {
        let end_ns = self.machine.raw_ns + for_ns;
        while self.machine.raw_ns < end_ns {
            let due = self.next_query_ns.iter().enumerate();
            let due = due.filter_map(|(at, ns)| ns.map(|ns| (ns, at))).min();
            match due {
                Some((at_ns, index)) if at_ns <= self.machine.raw_ns => self.ask(clock, index),
                _ => {
                    let next_ns = due.map_or(u64::MAX, |(at_ns, _)| at_ns).min(end_ns);
                    let step_ns = (next_ns - self.machine.raw_ns).min(LOOK_NS);
                    self.machine.pass(step_ns);
                    self.look(clock);
                }
            }
            self.wake(clock);
        }
    }

    pub(crate) fn ask(&mut self, clock: &mut impl Clock, index: usize) {
        let answer = self.servers[index].asked(&mut self.machine);
        self.look(clock);
        let raw_ns = self.machine.raw_ns;
        let before = clock.source(index).newest().map(|sample| sample.raw_ns);
        clock.answered(index, &answer, raw_ns);
        let newest = clock.source(index).newest().map(|sample| sample.raw_ns);
        self.new_sample |= newest > before;
        self.look(clock);
        let wait_ms = clock.source(index).poll_mut().after_query(self.random.next());
        self.next_query_ns[index] = wait_ms.map(|ms| raw_ns + ms * MILLI);
    }

    /// What happens apart from queries.
    fn wake(&mut self, clock: &mut impl Clock) {
        let raw_ns = self.machine.raw_ns;
        if raw_ns >= self.next_pass_ns {
            self.next_pass_ns = raw_ns + SECOND;
            clock.pass(raw_ns);
            self.look(clock);
        }
        if self.next_sleep_ns.is_some_and(|at_ns| raw_ns >= at_ns) {
            self.next_sleep_ns = Some(raw_ns + 200 * SECOND + self.random.upto(400 * SECOND));
            self.machine.miss(20 * MILLI + self.random.upto(10_000 * SECOND));
            clock.suspended(raw_ns);
            self.look(clock);
        }
    }

    pub(crate) fn look(&mut self, clock: &impl Clock) {
        let steady = self.machine.raw_ns >= STEADY_NS;
        self.audit.look(&clock.view(), &self.machine, self.new_sample, steady);
        self.new_sample = false;
    }
}
