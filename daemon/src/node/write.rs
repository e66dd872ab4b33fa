//! Requests that change something: checked here, ordered by the primary, wherever that is.
//!
//! A gateway forwards the unstamped request to the primary and returns its answer. While the
//! primary changes it goes on trying until the client's time is over: all writes carry an id or are
//! idempotent, so trying again is safe. What it then says is *not done* or *unknown*, never wrong.

use std::time::Duration;

use clock::Hlc;
use model::{Command, CommandOp, Outcome};
use net::PeerAddr;
use planted::Bug;
use proto::peer::{Forward, PeerOp};
use proto::wire::{Delete, Empty, Op, Register, Registered, Reply, Request, Response, Send};
use proto::{ErrorCode, Failure, Identity, Role};

use super::primary::{GaveUp, Patience, Primary, primary_may_change_that};
use super::{Core, Deadline, Node, Principal, instants};

/// What the primary is told to be done earlier, at most, for its own "too late" to arrive in time.
const GRACE_MAX: Duration = Duration::from_millis(250);
/// A gateway without a primary gives up after 3 s, so that the client can look elsewhere, and at once where
/// none can be expected.
const PATIENCE: Patience = Patience {
    news: Duration::from_millis(20),
    spare: Duration::from_millis(60),
    no_primary: Some(Duration::from_secs(3)),
    no_majority: Some(Duration::from_millis(500)),
    again: primary_may_change_that,
};

impl Node {
    /// Has a change ordered. `first` is what a first try came to, if there was one.
    pub(super) async fn write(
        &self,
        principal: &Principal,
        request: Request,
        deadline: Deadline,
        first: Option<Failure>,
    ) -> Result<Reply, Failure> {
        let core = self.core()?;
        let op = self.command_op(principal, request.op.as_ref())?;
        model::check(&op)?;
        let mut tries = self.tries(core, PATIENCE, deadline);
        if let Some(failure) = first {
            let again = Box::pin(tries.again_after(failure)).await;
            again.map_err(|gave_up| self.verdict(gave_up))?;
        }
        loop {
            let tried = match tries.primary() {
                Ok(Primary::Here) => {
                    self.order(core, principal, op.clone(), &request, deadline).await
                }
                Ok(Primary::There(primary)) => {
                    self.forward(core, &primary, principal, &request, deadline).await
                }
                Err(failure) => Err(failure),
            };
            match tried {
                Ok(reply) => return Ok(reply),
                Err(failure) => {
                    let again = tries.again_after(failure).await;
                    again.map_err(|gave_up| self.verdict(gave_up))?;
                }
            }
        }
    }

    /// What the client is told in the end, given that some try may have taken effect.
    pub(super) fn verdict(&self, gave_up: GaveUp) -> Failure {
        let failure = gave_up.or_unknown();
        let code = failure.error_code();
        if code == ErrorCode::NotPrimary {
            return Failure::new(ErrorCode::NoQuorum, "no primary that reaches a majority");
        }
        if code != ErrorCode::Unknown && self.is_leaving() {
            return Failure::new(ErrorCode::Stopping, "the node is stopping");
        }
        failure
    }

    /// Orders a command on the primary and makes its answer.
    async fn order(
        &self,
        core: &Core,
        principal: &Principal,
        op: CommandOp,
        request: &Request,
        deadline: Deadline,
    ) -> Result<Reply, Failure> {
        // Before anything is appended: what a lone primary takes may yet be stored, or not, and
        // nobody could say which.
        if !self.is_followed(&core.engine.view().borrow()) {
            return Err(Failure::new(ErrorCode::NoQuorum, "no majority follows this primary"));
        }
        if request.op.as_ref().is_some_and(Op::takes_room) && self.is_disk_full() {
            let message = format!("the data disk of {} has no room for messages", self.inner.name);
            return Err(Failure::new(ErrorCode::DiskFull, message));
        }
        core.lead.may_order(&op)?;
        self.note_first_admin(core, principal, deadline).await?;
        let commit_wait = matches!(&request.op, Some(Op::Send(send)) if send.commit_wait);
        if commit_wait {
            core.lead.may_commit_wait()?;
        }
        let token = token_of(request)?;
        if let Some(token) = token {
            instants::admit(&self.inner.node_clock, token, deadline.at()).await?;
        }
        let gateway = principal.gateway.to_string();
        let command = Command { caller: principal.caller(), gateway, op };
        let proposed = core.proposer.propose(command, token);
        let outcome = tokio::time::timeout_at(deadline.at(), proposed).await;
        let outcome = outcome.unwrap_or_else(|_| {
            let code = match planted::is(Bug::UnknownCalledNotDone) {
                true => ErrorCode::NoQuorum,
                false => ErrorCode::Unknown,
            };
            Err(Failure::new(code, "the majority did not confirm it in time"))
        })?;
        match outcome {
            Outcome::Sent(ack) if commit_wait => {
                instants::wait_out(&self.inner.node_clock, &ack, deadline.at()).await?;
                Ok(Reply::Ack(ack))
            }
            Outcome::Sent(ack) => Ok(Reply::Ack(ack)),
            Outcome::Deleted(record) => Ok(Reply::Deleted(*record)),
            Outcome::CursorSet => Ok(Reply::CursorSet(Empty {})),
            Outcome::Registered { home } => {
                self.certificate(core, request.op.as_ref(), home, deadline).await
            }
            Outcome::Configured(settings) => Ok(Reply::Configured(settings)),
            Outcome::Members(members) => Ok(Reply::Members(members)),
            Outcome::Tokens(tokens) => Ok(Reply::Tokens(tokens)),
            Outcome::Groups(groups) => Ok(Reply::Groups(groups)),
            Outcome::Kv(rows) => Ok(Reply::Kv(rows)),
            Outcome::Admins(admins) => Ok(Reply::Admins(admins)),
            Outcome::Refused(failure) => Err(failure),
            Outcome::Expired { .. } | Outcome::Done => {
                Err(Failure::new(ErrorCode::Internal, "an outcome that belongs to no request"))
            }
        }
    }

    /// The command that a request stands for. The sender comes from the connection alone.
    fn command_op(&self, principal: &Principal, op: Option<&Op>) -> Result<CommandOp, Failure> {
        match op {
            Some(Op::Send(Send { to, id, headers, body, .. })) => Ok(CommandOp::Send {
                to: to.clone(),
                id: id.clone(),
                headers: headers.clone(),
                body: body.clone(),
            }),
            Some(Op::Delete(Delete { id, reason, from })) => {
                Ok(CommandOp::Delete { id: id.clone(), from: from.clone(), reason: reason.clone() })
            }
            Some(Op::SetCursor(set)) => Ok(CommandOp::SetCursor {
                name: set.name.clone(),
                positions: set.positions.clone(),
            }),
            Some(Op::Register(register)) => self.register_op(principal, register),
            Some(Op::Configure(change)) => super::settings::command_op(principal, *change),
            Some(Op::Member(change)) => {
                let op = super::member_ops::command_op(principal, change)?;
                self.keeps_a_signer(change)?;
                Ok(op)
            }
            Some(Op::Token(change)) => super::join::command_op(principal, change),
            Some(Op::Group(change)) => Ok(CommandOp::Group(change.clone())),
            Some(Op::Kv(change)) => Ok(CommandOp::Kv(change.clone())),
            Some(Op::Admin(change)) => super::admins::command_op(principal, change),
            Some(
                Op::Read(_)
                | Op::Get(_)
                | Op::Clients(_)
                | Op::Nodes(_)
                | Op::Status(_)
                | Op::Clock(_)
                | Op::Ping(_)
                | Op::Compact(_)
                | Op::Tokens(_)
                | Op::Groups(_)
                | Op::KvRead(_)
                | Op::WatchNodes(_)
                | Op::Members(_)
                | Op::Route(_)
                | Op::Plan(_)
                | Op::Slots(_)
                | Op::Distribution(_)
                | Op::Raft(_)
                | Op::Verify(_)
                | Op::Admins(_)
                | Op::Renew(_)
                | Op::LowerCeiling(_)
                | Op::Metrics(_),
            )
            | None => Err(Failure::new(ErrorCode::Internal, "a request that changes nothing")),
        }
    }

    fn register_op(
        &self,
        principal: &Principal,
        register: &Register,
    ) -> Result<CommandOp, Failure> {
        principal.require_admin("register clients")?;
        if !register.home.is_empty() && !self.is_member(&register.home) {
            let message = format!("no node '{}' to be a home", register.home);
            return Err(Failure::new(ErrorCode::NotFound, message));
        }
        // Before anything is ordered: a client without a certificate would be of no use.
        if self.inner.signer.load().is_none() && self.signers().is_empty() {
            return Err(self.no_signer());
        }
        let fingerprint = certs::request_fingerprint(&register.csr);
        let fingerprint = fingerprint.map_err(|error| Failure::new(ErrorCode::Invalid, error))?;
        let (name, home) = (register.name.clone(), register.home.clone());
        Ok(CommandOp::Register { name, fingerprint, home })
    }

    /// The certificate of a client whose registration is committed. Whatever the request says about
    /// names is ignored.
    async fn certificate(
        &self,
        core: &Core,
        op: Option<&Op>,
        home: String,
        deadline: Deadline,
    ) -> Result<Reply, Failure> {
        let Some(Op::Register(register)) = op else {
            return Err(Failure::new(ErrorCode::Internal, "a registration nobody asked for"));
        };
        let home = if home.is_empty() { self.derived_home(&register.name) } else { home };
        let name = register.name.parse();
        let name = name.map_err(|error| Failure::new(ErrorCode::Invalid, error))?;
        let cluster = self.inner.identity.cluster.clone();
        let identity = Identity { cluster, role: Role::Client, name };
        let certificate = self.certified(core, &identity, &register.csr, deadline).await;
        let certificate = certificate.map_err(|failure| {
            let message = format!("{identity} is registered, but has no certificate: {failure}");
            Failure::new(ErrorCode::Unknown, message)
        })?;
        let ca = self.inner.ca.load().as_str().to_owned();
        Ok(Reply::Registered(Registered { certificate, ca, home }))
    }

    /// Hands a request to the primary.
    async fn forward(
        &self,
        core: &Core,
        primary: &PeerAddr,
        principal: &Principal,
        request: &Request,
        deadline: Deadline,
    ) -> Result<Reply, Failure> {
        let told_ms = u32::try_from(told(deadline.left()).as_millis()).unwrap_or(u32::MAX);
        let forward = Forward {
            identity: principal.identity.dns_name(),
            fingerprint: principal.fingerprint.to_vec(),
            gateway: principal.gateway.to_string(),
            request: Some(Request { deadline_ms: told_ms.max(1), ..request.clone() }),
        };
        self.ask_primary(core, primary, PeerOp::Forward(forward), deadline).await
    }

    /// Serves a request that a gateway forwarded. It is never forwarded again: a node that is not
    /// the primary says so, and the gateway looks anew.
    pub(crate) async fn forwarded(&self, forward: Forward, from: &proto::Name) -> Response {
        let reply = match self.forwarded_reply(forward, from).await {
            Ok(reply) => reply,
            Err(failure) => Reply::Failure(failure),
        };
        self.response(from, reply)
    }

    async fn forwarded_reply(
        &self,
        forward: Forward,
        from: &proto::Name,
    ) -> Result<Reply, Failure> {
        let invalid = |what: &dyn std::fmt::Display| Failure::new(ErrorCode::Invalid, what);
        let identity = Identity::from_dns_name(&forward.identity).map_err(|e| invalid(&e))?;
        let fingerprint = forward.fingerprint.as_slice().try_into();
        let fingerprint = fingerprint.map_err(|_| invalid(&"a fingerprint has 32 bytes"))?;
        let request = forward.request.ok_or_else(|| invalid(&"nothing was forwarded"))?;
        let asked = request.op.as_ref().ok_or_else(|| invalid(&"nothing was forwarded"))?;
        if identity.cluster != self.inner.identity.cluster {
            return Err(Failure::new(ErrorCode::Denied, "a client of another cluster"));
        }
        if self.is_leaving() {
            return Err(Failure::new(ErrorCode::NotPrimary, "the node is stopping"));
        }
        let principal = Principal { identity, fingerprint, gateway: from.clone() };
        let core = self.core()?;
        if !core.engine.view().borrow().is_primary() {
            return Err(Failure::new(ErrorCode::NotPrimary, "this node is not the primary"));
        }
        let deadline = Deadline::of(&request);
        self.proven_forward(core, &principal, asked, deadline).await?;
        let op = self.command_op(&principal, request.op.as_ref())?;
        model::check(&op)?;
        self.order(core, &principal, op, &request, deadline).await
    }
}

/// The highest stamp that the client has seen, if it says so.
pub(super) fn token_of(request: &Request) -> Result<Option<Hlc>, Failure> {
    match request.causal_token.as_slice() {
        [] => Ok(None),
        bytes => {
            let invalid = || Failure::new(ErrorCode::Invalid, "a token has 12 bytes");
            Hlc::from_slice(bytes).map(Some).ok_or_else(invalid)
        }
    }
}

/// How long the primary is told to take, of what is left to the gateway.
pub(super) fn told(left: Duration) -> Duration {
    left.saturating_sub((left / 4).min(GRACE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with `told` giving all that is left.
    #[test]
    fn the_primary_is_done_before_the_gateway() {
        for left_ms in [1, 4, 60, 100, 999, 1000, 10_000, 60_000] {
            let left = Duration::from_millis(left_ms);
            let grace = left.checked_sub(told(left)).expect("never more than what is left");
            assert!(grace * 4 >= left || grace == GRACE_MAX, "{left_ms} ms left, {grace:?} spared");
            assert!(!told(left).is_zero(), "{left_ms} ms left");
        }
    }
}
