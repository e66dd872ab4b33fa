//! What a load has to reach, as people write it after `--target`: `p99=5ms`, `max=1s`, `rate=5000`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

const FORMS: &str = "expected p99=5ms (any percentile), max=1s or rate=5000 (messages a second)";

/// A figure and how good it has to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Target {
    /// So many in a hundred messages take at most so long.
    Percentile(f64, Duration),
    /// Every message takes at most so long.
    Longest(Duration),
    /// At least so many messages are acknowledged a second.
    Rate(f64),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, limit) = text.split_once('=').ok_or(FORMS)?;
        let time = || humantime::parse_duration(limit).map_err(|error| format!("{limit}: {error}"));
        match what {
            "max" => time().map(Self::Longest),
            "rate" => {
                let rate = limit.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
                rate.map(Self::Rate).ok_or_else(|| format!("{limit}: expected messages a second"))
            }
            _ => {
                let percent = what.strip_prefix('p').and_then(|digits| digits.parse().ok());
                let percent = percent.filter(|percent: &f64| *percent > 0.0 && *percent < 100.0);
                Ok(Self::Percentile(percent.ok_or(FORMS)?, time()?))
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percentile(percent, limit) => {
                write!(f, "p{percent}={}", humantime::format_duration(*limit))
            }
            Self::Longest(limit) => write!(f, "max={}", humantime::format_duration(*limit)),
            Self::Rate(rate) => write!(f, "rate={rate}"),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_shown_alike() {
        for text in ["p99=5ms", "p50=700us", "p99.9=1s 500ms", "max=2s", "rate=5000", "rate=0.5"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!(
            "p99.9=1500ms".parse(),
            Ok(Target::Percentile(99.9, Duration::from_millis(1500)))
        );
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in [
            "", "p99", "p99=", "p99=5", "p0=1s", "p100=1s", "p-1=1s", "pNaN=1s", "99=1s",
            "max=fast", "rate=0", "rate=-1", "rate=inf", "rate=5ms", "p99=-5ms", "mean=1s",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
