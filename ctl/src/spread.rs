//! Spreading requests over gateways: which policy a command has, and who answered how often.

use net::Spread;
use proto::member::ring_order;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::cli::Policy;
use crate::error::CtlError;
use crate::out::{Cell, Out, Shape, Show, Tone};

impl Policy {
    /// The policy, for a key.
    pub(crate) fn over(self, key: &str) -> Spread {
        match self {
            Self::Home => Spread::Home,
            Self::Rr => Spread::RoundRobin,
            Self::Primary => Spread::Primary,
            Self::Hash => Spread::Hash(key.to_owned()),
            Self::Random => Spread::Random,
        }
    }
}

/// Who answered how often, in the order of the ring.
#[derive(Debug, Default)]
pub(crate) struct Counts(Vec<(String, u64)>);

impl Counts {
    /// These nodes, with nothing yet: who got no request is shown too.
    pub(crate) fn of(names: impl IntoIterator<Item = String>) -> Self {
        let mut counts = Self::default();
        names.into_iter().for_each(|name| counts.add(&name, 0));
        counts
    }

    /// Adds to a node's count.
    pub(crate) fn add(&mut self, node: &str, count: u64) {
        match self.0.binary_search_by(|(name, _)| ring_order(name, node)) {
            Ok(at) => self.0.iter_mut().skip(at).take(1).for_each(|(_, own)| *own += count),
            Err(at) => self.0.insert(at, (node.to_owned(), count)),
        }
    }

    /// The counts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, count) in &self.0 {
            map.serialize_entry(name, count)?;
        }
        map.end()
    }
}

/// What became of several requests.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    spread: &'static str,
    requests: u64,
    counts: Counts,
    failed: u64,
    /// Attempts that brought no answer; the requests went on elsewhere.
    retried: u64,
    #[serde(skip)]
    first: Option<CtlError>,
}

/// One line of it.
#[derive(Debug, Serialize)]
struct Line {
    gateway: String,
    requests: u64,
    share: f64,
}

impl Report {
    /// Nothing yet.
    pub(crate) fn new(spread: &Spread) -> Self {
        let spread = match spread {
            Spread::Home => "home",
            Spread::RoundRobin => "rr",
            Spread::Primary => "primary",
            Spread::Hash(_) => "hash",
            Spread::Random => "random",
        };
        Self { spread, requests: 0, counts: Counts::default(), failed: 0, retried: 0, first: None }
    }

    /// A request was answered.
    pub(crate) fn answered(&mut self, gateway: &str, retried: u32) {
        self.requests += 1;
        self.retried += u64::from(retried);
        self.counts.add(gateway, 1);
    }

    /// A request failed.
    pub(crate) fn failed(&mut self, error: CtlError) {
        self.requests += 1;
        self.failed += 1;
        self.first.get_or_insert(error);
    }

    /// Nodes that got no request are shown too.
    pub(crate) fn know(&mut self, nodes: Vec<String>) {
        nodes.iter().for_each(|node| self.counts.add(node, 0));
    }

    /// Shows it.
    pub(crate) fn show(&self, out: &mut Out) -> Result<(), CtlError> {
        match out.shape() {
            Shape::Json => out.json(self)?,
            Shape::Ndjson => out.json_line(self)?,
            Shape::Table | Shape::Plain | Shape::Raw => {
                let total = self.counts.total().max(1);
                let lines: Vec<Line> = self
                    .counts
                    .iter()
                    .map(|(gateway, requests)| Line {
                        gateway: gateway.to_owned(),
                        requests,
                        share: percent(requests, total),
                    })
                    .collect();
                out.list(&lines)?;
            }
        }
        out.note(&format!(
            "{} requests over {}: {} failed, {} attempts went on elsewhere",
            self.requests, self.spread, self.failed, self.retried
        ));
        Ok(())
    }

    /// The end of the command: an error if any request failed, with the code of the first.
    pub(crate) fn verdict(self) -> Result<(), CtlError> {
        match self.first {
            None => Ok(()),
            Some(first) if self.requests == 1 => Err(first),
            Some(first) => Err(CtlError::refused(
                first.exit_code(),
                format!("{} of {} failed; the first: {}", self.failed, self.requests, first.line()),
                first.hint(),
            )),
        }
    }
}

/// A part of a whole.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    let exact = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    if whole == 0 { 0.0 } else { 100.0 * exact(part) / exact(whole) }
}

impl Show for Line {
    fn headings() -> &'static [&'static str] {
        &["GATEWAY", "REQUESTS", "SHARE"]
    }

    fn row(&self) -> Vec<Cell> {
        let tone = if self.requests == 0 { Tone::Warning } else { Tone::Neutral };
        vec![
            self.gateway.as_str().into(),
            Cell::toned(self.requests.to_string(), tone),
            format!("{:.1} %", self.share).into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![self.gateway.clone(), self.requests.to_string(), format!("{:.1}", self.share)]
    }
}

#[cfg(test)]
mod tests {
    use proto::ExitCode;

    use super::*;
    use crate::out::tests::captured;

    fn report() -> Report {
        let mut report = Report::new(&Spread::RoundRobin);
        for gateway in ["n10", "n1", "n1"] {
            report.answered(gateway, 0);
        }
        report.answered("n1", 1);
        report.know(vec!["n2".to_owned(), "n1".to_owned()]);
        report
    }

    #[test]
    fn a_report_counts_by_node_in_the_order_of_the_ring() {
        let (mut out, seen) = captured(Shape::Ndjson, false);
        report().show(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(seen.take()).unwrap(),
            "{\"spread\":\"rr\",\"requests\":4,\"counts\":{\"n1\":3,\"n2\":0,\"n10\":1},\
             \"failed\":0,\"retried\":1}\n"
        );
        let (mut out, seen) = captured(Shape::Plain, false);
        report().show(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(seen.take()).unwrap(),
            "n1\t3\t75.0\nn2\t0\t0.0\nn10\t1\t25.0\n"
        );
    }

    #[test]
    fn any_failure_is_one_of_the_command() {
        assert!(report().verdict().is_ok());
        let mut report = report();
        report.failed(CtlError::refused(ExitCode::NoQuorum, "no majority", "logctl status"));
        report.failed(CtlError::refused(ExitCode::Unreachable, "nobody", "look"));
        let error = report.verdict().unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::NoQuorum);
        assert!(error.line().contains("2 of 6 failed"), "{}", error.line());
    }
}
