//! How many kept messages each gateway took: up with every message that is stored, down with every
//! one that expires. A tombstone still counts, events never do.
//!
//! A store of an earlier release did not count: its older messages stay out of the counts until they
//! are gone, see [`GatewayCounts::from_seq`].

use std::collections::BTreeMap;

use proto::Record;

use crate::rows::error::StateError;
use crate::rows::keys::EVENTS;
use crate::rows::view::Table;

/// Kept messages by the gateway that took them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayCounts {
    counts: BTreeMap<String, u64>,
    /// First seq that is counted.
    pub(crate) from_seq: u64,
}

/// One count.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct GatewayRow {
    #[prost(string, tag = "1")]
    gateway: String,
    #[prost(uint64, tag = "2")]
    messages: u64,
}

impl GatewayCounts {
    /// The counts before any entry.
    pub(crate) const EMPTY: Self = Self { counts: BTreeMap::new(), from_seq: 1 };

    /// The stored counts; `from_seq` 0 is a store that did not count yet.
    pub(crate) fn read(rows: Vec<GatewayRow>, from_seq: u64, last_seq: u64) -> Self {
        let counts = rows.into_iter().map(|row| (row.gateway, row.messages)).collect();
        let from_seq = if from_seq == 0 { last_seq.saturating_add(1) } else { from_seq };
        Self { counts, from_seq }
    }

    pub(crate) fn rows(&self) -> Vec<GatewayRow> {
        let row = |(gateway, &messages): (&String, &u64)| GatewayRow {
            gateway: gateway.clone(),
            messages,
        };
        self.counts.iter().map(row).collect()
    }

    /// The counts, by name of the gateway.
    pub(crate) fn into_counts(self) -> impl Iterator<Item = (String, u64)> {
        self.counts.into_iter()
    }

    /// All counts together.
    pub(crate) fn sum(&self) -> u64 {
        self.counts.values().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// A message is stored.
    pub(crate) fn count(&mut self, gateway: &str) {
        match self.counts.get_mut(gateway) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(gateway.to_owned(), 1)),
        }
    }

    /// A record expires.
    pub(crate) fn release(&mut self, record: &Record) -> Result<(), StateError> {
        if record.to == EVENTS || record.seq < self.from_seq {
            return Ok(());
        }
        let wrong =
            || StateError::corrupt(Table::Meta, "fewer messages counted than a gateway has");
        let count = self.counts.get_mut(&record.gateway).ok_or_else(wrong)?;
        *count = count.checked_sub(1).ok_or_else(wrong)?;
        if *count == 0 {
            self.counts.remove(&record.gateway);
        }
        Ok(())
    }
}
