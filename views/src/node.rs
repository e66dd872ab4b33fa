//! The nodes as the live list has them, in the forms that are shown.

use proto::wire::{NodeRow, Scrubbing};
use serde::Serialize;

use crate::certificate::CertLeft;
use crate::health::{ClockHealth, clock_health};
use crate::show::{Cell, Show, Tone};

/// One node of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeLine {
    name: String,
    /// The name again, under which the status has it.
    id: String,
    role: String,
    /// What was last noticed of it.
    state: String,
    reason: Option<String>,
    up: bool,
    voter: bool,
    priority: u32,
    drained: bool,
    serves: bool,
    incarnation: u64,
    address: String,
    applied: u64,
    lag: u64,
    version: String,
    clock: Clock,
    certificate: Option<CertLeft>,
    signs: bool,
    scrub: Option<Scrub>,
}

/// The list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodesView {
    n: usize,
    nodes: Vec<NodeLine>,
}

impl NodesView {
    /// These nodes.
    #[must_use]
    pub fn new(nodes: Vec<NodeLine>) -> Self {
        Self { n: nodes.len(), nodes }
    }
}

/// How far its disk was read again, in search of damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Scrub {
    read_bytes: u64,
    of_bytes: u64,
    rounds: u64,
    last_round_age_s: Option<u64>,
}

impl From<Scrubbing> for Scrub {
    fn from(told: Scrubbing) -> Self {
        let Scrubbing { read_bytes, of_bytes, rounds, last_round_age_s } = told;
        Self { read_bytes, of_bytes, rounds, last_round_age_s }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Clock {
    state: String,
    error_bound_us: Option<u64>,
}

impl NodeLine {
    /// A node, seen at an instant.
    #[must_use]
    pub fn new(row: &NodeRow, now_unix_s: i64) -> Self {
        let answers = if row.up { "up" } else { "down" };
        let clock = Clock { state: row.clock_state.clone(), error_bound_us: row.error_bound_us };
        Self {
            name: row.name.clone(),
            id: row.name.clone(),
            role: row.role.clone(),
            // Before the first primary nobody has noticed anything.
            state: if row.state.is_empty() { answers.to_owned() } else { row.state.clone() },
            reason: Some(row.reason.clone()).filter(|reason| !reason.is_empty()),
            up: row.up,
            voter: row.voter,
            priority: row.priority,
            drained: row.drained,
            serves: row.serves,
            incarnation: row.incarnation,
            address: row.address.clone(),
            applied: row.applied,
            lag: row.lag,
            version: row.version.clone(),
            clock,
            certificate: CertLeft::of(row, now_unix_s),
            signs: row.signs,
            scrub: row.scrub.map(Scrub::from),
        }
    }

    /// `joined`, `left (stopped)`, `joined, drained`.
    fn state_text(&self) -> String {
        let reason = self.reason.as_ref().map(|reason| format!(" ({reason})"));
        let drained = if self.drained { ", drained" } else { "" };
        format!("{}{}{drained}", self.state, reason.unwrap_or_default())
    }

    fn state_tone(&self) -> Tone {
        match self.state.as_str() {
            "joined" | "up" if self.drained => Tone::Warning,
            "joined" | "up" => Tone::Good,
            "admitted" | "suspect" => Tone::Warning,
            _ => Tone::Bad,
        }
    }
}

impl Show for NodeLine {
    fn headings() -> &'static [&'static str] {
        &[
            "NAME", "ROLE", "STATE", "VOTER", "PRIORITY", "ADDRESS", "APPLIED", "LAG", "CLOCK",
            "BOUND", "CERT",
        ]
    }

    fn row(&self) -> Vec<Cell> {
        let clock = match clock_health(&self.clock.state) {
            ClockHealth::Fine => Tone::Neutral,
            ClockHealth::Degraded => Tone::Warning,
            ClockHealth::Untrusted => Tone::Bad,
        };
        let bound = self.clock.error_bound_us;
        let bound = bound.map(|us| format!("±{}.{:03} ms", us / 1000, us % 1000));
        vec![
            self.name.as_str().into(),
            self.role.as_str().into(),
            Cell::toned(self.state_text(), self.state_tone()),
            if self.voter { "yes" } else { "no" }.into(),
            self.priority.to_string().into(),
            self.address.as_str().into(),
            self.applied.to_string().into(),
            self.lag.to_string().into(),
            Cell::toned(self.clock.state.as_str(), clock),
            bound.as_deref().unwrap_or("-").into(),
            CertLeft::cell(self.certificate.as_ref()),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.role.clone(),
            self.state.clone(),
            self.voter.to_string(),
            self.priority.to_string(),
            self.address.clone(),
            self.applied.to_string(),
            self.lag.to_string(),
            self.clock.state.clone(),
            self.clock.error_bound_us.map(|us| us.to_string()).unwrap_or_default(),
            CertLeft::plain(self.certificate.as_ref()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::Shape;
    use crate::show::tests::shown;

    /// Meant to catch what answers in the place of what was noticed.
    #[test]
    fn what_was_noticed_is_told_and_before_that_what_answers() {
        let row = NodeRow {
            name: "n3".into(),
            role: "unknown".into(),
            voter: true,
            priority: 3,
            clock_state: "local".into(),
            ..NodeRow::default()
        };
        let left = NodeRow { state: "left".into(), reason: "stopped".into(), ..row.clone() };
        let line = |row: &NodeRow, shape| shown(shape, &[NodeLine::new(row, 0)]);
        assert_eq!(line(&left, Shape::Plain), "n3\tunknown\tleft\ttrue\t3\t\t0\t0\tlocal\t\t\n");
        assert!(line(&left, Shape::Table).contains("left (stopped)"));
        assert!(line(&row, Shape::Ndjson).contains(r#""state":"down","reason":null,"up":false"#));
        let drained = NodeRow { state: "joined".into(), drained: true, ..row };
        assert!(line(&drained, Shape::Table).contains("joined, drained"));
    }
}
