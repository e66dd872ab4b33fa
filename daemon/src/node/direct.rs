//! Sends that go on as they come, many at once: no task, no timer and no channel for each. At the primary
//! they go to the proposer, at a gateway to the primary, see `relay`.
//!
//! That is for the common case, a client's messages. What may have to wait for something else than the
//! log, or is nothing to be ordered here, is left to `write`; so is what the log did not take, with what
//! is known of it.

use std::sync::Arc;

use bytes::Bytes;
use clock::Hlc;
use model::{Caller, Command, CommandOp, Outcome, query};
use net::{Flush, Late, Numbered, Ticket, decode_numbered};
use planted::Bug;
use proto::wire::{Ack, Op, Reply, Response, Send};
use proto::{ErrorCode, Executed, Failure, Role};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::pause;
use crate::queue::{Answer, unknown};

use super::primary::{GaveUp, primary_may_change_that};
use super::write::token_of;
use super::{Core, Deadline, Node, Principal};

/// One client at this node.
pub(crate) struct Direct {
    node: Node,
    principal: Principal,
    caller: Caller,
    /// Whether a gateway asks for it. Then that tries again, and not this node.
    is_forwarded: bool,
    /// Requests in flight, which a node that stops waits for.
    requests: TaskTracker,
    runtime: Handle,
}

/// A send that is under way.
pub(super) struct UnderWay {
    of: Arc<Direct>,
    frame: Bytes,
    ticket: Ticket,
    deadline: Deadline,
    _tracked: TaskTrackerToken,
}

impl Direct {
    /// A client that asks this node. To be called on a runtime.
    pub(crate) fn new(node: Node, principal: Principal, requests: TaskTracker) -> Arc<Self> {
        Arc::new(Self::of(node, principal, requests, false))
    }

    /// A client that asks a gateway. To be called on a runtime.
    pub(super) fn forwarded(node: Node, principal: Principal, requests: TaskTracker) -> Arc<Self> {
        Arc::new(Self::of(node, principal, requests, true))
    }

    fn of(node: Node, principal: Principal, requests: TaskTracker, is_forwarded: bool) -> Self {
        let (caller, runtime) = (principal.caller(), Handle::current());
        Self { node, principal, caller, is_forwarded, requests, runtime }
    }

    /// Who asks.
    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Has ordered what can be at once, here or at the primary. Returns the rest.
    pub(crate) fn order(self: &Arc<Self>, batch: Vec<Numbered>) -> Vec<Numbered> {
        if self.principal.identity.role != Role::Client || self.node.is_leaving() {
            return batch;
        }
        let Ok(core) = self.node.core() else { return batch };
        if let Some(line) = self.node.relay().line(&self.node, core) {
            self.node.count_requests(batch.len());
            let under_way = batch.into_iter().map(|numbered| self.under_way(numbered).0);
            line.hand_over(under_way.collect());
            return Vec::new();
        }
        if !self.node.may_order(core) {
            return batch;
        }
        let before = batch.len();
        let (proposals, rest) = self.proposals(batch);
        self.node.count_requests(before - rest.len());
        core.proposer.propose_all(proposals);
        rest
    }

    /// What this node, the primary, can propose at once, and the rest. What is wrong is answered.
    pub(super) fn proposals(
        self: &Arc<Self>,
        batch: Vec<Numbered>,
    ) -> (Vec<(Command, Answer)>, Vec<Numbered>) {
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
        (direct.into_iter().filter_map(|numbered| self.propose(numbered)).collect(), rest)
    }

    /// Answers those whose majority did not come in time.
    pub(crate) fn late(&self, late: Late) {
        late.answer(&self.too_late());
    }

    /// What those are told.
    pub(crate) fn too_late(&self) -> Response {
        self.node.response(&self.principal.gateway, Reply::Failure(not_in_time()))
    }

    fn under_way(self: &Arc<Self>, numbered: Numbered) -> (UnderWay, Option<Op>) {
        let Numbered { request, frame, ticket } = numbered;
        let deadline = Deadline::of(&request);
        ticket.expires(Some(deadline.at()));
        let of = Arc::clone(self);
        let under_way = UnderWay { of, frame, ticket, deadline, _tracked: self.requests.token() };
        (under_way, request.op)
    }

    /// The command of a send, unless it is wrong: that is answered.
    fn propose(self: &Arc<Self>, numbered: Numbered) -> Option<(Command, Answer)> {
        let (under_way, op) = self.under_way(numbered);
        let Some(Op::Send(Send { to, id, headers, body, .. })) = op else { return None };
        let op = CommandOp::Send { to, id, headers, body };
        if let Err(failure) = model::check(&op) {
            under_way.answer(Reply::Failure(failure)).now();
            return None;
        }
        let gateway = self.principal.gateway.to_string();
        let command = Command { caller: self.caller.clone(), gateway, op };
        if planted::is(Bug::EarlyAck) {
            let early = under_way.guess();
            early.into_iter().for_each(|ack| under_way.answer(Reply::Ack(ack)).now());
            return Some((command, Answer::new(|_| None)));
        }
        Some((command, Answer::new(move |outcome| under_way.settle(outcome))))
    }
}

/// What became of a send whose time is over.
pub(super) fn not_in_time() -> Failure {
    let why = "the majority did not confirm it in time";
    match planted::is(Bug::LateCalledNotDone) {
        true => Failure::new(ErrorCode::NotPrimary, why),
        false => unknown(why),
    }
}

impl Node {
    /// Whether this node would order a client's message now.
    pub(super) fn may_order(&self, core: &Core) -> bool {
        let view = core.engine.view();
        let view = view.borrow();
        let orders = !self.is_leaving() && !self.is_disk_full() && core.lead.may_write().is_ok();
        orders && view.is_primary() && self.is_followed(&view)
    }
}

impl UnderWay {
    /// Whose it is.
    pub(super) fn of(&self) -> &Arc<Direct> {
        &self.of
    }

    /// The request as it came.
    pub(super) fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// Until when it may take.
    pub(super) fn deadline(&self) -> Deadline {
        self.deadline
    }

    fn answer(&self, reply: Reply) -> Flush {
        self.ticket.answer(&self.of.node.response(&self.of.principal.gateway, reply))
    }

    /// What the answer will be if nothing comes in between: a bug.
    fn guess(&self) -> Option<Ack> {
        let Direct { node, principal, .. } = &*self.of;
        let stats = query::stats(&node.core().ok()?.store.snapshot().ok()?).ok()?;
        let (seq, stamp) = (stats.last_seq + 1, node.node_clock().tick().ok()?);
        let (primary, gateway) = (node.name().to_string(), principal.gateway.to_string());
        let stamp = stamp.to_bytes().to_vec();
        Some(Ack { shard: 1, seq, stamp, primary, gateway, ..Ack::default() })
    }

    fn settle(self, outcome: Result<Outcome, Failure>) -> Option<Flush> {
        self.came_to(match outcome {
            Ok(Outcome::Sent(ack)) => Ok(Reply::Ack(ack)),
            Ok(Outcome::Refused(failure)) | Err(failure) => Err(failure),
            Ok(_) => Err(Failure::new(ErrorCode::Internal, "an outcome that belongs to no send")),
        })
    }

    /// Answers it, or tries again, with what a try came to.
    pub(super) fn came_to(self, reply: Result<Reply, Failure>) -> Option<Flush> {
        let failure = match reply {
            Ok(reply) => return Some(self.answer(reply)),
            Err(failure) if self.of.is_forwarded => {
                return Some(self.answer(Reply::Failure(failure)));
            }
            Err(failure) => failure,
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
        drop(requests.spawn_on(pause::inherit(again), &runtime));
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
