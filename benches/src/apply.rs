//! What it costs to apply what is committed, alone: without network, log, clients and other nodes.
//!
//! Entries are read, applied by the model and written to the daemon's store, as a node does it; the
//! processor time is that of the whole process, flushes and merges of the database included. Beside it:
//! which rows a message leaves behind, and how many bytes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clock::{Hlc, Stamp};
use daemon::store::Store;
use daemon::store::format::{AppliedState, LogMark};
use model::{Batch, Caller, Carried, Change, Command, CommandOp, Machine, Outcome, Table};
use serde_json::{Value, json};

use crate::args::Args;
use crate::machine::Machine as Host;
use crate::processor::used_ms;
use crate::report;
use crate::time_query::{Dice, create};

/// Messages of one entry: of a lone client, and as a busy primary makes them.
const LEVELS: [u64; 3] = [1, 64, 256];
/// Clients that send to each other.
const CLIENTS: u64 = 16;
/// Log time of the first entry, nanoseconds since 1970.
const START_NS: u64 = 1_795_222_800_000_000_000;
/// Log time between two messages, nanoseconds.
const STEP_NS: u64 = 25_000;
/// Body of each message.
const BODY: &[u8] = &[b'x'; 256];
/// Of the messages of the other levels, a lone client sends this part.
const LONE_PART: u64 = 5;

/// What applying some messages came to.
#[derive(Default)]
struct Tally {
    messages: u64,
    read: Duration,
    decide: Duration,
    write: Duration,
    cpu_ms: u64,
    /// Reads that needed the disk, and entries that could not be written at once.
    missed: u64,
    stalled: u64,
    /// Rows and bytes of keys and values, by table.
    rows: BTreeMap<Table, (u64, u64)>,
}

/// Measures each level on a store of its own.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let host = Host::look(&args.dir);
    report::say(&format!("\n{host}\n"));
    let mut levels = Vec::new();
    for per_entry in LEVELS {
        let messages = if per_entry == 1 { args.records / LONE_PART } else { args.records };
        let tally = measure(args, per_entry, messages)?;
        report::say(&tally.line(per_entry));
        if Some(&per_entry) == LEVELS.last() {
            report::say(&tally.table());
        }
        levels.push(tally.json(per_entry));
    }
    let document = json!({
        "format": report::FORMAT,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": host.json(),
        "body_bytes": BODY.len(),
        "rows": Value::Array(levels),
    });
    report::write(&document, args.out.as_deref())
}

fn measure(args: &Args, per_entry: u64, messages: u64) -> anyhow::Result<Tally> {
    let folder = tempfile::Builder::new().prefix("logd-apply-").tempdir_in(&args.dir)?;
    let store = create(folder.path())?;
    let mut dice = Dice(42);
    let mut carried = apply(&store, None, (1, &clients().encode()), &mut Tally::default())?;
    let (mut tally, mut sent, mut index) = (Tally::default(), 0, 2);
    let entries: Vec<_> = std::iter::from_fn(|| {
        let count = per_entry.min(messages - sent);
        sent += count;
        (count > 0).then(|| entry(&mut dice, sent - count, count).encode())
    })
    .collect();
    let before = used_ms(std::process::id());
    for encoded in &entries {
        carried = apply(&store, Some(carried), (index, encoded), &mut tally)?;
        index += 1;
    }
    // What waits to be flushed is not paid yet.
    store.close();
    tally.cpu_ms = used_ms(std::process::id()) - before;
    Ok(tally)
}

fn key_of(client: u64) -> [u8; 32] {
    let mut key = [7; 32];
    if let Some(first) = key.first_mut() {
        *first = u8::try_from(client + 1).unwrap_or(u8::MAX);
    }
    key
}

/// The entry that registers the clients.
fn clients() -> Batch {
    let admin = Caller { name: model::ADMIN.to_owned(), admin: true, fingerprint: [0xad; 32] };
    let register = |n| CommandOp::Register {
        name: format!("client-{n}"),
        fingerprint: key_of(n),
        home: String::new(),
    };
    let command = |n| Command { caller: admin.clone(), gateway: "n1".to_owned(), op: register(n) };
    let base = Stamp::unbounded(Hlc::from_ns(START_NS));
    Batch { base, primary: "n1".to_owned(), commands: (0..CLIENTS).map(command).collect() }
}

/// One entry of some messages.
fn entry(dice: &mut Dice, sent: u64, count: u64) -> Batch {
    let now_ns = START_NS + (sent + CLIENTS) * STEP_NS;
    let base = Stamp { hlc: Hlc::from_ns(now_ns), early_us: 900, late_us: 1100 };
    let commands = (sent..sent + count).map(|_| send(dice, now_ns)).collect();
    Batch { base, primary: "n1".to_owned(), commands }
}

/// A message from one client to another. The id is as clients draw them: first the time, then chance.
fn send(dice: &mut Dice, now_ns: u64) -> Command {
    let (from, to) = (dice.below(CLIENTS), dice.below(CLIENTS));
    let ms = now_ns / 1_000_000;
    let (ms, a, b, c) = (ms, dice.below(1 << 12), dice.below(1 << 14), dice.below(1 << 31));
    let id = format!("{:08x}-{:04x}-7{a:03x}-8{b:03x}-{c:012x}", ms >> 16, ms & 0xffff);
    let caller = Caller { name: format!("client-{from}"), admin: false, fingerprint: key_of(from) };
    let to = format!("client-{to}");
    let op = CommandOp::Send { to, id, headers: Vec::new(), body: Bytes::from_static(BODY) };
    Command { caller, gateway: "n2".to_owned(), op }
}

/// Applies one entry, as a node does with what is committed.
fn apply(
    store: &Store,
    carried: Option<Carried>,
    (index, encoded): (u64, &Bytes),
    tally: &mut Tally,
) -> anyhow::Result<Carried> {
    let begun = Instant::now();
    let batch = Batch::decode_shared(encoded.clone())?;
    let read = Instant::now();
    let view = store.at_hand();
    let mut machine = match carried {
        Some(carried) => Machine::resume(&view, carried),
        None => Machine::new(&view)?,
    };
    let outcomes = machine.apply(index, 1, Some(&batch))?;
    let (changes, carried) = machine.finish();
    let decided = Instant::now();
    for Change { table, key, value } in &changes {
        let (rows, bytes) = tally.rows.entry(*table).or_default();
        *rows += 1;
        *bytes += (key.len() + value.as_ref().map_or(0, Vec::len)) as u64;
    }
    let counted = Instant::now();
    let mark = LogMark { index, term: 1, hash: vec![0; 32] };
    let applied = AppliedState { last: Some(mark), ..AppliedState::default() };
    if let Some(applying) = store.apply_at_once(store.applying(changes, &applied, &[])?)? {
        store.apply_in_time(applying)?;
        tally.stalled += 1;
    }
    tally.missed += view.waited();
    tally.read += read - begun;
    tally.decide += decided - read;
    tally.write += counted.elapsed();
    tally.messages += outcomes.len() as u64;
    let refused = |outcome: &&Outcome| matches!(outcome, Outcome::Refused(_));
    let refused = outcomes.iter().find(refused);
    anyhow::ensure!(refused.is_none(), "a command was refused: {refused:?}");
    Ok(carried)
}

impl Tally {
    fn us(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.messages.max(1) as f64
    }

    fn cpu_us(&self) -> f64 {
        self.us(Duration::from_millis(self.cpu_ms))
    }

    fn line(&self, per_entry: u64) -> String {
        format!(
            "{per_entry:>4} messages an entry: {:>6.2} us of processor a message; reading {:.2}, \
             deciding {:.2}, writing {:.2} ({} messages; {} reads and {} writes had to wait)",
            self.cpu_us(),
            self.us(self.read),
            self.us(self.decide),
            self.us(self.write),
            self.messages,
            self.missed,
            self.stalled,
        )
    }

    /// Rows and bytes by table, a message.
    fn table(&self) -> String {
        let each = |n: u64| n as f64 / self.messages.max(1) as f64;
        let line = |(table, &(rows, bytes)): (&Table, &(u64, u64))| {
            let name = format!("{table:?}");
            format!("  {name:<10} {:>6.2} rows {:>8.1} bytes a message", each(rows), each(bytes))
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn json(&self, per_entry: u64) -> Value {
        let each = |n: u64| n as f64 / self.messages.max(1) as f64;
        let row = |(table, &(rows, bytes)): (&Table, &(u64, u64))| {
            let name = format!("{table:?}").to_lowercase();
            (name, json!({ "rows": each(rows), "bytes": each(bytes) }))
        };
        json!({
            "per_entry": per_entry,
            "messages": self.messages,
            "cpu_us": self.cpu_us(),
            "read_us": self.us(self.read),
            "decide_us": self.us(self.decide),
            "write_us": self.us(self.write),
            "entries_decided_by_disk": self.missed,
            "entries_written_late": self.stalled,
            "by_table": self.rows.iter().map(row).collect::<serde_json::Map<_, _>>(),
        })
    }
}
