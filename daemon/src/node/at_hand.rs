//! What a node has in memory of its state's small tables, for all that has to be quick: the way of a message,
//! connections of peers, and what it tells the others ten times a second.
//!
//! Invariant: none of those goes to the database for what has not changed. Heartbeats wait on the same
//! thread.
//!
//! Not here: when a table counts as changed (`store::versions`), what was proven of peers (`trust`).

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Table, query};
use parking_lot::Mutex;
use proto::Name;
use proto::limits::CLIENT_CONNECTIONS_MAX;
use proto::wire::{Members, Settings};

use crate::blocking::in_place;
use crate::store::{Kept, StoreError};

use super::{Core, Node, Principal};

/// Clients whose keys were looked up.
type Looked = Arc<Mutex<BTreeSet<(Name, [u8; 32])>>>;

/// What was made of the tables.
pub(super) struct AtHand {
    members: Kept<Arc<Members>>,
    settings: Kept<Option<Settings>>,
    clients: Kept<Looked>,
}

impl Default for AtHand {
    fn default() -> Self {
        Self {
            members: Kept::new(Table::Members),
            settings: Kept::new(Table::Settings),
            clients: Kept::new(Table::Clients),
        }
    }
}

impl Node {
    /// The table of members.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(super) fn members_at_hand(&self, core: &Core) -> Result<Arc<Members>, StoreError> {
        core.store.kept(&self.inner.at_hand.members, |view| query::members(view).map(Arc::new))
    }

    /// The cluster's settings; `None` before the first primary.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(super) fn settings_at_hand(&self, core: &Core) -> Result<Option<Settings>, StoreError> {
        core.store.kept(&self.inner.at_hand.settings, |view| query::settings(view))
    }

    /// The same for a test.
    #[cfg(test)]
    pub(crate) fn knows_client(&self, principal: &Principal) -> bool {
        self.core().is_ok_and(|core| self.is_known_client(core, principal))
    }

    /// Whether this node's own state has a client, no administrator, with its key.
    pub(super) fn is_known_client(&self, core: &Core, principal: &Principal) -> bool {
        let none = || Ok::<_, StoreError>(Looked::default());
        let Ok(looked) = self.inner.at_hand.clients.or_made(&core.store, none) else {
            return false;
        };
        let client = (principal.identity.name.clone(), principal.fingerprint);
        if looked.lock().contains(&client) {
            return true;
        }
        let known = !principal.is_admin() && in_place(|| self.is_admitted(core, principal));
        if known {
            let mut looked = looked.lock();
            if looked.len() >= CLIENT_CONNECTIONS_MAX {
                looked.clear();
            }
            looked.insert(client);
        }
        known
    }
}
