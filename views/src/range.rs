//! Times as people write them, after `--since` and `--until` or in a URL, and as `date` does: `date -Ins` with its
//! comma, `date +%FT%T%z` with an offset without a colon, `date +@%s`. Days are those of UTC.
//!
//! A client's clock may be wrong by hours, so nothing here reads it: times relative to now are
//! resolved by the node that serves the read.

use std::str::FromStr;

use chrono::NaiveDate;
use clock::Hlc;
use clock::hlc::parse_utc;
use proto::wire::{Instant, TimePoint};

const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;

/// A time in one of the accepted forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// A stamp, or a time without logical part.
    Exact(Hlc),
    /// Nanoseconds before the node's now.
    Ago(u64),
    /// Midnight UTC, so many days before the one that the node's now lies in.
    Midnight(u64),
}

/// Why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WhenError {
    /// None of the forms.
    #[error(
        "expected a time: 2026-11-21T01:30:45Z or with an offset, 2026-11-21 (in UTC), @1795224645, \
         10m (before now), now, today, yesterday, or a stamp such as \
         2026-11-21T01:30:45.123456789Z~0000002a"
    )]
    Form,
    /// A form, but outside of what a stamp can say.
    #[error("expected a time between 1970 and 2554")]
    Range,
}

/// A range that ends before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("'until' lies before 'since'")]
pub struct Reversed;

impl FromStr for When {
    type Err = WhenError;

    fn from_str(text: &str) -> Result<Self, WhenError> {
        match text {
            "now" => return Ok(Self::Ago(0)),
            "today" => return Ok(Self::Midnight(0)),
            "yesterday" => return Ok(Self::Midnight(1)),
            _ => {}
        }
        if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            let seconds = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
            let ns = u64::try_from(seconds).ok().and_then(|s| s.checked_mul(1_000_000_000));
            return ns.map(|ns| Self::Exact(Hlc::from_ns(ns))).ok_or(WhenError::Range);
        }
        if let Some(seconds) = text.strip_prefix('@') {
            return epoch(seconds).map(|ns| Self::Exact(Hlc::from_ns(ns)));
        }
        if let Ok(stamp) = text.parse() {
            return Ok(Self::Exact(stamp));
        }
        match parse_utc(&rfc3339(text)) {
            Ok(ns) => return Ok(Self::Exact(Hlc::from_ns(ns))),
            Err(clock::hlc::HlcError::Range(_)) => return Err(WhenError::Range),
            Err(clock::hlc::HlcError::Form(_)) => {}
        }
        // A length of time has a unit; zero alone would be the one number that has none.
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(WhenError::Form);
        }
        let ago = humantime::parse_duration(text).map_err(|_| WhenError::Form)?;
        u64::try_from(ago.as_nanos()).map(Self::Ago).map_err(|_| WhenError::Range)
    }
}

/// Seconds since 1970, with or without decimals, as nanoseconds.
fn epoch(text: &str) -> Result<u64, WhenError> {
    let (seconds, decimals) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(seconds) || !digits(decimals) {
        return Err(WhenError::Form);
    }
    let decimals = format!("{:0<9}", decimals.chars().take(9).collect::<String>());
    let decimals: u64 = decimals.parse().map_err(|_| WhenError::Form)?;
    let seconds: u64 = seconds.parse().map_err(|_| WhenError::Range)?;
    let ns = seconds.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(decimals));
    ns.ok_or(WhenError::Range)
}

/// ISO 8601 as RFC 3339 has it: a point before the decimals, a colon in the offset.
fn rfc3339(text: &str) -> String {
    let text = text.replacen(',', ".", 1);
    // The signs before the time of day are those of the date.
    let offset = text.find([':']).and_then(|time| {
        let rest = text.get(time..)?;
        Some(time + rest.rfind(['+', '-'])? + 1)
    });
    let (Some(at), true) = (offset, text.is_ascii()) else { return text };
    let (time, digits) = text.split_at(at);
    match digits.len() {
        2 => format!("{time}{digits}:00"),
        4 if !digits.contains(':') => {
            let (hours, minutes) = digits.split_at(2);
            format!("{time}{hours}:{minutes}")
        }
        _ => text,
    }
}

impl When {
    /// Whether the node's now is needed to say which instant this is.
    #[must_use]
    pub fn needs_now(self) -> bool {
        matches!(self, Self::Midnight(_))
    }

    /// Whether it depends on now.
    #[must_use]
    pub fn is_relative(self) -> bool {
        !matches!(self, Self::Exact(_))
    }

    /// The instant, by a clock that reads `now_ns`.
    #[must_use]
    pub fn hlc(self, now_ns: u64) -> Hlc {
        match self {
            Self::Exact(hlc) => hlc,
            Self::Ago(ns) => Hlc::from_ns(now_ns.saturating_sub(ns)),
            Self::Midnight(days) => {
                let day = (now_ns / DAY_NS).saturating_sub(days);
                Hlc::from_ns(day.saturating_mul(DAY_NS))
            }
        }
    }

    /// The wire form. `now_ns` is the reading of a node's clock, used for midnights only.
    #[must_use]
    pub fn resolve(self, now_ns: u64) -> TimePoint {
        let at = match self {
            Self::Ago(ns) => Instant::AgoNs(ns),
            Self::Exact(_) | Self::Midnight(_) => {
                Instant::Hlc(self.hlc(now_ns).to_bytes().to_vec())
            }
        };
        TimePoint { at: Some(at) }
    }

    /// Nanoseconds before now: at least and at most. `None` for an exact time.
    fn ago_range(self) -> Option<(u64, u64)> {
        match self {
            Self::Exact(_) => None,
            Self::Ago(ns) => Some((ns, ns)),
            Self::Midnight(days) => {
                let least = days.saturating_mul(DAY_NS);
                Some((least, least.saturating_add(DAY_NS)))
            }
        }
    }
}

/// Refuses a range that ends before it begins, as far as that can be known before a node is asked.
///
/// # Errors
/// When it does.
pub fn check_order(since: Option<When>, until: Option<When>) -> Result<(), Reversed> {
    let (Some(since), Some(until)) = (since, until) else { return Ok(()) };
    let reversed = match (since, until) {
        (When::Exact(since), When::Exact(until)) => until < since,
        (When::Midnight(since), When::Midnight(until)) => until > since,
        _ => match (since.ago_range(), until.ago_range()) {
            (Some((_, since_most)), Some((until_least, _))) => until_least > since_most,
            _ => false,
        },
    };
    if reversed {
        return Err(Reversed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> Hlc {
        match text.parse() {
            Ok(When::Exact(hlc)) => hlc,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(exact("1970-01-02"), Hlc::from_ns(DAY_NS));
        assert_eq!(exact("1970-01-02T00:00:00Z"), Hlc::from_ns(DAY_NS));
        assert_eq!(exact("1970-01-02T01:00:00+01:00"), Hlc::from_ns(DAY_NS));
        let stamp = Hlc { ns: 1_795_224_645_123_456_789, logical: 42 };
        assert_eq!(exact("2026-11-21T01:30:45.123456789Z~0000002a"), stamp);
        assert_eq!(exact(&stamp.to_hex()), stamp);
        // What `date -Ins`, `date +%FT%T%z`, `date --rfc-3339=ns` and `date +@%s.%N` print. Meant
        // to catch any of them taken for no time.
        let half = Hlc::from_ns(DAY_NS + 500_000_000);
        for text in [
            "1970-01-02T01:00:00,500000000+01:00",
            "1970-01-01T23:00:00.5-0100",
            "1970-01-02T02:00:00,5+02",
            "1970-01-02 00:00:00.500000000+00:00",
            "@86400.5",
            "@86400,500000000999",
        ] {
            assert_eq!(exact(text), half, "{text}");
        }
        assert_eq!(exact("@0"), Hlc::from_ns(0));
        assert_eq!("10m".parse(), Ok(When::Ago(600_000_000_000)));
        assert_eq!("1h 30m".parse(), Ok(When::Ago(5_400_000_000_000)));
        assert_eq!("now".parse(), Ok(When::Ago(0)));
        assert_eq!("today".parse(), Ok(When::Midnight(0)));
        assert_eq!("yesterday".parse(), Ok(When::Midnight(1)));
    }

    #[test]
    fn anything_else_says_what_was_expected() {
        for bad in [
            "",
            "soon",
            "2026-13-01",
            "2026-11-21T25:00:00Z",
            "10",
            "0",
            "00",
            "-10m",
            "10 parsecs",
            "@",
            "@-1",
            "@1.",
            "@x",
            "@1 ",
            "2026-11-21T01:30:45",
            "2026-11-21T01:30:45+1",
            "2026-11-21T01:30:45+01000",
            "2026-11-21T01:30:45+é",
            "10m,5",
        ] {
            let error = bad.parse::<When>().unwrap_err();
            assert!(error.to_string().starts_with("expected a time"), "{bad}: {error}");
        }
        assert_eq!("1969-12-31".parse::<When>(), Err(WhenError::Range));
        assert_eq!("9999-12-31T00:00:00Z".parse::<When>(), Err(WhenError::Range));
        assert_eq!("9999-12-31".parse::<When>(), Err(WhenError::Range));
        assert_eq!("@99999999999".parse::<When>(), Err(WhenError::Range));
        assert_eq!("@99999999999999999999".parse::<When>(), Err(WhenError::Range));
        assert_eq!("1000years".parse::<When>(), Err(WhenError::Range));
    }

    #[test]
    fn midnight_is_the_nodes_own() {
        let noon = 20_000 * DAY_NS + DAY_NS / 2;
        let midnight = |days| When::Midnight(days).resolve(noon);
        let exact = |ns| When::Exact(Hlc::from_ns(ns)).resolve(0);
        assert_eq!(midnight(0), exact(20_000 * DAY_NS));
        assert_eq!(midnight(1), exact(19_999 * DAY_NS));
        assert_eq!(When::Midnight(1).hlc(noon), Hlc::from_ns(19_999 * DAY_NS));
        assert_eq!(When::Ago(5).hlc(noon), Hlc::from_ns(noon - 5));
        assert_eq!(When::Ago(u64::MAX).hlc(noon), Hlc::ZERO);
    }

    #[test]
    fn reversed_ranges_are_refused() {
        let check = |since: &str, until: &str| {
            check_order(Some(since.parse().unwrap()), Some(until.parse().unwrap()))
        };
        for (since, until) in [
            ("2026-11-21", "2026-11-20"),
            ("10m", "20m"),
            ("now", "1s"),
            ("today", "yesterday"),
            ("10m", "yesterday"),
            ("today", "3days"),
        ] {
            assert_eq!(check(since, until), Err(Reversed), "{since} {until}");
        }
        for (since, until) in [
            ("2026-11-20", "2026-11-21"),
            ("2026-11-20", "2026-11-20"),
            ("20m", "10m"),
            ("yesterday", "today"),
            ("yesterday", "30h"),
            ("2026-11-20", "10m"),
        ] {
            assert!(check(since, until).is_ok(), "{since} {until}");
        }
    }
}
