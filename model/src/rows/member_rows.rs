//! Rows of nodes, what is read from them, and the rule about who may go.
//!
//! Not here: how they change (`members`, `notice`).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use proto::Failure;
use proto::member::{MemberRow, MemberState};
use proto::wire::Members;

use crate::rows::error::{QueryError, StateError, conflict};
use crate::rows::keys;
use crate::rows::values::State;
use crate::rows::view::{Direction, Table, View};

/// Rows fetched at a time.
const CHUNK: usize = 256;

/// A node, and what only the machine needs of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) row: MemberRow,
    /// Id of the token that its present store came in with; empty for a first member.
    pub(crate) token: Bytes,
    /// Id of the change that removed it last; empty if none did.
    pub(crate) removed_by: String,
    /// Id of the change that last set it aside.
    pub(crate) aside_by: String,
    /// Its stores before the present one: neither id nor key is ever taken again.
    pub(crate) gone: Vec<GoneStore>,
}

/// A store that was removed, or ended by a repair.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct GoneStore {
    #[prost(uint64, tag = "1")]
    pub(crate) raft_id: u64,
    /// Empty if nobody noted the key.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) fingerprint: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) incarnation: Bytes,
    /// Whether a later store of the same node and key took its place.
    #[prost(bool, tag = "4")]
    pub(crate) repaired: bool,
}

#[derive(Clone, PartialEq, Message)]
struct NodeRow {
    #[prost(message, optional, tag = "1")]
    row: Option<MemberRow>,
    #[prost(bytes = "bytes", tag = "2")]
    token: Bytes,
    #[prost(string, tag = "3")]
    removed_by: String,
    #[prost(string, tag = "4")]
    aside_by: String,
    #[prost(message, repeated, tag = "5")]
    gone: Vec<GoneStore>,
}

impl Node {
    pub(crate) fn new(row: MemberRow) -> Self {
        Self {
            row,
            token: Bytes::new(),
            removed_by: String::new(),
            aside_by: String::new(),
            gone: Vec::new(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { row, token, removed_by, aside_by, gone } = self.clone();
        NodeRow { row: Some(row), token, removed_by, aside_by, gone }.encode_to_vec()
    }

    fn decode(bytes: Bytes) -> Result<Self, StateError> {
        let corrupt = |_| StateError::corrupt(Table::Members, "a node does not parse");
        let NodeRow { row, token, removed_by, aside_by, gone } =
            NodeRow::decode(bytes).map_err(corrupt)?;
        let row = row.ok_or_else(|| StateError::corrupt(Table::Members, "a node has no row"))?;
        Ok(Self { row, token, removed_by, aside_by, gone })
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.row.noticed() == MemberState::Removed
    }

    pub(crate) fn is_voter(&self) -> bool {
        !self.is_removed() && self.row.wants_vote()
    }

    /// Whether the engine may count it among the voters. Who came with a token and was never heard is
    /// not promoted yet, so nobody waits for its vote. Of one that is being repaired the store that ended
    /// may be counted still.
    fn votes(&self) -> bool {
        let only_admitted = self.row.noticed() == MemberState::Admitted && !self.token.is_empty();
        self.is_voter() && (!only_admitted || self.row.repair.is_some())
    }

    /// Every raft id that a store of this name ever had.
    pub(crate) fn raft_ids(&self) -> impl Iterator<Item = u64> {
        self.gone.iter().map(|gone| gone.raft_id).chain([self.row.raft_id])
    }

    /// Whether a store of this name, present or past, had this key or this incarnation.
    pub(crate) fn had(&self, fingerprint: &[u8], incarnation: &[u8]) -> bool {
        let gone = self.gone.iter().map(|gone| (&gone.fingerprint[..], &gone.incarnation[..]));
        let own = (&self.row.fingerprint[..], &self.row.incarnation[..]);
        gone.chain([own]).any(|(key, store)| key == fingerprint || store == incarnation)
    }

    /// Whether a store of this name, present or past, had this incarnation.
    pub(crate) fn had_store(&self, incarnation: &[u8]) -> bool {
        let mut gone = self.gone.iter();
        self.row.incarnation == incarnation || gone.any(|gone| gone.incarnation == incarnation)
    }

    /// Whether a store of this name, present or past, had this key.
    pub(crate) fn had_key(&self, fingerprint: &[u8]) -> bool {
        let mut gone = self.gone.iter();
        self.row.fingerprint == fingerprint || gone.any(|gone| gone.fingerprint == fingerprint)
    }

    /// Its stores, the present one last.
    fn bindings(self) -> impl Iterator<Item = Binding> {
        let removed = self.is_removed();
        let name = self.row.name.clone();
        let gone = self.gone.into_iter().map(move |gone| Binding {
            name: name.clone(),
            raft_id: gone.raft_id,
            incarnation: gone.incarnation.to_vec(),
            fingerprint: gone.fingerprint.to_vec(),
            removed: true,
            replaced: gone.repaired && !removed,
        });
        gone.chain([Binding {
            name: self.row.name,
            raft_id: self.row.raft_id,
            incarnation: self.row.incarnation,
            fingerprint: self.row.fingerprint,
            removed,
            replaced: false,
        }])
    }

    /// Whether a store of this name that was removed had this key or this incarnation. The key of a store
    /// that ended by a repair is the present one's.
    pub(crate) fn lost(&self, fingerprint: &[u8], incarnation: &[u8]) -> bool {
        let over = |gone: &&GoneStore| !gone.repaired || self.is_removed();
        let gone = self
            .gone
            .iter()
            .filter(over)
            .map(|gone| (&gone.fingerprint[..], &gone.incarnation[..]));
        let own = (&self.row.fingerprint[..], &self.row.incarnation[..]);
        let own = self.is_removed().then_some(own);
        gone.chain(own).any(|(key, store)| key == fingerprint || store == incarnation)
    }

    /// Whether the key or the raft id is one that was removed. Of a first member nobody noted the
    /// key, so once its name was given away every key but the new one counts as the old.
    pub(crate) fn revokes(&self, fingerprint: Option<&[u8]>, raft_id: u64) -> bool {
        if self.is_removed() || self.gone.iter().any(|gone| gone.raft_id == raft_id) {
            return true;
        }
        fingerprint.filter(|key| *key != &self.row.fingerprint[..]).is_some_and(|key| {
            self.gone.iter().any(|gone| gone.fingerprint.is_empty() || gone.fingerprint[..] == *key)
        })
    }
}

/// What belongs together for ever: a store, and the key of the node that has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Binding {
    /// Name of the node.
    pub name: String,
    /// Raft id of the store.
    pub raft_id: u64,
    /// Incarnation of the store.
    pub incarnation: Vec<u8>,
    /// SHA-256 of the node's public key; empty if nobody has noted it.
    pub fingerprint: Vec<u8>,
    /// Whether it was removed, or replaced by a later store of this name.
    pub removed: bool,
    /// Whether a later store of the same node and key, which is a member, took its place.
    pub replaced: bool,
}

/// Every store that ever was in the cluster, with its key.
///
/// # Errors
/// When the state cannot be read.
pub fn bindings(view: &dyn View) -> Result<Vec<Binding>, StateError> {
    Ok(nodes(view)?.into_values().flat_map(Node::bindings).collect())
}

/// All nodes by name, removed ones too.
pub(crate) fn nodes(view: &dyn View) -> Result<BTreeMap<String, Node>, StateError> {
    let (mut nodes, mut from) = (BTreeMap::new(), Vec::new());
    loop {
        let rows = view.scan(Table::Members, &from, keys::END, Direction::Forward, CHUNK)?;
        let last_chunk = rows.len() < CHUNK;
        if let Some((key, _)) = rows.last() {
            from = [&key[..], &[0]].concat();
        }
        for (_, row) in rows {
            let node = Node::decode(row.into())?;
            nodes.insert(node.row.name.clone(), node);
        }
        if last_chunk {
            return Ok(nodes);
        }
    }
}

/// One node.
pub(crate) fn node(view: &dyn View, name: &str) -> Result<Option<Node>, StateError> {
    view.get(Table::Members, name.as_bytes())?.map(Node::decode).transpose()
}

/// Whether the cluster can do without these voters: of those that stay, more than half take part.
/// Who goes may be gone at once, before the engine's membership has followed; with several at a
/// time those that take part must therefore outnumber half of what there was, too.
pub(crate) fn can_do_without(
    nodes: &BTreeMap<String, Node>,
    names: &[&str],
) -> Result<(), Failure> {
    let voters = nodes.values().filter(|node| node.votes());
    let (going, staying): (Vec<_>, Vec<_>) =
        voters.partition(|node| names.contains(&node.row.name.as_str()));
    if going.is_empty() {
        return Ok(());
    }
    let listed = names.join(", ");
    if staying.is_empty() {
        return Err(conflict(format!(
            "without {listed} the cluster would have no voter left: add another node first"
        )));
    }
    // Who is being repaired has no vote, and may lack what was acknowledged.
    let fit =
        |node: &&&Node| node.row.noticed() == MemberState::Joined && node.row.repair.is_none();
    let (fit, all) = (staying.iter().filter(fit).count(), staying.len());
    if fit * 2 <= all {
        return Err(conflict(format!(
            "without {listed} only {fit} of {all} voters would take part, which is not a majority: \
             start the others, or add nodes, first"
        )));
    }
    let before = all + going.len();
    if going.len() > 1 && fit * 2 <= before {
        return Err(conflict(format!(
            "without {listed} only {fit} of {before} voters would take part: do one after the other"
        )));
    }
    assert!(fit > 0, "somebody stays who takes part and votes");
    Ok(())
}

/// All nodes, removed ones too, by name; with the epoch of the table.
///
/// # Errors
/// When the state cannot be read.
pub fn members(view: &dyn View) -> Result<Members, StateError> {
    let members = nodes(view)?.into_values().map(|node| node.row).collect();
    Ok(Members { epoch: members_epoch(view)?, members })
}

/// Version of the table of nodes: grows with every change; 0 before the first.
///
/// # Errors
/// When the state cannot be read.
pub fn members_epoch(view: &dyn View) -> Result<u64, StateError> {
    Ok(State::load(view)?.members_epoch)
}

/// The row of a node, removed or not.
///
/// # Errors
/// When the state cannot be read.
pub fn member(view: &dyn View, name: &str) -> Result<Option<MemberRow>, StateError> {
    Ok(node(view, name)?.map(|node| node.row))
}

/// Why nobody may talk to this node any more; `None` if everybody may. `fingerprint` is the SHA-256
/// of its public key, if that is known; a raft id of 0 is one that is not known.
///
/// # Errors
/// When the state cannot be read.
pub fn revoked(
    view: &dyn View,
    name: &str,
    fingerprint: Option<&[u8]>,
    raft_id: u64,
) -> Result<Option<String>, StateError> {
    let node = node(view, name)?;
    let revoked = node.is_some_and(|node| node.revokes(fingerprint, raft_id));
    Ok(revoked.then(|| format!("{name} was removed from the cluster: its certificate is revoked")))
}

/// A row that must exist and must not be removed.
pub(crate) fn present<'n>(
    nodes: &'n BTreeMap<String, Node>,
    name: &str,
) -> Result<&'n Node, QueryError> {
    nodes.get(name).filter(|node| !node.is_removed()).ok_or_else(|| {
        crate::rows::error::not_found(format!("no node '{name}': logctl nodes lists them")).into()
    })
}
