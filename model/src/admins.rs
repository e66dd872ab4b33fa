//! The administrators: which names, and which key each of them has. Whatever a certificate says, who is
//! not here with its key is none.
//!
//! While there is none at all, as in a log that was begun by an earlier release, the certificate's word
//! counts, as it did there: the primary enters the first one that it meets.

use prost::Message as _;
use proto::admin::{AdminChange, AdminKey, AdminOp, AdminRow, Admins};
use proto::event::ADMIN as ADMIN_EVENT;
use proto::limits::ADMINS_MAX;
use proto::{Failure, Name};

use crate::command::Caller;
use crate::error::{QueryError, StateError, conflict, denied, invalid, not_found};
use crate::events::Event;
use crate::machine::{Machine, Outcome, Place};
use crate::registry::require_free;
use crate::view::{Direction, Table, View};

impl Machine<'_> {
    pub(crate) fn change_admins(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        change: &AdminChange,
    ) -> Result<Outcome, QueryError> {
        check(change)?;
        match change.op.as_ref().ok_or_else(unknown)? {
            AdminOp::First(_) if !caller.is_node() => {
                Err(denied("only the nodes themselves may say that").into())
            }
            AdminOp::Add(_) | AdminOp::Remove(_) if !caller.admin => {
                Err(denied("only an administrator enters others or takes them out").into())
            }
            AdminOp::First(given) => self.first_admins(place, caller, given),
            AdminOp::Add(key) => self.add_admin(place, caller, key),
            AdminOp::Remove(name) => self.remove_admin(place, caller, &name.name),
        }
    }

    fn first_admins(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        given: &Admins,
    ) -> Result<Outcome, QueryError> {
        if is_empty(&self.rows)? {
            for row in &given.admins {
                self.put_admin(place, caller, &row.name, &row.fingerprint);
            }
        }
        Ok(Outcome::Admins(admins(&self.rows)?))
    }

    /// Enters an administrator. The same name with the same key again is no change.
    pub(crate) fn add_admin(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        key: &AdminKey,
    ) -> Result<Outcome, QueryError> {
        let name = &key.name;
        match row(&self.rows, name)? {
            Some(row) if row.fingerprint == key.fingerprint => {
                return Ok(Outcome::Admins(Admins { admins: vec![row] }));
            }
            Some(_) => {
                return Err(conflict(format!(
                    "the administrator '{name}' has another key: take it out first"
                ))
                .into());
            }
            None => require_free(&self.rows, name)?,
        }
        if self.client(name)?.is_some() {
            return Err(
                conflict(format!("the name '{name}' is a client's: take another one")).into()
            );
        }
        if admins(&self.rows)?.admins.len() >= ADMINS_MAX {
            return Err(conflict(format!(
                "{ADMINS_MAX} administrators are entered, which is the limit"
            ))
            .into());
        }
        let row = self.put_admin(place, caller, name, &key.fingerprint);
        let event = Event::new(ADMIN_EVENT, format!("administrator {name} was entered"));
        self.note(place, caller, vec![event.with("admin", name).with("change", "entered")])?;
        Ok(Outcome::Admins(Admins { admins: vec![row] }))
    }

    fn remove_admin(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        name: &str,
    ) -> Result<Outcome, QueryError> {
        let row = row(&self.rows, name)?
            .ok_or_else(|| not_found(format!("no administrator '{name}'")))?;
        if admins(&self.rows)?.admins.len() == 1 {
            let message = format!("'{name}' is the last administrator: enter another one first");
            return Err(conflict(message).into());
        }
        self.remove(Table::Admins, name);
        let event = Event::new(ADMIN_EVENT, format!("administrator {name} was taken out"));
        self.note(place, caller, vec![event.with("admin", name).with("change", "taken out")])?;
        Ok(Outcome::Admins(Admins { admins: vec![row] }))
    }

    fn put_admin(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        name: &str,
        fingerprint: &[u8],
    ) -> AdminRow {
        let row = AdminRow {
            name: name.to_owned(),
            fingerprint: fingerprint.to_vec(),
            since: place.stamp.hlc.to_bytes().to_vec(),
            by: caller.name.clone(),
        };
        self.put(Table::Admins, name, row.encode_to_vec());
        row
    }

    /// Refuses a caller that calls itself an administrator and is none.
    pub(crate) fn require_proven(&self, caller: &Caller) -> Result<(), QueryError> {
        if !caller.admin {
            return Ok(());
        }
        require_admin(&self.rows, &caller.name, &caller.fingerprint)
    }
}

/// Whether this name with this key is an administrator.
pub(crate) fn require_admin(
    view: &dyn View,
    name: &str,
    fingerprint: &[u8; 32],
) -> Result<(), QueryError> {
    match row(view, name)? {
        Some(row) if row.fingerprint == fingerprint => Ok(()),
        Some(_) => Err(denied(format!("the administrator '{name}' has another key")).into()),
        None if is_empty(view)? => Ok(()),
        None => Err(denied(format!("'{name}' is no administrator of this cluster")).into()),
    }
}

/// All administrators, by name.
///
/// # Errors
/// When the state cannot be read.
pub fn admins(view: &dyn View) -> Result<Admins, StateError> {
    // Never more than may be entered, so one scan holds them all.
    let limit = ADMINS_MAX + 1;
    let rows = view.scan(Table::Admins, &[], crate::keys::END, Direction::Forward, limit)?;
    let rows = rows.into_iter().map(|(_, row)| decode(&row));
    Ok(Admins { admins: rows.collect::<Result<_, _>>()? })
}

/// An administrator.
pub(crate) fn row(view: &dyn View, name: &str) -> Result<Option<AdminRow>, StateError> {
    view.get(Table::Admins, name.as_bytes())?.map(|bytes| decode(&bytes)).transpose()
}

fn is_empty(view: &dyn View) -> Result<bool, StateError> {
    let first = view.scan(Table::Admins, &[], crate::keys::END, Direction::Forward, 1)?;
    Ok(first.is_empty())
}

fn decode(bytes: &[u8]) -> Result<AdminRow, StateError> {
    AdminRow::decode(bytes)
        .map_err(|_| StateError::corrupt(Table::Admins, "an administrator does not parse"))
}

fn unknown() -> Failure {
    invalid("a change that this release does not know")
}

/// What can be said of a change without knowing any state.
pub(crate) fn check(change: &AdminChange) -> Result<(), Failure> {
    match change.op.as_ref().ok_or_else(unknown)? {
        AdminOp::First(given) => {
            if given.admins.is_empty() || given.admins.len() > ADMINS_MAX {
                return Err(invalid(format!("1 to {ADMINS_MAX} administrators are named")));
            }
            given.admins.iter().try_for_each(|row| check_key(&row.name, &row.fingerprint))
        }
        AdminOp::Add(key) => check_key(&key.name, &key.fingerprint),
        AdminOp::Remove(name) => name.name.parse::<Name>().map(|_| ()).map_err(invalid),
    }
}

fn check_key(name: &str, fingerprint: &[u8]) -> Result<(), Failure> {
    name.parse::<Name>().map_err(invalid)?;
    if fingerprint.len() != 32 {
        return Err(invalid("a fingerprint has 32 bytes"));
    }
    Ok(())
}
