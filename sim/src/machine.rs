//! One machine: its disk, its clock, and the process that runs on it.
//!
//! A process that is killed leaves its disk as it is, one whose machine loses power leaves what was
//! synced and some of the rest. Whatever of the old process goes on for a while finds its disk dead
//! and its network gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use config::Config;
use config::seed::Seed;
use daemon::blocking::Blocking;
use daemon::chance::Chance;
use daemon::pause::Pause;
use daemon::raft::EngineState;
use daemon::start::{Parts, Running};
use daemon::store::{Latency, Media, MemoryMedia, MemoryState, Opened, Store, StoreError};
use daemon::tasks::Tasks;
use daemon::time::{Counter, VirtualClock};
use daemon::witness::Notebook;
use log::Disk as _;
use log::facts::{facts, owner};
use log::memory::{Fault, MemoryDisk, Random};
use net::switchboard::Switchboard;
use parking_lot::Mutex;
use proto::Name;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::audit::Auditor;
use crate::cluster::Cluster;
use crate::note;
use crate::shape::Shape;
use crate::trace::Trace;

/// Bytes of a segment of the log: small, so that a run goes through many.
const SEGMENT_BYTES: usize = 16 << 10;

/// A machine of a run.
pub struct Machine {
    /// Name of its node.
    pub name: Name,
    /// Its clock.
    pub clock: Arc<VirtualClock>,
    cluster: Arc<Cluster>,
    board: Switchboard,
    trace: Trace,
    auditor: Auditor,
    shape: Shape,
    disk: Mutex<Disk>,
    /// What its store was made from.
    seed: Mutex<Seed>,
    process: Mutex<Option<Process>>,
    /// When the last process ended.
    ended: Mutex<Option<Instant>>,
    /// Whether a process is to run.
    on: watch::Sender<bool>,
    pace: Pace,
    random: Mutex<Random>,
    /// What the last process said that cannot run at all.
    refused: Mutex<Option<String>>,
    /// Whether its node is a member, as far as the world knows.
    member: AtomicBool,
}

/// All that is on the disk of a machine.
#[derive(Debug, Clone)]
pub struct Disk {
    media: MemoryMedia,
    /// What its node noted of the others.
    notes: Arc<Mutex<Option<Vec<u8>>>>,
}

/// A process that runs.
#[derive(Clone)]
pub struct Process {
    /// The node.
    pub running: Arc<Running>,
    /// Cancelled once it is dead.
    pub died: CancellationToken,
    /// Since when it runs.
    pub since: Instant,
    /// Lets it stand still.
    pub pause: Pause,
    tasks: Tasks,
    config: Config,
}

/// How a process comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is killed; its disk keeps what was written.
    Killed,
    /// Its machine loses power; its disk keeps what was synced.
    PowerCut,
}

impl Machine {
    /// A machine with the new store on it that this seed makes, that is on.
    ///
    /// # Errors
    /// When the store cannot be made.
    pub fn new(
        seed: Seed,
        cluster: &Arc<Cluster>,
        board: &Switchboard,
        (auditor, trace): (&Auditor, &Trace),
        random: &mut Random,
        shape: &Shape,
    ) -> anyhow::Result<Arc<Self>> {
        let pace = Pace::new(trace, shape.sync_max);
        let this = Self {
            clock: VirtualClock::new(crate::world::WALL_NS + trace.now_ns()),
            cluster: Arc::clone(cluster),
            board: board.clone(),
            trace: trace.clone(),
            auditor: auditor.clone(),
            disk: Mutex::new(empty(random, &pace, shape.flush_entries)),
            shape: shape.clone(),
            name: seed.node.clone(),
            seed: Mutex::new(seed),
            process: Mutex::new(None),
            ended: Mutex::new(None),
            on: watch::Sender::new(true),
            pace,
            random: Mutex::new(Random::new(random.draw())),
            refused: Mutex::new(None),
            member: AtomicBool::new(true),
        };
        this.make_store()?;
        Ok(Arc::new(this))
    }

    /// Makes the store that the seed allows, on an empty disk.
    fn make_store(&self) -> anyhow::Result<()> {
        let seed = self.seed.lock().clone();
        let identity = daemon::start::store_identity(&seed);
        let identity = identity.ok_or_else(|| anyhow::anyhow!("a seed without its node"))?;
        let media = Media::Memory(self.disk.lock().media.clone());
        Ok(Store::create_after(media, &identity, seed.starts)?)
    }

    /// Makes a new store where the cluster has allowed one, in place of the one that was there.
    fn make_new_store(&self, config: &Config) -> anyhow::Result<()> {
        let Some(seed) = Seed::read(&config.data_dir)? else { return Ok(()) };
        *self.disk.lock() = self.empty(&mut self.random.lock());
        *self.seed.lock() = seed;
        self.make_store()?;
        self.auditor.is_renewed(self.name.as_str());
        note!(self.trace, "{} has a new store", self.name);
        Ok(Seed::put_away(&config.data_dir)?)
    }

    /// Runs one process after the other while the machine is on, as a service manager does.
    pub async fn keep(self: Arc<Self>) {
        let mut on = self.on.subscribe();
        loop {
            if on.wait_for(|on| *on).await.is_err() {
                return;
            }
            let pause = Pause::default();
            match pause.within(self.start(&pause)).await {
                Ok(process) => pause.within(self.watch(process)).await,
                Err(why) => {
                    note!(self.trace, "{} does not start: {why}", self.name);
                    self.end(End::Killed);
                    *self.refused.lock() = Some(why.to_string());
                }
            }
            let rest = 100 + self.random.lock().below(900);
            tokio::time::sleep(Duration::from_millis(rest)).await;
        }
    }

    async fn start(&self, pause: &Pause) -> anyhow::Result<Process> {
        let died = CancellationToken::new();
        let config = self.cluster.config(&self.name)?;
        self.make_new_store(&config)?;
        let (disk, seed) = (self.disk.lock().clone(), self.seed.lock().clone());
        let media = Media::Memory(disk.media.clone());
        self.auditor.begins(self.name.as_str(), self.raft_id(), &disk.media.log);
        let mut opened = Store::open(media, self.cluster.id().as_str(), self.name.as_str())?;
        match &mut opened {
            Opened::Intact(store) => {
                self.auditor.opened(self.name.as_str(), store.range().1);
                let (dying, trace, name) = (died.clone(), self.trace.clone(), self.name.clone());
                store.on_failure(Box::new(move |error: &StoreError| {
                    note!(trace, "{name} ends: {error}");
                    dying.cancel();
                }));
            }
            Opened::Repairing { damage, identity, .. } => {
                note!(self.trace, "{} is repairing: {damage}", self.name);
                self.auditor.is_repairing(self.name.as_str(), &damage.to_string());
                // Where the store is gone, the seed that made it is known beside the node's key.
                *identity = identity.take().or_else(|| daemon::start::store_identity(&seed));
            }
        }
        let tasks = Tasks::until(CancellationToken::new());
        let node_identity = self.cluster.node_identity(&self.name)?;
        if let Opened::Intact(store) = &opened {
            daemon::start::bootstrap(store, &seed).await?;
        }
        let credentials = &node_identity.credentials;
        let port = self.board.port(credentials.identity().clone(), credentials.fingerprint());
        let parts = Parts {
            config: config.clone(),
            node_identity,
            port: Arc::new(port),
            opened,
            seed: Some(seed),
            machine: daemon::start::Machine {
                counter: Counter::Virtual(Arc::clone(&self.clock)),
                chance: Chance::seeded(self.random.lock().draw()),
                blocking: Blocking::OnTheSpot,
                notebook: Notebook::Memory(Arc::clone(&disk.notes)),
                processors: 2,
                log_kept: self.shape.log_kept,
            },
            tasks: tasks.clone(),
        };
        let started = died.run_until_cancelled(parts.start()).await;
        let running = match started {
            Some(running) => Arc::new(running?),
            None => anyhow::bail!("its disk refuses"),
        };
        let (since, pause) = (Instant::now(), pause.clone());
        let process = Process { running, died, since, pause, tasks, config };
        note!(self.trace, "{} runs", self.name);
        self.auditor.runs(self.name.as_str(), process.running.node());
        *self.process.lock() = Some(process.clone());
        *self.refused.lock() = None;
        Ok(process)
    }

    /// Waits until a process has ended, for whatever reason.
    async fn watch(&self, process: Process) {
        tokio::select! {
            biased;
            () = process.died.cancelled() => {}
            why = process.running.ended() => note!(self.trace, "{} ends: {why}", self.name),
            why = process.running.taken_back(&process.config) => {
                note!(self.trace, "{} ends: {why}", self.name);
            }
        }
        self.end(End::Killed);
    }

    /// Ends the process, if one runs, and tells whether its disk has lost anything by that.
    pub fn end(&self, how: End) -> bool {
        let process = self.process.lock().take();
        self.auditor.ends(self.name.as_str());
        if let Some(process) = &process {
            *self.ended.lock() = Some(Instant::now());
            // Who ends it need not wait until it goes on.
            process.pause.go_on(|_| {});
            process.died.cancel();
            self.board.detach(&self.name);
            process.tasks.stop().cancel();
            let running = Arc::clone(&process.running);
            // It ends its tasks; nothing that it does reaches anybody.
            tokio::spawn(async move {
                if let Some(engine) = running.node().engine() {
                    engine.stop().await;
                }
            });
        }
        let mut disk = self.disk.lock();
        let media = &mut disk.media;
        let unsynced = media.log.unsynced() + media.marks.unsynced();
        let (log, marks) = match how {
            End::Killed => (media.log.kill(), media.marks.kill()),
            End::PowerCut => {
                let mut random = self.random.lock();
                (media.log.power_cut(random.draw()), media.marks.power_cut(random.draw()))
            }
        };
        media.log.die();
        media.marks.die();
        let state = media.state.end();
        *media = MemoryMedia { log, marks, state, ..media.clone() };
        process.is_some() && (how == End::Killed || unsynced > 0)
    }

    /// Lets the process stand still until [`Machine::go_on`]; tells whether one runs.
    pub fn stand(&self) -> bool {
        let process = self.process();
        process.inspect(|process| process.pause.stop()).is_some()
    }

    /// Lets the process go on, with whatever first.
    pub fn go_on(&self) {
        if let Some(process) = self.process() {
            let mut random = self.random.lock();
            process.pause.go_on(|waiting| waiting.sort_by_cached_key(|_| random.draw()));
        }
    }

    /// When its last process ended.
    #[must_use]
    pub fn ended(&self) -> Option<Instant> {
        *self.ended.lock()
    }

    /// Turns the machine on or off. A process that runs is not touched.
    pub fn turn(&self, on: bool) {
        self.on.send_replace(on);
    }

    /// Whether its node is a member, as far as the world knows.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.member.load(Ordering::Relaxed)
    }

    /// Its node was removed. The machine goes on as it likes.
    pub fn is_removed(&self) {
        self.member.store(false, Ordering::Relaxed);
    }

    /// The process that runs.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        self.process.lock().clone()
    }

    /// What the engine of its process is at, if it takes part.
    #[must_use]
    pub fn engine_state(&self) -> Option<EngineState> {
        let process = self.process()?;
        let view = process.running.node().engine()?.view();
        let view = view.borrow().clone();
        Some(view)
    }

    /// Why no process can run on it, if the last one said so.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.refused.lock().clone()
    }

    /// Lets a call to the disk go wrong, one of the next `within`.
    pub fn fail_disk(&self, random: &mut Random, fault: Fault, within: u64) {
        let media = &self.disk.lock().media;
        let disk = if random.percent(85) { &media.log } else { &media.marks };
        disk.fault_at(disk.calls() + 1 + random.below(within), fault);
    }

    /// Lets the process die in the next write of its watermark, or in the sync behind it.
    pub fn fail_marks(&self, random: &mut Random) {
        let marks = &self.disk.lock().media.marks;
        marks.fault_at(marks.calls() + 1 + random.below(2), Fault::Death);
    }

    /// Takes back every fault of the disk that has not come up yet.
    pub fn spare_disk(&self) {
        {
            let media = &self.disk.lock().media;
            media.log.clear_faults();
            media.marks.clear_faults();
        }
        self.fill_disk(false);
    }

    /// Lets the disk be full, or have room again.
    pub fn fill_disk(&self, full: bool) {
        let media = &self.disk.lock().media;
        for disk in [&media.log, &media.marks] {
            disk.set_room(if full { 0 } else { u64::MAX });
        }
    }

    /// Lets syncs take up to this long.
    pub fn set_sync_max(&self, max: Duration) {
        self.pace.sync_max_us.store(micros(max), Ordering::Relaxed);
    }

    /// Lets no sync that begins from now on end before this has passed.
    pub fn hang_disk(&self, time: Duration) {
        let until = self.trace.now_ns().saturating_add(nanos(time));
        // A sync that began in an earlier and longer hang still waits for its end.
        self.pace.hangs_until_ns.fetch_max(until, Ordering::Relaxed);
    }

    /// How long the disk still hangs.
    #[must_use]
    pub fn hangs(&self) -> Duration {
        self.pace.hangs()
    }

    /// A copy of the disk, as a backup of files has it.
    #[must_use]
    pub fn copy(&self) -> Disk {
        let Disk { media, notes } = &*self.disk.lock();
        let media = MemoryMedia {
            log: media.log.kill(),
            marks: media.marks.kill(),
            state: media.state.copy(),
            ..media.clone()
        };
        Disk { media, notes: Arc::new(Mutex::new(notes.lock().clone())) }
    }

    /// Puts another disk into a machine whose process has ended.
    pub fn put(&self, disk: Disk) {
        *self.disk.lock() = disk;
    }

    /// Raft id of the store that it has, or should have.
    #[must_use]
    pub fn raft_id(&self) -> u64 {
        self.seed.lock().myself().map_or(0, |myself| myself.raft_id)
    }

    /// Tells the auditor that its disk has lost what was durable.
    pub fn is_damaged(&self, quiet: bool, is_same: bool) {
        let media = self.disk.lock().media.clone();
        let marked = media.marked_group();
        self.auditor.is_damaged(self.name.as_str(), &media.log, (quiet, is_same), marked);
    }

    /// Puts an empty disk into it.
    pub fn wipe(&self, random: &mut Random) {
        let empty = self.empty(random);
        self.put(empty);
    }

    fn empty(&self, random: &mut Random) -> Disk {
        empty(random, &self.pace, self.shape.flush_entries)
    }

    /// Lets the state go to the disk, as a database does when it likes.
    pub fn flush_state(&self) {
        self.disk.lock().media.state.flush_by_itself();
    }

    /// Takes the last durable sectors of the log away; tells whether there were any.
    pub fn lose_tail(&self, random: &mut Random) -> bool {
        let media = &self.disk.lock().media;
        let Ok(names) = media.log.list() else { return false };
        // The newest segment that holds anything beyond its label.
        for name in names.iter().rev() {
            let Ok(mut bytes) = media.log.bytes(name) else { continue };
            let Some(end) = bytes.iter().rposition(|byte| *byte != 0) else { continue };
            let sectors = end / SECTOR;
            if sectors < LABEL_SECTORS {
                continue;
            }
            let most = if random.percent(70) { 8 } else { u64::MAX };
            let lost = 1 + random.below(most.min(sectors as u64 - LABEL_SECTORS as u64 + 1));
            let lost = usize::try_from(lost).unwrap_or(1);
            let from = (sectors + 1 - lost.min(sectors + 1 - LABEL_SECTORS)) * SECTOR;
            bytes.iter_mut().skip(from).for_each(|byte| *byte = 0);
            media.log.put(name, &bytes);
            return true;
        }
        false
    }

    /// Turns a bit over in what the log or the watermark holds; tells whether there was any.
    pub fn flip(&self, random: &mut Random) -> bool {
        if random.percent(30) && self.flip_unmarked(random) {
            return true;
        }
        let media = &self.disk.lock().media;
        let disk = if random.percent(80) { &media.log } else { &media.marks };
        let Ok(names) = disk.list() else { return false };
        let used: Vec<(String, usize)> = names
            .into_iter()
            .filter_map(|name| {
                let bytes = disk.bytes(&name).ok()?;
                let end = bytes.iter().rposition(|byte| *byte != 0)?;
                Some((name, end))
            })
            .collect();
        // What was written last is what a start has to make sense of.
        let late = random.percent(50);
        let chosen = if late { used.last() } else { pick(random, &used) };
        let Some(chosen) = chosen else { return false };
        let bits = chosen.1 as u64 * 8 + 8;
        let bit = bits - 1 - random.below(if late { bits.min(LATE_BITS) } else { bits });
        disk.flip(&chosen.0, bit).is_ok()
    }
}

impl Machine {
    /// Turns a bit over in a group of the log that is neither the last one nor one that the watermark
    /// knows: what lies behind it is all that shows it.
    fn flip_unmarked(&self, random: &mut Random) -> bool {
        let media = &self.disk.lock().media;
        let marked = media.marked_group().unwrap_or(0);
        let Ok(names) = media.log.list() else { return false };
        let mut found = Vec::new();
        for name in names {
            let Ok(bytes) = media.log.bytes(&name) else { continue };
            let Some((store, life)) = owner(&bytes) else { continue };
            let facts = facts(&store, &bytes, Some(life)).into_iter();
            found.extend(facts.map(|fact| (fact.group, name.clone(), fact.at)));
        }
        let last = found.iter().map(|(group, ..)| *group).max().unwrap_or(0);
        found.retain(|(group, ..)| marked < *group && *group < last);
        let Some((_, name, at)) = pick(random, &found) else { return false };
        media.log.flip(name, *at as u64 * 8 + random.below(RECORD_BITS)).is_ok()
    }
}

/// A sector of a disk in memory, bytes.
const SECTOR: usize = 512;
/// What every record has at least, bits.
const RECORD_BITS: u64 = 8 * 48;
/// What counts as the end of a file, bits.
const LATE_BITS: u64 = 8 * 8192;
/// Sectors at the head of a segment that hold no records.
const LABEL_SECTORS: usize = 1;

/// One of several.
pub fn pick<'a, T>(random: &mut Random, from: &'a [T]) -> Option<&'a T> {
    let at = usize::try_from(random.below(from.len() as u64)).ok()?;
    from.get(at)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How fast a disk is. Clones are the same.
#[derive(Clone)]
struct Pace {
    /// Longest time of a sync, microseconds.
    sync_max_us: Arc<AtomicU64>,
    /// Until when it hangs, nanoseconds of the run.
    hangs_until_ns: Arc<AtomicU64>,
    trace: Trace,
}

impl Pace {
    fn new(trace: &Trace, sync_max: Duration) -> Self {
        let sync_max_us = Arc::new(AtomicU64::new(micros(sync_max)));
        Self { sync_max_us, hangs_until_ns: Arc::default(), trace: trace.clone() }
    }

    fn hangs(&self) -> Duration {
        let until = self.hangs_until_ns.load(Ordering::Relaxed);
        Duration::from_nanos(until.saturating_sub(self.trace.now_ns()))
    }

    /// How long a sync takes that begins now.
    fn draw(&self, random: &mut Random) -> Duration {
        let most = self.sync_max_us.load(Ordering::Relaxed);
        let usual = Duration::from_micros(most / 4 + random.below(most - most / 4 + 1));
        // Its halves are waited for one after the other.
        usual.max(2 * self.hangs())
    }
}

/// An empty disk.
fn empty(random: &mut Random, pace: &Pace, flush_entries: u64) -> Disk {
    let (draws, pace) = (Mutex::new(Random::new(random.draw())), pace.clone());
    let latency = Latency::new(move || pace.draw(&mut draws.lock()));
    let options = log::Options { segment_bytes: SEGMENT_BYTES, ..log::Options::default() };
    let state = MemoryState::default();
    let (log, marks) = (MemoryDisk::new(random.draw()), MemoryDisk::new(random.draw()));
    let media = MemoryMedia { log, marks, state, latency, options, flush_entries };
    Disk { media, notes: Arc::default() }
}
