//! The segments of a node's log as bytes: where its groups begin, so that a test can cut it there. A
//! disk that loses its last writes leaves such a file, and it looks flawless.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Groups begin at multiples of this, the first one behind the label.
const SECTOR: usize = 512;
/// Kind of the record that a group begins with.
const MARK: u8 = 5;

/// The newest segment of the log in a data directory that holds anything.
///
/// # Errors
/// When there is none.
pub fn newest(data: &Path) -> anyhow::Result<PathBuf> {
    let files = fs::read_dir(data.join("store/log"))?;
    let paths = files.map(|file| file.map(|file| file.path())).collect::<Result<Vec<_>, _>>()?;
    let mut found = paths.into_iter().filter(|path| {
        let is_segment = path.extension().is_some_and(|extension| extension == "segment");
        is_segment && fs::read(path).is_ok_and(|bytes| !group_starts(&bytes).is_empty())
    });
    let first = found.next().context("no segment holds anything")?;
    Ok(found.fold(first, Ord::max))
}

/// Where the groups of a segment begin, in order.
#[must_use]
pub fn group_starts(bytes: &[u8]) -> Vec<usize> {
    // The life of the segment, in its label: what was there before is of another.
    let life = bytes.get(28..36);
    let begins = |at: &usize| {
        let Some(header) = bytes.get(*at..*at + 48) else { return false };
        header.get(8..16) == life
            && header.get(24..28) == Some(&[0; 4])
            && header.get(30) == Some(&MARK)
    };
    (SECTOR..bytes.len()).step_by(SECTOR).filter(begins).collect()
}

/// Cuts the newest segment of a data directory behind about half of its groups.
///
/// # Errors
/// When it is too short for that.
pub fn cut_in_half(data: &Path) -> anyhow::Result<()> {
    let path = newest(data)?;
    let mut bytes = fs::read(&path)?;
    let starts = group_starts(&bytes);
    let at = starts.get(starts.len() / 2).filter(|_| starts.len() > 4);
    let at = *at.with_context(|| format!("only {} groups in {}", starts.len(), path.display()))?;
    bytes.get_mut(at..).context("it ends before")?.fill(0);
    Ok(fs::write(&path, bytes)?)
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
    fn groups_begin_with_a_mark_of_this_life() {
        let mut bytes = vec![0; 8 * SECTOR];
        bytes[35] = 7;
        for (sector, life, back, kind) in
            [(1, 7, 0, 5), (2, 6, 0, 5), (3, 7, 9, 5), (4, 7, 0, 1), (6, 7, 0, 5)]
        {
            let at = sector * SECTOR;
            (bytes[at + 15], bytes[at + 27], bytes[at + 30]) = (life, back, kind);
        }
        assert_eq!(group_starts(&bytes), [SECTOR, 6 * SECTOR]);
    }
}
