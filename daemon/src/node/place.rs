//! Placement: where keys lie, what would move, who served how much.

use proto::wire::{Distribution, Plan, Planned, Route, Routed, Slots};
use proto::{ErrorCode, Failure};

use model::query;

use super::{Body, Deadline, Node, Principal};

/// The home of a client that pinned none; `None` before the first member is known.
pub(super) fn home_of(node: &Node, client: &str) -> Option<String> {
    let Body::Whole(core) = &node.inner.body else { return None };
    query::home_of(&core.store.snapshot().ok()?, &client.parse().ok()?).ok()?
}

impl Node {
    #[expect(clippy::unused_async, reason = "it will ask the primary")]
    pub(super) async fn route(
        &self,
        _principal: &Principal,
        _route: &Route,
        _deadline: Deadline,
    ) -> Result<Routed, Failure> {
        Err(Failure::new(ErrorCode::Invalid, "a request that this release does not know"))
    }

    #[expect(clippy::unused_async, reason = "it will ask the primary")]
    pub(super) async fn plan(
        &self,
        _principal: &Principal,
        _plan: &Plan,
        _deadline: Deadline,
    ) -> Result<Planned, Failure> {
        Err(Failure::new(ErrorCode::Invalid, "a request that this release does not know"))
    }

    #[expect(clippy::unused_async, reason = "it will ask the primary")]
    pub(super) async fn slots(
        &self,
        _principal: &Principal,
        _deadline: Deadline,
    ) -> Result<Slots, Failure> {
        Err(Failure::new(ErrorCode::Invalid, "a request that this release does not know"))
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
