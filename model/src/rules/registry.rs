//! The registry: which names exist and which key each of them belongs to.

use bytes::Bytes;
use prost::Message;
use proto::limits::{CLIENTS_MAX, GROUPS_PER_OWNER_MAX};
use proto::{Failure, Proof, Stream};

use crate::rows::command::{ADMIN, Caller};
use crate::rows::error::{QueryError, StateError, conflict, denied, invalid, not_found};
use crate::rows::names::require_free;
use crate::rows::values::ClientRow;
use crate::rows::view::Table;
use crate::rules::access::require_access;
use crate::rules::input::check_register;
use crate::rules::machine::{Machine, Outcome, Place};

impl Machine<'_> {
    /// Registers a client. The same name with the same key again is no change but for a new home;
    /// an empty home keeps the one that is pinned.
    pub(crate) fn register(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        name: &str,
        fingerprint: &[u8; 32],
        home: &str,
    ) -> Result<Outcome, QueryError> {
        check_register(name, home)?;
        if !caller.admin {
            return Err(denied("only an admin can register clients").into());
        }
        let mut row = match self.client(name)? {
            Some(row) if row.fingerprint[..] != fingerprint[..] => {
                return Err(conflict(format!("the name '{name}' is taken by another key")).into());
            }
            Some(row) if home.is_empty() || row.home == home => {
                return Ok(Outcome::Registered { home: row.home.clone() });
            }
            Some(row) => row.clone(),
            None => {
                require_free(&self.rows, name)?;
                self.new_client(place, fingerprint)?
            }
        };
        home.clone_into(&mut row.home);
        self.put_client(name, row);
        Ok(Outcome::Registered { home: home.to_owned() })
    }

    pub(crate) fn new_client(
        &mut self,
        place: &Place<'_>,
        fingerprint: &[u8; 32],
    ) -> Result<ClientRow, Failure> {
        if self.state.clients >= CLIENTS_MAX as u64 {
            return Err(conflict(format!(
                "{CLIENTS_MAX} clients are registered, which is the limit"
            )));
        }
        if let Proof::Token(_) = Proof::of(fingerprint) {
            return Err(invalid("this is no hash of a key"));
        }
        self.state.clients += 1;
        assert!(self.state.clients <= CLIENTS_MAX as u64, "clients within their limit");
        Ok(ClientRow {
            fingerprint: Bytes::copy_from_slice(fingerprint),
            home: String::new(),
            since: Bytes::copy_from_slice(&place.stamp.hlc.to_bytes()),
            token: Bytes::new(),
            kv_keys: 0,
            groups: 0,
        })
    }

    /// Writes a client's row.
    pub(crate) fn put_client(&mut self, name: &str, row: ClientRow) {
        self.put(Table::Clients, name, row.encode_to_vec());
        self.clients.insert(name.to_owned(), Some(row));
    }

    /// Refuses a client that is not registered, or not with the key it shows.
    pub(crate) fn require_registered(&mut self, caller: &Caller) -> Result<(), QueryError> {
        if caller.admin {
            return Ok(());
        }
        if let Proof::Token(id) = caller.proof() {
            return require_access(&self.rows, &caller.name, &id, self.state.last);
        }
        admit(&caller.name, &caller.fingerprint, self.client(&caller.name)?)?;
        Ok(())
    }

    /// As above, and an admin only under the reserved name: what a sender wrote stays under its name, and
    /// that of an admin who was taken out may become a client's.
    pub(crate) fn require_sender(&mut self, caller: &Caller) -> Result<(), QueryError> {
        if caller.admin && caller.name != ADMIN {
            let name = &caller.name;
            return Err(denied(format!(
                "the admin '{name}' has no messages or cursors: '{ADMIN}' and registered clients do"
            ))
            .into());
        }
        self.require_registered(caller)
    }

    /// Counts one group more for its owner. Admins have no limit of their own.
    pub(crate) fn add_group_of(&mut self, caller: &Caller) -> Result<(), QueryError> {
        let Some(mut row) = self.client(&caller.name)?.filter(|_| !caller.admin).cloned() else {
            return Ok(());
        };
        if row.groups >= GROUPS_PER_OWNER_MAX as u64 {
            let message = format!(
                "'{}' owns {GROUPS_PER_OWNER_MAX} groups, which is the limit; a deleted one counts \
                 until its last message is gone",
                caller.name
            );
            return Err(conflict(message).into());
        }
        row.groups += 1;
        assert!(row.groups <= GROUPS_PER_OWNER_MAX as u64, "an owner within its limit");
        self.put_client(&caller.name, row);
        Ok(())
    }

    /// Counts one group less.
    pub(crate) fn drop_group_of(&mut self, owner: &str) -> Result<(), StateError> {
        // Of a group that was made before groups were counted nothing was added.
        let counted = self.client(owner)?.filter(|row| row.groups > 0);
        if let Some(mut row) = counted.cloned() {
            row.groups -= 1;
            self.put_client(owner, row);
        }
        Ok(())
    }

    /// Refuses a recipient that is not there, or not for this caller.
    pub(crate) fn require_recipient(
        &mut self,
        caller: &Caller,
        stream: &Stream,
    ) -> Result<(), QueryError> {
        match stream {
            Stream::Everyone => Ok(()),
            Stream::Client(name) if name.as_str() == ADMIN => Ok(()),
            Stream::Client(name) => match self.client(name.as_str())? {
                Some(_) => Ok(()),
                None => Err(not_found(format!("no client '{name}'")).into()),
            },
            Stream::Group(name) => self.require_member(caller, name.as_str()),
            Stream::Events => Err(denied("'$events' is written by the cluster alone").into()),
        }
    }
}

/// Whether a client's key is the one its name is registered with.
pub(crate) fn admit(
    name: &str,
    fingerprint: &[u8; 32],
    row: Option<&ClientRow>,
) -> Result<(), Failure> {
    match row {
        None => Err(denied(format!("the client '{name}' is not registered"))),
        Some(row) if row.fingerprint[..] != fingerprint[..] => {
            Err(denied(format!("the client '{name}' is registered with another key")))
        }
        Some(_) => Ok(()),
    }
}
