//! A node's place on a switchboard: who calls it, and whom it calls. Both sides say who they are, and
//! judge it, by the same code as over QUIC. What stands in for certificates is who the board was told
//! that the node is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use certs::Peer;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use proto::{Identity, Name, Role};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::line::{Called, Line, Stream};
use super::pipe::pipe;
use super::{ARRIVALS, Attached, Board, Passing};
use crate::{
    Accepted, CheckPeer, CloseCode, FrameRx, FrameTx, Lane, Link, LinkError, MakeHello, PeerAddr,
    PeerConn, Port, hello,
};

/// A node's place on a switchboard.
pub struct SwitchPort {
    board: Arc<Board>,
    me: Peer,
    /// Which of the nodes of its name it is.
    number: u64,
    calls: tokio::sync::Mutex<mpsc::Receiver<PeerConn>>,
}

impl fmt::Debug for SwitchPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwitchPort").field("me", &self.me.identity).finish_non_exhaustive()
    }
}

impl SwitchPort {
    /// Connects a node. One of the same name that was connected before is disconnected.
    pub(super) fn open(board: &Arc<Board>, me: Peer) -> Self {
        let (caller, calls) = mpsc::channel(ARRIVALS);
        let name = me.identity.name.to_string();
        let mut number = 0;
        board.change(|wires| {
            wires.detach(&name);
            wires.attached += 1;
            number = wires.attached;
            wires.nodes.insert(name, Attached { me: me.clone(), number, calls: caller });
        });
        Self { board: Arc::clone(board), me, number, calls: tokio::sync::Mutex::new(calls) }
    }

    /// A link that dials from here.
    pub(super) fn dial_from(&self, hello: MakeHello, check: CheckPeer) -> SwitchLink {
        let (board, me) = (Arc::clone(&self.board), self.me.clone());
        let lines = parking_lot::Mutex::default();
        SwitchLink(Arc::new(Dialer { board, me, number: self.number, hello, check, lines }))
    }
}

impl Port for SwitchPort {
    fn accept(&self) -> BoxFuture<'_, Option<Accepted>> {
        async { self.calls.lock().await.recv().await.map(Accepted::Peer) }.boxed()
    }

    fn link(&self, hello: MakeHello, check: CheckPeer) -> Arc<dyn Link> {
        Arc::new(self.dial_from(hello, check))
    }

    fn close(&self, _code: CloseCode, _reason: &str) {
        let name = self.me.identity.name.as_str();
        self.board.change(|wires| {
            if wires.nodes.get(name).is_some_and(|node| node.number == self.number) {
                wires.detach(name);
            }
        });
    }

    fn wait_idle(&self) -> BoxFuture<'_, ()> {
        // Nothing is said when a line breaks.
        std::future::ready(()).boxed()
    }
}

/// One node's way to the others. Cheap to clone.
#[derive(Clone)]
pub struct SwitchLink(Arc<Dialer>);

impl fmt::Debug for SwitchLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwitchLink").field("own", &self.0.me.identity).finish_non_exhaustive()
    }
}

struct Dialer {
    board: Arc<Board>,
    me: Peer,
    number: u64,
    hello: MakeHello,
    check: CheckPeer,
    /// Connections by peer. Whoever needs one waits for the same attempt.
    lines: parking_lot::Mutex<BTreeMap<Name, Slot>>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Dialled>>>;

/// The calling end of a connection. Dropping it ends the connection.
struct Dialled {
    to: PeerAddr,
    line: Arc<Line>,
    streams: mpsc::Sender<Stream>,
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.line.close("the other side went away");
    }
}

impl Link for SwitchLink {
    fn open<'a>(
        &'a self,
        to: &'a PeerAddr,
        lane: Lane,
    ) -> BoxFuture<'a, Result<(FrameTx, FrameRx), LinkError>> {
        self.0.open(to, lane).boxed()
    }

    fn forget(&self, peer: &Name) {
        drop(self.0.lines.lock().remove(peer));
    }
}

impl Dialer {
    async fn open(&self, to: &PeerAddr, lane: Lane) -> Result<(FrameTx, FrameRx), LinkError> {
        let (own, other) = (self.me.identity.name.as_str(), to.name.as_str());
        self.board.tried(own, other, lane);
        let theirs = self.board.reach((own, self.number), other).await?;
        let slot = Arc::clone(self.lines.lock().entry(to.name.clone()).or_default());
        let (line, streams) = {
            let mut slot = slot.lock().await;
            let stands = |dialled: &&Dialled| dialled.serves(to);
            match slot.as_ref().filter(stands) {
                Some(dialled) => (Arc::clone(&dialled.line), dialled.streams.clone()),
                None => {
                    let dialled = self.dial(to, theirs).await?;
                    let dialled = slot.insert(dialled);
                    (Arc::clone(&dialled.line), dialled.streams.clone())
                }
            }
        };
        self.stream(&line, &streams, other, (lane, false)).await
    }

    /// Connects and says hello.
    async fn dial(&self, to: &PeerAddr, theirs: Attached) -> Result<Dialled, LinkError> {
        let (own, other) = (self.me.identity.name.as_str(), to.name.as_str());
        let line = Line::new(&self.board, own, other);
        let (streams, arriving) = mpsc::channel(ARRIVALS);
        let called = Called::new(Arc::clone(&line), arriving);
        let conn = PeerConn::on_board(
            called,
            self.me.clone(),
            theirs.me.identity.clone(),
            Board::address(self.number),
        );
        let dialled = Dialled { to: to.clone(), line, streams };
        let exchange = async {
            theirs.calls.send(conn).await.map_err(|_| gone(other))?;
            let stream =
                self.stream(&dialled.line, &dialled.streams, other, (Lane::Urgent, true)).await?;
            let own = &self.me.identity;
            let who = Identity { name: to.name.clone(), role: Role::Node, ..own.clone() };
            let certified = || Ok(theirs.me.clone());
            hello::say(stream, to, (own, &who), (self.hello)(), certified, &self.check).await
        };
        match timeout(self.board.dial_time(), exchange).await {
            Ok(Ok(())) => Ok(dialled),
            Ok(Err(LinkError::Lost(_))) | Err(_) => Err(gone(other)),
            Ok(Err(error)) => Err(error),
        }
    }

    async fn stream(
        &self,
        line: &Arc<Line>,
        streams: &mpsc::Sender<Stream>,
        other: &str,
        (lane, hello): (Lane, bool),
    ) -> Result<(FrameTx, FrameRx), LinkError> {
        let own = self.me.identity.name.as_str();
        let stream = self.board.count_stream();
        let passing = Passing { stream, lane, asks: true, hello };
        let (my_tx, their_rx) = pipe(line, (own, other), passing);
        let (their_tx, my_rx) = pipe(line, (other, own), Passing { asks: false, ..passing });
        let stream = Stream { lane, tx: their_tx, rx: their_rx };
        match timeout(self.board.dial_time(), streams.send(stream)).await {
            Ok(Ok(())) => Ok((FrameTx::pipe(my_tx), FrameRx::pipe(my_rx))),
            Ok(Err(_)) | Err(_) => Err(gone(other)),
        }
    }
}

impl Dialled {
    /// Whether this is a connection to that very store, and stands.
    fn serves(&self, to: &PeerAddr) -> bool {
        let same = self.to.raft_id == to.raft_id && self.to.incarnation == to.incarnation;
        same && self.line.check().is_ok() && !self.streams.is_closed()
    }
}

fn gone(peer: &str) -> LinkError {
    LinkError::Unreachable { peer: peer.to_owned(), reason: "it does not answer".to_owned() }
}
