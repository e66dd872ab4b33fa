//! What nodes ask of the primary for themselves, not for a client: to store an event, to close an
//! instant. Commands of the cluster's own are ordered here.
//!
//! Not here: the queue that events wait in (`events`), when an instant is closed (`close`).

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use model::{Caller, Command, CommandOp, Outcome};
use proto::admin::Admins;
use proto::peer::{NodeEvent, PeerOp};
use proto::wire::{Ack, MemberChange, Members, Reply, Response};
use proto::{ErrorCode, Failure, Name};

use crate::raft::EngineState;
use crate::reconciler::Orders;

use super::{Core, DEADLINE, Deadline, Node};

impl Orders for Node {
    fn name(&self) -> &Name {
        Self::name(self)
    }

    fn is_followed(&self, view: &EngineState) -> bool {
        Self::is_followed(self, view)
    }

    fn is_leaving(&self) -> bool {
        Self::is_leaving(self)
    }

    fn has_admins(&self) -> bool {
        self.knows_admins()
    }

    fn order_member(
        &self,
        change: MemberChange,
        within: Duration,
    ) -> BoxFuture<'_, Result<(), Failure>> {
        let ordered = self.own_member(self.name(), change, Deadline::within(within));
        async { ordered.await.map(drop) }.boxed()
    }

    fn order_first_admins(
        &self,
        first: Admins,
        within: Duration,
    ) -> BoxFuture<'_, Result<(), Failure>> {
        self.enter_first_admins(first, Deadline::within(within)).boxed()
    }
}

impl Node {
    /// Brings an event of this node to the primary, once. An event that may have been stored is
    /// brought again with the same id.
    pub(crate) async fn bring_event(&self, event: NodeEvent) -> Result<Ack, Failure> {
        let here = self.store_event(self.name(), event.clone());
        let ack = |reply| if let Reply::Ack(ack) = reply { Some(ack) } else { None };
        self.bring(PeerOp::Event(event), here, ack, Deadline::within(DEADLINE)).await
    }

    /// Serves a peer's event.
    pub(crate) async fn peer_event(&self, from: &Name, event: NodeEvent) -> Response {
        let stored = self.store_event(from, event).await;
        self.response(from, stored.map_or_else(Reply::Failure, Reply::Ack))
    }

    /// Orders an event of `node` on this primary.
    async fn store_event(&self, node: &Name, event: NodeEvent) -> Result<Ack, Failure> {
        let NodeEvent { id, headers, text } = event;
        let op = CommandOp::Event { id, headers, body: text.into() };
        model::check(&op)?;
        if self.is_disk_full() {
            let message = format!("the data disk of {} has no room for events", self.inner.name);
            return Err(Failure::new(ErrorCode::DiskFull, message));
        }
        let outcome = self.order_own(self.core()?, node, op, Deadline::within(DEADLINE)).await?;
        if let Outcome::Sent(ack) = outcome { Ok(ack) } else { Err(instead(outcome)) }
    }

    /// Orders a change of members of `node`'s own on this primary.
    pub(crate) async fn own_member(
        &self,
        node: &Name,
        change: MemberChange,
        deadline: Deadline,
    ) -> Result<Members, Failure> {
        let op = CommandOp::Member(change);
        model::check(&op)?;
        let outcome = self.order_own(self.core()?, node, op, deadline).await?;
        if let Outcome::Members(members) = outcome { Ok(members) } else { Err(instead(outcome)) }
    }

    /// Brings a change of members of this node's own to the primary, once.
    pub(crate) async fn bring_member(
        &self,
        change: MemberChange,
        deadline: Deadline,
    ) -> Result<Members, Failure> {
        let here = self.own_member(self.name(), change.clone(), deadline);
        let members = |reply| if let Reply::Members(rows) = reply { Some(rows) } else { None };
        self.bring(PeerOp::Member(change), here, members, deadline).await
    }

    /// Serves a peer's change of members.
    pub(crate) async fn peer_member(&self, from: &Name, change: MemberChange) -> Response {
        let done = self.own_member(from, change, Deadline::within(DEADLINE)).await;
        self.response(from, done.map_or_else(Reply::Failure, Reply::Members))
    }

    /// Orders a command of `node`'s own on this primary.
    pub(super) async fn order_own(
        &self,
        core: &Core,
        node: &Name,
        op: CommandOp,
        deadline: Deadline,
    ) -> Result<Outcome, Failure> {
        if self.is_leaving() {
            return Err(Failure::new(ErrorCode::NotPrimary, "the node is stopping"));
        }
        {
            let view = core.engine.view();
            let view = view.borrow();
            if !view.is_primary() {
                return Err(Failure::new(ErrorCode::NotPrimary, "this node is not the primary"));
            }
            if !self.is_followed(&view) {
                return Err(Failure::new(ErrorCode::NoQuorum, "no majority follows this primary"));
            }
        }
        let command = Command { caller: Caller::node(node), gateway: node.to_string(), op };
        let proposed = core.proposer.propose(command, None);
        let late = || Failure::new(ErrorCode::Unknown, "the majority did not confirm it in time");
        tokio::time::timeout_at(deadline.at(), proposed).await.unwrap_or_else(|_| Err(late()))
    }
}

/// What a command came to that did not have the outcome of its kind: it was refused, or this program
/// is wrong.
pub(super) fn instead(outcome: Outcome) -> Failure {
    let kind = match outcome {
        Outcome::Refused(failure) => return failure,
        Outcome::Sent(_) => "sent",
        Outcome::Deleted(_) => "deleted",
        Outcome::Registered { .. } => "registered",
        Outcome::CursorSet => "cursor set",
        Outcome::Expired { .. } => "expired",
        Outcome::Configured(_) => "configured",
        Outcome::Members(_) => "members",
        Outcome::Tokens(_) => "tokens",
        Outcome::Groups(_) => "groups",
        Outcome::Kv(_) => "kv",
        Outcome::Admins(_) => "admins",
        Outcome::Done => "done",
    };
    Failure::new(ErrorCode::Internal, format!("a command had an outcome of another kind: {kind}"))
}
