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
    let leaf = Leaf {
        shard: record.shard,
        seq: record.seq,
        index: record.index,
        stamp: &record.stamp,
        from: &record.from,
        to: &record.to,
        id: &record.id,
        gateway: &record.gateway,
        primary: &record.primary,
        fingerprint: &record.fingerprint,
        content: &record.content_hash,
    };
    leaf.hash()
}

/// What the leaf hash covers.
pub(crate) struct Leaf<'r> {
    pub(crate) shard: u32,
    pub(crate) seq: u64,
    pub(crate) index: u64,
    pub(crate) stamp: &'r [u8],
    pub(crate) from: &'r str,
    pub(crate) to: &'r str,
    pub(crate) id: &'r str,
    pub(crate) gateway: &'r str,
    pub(crate) primary: &'r str,
    pub(crate) fingerprint: &'r [u8],
    pub(crate) content: &'r [u8],
}

impl Leaf<'_> {
    pub(crate) fn hash(&self) -> Hash {
        let mut input = Vec::with_capacity(384);
        input.extend_from_slice(b"logd leaf 1\n");
        input.extend_from_slice(&self.shard.to_be_bytes());
        input.extend_from_slice(&self.seq.to_be_bytes());
        input.extend_from_slice(&self.index.to_be_bytes());
        for field in [
            self.stamp,
            self.from.as_bytes(),
            self.to.as_bytes(),
            self.id.as_bytes(),
            self.gateway.as_bytes(),
            self.primary.as_bytes(),
            self.fingerprint,
            self.content,
        ] {
            part(&mut input, field);
        }
        blake3::hash(&input).into()
    }
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
