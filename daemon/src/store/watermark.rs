//! The watermark file: our own evidence of what was made durable, beside log and database.
//!
//! The log proves by itself what was durable, but for its very end. So what changes rarely stands
//! here, and once a second a copy of the log's mark: a log that ends before that has lost something.
//! No acknowledgement waits for it. Two slots, written in turn, so a torn write leaves the older one.
//!
//! Invariant: what is nowhere else (starts, ceiling, damage) is written to both slots before it
//! counts, so that one that rots leaves it.
//!
//! Order is everything: the log first, then the slot. The other way round a power cut could leave a
//! slot that claims too much on every node at once.
//!
//! The file is also what a store is locked by: two processes on one store would each believe that
//! they alone write it.
//!
//! Not here: who writes it when (`evidence`), what it proves (`verdict`).

use std::fs::TryLockError;
use std::path::{Path, PathBuf};

use log::{Disk as _, DiskFile as _};
use planted::Bug;
use prost::Message as _;

use super::StoreError;
use super::environment::Trouble;
use super::format::{FORMAT, Identity, LogMark, Vote};
use super::media::{AnyFile, Folder};

/// Name of the file in the data directory.
pub const FILE: &str = "watermark";
const SLOT_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"LOGDMARK";
/// Bytes of words about a damage that a slot has room for.
const FOUND_BYTES_MAX: usize = 1024;

/// What a shard had made durable, in stores of format 1.
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

/// What kind of damage a store has. The numbers are the file's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum DamageKind {
    /// Something that was written is not what is read.
    Corrupt = 0,
    /// Something that was durable is gone.
    Lost = 1,
    /// What this node holds as settled contradicts what another one does.
    Contradicted = 2,
    /// The disk does not give back something that was written.
    Unreadable = 3,
}

/// Why a store proves nothing any more.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Damage {
    /// Which kind.
    #[prost(enumeration = "DamageKind", tag = "1")]
    pub kind: i32,
    /// What was expected and what was found, for a person.
    #[prost(string, tag = "2")]
    pub found: String,
}

impl Damage {
    /// A damage, with as many of the words as the file has room for.
    #[must_use]
    pub fn new(kind: DamageKind, found: impl std::fmt::Display) -> Self {
        let mut found = found.to_string();
        found.truncate(found.floor_char_boundary(FOUND_BYTES_MAX));
        Self { kind: kind.into(), found }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.found)
    }
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
    /// Per shard; in stores of format 1.
    #[prost(message, repeated, tag = "4")]
    pub shards: Vec<ShardMark>,
    /// What was found, with `damaged`; absent if an earlier release found it.
    #[prost(message, optional, tag = "5")]
    pub damage: Option<Damage>,
    /// Number of the database's last change that is known to be in its tables. They are numbered
    /// without gaps.
    #[prost(uint64, tag = "6")]
    pub db_sequence: u64,
    /// A mark of the log (`log::Mark`): what was durable up to a second ago. Empty before the first.
    #[prost(bytes = "vec", tag = "7")]
    pub mark: Vec<u8>,
    /// The last entry that was applied then: it is committed.
    #[prost(message, optional, tag = "8")]
    pub committed: Option<LogMark>,
    /// How often the store was started.
    #[prost(uint64, tag = "9")]
    pub starts: u64,
    /// The processes of the last starts, the newest first.
    #[prost(message, repeated, tag = "10")]
    pub lives: Vec<proto::attest::Life>,
    /// The ceiling of stamps, 12 bytes; empty before the first.
    #[prost(bytes = "vec", tag = "11")]
    pub ceiling: Vec<u8>,
}

impl Watermark {
    /// Why the store proves nothing any more, if it carries the mark.
    #[must_use]
    pub fn found(&self) -> Option<Damage> {
        let earlier = || Damage::new(DamageKind::Corrupt, "damage was found by an earlier start");
        self.damaged.then(|| self.damage.clone().unwrap_or_else(earlier))
    }
}

/// The open file.
#[derive(Debug)]
pub struct WatermarkFile {
    file: AnyFile,
    path: PathBuf,
    sequence: u64,
    /// Format of the slot that counts.
    format: u32,
    /// Whether both slots could be read at the opening.
    whole: bool,
}

impl WatermarkFile {
    /// Creates the file with its first content and makes it durable.
    ///
    /// # Errors
    /// When the file exists already or cannot be written.
    pub(super) fn create(dir: &Folder, first: &Watermark) -> Result<Self, StoreError> {
        let path = dir.path.join(FILE);
        let file = dir.disk.create(FILE).map_err(StoreError::file(&path))?;
        // Written in full once, so that later writes change no metadata and a sync of data is enough.
        file.write_at(&[0; 2 * SLOT_BYTES], 0).map_err(StoreError::file(&path))?;
        file.sync().map_err(StoreError::file(&path))?;
        let mut this = Self { file, path, sequence: 0, format: FORMAT, whole: true };
        this.write(first.clone())?;
        dir.disk.sync_names().map_err(StoreError::file(&dir.path))?;
        Ok(this)
    }

    /// Opens the file, locks it for this process, and reads the newest valid slot; `None` if no slot
    /// is valid. The lock ends with the value.
    ///
    /// # Errors
    /// When the file is missing or cannot be read or written, when another process has locked it, or
    /// when a newer release wrote it.
    pub(super) fn open(dir: &Folder) -> Result<(Self, Option<Watermark>), StoreError> {
        let path = dir.path.join(FILE);
        let file = dir.disk.open(FILE).map_err(StoreError::file(&path))?;
        match file.try_lock() {
            // Where files cannot be locked so, the database's own lock has to do.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => {
                let what = format!("{} is in use by another process", dir.path.display());
                return Err(StoreError::Environment { trouble: Trouble::InUse, what });
            }
        }
        let (mut newest, mut whole): (Option<(u32, Watermark)>, bool) = (None, true);
        for slot in 0..2 {
            match read_slot(&file, slot).map_err(StoreError::file(&path))? {
                Slot::Valid(format, found) => {
                    if newest.as_ref().is_none_or(|(_, newest)| newest.sequence < found.sequence) {
                        newest = Some((format, *found));
                    }
                }
                Slot::Newer(format) => return Err(newer(&path, format)),
                Slot::Invalid => whole = false,
            }
        }
        let sequence = newest.as_ref().map_or(0, |(_, watermark)| watermark.sequence);
        let format = newest.as_ref().map_or(FORMAT, |(format, _)| *format);
        Ok((Self { file, path, sequence, format, whole }, newest.map(|(_, watermark)| watermark)))
    }

    /// Whether both slots could be read when it was opened.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Format of the store, as the slot that counts has it.
    #[must_use]
    pub fn format(&self) -> u32 {
        self.format
    }

    /// Writes the next slot and makes it durable. The sequence number is given here.
    ///
    /// # Errors
    /// When the disk refuses; the caller must treat the store as failed.
    pub fn write(&mut self, mut watermark: Watermark) -> Result<(), StoreError> {
        watermark.sequence = self.sequence + 1;
        let slot = encode_slot(&watermark)?;
        let slots = if planted::is(Bug::WatermarkOneSlot) { 1 } else { 2 };
        let offset = (watermark.sequence % slots) * SLOT_BYTES as u64;
        self.file.write_at(&slot, offset).map_err(StoreError::file(&self.path))?;
        self.file.sync().map_err(StoreError::file(&self.path))?;
        (self.sequence, self.format) = (watermark.sequence, FORMAT);
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

/// A store of a newer release: nothing is wrong with it.
pub(super) fn newer(path: &Path, format: u32) -> StoreError {
    let what = format!(
        "{} has format {format}; this release reads up to {FORMAT}: run the newer release",
        path.display()
    );
    StoreError::Environment { trouble: Trouble::NewerFormat, what }
}

/// What a slot holds.
#[derive(Debug, PartialEq)]
enum Slot {
    Valid(u32, Box<Watermark>),
    /// Whole, and of a format that this release does not know.
    Newer(u32),
    /// Never written, torn or damaged.
    Invalid,
}

fn read_slot(file: &AnyFile, slot: u64) -> std::io::Result<Slot> {
    let mut bytes = vec![0; SLOT_BYTES];
    match file.read_at(&mut bytes, slot * SLOT_BYTES as u64) {
        Ok(()) => Ok(decode_slot(&bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(Slot::Invalid),
        Err(error) => Err(error),
    }
}

/// What the newest slot says in these bytes of the file; `None` if none is valid.
pub(super) fn newest(file: &[u8]) -> Option<Watermark> {
    let slots = file.chunks(SLOT_BYTES).filter_map(|slot| match decode_slot(slot) {
        Slot::Valid(_, found) => Some(*found),
        Slot::Newer(_) | Slot::Invalid => None,
    });
    slots.max_by_key(|found| found.sequence)
}

fn decode_slot(bytes: &[u8]) -> Slot {
    let Some((format, payload)) = whole(bytes) else { return Slot::Invalid };
    if format > FORMAT {
        return Slot::Newer(format);
    }
    let found = Watermark::decode(payload);
    found.map_or(Slot::Invalid, |found| Slot::Valid(format, Box::new(found)))
}

/// Format and content of a slot whose checksum is right.
fn whole(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC.as_slice())?;
    let (format, rest) = rest.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let len = u32::from_be_bytes(*len) as usize;
    let payload = rest.get(..len)?;
    let crc = rest.get(len..len + 4)?;
    let covered = bytes.get(..MAGIC.len() + 8 + len)?;
    let fits = crc32c::crc32c(covered).to_be_bytes() == crc;
    fits.then_some((u32::from_be_bytes(*format), payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(sequence: u64) -> Watermark {
        let last = LogMark { index: 7, term: 2, hash: vec![3; 32] };
        let vote = Vote { term: 2, node: 1, committed: true };
        let mark = ShardMark { shard: 1, last: Some(last), vote: Some(vote) };
        Watermark { sequence, shards: vec![mark], ..Watermark::default() }
    }

    #[test]
    fn the_newest_slot_wins_and_a_torn_one_leaves_the_older() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = WatermarkFile::create(&Folder::files(dir.path()), &sample(0)).unwrap();
        let mut second = sample(0);
        second.damaged = true;
        file.write(second).unwrap();
        drop(file);
        let (file, newest) = WatermarkFile::open(&Folder::files(dir.path())).unwrap();
        drop(file);
        let newest = newest.unwrap();
        assert!(newest.damaged && newest.found().is_some());
        assert_eq!(newest.sequence, 2);

        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (_, older) = WatermarkFile::open(&Folder::files(dir.path())).unwrap();
        assert_eq!(older.unwrap(), sample(1));
    }

    /// Found broken with the format looked at together with the checksum: a store of a newer release
    /// was called damaged.
    #[test]
    fn a_newer_format_and_a_second_process_are_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        drop(WatermarkFile::create(&Folder::files(dir.path()), &sample(0)).unwrap());
        let trouble = || match WatermarkFile::open(&Folder::files(dir.path())) {
            Err(StoreError::Environment { trouble, .. }) => Some(trouble),
            _ => None,
        };
        let held = WatermarkFile::open(&Folder::files(dir.path())).unwrap();
        assert_eq!(trouble(), Some(Trouble::InUse));
        drop(held);

        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        let slot = &mut bytes[SLOT_BYTES..];
        slot[8..12].copy_from_slice(&(FORMAT + 1).to_be_bytes());
        let len = u32::from_be_bytes(slot[12..16].try_into().unwrap()) as usize;
        let crc = crc32c::crc32c(&slot[..16 + len]).to_be_bytes();
        slot[16 + len..20 + len].copy_from_slice(&crc);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(trouble(), Some(Trouble::NewerFormat));
        bytes[SLOT_BYTES + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(
            WatermarkFile::open(&Folder::files(dir.path())).unwrap().1.is_none(),
            "damaged, and not newer"
        );
    }

    #[test]
    fn words_of_any_length_fit_into_a_slot() {
        let damage = Damage::new(DamageKind::Lost, "\u{e9}".repeat(5000));
        let watermark = Watermark { damaged: true, damage: Some(damage), ..sample(3) };
        assert_eq!(
            decode_slot(&encode_slot(&watermark).unwrap()),
            Slot::Valid(FORMAT, Box::new(watermark))
        );
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
            prop_assert!(read == Slot::Invalid || read == Slot::Valid(FORMAT, Box::new(sample(9))));
        }
    }
}
