//! A node's place in a network: where others come in, and from where it dials them.
//!
//! Two implementations: [`crate::Endpoint`], a UDP port, and [`crate::switchboard::SwitchPort`] between the
//! nodes of one process. What is served behind it is the same code.

use std::sync::Arc;

use certs::Peer;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use proto::peer::Hello;

use crate::{Accepted, CloseCode, Endpoint, Link, Refused};

/// Says who this node is; asked anew for every connection.
pub type MakeHello = Arc<dyn Fn() -> Hello + Send + Sync>;

/// Says why a peer that answered is not the one, given what its certificate and its hello say. Also
/// hears those that refuse this node.
pub type CheckPeer = Arc<dyn Fn(&Peer, &Hello) -> Result<(), Refused> + Send + Sync>;

/// A node's place in a network.
pub trait Port: Send + Sync + 'static {
    /// The next connection whose other end is proven; `None` once the port is closed.
    fn accept(&self) -> BoxFuture<'_, Option<Accepted>>;

    /// A link that dials peers from here. `hello` says who this node is; the link fills in whom it
    /// wants. Whoever answers must have the wanted name, raft id and incarnation, and then `check` is
    /// asked.
    fn link(&self, hello: MakeHello, check: CheckPeer) -> Arc<dyn Link>;

    /// Closes every connection and accepts no more.
    fn close(&self, code: CloseCode, reason: &str);

    /// Waits until every closed connection has told its other side.
    fn wait_idle(&self) -> BoxFuture<'_, ()>;
}

impl Port for Endpoint {
    fn accept(&self) -> BoxFuture<'_, Option<Accepted>> {
        Self::accept(self).boxed()
    }

    fn link(&self, hello: MakeHello, check: CheckPeer) -> Arc<dyn Link> {
        let link = self.link_to(move || hello(), move |peer, hello| check(peer, hello));
        Arc::new(link)
    }

    fn close(&self, code: CloseCode, reason: &str) {
        Self::close(self, code, reason);
    }

    fn wait_idle(&self) -> BoxFuture<'_, ()> {
        Self::wait_idle(self).boxed()
    }
}
