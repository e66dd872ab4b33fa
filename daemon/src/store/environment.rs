//! What stands in the way of a store without being its fault: a lock, a mode, a mount, a full disk.
//! Looked at before the database is opened, so that a store that cannot be opened is left as it is,
//! and never called damaged.
//!
//! Not here: damage (`verdict`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use super::StoreError;

/// Free space with which nothing is tried out, in bytes.
const PLENTY_BYTES: u64 = 64 << 20;
/// Room that an opening takes at least, in bytes. Where it also has to make a segment of the log, that
/// says by itself what it lacks.
const OPENING_BYTES: u64 = 1 << 20;
/// Files besides those of the store that a node has open: sockets, logs, the runtime's own.
const OTHER_FILES: u64 = 64;
/// How many files a process is allowed where it may say so itself.
const FILES_WANTED: u64 = 4096;
/// Tables that the database keeps open at most. The log keeps all of its segments open.
pub(super) const OPEN_TABLES_MAX: u64 = 512;
/// Folders of a store.
const DB: &str = "db";
const LOG: &str = "log";
/// A file that is made to try out whether the disk takes anything.
const TRIAL: &str = "trial";

/// What stands in the way, by what a person can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Another process has it.
    InUse,
    /// The files' owner or mode forbids it.
    Permission,
    /// The file system is mounted read-only.
    ReadOnly,
    /// The disk, or what may be used of it, is full.
    NoSpace,
    /// The process may not open so many files.
    Descriptors,
    /// A newer release wrote it.
    NewerFormat,
    /// An earlier release wrote it, and alone knows what to make of its end.
    EarlierFormat,
    /// The disk refuses, or does something else that is unforeseen.
    Device,
}

impl Trouble {
    /// What an error of the system means.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match (error.kind(), Errno::from_io_error(error)) {
            (io::ErrorKind::PermissionDenied, _) => Self::Permission,
            (io::ErrorKind::ReadOnlyFilesystem, _) => Self::ReadOnly,
            (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, _) => Self::NoSpace,
            (_, Some(Errno::MFILE | Errno::NFILE)) => Self::Descriptors,
            _ => Self::Device,
        }
    }

    /// What may be the matter with a disk that has just refused.
    #[must_use]
    pub fn of_disk(disk: &Path) -> Self {
        match rustix::fs::statvfs(disk) {
            Ok(stat) if stat.f_bavail.saturating_mul(stat.f_frsize) < OPENING_BYTES => {
                Self::NoSpace
            }
            Ok(_) | Err(_) => Self::Device,
        }
    }

    /// What to try, in one line.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::InUse => "stop the other process, or another data_dir",
            Self::Permission => {
                "give data_dir and all in it to the user that logd runs as: chown -R logd:logd"
            }
            Self::ReadOnly => "mount the disk of data_dir writable, then start it again",
            Self::NoSpace => "free space on the disk of data_dir, then start it again",
            Self::Descriptors => {
                "raise the limit of open files: ulimit -n, or LimitNOFILE in the unit"
            }
            Self::NewerFormat => "run the newer release; the store is left as it is",
            Self::EarlierFormat => {
                "start the earlier release once and stop it, then start this one; the store is left \
                 as it is"
            }
            Self::Device => "look at the disk of data_dir, then start it again",
        }
    }
}

/// Looks whether a store can be opened at all: whether its files may be read and written, and
/// whether there is room and the process may have files enough. Changes nothing.
///
/// # Errors
/// What stands in the way.
pub(super) fn look(store: &Path) -> Result<(), StoreError> {
    let tables = look_at(&store.join(DB))?;
    let segments = look_at(&store.join(LOG))?;
    raise_files(store, tables, segments)?;
    try_room(store, OPENING_BYTES)
}

/// Whether the files of a folder may be read and written, and how many there are.
fn look_at(folder: &Path) -> Result<u64, StoreError> {
    let found = match fs::read_dir(folder) {
        Ok(found) => found,
        // Whether that is damage, others judge.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(StoreError::file(folder)(error)),
    };
    let mut files = 0;
    for entry in found {
        let path = entry.map_err(StoreError::file(folder))?.path();
        match File::open(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::file(path)(error));
            }
            _ => files += 1,
        }
    }
    rustix::fs::accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(|error| StoreError::file(folder)(error.into()))?;
    Ok(files)
}

/// The first file of log or database that the disk does not give back, with what it says. Reads all:
/// the database does not tell in a type why a read of it failed.
pub(super) fn unreadable(store: &Path) -> Option<String> {
    let read = |path: &Path| -> io::Result<()> {
        let (mut file, mut chunk) = (File::open(path)?, vec![0; 256 << 10]);
        while file.read(&mut chunk)? > 0 {}
        Ok(())
    };
    [DB, LOG]
        .iter()
        .filter_map(|name| fs::read_dir(store.join(name)).ok())
        .flatten()
        .flatten()
        .find_map(|entry| {
            let error = read(&entry.path()).err()?;
            let lost = Errno::from_io_error(&error) == Some(Errno::IO);
            lost.then(|| {
                format!("{} cannot be read back from the disk: {error}", entry.path().display())
            })
        })
}

/// Raises the limit of open files as far as it goes, and refuses if that is too low for the tables
/// and segments.
fn raise_files(store: &Path, tables: u64, segments: u64) -> Result<(), StoreError> {
    let needed = tables.min(OPEN_TABLES_MAX) + segments + OTHER_FILES;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES_WANTED, |most| most.min(FILES_WANTED));
    let mut now = limit.current.unwrap_or(u64::MAX);
    if now < wanted {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if rustix::process::setrlimit(Resource::Nofile, raised).is_ok() {
            now = wanted;
        }
    }
    if now >= needed {
        return Ok(());
    }
    let what = format!(
        "the limit of open files is {now}; {} with its {tables} tables and {segments} segments of \
         the log takes {needed}",
        store.display()
    );
    Err(StoreError::Environment { trouble: Trouble::Descriptors, what })
}

/// Tries out whether so many bytes can be written. What the system says of free space counts only
/// where it is plenty: quotas and reserves are not in it.
fn try_room(store: &Path, bytes: u64) -> Result<(), StoreError> {
    let stat = rustix::fs::statvfs(store).map_err(|error| StoreError::file(store)(error.into()))?;
    if stat.f_bavail.saturating_mul(stat.f_frsize) > bytes + PLENTY_BYTES {
        return Ok(());
    }
    let path = store.join(TRIAL);
    let tried = write_trial(&path, bytes);
    // One that stays behind is overwritten by the next trial.
    let _ = fs::remove_file(&path);
    tried.map_err(|error| {
        let what = format!("{} cannot take {bytes} bytes: {error}", store.display());
        StoreError::Environment { trouble: Trouble::of(&error), what }
    })
}

fn write_trial(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let chunk = [0; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(chunk.len() as u64);
        file.write_all(chunk.get(..usize::try_from(part).unwrap_or(0)).unwrap_or_default())?;
        left -= part;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found broken with the texts searched: a corrupt table was "in use by another process".
    #[test]
    fn what_the_system_says_is_told_apart_by_its_number() {
        for (errno, trouble) in [
            (Errno::ACCESS, Trouble::Permission),
            (Errno::PERM, Trouble::Permission),
            (Errno::ROFS, Trouble::ReadOnly),
            (Errno::NOSPC, Trouble::NoSpace),
            (Errno::DQUOT, Trouble::NoSpace),
            (Errno::MFILE, Trouble::Descriptors),
            (Errno::NFILE, Trouble::Descriptors),
            (Errno::IO, Trouble::Device),
            (Errno::STALE, Trouble::Device),
        ] {
            assert_eq!(Trouble::of(&io::Error::from(errno)), trouble, "{errno}");
        }
    }

    #[test]
    fn a_look_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("db")).unwrap();
        look(dir.path()).unwrap();
        write_trial(&dir.path().join("db/trial"), 100_000).unwrap();
        assert_eq!(fs::metadata(dir.path().join("db/trial")).unwrap().len(), 100_000);
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
