//! A node that cannot prove its store comes back by itself, under its own name and key, with a new store.
//!
//! It asks the primary again and again. The primary knows it by its key, sees that the process that asks
//! is the one that answers where the table says that the node listens, and has the log end the old store
//! and begin a new one (`model`). Only once that is committed is the old store put aside, and the node
//! starts anew as one that has just joined: the reconciler replicates to it, and gives it its vote back.
//!
//! A node whose store is gone believes the members that it wrote down beside its key, by theirs.
//!
//! Invariant: nothing is made, moved or removed in the data directory before the cluster has said so.
//!
//! Not here: the rule (`model::rules::repair`), who is let in to ask (`reconciler::entry`).

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use certs::Peer;
use config::Config;
use config::seed::{SEED_FILE, Seed, USED_SEED_FILE};
use model::query::{Readmission, check_readmission};
use prost::Message as _;
use proto::limits::REASON_BYTES_MAX;
use proto::member::{MemberChange, MemberOp, MemberRow, MemberState, NodeRole, ReadmitNode};
use proto::peer::PeerOp;
use proto::repair::{Rejoin, Rejoined, RepairWait};
use proto::wire::Members;
use proto::{Failure, Problem, ProblemCode};
use uuid::Uuid;

use crate::exit::{Exit, Failed};
use crate::reader::{answered, store_failure};
use crate::store::Store;
use crate::tasks::Tasks;
use crate::{reconciler, seeded};

use super::{Body, Core, DEADLINE, Deadline, Node, Repairing};

/// Between two questions of a node that wants to come back.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for one node that is asked.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// After its start a node is called back at its address within this time, if it is there.
const CALLED_BACK_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks at who the members are.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two looks at the stores that lie aside.
const LOOK_ASIDE_EVERY: Duration = Duration::from_secs(30);

/// Why a node is not taken back yet.
type Wait = (RepairWait, String);

/// Completes when the cluster has taken this node back and its new store may be made at the next start,
/// which is to be at once. Never for a node that takes part.
pub(crate) async fn taken_back(node: &Node, config: &Config) -> Failed {
    let Body::Repairing(repairing) = &node.inner.body else { return std::future::pending().await };
    let incarnation = node.inner.chance.id();
    loop {
        let wait = match node.ask_to_return(repairing, config, incarnation).await {
            Ok(members) => match make_way(node, config, &members) {
                Ok(said) => return said,
                Err(wait) => wait,
            },
            Err(wait) => wait,
        };
        repairing.wait_for(wait);
        tokio::time::sleep(ASK_EVERY).await;
    }
}

impl Repairing {
    /// Tells everybody what the repair waits for; logs what is new.
    fn wait_for(&self, (what, text): Wait) {
        let problem = Problem::new(ProblemCode::RepairWaits).about(what.as_str()).detail(text);
        let before = self.waits.swap(Some(Arc::new(problem.clone())));
        if before.is_none_or(|before| before.about != problem.about) {
            tracing::warn!(waits_for = problem.about, "{}", problem.text());
        }
    }
}

/// What a node waits for that no primary has heard, given what each of the others said, and how many of them
/// cannot help.
fn nobody_to_ask(said: &[String], missing: usize) -> Wait {
    let said = said.join("; ");
    match (said.is_empty(), missing) {
        (true, _) => (RepairWait::Majority, "there is no other voter".to_owned()),
        (false, 0) => (RepairWait::Primary, format!("a primary that a majority follows; {said}")),
        (false, _) => (
            RepairWait::Majority,
            format!(
                "a majority of the other voters; {said}. If those never come back: logd recover \
                 --dry-run on each node that is left"
            ),
        ),
    }
}

/// Puts the old store aside and leaves the seed of the new one.
fn make_way(node: &Node, config: &Config, members: &Members) -> Result<Failed, Wait> {
    let failed = |error: &dyn std::fmt::Display| (RepairWait::Room, error.to_string());
    let (cluster, name) = (node.inner.identity.cluster.clone(), node.name().clone());
    let starts = members.members.iter().find(|row| row.name == name.as_str());
    let starts = starts.map_or(0, |row| row.starts);
    let seed = Seed::of_admitted(cluster, name, &members.members);
    let seed =
        seed.ok_or_else(|| failed(&"the primary's answer names members that make no sense"))?;
    let seed = Seed { starts, ..seed };
    let data_dir = &config.data_dir;
    fs::create_dir_all(data_dir).map_err(|error| failed(&error))?;
    let aside = Store::put_aside(data_dir).map_err(|error| failed(&error))?;
    if let Some(aside) = aside {
        tracing::warn!(
            aside = %aside.display(),
            "the store that could not be proven is kept there; remove it by hand once nobody needs it"
        );
    }
    put_seed_away(data_dir).map_err(|error| failed(&error))?;
    seed.write(data_dir).map_err(|error| failed(&error))?;
    let raft_id = seed.myself().map_or(0, |myself| myself.raft_id);
    tracing::warn!(raft_id, "taken back: this node starts again, with an empty store");
    let why = anyhow::anyhow!("taken back by the cluster, with a new store");
    Ok(Failed::new(Exit::Other, why, "nothing: it starts again by itself").and_restarts())
}

/// A seed that waits is of a store that has ended.
fn put_seed_away(data_dir: &Path) -> std::io::Result<()> {
    match fs::rename(data_dir.join(SEED_FILE), data_dir.join(USED_SEED_FILE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

impl Node {
    /// Asks the other nodes, the primary first, to be taken back. Returns all members if it is.
    async fn ask_to_return(
        &self,
        repairing: &Repairing,
        config: &Config,
        incarnation: Uuid,
    ) -> Result<Members, Wait> {
        Store::has_room_for_another(&config.data_dir).map_err(|text| (RepairWait::Room, text))?;
        let mut why = repairing.damage.to_string();
        why.truncate(why.floor_char_boundary(REASON_BYTES_MAX));
        let there = Store::exists(&config.data_dir).unwrap_or(true);
        let ask = Rejoin {
            incarnation: incarnation.as_bytes().to_vec(),
            life: self.witness().shown().life,
            why,
            permitted: config.rejoin.unwrap_or(there),
        };
        let mut peers = self.peers();
        let leads = |name: &str| {
            let heard = self.members().heard(name).filter(|heard| self.sees_up(heard));
            heard.is_some_and(|heard| {
                NodeRole::read(&heard.info.role) == NodeRole::Primary && heard.info.followed
            })
        };
        peers.sort_by_key(|peer| !leads(peer.name.as_str()));
        // Why those that were asked are no primary, and how many cannot help at all.
        let (mut said, mut missing) = (Vec::new(), 0);
        for peer in peers {
            let op = PeerOp::Rejoin(ask.clone());
            let answer = self.ask_peer(&peer, op, Deadline::within(ASK_WITHIN)).await;
            let answer = answer.ok().and_then(|answer| Rejoined::decode(answer).ok());
            let Some(answer) = answer else {
                missing += 1;
                said.push(format!("{}: no answer", peer.name));
                continue;
            };
            if let Some(known) = &answer.known {
                self.learn_members(repairing, known);
            }
            let wait = answer.why_waiting();
            match answer.members {
                Some(members) => return Ok(members),
                None if wait == RepairWait::Primary => {
                    missing += usize::from(self.is_repairing(peer.name.as_str()));
                    said.push(answer.text);
                }
                None if wait == RepairWait::Address
                    && self.inner.began.elapsed() < CALLED_BACK_WITHIN =>
                {
                    return Err((wait, "it is called back there first".to_owned()));
                }
                None => return Err((wait, answer.text)),
            }
        }
        Err(nobody_to_ask(&said, missing))
    }

    /// Whether another node cannot prove its store, by its own word.
    fn is_repairing(&self, name: &str) -> bool {
        let heard = self.members().heard(name);
        heard.is_some_and(|heard| NodeRole::read(&heard.info.role) == NodeRole::Repairing)
    }

    /// Takes over the members that another one knows: those that came since this node last looked are asked
    /// next time.
    fn learn_members(&self, repairing: &Repairing, known: &Members) {
        let (cluster, name) = (self.inner.identity.cluster.clone(), self.name().clone());
        let Some(seed) = Seed::of_admitted(cluster, name, &known.members) else { return };
        self.inner.trust.learn_members(&seeded::stores(&seed));
        *repairing.known.lock() = seeded::members(&seed);
    }

    /// Serves a node that wants to be taken back.
    pub(crate) async fn peer_rejoin(&self, peer: &Peer, ask: Rejoin) -> Rejoined {
        let name = &peer.identity.name;
        let taken = self.take_back(peer, ask).await;
        let waits = |(wait, text): Wait| {
            tracing::info!(%name, waits_for = wait.as_str(), text, "a node cannot be taken back yet");
            let known = self.core().ok().and_then(|core| Self::everybody(core).ok());
            Rejoined { members: None, wait: wait.into(), text, known }
        };
        match taken {
            Ok(Ok(members)) => {
                tracing::warn!(%name, "a node was taken back with a new store");
                Rejoined { members: Some(members), ..Rejoined::default() }
            }
            Ok(Err(wait)) => waits(wait),
            Err(failure) => waits((RepairWait::Other, failure.to_string())),
        }
    }

    async fn take_back(&self, peer: &Peer, ask: Rejoin) -> Result<Result<Members, Wait>, Failure> {
        let wait = |wait, text: String| Ok(Err((wait, text)));
        let own = &self.inner.name;
        let Ok(core) = self.core() else {
            return wait(RepairWait::Primary, format!("{own} cannot prove its own store"));
        };
        let view = core.engine.view().borrow().clone();
        if !view.is_primary() || !self.is_followed(&view) {
            let text = match self.leader().primary {
                primary if primary.is_empty() => format!("{own} knows of no primary"),
                primary => format!("{own} follows {primary}"),
            };
            return wait(RepairWait::Primary, text);
        }
        let name = peer.identity.name.as_str();
        let rows = reconciler::rows(&core.store).map_err(store_failure)?;
        let is_it = |row: &&MemberRow| row.name == name && row.noticed() != MemberState::Removed;
        let Some(row) = rows.members.iter().find(is_it) else {
            return wait(RepairWait::Other, format!("{name} is no member any more"));
        };
        let change = ReadmitNode {
            name: name.to_owned(),
            raft_id: row.raft_id,
            fingerprint: peer.fingerprint.to_vec(),
            incarnation: ask.incarnation,
            why: ask.why,
            permitted: ask.permitted,
        };
        let now = self.log_time();
        let checked = {
            let view = core.store.snapshot().map_err(store_failure)?;
            answered(&view, check_readmission(&view, &change, now))?
        };
        match checked {
            Readmission::In => {}
            Readmission::Not(what, text) => return wait(what, text),
            Readmission::May => {
                if !self.answers_in_place(name, &ask.life) {
                    let text = format!(
                        "{own} does not reach it at {}: let it listen there, or, if it has moved for good, \
                         replace it: logctl node remove {name} --force, then join again",
                        row.address
                    );
                    return wait(RepairWait::Address, text);
                }
                let id = self.inner.chance.id().to_string();
                let change = MemberChange { op: Some(MemberOp::Readmit(change)), id };
                self.own_member(own, change, Deadline::within(DEADLINE)).await?;
            }
        }
        Self::everybody(core).map(Ok)
    }

    /// Whether the process that asks is the one that answers where the node is dialled: a copy elsewhere
    /// has the node's key, too.
    fn answers_in_place(&self, name: &str, life: &[u8]) -> bool {
        self.members().heard(name).is_some_and(|heard| heard.is_answered_by(life))
    }
}

/// Looks now and then what the stores take that lie aside, for everybody who asks how the node is.
fn follow_aside(node: &Node, config: &Config, tasks: &Tasks) {
    let (node, data_dir) = (node.clone(), config.data_dir.clone());
    tasks.keep_until_stop("stores aside", async move {
        loop {
            let data_dir = data_dir.clone();
            if let Ok(aside) = node.inner.blocking.run(move || Store::aside(&data_dir)).await {
                *node.inner.aside.lock() = aside;
            }
            tokio::time::sleep(LOOK_ASIDE_EVERY).await;
        }
    });
}

/// Keeps a note of the members beside this node's key, for the day on which its store is gone.
pub(crate) fn note_members(node: &Node, config: &Config, tasks: &Tasks) {
    follow_aside(node, config, tasks);
    let (node, tls) = (node.clone(), config.tls.clone());
    let aside = Store::aside(&config.data_dir);
    if aside.count > 0 {
        tracing::warn!(
            stores = aside.count,
            bytes = aside.bytes,
            "stores that could not be proven lie aside in data_dir; remove them once nobody needs them"
        );
    }
    tasks.keep_until_stop("note of members", async move {
        let Body::Whole(core) = &node.inner.body else { return std::future::pending().await };
        let mut noted = Seed::read_members(&tls).ok().flatten();
        let mut failed = false;
        loop {
            let known = node.known_members(core).filter(|known| noted.as_ref() != Some(known));
            let known = known.filter(|_| !noted.as_ref().is_some_and(|noted| node.is_older(noted)));
            if let Some(known) = known {
                let (new, tls) = (known.clone(), tls.clone());
                let written = node.inner.blocking.run(move || new.write_members(&tls)).await;
                match written {
                    Ok(Ok(())) => (noted, failed) = (Some(known), false),
                    Ok(Err(error)) if !failed => {
                        failed = true;
                        tracing::warn!(
                            %error,
                            "the members cannot be noted beside this node's key: should its store be \
                             lost as a whole, the node has to join again"
                        );
                    }
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}

impl Node {
    /// Whether this node's table is older than a note that it made: its store was set back then, and the note
    /// is all that it knows of those who can take it back.
    fn is_older(&self, noted: &Seed) -> bool {
        noted.members.iter().any(|member| self.inner.trust.is_news(member.raft_id))
    }

    /// The members with their keys, this node among them; `None` while the table does not know it.
    fn known_members(&self, core: &Core) -> Option<Seed> {
        let members = Self::everybody(core).ok()?;
        let (cluster, name) = (self.inner.identity.cluster.clone(), self.name().clone());
        let known = Seed::of_admitted(cluster, name, &members.members)?;
        let myself = known.myself()?;
        let own = core.store.identity().raft_id;
        (myself.raft_id == own && myself.key.is_some()).then_some(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with the first answer taken for all: two of three were damaged, and the one waited for "n1
    /// is not the primary".
    #[test]
    fn who_waits_says_for_whom_and_why() {
        let said = |said: &[&str], missing| {
            let said: Vec<String> = said.iter().map(|text| (*text).to_owned()).collect();
            nobody_to_ask(&said, missing)
        };
        let (wait, text) = said(&["n1 knows of no primary", "n2 follows n1"], 0);
        assert_eq!(wait, RepairWait::Primary);
        assert_eq!(
            text,
            "a primary that a majority follows; n1 knows of no primary; n2 follows n1"
        );
        let (wait, text) = said(&["n1 knows of no primary", "n2 cannot prove its own store"], 1);
        assert_eq!(wait, RepairWait::Majority);
        assert!(text.contains("n2 cannot prove its own store. If those never"), "{text}");
        assert!(text.ends_with("logd recover --dry-run on each node that is left"), "{text}");
        assert_eq!(said(&[], 0).0, RepairWait::Majority);
    }
}
