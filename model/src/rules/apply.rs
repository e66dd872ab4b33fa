//! Applying log entries: which stamp each command gets, and which rule decides about it.
//!
//! Not here: what each command does (`send`, `dedup`, `delete`, `registry`, `cursors`, `retention`).

use clock::{Hlc, Stamp};
use proto::limits::DEDUP_RETIRE_PER_COMMAND;

use crate::rows::command::{Batch, Command, CommandOp};
use crate::rows::error::{ApplyError, QueryError, StateError};
use crate::rows::keys;
use crate::rows::slots::SlotTable;
use crate::rows::values::State;
use crate::rows::view::Table;
use crate::rules::machine::{Machine, Outcome, Place};

impl Machine<'_> {
    /// Applies one log entry and returns one outcome per command. `batch` is `None` for a blank or
    /// membership entry, which takes the next stamp.
    ///
    /// # Errors
    /// When the state cannot be read or an invariant is broken: the node must stop.
    pub fn apply(
        &mut self,
        index: u64,
        term: u64,
        batch: Option<&Batch>,
    ) -> Result<Vec<Outcome>, ApplyError> {
        self.begin(index, term)?;
        let State { last, first_seq, last_seq, .. } = self.state;
        let mut outcomes = Vec::new();
        match batch {
            None => {
                let stamp = Stamp::unbounded(self.state.last.succ());
                self.advance_by_itself(index, stamp)?;
            }
            Some(batch) => {
                outcomes.reserve_exact(batch.commands.len());
                for (i, command) in (0u64..).zip(&batch.commands) {
                    let stamp = self.stamp(index, batch.base, i)?;
                    let place = Place { index, primary: &batch.primary, stamp };
                    outcomes.push(self.command(&place, command)?);
                }
                assert_eq!(outcomes.len(), batch.commands.len(), "one outcome per command");
                self.retire_dedup(batch.commands.len() * DEDUP_RETIRE_PER_COMMAND)?;
            }
        }
        if let Some(flaw) = self.state.flaw() {
            return Err(StateError::corrupt(Table::Meta, flaw).into());
        }
        assert!(self.state.last >= last, "log time never goes back");
        assert!(self.state.last_seq >= last_seq, "a seq is given once");
        assert!(self.state.first_seq >= first_seq, "what is gone stays gone");
        self.state.digest = self.digest.end(&self.state);
        Ok(outcomes)
    }

    fn begin(&mut self, index: u64, term: u64) -> Result<(), ApplyError> {
        let (last_index, last_term) = (self.state.index, self.state.term);
        let first = self.state.last == Hlc::ZERO;
        if !first && (index <= last_index || term < last_term) {
            return Err(ApplyError::Order { index, term, last_index, last_term });
        }
        self.digest.begin(&self.state.digest, index, term);
        (self.state.index, self.state.term) = (index, term);
        self.applied = true;
        if first {
            self.put(Table::Slots, keys::ONLY, SlotTable::initial().encode());
        }
        Ok(())
    }

    /// The final stamp of command `i`: the proposed one, ratcheted.
    fn stamp(&mut self, index: u64, base: Stamp, i: u64) -> Result<Stamp, ApplyError> {
        let proposed = Stamp { hlc: base.hlc.advance(i), ..base };
        let stamp = proposed.ratcheted(self.state.last);
        assert!(stamp.hlc >= proposed.hlc, "a stamp is raised and never lowered");
        if stamp.hlc == proposed.hlc {
            self.state.own_stamps = 0;
        } else if stamp.hlc > proposed.hlc.advance(self.state.own_stamps) {
            self.ratcheted += 1;
        }
        self.advance(index, stamp)?;
        Ok(stamp)
    }

    fn command(&mut self, place: &Place<'_>, command: &Command) -> Result<Outcome, StateError> {
        let Command { caller, gateway, op } = command;
        let before = (self.digest.changes(), self.state.counters());
        // Before anything else: what an administrator may do depends on its key and on no word.
        let result = self.require_proven(caller, op).and_then(|()| match op {
            CommandOp::Send { to, id, headers, body } => {
                self.send(place, caller, gateway, (to, id, headers, body))
            }
            CommandOp::Delete { id, from, reason } => self.delete(place, caller, id, from, reason),
            CommandOp::Register { name, fingerprint, home } => {
                self.register(place, caller, name, fingerprint, home)
            }
            CommandOp::SetCursor { name, positions } => self.set_cursor(caller, name, positions),
            &CommandOp::Expire { max_age_ns, max_records, max_bytes } => {
                self.expire(place, max_age_ns, max_records, max_bytes)
            }
            CommandOp::Event { id, headers, body } => {
                self.event(place, caller, gateway, (id, headers, body))
            }
            CommandOp::Configure(change) => self.configure(place, caller, change),
            CommandOp::InitSettings(change) => self.init_settings(place, caller, change),
            CommandOp::Member(change) => self.change_members(place, caller, change),
            CommandOp::Token(change) => self.change_tokens(place, caller, change),
            CommandOp::Group(change) => self.change_groups(place, caller, gateway, change),
            CommandOp::Kv(change) => self.change_kv(place, caller, gateway, change),
            CommandOp::Admin(change) => self.change_admins(place, caller, change),
            CommandOp::TermStart { .. } | CommandOp::Tick => Ok(Outcome::Done),
        });
        match result {
            Ok(outcome) => Ok(outcome),
            Err(QueryError::Refused(failure)) => {
                let after = (self.digest.changes(), self.state.counters());
                assert_eq!(after, before, "a refused command changes nothing: {failure}");
                Ok(Outcome::Refused(failure))
            }
            Err(QueryError::State(error)) => Err(error),
        }
    }
}
