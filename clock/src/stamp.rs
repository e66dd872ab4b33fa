//! A stamp: a clock value and how far true time may lie to either side of it.

use std::fmt;

use crate::hlc::Hlc;

/// A clock value with asymmetric bounds. True time of stamping lies in
/// `[hlc - early, hlc + late]`, if the clock's stated conditions held.
///
/// Two numbers, because a clock value may be pushed ahead of the reading by a token or a floor: a
/// symmetric error would then let disjoint intervals order falsely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp {
    /// The place in the order.
    pub hlc: Hlc,
    /// Microseconds that true time may lie before `hlc`; [`Stamp::UNKNOWN`] if nobody knows.
    pub early_us: u32,
    /// Microseconds that true time may lie after `hlc`; [`Stamp::UNKNOWN`] if nobody knows.
    pub late_us: u32,
}

impl Stamp {
    /// A bound that nobody knows.
    pub const UNKNOWN: u32 = u32::MAX;
    /// Length of the byte form.
    pub const BYTES: usize = 20;

    /// A stamp whose bounds nobody knows.
    #[must_use]
    pub const fn unbounded(hlc: Hlc) -> Self {
        Self { hlc, early_us: Self::UNKNOWN, late_us: Self::UNKNOWN }
    }

    /// Earliest true time, nanoseconds since 1970; `None` if not known.
    #[must_use]
    pub fn earliest_ns(self) -> Option<u64> {
        let early = (self.early_us != Self::UNKNOWN).then_some(self.early_us)?;
        Some(self.hlc.ns.saturating_sub(u64::from(early) * 1000))
    }

    /// Latest true time, nanoseconds since 1970; `None` if not known.
    #[must_use]
    pub fn latest_ns(self) -> Option<u64> {
        let late = (self.late_us != Self::UNKNOWN).then_some(self.late_us)?;
        Some(self.hlc.ns.saturating_add(u64::from(late) * 1000))
    }

    /// The same instant moved up to `hlc`: `early` grows by the difference, rounded up, so the
    /// interval still reaches as far back. A value that is not later changes nothing.
    #[must_use]
    pub fn raised_to(self, hlc: Hlc) -> Self {
        if hlc <= self.hlc {
            return self;
        }
        let ahead_us = (hlc.ns - self.hlc.ns).div_ceil(1000);
        let early_us = if self.early_us == Self::UNKNOWN {
            Self::UNKNOWN
        } else {
            let sum = u64::from(self.early_us).saturating_add(ahead_us);
            u32::try_from(sum).unwrap_or(Self::UNKNOWN)
        };
        Self { hlc, early_us, late_us: self.late_us }
    }

    /// The ratchet: the stamp itself if it is later than `last`, else raised to the next value.
    /// Applied to every record, it makes log order and stamp order one.
    #[must_use]
    pub fn ratcheted(self, last: Hlc) -> Self {
        let stamp = if self.hlc > last { self } else { self.raised_to(last.succ()) };
        assert!(stamp.hlc > last || last == Hlc::MAX, "{stamp} does not follow {last}");
        stamp
    }

    /// Big-endian bytes: clock value, `early_us`, `late_us`.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        let (hlc, bounds) = out.split_at_mut(Hlc::BYTES);
        hlc.copy_from_slice(&self.hlc.to_bytes());
        let (early, late) = bounds.split_at_mut(4);
        early.copy_from_slice(&self.early_us.to_be_bytes());
        late.copy_from_slice(&self.late_us.to_be_bytes());
        out
    }

    /// Reads big-endian bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = bytes;
        Self {
            hlc: Hlc::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l]),
            early_us: u32::from_be_bytes([m, n, o, p]),
            late_us: u32::from_be_bytes([q, r, s, t]),
        }
    }
}

/// The clock value, then the bounds in milliseconds: `… -1.900/+0.800 ms`, or `±unknown`.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u32| format!("{}.{:03}", us / 1000, us % 1000);
        match (self.early_us, self.late_us) {
            (Self::UNKNOWN, _) | (_, Self::UNKNOWN) => write!(f, "{} ±unknown", self.hlc),
            (early, late) => write!(f, "{} -{}/+{} ms", self.hlc, ms(early), ms(late)),
        }
    }
}

const _: () = assert!(Stamp::BYTES == Hlc::BYTES + 2 * size_of::<u32>());
