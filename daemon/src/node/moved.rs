//! Nodes that are dialled at another address than the table says.
//!
//! Every node says in each exchange where it listens. Where that is not what the table says, whoever
//! hears it calls it back there. Only that node's key, raft id and store can answer the call, so the
//! address is proven then: this node dials it there from now on, also before the table knows, and
//! brings one change of the table to the primary. The reconciler does the rest.
//!
//! Invariant: a claim alone moves nobody. While somebody answers as that node at the old address,
//! another who claims to be it elsewhere is not called: there would be two of them. Nor does a process
//! move its node that takes no part: a copy of a store says what its original would.
//!
//! Not here: the exchanges (`peer_monitor`), what the change means (`model::members`), the verdict on a
//! node that is not where the table says (`reach`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use net::{FrameRx, FrameTx, Lane, Link, LinkError, PeerAddr};
use parking_lot::{Mutex, MutexGuard};
use proto::member::{MemberChange, MemberOp, MemberRow, MoveNode};
use tokio::time::Instant;

use crate::peer_monitor::PeerStatus;
use crate::reconciler;
use crate::tasks::Tasks;

use super::{Body, Core, Deadline, Node};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Before the first try is made again; doubled with each further one.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Longest wait between two tries.
const AGAIN_MAX: Duration = Duration::from_secs(15);
/// Longest wait for the primary to take the change.
const BRING_WITHIN: Duration = Duration::from_secs(3);

/// Where stores are dialled, by name and raft id.
type Places = BTreeMap<(String, u64), Place>;

/// Where nodes have proven to be. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book(Arc<Mutex<Places>>);

#[derive(Debug, Default)]
struct Place {
    now: String,
    before: BTreeSet<String>,
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock()
    }

    /// Where that store is dialled, if not where the caller thinks.
    fn elsewhere(&self, to: &PeerAddr) -> Option<String> {
        let places = self.lock();
        let place = places.get(&(to.name.to_string(), to.raft_id))?;
        place.before.contains(&to.address).then(|| place.now.clone())
    }

    fn is_proven(&self, peer: &PeerAddr, address: &str) -> bool {
        let places = self.lock();
        places.get(&(peer.name.to_string(), peer.raft_id)).is_some_and(|p| p.now == address)
    }

    /// The store is at `now`; at `was` it is no more.
    fn moved(&self, peer: &PeerAddr, was: &str, now: &str) {
        let mut places = self.lock();
        let place = places.entry((peer.name.to_string(), peer.raft_id)).or_default();
        let last = std::mem::replace(&mut place.now, now.to_owned());
        place.before.extend([was.to_owned(), last].into_iter().filter(|old| !old.is_empty()));
        place.before.remove(now);
    }

    /// Takes what the table says, which others may have had changed: whatever was dialled before leads
    /// there too. A table that has not followed yet is not believed.
    fn noted(&self, peer: &PeerAddr, table: &str) {
        let mut places = self.lock();
        let place = places.entry((peer.name.to_string(), peer.raft_id)).or_default();
        if place.now.is_empty() {
            table.clone_into(&mut place.now);
        } else if place.now != table && !place.before.contains(table) {
            let last = std::mem::replace(&mut place.now, table.to_owned());
            place.before.insert(last);
        }
        if place.now == table && peer.address != table {
            // The engine has not followed yet.
            place.before.insert(peer.address.clone());
        }
    }

    /// The table and the node agree.
    fn settled(&self, peer: &PeerAddr, address: &str) {
        if !self.is_proven(peer, address) {
            self.moved(peer, address, address);
        }
    }
}

/// A link that dials nodes where they have proven to be.
pub(crate) struct Roaming {
    link: Arc<dyn Link>,
    book: Book,
}

impl Roaming {
    pub(crate) fn new(link: Arc<dyn Link>, book: Book) -> Self {
        Self { link, book }
    }
}

impl Link for Roaming {
    fn open<'a>(
        &'a self,
        to: &'a PeerAddr,
        lane: Lane,
    ) -> BoxFuture<'a, Result<(FrameTx, FrameRx), LinkError>> {
        let Some(address) = self.book.elsewhere(to) else { return self.link.open(to, lane) };
        let to = PeerAddr { address, ..to.clone() };
        async move { self.link.open(&to, lane).await }.boxed()
    }

    fn forget(&self, peer: &proto::Name) {
        self.link.forget(peer);
    }
}

/// When something is tried again.
#[derive(Debug)]
struct Again {
    at: Instant,
    wait: Duration,
}

/// What was tried and did not help yet: calls, and changes that were brought.
#[derive(Debug, Default)]
struct Tries(BTreeMap<(String, String, bool), Again>);

impl Tries {
    /// Whether something may be tried now; then it waits longer the next time.
    fn may(&mut self, node: &str, address: &str, bring: bool) -> bool {
        let now = Instant::now();
        let key = (node.to_owned(), address.to_owned(), bring);
        let first = Again { at: now, wait: AGAIN_AFTER };
        let again = self.0.entry(key).or_insert(first);
        if again.at > now {
            return false;
        }
        again.at = now + again.wait;
        again.wait = (again.wait * 2).min(AGAIN_MAX);
        true
    }

    fn forget(&mut self, node: &str) {
        self.0.retain(|(name, ..), _| name != node);
    }
}

/// Looks for nodes that have moved.
pub(crate) fn follow(node: &Node, link: Arc<dyn Link>, book: Book, tasks: &Tasks) {
    let node = node.clone();
    tasks.keep_until_stop("moved nodes", async move {
        let mut tries = Tries::default();
        loop {
            if let Body::Whole(core) = &node.inner.body {
                node.look_for_moved(core, &*link, &book, &mut tries).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}

/// What to do about where a node says it is.
#[derive(Debug, PartialEq, Eq)]
enum Claim<'a> {
    /// Nothing is said by one that takes part, or it cannot be told which of two to believe.
    Nothing,
    /// As the table says.
    Same,
    /// Elsewhere.
    Elsewhere(&'a str),
}

fn claim<'a>(heard: &'a PeerStatus, table: &str) -> Claim<'a> {
    if heard.info.starts == 0 || heard.info.leaving || heard.is_two(table) {
        return Claim::Nothing;
    }
    match heard.claims() {
        None | Some("") => Claim::Nothing,
        Some(address) if address == table => Claim::Same,
        Some(address) => Claim::Elsewhere(address),
    }
}

impl Node {
    async fn look_for_moved(&self, core: &Core, link: &dyn Link, book: &Book, tries: &mut Tries) {
        let Ok(rows) = reconciler::rows(&core.store) else { return };
        for peer in self.peers() {
            let table = address_of(&rows.members, &peer);
            book.noted(&peer, table);
            let Some(heard) = self.inner.members.heard(peer.name.as_str()) else { continue };
            match claim(&heard, table) {
                Claim::Nothing => {}
                Claim::Same => {
                    book.settled(&peer, table);
                    tries.forget(peer.name.as_str());
                }
                Claim::Elsewhere(address) if book.is_proven(&peer, address) => {
                    if tries.may(peer.name.as_str(), address, true) {
                        self.bring_move(peer.name.as_str(), peer.raft_id, address).await;
                    }
                }
                Claim::Elsewhere(address) => {
                    if !tries.may(peer.name.as_str(), address, false) {
                        continue;
                    }
                    let there = PeerAddr { address: address.to_owned(), ..peer.clone() };
                    match link.open(&there, Lane::Urgent).await {
                        Ok(_) => {
                            tracing::info!(peer = %peer.name, was = table, now = address, "a node moved");
                            book.moved(&peer, table, address);
                        }
                        Err(error) => {
                            let peer = peer.name.as_str();
                            tracing::warn!(
                                peer, claims = address, table, %error,
                                "a node says that it listens where it does not answer"
                            );
                        }
                    }
                }
            }
        }
        self.move_alone(core, &rows.members, tries).await;
    }

    /// A node that is the whole cluster has nobody who could call it back, and nobody who dials it.
    async fn move_alone(&self, core: &Core, rows: &[MemberRow], tries: &mut Tries) {
        let (alone, id) = {
            let view = core.engine.view();
            let view = view.borrow();
            (view.is_primary() && view.members.len() == 1, view.id)
        };
        let (name, address) = (self.inner.name.as_str(), self.inner.advertise.as_str());
        let row = rows.iter().find(|row| row.raft_id == id);
        let moved = row.is_some_and(|row| row.address != address);
        if alone && moved && tries.may(name, address, true) {
            self.bring_move(name, id, address).await;
        }
    }

    async fn bring_move(&self, name: &str, raft_id: u64, address: &str) {
        let (name, address) = (name.to_owned(), address.to_owned());
        let moved = MoveNode { name, raft_id, address };
        let change = MemberChange {
            op: Some(MemberOp::Move(moved)),
            id: self.inner.chance.id().to_string(),
        };
        if let Err(failure) = self.bring_member(change, Deadline::within(BRING_WITHIN)).await {
            tracing::debug!(%failure, "the new address of a node could not be noted; it will be tried again");
        }
    }
}

/// Where the table says that a store is dialled; before it is in the table, where the engine does.
pub(super) fn address_of<'a>(rows: &'a [MemberRow], peer: &'a PeerAddr) -> &'a str {
    let row = rows.iter().find(|row| row.raft_id == peer.raft_id && !row.address.is_empty());
    row.map_or(peer.address.as_str(), |row| row.address.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> PeerAddr {
        let (name, address) = ("n1".parse().unwrap(), address.to_owned());
        PeerAddr { name, raft_id: 1, address, incarnation: [1; 16] }
    }

    /// Seen to fail with: older addresses forgotten at each move. The engine's links keep theirs for as
    /// long as they live.
    #[test]
    fn a_node_is_dialled_where_it_has_proven_to_be() {
        let book = Book::default();
        book.noted(&at("h:1"), "h:1");
        book.settled(&at("h:1"), "h:1");
        assert_eq!(book.elsewhere(&at("h:1")), None);
        book.moved(&at("h:1"), "h:1", "h:2");
        assert_eq!(book.elsewhere(&at("h:1")).as_deref(), Some("h:2"));
        assert!(book.is_proven(&at("h:1"), "h:2"));
        book.settled(&at("h:2"), "h:2");
        assert_eq!(book.elsewhere(&at("h:1")).as_deref(), Some("h:2"), "an old link");
        assert_eq!(book.elsewhere(&at("h:2")), None);
        book.moved(&at("h:2"), "h:2", "h:3");
        for old in ["h:1", "h:2"] {
            assert_eq!(book.elsewhere(&at(old)).as_deref(), Some("h:3"));
        }
        // Back where it was at first.
        book.moved(&at("h:3"), "h:3", "h:1");
        assert_eq!(book.elsewhere(&at("h:1")), None);
        assert_eq!(book.elsewhere(&at("h:3")).as_deref(), Some("h:1"));
        // The table has not followed, and then it has.
        book.noted(&at("h:3"), "h:3");
        assert_eq!(book.elsewhere(&at("h:3")).as_deref(), Some("h:1"));
        book.noted(&at("h:1"), "h:1");
        let other = PeerAddr { raft_id: 17, ..at("h:1") };
        assert_eq!(book.elsewhere(&other), None, "another store of that name");
    }

    /// Seen to fail with: proofs of this node's own alone. The engine of a primary that learned of it by
    /// the table would go on dialling where nobody is.
    #[test]
    fn what_others_have_proven_is_learned_from_the_table() {
        let book = Book::default();
        book.noted(&at("h:1"), "h:1");
        book.noted(&at("h:1"), "h:2");
        assert_eq!(book.elsewhere(&at("h:1")).as_deref(), Some("h:2"));
        book.noted(&at("h:2"), "h:2");
        assert_eq!(book.elsewhere(&at("h:2")), None);
        // A node that has just started: its engine has not followed the table yet.
        let book = Book::default();
        book.noted(&at("h:1"), "h:2");
        assert_eq!(book.elsewhere(&at("h:1")).as_deref(), Some("h:2"));
    }

    #[tokio::test]
    async fn what_did_not_help_is_tried_again_later() {
        let mut tries = Tries::default();
        assert!(tries.may("n1", "h:1", false));
        assert!(!tries.may("n1", "h:1", false));
        assert!(tries.may("n1", "h:1", true) && tries.may("n1", "h:2", false));
        tries.forget("n1");
        assert!(tries.may("n1", "h:1", false));
    }
}
