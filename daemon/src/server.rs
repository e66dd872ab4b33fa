//! How requests arrive: connections from clients and from other nodes, told apart in the TLS
//! handshake, one task per connection and one per request. A client's messages at the primary have no
//! task each: they are ordered as they come, see `node`.
//!
//! Not here: what requests mean (`node`).

use std::sync::Arc;

use certs::Peer;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use net::{
    Accepted, ClientConn, CloseCode, Incoming, Lane, LinkError, MakeHello, Numbered, PeerConn,
    PeerStream, Port, Refused, ReplyTx,
};
use prost::Message as _;
use proto::limits::PAGE_BYTES_MAX;
use proto::peer::{Hello, PeerOp, PeerRequest, Refusal};
use proto::wire::{Op, Page, Read, Reply, Request, Response};
use proto::{Answering, ErrorCode, Failure, Role};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::node::{Deadline, Direct, Following, Node, Principal};
use crate::pause;
use crate::peer_monitor::Exchanges;
use crate::raft::URGENT_RAFT;
use crate::trust::Entry;
use crate::turns::{Turn, Turns};

/// The serving side of a node. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    /// The node.
    pub node: Node,
    /// Exchanges with the peers on how each other is.
    pub exchanges: Exchanges,
    /// Who this node is.
    pub hello: MakeHello,
    /// Ends every connection.
    pub stop: CancellationToken,
    /// Ends followed reads, so that they go on elsewhere.
    pub drain: CancellationToken,
    /// Requests in flight.
    pub requests: TaskTracker,
    /// Which of the clients' requests are worked on.
    pub turns: Turns,
    /// Where what may take long is served, so that nothing else waits for that.
    pub aside: Handle,
}

impl Server {
    /// Accepts connections until the port is closed.
    pub async fn run(self, port: Arc<dyn Port>) {
        while let Some(accepted) = port.accept().await {
            let this = self.clone();
            let stop = self.stop.clone();
            let runtime = match &accepted {
                Accepted::Client(_) | Accepted::Peer(_) => Handle::current(),
                Accepted::Joiner(_) => self.aside.clone(),
            };
            pause::spawn_on(&runtime, async move {
                let serve = async {
                    match accepted {
                        Accepted::Client(client) => this.client(client).await,
                        Accepted::Peer(peer) => this.peer(peer).await,
                        Accepted::Joiner(joiner) => {
                            this.requests.track_future(this.node.join(joiner)).await;
                        }
                    }
                };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = serve => {}
                }
            });
        }
    }

    async fn client(&self, client: ClientConn) {
        let principal = Principal::of(client.peer(), self.node.name());
        let name = principal.identity.name.clone();
        let now = || self.node.node_clock().reading().now_ns;
        tracing::debug!(client = %principal.identity, remote = %client.remote(), "connected");
        self.node.sessions().connected(&name, now());
        let mut changes = self.node.trust_changes();
        // One that is entered later is watched, too.
        let watched = principal.identity.role == Role::Admin;
        let mut is_admin = false;
        self.node.was_admin(&principal, &mut is_admin);
        let direct = Direct::new(self.node.clone(), principal.clone(), self.requests.clone());
        let here = Handle::current();
        loop {
            let incoming = tokio::select! {
                () = changes.next(), if watched => None,
                incoming = client.next() => match incoming {
                    Some(incoming) => Some(incoming),
                    None => break,
                },
            };
            if watched && self.node.was_admin(&principal, &mut is_admin) {
                client.close(CloseCode::Revoked, "this administrator was removed");
                break;
            }
            let asked: Vec<_> = match incoming {
                Some(Incoming::One(asked)) => vec![*asked],
                Some(Incoming::Many(batch)) => {
                    direct.order(batch).into_iter().map(Numbered::alone).collect()
                }
                Some(Incoming::Late(late)) => {
                    direct.late(late);
                    continue;
                }
                None => continue,
            };
            self.node.sessions().seen(&name, now());
            self.start_all(&principal, asked, &here);
        }
        self.node.sessions().disconnected(&name, now());
    }

    /// Serves requests, each in a task of its own: what may take long aside, the rest on this runtime.
    fn start_all(&self, principal: &Principal, asked: Vec<(Request, ReplyTx)>, here: &Handle) {
        for (request, reply) in asked {
            let (this, principal) = (self.clone(), principal.clone());
            let runtime = if is_quick(&request) { here } else { &self.aside };
            let one = async move { this.one(&principal, request, reply).await };
            drop(self.requests.spawn_on(pause::inherit(one), runtime));
        }
    }

    /// Answers requests that came at once on a stream that they share.
    pub(crate) async fn answer_many(
        &self,
        principal: &Principal,
        requests: Vec<Request>,
    ) -> Vec<Response> {
        let direct = Direct::new(self.node.clone(), principal.clone(), self.requests.clone());
        let within = |request: Request| {
            let until = Deadline::of(&request).at();
            let (numbered, answered) = Numbered::within(request);
            (numbered, tokio::time::timeout_at(until, answered))
        };
        let (batch, answered): (Vec<_>, Vec<_>) = requests.into_iter().map(within).unzip();
        let rest = direct.order(batch).into_iter().map(Numbered::alone).collect();
        self.start_all(principal, rest, &Handle::current());
        let answers = futures::future::join_all(answered).await.into_iter();
        answers.map(|answer| answer.ok().flatten().unwrap_or_else(|| direct.too_late())).collect()
    }

    /// Answers one request when its turn comes, once.
    pub(crate) async fn answer(&self, principal: &Principal, request: Request) -> Response {
        let deadline = Deadline::of(&request);
        let request = match self.directly(principal, request, deadline).await {
            Ok(response) => return response,
            Err(request) => request,
        };
        let answer = async {
            let turn = tokio::select! {
                turn = self.turns.next(&principal.identity) => turn,
                () = tokio::time::sleep(deadline.left()) => return self.waited(),
            };
            self.node.count_request();
            let response = self.node.handle(principal, within(request, deadline)).await;
            drop(turn);
            response
        };
        self.requests.track_future(answer).await
    }

    /// Answers a request that would share a stream as if it had come on it. What is not served so is given
    /// back.
    async fn directly(
        &self,
        principal: &Principal,
        request: Request,
        deadline: Deadline,
    ) -> Result<Response, Request> {
        if !request.op.as_ref().is_some_and(Op::shares_a_stream) {
            return Err(request);
        }
        let direct = Direct::new(self.node.clone(), principal.clone(), self.requests.clone());
        let (numbered, answered) = Numbered::within(request);
        if let Some(Numbered { request, .. }) = direct.order(vec![numbered]).pop() {
            return Err(request);
        }
        let answered = tokio::time::timeout_at(deadline.at(), answered).await;
        Ok(answered.ok().flatten().unwrap_or_else(|| direct.too_late()))
    }

    /// What a client is told whose turn did not come.
    fn waited(&self) -> Response {
        self.node.response(self.node.name(), Reply::Failure(too_late()))
    }

    /// Serves one request when its turn comes.
    async fn one(&self, principal: &Principal, request: Request, reply: ReplyTx) {
        let deadline = Deadline::of(&request);
        let refuse = |failure| self.node.response(self.node.name(), Reply::Failure(failure));
        let turn = tokio::select! {
            turn = self.turns.next(&principal.identity) => turn,
            () = tokio::time::sleep(deadline.left()) => return send(reply, self.waited()).await,
            () = reply.stopped() => return,
        };
        // Before the answer, so that whoever has the answer finds it counted.
        self.node.count_request();
        if request.op.as_ref().is_some_and(Op::is_long)
            && let Err(failure) = reply.has_room(PAGE_BYTES_MAX)
        {
            return send(reply, refuse(failure)).await;
        }
        match request.op.as_ref().map(Op::answering) {
            Some(Answering::Pages(read)) => {
                self.follow(principal, read, deadline, turn, reply).await;
            }
            Some(Answering::Lists) => {
                drop(turn);
                self.watch(principal, reply).await;
            }
            Some(Answering::Once) | None => {
                let response = self.node.handle(principal, within(request, deadline)).await;
                // What the client takes its time for is no work.
                drop(turn);
                send(reply, response).await;
            }
        }
    }

    /// Begins a followed read when its turn comes, for who comes by another way than QUIC.
    ///
    /// # Errors
    /// Why it cannot begin.
    pub(crate) async fn followed<'n>(
        &'n self,
        principal: &'n Principal,
        read: &Read,
        deadline: Deadline,
    ) -> Result<Followed<'n>, Failure> {
        let turn = tokio::select! {
            turn = self.turns.next(&principal.identity) => turn,
            () = tokio::time::sleep(deadline.left()) => return Err(too_late()),
        };
        self.node.count_request();
        let followed = self.begin_follow(principal, read, deadline).await;
        // From here on it waits most of the time.
        drop(turn);
        followed
    }

    async fn begin_follow<'n>(
        &'n self,
        principal: &'n Principal,
        read: &Read,
        deadline: Deadline,
    ) -> Result<Followed<'n>, Failure> {
        let following = self.node.follow(principal, read, deadline).await?;
        let ends = async move {
            tokio::select! {
                () = self.drain.cancelled() => {
                    Failure::new(ErrorCode::Stopping, "the node is stopping")
                }
                () = self.node.drained() => {
                    Failure::new(ErrorCode::Stopping, "the node is drained")
                }
                failure = self.node.removed_admin(principal) => failure,
            }
        };
        Ok(Followed { following, ends: ends.boxed() })
    }

    /// Sends page after page until the client is gone, the range is over or the node stops.
    async fn follow(
        &self,
        principal: &Principal,
        read: &Read,
        deadline: Deadline,
        turn: Turn,
        mut reply: ReplyTx,
    ) {
        let failed = |failure| self.node.response(self.node.name(), Reply::Failure(failure));
        let mut followed = match self.begin_follow(principal, read, deadline).await {
            Ok(followed) => followed,
            Err(failure) => return send(reply, failed(failure)).await,
        };
        // From here on it waits most of the time.
        drop(turn);
        loop {
            let next = tokio::select! {
                () = reply.stopped() => return,
                next = followed.next() => next,
            };
            match next {
                Ok(Some(page)) => {
                    let response = self.node.response(self.node.name(), Reply::Page(page));
                    // A client that does not read holds up itself alone: what it has not taken is
                    // read from the disk when it does.
                    if reply.send(response).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {
                    reply.finish();
                    return;
                }
                Err(failure) => return send(reply, failed(failure)).await,
            }
        }
    }

    /// Sends the live list whenever it changes, until the client is gone or the node stops. A drained
    /// node goes on: its clients learn from the list where to go.
    async fn watch(&self, principal: &Principal, mut reply: ReplyTx) {
        let failed = |failure| self.node.response(self.node.name(), Reply::Failure(failure));
        let mut watched = match self.node.watch_nodes(principal) {
            Ok(watched) => watched,
            Err(failure) => return send(reply, failed(failure)).await,
        };
        let mut removed = std::pin::pin!(self.node.removed_admin(principal));
        loop {
            let next = tokio::select! {
                () = self.drain.cancelled() => {
                    Err(Failure::new(ErrorCode::Stopping, "the node is stopping"))
                }
                failure = &mut removed => Err(failure),
                () = reply.stopped() => return,
                next = watched.next() => next,
            };
            match next {
                Ok(nodes) => {
                    let response = self.node.response(self.node.name(), Reply::Nodes(nodes));
                    if reply.send(response).await.is_err() {
                        return;
                    }
                }
                Err(failure) => return send(reply, failed(failure)).await,
            }
        }
    }

    async fn peer(&self, mut peer: PeerConn) {
        let certified = Arc::new(peer.peer().clone());
        // Before the first look, so that no change is missed.
        let mut changes = self.node.trust_changes();
        let (node, known) = (self.node.clone(), Arc::clone(&certified));
        let (witness, from) = (self.node.witness().clone(), peer.remote());
        let meet = move |hello: &Hello| {
            node.meet(&known, hello).and_then(|_| witness.called_by(hello, from))
        };
        if let Err(error) = peer.handshake((self.hello)(), meet).await {
            tracing::debug!(%error, "a peer was not let in");
            return;
        }
        let Some(hello) = peer.hello().cloned() else { return };
        // The end of the connection ends whatever it began; that of its requests may come before.
        let all = self.stop.child_token();
        let requests = all.child_token();
        let _ends = all.clone().drop_guard();
        loop {
            let stream = tokio::select! {
                () = changes.next() => None,
                stream = peer.next() => match stream {
                    Some(stream) => Some(stream),
                    None => return,
                },
            };
            // A member when it came may be one no more, or have begun another life since.
            let entry = match &stream {
                Some(_) => self.node.entry(&certified, &hello),
                None => self.node.stays(&certified, &hello),
            };
            let current = |entry| self.node.witness().is_current(&hello).map(|()| entry);
            let mut returns = false;
            match entry.and_then(current) {
                Ok(Entry::Member | Entry::Unbound) => {}
                Ok(Entry::Returning) => returns = true,
                Ok(Entry::Leaving) => requests.cancel(),
                Err(Refused { why, reason }) => {
                    tracing::info!(peer = hello.name, reason, "a peer is let go");
                    let removed = why == Refusal::Removed;
                    let code = if removed { CloseCode::Revoked } else { CloseCode::Refused };
                    return peer.close(code, &reason);
                }
            }
            let Some(stream) = stream else { continue };
            let ends = match stream.lane {
                Lane::Request => requests.clone(),
                Lane::Append | Lane::Urgent | Lane::Snapshot => all.clone(),
            };
            let (this, certified) = (self.clone(), Arc::clone(&certified));
            let runtime = match stream.lane {
                // Its rows wait for the disk.
                Lane::Snapshot => self.aside.clone(),
                Lane::Request | Lane::Append | Lane::Urgent => Handle::current(),
            };
            pause::spawn_on(&runtime, async move {
                tokio::select! {
                    biased;
                    () = ends.cancelled() => {}
                    () = this.lane(&certified, stream, returns) => {}
                }
            });
        }
    }

    /// Serves one stream of a peer whose hello was accepted. One that `returns` has no store that counts:
    /// it tells how it is, and asks to be taken back.
    async fn lane(&self, peer: &Peer, stream: PeerStream, returns: bool) {
        let PeerStream { lane, tx, mut rx, .. } = stream;
        match lane {
            Lane::Append | Lane::Snapshot if returns => {}
            Lane::Request => {
                self.request(peer, tx, rx, returns).await;
            }
            Lane::Urgent => {
                let Ok(Some(first)) = rx.recv().await else { return };
                match first.first() {
                    Some(&URGENT_RAFT) if returns => {}
                    Some(&URGENT_RAFT) => {
                        if let Some(engine) = self.node.engine() {
                            engine.serve_urgent(first.slice(1..), tx).await;
                        }
                    }
                    Some(_) => self.exchanges.answer(&peer.identity.name, first, tx, rx).await,
                    None => {}
                }
            }
            Lane::Append => {
                if let Some(engine) = self.node.engine() {
                    engine.serve_append(tx, rx).await;
                }
            }
            Lane::Snapshot => {
                if let Some(engine) = self.node.engine() {
                    engine.serve_snapshot(tx, rx).await;
                }
            }
        }
    }

    async fn request(
        &self,
        peer: &Peer,
        mut tx: net::FrameTx,
        mut rx: net::FrameRx,
        returns: bool,
    ) {
        let from = &peer.identity.name;
        let Ok(Some(frame)) = rx.recv().await else { return };
        let op = PeerRequest::decode(frame).ok().and_then(|request| request.op);
        let refused = op.as_ref().and_then(|op| match returns {
            true => Node::refused_return(op),
            false => self.node.refused_ask(peer, op),
        });
        if let Some(failure) = refused {
            let response = self.node.response(from, Reply::Failure(failure));
            return log_lost(match matches!(op, Some(PeerOp::Forwards(_))) {
                true => net::refuse_forwards(&mut tx, &response).await,
                false => tx.send_message(&response).await,
            });
        }
        let sent = match op {
            Some(PeerOp::Forwards(_)) => {
                return self.node.serve_forwards(from, (tx, rx), &self.requests).await;
            }
            Some(PeerOp::Forward(forward)) => {
                let serve = self.node.forwarded(forward, from);
                // Tracked, so that a stopping node answers what it has begun.
                let response = self.requests.track_future(serve).await;
                tx.send_message(&response).await
            }
            Some(PeerOp::Barrier(_)) => tx.send_message(&self.node.give_barrier().await).await,
            Some(PeerOp::Sessions(_)) => tx.send_message(&self.node.sessions().list()).await,
            Some(PeerOp::Event(event)) => {
                tx.send_message(&self.node.peer_event(from, event).await).await
            }
            Some(PeerOp::Close(close)) => {
                tx.send_message(&self.node.peer_close(from, close).await).await
            }
            Some(PeerOp::Member(change)) => {
                tx.send_message(&self.node.peer_member(from, change).await).await
            }
            Some(PeerOp::AdmitClient(admit)) => {
                tx.send_message(&self.node.peer_admit_client(from, admit).await).await
            }
            Some(PeerOp::Sign(sign)) => {
                tx.send_message(&self.node.peer_sign(from, sign).await).await
            }
            Some(PeerOp::Vouch(store)) => tx.send_message(&self.node.vouch(&store)).await,
            Some(PeerOp::Highest(_)) => tx.send_message(&self.node.peer_highest().await).await,
            Some(PeerOp::Renew(renew)) => {
                tx.send_message(&self.node.peer_renew(from, &renew)).await
            }
            Some(PeerOp::Rejoin(ask)) => {
                tx.send_message(&self.node.peer_rejoin(peer, ask).await).await
            }
            Some(PeerOp::States(_)) => tx.send_message(&self.node.peer_states()).await,
            Some(PeerOp::SignerKey(_)) => tx.send_message(&self.node.peer_signer_key(peer)).await,
            None => {
                tracing::warn!(%from, "a peer asked for something that this release does not know");
                return;
            }
        };
        let sent = match sent {
            Ok(()) => tx.finish().await,
            Err(error) => Err(error),
        };
        log_lost(sent);
    }
}

/// A followed read, until this node serves it no more.
pub(crate) struct Followed<'n> {
    following: Following<'n>,
    /// Why it ends although it is not over.
    ends: BoxFuture<'n, Failure>,
}

impl Followed<'_> {
    /// The next page, see [`Following::next`]; `None` once nothing more can come.
    ///
    /// # Errors
    /// Why it ends here.
    pub(crate) async fn next(&mut self) -> Result<Option<Page>, Failure> {
        tokio::select! {
            failure = &mut self.ends => Err(failure),
            next = self.following.next() => next,
        }
    }
}

/// What a client is told whose turn did not come.
fn too_late() -> Failure {
    Failure::new(ErrorCode::Deadline, "other requests of this client used up its time")
}

fn log_lost(sent: Result<(), LinkError>) {
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer was not taken");
    }
}

/// Whether nothing of what a request asks for takes long here: what is to be ordered is only handed on.
fn is_quick(request: &Request) -> bool {
    let op = request.op.as_ref();
    op.is_some_and(|op| op.is_write() || matches!(op, Op::Ping(_)))
}

/// A request that has so much time left.
fn within(request: Request, deadline: Deadline) -> Request {
    let left = u32::try_from(deadline.left().as_millis()).unwrap_or(u32::MAX);
    Request { deadline_ms: left.max(1), ..request }
}

async fn send(mut reply: ReplyTx, response: Response) {
    log_lost(reply.send(response).await);
    reply.finish();
}
