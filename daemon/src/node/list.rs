//! The live list: every node of the cluster, from the replicated table, with what this node hears of
//! it.
//!
//! Who serves clients, and which version of the list that is, comes from the state alone, so it is the
//! same on every node; whether a node answers is what this one sees at the moment.
//!
//! Not here: how the table changes (`model::members`), who hears of a change (`watching`).

use std::collections::BTreeMap;

use net::PeerAddr;
use proto::member::{MemberRow, MemberState, NodeRole, ring_order};
use proto::peer::NodeInfo;
use proto::wire::{Members, NodeRow, Nodes};

use crate::raft::{Handle, Member, peer_address};
use crate::reconciler;

use super::status::error_bound_us;
use super::{Body, Node};

/// What the row of a node is made of.
struct Known<'a> {
    name: &'a str,
    address: &'a str,
    /// Its row in the table; `None` before the first primary has entered it, and on a node that
    /// takes no part.
    row: Option<&'a MemberRow>,
    voter: bool,
}

impl Node {
    /// Members by raft id.
    pub(super) fn member_list(&self) -> Vec<(u64, Member)> {
        match &self.inner.body {
            Body::Whole(core) => {
                let view = core.engine.view();
                let view = view.borrow();
                let mut list: BTreeMap<u64, Member> =
                    view.members.iter().map(|(id, member)| (*id, member.clone())).collect();
                if !list.contains_key(&view.id) {
                    // A node that joined learns its log from the beginning: what that says of the
                    // members may be long past, and it must let in who feeds it.
                    for (id, member) in &core.noted {
                        list.entry(*id).or_insert_with(|| member.clone());
                    }
                }
                list.into_iter().collect()
            }
            Body::Repairing(repairing) => repairing.known.lock().clone(),
        }
    }

    /// The other members as the link addresses them. Where this node has noted some beside its key that are
    /// newer than all that its store knows of, it may have been set back to a time before they came: these are
    /// asked, for only they know.
    pub(crate) fn peers(&self) -> Vec<PeerAddr> {
        let mut list = self.member_list();
        if let Body::Whole(core) = &self.inner.body {
            for (id, noted) in core.noted.iter().filter(|(id, _)| self.inner.trust.is_news(*id)) {
                list.retain(|(_, member)| member.name != noted.name);
                list.push((*id, noted.clone()));
            }
        }
        let peers = list.iter().filter_map(|(id, member)| peer_address(*id, member));
        peers.filter(|peer| peer.name != self.inner.name).collect()
    }

    pub(super) fn is_member(&self, name: &str) -> bool {
        self.member_list().iter().any(|(_, member)| member.name == name)
    }

    /// Version of the live list; 0 if this node has none of its own.
    pub(super) fn members_epoch(&self) -> u64 {
        self.engine().map_or(0, |engine| *Handle::members_epoch(engine).borrow())
    }

    /// The live list.
    pub(crate) fn nodes(&self) -> Nodes {
        let table = self.table();
        let cluster = self.inner.identity.cluster.to_string();
        Nodes { cluster, epoch: table.epoch, nodes: self.rows_of(&table) }
    }

    /// The nodes as they are listed.
    pub(super) fn rows(&self) -> Vec<NodeRow> {
        self.rows_of(&self.table())
    }

    pub(super) fn table(&self) -> Members {
        let Body::Whole(core) = &self.inner.body else { return Members::default() };
        reconciler::rows(&core.store).unwrap_or_else(|error| {
            // The engine ends the node for it; until then the list is the engine's.
            tracing::error!(%error, "the table of nodes cannot be read");
            Members::default()
        })
    }

    pub(super) fn rows_of(&self, table: &Members) -> Vec<NodeRow> {
        let voters = self.engine().map(|engine| engine.view().borrow().voters.clone());
        let engine = self.member_list();
        let mut known: BTreeMap<&str, Known<'_>> = BTreeMap::new();
        for (id, member) in &engine {
            let (name, address) = (member.name.as_str(), member.address.as_str());
            let voter = voters.as_ref().is_none_or(|voters| voters.contains(id));
            known.insert(name, Known { name, address, row: None, voter });
        }
        for row in &table.members {
            if row.noticed() == MemberState::Removed {
                known.remove(row.name.as_str());
                continue;
            }
            let (name, address) = (row.name.as_str(), row.address.as_str());
            // A store that was replaced votes no more, and the new one does not yet.
            let voter = voters.as_ref().is_some_and(|voters| voters.contains(&row.raft_id));
            known.insert(name, Known { name, address, row: Some(row), voter });
        }
        let mut rows: Vec<_> = known.values().map(|known| self.row(known)).collect();
        let front = rows.iter().filter(|row| row.up).map(|row| row.applied).max().unwrap_or(0);
        for row in &mut rows {
            // What is known of the others is a moment old; a primary is never behind them.
            let behind = front.saturating_sub(row.applied);
            row.lag = if row.node_role() == NodeRole::Primary { 0 } else { behind };
        }
        rows.sort_by(|a, b| ring_order(&a.name, &b.name));
        rows
    }

    fn row(&self, known: &Known<'_>) -> NodeRow {
        if known.name == self.inner.name.as_str() {
            return row_of(&self.info(), known, true, 0);
        }
        match self.inner.members.heard(known.name) {
            Some(heard) => {
                let up = self.sees_up(&heard);
                let mut row = row_of(&heard.info, known, up, heard.rtt_us());
                if !up {
                    // What it was is no news of what it is.
                    NodeRole::Unknown.as_str().clone_into(&mut row.role);
                }
                row
            }
            None => {
                let role = NodeRole::Unknown.as_str().to_owned();
                let silent = NodeInfo { role, ..NodeInfo::default() };
                row_of(&silent, known, false, 0)
            }
        }
    }
}

fn row_of(info: &NodeInfo, known: &Known<'_>, up: bool, rtt_us: u64) -> NodeRow {
    let clock = info.clock.clone().unwrap_or_default();
    let row = known.row;
    NodeRow {
        name: known.name.to_owned(),
        role: info.role.clone(),
        address: known.address.to_owned(),
        up,
        applied: info.applied,
        lag: 0,
        version: info.version.clone(),
        clock_state: clock.state.clone(),
        error_bound_us: error_bound_us(&clock),
        term: info.term,
        problems: info.problems.clone(),
        rtt_us,
        state: row.map(|row| row.noticed().as_str().to_owned()).unwrap_or_default(),
        reason: row.map(|row| row.reason.clone()).unwrap_or_default(),
        voter: known.voter,
        priority: row.map_or(0, |row| row.priority),
        incarnation: row.map_or(0, |row| row.starts).max(info.starts),
        drained: row.is_some_and(|row| row.drained),
        // Before the first primary has entered it, a member serves as it did ever since.
        serves: row.is_none_or(MemberRow::serves),
        not_after_unix_s: info.not_after_unix_s,
        not_before_unix_s: info.not_before_unix_s,
        signs: info.signs,
        scrub: info.scrub,
        stores_aside: info.stores_aside,
        aside_bytes: info.aside_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with `serves` taken from whether the node answers.
    #[test]
    fn who_serves_is_the_tables_word_and_who_is_up_this_nodes() {
        let member = |state: MemberState, drained| MemberRow {
            name: "n4".to_owned(),
            state: state.into(),
            starts: 3,
            priority: 7,
            drained,
            ..MemberRow::default()
        };
        let info = NodeInfo { starts: 4, role: "learner".to_owned(), ..NodeInfo::default() };
        for (state, drained, serves) in [
            (MemberState::Joined, false, true),
            (MemberState::Suspect, false, true),
            (MemberState::Joined, true, false),
            (MemberState::Admitted, false, false),
            (MemberState::Left, false, false),
        ] {
            let member = member(state, drained);
            for up in [false, true] {
                let known = Known { name: "n4", address: "h:1", row: Some(&member), voter: false };
                let row = row_of(&info, &known, up, 9);
                assert_eq!((row.serves, row.up, row.drained), (serves, up, drained), "{state:?}");
                assert_eq!(
                    (row.state.as_str(), row.incarnation, row.priority),
                    (state.as_str(), 4, 7)
                );
            }
        }
        let known = Known { name: "n4", address: "h:1", row: None, voter: true };
        let row = row_of(&info, &known, true, 0);
        assert!(row.serves && row.voter && row.state.is_empty());
    }
}
