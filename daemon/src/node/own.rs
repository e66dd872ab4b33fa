//! What nodes ask of the primary for themselves, not for a client: to store an event, to close an
//! instant. Commands of the cluster's own are ordered here.
//!
//! Not here: the queue that events wait in (`events`), when an instant is closed (`close`).

use model::{Caller, Command, CommandOp, Outcome};
use net::PeerAddr;
use prost::Message as _;
use proto::peer::{NodeEvent, PeerOp};
use proto::wire::{Ack, MemberChange, Members, Reply, Response};
use proto::{ErrorCode, Failure, Name};

use crate::raft::peer_address;

use super::{Core, DEADLINE, Deadline, Node};

/// Where the primary is.
pub(super) enum Primary {
    /// It is this node.
    Here,
    /// It is another one.
    There(PeerAddr),
}

impl Node {
    /// Brings an event of this node to the primary, once. An event that may have been stored is
    /// brought again with the same id.
    pub(crate) async fn bring_event(&self, event: NodeEvent) -> Result<Ack, Failure> {
        let core = self.core()?;
        match self.primary(core)? {
            Primary::Here => self.store_event(self.name(), event).await,
            Primary::There(primary) => {
                let deadline = Deadline::within(DEADLINE);
                match self.ask_primary(core, &primary, PeerOp::Event(event), deadline).await? {
                    Reply::Ack(ack) => Ok(ack),
                    _ => Err(Failure::new(ErrorCode::Unknown, "the primary's answer is no ack")),
                }
            }
        }
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
        match self.order_own(self.core()?, node, op, Deadline::within(DEADLINE)).await? {
            Outcome::Sent(ack) => Ok(ack),
            Outcome::Refused(failure) => Err(failure),
            _ => Err(Failure::new(ErrorCode::Internal, "an event had an unexpected outcome")),
        }
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
        match self.order_own(self.core()?, node, op, deadline).await? {
            Outcome::Members(members) => Ok(members),
            Outcome::Refused(failure) => Err(failure),
            _ => Err(Failure::new(
                ErrorCode::Internal,
                "a change of members had an unexpected outcome",
            )),
        }
    }

    /// Brings a change of members of this node's own to the primary, once.
    pub(crate) async fn bring_member(
        &self,
        change: MemberChange,
        deadline: Deadline,
    ) -> Result<Members, Failure> {
        let core = self.core()?;
        match self.primary(core)? {
            Primary::Here => self.own_member(self.name(), change, deadline).await,
            Primary::There(primary) => {
                let asked = self.ask_primary(core, &primary, PeerOp::Member(change), deadline);
                match asked.await? {
                    Reply::Members(members) => Ok(members),
                    _ => Err(Failure::new(ErrorCode::Unknown, "the primary's answer is no member")),
                }
            }
        }
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

    /// Where the primary is, if one is known.
    pub(super) fn primary(&self, core: &Core) -> Result<Primary, Failure> {
        let view = core.engine.view();
        let view = view.borrow();
        if view.is_primary() {
            return Ok(Primary::Here);
        }
        let primary = view.primary_member();
        let primary = primary.and_then(|(id, member)| peer_address(id, member));
        let primary = primary.filter(|primary| primary.name != self.inner.name);
        let nobody = || Failure::new(ErrorCode::NoQuorum, "there is no primary");
        primary.map(Primary::There).ok_or_else(nobody)
    }

    /// One question to the primary that is answered with a `Response`. Ends early when the primary
    /// is one no more.
    pub(super) async fn ask_primary(
        &self,
        core: &Core,
        primary: &PeerAddr,
        op: PeerOp,
        deadline: Deadline,
    ) -> Result<Reply, Failure> {
        let unknown = |what: &dyn std::fmt::Display| Failure::new(ErrorCode::Unknown, what);
        let answer = tokio::select! {
            answer = self.ask_peer(primary, op, deadline) => answer?,
            () = self.deposed(core, primary) => {
                return Err(unknown(&format!("{} is no longer the primary", primary.name)));
            }
        };
        let response = Response::decode(answer).map_err(|error| unknown(&error))?;
        match response.reply {
            Some(Reply::Failure(failure)) => Err(failure),
            Some(reply) => Ok(reply),
            None => Err(unknown(&"the primary sent an empty answer")),
        }
    }
}
