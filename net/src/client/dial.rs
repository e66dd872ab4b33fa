//! Getting a connection: one attempt that all calls share, several nodes raced.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use proto::wire::{CLIENT_NUMBERED_ALPN, Empty, Op, Reply};
use proto::{Identity, Name, Role};
use quinn::Connection;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

use super::directory::Node;
use super::long_stream::LongStream;
use super::probe::is_closed;
use super::{ClientError, Inner};
use crate::endpoint::{certified, protocol};
use crate::reason::{End, end_of};
use crate::{CloseCode, quic_link};

/// A node that has not answered for so long gets company by the next one.
const HEDGE: Duration = Duration::from_millis(150);
/// Time for one node to answer.
pub(super) const DIAL_TIME: Duration = Duration::from_secs(2);

/// A connection to a node. That it stands does not mean that the node accepts the client: in
/// TLS 1.3 only the first answer proves that.
#[derive(Debug, Clone)]
pub(super) struct Gateway {
    pub(super) name: Name,
    pub(super) address: String,
    pub(super) connection: Connection,
    /// No other node is preferred to this one.
    pub(super) at_home: bool,
    /// What small calls share, once one was made; `None` if the gateway is of an earlier release.
    pub(super) long: Option<Arc<OnceCell<LongStream>>>,
    /// When a call last looked for a sign of life.
    pub(super) prodded: Arc<Mutex<Option<Instant>>>,
}

/// Why no node can be had.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble {
    tried: Vec<String>,
    refusals: Vec<(String, String)>,
    /// The pinned node, if nobody knows where it is.
    unknown: Option<String>,
}

impl Trouble {
    /// Whether no repetition helps: every node was there and one side refused the other, or the
    /// pinned node does not exist.
    pub(super) fn is_refusal(&self) -> bool {
        self.unknown.is_some()
            || !self.refusals.is_empty() && self.refusals.len() == self.tried.len()
    }

    fn add(&mut self, node: &Node, end: &End) {
        self.tried.push(format!("{}: {}", node.label(), end.reason()));
        if let End::RefusedUs(reason) | End::RevokedUs(reason) | End::WeRefused(reason) = end {
            self.refusals.push((node.label(), reason.clone()));
        }
    }
}

impl From<Trouble> for ClientError {
    fn from(trouble: Trouble) -> Self {
        if let Some(via) = trouble.unknown {
            return Self::NoNode(via);
        }
        let refusal = trouble.is_refusal();
        match trouble.refusals.into_iter().next() {
            Some((gateway, reason)) if refusal => Self::Denied { gateway, reason },
            _ => Self::Unreachable { tried: trouble.tried },
        }
    }
}

/// Completes once the host of an address says that nobody listens there: a handshake would wait in
/// vain. Most are done before it is even asked.
async fn closed(address: SocketAddr) {
    sleep(HEDGE).await;
    if !is_closed(address).await {
        std::future::pending().await
    }
}

impl Inner {
    /// The connection in use, or a new one.
    pub(super) async fn gateway(self: &Arc<Self>) -> Result<Gateway, Trouble> {
        let dialing = {
            let mut route = self.route();
            if let Some(current) = &route.current {
                if current.connection.close_reason().is_none() {
                    return Ok(current.clone());
                }
                route.current = None;
            }
            match &route.dialing {
                Some(dialing) => dialing.clone(),
                None => {
                    let own = Arc::clone(self);
                    // A task, so that the attempt goes on when the call that began it gives up.
                    let task = tokio::spawn(async move { own.dial_any().await });
                    let dialing =
                        async move { task.await.unwrap_or_else(|_| Err(Trouble::default())) };
                    route.dialing.insert(dialing.boxed().shared()).clone()
                }
            }
        };
        dialing.await
    }

    /// Lets a gateway go that was of no use, unless the others have done so already.
    pub(super) fn leave(&self, gateway: &Gateway) {
        self.directory.demote(&gateway.address);
        let mut route = self.route();
        let id = gateway.connection.stable_id();
        if route.current.as_ref().is_some_and(|current| current.connection.stable_id() == id) {
            route.current = None;
        }
        route.pool.forget(&gateway.name);
    }

    /// Tries the nodes, the next one as soon as one fails or takes its time.
    async fn dial_any(self: &Arc<Self>) -> Result<Gateway, Trouble> {
        let mut trouble = Trouble::default();
        let mut found = self.race(&mut trouble).await;
        // A pinned node may have come, or moved, since the list was learnt.
        if found.is_none()
            && self.directory.via().is_some()
            && Box::pin(self.find_via(&mut trouble)).await
        {
            trouble = Trouble::default();
            found = self.race(&mut trouble).await;
        }
        let mut route = self.route();
        route.dialing = None;
        route.current.clone_from(&found);
        found.ok_or(trouble)
    }

    async fn race(self: &Arc<Self>, trouble: &mut Trouble) -> Option<Gateway> {
        let mut left = self.directory.candidates().into_iter();
        let mut dials = FuturesUnordered::new();
        loop {
            dials.extend(left.next().map(|node| {
                tracing::info!(node = node.label(), "connecting");
                self.dial_noting(node)
            }));
            if dials.is_empty() {
                return None;
            }
            tokio::select! {
                Some(dialled) = dials.next() => match dialled {
                    Ok(gateway) => return Some(gateway),
                    Err((node, end)) => trouble.add(&node, &end),
                },
                () = sleep(HEDGE), if left.len() > 0 => {
                    tracing::info!("no answer yet, asking the next node too");
                }
            }
        }
    }

    async fn dial_noting(&self, node: Node) -> Result<Gateway, (Node, End)> {
        self.dial(node.clone()).await.map_err(|end| {
            tracing::info!(node = node.label(), reason = end.reason(), "cannot be reached");
            self.directory.demote(&node.address);
            (node, end)
        })
    }

    /// Connects to one node.
    pub(super) async fn dial(&self, node: Node) -> Result<Gateway, End> {
        let connecting = async {
            let own = self.quic.local_addr().map_err(|error| End::Lost(error.to_string()))?;
            let address = quic_link::resolve(&node.address, own).await.map_err(End::Lost)?;
            let name = match &node.name {
                Some(name) => self.node(name.clone()).dns_name(),
                None => certs::any_node(&self.own.cluster),
            };
            let dialing = self.dialing.lock().clone();
            let connecting = self.quic.connect_with(dialing, address, &name);
            let connecting = connecting.map_err(|error| End::Lost(error.to_string()))?;
            tokio::select! {
                connected = connecting => connected.map_err(|error| end_of(&error)),
                () = closed(address) => Err(End::Lost("nobody listens there".to_owned())),
            }
        };
        let connected = timeout(DIAL_TIME, connecting).await;
        let connection = connected.map_err(|_| End::Lost("no answer".to_owned()))??;
        match certified(&connection) {
            Ok(peer) => {
                let at_home = self.directory.is_home(&peer.identity.name);
                let name = peer.identity.name;
                tracing::info!(gateway = %name, address = node.address, "connected");
                let (address, prodded) = (node.address, Arc::default());
                let agreed = protocol(&connection);
                let long = agreed.as_deref() == Some(CLIENT_NUMBERED_ALPN);
                let long = long.then(Arc::default);
                Ok(Gateway { name, address, connection, at_home, long, prodded })
            }
            Err(reason) => {
                connection.close(CloseCode::Refused.code(), reason.as_bytes());
                Err(End::WeRefused(reason))
            }
        }
    }

    /// Asks every known node for the live list, until one says where the pinned node is. Returns
    /// whether there is a place that was not tried.
    async fn find_via(self: &Arc<Self>, trouble: &mut Trouble) -> bool {
        let tried = self.directory.candidates();
        let unknown = tried.is_empty();
        let list = |node: Node| async move {
            let gateway = self.dial(node.clone()).await.map_err(|end| Some((node, end)))?;
            let answer = self.ask_once(&gateway, Op::Nodes(Empty {})).await;
            gateway.connection.close(CloseCode::Done.code(), b"done");
            match answer.and_then(|answer| answer.reply) {
                Some(Reply::Nodes(nodes)) => Ok(nodes),
                _ => Err(None),
            }
        };
        let is_new = |node: &Node| tried.iter().all(|tried| tried.address != node.address);
        let others = self.directory.everyone().into_iter().filter(is_new);
        let mut lists: FuturesUnordered<_> = others.map(list).collect();
        let mut told = false;
        while let Some(answer) = lists.next().await {
            match answer {
                Ok(nodes) => {
                    told = true;
                    self.learnt(nodes);
                    if self.directory.candidates().iter().any(is_new) {
                        return true;
                    }
                }
                Err(Some((node, end))) if unknown => trouble.add(&node, &end),
                Err(_) => {}
            }
        }
        if unknown && told {
            trouble.unknown = self.directory.via().map(Name::to_string);
        }
        false
    }

    fn node(&self, name: Name) -> Identity {
        Identity { cluster: self.own.cluster.clone(), role: Role::Node, name }
    }
}
