//! A node's clock beside the truth: it asks a real chronyd and two more servers on loopback, all of
//! which serve the machine's wall clock, so that clock is what it must find.
//!
//! Every reading is taken between two looks at the wall clock, again if somebody else had the
//! processor in between. True time outside the bounds is an error and fails the run; how far the
//! reading is off, and how wide the bounds are, are figures. The same for the time from a start to
//! the first sync, of many clocks that start one after the other.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clock::ClockState;
use daemon::time::NodeClock;
use net::time_server::TimeServer;
use serde_json::{Value, json};
use tests::chronyd::Chronyd;
use tests::node_clock;
use tests::truth::{self, Between};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::figures::{Figures, Tally};
use crate::machine::{self, Machine};
use crate::report;

/// Clocks that are started to see how long the first sync takes.
const STARTS: u32 = 200;
const QUICK_STARTS: u32 = 10;
/// Seconds between polls: as often as a node may.
const POLL_S: u32 = 4;
/// Between two readings.
const PAUSE: Duration = Duration::from_micros(200);
/// The two looks of a reading lie no further apart, nanoseconds.
const BRACKET_NS: u64 = 1000;
/// Longest wait for a first sync.
const SYNC_TIME: Duration = Duration::from_secs(20);

/// What was found. Times are in nanoseconds.
struct Found {
    sync: Figures,
    error: Figures,
    bound: Figures,
    readings: u64,
    /// Readings whose bounds did not hold true time.
    violations: u64,
    /// The furthest of them.
    worst_ns: u64,
    /// Readings that were less than one before.
    back: u64,
    polls: u64,
}

/// Measures, and fails if true time was outside the bounds, or a reading went back.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _guard = runtime.enter();
    let machine = Machine::look(&args.dir);
    report::say(&format!("\n{machine}\n"));
    let folder = tempfile::tempdir_in(&args.dir)?;
    let chronyd = Chronyd::start(folder.path())?;
    let real = chronyd.as_ref().map(Chronyd::address);
    let fakes = usize::from(real.is_none()) + 2;
    let fakes = (0..fakes).map(|_| runtime.block_on(TimeServer::start(0, truth::now_ns)));
    let fakes = fakes.collect::<Result<Vec<_>, _>>()?;
    let servers: Vec<SocketAddr> =
        real.into_iter().chain(fakes.iter().map(TimeServer::address)).collect();

    let sync = first_syncs(&runtime, &servers, if args.quick { QUICK_STARTS } else { STARTS })?;
    let mut found = readings(&runtime, &servers, args.window, sync)?;
    found.polls = fakes.iter().map(TimeServer::asked).max().unwrap_or(0);
    report::say(&found.table());
    let document = json!({
        "format": report::FORMAT,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine.json(),
        "load_after": machine::load(),
        "seconds": args.window.as_secs_f64(),
        "chronyd": real.is_some(),
        "poll_s": POLL_S,
        "clock": found.json(),
    });
    report::write(&document, args.out.as_deref())?;
    let Found { violations, worst_ns, back, .. } = found;
    anyhow::ensure!(
        violations == 0,
        "true time was outside the bounds {violations} times, by up to {worst_ns} ns"
    );
    anyhow::ensure!(back == 0, "the reading went back {back} times");
    Ok(())
}

/// Starts clocks one after the other; times from the start to the first sync.
fn first_syncs(runtime: &Runtime, servers: &[SocketAddr], starts: u32) -> anyhow::Result<Figures> {
    let mut tally = Tally::new()?;
    let since = Instant::now();
    for _ in 0..starts {
        let cancel = CancellationToken::new();
        let start = Instant::now();
        let node_clock = node_clock::asking(servers, POLL_S, cancel.clone())?;
        runtime.block_on(synced(&node_clock))?;
        tally.note(start.elapsed(), true);
        cancel.cancel();
        runtime.block_on(node_clock.stopped());
    }
    Ok(tally.figures(since.elapsed()))
}

async fn synced(node_clock: &NodeClock) -> anyhow::Result<()> {
    let reached = tokio::time::timeout(SYNC_TIME, node_clock.reached(ClockState::Synced));
    reached.await.context("the clock was not synced in time")
}

/// Reads one clock for a time.
fn readings(
    runtime: &Runtime,
    servers: &[SocketAddr],
    time: Duration,
    sync: Figures,
) -> anyhow::Result<Found> {
    let cancel = CancellationToken::new();
    let node_clock = node_clock::asking(servers, POLL_S, cancel.clone())?;
    runtime.block_on(synced(&node_clock))?;
    let (mut error, mut bound) = (Tally::new()?, Tally::new()?);
    let (mut readings, mut violations, mut worst_ns, mut back, mut last_ns) = (0, 0, 0, 0, 0);
    let since = Instant::now();
    while since.elapsed() < time {
        let seen = Between::look(BRACKET_NS, || node_clock.reading());
        let reading = seen.read;
        let ends = reading.earliest_ns.zip(reading.latest_ns);
        let (earliest_ns, latest_ns) = ends.context("a synced clock without bounds")?;
        let outside_ns = seen.outside_ns(earliest_ns, latest_ns);
        violations += u64::from(outside_ns > 0);
        worst_ns = worst_ns.max(outside_ns);
        back += u64::from(reading.now_ns < last_ns);
        last_ns = reading.now_ns;
        error.note(Duration::from_nanos(seen.error_ns(reading.now_ns)), true);
        bound.note(Duration::from_nanos(reading.error_ns().unwrap_or(0)), true);
        readings += 1;
        std::thread::sleep(PAUSE);
    }
    let window = since.elapsed();
    cancel.cancel();
    runtime.block_on(node_clock.stopped());
    let (error, bound) = (error.figures(window), bound.figures(window));
    Ok(Found { sync, error, bound, readings, violations, worst_ns, back, polls: 0 })
}

impl Found {
    fn table(&self) -> String {
        let us = |ns: u64| ns as f64 / 1000.0;
        let line = |what: &str, f: &Figures| {
            let (p50, p99, p999, max) = (us(f.p50), us(f.p99), us(f.p999), us(f.max));
            format!("{what:<24} {:>9} {p50:>9.1} {p99:>9.1} {p999:>9.1} {max:>9.1}\n", f.done)
        };
        let [count, p50, p99, p999, max] = ["count", "p50 us", "p99 us", "p999 us", "max us"];
        format!(
            "{:<24} {count:>9} {p50:>9} {p99:>9} {p999:>9} {max:>9}\n{}{}{}\ntrue time outside the \
             bounds: {} of {}; readings that went back: {}",
            "",
            line("first sync after", &self.sync),
            line("error of the reading", &self.error),
            line("error bound", &self.bound),
            self.violations,
            self.readings,
            self.back,
        )
    }

    fn json(&self) -> Value {
        json!({
            "first_sync": self.sync.json(),
            "error": self.error.json(),
            "bound": self.bound.json(),
            "readings": self.readings,
            "violations": self.violations,
            "worst_violation_ns": self.worst_ns,
            "went_back": self.back,
            "polls": self.polls,
        })
    }
}
