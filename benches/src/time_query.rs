//! What it costs to find where a time begins among many records, and whether the place is right.
//!
//! The records are stored as a node stores them: commands applied by the model to the daemon's store,
//! in large batches, without log and network. Then ranges of time that begin anywhere are asked for,
//! in every mode, the first record of each; each question on a fresh snapshot, as a read does it.
//! Some answers are compared with a linear scan over all stamps; one that differs fails the run.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use clock::{Hlc, Stamp};
use daemon::store::format::{AppliedState, Identity, LogMark};
use daemon::store::{Opened, Store};
use model::{Batch, Caller, Command, CommandOp, Machine, Outcome, Query, Reader, query};
use proto::record::read_stamp;
use proto::wire::{Configure, TimeMode};
use serde_json::{Value, json};

use crate::args::Args;
use crate::figures::{Figures, Tally};
use crate::machine::Machine as Host;
use crate::report;

/// Entries that are applied together, as on a node that has some catching up to do.
const GROUP: usize = 64;
/// Log time of the first record, nanoseconds since 1970.
const START_NS: u64 = 1_795_222_800_000_000_000;
/// Log time between two records, nanoseconds.
const STEP_NS: u64 = 500_000;
/// Length of a range that is asked for, nanoseconds.
const RANGE_NS: u64 = 20_000_000;
/// Body of each record.
const BODY: &[u8] = &[b'x'; 100];
/// Answers that are compared with a linear scan.
const COMPARED: u64 = 200;
/// Questions before those that count.
const WARM: u64 = 2000;
/// The modes and what they are called.
const MODES: [(TimeMode, &str); 3] = [
    (TimeMode::Nominal, "nominal"),
    (TimeMode::Possible, "possible"),
    (TimeMode::Definite, "definite"),
];

/// Builds, measures, compares; fails if an answer is not that of a linear scan.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let host = Host::look(&args.dir);
    report::say(&format!("\n{host}\n"));
    let folder = tempfile::Builder::new().prefix("logd-time-query-").tempdir_in(&args.dir)?;
    let store = create(folder.path())?;
    let since = Instant::now();
    let stamps = fill(&store, args.records)?;
    let build_s = since.elapsed().as_secs_f64();
    report::say(&format!("{} records in {build_s:.0} s", stamps.len()));
    let mut rows = Vec::new();
    for (mode, name) in MODES {
        let (figures, compared) = measure(&store, &stamps, mode, args.window)?;
        report::say(&line(name, &figures, compared));
        let mut row = figures.json();
        if let Some(row) = row.as_object_mut() {
            row.insert("mode".to_owned(), json!(name));
            row.insert("compared".to_owned(), json!(compared));
        }
        rows.push(row);
    }
    let document = json!({
        "format": report::FORMAT,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": host.json(),
        "records": stamps.len(),
        "build_seconds": build_s.round(),
        "seconds": args.window.as_secs_f64(),
        "rows": Value::Array(rows),
    });
    store.close();
    report::write(&document, args.out.as_deref())
}

/// A new store of a node.
pub(crate) fn create(folder: &Path) -> anyhow::Result<Store> {
    let cluster = "0".repeat(32);
    let identity = Identity {
        cluster: cluster.clone(),
        node: "n1".to_owned(),
        raft_id: 1,
        incarnation: vec![1; 16],
        ..Identity::default()
    };
    Store::create(folder, &identity)?;
    match Store::open(folder, &cluster, "n1")? {
        Opened::Intact(store) => Ok(store),
        Opened::Repairing { damage, .. } => anyhow::bail!("a new store is damaged: {damage}"),
    }
}

/// A small generator: the same records and questions in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % end
    }

    fn bound_us(&mut self, most: u64) -> u32 {
        u32::try_from(self.below(most)).unwrap_or(u32::MAX)
    }
}

/// Stores that many records and returns their stamps. Bounds are about a millisecond; one entry in
/// fifty was stamped in a spell of half a second.
fn fill(store: &Store, records: u64) -> anyhow::Result<Vec<Stamp>> {
    let node: proto::Name = "n1".parse()?;
    let settings =
        Configure { max_clock_error_us: Some(100_000), on_loss: Some(0), ..Configure::default() };
    let first = Command {
        caller: Caller::node(&node),
        gateway: node.to_string(),
        op: CommandOp::InitSettings(settings),
    };
    let base = Stamp::unbounded(Hlc::from_ns(START_NS));
    apply(store, 1, &[Batch { base, primary: node.to_string(), commands: vec![first] }])?;
    let (mut stamps, mut dice) = (Vec::with_capacity(usize::try_from(records)?), Dice(42));
    let (mut sent, mut index) = (0, 2);
    while sent < records {
        let mut group = Vec::new();
        while group.len() < GROUP && sent < records {
            let count = (1 + dice.below(64)).min(records - sent);
            group.push(entry(&mut dice, sent, count));
            sent += count;
        }
        for outcome in apply(store, index, &group)? {
            let Outcome::Sent(ack) = outcome else { anyhow::bail!("not stored: {outcome:?}") };
            stamps.push(read_stamp(&ack.stamp)?);
        }
        index += group.len() as u64;
    }
    Ok(stamps)
}

/// One entry of some records, as a busy primary makes it.
fn entry(dice: &mut Dice, sent: u64, count: u64) -> Batch {
    let most = if dice.below(50) == 0 { 500_000 } else { 1500 };
    let base = Stamp {
        hlc: Hlc::from_ns(START_NS + (sent + 1) * STEP_NS),
        early_us: dice.bound_us(most),
        late_us: dice.bound_us(most),
    };
    let admin = Caller { name: model::ADMIN.to_owned(), admin: true, fingerprint: [7; 32] };
    let send = |n| CommandOp::Send {
        to: "*".to_owned(),
        id: format!("m{n}"),
        headers: Vec::new(),
        body: Bytes::from_static(BODY),
    };
    let command = |n| Command { caller: admin.clone(), gateway: "n1".to_owned(), op: send(n) };
    let commands = (sent..sent + count).map(command).collect();
    Batch { base, primary: "n1".to_owned(), commands }
}

/// Applies entries from an index on, as a node does when several are committed at once.
fn apply(store: &Store, index: u64, group: &[Batch]) -> anyhow::Result<Vec<Outcome>> {
    let live = store.live();
    let mut machine = Machine::new(&live)?;
    let mut outcomes = Vec::new();
    for (index, batch) in (index..).zip(group) {
        outcomes.extend(machine.apply(index, 1, Some(batch))?);
    }
    let last = index + group.len() as u64 - 1;
    let mark = LogMark { index: last, term: 1, hash: vec![0; 32] };
    store.apply(
        machine.into_changes(),
        &AppliedState { last: Some(mark), ..AppliedState::default() },
        &[],
    )?;
    Ok(outcomes)
}

/// Asks for ranges in one mode for a time, then compares some answers.
fn measure(
    store: &Store,
    stamps: &[Stamp],
    mode: TimeMode,
    window: Duration,
) -> anyhow::Result<(Figures, u64)> {
    let (first, last) = stamps.first().zip(stamps.last()).context("no records")?;
    let mut dice = Dice(mode as u64 + 1);
    let mut ask = || {
        let since_ns = first.hlc.ns + dice.below((last.hlc.ns - first.hlc.ns).max(1));
        let until = Hlc::from_ns(since_ns + RANGE_NS);
        let since = Some(Hlc::from_ns(since_ns));
        Query { since, until: Some(until), mode, limit: 1, ..Query::default() }
    };
    for _ in 0..WARM {
        offset(store, &ask())?;
    }
    let mut tally = Tally::new()?;
    let begun = Instant::now();
    while begun.elapsed() < window {
        let query = ask();
        let asked = Instant::now();
        offset(store, &query)?;
        tally.note(asked.elapsed(), true);
    }
    for _ in 0..COMPARED {
        let query = ask();
        let (found, expected) = (offset(store, &query)?, scan(stamps, &query));
        anyhow::ensure!(
            found == expected,
            "{query:?}: seq {found:?}, and a linear scan says {expected:?}"
        );
    }
    Ok((tally.figures(window), COMPARED))
}

/// The seq of the first record of a range, page after page until there is one or the end.
fn offset(store: &Store, query: &Query) -> anyhow::Result<Option<u64>> {
    let reader = Reader { name: model::ADMIN.to_owned(), admin: true };
    let mut query = query.clone();
    loop {
        let view = store.snapshot()?;
        let page = query::page(&view, &reader, &query)?;
        if let Some(record) = page.records.first() {
            return Ok(Some(record.seq));
        }
        if page.end {
            return Ok(None);
        }
        query.after = page.next;
    }
}

/// The same, looked at record by record. Bounds are known for all of them.
fn scan(stamps: &[Stamp], query: &Query) -> Option<u64> {
    let (since, until) = query.since.zip(query.until)?;
    let belongs = |stamp: &Stamp| {
        let (Some(earliest_ns), Some(latest_ns)) = (stamp.earliest_ns(), stamp.latest_ns()) else {
            return query.mode == TimeMode::Possible;
        };
        match query.mode {
            TimeMode::Nominal => since <= stamp.hlc && stamp.hlc < until,
            TimeMode::Possible => latest_ns >= since.ns && earliest_ns < until.ns,
            TimeMode::Definite => earliest_ns >= since.ns && latest_ns < until.ns,
        }
    };
    (1..).zip(stamps).find(|(_, stamp)| belongs(stamp)).map(|(seq, _)| seq)
}

fn line(name: &str, figures: &Figures, compared: u64) -> String {
    let us = |ns: u64| ns as f64 / 1000.0;
    format!(
        "first record of a range, {name:<8}  p50 {:>7.1} us  p99 {:>7.1} us  max {:>8.1} us  \
         ({} asked, {compared} as a linear scan says)",
        us(figures.p50),
        us(figures.p99),
        us(figures.max),
        figures.done,
    )
}
