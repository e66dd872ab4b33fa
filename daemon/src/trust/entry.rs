//! Who is let in: a pure rule over what this node knows. The key decides, which the handshake has
//! proven; what a hello says besides must fit it.
//!
//! A node that was away may meet one that was admitted meanwhile, and that one may be the primary, the
//! only one to learn of it from. Its raft id proves nothing, and its certificate only that somebody had
//! the authority's key. So a member that this node does know is asked: see `node::trust`.
//!
//! A member that was taken back meanwhile comes with a newer store and the key that this node knows. The key
//! is proof enough: only the log gives a member a newer store, and whoever stole the key could as well claim
//! the store that is known. All the others may have been taken back, so nobody might be left to ask. Who is
//! dialled for its vote has to have the store of the membership all the same (`net::hello`).
//!
//! Not here: asking (`node::trust`), what a removed node does about it (`reconciler::own_membership`).

use std::collections::BTreeMap;

use model::query::Binding;
use net::Refused;
use proto::limits::RAFT_ID_JOINED_MIN;
use proto::lineage::{Kinship, Lineage};
use proto::peer::{Hello, Refusal, StoreKey};

use crate::raft::Member;

/// SHA-256 of a public key.
pub(crate) type Key = [u8; 32];

/// What a peer may do here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Everything that nodes do.
    Member,
    /// As a member; its key is not noted yet, so what stands for it is its store alone.
    Unbound,
    /// It was removed, and the engine counts its vote still: it takes part in that and in nothing
    /// else, for without it the others might have no majority to take its vote away.
    Leaving,
    /// Its key is a member's, and it cannot prove its store: it may ask to be taken back, and nothing
    /// else. It comes with a store that has ended, or with none.
    Returning,
}

/// What a node knows of the others.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    /// The engine's members; before it knows any, those of the seed.
    pub(crate) engine: &'a [(u64, Member)],
    /// Every store that the table has or had.
    pub(crate) bindings: &'a [Binding],
    /// Stores with keys that are vouched for and not in the table yet: by the seed, or by a member.
    pub(crate) vouched: &'a BTreeMap<Key, StoreKey>,
}

impl Known<'_> {
    /// What a peer with this key may do, given what it says of itself.
    ///
    /// # Errors
    /// Why it is not let in.
    pub(crate) fn entry(&self, key: &Key, hello: &Hello) -> Result<Entry, Refused> {
        let name = &hello.name;
        let removed = || {
            let reason = format!("{name} was removed from the cluster: its certificate is revoked");
            Refused::new(Refusal::Removed, reason)
        };
        let store = || {
            let reason = format!("{name} comes with another store than the one that was admitted");
            Refused::new(Refusal::Store, reason)
        };
        let gone = |counted| if counted { Ok(Entry::Leaving) } else { Err(removed()) };
        let counted = self.counts(hello);
        let mut of_key = self.bindings.iter().filter(|bound| bound.fingerprint == key);
        if let Some(present) = of_key.clone().find(|bound| !bound.removed) {
            return self.with_key_of(present, key, hello);
        }
        if of_key.clone().next().is_some() {
            return gone(counted && of_key.any(|bound| is_store(bound, hello)));
        }
        let of_id = self.bindings.iter().find(|bound| bound.raft_id == hello.raft_id);
        if let Some(bound) = of_id {
            if !bound.fingerprint.is_empty() {
                let reason = format!("the key of {name} is not the one that was admitted");
                return Err(Refused::new(Refusal::Unknown, reason));
            }
            return match (bound.removed, is_store(bound, hello)) {
                (true, same) => gone(same && counted),
                (false, true) => Ok(Entry::Unbound),
                (false, false) => Err(store()),
            };
        }
        if self.vouched.get(key).is_some_and(|known| *known == store_key(key, hello)) {
            return Ok(Entry::Member);
        }
        let other_key = self.vouched.values().any(|known| known.raft_id == hello.raft_id);
        if counted && !other_key {
            return Ok(Entry::Unbound);
        }
        if self.is_named(name) && !self.is_younger(hello) {
            return Err(store());
        }
        let reason = format!("{name} is not a member of this cluster");
        Err(Refused::new(Refusal::Unknown, reason))
    }

    /// The same for a peer whose key is that of a member.
    fn with_key_of(&self, present: &Binding, key: &Key, hello: &Hello) -> Result<Entry, Refused> {
        let name = &hello.name;
        if is_store(present, hello) {
            return Ok(Entry::Member);
        }
        if present.name != *name {
            let reason = format!("the key of {name} is that of {}", present.name);
            return Err(Refused::new(Refusal::Store, reason));
        }
        if hello.repairing {
            return Ok(Entry::Returning);
        }
        of_this_lineage(present, hello)?;
        if self.is_younger_than_the_table(hello) {
            // It was taken back while this node was away.
            return Ok(Entry::Member);
        }
        let mut of_key = self.bindings.iter().filter(|bound| bound.fingerprint == key);
        let was_repaired = of_key.any(|bound| bound.replaced);
        if was_repaired && hello.raft_id != 0 && hello.raft_id < present.raft_id {
            let reason = "set back: its store has ended, and it was taken back with a newer one";
            return Err(Refused::new(Refusal::Lacks, reason));
        }
        let reason = format!("{name} comes with another store than the one that was admitted");
        Err(Refused::new(Refusal::Store, reason))
    }

    /// Whether a store that nobody here knows may have been admitted while this node was away: ids
    /// only grow.
    pub(crate) fn is_younger(&self, hello: &Hello) -> bool {
        let mut engine = self.engine.iter().map(|(id, _)| *id);
        self.is_younger_than_the_table(hello) && engine.all(|id| hello.raft_id > id)
    }

    /// The same by the table alone. The engine may know a store before its row is applied here.
    fn is_younger_than_the_table(&self, hello: &Hello) -> bool {
        let mut known = self.bindings.iter().map(|bound| bound.raft_id);
        hello.raft_id >= RAFT_ID_JOINED_MIN && known.all(|id| hello.raft_id > id)
    }

    fn counts(&self, hello: &Hello) -> bool {
        self.engine.iter().any(|(id, member)| {
            *id == hello.raft_id
                && member.name == hello.name
                && hello.incarnation == member.incarnation
        })
    }

    fn is_named(&self, name: &str) -> bool {
        self.engine.iter().any(|(_, member)| member.name == name)
            || self.bindings.iter().any(|bound| bound.name == name)
    }
}

/// Where a majority was lost, one node went on with what it held (`recover`): the stores that were
/// before that are never let in again, and neither side takes anything from the other.
fn of_this_lineage(present: &Binding, hello: &Hello) -> Result<(), Refused> {
    let (name, theirs) = (&hello.name, Lineage::of(hello.raft_id));
    let ours = Lineage::of(present.raft_id);
    let (why, reason) = match ours.kinship(theirs) {
        Kinship::Same => return Ok(()),
        Kinship::Earlier => (
            Refusal::Lacks,
            format!(
                "its store has ended: the majority was lost, and lineage {ours} began without it"
            ),
        ),
        Kinship::Later => (
            Refusal::Store,
            format!(
                "{name} goes on without this node, in lineage {theirs}; this is lineage {ours}"
            ),
        ),
        Kinship::Apart => (
            Refusal::Store,
            format!(
                "{name} went on alone in lineage {theirs}, and others in lineage {ours}: a person \
                 has to say which of them counts, and to take the stores of the others away"
            ),
        ),
    };
    Err(Refused::new(why, reason))
}

/// What a peer says of its store, with the key that it has proven.
pub(crate) fn store_key(key: &Key, hello: &Hello) -> StoreKey {
    StoreKey {
        name: hello.name.clone(),
        raft_id: hello.raft_id,
        incarnation: hello.incarnation.clone(),
        fingerprint: key.to_vec(),
    }
}

fn is_store(bound: &Binding, hello: &Hello) -> bool {
    bound.name == hello.name
        && bound.raft_id == hello.raft_id
        && bound.incarnation == hello.incarnation
}

#[cfg(test)]
#[path = "entry_test.rs"]
mod tests;
