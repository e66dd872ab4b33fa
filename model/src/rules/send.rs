//! Send: one message becomes one record, or the ack that it got before. So does one event of a node.

use bytes::Bytes;
use proto::wire::Ack;
use proto::{Header, Name, Stream};

use crate::rows::command::Caller;
use crate::rows::error::{QueryError, denied, invalid};
use crate::rows::hash::{Hash, content_hash};
use crate::rows::keys;
use crate::rows::new_record::NewRecord;
use crate::rows::slots::{sender_key, stream_key};
use crate::rows::values::DedupRow;
use crate::rows::view::Table;
use crate::rules::dedup::{Fresh, Once};
use crate::rules::input::{check_event, check_send};
use crate::rules::machine::{Machine, Outcome, Place};
use planted::Bug;

/// What is to become a record.
pub(crate) struct Message<'m> {
    pub(crate) stream: &'m Stream,
    /// The same as a text.
    pub(crate) to: &'m str,
    pub(crate) id: &'m str,
    pub(crate) headers: &'m [Header],
    pub(crate) body: &'m Bytes,
    /// Hash of headers and body.
    pub(crate) content: &'m Hash,
}

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
        let message = Message { stream: &stream, to, id, headers, body, content: &content };
        self.send_once(place, caller, gateway, &message)
    }

    /// Stores an event of a node. Nobody else may: the stream says what the cluster itself saw.
    pub(crate) fn event(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        gateway: &str,
        (id, headers, body): (&str, &[Header], &Bytes),
    ) -> Result<Outcome, QueryError> {
        check_event(id, headers, body)?;
        if !caller.is_node() {
            return Err(denied("'$events' is written by the cluster alone").into());
        }
        caller.name.parse::<Name>().map_err(invalid)?;
        let content = content_hash(headers, body);
        let (stream, to) = (&Stream::Events, keys::EVENTS);
        let message = Message { stream, to, id, headers, body, content: &content };
        self.send_once(place, caller, gateway, &message)
    }

    /// Stores what was not stored before under this sender and id.
    fn send_once(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        gateway: &str,
        message: &Message<'_>,
    ) -> Result<Outcome, QueryError> {
        let &Message { stream, to, id, content, .. } = message;
        let sender = sender_key(stream, &caller.name);
        let fresh = match self.once((&sender, &caller.name), id, to, content)? {
            Once::Before(first) if planted::is(Bug::AckOfAnother) => {
                let seq = self.state.last_seq;
                return Ok(Outcome::Sent(DedupRow { seq, ..first }.into_ack(id, true)));
            }
            Once::Before(first) => return Ok(Outcome::Sent(first.into_ack(id, true))),
            Once::First(fresh) => fresh,
        };
        if *stream != Stream::Events {
            self.require_recipient(caller, stream)?;
        }
        let ack = self.append(place, caller, gateway, message, (fresh, content));
        assert_eq!(ack.seq, self.state.last_seq, "what is acknowledged was stored last");
        Ok(Outcome::Sent(ack))
    }

    /// Stores a record, remembers it under what asked for it, whose hash is `asked`, and gives its ack.
    pub(crate) fn append(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        gateway: &str,
        message: &Message<'_>,
        (fresh, asked): (Fresh, &Hash),
    ) -> Ack {
        let &Message { stream, to, id, headers, body, content } = message;
        assert_eq!(place.stamp.hlc, self.state.last, "a record has the last stamp there is");
        debug_assert_eq!(stream.to_string(), to, "the text is that of the stream");
        let stamp = place.stamp.to_bytes();
        let record = NewRecord {
            seq: self.state.last_seq + 1,
            index: place.index,
            stamp: &stamp,
            from: &caller.name,
            to,
            id,
            headers,
            body,
            gateway,
            fingerprint: &caller.fingerprint,
            content,
            primary: place.primary,
        };
        let dedup_key = self.claim(fresh);
        let len = self.put_new_record(&record);
        self.lead_to(stream, &record);
        self.remember(dedup_key, &stamp, record.first_ack(asked));
        assert_eq!(record.seq, self.state.last_seq + 1, "seqs are dense");
        self.extend_blocks(record.seq, place.stamp);
        self.state.last_seq = record.seq;
        self.state.bytes += len;
        if *stream != Stream::Events {
            self.state.gateways.count(gateway);
        }
        record.ack()
    }

    /// Writes every row by which a record is found.
    fn lead_to(&mut self, stream: &Stream, record: &NewRecord<'_>) {
        let seq = record.seq;
        self.put(Table::Streams, keys::indexed(&stream_key(stream), seq), Vec::new());
        let sender = sender_key(stream, record.from);
        self.put(Table::Senders, keys::indexed(&sender, seq), Vec::new());
        self.put(Table::Ids, keys::pair(record.id, &sender), keys::seq(seq).to_vec());
    }
}
