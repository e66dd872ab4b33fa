//! The settings of the whole cluster as people write them.

use std::str::FromStr;
use std::time::Duration;

use proto::life::{LIFE_MAX_S, LIFE_MIN_S};
use proto::limits::RETAIN_AGE_MIN_MS;
use proto::wire::{Configure, OnLoss};

use crate::settings::{
    CERT_LIFE, MAX_CLOCK_ERROR, NONE, ON_LOSS, RETAIN_AGE, RETAIN_BYTES, RETAIN_COUNT,
};

/// Smallest and largest limit of the error bound that a cluster accepts.
const ERROR_MIN: Duration = Duration::from_millis(1);
const ERROR_MAX: Duration = Duration::from_secs(10);

/// One `key=value` of `cluster set`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Largest error bound of a clock with which a node may be primary.
    MaxClockError(Duration),
    /// What happens when no clock is good enough.
    OnLoss(OnLoss),
    /// How long messages stay, in milliseconds; 0 = for ever.
    RetainAge(u64),
    /// How many messages and events stay; 0 = all.
    RetainCount(u64),
    /// How many bytes of messages stay; 0 = all.
    RetainBytes(u64),
    /// How long new certificates live, in seconds.
    CertLife(u64),
}

/// Why a text is no setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No `=`, or a key that nobody knows.
    #[error(
        "expected max-clock-error=TIME, on-loss=degrade|refuse, retain-age=TIME|none, \
         retain-count=N|none, retain-bytes=N|none or cert-life=TIME"
    )]
    Form,
    /// No time, or one that no cluster accepts.
    #[error("max-clock-error is a time from 1ms to 10s, such as 50ms")]
    MaxClockError,
    /// Another word.
    #[error("on-loss is degrade (go on with unknown bounds) or refuse (refuse writes)")]
    OnLoss,
    /// No time, or one that no cluster accepts.
    #[error("retain-age is a time from 1s on, such as 30d, or none: messages stay for ever")]
    RetainAge,
    /// No number, or 0.
    #[error("retain-count is a number of messages and events from 1 on, or none: all of them stay")]
    RetainCount,
    /// No number, or 0.
    #[error(
        "retain-bytes is a number of bytes from 1 on, with KiB, MiB, GiB or TiB or without, or none"
    )]
    RetainBytes,
    /// No time, or one that no cluster accepts.
    #[error("cert-life is a time from 20s to 730d, such as 30d, in whole seconds")]
    CertLife,
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
            (RETAIN_AGE, NONE) => Ok(Self::RetainAge(0)),
            (RETAIN_AGE, value) => match humantime::parse_duration(value).map(whole_ms) {
                Ok(Some(ms)) if ms >= RETAIN_AGE_MIN_MS => Ok(Self::RetainAge(ms)),
                _ => Err(SettingError::RetainAge),
            },
            (RETAIN_COUNT, NONE) => Ok(Self::RetainCount(0)),
            (RETAIN_COUNT, value) => match value.parse() {
                Ok(count @ 1..) => Ok(Self::RetainCount(count)),
                _ => Err(SettingError::RetainCount),
            },
            (RETAIN_BYTES, NONE) => Ok(Self::RetainBytes(0)),
            (RETAIN_BYTES, value) => match bytes(value) {
                Some(bytes @ 1..) => Ok(Self::RetainBytes(bytes)),
                _ => Err(SettingError::RetainBytes),
            },
            (CERT_LIFE, value) => match humantime::parse_duration(value) {
                Ok(life)
                    if life.subsec_nanos() == 0
                        && (LIFE_MIN_S..=LIFE_MAX_S).contains(&life.as_secs()) =>
                {
                    Ok(Self::CertLife(life.as_secs()))
                }
                _ => Err(SettingError::CertLife),
            },
            _ => Err(SettingError::Form),
        }
    }
}

/// A time as whole milliseconds.
fn whole_ms(time: Duration) -> Option<u64> {
    let whole = time.subsec_nanos().is_multiple_of(1_000_000);
    u64::try_from(time.as_millis()).ok().filter(|_| whole)
}

/// `1000`, `10GiB`.
fn bytes(text: &str) -> Option<u64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let unit = units.into_iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, bits)));
    let (number, bits) = unit.unwrap_or((text, 0));
    number.parse::<u64>().ok()?.checked_mul(1 << bits)
}

/// The change that several settings make together; `None` if one is given twice.
#[must_use]
pub fn change(settings: &[Setting]) -> Option<Configure> {
    let mut change = Configure::default();
    for setting in settings {
        let before = match *setting {
            Setting::MaxClockError(time) => {
                let us = u64::try_from(time.as_micros()).ok()?;
                change.max_clock_error_us.replace(us).is_some()
            }
            Setting::OnLoss(on_loss) => change.on_loss.replace(on_loss.into()).is_some(),
            Setting::RetainAge(ms) => change.retain_age_ms.replace(ms).is_some(),
            Setting::RetainCount(count) => change.retain_count.replace(count).is_some(),
            Setting::RetainBytes(bytes) => change.retain_bytes.replace(bytes).is_some(),
            Setting::CertLife(life_s) => change.cert_life_s.replace(life_s).is_some(),
        };
        if before {
            return None;
        }
    }
    Some(change)
}

#[cfg(test)]
mod tests {
    use proto::wire::Settings;

    use super::*;
    use crate::settings::SettingsView;

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
            ("retain-age=30d", Setting::RetainAge(30 * 86_400_000)),
            ("retain-age=1s", Setting::RetainAge(1000)),
            ("retain-age=1s 500ms", Setting::RetainAge(1500)),
            ("retain-age=none", Setting::RetainAge(0)),
            ("retain-count=1000", Setting::RetainCount(1000)),
            ("retain-count=none", Setting::RetainCount(0)),
            ("retain-bytes=1", Setting::RetainBytes(1)),
            ("retain-bytes=10GiB", Setting::RetainBytes(10 << 30)),
            ("retain-bytes=none", Setting::RetainBytes(0)),
            ("cert-life=20s", Setting::CertLife(20)),
            ("cert-life=30d", Setting::CertLife(30 * 86_400)),
        ] {
            assert_eq!(text.parse(), Ok(setting), "{text}");
        }
    }

    #[test]
    fn anything_else_says_what_was_expected() {
        use SettingError::{
            CertLife, Form, MaxClockError, OnLoss, RetainAge, RetainBytes, RetainCount,
        };
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
            ("retain-age=0s", RetainAge),
            ("retain-age=999ms", RetainAge),
            ("retain-age=1s 1us", RetainAge),
            ("retain-age=30", RetainAge),
            ("retain-age=never", RetainAge),
            ("retain-count=0", RetainCount),
            ("retain-count=-1", RetainCount),
            ("retain-count=1k", RetainCount),
            ("retain-bytes=0GiB", RetainBytes),
            ("retain-bytes=10 GB", RetainBytes),
            ("retain-bytes=99999999999TiB", RetainBytes),
            ("cert-life=19s", CertLife),
            ("cert-life=731d", CertLife),
            ("cert-life=60s 1ms", CertLife),
            ("cert-life=none", CertLife),
            ("retain=1d", Form),
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
                on_loss: Some(OnLoss::Refuse.into()),
                ..Configure::default()
            })
        );
        assert_eq!(change(&[refuse]), Some(Configure { on_loss: Some(1), ..Configure::default() }));
        let keep = [Setting::RetainAge(0), Setting::RetainCount(7), Setting::RetainBytes(8)];
        assert_eq!(
            change(&keep),
            Some(Configure {
                retain_age_ms: Some(0),
                retain_count: Some(7),
                retain_bytes: Some(8),
                ..Configure::default()
            })
        );
        assert_eq!(change(&[keep, keep].concat()), None);
        assert_eq!(change(&[ms(50), refuse, ms(50)]), None);
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for max_clock_error_us in [1_000, 50_000, 1_000_500, 10_000_000] {
            for on_loss in [OnLoss::Degrade, OnLoss::Refuse] {
                let settings = Settings {
                    max_clock_error_us,
                    on_loss: on_loss.into(),
                    retain_age_ms: Some(5_400_000),
                    retain_count: Some(0),
                    retain_bytes: Some(1 << 30),
                    cert_life_s: Some(45),
                };
                let shown = SettingsView::from(settings).to_string();
                let typed: Vec<Setting> =
                    shown.split(' ').map(|text| text.parse().unwrap()).collect();
                let change = change(&typed).unwrap();
                assert_eq!(change.max_clock_error_us, Some(max_clock_error_us), "{shown}");
                assert_eq!(change.on_loss, Some(on_loss.into()), "{shown}");
                assert_eq!(change.retain_age_ms, settings.retain_age_ms, "{shown}");
                assert_eq!(change.retain_count, settings.retain_count, "{shown}");
                assert_eq!(change.retain_bytes, settings.retain_bytes, "{shown}");
                assert_eq!(change.cert_life_s, settings.cert_life_s, "{shown}");
            }
        }
    }
}
