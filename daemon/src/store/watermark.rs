//! The watermark file: our own evidence of what was made durable, beside the database.
//!
//! RocksDB cannot tell that acknowledged entries are gone: a write-ahead log cut on a record
//! boundary opens silently. So after every sync of the database, and before anyone is told of it,
//! the highest durable index with its chain hash and the vote are written here. Two slots, written
//! in turn, so a torn write leaves the older one.
//!
//! Order is everything: database first, then the slot, then the answer. The other way round a
//! power cut could leave a slot that claims too much on every node at once.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use prost::Message as _;

use super::StoreError;
use super::format::{FORMAT, Identity, LogMark, Vote};

/// Name of the file in the data directory.
pub const FILE: &str = "watermark";
const SLOT_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"LOGDMARK";

/// What a shard has made durable.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ShardMark {
    /// The shard.
    #[prost(uint32, tag = "1")]
    pub shard: u32,
    /// Highest durable entry; absent while the log is empty.
    #[prost(message, optional, tag = "2")]
    pub last: Option<LogMark>,
    /// Durable vote; absent before the first.
    #[prost(message, optional, tag = "3")]
    pub vote: Option<Vote>,
}

/// The content of a slot.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Watermark {
    /// Grows with every write; the reader takes the highest.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// The store's identity, repeated.
    #[prost(message, optional, tag = "2")]
    pub identity: Option<Identity>,
    /// Set once damage was found; only a new store clears it.
    #[prost(bool, tag = "3")]
    pub damaged: bool,
    /// Per shard.
    #[prost(message, repeated, tag = "4")]
    pub shards: Vec<ShardMark>,
}

impl Watermark {
    /// The mark of a shard, if it has one.
    #[must_use]
    pub fn shard(&self, shard: u16) -> Option<&ShardMark> {
        self.shards.iter().find(|mark| mark.shard == u32::from(shard))
    }
}

/// The open file.
#[derive(Debug)]
pub struct WatermarkFile {
    file: File,
    path: PathBuf,
    sequence: u64,
}

impl WatermarkFile {
    /// Creates the file with its first content and makes it durable.
    ///
    /// # Errors
    /// When the file exists already or cannot be written.
    pub fn create(dir: &Path, first: &Watermark) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::file(&path))?;
        // Written in full once, so that later writes change no metadata and fdatasync is enough.
        file.write_all_at(&[0; 2 * SLOT_BYTES], 0).map_err(StoreError::file(&path))?;
        file.sync_all().map_err(StoreError::file(&path))?;
        let mut this = Self { file, path, sequence: 0 };
        this.write(first.clone())?;
        let dir_file = File::open(dir).map_err(StoreError::file(dir))?;
        dir_file.sync_all().map_err(StoreError::file(dir))?;
        Ok(this)
    }

    /// Opens the file and reads the newest valid slot; `None` if no slot is valid.
    ///
    /// # Errors
    /// When the file is missing or cannot be read.
    pub fn open(dir: &Path) -> Result<(Self, Option<Watermark>), StoreError> {
        let path = dir.join(FILE);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(StoreError::file(&path))?;
        let newest = (0..2u64)
            .filter_map(|slot| read_slot(&file, slot))
            .max_by_key(|watermark| watermark.sequence);
        let sequence = newest.as_ref().map_or(0, |watermark| watermark.sequence);
        Ok((Self { file, path, sequence }, newest))
    }

    /// Writes the next slot and makes it durable. The sequence number is given here.
    ///
    /// # Errors
    /// When the disk refuses; the caller must treat the store as failed.
    pub fn write(&mut self, mut watermark: Watermark) -> Result<(), StoreError> {
        watermark.sequence = self.sequence + 1;
        let slot = encode_slot(&watermark)?;
        let offset = (watermark.sequence % 2) * SLOT_BYTES as u64;
        self.file.write_all_at(&slot, offset).map_err(StoreError::file(&self.path))?;
        self.file.sync_data().map_err(StoreError::file(&self.path))?;
        self.sequence = watermark.sequence;
        Ok(())
    }
}

fn encode_slot(watermark: &Watermark) -> Result<Vec<u8>, StoreError> {
    let payload = watermark.encode_to_vec();
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.extend_from_slice(MAGIC);
    slot.extend_from_slice(&FORMAT.to_be_bytes());
    slot.extend_from_slice(&len.to_be_bytes());
    slot.extend_from_slice(&payload);
    let crc = crc32c::crc32c(&slot);
    slot.extend_from_slice(&crc.to_be_bytes());
    if slot.len() > SLOT_BYTES {
        return Err(StoreError::Damaged(format!("a watermark of {} bytes", slot.len())));
    }
    slot.resize(SLOT_BYTES, 0);
    Ok(slot)
}

fn read_slot(file: &File, slot: u64) -> Option<Watermark> {
    let mut bytes = vec![0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_BYTES as u64).ok()?;
    decode_slot(&bytes)
}

fn decode_slot(bytes: &[u8]) -> Option<Watermark> {
    let rest = bytes.strip_prefix(MAGIC.as_slice())?;
    let (format, rest) = rest.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let len = u32::from_be_bytes(*len) as usize;
    let payload = rest.get(..len)?;
    let crc = rest.get(len..len + 4)?;
    let covered = bytes.get(..MAGIC.len() + 8 + len)?;
    let fits =
        crc32c::crc32c(covered).to_be_bytes() == crc && u32::from_be_bytes(*format) == FORMAT;
    if fits { Watermark::decode(payload).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(sequence: u64) -> Watermark {
        let last = LogMark { index: 7, term: 2, hash: vec![3; 32] };
        let vote = Vote { term: 2, node: 1, committed: true };
        let mark = ShardMark { shard: 1, last: Some(last), vote: Some(vote) };
        Watermark { sequence, identity: None, damaged: false, shards: vec![mark] }
    }

    #[test]
    fn the_newest_slot_wins_and_a_torn_one_leaves_the_older() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = WatermarkFile::create(dir.path(), &sample(0)).unwrap();
        let mut second = sample(0);
        second.damaged = true;
        file.write(second).unwrap();
        let (_, newest) = WatermarkFile::open(dir.path()).unwrap();
        let newest = newest.unwrap();
        assert!(newest.damaged);
        assert_eq!(newest.sequence, 2);

        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (_, older) = WatermarkFile::open(dir.path()).unwrap();
        assert_eq!(older.unwrap(), sample(1));
    }

    proptest! {
        #[test]
        fn hostile_slots_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            let _ = decode_slot(&bytes);
        }

        #[test]
        fn every_flipped_bit_is_seen(bit in 0usize..8 * 80) {
            let mut slot = encode_slot(&sample(9)).unwrap();
            slot[bit / 8] ^= 1 << (bit % 8);
            let read = decode_slot(&slot);
            prop_assert!(read.is_none() || read == Some(sample(9)));
        }
    }
}
