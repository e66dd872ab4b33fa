//! The memory on disk: one file beside the watermark, replaced as a whole, so that a torn write
//! leaves the older one.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message as _;
use proto::attest::Shown;

/// Name of the file, in the store's folder.
const FILE: &str = "remembered";
const MAGIC: &[u8; 8] = b"LOGDPEER";

/// What the file holds.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Remembered {
    /// What others have shown of their stores.
    #[prost(message, repeated, tag = "1")]
    pub(super) stores: Vec<Shown>,
    /// Stores that have committed something else than this one.
    #[prost(message, repeated, tag = "2")]
    pub(super) contradictions: Vec<Contradiction>,
}

/// A store that has committed something else than this one. That stays so for as long as there are both.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Contradiction {
    /// Raft id of the other store.
    #[prost(uint64, tag = "1")]
    pub(super) raft_id: u64,
    /// Name of its node.
    #[prost(string, tag = "2")]
    pub(super) name: String,
    /// What was found, for a person.
    #[prost(string, tag = "3")]
    pub(super) found: String,
}

/// Where the memory is kept between two processes.
#[derive(Debug, Clone)]
pub enum Notebook {
    /// In a file.
    File(PathBuf),
    /// In this process, for nodes that come and go in it. `None`: nothing was written yet.
    Memory(Arc<Mutex<Option<Vec<u8>>>>),
}

impl fmt::Display for Notebook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Memory(_) => f.write_str("the notebook in memory"),
        }
    }
}

impl Notebook {
    /// Beside the store of a data directory.
    #[must_use]
    pub fn beside_store(data_dir: &Path) -> Self {
        Self::File(data_dir.join("store").join(FILE))
    }

    /// Whether there is nowhere to write to any more.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::File(path) => !path.parent().is_some_and(Path::exists),
            Self::Memory(_) => false,
        }
    }

    /// Begins anew, with nothing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn begin(&self) -> io::Result<()> {
        self.write(&Remembered::default())
    }

    /// Why what others have shown cannot be read; `None` if it can.
    pub(crate) fn why_lost(&self) -> Option<String> {
        match self.read() {
            Ok(Some(_)) => None,
            Ok(None) => Some(format!("{self} is gone")),
            Err(error) => Some(error.to_string()),
        }
    }

    /// What others have shown of their stores, as far as that can be read.
    pub(crate) fn stores(&self) -> Vec<Shown> {
        self.read().ok().flatten().unwrap_or_default().stores
    }

    /// Reads what was written last; `None` where nothing was.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub(super) fn read(&self) -> io::Result<Option<Remembered>> {
        let bytes = match self {
            Self::File(path) => match fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            },
            Self::Memory(bytes) => match bytes.lock().clone() {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
        };
        let damaged = || io::Error::other(format!("{self} is not what was written"));
        let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or_else(damaged)?;
        let (crc, payload) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        if crc32c::crc32c(payload) != u32::from_be_bytes(*crc) {
            return Err(damaged());
        }
        Remembered::decode(payload).map(Some).map_err(|_| damaged())
    }

    /// Writes all anew, durably.
    ///
    /// # Errors
    /// When the disk refuses; what was written before stays.
    pub(super) fn write(&self, content: &Remembered) -> io::Result<()> {
        let payload = content.encode_to_vec();
        let crc = crc32c::crc32c(&payload).to_be_bytes();
        let bytes = [MAGIC.as_slice(), &crc, &payload].concat();
        match self {
            Self::File(path) => replace(path, &bytes),
            Self::Memory(kept) => {
                *kept.lock() = Some(bytes);
                Ok(())
            }
        }
    }
}

/// Replaces a file as a whole.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let notebook = Notebook::File(path.clone());
        assert_eq!(notebook.read().unwrap(), None);
        let stores = vec![Shown { raft_id: 2, starts: 4, ..Shown::default() }];
        let contradictions = vec![Contradiction { raft_id: 3, ..Contradiction::default() }];
        let content = Remembered { stores, contradictions };
        notebook.write(&Remembered::default()).unwrap();
        notebook.write(&content).unwrap();
        assert_eq!(notebook.read().unwrap(), Some(content));
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(notebook.read().is_err(), "byte {at}");
        }
        fs::write(&path, &whole[..5]).unwrap();
        assert!(notebook.read().is_err());
    }
}
