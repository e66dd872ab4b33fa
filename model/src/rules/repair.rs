//! A node that cannot prove its store is taken back under its own name and key: the old store ends, with
//! its raft id, and a new one begins. Nothing that the old one ever voted or acknowledged counts for the
//! new one, which gets everything from the others before it has a vote.
//!
//! Invariants:
//! * one repair at a time, so that never more than one of the voters is without its data;
//! * none that would leave less than a majority of the other voters taking part: they hold everything
//!   that was acknowledged;
//! * none of a node that takes part: the store that would end may be the last that holds something.
//!
//! Not here: who proves that it is the node (`daemon::node::repair`), when it has a vote again (the
//! reconciler).

use std::collections::BTreeMap;

use bytes::Bytes;
use clock::Hlc;
use planted::Bug;
use proto::Failure;
use proto::event::{MEMBER, REPAIR};
use proto::limits::{NODE_STORES_MAX, RAFT_ID_JOINED_MIN, REPAIRS_MAX, REPAIRS_WITHIN_NS};
use proto::member::{MemberState, ReadmitNode, RecoverNode, Repair, RepairedNode};
use proto::repair::RepairWait;

use crate::rows::error::{QueryError, conflict, denied};
use crate::rows::member_rows::{GoneStore, Node, can_do_without, nodes, present};
use crate::rows::view::View;
use crate::rules::machine::Machine;
use crate::rules::member_check::check_readmit;
use crate::rules::members::Changed;
use crate::rules::notice::about;

/// What becomes of a node that asks to be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readmission {
    /// It may come back.
    May,
    /// It is back already, with this very store.
    In,
    /// Not now; what it waits for, and the sentence for a person.
    Not(RepairWait, String),
}

/// Whether a node may be taken back at `now`, an instant of log time: the rule that apply goes by.
///
/// # Errors
/// `NotFound` for one that is no member, `Denied` for another key, `Conflict` for a store that is not the
/// present one, `Invalid` where the request makes no sense.
pub fn check_readmission(
    view: &dyn View,
    ask: &ReadmitNode,
    now: Hlc,
) -> Result<Readmission, QueryError> {
    check_readmit(ask)?;
    readmission(&nodes(view)?, ask, now)
}

fn readmission(
    all: &BTreeMap<String, Node>,
    ask: &ReadmitNode,
    now: Hlc,
) -> Result<Readmission, QueryError> {
    let node = present(all, &ask.name)?;
    let (name, row) = (&ask.name, &node.row);
    if row.fingerprint != ask.fingerprint {
        return Err(denied(format!("the key of {name} is not the one that was admitted")).into());
    }
    if row.repair.is_some() && row.incarnation == ask.incarnation {
        return Ok(Readmission::In);
    }
    if row.raft_id != ask.raft_id {
        return Err(conflict(format!("{name} has another store by now")).into());
    }
    if all.values().any(|node| node.had_store(&ask.incarnation)) {
        return Err(conflict("this store is, or was, that of a node").into());
    }
    let not = |wait, text: String| Ok(Readmission::Not(wait, text));
    match row.noticed() {
        MemberState::Joined | MemberState::Suspect => {
            let text = format!("{name} was heard taking part a moment ago");
            return not(RepairWait::Silence, text);
        }
        MemberState::Admitted | MemberState::Left | MemberState::Removed => {}
    }
    if !ask.permitted && !row.may_return {
        let text = format!("rejoin = true in its file, or 'logctl node recover {name}'");
        return not(RepairWait::Permission, text);
    }
    let other = |other: &&Node| {
        other.row.name != *name && !other.is_removed() && other.row.repair.is_some()
    };
    if let Some(other) = all.values().find(other)
        && !planted::is(Bug::RepairsAtOnce)
    {
        let text = format!("{} is being repaired, one node at a time", other.row.name);
        return not(RepairWait::Turn, text);
    }
    if let Err(failure) = can_do_without(all, &[name]) {
        return not(RepairWait::Majority, failure.message);
    }
    if is_counted(node)
        && !row.may_return
        && let Some(until_ns) = slowed_until(node, now)
    {
        let minutes = until_ns.saturating_sub(now.ns).div_ceil(60_000_000_000);
        let text = format!(
            "it was repaired {REPAIRS_MAX} times within an hour, so its disk is in doubt: in \
             {minutes} min, or after 'logctl node recover {name}'"
        );
        return not(RepairWait::SlowedDown, text);
    }
    Ok(Readmission::May)
}

/// Whether taking it back is another repair: one that has begun and never got its store is not.
fn is_counted(node: &Node) -> bool {
    node.row.repair.is_none() || node.row.noticed() != MemberState::Admitted
}

/// Until when a node has to wait that was repaired too often.
fn slowed_until(node: &Node, now: Hlc) -> Option<u64> {
    let oldest = node.row.repairs_ns.iter().rev().nth(REPAIRS_MAX - 1)?;
    let until = oldest.saturating_add(REPAIRS_WITHIN_NS);
    (until > now.ns).then_some(until)
}

impl Machine<'_> {
    /// Ends a node's store and begins another one.
    pub(crate) fn readmit(&mut self, ask: &ReadmitNode, now: Hlc) -> Result<Changed, QueryError> {
        let all = nodes(&self.rows)?;
        let answer = vec![ask.name.clone()];
        match readmission(&all, ask, now)? {
            Readmission::In => return Ok(Changed { answer, ..Changed::default() }),
            Readmission::Not(_, text) => return Err(conflict(text).into()),
            Readmission::May => {}
        }
        let mut node = present(&all, &ask.name)?.clone();
        put_away(&mut node)?;
        let id = (self.state.last_raft_id + 1).max(RAFT_ID_JOINED_MIN);
        assert!(id > node.row.raft_id, "raft ids only grow");
        assert!(id > self.state.last_raft_id, "an id is given once");
        self.state.last_raft_id = id;
        if is_counted(&node) {
            node.row.repairs_ns.push(now.ns);
            let surplus = node.row.repairs_ns.len().saturating_sub(REPAIRS_MAX);
            node.row.repairs_ns.drain(..surplus);
            assert!(node.row.repairs_ns.len() <= REPAIRS_MAX, "only the last repairs count");
        }
        let since = now.to_bytes().to_vec();
        if !planted::is(Bug::RepairKeepsId) {
            node.row.raft_id = id;
        }
        node.row.incarnation.clone_from(&ask.incarnation);
        node.row.nonce = Vec::new();
        node.row.state = MemberState::Admitted.into();
        node.row.reason = String::new();
        node.row.may_return = false;
        node.row.repair = Some(Repair { why: ask.why.clone(), since: since.clone() });
        node.row.since = since;
        let text = format!("repairing {} ({})", ask.name, ask.why);
        let event = about(REPAIR, text, &node.row).with("state", "repairing");
        let event = event.with("reason", &ask.why);
        Ok(Changed { rows: vec![node], events: vec![event], answer, ..Changed::default() })
    }

    /// Ends a repair. What has ended already changes nothing.
    pub(crate) fn end_repair(&mut self, done: &RepairedNode) -> Result<Changed, QueryError> {
        let all = nodes(&self.rows)?;
        let mut node = present(&all, &done.name)?.clone();
        let mut changed = Changed { answer: vec![done.name.clone()], ..Changed::default() };
        if node.row.raft_id != done.raft_id {
            let name = &done.name;
            return Err(conflict(format!("{name} has another store by now")).into());
        }
        if node.row.noticed() != MemberState::Joined || node.row.repair.take().is_none() {
            return Ok(changed);
        }
        let text = format!("repaired {} (incarnation {})", done.name, node.row.starts);
        changed.events.push(about(REPAIR, text, &node.row).with("state", "repaired"));
        changed.rows.push(node);
        Ok(changed)
    }

    /// Lets a node come back, once. What is so already changes nothing.
    pub(crate) fn let_return(&mut self, recover: &RecoverNode) -> Result<Changed, QueryError> {
        let all = nodes(&self.rows)?;
        let mut node = present(&all, &recover.name)?.clone();
        let mut changed = Changed { answer: vec![recover.name.clone()], ..Changed::default() };
        if node.row.may_return {
            return Ok(changed);
        }
        if node.row.noticed() == MemberState::Joined {
            let name = &recover.name;
            return Err(conflict(format!("{name} takes part: there is nothing to recover")).into());
        }
        node.row.may_return = true;
        let text = format!("member {}: may come back with a new store", recover.name);
        let event = about(MEMBER, text, &node.row).with("change", "may return");
        changed.events.push(event);
        changed.rows.push(node);
        Ok(changed)
    }
}

/// Puts a node's present store to those that it had, as one that a later store takes the place of. Of stores that ended by a repair only the last are
/// remembered: their key is known, and every smaller raft id of it is over.
pub(crate) fn put_away(node: &mut Node) -> Result<(), Failure> {
    let most = node.gone.len().max(NODE_STORES_MAX - 1);
    if node.gone.len() + 1 >= NODE_STORES_MAX {
        let Some(oldest) = node.gone.iter().position(|gone| gone.repaired) else {
            let name = &node.row.name;
            return Err(conflict(format!(
                "the name '{name}' was given to {NODE_STORES_MAX} stores already"
            )));
        };
        node.gone.remove(oldest);
    }
    node.gone.push(GoneStore {
        raft_id: node.row.raft_id,
        fingerprint: Bytes::copy_from_slice(&node.row.fingerprint),
        incarnation: Bytes::copy_from_slice(&node.row.incarnation),
        repaired: true,
    });
    assert!(node.gone.len() <= most, "a name has a bounded number of stores");
    Ok(())
}

const _: () = assert!(REPAIRS_MAX < NODE_STORES_MAX, "what slows repairs down is remembered");
