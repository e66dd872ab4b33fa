//! Placement: where keys lie, what would move, who served how much. Every answer holds what was
//! acknowledged before it was asked for.
//!
//! Not here: the tables and their rules (`model::query`).

use std::collections::{BTreeMap, BTreeSet};

use model::query;
use proto::Failure;
use proto::member::{MemberRow, MemberState, ring_order};
use proto::overview::DistributionRow;
use proto::wire::{Distribution, Plan, Planned, Route, Routed, Slots};

use crate::peer_monitor::PeerStatus;
use crate::reader::{answered, store_failure};

use super::{Body, Deadline, Node, Principal};

/// The home of a client that pinned none; `None` before the first member is known.
pub(super) fn home_of(node: &Node, client: &str) -> Option<String> {
    let Body::Whole(core) = &node.inner.body else { return None };
    query::home_of(&core.store.snapshot().ok()?, &client.parse().ok()?).ok()?
}

impl Node {
    /// Where a key lies.
    pub(super) async fn route(
        &self,
        principal: &Principal,
        route: &Route,
        deadline: Deadline,
    ) -> Result<Routed, Failure> {
        let core = self.core()?;
        self.fresh(core, principal, false, deadline).await?;
        let view = core.store.snapshot().map_err(store_failure)?;
        let routed = answered(&view, query::route(&view, &route.key))?;
        drop(view);
        let engine = core.engine.view().borrow().clone();
        let primary = engine.primary_member().map(|(_, member)| member.name.clone());
        // Version 1 has one shard, and every node holds it.
        let mut replicas: Vec<String> =
            self.member_list().into_iter().map(|(_, member)| member.name).collect();
        replicas.sort_by(|a, b| ring_order(a, b));
        Ok(Routed { primary: primary.unwrap_or_default(), replicas, ..routed })
    }

    /// What would change hands.
    pub(super) async fn plan(
        &self,
        principal: &Principal,
        plan: &Plan,
        deadline: Deadline,
    ) -> Result<Planned, Failure> {
        let core = self.core()?;
        self.fresh(core, principal, false, deadline).await?;
        let view = core.store.snapshot().map_err(store_failure)?;
        answered(&view, query::plan(&view, plan))
    }

    /// The homes of all slots.
    pub(super) async fn slots(
        &self,
        principal: &Principal,
        deadline: Deadline,
    ) -> Result<Slots, Failure> {
        let core = self.core()?;
        self.fresh(core, principal, false, deadline).await?;
        let view = core.store.snapshot().map_err(store_failure)?;
        answered(&view, query::slots(&view))
    }

    /// Who served how much: messages as the state counts them, requests as the nodes do.
    pub(super) async fn distribution(
        &self,
        principal: &Principal,
        deadline: Deadline,
    ) -> Result<Distribution, Failure> {
        let core = self.core()?;
        self.fresh(core, principal, false, deadline).await?;
        let (counts, slots, members) = {
            let view = core.store.snapshot().map_err(store_failure)?;
            let counts = answered(&view, query::gateway_counts(&view))?;
            let slots = answered(&view, query::slots(&view))?;
            (counts, slots, answered(&view, query::members(&view))?)
        };
        let removed = |row: &MemberRow| row.noticed() == MemberState::Removed;
        let present = members.members.iter().filter(|row| !removed(row)).map(|row| &*row.name);
        let rows = distribution_rows(present.collect(), counts, &slots);
        let rows = rows.into_iter().map(|row| {
            let requests = self.requests_of(&row.node);
            DistributionRow { requests, ..row }
        });
        Ok(Distribution { rows: rows.collect() })
    }

    /// Requests of clients that a node has answered; `None` if it is not heard.
    fn requests_of(&self, node: &str) -> Option<u64> {
        if node == self.inner.name.as_str() {
            return Some(self.requests_served());
        }
        let heard = self.inner.members.heard(node).filter(PeerStatus::is_up)?;
        Some(heard.info.requests)
    }
}

/// The rows but for the requests: the nodes there are, in the order of the ring, then those that
/// are gone and whose messages are not.
fn distribution_rows(
    present: BTreeSet<&str>,
    counts: Vec<(String, u64)>,
    slots: &Slots,
) -> Vec<DistributionRow> {
    let mut rows: BTreeMap<String, DistributionRow> = BTreeMap::new();
    let empty = |node: &str| DistributionRow { node: node.to_owned(), ..Default::default() };
    for name in &present {
        rows.insert((*name).to_owned(), empty(name));
    }
    for (name, messages) in counts {
        rows.entry(name.clone()).or_insert_with(|| empty(&name)).messages = messages;
    }
    for home in &slots.homes {
        let name = usize::try_from(*home).ok().and_then(|home| slots.nodes.get(home));
        if let Some(row) = name.and_then(|name| rows.get_mut(name)) {
            row.slots += 1;
        }
    }
    let mut rows: Vec<_> = rows.into_values().collect();
    let gone = |row: &DistributionRow| !present.contains(row.node.as_str());
    rows.sort_by(|a, b| gone(a).cmp(&gone(b)).then_with(|| ring_order(&a.node, &b.node)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with the rows in the order of their names alone, and with names ordered as text.
    #[test]
    fn nodes_that_are_gone_come_last() {
        let counts = [("n1", 4), ("n10", 3), ("n3", 2)].map(|(name, count)| (name.into(), count));
        let nodes = vec!["n2".to_owned(), "n10".to_owned()];
        let slots = Slots { epoch: 1, nodes, homes: vec![0, 1, 1] };
        let rows = distribution_rows(BTreeSet::from(["n10", "n2", "n3"]), counts.into(), &slots);
        let rows: Vec<_> = rows.iter().map(|r| (&*r.node, r.messages, r.slots)).collect();
        assert_eq!(rows, [("n2", 0, 1), ("n3", 2, 0), ("n10", 3, 2), ("n1", 4, 0)]);
    }
}
