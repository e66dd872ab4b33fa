//! Whether there is a store; the first one of a node; and those that could not be proven and were put
//! aside: renamed, and never deleted by `logd`. What is in them may be worth something to a person.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::format::Identity;
use super::{Media, Store, StoreError};

/// What the folders are called, before their number.
const NAME: &str = "store.aside.";

/// What the stores that were put aside take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Aside {
    /// How many there are.
    pub(crate) count: u64,
    /// Bytes of all of them.
    pub(crate) bytes: u64,
}

impl Store {
    /// Whether the data directory holds a store.
    ///
    /// # Errors
    /// When nobody can say: the folder may not be looked into.
    pub fn exists(data_dir: &Path) -> Result<bool, StoreError> {
        let path = data_dir.join("store");
        path.try_exists().map_err(StoreError::file(path))
    }

    /// Creates a store, whole or not at all. Only for a node that was just admitted.
    ///
    /// # Errors
    /// When a store is there already, or the disk refuses.
    pub fn create(media: impl Into<Media>, identity: &Identity) -> Result<(), StoreError> {
        Self::create_after(media, identity, 0)
    }

    /// Puts the store of a data directory aside, durably; returns where it is. `None` if there is none.
    ///
    /// # Errors
    /// When the disk refuses; the store is where it was then.
    pub(crate) fn put_aside(data_dir: &Path) -> Result<Option<PathBuf>, StoreError> {
        if !Self::exists(data_dir)? {
            return Ok(None);
        }
        let (from, to) = (data_dir.join("store"), free_name(data_dir));
        fs::rename(&from, &to).map_err(StoreError::file(&to))?;
        let folder = File::open(data_dir).map_err(StoreError::file(data_dir))?;
        folder.sync_all().map_err(StoreError::file(data_dir))?;
        Ok(Some(to))
    }

    /// Puts the store of a folder of its own in the place of that of a data directory, in one step that
    /// is durable, and the one that was there aside; returns where that is. Interrupted, the store is the
    /// one or the other.
    ///
    /// # Errors
    /// When the disk refuses. Where its file system cannot exchange two folders, and the process is killed
    /// in the middle, there is no store, and the old one lies aside.
    pub(crate) fn exchange(data_dir: &Path, new: &Path) -> Result<PathBuf, StoreError> {
        let sync = || {
            let folder = File::open(data_dir).map_err(StoreError::file(data_dir))?;
            folder.sync_all().map_err(StoreError::file(data_dir))
        };
        let (store, aside) = (data_dir.join("store"), free_name(data_dir));
        // The new one takes the name that the old one shall have: then they change places.
        fs::rename(new.join("store"), &aside).map_err(StoreError::file(&aside))?;
        sync()?;
        let exchange = || {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(rustix::fs::CWD, &aside, rustix::fs::CWD, &store, flags)
        };
        let kept = match exchange() {
            Ok(()) => aside,
            Err(
                rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP,
            ) => {
                let kept = free_name(data_dir);
                fs::rename(&store, &kept).map_err(StoreError::file(&kept))?;
                fs::rename(&aside, &store).map_err(StoreError::file(&store))?;
                kept
            }
            Err(error) => return Err(StoreError::file(&store)(error.into())),
        };
        sync()?;
        Ok(kept)
    }

    /// What the stores take that were put aside. Those that cannot be looked into count as nothing.
    pub(crate) fn aside(data_dir: &Path) -> Aside {
        let mut aside = Aside::default();
        for entry in fs::read_dir(data_dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(NAME) {
                aside.count += 1;
                aside.bytes += bytes_in(&entry.path()).unwrap_or(0);
            }
        }
        aside
    }

    /// The store that was put aside last, if one was.
    pub(crate) fn last_aside(data_dir: &Path) -> Option<PathBuf> {
        let entries = fs::read_dir(data_dir).into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| {
            entry.file_name().to_str()?.strip_prefix(NAME)?.parse::<u32>().ok()
        });
        numbers.max().map(|number| data_dir.join(format!("{NAME}{number}")))
    }

    /// Whether there is room for a store as large as the one that is there, beside it.
    ///
    /// # Errors
    /// The sentence for a person, where there is none.
    pub(crate) fn has_room_for_another(data_dir: &Path) -> Result<(), String> {
        let wanted = bytes_in(&data_dir.join("store")).unwrap_or(0);
        // A folder that is not there yet: where it will be.
        let there = data_dir.ancestors().find(|folder| folder.exists());
        let Some(Ok(stat)) = there.map(rustix::fs::statvfs) else { return Ok(()) };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= wanted {
            return Ok(());
        }
        let Aside { count, bytes } = Self::aside(data_dir);
        Err(format!(
            "the new store needs about {wanted} bytes, and {free} are free; {count} old ones in {} \
             ({NAME}*) take {bytes}",
            data_dir.display()
        ))
    }
}

/// The first name for a store that is put aside that is not taken.
fn free_name(data_dir: &Path) -> PathBuf {
    let free = |number: &u32| !data_dir.join(format!("{NAME}{number}")).exists();
    let number = (1..u32::MAX).find(free).unwrap_or(u32::MAX);
    data_dir.join(format!("{NAME}{number}"))
}

fn bytes_in(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { bytes_in(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_put_aside_beside_those_before_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Store::put_aside(folder.path()).unwrap(), None);
        for number in 1..4 {
            let store = folder.path().join("store/db");
            fs::create_dir_all(&store).unwrap();
            fs::write(store.join("file"), vec![0; 10]).unwrap();
            Store::has_room_for_another(folder.path()).unwrap();
            let to = Store::put_aside(folder.path()).unwrap().unwrap();
            assert!(to.ends_with(format!("store.aside.{number}")) && to.join("db/file").exists());
            assert!(!Store::exists(folder.path()).unwrap());
            assert_eq!(Store::aside(folder.path()), Aside { count: number, bytes: number * 10 });
        }
    }
}
