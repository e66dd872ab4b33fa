//! What a seed draws before anything happens: how many nodes and clients, which faults are on and how
//! often, how fast the disks are. Every seed has other weights, so that rare mixtures come up, too.

use std::time::Duration;

use daemon::raft::{LogKept, PATIENCE_MAX};
use log::memory::Random;

use crate::fault::{JUMP_MIN, Kind};
use crate::machine::pick;

/// Virtual time in which a cluster must serve once all faults have ended.
pub const SERVES_WITHIN: Duration = Duration::from_secs(5);

/// Virtual time in which a clock is good once its servers are there again.
const SYNCS_WITHIN: Duration = Duration::from_secs(10);

/// What a run is like.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Number of nodes.
    pub nodes: u64,
    /// Number of clients that send.
    pub senders: u8,
    /// How long faults happen, in virtual time.
    pub faulty: Duration,
    /// Longest rest between two faults.
    pub rest_max: Duration,
    /// How long a sync usually takes at most.
    pub sync_max: Duration,
    /// How far clocks are set at most, milliseconds.
    pub step_max_ms: u64,
    /// How much of the log stays.
    pub log_kept: LogKept,
    /// The state is flushed after so many entries.
    pub flush_entries: u64,
    /// Whether disks lose what was durable whoever else holds it: then anything may be lost, but nothing
    /// silently.
    pub reckless: bool,
    /// Whether nodes ask time servers.
    pub asks_time: bool,
    /// How often a disk is copied beside a fault, in a hundred.
    pub copies: u64,
    /// Faults and their weights; those that are not there do not happen.
    pub weights: Vec<(Kind, u64)>,
}

impl Shape {
    /// The shape of a seed.
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        let nodes = if random.percent(80) { 3 } else { 5 };
        // Many kinds at once hide each other: what one of them needs, another one ends. So many seeds
        // have few kinds, which come the more often.
        let on = *pick(random, &[8, 20, 50]).unwrap_or(&50);
        let mut weights = Vec::new();
        for kind in Kind::ALL {
            if random.percent(on) {
                weights.push((kind, 1 + random.below(8)));
            }
        }
        let asks_time = random.percent(25);
        weights.retain(|(kind, _)| asks_time || !kind.needs_time_servers());
        if weights.is_empty() {
            weights.push((Kind::Kill, 1));
        }
        let longest = if random.percent(90) { 8 } else { 40 };
        let reckless = random.percent(7);
        if reckless {
            weights.retain(|(kind, _)| !kind.damages());
            weights.extend([(Kind::SetBack, 12), (Kind::Isolate, 8), (Kind::Kill, 6)]);
        }
        let log_kept = match random.percent(60) {
            true => LogKept { every: 10 + random.below(80), entries: random.below(40) },
            false => LogKept::default(),
        };
        Self {
            nodes,
            senders: 1 + u8::try_from(random.below(3)).unwrap_or(0),
            faulty: Duration::from_secs(4 + random.below(longest)),
            rest_max: Duration::from_millis(200 + random.below(1_500)),
            sync_max: Duration::from_micros(200 + random.below(8_000)),
            step_max_ms: if random.percent(75) { 2_000 } else { 20_000 },
            log_kept,
            flush_entries: if random.percent(60) { 5 + random.below(60) } else { u64::MAX },
            reckless,
            asks_time,
            copies: if weights.iter().any(|(kind, _)| *kind == Kind::SetBack) { 60 } else { 0 },
            weights,
        }
    }

    /// The part that these kinds have of all its faults, in a hundred.
    #[must_use]
    pub fn part_of(&self, kinds: &[Kind]) -> u64 {
        let all: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let of = self.weights.iter().filter(|(kind, _)| kinds.contains(kind));
        of.map(|(_, weight)| weight * 100).sum::<u64>() / all.max(1)
    }

    /// Virtual time in which a cluster of this shape must serve once all faults have ended: where clocks
    /// were set further than others believe, when they have caught up.
    #[must_use]
    pub fn serves_within(&self) -> Duration {
        let far = Duration::from_millis(self.step_max_ms.saturating_sub(2_000));
        let jumps = self.weights.iter().any(|(kind, _)| *kind == Kind::ClockJump);
        let far = if jumps { far.max(JUMP_MIN * 2) } else { far };
        // A node whose servers were away asks them again a few seconds later, and some times.
        let synced = if self.asks_time { SYNCS_WITHIN } else { Duration::ZERO };
        // A vote that was cast while a disk hung may be waited for as long as any.
        let hangs = self.weights.iter().any(|(kind, _)| *kind == Kind::DiskHang);
        let ballots = if hangs { PATIENCE_MAX } else { Duration::ZERO };
        SERVES_WITHIN + synced + ballots + far * 3
    }

    /// Draws a fault.
    #[must_use]
    pub fn fault(&self, random: &mut Random) -> Kind {
        let all = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = random.below(all);
        for (kind, weight) in &self.weights {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *kind,
            }
        }
        Kind::Kill
    }
}

/// A length of time up to `max`, never none.
#[must_use]
pub fn up_to(random: &mut Random, max: Duration) -> Duration {
    let max_us = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(1 + random.below(max_us))
}
