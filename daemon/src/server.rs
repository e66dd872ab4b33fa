//! How requests arrive: connections from clients and from other nodes, told apart in the TLS
//! handshake, one task per connection and one per request.
//!
//! Not here: what requests mean (`node`).

use std::sync::Arc;

use net::{
    Accepted, ClientConn, Endpoint, Incoming, Lane, LinkError, PeerConn, PeerStream, Refused,
    ReplyTx,
};
use prost::Message as _;
use proto::limits::PAGE_BYTES_MAX;
use proto::peer::{Hello, PeerOp, PeerRequest};
use proto::wire::{Op, Read, Reply, Request};
use proto::{ErrorCode, Failure};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::node::{Deadline, Node, Principal};
use crate::raft::URGENT_RAFT;
use crate::turns::{Turn, Turns};

/// Says who this node is, for the first frame on a connection between nodes.
pub type MakeHello = Arc<dyn Fn() -> Hello + Send + Sync>;
/// Says why a peer's hello does not fit the membership.
pub type CheckHello = Arc<dyn Fn(&Hello) -> Result<(), Refused> + Send + Sync>;

/// The serving side of a node. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    /// The node.
    pub node: Node,
    /// Who this node is.
    pub hello: MakeHello,
    /// Whom it lets in.
    pub check: CheckHello,
    /// Ends every connection.
    pub stop: CancellationToken,
    /// Ends followed reads, so that they go on elsewhere.
    pub drain: CancellationToken,
    /// Requests under way.
    pub requests: TaskTracker,
    /// Which of the clients' requests are worked on.
    pub turns: Turns,
}

impl Server {
    /// Accepts connections until the endpoint is closed.
    pub async fn run(self, endpoint: Endpoint) {
        while let Some(accepted) = endpoint.accept().await {
            let this = self.clone();
            let stop = self.stop.clone();
            tokio::spawn(async move {
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
        let now = || self.node.keeper().reading().now_ns;
        tracing::debug!(client = %principal.identity, remote = %client.remote(), "connected");
        self.node.sessions().connected(&name, now());
        while let Some(Incoming { request, reply }) = client.next().await {
            self.node.sessions().seen(&name, now());
            let (this, principal) = (self.clone(), principal.clone());
            self.requests.spawn(async move { this.one(&principal, request, reply).await });
        }
        self.node.sessions().disconnected(&name, now());
    }

    /// Serves one request when its turn comes.
    async fn one(&self, principal: &Principal, request: Request, reply: ReplyTx) {
        let deadline = Deadline::of(&request);
        let refuse = |failure| self.node.response(self.node.name(), Reply::Failure(failure));
        let turn = tokio::select! {
            turn = self.turns.next(&principal.identity) => turn,
            () = tokio::time::sleep(deadline.left()) => {
                let message = "other requests of this client took all its time";
                return send(reply, refuse(Failure::new(ErrorCode::Deadline, message))).await;
            }
            () = reply.stopped() => return,
        };
        // Before the answer, so that whoever has the answer finds it counted.
        self.node.count_request();
        if request.op.as_ref().is_some_and(Op::is_long)
            && let Err(failure) = reply.has_room(PAGE_BYTES_MAX)
        {
            return send(reply, refuse(failure)).await;
        }
        match &request.op {
            Some(Op::Read(read)) if read.follow => {
                self.follow(principal, read, deadline, turn, reply).await;
            }
            Some(Op::WatchNodes(_)) => {
                drop(turn);
                self.watch(principal, reply).await;
            }
            _ => {
                let left = u32::try_from(deadline.left().as_millis()).unwrap_or(u32::MAX);
                let request = Request { deadline_ms: left.max(1), ..request };
                let response = self.node.handle(principal, request).await;
                // What the client takes its time for is no work.
                drop(turn);
                send(reply, response).await;
            }
        }
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
        let mut following = match self.node.follow(principal, read, deadline).await {
            Ok(following) => following,
            Err(failure) => {
                send(reply, failed(failure)).await;
                return;
            }
        };
        // From here on it waits most of the time.
        drop(turn);
        let mut drained = std::pin::pin!(self.node.drained());
        loop {
            let next = tokio::select! {
                () = self.drain.cancelled() => {
                    Err(Failure::new(ErrorCode::Stopping, "the node is stopping"))
                }
                () = &mut drained => {
                    Err(Failure::new(ErrorCode::Stopping, "the node is drained"))
                }
                () = reply.stopped() => return,
                next = following.next() => next,
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
                Err(failure) => {
                    send(reply, failed(failure)).await;
                    return;
                }
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
        loop {
            let next = tokio::select! {
                () = self.drain.cancelled() => {
                    Err(Failure::new(ErrorCode::Stopping, "the node is stopping"))
                }
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
        let (check, witness) = (Arc::clone(&self.check), self.node.witness().clone());
        let meet = move |hello: &Hello| check(hello).and_then(|()| witness.called_by(hello));
        if let Err(error) = peer.handshake((self.hello)(), meet).await {
            tracing::debug!(%error, "a peer was not let in");
            return;
        }
        while let Some(stream) = peer.next().await {
            // A member when it came may be one no more.
            let current = || self.node.witness().is_current(&stream.from);
            if let Err(Refused { reason, .. }) = (self.check)(&stream.from).and_then(|()| current())
            {
                tracing::info!(peer = stream.from.name, reason, "a peer is let go");
                return;
            }
            let this = self.clone();
            let stop = self.stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = this.lane(stream) => {}
                }
            });
        }
    }

    /// Serves one stream of a peer whose hello was accepted.
    pub async fn lane(&self, stream: PeerStream) {
        let PeerStream { from, lane, tx, mut rx } = stream;
        let Ok(name) = from.name.parse() else { return };
        match lane {
            Lane::Request => {
                self.request(&name, tx, rx).await;
            }
            Lane::Urgent => {
                let Ok(Some(first)) = rx.recv().await else { return };
                match first.first() {
                    Some(&URGENT_RAFT) => {
                        if let Some(engine) = self.node.engine() {
                            engine.serve_urgent(first.slice(1..), tx, rx).await;
                        }
                    }
                    Some(_) => self.node.members().answer(&name, first, tx, rx).await,
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

    async fn request(&self, from: &proto::Name, mut tx: net::FrameTx, mut rx: net::FrameRx) {
        let Ok(Some(frame)) = rx.recv().await else { return };
        let op = PeerRequest::decode(frame).ok().and_then(|request| request.op);
        let sent = match op {
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
            Some(PeerOp::SignerKey(_)) => tx.send_message(&self.node.peer_signer_key(from)).await,
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

fn log_lost(sent: Result<(), LinkError>) {
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer was not taken");
    }
}

async fn send(mut reply: ReplyTx, response: proto::wire::Response) {
    log_lost(reply.send(response).await);
    reply.finish();
}
