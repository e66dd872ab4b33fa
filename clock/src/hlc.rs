//! The hybrid logical clock value: 64 bits of nanoseconds and 32 bits of logical count.
//!
//! Source: Kulkarni et al., "Logical Physical Clocks" (OPODIS 2014), with the two parts kept apart
//! instead of packed into 64 bits, so that nanoseconds survive.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, SecondsFormat};

const NS_PER_MS: u64 = 1_000_000;
/// Least number of digits of the milliseconds in an id.
const ID_DIGITS: usize = 13;

/// A hybrid logical clock value. Ordered by `ns`, then by `logical`; byte order, text order and
/// value order agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc {
    /// Nanoseconds since 1970-01-01T00:00:00Z; good until the year 2554.
    pub ns: u64,
    /// Count within the nanosecond.
    pub logical: u32,
}

/// Why a text is not a clock value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HlcError {
    /// Neither of the text forms, nor 24 hexadecimal digits.
    #[error(
        "'{0}' is not a stamp: it looks like 2026-11-21T01:30:45.123456789Z~0000002a or \
         1795224645123-1961893816172586, or is 24 hexadecimal digits"
    )]
    Form(String),
    /// A date before 1970 or after 2554.
    #[error("'{0}' lies outside 1970 to 2554")]
    Range(String),
}

impl Hlc {
    /// The smallest value; never the stamp of a record.
    pub const ZERO: Self = Self { ns: 0, logical: 0 };
    /// The largest value.
    pub const MAX: Self = Self { ns: u64::MAX, logical: u32::MAX };
    /// Length of the byte form.
    pub const BYTES: usize = 12;

    /// The first value of a nanosecond.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self { ns, logical: 0 }
    }

    /// The next value. `MAX` stays `MAX`.
    #[must_use]
    pub fn succ(self) -> Self {
        match self.logical.checked_add(1) {
            Some(logical) => Self { ns: self.ns, logical },
            None => match self.ns.checked_add(1) {
                Some(ns) => Self { ns, logical: 0 },
                None => Self::MAX,
            },
        }
    }

    /// The value `n` steps on.
    #[must_use]
    pub fn advance(self, n: u64) -> Self {
        if let Some(logical) = u32::try_from(n).ok().and_then(|n| self.logical.checked_add(n)) {
            return Self { ns: self.ns, logical };
        }
        let logical = u128::from(self.logical) + u128::from(n);
        let ns = u128::from(self.ns) + (logical >> 32);
        match u64::try_from(ns) {
            Ok(ns) => Self { ns, logical: u32::try_from(logical & 0xffff_ffff).unwrap_or(0) },
            Err(_) => Self::MAX,
        }
    }

    /// Big-endian bytes: `ns` then `logical`.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        let (ns, logical) = out.split_at_mut(8);
        ns.copy_from_slice(&self.ns.to_be_bytes());
        logical.copy_from_slice(&self.logical.to_be_bytes());
        out
    }

    /// Reads big-endian bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        Self {
            ns: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            logical: u32::from_be_bytes([i, j, k, l]),
        }
    }

    /// Reads big-endian bytes of any length; `None` unless there are exactly twelve.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_bytes)
    }

    /// The 24 hexadecimal digits of the byte form.
    #[must_use]
    pub fn to_hex(self) -> String {
        format!("{:016x}{:08x}", self.ns, self.logical)
    }

    /// The form of a Redis stream's id: milliseconds since 1970, in at least 13 digits, and within
    /// the millisecond the nanoseconds shifted by 32 bits and the count. Ordered as two numbers.
    #[must_use]
    pub fn to_id(self) -> String {
        let (ms, ns) = (self.ns / NS_PER_MS, self.ns % NS_PER_MS);
        format!("{ms:013}-{}", ns << 32 | u64::from(self.logical))
    }

    /// Reads the form of [`Hlc::to_id`]; `None` if the text is not of it. Fewer than 13 digits
    /// could be the beginning of a date.
    fn from_id(text: &str) -> Option<Self> {
        let (ms, within) = text.split_once('-')?;
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if ms.len() < ID_DIGITS || !digits(ms) || !digits(within) {
            return None;
        }
        let (ms, within) = (ms.parse::<u64>().ok()?, within.parse::<u64>().ok()?);
        let within_ns = within >> 32;
        let ns = ms.checked_mul(NS_PER_MS)?.checked_add(within_ns)?;
        let logical = u32::try_from(within & 0xffff_ffff).ok()?;
        (within_ns < NS_PER_MS).then_some(Self { ns, logical })
    }
}

/// `2026-11-21T01:30:45.123456789Z~0000002a`: fixed width, sorts as text.
impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{:08x}", utc_text(self.ns), self.logical)
    }
}

impl FromStr for Hlc {
    type Err = HlcError;

    fn from_str(text: &str) -> Result<Self, HlcError> {
        let form = || HlcError::Form(text.chars().take(80).collect());
        if text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            let value = u128::from_str_radix(text, 16).map_err(|_| form())?;
            return Ok(Self {
                ns: u64::try_from(value >> 32).map_err(|_| form())?,
                logical: u32::try_from(value & 0xffff_ffff).map_err(|_| form())?,
            });
        }
        if let Some(hlc) = Self::from_id(text) {
            return Ok(hlc);
        }
        let (time, logical) = text.split_once('~').ok_or_else(form)?;
        if logical.len() != 8 || !logical.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(form());
        }
        let logical = u32::from_str_radix(logical, 16).map_err(|_| form())?;
        Ok(Self { ns: parse_utc(time)?, logical })
    }
}

/// RFC 3339 text of nanoseconds since 1970, in UTC with nine decimals.
#[must_use]
pub fn utc_text(ns: u64) -> String {
    let secs = i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX);
    let nanos = u32::try_from(ns % 1_000_000_000).unwrap_or(0);
    DateTime::from_timestamp(secs, nanos)
        .map_or_else(|| ns.to_string(), |t| t.to_rfc3339_opts(SecondsFormat::Nanos, true))
}

/// Seconds since 1970 as `2026-11-21 01:30:45 UTC`; `None` if no calendar goes that far.
#[must_use]
pub fn date_text(unix_s: i64) -> Option<String> {
    let time = DateTime::from_timestamp(unix_s, 0)?;
    Some(time.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// Reads an RFC 3339 time (any offset, any number of decimals) as nanoseconds since 1970.
///
/// # Errors
/// When the text is not RFC 3339 or lies outside 1970 to 2554.
pub fn parse_utc(text: &str) -> Result<u64, HlcError> {
    let short = || text.chars().take(80).collect::<String>();
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| HlcError::Form(short()))?;
    let range = || HlcError::Range(short());
    if !(1970..=2554).contains(&time.year()) {
        return Err(range());
    }
    let secs = u64::try_from(time.timestamp()).map_err(|_| range())?;
    secs.checked_mul(1_000_000_000)
        .and_then(|ns| ns.checked_add(u64::from(time.timestamp_subsec_nanos())))
        .ok_or_else(range)
}
