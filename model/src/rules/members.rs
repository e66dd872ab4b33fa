//! Changes of the nodes of the cluster: what it wants, and what it has noticed. Who votes at this
//! moment is the engine's; the primary brings it in line with these rows.
//!
//! A row stays for ever: neither the raft id nor the key of a removed node is ever taken again.
//!
//! Not here: the rows themselves (`member_rows`), what becomes of a notice (`notice`),
//! what is refused before it is proposed (`member_check`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::Hlc;
use proto::event::{LEADER, LEAVE, MEMBER, NODE};
use proto::limits::{NODE_NAMES_MAX, NODE_STORES_MAX, NODES_MAX, RAFT_ID_JOINED_MIN, VOTERS_MAX};
use proto::member::{
    AdmitNode, BindKey, Lead, LeftReason, MemberOp, MemberRow, MemberState, MemberWants, MoveNode,
    Notice, RemoveNodes, SetNode, StepDown, default_priority, ring_order,
};
use proto::wire::{MemberChange, Members};
use proto::{ErrorCode, Failure, Role};

use crate::rows::command::Caller;
use crate::rows::error::{QueryError, conflict, denied, not_found};
use crate::rows::member_rows::{GoneStore, Node, can_do_without, nodes, present};
use crate::rows::names::require_nobodys;
use crate::rows::view::{Table, View};
use crate::rules::events::Event;
use crate::rules::input::{no_token, unknown_change};
use crate::rules::machine::{Machine, Outcome, Place};
use crate::rules::notice::{about, left, noticed};
use crate::rules::tokens;

/// What a change comes to.
#[derive(Default)]
pub(crate) struct Changed {
    /// Rows to write.
    pub(crate) rows: Vec<Node>,
    pub(crate) events: Vec<Event>,
    /// Nodes that get a share of the slots.
    pub(crate) shares: Vec<String>,
    /// Names whose rows are the answer.
    pub(crate) answer: Vec<String>,
}

impl Machine<'_> {
    pub(crate) fn change_members(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        change: &MemberChange,
    ) -> Result<Outcome, QueryError> {
        crate::rules::member_check::check(change)?;
        let op = change.op.as_ref().ok_or_else(unknown_change)?;
        let of_nodes = is_of_nodes(op);
        if of_nodes && !caller.is_node() {
            return Err(denied("only the nodes themselves may do that").into());
        }
        if !of_nodes && !caller.admin {
            return Err(denied("only an admin can change the nodes of the cluster").into());
        }
        let now = place.stamp.hlc;
        let changed = match op {
            MemberOp::Init(given) => self.init_members(given, now)?,
            MemberOp::Admit(ask) => self.admit_node(ask, now)?,
            MemberOp::Notice(notice) => self.notice_member(notice, now)?,
            MemberOp::Lead(lead) => self.note_leader(caller, *lead),
            MemberOp::Remove(remove) => self.remove_members(remove, &change.id, now)?,
            MemberOp::Set(set) => self.set_member(set)?,
            MemberOp::StepDown(step) => self.set_aside(step, &change.id, now)?,
            MemberOp::Bind(bind) => self.bind_key(bind)?,
            MemberOp::Move(moved) => self.move_member(moved)?,
            MemberOp::Readmit(ask) => self.readmit(ask, now)?,
            MemberOp::Repaired(done) => self.end_repair(done)?,
            MemberOp::Recover(recover) => self.let_return(recover)?,
            MemberOp::NewLineage(begin) => self.begin_lineage(begin, now)?,
        };
        self.write_members(place, caller, changed)
    }

    /// Writes what changed. The epoch grows once, however many rows there are.
    fn write_members(
        &mut self,
        place: &Place<'_>,
        caller: &Caller,
        changed: Changed,
    ) -> Result<Outcome, QueryError> {
        let Changed { rows, mut events, shares, answer } = changed;
        let gone = rows.iter().filter(|node| node.is_removed());
        let gone: Vec<String> = gone.map(|node| node.row.name.clone()).collect();
        let names: BTreeSet<&str> = rows.iter().map(|node| node.row.name.as_str()).collect();
        assert_eq!(names.len(), rows.len(), "a change writes each node once");
        if !rows.is_empty() {
            self.state.members_epoch += 1;
        }
        for node in rows {
            self.put(Table::Members, node.row.name.as_str(), node.encode());
        }
        events.extend(self.share_out(&shares, &gone)?);
        self.note(place, caller, events)?;
        let mut members = Vec::with_capacity(answer.len());
        for name in answer {
            members.extend(crate::rows::member_rows::member(&self.rows, &name)?);
        }
        Ok(Outcome::Members(Members { epoch: self.state.members_epoch, members }))
    }

    /// Enters the first members. Those that have a row, even a removed one, stay as they are.
    fn init_members(&mut self, given: &Members, now: Hlc) -> Result<Changed, QueryError> {
        let known = nodes(&self.rows)?;
        let mut ids: BTreeSet<u64> = known.values().flat_map(Node::raft_ids).collect();
        let mut changed = Changed::default();
        for given in &given.members {
            changed.answer.push(given.name.clone());
            if known.contains_key(&given.name) {
                continue;
            }
            let key = &given.fingerprint[..];
            if !key.is_empty() && known.values().chain(&changed.rows).any(|n| n.had_key(key)) {
                let name = &given.name;
                return Err(conflict(format!("the key of {name} is another node's")).into());
            }
            if !ids.insert(given.raft_id) {
                return Err(conflict(format!(
                    "the raft id {} of {} is another node's",
                    given.raft_id, given.name
                ))
                .into());
            }
            let row = MemberRow {
                name: given.name.clone(),
                raft_id: given.raft_id,
                incarnation: given.incarnation.clone(),
                address: given.address.clone(),
                fingerprint: given.fingerprint.clone(),
                priority: default_priority(&given.name),
                wants: MemberWants::Voter.into(),
                state: MemberState::Admitted.into(),
                since: now.to_bytes().to_vec(),
                ..MemberRow::default()
            };
            changed.shares.push(row.name.clone());
            changed.rows.push(Node::new(row));
        }
        room_for(&known, changed.rows.len())?;
        let highest = changed.rows.iter().map(|node| node.row.raft_id).max().unwrap_or(0);
        self.state.last_raft_id = self.state.last_raft_id.max(highest);
        Ok(changed)
    }

    /// Admits a node that brought a token.
    fn admit_node(&mut self, ask: &AdmitNode, now: Hlc) -> Result<Changed, QueryError> {
        let answer = vec![ask.name.clone()];
        let (mut node, again) = admission(&self.rows, ask, now)?;
        if again {
            // It may have moved before anybody heard of it; the gateway has verified where it is.
            let moved =
                node.row.noticed() == MemberState::Admitted && node.row.address != ask.address;
            node.row.address.clone_from(&ask.address);
            let rows = if moved { vec![node] } else { Vec::new() };
            return Ok(Changed { rows, answer, ..Changed::default() });
        }
        let id = (self.state.last_raft_id + 1).max(RAFT_ID_JOINED_MIN);
        assert!(id > self.state.last_raft_id, "an id is given once");
        self.state.last_raft_id = id;
        node.row.raft_id = id;
        tokens::use_up(self, &node.token, &ask.name)?;
        Ok(Changed { rows: vec![node], answer, ..Changed::default() })
    }

    fn notice_member(&mut self, notice: &Notice, now: Hlc) -> Result<Changed, QueryError> {
        let node = crate::rows::member_rows::node(&self.rows, &notice.name)?;
        let mut node = node.ok_or_else(|| not_found(format!("no node '{}'", notice.name)))?;
        let mut changed = Changed { answer: vec![notice.name.clone()], ..Changed::default() };
        if let Some((mut row, event)) = noticed(&node.row, notice) {
            row.since = now.to_bytes().to_vec();
            if row.noticed() == MemberState::Joined {
                changed.shares.push(row.name.clone());
            }
            node.row = row;
            changed.rows.push(node);
            changed.events.push(event);
        }
        Ok(changed)
    }

    /// Notes the calling node as primary of a term, once.
    fn note_leader(&mut self, caller: &Caller, lead: Lead) -> Changed {
        let mut changed = Changed { answer: vec![caller.name.clone()], ..Changed::default() };
        if lead.term > self.state.led_term {
            self.state.led_term = lead.term;
            let text = format!("leader {} term {}", caller.name, lead.term);
            let event = Event::new(LEADER, text).with(NODE, &caller.name);
            changed.events.push(event.with("term", lead.term));
        }
        assert!(self.state.led_term >= lead.term, "a term is noted once");
        changed
    }

    /// Notes the key of a member that has none yet. A key that is noted is never another one.
    fn bind_key(&mut self, bind: &BindKey) -> Result<Changed, QueryError> {
        let all = nodes(&self.rows)?;
        let mut node = present(&all, &bind.name)?.clone();
        let answer = vec![bind.name.clone()];
        if node.row.raft_id != bind.raft_id {
            let name = &bind.name;
            return Err(conflict(format!("{name} has another store by now")).into());
        }
        if node.row.fingerprint == bind.fingerprint {
            return Ok(Changed { answer, ..Changed::default() });
        }
        if !node.row.fingerprint.is_empty() {
            return Err(conflict(format!("{} has another key", bind.name)).into());
        }
        if let Some(other) = all.values().find(|node| node.had_key(&bind.fingerprint)) {
            let other = &other.row.name;
            return Err(conflict(format!("this key is, or was, that of {other}")).into());
        }
        node.row.fingerprint.clone_from(&bind.fingerprint);
        Ok(Changed { rows: vec![node], answer, ..Changed::default() })
    }

    /// Removes nodes, all or none. A retry of the same change finds them removed and is content.
    fn remove_members(
        &mut self,
        remove: &RemoveNodes,
        id: &str,
        now: Hlc,
    ) -> Result<Changed, QueryError> {
        let all = nodes(&self.rows)?;
        let mut names: Vec<&str> = remove.names.iter().map(String::as_str).collect();
        names.sort_by(|a, b| ring_order(a, b));
        let mut changed = Changed { answer: remove.names.clone(), ..Changed::default() };
        let done =
            |name: &str| !id.is_empty() && all.get(name).is_some_and(|node| node.removed_by == id);
        names.retain(|name| !done(name));
        for name in &names {
            let node = present(&all, name)?;
            let away = matches!(node.row.noticed(), MemberState::Left | MemberState::Suspect);
            if away && !remove.force {
                return Err(conflict(format!(
                    "{name} does not answer, it is '{}': start it, or remove it with --force",
                    node.row.noticed().as_str()
                ))
                .into());
            }
        }
        can_do_without(&all, &names)?;
        for name in names {
            let mut node = present(&all, name)?.clone();
            let event = about(LEAVE, left(name, LeftReason::Removed.as_str(), ""), &node.row);
            changed
                .events
                .push(event.with("state", "removed").with("reason", LeftReason::Removed.as_str()));
            node.row.state = MemberState::Removed.into();
            LeftReason::Removed.as_str().clone_into(&mut node.row.reason);
            node.row.repair = None;
            node.row.may_return = false;
            node.row.since = now.to_bytes().to_vec();
            id.clone_into(&mut node.removed_by);
            changed.rows.push(node);
        }
        assert_eq!(changed.rows.len(), changed.events.len(), "whoever goes is told of");
        Ok(changed)
    }

    /// Changes what a node is meant to be. What is so already changes nothing.
    fn set_member(&mut self, set: &SetNode) -> Result<Changed, QueryError> {
        let all = nodes(&self.rows)?;
        let mut node = present(&all, &set.name)?.clone();
        let before = node.row.clone();
        let mut words = Vec::new();
        if let Some(wants) = set.wants.filter(|wants| *wants != before.wants) {
            node.row.wants = wants;
            if node.row.wants_vote() {
                room_for_a_voter(&all)?;
                words.push("voter".to_owned());
            } else {
                can_do_without(&all, &[&set.name])?;
                words.push("learner".to_owned());
            }
        }
        if let Some(priority) = set.priority.filter(|priority| *priority != before.priority) {
            node.row.priority = priority;
            words.push(format!("priority {priority}"));
        }
        if let Some(drained) = set.drained.filter(|drained| *drained != before.drained) {
            let others = all.values().filter(|other| other.row.name != set.name);
            if drained && !others.into_iter().any(|other| other.row.serves()) {
                return Err(conflict(format!(
                    "no other node serves clients: {} cannot be drained",
                    set.name
                ))
                .into());
            }
            node.row.drained = drained;
            words.push(if drained { "drained" } else { "undrained" }.to_owned());
        }
        if let Some(signs) = set.signs.filter(|signs| *signs != before.signs) {
            node.row.signs = signs;
            words.push(if signs { "signer" } else { "no signer" }.to_owned());
        }
        let event = |word: &String| {
            let text = format!("member {}: {word}", set.name);
            about(MEMBER, text, &before).with("change", word)
        };
        let events = words.iter().map(event).collect();
        let rows = if words.is_empty() { Vec::new() } else { vec![node] };
        Ok(Changed { rows, events, answer: vec![set.name.clone()], ..Changed::default() })
    }

    /// Notes that a node is dialled at another address now. What is noted already changes nothing.
    fn move_member(&mut self, moved: &MoveNode) -> Result<Changed, QueryError> {
        let all = nodes(&self.rows)?;
        let mut node = present(&all, &moved.name)?.clone();
        let mut changed = Changed { answer: vec![moved.name.clone()], ..Changed::default() };
        if node.row.raft_id != moved.raft_id {
            return Err(conflict(format!(
                "the store of {} that moved is another one than the member's",
                moved.name
            ))
            .into());
        }
        if node.row.address == moved.address {
            return Ok(changed);
        }
        let (was, now) = (node.row.address.clone(), moved.address.clone());
        let text = format!("member {}: moved from {was} to {now}", moved.name);
        let event = about(MEMBER, text, &node.row).with("change", "moved");
        changed.events.push(event.with("was", was).with("now", &now));
        node.row.address = now;
        changed.rows.push(node);
        Ok(changed)
    }

    /// Keeps a node from being preferred as primary for a while; once per change.
    fn set_aside(&mut self, step: &StepDown, id: &str, now: Hlc) -> Result<Changed, QueryError> {
        let all = nodes(&self.rows)?;
        let mut node = present(&all, &step.name)?.clone();
        let mut changed = Changed { answer: vec![step.name.clone()], ..Changed::default() };
        if !id.is_empty() && node.aside_by == id {
            return Ok(changed);
        }
        let fit = |other: &&Node| {
            other.row.name != step.name
                && other.is_voter()
                && other.row.noticed() == MemberState::Joined
        };
        if !all.values().any(|other| fit(&other)) {
            return Err(conflict(format!(
                "no other voter that takes part could be primary in place of {}",
                step.name
            ))
            .into());
        }
        node.row.aside_until_ns = now.ns.saturating_add(step.hold_ns);
        id.clone_into(&mut node.aside_by);
        changed.rows.push(node);
        Ok(changed)
    }
}

/// Whether a node may come in at `now`, an instant of log time: the rule that apply goes by, for a
/// gateway to ask of its own state first. Returns whether it is in already.
///
/// # Errors
/// `Removed` for one that was, `Denied` where the token does not allow it, `Conflict` where the name,
/// the key or the store is another's or the cluster is full, `Invalid` where the request makes no sense.
pub fn check_admission(view: &dyn View, ask: &AdmitNode, now: Hlc) -> Result<bool, QueryError> {
    crate::rules::member_check::check_admit(ask)?;
    admission(view, ask, now).map(|(_, is_in)| is_in)
}

/// Whether a node may come in: its row but for the raft id, and whether it is in already. One that was
/// removed hears that first: no token helps it.
fn admission(view: &dyn View, ask: &AdmitNode, now: Hlc) -> Result<(Node, bool), QueryError> {
    let proof = ask.token.as_ref().ok_or_else(no_token)?;
    let token = tokens::known(view, proof)?;
    let all = nodes(view)?;
    let name = &ask.name;
    let before = all.get(name);
    let same = |node: &&Node| {
        node.token[..] == proof.id[..]
            && node.row.fingerprint == ask.fingerprint
            && node.row.incarnation == ask.incarnation
    };
    if let Some(gone) = all.values().find(|node| node.lost(&ask.fingerprint, &ask.incarnation)) {
        let gone = &gone.row.name;
        let message = format!(
            "{gone} was removed from the cluster, and this key and store with it: join again with \
             an empty directory and another token"
        );
        return Err(Failure::new(ErrorCode::Removed, message).into());
    }
    if let Some(node) = before.filter(same) {
        return Ok((node.clone(), true));
    }
    token.usable(&proof.id, Role::Node, name, now)?;
    if before.is_some_and(|node| !node.is_removed()) {
        return Err(conflict(format!(
            "the name '{name}' is taken by another node: use another one, or remove that node first"
        ))
        .into());
    }
    require_nobodys(view, name)?;
    if let Some(other) = all.values().find(|node| node.had(&ask.fingerprint, &ask.incarnation)) {
        return Err(conflict(format!(
            "this key or this store is that of {}: join with an empty directory",
            other.row.name
        ))
        .into());
    }
    room_for(&all, 1)?;
    let mut node = successor(name, before)?;
    let full = room_for_a_voter(&all).is_err();
    let wants = if full { MemberWants::Learner.into() } else { ask.wants };
    node.token = Bytes::copy_from_slice(&proof.id);
    node.row = MemberRow {
        name: name.clone(),
        incarnation: ask.incarnation.clone(),
        address: ask.address.clone(),
        fingerprint: ask.fingerprint.clone(),
        priority: ask.priority.unwrap_or_else(|| default_priority(name)),
        wants,
        state: MemberState::Admitted.into(),
        since: now.to_bytes().to_vec(),
        ..MemberRow::default()
    };
    Ok((node, false))
}

/// A node under a name that was removed, or never used: what went before is not forgotten.
fn successor(name: &str, before: Option<&Node>) -> Result<Node, Failure> {
    let Some(before) = before else { return Ok(Node::new(MemberRow::default())) };
    if before.gone.len() + 1 >= NODE_STORES_MAX {
        return Err(conflict(format!(
            "the name '{name}' was given to {NODE_STORES_MAX} stores already: use another one"
        )));
    }
    let mut node = before.clone();
    node.gone.push(GoneStore {
        raft_id: before.row.raft_id,
        fingerprint: Bytes::copy_from_slice(&before.row.fingerprint),
        incarnation: Bytes::copy_from_slice(&before.row.incarnation),
        repaired: false,
    });
    assert!(node.gone.len() < NODE_STORES_MAX, "a name has a bounded number of stores");
    Ok(node)
}

/// Whether so many more nodes fit.
fn room_for(all: &BTreeMap<String, Node>, more: usize) -> Result<(), Failure> {
    let present = all.values().filter(|node| !node.is_removed()).count();
    if more > 0 && present + more > NODES_MAX {
        return Err(conflict(format!(
            "the cluster has {present} nodes; at most {NODES_MAX} are allowed"
        )));
    }
    if more > 0 && all.len() + more > NODE_NAMES_MAX {
        return Err(conflict(format!(
            "{NODE_NAMES_MAX} names of nodes were used: take the name of a removed one"
        )));
    }
    Ok(())
}

fn room_for_a_voter(all: &BTreeMap<String, Node>) -> Result<(), Failure> {
    let voters = all.values().filter(|node| node.is_voter()).count();
    if voters < VOTERS_MAX {
        return Ok(());
    }
    Err(conflict(format!(
        "the cluster has {voters} voters; at most {VOTERS_MAX} are allowed: demote one first"
    )))
}

const _: () = assert!(VOTERS_MAX <= NODES_MAX && NODES_MAX <= NODE_NAMES_MAX);
const _: () = assert!(VOTERS_MAX % 2 == 1, "one voter more would help nobody");

/// Whether nodes alone say this; everything else is an admin's to say.
fn is_of_nodes(op: &MemberOp) -> bool {
    match op {
        MemberOp::Init(_)
        | MemberOp::Admit(_)
        | MemberOp::Notice(_)
        | MemberOp::Lead(_)
        | MemberOp::Bind(_)
        | MemberOp::Move(_)
        | MemberOp::Readmit(_)
        | MemberOp::Repaired(_)
        | MemberOp::NewLineage(_) => true,
        MemberOp::Remove(_) | MemberOp::Set(_) | MemberOp::StepDown(_) | MemberOp::Recover(_) => {
            false
        }
    }
}
