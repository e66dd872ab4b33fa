//! What the tables of the database were when they were made: a checksum of each as a whole.
//!
//! The database checks a block when it reads it, and there are blocks that it reads seldom, never
//! again, or does without when they are broken. A table never changes, so its checksum as a whole
//! says all. Tables are noted some seconds after they were made, by a thread of their own.
//!
//! Not here: what follows from a table that has changed (`audit`, `scrub`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use prost::Message as _;
use rustix::fs::Advice;

use super::StoreError;
use super::db::Database;

/// Name of the file in the store's folder.
const FILE: &str = "tables";
/// Between two looks for new tables.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Bytes that are read in one go.
const CHUNK: usize = 256 << 10;

/// A table as it was noted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Table {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    bytes: u64,
    #[prost(fixed32, tag = "3")]
    crc: u32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    tables: Vec<Table>,
}

/// The tables that were noted.
#[derive(Debug)]
pub(super) struct Tables {
    store: PathBuf,
    noted: Mutex<BTreeMap<String, Table>>,
}

/// A table that is being read again.
#[derive(Debug)]
pub(super) struct Look {
    name: String,
    file: File,
    bytes: u64,
    crc: u32,
}

/// The thread that notes new tables; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Noting {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Noting {
    /// Ends the thread, after a last look, and waits for that.
    pub(super) fn finish(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that notes tables ended in a panic");
        }
    }
}

impl Tables {
    /// Those noted in a store. A list that cannot be read is begun anew: it is an aid, no evidence.
    pub(super) fn read(store: &Path) -> Arc<Self> {
        let noted = fs::read(store.join(FILE)).ok().and_then(|bytes| decode(&bytes));
        let noted = noted.unwrap_or_default().tables.into_iter();
        let noted = noted.map(|table| (table.name.clone(), table)).collect();
        Arc::new(Self { store: store.to_owned(), noted: Mutex::new(noted) })
    }

    /// Why the tables of a stopped store cannot be compared with what they were when they were made.
    pub(super) fn why_lost(store: &Path, db: &Database) -> Option<String> {
        let why = match fs::read(store.join(FILE)) {
            Ok(bytes) if decode(&bytes).is_some() => return None,
            Ok(_) => "is broken",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is gone",
            Err(_) => "cannot be read",
        };
        let has_any = db.tables().is_ok_and(|tables| !tables.is_empty());
        has_any.then(|| {
            format!(
                "the list of tables {why}: they are checked by their own checksums alone, and a start \
                 begins a new list"
            )
        })
    }

    fn noted(&self) -> MutexGuard<'_, BTreeMap<String, Table>> {
        // Every change is one insertion or removal.
        self.noted.lock()
    }

    /// Starts the thread that notes what is new.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn note_all(self: &Arc<Self>, db: Arc<Database>) -> Result<Noting, StoreError> {
        let this = Arc::clone(self);
        let (stop, stopped) = mpsc::channel::<()>();
        let run = move || {
            let mut unsaved = false;
            while stopped.recv_timeout(LOOK_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                unsaved = this.note_new(&db, unsaved);
            }
            this.note_new(&db, unsaved);
        };
        let thread = std::thread::Builder::new().name("store-tables".to_owned()).spawn(run);
        Ok(Noting { stop, thread: thread.map_err(StoreError::file("store-tables"))? })
    }

    /// Notes the tables that are new, and forgets those that are gone. Given and returned is whether
    /// the list on the disk is not the one in memory.
    fn note_new(&self, db: &Database, unsaved: bool) -> bool {
        let Ok(live) = db.tables() else { return unsaved };
        let known: BTreeSet<_> = self.noted().keys().cloned().collect();
        if live == known && !unsaved {
            return false;
        }
        for name in live.difference(&known) {
            match checksum(&self.path(name), false) {
                Ok((bytes, crc)) => {
                    let table = Table { name: name.clone(), bytes, crc };
                    self.noted().insert(name.clone(), table);
                }
                // Merged into another meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(%error, name, "a table cannot be read"),
            }
        }
        self.noted().retain(|name, _| live.contains(name));
        let written = self.write();
        if let (Err(error), false) = (&written, unsaved) {
            tracing::warn!(%error, "the list of tables cannot be written now");
        }
        written.is_err()
    }

    fn write(&self) -> io::Result<()> {
        let list = List { tables: self.noted().values().cloned().collect() };
        let content = list.encode_to_vec();
        let (path, new) = (self.store.join(FILE), self.store.join("tables.new"));
        let mut file = File::create(&new)?;
        file.write_all(&crc32c::crc32c(&content).to_be_bytes())?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(new, path)
    }

    /// Begins to read a table again, past what the system keeps of it; `None` if the database does not
    /// have it any more.
    ///
    /// # Errors
    /// When the database has it and the disk has not, or the system refuses.
    pub(super) fn look_at(&self, db: &Database, name: String) -> Result<Option<Look>, StoreError> {
        let path = self.path(&name);
        match File::open(&path) {
            Ok(file) => {
                let forgotten = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
                forgotten.map_err(io::Error::from).map_err(StoreError::file(path))?;
                Ok(Some(Look { name, file, bytes: 0, crc: 0 }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The database lets a table go before it removes it.
                let gone = db.tables()?.contains(&name);
                let found = || StoreError::Damaged(format!("table {name} is gone"));
                if gone { Err(found()) } else { Ok(None) }
            }
            Err(error) => Err(StoreError::file(path)(error)),
        }
    }

    /// Reads so many bytes more of a table; gives how many, and whether that was the end.
    ///
    /// # Errors
    /// When the disk does not give them back.
    pub(super) fn read_on(&self, look: &mut Look, most: usize) -> Result<(u64, bool), StoreError> {
        let mut chunk = vec![0; most];
        let path = || self.path(&look.name);
        let read = look.file.read(&mut chunk).map_err(|error| StoreError::file(path())(error))?;
        let read = chunk.get(..read).unwrap_or_default();
        look.crc = crc32c::crc32c_append(look.crc, read);
        look.bytes += read.len() as u64;
        Ok((read.len() as u64, read.is_empty()))
    }

    /// Judges a table that was read to its end.
    ///
    /// # Errors
    /// When the database has it and it is not what was noted.
    pub(super) fn judge(&self, db: &Database, look: Look) -> Result<(), StoreError> {
        let Look { name, bytes, crc, .. } = look;
        let Some(table) = self.noted().get(&name).cloned() else { return Ok(()) };
        match differs(&table, bytes, crc) {
            // What was merged into another meanwhile was checked by that.
            Some(found) if db.tables()?.contains(&name) => Err(StoreError::Damaged(found)),
            Some(_) | None => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.store.join("db").join(name)
    }

    /// Reads the tables again that the database has and that were noted, from the disk, and tells
    /// which have changed. No table may be deleted meanwhile.
    ///
    /// # Errors
    /// When the database does not say which it has.
    pub(super) fn changed(&self, db: &Database) -> Result<Vec<String>, StoreError> {
        let mut changed = Vec::new();
        for name in db.tables()? {
            let Some(table) = self.noted().get(&name).cloned() else { continue };
            match checksum(&self.path(&name), true) {
                Ok((bytes, crc)) => changed.extend(differs(&table, bytes, crc)),
                Err(error) => changed.push(format!("table {name} cannot be read: {error}")),
            }
        }
        Ok(changed)
    }
}

/// How what is read of a table is not what was noted.
fn differs(noted: &Table, bytes: u64, crc: u32) -> Option<String> {
    let Table { name, .. } = noted;
    if bytes != noted.bytes {
        return Some(format!("table {name} had {} bytes, not {bytes}", noted.bytes));
    }
    let changed = || format!("table {name} is not what it was when it was made");
    (crc != noted.crc).then(changed)
}

fn decode(bytes: &[u8]) -> Option<List> {
    let (crc, content) = bytes.split_first_chunk::<4>()?;
    let whole = crc32c::crc32c(content) == u32::from_be_bytes(*crc);
    whole.then(|| List::decode(content).ok()).flatten()
}

/// Length and checksum of a file; past what the system has cached of it, if wanted.
fn checksum(path: &Path, from_disk: bool) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    if from_disk {
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    let (mut bytes, mut crc) = (0, 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        let Some(read) = chunk.get(..read).filter(|read| !read.is_empty()) else {
            return Ok((bytes, crc));
        };
        bytes += read.len() as u64;
        crc = crc32c::crc32c_append(crc, read);
    }
}
