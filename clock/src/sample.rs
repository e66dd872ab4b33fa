//! One exchange with a time server, judged, and turned into an offset with a bound.
//!
//! With T1 and T4 on the local scale and T2 and T3 on the server's, the offset is
//! `theta = ((T2-T1) + (T3-T4)) / 2` and the round trip without the server's part is
//! `delta = (T4-T1) - (T3-T2)`. Whatever the two ways took, the server's time minus ours lies
//! within `delta / 2` of `theta`. `lambda` adds what the server says of its own distance to UTC, the
//! grain of both clocks and the drift while the exchange lasted.
//!
//! A negative `delta` says that a timestamp is wrong. It is refused before anything is clamped:
//! clamped first, such a sample would look like the best of all.
//!
//! Not here: origin, mode, version and kiss codes, which belong to the socket (`daemon::time`).

use crate::interval::{Interval, drift_ns};
use crate::packet::{NtpTime, Packet, units_to_ns};

/// Grain of the local clock, nanoseconds.
const RHO_LOCAL_NS: u64 = 1_000;
/// What `delta` may be negative by, beyond the grain of both clocks, nanoseconds.
const NEGATIVE_SLACK_NS: u64 = 1_000;
/// Longest time that a server may sit on a request, nanoseconds.
const SERVER_HOLD_MAX_NS: i64 = 1_000_000_000;
/// Age of the server's last correction that is worth a warning, nanoseconds.
const REFERENCE_AGE_WARN_NS: i64 = 24 * 3600 * 1_000_000_000;
/// No true time lies before this: 2026-01-01, older than this code. Nanoseconds since 1970.
pub const RELEASE_NS: u64 = 1_767_225_600_000_000_000;

/// The local time scale: nanoseconds since 1970 as the machine believed at start, running with
/// the raw counter from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Time at `raw0_ns`, nanoseconds since 1970; also the pivot of NTP eras.
    pub base_ns: u64,
    /// The raw counter at start, nanoseconds.
    pub raw0_ns: u64,
}

impl Scale {
    /// The scale's time at a value of the raw counter, nanoseconds since 1970.
    #[must_use]
    pub fn local_ns(&self, raw_ns: u64) -> u64 {
        let elapsed_ns = i128::from(raw_ns) - i128::from(self.raw0_ns);
        let local_ns = i128::from(self.base_ns) + elapsed_ns;
        u64::try_from(local_ns.max(0)).unwrap_or(u64::MAX)
    }
}

/// A request and the datagram that answered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawExchange {
    /// T1, raw counter just before the request was sent, nanoseconds.
    pub t1_raw_ns: u64,
    /// T4, raw counter just after the answer was received, nanoseconds.
    pub t4_raw_ns: u64,
    /// The first 48 bytes of the answer.
    pub packet: [u8; Packet::BYTES],
}

/// What a sample must satisfy besides making sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Highest stratum.
    pub stratum_max: u8,
    /// Largest `lambda`, nanoseconds.
    pub distance_max_ns: u64,
    /// The server's time is not before this, less a day; nanoseconds since 1970.
    pub not_before_ns: u64,
    /// The request was sent at this value of the raw counter or later: whoever was asked before may
    /// have answered on the other side of a suspension or of a leap second. Nanoseconds.
    pub since_raw_ns: u64,
    /// Reference id of this very machine, if it is known: a server that follows it is no source.
    pub own_refid: Option<[u8; 4]>,
    /// Drift allowance: how much true time may gain or lose on the raw counter, in parts per billion
    /// of the counter.
    pub phi_ppb: u64,
}

impl Limits {
    /// The usual limits with a given drift allowance.
    #[must_use]
    pub const fn new(phi_ppb: u64) -> Self {
        Self {
            stratum_max: 8,
            distance_max_ns: 1_500_000_000,
            not_before_ns: RELEASE_NS,
            since_raw_ns: 0,
            own_refid: None,
            phi_ppb,
        }
    }
}

/// A believable exchange. True time, if the server is honest, was within `lambda_ns` of
/// `L + theta_ns` at `raw_ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Raw counter at T4, nanoseconds.
    pub raw_ns: u64,
    /// Offset of the server's time from the local scale, nanoseconds.
    pub theta_ns: i64,
    /// Round trip without the server's part, nanoseconds.
    pub delta_ns: u64,
    /// Bound on the error of `theta_ns` at `raw_ns`, nanoseconds.
    pub lambda_ns: u64,
    /// Stratum of the server.
    pub stratum: u8,
    /// Leap indicator, 0..=2.
    pub leap: u8,
    /// What the server follows.
    pub refid: [u8; 4],
    /// Whether the server's clock was last corrected more than a day ago.
    pub stale_reference: bool,
}

impl Sample {
    /// Where true time lies at a later value of the raw counter, as offsets from the local scale,
    /// if the server is honest.
    #[must_use]
    pub fn interval_at(&self, raw_ns: u64, phi_ppb: u64) -> Interval {
        let age_ns = raw_ns.saturating_sub(self.raw_ns);
        Interval::around(self.theta_ns, self.lambda_ns).grown(drift_ns(age_ns, phi_ppb))
    }
}

/// Why an exchange is no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Reject {
    /// T2 is zero.
    #[error("no receive time")]
    NoReceiveTime,
    /// T3 lies before T2.
    #[error("sent before it was received")]
    SentBeforeReceived,
    /// T3 lies more than a second after T2.
    #[error("held longer than 1 s")]
    HeldTooLong,
    /// T4 lies before T1.
    #[error("received before the request was sent")]
    CounterWentBack,
    /// The round trip is negative.
    #[error("negative delay")]
    NegativeDelay,
    /// The precision is not a power of two from 2^-32 s to 1 s.
    #[error("absurd precision")]
    Precision,
    /// The stratum is 0 or too high.
    #[error("stratum out of range")]
    Stratum,
    /// The leap indicator says that the server is not synchronised.
    #[error("server not synchronised")]
    ServerUnsynced,
    /// The error bound is too large.
    #[error("too far from true time")]
    Distance,
    /// The server's time lies before this release.
    #[error("time before this release")]
    BeforeRelease,
    /// The server follows this machine.
    #[error("server follows this node")]
    OwnEcho,
    /// The request was sent before the machine was suspended, or before a leap second.
    #[error("asked too long ago")]
    Overtaken,
}

impl Reject {
    /// The reason as a metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoReceiveTime => "no_receive_time",
            Self::SentBeforeReceived => "sent_before_received",
            Self::HeldTooLong => "held_too_long",
            Self::CounterWentBack => "counter_went_back",
            Self::NegativeDelay => "negative_delay",
            Self::Precision => "precision",
            Self::Stratum => "stratum",
            Self::ServerUnsynced => "server_unsynced",
            Self::Distance => "distance",
            Self::BeforeRelease => "before_release",
            Self::OwnEcho => "own_echo",
            Self::Overtaken => "overtaken",
        }
    }
}

impl RawExchange {
    /// Judges the exchange.
    ///
    /// # Errors
    /// The first reason for which it is no sample.
    pub fn judge(&self, scale: &Scale, limits: &Limits) -> Result<Sample, Reject> {
        let packet = Packet::from_bytes(&self.packet);
        if self.t1_raw_ns < limits.since_raw_ns {
            return Err(Reject::Overtaken);
        }
        check_header(&packet, limits)?;
        check_times(&packet, scale, limits)?;
        let round_ns = self.t4_raw_ns.checked_sub(self.t1_raw_ns).ok_or(Reject::CounterWentBack)?;

        let t1 = NtpTime::from_unix_ns(scale.local_ns(self.t1_raw_ns));
        let held = i128::from(packet.transmit.since(packet.receive));
        let round = (i128::from(round_ns) << 32) / 1_000_000_000;
        let rho_ns = precision_ns(packet.precision);
        let delta_ns = units_to_ns(round - held);
        let slack_ns = rho_ns + RHO_LOCAL_NS + NEGATIVE_SLACK_NS;
        if delta_ns < 0 && delta_ns.unsigned_abs() > slack_ns {
            return Err(Reject::NegativeDelay);
        }
        let delta_ns = delta_ns.max(0).unsigned_abs();

        // (T2-T1) + ((T3-T2) - (T4-T1))/2: the same offset with one difference between the two
        // scales instead of two, so a server half an era away cannot cancel itself out.
        let theta = 2 * i128::from(packet.receive.since(t1)) + held - round;
        let lambda_ns = delta_ns
            .div_ceil(2)
            .saturating_add(packet.root_delay.to_ns().div_ceil(2))
            .saturating_add(packet.root_dispersion.to_ns())
            .saturating_add(rho_ns + RHO_LOCAL_NS)
            .saturating_add(drift_ns(round_ns, limits.phi_ppb));
        assert!(lambda_ns >= delta_ns.div_ceil(2), "the delay may lie on one side alone");
        if lambda_ns > limits.distance_max_ns {
            return Err(Reject::Distance);
        }
        Ok(Sample {
            raw_ns: self.t4_raw_ns,
            theta_ns: units_to_ns(theta >> 1),
            delta_ns,
            lambda_ns,
            stratum: packet.stratum,
            leap: packet.leap,
            refid: packet.refid,
            stale_reference: packet.reference != NtpTime::default()
                && packet.transmit.since_ns(packet.reference) > REFERENCE_AGE_WARN_NS,
        })
    }
}

fn check_header(packet: &Packet, limits: &Limits) -> Result<(), Reject> {
    if packet.leap == 3 {
        return Err(Reject::ServerUnsynced);
    }
    if packet.stratum == 0 || packet.stratum > limits.stratum_max {
        return Err(Reject::Stratum);
    }
    if !(-32..=0).contains(&packet.precision) {
        return Err(Reject::Precision);
    }
    if limits.own_refid == Some(packet.refid) {
        return Err(Reject::OwnEcho);
    }
    Ok(())
}

fn check_times(packet: &Packet, scale: &Scale, limits: &Limits) -> Result<(), Reject> {
    const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;
    if packet.receive == NtpTime::default() {
        return Err(Reject::NoReceiveTime);
    }
    let held_ns = packet.transmit.since_ns(packet.receive);
    if held_ns < 0 {
        return Err(Reject::SentBeforeReceived);
    }
    if held_ns > SERVER_HOLD_MAX_NS {
        return Err(Reject::HeldTooLong);
    }
    match packet.transmit.to_unix_ns(scale.base_ns) {
        Some(ns) if ns >= limits.not_before_ns.saturating_sub(DAY_NS) => Ok(()),
        Some(_) | None => Err(Reject::BeforeRelease),
    }
}

/// The length of a clock's step, nanoseconds, rounded up.
fn precision_ns(power: i8) -> u64 {
    let shift = u32::from(power.min(0).unsigned_abs());
    1_000_000_000_u64.div_ceil(1_u64.checked_shl(shift).unwrap_or(u64::MAX))
}
