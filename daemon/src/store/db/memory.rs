//! The database in memory: what was flushed is kept, what was only written is lost with the process.
//!
//! For runs that can be repeated. Rows lie in ordered maps; a frozen moment shares them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use model::Direction;
use parking_lot::Mutex;

use super::{Batch, Range, What};

type Rows = BTreeMap<Vec<u8>, Bytes>;

/// All families at one moment.
pub(super) type Moment = BTreeMap<&'static str, Arc<Rows>>;

/// State in memory. Clones are the same.
#[derive(Clone, Default)]
pub struct MemoryState {
    world: Arc<Mutex<World>>,
}

#[derive(Clone, Default)]
struct World {
    live: Moment,
    sequence: u64,
    flushed: Moment,
    flushed_sequence: u64,
    /// Whether the process that wrote it is gone: nothing is written any more.
    dead: bool,
}

impl std::fmt::Debug for MemoryState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryState").field("sequence", &self.sequence()).finish()
    }
}

/// The process is gone.
pub(super) struct Dead;

impl MemoryState {
    /// The state as the next process finds it: as of its last flush. This one takes nothing any more.
    #[must_use]
    pub fn end(&self) -> Self {
        let mut world = self.world.lock();
        world.dead = true;
        let kept = World {
            live: world.flushed.clone(),
            sequence: world.flushed_sequence,
            flushed: world.flushed.clone(),
            flushed_sequence: world.flushed_sequence,
            dead: false,
        };
        Self { world: Arc::new(Mutex::new(kept)) }
    }

    /// A copy of what is flushed, as a backup of the disk would have it.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut copy = self.world.lock().clone();
        (copy.live, copy.sequence) = (copy.flushed.clone(), copy.flushed_sequence);
        copy.dead = false;
        Self { world: Arc::new(Mutex::new(copy)) }
    }

    /// Flushes all families at once, as a database does when it likes.
    pub fn flush_by_itself(&self) {
        // A process that is gone flushes nothing.
        let _ = self.flush();
    }

    pub(super) fn sequence(&self) -> u64 {
        self.world.lock().sequence
    }

    pub(super) fn freeze(&self) -> Moment {
        self.world.lock().live.clone()
    }

    pub(super) fn get(
        &self,
        at: Option<&Moment>,
        family: &'static str,
        key: &[u8],
    ) -> Option<Bytes> {
        let find = |moment: &Moment| moment.get(family).and_then(|rows| rows.get(key)).cloned();
        at.map_or_else(|| find(&self.world.lock().live), find)
    }

    pub(super) fn walk(
        &self,
        at: Option<&Moment>,
        range: &Range<'_>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        let rows = match at {
            Some(moment) => moment.get(range.family).cloned(),
            None => self.world.lock().live.get(range.family).cloned(),
        };
        let Some(rows) = rows else { return };
        if range.high.is_some_and(|high| high <= range.low) {
            return;
        }
        let low = Bound::Included(range.low.to_vec());
        let high = range.high.map_or(Bound::Unbounded, |high| Bound::Excluded(high.to_vec()));
        let mut found = rows.range((low, high));
        let each = |(key, value): (&Vec<u8>, &Bytes)| each(key, value);
        // Whether it came to the end says nothing here.
        let _ = match range.direction {
            Direction::Forward => found.all(each),
            Direction::Backward => found.rev().all(each),
        };
    }

    pub(super) fn write(&self, batch: Batch) -> Result<(), Dead> {
        let mut world = self.world.lock();
        if world.dead {
            return Err(Dead);
        }
        for (family, key, what) in batch.each() {
            world.sequence += 1;
            let rows = Arc::make_mut(world.live.entry(family).or_default());
            match what {
                What::Put(value) => {
                    rows.insert(key.to_vec(), Bytes::copy_from_slice(value));
                }
                What::Delete => {
                    rows.remove(key);
                }
                What::DeleteTo(to) => {
                    rows.retain(|row, _| &row[..] < key || row >= to);
                }
            }
        }
        Ok(())
    }

    pub(super) fn flush(&self) -> Result<(), Dead> {
        let mut world = self.world.lock();
        if world.dead {
            return Err(Dead);
        }
        (world.flushed, world.flushed_sequence) = (world.live.clone(), world.sequence);
        Ok(())
    }
}
