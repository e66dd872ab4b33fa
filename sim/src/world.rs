//! One run: a cluster, its clients, faults for a while, then none; and the verdict.
//!
//! *Safety*: while faults happen, nothing that is promised may be broken. *Liveness*: once they have
//! ended, the cluster serves again within [`SERVES_WITHIN`].

mod inject;
mod lags;
mod membership;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use log::memory::{Fault, Random};
use net::switchboard::Switchboard;
use proto::member::MemberChange;
use proto::wire::{Op, Send};
use tokio::time::Instant;

use crate::audit::Auditor;
use crate::client::Clients;
use crate::cluster::{Cluster, Who};
use crate::fault::Kind;
use crate::machine::{Disk, End, Machine, Process, pick};
use crate::note;
use crate::shape::{SERVES_WITHIN, Shape, up_to};
use crate::time_servers::TimeServers;
use crate::trace::Trace;
use crate::verdict::{self, Held};

/// What every wall clock says at the beginning, nanoseconds since 1970: 2026-06-01.
pub const WALL_NS: u64 = 1_780_272_000_000_000_000;
/// Virtual time in which a damaged node is repaired once a majority of the others is well.
pub const REPAIRS_WITHIN: Duration = Duration::from_secs(60);
/// Virtual time in which a new cluster, or one whose clocks were set, must serve.
const BEGINS_WITHIN: Duration = Duration::from_secs(30);
/// How long another process must have run before a disk may lose what was durable: what is acknowledged
/// is known to others at once, and written down by them within a second.
const REMEMBERS_AFTER: Duration = Duration::from_secs(2);
/// Virtual time for whatever is waited for at the end.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Promises that are broken.
    pub wrong: Vec<String>,
    /// What did not come about in its time: something is broken, and this does not say what.
    pub late: Vec<String>,
    /// Sends that were acknowledged.
    pub acks: usize,
    /// Faults that bit, by name.
    pub bit: BTreeMap<&'static str, u64>,
    /// Virtual time that it took.
    pub took: Duration,
    /// Hash of everything that happened.
    pub trace: String,
    /// Number of faults that were drawn, whether they happened and bit or not.
    pub drawn: u64,
    /// Those that bit, by number, from 1.
    pub faults: Vec<(u64, Kind)>,
}

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// What everything is drawn from.
    pub seed: u64,
    /// Whether each line of the trace is shown at once.
    pub shown: bool,
    /// The faults that happen, by number; all that are drawn unless given.
    pub only: Option<BTreeSet<u64>>,
}

/// The verdict on a run in which a promise was broken.
pub const BROKEN: &str = "VIOLATED";
/// How a run is told of in which the cluster did not serve in time, and nothing was broken.
pub const LATE: &str = "LATE";

impl Report {
    /// Whether all held, and came about in its time.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.wrong.is_empty() && self.late.is_empty()
    }

    /// One line: for the ledger, and for whoever started the run.
    #[must_use]
    pub fn line(&self) -> String {
        let mut faults = String::new();
        for (kind, count) in &self.bit {
            let _ = write!(faults, " {kind}={count}");
        }
        let verdict = match (self.wrong.is_empty(), self.late.is_empty()) {
            (false, _) => BROKEN,
            (true, false) => LATE,
            (true, true) => "ok",
        };
        let took = self.took.as_secs_f64();
        format!(
            "seed={} {verdict} acks={} virtual_s={took:.1} trace={} drawn={}{faults}",
            self.seed, self.acks, self.trace, self.drawn
        )
    }
}

/// Runs a seed to its end, in a local set of a runtime whose time is paused.
///
/// # Errors
/// When the cluster cannot be made at all.
pub async fn run(order: Order) -> anyhow::Result<Report> {
    let Order { seed, shown, only } = order;
    let mut random = Random::new(seed);
    let shape = Shape::draw(&mut random);
    let trace = Trace::new(shown);
    note!(trace, "{shape:?}");
    let cluster = Arc::new(Cluster::new(shape.nodes, shape.asks_time)?);
    let board = Switchboard::new();
    let auditor = Auditor::new(&board, &trace);
    let time_servers = TimeServers::new(&trace, &mut random);
    let mut machines = Vec::new();
    for name in cluster.names() {
        let machine = Machine::new(
            cluster.seed(&name),
            &cluster,
            &board,
            (&auditor, &trace),
            &mut random,
            &shape,
        )?;
        machine.clock.reaches(time_servers.reached());
        tokio::task::spawn_local(Arc::clone(&machine).keep());
        machines.push(machine);
    }
    if shape.reckless {
        auditor.is_reckless();
        planted::let_histories_meet();
    }
    let clients = Clients::new(&cluster, &trace);
    clients.go_to(machines.clone());
    let mut world = World {
        names: shape.nodes,
        shape,
        random,
        trace,
        cluster,
        board,
        machines,
        leaving: Vec::new(),
        clients,
        time_servers,
        jumped: None,
        copies: Vec::new(),
        damaged: BTreeMap::new(),
        losses: BTreeMap::new(),
        only,
        drawn: 0,
        faults: Vec::new(),
        wrong: Vec::new(),
        late: Vec::new(),
        until: Vec::new(),
        lags: Vec::new(),
        auditor: auditor.clone(),
    };
    tokio::select! {
        biased;
        // What comes of it would only hide what broke.
        () = auditor.broken() => {}
        () = world.whole() => {}
    }
    world.wrong.extend(auditor.wrong());
    world.late.extend(auditor.late());
    Ok(world.report(seed))
}

/// What is to end later.
#[derive(Debug, Clone)]
enum Ends {
    Outage(usize),
    Cut(usize, usize),
    Isolation(usize),
    Delay(usize, usize),
    Slow(usize),
    Full(usize),
    Hang,
    Pause(usize),
    Drift(usize),
    TimeLie,
    TimeAway,
    /// What a failed sync has lost shows.
    Power(usize),
}

struct World {
    shape: Shape,
    random: Random,
    trace: Trace,
    board: Switchboard,
    cluster: Arc<Cluster>,
    /// All that there ever were; see [`World::members`].
    machines: Vec<Arc<Machine>>,
    /// Number in the name of the newest node.
    names: u64,
    /// Removals of unknown outcome.
    leaving: Vec<(usize, MemberChange)>,
    clients: Clients,
    time_servers: TimeServers,
    /// The machine whose counter has jumped: one of them.
    jumped: Option<usize>,
    /// Old copies of disks, and since when there is each; the oldest first.
    copies: Vec<(usize, Disk, Instant)>,
    /// Machines whose disk has lost something that was durable, by number; with the raft id of the
    /// store that has.
    damaged: BTreeMap<usize, u64>,
    /// How often the disk of a machine was damaged.
    losses: BTreeMap<usize, usize>,
    only: Option<BTreeSet<u64>>,
    drawn: u64,
    faults: Vec<(u64, Kind)>,
    wrong: Vec<String>,
    /// See [`Report::late`].
    late: Vec<String>,
    until: Vec<(Instant, Ends)>,
    /// From when to when something kept a node from what the others do.
    lags: Vec<(Instant, Instant)>,
    auditor: Auditor,
}

impl World {
    fn report(self, seed: u64) -> Report {
        let mut bit = BTreeMap::new();
        for (_, kind) in &self.faults {
            *bit.entry(kind.name()).or_default() += 1;
        }
        Report {
            seed,
            wrong: self.wrong,
            late: self.late,
            acks: self.clients.history().acked().count(),
            bit,
            took: self.trace.now(),
            trace: self.trace.hash(),
            drawn: self.drawn,
            faults: self.faults,
        }
    }

    async fn whole(&mut self) {
        if !self.serves("at the beginning", BEGINS_WITHIN).await {
            return;
        }
        let mut at_work = Vec::new();
        for number in 0..self.shape.senders {
            let registered = self.clients.register(number, self.machine(0)).await;
            if let Err(error) = registered {
                return self.late.push(format!("a client cannot be registered: {error}"));
            }
            let random = Random::new(self.random.draw());
            at_work.push(tokio::spawn(self.clients.clone().send(Who::Client(number), random)));
        }
        let random = Random::new(self.random.draw());
        at_work.push(tokio::spawn(self.clients.clone().read(random)));
        let random = Random::new(self.random.draw());
        at_work.push(tokio::spawn(self.clients.clone().compact(random)));
        self.faulty().await;
        self.let_disks_answer().await;
        self.heal();
        if self.shape.reckless {
            // What the nodes say to each other then is what counts: nothing goes silently.
            tokio::time::sleep(SERVES_WITHIN).await;
            return;
        }
        self.serves("after all faults", self.shape.serves_within()).await;
        self.settle_removals().await;
        self.repairs().await;
        self.settle_votes().await;
        self.clients.stop();
        for work in at_work {
            if work.await.is_err() {
                self.wrong.push("a client panicked".to_owned());
            }
        }
        let held = self.held().await;
        // No bound holds by a counter that jumps.
        let is_bounded = self.shape.asks_time && self.jumped.is_none();
        let anchor = is_bounded.then(|| self.trace.anchor());
        let found =
            verdict::judge(&self.clients.history(), &self.clients.seen(), &held, anchor.as_ref());
        self.wrong.extend(found);
    }

    /// Lets faults happen, for as long as the seed says.
    async fn faulty(&mut self) {
        let end = Instant::now() + self.shape.faulty;
        while Instant::now() < end {
            let rest = up_to(&mut self.random, self.shape.rest_max);
            tokio::time::sleep(rest).await;
            self.end_what_is_due(Instant::now());
            self.note_repaired();
            if self.random.percent(20) {
                let at = self.any();
                self.machine(at).flush_state();
            }
            if self.random.percent(self.shape.copies) {
                let at = self.any();
                let copy = self.machine(at).copy();
                // A store that ends is no copy of the one that comes after it.
                if self.shape.reckless || !self.damaged.contains_key(&at) {
                    self.copies.push((at, copy, Instant::now()));
                }
            }
            let kind = self.shape.fault(&mut self.random);
            self.drawn += 1;
            let wanted = self.only.as_ref().is_none_or(|only| only.contains(&self.drawn));
            if wanted && self.fault(kind).await {
                self.faults.push((self.drawn, kind));
            }
        }
    }

    /// Does a fault, and tells whether it bit.
    async fn fault(&mut self, kind: Kind) -> bool {
        let Some(at) = self.victim_soon(kind).await else { return false };
        match kind {
            Kind::Kill => self.outage(at, End::Killed),
            Kind::PowerCut => self.power_cut(&[at]).await,
            Kind::KillAll => self.outage_of_all(End::Killed),
            Kind::PowerCutAll => {
                let all = self.members();
                self.power_cut(&all).await
            }
            Kind::DieInCall => self.fail_disk(at, Fault::Death),
            Kind::DiskError => self.fail_disk(at, Fault::Error),
            Kind::DiskSlow => {
                let most = up_to(&mut self.random, Duration::from_millis(1_500));
                self.machine(at).set_sync_max(most);
                note!(self.trace, "syncs of {} take up to {most:?}", self.machine(at).name);
                self.later(Ends::Slow(at));
                true
            }
            Kind::DiskHang => self.hang_disk(at),
            Kind::DiskFull => self.fill_disk(at),
            Kind::LostTail | Kind::SetBack | Kind::Wiped | Kind::Flipped => self.damage(at, kind),
            Kind::Cut => self.between(|board, one, other| board.cut(one, other), Ends::Cut),
            Kind::CutOneWay => {
                self.between(|board, one, other| board.cut_one_way(one, other), Ends::Cut)
            }
            Kind::Delay => {
                let by = up_to(&mut self.random, Duration::from_millis(500));
                let delay = |board: &Switchboard, one: &_, other: &_| {
                    board.delay(one, other, by);
                    board.delay(other, one, by);
                };
                self.between(delay, Ends::Delay)
            }
            Kind::Reset => {
                let (one, other) = self.pair();
                self.board.reset(&self.machine(one).name, &self.machine(other).name);
                true
            }
            Kind::Isolate => {
                note!(self.trace, "{} reaches nobody", self.machine(at).name);
                self.board.isolate(&self.machine(at).name);
                self.later(Ends::Isolation(at));
                true
            }
            Kind::ClockStep => self.step_clock(at),
            Kind::ClockDrift => self.let_clock_drift(at),
            Kind::TimeLie => self.lie_about_time(),
            Kind::TimeAway => self.take_time_away(),
            Kind::ClockJump => self.jump(at),
            Kind::Pause => self.pause(at),
            Kind::Stop => self.stop(at).await,
            Kind::Join => self.join().await,
            Kind::Remove => self.remove(at).await,
        }
    }

    /// Forgets damages that were repaired: their machines take part with new stores.
    fn note_repaired(&mut self) {
        let (machines, trace) = (self.machines.clone(), self.trace.clone());
        self.damaged.retain(|at, raft_id| {
            let machine = machines.get(*at).filter(|machine| machine.raft_id() != *raft_id);
            let state = machine.and_then(|machine| machine.engine_state());
            let votes = state.is_some_and(|view| view.voters.contains(&view.id));
            if let Some(machine) = machine.filter(|_| votes) {
                note!(trace, "{} is repaired", machine.name);
            }
            !votes
        });
    }

    /// A machine by its number, which is that of one.
    fn machine(&self, at: usize) -> &Arc<Machine> {
        #[expect(clippy::indexing_slicing, reason = "numbers are drawn below their count")]
        &self.machines[at]
    }

    /// The machines of members, by number.
    fn members(&self) -> Vec<usize> {
        let all = self.machines.iter().enumerate();
        all.filter(|(_, machine)| machine.is_member()).map(|(at, _)| at).collect()
    }

    /// The machine of a member.
    fn any(&mut self) -> usize {
        let members = self.members();
        pick(&mut self.random, &members).copied().unwrap_or(0)
    }

    /// The machine of another member.
    fn other_than(&mut self, at: usize) -> usize {
        let others: Vec<_> = self.members().into_iter().filter(|other| *other != at).collect();
        pick(&mut self.random, &others).copied().unwrap_or(at)
    }

    /// The machines of two members.
    fn pair(&mut self) -> (usize, usize) {
        let one = self.any();
        (one, self.other_than(one))
    }

    fn end_what_is_due(&mut self, now: Instant) {
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.until).into_iter().partition(|(at, _)| *at <= now);
        self.until = rest;
        for (_, ends) in due {
            note!(self.trace, "{ends:?} ends");
            match ends {
                Ends::Outage(at) => self.machine(at).turn(true),
                Ends::Cut(one, other) => {
                    self.board.heal(&self.machine(one).name, &self.machine(other).name);
                }
                Ends::Isolation(at) => {
                    for other in self.machines.iter() {
                        self.board.heal(&self.machine(at).name, &other.name);
                    }
                }
                Ends::Delay(one, other) => {
                    let (one, other) = (&self.machine(one).name, &self.machine(other).name);
                    self.board.delay(one, other, Duration::ZERO);
                    self.board.delay(other, one, Duration::ZERO);
                }
                Ends::Full(at) => self.machine(at).fill_disk(false),
                Ends::Slow(at) => self.machine(at).set_sync_max(self.shape.sync_max),
                // By itself.
                Ends::Hang => {}
                Ends::Pause(at) => self.machine(at).go_on(),
                Ends::TimeLie => self.time_servers.lie(0),
                Ends::TimeAway => self.time_servers.be_away(false),
                Ends::Drift(at) => self.machine(at).clock.set_rate_ppb(0),
                Ends::Power(at) => {
                    self.outage(at, End::PowerCut);
                }
            }
        }
    }

    /// Waits until no disk hangs any more.
    async fn let_disks_answer(&self) {
        let longest = self.machines.iter().map(|machine| machine.hangs()).max();
        tokio::time::sleep(longest.unwrap_or_default()).await;
    }

    /// Ends all faults.
    fn heal(&mut self) {
        note!(self.trace, "all faults end");
        self.until.retain(|(_, ends)| !matches!(ends, Ends::Power(_)));
        self.until.iter_mut().for_each(|(at, _)| *at = Instant::now());
        self.end_what_is_due(Instant::now());
        self.board.heal_all();
        for machine in self.machines.iter() {
            machine.spare_disk();
            machine.turn(true);
        }
    }

    /// Waits until every node that can take part has taken a send, and says so if that takes too long.
    async fn serves(&mut self, when: &str, within: Duration) -> bool {
        let began = Instant::now();
        let leaves = |at: &usize| self.leaving.iter().any(|(leaving, _)| leaving == at);
        let machines: Vec<_> = self
            .members()
            .into_iter()
            .filter(|at| !self.damaged.contains_key(at) && !leaves(at))
            .map(|at| Arc::clone(self.machine(at)))
            .collect();
        for machine in machines {
            for tries in 1.. {
                let id = format!("probe-{when}-{}-{tries}", machine.name).replace(' ', "-");
                let send = Send { to: "*".to_owned(), id, ..Send::default() };
                let Err(last) = self.clients.ask(Who::Admin, &machine, Op::Send(send)).await else {
                    break;
                };
                if began.elapsed() > within {
                    let took = began.elapsed();
                    let name = &machine.name;
                    self.late.push(format!("{when}, {name} does not serve after {took:?}: {last}"));
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        note!(self.trace, "served {when} after {:?}", began.elapsed());
        true
    }

    /// Waits until every damaged node that knows of it is repaired, and says so if that takes too long.
    async fn repairs(&mut self) {
        // One after the other.
        let most = REPAIRS_WITHIN * u32::try_from(self.damaged.len()).unwrap_or(1).max(1);
        let began = Instant::now();
        loop {
            self.note_repaired();
            let late = self.damaged.keys().map(|at| self.machine(*at)).find(|machine| {
                let process = machine.process();
                !process.is_some_and(|process| verdict::is_whole(process.running.node()))
            });
            let Some(machine) = late else { return };
            if began.elapsed() > most {
                let name = &machine.name;
                let refused = machine.refused().unwrap_or_default();
                return self.late.push(format!("{name} is not repaired: {refused}"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The process of a machine, once it takes part.
    async fn whole_process(&self, machine: &Machine) -> Option<Process> {
        let began = Instant::now();
        loop {
            let process = machine.process();
            let whole = process.filter(|process| verdict::is_whole(process.running.node()));
            if whole.is_some() || began.elapsed() >= SERVES_WITHIN {
                return whole;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What every node holds that can take part.
    async fn held(&mut self) -> Vec<Held> {
        let mut all = Vec::new();
        for at in self.members() {
            let machine = &Arc::clone(self.machine(at));
            let name = &machine.name;
            let whole = self.whole_process(machine).await;
            let Some(process) = whole else {
                if !self.damaged.contains_key(&at) {
                    let why = machine.refused().unwrap_or_default();
                    self.late.push(format!("{name} lost nothing and takes no part: {why}"));
                }
                continue;
            };
            let read = async {
                let began = Instant::now();
                loop {
                    // One whose disk was slow has to catch up first.
                    let read = self.clients.records(machine).await;
                    if read.is_ok() || began.elapsed() > SERVES_WITHIN {
                        return read;
                    }
                }
            };
            let read = tokio::time::timeout(SETTLES_WITHIN, read).await;
            match read {
                Ok(Ok((records, end))) => {
                    let engine = process.running.node().engine();
                    let (digests, ratcheted) = engine
                        .map(|engine| (engine.digests(), engine.ratcheted()))
                        .unwrap_or_default();
                    note!(self.trace, "{name} holds {} records", records.len());
                    all.push(Held { node: name.to_string(), records, end, digests, ratcheted });
                }
                // A damaged one that was not found out yet may not be served.
                _ if self.damaged.contains_key(&at) => {}
                Ok(Err(error)) => self.late.push(format!("{name} cannot be read: {error}")),
                Err(_) => self.late.push(format!("{name} does not answer a read")),
            }
        }
        all
    }
}
