//! What was measured, for people and for programs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::args::Args;
use crate::figures::Figures;
use crate::systems::Kind;

/// Version of the document.
const FORMAT: u32 = 1;

/// One turn of a system.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) round: usize,
    pub(crate) kind: Kind,
    pub(crate) in_flight: usize,
    pub(crate) figures: Figures,
    /// Processor time of its three nodes and of the client, µs a request.
    pub(crate) cpu_us: f64,
}

impl Row {
    /// A line while it runs.
    pub(crate) fn line(&self) -> String {
        let Self { round, kind, in_flight, figures, cpu_us } = self;
        let what = format!("round {}, {in_flight} in flight, {}", round + 1, kind.name());
        format!("{what:<46}{} {cpu_us:>8.0}", figures.columns())
    }
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Report {
    in_flight: Vec<usize>,
    body_bytes: usize,
    seconds: f64,
    rounds: usize,
    /// Each round's p50 of the disk and of a round trip, nanoseconds.
    pub(crate) floor: Vec<(u64, u64)>,
    pub(crate) rows: Vec<Row>,
}

/// Medians of the rounds.
struct Medians {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
}

impl Report {
    pub(crate) fn new(args: &Args) -> Self {
        let (in_flight, rounds) = (args.in_flight.clone(), args.rounds);
        let (body_bytes, seconds) = (args.body_bytes, args.window.as_secs_f64());
        Self { in_flight, body_bytes, seconds, rounds, floor: Vec::new(), rows: Vec::new() }
    }

    fn medians(&self, kind: Kind, in_flight: usize) -> Medians {
        let rows = || self.rows.iter().filter(|row| row.kind == kind && row.in_flight == in_flight);
        let of = |figure: fn(&Row) -> f64| median(rows().map(figure).collect());
        Medians {
            per_second: of(|row| row.figures.per_second),
            p50_us: of(|row| row.figures.p50 as f64 / 1000.0),
            p99_us: of(|row| row.figures.p99 as f64 / 1000.0),
            cpu_us: of(|row| row.cpu_us),
        }
    }

    /// The disk and a round trip, medians of the rounds in microseconds.
    fn floor_us(&self) -> (f64, f64) {
        let of = |figure: fn(&(u64, u64)) -> u64| {
            median(self.floor.iter().map(|both| figure(both) as f64 / 1000.0).collect())
        };
        (of(|(disk, _)| *disk), of(|(_, echo)| *echo))
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let (disk, echo) = self.floor_us();
        let Self { body_bytes, rounds, seconds, .. } = self;
        // Writing to a string does not fail.
        let mut out = format!(
            "\nthree nodes of each, bodies of {body_bytes} bytes, medians of {rounds} turns of {seconds} s\n\
             the disk alone: {disk:.0} us a fdatasync; a datagram and back: {echo:.0} us\n\n"
        );
        let [rate, p50, p99, cpu] = ["per s", "p50 us", "p99 us", "cpu us"];
        let [faster, sooner] = ["logd's rate", "logd's p50"];
        let _ = writeln!(
            out,
            "{:<34}{rate:>9} {p50:>9} {p99:>9} {cpu:>8} {faster:>13} {sooner:>13}",
            ""
        );
        for &in_flight in &self.in_flight {
            let ours = self.medians(Kind::Logd, in_flight);
            for kind in Kind::ALL {
                let m = self.medians(kind, in_flight);
                let what = format!("{in_flight:>5} in flight  {}", kind.name());
                let ratio = |ours: f64, theirs: f64| format!("{:.2} x", ours / theirs);
                let beside = match kind {
                    Kind::Logd => String::new(),
                    Kind::Etcd | Kind::NatsLazy | Kind::NatsSync => format!(
                        " {:>13} {:>13}",
                        ratio(ours.per_second, m.per_second),
                        ratio(ours.p50_us, m.p50_us)
                    ),
                };
                let Medians { per_second, p50_us, p99_us, cpu_us } = m;
                let _ = writeln!(
                    out,
                    "{what:<34}{per_second:>9.0} {p50_us:>9.0} {p99_us:>9.0} {cpu_us:>8.0}{beside}"
                );
            }
            out.push('\n');
        }
        out.push_str("cpu us: processor time of a request, three nodes and the client\n\n");
        for kind in Kind::ALL {
            let _ = writeln!(out, "{:<20} {}", kind.name(), kind.promise());
        }
        out
    }

    /// Writes the document to a file, or to standard output.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn write(&self, to: Option<&Path>) -> anyhow::Result<()> {
        let (disk, echo) = self.floor_us();
        let rows = self.rows.iter().map(|row| {
            json!({
                "system": row.kind.name(), "round": row.round, "in_flight": row.in_flight,
                "cpu_us": row.cpu_us, "figures": row.figures.json(),
            })
        });
        let medians = self.in_flight.iter().flat_map(|&in_flight| {
            Kind::ALL.map(|kind| {
                let m = self.medians(kind, in_flight);
                json!({
                    "system": kind.name(), "in_flight": in_flight, "per_second": m.per_second,
                    "p50_us": m.p50_us, "p99_us": m.p99_us, "cpu_us": m.cpu_us,
                })
            })
        });
        let document = json!({
            "format": FORMAT,
            "body_bytes": self.body_bytes,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "disk_append_4k_fdatasync_p50_us": disk,
            "udp_echo_p50_us": echo,
            "promises": Kind::ALL.map(|kind| json!({"system": kind.name(), "promise": kind.promise()})),
            "medians": medians.collect::<Vec<_>>(),
            "turns": rows.collect::<Vec<Value>>(),
        });
        let text = format!("{document:#}\n");
        match to {
            Some(path) => std::fs::write(path, text).with_context(|| path.display().to_string()),
            None => std::io::stdout().write_all(text.as_bytes()).context("standard output"),
        }
    }
}

/// The middle one, or between the two in the middle.
fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    let half = all.len() / 2;
    let at = |index: usize| all.get(index).copied().unwrap_or(f64::NAN);
    if all.len() % 2 == 1 { at(half) } else { (at(half.wrapping_sub(1)) + at(half)) / 2.0 }
}
