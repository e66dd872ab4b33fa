//! Start and stop of a node, in order.
//!
//! Start: port, store, verdict, clock, engine, proposer, server, then READY once the node can
//! serve. Stop: announce, hand the primary role over, drain, close, then the store.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use certs::Peer;
use clock::Hlc;
use config::seed::Seed;
use config::{ClockMode, Config};
use net::{CloseCode, Endpoint, Link, PeerAddr, Refused};
use proto::limits::{CLIENT_TURNS_KEPT, CLIENT_TURNS_MAX};
use proto::peer::{Hello, NodeInfo};
use proto::settings::{Configure, OnLoss};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alarms;
use crate::doorman::Doorman;
use crate::events::{self, EventSink};
use crate::exit::{Exit, Failed};
use crate::janitor::Janitor;
use crate::lead::{self, Lead};
use crate::node_identity::NodeIdentity;
use crate::peer_monitor::PeerMonitor;
use crate::process::Process;
use crate::proposer::{self, Proposer};
use crate::raft::{self, Handle, Timing};
use crate::reconciler;
use crate::server::Server;
use crate::store::format::Identity as StoreIdentity;
use crate::store::{Opened, Store, StoreError};
use crate::tasks::Tasks;
use crate::time::NodeClock;
use crate::trust::Trust;
use crate::turns::Turns;
use crate::witness::Witness;

use super::bootstrap;
use super::ceiling::Ceiling;
use super::close::Closer;
use super::ending::{cannot_go_on, ended_by, failed_on, fallen};
use super::feeding::Feeding;
use super::moved::{self, Book, Roaming};
use super::{Body, Core, Inner, Node, Repairing, disk, renew};

/// Longest wait for a primary before a node that could serve stale reads calls itself ready.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for requests under way when stopping.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for connections to say goodbye.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// A sync that takes this long will not end: the service manager may as well start anew.
const SYNC_HUNG: Duration = Duration::from_secs(15);

/// Runs a node until it is told to stop or cannot go on.
///
/// # Errors
/// Why it could not start or go on, with the exit code.
pub async fn run(
    config: Config,
    node_identity: NodeIdentity,
    process: Process,
) -> Result<(), Failed> {
    let began = tokio::time::Instant::now();
    let clients_max = config.limits.client_connections;
    let endpoint = Endpoint::bind_for(config.listen, &node_identity.credentials, clients_max);
    let endpoint = endpoint.map_err(|error| {
        Failed::new(
            Exit::Network,
            error,
            "set another address in listen, or stop the process that uses it",
        )
    })?;
    crate::exit::before_database();
    let (opened, seed) = bootstrap::open_store(&config, &node_identity)?;
    let tasks = Tasks::until(CancellationToken::new());
    let node = match opened {
        Opened::Intact(store) => {
            let disk = config.data_dir.clone();
            store.on_failure(Box::new(move |error| failed_on(&disk, error).end()));
            let started =
                start_whole(&config, node_identity, &endpoint, store.clone(), seed, &tasks).await;
            match started {
                Ok(node) => node,
                Err(error) => return Err(ended_by(&store, error).await),
            }
        }
        Opened::Repairing { identity, damage, lock } => {
            tracing::error!(
                reason = %damage,
                "this node cannot prove its store intact: it takes no part and serves nothing of \
                 its own. Replace it by hand: stop it, keep its data directory aside"
            );
            let unknown = StoreIdentity::default();
            let repairing = Repairing { damage, identity: unknown, seed: Vec::new(), _lock: lock };
            start_repairing(&config, node_identity, &endpoint, identity, repairing, seed, &tasks)
        }
    };
    announce(&config, &node, &endpoint);
    let server = start_server(&node, &endpoint, &tasks);
    tasks.once("first vote", bootstrap::tell_of_vote(node.clone(), began, tasks.stop().clone()));
    let running = Running { config, node, endpoint, server, tasks };
    running.until_the_end(process).await
}

/// Logs the one line that says who runs where.
fn announce(config: &Config, node: &Node, endpoint: &Endpoint) {
    let fingerprint = node.inner.fingerprint.iter().take(8);
    let fingerprint: String = fingerprint.map(|byte| format!("{byte:02x}")).collect();
    tracing::info!(
        node = %node.name(),
        listen = %endpoint.local_addr(),
        advertise = %config.advertise,
        cluster = %node.inner.identity.cluster,
        certificate = fingerprint,
        version = super::VERSION,
        "logd is running"
    );
}

async fn start_whole(
    config: &Config,
    node_identity: NodeIdentity,
    endpoint: &Endpoint,
    store: Store,
    seed: Option<Seed>,
    tasks: &Tasks,
) -> Result<Node, StoreError> {
    let name = node_identity.credentials.identity().name.clone();
    let (events, event_queue) = events::channel();
    let floor = store.ceiling()?;
    let (alarms, own_events) = (events.clone(), events.clone());
    let doorman = Doorman::new(name.clone(), events.clone());
    let node_clock = NodeClock::start(&config.clock, floor, events, name.clone(), tasks);
    let ceiling = Ceiling::start(node_clock.clone(), store.clone(), tasks);
    let trust = Arc::new(Trust::new(Some(store.clone()), doorman));
    let witness = Witness::new(&config.data_dir, store.identity(), Some(store.clone()));
    let hello = hello_maker(identity_of(&node_identity), store.identity(), &witness);
    let link = endpoint.link_to(hello, dialled(&trust, &witness));
    let (link, refused) = reconciler::Listening::new(Arc::new(link));
    let (straight, book): (Arc<dyn Link>, _) = (Arc::new(link), Book::default());
    let link: Arc<dyn Link> = Arc::new(Roaming::new(Arc::clone(&straight), book.clone()));
    let timing = timing_of(config);
    let slot = Slot::default();
    let members = slot.members(&node_clock, &witness);
    let lead = Lead::new(node_clock.clone(), &config.clock);
    let guard = lead.guard(members.clone());
    let observing = node_clock.clone();
    let observe: raft::Observe = Arc::new(move |seen| observing.observe(seen));
    let bootstrap::Born { members: seed, stores, admins } =
        bootstrap::bootstrap(config, &store, seed).await?;
    trust.learn_seed(
        &stores,
        admins,
        (store.identity().raft_id, node_identity.credentials.fingerprint()),
    );
    let engine = Handle::start(store.clone(), timing, Arc::clone(&link), observe, guard).await?;
    take_part(&engine, &witness, !seed.is_empty(), tasks).await;
    let parts = lead::Parts {
        engine: engine.clone(),
        members: members.clone(),
        store: store.clone(),
        election_max_ms: timing.election_max_ms,
    };
    lead.start(parts, config.clock.unsynced_start, tasks);
    let parts = proposer::Parts {
        engine: engine.clone(),
        node_clock: node_clock.clone(),
        lead: lead.clone(),
        store: store.clone(),
        settings: first_settings(config),
        node: name,
    };
    let proposer = start_writing(parts, tasks);
    let standing = reconciler::follow_standing(&engine, store.clone(), Arc::clone(&trust), tasks);
    let core = Core {
        engine,
        proposer,
        lead,
        store,
        ceiling,
        closer: Closer::default(),
        feeding: Feeding::default(),
        events: own_events,
        standing,
        refused,
        seed,
    };
    let outside = Outside { node_clock, link, members, witness, trust };
    let node = make_node(config, node_identity, outside, &slot, Body::Whole(Box::new(core)));
    node.start_reconciler(tasks);
    let stop = tasks.stop();
    tasks.keep("events", event_queue.run(node.clone(), stop.clone()));
    moved::follow(&node, straight, book, tasks);
    tasks.keep_until_stop("alarms", alarms::run(node.clone(), alarms));
    Ok(node)
}

/// Starts who stamps and orders, and who orders what retention asks for.
fn start_writing(parts: proposer::Parts, tasks: &Tasks) -> Proposer {
    let (engine, store, node_clock) =
        (parts.engine.clone(), parts.store.clone(), parts.node_clock.clone());
    let node = parts.node.clone();
    let proposer = Proposer::start(parts, tasks);
    let janitor = Janitor { engine, proposer: proposer.clone(), store, node_clock, node };
    tasks.keep("janitor", janitor.run(tasks.stop().clone()));
    proposer
}

fn timing_of(config: &Config) -> Timing {
    Timing {
        heartbeat_ms: u64::from(config.raft.heartbeat_ms),
        election_min_ms: u64::from(config.raft.election_min_ms),
        election_max_ms: u64::from(config.raft.election_max_ms),
        // A clock that asks nobody is as good at the first moment as ever.
        from_the_start: config.clock.mode == ClockMode::Local,
    }
}

/// Follows what the others show of their stores, and waits for the membership: peers are let in by it,
/// so it has to be known before they knock.
async fn take_part(engine: &Handle, witness: &Witness, newcomer: bool, tasks: &Tasks) {
    let stop = tasks.stop();
    tasks.keep("witness", witness.clone().keep(Some(engine.clone()), stop.clone()));
    tasks.once("elections", witness.clone().open_elections(engine.clone(), stop.clone()));
    let mut view = engine.view();
    let known = view.wait_for(|view| newcomer || !view.members.is_empty());
    if !matches!(tokio::time::timeout(READY_WITHIN, known).await, Ok(Ok(_))) {
        tracing::warn!("the membership is not known yet: no peer can be let in");
    }
}

fn start_repairing(
    config: &Config,
    node_identity: NodeIdentity,
    endpoint: &Endpoint,
    identity: Option<StoreIdentity>,
    repairing: Repairing,
    seed: Option<Seed>,
    tasks: &Tasks,
) -> Node {
    let name = node_identity.credentials.identity().name.clone();
    let none = EventSink::nowhere();
    let node_clock = NodeClock::start(&config.clock, Hlc::ZERO, none, name.clone(), tasks);
    let trust = Arc::new(Trust::new(None, Doorman::new(name, EventSink::nowhere())));
    let used = || Seed::read_used(&config.data_dir).ok().flatten();
    let seed = seed.or_else(used);
    // Where the store does not say any more who it is, the seed that made it does. The others would
    // take a node without a raft id for one that was removed.
    let born = || seed.as_ref().and_then(bootstrap::identity);
    let identity = identity.or_else(born).unwrap_or_default();
    let witness = Witness::new(&config.data_dir, &identity, None);
    let hello = hello_maker(identity_of(&node_identity), &identity, &witness);
    let link: Arc<dyn Link> = Arc::new(endpoint.link_to(hello, dialled(&trust, &witness)));
    tasks.keep("witness", witness.clone().keep(None, tasks.stop().clone()));
    let bootstrap::Born { stores, admins, .. } = bootstrap::Born::of(seed.as_ref());
    trust.learn_seed(&stores, admins, (identity.raft_id, node_identity.credentials.fingerprint()));
    let seed = seed.as_ref().map(bootstrap::members).unwrap_or_default();
    let slot = Slot::default();
    let members = slot.members(&node_clock, &witness);
    let outside = Outside { members, node_clock, link, witness, trust };
    let repairing = Repairing { seed, identity, ..repairing };
    make_node(config, node_identity, outside, &slot, Body::Repairing(repairing))
}

fn identity_of(node_identity: &NodeIdentity) -> proto::Identity {
    node_identity.credentials.identity().clone()
}

/// The settings of a configuration, for a cluster that has none yet.
fn first_settings(config: &Config) -> Configure {
    let Config { clock, retention, .. } = config;
    let on_loss = match clock.on_loss {
        clock::lead::OnLoss::Degrade => OnLoss::Degrade,
        clock::lead::OnLoss::Refuse => OnLoss::Refuse,
    };
    Configure {
        max_clock_error_us: Some(u64::from(clock.max_error_ms) * 1000),
        on_loss: Some(on_loss.into()),
        retain_age_ms: Some(retention.max_age_ms()),
        retain_count: Some(retention.max_records),
        retain_bytes: Some(retention.max_bytes),
    }
}

/// Where a node will be: the table of members asks the node how it is, and the node holds the table.
#[derive(Clone, Default)]
struct Slot(Arc<OnceLock<Weak<Inner>>>);

impl Slot {
    fn members(&self, node_clock: &NodeClock, witness: &Witness) -> PeerMonitor {
        let (slot, node_clock) = (self.clone(), node_clock.clone());
        let myself = move || {
            let inner = slot.0.get().and_then(Weak::upgrade);
            inner.map_or_else(NodeInfo::default, |inner| Node { inner }.info())
        };
        let witness = witness.clone();
        PeerMonitor::new(Arc::new(myself), Arc::new(move || node_clock.claim()))
            .heard_by(Arc::new(move |info, asked| witness.heard(info, asked)))
    }
}

/// What every node has, whole or not.
struct Outside {
    node_clock: NodeClock,
    link: Arc<dyn Link>,
    members: PeerMonitor,
    witness: Witness,
    trust: Arc<Trust>,
}

/// Whether a peer that was dialled is the one, and how it stands with what it has shown before.
fn dialled(
    trust: &Arc<Trust>,
    witness: &Witness,
) -> impl Fn(&Peer, &Hello) -> Result<(), Refused> + Send + Sync + use<> {
    let (trust, witness) = (Arc::clone(trust), witness.clone());
    move |peer, hello| trust.dialled(peer, hello).and_then(|()| witness.answered_by(hello))
}

fn make_node(
    config: &Config,
    node_identity: NodeIdentity,
    outside: Outside,
    slot: &Slot,
    body: Body,
) -> Node {
    let Outside { node_clock, link, members, witness, trust } = outside;
    let leaving = Arc::new(AtomicBool::new(false));
    let inner = Arc::new(Inner {
        name: node_identity.credentials.identity().name.clone(),
        identity: node_identity.credentials.identity().clone(),
        fingerprint: node_identity.credentials.fingerprint(),
        advertise: config.advertise.clone(),
        file_settings: config.clock.settings,
        node_clock,
        link,
        members,
        sessions: crate::sessions::SessionTable::default(),
        trust,
        ca: arc_swap::ArcSwap::new(Arc::clone(node_identity.credentials.ca_pem())),
        credentials: arc_swap::ArcSwap::from_pointee(node_identity.credentials),
        renewal: arc_swap::ArcSwapOption::empty(),
        signer: arc_swap::ArcSwapOption::from_pointee(node_identity.signer),
        body,
        leaving,
        witness,
        disk_full: AtomicBool::new(false),
        disk_slow: AtomicBool::new(false),
        began: tokio::time::Instant::now(),
        auditing: tokio::sync::Mutex::default(),
        pages: Turns::new(super::page_turns(), 0),
        requests: AtomicU64::new(0),
    });
    // Set once, right here.
    let _ = slot.0.set(Arc::downgrade(&inner));
    Node { inner }
}

fn hello_maker(
    me: proto::Identity,
    store: &StoreIdentity,
    witness: &Witness,
) -> impl Fn() -> Hello + Send + Sync + Clone + 'static {
    let (raft_id, incarnation) = (store.raft_id, store.incarnation.clone());
    let witness = witness.clone();
    move || {
        witness.attest(Hello {
            cluster: me.cluster.to_string(),
            name: me.name.to_string(),
            raft_id,
            incarnation: incarnation.clone(),
            version: super::VERSION.to_owned(),
            ..Hello::default()
        })
    }
}

fn start_server(node: &Node, endpoint: &Endpoint, tasks: &Tasks) -> Server {
    let identity = match &node.inner.body {
        Body::Whole(core) => core.store.identity().clone(),
        Body::Repairing(repairing) => repairing.identity.clone(),
    };
    let hello = hello_maker(node.inner.identity.clone(), &identity, node.witness());
    let server = Server {
        node: node.clone(),
        hello: Arc::new(hello),
        stop: tasks.stop().clone(),
        drain: CancellationToken::new(),
        requests: TaskTracker::new(),
        turns: Turns::new(CLIENT_TURNS_MAX, CLIENT_TURNS_KEPT),
    };
    tasks.keep("server", server.clone().run(endpoint.clone()));
    tasks.keep("members", ask_members(node.clone(), tasks.clone()));
    server
}

/// Keeps one question going to every other member.
async fn ask_members(node: Node, tasks: Tasks) {
    let stop = tasks.stop();
    let mut asked: Vec<(PeerAddr, CancellationToken)> = Vec::new();
    loop {
        let peers = node.peers();
        asked.retain(|(peer, asking)| {
            let stays = peers.contains(peer);
            if !stays {
                asking.cancel();
                let moved = |new: &PeerAddr| new.name == peer.name && new.raft_id == peer.raft_id;
                if !peers.iter().any(moved) {
                    node.members().forget(peer.name.as_str());
                    node.inner.link.forget(&peer.name);
                }
            }
            stays
        });
        for peer in peers {
            if !asked.iter().any(|(known, _)| *known == peer) {
                let asking = stop.child_token();
                let link = Arc::clone(&node.inner.link);
                let ask = node.members().clone().ask(link, peer.clone(), asking.clone());
                tasks.once("peer", ask);
                asked.push((peer, asking));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}

struct Running {
    config: Config,
    node: Node,
    endpoint: Endpoint,
    server: Server,
    tasks: Tasks,
}

impl Running {
    async fn until_the_end(self, process: Process) -> Result<(), Failed> {
        let Process { notifier, stop, reloads } = process;
        let (endpoint, node) = (self.endpoint.clone(), self.node.clone());
        renew::start(&self.node, &self.config.tls, &reloads.trigger(), &self.tasks);
        let tasks = &self.tasks;
        let take = move |node_identity| node.take(&endpoint, node_identity);
        tasks.once("reload", reloads.serve(stop.clone(), take));
        let (node, reserve_bytes) = (self.node.clone(), self.config.limits.disk_reserve_bytes);
        tasks.once("disk", disk::watch(node, reserve_bytes, tasks.stop().clone()));
        let (status, node) = (notifier.clone(), self.node.clone());
        tasks.keep_until_stop("service status", async move {
            loop {
                status.status(&node.summary());
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let (fed, node, stopping) = (notifier.clone(), self.node.clone(), tasks.stop().clone());
        tasks
            .once("watchdog", async move { fed.watchdog(move || progress(&node), stopping).await });
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.can_serve() => notifier.ready(),
            // It never will.
            _ = self.node.witness().lacking() => {}
        }
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            why = self.node.removed() => {
                // Its disk and its engine are sound: it goes as one that stops.
                tracing::error!("{why}");
                self.stop().await;
                return Err(why);
            }
            why = self.damaged() => return Err(why),
            why = cannot_go_on(&self.node) => Err(why),
            why = fallen(&self.node, &self.tasks) => Err(why),
        };
        match ended {
            Ok(()) => {
                self.stop().await;
                Ok(())
            }
            Err(why) => {
                // The disk or the engine is in doubt: nothing is handed over or tried again.
                self.endpoint.close(CloseCode::Moving, "moving");
                Err(why)
            }
        }
    }

    /// Completes when this node's store is damaged, that is remembered, and what was under way is
    /// answered: the others are to be asked.
    async fn damaged(&self) -> Failed {
        let Body::Whole(core) = &self.node.inner.body else { return std::future::pending().await };
        let mut told = core.store.told();
        if told.wait_for(|told| told.is_met()).await.is_err() {
            return std::future::pending().await;
        }
        // No vote, no entry and no answer from here on.
        drop(tokio::time::timeout(CLOSE_WITHIN, core.engine.stop()).await);
        self.server.drain.cancel();
        self.server.requests.close();
        drop(tokio::time::timeout(CLOSE_WITHIN, self.server.requests.wait()).await);
        self.endpoint.close(CloseCode::Moving, "moving");
        drop(tokio::time::timeout(CLOSE_WITHIN, self.endpoint.wait_idle()).await);
        ended_by(&core.store, StoreError::Stopped("damaged".to_owned())).await
    }

    /// Waits until the node can serve: a primary is known, or known to be absent, and the clock has
    /// decided what it is.
    async fn can_serve(&self) {
        let decided = self.node.node_clock().decided();
        if let Some(engine) = self.node.engine() {
            let mut view = engine.view();
            let led = view.wait_for(|view| view.primary.is_some());
            drop(tokio::time::timeout(READY_WITHIN, led).await);
        }
        drop(tokio::time::timeout(READY_WITHIN, decided).await);
    }

    async fn stop(self) {
        tracing::info!("stopping");
        self.node.inner.leaving.store(true, Ordering::Release);
        self.server.drain.cancel();
        if let Some(engine) = self.node.engine() {
            self.node.hand_over(engine).await;
            self.node.stop_noted(engine).await;
        }
        self.server.requests.close();
        if tokio::time::timeout(DRAIN_WITHIN, self.server.requests.wait()).await.is_err() {
            tracing::warn!("requests were still under way; their clients ask other nodes");
        }
        // Before the endpoint: an engine without a network tries again without end.
        if let Some(engine) = self.node.engine() {
            engine.stop().await;
        }
        self.endpoint.close(CloseCode::Moving, "moving");
        self.tasks.stop().cancel();
        drop(tokio::time::timeout(CLOSE_WITHIN, self.endpoint.wait_idle()).await);
        self.node.node_clock().stopped().await;
        self.node.witness().save().await;
        if let Body::Whole(core) = &self.node.inner.body {
            core.ceiling.finish().await;
            let store = core.store.clone();
            // Joins threads: not on a thread of the runtime.
            drop(tokio::task::spawn_blocking(move || store.close()).await);
        }
        tracing::info!("stopped");
    }
}

/// Whether the commit path moves: what the watchdog is fed with.
fn progress(node: &Node) -> Result<(), String> {
    let Body::Whole(core) = &node.inner.body else { return Ok(()) };
    let writer = core.store.writer().map_err(|error| error.to_string())?;
    match writer.sync_age() {
        Some(age) if age > SYNC_HUNG => Err(format!("a sync has taken {} s", age.as_secs())),
        _ => Ok(()),
    }
}
