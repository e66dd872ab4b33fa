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

/// What a node has noted in the slot that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// The database's last change that is known to be in its tables.
    pub db_sequence: u64,
    /// The last entry that was applied, and is durable in the log.
    pub committed: u64,
}

/// Reads what a node has noted last; it may be running.
///
/// # Errors
/// When no slot is whole.
pub fn noted(data: &Path) -> anyhow::Result<Noted> {
    let file = fs::read(data.join("store/watermark"))?;
    let slots = file.chunks(SLOT).filter_map(|slot| {
        let payload = payload(slot)?;
        let covered = slot.get(..HEADER + payload.len())?;
        let crc = slot.get(covered.len()..covered.len() + 4)?;
        let fields = fields(payload).filter(|_| crc32c(covered).to_be_bytes() == crc)?;
        let committed = fields.iter().find(|field| field.number == 8);
        let committed = committed.and_then(|field| self::fields(field.content));
        let committed = committed.map_or(0, |place| number(&place, 1));
        Some((number(&fields, 1), Noted { db_sequence: number(&fields, 6), committed }))
    });
    let newest = slots.max_by_key(|(sequence, _)| *sequence);
    newest.map(|(_, noted)| noted).context("no slot is whole")
}

/// Takes out what is noted once a second: nobody was told of it, and a node that was killed may have
/// noted it never.
///
/// # Errors
/// When a slot is not one.
pub fn forget_mark(data: &Path) -> anyhow::Result<()> {
    let path = data.join("store/watermark");
    let mut file = fs::read(&path)?;
    for slot in file.chunks_mut(SLOT) {
        let fields = payload(slot).and_then(fields).context("no message")?;
        let kept = fields.iter().filter(|field| !NOTED.contains(&field.number));
        let kept: Vec<u8> = kept.flat_map(|field| field.whole).copied().collect();
        let mut new = slot.get(..12).context("no slot")?.to_vec();
        new.extend_from_slice(&u32::try_from(kept.len())?.to_be_bytes());
        new.extend_from_slice(&kept);
        new.extend_from_slice(&crc32c(&new).to_be_bytes());
        new.resize(slot.len(), 0);
        slot.copy_from_slice(&new);
    }
    Ok(fs::write(&path, file)?)
}

fn payload(slot: &[u8]) -> Option<&[u8]> {
    let length = slot.get(12..HEADER)?.try_into().ok()?;
    slot.get(HEADER..)?.get(..usize::try_from(u32::from_be_bytes(length)).ok()?)
}

/// A field of a message: all of it, and its value.
struct Field<'a> {
    number: u64,
    whole: &'a [u8],
    content: &'a [u8],
}

/// The fields of a message; `None` if it is none.
fn fields(mut message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let mut rest = message;
        let key = varint(&mut rest)?;
        let length = match key & 7 {
            0 => {
                let mut behind = rest;
                varint(&mut behind)?;
                rest.len() - behind.len()
            }
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let (whole, _) = message.split_at(message.len() - rest.len());
        found.push(Field { number: key >> 3, whole, content });
        message = rest;
    }
    Some(found)
}

/// The value of a field that is a number; 0 where it is left out.
fn number(fields: &[Field<'_>], number: u64) -> u64 {
    let field = fields.iter().find(|field| field.number == number);
    field.and_then(|field| varint(&mut { field.content })).unwrap_or(0)
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
    fn fields_are_found_whole() {
        let message = [0x08, 0x96, 0x01, 0x3a, 2, 9, 9, 0x30, 5, 0x1a, 1, 7];
        let found = fields(&message).unwrap();
        assert_eq!((number(&found, 1), number(&found, 6), number(&found, 2)), (150, 5, 0));
        let kept = found.iter().filter(|field| !NOTED.contains(&field.number));
        let kept: Vec<u8> = kept.flat_map(|field| field.whole).copied().collect();
        assert_eq!(kept, [0x08, 0x96, 0x01, 0x1a, 1, 7]);
        assert!(fields(&[0x3a, 9, 1]).is_none());
    }
}
