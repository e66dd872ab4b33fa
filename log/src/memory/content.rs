//! One file of a disk in memory: what reads see, what the disk has, and the sectors between.

use std::collections::BTreeSet;
use std::ops::Range;

use super::random::Random;

/// What a disk writes whole or tears.
pub(super) const SECTOR: u64 = 512;

#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    seen: Vec<u8>,
    disk: Vec<u8>,
    /// Sectors that were written and wait to be synced.
    dirty: BTreeSet<u64>,
}

/// What a loss of power does to the sectors that were not synced.
#[derive(Clone, Copy)]
enum Loss {
    Nothing,
    Everything,
    Some,
}

impl Content {
    pub(super) fn durable(bytes: &[u8]) -> Self {
        Self { seen: bytes.to_vec(), disk: bytes.to_vec(), dirty: BTreeSet::new() }
    }

    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    pub(super) fn on_disk(&self) -> &[u8] {
        &self.disk
    }

    pub(super) fn unsynced(&self) -> usize {
        self.dirty.len()
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        let range = as_range(offset, end);
        if self.seen.len() < range.end {
            self.seen.resize(range.end, 0);
        }
        if let Some(place) = self.seen.get_mut(range) {
            place.copy_from_slice(bytes);
        }
        self.dirty.extend(offset / SECTOR..=(end - 1) / SECTOR);
    }

    /// Gives what it made durable, in pieces.
    pub(super) fn sync(&mut self) -> Vec<Vec<u8>> {
        let sectors = std::mem::take(&mut self.dirty);
        for sector in &sectors {
            let new = self.sector(*sector);
            self.store(*sector, &new);
        }
        // A length that no byte was written for does not exist here.
        debug_assert!(self.disk.len() <= self.seen.len(), "the disk has more than was written");
        self.pieces(&sectors)
    }

    /// What the disk holds in these sectors, each neighbour behind the other.
    fn pieces(&self, sectors: &BTreeSet<u64>) -> Vec<Vec<u8>> {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut last = None;
        for sector in sectors {
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(self.disk.len() as u64);
            let bytes = self.disk.get(as_range(start, end)).unwrap_or_default();
            match pieces.last_mut().filter(|_| last.is_some_and(|last: u64| last + 1 == *sector)) {
                Some(piece) => piece.extend_from_slice(bytes),
                None => pieces.push(bytes.to_vec()),
            }
            last = Some(*sector);
        }
        pieces
    }

    /// Some sectors are lost, and none waits any more: the next sync succeeds and writes nothing.
    pub(super) fn fail_sync(&mut self, random: &mut Random) -> Vec<Vec<u8>> {
        let mut stored = std::mem::take(&mut self.dirty);
        stored.retain(|_| random.percent(50));
        for sector in &stored {
            let new = self.sector(*sector);
            self.store(*sector, &new);
        }
        self.pieces(&stored)
    }

    /// Reads come from the disk again, but for what waits to be synced.
    pub(super) fn forget(&mut self) {
        let waiting: Vec<_> = self.dirty.iter().map(|at| (*at, self.sector(*at))).collect();
        let length = self.seen.len();
        self.seen.clone_from(&self.disk);
        // The length is kept by the system, not by a page of the file.
        self.seen.resize(length, 0);
        for (sector, bytes) in waiting {
            let start = sector * SECTOR;
            let range = as_range(start, start + bytes.len() as u64);
            if let Some(place) = self.seen.get_mut(range) {
                place.copy_from_slice(&bytes);
            }
        }
    }

    pub(super) fn lose_power(&mut self, random: &mut Random) {
        let loss = match random.below(4) {
            0 => Loss::Nothing,
            1 => Loss::Everything,
            _ => Loss::Some,
        };
        for sector in std::mem::take(&mut self.dirty) {
            let new = self.sector(sector);
            let kept = match loss {
                Loss::Nothing => Some(new),
                Loss::Everything => None,
                Loss::Some => self.torn(sector, new, random),
            };
            if let Some(kept) = kept {
                self.store(sector, &kept);
            }
        }
        self.seen.clone_from(&self.disk);
    }

    /// What becomes of a sector; `None` if it stays as it was on the disk.
    fn torn(&self, sector: u64, mut new: Vec<u8>, random: &mut Random) -> Option<Vec<u8>> {
        let cut = usize::try_from(random.below(new.len() as u64)).unwrap_or(0);
        let start = usize::try_from(sector * SECTOR).unwrap_or(usize::MAX);
        let old = |at: usize| self.disk.get(start.saturating_add(at)).copied().unwrap_or(0);
        match random.below(10) {
            0..4 => return Some(new),
            4..7 => return None,
            7 => new.iter_mut().enumerate().skip(cut).for_each(|(at, byte)| *byte = old(at)),
            8 => new.iter_mut().enumerate().take(cut).for_each(|(at, byte)| *byte = old(at)),
            // A write that was under way when the power went may leave anything.
            _ => new.iter_mut().for_each(|byte| *byte = random.draw().to_be_bytes()[0]),
        }
        Some(new)
    }

    /// What reads see of a sector.
    fn sector(&self, sector: u64) -> Vec<u8> {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.seen.len() as u64);
        self.seen.get(as_range(start, end)).unwrap_or_default().to_vec()
    }

    fn store(&mut self, sector: u64, bytes: &[u8]) {
        let start = sector * SECTOR;
        let range = as_range(start, start + bytes.len() as u64);
        if self.disk.len() < range.end {
            self.disk.resize(range.end, 0);
        }
        if let Some(place) = self.disk.get_mut(range) {
            place.copy_from_slice(bytes);
        }
    }
}

fn as_range(start: u64, end: u64) -> Range<usize> {
    let at = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
    at(start)..at(end)
}
