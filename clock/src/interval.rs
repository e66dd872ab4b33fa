//! A closed interval of offsets, and how it ages.

/// A closed interval `[lo, hi]` of offsets from the local scale, in nanoseconds.
///
/// Invariant: `lo <= hi`. Arithmetic saturates, and always towards the wider interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    lo_ns: i64,
    hi_ns: i64,
}

impl Interval {
    /// The interval between two offsets; `None` if they are in the wrong order.
    #[must_use]
    pub fn new(lo_ns: i64, hi_ns: i64) -> Option<Self> {
        (lo_ns <= hi_ns).then_some(Self { lo_ns, hi_ns })
    }

    /// The interval that reaches `radius_ns` to both sides of `mid_ns`.
    #[must_use]
    pub fn around(mid_ns: i64, radius_ns: u64) -> Self {
        Self { lo_ns: mid_ns, hi_ns: mid_ns }.grown(radius_ns)
    }

    /// Lower end, nanoseconds.
    #[must_use]
    pub fn lo_ns(self) -> i64 {
        self.lo_ns
    }

    /// Upper end, nanoseconds.
    #[must_use]
    pub fn hi_ns(self) -> i64 {
        self.hi_ns
    }

    /// The same interval widened by `by_ns` on both sides.
    #[must_use]
    #[inline]
    pub fn grown(self, by_ns: u64) -> Self {
        self.stretched(by_ns, by_ns)
    }

    /// The same interval with its lower end moved down and its upper end moved up.
    #[must_use]
    pub fn stretched(self, down_ns: u64, up_ns: u64) -> Self {
        Self {
            lo_ns: self.lo_ns.saturating_sub_unsigned(down_ns),
            hi_ns: self.hi_ns.saturating_add_unsigned(up_ns),
        }
    }

    /// What both intervals contain; `None` if they are disjoint. A common end counts.
    #[must_use]
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.lo_ns.max(other.lo_ns), self.hi_ns.min(other.hi_ns))
    }

    /// The smallest interval that contains both.
    #[must_use]
    pub fn cover(self, other: Self) -> Self {
        Self { lo_ns: self.lo_ns.min(other.lo_ns), hi_ns: self.hi_ns.max(other.hi_ns) }
    }

    /// Whether the offset lies inside, ends included.
    #[must_use]
    pub fn contains(self, offset_ns: i64) -> bool {
        (self.lo_ns..=self.hi_ns).contains(&offset_ns)
    }

    /// The offset in the interval that is nearest to the given one.
    #[must_use]
    pub fn clamp(self, offset_ns: i64) -> i64 {
        offset_ns.clamp(self.lo_ns, self.hi_ns)
    }

    /// The middle, rounded down.
    #[must_use]
    pub fn mid_ns(self) -> i64 {
        self.lo_ns.midpoint(self.hi_ns)
    }

    /// Length, nanoseconds.
    #[must_use]
    pub fn width_ns(self) -> u64 {
        self.hi_ns.abs_diff(self.lo_ns)
    }
}

/// How far a clock with a rate error of `ppb` parts per billion may move in `elapsed_ns`, in
/// nanoseconds, rounded up.
#[must_use]
#[inline]
pub fn drift_ns(elapsed_ns: u64, ppb: u64) -> u64 {
    // Ten hours at the largest allowance fit 64 bits, and wider division is slow.
    if let Some(exact) = elapsed_ns.checked_mul(ppb) {
        return exact.div_ceil(1_000_000_000);
    }
    let exact = u128::from(elapsed_ns) * u128::from(ppb);
    u64::try_from(exact.div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
}
