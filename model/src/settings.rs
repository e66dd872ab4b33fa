//! Settings of the whole cluster: in the state, so no two nodes can disagree about them.
//!
//! The primary sets what nobody has set yet, from its own file, when its term begins; from then on an
//! admin changes them, and files are only compared.
//!
//! Not here: what the settings do (`clock`, `daemon::lead`).

use prost::Message;
use proto::wire::{Configure, Settings};

use crate::check::check_settings;
use crate::command::Caller;
use crate::error::{QueryError, StateError, conflict, denied};
use crate::keys;
use crate::machine::{Machine, Outcome};
use crate::rows::SettingsRow;
use crate::view::{Table, View};

impl Machine<'_> {
    /// Changes settings, for an admin.
    pub(crate) fn configure(
        &mut self,
        caller: &Caller,
        change: &Configure,
    ) -> Result<Outcome, QueryError> {
        check_settings(change)?;
        if !caller.admin {
            return Err(denied("only an admin changes settings").into());
        }
        let before = read(&self.rows)?;
        let after = SettingsRow {
            max_clock_error_us: change.max_clock_error_us.or(before.max_clock_error_us),
            on_loss: change.on_loss.or(before.on_loss),
        };
        let settings = after.settings().ok_or_else(|| {
            conflict("no primary has set the other settings yet: try again in a moment")
        })?;
        self.write_settings(&before, &after);
        Ok(Outcome::Configured(settings))
    }

    /// Sets what nobody has set yet, for a node.
    pub(crate) fn init_settings(
        &mut self,
        caller: &Caller,
        change: &Configure,
    ) -> Result<Outcome, QueryError> {
        check_settings(change)?;
        if !caller.is_node() {
            return Err(denied("the first settings are a primary's").into());
        }
        let before = read(&self.rows)?;
        let after = SettingsRow {
            max_clock_error_us: before.max_clock_error_us.or(change.max_clock_error_us),
            on_loss: before.on_loss.or(change.on_loss),
        };
        self.write_settings(&before, &after);
        Ok(after.settings().map_or(Outcome::Done, Outcome::Configured))
    }

    fn write_settings(&mut self, before: &SettingsRow, after: &SettingsRow) {
        self.begin_blocks();
        if before != after {
            self.put(Table::Settings, keys::ONLY, after.encode_to_vec());
        }
    }
}

fn read(view: &dyn View) -> Result<SettingsRow, StateError> {
    match view.get(Table::Settings, keys::ONLY)? {
        Some(row) => SettingsRow::decode(row),
        None => Ok(SettingsRow::default()),
    }
}

/// The settings; `None` until a primary has set them all.
pub(crate) fn settings(view: &dyn View) -> Result<Option<Settings>, StateError> {
    Ok(read(view)?.settings())
}
