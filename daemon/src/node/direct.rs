//! Sends that go to the proposer as they come, many at once: no task, no timer and no channel for each.
//!
//! That is for the common case: a client's messages at the primary. What may have to wait for something
//! else than the log, or is nothing to be ordered here, is left to `write`; so is what the log did not
//! take, with what is known of it.

use std::sync::Arc;

use bytes::Bytes;
use clock::Hlc;
use model::{Caller, Command, CommandOp, Outcome};
use net::{Flush, Late, Numbered, Ticket, decode_numbered};
use proto::wire::{Op, Reply, Send};
use proto::{ErrorCode, Executed, Failure, Role};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::queue::{Answer, unknown};

use super::primary::{GaveUp, primary_may_change_that};
use super::write::token_of;
use super::{Core, Deadline, Node, Principal};

/// One client at this node.
pub(crate) struct Direct {
    node: Node,
    principal: Principal,
    caller: Caller,
    /// Requests in flight, which a node that stops waits for.
    requests: TaskTracker,
    runtime: Handle,
}

/// A send that is under way.
struct UnderWay {
    of: Arc<Direct>,
    frame: Bytes,
    ticket: Ticket,
    deadline: Deadline,
    _tracked: TaskTrackerToken,
}

impl Direct {
    /// To be called on a runtime.
    pub(crate) fn new(node: Node, principal: Principal, requests: TaskTracker) -> Arc<Self> {
        let (caller, runtime) = (principal.caller(), Handle::current());
        Arc::new(Self { node, principal, caller, requests, runtime })
    }

    /// Orders what can be ordered at once. Returns the rest.
    pub(crate) fn order(self: &Arc<Self>, batch: Vec<Numbered>) -> Vec<Numbered> {
        let Some(core) = self.primary() else { return batch };
        let (mut direct, mut rest, mut seen) = (Vec::with_capacity(batch.len()), Vec::new(), None);
        for numbered in batch {
            let waits = matches!(&numbered.request.op, Some(Op::Send(send)) if !send.commit_wait);
            match token_of(&numbered.request) {
                Ok(token) if waits => {
                    seen = seen.max(token);
                    direct.push(numbered);
                }
                Ok(_) | Err(_) => rest.push(numbered),
            }
        }
        if seen.is_some_and(|seen: Hlc| self.node.node_clock().admit(seen).is_err()) {
            // One that has to wait for its stamp is found one by one.
            rest.append(&mut direct);
        }
        self.node.count_requests(direct.len());
        let proposals = direct.into_iter().filter_map(|numbered| self.propose(numbered));
        core.proposer.propose_all(proposals.collect());
        rest
    }

    /// Answers those whose majority did not come in time.
    pub(crate) fn late(&self, late: Late) {
        let failure = unknown("the majority did not confirm it in time");
        late.answer(&self.node.response(&self.principal.gateway, Reply::Failure(failure)));
    }

    /// What this node orders with, if it would order a client's message now.
    fn primary(&self) -> Option<&Core> {
        let core = self.node.core().ok()?;
        let orders = self.principal.identity.role == Role::Client
            && !self.node.is_leaving()
            && !self.node.is_disk_full()
            && core.lead.may_write().is_ok();
        let view = core.engine.view();
        let view = view.borrow();
        (orders && view.is_primary() && self.node.is_followed(&view)).then_some(core)
    }

    /// The command of a send, unless it is wrong: that is answered.
    fn propose(self: &Arc<Self>, numbered: Numbered) -> Option<(Command, Answer)> {
        let Numbered { request, frame, ticket } = numbered;
        let deadline = Deadline::of(&request);
        let Some(Op::Send(Send { to, id, headers, body, .. })) = request.op else { return None };
        let op = CommandOp::Send { to, id, headers, body };
        ticket.expires(Some(deadline.at()));
        let of = Arc::clone(self);
        let under_way = UnderWay { of, frame, ticket, deadline, _tracked: self.requests.token() };
        if let Err(failure) = model::check(&op) {
            under_way.answer(Reply::Failure(failure)).now();
            return None;
        }
        let gateway = self.principal.gateway.to_string();
        let command = Command { caller: self.caller.clone(), gateway, op };
        Some((command, Answer::new(move |outcome| under_way.settle(outcome))))
    }
}

impl UnderWay {
    fn answer(&self, reply: Reply) -> Flush {
        self.ticket.answer(&self.of.node.response(&self.of.principal.gateway, reply))
    }

    fn settle(self, outcome: Result<Outcome, Failure>) -> Option<Flush> {
        let failure = match outcome {
            Ok(Outcome::Sent(ack)) => return Some(self.answer(Reply::Ack(ack))),
            Ok(Outcome::Refused(failure)) | Err(failure) => failure,
            Ok(_) => Failure::new(ErrorCode::Internal, "an outcome that belongs to no send"),
        };
        if primary_may_change_that(failure.error_code()) && self.ticket.is_open() {
            self.again(failure);
            return None;
        }
        let unknown = failure.error_code().executed() == Executed::Unknown;
        let failure = self.of.node.verdict(GaveUp { last: failure, unknown });
        Some(self.answer(Reply::Failure(failure)))
    }

    /// Goes on as a request by itself: another primary may take it, or this one in a moment.
    fn again(self, failure: Failure) {
        // Whoever tries again knows best what to say in the end.
        self.ticket.expires(None);
        let (requests, runtime) = (self.of.requests.clone(), self.of.runtime.clone());
        let again = async move {
            let reply = self.write(failure).await.unwrap_or_else(Reply::Failure);
            self.answer(reply).now();
        };
        drop(requests.spawn_on(again, &runtime));
    }

    async fn write(&self, failure: Failure) -> Result<Reply, Failure> {
        let Direct { node, principal, .. } = &*self.of;
        let request = decode_numbered(self.frame.clone())?;
        let unknown = failure.error_code().executed() == Executed::Unknown;
        let result = node.write(principal, request, self.deadline, Some(failure)).await;
        result.map_err(|last| match last.error_code().executed() {
            Executed::No => GaveUp { last, unknown }.or_unknown(),
            Executed::Unknown => last,
        })
    }
}
