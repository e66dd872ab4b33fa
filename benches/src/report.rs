//! What was measured, for people and for programs. The only place that writes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::args::Args;
use crate::figures::Figures;
use crate::load::BODY_BYTES;
use crate::machine::{Machine, Spent};

/// Version of the document.
pub(crate) const FORMAT: u32 = 1;

/// The disk alone.
#[derive(Debug)]
pub(crate) struct DiskRow {
    pub(crate) writers: usize,
    /// Before the sends or after them.
    pub(crate) when: &'static str,
    pub(crate) figures: Figures,
}

/// The network and one node, without log or disk.
#[derive(Debug)]
pub(crate) struct EchoRow {
    pub(crate) node: String,
    pub(crate) in_flight: usize,
    pub(crate) figures: Figures,
}

/// Sends through one gateway.
#[derive(Debug)]
pub(crate) struct SendRow {
    pub(crate) gateway: String,
    pub(crate) role: &'static str,
    /// Sends in flight.
    pub(crate) level: usize,
    pub(crate) figures: Figures,
    /// Terms that began meanwhile.
    pub(crate) elections: u64,
    pub(crate) same_primary: bool,
    /// Processor time, ramp-up included.
    pub(crate) spent: Spent,
    /// Sends in that time.
    pub(crate) all_sends: u64,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Machine,
    seconds: f64,
    ramp_seconds: f64,
    quick: bool,
    pub(crate) load_after: String,
    pub(crate) disk: Vec<DiskRow>,
    pub(crate) echo: Vec<EchoRow>,
    pub(crate) sends: Vec<SendRow>,
    pub(crate) elections: u64,
    /// Acknowledged messages that were looked for on every node.
    pub(crate) verified: u64,
    /// What was wrong with them.
    pub(crate) faults: Vec<String>,
}

impl SendRow {
    /// Processor time for one send, all processes together, in microseconds.
    fn cpu_us(&self) -> f64 {
        let all: u64 = self.spent.own_ms.values().sum();
        all as f64 * 1000.0 / self.all_sends.max(1) as f64
    }

    /// A line of the table.
    pub(crate) fn line(&self) -> String {
        let what = format!("send via {}, {} in flight", self.role, self.level);
        let noted = match (self.elections, self.same_primary) {
            (0, true) => String::new(),
            (elections, _) => format!("  ({elections} elections: not a calm level)"),
        };
        let others = self.spent.others_ms;
        format!("{} {:>9.0} {others:>9}{noted}", line(&what, &self.figures), self.cpu_us())
    }

    fn json(&self) -> Value {
        let mut out = self.figures.json();
        put(&mut out, "gateway", json!(self.gateway));
        put(&mut out, "role", json!(self.role));
        put(&mut out, "in_flight", json!(self.level));
        put(&mut out, "elections", json!(self.elections));
        put(&mut out, "same_primary", json!(self.same_primary));
        put(&mut out, "cpu_ms", json!(self.spent.own_ms));
        put(&mut out, "others_cpu_ms", json!(self.spent.others_ms));
        put(&mut out, "cpu_us_per_send", json!(self.cpu_us().round()));
        out
    }
}

impl Report {
    pub(crate) fn new(args: &Args, machine: Machine) -> Self {
        Self {
            machine,
            seconds: args.window.as_secs_f64(),
            ramp_seconds: args.ramp.as_secs_f64(),
            quick: args.quick,
            load_after: String::new(),
            disk: Vec::new(),
            echo: Vec::new(),
            sends: Vec::new(),
            elections: 0,
            verified: 0,
            faults: Vec::new(),
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut out = format!("\n{}\n", self.machine);
        let load = (self.machine.json(), &self.load_after);
        let before = load.0.get("load_before").and_then(Value::as_str).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{} nodes, bodies of {BODY_BYTES} bytes, {} s a level; load {before} -> {}\n",
            crate::cluster::NODES,
            self.seconds,
            load.1
        );
        let [cpu, others] = ["cpu us", "others ms"];
        let _ = writeln!(out, "{:<36}{} {cpu:>9} {others:>9}", "", Figures::headings());
        for row in &self.disk {
            let what = format!("disk {}, fdatasync, files: {}", row.when, row.writers);
            let _ = writeln!(out, "{}", line(&what, &row.figures));
        }
        for row in &self.echo {
            let what = format!("ping of {}, {} in flight", row.node, row.in_flight);
            let _ = writeln!(out, "{}", line(&what, &row.figures));
        }
        for row in &self.sends {
            let _ = writeln!(out, "{}", row.line());
        }
        let _ = writeln!(
            out,
            "\ncpu us: processor time of a send, all four processes; others ms: what everything else \
             on the machine used during the level"
        );
        let _ = writeln!(out, "elections during the run: {}", self.elections);
        let _ = match self.faults.as_slice() {
            [] => writeln!(
                out,
                "all {} acknowledged messages lie on every node, once and unchanged",
                self.verified
            ),
            faults => writeln!(out, "WRONG: {}", faults.join("; ")),
        };
        out
    }

    /// For programs. Times are in microseconds.
    fn json(&self) -> Value {
        let disk = self.disk.iter().map(|row| {
            let mut out = row.figures.json();
            put(&mut out, "files", json!(row.writers));
            put(&mut out, "when", json!(row.when));
            out
        });
        let echo = self.echo.iter().map(|row| {
            let mut out = row.figures.json();
            put(&mut out, "node", json!(row.node));
            put(&mut out, "in_flight", json!(row.in_flight));
            out
        });
        json!({
            "format": FORMAT,
            "version": env!("CARGO_PKG_VERSION"),
            "machine": self.machine.json(),
            "load_after": self.load_after,
            "nodes": crate::cluster::NODES,
            "body_bytes": BODY_BYTES,
            "seconds": self.seconds,
            "ramp_seconds": self.ramp_seconds,
            "quick": self.quick,
            "disk_append_4k_fdatasync": disk.collect::<Vec<_>>(),
            "quic_echo": echo.collect::<Vec<_>>(),
            "sends": self.sends.iter().map(SendRow::json).collect::<Vec<_>>(),
            "elections": self.elections,
            "verified": self.verified,
            "faults": self.faults,
        })
    }

    /// Writes the document to a file, or to standard output.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn write(&self, to: Option<&Path>) -> anyhow::Result<()> {
        write(&self.json(), to)
    }
}

/// Writes a document to a file, or to standard output.
///
/// # Errors
/// When that fails.
pub(crate) fn write(document: &Value, to: Option<&Path>) -> anyhow::Result<()> {
    let text = format!("{document:#}\n");
    match to {
        Some(path) => std::fs::write(path, text).with_context(|| path.display().to_string()),
        None => std::io::stdout().write_all(text.as_bytes()).context("standard output"),
    }
}

fn line(what: &str, figures: &Figures) -> String {
    format!("{what:<36}{}", figures.columns())
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// A line for people.
pub(crate) fn say(text: &str) {
    // Nobody can be told that the terminal is gone.
    let _ = writeln!(std::io::stderr(), "{text}");
}
