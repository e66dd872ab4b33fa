//! Named cursors: how far a reader has come, kept by the cluster.
//!
//! A name belongs to the client that used it first. Its owner may set it anywhere inside the log,
//! back as well as forward: a cursor that goes back shows messages again and never hides one, so a
//! late retry is harmless.

use prost::Message;
use proto::limits::CURSORS_PER_CLIENT_MAX;
use proto::wire::Position;

use crate::rows::command::Caller;
use crate::rows::error::{QueryError, StateError, conflict, denied, invalid};
use crate::rows::values::CursorRow;
use crate::rows::view::{Table, View};
use crate::rules::input::check_cursor;
use crate::rules::machine::{Machine, Outcome};

impl Machine<'_> {
    pub(crate) fn set_cursor(
        &mut self,
        caller: &Caller,
        name: &str,
        positions: &[Position],
    ) -> Result<Outcome, QueryError> {
        check_cursor(name, positions)?;
        self.require_sender(caller)?;
        let last = self.state.last_seq;
        if let Some(beyond) = positions.iter().find(|position| position.seq > last) {
            let seq = beyond.seq;
            return Err(
                invalid(format!("position {seq} lies beyond the log's end at {last}")).into()
            );
        }
        let old = read_cursor(&self.rows, &caller.name, name)?;
        match old {
            Some(row) if row.positions == positions => return Ok(Outcome::CursorSet),
            Some(_) => {}
            None => self.count_cursor(&caller.name)?,
        }
        let row = CursorRow { owner: caller.name.clone(), positions: positions.to_vec() };
        assert_eq!(row.positions.len(), 1, "a cursor stands at one place per shard");
        self.put(Table::Cursors, name, row.encode_to_vec());
        Ok(Outcome::CursorSet)
    }

    fn count_cursor(&mut self, owner: &str) -> Result<(), QueryError> {
        let corrupt = || StateError::corrupt(Table::CursorOwners, "a count has no 8 bytes");
        let count = match self.rows.get(Table::CursorOwners, owner.as_bytes())? {
            Some(bytes) => u64::from_be_bytes(bytes.as_ref().try_into().map_err(|_| corrupt())?),
            None => 0,
        };
        if count >= CURSORS_PER_CLIENT_MAX as u64 {
            return Err(conflict(format!(
                "'{owner}' owns {count} cursors, which is the limit; reuse one"
            ))
            .into());
        }
        assert!(count < CURSORS_PER_CLIENT_MAX as u64, "an owner within its limit");
        self.put(Table::CursorOwners, owner, (count + 1).to_be_bytes().to_vec());
        Ok(())
    }
}

/// A cursor as its owner sees it; another client is refused.
pub(crate) fn read_cursor(
    view: &dyn View,
    caller: &str,
    name: &str,
) -> Result<Option<CursorRow>, QueryError> {
    let Some(row) = view.get(Table::Cursors, name.as_bytes())? else { return Ok(None) };
    let row = CursorRow::decode(row)?;
    if row.owner != caller {
        return Err(denied(format!(
            "cursor '{name}' belongs to another client; choose another name"
        ))
        .into());
    }
    Ok(Some(row))
}
