//! Reads: pure functions of a view and of who asks.
//!
//! A client reads its inbox (its own stream, everyone's and those of its groups while it was a member,
//! merged in log order) and, when it asks for its own name as sender, what it sent. An admin reads
//! everything. Events are shown to those who ask for `$events`, all of them.
//!
//! Not here: how a page is put together (`page`), whether the view is fresh enough (`daemon::reader`), instants relative to a clock.

pub mod audit;
mod page;
pub mod past;
pub mod replicas;
mod skipper;
mod source;

use std::ops::ControlFlow;

use clock::Hlc;
use proto::wire::{Position, Settings, TimeMode};
use proto::{Failure, MessageId, Name, Proof, Record, Stream};

use crate::query::page::reach_back_ns;
use crate::rows::command::Caller;
use crate::rows::error::{QueryError, StateError, invalid, not_found};
use crate::rows::find::{
    SENDERS_SHOWN_MAX, ambiguous, each_with_id, record, record_row, seq_of, visible,
};
use crate::rows::hash::Hash;
use crate::rows::keys;
use crate::rows::names::client_row;
use crate::rows::slots::{sender_key, stream_key};
use crate::rows::values::{ClientRow, State, record_hlc};
use crate::rows::view::{Direction, Table, View};
use crate::rules::admins::require_admin;
use crate::rules::cursors::read_cursor;
use crate::rules::registry::admit;

pub use crate::query::page::{Page, Query, page};
pub use crate::rows::find::Reader;
pub use crate::rows::member_rows::{Binding, bindings, member, members, members_epoch, revoked};
pub use crate::rows::slots::slot_table;
pub use crate::rules::access::{access, require_access};
pub use crate::rules::admins::admins;
pub use crate::rules::groups::{group, groups};
pub use crate::rules::homes::{home_of, plan, route, slots};
pub use crate::rules::kv::{kv_get, kv_list};
pub use crate::rules::members::check_admission;
pub use crate::rules::repair::{Readmission, check_readmission};
pub use crate::rules::tokens::{
    admitted_key, check_client_admission, check_token, renewal_refusal, tokens,
};

/// Registry rows fetched at a time.
const CHUNK: usize = 1000;

/// What an id led to.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Nothing that the reader may see.
    Nothing,
    /// One record.
    One(Box<Record>),
    /// Records of several senders, who are named: say which. At most a few are listed.
    Several(Vec<String>),
}

impl Found {
    /// The record.
    ///
    /// # Errors
    /// `NotFound` without one, `Conflict` with several.
    pub fn into_record(self, id: &str) -> Result<Record, Failure> {
        match self {
            Self::One(record) => Ok(*record),
            Self::Nothing => Err(not_found(format!("no message '{id}'"))),
            Self::Several(senders) => Err(ambiguous(id, senders)),
        }
    }
}

/// A registered client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// SHA-256 of its public key.
    pub fingerprint: [u8; 32],
    /// Its pinned home; empty = derived, see [`home_of`].
    pub home: String,
    /// When it was registered.
    pub since: Hlc,
}

/// The state in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Index of the last applied entry; 0 before any.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Final stamp of the last command; no later entry can be stamped at or before it.
    pub last_stamp: Hlc,
    /// Lowest kept seq; `last_seq + 1` if no record is kept.
    pub first_seq: u64,
    /// Highest seq ever given; 0 before any.
    pub last_seq: u64,
    /// Kept records, in bytes.
    pub bytes: u64,
    /// Registered clients.
    pub clients: u64,
    /// Digest of everything ever applied, equal on every replica at the same index.
    pub digest: Hash,
}

/// The record with an id; `from` names its sender, or is empty.
///
/// # Errors
/// Refused where the id or the sender is malformed.
pub fn get(view: &dyn View, reader: &Reader, id: &str, from: &str) -> Result<Found, QueryError> {
    id.parse::<MessageId>().map_err(invalid)?;
    if !from.is_empty() {
        from.parse::<Name>().map_err(invalid)?;
        let seq = match seq_of(view, id, from)? {
            Some(seq) => Some(seq),
            None => seq_of(view, id, &sender_key(&Stream::Events, from))?,
        };
        let Some(seq) = seq else { return Ok(Found::Nothing) };
        let found = record(view, seq)?;
        let seen = visible(view, reader, &found)?;
        return Ok(if seen { Found::One(Box::new(found)) } else { Found::Nothing });
    }
    let mut found: Vec<Record> = Vec::new();
    each_with_id(view, id, |_, seq| {
        let record = record(view, seq)?;
        if visible(view, reader, &record)? {
            found.push(record);
        }
        let full = found.len() == SENDERS_SHOWN_MAX;
        Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    assert!(found.len() <= SENDERS_SHOWN_MAX, "no more are listed than are shown");
    Ok(match (found.pop(), &found[..]) {
        (None, _) => Found::Nothing,
        (Some(only), []) => Found::One(Box::new(only)),
        (Some(last), _) => {
            found.push(last);
            Found::Several(found.into_iter().map(|record| record.from).collect())
        }
    })
}

/// All registered clients, by name.
///
/// # Errors
/// When the state cannot be read.
pub fn clients(view: &dyn View) -> Result<Vec<Client>, StateError> {
    let (mut clients, mut from) = (Vec::new(), Vec::new());
    loop {
        let rows = view.scan(Table::Clients, &from, keys::END, Direction::Forward, CHUNK)?;
        let last_chunk = rows.len() < CHUNK;
        if let Some((key, _)) = rows.last() {
            from = [&key[..], &[0]].concat();
        }
        for (key, row) in rows {
            clients.push(client(key, ClientRow::decode(row.into())?)?);
        }
        if last_chunk {
            return Ok(clients);
        }
    }
}

/// Kept messages by the gateway that took them, events left out, by name. Records that a release
/// without these counts stored are not among them.
///
/// # Errors
/// When the state cannot be read.
pub fn gateway_counts(view: &dyn View) -> Result<Vec<(String, u64)>, StateError> {
    Ok(State::load(view)?.gateways.into_counts().collect())
}

/// The state in numbers.
///
/// # Errors
/// When the state cannot be read.
pub fn stats(view: &dyn View) -> Result<Stats, StateError> {
    let state = State::load(view)?;
    Ok(Stats {
        index: state.index,
        term: state.term,
        last_stamp: state.last,
        first_seq: state.first_seq,
        last_seq: state.last_seq,
        bytes: state.bytes,
        clients: state.clients,
        digest: state.digest,
    })
}

/// Up to which stamp the state must have come before nothing can belong to a range that ends at
/// `until` any more.
///
/// # Errors
/// When the state cannot be read.
pub fn closing(view: &dyn View, until: Hlc, mode: TimeMode) -> Result<Hlc, StateError> {
    let closing = match mode {
        TimeMode::Nominal | TimeMode::Definite => until,
        TimeMode::Possible => Hlc { ns: until.ns.saturating_add(reach_back_ns(view)?), ..until },
    };
    assert!(closing >= until, "nothing is closed before its end");
    Ok(closing)
}

/// The cluster's settings; `None` until a primary has set them.
///
/// # Errors
/// When the state cannot be read.
pub fn settings(view: &dyn View) -> Result<Option<Settings>, StateError> {
    crate::rules::settings::settings(view)
}

/// Clock value of the oldest kept record, events included; `None` if no record is kept.
///
/// # Errors
/// When the state cannot be read.
pub fn oldest(view: &dyn View) -> Result<Option<Hlc>, StateError> {
    let state = State::load(view)?;
    if state.records() == 0 {
        return Ok(None);
    }
    record_hlc(&record_row(view, state.first_seq)?).map(Some)
}

/// Where a named cursor stands; empty if nobody has set it yet.
///
/// # Errors
/// Refused where the name is malformed or the cursor belongs to another client.
pub fn cursor(view: &dyn View, caller: &str, name: &str) -> Result<Vec<Position>, QueryError> {
    name.parse::<Name>().map_err(invalid)?;
    Ok(read_cursor(view, caller, name)?.map_or_else(Vec::new, |row| row.positions))
}

/// The highest kept seq of a stream: its head.
///
/// # Errors
/// When the state cannot be read.
pub fn head(view: &dyn View, stream: &Stream) -> Result<Option<u64>, StateError> {
    let text = stream_key(stream);
    let (from, to) = (keys::indexed(&text, 0), keys::after(&text));
    let rows = view.scan(Table::Streams, &from, &to, Direction::Backward, 1)?;
    Ok(rows.first().and_then(|(key, _)| keys::seq_of(key)))
}

/// Whether the caller may use the log at all: an administrator that is entered, or a client that is
/// registered, with the key that it shows, or with an access token that is live at the last stamp.
///
/// # Errors
/// `Denied` where it is neither.
pub fn admitted(view: &dyn View, caller: &Caller) -> Result<(), QueryError> {
    if caller.admin {
        return require_admin(view, &caller.name, &caller.fingerprint);
    }
    if let Proof::Token(id) = caller.proof() {
        return require_access(view, &caller.name, &id, State::load(view)?.last);
    }
    let row = client_row(view, &caller.name)?;
    Ok(admit(&caller.name, &caller.fingerprint, row.as_ref())?)
}

fn client(key: Vec<u8>, row: ClientRow) -> Result<Client, StateError> {
    let corrupt = |what| StateError::corrupt(Table::Clients, what);
    Ok(Client {
        name: String::from_utf8(key).map_err(|_| corrupt("a name is not text"))?,
        fingerprint: (&row.fingerprint[..])
            .try_into()
            .map_err(|_| corrupt("a fingerprint has no 32 bytes"))?,
        home: row.home,
        since: Hlc::from_slice(&row.since).ok_or_else(|| corrupt("a stamp has no 12 bytes"))?,
    })
}
