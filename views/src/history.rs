//! What the bounds of each node's clock were, from the clock events in the log.
//!
//! Each entry speaks of the time since the node's entry before it. The rows of a node tile the
//! range: no gap, no overlap. Time that no entry speaks of is a row without data, and where two
//! entries speak of the same time, which happens only when a clock was set back between two runs,
//! the worse one counts.
//!
//! Not here: reading the log.

use std::collections::BTreeMap;

use clock::hlc::utc_text;
use clock::{ClockState, Hlc};
use proto::Record;
use proto::event::{ClockCause, ClockEvent};
use proto::wire::Read;
use serde::Serialize;

use crate::range::When;
use crate::show::{Cell, Show, Tone};

/// What a node is expected to write at least this often, unless it was seen to take longer.
const EXPECTED_NS: u64 = 60_000_000_000;

/// One entry of a node's history, with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it says.
    pub event: ClockEvent,
    /// Its record.
    pub seq: u64,
    /// The stamp of its record.
    pub stamp: String,
}

/// Whether a time was within the tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// For sure, as far as the bounds held.
    Yes,
    /// The bound was larger.
    No,
    /// There was no bound, or nobody says.
    Unknown,
}

impl Within {
    /// The word in the report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// A part of a node's time. Nanoseconds since 1970, without `to_ns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its beginning.
    pub from_ns: u64,
    /// Its end.
    pub to_ns: u64,
    /// State of the clock, or `no data`.
    pub state: String,
    /// Largest error bound, microseconds; `None` if it was unknown at some moment.
    pub worst_error_us: Option<u64>,
    /// Whether that is within the tolerance.
    pub within: Within,
    /// Why the record was written; empty without a record.
    pub cause: &'static str,
    /// One sentence for a person.
    pub reason: String,
    /// Seq and stamp of the record that says so.
    pub proof: Option<(u64, String)>,
}

/// The time to report on. Nanoseconds since 1970, without the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// `None`: from the first entry on.
    pub since_ns: Option<u64>,
    /// `None`: up to the last entry, unless it is older than the node's entries should be.
    pub until_ns: Option<u64>,
    /// Now. Nothing is reported of what comes.
    pub now_ns: u64,
}

/// An entry about a range is written after it: how much later it is still looked for.
const LATE_NS: u64 = 24 * 3600 * 1_000_000_000;
/// Clocks may differ: how much earlier than its time an entry may be stamped.
const EARLY_NS: u64 = 3600 * 1_000_000_000;

impl Range {
    /// What to read to find every entry that may speak of it.
    #[must_use]
    pub fn asks(self) -> Read {
        let point = |ns: u64| When::Exact(Hlc::from_ns(ns)).resolve(0);
        let until_ns = self.until_ns.map(|ns| ns.saturating_add(LATE_NS));
        Read {
            since: self.since_ns.map(|ns| point(ns.saturating_sub(EARLY_NS))),
            until: until_ns.filter(|&ns| ns < self.now_ns).map(point),
            to: proto::Stream::Events.to_string(),
            ..Read::default()
        }
    }
}

/// Takes the clock event out of a record; `None` if it holds none.
///
/// # Errors
/// When the record is one, and cannot be read, or speaks of another node than its writer.
pub fn entry(record: &Record) -> Result<Option<Entry>, String> {
    let at = |reason: &str| format!("record {} is left out: {reason}", record.seq);
    let event = ClockEvent::of(record).map_err(|error| at(&error.to_string()))?;
    let Some(event) = event else { return Ok(None) };
    if event.node != record.from {
        return Err(at(&format!("{} wrote of the clock of {}", record.from, event.node)));
    }
    let stamp = record.hlc().map_err(|error| at(&error.to_string()))?.to_string();
    Ok(Some(Entry { event, seq: record.seq, stamp }))
}

/// The rows of one node, whose entries are given in the order of the log.
pub fn rows(entries: &[Entry], range: Range, tolerance_us: u64) -> Vec<Row> {
    let spans = spans(entries);
    let Some((since_ns, until_ns)) = bounds(&spans, entries, range) else { return Vec::new() };
    let mut pieces: Vec<(u64, u64, Option<&Entry>)> = Vec::new();
    for (from_ns, to_ns, entry) in tiles(&spans, since_ns, until_ns) {
        match pieces.last_mut() {
            Some((_, end_ns, last)) if same(*last, entry) => *end_ns = to_ns,
            _ => pieces.push((from_ns, to_ns, entry)),
        }
    }
    let row = |&(from_ns, to_ns, entry): &(u64, u64, Option<&Entry>)| match entry {
        Some(entry) => proven(entry, from_ns, to_ns, tolerance_us),
        None => silent(entries, &spans, from_ns, to_ns),
    };
    pieces.iter().map(row).collect()
}

/// The time that an entry speaks of.
#[derive(Debug, Clone, Copy)]
struct Span<'a> {
    from_ns: u64,
    to_ns: u64,
    entry: &'a Entry,
}

/// The times that the entries speak of, by their beginning. An unsynced clock has no idea when it
/// was started, so it speaks of no time before the node's last entry.
fn spans(entries: &[Entry]) -> Vec<Span<'_>> {
    let mut spans = Vec::with_capacity(entries.len());
    let mut before_ns = 0;
    for entry in entries {
        let event = &entry.event;
        let unsynced = ClockState::Unsynced.as_str();
        let from_ns =
            if event.was == unsynced { event.since_ns.max(before_ns) } else { event.since_ns };
        if from_ns < event.until_ns {
            spans.push(Span { from_ns, to_ns: event.until_ns, entry });
        }
        if event.state != unsynced {
            before_ns = event.until_ns;
        }
    }
    spans.sort_by_key(|span| (span.from_ns, span.entry.seq));
    spans
}

/// The range with its open ends closed; `None` if nothing lies in it.
fn bounds(spans: &[Span<'_>], entries: &[Entry], range: Range) -> Option<(u64, u64)> {
    let first_ns = || entries.iter().map(|e| e.event.since_ns.min(e.event.until_ns)).min();
    let since_ns = match range.since_ns {
        Some(since_ns) => since_ns,
        None => spans.first().map(|span| span.from_ns).or_else(first_ns)?,
    };
    let until_ns = match range.until_ns {
        Some(until_ns) => until_ns.min(range.now_ns),
        None => {
            let last_ns = entries.iter().map(|entry| entry.event.until_ns).max();
            let overdue_ns = expected_ns(spans).saturating_mul(2);
            match last_ns {
                Some(last_ns) if range.now_ns.saturating_sub(last_ns) <= overdue_ns => last_ns,
                _ => range.now_ns,
            }
        }
    };
    (since_ns < until_ns).then_some((since_ns, until_ns))
}

/// How often this node writes an entry when nothing happens.
fn expected_ns(spans: &[Span<'_>]) -> u64 {
    let regular = |span: &&Span<'_>| span.entry.event.cause == ClockCause::History;
    let longest = spans.iter().filter(regular).map(|span| span.to_ns - span.from_ns).max();
    longest.unwrap_or(0).max(EXPECTED_NS)
}

/// The range cut at every beginning and end, each piece with the worst entry that speaks of it.
fn tiles<'a>(
    spans: &[Span<'a>],
    since_ns: u64,
    until_ns: u64,
) -> Vec<(u64, u64, Option<&'a Entry>)> {
    let inside = |ns: &u64| (since_ns..until_ns).contains(ns);
    let mut cuts: Vec<u64> =
        spans.iter().flat_map(|span| [span.from_ns, span.to_ns]).filter(inside).collect();
    cuts.extend([since_ns, until_ns]);
    cuts.sort_unstable();
    cuts.dedup();
    let mut coming = spans.iter().peekable();
    let mut open: Vec<Span<'a>> = Vec::new();
    let mut tiles = Vec::with_capacity(cuts.len());
    for (&from_ns, &to_ns) in cuts.iter().zip(cuts.iter().skip(1)) {
        while let Some(span) = coming.next_if(|span| span.from_ns <= from_ns) {
            open.push(*span);
        }
        open.retain(|span| span.to_ns > from_ns);
        let worst = open.iter().max_by_key(|span| {
            let error_us = span.entry.event.worst_error_us;
            (error_us.is_none(), error_us, span.entry.seq)
        });
        tiles.push((from_ns, to_ns, worst.map(|span| span.entry)));
    }
    tiles
}

fn same(one: Option<&Entry>, other: Option<&Entry>) -> bool {
    one.map(|entry| entry.seq) == other.map(|entry| entry.seq)
}

fn proven(entry: &Entry, from_ns: u64, to_ns: u64, tolerance_us: u64) -> Row {
    let event = &entry.event;
    let within = match event.worst_error_us {
        Some(us) if us <= tolerance_us => Within::Yes,
        Some(_) => Within::No,
        None => Within::Unknown,
    };
    Row {
        from_ns,
        to_ns,
        state: event.was.clone(),
        worst_error_us: event.worst_error_us,
        within,
        cause: event.cause.as_str(),
        reason: event.text.clone(),
        proof: Some((entry.seq, entry.stamp.clone())),
    }
}

/// A time that no entry speaks of.
fn silent(entries: &[Entry], spans: &[Span<'_>], from_ns: u64, to_ns: u64) -> Row {
    let next = entries.iter().find(|entry| entry.event.until_ns >= to_ns);
    let reason = match next {
        _ if spans.iter().all(|span| span.from_ns >= to_ns) && next.is_some() => {
            "before the first entry".to_owned()
        }
        Some(entry) => format!("no entry before the one at its {}", entry.event.cause.as_str()),
        None if entries.is_empty() => "no entry at all".to_owned(),
        None => "after the last entry".to_owned(),
    };
    Row {
        from_ns,
        to_ns,
        state: "no data".to_owned(),
        worst_error_us: None,
        within: Within::Unknown,
        cause: "",
        reason,
        proof: None,
    }
}

/// How long a node was how good. Nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    within_ns: u64,
    above_ns: u64,
    unknown_ns: u64,
}

impl Sum {
    /// Adds up the rows of a node.
    pub fn of(rows: &[Row]) -> Self {
        let mut sum = Self::default();
        for row in rows {
            let length_ns = row.to_ns - row.from_ns;
            match row.within {
                Within::Yes => sum.within_ns += length_ns,
                Within::No => sum.above_ns += length_ns,
                Within::Unknown => sum.unknown_ns += length_ns,
            }
        }
        sum
    }

    /// Whether it was good all the time, and there was a time.
    pub fn is_good(self) -> bool {
        self.within_ns > 0 && self.above_ns == 0 && self.unknown_ns == 0
    }

    /// `3 s above 50ms, 12 s unknown`.
    pub fn sentence(self, tolerance: &str) -> String {
        let parts = [
            (self.above_ns, format!("above {tolerance}")),
            (self.unknown_ns, "unknown".to_owned()),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(ns, _)| *ns > 0)
            .map(|(ns, what)| format!("{} {what}", seconds(ns)))
            .collect();
        match parts.as_slice() {
            [] if self.within_ns > 0 => {
                format!("{} within {tolerance}", seconds(self.within_ns))
            }
            [] => "no clock history".to_owned(),
            parts => parts.join(", "),
        }
    }
}

/// Seconds, with decimals only where there are some, rounded up.
fn seconds(ns: u64) -> String {
    let ms = ns.div_ceil(1_000_000);
    match ms % 1000 {
        0 => format!("{} s", ms / 1000),
        rest => format!("{}.{rest:03} s", ms / 1000),
    }
}

/// The entries of each node, in the order of the log.
pub fn by_node(entries: Vec<Entry>) -> BTreeMap<String, Vec<Entry>> {
    let mut nodes: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        nodes.entry(entry.event.node.clone()).or_default().push(entry);
    }
    nodes
}

/// Columns of the report as a file.
pub const COLUMNS: [&str; 11] = [
    "node",
    "from",
    "to",
    "state",
    "worst_error_us",
    "tolerance_us",
    "within",
    "cause",
    "reason",
    "seq",
    "stamp",
];

/// One row of the report.
#[derive(Debug, Clone, Serialize)]
pub struct RowView {
    node: String,
    from: String,
    to: String,
    state: String,
    worst_error_us: Option<u64>,
    tolerance_us: u64,
    within: &'static str,
    cause: &'static str,
    reason: String,
    seq: Option<u64>,
    stamp: Option<String>,
}

impl RowView {
    /// A row of a node's report.
    #[must_use]
    pub fn new(node: &str, row: Row, tolerance_us: u64) -> Self {
        let (seq, stamp) = row.proof.unzip();
        Self {
            node: node.to_owned(),
            from: utc_text(row.from_ns),
            to: utc_text(row.to_ns),
            state: row.state,
            worst_error_us: row.worst_error_us,
            tolerance_us,
            within: row.within.as_str(),
            cause: row.cause,
            reason: row.reason,
            seq,
            stamp,
        }
    }
}

impl Show for RowView {
    fn headings() -> &'static [&'static str] {
        &["NODE", "FROM", "TO", "STATE", "WORST_US", "WITHIN", "CAUSE", "SEQ", "REASON"]
    }

    fn row(&self) -> Vec<Cell> {
        let tone = match self.within {
            "yes" => Tone::Good,
            "no" => Tone::Bad,
            _ => Tone::Warning,
        };
        let known = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
        vec![
            self.node.as_str().into(),
            self.from.as_str().into(),
            self.to.as_str().into(),
            self.state.as_str().into(),
            known(self.worst_error_us).into(),
            Cell::toned(self.within, tone),
            self.cause.into(),
            known(self.seq).into(),
            self.reason.as_str().into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
        vec![
            self.node.clone(),
            self.from.clone(),
            self.to.clone(),
            self.state.clone(),
            number(self.worst_error_us),
            self.tolerance_us.to_string(),
            self.within.to_owned(),
            self.cause.to_owned(),
            self.reason.clone(),
            number(self.seq),
            self.stamp.clone().unwrap_or_default(),
        ]
    }
}

#[cfg(test)]
#[path = "history_test.rs"]
mod tests;
