//! Placement: where keys lie, what would move, who served how much. Every answer holds what was
//! acknowledged before it was asked for.
//!
//! Not here: the tables and their rules (`model::query`).

use model::{QueryError, StateError, query};
use proto::member::ring_order;
use proto::wire::{Distribution, Plan, Planned, Route, Routed, Slots};
use proto::{ErrorCode, Failure};

use crate::reader::store_failure;

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
        let routed = query::route(&core.store.snapshot().map_err(store_failure)?, &route.key);
        let engine = core.engine.view().borrow().clone();
        let primary = engine.primary_member().map(|(_, member)| member.name.clone());
        // Version 1 has one shard, and every node holds it.
        let mut replicas: Vec<String> =
            self.member_list().into_iter().map(|(_, member)| member.name).collect();
        replicas.sort_by(|a, b| ring_order(a, b));
        Ok(Routed { primary: primary.unwrap_or_default(), replicas, ..routed.map_err(unreadable)? })
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
        query::plan(&view, plan).map_err(QueryError::into_failure)
    }

    /// The homes of all slots.
    pub(super) async fn slots(
        &self,
        principal: &Principal,
        deadline: Deadline,
    ) -> Result<Slots, Failure> {
        let core = self.core()?;
        self.fresh(core, principal, false, deadline).await?;
        query::slots(&core.store.snapshot().map_err(store_failure)?).map_err(unreadable)
    }

    #[expect(clippy::unused_async, reason = "it will ask the primary")]
    pub(super) async fn distribution(
        &self,
        _principal: &Principal,
        _deadline: Deadline,
    ) -> Result<Distribution, Failure> {
        Err(Failure::new(ErrorCode::Invalid, "a request that this release does not know"))
    }
}

fn unreadable(error: StateError) -> Failure {
    Failure::new(ErrorCode::Integrity, error)
}
