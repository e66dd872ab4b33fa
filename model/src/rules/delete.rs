//! Delete: a tombstone takes the place of headers and body. Seq, stamp and hashes stay, so proofs
//! over the log still hold; the bytes leave the disk with the store's next compaction.

use std::ops::ControlFlow;

use bytes::Bytes;
use proto::{Record, Tombstone};

use crate::rows::command::Caller;
use crate::rows::error::{QueryError, denied, not_found};
use crate::rows::find::{
    Reader, SENDERS_SHOWN_MAX, ambiguous, each_with_id, record, seq_of, sized_record, visible,
};
use crate::rows::hash::leaf_hash;
use crate::rows::keys::EVENTS;
use crate::rules::input::check_delete;
use crate::rules::input::says_change;
use crate::rules::machine::{Machine, Outcome, Place};

impl Machine<'_> {
    /// Deletes a message. Deleting it again changes nothing and returns the first tombstone.
    pub(crate) fn delete(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        id: &str,
        from: &str,
        reason: &str,
    ) -> Result<Outcome, QueryError> {
        check_delete(id, from, reason)?;
        self.require_registered(caller)?;
        let seq = self.find_deletable(caller, id, from)?;
        let (mut record, before) = sized_record(&self.rows, seq)?;
        if record.to.starts_with('@') && says_change(&record.headers) {
            return Err(denied(
                "the history of who joined or left a group cannot be deleted; retention removes it",
            )
            .into());
        }
        if record.deleted.is_none() {
            erase(&mut record, place, caller, reason);
            let after = self.put_record(&mut record);
            self.release(before)?;
            self.state.bytes += after;
        }
        assert!(record.deleted.is_some(), "what is answered is deleted");
        Ok(Outcome::Deleted(Box::new(record)))
    }

    /// The seq that an id means to this caller, if the caller may delete it.
    fn find_deletable(&self, caller: &Caller, id: &str, from: &str) -> Result<u64, QueryError> {
        let unknown = || not_found(format!("no message '{id}'"));
        let own = if from.is_empty() { &caller.name } else { from };
        if let Some(seq) = seq_of(&self.rows, id, own)? {
            if caller.admin || own == caller.name {
                return Ok(seq);
            }
        } else if !from.is_empty() {
            return Err(unknown().into());
        }
        let reader = Reader { name: caller.name.clone(), admin: caller.admin };
        let (mut found, mut event) = (Vec::new(), false);
        each_with_id(&self.rows, id, |sender, seq| {
            let asked = from.is_empty() || sender == from;
            let record = record(&self.rows, seq)?;
            if record.to == EVENTS {
                event = true;
            } else if asked && visible(&self.rows, &reader, &record)? {
                found.push((sender.to_owned(), seq));
            }
            let full = found.len() > SENDERS_SHOWN_MAX;
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        match &found[..] {
            [] if event => Err(denied("events cannot be deleted; retention removes them").into()),
            [] => Err(unknown().into()),
            [(_, seq)] if caller.admin => Ok(*seq),
            _ if caller.admin => {
                Err(ambiguous(id, found.into_iter().map(|f| f.0).collect()).into())
            }
            [(sender, _), ..] => Err(denied(format!(
                "'{id}' is a message of '{sender}': only its sender or an admin can delete it"
            ))
            .into()),
        }
    }
}

fn erase(record: &mut Record, place: &Place<'_>, caller: &Caller, reason: &str) {
    let leaf = leaf_hash(record);
    record.headers = Vec::new();
    record.body = Bytes::new();
    record.deleted = Some(Tombstone {
        by: caller.name.clone(),
        stamp: place.stamp.to_bytes().to_vec(),
        reason: reason.to_owned(),
    });
    assert_eq!(leaf_hash(record), leaf, "a tombstone changes no proof");
}
