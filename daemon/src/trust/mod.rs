//! What this node knows of the keys of others: the table, what was vouched for, and who is turned away.
//!
//! Not here: the rule (`entry`), asking others (`node::trust`).

mod entry;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use certs::Peer;
use model::Table;
use model::query::{self, Binding};
use net::Refused;
use parking_lot::{Mutex, MutexGuard};
use proto::admin::{AdminRow, Admins};
use proto::peer::{Hello, Refusal, StoreKey};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::doorman::Doorman;
use crate::raft::Member;
use crate::store::{Kept, Store};

pub(crate) use self::entry::{Entry, Key, Known, store_key};

/// Stores that are vouched for and not in the table yet; more than a cluster has nodes.
const VOUCHED_MAX: usize = 256;
/// Keys that members are asked about at a time.
const ASKED_MAX: usize = 16;
/// Between two questions about the same key.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What this node knows of keys.
pub(crate) struct Trust {
    /// `None` on a node that takes no part.
    store: Option<Store>,
    doorman: Doorman,
    learned: Mutex<Learned>,
    /// The stores of the table.
    bindings: Kept<Arc<Vec<Binding>>>,
    seen: watch::Sender<Seen>,
}

/// What does not stand in the table.
#[derive(Default)]
struct Learned {
    /// By the seed, or by a member that was asked.
    vouched: BTreeMap<Key, StoreKey>,
    /// Keys of members without one in the table, by raft id, as their connections proved them.
    proven: BTreeMap<u64, Key>,
    /// When a member was last asked about a key.
    asked: BTreeMap<Key, Instant>,
    /// The administrators of the seed.
    admins: Vec<AdminRow>,
}

impl Learned {
    /// Whether somebody has vouched for this key as that of the node.
    fn knows(&self, key: &Key, name: &str) -> bool {
        self.vouched.get(key).is_some_and(|known| known.name == name)
    }
}

/// What decides about connections that stand.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    epoch: u64,
    engine: Vec<(u64, Member)>,
    admins: Admins,
}

impl Trust {
    /// With the table of a store; without one nobody is known but by the seed.
    pub(crate) fn new(store: Option<Store>, doorman: Doorman) -> Self {
        let (seen, _) = watch::channel(Seen::default());
        let (learned, bindings) = (Mutex::default(), Kept::new(Table::Members));
        Self { store, doorman, learned, bindings, seen }
    }

    /// Who tells of those who are turned away.
    pub(crate) fn doorman(&self) -> &Doorman {
        &self.doorman
    }

    /// Takes over what the seed says, and this node's own key.
    pub(crate) fn learn_seed(&self, stores: &[StoreKey], admins: Vec<AdminRow>, own: (u64, Key)) {
        self.learn_members(stores);
        let mut learned = self.learned();
        learned.proven.insert(own.0, own.1);
        learned.admins = admins;
    }

    /// Takes over what a member says of the members and their keys.
    pub(crate) fn learn_members(&self, stores: &[StoreKey]) {
        let mut learned = self.learned();
        for store in stores {
            if let Ok(key) = store.fingerprint.as_slice().try_into() {
                learned.vouched.insert(key, store.clone());
                learned.proven.insert(store.raft_id, key);
            }
        }
    }

    /// The administrators that the seed names.
    pub(crate) fn seed_admins(&self) -> Vec<AdminRow> {
        self.learned().admins.clone()
    }

    /// What a peer may do here, see [`Known::entry`]. A key that is noted nowhere yet is remembered.
    ///
    /// # Errors
    /// Why it is not let in.
    pub(crate) fn entry(
        &self,
        engine: &[(u64, Member)],
        peer: &Peer,
        hello: &Hello,
    ) -> Result<Entry, Refused> {
        let bindings = self.bindings()?;
        let mut learned = self.learned();
        if self.store.is_none() && learned.knows(&peer.fingerprint, &hello.name) {
            // This node only wants to be taken back, by whatever became of those that it knew.
            return Ok(Entry::Member);
        }
        let known = Known { engine, bindings: &bindings, vouched: &learned.vouched };
        let entry = known.entry(&peer.fingerprint, hello)?;
        if entry == Entry::Unbound {
            learned.proven.insert(hello.raft_id, peer.fingerprint);
        }
        Ok(entry)
    }

    /// Whether a peer that was dialled is the one: its store is the one that was wanted by then.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) fn dialled(&self, peer: &Peer, hello: &Hello) -> Result<(), Refused> {
        let incarnation = hello.incarnation.as_slice().try_into().unwrap_or_default();
        let member = Member { name: hello.name.clone(), incarnation, ..Member::default() };
        self.entry(&[(hello.raft_id, member)], peer, hello).map(drop)
    }

    /// Whether the word of a peer counts that refuses this node: its key is a member's. Unlike one that is
    /// taken for the member that was dialled, it may have any store; so nothing that it says of that counts.
    /// Where nobody has noted a key for a member, its store stands for it, as for its vote: but only for the
    /// word that this node was removed, which ends it and changes nothing.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) fn heeds(&self, peer: &Peer, hello: &Hello) -> Result<(), Refused> {
        let engine = match hello.why_refused() == Refusal::Removed {
            true => self.seen.borrow().engine.clone(),
            false => Vec::new(),
        };
        self.entry(&engine, peer, hello).map(drop)
    }

    /// Whether a peer may have been admitted while this node was away.
    pub(crate) fn may_be_younger(&self, engine: &[(u64, Member)], hello: &Hello) -> bool {
        let Ok(bindings) = self.bindings() else { return false };
        let vouched = BTreeMap::new();
        Known { engine, bindings: &bindings, vouched: &vouched }.is_younger(hello)
    }

    /// Whether a store was admitted after all that the table knows of: ids only grow.
    pub(crate) fn is_news(&self, raft_id: u64) -> bool {
        let bindings = self.bindings().unwrap_or_default();
        bindings.iter().all(|bound| bound.raft_id < raft_id)
    }

    /// Whether a node of this name is, or was, a member with this key.
    pub(crate) fn knows(&self, peer: &Peer) -> bool {
        let name = peer.identity.name.as_str();
        let bindings = self.bindings().unwrap_or_default();
        let mut bound = bindings.iter().filter(|bound| bound.name == name && !bound.removed);
        bound.any(|bound| bound.fingerprint == peer.fingerprint)
            || self.learned().knows(&peer.fingerprint, name)
    }

    /// Whether members are to be asked about a key now; from then on they were.
    pub(crate) fn asks(&self, key: &Key) -> bool {
        let now = Instant::now();
        let asked = &mut self.learned().asked;
        asked.retain(|_, at| now < *at + ASK_AGAIN);
        if asked.contains_key(key) || asked.len() >= ASKED_MAX {
            return false;
        }
        asked.insert(*key, now);
        true
    }

    /// A member knows this store with this key.
    pub(crate) fn vouched(&self, key: Key, store: StoreKey) {
        let vouched = &mut self.learned().vouched;
        if vouched.len() >= VOUCHED_MAX {
            vouched.pop_first();
        }
        vouched.insert(key, store);
    }

    /// The key that a member without one in the table was seen with.
    pub(crate) fn proven(&self, raft_id: u64) -> Option<Key> {
        self.learned().proven.get(&raft_id).copied()
    }

    /// Whether this node's own table has just this store with just this key.
    pub(crate) fn has(&self, store: &StoreKey) -> bool {
        let bindings = self.bindings().unwrap_or_default();
        bindings.iter().any(|bound| {
            !bound.removed
                && !bound.fingerprint.is_empty()
                && bound.fingerprint == store.fingerprint
                && bound.name == store.name
                && bound.raft_id == store.raft_id
                && bound.incarnation == store.incarnation
        })
    }

    /// Tells of every change that may end a connection that stands.
    pub(crate) fn changes(&self) -> TrustChanges {
        TrustChanges(self.seen.subscribe())
    }

    /// Looks whether anything changed, given the engine's members.
    pub(crate) fn look(&self, engine: Vec<(u64, Member)>) {
        let view = self.store.as_ref().map(Store::snapshot);
        let Some(Ok(view)) = view else { return };
        let (Ok(epoch), Ok(admins)) = (query::members_epoch(&view), query::admins(&view)) else {
            tracing::debug!("the tables of nodes and administrators cannot be read");
            return;
        };
        let now = Seen { epoch, engine, admins };
        self.seen.send_if_modified(|last| {
            let news = *last != now;
            *last = now;
            news
        });
    }

    /// The stores of the table. The engine ends a node that cannot read them; until then nobody is
    /// let in.
    fn bindings(&self) -> Result<Arc<Vec<Binding>>, Refused> {
        let Some(store) = &self.store else { return Ok(Arc::default()) };
        let bindings = store.kept(&self.bindings, |view| query::bindings(view).map(Arc::new));
        bindings.map_err(|error| {
            Refused::new(Refusal::Other, format!("the table of nodes cannot be read: {error}"))
        })
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock()
    }
}

/// See [`Trust::changes`].
pub(crate) struct TrustChanges(watch::Receiver<Seen>);

impl TrustChanges {
    /// The next one; never completes once the node has ended. Safe to cancel.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
