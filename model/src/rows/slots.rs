//! Placement: 4096 slots, each pointing at a shard. Version 1 has one shard, so the table says 1
//! everywhere; it exists so that nothing on disk changes when there are more.

use std::borrow::Cow;

use proto::Stream;
use proto::limits::SLOTS;

pub use proto::slots::{slot_of, stream_key};

use crate::SHARD;
use crate::rows::error::StateError;
use crate::rows::keys;
use crate::rows::view::{Table, View};

/// Which shard each slot points at. A slot has never pointed anywhere else while the epoch is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotTable {
    /// Grows with every change.
    pub epoch: u64,
    shards: Vec<u16>,
}

impl SlotTable {
    /// The table of a new cluster.
    #[must_use]
    pub fn initial() -> Self {
        Self { epoch: 1, shards: vec![SHARD; SLOTS] }
    }

    /// The shard of a slot; `None` for a number that is not a slot.
    #[must_use]
    pub fn shard_of(&self, slot: u16) -> Option<u16> {
        self.shards.get(usize::from(slot)).copied()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        assert_eq!(self.shards.len(), SLOTS, "every slot points at a shard");
        let mut out = Vec::with_capacity(8 + 2 * SLOTS);
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend(self.shards.iter().flat_map(|shard| shard.to_be_bytes()));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let corrupt = || StateError::corrupt(Table::Slots, "the slot table has a wrong length");
        let (epoch, rest) = bytes.split_first_chunk::<8>().ok_or_else(corrupt)?;
        let (pairs, rest) = rest.as_chunks::<2>();
        if pairs.len() != SLOTS || !rest.is_empty() {
            return Err(corrupt());
        }
        let shards = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
        Ok(Self { epoch: u64::from_be_bytes(*epoch), shards })
    }
}

/// Which shard each slot points at.
///
/// # Errors
/// When the state cannot be read.
pub fn slot_table(view: &dyn View) -> Result<SlotTable, StateError> {
    match view.get(Table::Slots, keys::ONLY)? {
        Some(row) => SlotTable::decode(&row),
        None => Ok(SlotTable::initial()),
    }
}

/// What a sender is called in keys. The senders of events are nodes, and a client may have a node's
/// name: a `$` in front, which no name can hold, keeps them apart.
#[must_use]
pub(crate) fn sender_key<'n>(stream: &Stream, from: &'n str) -> Cow<'n, str> {
    match stream {
        Stream::Events => Cow::Owned(format!("${from}")),
        Stream::Client(_) | Stream::Group(_) | Stream::Everyone => Cow::Borrowed(from),
    }
}
