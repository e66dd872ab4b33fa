//! The machine: what rules change on top of what a view shows, and the rows that changed in the end.
//!
//! Invariants, asserted for every entry:
//! - I1: final stamps strictly increase over the log, refused commands and blank entries included;
//! - seq is dense from 1: every stored message takes the next one, a refused one takes none;
//! - a refused command changes nothing but the last stamp;
//! - how entries are spread over machines changes neither rows nor digest.
//!
//! Not here: which stamp an entry gets and which rule decides about it (`apply`).

use std::collections::HashMap;

use clock::{Hlc, Stamp};
use prost::Message;
use proto::wire::{Ack, Admins, Groups, KvRows, Members, Settings, Tokens};
use proto::{Failure, Record};

use crate::rows::digest::EntryDigest;
use crate::rows::error::{ApplyError, StateError};
use crate::rows::hash::Hash;
use crate::rows::keys;
use crate::rows::new_record::NewRecord;
use crate::rows::overlay::Overlay;
use crate::rows::values::{ClientRow, State, encode_record};
use crate::rows::view::{Change, Table, View};

/// Registry rows that one machine leaves to the next at most.
const CLIENTS_CARRIED: usize = 4096;

/// Applies entries on top of a view. After an error it must be dropped: its changes are half of an
/// entry's.
pub struct Machine<'v> {
    pub(crate) rows: Overlay<'v>,
    pub(crate) state: State,
    /// Registry rows looked up so far: every send asks for two of them.
    pub(crate) clients: HashMap<String, Option<ClientRow>>,
    /// Apart, because a hasher is large and machines are moved.
    pub(crate) digest: Box<EntryDigest>,
    pub(crate) ratcheted: u64,
    pub(crate) applied: bool,
}

/// What one machine leaves to the next, so that it need not be read again. Good for a view that holds
/// what the one before changed, and nothing else.
#[derive(Debug)]
pub struct Carried {
    state: State,
    clients: HashMap<String, Option<ClientRow>>,
    /// For the room that it has by now.
    digest: Box<EntryDigest>,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The message is stored, or was before: see [`Ack::duplicate`].
    Sent(Ack),
    /// The record with its tombstone.
    Deleted(Box<Record>),
    /// The client is registered.
    Registered {
        /// Its pinned home; empty if none.
        home: String,
    },
    /// The cursor stands where it was told to.
    CursorSet,
    /// The oldest records are gone.
    Expired {
        /// How many.
        records: u64,
        /// Their bytes.
        bytes: u64,
        /// Whether there are more to remove: propose the command again.
        more: bool,
    },
    /// The settings as they are now.
    Configured(Settings),
    /// The nodes that were changed, or named.
    Members(Members),
    /// The token that was changed.
    Tokens(Tokens),
    /// The group that was changed.
    Groups(Groups),
    /// The key that was changed.
    Kv(KvRows),
    /// The administrators that were changed, or all.
    Admins(Admins),
    /// Done, and there is nothing to say.
    Done,
    /// Nothing was done, on any node.
    Refused(Failure),
}

/// Where a command stands in the log.
pub(crate) struct Place<'a> {
    pub(crate) index: u64,
    pub(crate) primary: &'a str,
    pub(crate) stamp: Stamp,
}

impl<'v> Machine<'v> {
    /// A machine on top of `view`.
    ///
    /// # Errors
    /// When the view fails or its counters do not parse.
    pub fn new(view: &'v dyn View) -> Result<Self, StateError> {
        Ok(Self {
            rows: Overlay::new(view),
            state: State::load(view)?,
            clients: HashMap::new(),
            digest: Box::new(EntryDigest::new()),
            ratcheted: 0,
            applied: false,
        })
    }

    /// A machine that goes on where another one ended. `view` holds what that one changed.
    #[must_use]
    pub fn resume(view: &'v dyn View, carried: Carried) -> Self {
        let Carried { state, clients, digest } = carried;
        Self { rows: Overlay::new(view), state, clients, digest, ratcheted: 0, applied: false }
    }

    /// How many proposed stamps had to be raised further than the stamps explain that applying takes by
    /// itself: for blank and membership entries, and for further events of one command. Expected to
    /// stay 0.
    #[must_use]
    pub fn ratcheted(&self) -> u64 {
        self.ratcheted
    }

    /// Final stamp of the last command or entry applied.
    #[must_use]
    pub fn last_stamp(&self) -> Hlc {
        self.state.last
    }

    /// Version of the table of nodes, see `query::members_epoch`.
    #[must_use]
    pub fn members_epoch(&self) -> u64 {
        self.state.members_epoch
    }

    /// Digest of everything applied so far, the last entry included.
    #[must_use]
    pub fn digest(&self) -> Hash {
        self.state.digest
    }

    /// The rows to write, by table and key; nothing if no entry was applied.
    #[must_use]
    pub fn into_changes(self) -> Vec<Change> {
        self.finish().0
    }

    /// The same, and what the next machine may begin with, once these rows are written.
    #[must_use]
    pub fn finish(mut self) -> (Vec<Change>, Carried) {
        if self.clients.len() > CLIENTS_CARRIED {
            self.clients.clear();
        }
        let mut changes = Vec::new();
        if self.applied {
            assert_eq!(self.state.flaw(), None, "no state is written that could not be read");
            self.rows.set(Table::Meta, keys::ONLY.to_vec(), Some(self.state.encode()));
            changes = self.rows.into_changes();
        }
        (changes, Carried { state: self.state, clients: self.clients, digest: self.digest })
    }

    /// Makes `stamp` the last one (I1).
    pub(crate) fn advance(&mut self, index: u64, stamp: Stamp) -> Result<(), ApplyError> {
        let (stamp, last) = (stamp.hlc, self.state.last);
        if stamp <= last {
            return Err(ApplyError::Stamp { index, stamp, last });
        }
        self.state.last = stamp;
        Ok(())
    }

    /// Makes a stamp the last one that no primary proposed. Whatever was stamped in the same instant
    /// gives way to it, and is not to blame for that.
    pub(crate) fn advance_by_itself(&mut self, index: u64, stamp: Stamp) -> Result<(), ApplyError> {
        self.advance(index, stamp)?;
        self.state.own_stamps += 1;
        Ok(())
    }
}

/// What commands have in common.
impl Machine<'_> {
    pub(crate) fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        let whole = table != Table::Meta && table != Table::Records;
        assert!(whole, "{table:?} has its own way to be written");
        let key = key.into();
        self.digest.change(table, &key, Some(&value));
        self.rows.set(table, key, Some(value));
    }

    pub(crate) fn remove(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        let single = matches!(table, Table::Meta | Table::Slots | Table::Settings);
        assert!(!single, "{table:?} is never empty again");
        let key = key.into();
        self.digest.change(table, &key, None);
        self.rows.set(table, key, None);
    }

    /// Writes a record anew and returns the length of its row. In the digest its leaf hash and tombstone
    /// stand for it, so that a body is hashed once.
    pub(crate) fn put_record(&mut self, record: &mut Record) -> u64 {
        let row = encode_record(record);
        let len = row.len() as u64;
        let key = keys::seq(record.seq);
        let mut short = record.leaf_hash.clone();
        if let Some(tombstone) = &record.deleted {
            tombstone.encode_raw(&mut short);
        }
        self.digest.change(Table::Records, &key, Some(&short));
        self.rows.set(Table::Records, key.to_vec(), Some(row));
        len
    }

    /// Writes a record that is new, and returns the length of its row.
    pub(crate) fn put_new_record(&mut self, record: &NewRecord<'_>) -> u64 {
        let leaf = record.leaf_hash();
        let row = record.row(&leaf);
        let len = row.len() as u64;
        let key = keys::seq(record.seq);
        self.digest.change(Table::Records, &key, Some(&leaf));
        self.rows.set(Table::Records, key.to_vec(), Some(row));
        len
    }

    /// Takes a row's bytes off the count.
    pub(crate) fn release(&mut self, len: u64) -> Result<(), StateError> {
        let wrong = "fewer bytes counted than one record has";
        let rest = self.state.bytes.checked_sub(len);
        self.state.bytes = rest.ok_or_else(|| StateError::corrupt(Table::Meta, wrong))?;
        Ok(())
    }

    /// The registry row of a name.
    pub(crate) fn client(&mut self, name: &str) -> Result<Option<&ClientRow>, StateError> {
        if !self.clients.contains_key(name) {
            let row = self.rows.get(Table::Clients, name.as_bytes())?;
            let row = row.map(ClientRow::decode).transpose()?;
            self.clients.insert(name.to_owned(), row);
        }
        Ok(self.clients.get(name).and_then(Option::as_ref))
    }
}
