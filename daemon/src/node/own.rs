//! Commands of the cluster's own that nodes ask of the primary: events.
//!
//! Not here: the queue that events wait in (`events`).

use model::{Caller, Command, CommandOp, Outcome};
use prost::Message as _;
use proto::peer::{NodeEvent, PeerOp};
use proto::wire::{Ack, Reply, Response};
use proto::{ErrorCode, Failure, Name};

use crate::raft::peer_address;

use super::{Core, DEADLINE, Deadline, Node};

impl Node {
    /// Brings an event of this node to the primary, once. An event that may have been stored is
    /// brought again with the same id.
    pub(crate) async fn bring_event(&self, event: NodeEvent) -> Result<Ack, Failure> {
        let core = self.core()?;
        let (own, primary) = {
            let view = core.engine.view();
            let view = view.borrow();
            let primary = view.primary_member();
            (view.is_primary(), primary.and_then(|(id, member)| peer_address(id, member)))
        };
        if own {
            return self.store_event(self.name(), event).await;
        }
        let primary = primary.filter(|primary| primary.name != self.inner.name);
        let nobody = || Failure::new(ErrorCode::NoQuorum, "there is no primary");
        let primary = primary.ok_or_else(nobody)?;
        let asked = self.ask_peer(&primary, PeerOp::Event(event), Deadline::within(DEADLINE));
        let answer = tokio::select! {
            answer = asked => answer?,
            () = self.deposed(core, &primary) => {
                return Err(Failure::new(ErrorCode::Unknown, "the primary changed"));
            }
        };
        let strange = || Failure::new(ErrorCode::Unknown, "the primary's answer is no ack");
        match Response::decode(answer).ok().and_then(|response| response.reply) {
            Some(Reply::Ack(ack)) => Ok(ack),
            Some(Reply::Failure(failure)) => Err(failure),
            _ => Err(strange()),
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
            _ => Err(Failure::new(ErrorCode::Internal, "an event came to something else")),
        }
    }

    /// Orders a command of `node`'s own on this primary.
    async fn order_own(
        &self,
        core: &Core,
        node: &Name,
        op: CommandOp,
        deadline: Deadline,
    ) -> Result<Outcome, Failure> {
        {
            let view = core.engine.view();
            let view = view.borrow();
            if !view.is_primary() {
                return Err(Failure::new(ErrorCode::NotPrimary, "this node is not the primary"));
            }
            if !view.is_followed() {
                return Err(Failure::new(ErrorCode::NoQuorum, "no majority follows this primary"));
            }
        }
        let command = Command { caller: Caller::node(node), gateway: node.to_string(), op };
        let proposed = core.proposer.propose(command, None);
        let late = || Failure::new(ErrorCode::Unknown, "the majority did not confirm it in time");
        tokio::time::timeout_at(deadline.at(), proposed).await.unwrap_or_else(|_| Err(late()))
    }
}
