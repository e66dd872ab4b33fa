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
}
