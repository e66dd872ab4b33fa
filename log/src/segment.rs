//! A segment: a file of fixed size whose first sector says what it is.
//!
//! The name is the number of its life. A file that is used again gets a new number, so no number
//! comes twice, and what the file held before has checksums of another life.

use crate::format::{FORMAT, Reader, StoreId};
use crate::record::Seed;

/// Groups begin at multiples of this, and so does the first one: a sector that holds something
/// durable is never written again, so no torn write can take it.
pub(crate) const SECTOR: usize = 512;
/// Room that is left at a segment's end for the record that closes it.
pub(crate) const SEAL_ROOM: usize = SECTOR;
/// Name of a segment that is being made.
pub(crate) const MAKING: &str = "segment.new";
const MAGIC: &[u8; 8] = b"LOGDSEGM";
const SUFFIX: &str = ".segment";

/// Name of the file of this life.
pub(crate) fn file_name(life: u64) -> String {
    format!("{life:016}{SUFFIX}")
}

/// The life that a file's name tells of; `None` if it is no segment.
pub(crate) fn life_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(SUFFIX)?;
    let life = number.parse().ok()?;
    (file_name(life) == name).then_some(life)
}

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) seed: Seed,
    pub(crate) size: usize,
    pub(crate) file: F,
}

/// What a segment's first sector says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// It is this store's, of this life, and has so many bytes.
    Ours { life: u64, size: u64 },
    /// A newer release wrote it.
    Newer(u32),
    /// Another store's.
    Foreign,
    /// Not whole.
    Broken,
}

/// The first sector of a segment.
pub(crate) fn label(store: &StoreId, life: u64, size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(SECTOR);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_be_bytes());
    out.extend_from_slice(store);
    out.extend_from_slice(&life.to_be_bytes());
    out.extend_from_slice(&(size as u64).to_be_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out.resize(SECTOR, 0);
    out
}

/// Reads the first sector of a segment.
pub(crate) fn read_label(store: &StoreId, bytes: &[u8]) -> Label {
    parse_label(store, bytes).unwrap_or(Label::Broken)
}

/// Store and life in a segment's first sector, if that is whole.
pub(crate) fn owner(bytes: &[u8]) -> Option<(StoreId, u64)> {
    parse(bytes).map(|(_, owner, life, _)| (owner, life))
}

fn parse_label(store: &StoreId, bytes: &[u8]) -> Option<Label> {
    let (format, owner, life, size) = parse(bytes)?;
    Some(match (format > FORMAT, owner == *store) {
        (true, _) => Label::Newer(format),
        (false, false) => Label::Foreign,
        (false, true) => Label::Ours { life, size },
    })
}

/// Format, store, life and size in a first sector that is whole.
fn parse(bytes: &[u8]) -> Option<(u32, StoreId, u64, u64)> {
    let mut reader = Reader(bytes);
    let magic = reader.bytes::<8>()?;
    let format = reader.u32()?;
    let owner = reader.bytes::<16>()?;
    let (life, size) = (reader.u64()?, reader.u64()?);
    let covered = bytes.get(..bytes.len() - reader.0.len())?;
    let whole = magic == MAGIC && crc32c::crc32c(covered) == reader.u32()?;
    whole.then_some((format, *owner, life, size))
}
