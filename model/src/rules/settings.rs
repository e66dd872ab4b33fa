//! Settings of the whole cluster: in the state, so no two nodes can disagree about them.
//!
//! The primary sets what nobody has set yet, from its own file, when its term begins; from then on an
//! admin changes them, and files are only compared.
//!
//! Every change is an event.
//!
//! Not here: what the settings do (`clock`, `daemon::lead`, `retention`).

use prost::Message;
use proto::event::SETTINGS;
use proto::settings::age_text;
use proto::wire::{Configure, OnLoss, Settings};

use crate::rows::command::Caller;
use crate::rows::error::{QueryError, StateError, conflict, denied};
use crate::rows::keys;
use crate::rows::values::SettingsRow;
use crate::rows::view::{Table, View};
use crate::rules::events::Event;
use crate::rules::input::check_settings;
use crate::rules::machine::{Machine, Outcome, Place};

impl Machine<'_> {
    /// Changes settings, for an admin.
    pub(crate) fn configure(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        change: &Configure,
    ) -> Result<Outcome, QueryError> {
        check_settings(change)?;
        if !caller.admin {
            return Err(denied("only an admin can change settings").into());
        }
        let before = read(&self.rows)?;
        let after = SettingsRow::from(change).or(before);
        let settings = after.settings().ok_or_else(|| {
            conflict("no primary has set the other settings yet: try again in a moment")
        })?;
        self.write_settings(&before, &after);
        self.note(place, caller, changes(&before, &after))?;
        Ok(Outcome::Configured(settings))
    }

    /// Sets what nobody has set yet, for a node. That is an event where it makes messages go: a cluster
    /// of an earlier release went by the file of whoever was primary.
    pub(crate) fn init_settings(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        change: &Configure,
    ) -> Result<Outcome, QueryError> {
        check_settings(change)?;
        if !caller.is_node() {
            return Err(denied("the first settings are a primary's").into());
        }
        let before = read(&self.rows)?;
        let after = before.or(SettingsRow::from(change));
        self.write_settings(&before, &after);
        let retention = |row: SettingsRow| SettingsRow {
            max_clock_error_us: None,
            on_loss: None,
            cert_life_s: None,
            ..row
        };
        self.note(place, caller, changes(&retention(before), &retention(after)))?;
        Ok(after.settings().map_or(Outcome::Done, Outcome::Configured))
    }

    fn write_settings(&mut self, before: &SettingsRow, after: &SettingsRow) {
        self.begin_blocks();
        assert!(self.state.blocks.is_some(), "with settings there are blocks");
        if before != after {
            self.put(Table::Settings, keys::ONLY, after.encode_to_vec());
        }
    }
}

/// An event for every setting that is another one now. What nobody had set counts as none.
fn changes(before: &SettingsRow, after: &SettingsRow) -> Vec<Event> {
    let texts = |row: &SettingsRow| {
        let error = row.max_clock_error_us.map_or_else(String::new, us_text);
        let on_loss = row.on_loss.and_then(|number| OnLoss::try_from(number).ok());
        let on_loss = match on_loss {
            Some(OnLoss::Degrade) => "degrade",
            Some(OnLoss::Refuse) => "refuse",
            None => "",
        };
        let limit = |value: Option<u64>, text: fn(u64) -> String| match value {
            None | Some(0) => "none".to_owned(),
            Some(value) => text(value),
        };
        [
            ("max-clock-error", error),
            ("on-loss", on_loss.to_owned()),
            ("retain-age", limit(row.retain_age_ms, age_text)),
            ("retain-count", limit(row.retain_count, |count| count.to_string())),
            ("retain-bytes", limit(row.retain_bytes, |bytes| bytes.to_string())),
            ("cert-life", row.cert_life_s.map_or_else(String::new, life_text)),
        ]
    };
    let pairs = texts(before).into_iter().zip(texts(after));
    let changed = pairs.filter(|((_, was), (_, is))| was != is);
    let event = |((_, was), (setting, is)): ((_, String), (&str, String))| {
        // Nobody has said so far how long: each signer's file did.
        let before = if was.is_empty() { "not set" } else { was.as_str() };
        Event::new(SETTINGS, format!("{setting} is {is}, was {before}"))
            .with("setting", setting)
            .with("value", is)
            .with("was", was)
    };
    changed.map(event).collect()
}

fn life_text(life_s: u64) -> String {
    age_text(life_s.saturating_mul(1000))
}

fn us_text(us: u64) -> String {
    if us.is_multiple_of(1000) { age_text(us / 1000) } else { format!("{us}us") }
}

fn read(view: &dyn View) -> Result<SettingsRow, StateError> {
    match view.get(Table::Settings, keys::ONLY)? {
        Some(row) => SettingsRow::decode(row),
        None => Ok(SettingsRow::default()),
    }
}

/// The settings; `None` until a primary has set them.
pub(crate) fn settings(view: &dyn View) -> Result<Option<Settings>, StateError> {
    Ok(read(view)?.settings())
}
