//! Events that applying a change writes: exactly one record each, the same on every node.

use bytes::Bytes;
use proto::{Header, Stream, event};

use crate::rows::command::Caller;
use crate::rows::error::StateError;
use crate::rows::hash::content_hash;
use crate::rows::keys::EVENTS;
use crate::rows::slots::sender_key;
use crate::rows::view::Table;
use crate::rules::machine::{Machine, Place};
use crate::rules::send::Message;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// One of [`event::TYPES`].
    kind: &'static str,
    /// The sentence for a person.
    text: String,
    headers: Vec<Header>,
}

impl Event {
    pub(crate) fn new(kind: &'static str, text: impl Into<String>) -> Self {
        assert!(event::is_of_the_log(kind), "'{kind}' is written where it is seen");
        let headers = vec![Header { key: event::TYPE.to_owned(), value: kind.to_owned() }];
        Self { kind, text: text.into(), headers }
    }

    /// Adds a header, unless it would be empty.
    pub(crate) fn with(mut self, key: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        if !value.is_empty() {
            self.headers.push(Header { key: key.to_owned(), value });
        }
        self
    }
}

impl Machine<'_> {
    /// Writes events, in order. They come from the node that asked for the change; if an admin did,
    /// from the primary, and a header names the admin. The first one has the command's stamp, the
    /// others take the next ones.
    pub(crate) fn note(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        events: Vec<Event>,
    ) -> Result<(), StateError> {
        let (from, by) = match caller.is_node() {
            true => (caller.name.as_str(), ""),
            false => (place.primary, caller.name.as_str()),
        };
        let node = Caller { name: from.to_owned(), admin: false, fingerprint: [0; 32] };
        let mut stamp = place.stamp;
        let end = self.state.last_seq + events.len() as u64;
        for (i, event) in events.into_iter().enumerate() {
            if i > 0 {
                stamp = stamp.ratcheted(self.state.last);
                let ended = |_| StateError::corrupt(Table::Meta, "log time is at its end");
                self.advance_by_itself(place.index, stamp).map_err(ended)?;
            }
            let event = event.with("by", by);
            // No node draws such an id; if one did, its event is not the one that is written here.
            let id = format!("{}-{}", event.kind, self.state.last_seq + 1);
            let fresh = self.first_use(&sender_key(&Stream::Events, from), &id)?;
            let (headers, body) = (&event.headers[..], &Bytes::from(event.text));
            let content = &content_hash(headers, body);
            let (stream, to) = (&Stream::Events, EVENTS);
            let message = Message { stream, to, id: &id, headers, body, content };
            let place = Place { stamp, ..*place };
            self.append(&place, &node, from, &message, (fresh, content));
        }
        assert_eq!(self.state.last_seq, end, "an event is one record");
        Ok(())
    }
}
