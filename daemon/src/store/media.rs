//! What a store lies on: a folder of the system, or a disk in memory that fails on purpose.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use log::memory::{MemoryDisk, MemoryFile};
use log::{Disk, DiskFile, FileDisk};

use super::db::MemoryState;
use super::watermark;
use super::workers::Workers;

/// What a store lies on. Clones are the same place.
#[derive(Debug, Clone)]
pub enum Media {
    /// The data directory of a node.
    Files(PathBuf),
    /// Memory, for runs that can be repeated. Nothing of it touches a thread or a file.
    Memory(MemoryMedia),
}

/// A store in memory. It outlives the process that uses it, as a disk does.
#[derive(Debug, Clone)]
pub struct MemoryMedia {
    /// The log's folder.
    pub log: MemoryDisk,
    /// The folder of the watermark.
    pub marks: MemoryDisk,
    /// What the log comes to.
    pub state: MemoryState,
    /// How long the disk takes.
    pub latency: Latency,
    /// Sizes of the log.
    pub options: log::Options,
    /// The state is flushed after so many entries.
    pub flush_entries: u64,
}

impl MemoryMedia {
    /// The last group of the log that its watermark says was durable; `None` if it says nothing.
    #[must_use]
    pub fn marked_group(&self) -> Option<u64> {
        let marked = watermark::newest(&self.marks.bytes(watermark::FILE).ok()?)?;
        log::Mark::from_bytes(&marked.mark).map(|mark| mark.group)
    }
}

/// A folder, by name and by what it can do.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    /// For people to read.
    pub(super) path: PathBuf,
    pub(super) disk: AnyDisk,
}

impl Folder {
    /// A folder of the system.
    pub(super) fn files(path: &Path) -> Self {
        Self { path: path.to_owned(), disk: AnyDisk::Files(FileDisk::new(path)) }
    }
}

impl From<&Path> for Media {
    fn from(data_dir: &Path) -> Self {
        Self::Files(data_dir.to_owned())
    }
}

impl From<&PathBuf> for Media {
    fn from(data_dir: &PathBuf) -> Self {
        Self::Files(data_dir.clone())
    }
}

impl From<MemoryMedia> for Media {
    fn from(memory: MemoryMedia) -> Self {
        Self::Memory(memory)
    }
}

impl Media {
    /// The folder of the store, for people to read where it is in memory.
    pub(super) fn store(&self) -> PathBuf {
        match self {
            Self::Files(data_dir) => data_dir.join("store"),
            Self::Memory(_) => PathBuf::from("memory"),
        }
    }

    /// The folder of the watermark.
    pub(super) fn folder(&self) -> Folder {
        match self {
            Self::Files(_) => Folder::files(&self.store()),
            Self::Memory(memory) => {
                Folder { path: self.store(), disk: AnyDisk::Memory(memory.marks.clone()) }
            }
        }
    }

    /// The folder of the log, and what the log is like there.
    pub(super) fn log(&self) -> (AnyDisk, log::Options) {
        match self {
            Self::Files(_) => {
                let folder = self.store().join("log");
                (AnyDisk::Files(FileDisk::new(folder)), super::log_options())
            }
            Self::Memory(memory) => (AnyDisk::Memory(memory.log.clone()), memory.options),
        }
    }

    /// After how many entries the state is flushed.
    pub(super) fn flush_entries(&self) -> u64 {
        match self {
            Self::Files(_) => super::keeper::FLUSH_ENTRIES,
            Self::Memory(memory) => memory.flush_entries,
        }
    }

    /// Who does what waits for the disk.
    pub(super) fn workers(&self) -> Workers {
        match self {
            Self::Files(_) => Workers::Threads,
            Self::Memory(memory) => Workers::Tasks(memory.latency.clone()),
        }
    }
}

/// How long a disk takes for the next sync. Drawn by whoever makes the disk.
#[derive(Clone)]
pub struct Latency(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Latency {
    /// A disk whose next sync takes what `draw` says.
    pub fn new(draw: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(draw))
    }

    /// Waits as long as half a sync takes.
    pub(super) async fn half(&self) {
        let half = (self.0)() / 2;
        if half.is_zero() {
            // Others have their turn on any disk.
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(half).await;
        }
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Latency")
    }
}

/// A folder on any media.
#[derive(Debug, Clone)]
pub(super) enum AnyDisk {
    Files(FileDisk),
    Memory(MemoryDisk),
}

/// A file on any media.
#[derive(Debug)]
pub(super) enum AnyFile {
    File(File),
    Memory(MemoryFile),
}

impl AnyFile {
    /// Locks the file for this process. In memory there is one process.
    pub(super) fn try_lock(&self) -> Result<(), TryLockError> {
        match self {
            Self::File(file) => file.try_lock(),
            Self::Memory(_) => Ok(()),
        }
    }
}

impl Disk for AnyDisk {
    type File = AnyFile;

    fn open(&self, name: &str) -> io::Result<AnyFile> {
        match self {
            Self::Files(disk) => disk.open(name).map(AnyFile::File),
            Self::Memory(disk) => disk.open(name).map(AnyFile::Memory),
        }
    }

    fn create(&self, name: &str) -> io::Result<AnyFile> {
        match self {
            Self::Files(disk) => disk.create(name).map(AnyFile::File),
            Self::Memory(disk) => disk.create(name).map(AnyFile::Memory),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        match self {
            Self::Files(disk) => disk.rename(from, to),
            Self::Memory(disk) => disk.rename(from, to),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match self {
            Self::Files(disk) => disk.remove(name),
            Self::Memory(disk) => disk.remove(name),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        match self {
            Self::Files(disk) => disk.list(),
            Self::Memory(disk) => disk.list(),
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        match self {
            Self::Files(disk) => disk.sync_names(),
            Self::Memory(disk) => disk.sync_names(),
        }
    }
}

impl DiskFile for AnyFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File(file) => DiskFile::read_at(file, into, offset),
            Self::Memory(file) => file.read_at(into, offset),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File(file) => DiskFile::write_at(file, bytes, offset),
            Self::Memory(file) => file.write_at(bytes, offset),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync(),
            Self::Memory(file) => file.sync(),
        }
    }

    fn size(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => file.size(),
            Self::Memory(file) => file.size(),
        }
    }

    fn forget(&self) -> io::Result<()> {
        match self {
            Self::File(file) => file.forget(),
            Self::Memory(file) => file.forget(),
        }
    }
}
