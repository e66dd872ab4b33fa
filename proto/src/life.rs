//! The life of a certificate: when it is renewed, when a person should look, when it is over.
//!
//! Everything here goes by the length of the life, so that what holds for ninety days can be watched
//! in minutes.

use std::fmt;

use clock::hlc::date_text;

/// From when to when a certificate is valid, seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// First second of its validity.
    pub from_unix_s: i64,
    /// Last second of its validity.
    pub until_unix_s: i64,
}

/// Seconds since 1970 as a date that people can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date(pub i64);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match date_text(self.0) {
            Some(text) => f.write_str(&text),
            None => write!(f, "second {} since 1970", self.0),
        }
    }
}

/// How a certificate stands at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Nobody need look.
    Fine,
    /// It should have been renewed by now, and was not.
    Late,
    /// It is over.
    Expired,
}

/// The default life, and by what the other numbers are chosen: 90 days.
pub const LIFE_DEFAULT_S: u64 = 90 * DAY_S;
/// Shortest life that may be asked for: below it a renewal that is tried twice comes too late.
pub const LIFE_MIN_S: u64 = 20;
/// Longest life that may be asked for: two years.
pub const LIFE_MAX_S: u64 = 730 * DAY_S;
/// How long after its end a certificate still proves who asks for the next one: 90 days. The key and
/// the name must be those that the cluster knows; who was away for longer is renewed by hand, with the
/// authority's key.
pub const RENEW_LATE_MAX_S: i64 = 90 * 24 * 3600;
/// Before the end a person is told, of a life of 90 days: 20.
const LATE_DAYS: i64 = 20;
/// The same of a longer life, seconds.
pub const LATE_MAX_S: i64 = LATE_DAYS * 24 * 3600;
/// Between two tries to renew at most.
const RETRY_MAX_S: i64 = 3600;
const DAY_S: u64 = 24 * 3600;
const DEFAULT_DAYS: i64 = 90;

impl Life {
    /// Its length, seconds; never negative.
    #[must_use]
    pub fn length_s(self) -> i64 {
        self.until_unix_s.saturating_sub(self.from_unix_s).max(0)
    }

    /// When it should be made anew: at two thirds of it, moved by `spread` thousandths of its length,
    /// -100 to 100, so that nodes that were made together do not all ask in one moment.
    #[must_use]
    pub fn due_unix_s(self, spread: i16) -> i64 {
        let spread = i128::from(spread.clamp(-100, 100));
        let after = i128::from(self.length_s()) * (2000 + 3 * spread) / 3000;
        self.from_unix_s.saturating_add(i64::try_from(after).unwrap_or(i64::MAX))
    }

    /// Pause before a renewal that failed is tried again, seconds: an hour, less in a short life.
    #[must_use]
    pub fn retry_s(self) -> u64 {
        u64::try_from((self.length_s() / 40).clamp(1, RETRY_MAX_S)).unwrap_or(1)
    }

    /// With less than this left it should have been made anew: the last 20 of 90 days, and so in
    /// proportion if it is shorter; a longer one is late 20 days before its end as well.
    #[must_use]
    pub fn late_s(self) -> i64 {
        let share_s = self.length_s() / DEFAULT_DAYS * LATE_DAYS
            + self.length_s() % DEFAULT_DAYS * LATE_DAYS / DEFAULT_DAYS;
        share_s.min(LATE_MAX_S)
    }

    /// How it stands.
    #[must_use]
    pub fn standing(self, now_unix_s: i64) -> Validity {
        match self.until_unix_s.saturating_sub(now_unix_s) {
            ..0 => Validity::Expired,
            left_s if left_s < self.late_s() => Validity::Late,
            _ => Validity::Fine,
        }
    }
}

/// A span of time until an end as people say it: `12 days`, `5 hours`, `40 s`; never negative.
#[must_use]
pub fn left_text(left_s: i64) -> String {
    let left_s = left_s.max(0);
    let (number, unit) = match left_s {
        172_800.. => (left_s / 86_400, "days"),
        7_200.. => (left_s / 3_600, "hours"),
        120.. => (left_s / 60, "minutes"),
        _ => (left_s, "s"),
    };
    format!("{number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_readable() {
        assert_eq!(Date(0).to_string(), "1970-01-01 00:00:00 UTC");
        assert_eq!(Date(1_795_224_645).to_string(), "2026-11-21 01:30:45 UTC");
        assert_eq!(Date(i64::MAX).to_string(), format!("second {} since 1970", i64::MAX));
    }

    const DAY: i64 = 86_400;

    fn days(from: i64, until: i64) -> Life {
        Life { from_unix_s: from * DAY, until_unix_s: until * DAY }
    }

    /// Seen to fail with: the last fifth instead of the last third.
    #[test]
    fn it_is_due_at_two_thirds_give_or_take_a_tenth() {
        let life = days(10, 100);
        assert_eq!(life.due_unix_s(0), 70 * DAY);
        assert_eq!(life.due_unix_s(-100), 61 * DAY);
        assert_eq!(life.due_unix_s(100), 79 * DAY);
        assert_eq!(life.due_unix_s(3000), 79 * DAY);
        assert_eq!(days(5, 4).due_unix_s(0), 5 * DAY, "a life that makes no sense is due at once");
        assert_eq!(days(0, 3).retry_s(), 3600);
        assert_eq!(Life { from_unix_s: 0, until_unix_s: 120 }.retry_s(), 3);
    }

    /// A renewal has had its chance before anybody is told: whatever the spread and the length, one
    /// that is due is not late yet.
    #[test]
    fn who_asks_in_time_is_never_late() {
        for length_s in [20, 60, 61, 119, 120, 3600, DAY, 30 * DAY, 90 * DAY, 730 * DAY] {
            let life = Life { from_unix_s: 1000, until_unix_s: 1000 + length_s };
            for spread in [-100, -1, 0, 1, 100] {
                let due = life.due_unix_s(spread);
                assert_eq!(life.standing(due), Validity::Fine, "{length_s} s, {spread}");
            }
            assert_eq!(life.standing(life.until_unix_s), Validity::Late, "{length_s} s");
            assert_eq!(life.standing(life.until_unix_s + 1), Validity::Expired, "{length_s} s");
        }
    }

    #[test]
    fn ninety_days_are_late_from_the_seventieth() {
        let life = days(0, 90);
        assert_eq!(life.standing(70 * DAY), Validity::Fine);
        assert_eq!(life.standing(70 * DAY + 1), Validity::Late);
        assert_eq!(days(0, 730).standing(710 * DAY), Validity::Fine);
        assert_eq!(days(0, 730).standing(710 * DAY + 1), Validity::Late);
        let minutes = Life { from_unix_s: 0, until_unix_s: 90 };
        assert_eq!(minutes.standing(70), Validity::Fine);
        assert_eq!(minutes.standing(71), Validity::Late);
    }

    #[test]
    fn what_is_left_is_said_in_one_unit() {
        for (left_s, text) in [
            (90 * DAY - 1, "89 days"),
            (2 * DAY - 1, "47 hours"),
            (7199, "119 minutes"),
            (119, "119 s"),
            (-5, "0 s"),
        ] {
            assert_eq!(left_text(left_s), text);
        }
    }
}
