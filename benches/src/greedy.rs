//! What a quiet client notices of a greedy one.
//!
//! The quiet one sends one message after the other, in turn: alone; beside a greedy client of another
//! cluster on the same machine; beside one of the same cluster. The second kind is the control: there
//! the processors and the disk are shared and nothing of logd is, so what the third has above it is
//! queues of ours. The greedy client is a process of its own, with as many requests in flight as its
//! connections carry.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use net::ClientError;
use proto::wire::{Op, Reply, Send};
use serde_json::{Value, json};
use tests::User;

use crate::args::Args;
use crate::cluster::{self, Cluster, NODES, RECEIVER, SENDER};
use crate::figures::{Figures, Tally};
use crate::load::{self, Level, Work, body};
use crate::machine::Machine;
use crate::report;

/// Who is greedy.
const GREEDY: &str = "greedy";
/// Connections that it has, and requests in flight on each: as many as a node lets one have.
const CONNECTIONS: usize = 8;
const EACH: usize = 256;
/// Acknowledged messages after which its queues are as long as they get.
const FULL: u64 = 2 * (CONNECTIONS * EACH) as u64;
/// After a refusal.
const PAUSE: Duration = Duration::from_millis(20);
/// What the greedy process says when its queues are full.
const READY: &str = "ready";

/// What goes on beside the quiet client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nobody,
    Elsewhere,
    Here,
}

impl Beside {
    const ALL: [Self; 3] = [Self::Nobody, Self::Elsewhere, Self::Here];

    const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "alone",
            Self::Elsewhere => "beside a greedy one elsewhere",
            Self::Here => "beside a greedy one",
        }
    }
}

/// One kind of turns through one gateway.
struct Row {
    role: &'static str,
    beside: Beside,
    tally: Tally,
    /// What the greedy one did meanwhile, in all.
    greedy: Greed,
    greedy_time: Duration,
}

/// What a greedy client did.
#[derive(Debug, Default, Clone, Copy)]
struct Greed {
    acked: u64,
    refused: u64,
    lost: u64,
}

/// Measures; nothing fails because it is slow.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _guard = runtime.enter();
    let (own, other) = (Cluster::start(&args.dir, NODES)?, Cluster::start(&args.dir, NODES)?);
    for cluster in [&own, &other] {
        cluster.user().ok(&["register", GREEDY])?;
    }
    let machine = Machine::look(own.folder());
    let rows = runtime.block_on(measure(args, &own, &other))?;
    report::say(&table(args, &machine, &rows));
    let document = json!({
        "format": report::FORMAT,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine.json(),
        "nodes": NODES,
        "body_bytes": load::BODY_BYTES,
        "seconds": args.window.as_secs_f64(),
        "rounds": args.rounds,
        "greedy_connections": CONNECTIONS,
        "greedy_in_flight": CONNECTIONS * EACH,
        "rows": rows.iter().map(|row| row.json(args, &rows)).collect::<Vec<_>>(),
    });
    report::write(&document, args.out.as_deref())?;
    let logs = own.logs() + &other.logs();
    runtime.block_on(async { drop((own, other)) });
    let panics = tests::checks::nobody_panicked(&logs);
    anyhow::ensure!(panics.is_empty(), "a node panicked: {panics:?}");
    for row in &rows {
        let figures = row.figures(args);
        anyhow::ensure!(figures.done > 0, "{} {}: nothing was sent", row.role, row.beside.name());
        let errors = &figures.errors;
        anyhow::ensure!(errors.is_empty(), "{} {}: {errors:?}", row.role, row.beside.name());
        let greedy = row.beside == Beside::Nobody || row.greedy.acked > 0;
        anyhow::ensure!(greedy, "{}: nobody was greedy", row.beside.name());
    }
    Ok(())
}

async fn measure(args: &Args, own: &Cluster, other: &Cluster) -> anyhow::Result<Vec<Row>> {
    let primary = own.status().await?.primary;
    let backup = own.names().into_iter().find(|name| *name != primary);
    let backup = backup.context("a cluster without a backup")?;
    let mut rows: Vec<Row> = Vec::new();
    for role in ["primary", "backup"] {
        for beside in Beside::ALL {
            let (greedy, greedy_time) = (Greed::default(), Duration::ZERO);
            rows.push(Row { role, beside, tally: Tally::new()?, greedy, greedy_time });
        }
    }
    let mut number = 0;
    for _ in 0..args.rounds {
        for row in &mut rows {
            let gateway = if row.role == "primary" { &primary } else { &backup };
            let client = own.client(SENDER, Some(gateway))?;
            let greedy = match row.beside {
                Beside::Nobody => None,
                Beside::Elsewhere => Some(GreedyProcess::start(other, number)?),
                Beside::Here => Some(GreedyProcess::start(own, number)?),
            };
            let level = Level { number, in_flight: 1, window: args.window, ramp: args.ramp };
            number += 1;
            let began = std::time::Instant::now();
            let done = load::run(std::slice::from_ref(&client), level, Work::Send).await?;
            row.tally.add(&done.tally)?;
            if let Some(greedy) = greedy {
                row.greedy_time += began.elapsed();
                row.greedy.add(greedy.finish()?);
            }
            client.close().await;
            report::say(&line(row.role, row.beside, &done.figures));
        }
    }
    Ok(rows)
}

impl Greed {
    fn add(&mut self, more: Self) {
        self.acked += more.acked;
        self.refused += more.refused;
        self.lost += more.lost;
    }
}

impl Row {
    fn figures(&self, args: &Args) -> Figures {
        self.tally.figures(args.window * args.rounds)
    }

    fn greedy_per_second(&self) -> f64 {
        self.greedy.acked as f64 / self.greedy_time.as_secs_f64().max(f64::EPSILON)
    }

    /// How many times longer than alone, and than beside a greedy client of another cluster.
    fn ratios(&self, args: &Args, rows: &[Self]) -> [(&'static str, f64); 4] {
        let own = self.figures(args);
        let of = |beside: Beside, at: fn(&Figures) -> u64| {
            let mut rows = rows.iter().filter(|row| row.role == self.role);
            let row = rows.find(|row| row.beside == beside);
            let other = row.map_or(0, |row| at(&row.figures(args)));
            at(&own) as f64 / other.max(1) as f64
        };
        [
            ("p50_to_alone", of(Beside::Nobody, |figures| figures.p50)),
            ("p99_to_alone", of(Beside::Nobody, |figures| figures.p99)),
            ("p50_to_elsewhere", of(Beside::Elsewhere, |figures| figures.p50)),
            ("p99_to_elsewhere", of(Beside::Elsewhere, |figures| figures.p99)),
        ]
    }

    fn json(&self, args: &Args, rows: &[Self]) -> Value {
        let mut out = self.figures(args).json();
        let ratios = self
            .ratios(args, rows)
            .map(|(name, ratio)| (name.to_owned(), json!((ratio * 100.0).round() / 100.0)));
        if let Some(out) = out.as_object_mut() {
            out.insert("gateway".to_owned(), json!(self.role));
            out.insert("beside".to_owned(), json!(self.beside.name()));
            out.insert("greedy_per_second".to_owned(), json!(self.greedy_per_second().round()));
            out.insert("greedy_refused".to_owned(), json!(self.greedy.refused));
            out.insert("greedy_lost".to_owned(), json!(self.greedy.lost));
            out.extend(ratios);
        }
        out
    }
}

fn line(role: &str, beside: Beside, figures: &Figures) -> String {
    format!("{:<44}{}", format!("via {role}, {}", beside.name()), figures.columns())
}

fn table(args: &Args, machine: &Machine, rows: &[Row]) -> String {
    let heading = format!(
        "\n{machine}\n{NODES} nodes twice, bodies of {} bytes, {} turns of {} s of each kind; greedy: \
         {CONNECTIONS} connections with {EACH} in flight each\n\n{:<44}{} {:>9} {:>9} {:>9}",
        load::BODY_BYTES,
        args.rounds,
        args.window.as_secs_f64(),
        "all turns",
        Figures::headings(),
        "p99/alone",
        "p99/else",
        "greedy/s"
    );
    let rows = rows.iter().map(|row| {
        let [_, (_, alone), _, (_, elsewhere)] = row.ratios(args, rows);
        let figures = row.figures(args);
        let line = line(row.role, row.beside, &figures);
        let greedy = row.greedy_per_second();
        format!("{line} {alone:>9.2} {elsewhere:>9.2} {greedy:>9.0}")
    });
    std::iter::once(heading).chain(rows).collect::<Vec<_>>().join("\n")
}

/// A process that is greedy. It ends when its standard input does.
struct GreedyProcess {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl GreedyProcess {
    /// Starts it and waits until its queues are full.
    fn start(cluster: &Cluster, number: usize) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("be-greedy").arg(cluster.user().home()).arg(number.to_string());
        command.args(cluster.addresses()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("be-greedy")?;
        let said = child.stdout.take().context("no standard output")?;
        let mut this = Self { child, said: BufReader::new(said) };
        let first = this.line()?;
        anyhow::ensure!(first == READY, "the greedy client said '{first}'");
        Ok(this)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Ends it; what it did since it was ready.
    fn finish(mut self) -> anyhow::Result<Greed> {
        drop(self.child.stdin.take());
        let last = self.line()?;
        let mut counts = last.split_whitespace().map(str::parse);
        let mut count = || counts.next().with_context(|| format!("it said '{last}'"));
        let (acked, refused, lost) = (count()??, count()??, count()??);
        Ok(Greed { acked, refused, lost })
    }
}

impl Drop for GreedyProcess {
    fn drop(&mut self) {
        // It is ours, and may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    acked: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
}

impl Counts {
    fn greed(&self) -> Greed {
        let [acked, refused, lost] =
            [&self.acked, &self.refused, &self.lost].map(|count| count.load(Ordering::Relaxed));
        Greed { acked, refused, lost }
    }
}

/// Is greedy until standard input ends; `order`: home of the user, number of this run, addresses.
///
/// # Errors
/// When it cannot begin.
pub(crate) fn be(order: &[String]) -> anyhow::Result<()> {
    let [home, number, addresses @ ..] = order else { anyhow::bail!("be-greedy HOME N NODE...") };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _guard = runtime.enter();
    let user = User::new(PathBuf::from(home));
    let names = addresses.iter().filter_map(|address| address.split_once('='));
    let names: Vec<&str> = names.map(|(name, _)| name).collect();
    let counts = Arc::<Counts>::default();
    for (connection, via) in (0..CONNECTIONS).zip(names.iter().cycle()) {
        let client = cluster::client(&user, GREEDY, addresses.to_vec(), Some(via))?;
        for worker in 0..EACH {
            let prefix = format!("{GREEDY}-{number}-{connection}-{worker}");
            runtime.spawn(worker_loop(client.clone(), prefix, Arc::clone(&counts)));
        }
    }
    while counts.acked.load(Ordering::Relaxed) < FULL {
        std::thread::sleep(Duration::from_millis(10));
    }
    let begun = counts.greed();
    let mut out = std::io::stdout();
    writeln!(out, "{READY}")?;
    out.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    counts.stop.store(true, Ordering::Relaxed);
    let ended = counts.greed();
    let (acked, refused) = (ended.acked - begun.acked, ended.refused - begun.refused);
    writeln!(out, "{acked} {refused} {}", ended.lost - begun.lost)?;
    Ok(())
}

async fn worker_loop(client: net::Client, prefix: String, counts: Arc<Counts>) {
    for n in 0u64.. {
        if counts.stop.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("{prefix}-{n}");
        let body = body(&id).into();
        let send = Send { to: RECEIVER.to_owned(), id, body, ..Send::default() };
        let count = match client.call(Op::Send(send)).await.map(|answer| answer.reply) {
            Ok(Some(Reply::Ack(_))) => {
                counts.acked.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Err(ClientError::Failure(_)) => &counts.refused,
            Ok(_) | Err(_) => &counts.lost,
        };
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}
