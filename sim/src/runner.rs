//! Many seeds, each in a process of its own, with progress and a rate.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use tokio::time::Instant;

use anyhow::Context as _;
use planted::Bug;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use sim::world::{BROKEN, LATE};

use crate::shrink::shrink;

/// The variable that makes a process repeatable; see `chance.c`.
const SEED_VAR: &str = "LOGD_SIM_SEED";
/// The variable with the most processor time of a run, in seconds.
const LIMIT_VAR: &str = "LOGD_SIM_PROCESSOR_S";
/// Most processor time of one run; they take seconds, and those that talk without end are noticed before.
const RUN_MAX: Duration = Duration::from_secs(60);
/// A run waits for nothing but the processor. One that takes so many times its processor time does.
const WAITS_MAX: u32 = 60;
/// A run is short: what it frees is of use to it only where the system does not take it back.
const KEEPS_MEMORY: [(&str, &str); 3] = [
    ("MALLOC_TRIM_THRESHOLD_", "1073741824"),
    ("MALLOC_MMAP_THRESHOLD_", "1073741824"),
    ("MALLOC_TOP_PAD_", "33554432"),
];
/// Seconds between two lines of progress.
const PROGRESS_S: u64 = 10;
/// Of so many failed seeds of many, the faults are looked through.
const SHRUNK_MAX: u64 = 3;
/// What begins the line with the faults of a run that failed.
pub(crate) const FAULTS: &str = "  faults that bit: ";

/// A run to be done.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Its seed.
    pub(crate) seed: u64,
    /// The bug that is planted.
    pub(crate) bug: Option<Bug>,
    /// The faults that happen; see [`sim::Order::only`].
    pub(crate) only: Option<BTreeSet<u64>>,
}

impl Run {
    /// A whole seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self { seed, bug: None, only: None }
    }

    /// What asks for the rest on the command line.
    fn args(&self) -> impl Iterator<Item = String> {
        let bug = self.bug.map(|bug| ["--bug".to_owned(), bug.about().0.to_owned()]);
        let only = self.only.as_ref().map(|only| ["--only".to_owned(), listed(only)]);
        bug.into_iter().chain(only).flatten()
    }

    /// The command that repeats it.
    pub(crate) fn command(&self) -> String {
        let args: Vec<_> = self.args().collect();
        let args = args.join(" ");
        let args = if args.is_empty() { args } else { format!(" ARGS='{args}'") };
        format!("make sim SEED={}{args}", self.seed)
    }
}

/// Numbers as the command line takes them.
fn listed(numbers: &BTreeSet<u64>) -> String {
    let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
    numbers.join(",")
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "what the program is for")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Runs a seed in this process, which must have been started for it.
///
/// # Errors
/// When the run cannot begin.
pub(crate) fn child(run: Run, shown: bool, log: bool) -> anyhow::Result<bool> {
    let Run { seed, bug, only } = run;
    if let Some(most_s) = std::env::var(LIMIT_VAR).ok().and_then(|limit| limit.parse().ok()) {
        let limit = Rlimit { current: Some(most_s), maximum: None };
        setrlimit(Resource::Cpu, limit).context("the limit of its processor time")?;
    }
    if let Some(bug) = bug {
        planted::plant(bug);
    }
    anyhow::ensure!(
        std::env::var(SEED_VAR).is_ok_and(|set| set == seed.to_string()),
        "a run begins with {SEED_VAR}={seed}"
    );
    if log {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let (panicked, panics) = mpsc::channel();
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        drop(panicked.send(panic.to_string()));
        told(panic);
    }));
    let runtime = tokio::runtime::Builder::new_current_thread()
        // Nothing of a run waits for the system, so nobody need ask it.
        .enable_time()
        .start_paused(true)
        .build()
        .context("the runtime")?;
    let mut report = tokio::task::LocalSet::new()
        .block_on(&runtime, sim::run(sim::Order { seed, shown, only }))?;
    // An assertion that fails has seen what the judges may not see.
    let panics = panics.try_iter().map(|panic| panic.replace('\n', " "));
    report.wrong.extend(panics.map(|panic| format!("a process has panicked: {panic}")));
    for wrong in report.wrong.iter().chain(&report.late) {
        say(&format!("  {wrong}"));
    }
    let ok = report.is_well();
    if !ok {
        let faults = report.faults.iter().map(|(number, kind)| format!("{number} {}", kind.name()));
        say(&format!("{FAULTS}{}", faults.collect::<Vec<_>>().join(", ")));
    }
    say(&report.line());
    // What is left of the nodes goes with the process.
    runtime.shutdown_background();
    Ok(ok)
}

/// Runs one seed and shows what happens.
///
/// # Errors
/// When no process can be started for it.
pub(crate) fn one(run: &Run, log: bool) -> anyhow::Result<bool> {
    let seed = run.seed;
    if std::env::var(SEED_VAR).is_ok_and(|set| set == seed.to_string()) {
        return child(run.clone(), true, log);
    }
    let mut again = Command::new(std::env::current_exe()?);
    again.args(["--seed", &seed.to_string()]).env(SEED_VAR, seed.to_string());
    if log {
        again.arg("--log");
    }
    again.args(run.args());
    let ok = again.status()?.success();
    if !ok && run.only.is_none() {
        shrink(run)?;
    }
    Ok(ok)
}

/// Which seeds to run, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The first seed.
    pub(crate) from: u64,
    /// How many.
    pub(crate) seeds: u64,
    /// How many at once; as many as there are processors unless given.
    pub(crate) jobs: Option<usize>,
    /// Of so many seeds in a hundred, what happens is compared with a second run.
    pub(crate) again: u64,
    /// The bug that is planted.
    pub(crate) bug: Option<Bug>,
    /// Of the bugs, only those are planted for which a seed is noted.
    pub(crate) noted: bool,
    /// Whether each run of a search is shown.
    pub(crate) log: bool,
}

impl Plan {
    /// How many runs go on at once.
    pub(crate) fn at_once(&self) -> usize {
        let processors = || std::thread::available_parallelism().ok().map(Into::into);
        self.jobs.or_else(processors).unwrap_or(1).max(1)
    }
}

/// What a seed printed, and whether all held.
pub(crate) struct Done {
    /// Whether all held.
    pub(crate) ok: bool,
    /// Whether it had not come to its end.
    pub(crate) hangs: bool,
    /// What it printed.
    pub(crate) text: String,
}

impl Done {
    /// What the run came to, in one line; nothing where it did not come to its end.
    pub(crate) fn line(&self) -> &str {
        self.text.lines().rfind(|line| line.starts_with("seed=")).unwrap_or_default()
    }

    /// Whether a promise was seen to be broken.
    pub(crate) fn is_broken(&self) -> bool {
        self.line().split(' ').nth(1) == Some(BROKEN)
    }

    /// Whether the cluster served nobody for longer than it may, and broke nothing.
    pub(crate) fn is_late(&self) -> bool {
        self.line().split(' ').nth(1) == Some(LATE)
    }
}

/// Runs a seed in a process of its own.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn run(run: &Run) -> anyhow::Result<Done> {
    run_within(run, RUN_MAX)
}

/// Runs a seed in a process of its own, for so much processor time at most: on a busy machine, or beside
/// others, a run takes longer and comes to the same.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn run_within(run: &Run, most: Duration) -> anyhow::Result<Done> {
    let seed = run.seed;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--child", &seed.to_string()])
        .args(run.args())
        .env(SEED_VAR, seed.to_string())
        .env(LIMIT_VAR, most.as_secs().max(1).to_string())
        .envs(KEEPS_MEMORY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Read while it runs: it would wait for room in a pipe for ever. What it says ends when it does.
    let (out, err) = (whole(child.stdout.take()), whole(child.stderr.take()));
    let first = out.recv_timeout(most * WAITS_MAX);
    let waits = first.is_err();
    if waits {
        child.kill()?;
    }
    let out = first.or_else(|_| out.recv()).context("a reader panicked")?;
    let (err, status) = (err.recv().context("a reader panicked")?, child.wait()?);
    let hangs = waits || status.signal() == Some(Signal::XCPU.as_raw());
    let mut text = String::from_utf8_lossy(&out).into_owned();
    if hangs {
        text.push_str("it goes on for ever\n");
    } else if !status.success() {
        text.push_str(&String::from_utf8_lossy(&err));
    }
    Ok(Done { ok: status.success(), hangs, text })
}

/// Reads a pipe to its end, in a thread of its own.
fn whole(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (read, whole) = mpsc::channel();
    std::thread::spawn(move || {
        let mut all = Vec::new();
        // What can be read is what there is.
        drop(pipe.map(|mut pipe| pipe.read_to_end(&mut all)));
        // Nobody wants it any more where the runner ends.
        drop(read.send(all));
    });
    whole
}

/// Runs many seeds; prints those that failed, with the command that repeats them.
///
/// # Errors
/// When processes cannot be started.
pub(crate) fn many(plan: &Plan) -> anyhow::Result<bool> {
    let &Plan { from, seeds, again, bug, .. } = plan;
    let jobs = plan.at_once();
    let (next, shrunk) = (AtomicU64::new(from), AtomicU64::new(0));
    let sum = Mutex::new(Sum::default());
    let began = Instant::now();
    let worker = || -> anyhow::Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                return Ok(());
            }
            let whole = Run { bug, ..Run::of(seed) };
            let done = run(&whole)?;
            let repeated = match seed % 100 < again {
                true => Some(run(&whole)?.text == done.text),
                false => None,
            };
            let shrunk = !done.ok && shrunk.fetch_add(1, Ordering::Relaxed) < SHRUNK_MAX;
            let mut sum = sum.lock().map_err(|_| anyhow::anyhow!("another worker panicked"))?;
            sum.take(seed, &done, repeated, began);
            if shrunk && !done.hangs {
                drop(sum);
                shrink(&whole)?;
            }
        }
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        Ok(())
    })?;
    let sum = sum.into_inner().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
    Ok(sum.tell(began))
}

#[derive(Default)]
struct Sum {
    runs: u64,
    failed: Vec<u64>,
    acks: u64,
    virtual_s: f64,
    bit: BTreeMap<String, u64>,
    /// Runs in which a fault bit.
    bitten: u64,
    /// Runs that were made twice, and those of them that were the same.
    twice: u64,
    same: u64,
    said_s: u64,
}

impl Sum {
    fn take(&mut self, seed: u64, done: &Done, repeated: Option<bool>, began: Instant) {
        self.runs += 1;
        if let Some(same) = repeated {
            self.twice += 1;
            self.same += u64::from(same);
        }
        if !done.ok {
            self.failed.push(seed);
            say(&format!("seed {seed} failed; repeat it with: make sim SEED={seed}"));
            say(done.text.trim_end());
        }
        let faults_before = self.faults();
        for (key, value) in done.line().split(' ').filter_map(|word| word.split_once('=')) {
            match key {
                "seed" | "trace" | "drawn" => {}
                "acks" => self.acks += value.parse().unwrap_or(0),
                "virtual_s" => self.virtual_s += value.parse().unwrap_or(0.0),
                fault => {
                    *self.bit.entry(fault.to_owned()).or_default() += value.parse().unwrap_or(0)
                }
            }
        }
        self.bitten += u64::from(self.faults() > faults_before);
        let seconds = began.elapsed().as_secs();
        if seconds >= self.said_s + PROGRESS_S {
            self.said_s = seconds;
            let rate = self.rate(began);
            let failed = self.failed.len();
            say(&format!("{} seeds, {failed} failed, {rate:.1} seeds a second", self.runs));
        }
    }

    /// How many faults bit so far.
    fn faults(&self) -> u64 {
        self.bit.values().sum()
    }

    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    fn rate(&self, began: Instant) -> f64 {
        self.runs as f64 / began.elapsed().as_secs_f64()
    }

    fn tell(&self, began: Instant) -> bool {
        let Self { runs, acks, virtual_s, twice, same, .. } = self;
        say(&format!(
            "{runs} seeds in {:.0} s ({:.1} a second), {virtual_s:.0} s of virtual time, {acks} \
             acknowledgements, {} failed",
            began.elapsed().as_secs_f64(),
            self.rate(began),
            self.failed.len()
        ));
        let faults: Vec<_> =
            self.bit.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        say(&format!("faults that bit: {}", faults.join(", ")));
        say(&format!("{same} of {twice} that ran twice were the same"));
        if !self.failed.is_empty() {
            say(&format!("failed: {:?}", self.failed));
        }
        // For programs.
        let (failed, bitten) = (self.failed.len(), self.bitten);
        say(&format!("sum seeds={runs} failed={failed} bit={bitten} acks={acks}"));
        self.failed.is_empty() && same == twice
    }
}
