//! What one node can prove after the majority was lost: what it holds, what it remembers of the others,
//! and who of them answers now.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clock::hlc::utc_text;
use config::Config;
use config::seed::Seed;
use model::query;
use net::{Endpoint, Lane, Link as _, LinkError, PeerAddr, Refused};
use parking_lot::Mutex;
use proto::attest::Shown;
use proto::lineage::Lineage;
use proto::peer::{Hello, Refusal};

use crate::exit::{Exit, Failed};
use crate::node::VERSION;
use crate::node_identity::NodeIdentity;
use crate::raft::{Member, known_members};
use crate::seeded::{self, store_identity};
use crate::store::format::Identity;
use crate::store::{Durable, Lock, Look, Stopped, StoreError};
use crate::witness::Notebook;

/// Longest wait for one node that is asked whether it is there.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// What a node found.
pub(super) struct Survey {
    /// Who its store is.
    pub(super) identity: Identity,
    /// What it holds, as far as that can be proven.
    pub(super) holds: Holds,
    /// What is wrong with its store, if anything is.
    pub(super) damage: Option<String>,
    /// The voters by raft id, itself among them.
    pub(super) voters: BTreeMap<u64, Member>,
    /// What others have shown it of their stores.
    pub(super) remembers: Vec<Shown>,
    /// The other voters, and what they say now.
    pub(super) others: Vec<(String, Answer)>,
}

/// What a store holds.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// What is durable.
    pub(super) durable: Durable,
    /// How often it was started.
    pub(super) starts: u64,
    /// What the state on its disk has come to; `None` where it cannot be read.
    pub(super) state: Option<State>,
}

/// What the state on a disk has come to; the log goes on behind it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) applied_index: u64,
    pub(super) last_seq: u64,
    pub(super) last_stamp: String,
}

/// What another voter says now.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// Nothing; and what was tried.
    None(String),
    /// It is there.
    There(Box<There>),
}

/// A node that is there.
#[derive(Debug, Clone, Default)]
pub(super) struct There {
    /// Whether it can prove its store.
    pub(super) intact: bool,
    /// What it shows of its store.
    pub(super) shown: Option<Shown>,
    /// How it refuses this node, if it does.
    pub(super) refusal: String,
}

impl Survey {
    /// Looks into the store, which stays as it is, and asks the others.
    pub(super) async fn make(
        config: &Config,
        node_identity: &NodeIdentity,
        look: &Look,
    ) -> Result<Self, Failed> {
        let failed = |error: StoreError| Failed::from(&error);
        let remembers = Notebook::beside_store(&config.data_dir).stores();
        let seed = last_known(config);
        let identity = look.identity.clone().or_else(|| seed.as_ref().and_then(store_identity));
        let identity = identity.unwrap_or_default();
        let (holds, damage, voters) = match &look.holds {
            Ok(store) => {
                let known = known_members(store).map_err(failed)?;
                let voters = known.members.into_iter();
                let voters = voters.filter(|(id, _)| known.voters.contains(id)).collect();
                (Holds::of(store, look.starts).map_err(failed)?, None, voters)
            }
            Err(damage) => {
                let (durable, starts) = look.lock.as_ref().map(Lock::marked).unwrap_or_default();
                let holds = Holds { durable, starts, state: None };
                let voters =
                    seed.as_ref().map(seeded::members).unwrap_or_default().into_iter().collect();
                (holds, Some(damage.to_string()), voters)
            }
        };
        let mut survey = Self { identity, holds, damage, voters, remembers, others: Vec::new() };
        survey.others = survey.ask(config, node_identity).await?;
        Ok(survey)
    }

    /// Refuses to go on alone where this node cannot, or a majority is there, or would be with this node.
    pub(super) fn require(&self) -> Result<(), Failed> {
        self.require_loss()?;
        let Some(damage) = &self.damage else { return Ok(()) };
        let what = anyhow::anyhow!("this node cannot prove its own store: {damage}");
        let hint = "choose a node whose store is intact: logd recover --dry-run says so on each";
        Err(Failed::new(Exit::Store, what, hint))
    }

    /// The same of the majority alone.
    pub(super) fn require_loss(&self) -> Result<(), Failed> {
        let there = |(name, answer): &(String, Answer)| match answer {
            Answer::There(there) if there.intact => Some(name.clone()),
            Answer::There(_) | Answer::None(_) => None,
        };
        let there: Vec<String> = self.others.iter().filter_map(there).collect();
        if self.voters.len() <= 1 {
            let what = anyhow::anyhow!("this node is the only voter: it needs nobody else");
            return Err(Failed::new(Exit::Conflict, what, "start it as it is"));
        }
        if (there.len() + 1) * 2 <= self.voters.len() {
            return Ok(());
        }
        let what = anyhow::anyhow!(
            "no majority is lost: {} of {} voters, {} and this one, are there",
            there.len() + 1,
            self.voters.len(),
            there.join(", ")
        );
        let hint = "start this node as it is: with those that answer it is a majority. Where they are \
                    to be given up all the same, stop them first";
        Err(Failed::new(Exit::Conflict, what, hint))
    }

    async fn ask(
        &self,
        config: &Config,
        node_identity: &NodeIdentity,
    ) -> Result<Vec<(String, Answer)>, Failed> {
        let any = SocketAddr::new(any_of(config.listen.ip()), 0);
        let endpoint = Endpoint::bind(any, &node_identity.credentials);
        let endpoint = endpoint.map_err(|error| {
            Failed::new(Exit::Network, error, "look at the network of this machine")
        })?;
        let own = node_identity.credentials.identity();
        let others = self.voters.iter().filter(|(_, member)| member.name != own.name.as_str());
        let asked = others.filter_map(|(id, member)| {
            let to = PeerAddr {
                name: member.name.parse().ok()?,
                raft_id: *id,
                address: member.address.clone(),
                incarnation: member.incarnation,
            };
            let (endpoint, hello) = (endpoint.clone(), self.question(own));
            Some(async move { (to.name.to_string(), ask(&endpoint, hello, &to).await) })
        });
        Ok(futures::future::join_all(asked).await)
    }

    /// A hello that refuses: whoever gets it says who it is, and notes nothing.
    fn question(&self, own: &proto::Identity) -> Hello {
        Hello {
            cluster: own.cluster.to_string(),
            name: own.name.to_string(),
            raft_id: self.identity.raft_id,
            incarnation: self.identity.incarnation.clone(),
            version: VERSION.to_owned(),
            refusal: "it only asks who is there, for 'logd recover'".to_owned(),
            refused: Refusal::Other.into(),
            repairing: self.damage.is_some(),
            ..Hello::default()
        }
    }

    /// Lineage of the store.
    pub(super) fn lineage(&self) -> Lineage {
        Lineage::of(self.identity.raft_id)
    }

    /// The furthest that another node of this lineage is known to have come, with its name.
    pub(super) fn furthest(&self) -> Option<(String, u64)> {
        let now = self.others.iter().filter_map(|(_, answer)| match answer {
            Answer::There(there) => there.shown.as_ref(),
            Answer::None(_) => None,
        });
        let of_us = |shown: &&Shown| {
            shown.raft_id != self.identity.raft_id && Lineage::of(shown.raft_id) == self.lineage()
        };
        let all = self.remembers.iter().chain(now).filter(of_us);
        all.map(|shown| (shown.name.clone(), held(shown))).max_by_key(|(_, last)| *last)
    }
}

impl Holds {
    fn of(store: &Stopped, starts: u64) -> Result<Self, StoreError> {
        let view = store.state()?;
        let stats = view.judged(query::stats(&view))?;
        let state = State {
            applied_index: stats.index,
            last_seq: stats.last_seq,
            last_stamp: utc_text(stats.last_stamp.ns),
        };
        Ok(Self { durable: store.durable(), starts, state: Some(state) })
    }

    /// Index and term of the last entry; 0 where there is none.
    pub(super) fn last(&self) -> (u64, u64) {
        self.durable.last.as_ref().map_or((0, 0), |last| (last.index, last.term))
    }

    /// Up to which entry the log is known here to be committed; 0 where that is not known.
    pub(super) fn committed(&self) -> u64 {
        self.durable.committed.as_ref().map_or(0, |mark| mark.index)
    }

    /// The highest term that it knows.
    pub(super) fn term(&self) -> u64 {
        self.durable.vote.map_or(0, |vote| vote.term).max(self.last().1)
    }
}

/// The last entry that a node is known to have held. What is remembered of it is only what was committed.
pub(super) fn held(shown: &Shown) -> u64 {
    let committed = shown.committed.as_ref().map_or(0, |place| place.index);
    shown.last.max(committed)
}

/// Asks one node whether it is there.
async fn ask(endpoint: &Endpoint, hello: Hello, to: &PeerAddr) -> Answer {
    let heard: Arc<Mutex<Option<Hello>>> = Arc::default();
    let hears = Arc::clone(&heard);
    let check = move |_: &certs::Peer, theirs: &Hello| {
        *hears.lock() = Some(theirs.clone());
        Ok::<(), Refused>(())
    };
    let link = endpoint.link_to(move || hello.clone(), check);
    let opened = tokio::time::timeout(ASK_WITHIN, link.open(to, Lane::Urgent)).await;
    if let Some(theirs) = heard.lock().take() {
        return Answer::There(Box::new(There {
            intact: !theirs.repairing,
            shown: theirs.shown,
            refusal: theirs.refusal,
        }));
    }
    match opened {
        // It is there, with another store than this node knows: that is a majority's business.
        Ok(Err(LinkError::Refused { reason, .. })) => {
            Answer::There(Box::new(There { intact: true, shown: None, refusal: reason }))
        }
        Ok(Err(error)) => Answer::None(error.to_string()),
        Err(_) => Answer::None(format!("no answer in {} s", ASK_WITHIN.as_secs())),
        Ok(Ok(_)) => Answer::There(Box::new(There { intact: true, ..There::default() })),
    }
}

/// Any address of the same family.
fn any_of(listen: IpAddr) -> IpAddr {
    match listen {
        IpAddr::V4(own) if own.is_loopback() => listen,
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(own) if own.is_loopback() => listen,
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}

/// The members as they are written down beside the node's key, else as the seed has them.
fn last_known(config: &Config) -> Option<Seed> {
    let beside_key = Seed::read_members(&config.tls).ok().flatten();
    beside_key.or_else(|| Seed::read_used(&config.data_dir).ok().flatten())
}
