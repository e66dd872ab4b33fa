//! The dictionary: keys with one current value each, and one version for all of them, which grows
//! with every change.
//!
//! A change is done once. What it was answered is remembered under its (caller, id) in the table of
//! the messages' first acks, for the same window: a deletion's answer with the value that was, that
//! of any other change without the value, which the change itself says. A refused change is not
//! remembered, for it changed nothing.
//!
//! A key belongs to whoever made it, one of an admin's to all admins together. Others read it, and change it only where it is shared with them.
//! Rows from before keys had owners stay as they were: everybody's.

use bytes::Bytes;
use prost::Message as _;
use proto::kv::{KvChange, KvRow, KvRows, SHARED};
use proto::limits::{
    KV_KEY_BYTES_MAX, KV_KEYS_MAX, KV_KEYS_PER_CLIENT_MAX, KV_PAGE_BYTES, KV_PAGE_ROWS,
    KV_VALUE_BYTES_MAX,
};
use proto::{Failure, MessageId, Name};

use crate::rows::command::{ADMIN, Caller};
use crate::rows::error::{QueryError, StateError, conflict, denied, invalid, not_found};
use crate::rows::hash::content_hash;
use crate::rows::values::DedupRow;
use crate::rows::view::{Direction, Table, View};
use crate::rules::dedup::{Once, kv_sender};
use crate::rules::groups::{created_seq, is_member};
use crate::rules::machine::{Machine, Outcome, Place};

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
    /// Empty in a row from before keys had owners.
    #[prost(string, tag = "5")]
    owner: String,
    /// See [`KvChange::shared_with`].
    #[prost(string, tag = "6")]
    shared_with: String,
    /// For a group: the seq that it was made at. A later one of the same name is another group.
    #[prost(uint64, tag = "7")]
    group_seq: u64,
}

impl ValueRow {
    fn decode_row(bytes: impl bytes::Buf) -> Result<Self, StateError> {
        let corrupt = |_| StateError::corrupt(Table::Kv, "a value does not parse");
        let mut row = Self::decode(bytes).map_err(corrupt)?;
        if row.owner.is_empty() {
            SHARED.clone_into(&mut row.shared_with);
        }
        Ok(row)
    }

    fn into_row(self, key: &str) -> KvRow {
        KvRow {
            key: key.to_owned(),
            value: self.value.to_vec(),
            version: self.version,
            by: self.by,
            stamp: self.stamp.to_vec(),
            owner: self.owner,
            shared_with: self.shared_with,
        }
    }

    fn is_of(&self, caller: &Caller) -> bool {
        caller.admin || (!self.owner.is_empty() && self.owner == caller.name)
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
        self.require_registered(caller)?;
        let asked = content_hash(&[], &change.encode_to_vec());
        let sender = kv_sender(&caller.name);
        let fresh = match self.once((&sender, &caller.name), &change.id, "", &asked)? {
            Once::Before(first) => return again(&first, change),
            Once::First(fresh) => fresh,
        };
        let before = value(&self.rows, &change.key)?;
        self.require_right(caller, change, before.as_ref())?;
        let sharing = self.sharing(caller, change, before.as_ref())?;
        expected(change, before.as_ref())?;
        let answer = match &change.value {
            Some(value) => {
                self.put_value((place, caller), (&change.key, value), before, sharing)?
            }
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
        self.remember(key, &first.stamp, first.encode_to_vec());
        Ok(Outcome::Kv(rows))
    }

    /// Refuses whoever may not change the key, and whoever may not say with whom it is shared.
    fn require_right(
        &self,
        caller: &Caller,
        change: &KvChange,
        before: Option<&ValueRow>,
    ) -> Result<(), QueryError> {
        let key = shown(&change.key);
        if let Some(row) = before.filter(|row| !row.is_of(caller)) {
            let owner = &row.owner;
            match group_of(&row.shared_with) {
                _ if row.shared_with == SHARED => {}
                Some(group) if is_member(&self.rows, &caller.name, group, row.group_seq)? => {}
                Some(group) => {
                    let message = format!(
                        "the key '{key}' belongs to '{owner}', who shares it with @{group} alone"
                    );
                    return Err(denied(message).into());
                }
                None => {
                    let message =
                        format!("the key '{key}' belongs to '{owner}', who shares it with nobody");
                    return Err(denied(message).into());
                }
            }
            if change.shared_with.as_ref().is_some_and(|with| *with != row.shared_with) {
                let whose = match owner.as_str() {
                    "" | ADMIN => "an admin".to_owned(),
                    owner => format!("'{owner}', whose key it is, or an admin"),
                };
                let message = format!("only {whose} says with whom '{key}' is shared");
                return Err(denied(message).into());
            }
        }
        Ok(())
    }

    /// With whom a change shares the key, and the seq of a group; a group is one that the caller may
    /// write to, unless the key is shared with it already.
    fn sharing(
        &self,
        caller: &Caller,
        change: &KvChange,
        before: Option<&ValueRow>,
    ) -> Result<(String, u64), QueryError> {
        let as_it_was = || before.map(|row| (row.shared_with.clone(), row.group_seq));
        let Some(with) = &change.shared_with else { return Ok(as_it_was().unwrap_or_default()) };
        match (group_of(with), as_it_was()) {
            (None, _) => Ok((with.clone(), 0)),
            (Some(_), Some(was)) if was.0 == *with => Ok(was),
            (Some(group), _) => {
                self.require_member(caller, group)?;
                Ok((with.clone(), created_seq(&self.rows, group)?))
            }
        }
    }

    fn put_value(
        &mut self,
        (place, caller): (&Place<'_>, &Caller),
        (key, value): (&str, &[u8]),
        before: Option<ValueRow>,
        (shared_with, group_seq): (String, u64),
    ) -> Result<KvRow, QueryError> {
        let new = before.is_none();
        if new && self.state.kv_keys >= KV_KEYS_MAX as u64 {
            return Err(
                conflict(format!("there are {KV_KEYS_MAX} keys, which is the limit")).into()
            );
        }
        if new {
            self.add_key_of(caller)?;
        }
        self.state.kv_keys += u64::from(new);
        assert!(!new || self.state.kv_keys <= KV_KEYS_MAX as u64, "keys within their limit");
        self.state.kv_version += 1;
        let owner = before.map_or_else(|| caller.owner().to_owned(), |before| before.owner);
        // Whoever says with whom a key of nobody is shared has taken it over.
        let taken = owner.is_empty() && shared_with != SHARED;
        let row = ValueRow {
            value: Bytes::copy_from_slice(value),
            version: self.state.kv_version,
            by: caller.name.clone(),
            stamp: Bytes::copy_from_slice(&place.stamp.to_bytes()),
            owner: if taken { caller.owner().to_owned() } else { owner },
            shared_with,
            group_seq,
        };
        assert!(!row.owner.is_empty() || row.shared_with == SHARED, "nobody's key is everybody's");
        self.put(Table::Kv, key, row.encode_to_vec());
        Ok(row.into_row(key))
    }

    fn remove_value(&mut self, key: &str, before: Option<ValueRow>) -> Result<KvRow, QueryError> {
        let before = before.ok_or_else(|| not_found(format!("no key '{}'", shown(key))))?;
        self.remove(Table::Kv, key);
        self.state.kv_version += 1;
        let wrong = || StateError::corrupt(Table::Meta, "fewer keys counted than there are");
        self.state.kv_keys = self.state.kv_keys.checked_sub(1).ok_or_else(wrong)?;
        self.drop_key_of(&before.owner)?;
        Ok(before.into_row(key))
    }
}

impl Machine<'_> {
    /// Counts one key more for its owner. Admins are in no registry and have no limit of their own.
    fn add_key_of(&mut self, caller: &Caller) -> Result<(), QueryError> {
        let Some(mut row) = self.client(&caller.name)?.filter(|_| !caller.admin).cloned() else {
            return Ok(());
        };
        if row.kv_keys >= KV_KEYS_PER_CLIENT_MAX as u64 {
            let message = format!(
                "'{}' has {KV_KEYS_PER_CLIENT_MAX} keys, which is the limit for one client",
                caller.name
            );
            return Err(conflict(message).into());
        }
        row.kv_keys += 1;
        assert!(row.kv_keys <= KV_KEYS_PER_CLIENT_MAX as u64, "an owner within its limit");
        self.put_client(&caller.name, row);
        Ok(())
    }

    /// Counts one key less.
    fn drop_key_of(&mut self, owner: &str) -> Result<(), StateError> {
        if owner == ADMIN {
            return Ok(());
        }
        let Some(mut row) = self.client(owner)?.cloned() else { return Ok(()) };
        let wrong = || StateError::corrupt(Table::Clients, "fewer keys counted than a client has");
        row.kv_keys = row.kv_keys.checked_sub(1).ok_or_else(wrong)?;
        self.put_client(owner, row);
        Ok(())
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
    match change.shared_with.as_deref() {
        Some(with) if change.value.is_none() && !with.is_empty() => {
            return Err(invalid("a key that goes is shared with nobody"));
        }
        None | Some("" | SHARED) => {}
        Some(with) => match group_of(with) {
            Some(group) => drop(group.parse::<Name>().map_err(invalid)?),
            None => {
                return Err(invalid(format!(
                    "a key cannot be shared with '{}': name a @group or *",
                    shown(with)
                )));
            }
        },
    }
    match &change.value {
        Some(value) if value.len() > KV_VALUE_BYTES_MAX => Err(invalid(format!(
            "a value of {} bytes; at most {KV_VALUE_BYTES_MAX} fit, larger things are messages",
            value.len()
        ))),
        Some(_) | None => Ok(()),
    }
}

/// The group that a key is shared with.
fn group_of(shared_with: &str) -> Option<&str> {
    shared_with.strip_prefix('@')
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

/// One key; `None` if it does not exist.
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
    'page: loop {
        let rows = view.scan(Table::Kv, &from, &to, Direction::Forward, CHUNK)?;
        let last_chunk = rows.len() < CHUNK;
        for (key, row) in rows {
            bytes += key.len() + row.len();
            let full = page.rows.len() == KV_PAGE_ROWS || bytes > KV_PAGE_BYTES;
            if full && !page.rows.is_empty() {
                page.more = true;
                break 'page;
            }
            let corrupt = |_| StateError::corrupt(Table::Kv, "a key is not text");
            let name = std::str::from_utf8(&key).map_err(corrupt)?;
            page.rows.push(ValueRow::decode_row(&row[..])?.into_row(name));
            from = [&key[..], &[0]].concat();
        }
        if last_chunk {
            break;
        }
    }
    assert!(page.rows.len() <= KV_PAGE_ROWS, "a page holds no more than it may");
    assert!(!page.more || !page.rows.is_empty(), "a page that is not the last leads on");
    Ok(page)
}

const _: () = assert!(KV_KEYS_PER_CLIENT_MAX < KV_KEYS_MAX, "no client alone takes all keys");
const _: () = assert!(KV_VALUE_BYTES_MAX + KV_KEY_BYTES_MAX < KV_PAGE_BYTES, "a row fits a page");

/// The first key after all that begin with a prefix. No byte of UTF-8 is 0xff.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => *last = last.saturating_add(1),
        None => end.push(0xff),
    }
    assert!(&end[..] > prefix.as_bytes(), "a prefix ends behind its beginning");
    end
}

#[cfg(test)]
mod tests {
    use clock::{Hlc, Stamp};
    use proto::ErrorCode;

    use super::*;
    use crate::{Batch, Change, Command, CommandOp, MemoryView};

    fn apply(view: &mut MemoryView, index: u64, who: &str, op: CommandOp) -> Outcome {
        let base = Stamp::unbounded(Hlc::from_ns(1_000_000 + index));
        let caller = Caller { name: who.into(), admin: who == ADMIN, fingerprint: [7; 32] };
        let command = Command { caller, gateway: "n1".into(), op };
        let batch = Batch { base, primary: "n1".into(), commands: vec![command] };
        let mut machine = Machine::new(view).unwrap();
        let outcome = machine.apply(index, 1, Some(&batch)).unwrap().remove(0);
        let changes = machine.into_changes();
        view.write(changes);
        outcome
    }

    fn put(key: &str, id: u64, with: Option<&str>) -> CommandOp {
        let (value, shared_with) = (Some(b"new".to_vec()), with.map(str::to_owned));
        let (key, id) = (key.to_owned(), id.to_string());
        CommandOp::Kv(KvChange { key, value, expect: None, id, shared_with })
    }

    fn with_clients() -> MemoryView {
        let mut view = MemoryView::default();
        for (index, name) in (1..).zip(["alice", "bob"]) {
            let (name, home) = (name.to_owned(), String::new());
            let op = CommandOp::Register { name, fingerprint: [7; 32], home };
            apply(&mut view, index, ADMIN, op);
        }
        view
    }

    /// Seen to fail with `decode_row` leaving the row as it is.
    #[test]
    fn a_key_from_before_owners_stays_everybodys_until_an_admin_says_otherwise() {
        let mut view = with_clients();
        apply(&mut view, 3, ADMIN, put("k", 3, None));
        // As the release before wrote it.
        let mut row = value(&view, "k").unwrap().unwrap();
        row.owner.clear();
        let (table, key) = (Table::Kv, b"k".to_vec());
        view.write([Change { table, key, value: Some(row.encode_to_vec()) }]);
        let seen = kv_get(&view, "k").unwrap().unwrap();
        assert_eq!((seen.owner.as_str(), seen.shared_with.as_str()), ("", SHARED));
        assert!(matches!(apply(&mut view, 4, "bob", put("k", 4, None)), Outcome::Kv(_)));
        let refused = apply(&mut view, 5, "bob", put("k", 5, Some("")));
        assert!(
            matches!(&refused, Outcome::Refused(failure) if failure.error_code() == ErrorCode::Denied),
            "{refused:?}"
        );
        assert!(matches!(apply(&mut view, 6, ADMIN, put("k", 6, Some(""))), Outcome::Kv(_)));
        let seen = kv_get(&view, "k").unwrap().unwrap();
        assert_eq!((seen.owner.as_str(), seen.shared_with.as_str()), (ADMIN, ""));
        assert!(matches!(apply(&mut view, 7, "alice", put("k", 7, None)), Outcome::Refused(_)));
    }

    /// Seen to fail without `drop_key_of`, and without `add_key_of`.
    #[test]
    fn one_client_cannot_fill_the_dictionary() {
        let mut view = with_clients();
        let most = KV_KEYS_PER_CLIENT_MAX as u64;
        for n in 0..most {
            let done = apply(&mut view, 10 + n, "alice", put(&format!("k{n}"), n, None));
            assert!(matches!(done, Outcome::Kv(_)), "{done:?}");
        }
        let mut next = 10 + most..;
        let mut one = |who: &str, op| apply(&mut view, next.next().unwrap(), who, op);
        let refused = one("alice", put("more", most, None));
        assert!(
            matches!(&refused, Outcome::Refused(failure) if failure.error_code() == ErrorCode::Conflict),
            "{refused:?}"
        );
        assert!(matches!(one("bob", put("more", 1, Some(SHARED))), Outcome::Kv(_)));
        // What is there already can be changed, whosever it is.
        assert!(matches!(one("alice", put("more", most + 1, None)), Outcome::Kv(_)));
        let delete = KvChange { key: "k0".into(), id: "gone".into(), ..KvChange::default() };
        assert!(matches!(one(ADMIN, CommandOp::Kv(delete)), Outcome::Kv(_)));
        assert!(matches!(one("alice", put("last", most + 2, None)), Outcome::Kv(_)));
    }
}
