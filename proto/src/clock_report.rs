//! What a node says of its clock.

/// One node's clock.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClockReport {
    /// The node.
    #[prost(string, tag = "1")]
    pub node: String,
    /// See `clock::ClockState`.
    #[prost(string, tag = "2")]
    pub state: String,
    /// The reading, nanoseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub now_ns: u64,
    /// True time is not before this; absent if not known. A suspect clock still says here what it
    /// believed, so that peers can tell when it agrees with them again.
    #[prost(uint64, optional, tag = "4")]
    pub earliest_ns: Option<u64>,
    /// True time is not after this; absent if not known. See `earliest_ns`.
    #[prost(uint64, optional, tag = "5")]
    pub latest_ns: Option<u64>,
    /// Drift allowance, in parts per billion.
    #[prost(uint64, tag = "6")]
    pub drift_ppb: u64,
    /// Limit of the error bound for a primary, in microseconds.
    #[prost(uint64, tag = "7")]
    pub max_error_us: u64,
    /// Highest stamp minted or seen, 12 bytes.
    #[prost(bytes = "vec", tag = "8")]
    pub hlc: Vec<u8>,
    /// Persisted ceiling of stamps, nanoseconds since 1970.
    #[prost(uint64, tag = "9")]
    pub ceiling_ns: u64,
    /// Time servers.
    #[prost(message, repeated, tag = "10")]
    pub sources: Vec<ClockSource>,
    /// The other nodes' clocks as seen from this one.
    #[prost(message, repeated, tag = "11")]
    pub peers: Vec<ClockPeer>,
    /// How often the clock was set: 1 since the first sync, one more at each disruption.
    #[prost(uint64, tag = "12")]
    pub epoch: u64,
    /// Why the state is what it is, for a person; empty if synced.
    #[prost(string, tag = "13")]
    pub reason: String,
    /// Milliseconds until the bound passes the limit if no server answers any more; absent if it
    /// has passed it, or the bound is not known.
    #[prost(uint64, optional, tag = "14")]
    pub refusal_in_ms: Option<u64>,
    /// Whether the node may stand for election with this clock.
    #[prost(bool, tag = "15")]
    pub may_lead: bool,
    /// What the reading is still slewed by, in nanoseconds: target minus reading.
    #[prost(int64, tag = "16")]
    pub slew_ns: i64,
    /// What is announced for the end of the day: `normal`, `insert` or `delete`.
    #[prost(string, tag = "17")]
    pub leap: String,
    /// What a person should look at, empty if nothing.
    #[prost(string, repeated, tag = "18")]
    pub alarms: Vec<String>,
    /// How far the highest stamp lies ahead of the reading, in nanoseconds; 0 if it does not.
    #[prost(uint64, tag = "19")]
    pub lead_ns: u64,
    /// Time servers that it calls falsetickers after it had believed them for long, as configured.
    #[prost(string, repeated, tag = "20")]
    pub turned: Vec<String>,
    /// Those of them that every other node has turned against, too: either such a server is wrong, or
    /// the others are, and nobody can tell.
    #[prost(string, repeated, tag = "21")]
    pub doubtful: Vec<String>,
}

/// One time server as a node sees it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ClockSource {
    /// Configured address.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Success of the last eight polls, newest in the lowest bit.
    #[prost(uint32, tag = "2")]
    pub reach: u32,
    /// Stratum.
    #[prost(uint32, tag = "3")]
    pub stratum: u32,
    /// Its time, as its newest sample tells it, minus the node's reading, in nanoseconds.
    #[prost(int64, tag = "4")]
    pub offset_ns: i64,
    /// Round trip without its own processing, in nanoseconds.
    #[prost(uint64, tag = "5")]
    pub delay_ns: u64,
    /// Root distance: bound on its error as seen from here, in nanoseconds.
    #[prost(uint64, tag = "6")]
    pub distance_ns: u64,
    /// What we make of it: `selected`, `falseticker`, `too few`, `unreachable`, `kiss …`,
    /// `rejected …`.
    #[prost(string, tag = "7")]
    pub verdict: String,
    /// Milliseconds until the next poll.
    #[prost(uint64, tag = "8")]
    pub next_poll_ms: u64,
    /// What it follows, as chronyc shows it: an address, or four letters.
    #[prost(string, tag = "9")]
    pub refid: String,
    /// Seconds between polls now.
    #[prost(uint32, tag = "10")]
    pub poll_s: u32,
    /// Milliseconds since its newest sample; absent without one.
    #[prost(uint64, optional, tag = "11")]
    pub age_ms: Option<u64>,
    /// Answers that were refused, by reason.
    #[prost(message, repeated, tag = "12")]
    pub refused: Vec<Refused>,
    /// Address that is asked, `ip:port`; empty if it could not be resolved.
    #[prost(string, tag = "13")]
    pub asked: String,
}

impl ClockSource {
    /// Whether it takes part and agrees with the majority.
    #[must_use]
    pub fn is_selected(&self) -> bool {
        self.verdict == clock::Verdict::Selected.to_string()
    }

    /// Whether a majority contradicts it.
    #[must_use]
    pub fn is_falseticker(&self) -> bool {
        self.verdict == clock::Verdict::Falseticker.to_string()
    }
}

/// How many answers of a time server were refused for one reason.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Refused {
    /// The reason, as the metric's label.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// How many.
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

/// Another node's clock as seen from this one.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ClockPeer {
    /// The other node.
    #[prost(string, tag = "1")]
    pub node: String,
    /// What it says of its clock.
    #[prost(string, tag = "2")]
    pub state: String,
    /// Its reading minus ours, in nanoseconds.
    #[prost(int64, tag = "3")]
    pub offset_ns: i64,
    /// Round trip, in nanoseconds.
    #[prost(uint64, tag = "4")]
    pub delay_ns: u64,
    /// Half-width of what it claims, in microseconds; absent if it claims nothing.
    #[prost(uint64, optional, tag = "5")]
    pub error_bound_us: Option<u64>,
    /// `compatible`, `disjoint`, or `unknown` as long as either side claims nothing.
    #[prost(string, tag = "6")]
    pub verdict: String,
    /// Milliseconds since the last exchange.
    #[prost(uint64, tag = "7")]
    pub age_ms: u64,
}

/// What became of the ceiling of a node's stamps.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CeilingLowered {
    /// The node.
    #[prost(string, tag = "1")]
    pub node: String,
    /// The ceiling before, 12 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub was: Vec<u8>,
    /// The ceiling now, 12 bytes: the same where nothing was in the way of stamps.
    #[prost(bytes = "vec", tag = "3")]
    pub now: Vec<u8>,
}
