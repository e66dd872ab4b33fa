//! Compares this node's state with what the others say of theirs, behind the same entries. Of each node
//! only its own word about its own state counts, on a connection of its key; where a majority of the voters
//! holds the same and this node something else, it is this one that is wrong: it notes that as damage, steps
//! back and is taken back with a new store. Where no majority agrees, a person has to decide.
//!
//! Histories are compared behind every so many entries. All rows are compared behind an entry that asks for
//! it: the primary has one ordered once a day, and whoever verifies.
//!
//! Not here: the rule (`model::replicas`), what is compared (`raft::states`), two histories (`witness`):
//! places that differ say nothing of states.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::hash::Hash;
use model::replicas::{Verdict, judge};
use net::PeerAddr;
use prost::Message as _;
use proto::event::{ASKED, AUDIT, NODE, TYPE, WHY};
use proto::peer::{Digested, NodeEvent, PeerOp, StateClaim, States};
use proto::wire::Empty;
use proto::{Header, Name};
use tokio::time::Instant;

use super::{Body, Core, Deadline, Node};
use crate::store::DamageKind;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Longest wait for another node's word.
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// Between two readings of all rows that nobody has asked for, and from the start to the first.
const AUDIT_EVERY: Duration = Duration::from_secs(24 * 3600);
const FIRST_AUDIT: Duration = Duration::from_secs(600);
/// How long who verifies waits for a primary.
const ORDERED_WITHIN: Duration = Duration::from_secs(2);
/// How long who verifies waits until the state is read at the entry that it has ordered.
const AUDITED_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks for that.
const LOOK_FOR_AUDIT_EVERY: Duration = Duration::from_millis(20);

/// A state that is compared: which entry, by its chain hash, and what was digested.
type Key = (u64, Vec<u8>, Digested);

fn key(claim: &StateClaim) -> Option<Key> {
    let place = claim.place.as_ref()?;
    Some((place.index, place.hash.clone(), claim.digested()))
}

fn digest(claim: &StateClaim) -> Option<Hash> {
    claim.digest.as_slice().try_into().ok()
}

/// Compares for ever. On the primary it also orders the readings of all rows.
pub(crate) async fn run(node: Node) {
    let Body::Whole(core) = &node.inner.body else { return std::future::pending().await };
    let mut settled: BTreeSet<Key> = BTreeSet::new();
    let (began, mut audited): (_, Option<Instant>) = (Instant::now(), None);
    let mut last_audit = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let own = core.engine.states();
        let keys: BTreeSet<Key> = own.iter().filter_map(key).collect();
        settled.retain(|known| keys.contains(known));
        let newest = keys.iter().filter(|key| key.2 == Digested::Content).map(|key| key.0).max();
        if newest > last_audit {
            (last_audit, audited) = (newest, Some(Instant::now()));
        }
        let open = own.iter().filter(|claim| key(claim).is_some_and(|key| !settled.contains(&key)));
        let open: Vec<_> = open.cloned().collect();
        if !open.is_empty() {
            settled.extend(node.compare(core, &open).await);
        }
        if core.store.damage().is_some() {
            return std::future::pending().await;
        }
        let due = match audited {
            Some(at) => at.elapsed() >= AUDIT_EVERY,
            None => began.elapsed() >= FIRST_AUDIT,
        };
        if due && core.engine.leadership().is_some() {
            audited = Some(Instant::now());
            core.events.push(node.audit_event(None));
        }
    }
}

impl Node {
    /// Compares these with what the others tell; gives those that are settled.
    async fn compare(&self, core: &Core, open: &[StateClaim]) -> Vec<Key> {
        let view = core.engine.view().borrow().clone();
        if view.joint {
            return Vec::new();
        }
        let name = |id: &u64| view.members.get(id).map(|member| member.name.clone());
        let voters: BTreeSet<String> = view.voters.iter().filter_map(name).collect();
        let peers = self.peers().into_iter().filter(|peer| voters.contains(peer.name.as_str()));
        let asked = peers
            .map(|peer| async move { Some((peer.name.to_string(), self.states_of(&peer).await?)) });
        let told = futures::future::join_all(asked).await;
        let told: Vec<(String, States)> = told.into_iter().flatten().collect();
        let mut settled = Vec::new();
        for mine in open {
            let (Some(at), Some(held)) = (key(mine), digest(mine)) else { continue };
            let of_same = |(name, states): &(String, States)| {
                let claim = states.claims.iter().find(|claim| key(claim).as_ref() == Some(&at))?;
                Some((name.clone(), digest(claim)?))
            };
            let others: BTreeMap<String, Hash> = told.iter().filter_map(of_same).collect();
            match judge((self.inner.name.as_str(), &held), &voters, &others) {
                Verdict::Unknown => {}
                Verdict::Same => {
                    self.inner.undecided.store(None);
                    settled.push(at);
                }
                Verdict::Undecided => self.tell_undecided(&at),
                Verdict::Differs(with) => {
                    let found = differs(&at, &with);
                    core.store.note_damage(DamageKind::Contradicted, found);
                    return settled;
                }
            }
        }
        settled
    }

    fn tell_undecided(&self, (index, _, digested): &Key) {
        let what = what(*digested);
        let found =
            format!("{what} after entry {index}; 'logctl verify --state --deep' tells which");
        if self.inner.undecided.load().as_deref() != Some(&found) {
            tracing::error!(found, "the states of the nodes differ, and no majority agrees");
            self.inner.undecided.store(Some(Arc::new(found)));
        }
    }

    async fn states_of(&self, peer: &PeerAddr) -> Option<States> {
        let heard = self.inner.members.heard(peer.name.as_str());
        heard.filter(crate::peer_monitor::PeerStatus::is_up)?;
        let asked = self.ask_peer(peer, PeerOp::States(Empty {}), Deadline::within(ASK_WITHIN));
        let answer = tokio::time::timeout(ASK_WITHIN, asked).await.ok()?.ok()?;
        States::decode(answer).ok()
    }

    /// Tells a peer what this node's state was like. One that proves nothing says nothing.
    pub(crate) fn peer_states(&self) -> States {
        let claims = self.core().map(|core| core.engine.states());
        States { claims: claims.unwrap_or_default() }
    }

    /// Has all nodes read their states behind one entry, and waits until this one has, as long as that is
    /// worth it. Where no primary orders that, it is left out.
    pub(super) async fn ask_for_audit(&self, core: &Core, who: &Name) {
        let newest = || {
            let claims = core.engine.states().into_iter();
            let claims = claims.filter(|claim| claim.digested() == Digested::Content);
            claims.filter_map(|claim| Some(claim.place?.index)).max()
        };
        let before = newest();
        let ordered = self.bring_event(self.audit_event(Some(who)));
        if !matches!(tokio::time::timeout(ORDERED_WITHIN, ordered).await, Ok(Ok(_))) {
            tracing::info!("no primary orders that all states are read behind one entry");
            return;
        }
        let read = async {
            while newest() <= before && core.store.damage().is_none() {
                tokio::time::sleep(LOOK_FOR_AUDIT_EVERY).await;
            }
        };
        drop(tokio::time::timeout(AUDITED_WITHIN, read).await);
    }

    fn audit_event(&self, asked_by: Option<&Name>) -> NodeEvent {
        let header = |key: &str, value: &str| Header { key: key.into(), value: value.into() };
        let name = self.inner.name.as_str();
        let mut headers = vec![header(TYPE, AUDIT), header(NODE, name)];
        let why = match asked_by {
            Some(who) => {
                headers.extend([header(WHY, ASKED), header("by", who.as_str())]);
                format!("for {who}")
            }
            None => "once a day".to_owned(),
        };
        let text = format!("audit: all nodes compare what they hold here ({why})");
        NodeEvent { id: self.inner.chance.id().to_string(), headers, text }
    }
}

fn what(digested: Digested) -> &'static str {
    match digested {
        Digested::History => "what was changed",
        Digested::Content => "what is held",
    }
}

fn differs((index, _, digested): &Key, with: &[String]) -> String {
    let (what, with) = (what(*digested), with.join(", "));
    format!("{what} after entry {index} is not what a majority has: {with}")
}
