//! The hashes inside a record: BLAKE3 with a domain in front and a length before every part, so
//! that no two different records give the same input.

use blake3::Hasher;
use proto::{Header, Record};

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// Hash of a message's headers and body; it outlives them.
#[must_use]
pub fn content_hash(headers: &[Header], body: &[u8]) -> Hash {
    let mut hasher = Hasher::new();
    hasher.update(b"logd content 1\n");
    let mut head = Vec::with_capacity(64);
    part_len(&mut head, headers.len());
    for header in headers {
        part(&mut head, header.key.as_bytes());
        part(&mut head, header.value.as_bytes());
    }
    part_len(&mut head, body.len());
    hasher.update(&head).update(body);
    hasher.finalize().into()
}

/// Hash of everything in a record but headers, body and tombstone, and of its content hash: it
/// never changes, whatever is erased later.
#[must_use]
pub fn leaf_hash(record: &Record) -> Hash {
    let mut input = Vec::with_capacity(384);
    input.extend_from_slice(b"logd leaf 1\n");
    input.extend_from_slice(&record.shard.to_be_bytes());
    input.extend_from_slice(&record.seq.to_be_bytes());
    input.extend_from_slice(&record.index.to_be_bytes());
    for field in [
        &record.stamp[..],
        record.from.as_bytes(),
        record.to.as_bytes(),
        record.id.as_bytes(),
        record.gateway.as_bytes(),
        record.primary.as_bytes(),
        &record.fingerprint,
        &record.content_hash,
    ] {
        part(&mut input, field);
    }
    blake3::hash(&input).into()
}

/// Whether the record's hashes fit the rest of it. A deleted record's content is gone, so only its
/// leaf hash can be checked.
#[must_use]
pub fn verify(record: &Record) -> bool {
    let content = record.deleted.is_some()
        || record.content_hash == content_hash(&record.headers, &record.body);
    content && record.leaf_hash == leaf_hash(record)
}

fn part(out: &mut Vec<u8>, bytes: &[u8]) {
    part_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn part_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&(len as u64).to_be_bytes());
}
