//! Families and samples, and their text by prometheus-client.
//!
//! Its text form for Prometheus, not the one called OpenMetrics: Debian's `promtool check metrics` refuses
//! the latter, for its line with the type of a counter lacks `_total`.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Seen;

/// What a family's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A sum since the node started.
    Counter,
    /// How many were how long, or how large.
    Histogram,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// All values of one name.
#[derive(Debug)]
pub struct Family {
    /// Its name, without the `_total` that a counter is shown with.
    pub(super) stem: &'static str,
    /// What it is, in one sentence.
    pub help: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// Whether it is about the node that tells it, and not about the cluster: it then has a label `node`.
    pub of_node: bool,
    /// Its other labels.
    pub labels: &'static [&'static str],
    pub(super) read: fn(&Seen) -> Vec<Sample>,
}

impl Family {
    /// About the cluster, as the node sees it.
    pub(super) const fn of_cluster(
        stem: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        read: fn(&Seen) -> Vec<Sample>,
    ) -> Self {
        Self { stem, help, kind: Kind::Gauge, of_node: false, labels, read }
    }

    /// About the node.
    pub(super) const fn of_node(
        (kind, stem): (Kind, &'static str),
        help: &'static str,
        labels: &'static [&'static str],
        read: fn(&Seen) -> Vec<Sample>,
    ) -> Self {
        Self { stem, help, kind, of_node: true, labels, read }
    }

    /// Its name, without the `_total` that a counter is shown with.
    #[must_use]
    pub fn stem(&self) -> &'static str {
        self.stem
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.stem),
            Kind::Gauge | Kind::Histogram => self.stem.to_owned(),
        }
    }
}

/// One value, with those of the family's labels but `node`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    labels: Vec<String>,
    value: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Whole(u64),
    Signed(i64),
    Real(f64),
    Buckets(Buckets),
}

/// A histogram: the upper end of each bucket with its count, not summed up, the last one endless.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Buckets {
    pub(super) sum: f64,
    pub(super) counts: Vec<(f64, u64)>,
}

impl Sample {
    fn of(value: Value) -> Self {
        Self { labels: Vec::new(), value }
    }

    pub(super) fn whole(value: u64) -> Self {
        Self::of(Value::Whole(value))
    }

    pub(super) fn signed(value: i64) -> Self {
        Self::of(Value::Signed(value))
    }

    pub(super) fn real(value: f64) -> Self {
        Self::of(Value::Real(value))
    }

    pub(super) fn flag(is: bool) -> Self {
        Self::whole(is.into())
    }

    /// Nanoseconds, shown as seconds.
    pub(super) fn nanos(ns: i128) -> Self {
        Self::real(ns as f64 / 1e9)
    }

    /// Microseconds, shown as seconds.
    pub(super) fn micros(us: u64) -> Self {
        Self::real(us as f64 / 1e6)
    }

    pub(super) fn buckets(buckets: Buckets) -> Self {
        Self::of(Value::Buckets(buckets))
    }

    pub(super) fn with(mut self, label: impl Into<String>) -> Self {
        self.labels.push(label.into());
        self
    }
}

/// The text of these families, those without samples left out.
pub(super) fn write(node: &str, families: Vec<(&'static Family, Vec<Sample>)>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Told { node: node.to_owned(), families }));
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = prometheus_text::encode(&mut out, &registry);
    out
}

#[derive(Debug)]
struct Told {
    node: String,
    families: Vec<(&'static Family, Vec<Sample>)>,
}

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (family, samples) in &self.families {
            if samples.is_empty() {
                continue;
            }
            let kind = match family.kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Counter => MetricType::Counter,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(family.stem, family.help, None, kind)?;
            let own = family.of_node.then_some(("node", self.node.as_str()));
            for sample in samples {
                let values = sample.labels.iter().map(String::as_str);
                let others = family.labels.iter().copied().zip(values);
                let labels: Vec<(&str, &str)> = own.into_iter().chain(others).collect();
                sample.value.write(family.kind, metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Value {
    fn write(&self, kind: Kind, mut metric: MetricEncoder<'_>) -> fmt::Result {
        match (self, kind) {
            (Self::Whole(value), Kind::Counter) => {
                metric.encode_counter::<NoLabelSet, _, u64>(value, None)
            }
            (Self::Real(value), Kind::Counter) => {
                metric.encode_counter::<NoLabelSet, _, u64>(value, None)
            }
            (Self::Whole(value), Kind::Gauge) => metric.encode_gauge(value),
            (Self::Signed(value), Kind::Gauge) => metric.encode_gauge(value),
            (Self::Real(value), Kind::Gauge) => metric.encode_gauge(value),
            (Self::Buckets(Buckets { sum, counts }), Kind::Histogram) => {
                let count = counts.iter().map(|(_, count)| count).sum();
                metric.encode_histogram::<NoLabelSet>(*sum, count, counts, None)
            }
            // A table entry whose reader gives something else: the test of the table finds it.
            (Self::Signed(_), Kind::Counter)
            | (Self::Whole(_) | Self::Signed(_) | Self::Real(_), Kind::Histogram)
            | (Self::Buckets(_), Kind::Gauge | Kind::Counter) => Ok(()),
        }
    }
}
