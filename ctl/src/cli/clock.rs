//! `logctl clock`: what can be typed.

use std::time::Duration;

use ::clock::ClockState;
use clap::{Args, Subcommand};
use proto::Name;
use views::range::When;

/// Largest error bound that can be asked about: beyond it, it is not a clock.
const BOUND_MAX: Duration = Duration::from_secs(3600);

/// What to know of the clocks.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Clock {
    #[command(flatten)]
    pub(crate) whose: Whose,
    #[command(subcommand)]
    pub(crate) verb: Option<ClockVerb>,
}

/// Whose clock.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Whose {
    /// Ask every node about itself; default: the one that answers, or --via
    #[arg(long)]
    pub(crate) all: bool,
}

/// One view of the clocks.
#[derive(Debug, Subcommand)]
pub(crate) enum ClockVerb {
    /// State, reading, bounds and limits; the same as no subcommand
    Tracking(Whose),
    /// The time servers as the node sees them, one a line
    Sources(Whose),
    /// The other nodes' clocks as the node sees them, one a line
    Peers(Whose),
    /// Wait until the clock is as wanted: exit code 0, or 7 after --timeout
    Wait(ClockWait),
    /// Let a node mint stamps again whose clock once ran far ahead, and is right now
    ///
    /// Such a node keeps a ceiling from that time and mints nothing until its clock has caught up with
    /// it. This lowers the ceiling to the highest stamp in the logs of a majority: none above was ever
    /// committed. If the log itself is ahead, its stamps go on from there. Admins only; it is an event.
    LowerCeiling(Whose),
    /// Report what the bounds were, from the clock history in the log, for an auditor: CSV
    ///
    /// Each row is proven by the record that its seq and stamp name; times that no record speaks of
    /// are rows of their own. Exit code 0 only if every row is within the tolerance, else 12.
    Report(ClockReport),
}

/// What to wait for.
#[derive(Debug, Args)]
pub(crate) struct ClockWait {
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// The state to wait for
    #[arg(long, value_name = "STATE", default_value = "synced")]
    pub(crate) state: ClockState,
    /// The largest error bound to be content with, up to 1h
    #[arg(long, value_name = "TIME", value_parser = parse_bound)]
    pub(crate) max_error: Option<Duration>,
}

/// What to report.
#[derive(Debug, Args)]
pub(crate) struct ClockReport {
    /// Largest error bound that is good enough, up to 1h
    #[arg(long, value_name = "TIME", value_parser = parse_bound)]
    pub(crate) tolerance: Duration,
    /// From this time on: RFC 3339, @SECONDS, a date, today or yesterday (days are those of UTC),
    /// 10m (before now), or a stamp;
    /// default: each node's first entry
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<When>,
    /// Up to, without, this time; default: each node's last entry
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<When>,
    /// Only this node
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<Name>,
}

/// An error bound: more than nothing and at most an hour.
fn parse_bound(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() && time <= BOUND_MAX => Ok(time),
        Ok(_) => Err("more than 0 and at most 1h".to_owned()),
        Err(_) => Err("expected a time with its unit, such as 50ms or 1s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_have_units_and_limits() {
        assert_eq!(parse_bound("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(parse_bound("1h"), Ok(BOUND_MAX));
        assert_eq!(parse_bound("1us"), Ok(Duration::from_micros(1)));
        for bad in ["0", "0s", "", "50", "-1ms", "61m", "1h 1ns", "soon"] {
            assert!(parse_bound(bad).is_err(), "{bad}");
        }
    }
}
