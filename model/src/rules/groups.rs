//! Groups: one stream with many readers. Each change of a group writes a record into the group's
//! own stream, so it has its place among the messages: who comes sees from that record on, who goes
//! sees up to it and not beyond.
//!
//! Invariants:
//! - a change is done once: its (caller, id) is remembered like a message's, changes that changed
//!   nothing too;
//! - a member has an open span, in both tables; a deleted group has no member;
//! - the row of a deleted group goes with its last record. Spans of which no record is kept are
//!   forgotten where they would count against a limit.
//!
//! Not here: what a member sees (`page`, `find`), lists of spans (`membership_spans`).

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use proto::group::{
    ACTION, GroupChange, GroupMember, GroupMembers, GroupName, GroupOp, GroupView, Groups, HISTORY,
    NAMES, TYPE, TYPE_GROUP,
};
use proto::limits::{
    GROUP_CHANGE_NAMES_MAX, GROUP_MEMBERS_MAX, GROUP_STAYS_MAX, GROUPS_MAX, GROUPS_PER_CLIENT_MAX,
};
use proto::{Failure, Header, MessageId, Name, Stream};

use crate::rows::command::{ADMIN, Caller};
use crate::rows::error::{QueryError, StateError, conflict, denied, invalid, not_found};
use crate::rows::find::Reader;
use crate::rows::hash::content_hash;
use crate::rows::keys;
use crate::rows::membership_spans::{MembershipSpans, groups_of, members_of, spans};
use crate::rows::values::DedupRow;
use crate::rows::view::{Direction, Table, View};
use crate::rules::dedup::Once;
use crate::rules::machine::{Machine, Outcome, Place};
use crate::rules::send::Message;

/// Rows fetched at a time.
const CHUNK: usize = 512;

/// A group, deleted or not.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GroupRow {
    #[prost(string, tag = "1")]
    owner: String,
    /// Clock value of its creation.
    #[prost(bytes = "bytes", tag = "2")]
    since: Bytes,
    /// Seq of the record of its creation.
    #[prost(uint64, tag = "3")]
    created_seq: u64,
    /// Members now.
    #[prost(uint64, tag = "4")]
    members: u64,
    /// Seq of the record of its deletion; 0 while there is the group.
    #[prost(uint64, tag = "5")]
    deleted_seq: u64,
}

impl GroupRow {
    fn is_deleted(&self) -> bool {
        self.deleted_seq != 0
    }

    fn view(&self, name: &str, members: Vec<GroupMember>) -> GroupView {
        GroupView {
            name: name.to_owned(),
            owner: self.owner.clone(),
            since: self.since.to_vec(),
            members,
            size: self.members,
        }
    }
}

/// What a change did, for its record.
struct Done {
    action: &'static str,
    /// Who came or went; of a group that was created or deleted nobody in particular.
    names: Vec<String>,
    history: bool,
}

impl Machine<'_> {
    pub(crate) fn change_groups(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        gateway: &str,
        change: &GroupChange,
    ) -> Result<Outcome, QueryError> {
        let (name, op) = read(change)?;
        self.require_registered(caller)?;
        let stream = Stream::Group(name);
        let to = stream.to_string();
        let Stream::Group(name) = &stream else { return Err(invalid("no group").into()) };
        let name = name.as_str();
        let asked = content_hash(&[], &change.encode_to_vec());
        // The body says which administrator it was.
        let speaker = Caller { name: caller.owner().to_owned(), ..caller.clone() };
        let own = (speaker.name.as_str(), speaker.name.as_str());
        let fresh = match self.once(own, &change.id, &to, &asked)? {
            Once::Before(_) => return self.changed(name, op),
            Once::First(fresh) => fresh,
        };
        let seq = self.state.last_seq + 1;
        let done = match op {
            GroupOp::Create(_) => self.create_group(place, caller, name, seq)?,
            GroupOp::Delete(_) => self.delete_group(caller, name, seq)?,
            GroupOp::Add(add) => self.add_to_group(caller, name, add, seq)?,
            GroupOp::Remove(remove) => self.take_from_group(caller, name, remove, seq)?,
        };
        match done {
            Some(done) => {
                let (headers, body) = done.record(caller, name);
                let content = content_hash(&headers, &body);
                let (id, headers, body) = (&change.id[..], &headers[..], &body);
                let (stream, to) = (&stream, &to[..]);
                let message = Message { stream, to, id, headers, body, content: &content };
                self.append(place, &speaker, gateway, &message, (fresh, &asked));
            }
            None => {
                let key = self.claim(fresh);
                let first = unrecorded(place, gateway, to, &asked);
                self.remember(key, &first.stamp, first.encode_to_vec());
            }
        }
        self.changed(name, op)
    }

    /// What a change is answered with: the group as it is now, and those of the named ones who are
    /// members.
    fn changed(&self, name: &str, op: &GroupOp) -> Result<Outcome, QueryError> {
        let named: BTreeSet<&String> = match op {
            GroupOp::Add(change) | GroupOp::Remove(change) => change.members.iter().collect(),
            GroupOp::Create(_) | GroupOp::Delete(_) => BTreeSet::new(),
        };
        let mut members = Vec::new();
        for client in named {
            if let Some(from_seq) = spans(&self.rows, client, name)?.member_from() {
                members.push(GroupMember { name: client.clone(), from_seq });
            }
        }
        let row = row(&self.rows, name)?.unwrap_or_default();
        Ok(Outcome::Groups(Groups { groups: vec![row.view(name, members)] }))
    }

    fn create_group(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        name: &str,
        seq: u64,
    ) -> Result<Option<Done>, QueryError> {
        let before = row(&self.rows, name)?;
        match &before {
            Some(GroupRow { owner, deleted_seq: 0, .. }) => {
                return Err(
                    conflict(format!("the group @{name} is there already, of '{owner}'")).into()
                );
            }
            None if self.state.groups >= GROUPS_MAX as u64 => {
                return Err(conflict(format!(
                    "there are {GROUPS_MAX} groups, which is the limit; a deleted one counts until \
                     its last message is gone"
                ))
                .into());
            }
            Some(_) | None => {}
        }
        let first = match caller.admin {
            true => None,
            false => Some(self.coming(&caller.name, name, seq)?),
        };
        let before_owner = before.as_ref().map(|before| before.owner.as_str());
        if before_owner != Some(caller.owner()) {
            self.add_group_of(caller)?;
            if let Some(owner) = before_owner {
                self.drop_group_of(owner)?;
            }
        }
        self.state.groups += u64::from(before.is_none());
        let row = GroupRow {
            owner: caller.owner().to_owned(),
            since: Bytes::copy_from_slice(&place.stamp.hlc.to_bytes()),
            created_seq: seq,
            members: u64::from(first.is_some()),
            deleted_seq: 0,
        };
        if let Some(first) = first {
            self.write(name, first);
        }
        self.put(Table::Groups, name, row.encode_to_vec());
        Ok(Some(Done { action: "created", names: Vec::new(), history: false }))
    }

    fn delete_group(
        &mut self,
        caller: &Caller,
        name: &str,
        seq: u64,
    ) -> Result<Option<Done>, QueryError> {
        let mut row = live(&self.rows, name)?;
        require_owner(caller, name, &row, "deletes the group")?;
        let mut after = String::new();
        loop {
            let members = members_of(&self.rows, name, &after, CHUNK)?;
            let last_chunk = members.len() < CHUNK;
            if let Some((last, _)) = members.last() {
                after.clone_from(last);
            }
            for (client, mut spans) in members {
                if spans.member_from().is_some() {
                    spans.end(seq + 1);
                    self.write(name, Moved { client, spans, forgotten: Vec::new() });
                }
            }
            if last_chunk {
                break;
            }
        }
        (row.members, row.deleted_seq) = (0, seq);
        self.put(Table::Groups, name, row.encode_to_vec());
        Ok(Some(Done { action: "deleted", names: Vec::new(), history: false }))
    }

    fn add_to_group(
        &mut self,
        caller: &Caller,
        name: &str,
        add: &GroupMembers,
        seq: u64,
    ) -> Result<Option<Done>, QueryError> {
        let mut row = live(&self.rows, name)?;
        require_owner(caller, name, &row, "adds members")?;
        self.require_clients(&add.members)?;
        let from = if add.history { row.created_seq } else { seq };
        let mut coming = Vec::new();
        for client in add.members.iter().collect::<BTreeSet<_>>() {
            if spans(&self.rows, client, name)?.member_from().is_none() {
                coming.push(self.coming(client, name, from)?);
            }
        }
        if row.members + coming.len() as u64 > GROUP_MEMBERS_MAX as u64 {
            return Err(conflict(format!(
                "@{name} has {} members; at most {GROUP_MEMBERS_MAX} fit",
                row.members
            ))
            .into());
        }
        row.members += coming.len() as u64;
        assert!(row.members <= GROUP_MEMBERS_MAX as u64, "a group within its limit");
        Ok(self.moved(name, &row, "added", coming, add.history))
    }

    fn take_from_group(
        &mut self,
        caller: &Caller,
        name: &str,
        remove: &GroupMembers,
        seq: u64,
    ) -> Result<Option<Done>, QueryError> {
        let mut row = live(&self.rows, name)?;
        if remove.members.iter().any(|member| *member != caller.name) {
            require_owner(caller, name, &row, "removes others")?;
        }
        self.require_clients(&remove.members)?;
        let mut going = Vec::new();
        for client in remove.members.iter().collect::<BTreeSet<_>>() {
            let mut spans = spans(&self.rows, client, name)?;
            if spans.member_from().is_some() {
                // Who goes sees the record that says so, and nothing after it.
                spans.end(seq + 1);
                let client = client.clone();
                going.push(Moved { client, spans, forgotten: Vec::new() });
            }
        }
        let wrong = || StateError::corrupt(Table::Groups, "fewer members counted than there are");
        row.members = row.members.checked_sub(going.len() as u64).ok_or_else(wrong)?;
        Ok(self.moved(name, &row, "removed", going, false))
    }

    /// Writes who came or went; nothing if nobody did.
    fn moved(
        &mut self,
        name: &str,
        row: &GroupRow,
        action: &'static str,
        moved: Vec<Moved>,
        history: bool,
    ) -> Option<Done> {
        if moved.is_empty() {
            return None;
        }
        let names = moved.iter().map(|moved| moved.client.clone()).collect();
        self.put(Table::Groups, name, row.encode_to_vec());
        for moved in moved {
            self.write(name, moved);
        }
        Some(Done { action, names, history })
    }

    /// The spans of a client that is to become a member and to see the group from `from` on.
    fn coming(&self, client: &str, name: &str, from: u64) -> Result<Moved, QueryError> {
        let first_seq = self.state.first_seq;
        let mut groups = groups_of(&self.rows, client)?;
        let at = groups.iter().position(|(group, _)| group == name);
        let mut spans = at.map(|at| groups.swap_remove(at).1).unwrap_or_default();
        if spans.len() >= GROUP_STAYS_MAX {
            spans.prune(first_seq);
        }
        spans.begin(from);
        if spans.len() > GROUP_STAYS_MAX {
            return Err(conflict(format!(
                "'{client}' has joined @{name} {GROUP_STAYS_MAX} times, which is the limit; make a \
                 new group"
            ))
            .into());
        }
        let mut forgotten = Vec::new();
        if groups.len() >= GROUPS_PER_CLIENT_MAX {
            for (group, spans) in &mut groups {
                spans.prune(first_seq);
                if spans.len() == 0 {
                    forgotten.push(std::mem::take(group));
                }
            }
        }
        if groups.len() - forgotten.len() >= GROUPS_PER_CLIENT_MAX {
            return Err(conflict(format!(
                "'{client}' is or was in {GROUPS_PER_CLIENT_MAX} groups, which is the limit; one \
                 that it left counts until its last message to it is gone"
            ))
            .into());
        }
        assert_eq!(spans.member_from(), Some(from), "who comes is a member");
        forgotten.sort_unstable();
        Ok(Moved { client: client.to_owned(), spans, forgotten })
    }

    fn write(&mut self, name: &str, moved: Moved) {
        let Moved { client, spans, forgotten } = moved;
        assert!(spans.len() > 0, "who comes or goes has been there");
        for group in forgotten {
            self.remove(Table::GroupMembers, keys::pair(&group, &client));
            self.remove(Table::ClientGroups, keys::pair(&client, &group));
        }
        let spans = spans.encode();
        self.put(Table::GroupMembers, keys::pair(name, &client), spans.clone());
        self.put(Table::ClientGroups, keys::pair(&client, name), spans);
    }

    fn require_clients(&mut self, names: &[String]) -> Result<(), QueryError> {
        for name in names {
            if self.client(name)?.is_none() {
                return Err(not_found(format!("no client '{name}'; nobody was changed")).into());
            }
        }
        Ok(())
    }

    /// Refuses a sender to a group that is not there, or that it is no member of.
    pub(crate) fn require_member(&self, caller: &Caller, name: &str) -> Result<(), QueryError> {
        live(&self.rows, name)?;
        if caller.admin || spans(&self.rows, &caller.name, name)?.member_from().is_some() {
            return Ok(());
        }
        Err(no_member(&caller.name, name).into())
    }

    /// A record to a group expires: the last one of a deleted group takes the group's row with it.
    pub(crate) fn drop_group(&mut self, name: &str, seq: u64) -> Result<(), StateError> {
        if let Some(row) = row(&self.rows, name)?.filter(|row| row.deleted_seq == seq) {
            self.drop_group_of(&row.owner)?;
            self.remove(Table::Groups, name);
            let wrong = || StateError::corrupt(Table::Meta, "fewer groups counted than there are");
            self.state.groups = self.state.groups.checked_sub(1).ok_or_else(wrong)?;
        }
        Ok(())
    }
}

/// A client that comes or goes.
struct Moved {
    client: String,
    /// Its spans from now on.
    spans: MembershipSpans,
    /// Groups of which it sees nothing any more: they are taken off its list.
    forgotten: Vec<String>,
}

impl Done {
    /// The record that tells the members.
    fn record(&self, caller: &Caller, name: &str) -> (Vec<Header>, Bytes) {
        let header = |key: &str, value: String| Header { key: key.to_owned(), value };
        let mut headers =
            vec![header(TYPE, TYPE_GROUP.to_owned()), header(ACTION, self.action.to_owned())];
        if !self.names.is_empty() {
            headers.push(header(NAMES, self.names.join(",")));
        }
        if self.history {
            headers.push(header(HISTORY, "true".to_owned()));
        }
        let (by, action) = (&caller.name, self.action);
        let body = match &self.names[..] {
            [] => format!("{by} {action} @{name}"),
            [only] if only == by && action == "removed" => format!("{by} left"),
            names => format!("{by} {action} {}", names.join(", ")),
        };
        (headers, body.into())
    }
}

/// What is remembered of a change that needed no record.
fn unrecorded(place: &Place<'_>, gateway: &str, to: String, asked: &[u8]) -> DedupRow {
    DedupRow {
        seq: 0,
        stamp: Bytes::copy_from_slice(&place.stamp.to_bytes()),
        index: place.index,
        primary: place.primary.to_owned(),
        gateway: gateway.to_owned(),
        to,
        content_hash: Bytes::copy_from_slice(asked),
        answer: Bytes::new(),
    }
}

fn require_owner(caller: &Caller, name: &str, row: &GroupRow, does: &str) -> Result<(), Failure> {
    if caller.admin || caller.name == row.owner {
        return Ok(());
    }
    Err(denied(format!("only '{}', who made @{name}, or an admin {does}", row.owner)))
}

fn no_member(client: &str, name: &str) -> Failure {
    denied(format!("'{client}' is no member of @{name}: its owner or an admin adds it"))
}

fn row(view: &dyn View, name: &str) -> Result<Option<GroupRow>, StateError> {
    let Some(bytes) = view.get(Table::Groups, name.as_bytes())? else { return Ok(None) };
    let corrupt = |_| StateError::corrupt(Table::Groups, "a group does not parse");
    GroupRow::decode(bytes).map(Some).map_err(corrupt)
}

/// A group that was not deleted.
fn live(view: &dyn View, name: &str) -> Result<GroupRow, QueryError> {
    match row(view, name)? {
        Some(row) if row.is_deleted() => {
            Err(not_found(format!("the group @{name} was deleted")).into())
        }
        Some(row) => Ok(row),
        None => Err(not_found(format!("no group @{name}")).into()),
    }
}

/// Whether somebody is a member of the group that was made at this seq, and not deleted since.
pub(crate) fn is_member(
    view: &dyn View,
    client: &str,
    name: &str,
    created_seq: u64,
) -> Result<bool, StateError> {
    match row(view, name)? {
        Some(row) if row.created_seq == created_seq && !row.is_deleted() => {
            Ok(spans(view, client, name)?.member_from().is_some())
        }
        Some(_) | None => Ok(false),
    }
}

/// The seq that a group was made at.
pub(crate) fn created_seq(view: &dyn View, name: &str) -> Result<u64, QueryError> {
    Ok(live(view, name)?.created_seq)
}

/// What a client may see of a group.
///
/// # Errors
/// `NotFound` without such a group, `Denied` for a client that never was a member.
pub(crate) fn readable(
    view: &dyn View,
    reader: &Reader,
    name: &str,
) -> Result<MembershipSpans, QueryError> {
    let spans = spans(view, &reader.name, name)?;
    if spans.len() == 0 {
        require_known(view, name)?;
        return Err(no_member(&reader.name, name).into());
    }
    Ok(spans)
}

/// Refuses a group that is not there. One that was deleted is, while its records are kept.
pub(crate) fn require_known(view: &dyn View, name: &str) -> Result<(), QueryError> {
    match row(view, name)? {
        Some(_) => Ok(()),
        None => Err(not_found(format!("no group @{name}")).into()),
    }
}

/// One group with all its members, for an admin, its owner or a member.
///
/// # Errors
/// `NotFound` without such a group, `Denied` for anybody else.
pub fn group(view: &dyn View, reader: &Reader, name: &str) -> Result<GroupView, QueryError> {
    name.parse::<Name>().map_err(invalid)?;
    let row = live(view, name)?;
    let own = reader.admin || row.owner == reader.name;
    if !own && spans(view, &reader.name, name)?.member_from().is_none() {
        return Err(no_member(&reader.name, name).into());
    }
    let (mut members, mut after) = (Vec::new(), String::new());
    loop {
        let found = members_of(view, name, &after, CHUNK)?;
        let last_chunk = found.len() < CHUNK;
        if let Some((last, _)) = found.last() {
            after.clone_from(last);
        }
        members.extend(found.into_iter().filter_map(|(name, spans)| {
            Some(GroupMember { name, from_seq: spans.member_from()? })
        }));
        if last_chunk {
            return Ok(row.view(name, members));
        }
    }
}

/// All groups that are not deleted, by name, without their members: for an admin all, for a client
/// those that it made or is a member of.
///
/// # Errors
/// When the state cannot be read.
pub fn groups(view: &dyn View, reader: &Reader) -> Result<Vec<GroupView>, StateError> {
    let member: BTreeSet<String> = groups_of(view, &reader.name)?
        .into_iter()
        .filter_map(|(name, spans)| spans.member_from().map(|_| name))
        .collect();
    let (mut groups, mut from) = (Vec::new(), Vec::new());
    loop {
        let rows = view.scan(Table::Groups, &from, keys::END, Direction::Forward, CHUNK)?;
        let last_chunk = rows.len() < CHUNK;
        if let Some((key, _)) = rows.last() {
            from = [&key[..], &[0]].concat();
        }
        for (key, row) in rows {
            let corrupt = |what| StateError::corrupt(Table::Groups, what);
            let name = String::from_utf8(key).map_err(|_| corrupt("a name is not text"))?;
            let row = GroupRow::decode(&row[..]).map_err(|_| corrupt("a group does not parse"))?;
            let own = reader.admin || row.owner == reader.name || member.contains(&name);
            if own && !row.is_deleted() {
                groups.push(row.view(&name, Vec::new()));
            }
        }
        if last_chunk {
            return Ok(groups);
        }
    }
}

/// The group and the change of it, well formed.
fn read(change: &GroupChange) -> Result<(Name, &GroupOp), Failure> {
    change.id.parse::<MessageId>().map_err(invalid)?;
    let op = change.op.as_ref().ok_or_else(|| invalid("an empty change of a group"))?;
    let (name, members) = match op {
        GroupOp::Create(GroupName { name }) | GroupOp::Delete(GroupName { name }) => (name, None),
        GroupOp::Add(GroupMembers { name, members, .. })
        | GroupOp::Remove(GroupMembers { name, members, .. }) => (name, Some(members)),
    };
    let name = name.parse().map_err(invalid)?;
    if let Some(members) = members {
        if members.is_empty() || members.len() > GROUP_CHANGE_NAMES_MAX {
            let len = members.len();
            return Err(invalid(format!(
                "{len} names; one change takes 1 to {GROUP_CHANGE_NAMES_MAX}"
            )));
        }
        for member in members {
            member.parse::<Name>().map_err(invalid)?;
            if member == ADMIN {
                return Err(invalid(format!(
                    "'{ADMIN}' cannot be a member of a group: it sees them all"
                )));
            }
        }
    }
    Ok((name, op))
}

/// Checks everything about a change that does not depend on state.
pub(crate) fn check(change: &GroupChange) -> Result<(), Failure> {
    read(change).map(|_| ())
}
