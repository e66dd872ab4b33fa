//! Who watches the live list gets it at once, and again whenever its version has grown. Versions that
//! come faster than the watcher takes them are skipped: the newest list says it all, and nothing
//! waits anywhere.
//!
//! Not here: what the list says (`list`).

use model::query;
use proto::wire::Nodes;
use proto::{ErrorCode, Failure};
use tokio::sync::watch;

use crate::reader::{answered, store_failure};

use super::{Node, Principal};

/// A watched list.
pub(crate) struct NodesWatch<'n> {
    node: &'n Node,
    epochs: watch::Receiver<u64>,
    /// The version that was given out last.
    given: Option<u64>,
}

impl Node {
    /// Begins to watch, for a client that this node's own state admits.
    ///
    /// # Errors
    /// `Denied` for others; `Repairing` if the node takes no part.
    pub(crate) fn watch_nodes(&self, principal: &Principal) -> Result<NodesWatch<'_>, Failure> {
        let core = self.core()?;
        let view = core.store.snapshot().map_err(store_failure)?;
        answered(&view, query::admitted(&view, &principal.caller()))?;
        Ok(NodesWatch { node: self, epochs: core.engine.members_epoch(), given: None })
    }
}

impl NodesWatch<'_> {
    /// The list, once it is newer than the last one given out. Safe to cancel.
    ///
    /// # Errors
    /// `Stopping` when the engine ends.
    pub(crate) async fn next(&mut self) -> Result<Nodes, Failure> {
        loop {
            let epoch = *self.epochs.borrow_and_update();
            if self.given.is_none_or(|given| epoch > given) {
                let nodes = self.node.nodes();
                self.given = Some(nodes.epoch.max(epoch));
                return Ok(nodes);
            }
            let ended = |_| Failure::new(ErrorCode::Stopping, "the node is stopping");
            self.epochs.changed().await.map_err(ended)?;
        }
    }
}
