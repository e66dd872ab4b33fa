//! The watermark file of a store as bytes, so that a test can make it as old as it may be.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::segments::crc32c;

const SLOT: usize = 4096;
/// Magic, format, length.
const HEADER: usize = 16;
/// Fields that are noted once a second: the database's last change, the log's mark, the last entry
/// that was applied.
const NOTED: [u64; 3] = [6, 7, 8];

/// Takes out what is noted once a second: nobody was told of it, and a node that was killed may have
/// noted it never.
///
/// # Errors
/// When a slot is not one.
pub fn forget_mark(data: &Path) -> anyhow::Result<()> {
    let path = data.join("store/watermark");
    let mut file = fs::read(&path)?;
    for slot in file.chunks_mut(SLOT) {
        let length = slot.get(12..HEADER).and_then(|bytes| bytes.try_into().ok());
        let length = u32::from_be_bytes(length.context("no slot")?) as usize;
        let payload = slot.get(HEADER..HEADER + length).context("no slot")?;
        let kept = without(payload, &NOTED).context("no message")?;
        let mut new = slot.get(..12).context("no slot")?.to_vec();
        new.extend_from_slice(&u32::try_from(kept.len())?.to_be_bytes());
        new.extend_from_slice(&kept);
        new.extend_from_slice(&crc32c(&new).to_be_bytes());
        new.resize(slot.len(), 0);
        slot.copy_from_slice(&new);
    }
    Ok(fs::write(&path, file)?)
}

/// A message without these fields; `None` if it is none.
fn without(mut message: &[u8], fields: &[u64]) -> Option<Vec<u8>> {
    let mut kept = Vec::new();
    while !message.is_empty() {
        let mut rest = message;
        let key = varint(&mut rest)?;
        let skipped = match key & 7 {
            0 => varint(&mut rest).map(|_| 0)?,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            _ => return None,
        };
        rest = rest.get(skipped..)?;
        let (field, after) = message.split_at(message.len() - rest.len());
        if !fields.contains(&(key >> 3)) {
            kept.extend_from_slice(field);
        }
        message = after;
    }
    Some(kept)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_out_whole() {
        let message = [0x08, 0x96, 0x01, 0x3a, 2, 9, 9, 0x30, 5, 0x1a, 1, 7];
        assert_eq!(without(&message, &NOTED).unwrap(), [0x08, 0x96, 0x01, 0x1a, 1, 7]);
        assert_eq!(without(&[0x3a, 9, 1], &NOTED), None);
    }
}
