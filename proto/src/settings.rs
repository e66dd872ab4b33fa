//! Settings that hold for the whole cluster: they are in the replicated state, so no two nodes can
//! disagree about them.

/// What a primary does when no voter's clock is good enough to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum OnLoss {
    /// Go on writing: the order stays exact, bounds are wide or unknown, every status says so.
    Degrade = 0,
    /// Refuse writes with `ClockUnavailable` until a clock is good again.
    Refuse = 1,
}

/// The settings.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Settings {
    /// Largest error bound of a clock with which a node may be primary, in microseconds.
    #[prost(uint64, tag = "1")]
    pub max_clock_error_us: u64,
    /// What happens when no clock is good enough.
    #[prost(enumeration = "OnLoss", tag = "2")]
    pub on_loss: i32,
    /// Messages that are older go, in milliseconds of log time; 0 = they stay. Absent in a cluster of
    /// an earlier release until its first primary of this one has set it, like the two below.
    #[prost(uint64, optional, tag = "3")]
    pub retain_age_ms: Option<u64>,
    /// At most so many messages stay; 0 = all.
    #[prost(uint64, optional, tag = "4")]
    pub retain_count: Option<u64>,
    /// At most so many bytes of messages stay; 0 = all.
    #[prost(uint64, optional, tag = "5")]
    pub retain_bytes: Option<u64>,
    /// How long a new certificate lives, in seconds, whoever signs it. Absent like the three above.
    #[prost(uint64, optional, tag = "6")]
    pub cert_life_s: Option<u64>,
}

impl Settings {
    /// Whether nothing is left for a primary to set.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let Self { retain_age_ms, retain_count, retain_bytes, cert_life_s, .. } = self;
        retain_age_ms.is_some()
            && retain_count.is_some()
            && retain_bytes.is_some()
            && cert_life_s.is_some()
    }
}

/// A length of time as it is typed and shown: whole, in the largest unit that says it, `30d` or `90m`.
#[must_use]
pub fn age_text(ms: u64) -> String {
    let units = [(24 * 3_600_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.into_iter().find(|&(unit, _)| ms.is_multiple_of(unit));
    whole.map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

/// A change of settings; what is absent stays.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Configure {
    /// See [`Settings::max_clock_error_us`].
    #[prost(uint64, optional, tag = "1")]
    pub max_clock_error_us: Option<u64>,
    /// See [`Settings::on_loss`].
    #[prost(enumeration = "OnLoss", optional, tag = "2")]
    pub on_loss: Option<i32>,
    /// See [`Settings::retain_age_ms`].
    #[prost(uint64, optional, tag = "3")]
    pub retain_age_ms: Option<u64>,
    /// See [`Settings::retain_count`].
    #[prost(uint64, optional, tag = "4")]
    pub retain_count: Option<u64>,
    /// See [`Settings::retain_bytes`].
    #[prost(uint64, optional, tag = "5")]
    pub retain_bytes: Option<u64>,
    /// See [`Settings::cert_life_s`].
    #[prost(uint64, optional, tag = "6")]
    pub cert_life_s: Option<u64>,
}
