//! What a seed draws before anything happens: how many nodes and clients, which faults are on and how
//! often, how fast the disks are. Every seed has other weights, so that rare mixtures come up, too.

use std::time::Duration;

use log::memory::Random;

use crate::fault::Kind;

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
    /// Faults and their weights; those that are not there do not happen.
    pub weights: Vec<(Kind, u64)>,
}

impl Shape {
    /// The shape of a seed.
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        let nodes = if random.percent(80) { 3 } else { 5 };
        let mut weights = Vec::new();
        for kind in Kind::ALL {
            // About half of the faults are on, some of them often.
            if random.percent(50) {
                weights.push((kind, 1 + random.below(8)));
            }
        }
        if weights.is_empty() {
            weights.push((Kind::Kill, 1));
        }
        Self {
            nodes,
            senders: 1 + u8::try_from(random.below(3)).unwrap_or(0),
            faulty: Duration::from_secs(4 + random.below(8)),
            rest_max: Duration::from_millis(200 + random.below(1_500)),
            sync_max: Duration::from_micros(200 + random.below(8_000)),
            weights,
        }
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
