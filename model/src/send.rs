//! Send: one message becomes one record, or the ack that it got before.

use bytes::Bytes;
use prost::Message;
use proto::{Header, Record, Stream};

use crate::SHARD;
use crate::check::check_send;
use crate::command::Caller;
use crate::dedup::Remembered;
use crate::error::{QueryError, conflict};
use crate::hash::{Hash, content_hash, leaf_hash};
use crate::keys;
use crate::machine::{Machine, Outcome, Place};
use crate::rows::DedupRow;
use crate::slots::stream_key;
use crate::view::Table;

impl Machine<'_> {
    pub(crate) fn send(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        gateway: &str,
        (to, id, headers, body): (&str, &str, &[Header], &Bytes),
    ) -> Result<Outcome, QueryError> {
        let stream = check_send(to, id, headers, body)?;
        self.require_sender(caller)?;
        let content = content_hash(headers, body);
        let dedup_key = keys::pair(&caller.name, id);
        let remembered = self.first_ack(&dedup_key)?;
        if let Remembered::First(first) = remembered {
            return same_message(first, caller, to, id, &content);
        }
        self.require_recipient(&stream)?;

        let mut record = Record {
            shard: u32::from(SHARD),
            seq: self.state.last_seq + 1,
            stamp: place.stamp.to_bytes().to_vec(),
            from: caller.name.clone(),
            to: to.to_owned(),
            id: id.to_owned(),
            headers: headers.to_vec(),
            body: body.clone(),
            gateway: gateway.to_owned(),
            fingerprint: caller.fingerprint.to_vec(),
            content_hash: content.to_vec(),
            leaf_hash: Vec::new(),
            deleted: None,
            index: place.index,
            primary: place.primary.to_owned(),
        };
        record.leaf_hash = leaf_hash(&record).to_vec();
        if let Remembered::Over(hlc) = remembered {
            self.remove(Table::DedupAge, keys::age(hlc));
        }
        let first = self.store(&stream, &mut record, dedup_key);
        Ok(Outcome::Sent(first.into_ack(id, false)))
    }

    /// Writes the record and every row that leads to it.
    fn store(&mut self, stream: &Stream, record: &mut Record, dedup_key: Vec<u8>) -> DedupRow {
        let seq = record.seq;
        let len = self.put_record(record);
        self.put(Table::Streams, keys::indexed(&stream_key(stream), seq), Vec::new());
        self.put(Table::Senders, keys::indexed(&record.from, seq), Vec::new());
        self.put(Table::Ids, keys::pair(&record.id, &record.from), keys::seq(seq).to_vec());
        let first = DedupRow {
            seq,
            stamp: Bytes::copy_from_slice(&record.stamp),
            index: record.index,
            primary: record.primary.clone(),
            gateway: record.gateway.clone(),
            to: record.to.clone(),
            content_hash: Bytes::copy_from_slice(&record.content_hash),
        };
        self.put(Table::Dedup, dedup_key.clone(), first.encode_to_vec());
        self.put(Table::DedupAge, keys::age(self.state.last), dedup_key);
        assert!(seq == self.state.last_seq + 1, "seqs are dense");
        self.state.last_seq = seq;
        self.state.bytes += len;
        first
    }
}

/// The first ack again, if the message is the one that got it.
fn same_message(
    first: DedupRow,
    caller: &Caller,
    to: &str,
    id: &str,
    content: &Hash,
) -> Result<Outcome, QueryError> {
    if first.to == to && first.content_hash[..] == content[..] {
        return Ok(Outcome::Sent(first.into_ack(id, true)));
    }
    Err(conflict(format!(
        "the id '{id}' was used for another message of '{}', seq {}",
        caller.name, first.seq
    ))
    .into())
}
