//! The last samples of one server, seen together.

use std::collections::VecDeque;

use crate::interval::Interval;
use crate::sample::Sample;

/// Samples kept per server.
pub const SAMPLES_MAX: usize = 8;
/// Oldest sample that is used, nanoseconds.
pub const SAMPLE_AGE_MAX_NS: u64 = 1024 * 1_000_000_000;

/// The last samples of one server, oldest first.
///
/// Each says where true time lies; if the server is honest, all are right, so their intersection
/// is too, and it is at least as narrow as the narrowest.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    samples: VecDeque<Sample>,
}

/// What a server's samples say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Where true time lies, if the server is honest; offsets from the local scale.
    pub interval: Interval,
    /// Whether the samples contradict each other; then the interval is that of the newest.
    pub inconsistent: bool,
}

impl Filter {
    /// Adds a sample and drops the oldest beyond [`SAMPLES_MAX`].
    pub fn add(&mut self, sample: Sample) {
        self.samples.push_back(sample);
        while self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
        assert!(self.newest() == Some(&sample), "the newest sample is always kept");
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.samples.clear();
    }

    /// Forgets all samples but the newest.
    pub fn forget_old(&mut self) {
        let newest = self.samples.pop_back();
        self.samples.clear();
        self.samples.extend(newest);
    }

    /// The newest sample.
    #[must_use]
    pub fn newest(&self) -> Option<&Sample> {
        self.samples.back()
    }

    /// Raw counter up to which the newest sample may be used, nanoseconds.
    #[must_use]
    pub fn fresh_until_ns(&self) -> Option<u64> {
        self.newest().map(|sample| sample.raw_ns.saturating_add(SAMPLE_AGE_MAX_NS))
    }

    /// The intersection at a value of the raw counter; `None` if no sample is young enough.
    #[must_use]
    pub fn estimate(&self, raw_ns: u64, phi_ppb: u64) -> Option<Estimate> {
        let mut young = self
            .samples
            .iter()
            .rev()
            .filter(|sample| raw_ns.saturating_sub(sample.raw_ns) <= SAMPLE_AGE_MAX_NS)
            .map(|sample| sample.interval_at(raw_ns, phi_ppb));
        let newest = young.next()?;
        let common = young.try_fold(newest, Interval::intersect);
        Some(Estimate { interval: common.unwrap_or(newest), inconsistent: common.is_none() })
    }
}
