//! The drift guard: how fast may true time move against the raw counter? Measured, not assumed.
//!
//! Every bound ages by the drift allowance `phi`. An assumed one is wrong for some machine, and then
//! all bounds are. So each server gives an upper bound `u` on the drift: what its offset moved by
//! between an old sample and the newest, plus the error of both, over the time between. Of `N`
//! servers `f` may lie; the `(f+1)`-th smallest `u` is at least the bound of one honest server, and
//! liars alone cannot raise it beyond an honest one. A margin covers what the drift wanders by within
//! the time that was measured.
//!
//! An oscillator that becomes another at once is not covered. It shows in samples that contradict each
//! other, and soon in hulls that contradict the bound. Allowing for more drift then would be no help:
//! the bound may be wrong already, and wide intervals would agree with it for longer.
//!
//! Not here: which servers are fresh (`tracker`).

use std::collections::VecDeque;

use crate::sample::Sample;
use crate::select::liars_max;

/// What the drift may differ by from its mean over the time that is measured, parts per billion.
pub const WANDER_PPB: u64 = 15_000;
/// Smallest allowance, parts per billion: a clock that drifts little today may drift more tomorrow.
pub const PHI_MIN_PPB: u64 = 50_000;
/// Largest allowance, and the one as long as nothing is measured, parts per billion. No oscillator
/// worth the name drifts more.
pub const PHI_MAX_PPB: u64 = 500_000;
/// Time between the samples that are kept for measuring, nanoseconds.
const SPACING_NS: u64 = 64 * 1_000_000_000;
/// Longest time that is measured over, if it holds a sample to measure from, nanoseconds.
const BASE_MAX_NS: u64 = 1024 * 1_000_000_000;
/// Longest time that is measured over for a server that is asked rarely, nanoseconds.
const BASE_RARE_MAX_NS: u64 = 2 * BASE_MAX_NS;
/// Shortest time that is measured over, nanoseconds.
const BASE_MIN_NS: u64 = 60 * 1_000_000_000;

/// What one server says of the drift.
#[derive(Debug, Clone, Default)]
pub struct Drift {
    /// Old samples, oldest first, each at least [`SPACING_NS`] after the one before.
    anchors: VecDeque<Sample>,
    measure: Option<Measure>,
}

/// What two samples of an honest server say of the drift between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// The drift, either way, as if both samples were exact, parts per billion.
    pub rate_ppb: u64,
    /// The largest that it may be, parts per billion.
    pub bound_ppb: u64,
}

impl Drift {
    /// Takes the server's newest sample and measures against the oldest that is kept.
    pub fn add(&mut self, sample: Sample) {
        let base_ns = |anchor: &Sample| sample.raw_ns.saturating_sub(anchor.raw_ns);
        while let Some(oldest) = self.anchors.front() {
            let next_serves = self.anchors.get(1).is_some_and(|next| base_ns(next) >= BASE_MIN_NS);
            let too_old = base_ns(oldest) > BASE_MAX_NS && next_serves;
            if !too_old && base_ns(oldest) <= BASE_RARE_MAX_NS {
                break;
            }
            self.anchors.pop_front();
        }
        self.measure = self.anchors.front().and_then(|oldest| Measure::between(oldest, &sample));
        if self.anchors.back().is_none_or(|last| base_ns(last) >= SPACING_NS) {
            self.anchors.push_back(sample);
        }
    }

    /// Forgets everything: the raw counter missed something, so offsets cannot be compared.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What its samples say; `None` until they span a minute.
    #[must_use]
    pub fn measure(&self) -> Option<Measure> {
        self.measure
    }
}

impl Measure {
    /// `None` if the samples are too close.
    fn between(old: &Sample, new: &Sample) -> Option<Self> {
        let base_ns = new.raw_ns.checked_sub(old.raw_ns).filter(|ns| *ns >= BASE_MIN_NS)?;
        let moved_ns = u128::from(new.theta_ns.abs_diff(old.theta_ns));
        let error_ns = u128::from(old.lambda_ns) + u128::from(new.lambda_ns);
        let ppb = |ns: u128| {
            let exact = (ns * 1_000_000_000).div_ceil(u128::from(base_ns));
            u64::try_from(exact).unwrap_or(u64::MAX)
        };
        let (rate_ppb, bound_ppb) = (ppb(moved_ns), ppb(moved_ns + error_ns));
        assert!(rate_ppb <= bound_ppb, "a rate of {rate_ppb} beyond its bound of {bound_ppb}");
        Some(Self { rate_ppb, bound_ppb })
    }
}

/// What the fresh servers together say, given what each says, with the margin, parts per billion;
/// `None` if fewer than `f + 1` of them say anything.
#[must_use]
pub fn measured_ppb(each_ppb: &[u64], configured: usize) -> Option<u64> {
    let mut sorted = each_ppb.to_vec();
    sorted.sort_unstable();
    sorted.get(liars_max(configured)).map(|ppb| ppb.saturating_add(WANDER_PPB))
}

/// The allowance that follows from the servers' bounds together, parts per billion.
#[must_use]
pub fn allowance_ppb(measured_ppb: Option<u64>) -> u64 {
    measured_ppb.map_or(PHI_MAX_PPB, |ppb| ppb.clamp(PHI_MIN_PPB, PHI_MAX_PPB))
}

const _: () = assert!(WANDER_PPB < PHI_MIN_PPB && PHI_MIN_PPB < PHI_MAX_PPB);
const _: () = assert!(BASE_MIN_NS < BASE_MAX_NS, "what is too short to measure over is kept");
const _: () = assert!(SPACING_NS < BASE_MAX_NS, "two places lie within one base");
