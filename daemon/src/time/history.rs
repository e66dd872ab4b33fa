//! The clock's history, as it goes into the log: when it said what, and how wrong it may have been in
//! between.
//!
//! Each entry speaks of the time since the one before and carries the largest error bound of all that
//! time. Between two views of the clock the bound is largest at one of the ends, so whoever samples
//! just before and just after each change, and once in a while for good measure, misses nothing.
//!
//! Invariants: the first entry is the start; periods follow each other without a gap; an entry claims
//! no bound for a period in which there was a moment without one. However the clock flaps, entries
//! are limited to [`BURST`] and then one per [`REFILL_NS`], besides the regular ones: what comes in
//! between is folded into the next.
//!
//! Pure: moments come in, entries go out. Not here: who carries them to the log (`events`).

use clock::ClockState;
use proto::event::{ClockCause, ClockEvent};

/// Entries that may follow each other at once.
const BURST: u64 = 20;
/// After a burst there is one entry per so many nanoseconds.
const REFILL_NS: u64 = 10_000_000_000;
/// What is made of the servers is told at most once in so many nanoseconds.
const SERVERS_NS: u64 = 10_000_000_000;
/// Longest sentence, in bytes.
const TEXT_MAX: usize = 500;

/// The clock at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Raw counter, nanoseconds.
    pub(super) raw_ns: u64,
    /// Reading, nanoseconds since 1970.
    pub(super) now_ns: u64,
    /// State.
    pub(super) state: ClockState,
    /// Error bound, microseconds; `None` if unknown.
    pub(super) error_us: Option<u64>,
}

/// What goes into the log, and when.
#[derive(Debug)]
pub(super) struct History {
    node: String,
    every_ns: u64,
    /// The last entry's moment; before the first entry, the moment of the start.
    last: Moment,
    started: bool,
    /// Largest error bound since the last entry; `None` once it was unknown.
    worst_us: Option<u64>,
    /// What waits to be written; one per cause, the latest.
    waiting: Vec<(ClockCause, String)>,
    /// What was last written of the servers, and when.
    servers: String,
    servers_raw_ns: Option<u64>,
    /// Entries that may be written now, in nanoseconds of refilling.
    credit_ns: u64,
    credit_raw_ns: u64,
}

impl History {
    /// A history that has no entry yet. One is written at least every `every_ns` nanoseconds.
    pub(super) fn new(node: String, every_ns: u64, now: &Moment) -> Self {
        Self {
            node,
            every_ns,
            last: *now,
            started: false,
            worst_us: now.error_us,
            waiting: Vec::new(),
            servers: String::new(),
            servers_raw_ns: None,
            credit_ns: BURST * REFILL_NS,
            credit_raw_ns: now.raw_ns,
        }
    }

    /// Takes the error bound at some moment.
    pub(super) fn sample(&mut self, error_us: Option<u64>) {
        self.worst_us = self.worst_us.zip(error_us).map(|(worst, now)| worst.max(now));
    }

    /// Asks for an entry.
    pub(super) fn note(&mut self, cause: ClockCause, text: impl Into<String>) {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        self.waiting.retain(|(known, _)| *known != cause);
        self.waiting.push((cause, text));
        self.waiting.sort_by_key(|(cause, _)| rank(*cause));
    }

    /// Takes what is made of the servers, in words; the same words mean that nothing changed.
    pub(super) fn servers(&mut self, text: &str) {
        if text == self.servers {
            self.waiting.retain(|(cause, _)| *cause != ClockCause::Servers);
        } else {
            self.note(ClockCause::Servers, text);
        }
    }

    /// The entries that are due. `decided` says whether the state means something already;
    /// `describe` explains it.
    pub(super) fn due(
        &mut self,
        now: &Moment,
        decided: bool,
        describe: impl Fn() -> String,
    ) -> Vec<ClockEvent> {
        self.sample(now.error_us);
        self.refill(now.raw_ns);
        if !self.started {
            return if decided { vec![self.start(now, &describe())] } else { Vec::new() };
        }
        if now.state != self.last.state && !self.waiting.iter().any(|(cause, _)| explains(*cause)) {
            self.note(ClockCause::State, describe());
        }
        let mut entries = Vec::new();
        for (cause, text) in std::mem::take(&mut self.waiting) {
            if self.may_write(cause, now.raw_ns) {
                self.credit_ns -= REFILL_NS;
                if cause == ClockCause::Servers {
                    text.clone_into(&mut self.servers);
                    self.servers_raw_ns = Some(now.raw_ns);
                }
                entries.push(self.entry(cause, text, now));
            } else {
                self.waiting.push((cause, text));
            }
        }
        if now.raw_ns.saturating_sub(self.last.raw_ns) >= self.every_ns {
            entries.push(self.entry(ClockCause::History, describe(), now));
        }
        entries
    }

    /// The first entry: it speaks of no time, because nobody watched before.
    fn start(&mut self, now: &Moment, text: &str) -> ClockEvent {
        self.started = true;
        self.last = *now;
        self.worst_us = now.error_us;
        let servers = self.waiting.iter().find(|(cause, _)| *cause == ClockCause::Servers);
        self.servers = servers.map(|(_, text)| text.clone()).unwrap_or_default();
        let text = [text, &self.servers].into_iter().filter(|part| !part.is_empty());
        let text = text.collect::<Vec<_>>().join("; ");
        // What was noted on the way to the first entry is what the first entry says.
        self.waiting.clear();
        let mut entry = self.entry(ClockCause::Start, text, now);
        ClockState::Unsynced.as_str().clone_into(&mut entry.was);
        entry
    }

    fn entry(&mut self, cause: ClockCause, text: String, now: &Moment) -> ClockEvent {
        let last = std::mem::replace(&mut self.last, *now);
        let worst_error_us = std::mem::replace(&mut self.worst_us, now.error_us);
        let guessed = last.state == ClockState::Unsynced && now.state != ClockState::Unsynced;
        // A reading of before the first sync was a guess: only the time that passed since is known.
        let since_ns = if guessed {
            now.now_ns.saturating_sub(now.raw_ns.saturating_sub(last.raw_ns))
        } else {
            last.now_ns.min(now.now_ns)
        };
        ClockEvent {
            node: self.node.clone(),
            cause,
            state: now.state.to_string(),
            was: last.state.to_string(),
            since_ns,
            until_ns: now.now_ns,
            worst_error_us,
            error_us: now.error_us,
            text,
        }
    }

    fn may_write(&self, cause: ClockCause, raw_ns: u64) -> bool {
        let quiet_ns = self.servers_raw_ns.map(|at_ns| raw_ns.saturating_sub(at_ns));
        let too_soon = cause == ClockCause::Servers && quiet_ns.is_some_and(|ns| ns < SERVERS_NS);
        self.credit_ns >= REFILL_NS && !too_soon
    }

    fn refill(&mut self, raw_ns: u64) {
        let passed_ns = raw_ns.saturating_sub(self.credit_raw_ns);
        self.credit_ns = self.credit_ns.saturating_add(passed_ns).min(BURST * REFILL_NS);
        self.credit_raw_ns = self.credit_raw_ns.max(raw_ns);
    }
}

/// Whether an entry for this cause tells a change of state well enough.
fn explains(cause: ClockCause) -> bool {
    matches!(
        cause,
        ClockCause::Suspend | ClockCause::Disruption | ClockCause::Peers | ClockCause::State
    )
}

/// Entries of one moment, in this order: what may explain a change of state comes first and tells it.
fn rank(cause: ClockCause) -> u8 {
    match cause {
        ClockCause::Start => 0,
        ClockCause::Suspend => 1,
        ClockCause::Disruption => 2,
        ClockCause::Peers => 3,
        ClockCause::State => 4,
        ClockCause::Servers => 5,
        ClockCause::OsStep => 6,
        ClockCause::Policy => 7,
        ClockCause::History => 8,
    }
}
