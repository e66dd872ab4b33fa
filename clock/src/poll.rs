//! When to ask a server again.

/// Queries of a burst: at start, and after the machine was suspended.
pub const BURST_QUERIES: u8 = 4;
/// Shortest and longest poll interval, milliseconds.
pub const POLL_MIN_MS: u64 = 4_000;
/// See [`POLL_MIN_MS`].
pub const POLL_MAX_MS: u64 = 1_024_000;
const _: () = assert!(POLL_MIN_MS < POLL_MAX_MS);

/// The schedule of one server.
#[derive(Debug, Clone)]
pub struct Poll {
    interval_ms: u64,
    spacing_ms: u64,
    burst_left: u8,
    /// Until the first sample: the next wait after the burst, doubled each time, so that a network
    /// that comes up late is noticed soon.
    eager_ms: u64,
    disabled: bool,
}

impl Poll {
    /// A schedule that begins with a burst. `interval_ms` is brought into range; a private server
    /// may be asked faster in a burst.
    #[must_use]
    pub fn new(interval_ms: u64, private: bool) -> Self {
        Self {
            interval_ms: interval_ms.clamp(POLL_MIN_MS, POLL_MAX_MS),
            spacing_ms: if private { 250 } else { 2_000 },
            burst_left: BURST_QUERIES,
            eager_ms: POLL_MIN_MS,
            disabled: false,
        }
    }

    /// Milliseconds to wait after a query; `None` if the server must not be asked again. `random`
    /// spreads the interval by 10 % either way, so that nodes do not ask in step.
    #[must_use]
    pub fn after_query(&mut self, random: u64) -> Option<u64> {
        if self.disabled {
            return None;
        }
        self.burst_left = self.burst_left.saturating_sub(1);
        if self.burst_left > 0 {
            return Some(self.spacing_ms);
        }
        let wait_ms = self.interval_ms.min(self.eager_ms);
        self.eager_ms = self.eager_ms.saturating_mul(2);
        let spread = wait_ms / 5;
        Some(wait_ms - spread / 2 + random % (spread + 1))
    }

    /// The server is there: the usual interval from now on.
    pub fn settle(&mut self) {
        self.eager_ms = u64::MAX;
    }

    /// The server said that it is asked too often: half as often from now on, for good.
    pub fn slow_down(&mut self) {
        self.interval_ms = (self.interval_ms * 2).min(POLL_MAX_MS);
        assert!(self.interval_ms >= POLL_MIN_MS, "asked to slow down, and faster than before");
        self.burst_left = 0;
        self.settle();
    }

    /// The server refuses this client: not asked until the configuration is reloaded.
    pub fn disable(&mut self) {
        self.disabled = true;
    }

    /// The configuration was reloaded: asked again, with a burst if it was not asked any more.
    pub fn enable(&mut self) {
        if std::mem::take(&mut self.disabled) {
            self.burst();
        }
    }

    /// Asks quickly again, unless the server refuses.
    pub fn burst(&mut self) {
        self.burst_left = BURST_QUERIES;
    }

    /// Whether the next query comes soon.
    #[must_use]
    pub fn is_bursting(&self) -> bool {
        self.burst_left > 0 && !self.disabled
    }

    /// Whether the server refuses this client.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// The interval outside bursts, milliseconds.
    #[must_use]
    pub fn interval_ms(&self) -> u64 {
        self.interval_ms
    }
}
