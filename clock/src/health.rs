//! What a person is told of a clock: why it is not synced, and what to look at although it may be.
//!
//! Not here: addresses of servers and the sentences about peers (`daemon`).

use std::fmt;

use crate::drift::PHI_MAX_PPB;
use crate::reading::ClockView;
use crate::sample::Sample;
use crate::select::liars_max;
use crate::state::ClockState;

/// What a person should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// Fewer than three servers are configured.
    FewServers {
        /// How many are.
        configured: usize,
    },
    /// The counter drifts by more than is ever allowed for.
    Drift {
        /// What was measured, with the margin for its wander, parts per billion.
        measured_ppb: u64,
    },
    /// The samples of several servers contradict each other at once: the counter jumps, or drifts
    /// more than was measured.
    Inconsistent {
        /// How many servers' samples do.
        servers: usize,
    },
    /// A server's clock was last corrected more than a day ago.
    StaleReference {
        /// Which one, in the order of configuration, from 0.
        server: usize,
    },
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewServers { configured: 0 } => f.write_str("no time server is configured"),
            Self::FewServers { configured } => {
                let servers = if *configured == 1 { "time server is" } else { "time servers are" };
                write!(
                    f,
                    "{configured} {servers} configured: with fewer than 3, a wrong one is not \
                     found out"
                )
            }
            Self::Drift { measured_ppb } => {
                write!(f, "the counter drifts by {} ppm", measured_ppb.div_ceil(1000))
            }
            Self::Inconsistent { servers } => {
                write!(f, "the samples of {servers} time servers contradict each other")
            }
            Self::StaleReference { server } => {
                let number = server + 1;
                write!(f, "the clock of time server {number} was last corrected over a day ago")
            }
        }
    }
}

/// What the last round counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    configured: usize,
    agree: bool,
    inconsistent: usize,
    measured_ppb: Option<u64>,
}

impl Tally {
    pub(crate) fn new(configured: usize) -> Self {
        Self { configured, agree: false, inconsistent: 0, measured_ppb: None }
    }

    /// Takes the result of a vote: whether there is a hull, how many servers' samples contradict
    /// each other, and what was measured of the drift.
    pub(crate) fn count(&mut self, agree: bool, inconsistent: usize, measured_ppb: Option<u64>) {
        *self = Self { agree, inconsistent, measured_ppb, ..*self };
    }

    pub(crate) fn alarms<'a>(
        &self,
        newest: impl Iterator<Item = Option<&'a Sample>>,
    ) -> Vec<Alarm> {
        let few =
            (self.configured < 3).then_some(Alarm::FewServers { configured: self.configured });
        let drift = self.measured_ppb.filter(|ppb| *ppb >= PHI_MAX_PPB);
        let torn = self.inconsistent > liars_max(self.configured);
        let stale = newest.enumerate().filter_map(|(server, sample)| {
            sample?.stale_reference.then_some(Alarm::StaleReference { server })
        });
        few.into_iter()
            .chain(drift.map(|measured_ppb| Alarm::Drift { measured_ppb }))
            .chain(torn.then_some(Alarm::Inconsistent { servers: self.inconsistent }))
            .chain(stale)
            .collect()
    }

    /// Why the clock is not synced. `fresh` servers have a say now; what is asked before
    /// `since_raw_ns` does not count.
    pub(crate) fn reason(
        &self,
        view: &ClockView,
        raw_ns: u64,
        fresh: usize,
        since_raw_ns: u64,
    ) -> String {
        let votes = || self.votes(fresh, view.bound.is_some());
        match view.state_at(raw_ns) {
            ClockState::Synced | ClockState::Local => String::new(),
            ClockState::Unsynced | ClockState::Holdover | ClockState::Disagree => votes(),
            ClockState::Expired => {
                let why = if raw_ns < since_raw_ns {
                    "a leap second is due".to_owned()
                } else if self.agree && fresh > liars_max(self.configured) {
                    wide(view, raw_ns)
                } else {
                    votes()
                };
                let error_ns = view.now(raw_ns).error_ns().unwrap_or(u64::MAX);
                let (error, limit) = (show_ms(error_ns), show_ms(view.max_error_ns));
                format!("the error bound is {error} ms, the limit {limit} ms; {why}")
            }
            ClockState::Suspect if view.bound.is_some() => {
                "the servers contradicted the clock three times in a row, so it was set again"
                    .to_owned()
            }
            ClockState::Suspect => format!("the machine was suspended; {}", votes()),
        }
    }

    /// What is wrong with the vote.
    fn votes(&self, fresh: usize, has_bound: bool) -> String {
        let configured = self.configured;
        let liars = liars_max(configured);
        if configured == 0 {
            return "no time server is configured".to_owned();
        }
        let needed = liars + 1;
        let answer = if fresh == 1 { "answers" } else { "answer" };
        let answer = format!("{fresh} of {configured} servers {answer}");
        if fresh < needed {
            format!("{answer}; {needed} {} needed", if needed == 1 { "is" } else { "are" })
        } else if self.agree && has_bound {
            format!("{answer}, and they contradict the clock")
        } else {
            format!("{answer}, and no {needed} of them agree")
        }
    }
}

/// Why the error is large although the servers agree.
fn wide(view: &ClockView, raw_ns: u64) -> String {
    let half_ns = view.bound_at(raw_ns).map_or(0, |bound| bound.width_ns() / 2);
    if half_ns > view.max_error_ns {
        "the servers themselves are not more accurate".to_owned()
    } else {
        let off_ns = view.to_target_ns(raw_ns).unsigned_abs();
        format!("the reading is {} ms ahead and waits for true time to catch up", show_ms(off_ns))
    }
}

/// Milliseconds with one place, rounded up.
fn show_ms(ns: u64) -> String {
    let tenths = ns.div_ceil(100_000);
    format!("{}.{}", tenths / 10, tenths % 10)
}
