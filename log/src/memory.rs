//! A disk in memory that keeps apart what is synced and what is not, and fails on purpose.
//!
//! Files lie in sectors of 512 bytes. What is written is seen at once; [`MemoryDisk::power_cut`]
//! gives the disk as it is found after a loss of power: each sector that was not synced is kept,
//! lost, torn or garbage, and only a beginning of the unsynced creations, renamings and removals
//! has happened. [`MemoryDisk::kill`] gives it as it is after the process alone has died.
//!
//! All chance comes from the seed that is given; the same calls and seeds give the same disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::disk::{Disk, DiskFile};

mod content;
mod random;

use self::content::{Content, SECTOR};
pub use self::random::Random;

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails. A write may have been done in part. A sync has lost some of what was written
    /// and will not write it any more, while reads still see it.
    Error,
    /// The process dies in the call, which may have been done in part; all later calls fail.
    Death,
}

/// Told what became durable: whole sectors of a file, in one piece.
#[derive(Clone, Default)]
struct Watcher(Option<Arc<Tell>>);

type Tell = dyn Fn(&[u8]) + Send + Sync;

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watcher")
    }
}

/// A folder of files in memory. Clones are the same folder.
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    world: Arc<Mutex<World>>,
}

/// An open file of a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryFile {
    world: Arc<Mutex<World>>,
    id: u64,
}

#[derive(Debug, Clone)]
struct World {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// What was done to the names since they were synced.
    unsynced: Vec<Naming>,
    next_id: u64,
    calls: u64,
    syncs: u64,
    faults: BTreeMap<u64, Fault>,
    dead: bool,
    /// Bytes that all files together may have.
    room: u64,
    random: Random,
    watcher: Watcher,
}

#[derive(Debug, Clone)]
enum Naming {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

fn failed(what: &str) -> io::Error {
    io::Error::other(format!("{what} (on purpose)"))
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name} is not there"))
}

impl World {
    /// Counts a call and says whether it is to fail, and how.
    fn call(&mut self) -> io::Result<Option<Fault>> {
        if self.dead {
            return Err(failed("the process is dead"));
        }
        self.calls += 1;
        let fault = self.faults.remove(&self.calls);
        self.dead = fault == Some(Fault::Death);
        Ok(fault)
    }

    /// The same for a call that is done whole or not at all.
    fn whole_call(&mut self) -> io::Result<()> {
        match self.call()? {
            None => Ok(()),
            Some(_) => Err(failed("an error of the disk")),
        }
    }

    fn content(&mut self, id: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&id).ok_or_else(|| missing("the file"))
    }

    fn named(&mut self, name: &str) -> io::Result<&mut Content> {
        let id = self.names.get(name).copied().ok_or_else(|| missing(name))?;
        self.content(id)
    }

    /// Tells whoever watches of sectors that are durable now.
    fn tell(&self, stored: &[Vec<u8>]) {
        if let Watcher(Some(watcher)) = &self.watcher {
            stored.iter().for_each(|bytes| watcher(bytes));
        }
    }

    fn naming(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.unsynced.push(naming);
    }

    /// What is there when the process starts anew.
    fn restarted(mut self, seed: u64) -> MemoryDisk {
        (self.calls, self.syncs, self.dead) = (0, 0, false);
        self.faults.clear();
        self.random = Random::new(seed);
        MemoryDisk { world: Arc::new(Mutex::new(self)) }
    }
}

impl MemoryDisk {
    /// An empty disk; `seed` decides what a call that fails leaves.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let world = World {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced: Vec::new(),
            next_id: 1,
            calls: 0,
            syncs: 0,
            faults: BTreeMap::new(),
            dead: false,
            room: u64::MAX,
            random: Random::new(seed),
            watcher: Watcher::default(),
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    /// Calls so far; sizes and lists do not count.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Syncs of files so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Lets the call with this number, counted from 1, go wrong.
    pub fn fault_at(&self, call: u64, fault: Fault) {
        self.lock().faults.insert(call, fault);
    }

    /// Takes back every fault that has not come up yet.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// Lets somebody know, from now on and over restarts, of all that a sync makes durable. What a loss of
    /// power happens to keep is not told.
    pub fn watch(&self, watcher: impl Fn(&[u8]) + Send + Sync + 'static) {
        self.lock().watcher = Watcher(Some(Arc::new(watcher)));
    }

    /// Shows each file, by its name, as a loss of power that keeps nothing else would leave it.
    pub fn each_durable(&self, mut look: impl FnMut(&str, &[u8])) {
        let world = self.lock();
        for (name, id) in &world.names {
            if let Some(content) = world.files.get(id) {
                look(name, content.on_disk());
            }
        }
    }

    /// How many bytes all files together may have; beyond that the disk is full.
    pub fn set_room(&self, bytes: u64) {
        self.lock().room = bytes;
    }

    /// The process is gone: all later calls fail. What it left is in [`MemoryDisk::kill`] and
    /// [`MemoryDisk::power_cut`].
    pub fn die(&self) {
        self.lock().dead = true;
    }

    /// Sectors and names that a loss of power could take.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        let world = self.lock();
        world.files.values().map(Content::unsynced).sum::<usize>() + world.unsynced.len()
    }

    /// The disk after the process died: everything that was written is seen.
    #[must_use]
    pub fn kill(&self) -> Self {
        let world = self.lock().clone();
        world.restarted(0)
    }

    /// The disk after a loss of power. This one is as it was.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Self {
        let mut world = self.lock().clone();
        let mut random = Random::new(seed);
        let kept = random.below(world.unsynced.len() as u64 + 1);
        let mut names = world.durable_names.clone();
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        world.unsynced.drain(..).take(kept).for_each(|naming| naming.apply(&mut names));
        for content in world.files.values_mut() {
            content.lose_power(&mut random);
        }
        let named: BTreeSet<u64> = names.values().copied().collect();
        world.files.retain(|id, _| named.contains(id));
        (world.names, world.durable_names) = (names.clone(), names);
        world.restarted(seed)
    }

    /// What a file holds, as reads see it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        self.lock().named(name).map(|content| content.seen().to_vec())
    }

    /// Puts a file there, whole and durable: an old copy brought back, or a damage.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut world = self.lock();
        let id = world.next_id;
        world.next_id += 1;
        world.files.insert(id, Content::durable(bytes));
        world.names.insert(name.to_owned(), id);
        world.durable_names.insert(name.to_owned(), id);
    }

    /// Turns one bit of a file around, in memory and on the disk, under whoever has it open.
    ///
    /// # Errors
    /// When it is not there or shorter.
    pub fn flip(&self, name: &str, bit: u64) -> io::Result<()> {
        let mut bytes = self.bytes(name)?;
        let at = usize::try_from(bit / 8).unwrap_or(usize::MAX);
        let byte = bytes.get_mut(at).ok_or_else(|| failed("the file is shorter"))?;
        *byte ^= 1 << (bit % 8);
        *self.lock().named(name)? = Content::durable(&bytes);
        Ok(())
    }

    /// Cuts a file off, durably, under whoever has it open.
    ///
    /// # Errors
    /// When it is not there.
    pub fn cut(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut content = self.bytes(name)?;
        content.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        *self.lock().named(name)? = Content::durable(&content);
        Ok(())
    }

    /// Takes a file away, durably.
    pub fn take(&self, name: &str) {
        let mut world = self.lock();
        world.names.remove(name);
        world.durable_names.remove(name);
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let mut world = self.lock();
        world.whole_call()?;
        let id = world.names.get(name).copied().ok_or_else(|| missing(name))?;
        Ok(MemoryFile { world: Arc::clone(&self.world), id })
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let mut world = self.lock();
        world.whole_call()?;
        if world.names.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, name.to_owned()));
        }
        let id = world.next_id;
        world.next_id += 1;
        world.files.insert(id, Content::durable(&[]));
        world.naming(Naming::Create(name.to_owned(), id));
        Ok(MemoryFile { world: Arc::clone(&self.world), id })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.lock();
        world.whole_call()?;
        if !world.names.contains_key(from) {
            return Err(missing(from));
        }
        world.naming(Naming::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.lock();
        world.whole_call()?;
        if !world.names.contains_key(name) {
            return Err(missing(name));
        }
        world.naming(Naming::Remove(name.to_owned()));
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut world = self.lock();
        world.whole_call()?;
        world.durable_names = world.names.clone();
        world.unsynced.clear();
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        world.whole_call()?;
        let content = world.content(self.id)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = content.seen().get(start..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        let fault = world.call()?;
        let all: u64 = world.files.values().map(|content| content.seen().len() as u64).sum();
        let size = world.content(self.id)?.seen().len() as u64;
        let grows = (offset + bytes.len() as u64).saturating_sub(size);
        if grows > 0 && all + grows > world.room {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"));
        }
        let done = match fault {
            None => bytes.len() as u64,
            Some(_) => world.random.below(bytes.len() as u64 + 1) / SECTOR * SECTOR,
        };
        let done = bytes.get(..usize::try_from(done).unwrap_or(usize::MAX));
        world.content(self.id)?.write(done.unwrap_or(bytes), offset);
        match fault {
            None => Ok(()),
            Some(_) => Err(failed("an error of the disk in a write")),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world.lock();
        world.syncs += 1;
        match world.call()? {
            None => {
                let stored = world.content(self.id)?.sync();
                world.tell(&stored);
            }
            Some(fault) => {
                let mut random = world.random.clone();
                let content = world.content(self.id)?;
                let stored = match fault {
                    Fault::Error => content.fail_sync(&mut random),
                    // The next loss of power decides what was done of it.
                    Fault::Death => Vec::new(),
                };
                world.random = random;
                world.tell(&stored);
                return Err(failed("an error of the disk in a sync"));
            }
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.world.lock().content(self.id)?.seen().len() as u64)
    }

    fn forget(&self) -> io::Result<()> {
        let mut world = self.world.lock();
        world.whole_call()?;
        world.content(self.id)?.forget();
        Ok(())
    }
}
