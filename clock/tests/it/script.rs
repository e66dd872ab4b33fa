//! What golden scripts say of time. Durations are written `1.5ms`, `-20us`, `3s`, `7ns`. Places on the
//! clock are durations since the start of the script; a stamp is `1.5ms~3`.

use clock::{Hlc, Interval, Stamp};
use golden::Line;

/// What a script's zero is: 2026-11-21T00:00:00Z.
pub(crate) const START_NS: u64 = 1_795_219_200_000_000_000;

/// Takes an option that is a duration, nanoseconds.
pub(crate) fn span(line: &mut Line, key: &str) -> Option<i64> {
    line.option(key).map(|text| span_ns(&text))
}

/// Reads a duration, nanoseconds.
pub(crate) fn span_ns(text: &str) -> i64 {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    let found = units.iter().find_map(|(unit, ns)| Some((text.strip_suffix(unit)?, ns)));
    let (number, ns) = found.unwrap_or_else(|| panic!("'{text}' is no duration"));
    let number: f64 = number.parse().unwrap_or_else(|_| panic!("'{text}' is no duration"));
    #[expect(clippy::cast_possible_truncation, reason = "a script's figures are short")]
    let exact = (number * ns).round() as i64;
    exact
}

/// Reads a place on the clock, nanoseconds since 1970.
pub(crate) fn place_ns(text: &str) -> u64 {
    START_NS.checked_add_signed(span_ns(text)).unwrap()
}

/// Reads a stamp, `1.5ms~3`.
pub(crate) fn hlc(text: &str) -> Hlc {
    let (place, logical) = text.split_once('~').unwrap_or((text, "0"));
    Hlc { ns: place_ns(place), logical: logical.parse().unwrap() }
}

/// Reads an interval, `-1ms..2ms`.
pub(crate) fn interval(text: &str) -> Interval {
    let (lo, hi) = text.split_once("..").unwrap_or_else(|| panic!("'{text}' is no interval"));
    Interval::new(span_ns(lo), span_ns(hi)).unwrap_or_else(|| panic!("'{text}' is backwards"))
}

/// Writes a duration, in the unit that fits, without loss.
pub(crate) fn show_span(ns: i64) -> String {
    let (unit, per) = match ns.unsigned_abs() {
        0 => return "0".to_owned(),
        1_000_000_000.. => ("s", 1_000_000_000),
        1_000_000.. => ("ms", 1_000_000),
        1_000.. => ("us", 1_000),
        _ => ("ns", 1),
    };
    let sign = if ns < 0 { "-" } else { "" };
    let (whole, part) = (ns.unsigned_abs() / per, ns.unsigned_abs() % per);
    let width = per.ilog10() as usize;
    let part = format!(".{part:0width$}");
    format!("{sign}{whole}{}{unit}", part.trim_end_matches('0').trim_end_matches('.'))
}

pub(crate) fn show_place(ns: u64) -> String {
    show_span(ns.cast_signed() - START_NS.cast_signed())
}

pub(crate) fn show_interval(interval: Interval) -> String {
    format!("{}..{}", show_span(interval.lo_ns()), show_span(interval.hi_ns()))
}

pub(crate) fn show_hlc(hlc: Hlc) -> String {
    match hlc.logical {
        u32::MAX => format!("{}~max", show_place(hlc.ns)),
        logical => format!("{}~{logical}", show_place(hlc.ns)),
    }
}

pub(crate) fn show_stamp(stamp: Stamp) -> String {
    let bound = |us| match us {
        Stamp::UNKNOWN => "unknown".to_owned(),
        us => show_span(i64::from(us) * 1000),
    };
    format!("{} early {} late {}", show_hlc(stamp.hlc), bound(stamp.early_us), bound(stamp.late_us))
}
