//! Requests that change something: checked here, ordered by the primary, wherever that is.
//!
//! A gateway forwards the unstamped request to the primary and returns its answer. While the
//! primary changes it goes on trying until the client's time is over: all writes carry an id or are
//! idempotent, so trying again is safe. What it then says is *not done* or *unknown*, never wrong.

use std::time::Duration;

use clock::Hlc;
use model::{Command, CommandOp, Outcome};
use net::{Lane, PeerAddr};
use prost::Message as _;
use proto::peer::{Forward, PeerOp, PeerRequest};
use proto::wire::{Delete, Empty, Op, Register, Registered, Reply, Request, Response, Send};
use proto::{Action, ErrorCode, Executed, Failure, Identity, Role};

use crate::raft::peer_address;

use super::{Core, Deadline, Node, Principal, instants};

/// Longest wait for news of a primary before trying again.
const NEWS: Duration = Duration::from_millis(20);
/// With less time left nothing is tried again: an answer that comes too late would leave open what
/// the last one has made clear.
const TRY_AGAIN: Duration = Duration::from_millis(60);
/// What the primary is told to be done earlier, at most, for its own "too late" to arrive in time.
const GRACE_MAX: Duration = Duration::from_millis(250);
/// A gateway without a primary gives up after this, so that the client can look elsewhere.
const NO_PRIMARY: Duration = Duration::from_secs(3);

impl Node {
    pub(super) async fn write(
        &self,
        principal: &Principal,
        request: Request,
        deadline: Deadline,
    ) -> Result<Reply, Failure> {
        let core = self.core()?;
        let op = self.command_op(principal, request.op.as_ref())?;
        model::check(&op)?;
        let mut view = core.engine.view();
        let mut unknown = false;
        let since = tokio::time::Instant::now();
        loop {
            let tried = match self.try_write(core, principal, &op, &request, deadline).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            unknown |= tried.error_code().executed() == Executed::Unknown;
            let again = matches!(tried.error_code().action(), Action::GoElsewhere)
                || matches!(tried.error_code(), ErrorCode::NoQuorum | ErrorCode::Unknown);
            let nobody = tried.error_code() == ErrorCode::NoQuorum && since.elapsed() > NO_PRIMARY;
            let late = deadline.left() < TRY_AGAIN;
            if !again || late || nobody || self.is_leaving() {
                return Err(self.verdict(tried, unknown));
            }
            let news = tokio::time::timeout(NEWS.min(deadline.left()), view.changed()).await;
            if matches!(news, Ok(Err(_))) {
                return Err(self.verdict(tried, unknown));
            }
        }
    }

    /// What the client is told in the end, given that some try may have taken effect.
    fn verdict(&self, last: Failure, unknown: bool) -> Failure {
        if unknown {
            let message = format!("nobody can say whether it was done: {last}");
            return Failure::new(ErrorCode::Unknown, message);
        }
        match last.error_code() {
            ErrorCode::NotPrimary => {
                Failure::new(ErrorCode::NoQuorum, "no primary that reaches a majority")
            }
            _ if self.is_leaving() => Failure::new(ErrorCode::Stopping, "the node is stopping"),
            _ => last,
        }
    }

    /// One try: here if this node is the primary, else there.
    async fn try_write(
        &self,
        core: &Core,
        principal: &Principal,
        op: &CommandOp,
        request: &Request,
        deadline: Deadline,
    ) -> Result<Reply, Failure> {
        let no_primary = || Failure::new(ErrorCode::NoQuorum, "there is no primary");
        let (primary, own) = {
            let view = core.engine.view();
            let view = view.borrow();
            let primary = view.primary_member();
            let primary = primary.and_then(|(id, member)| peer_address(id, member));
            (primary, view.is_primary())
        };
        if own {
            return self.order(core, principal, op.clone(), request, deadline).await;
        }
        let primary = primary.filter(|primary| primary.name != self.inner.name);
        let primary = primary.ok_or_else(no_primary)?;
        let forwarded = self.forward(&primary, principal, request, deadline);
        tokio::select! {
            reply = forwarded => reply,
            () = self.deposed(core, &primary) => {
                let message = format!("{} is no longer the primary", primary.name);
                Err(Failure::new(ErrorCode::Unknown, message))
            }
        }
    }

    /// Completes when the given node is not the primary any more: what was asked of it may never be
    /// answered.
    pub(super) async fn deposed(&self, core: &Core, primary: &PeerAddr) {
        let mut view = core.engine.view();
        let other = view.wait_for(|view| view.primary != Some(primary.raft_id));
        // The engine ended: nothing will be answered either.
        drop(other.await);
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
        if takes_room(&op) && self.is_disk_full() {
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
            Err(Failure::new(ErrorCode::Unknown, "the majority did not confirm it in time"))
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
            _ => Err(Failure::new(ErrorCode::Internal, "not a request that changes anything")),
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
        let answer = self.ask_peer(primary, PeerOp::Forward(forward), deadline).await?;
        let response = Response::decode(answer);
        let response = response.map_err(|error| Failure::new(ErrorCode::Unknown, error))?;
        match response.reply {
            Some(Reply::Failure(failure)) => Err(failure),
            Some(reply) => Ok(reply),
            None => Err(Failure::new(ErrorCode::Unknown, "the primary sent an empty answer")),
        }
    }

    /// One request to another node. An error before it was sent says that nothing was done.
    pub(super) async fn ask_peer(
        &self,
        peer: &PeerAddr,
        op: PeerOp,
        deadline: Deadline,
    ) -> Result<bytes::Bytes, Failure> {
        let not_sent = |error: &dyn std::fmt::Display| {
            Failure::new(ErrorCode::NotPrimary, format!("{}: {error}", peer.name))
        };
        let lost = |error: &dyn std::fmt::Display| {
            Failure::new(ErrorCode::Unknown, format!("{}: {error}", peer.name))
        };
        let opened = self.inner.link.open(peer, Lane::Request);
        let opened = tokio::time::timeout_at(deadline.at(), opened).await;
        let opened = opened.map_err(|_| not_sent(&"no connection in time"))?;
        let (mut tx, mut rx) = opened.map_err(|error| not_sent(&error))?;
        let exchange = async {
            tx.send_message(&PeerRequest { op: Some(op) }).await?;
            tx.finish().await?;
            rx.recv().await
        };
        match tokio::time::timeout_at(deadline.at(), exchange).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(lost(&"it ended without an answer")),
            Ok(Err(error)) => Err(lost(&error)),
            Err(_) => Err(lost(&"no answer in time")),
        }
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
fn token_of(request: &Request) -> Result<Option<Hlc>, Failure> {
    match request.causal_token.as_slice() {
        [] => Ok(None),
        bytes => {
            let invalid = || Failure::new(ErrorCode::Invalid, "a token has 12 bytes");
            Hlc::from_slice(bytes).map(Some).ok_or_else(invalid)
        }
    }
}

/// Whether a command brings what stays on the disk; a full one takes no more of that.
fn takes_room(op: &CommandOp) -> bool {
    matches!(op, CommandOp::Send { .. })
        || matches!(op, CommandOp::Kv(change) if change.value.is_some())
}

/// How long the primary is told to take, of what is left to the gateway.
fn told(left: Duration) -> Duration {
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
