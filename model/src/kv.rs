//! The dictionary: keys with one current value each, and one version for all of them, which grows
//! with every change.
//!
//! A change is done once. What it was answered is remembered under its (caller, id) in the table of
//! the messages' first acks, for the same window: a deletion's answer with the value that was, that
//! of any other change without the value, which the change itself says. A refused change is not
//! remembered, for it changed nothing.

use bytes::Bytes;
use prost::Message as _;
use proto::kv::{KvChange, KvRow, KvRows};
use proto::limits::{
    KV_KEY_BYTES_MAX, KV_KEYS_MAX, KV_PAGE_BYTES, KV_PAGE_ROWS, KV_VALUE_BYTES_MAX,
};
use proto::{Failure, MessageId};

use crate::command::Caller;
use crate::dedup::{Once, kv_sender};
use crate::error::{QueryError, StateError, conflict, invalid, not_found};
use crate::hash::content_hash;
use crate::machine::{Machine, Outcome, Place};
use crate::rows::DedupRow;
use crate::view::{Direction, Table, View};

/// Rows fetched at a time: values may be large.
const CHUNK: usize = 16;

/// A key's value.
#[derive(Clone, PartialEq, prost::Message)]
struct ValueRow {
    #[prost(bytes = "bytes", tag = "1")]
    value: Bytes,
    #[prost(uint64, tag = "2")]
    version: u64,
    #[prost(string, tag = "3")]
    by: String,
    #[prost(bytes = "bytes", tag = "4")]
    stamp: Bytes,
}

impl ValueRow {
    fn decode_row(bytes: impl bytes::Buf) -> Result<Self, StateError> {
        Self::decode(bytes).map_err(|_| StateError::corrupt(Table::Kv, "a value does not parse"))
    }

    fn into_row(self, key: &str) -> KvRow {
        KvRow {
            key: key.to_owned(),
            value: self.value.to_vec(),
            version: self.version,
            by: self.by,
            stamp: self.stamp.to_vec(),
        }
    }
}

impl Machine<'_> {
    pub(crate) fn change_kv(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        gateway: &str,
        change: &KvChange,
    ) -> Result<Outcome, QueryError> {
        check(change)?;
        self.require_sender(caller)?;
        let asked = content_hash(&[], &change.encode_to_vec());
        let sender = kv_sender(&caller.name);
        let fresh = match self.once((&sender, &caller.name), &change.id, "", &asked)? {
            Once::Before(first) => return again(&first, change),
            Once::First(fresh) => fresh,
        };
        let before = value(&self.rows, &change.key)?;
        expected(change, before.as_ref())?;
        let answer = match &change.value {
            Some(value) => self.put_value(place, caller, &change.key, value, before.is_none())?,
            None => self.remove_value(&change.key, before)?,
        };
        let rows = KvRows { rows: vec![answer], more: false };
        let mut short = rows.clone();
        if change.value.is_some() {
            short.rows.iter_mut().for_each(|row| row.value.clear());
        }
        let first = DedupRow {
            seq: 0,
            stamp: Bytes::copy_from_slice(&place.stamp.to_bytes()),
            index: place.index,
            primary: place.primary.to_owned(),
            gateway: gateway.to_owned(),
            to: String::new(),
            content_hash: Bytes::copy_from_slice(&asked),
            answer: short.encode_to_vec().into(),
        };
        let key = self.claim(fresh);
        self.remember(key, &first);
        Ok(Outcome::Kv(rows))
    }

    fn put_value(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        key: &str,
        value: &[u8],
        new: bool,
    ) -> Result<KvRow, QueryError> {
        if new && self.state.kv_keys >= KV_KEYS_MAX as u64 {
            return Err(
                conflict(format!("there are {KV_KEYS_MAX} keys, which is the limit")).into()
            );
        }
        self.state.kv_keys += u64::from(new);
        self.state.kv_version += 1;
        let row = ValueRow {
            value: Bytes::copy_from_slice(value),
            version: self.state.kv_version,
            by: caller.name.clone(),
            stamp: Bytes::copy_from_slice(&place.stamp.to_bytes()),
        };
        self.put(Table::Kv, key, row.encode_to_vec());
        Ok(row.into_row(key))
    }

    fn remove_value(&mut self, key: &str, before: Option<ValueRow>) -> Result<KvRow, QueryError> {
        let before = before.ok_or_else(|| not_found(format!("no key '{}'", shown(key))))?;
        self.remove(Table::Kv, key);
        self.state.kv_version += 1;
        let wrong = || StateError::corrupt(Table::Meta, "fewer keys counted than there are");
        self.state.kv_keys = self.state.kv_keys.checked_sub(1).ok_or_else(wrong)?;
        Ok(before.into_row(key))
    }
}

/// The first answer again.
fn again(first: &DedupRow, change: &KvChange) -> Result<Outcome, QueryError> {
    let mut rows = KvRows::decode(first.answer.clone())
        .map_err(|_| StateError::corrupt(Table::Dedup, "a first answer does not parse"))?;
    if let Some(value) = &change.value {
        rows.rows.iter_mut().for_each(|row| row.value.clone_from(value));
    }
    Ok(Outcome::Kv(rows))
}

/// Refuses a change that expects another version.
fn expected(change: &KvChange, before: Option<&ValueRow>) -> Result<(), Failure> {
    let Some(expect) = change.expect else { return Ok(()) };
    let key = shown(&change.key);
    match before {
        Some(row) if row.version == expect => Ok(()),
        None if expect == 0 => Ok(()),
        Some(ValueRow { version, by, .. }) if expect == 0 => Err(conflict(format!(
            "the key '{key}' is there already, at version {version}, set by '{by}'"
        ))),
        Some(ValueRow { version, by, .. }) => Err(conflict(format!(
            "the key '{key}' is at version {version}, set by '{by}', not at {expect}"
        ))),
        None => Err(conflict(format!("there is no key '{key}' (version 0), not one at {expect}"))),
    }
}

/// Enough of a key to recognise it.
fn shown(key: &str) -> String {
    const SHOWN: usize = 80;
    let head: String = key.chars().take(SHOWN).collect();
    if head.len() < key.len() { format!("{head}…") } else { head }
}

/// Checks everything about a change that does not depend on state.
pub(crate) fn check(change: &KvChange) -> Result<(), Failure> {
    change.id.parse::<MessageId>().map_err(invalid)?;
    check_key(&change.key)?;
    match &change.value {
        Some(value) if value.len() > KV_VALUE_BYTES_MAX => Err(invalid(format!(
            "a value of {} bytes; at most {KV_VALUE_BYTES_MAX} fit, larger things are messages",
            value.len()
        ))),
        Some(_) | None => Ok(()),
    }
}

fn check_key(key: &str) -> Result<(), Failure> {
    if key.is_empty() || key.len() > KV_KEY_BYTES_MAX || key.contains(char::is_control) {
        return Err(invalid(format!(
            "a key is 1 to {KV_KEY_BYTES_MAX} bytes of text without control characters"
        )));
    }
    Ok(())
}

fn value(view: &dyn View, key: &str) -> Result<Option<ValueRow>, StateError> {
    view.get(Table::Kv, key.as_bytes())?.map(ValueRow::decode_row).transpose()
}

/// One key; `None` if there is none.
///
/// # Errors
/// Refused where the key is malformed.
pub fn kv_get(view: &dyn View, key: &str) -> Result<Option<KvRow>, QueryError> {
    check_key(key)?;
    Ok(value(view, key)?.map(|value| value.into_row(key)))
}

/// Keys that begin with `prefix` and come after `after`, in their order: as many as fit a page.
///
/// # Errors
/// Refused where the prefix or the key is malformed.
pub fn kv_list(view: &dyn View, prefix: &str, after: &str) -> Result<KvRows, QueryError> {
    for text in [prefix, after] {
        if !text.is_empty() {
            check_key(text)?;
        }
    }
    let mut from = prefix.as_bytes().to_vec();
    if !after.is_empty() {
        // The first key that can follow it.
        from = from.max([after.as_bytes(), &[0]].concat());
    }
    let to = end_of(prefix);
    let (mut page, mut bytes) = (KvRows::default(), 0);
    loop {
        let rows = view.scan(Table::Kv, &from, &to, Direction::Forward, CHUNK)?;
        let last_chunk = rows.len() < CHUNK;
        for (key, row) in rows {
            bytes += key.len() + row.len();
            let full = page.rows.len() == KV_PAGE_ROWS || bytes > KV_PAGE_BYTES;
            if full && !page.rows.is_empty() {
                page.more = true;
                return Ok(page);
            }
            let corrupt = |_| StateError::corrupt(Table::Kv, "a key is not text");
            let name = std::str::from_utf8(&key).map_err(corrupt)?;
            page.rows.push(ValueRow::decode_row(&row[..])?.into_row(name));
            from = [&key[..], &[0]].concat();
        }
        if last_chunk {
            return Ok(page);
        }
    }
}

/// The first key after all that begin with a prefix. No byte of UTF-8 is 0xff.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => *last = last.saturating_add(1),
        None => end.push(0xff),
    }
    end
}
