//! Who is believed what: a node's store by its key, an administrator's and a client's request by theirs.
//!
//! Not here: the rule about peers (`steward::entry`).

use model::query;
use proto::peer::{StoreKey, Vouched};

use super::{Body, Node};

impl Node {
    /// Whether this node's own table has just this store with just this key.
    pub(crate) fn vouch(&self, store: &StoreKey) -> Vouched {
        let Body::Whole(core) = &self.inner.body else { return Vouched::default() };
        let view = core.store.snapshot().ok();
        let known = view.and_then(|view| query::bindings(&view).ok()).unwrap_or_default();
        let member = known.iter().any(|bound| {
            !bound.removed
                && !bound.fingerprint.is_empty()
                && bound.fingerprint == store.fingerprint
                && bound.name == store.name
                && bound.raft_id == store.raft_id
                && bound.incarnation == store.incarnation
        });
        Vouched { member }
    }
}
