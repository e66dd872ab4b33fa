//! A record that is being stored, made of what others own: its hash and its row are those of the
//! [`Record`] with the same parts, and nothing is copied on the way.

use bytes::{BufMut, Bytes};
use clock::Stamp;
use prost::encoding::{WireType, encode_key, encode_varint, message};
use proto::Header;
use proto::wire::Ack;

use crate::SHARD;
use crate::rows::hash::{Hash, Leaf};

/// What becomes a record. It has no tombstone yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRecord<'m> {
    pub(crate) seq: u64,
    pub(crate) index: u64,
    pub(crate) stamp: &'m [u8; Stamp::BYTES],
    pub(crate) from: &'m str,
    pub(crate) to: &'m str,
    pub(crate) id: &'m str,
    pub(crate) headers: &'m [Header],
    pub(crate) body: &'m Bytes,
    pub(crate) gateway: &'m str,
    pub(crate) fingerprint: &'m [u8; 32],
    /// Hash of headers and body.
    pub(crate) content: &'m Hash,
    pub(crate) primary: &'m str,
}

/// What the row of a first ack takes at most beside texts.
const FIRST_ACK_BYTES: usize = 96;
/// What the protobuf form of a record takes at most beside headers, body and texts.
const FIXED_BYTES: usize = 192;
/// The same for a header, beside its texts.
const HEADER_BYTES: usize = 24;

impl NewRecord<'_> {
    pub(crate) fn leaf_hash(&self) -> Hash {
        let leaf = Leaf {
            shard: u32::from(SHARD),
            seq: self.seq,
            index: self.index,
            stamp: self.stamp,
            from: self.from,
            to: self.to,
            id: self.id,
            gateway: self.gateway,
            primary: self.primary,
            fingerprint: self.fingerprint,
            content: self.content,
        };
        leaf.hash()
    }

    /// The row of the first ack, as a `DedupRow` has it; `asked` is the hash of what asked for it.
    pub(crate) fn first_ack(&self, asked: &Hash) -> Vec<u8> {
        let texts = [self.primary, self.gateway, self.to];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        let mut row = Vec::with_capacity(FIRST_ACK_BYTES + texts);
        number(1, self.seq, &mut row);
        bytes(2, self.stamp, &mut row);
        number(3, self.index, &mut row);
        bytes(4, self.primary.as_bytes(), &mut row);
        bytes(5, self.gateway.as_bytes(), &mut row);
        bytes(6, self.to.as_bytes(), &mut row);
        bytes(7, asked, &mut row);
        row
    }

    /// The ack of its first sending.
    pub(crate) fn ack(&self) -> Ack {
        Ack {
            shard: u32::from(SHARD),
            seq: self.seq,
            stamp: self.stamp.to_vec(),
            primary: self.primary.to_owned(),
            gateway: self.gateway.to_owned(),
            id: self.id.to_owned(),
            duplicate: false,
            index: self.index,
        }
    }

    /// The row: its stamp, then the record without it.
    pub(crate) fn row(&self, leaf: &Hash) -> Vec<u8> {
        let headers: usize =
            self.headers.iter().map(|h| HEADER_BYTES + h.key.len() + h.value.len()).sum();
        let texts = [self.from, self.to, self.id, self.gateway, self.primary];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        let room = Stamp::BYTES + FIXED_BYTES + headers + texts + self.body.len();
        let mut row = Vec::with_capacity(room);
        row.put_slice(self.stamp);
        number(1, u64::from(SHARD), &mut row);
        number(2, self.seq, &mut row);
        bytes(4, self.from.as_bytes(), &mut row);
        bytes(5, self.to.as_bytes(), &mut row);
        bytes(6, self.id.as_bytes(), &mut row);
        for header in self.headers {
            message::encode(7, header, &mut row);
        }
        bytes(8, self.body, &mut row);
        bytes(9, self.gateway.as_bytes(), &mut row);
        bytes(10, self.fingerprint, &mut row);
        bytes(11, self.content, &mut row);
        bytes(12, leaf, &mut row);
        number(14, self.index, &mut row);
        bytes(15, self.primary.as_bytes(), &mut row);
        row
    }
}

/// A field of protobuf; one that is zero is left out.
fn number(tag: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(value, out);
    }
}

/// The same; one that is empty is left out.
fn bytes(tag: u32, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(value.len() as u64, out);
        out.put_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use proto::Record;

    use super::*;
    use crate::rows::hash::leaf_hash;
    use crate::rows::values::{DedupRow, encode_record};

    fn text() -> impl Strategy<Value = String> {
        "[a-z@*$.-]{0,40}"
    }

    proptest! {
        /// What was stored before is stored the same way, byte by byte.
        #[test]
        fn the_row_and_the_hash_are_those_of_the_record(
            (seq, index) in (any::<u64>(), any::<u64>()),
            stamp in any::<[u8; Stamp::BYTES]>(),
            (from, to, id, gateway, primary) in (text(), text(), text(), text(), text()),
            headers in prop::collection::vec((text(), text()), 0..3),
            body in prop::collection::vec(any::<u8>(), 0..300),
            (fingerprint, content) in (any::<[u8; 32]>(), any::<[u8; 32]>()),
        ) {
            let headers: Vec<_> =
                headers.into_iter().map(|(key, value)| Header { key, value }).collect();
            let body = Bytes::from(body);
            let new = NewRecord {
                seq,
                index,
                stamp: &stamp,
                from: &from,
                to: &to,
                id: &id,
                headers: &headers,
                body: &body,
                gateway: &gateway,
                fingerprint: &fingerprint,
                content: &content,
                primary: &primary,
            };
            let mut record = Record {
                shard: u32::from(SHARD),
                seq,
                stamp: stamp.to_vec(),
                from: from.clone(),
                to: to.clone(),
                id: id.clone(),
                headers: headers.clone(),
                body: body.clone(),
                gateway: gateway.clone(),
                fingerprint: fingerprint.to_vec(),
                content_hash: content.to_vec(),
                leaf_hash: Vec::new(),
                deleted: None,
                index,
                primary: primary.clone(),
            };
            let leaf = leaf_hash(&record);
            prop_assert_eq!(new.leaf_hash(), leaf);
            record.leaf_hash = leaf.to_vec();
            let row = new.row(&leaf);
            prop_assert_eq!(&row, &encode_record(&mut record));
            prop_assert!(row.capacity() < row.len() + FIXED_BYTES + 3 * HEADER_BYTES);
            let first = DedupRow {
                seq,
                stamp: Bytes::copy_from_slice(&stamp),
                index,
                primary: primary.clone(),
                gateway: gateway.clone(),
                to: to.clone(),
                content_hash: Bytes::copy_from_slice(&content),
                answer: Bytes::new(),
            };
            let row = new.first_ack(&content);
            prop_assert_eq!(&row, &first.encode_to_vec());
            prop_assert!(row.capacity() < row.len() + FIRST_ACK_BYTES);
            prop_assert_eq!(new.ack(), first.into_ack(&id, false));
        }
    }
}
