//! What retention has removed, by stream and by sender: the highest place in the log, and its stamp. So a
//! reader that comes too late is told of what can have been for it, and hears nothing of others' losses.
//!
//! One row a stream and one a sender, for ever: there are no more of them than names.
//!
//! Not here: what is removed (`retention`), what a page says of it (`page`).

use std::collections::BTreeMap;

use clock::Hlc;
use proto::{Record, Stream};

use crate::rows::error::StateError;
use crate::rows::slots::{sender_key, stream_key};
use crate::rows::view::{Table, View};
use crate::rules::machine::Machine;

/// The highest that was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Floor {
    /// Its place in the log.
    pub(crate) seq: u64,
    /// Its stamp.
    pub(crate) stamp: Hlc,
}

impl Floor {
    const BYTES: usize = 8 + Hlc::BYTES;

    fn encode(self) -> Vec<u8> {
        let bytes = [&self.seq.to_be_bytes()[..], &self.stamp.to_bytes()].concat();
        assert_eq!(bytes.len(), Self::BYTES, "a floor has one length");
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let corrupt = || StateError::corrupt(Table::Floors, "a floor does not parse");
        let (seq, stamp) = bytes.split_first_chunk::<8>().ok_or_else(corrupt)?;
        let stamp = Hlc::from_slice(stamp).filter(|_| bytes.len() == Self::BYTES);
        Ok(Self { seq: u64::from_be_bytes(*seq), stamp: stamp.ok_or_else(corrupt)? })
    }
}

/// Key of all but the events.
const ALL: &[u8] = b"a";
/// Key of the highest place that may have been removed before floors were kept: by an earlier release.
const UNTOLD: &[u8] = b"u";

/// The key of an index's text.
fn key(table: Table, text: &str) -> Vec<u8> {
    let kind = if table == Table::Senders { b"f" } else { b"s" };
    [kind, text.as_bytes()].concat()
}

/// The floors that one removal raises.
#[derive(Default)]
pub(crate) struct Raised(BTreeMap<Vec<u8>, Floor>);

impl Raised {
    /// Notes a record that is removed; later ones lie higher.
    pub(crate) fn note(&mut self, stream: &Stream, record: &Record, stamp: Hlc) {
        let floor = Floor { seq: record.seq, stamp };
        let before = self.0.insert(key(Table::Streams, &stream_key(stream)), floor);
        assert!(before.is_none_or(|before| before.seq < floor.seq), "a floor only rises");
        self.0.insert(key(Table::Senders, &sender_key(stream, &record.from)), floor);
        if *stream != Stream::Events {
            self.0.insert(ALL.to_vec(), floor);
        }
    }

    /// Writes them. `first` is what was kept first before.
    pub(crate) fn write(self, machine: &mut Machine<'_>, first: Floor) -> Result<(), StateError> {
        if row(&machine.rows, UNTOLD)?.is_none() {
            let untold = Floor { seq: first.seq.saturating_sub(1), ..first };
            machine.put(Table::Floors, UNTOLD, untold.encode());
        }
        for (key, floor) in self.0 {
            assert!(floor.seq >= first.seq, "nothing goes that was gone");
            assert!(floor.seq < machine.state.first_seq, "a floor lies below what is kept");
            machine.put(Table::Floors, key, floor.encode());
        }
        Ok(())
    }
}

/// The highest that was removed of an index.
pub(crate) fn of_index(
    view: &dyn View,
    table: Table,
    text: &str,
) -> Result<Option<Floor>, StateError> {
    row(view, &key(table, text))
}

/// The highest that was removed and no event.
pub(crate) fn of_all(view: &dyn View) -> Result<Option<Floor>, StateError> {
    row(view, ALL)
}

/// The highest of which nobody knows what it was: given the first that is kept.
pub(crate) fn untold(view: &dyn View, first: Floor) -> Result<Floor, StateError> {
    let none = Floor { seq: first.seq.saturating_sub(1), ..first };
    Ok(row(view, UNTOLD)?.unwrap_or(none))
}

fn row(view: &dyn View, key: &[u8]) -> Result<Option<Floor>, StateError> {
    view.get(Table::Floors, key)?.map(|bytes| Floor::decode(&bytes)).transpose()
}
