//! The settings of the whole cluster as people write and read them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use proto::wire::{Configure, OnLoss, Settings};
use serde::Serialize;

use crate::out::{Cell, Show};

/// Smallest and largest limit of the error bound that a cluster accepts.
const ERROR_MIN: Duration = Duration::from_millis(1);
const ERROR_MAX: Duration = Duration::from_secs(10);

const MAX_CLOCK_ERROR: &str = "max-clock-error";
const ON_LOSS: &str = "on-loss";

/// One `key=value` of `cluster set`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Largest error bound of a clock with which a node may be primary.
    MaxClockError(Duration),
    /// What happens when no clock is good enough.
    OnLoss(OnLoss),
}

/// Why a text is no setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingError {
    /// No `=`, or a key that nobody knows.
    #[error("expected max-clock-error=TIME or on-loss=degrade|refuse")]
    Form,
    /// No time, or one that no cluster accepts.
    #[error("max-clock-error is a time from 1ms to 10s, such as 50ms")]
    MaxClockError,
    /// Another word.
    #[error("on-loss is degrade (go on with unknown bounds) or refuse (refuse writes)")]
    OnLoss,
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text.split_once('=').ok_or(SettingError::Form)? {
            (MAX_CLOCK_ERROR, value) => match humantime::parse_duration(value) {
                // The wire counts microseconds.
                Ok(time)
                    if (ERROR_MIN..=ERROR_MAX).contains(&time)
                        && time.subsec_nanos().is_multiple_of(1000) =>
                {
                    Ok(Self::MaxClockError(time))
                }
                _ => Err(SettingError::MaxClockError),
            },
            (ON_LOSS, "degrade") => Ok(Self::OnLoss(OnLoss::Degrade)),
            (ON_LOSS, "refuse") => Ok(Self::OnLoss(OnLoss::Refuse)),
            (ON_LOSS, _) => Err(SettingError::OnLoss),
            _ => Err(SettingError::Form),
        }
    }
}

/// The change that several settings make together; `None` if one is given twice.
pub(crate) fn change(settings: &[Setting]) -> Option<Configure> {
    let mut change = Configure::default();
    for setting in settings {
        let before = match *setting {
            Setting::MaxClockError(time) => {
                let us = u64::try_from(time.as_micros()).ok()?;
                change.max_clock_error_us.replace(us).is_some()
            }
            Setting::OnLoss(on_loss) => change.on_loss.replace(on_loss.into()).is_some(),
        };
        if before {
            return None;
        }
    }
    Some(change)
}

/// The settings. Its text is what `cluster set` reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SettingsView {
    max_clock_error_us: u64,
    on_loss: &'static str,
}

impl From<Settings> for SettingsView {
    fn from(settings: Settings) -> Self {
        let on_loss = match OnLoss::try_from(settings.on_loss) {
            Ok(OnLoss::Degrade) => "degrade",
            Ok(OnLoss::Refuse) => "refuse",
            Err(_) => "unknown",
        };
        Self { max_clock_error_us: settings.max_clock_error_us, on_loss }
    }
}

impl fmt::Display for SettingsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(key, value), (key2, value2)] = self.pairs();
        write!(f, "{key}={value} {key2}={value2}")
    }
}

impl SettingsView {
    fn pairs(&self) -> [(&'static str, String); 2] {
        let time = Duration::from_micros(self.max_clock_error_us);
        let time = humantime::format_duration(time).to_string().replace(' ', "");
        [(MAX_CLOCK_ERROR, time), (ON_LOSS, self.on_loss.to_owned())]
    }
}

impl Show for SettingsView {
    fn headings() -> &'static [&'static str] {
        &["MAX-CLOCK-ERROR", "ON-LOSS"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        self.pairs().map(|(_, value)| value).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Setting {
        Setting::MaxClockError(Duration::from_millis(ms))
    }

    #[test]
    fn settings_are_read() {
        for (text, setting) in [
            ("max-clock-error=50ms", ms(50)),
            ("max-clock-error=1ms", ms(1)),
            ("max-clock-error=10s", ms(10_000)),
            ("max-clock-error=1s 500us", Setting::MaxClockError(Duration::from_micros(1_000_500))),
            ("on-loss=refuse", Setting::OnLoss(OnLoss::Refuse)),
            ("on-loss=degrade", Setting::OnLoss(OnLoss::Degrade)),
        ] {
            assert_eq!(text.parse(), Ok(setting), "{text}");
        }
    }

    #[test]
    fn anything_else_says_what_was_expected() {
        use SettingError::{Form, MaxClockError, OnLoss};
        for (text, error) in [
            ("", Form),
            ("max-clock-error", Form),
            ("max_clock_error=50ms", Form),
            ("=50ms", Form),
            ("max-clock-error=", MaxClockError),
            ("max-clock-error=0s", MaxClockError),
            ("max-clock-error=50", MaxClockError),
            ("max-clock-error=999us", MaxClockError),
            ("max-clock-error=1ms 1ns", MaxClockError),
            ("max-clock-error=10s 1ms", MaxClockError),
            ("max-clock-error=-5ms", MaxClockError),
            ("on-loss=", OnLoss),
            ("on-loss=Refuse", OnLoss),
        ] {
            assert_eq!(text.parse::<Setting>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_change_names_each_setting_once() {
        let refuse = Setting::OnLoss(OnLoss::Refuse);
        assert_eq!(
            change(&[ms(50), refuse]),
            Some(Configure {
                max_clock_error_us: Some(50_000),
                on_loss: Some(OnLoss::Refuse.into())
            })
        );
        assert_eq!(
            change(&[refuse]),
            Some(Configure { max_clock_error_us: None, on_loss: Some(1) })
        );
        assert_eq!(change(&[ms(50), refuse, ms(50)]), None);
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for max_clock_error_us in [1_000, 50_000, 1_000_500, 10_000_000] {
            for on_loss in [OnLoss::Degrade, OnLoss::Refuse] {
                let settings = Settings { max_clock_error_us, on_loss: on_loss.into() };
                let shown = SettingsView::from(settings).to_string();
                let typed: Vec<Setting> =
                    shown.split(' ').map(|text| text.parse().unwrap()).collect();
                let change = change(&typed).unwrap();
                assert_eq!(change.max_clock_error_us, Some(max_clock_error_us), "{shown}");
                assert_eq!(change.on_loss, Some(on_loss.into()), "{shown}");
            }
        }
    }
}
