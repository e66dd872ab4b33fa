//! The seam below the log: one folder of files, what is made durable in it, and when.
//!
//! Two real implementations: [`FileDisk`] on a folder of the system, and
//! [`crate::memory::MemoryDisk`], which remembers what was synced and can lose the rest.
//!
//! The calls are what a disk can promise, and no more. What is written is seen by reads at once,
//! and survives a loss of power only after [`DiskFile::sync`]. Names (a creation, a renaming, a
//! removal) survive it only after [`Disk::sync_names`].

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::Advice;

/// A folder of files.
pub trait Disk: Debug + Send + Sync + 'static {
    /// An open file of the folder.
    type File: DiskFile;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// When it is not there, or the system refuses.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Creates an empty file.
    ///
    /// # Errors
    /// When it is there already, or the system refuses.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name; a file of that name goes away.
    ///
    /// # Errors
    /// When it is not there, or the system refuses.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// When it is not there, or the system refuses.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Names of all files, in order.
    ///
    /// # Errors
    /// When the system refuses.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes every creation, renaming and removal so far durable.
    ///
    /// # Errors
    /// When the system refuses. Nobody knows then which of them are.
    fn sync_names(&self) -> io::Result<()>;
}

/// An open file. All positions and lengths are bytes.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Fills `into` from there on.
    ///
    /// # Errors
    /// When the file ends before, or the system refuses.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of it, from there on.
    ///
    /// # Errors
    /// When the system refuses. Any part may be written then.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// When the system refuses. What was written may be lost and look written: trying again proves
    /// nothing.
    fn sync(&self) -> io::Result<()>;

    /// Length of the file.
    ///
    /// # Errors
    /// When the system refuses.
    fn size(&self) -> io::Result<u64>;

    /// Lets go of what the system keeps of the file in memory, as far as it is not waiting to be
    /// written, so that the next reads come from the disk. After a failed sync what is kept may be
    /// more than what the disk has.
    ///
    /// # Errors
    /// When the system refuses.
    fn forget(&self) -> io::Result<()>;
}

/// A folder of the system.
#[derive(Debug, Clone)]
pub struct FileDisk {
    folder: PathBuf,
}

impl FileDisk {
    /// The files of this folder, which must be there.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

impl Disk for FileDisk {
    type File = File;

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.folder.join(name))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        options.open(self.folder.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.folder.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            // Whoever looks for files of a known form has no use for a name that is not UTF-8.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

impl DiskFile for File {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn forget(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(self, 0, None, Advice::DontNeed)?)
    }
}
