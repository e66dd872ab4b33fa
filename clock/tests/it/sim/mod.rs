//! A simulated machine, network and time servers around a clock: the same seed, the same run.
//!
//! ```text
//! machine  a raw counter that drifts against UTC, and may miss time
//! server   what a server answers: honest, lying in some way, kissing, silent
//! world    lets servers be asked as the schedule says, and time pass in between
//! audit    looks at the clock after every step and counts what it should not have said
//! assembled  the tracker's parts put together again, with one rule exchanged
//! ```

pub(crate) mod assembled;
pub(crate) mod audit;
pub(crate) mod machine;
pub(crate) mod server;
pub(crate) mod world;

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const MILLI: u64 = 1_000_000;
pub(crate) const MICRO: u64 = 1_000;

/// Random numbers by SplitMix64: small, and the same everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Numbers for a seed; `salt` keeps streams of one seed apart.
    pub(crate) fn new(seed: u64, salt: u64) -> Self {
        let mut random = Self(seed ^ salt.wrapping_mul(0xA076_1D64_78BD_642F));
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `lo` to `hi`, ends included.
    pub(crate) fn within(&mut self, lo: i64, hi: i64) -> i64 {
        let span = hi.abs_diff(lo) + 1;
        lo.checked_add_unsigned(self.next() % span).unwrap()
    }

    pub(crate) fn upto(&mut self, hi: u64) -> u64 {
        self.next() % (hi + 1)
    }

    /// Whether something that happens `percent` times in a hundred happens.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}
