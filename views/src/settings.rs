//! The settings of the whole cluster, in the forms that are shown.

use std::fmt;
use std::time::Duration;

use proto::settings::age_text;
use proto::wire::{OnLoss, Settings};
use serde::Serialize;

use crate::show::{Cell, Show};

/// As people write it.
pub const MAX_CLOCK_ERROR: &str = "max-clock-error";
/// As people write it.
pub const ON_LOSS: &str = "on-loss";
/// As people write it.
pub const RETAIN_AGE: &str = "retain-age";
/// As people write it.
pub const RETAIN_COUNT: &str = "retain-count";
/// As people write it.
pub const RETAIN_BYTES: &str = "retain-bytes";
/// As people write it.
pub const CERT_LIFE: &str = "cert-life";
/// No limit, as a value.
pub const NONE: &str = "none";

/// The settings. Its text is what `cluster set` reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingsView {
    max_clock_error_us: u64,
    on_loss: &'static str,
    /// These three are none where messages stay.
    retain_age_ms: Option<u64>,
    retain_count: Option<u64>,
    retain_bytes: Option<u64>,
    /// None before a primary of this release has led.
    cert_life_s: Option<u64>,
}

impl From<Settings> for SettingsView {
    fn from(settings: Settings) -> Self {
        let on_loss = match OnLoss::try_from(settings.on_loss) {
            Ok(OnLoss::Degrade) => "degrade",
            Ok(OnLoss::Refuse) => "refuse",
            Err(_) => "unknown",
        };
        let limit = |limit: Option<u64>| limit.filter(|&limit| limit > 0);
        Self {
            max_clock_error_us: settings.max_clock_error_us,
            on_loss,
            retain_age_ms: limit(settings.retain_age_ms),
            retain_count: limit(settings.retain_count),
            retain_bytes: limit(settings.retain_bytes),
            cert_life_s: settings.cert_life_s,
        }
    }
}

impl fmt::Display for SettingsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.pairs().into_iter().enumerate() {
            write!(f, "{}{key}={value}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl SettingsView {
    fn pairs(&self) -> [(&'static str, String); 6] {
        let time = Duration::from_micros(self.max_clock_error_us);
        let time = humantime::format_duration(time).to_string().replace(' ', "");
        let limit = |limit: Option<u64>, text: fn(u64) -> String| {
            limit.map_or_else(|| NONE.to_owned(), text)
        };
        [
            (MAX_CLOCK_ERROR, time),
            (ON_LOSS, self.on_loss.to_owned()),
            (RETAIN_AGE, limit(self.retain_age_ms, age_text)),
            (RETAIN_COUNT, limit(self.retain_count, |count| count.to_string())),
            (RETAIN_BYTES, limit(self.retain_bytes, |bytes| bytes.to_string())),
            (CERT_LIFE, limit(self.cert_life_s, |s| age_text(s.saturating_mul(1000)))),
        ]
    }
}

impl Show for SettingsView {
    fn headings() -> &'static [&'static str] {
        &["MAX-CLOCK-ERROR", "ON-LOSS", "RETAIN-AGE", "RETAIN-COUNT", "RETAIN-BYTES", "CERT-LIFE"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        self.pairs().map(|(_, value)| value).into()
    }
}
