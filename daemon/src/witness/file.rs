//! The memory on disk: one file beside the watermark, replaced as a whole, so that a torn write
//! leaves the older one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use prost::Message as _;
use proto::attest::Shown;

/// Name of the file, in the store's folder.
pub(super) const FILE: &str = "remembered";
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

/// Reads what was written last; `None` where there is no file.
///
/// # Errors
/// When the file cannot be read, or is not what was written.
pub(super) fn read(path: &Path) -> io::Result<Option<Remembered>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = || io::Error::other(format!("{} is not what was written", path.display()));
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
pub(super) fn write(path: &Path, content: &Remembered) -> io::Result<()> {
    let payload = content.encode_to_vec();
    let new = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(MAGIC)?;
    file.write_all(&crc32c::crc32c(&payload).to_be_bytes())?;
    file.write_all(&payload)?;
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
        assert_eq!(read(&path).unwrap(), None);
        let stores = vec![Shown { raft_id: 2, starts: 4, ..Shown::default() }];
        let contradictions = vec![Contradiction { raft_id: 3, ..Contradiction::default() }];
        let content = Remembered { stores, contradictions };
        write(&path, &Remembered::default()).unwrap();
        write(&path, &content).unwrap();
        assert_eq!(read(&path).unwrap(), Some(content));
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(read(&path).is_err(), "byte {at}");
        }
        fs::write(&path, &whole[..5]).unwrap();
        assert!(read(&path).is_err());
    }
}
