//! RocksDB's write-ahead log as bytes: where its records end, so that a test can cut it there or
//! write one anew. A disk that loses its last writes leaves such a file, and it looks flawless.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Records never cross a block; one that does not fit is written in parts.
const BLOCK: usize = 32 << 10;
/// Checksum, length, kind.
const HEADER: usize = 7;
/// Kinds of parts: whole, and the last of several.
const WHOLE: u8 = 1;
const LAST: u8 = 4;

/// The newest write-ahead log of the store in a data directory.
///
/// # Errors
/// When there is none.
pub fn newest(data: &Path) -> anyhow::Result<PathBuf> {
    let files = fs::read_dir(data.join("store/db"))?;
    let paths = files.map(|file| file.map(|file| file.path())).collect::<Result<Vec<_>, _>>()?;
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    paths.into_iter().filter(is_log).max().context("no write-ahead log")
}

/// Ends of the records of a log, in order.
#[must_use]
pub fn record_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    loop {
        let left = BLOCK - at % BLOCK;
        if left < HEADER {
            at += left;
            continue;
        }
        let header = bytes.get(at..at + HEADER);
        let Some(&[_, _, _, _, low, high, kind]) = header else { return ends };
        let end = at + HEADER + usize::from(u16::from_le_bytes([low, high]));
        // Zeroes are what was preallocated and never written.
        if kind == 0 || end > bytes.len() {
            return ends;
        }
        if kind == WHOLE || kind == LAST {
            ends.push(end);
        }
        at = end;
    }
}

/// Cuts the newest log of a data directory behind about half of its records.
///
/// # Errors
/// When it is too short for that.
pub fn cut_in_half(data: &Path) -> anyhow::Result<()> {
    let path = newest(data)?;
    let bytes = fs::read(&path)?;
    let ends = record_ends(&bytes);
    let end = ends.get(ends.len() / 2).filter(|_| ends.len() > 4);
    let end = *end.with_context(|| format!("only {} records in {}", ends.len(), path.display()))?;
    let file = fs::File::options().write(true).open(&path)?;
    file.set_len(end as u64)?;
    Ok(file.sync_all()?)
}

/// Replaces bytes in a record of the newest log, and makes its checksum right again.
///
/// # Errors
/// When no whole record holds them.
pub fn rewrite(data: &Path, from: &[u8], to: &[u8]) -> anyhow::Result<()> {
    let path = newest(data)?;
    let mut bytes = fs::read(&path)?;
    let mut start = 0;
    for end in record_ends(&bytes) {
        let record = bytes.get_mut(start..end).unwrap_or_default();
        let found = record.windows(from.len()).position(|window| window == from);
        if let (Some(at), Some(&WHOLE)) = (found, record.get(6)) {
            record.get_mut(at..at + to.len()).context("it reaches too far")?.copy_from_slice(to);
            let sum = mask(crc32c(record.get(6..).unwrap_or_default()));
            record.get_mut(..4).context("no header")?.copy_from_slice(&sum.to_le_bytes());
            return Ok(fs::write(&path, bytes)?);
        }
        start = end;
    }
    anyhow::bail!("{} holds no such record", path.display())
}

/// The checksum of a checksum must not be itself.
fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C, as the files of a store carry it.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn records_end_where_their_last_part_does() {
        let part = |kind: u8, len: u16| {
            let mut part = vec![0; 4];
            part.extend(len.to_le_bytes());
            part.push(kind);
            part.resize(HEADER + usize::from(len), b'x');
            part
        };
        let mut bytes = [part(WHOLE, 3), part(2, 5), part(LAST, 1)].concat();
        assert_eq!(record_ends(&bytes), [10, 30]);
        bytes.extend(vec![0; 100]);
        assert_eq!(record_ends(&bytes), [10, 30]);
        // The last six bytes of a block hold no header.
        let first = part(WHOLE, u16::try_from(BLOCK - HEADER - 6).unwrap());
        let bytes = [first, vec![0; 6], part(WHOLE, 1)].concat();
        assert_eq!(record_ends(&bytes), [BLOCK - 6, BLOCK + 8]);
    }
}
