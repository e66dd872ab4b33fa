//! What a node may claim about its clock.

use std::fmt;
use std::str::FromStr;

/// The state of a node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClockState {
    /// No server has been believed yet: the bounds are unknown.
    #[default]
    Unsynced,
    /// Enough servers answer and agree.
    Synced,
    /// Too few servers are fresh: the last bounds grow with the drift allowance.
    Holdover,
    /// The servers contradict each other: as [`ClockState::Holdover`], and no side is picked.
    Disagree,
    /// The bounds have grown beyond `max_clock_error`.
    Expired,
    /// The bounds may be wrong: a suspended machine, a disruption, or a majority of peers that
    /// disagrees. Nothing may lead on this clock until it is synced again.
    Suspect,
    /// `clock.mode = "local"`: the machine's own clock, unchecked; the bounds are unknown.
    Local,
}

/// A text that is no clock state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a clock state")]
pub struct StateError(String);

impl ClockState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Unsynced,
        Self::Synced,
        Self::Holdover,
        Self::Disagree,
        Self::Expired,
        Self::Suspect,
        Self::Local,
    ];

    /// The state in lower case, as it stands in status and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsynced => "unsynced",
            Self::Synced => "synced",
            Self::Holdover => "holdover",
            Self::Disagree => "disagree",
            Self::Expired => "expired",
            Self::Suspect => "suspect",
            Self::Local => "local",
        }
    }

    /// Whether the interval of such a clock is claimed to hold true time and to be narrow enough.
    #[must_use]
    pub const fn is_trusted(self) -> bool {
        match self {
            Self::Synced | Self::Holdover | Self::Disagree => true,
            Self::Unsynced | Self::Expired | Self::Suspect | Self::Local => false,
        }
    }
}

impl fmt::Display for ClockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ClockState {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| StateError(text.chars().take(40).collect()))
    }
}
