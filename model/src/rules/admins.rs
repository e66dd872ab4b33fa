//! The administrators: which names, and which key each of them has. Whatever a certificate says, who is
//! not here with its key is none.
//!
//! While there is none at all, as in a log that was begun by an earlier release, the certificate's word
//! counts, as it did there: the primary enters the first one that it meets.
//!
//! Who holds the authority's key can enter a new one without the others, in the place of one of the same
//! name: their keys may all be lost. The nodes check its signature (`daemon/src/node/admins.rs`). A key
//! that was taken out or replaced is never entered again that way, so the same word counts once.

use prost::Message as _;
use proto::admin::{AdminChange, AdminKey, AdminOp, AdminRecovery, AdminRow, Admins};
use proto::event::ADMIN as ADMIN_EVENT;
use proto::limits::ADMINS_MAX;
use proto::{Failure, Name};

use crate::rows::command::{Caller, CommandOp};
use crate::rows::error::{QueryError, StateError, conflict, denied, invalid, not_found};
use crate::rows::names::{admin_row, decode_admin, require_free, require_nobodys};
use crate::rows::view::{Direction, Table, View};
use crate::rules::events::Event;
use crate::rules::input::unknown_change;
use crate::rules::machine::{Machine, Outcome, Place};

impl Machine<'_> {
    pub(crate) fn change_admins(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        change: &AdminChange,
    ) -> Result<Outcome, QueryError> {
        check(change)?;
        match change.op.as_ref().ok_or_else(unknown_change)? {
            AdminOp::First(_) if !caller.is_node() => {
                Err(denied("only the nodes themselves may do that").into())
            }
            AdminOp::Add(_) | AdminOp::Remove(_) if !caller.admin => {
                Err(denied("only an administrator can add or remove administrators").into())
            }
            AdminOp::Recover(said) if !is_own(caller, said) => Err(denied(
                "a recovered administrator asks for it itself, with the key that it names",
            )
            .into()),
            AdminOp::First(given) => self.first_admins(place, caller, given),
            AdminOp::Add(key) => self.add_admin(place, caller, key),
            AdminOp::Remove(name) => self.remove_admin(place, caller, &name.name),
            AdminOp::Recover(said) => self.recover_admin(place, caller, said),
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
                self.put_admin(place, &caller.name, &row.name, &row.fingerprint);
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
        match admin_row(&self.rows, name)? {
            Some(row) if row.fingerprint == key.fingerprint => {
                return Ok(Outcome::Admins(Admins { admins: vec![row] }));
            }
            Some(_) => {
                return Err(conflict(format!(
                    "the administrator '{name}' has another key: remove that one first"
                ))
                .into());
            }
            None => self.require_room(name)?,
        }
        let row = self.put_admin(place, &caller.name, name, &key.fingerprint);
        let event = Event::new(ADMIN_EVENT, format!("administrator {name} was entered"));
        self.note(place, caller, vec![event.with("admin", name).with("change", "entered")])?;
        Ok(Outcome::Admins(Admins { admins: vec![row] }))
    }

    /// Refuses a name that is somebody else's, and one administrator too many.
    fn require_room(&mut self, name: &str) -> Result<(), QueryError> {
        require_free(&self.rows, name)?;
        require_nobodys(&self.rows, name)?;
        if admins(&self.rows)?.admins.len() >= ADMINS_MAX {
            return Err(conflict(format!(
                "there are {ADMINS_MAX} administrators, which is the limit"
            ))
            .into());
        }
        Ok(())
    }

    /// Enters whom the authority has signed for, in the place of an administrator of that name.
    fn recover_admin(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        said: &AdminRecovery,
    ) -> Result<Outcome, QueryError> {
        let name = &said.name;
        let before = admin_row(&self.rows, name)?;
        if let Some(row) = before.as_ref().filter(|row| row.fingerprint == said.fingerprint) {
            return Ok(Outcome::Admins(Admins { admins: vec![row.clone()] }));
        }
        if was_admin(&self.rows, &said.fingerprint)? {
            return Err(
                denied("this key was an administrator's and was removed: use a new one").into()
            );
        }
        let text = match &before {
            None => {
                self.require_room(name)?;
                format!("administrator {name} was entered by the authority's key")
            }
            Some(row) => {
                self.put(Table::FormerAdmins, row.fingerprint.clone(), Vec::new());
                let text = format!("administrator {name} has another key, by the authority's key");
                text + &with_tokens(self.revoke_tokens_of(place, name)?)
            }
        };
        let row = self.put_admin(place, AUTHORITY, name, &said.fingerprint);
        let event = Event::new(ADMIN_EVENT, text);
        self.note(place, caller, vec![event.with("admin", name).with("change", "recovered")])?;
        Ok(Outcome::Admins(Admins { admins: vec![row] }))
    }

    fn remove_admin(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        name: &str,
    ) -> Result<Outcome, QueryError> {
        let Some(row) = admin_row(&self.rows, name)? else {
            return self.take_back(place, caller, name);
        };
        if admins(&self.rows)?.admins.len() == 1 {
            let message = format!("'{name}' is the last administrator: add another one first");
            return Err(conflict(message).into());
        }
        self.remove(Table::Admins, name);
        assert!(!is_empty(&self.rows)?, "somebody stays who may do something");
        self.put(Table::FormerAdmins, row.fingerprint.clone(), Vec::new());
        let text = format!("administrator {name} was taken out");
        let text = text + &with_tokens(self.revoke_tokens_of(place, name)?);
        let event = Event::new(ADMIN_EVENT, text);
        self.note(place, caller, vec![event.with("admin", name).with("change", "taken out")])?;
        Ok(Outcome::Admins(Admins { admins: vec![row] }))
    }

    /// Takes the token back of one who was to become an administrator and has not come yet.
    fn take_back(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        name: &str,
    ) -> Result<Outcome, QueryError> {
        if self.revoke_tokens_for(place, name)? == 0 {
            return Err(not_found(format!("no administrator '{name}'")).into());
        }
        let text =
            format!("administrator {name} was taken out before it came: its token is revoked");
        let event = Event::new(ADMIN_EVENT, text);
        self.note(place, caller, vec![event.with("admin", name).with("change", "taken out")])?;
        Ok(Outcome::Admins(Admins { admins: Vec::new() }))
    }

    fn put_admin(
        &mut self,
        place: &Place<'_>,
        by: &str,
        name: &str,
        fingerprint: &[u8],
    ) -> AdminRow {
        assert_eq!(fingerprint.len(), 32, "an administrator has a key");
        let row = AdminRow {
            name: name.to_owned(),
            fingerprint: fingerprint.to_vec(),
            since: place.stamp.hlc.to_bytes().to_vec(),
            by: by.to_owned(),
        };
        self.put(Table::Admins, name, row.encode_to_vec());
        row
    }

    /// Refuses a caller that calls itself an administrator and is none; who is recovered is none yet.
    pub(crate) fn require_proven(&self, caller: &Caller, op: &CommandOp) -> Result<(), QueryError> {
        let recovery = matches!(op, CommandOp::Admin(change) if change.recovery().is_some());
        if !caller.admin || recovery {
            return Ok(());
        }
        require_admin(&self.rows, &caller.name, &caller.fingerprint)
    }
}

/// Who entered one that the authority's key has signed for. No name has a space.
const AUTHORITY: &str = "the authority";

/// What went with a key.
fn with_tokens(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => "; a join token that it made is revoked".to_owned(),
        many => format!("; {many} join tokens that it made are revoked"),
    }
}

fn is_own(caller: &Caller, said: &AdminRecovery) -> bool {
    caller.admin && caller.name == said.name && caller.fingerprint[..] == said.fingerprint[..]
}

/// Whether this name with this key is an administrator.
pub(crate) fn require_admin(
    view: &dyn View,
    name: &str,
    fingerprint: &[u8; 32],
) -> Result<(), QueryError> {
    match admin_row(view, name)? {
        Some(row) if row.fingerprint == fingerprint => Ok(()),
        Some(_) => Err(denied(format!("the administrator '{name}' has another key")).into()),
        None if is_empty(view)? => Ok(()),
        None => Err(denied(format!("'{name}' is not an administrator of this cluster")).into()),
    }
}

/// All administrators, by name.
///
/// # Errors
/// When the state cannot be read.
pub fn admins(view: &dyn View) -> Result<Admins, StateError> {
    // Never more than may be entered, so one scan holds them all.
    let limit = ADMINS_MAX + 1;
    let rows = view.scan(Table::Admins, &[], crate::rows::keys::END, Direction::Forward, limit)?;
    let rows = rows.into_iter().map(|(_, row)| decode_admin(&row));
    Ok(Admins { admins: rows.collect::<Result<_, _>>()? })
}

/// Whether a key was an administrator's and is not to come back by itself.
fn was_admin(view: &dyn View, fingerprint: &[u8]) -> Result<bool, StateError> {
    Ok(view.get(Table::FormerAdmins, fingerprint)?.is_some())
}

fn is_empty(view: &dyn View) -> Result<bool, StateError> {
    let first = view.scan(Table::Admins, &[], crate::rows::keys::END, Direction::Forward, 1)?;
    Ok(first.is_empty())
}

/// What can be said of a change without knowing any state.
pub(crate) fn check(change: &AdminChange) -> Result<(), Failure> {
    match change.op.as_ref().ok_or_else(unknown_change)? {
        AdminOp::First(given) => {
            if given.admins.is_empty() || given.admins.len() > ADMINS_MAX {
                return Err(invalid(format!("1 to {ADMINS_MAX} administrators are named")));
            }
            given.admins.iter().try_for_each(|row| check_key(&row.name, &row.fingerprint))
        }
        AdminOp::Add(key) => check_key(&key.name, &key.fingerprint),
        AdminOp::Remove(name) => name.name.parse::<Name>().map(|_| ()).map_err(invalid),
        AdminOp::Recover(said) => check_key(&said.name, &said.fingerprint),
    }
}

fn check_key(name: &str, fingerprint: &[u8]) -> Result<(), Failure> {
    name.parse::<Name>().map_err(invalid)?;
    if fingerprint.len() != 32 {
        return Err(invalid("a fingerprint has 32 bytes"));
    }
    Ok(())
}
