//! Times of many like things, and what is said of them.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longest time that is told apart from longer ones, in nanoseconds.
const LONGEST_NS: u64 = 120 * 1_000_000_000;
/// Decimal digits of a time that are kept.
const DIGITS: u8 = 3;

/// Counts while it is measured. Each worker has its own, so that nothing is shared meanwhile.
#[derive(Debug)]
pub(crate) struct Tally {
    times: Histogram<u64>,
    in_window: u64,
    errors: BTreeMap<String, u64>,
}

/// What came of it. Times are in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// Begun in the window and done well.
    pub(crate) done: u64,
    /// Ended well within the window, by its length.
    pub(crate) per_second: f64,
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
    /// Begun in the window and not done: why, and how many.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let times = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS)?;
        Ok(Self { times, in_window: 0, errors: BTreeMap::new() })
    }

    /// Something was done in `time`; `in_window` if it also ended before the window did.
    pub(crate) fn note(&mut self, time: Duration, in_window: bool) {
        self.times.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(LONGEST_NS));
        self.in_window += u64::from(in_window);
    }

    /// Something ended in the window that began before it.
    pub(crate) fn note_end(&mut self) {
        self.in_window += 1;
    }

    /// Something was not done.
    pub(crate) fn fail(&mut self, why: String) {
        *self.errors.entry(why).or_default() += 1;
    }

    /// Adds what another worker counted.
    ///
    /// # Errors
    /// Never, as all have the same bounds.
    pub(crate) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.times.add(&other.times)?;
        self.in_window += other.in_window;
        for (why, count) in &other.errors {
            *self.errors.entry(why.clone()).or_default() += count;
        }
        Ok(())
    }

    pub(crate) fn figures(&self, window: Duration) -> Figures {
        let at = |quantile| self.times.value_at_quantile(quantile);
        Figures {
            done: self.times.len(),
            per_second: self.in_window as f64 / window.as_secs_f64(),
            mean: self.times.mean(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: self.times.max(),
            errors: self.errors.clone(),
        }
    }
}

impl Figures {
    /// For the document: microseconds.
    pub(crate) fn json(&self) -> Value {
        let us = |ns: u64| ns as f64 / 1000.0;
        json!({
            "count": self.done,
            "per_second": (self.per_second * 10.0).round() / 10.0,
            "mean_us": (self.mean / 100.0).round() / 10.0,
            "p50_us": us(self.p50),
            "p99_us": us(self.p99),
            "p999_us": us(self.p999),
            "max_us": us(self.max),
            "errors": self.errors,
        })
    }

    /// For the table: rate and milliseconds.
    pub(crate) fn columns(&self) -> String {
        let ms = |ns: u64| format!("{:.2}", ns as f64 / 1e6);
        let (p50, p99, p999, max) = (ms(self.p50), ms(self.p99), ms(self.p999), ms(self.max));
        let errors: u64 = self.errors.values().sum();
        let rate = self.per_second;
        format!("{rate:>10.0} {p50:>9} {p99:>9} {p999:>9} {max:>9} {errors:>7}")
    }

    /// Headings of [`Figures::columns`].
    pub(crate) fn headings() -> String {
        let [rate, p50, p99, p999, max, errors] =
            ["per s", "p50 ms", "p99 ms", "p999 ms", "max ms", "errors"];
        format!("{rate:>10} {p50:>9} {p99:>9} {p999:>9} {max:>9} {errors:>7}")
    }
}
