//! One node: what it holds, and the one place where requests are told apart.
//!
//! Not here: how requests arrive (`server`), what a node is put together from (`start`), what commands
//! do (`model`).

mod access;
mod admins;
mod answer;
mod at_hand;
mod ceiling;
mod close;
mod direct;
mod disk;
mod feeding;
mod groups;
mod hand_over;
mod instants;
mod join;
mod kv;
mod list;
mod member_ops;
mod metrics;
mod moved;
mod own;
mod place;
mod primary;
mod reach;
mod ready;
mod relay;
mod renew;
mod repair;
mod scrubber;
mod settings;
mod signers;
mod states;
mod status;
mod trust;
mod verify;
mod watching;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use certs::{Credentials, Peer};
use clock::Hlc;
use config::{Config, FileSettings};
use model::Caller;
use model::query::Reader as Viewer;
use net::Link;
use proto::limits::DEADLINE_MAX_MS;
use proto::member::NodeRole;
use proto::peer::NodeInfo;
use proto::wire::{ClockReport, Empty, Metrics, Op, Reply, Request, Response};
use proto::{ErrorCode, Failure, Identity, Name, Problem, Role};
use tokio::sync::watch;
use tokio::time::Instant;
use views::metrics::Disk;

use crate::blocking::Blocking;
use crate::chance::Chance;
use crate::events::EventSink;
use crate::http_counts::HttpCounts;
use crate::lead::Lead;
use crate::node_identity::{NodeIdentity, Signer};
use crate::peer_monitor::PeerMonitor;
use crate::proposer::Proposer;
use crate::raft::Handle;
use crate::reconciler::OwnMembership;
use crate::sessions::SessionTable;
use crate::store::Aside;
use crate::store::format::Identity as StoreIdentity;
use crate::store::{Damage, Lock, Store};
use crate::time::NodeClock;
use crate::trust::Trust;
use crate::turns::Turns;
use crate::witness::Witness;

pub(crate) use self::answer::Following;
pub(crate) use self::ceiling::Ceiling;
pub(crate) use self::close::Closer;
pub(crate) use self::direct::Direct;
pub(crate) use self::disk::watch as watch_disk;
pub(crate) use self::feeding::Feeding;
pub(crate) use self::moved::{Book, Roaming, follow as follow_moved};
pub(crate) use self::ready::Check;
pub(crate) use self::relay::Takers;
pub(crate) use self::renew::start as keep_certificate;
pub(crate) use self::repair::{note_members, taken_back};
pub(crate) use self::scrubber::run as scrub;
pub(crate) use self::states::run as compare_states;

/// Time that a request gets if it names none.
const DEADLINE: Duration = Duration::from_secs(10);

/// Release, as others are told.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    name: Name,
    identity: Identity,
    advertise: String,
    /// What this node's file says of the cluster's settings.
    file_settings: FileSettings,
    node_clock: NodeClock,
    link: Arc<dyn Link>,
    /// The way of what clients send here to the primary.
    relay: relay::Relay,
    members: PeerMonitor,
    sessions: SessionTable,
    /// What is known of keys.
    trust: Arc<Trust>,
    /// What this node proves itself with now.
    credentials: arc_swap::ArcSwap<Credentials>,
    /// Why its certificate, which is due, was not renewed.
    renewal: arc_swap::ArcSwapOption<String>,
    signer: arc_swap::ArcSwapOption<Signer>,
    /// The authorities that this node trusts (PEM): what it tells who joins.
    ca: arc_swap::ArcSwap<String>,
    body: Body,
    leaving: AtomicBool,
    /// What is remembered of the other nodes' stores.
    witness: Witness,
    disk_full: AtomicBool,
    /// The data disk, as it was looked at last.
    room: parking_lot::Mutex<Option<Disk>>,
    /// A file of its store that is gone.
    missing_file: arc_swap::ArcSwapOption<std::path::PathBuf>,
    /// The stores that lie aside, as they were looked at last.
    aside: parking_lot::Mutex<Aside>,
    /// Whether syncs have been taking long for a while.
    disk_slow: AtomicBool,
    /// When the node began.
    began: Instant,
    /// Held while all of the store is read again: one reader at a time is enough for a disk.
    auditing: tokio::sync::Mutex<()>,
    /// Where the states of the nodes differ and no majority agrees.
    undecided: arc_swap::ArcSwapOption<String>,
    /// How far the scrubber is.
    scrubbing: parking_lot::Mutex<scrubber::Progress>,
    /// Pages that are read from the store, by who asked.
    pages: Turns,
    /// Requests of clients that were answered.
    requests: AtomicU64,
    /// The same over HTTPS, by route and code.
    http: HttpCounts,
    chance: Chance,
    blocking: Blocking,
    at_hand: at_hand::AtHand,
}

/// What a node can do.
pub(crate) enum Body {
    /// Its store is proven intact: it takes part.
    Whole(Box<Core>),
    /// It is not: no Raft, no reads of its own, and it says why.
    Repairing(Repairing),
}

/// The parts of a node that cannot prove its store intact.
pub(crate) struct Repairing {
    /// What was expected and what was found.
    pub(crate) damage: Damage,
    /// Who the store was, as far as anything says.
    pub(crate) identity: StoreIdentity,
    /// The members as the seed knew them, or as others have named them since.
    pub(crate) known: parking_lot::Mutex<Vec<(u64, crate::raft::Member)>>,
    /// What its repair waits for.
    pub(crate) waits: arc_swap::ArcSwapOption<Problem>,
    /// Keeps a second process away from the store.
    pub(crate) _lock: Option<Lock>,
}

/// The parts that only an intact node has.
pub(crate) struct Core {
    pub(crate) engine: Handle,
    pub(crate) proposer: Proposer,
    pub(crate) lead: Lead,
    pub(crate) store: Store,
    pub(crate) ceiling: Ceiling,
    pub(crate) closer: Closer,
    /// As primary: how the others take what it sends.
    pub(crate) feeding: Feeding,
    /// Where this node's own events go in.
    pub(crate) events: EventSink,
    /// How this node stands in the table of members.
    pub(crate) standing: watch::Receiver<OwnMembership>,
    /// Whether another node has refused this one for being removed.
    pub(crate) refused: watch::Receiver<bool>,
    /// The members as the seed knew them, or as they were noted beside the key: all that is known until the
    /// engine knows more.
    pub(crate) noted: Vec<(u64, crate::raft::Member)>,
}

/// What every node is made of, whole or not.
pub(crate) struct Outside {
    pub(crate) node_clock: NodeClock,
    pub(crate) link: Arc<dyn Link>,
    /// Which nodes take many requests at once.
    pub(crate) takers: Takers,
    pub(crate) members: PeerMonitor,
    pub(crate) witness: Witness,
    pub(crate) trust: Arc<Trust>,
    pub(crate) chance: Chance,
    pub(crate) blocking: Blocking,
    /// How many there are: as many pages are read at a time, and a few more.
    pub(crate) processors: usize,
}

/// Who asks: what the connection proves, and through which gateway.
#[derive(Debug, Clone)]
pub struct Principal {
    /// Cluster, role and name from the certificate.
    pub identity: Identity,
    /// What proves it, as `proto::Proof` has it: SHA-256 of the certificate's public key, or an access token.
    pub fingerprint: [u8; 32],
    /// The node that took the request from the client.
    pub gateway: Name,
}

impl Principal {
    /// The other end of a connection to this node.
    #[must_use]
    pub fn of(peer: &Peer, gateway: &Name) -> Self {
        let (identity, fingerprint) = (peer.identity.clone(), peer.fingerprint);
        Self { identity, fingerprint, gateway: gateway.clone() }
    }

    fn is_admin(&self) -> bool {
        self.identity.role == Role::Admin
    }

    /// Refuses everybody else what only administrators may. Whether it is entered with its key is looked
    /// at with every request of one, see [`Node::require_entered`].
    fn require_admin(&self, what: &str) -> Result<(), Failure> {
        if self.is_admin() {
            return Ok(());
        }
        let message = format!("{} may not {what}: it takes an administrator's key", self.identity);
        Err(Failure::new(ErrorCode::Denied, message))
    }

    fn viewer(&self) -> Viewer {
        Viewer { name: self.identity.name.to_string(), admin: self.is_admin() }
    }

    fn caller(&self) -> Caller {
        let name = self.identity.name.to_string();
        Caller { name, admin: self.is_admin(), fingerprint: self.fingerprint }
    }
}

/// Until when a request may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// From what the request says.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let asked = match request.deadline_ms {
            0 => DEADLINE,
            ms => Duration::from_millis(u64::from(ms.min(DEADLINE_MAX_MS))),
        };
        Self(Instant::now() + asked)
    }

    /// A time of its own, for what no client waits for.
    pub(crate) fn within(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// What is left.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// When it is over.
    pub(crate) fn at(self) -> Instant {
        self.0
    }
}

impl Node {
    /// A node of these parts.
    pub(crate) fn new(
        config: &Config,
        node_identity: NodeIdentity,
        outside: Outside,
        body: Body,
    ) -> Self {
        let Outside { node_clock, link, takers, members, witness, trust, chance, .. } = outside;
        let Outside { blocking, processors, .. } = outside;
        let NodeIdentity { credentials, signer } = node_identity;
        let inner = Inner {
            name: credentials.identity().name.clone(),
            identity: credentials.identity().clone(),
            advertise: config.advertise.clone(),
            file_settings: config.clock.settings,
            node_clock,
            link,
            relay: relay::Relay::new(takers),
            members,
            sessions: SessionTable::default(),
            trust,
            ca: arc_swap::ArcSwap::new(Arc::clone(credentials.ca_pem())),
            credentials: arc_swap::ArcSwap::from_pointee(credentials),
            renewal: arc_swap::ArcSwapOption::empty(),
            signer: arc_swap::ArcSwapOption::from_pointee(signer),
            body,
            leaving: AtomicBool::new(false),
            witness,
            disk_full: AtomicBool::new(false),
            room: parking_lot::Mutex::default(),
            missing_file: arc_swap::ArcSwapOption::empty(),
            aside: parking_lot::Mutex::default(),
            disk_slow: AtomicBool::new(false),
            began: Instant::now(),
            auditing: tokio::sync::Mutex::default(),
            undecided: arc_swap::ArcSwapOption::empty(),
            scrubbing: parking_lot::Mutex::default(),
            pages: Turns::new(page_turns(processors), 0),
            requests: AtomicU64::new(0),
            http: HttpCounts::default(),
            chance,
            blocking,
            at_hand: at_hand::AtHand::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.inner.name
    }

    /// Cluster, role and name.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// What it can do.
    pub(crate) fn body(&self) -> &Body {
        &self.inner.body
    }

    /// What it dials its peers with.
    pub(crate) fn link(&self) -> &Arc<dyn Link> {
        &self.inner.link
    }

    fn relay(&self) -> &relay::Relay {
        &self.inner.relay
    }

    /// What is remembered of the other nodes' stores.
    #[must_use]
    pub fn witness(&self) -> &Witness {
        &self.inner.witness
    }

    /// The clients seen here.
    #[must_use]
    pub fn sessions(&self) -> &SessionTable {
        &self.inner.sessions
    }

    /// How the other nodes are.
    #[must_use]
    pub fn members(&self) -> &PeerMonitor {
        &self.inner.members
    }

    /// The clock.
    #[must_use]
    pub fn node_clock(&self) -> &NodeClock {
        &self.inner.node_clock
    }

    /// The engine, if the node takes part.
    #[must_use]
    pub fn engine(&self) -> Option<&Handle> {
        match &self.inner.body {
            Body::Whole(core) => Some(&core.engine),
            Body::Repairing(_) => None,
        }
    }

    /// Whether the node may lead, if it takes part.
    fn lead(&self) -> Option<&Lead> {
        match &self.inner.body {
            Body::Whole(core) => Some(&core.lead),
            Body::Repairing(_) => None,
        }
    }

    /// Whether the node is handing over and stopping.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.inner.leaving.load(Ordering::Acquire)
    }

    /// From now on the node is handing over and stopping.
    pub(crate) fn leave(&self) {
        self.inner.leaving.store(true, Ordering::Release);
    }

    /// Requests of clients that this node has answered since it started, refusals and pings too.
    #[must_use]
    pub fn requests_served(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }

    /// Counts an answered request of a client.
    pub(crate) fn count_request(&self) {
        self.count_requests(1);
    }

    /// Counts answered requests of clients.
    fn count_requests(&self, several: usize) {
        self.inner.requests.fetch_add(several as u64, Ordering::Relaxed);
    }

    fn core(&self) -> Result<&Core, Failure> {
        match (&self.inner.body, self.damage()) {
            (Body::Whole(core), None) => Ok(core),
            (Body::Whole(_) | Body::Repairing(_), damage) => {
                let damage = damage.map(ToString::to_string).unwrap_or_default();
                Err(Failure::new(
                    ErrorCode::Repairing,
                    format!("{} cannot prove its store intact: {damage}", self.inner.name),
                ))
            }
        }
    }

    /// Why this node's store proves nothing, if that is so.
    fn damage(&self) -> Option<&Damage> {
        match &self.inner.body {
            Body::Whole(core) => core.store.damage(),
            Body::Repairing(repairing) => Some(&repairing.damage),
        }
    }

    /// Serves one request that ends with one answer. Followed reads are answered page by page, see `server`.
    pub async fn handle(&self, principal: &Principal, request: Request) -> Response {
        let reply = match self.answer(principal, request).await {
            Ok(reply) => reply,
            Err(failure) => Reply::Failure(failure),
        };
        self.response(&principal.gateway, reply)
    }

    /// Wraps a reply for the client of a gateway.
    #[must_use]
    pub fn response(&self, gateway: &Name, reply: Reply) -> Response {
        let gateway = gateway.to_string();
        Response { gateway, members_epoch: self.members_epoch(), reply: Some(reply) }
    }

    /// The one dispatch.
    async fn answer(&self, principal: &Principal, request: Request) -> Result<Reply, Failure> {
        let deadline = Deadline::of(&request);
        let stopping = || Failure::new(ErrorCode::Stopping, "the node is stopping");
        let op = request.op.as_ref().ok_or_else(|| {
            Failure::new(ErrorCode::Invalid, "a request that this release does not know")
        })?;
        if self.is_leaving() {
            return Err(stopping());
        }
        self.require_entered(principal, op, deadline).await?;
        match op {
            Op::Send(_)
            | Op::Delete(_)
            | Op::Register(_)
            | Op::SetCursor(_)
            | Op::Configure(_)
            | Op::Member(_)
            | Op::Token(_)
            | Op::Group(_)
            | Op::Kv(_)
            | Op::Admin(_) => self.write(principal, request, deadline, None).await,
            Op::Read(read) => self.read(principal, read, deadline).await.map(Reply::Page),
            Op::Get(get) => self.get(principal, get, deadline).await.map(Reply::Record),
            Op::Clients(Empty {}) => self.clients(principal, deadline).await.map(Reply::Clients),
            // The further answers of a watch are the server's business; the first is the list.
            Op::Nodes(Empty {}) | Op::WatchNodes(Empty {}) => Ok(Reply::Nodes(self.nodes())),
            Op::Status(Empty {}) => Ok(Reply::Status(self.steady_status().await)),
            Op::Clock(Empty {}) => Ok(Reply::Clock(self.clock())),
            Op::Ping(Empty {}) => Ok(Reply::Pong(Empty {})),
            Op::Compact(Empty {}) => {
                self.compact(principal).await.map(|()| Reply::Compacted(Empty {}))
            }
            Op::Tokens(Empty {}) => self.tokens(principal, deadline).await.map(Reply::Tokens),
            Op::Admins(Empty {}) => self.admins(principal, deadline).await.map(Reply::Admins),
            Op::Groups(list) => self.groups(principal, list, deadline).await.map(Reply::Groups),
            Op::KvRead(read) => self.kv_read(principal, read, deadline).await.map(Reply::Kv),
            Op::Members(Empty {}) => self.members_op(principal, deadline).await.map(Reply::Members),
            Op::Route(route) => self.route(principal, route, deadline).await.map(Reply::Routed),
            Op::Plan(plan) => self.plan(principal, plan, deadline).await.map(Reply::Planned),
            Op::Slots(Empty {}) => self.slots(principal, deadline).await.map(Reply::Slots),
            Op::Distribution(Empty {}) => {
                self.distribution(principal, deadline).await.map(Reply::Distribution)
            }
            Op::Raft(Empty {}) => self.raft_view(principal).await.map(Reply::Raft),
            Op::LowerCeiling(Empty {}) => {
                self.lower_ceiling(principal, deadline).await.map(Reply::CeilingLowered)
            }
            Op::Verify(verify) => self.verify(principal, verify.clone()).await.map(Reply::Verified),
            Op::Metrics(Empty {}) => {
                Ok(Reply::Metrics(Metrics { text: Box::pin(self.metrics_text()).await }))
            }
            Op::Renew(renew) => {
                self.renew_caller(principal, renew, deadline).await.map(Reply::Registered)
            }
        }
    }

    fn clock(&self) -> ClockReport {
        let may_lead = self.lead().is_some_and(Lead::may_lead);
        let peers = self.inner.members.clock_peers();
        ClockReport { peers, may_lead, ..self.inner.node_clock.report(self.inner.name.as_str()) }
    }

    /// How this node is, as its peers are told ten times a second.
    #[must_use]
    pub fn info(&self) -> NodeInfo {
        let inner = &self.inner;
        let (life, aside) = (self.certificate_life(), *inner.aside.lock());
        let mut info = NodeInfo {
            name: inner.name.to_string(),
            role: NodeRole::Repairing.as_str().to_owned(),
            clock: Some(ClockReport { sources: Vec::new(), peers: Vec::new(), ..self.clock() }),
            version: VERSION.to_owned(),
            problems: self.own_problems(),
            address: inner.advertise.clone(),
            leaving: self.is_leaving(),
            hears: inner.members.hears(),
            reaches: inner.members.reaches(),
            signs: inner.signer.load().is_some(),
            not_after_unix_s: life.until_unix_s,
            not_before_unix_s: life.from_unix_s,
            requests: self.requests_served(),
            stores_aside: aside.count,
            aside_bytes: aside.bytes,
            shown: Some(inner.witness.in_brief()),
            ..NodeInfo::default()
        };
        if let Ok(core) = self.core() {
            let view = core.engine.view().borrow().clone();
            let primary = view.primary_member().map(|(_, member)| member.name.clone());
            view.role.as_str().clone_into(&mut info.role);
            if view.is_primary() {
                let fed = self.fed(core, &view);
                let name = |id: &u64| view.members.get(id).map(|member| member.name.clone());
                info.unfed = fed.unfed.iter().filter_map(name).collect();
                info.followed = fed.followed;
                if !fed.followed {
                    // It believes that it leads, and nobody would store what it orders.
                    NodeRole::Isolated.as_str().clone_into(&mut info.role);
                }
            }
            info.term = view.term;
            info.primary = primary.unwrap_or_default();
            info.last_index = view.last_index.unwrap_or(0);
            info.applied = core.engine.progress().borrow().index.unwrap_or(0);
            info.starts = core.store.starts();
            info.scrub = Some(self.inner.scrubbing.lock().told());
            let sync = core.store.writer().ok().and_then(|writer| writer.sync_time());
            info.sync_us =
                sync.map_or(0, |sync| u64::try_from(sync.as_micros()).unwrap_or(u64::MAX).max(1));
        }
        info
    }

    /// Final stamp of the last entry that this node has applied.
    fn last_stamp(&self) -> Hlc {
        self.engine().map_or(Hlc::ZERO, Handle::last_stamp)
    }
}

/// Pages that are read at a time.
fn page_turns(processors: usize) -> usize {
    proto::limits::PAGE_TURNS_MIN.max(processors + 1)
}
