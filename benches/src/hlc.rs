//! What minting a stamp costs, beside `uhlc`, the hybrid logical clock of others, in the same run.
//!
//! The contenders take turns, round after round, so that whatever else the machine does meets all of
//! them; a row's figure is the median of its rounds. Every stamp is compared with the one before: a
//! clock that is fast because it stands still would fail.
//!
//! `tick` is what the gate speaks of: one look at the counter, the reading with its bounds, and the
//! stamp. `node_clock` is the same through the daemon's own clock, which also guards against readings
//! that go back between threads, and asks for ceilings. `uhlc` reads the wall clock and has no bounds.

use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use clock::Hlc;
use clock::generator::HlcClock;
use clock::{ClockState, ClockView, Interval};
use daemon::time::{Counter, NodeClock};
use serde_json::{Value, json};
use tests::node_clock;
use tokio::runtime::Runtime;

use crate::args::Args;
use crate::machine::Machine;
use crate::report;

/// Stamps that a thread mints between two looks at the time.
const CHUNK: u64 = 1000;
/// Rounds of each contender.
const ROUNDS: u32 = 20;
/// Further from any moment than anything that is stamped here, nanoseconds since 1970.
const NO_CEILING_NS: u64 = u64::MAX / 2;
/// Limit of the error, as in a node's configuration.
const MAX_ERROR_NS: u64 = 100_000_000;
/// Threads that mint at the same time.
const THREADS: [usize; 2] = [1, 2];
/// Least time for the ceiling, about one a second: some of them must come.
const CEILING_TIME: Duration = Duration::from_secs(5);

/// One who mints.
enum Contender {
    Tick { clock: HlcClock, view: ClockView },
    NodeClock(NodeClock),
    Uhlc(uhlc::HLC),
}

/// What a contender did in all its rounds with some threads.
#[derive(Debug)]
struct Row {
    name: &'static str,
    threads: usize,
    /// Nanoseconds of a stamp as its thread sees it, by round.
    rounds_ns: Vec<f64>,
    stamps: u64,
}

/// Measures, and fails if a stamp was not later than the one before.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _guard = runtime.enter();
    let machine = Machine::look(&args.dir);
    report::say(&format!("\n{machine}\n"));
    let contenders =
        [Contender::tick(), Contender::node_clock()?, Contender::Uhlc(uhlc::HLC::default())];
    let mut rows = Vec::new();
    for threads in THREADS {
        rows.extend(measure(&contenders, threads, args.window)?);
    }
    rows.iter().for_each(|row| report::say(&row.line()));
    let ceiling = ceiling(&runtime, args)?;
    report::say(&format!("\nthe ceiling, under load: {ceiling}"));
    let document = json!({
        "format": report::FORMAT,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine.json(),
        "seconds": args.window.as_secs_f64(),
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
        "ceiling": ceiling,
    });
    report::write(&document, args.out.as_deref())
}

/// One contender after the other, again and again.
fn measure(contenders: &[Contender], threads: usize, window: Duration) -> anyhow::Result<Vec<Row>> {
    let row = |contender: &Contender| Row {
        name: contender.name(),
        threads,
        rounds_ns: Vec::new(),
        stamps: 0,
    };
    let mut rows: Vec<Row> = contenders.iter().map(row).collect();
    for _ in 0..ROUNDS {
        for (contender, row) in contenders.iter().zip(&mut rows) {
            let (ns, stamps) = round(contender, threads, window / ROUNDS)?;
            row.rounds_ns.push(ns);
            row.stamps += stamps;
        }
    }
    for row in &mut rows {
        row.rounds_ns.sort_by(f64::total_cmp);
    }
    Ok(rows)
}

/// Mints in all threads for a time; returns nanoseconds of a stamp as its thread sees it, the mean
/// of the threads, and how many were minted.
fn round(contender: &Contender, threads: usize, time: Duration) -> anyhow::Result<(f64, u64)> {
    let start = Arc::new(Barrier::new(threads));
    let counts = thread::scope(|scope| {
        let work = || {
            let start = Arc::clone(&start);
            scope.spawn(move || {
                start.wait();
                mint(contender, time)
            })
        };
        let working: Vec<_> = (0..threads).map(|_| work()).collect();
        let joined = working.into_iter().map(|thread| thread.join());
        joined
            .map(|done| done.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))))
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    let each = counts.iter().map(|(took, count)| took.as_nanos() as f64 / *count as f64);
    let mean = each.sum::<f64>() / threads as f64;
    Ok((mean, counts.iter().map(|(_, count)| count).sum()))
}

/// One thread's work.
fn mint(contender: &Contender, time: Duration) -> anyhow::Result<(Duration, u64)> {
    match contender {
        Contender::Tick { clock, view } => repeat(time, || {
            let reading = view.now(Counter::Raw.raw_ns());
            let cap_ns = HlcClock::cap_ns(&reading, MAX_ERROR_NS);
            Ok(clock.tick(&reading, cap_ns)?.hlc)
        }),
        Contender::NodeClock(node_clock) => repeat(time, || Ok(node_clock.tick()?.hlc)),
        Contender::Uhlc(clock) => repeat(time, || Ok(*clock.new_timestamp().get_time())),
    }
}

fn repeat<S: PartialOrd>(
    time: Duration,
    stamp: impl Fn() -> anyhow::Result<S>,
) -> anyhow::Result<(Duration, u64)> {
    let since = Instant::now();
    let mut last = stamp()?;
    let mut count = 1;
    loop {
        for _ in 0..CHUNK {
            let next = stamp()?;
            anyhow::ensure!(next > last, "a stamp that is not later than the one before");
            last = next;
        }
        count += CHUNK;
        let took = since.elapsed();
        if took >= time {
            return Ok((took, count));
        }
    }
}

impl Contender {
    /// The generator alone, at readings of a clock that was synced to a millisecond and whose bounds
    /// age as fast as they may.
    fn tick() -> Self {
        let (raw_ns, wall_ns) = (Counter::Raw.raw_ns(), tests::truth::now_ns());
        let local = ClockView::unchecked(raw_ns, wall_ns, MAX_ERROR_NS, ClockState::Synced);
        let bound = Some(Interval::around(0, 1_000_000));
        let view = ClockView { bound, phi_ppb: 500_000, epoch: 1, ..local };
        let clock = HlcClock::new(0);
        clock.ceiling_persisted(Hlc::from_ns(NO_CEILING_NS));
        Self::Tick { clock, view }
    }

    fn node_clock() -> anyhow::Result<Self> {
        let node_clock = node_clock::local()?;
        node_clock.ceiling_persisted(Hlc::from_ns(NO_CEILING_NS));
        Ok(Self::NodeClock(node_clock))
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Tick { .. } => "tick",
            Self::NodeClock(_) => "node_clock",
            Self::Uhlc(_) => "uhlc",
        }
    }
}

impl Row {
    fn ns(&self) -> f64 {
        median(&self.rounds_ns)
    }

    fn line(&self) -> String {
        let Self { name, threads, rounds_ns, stamps } = self;
        let (least, most) = (rounds_ns.first(), rounds_ns.last());
        let (least, most) = (least.copied().unwrap_or(0.0), most.copied().unwrap_or(0.0));
        let ns = self.ns();
        format!(
            "{name:<8} {threads} threads  {ns:>7.1} ns a stamp  ({least:.1} to {most:.1}, {stamps} stamps)"
        )
    }

    fn json(&self) -> Value {
        let tenth = |ns: f64| (ns * 10.0).round() / 10.0;
        json!({
            "name": self.name,
            "threads": self.threads,
            "ns": tenth(self.ns()),
            "min_ns": self.rounds_ns.first().copied().map(tenth),
            "max_ns": self.rounds_ns.last().copied().map(tenth),
            "stamps": self.stamps,
        })
    }
}

/// The middle of values in ascending order.
fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// What the persisted ceiling costs who mints as fast as it can: synced writes a second, and the
/// time of a stamp beside that of a clock whose ceiling is out of reach.
fn ceiling(runtime: &Runtime, args: &Args) -> anyhow::Result<Value> {
    let file = tempfile::NamedTempFile::new_in(&args.dir)?;
    let (free, capped) = (node_clock::local()?, node_clock::local()?);
    free.ceiling_persisted(Hlc::from_ns(NO_CEILING_NS));
    let writes = Arc::new(AtomicU64::new(0));
    let writer = runtime.spawn(persist(capped.clone(), file.reopen()?, Arc::clone(&writes)));
    runtime.block_on(capped.stamp(1))?;
    let before = writes.load(Ordering::SeqCst);
    let since = Instant::now();
    let (free, capped) = (Contender::NodeClock(free), Contender::NodeClock(capped));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (contender, times) in [&free, &capped].into_iter().zip(&mut times) {
            times.push(round(contender, 1, args.window.max(CEILING_TIME) / ROUNDS)?.0);
        }
    }
    let seconds = since.elapsed().as_secs_f64();
    let count = writes.load(Ordering::SeqCst) - before;
    writer.abort();
    let [free, capped] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        median(&times)
    });
    Ok(json!({
        "seconds": seconds,
        "synced_writes": count,
        "synced_writes_per_second": (count as f64 / seconds * 100.0).round() / 100.0,
        "ns_without": free.round(),
        "ns_with": capped.round(),
    }))
}

/// Persists the ceilings that a clock asks for, as the store does: written and synced.
async fn persist(
    node_clock: NodeClock,
    mut file: File,
    writes: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    loop {
        let ceiling = node_clock.next_ceiling().await;
        file = tokio::task::spawn_blocking(move || -> std::io::Result<File> {
            file.write_all(&ceiling.to_bytes())?;
            file.sync_data()?;
            Ok(file)
        })
        .await??;
        node_clock.ceiling_persisted(ceiling);
        writes.fetch_add(1, Ordering::SeqCst);
    }
}
