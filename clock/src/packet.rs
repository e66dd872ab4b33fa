//! The 48-byte NTP packet and its time formats (RFC 5905, section 6 and figure 8).
//!
//! Timestamps wrap every 136 years. Differences are taken with wrapping arithmetic, so they are
//! right across an era's end as long as both times are within 68 years of each other; a time of
//! day is read with a pivot that is known to be near.

/// Seconds from 1900 to 1970.
const UNIX_EPOCH_S: u64 = 2_208_988_800;

/// An NTP timestamp: 32 bits of seconds since the era's start and 32 bits of fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// The timestamp of a time given in nanoseconds since 1970, rounded down; the era is lost.
    #[must_use]
    pub fn from_unix_ns(ns: u64) -> Self {
        let secs = (ns / 1_000_000_000).wrapping_add(UNIX_EPOCH_S);
        let fraction = (u128::from(ns % 1_000_000_000) << 32) / 1_000_000_000;
        Self((secs << 32) | u64::try_from(fraction).unwrap_or(0))
    }

    /// Nanoseconds since 1970, in the era that brings it nearest to `pivot_ns`; `None` before 1970
    /// and after 2554.
    #[must_use]
    pub fn to_unix_ns(self, pivot_ns: u64) -> Option<u64> {
        let away_ns = self.since_ns(Self::from_unix_ns(pivot_ns));
        u64::try_from(i128::from(pivot_ns) + i128::from(away_ns)).ok()
    }

    /// Units of 2^-32 s since an earlier time; negative if that was later.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// Nanoseconds since an earlier time, rounded down; negative if that was later.
    #[must_use]
    pub fn since_ns(self, earlier: Self) -> i64 {
        units_to_ns(i128::from(self.since(earlier)))
    }
}

/// Units of 2^-32 s in nanoseconds, rounded down.
#[must_use]
pub fn units_to_ns(units: i128) -> i64 {
    let ns = units.saturating_mul(1_000_000_000) >> 32;
    i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
}

/// An NTP short duration: 16 bits of seconds and 16 bits of fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NtpShort(pub u32);

impl NtpShort {
    /// Nanoseconds, rounded up.
    #[must_use]
    pub fn to_ns(self) -> u64 {
        (u64::from(self.0) * 1_000_000_000).div_ceil(1 << 16)
    }
}

/// A decoded packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packet {
    /// Leap indicator, 0..=3; 3 means not synchronised.
    pub leap: u8,
    /// Version, 0..=7.
    pub version: u8,
    /// Mode, 0..=7; a server answers with 4.
    pub mode: u8,
    /// Stratum; 0 is a kiss.
    pub stratum: u8,
    /// Poll interval as a power of two, seconds.
    pub poll: i8,
    /// Precision of the server's clock as a power of two, seconds.
    pub precision: i8,
    /// Round trip to the primary reference.
    pub root_delay: NtpShort,
    /// Error bound against the primary reference.
    pub root_dispersion: NtpShort,
    /// What the server follows; the kiss code if stratum is 0.
    pub refid: [u8; 4],
    /// When the server's clock was last corrected.
    pub reference: NtpTime,
    /// The client's transmit field, sent back.
    pub origin: NtpTime,
    /// T2: when the server received the request.
    pub receive: NtpTime,
    /// T3: when the server sent the answer.
    pub transmit: NtpTime,
}

impl Packet {
    /// Length of a packet without extensions.
    pub const BYTES: usize = 48;

    /// Reads a packet. Every content is a packet; sense is checked in `sample`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut words = bytes.chunks_exact(4).map(|word| match word {
            [a, b, c, d] => [*a, *b, *c, *d],
            _ => [0; 4],
        });
        let mut word = || words.next().unwrap_or_default();
        let [flags, stratum, poll, precision] = word();
        let root_delay = NtpShort(u32::from_be_bytes(word()));
        let root_dispersion = NtpShort(u32::from_be_bytes(word()));
        let refid = word();
        let mut time = || {
            let [a, b, c, d] = word();
            let [e, f, g, h] = word();
            NtpTime(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
        };
        Self {
            leap: flags >> 6,
            version: (flags >> 3) & 7,
            mode: flags & 7,
            stratum,
            poll: poll.cast_signed(),
            precision: precision.cast_signed(),
            root_delay,
            root_dispersion,
            refid,
            reference: time(),
            origin: time(),
            receive: time(),
            transmit: time(),
        }
    }

    /// Writes a packet. Only the low bits of `leap`, `version` and `mode` are used.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let flags = (self.leap & 3) << 6 | (self.version & 7) << 3 | (self.mode & 7);
        let head = [flags, self.stratum, self.poll.cast_unsigned(), self.precision.cast_unsigned()];
        let mut out = [0; Self::BYTES];
        let fields = [
            &head[..],
            &self.root_delay.0.to_be_bytes(),
            &self.root_dispersion.0.to_be_bytes(),
            &self.refid,
            &self.reference.0.to_be_bytes(),
            &self.origin.0.to_be_bytes(),
            &self.receive.0.to_be_bytes(),
            &self.transmit.0.to_be_bytes(),
        ];
        for (slot, byte) in out.iter_mut().zip(fields.into_iter().flatten()) {
            *slot = *byte;
        }
        out
    }
}
