//! The segments that are open: those that hold the log, and those that are ready for it.
//!
//! ```text
//! made   zeros, label, sync, renamed into place, names synced: ready
//! ready  -> active -> sealed -> purged -> taken out, new label, renamed: ready again
//! ```
//!
//! Making one is a step of its own, off the path of a write; a writer that finds none ready makes
//! one itself.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::disk::{Disk, DiskFile};
use crate::format::StoreId;
use crate::record::Seed;
use crate::segment::{MAKING, Segment, file_name, label};
use crate::verdict::LogError;
use planted::Bug;

/// Bytes of zeros that are written at once.
const ZEROS: usize = 256 << 10;
/// A segment is made when one part in so many of the one before is used: most logs of a small cluster
/// never need it.
const SPARE_WHEN: usize = 8;
/// Segments that are kept ready at most: purged ones beyond that are removed.
pub(crate) const READY_MAX: usize = 2;

/// What a step of upkeep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// Nothing was to be done.
    Nothing,
    /// A segment was made.
    Made,
    /// A purged segment was made ready again.
    Reused,
    /// A purged segment was removed.
    Removed,
}

#[derive(Debug)]
pub(crate) struct Segments<D: Disk> {
    disk: D,
    store: StoreId,
    size: usize,
    state: Mutex<State<D::File>>,
    /// Told when one was made, or when all that was read is.
    settled: Condvar,
}

#[derive(Debug)]
struct State<F> {
    held: BTreeMap<u64, Held<F>>,
    /// Life of the segment that is written to, and how far it is written since the log was opened.
    active: u64,
    used: usize,
    /// Whether somebody is making one.
    making: bool,
    /// Whether nothing of what was written may come back: no file is used again then.
    erasing: bool,
    /// Whether somebody waits until nobody reads everything, to remove what is purged.
    removing: bool,
    /// How many read everything: none is used again or removed meanwhile.
    readers: usize,
    /// Entries that are purged, by shard.
    floors: BTreeMap<u16, u64>,
}

#[derive(Debug)]
struct Held<F> {
    segment: Arc<Segment<F>>,
    /// Whether it held nothing but zeros when it was put into its place.
    fresh: bool,
    /// The highest entry of each shard that it holds.
    highest: BTreeMap<u16, u64>,
}

enum Task<F> {
    Make(u64),
    Reuse(u64, Held<F>, u64),
    Remove(u64, Held<F>),
}

/// Somebody makes a segment; however that ends, others may then.
struct Making<'a, D: Disk>(&'a Segments<D>);

impl<D: Disk> Drop for Making<'_, D> {
    fn drop(&mut self) {
        self.0.lock().making = false;
        self.0.settled.notify_all();
    }
}

impl<D: Disk> Segments<D> {
    pub(crate) fn new(disk: D, store: StoreId, size: usize) -> Self {
        let state = State {
            held: BTreeMap::new(),
            active: 0,
            used: 0,
            making: false,
            erasing: false,
            removing: false,
            readers: 0,
            floors: BTreeMap::new(),
        };
        Self { disk, store, size, state: Mutex::new(state), settled: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<D::File>> {
        // Every change under this lock is one step.
        self.state.lock()
    }

    pub(crate) fn store(&self) -> &StoreId {
        &self.store
    }

    /// Takes up a segment that was found.
    pub(crate) fn hold(&self, segment: Segment<D::File>, highest: BTreeMap<u16, u64>) {
        self.take_up(segment, highest, false);
    }

    fn take_up(&self, segment: Segment<D::File>, highest: BTreeMap<u16, u64>, fresh: bool) {
        let life = segment.seed.life;
        let held = Held { segment: Arc::new(segment), fresh, highest };
        let before = self.lock().held.insert(life, held);
        assert!(before.is_none(), "a life comes once");
    }

    pub(crate) fn get(&self, life: u64) -> Option<Arc<Segment<D::File>>> {
        self.lock().held.get(&life).map(|held| Arc::clone(&held.segment))
    }

    /// The segment of this life becomes the one that is written to; it must be in its place.
    pub(crate) fn activate(&self, life: u64) -> Option<Arc<Segment<D::File>>> {
        let mut state = self.lock();
        assert!(life >= state.active, "lives only grow");
        let segment = Arc::clone(&state.held.get(&life)?.segment);
        (state.active, state.used) = (life, 0);
        Some(segment)
    }

    /// Notes how far the active segment is written.
    pub(crate) fn note_used(&self, used: usize) {
        self.lock().used = used;
    }

    /// Notes that a segment holds entries of a shard up to this one.
    pub(crate) fn note_entry(&self, life: u64, shard: u16, index: u64) {
        if let Some(held) = self.lock().held.get_mut(&life) {
            let highest = held.highest.entry(shard).or_default();
            *highest = (*highest).max(index);
        }
    }

    /// Notes that entries up to and with this one are durably purged.
    pub(crate) fn note_floor(&self, shard: u16, index: u64) {
        let mut state = self.lock();
        let floor = state.floors.entry(shard).or_default();
        assert!(index >= *floor, "the purge floor never goes back");
        *floor = index;
    }

    /// Whether a segment is ready behind the active one.
    pub(crate) fn has_ready(&self) -> bool {
        let state = self.lock();
        state.held.contains_key(&(state.active + 1))
    }

    /// Whether a step of upkeep is due.
    pub(crate) fn wants_upkeep(&self) -> bool {
        let state = self.lock();
        let ready = state.held.contains_key(&(state.active + 1));
        state.is_first_dead() || (!ready && state.used >= self.size / SPARE_WHEN)
    }

    /// From now on files are removed instead of used again, until [`Segments::erase`] ends.
    pub(crate) fn begin_erasing(&self) {
        let mut state = self.lock();
        state.erasing = true;
        // One that is being made may be a file that is used again.
        while state.making {
            self.settled.wait(&mut state);
        }
    }

    /// Whether neither the active segment nor one that is ready held anything before.
    pub(crate) fn is_fresh(&self) -> bool {
        let state = self.lock();
        state.held.range(state.active..).all(|(_, held)| held.fresh)
    }

    /// Removes every segment in which all is purged, up to the first that is needed, however long
    /// somebody else reads or makes one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn erase(&self) -> Result<(), LogError> {
        let erased = self.remove_dead();
        self.lock().removing = false;
        self.settled.notify_all();
        erased
    }

    fn remove_dead(&self) -> Result<(), LogError> {
        loop {
            let mut state = self.lock();
            state.removing = true;
            if state.making || state.readers > 0 {
                self.settled.wait(&mut state);
                continue;
            }
            let Some((old, held)) = state.dead() else {
                state.erasing = false;
                return Ok(());
            };
            state.making = true;
            drop(state);
            self.run(Task::Remove(old, held), &mut |_| {})?;
        }
    }

    /// Notes that the entries of a shard from `end` on are durably cut off.
    pub(crate) fn note_truncation(&self, shard: u16, end: u64) {
        for held in self.lock().held.values_mut() {
            cut_off(&mut held.highest, shard, end);
        }
    }

    /// Lets whoever wants to remove segments go first: readers that follow each other closely would
    /// hold that up for ever.
    pub(crate) fn let_remove(&self) {
        let mut state = self.lock();
        while state.removing {
            self.settled.wait(&mut state);
        }
    }

    /// All segments up to and with this life, in order; they stay as they are until the value is
    /// dropped.
    pub(crate) fn read_all(&self, last: u64) -> Reading<'_, D> {
        let mut state = self.lock();
        state.readers += 1;
        let held = state.held.range(..=last).map(|(_, held)| Arc::clone(&held.segment));
        Reading { segments: held.collect(), of: self }
    }

    /// The segment of this life, if it is held; it stays as it is until the value is dropped.
    pub(crate) fn read_one(&self, life: u64) -> Reading<'_, D> {
        let mut state = self.lock();
        state.readers += 1;
        let held = state.held.get(&life).map(|held| Arc::clone(&held.segment));
        Reading { segments: held.into_iter().collect(), of: self }
    }

    /// Life of the oldest segment.
    pub(crate) fn first_life(&self) -> Option<u64> {
        self.lock().held.keys().next().copied()
    }

    /// Bytes of the segments that hold something.
    pub(crate) fn size_bytes(&self) -> u64 {
        let state = self.lock();
        state.held.range(..=state.active).map(|(_, held)| held.segment.size as u64).sum()
    }

    /// Waits for the segment behind the active one, and makes it if nobody does.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn ready(&self) -> Result<Arc<Segment<D::File>>, LogError> {
        loop {
            let mut state = self.lock();
            let life = state.active + 1;
            if let Some(held) = state.held.get(&life) {
                return Ok(Arc::clone(&held.segment));
            }
            if state.making {
                self.settled.wait(&mut state);
                continue;
            }
            state.making = true;
            let task = match state.dead() {
                Some((old, held)) if held.segment.size == self.size && !state.erasing => {
                    Task::Reuse(old, held, life)
                }
                Some((old, held)) => Task::Remove(old, held),
                None => Task::Make(life),
            };
            drop(state);
            self.run(task, &mut |_| {})?;
        }
    }

    /// Takes one step of upkeep. `pace` is told how many bytes are to be written next.
    ///
    /// # Errors
    /// When the disk refuses. Nothing of the log is lost by that; the next step tries it anew.
    pub(crate) fn upkeep(&self, pace: &mut dyn FnMut(usize)) -> Result<Upkeep, LogError> {
        let mut state = self.lock();
        if state.making {
            return Ok(Upkeep::Nothing);
        }
        let (active, next) = (state.active, state.held.keys().last().map_or(1, |life| life + 1));
        let ready = usize::try_from(next - 1 - active).unwrap_or(usize::MAX);
        let reuses = ready < READY_MAX && !state.erasing;
        let (task, done) = match state.dead() {
            Some((old, held)) if reuses && held.segment.size == self.size => {
                (Task::Reuse(old, held, next), Upkeep::Reused)
            }
            Some((old, held)) => (Task::Remove(old, held), Upkeep::Removed),
            None if ready == 0 => (Task::Make(next), Upkeep::Made),
            None => return Ok(Upkeep::Nothing),
        };
        state.making = true;
        drop(state);
        self.run(task, pace).map(|()| done)
    }

    fn run(&self, task: Task<D::File>, pace: &mut dyn FnMut(usize)) -> Result<(), LogError> {
        assert!(self.lock().making, "whoever makes a segment keeps others from it");
        let making = Making(self);
        let made = match task {
            Task::Make(life) => {
                // What was made of it would take room that others need more.
                let made = self.make(life, pace).inspect_err(|_| drop(discard(&self.disk)));
                Some((made?, true))
            }
            Task::Reuse(old, held, life) => Some((self.reuse(old, held, life)?, false)),
            Task::Remove(old, held) => {
                self.remove(old, held)?;
                None
            }
        };
        if let Some((segment, fresh)) = made {
            self.take_up(segment, BTreeMap::new(), fresh);
        }
        drop(making);
        Ok(())
    }

    /// Makes a segment: zeros first, so that writing to it later changes neither its size nor where
    /// it lies on the disk, and a sync has nothing to do but its data.
    pub(crate) fn make(
        &self,
        life: u64,
        pace: &mut dyn FnMut(usize),
    ) -> Result<Segment<D::File>, LogError> {
        let failed = |source| LogError::disk(format!("making segment {life}"))(source);
        // One that was not finished; a file whose sync failed is not trusted again.
        discard(&self.disk).map_err(failed)?;
        let file = self.disk.create(MAKING).map_err(failed)?;
        let zeros = vec![0; ZEROS.min(self.size)];
        let mut at = 0;
        while at < self.size {
            let chunk = zeros.get(..self.size - at).unwrap_or(&zeros);
            pace(chunk.len());
            file.write_at(chunk, at as u64).map_err(failed)?;
            at += chunk.len();
        }
        self.place(file, life).map_err(failed)
    }

    /// Writes the label of a segment that is being made, and puts it into its place.
    fn place(&self, file: D::File, life: u64) -> io::Result<Segment<D::File>> {
        file.write_at(&label(&self.store, life, self.size), 0)?;
        if !planted::is(Bug::SegmentNotSynced) {
            file.sync()?;
        }
        self.disk.rename(MAKING, &file_name(life))?;
        if !planted::is(Bug::SegmentNameNotSynced) {
            self.disk.sync_names()?;
        }
        Ok(Segment { seed: Seed::new(&self.store, life), size: self.size, file })
    }

    fn reuse(
        &self,
        old: u64,
        held: Held<D::File>,
        life: u64,
    ) -> Result<Segment<D::File>, LogError> {
        let failed = |source| LogError::disk(format!("making segment {life} of {old}"))(source);
        discard(&self.disk).map_err(failed)?;
        if let Err(error) = self.disk.rename(&file_name(old), MAKING) {
            // It is still in its place, and must not be missing between others.
            self.lock().held.insert(old, held);
            return Err(failed(error));
        }
        // Durably out of its place before its label changes: else it would lie there with another.
        self.disk.sync_names().map_err(failed)?;
        drop(held);
        let file = self.disk.open(MAKING).map_err(failed)?;
        self.place(file, life).map_err(failed)
    }

    fn remove(&self, old: u64, held: Held<D::File>) -> Result<(), LogError> {
        let failed = |source| LogError::disk(format!("removing segment {old}"))(source);
        if let Err(error) = self.disk.remove(&file_name(old)) {
            self.lock().held.insert(old, held);
            return Err(failed(error));
        }
        self.disk.sync_names().map_err(failed)
    }
}

impl<F> State<F> {
    /// Takes the oldest segment if everything in it is purged.
    fn dead(&mut self) -> Option<(u64, Held<F>)> {
        if self.is_first_dead() { self.held.pop_first() } else { None }
    }

    /// Whether everything in the oldest segment is purged, and nobody needs the file.
    fn is_first_dead(&self) -> bool {
        let Some((life, held)) = self.held.first_key_value() else { return false };
        let purged = |(shard, highest): (&u16, &u64)| {
            self.floors.get(shard).is_some_and(|floor| highest <= floor)
        };
        self.readers == 0 && *life < self.active && held.highest.iter().all(purged)
    }
}

/// Segments that are read; while it lives, none is used again or removed.
pub(crate) struct Reading<'a, D: Disk> {
    pub(crate) segments: Vec<Arc<Segment<D::File>>>,
    of: &'a Segments<D>,
}

impl<D: Disk> Drop for Reading<'_, D> {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        assert!(state.readers > 0, "every reader is counted");
        state.readers -= 1;
        drop(state);
        self.of.settled.notify_all();
    }
}

/// Of the entries of a shard, those from `end` on are cut off.
pub(crate) fn cut_off(highest: &mut BTreeMap<u16, u64>, shard: u16, end: u64) {
    let Some(index) = highest.get_mut(&shard).filter(|index| **index >= end) else { return };
    match end.checked_sub(1) {
        Some(last) => *index = last,
        None => drop(highest.remove(&shard)),
    }
}

/// Removes what is left of a segment that was being made.
pub(crate) fn discard(disk: &impl Disk) -> io::Result<()> {
    match disk.remove(MAKING) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
