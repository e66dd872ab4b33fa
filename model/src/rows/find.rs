//! Single records: by seq, by id, and who may see them.

use std::ops::ControlFlow;

use bytes::Bytes;
use proto::{Failure, Record};

use crate::rows::error::{StateError, conflict};
use crate::rows::keys::{self, EVENTS};
use crate::rows::membership_spans::spans;
use crate::rows::values::{decode_record, decode_seq};
use crate::rows::view::{Direction, Table, View};

/// Most senders that an answer about an ambiguous id names.
pub(crate) const SENDERS_SHOWN_MAX: usize = 8;
/// Rows fetched at a time.
const CHUNK: usize = 64;

/// Who reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// The certificate's name.
    pub name: String,
    /// Whether the certificate's role is admin.
    pub admin: bool,
}

/// The row of a record that must exist.
pub(crate) fn record_row(view: &dyn View, seq: u64) -> Result<Bytes, StateError> {
    view.get(Table::Records, &keys::seq(seq))?
        .ok_or_else(|| StateError::corrupt(Table::Records, "a record is missing"))
}

/// A record that must exist.
pub(crate) fn record(view: &dyn View, seq: u64) -> Result<Record, StateError> {
    sized_record(view, seq).map(|(record, _)| record)
}

/// A record that must exist, and the bytes its row takes.
pub(crate) fn sized_record(view: &dyn View, seq: u64) -> Result<(Record, u64), StateError> {
    let row = record_row(view, seq)?;
    let len = row.len() as u64;
    let record = decode_record(row)?;
    if record.seq != seq {
        return Err(StateError::corrupt(Table::Records, "a record stands under another's seq"));
    }
    Ok((record, len))
}

/// Seq of the newest kept record with this id and sender.
pub(crate) fn seq_of(view: &dyn View, id: &str, from: &str) -> Result<Option<u64>, StateError> {
    view.get(Table::Ids, &keys::pair(id, from))?.map(|seq| decode_seq(&seq)).transpose()
}

/// Calls `each` with the (sender, seq) of every kept record with this id, by sender.
pub(crate) fn each_with_id(
    view: &dyn View,
    id: &str,
    mut each: impl FnMut(&str, u64) -> Result<ControlFlow<()>, StateError>,
) -> Result<(), StateError> {
    let (mut from, to) = (keys::pair(id, ""), keys::after(id));
    loop {
        let rows = view.scan(Table::Ids, &from, &to, Direction::Forward, CHUNK)?;
        let last_chunk = rows.len() < CHUNK;
        for (mut key, seq) in rows {
            let sender = keys::second(&key)
                .ok_or_else(|| StateError::corrupt(Table::Ids, "a key has no sender"))?;
            if each(sender, decode_seq(&seq)?)?.is_break() {
                return Ok(());
            }
            key.push(0);
            from = key;
        }
        if last_chunk {
            return Ok(());
        }
    }
}

/// Whether a record lies in the reader's inbox, was sent by the reader or is an event; an admin sees
/// all. Of a group's records a client sees those of its spans.
pub(crate) fn visible(
    view: &dyn View,
    reader: &Reader,
    record: &Record,
) -> Result<bool, StateError> {
    let to = record.to.as_str();
    if reader.admin || record.from == reader.name || is_own(reader, to) || to == EVENTS {
        return Ok(true);
    }
    match to.strip_prefix('@') {
        Some(group) => Ok(spans(view, &reader.name, group)?.holds(record.seq)),
        None => Ok(false),
    }
}

/// Whether all of a stream belongs to the reader's inbox.
pub(crate) fn is_own(reader: &Reader, to: &str) -> bool {
    to == reader.name || to == "*"
}

/// The refusal of an id that several senders used.
pub(crate) fn ambiguous(id: &str, senders: Vec<String>) -> Failure {
    conflict(format!("the id '{id}' was used by {}: name one with --from", senders.join(", ")))
}
