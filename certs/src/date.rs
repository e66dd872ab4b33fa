//! Dates of certificates, in whole seconds, as people read them.

use std::fmt;

use x509_parser::time::ASN1Time;

/// An instant in a certificate: seconds since 1970. Shown as `2026-11-21 01:30:45 UTC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub i64);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(time) = ASN1Time::from_timestamp(self.0) else {
            return write!(f, "second {} since 1970", self.0);
        };
        let at = time.to_datetime();
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        let (hour, minute, second) = (at.hour(), at.minute(), at.second());
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
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
}
