//! Start and stop of a node, in order. Knows everything; nothing but the program knows it.
//!
//! A node is put together here and nowhere else, from [`Parts`]: by the process, around a UDP port and
//! files; by tests and by the simulator, around a switchboard, with a clock of their own.
//!
//! Start: clock, engine, proposer, node, reconciler, server. Stop: announce, hand the primary role
//! over, drain, close, then the store.
//!
//! Not here: the port, the files and the service manager of a process (`process`).

mod bootstrap;
mod ending;
mod process;
mod running;
#[cfg(test)]
mod whole_test;

use std::sync::Arc;
use std::time::Duration;

use clock::Hlc;
use config::seed::Seed;
use config::{ClockMode, Config};
use net::{CheckPeer, Link, MakeHello, PeerAddr, Port};
use proto::Name;
use proto::limits::{CLIENT_TURNS_KEPT, CLIENT_TURNS_MAX};
use proto::peer::{Hello, Refusal};
use proto::settings::{Configure, OnLoss};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alarms;
use crate::blocking::Blocking;
use crate::chance::Chance;
use crate::doorman::Doorman;
use crate::events::{self, EventQueue, EventSink};
use crate::janitor::Janitor;
use crate::lead::{self, Lead};
use crate::node::{
    Body, Book, Ceiling, Closer, Core, Feeding, Node, Outside, Repairing, Roaming, Takers, VERSION,
    compare_states, follow_moved, scrub, watch_disk,
};
use crate::node_identity::NodeIdentity;
use crate::peer_monitor::{Exchanges, PeerMonitor};
use crate::proposer::{self, Proposer};
use crate::raft::{self, Handle, LogKept, Timing};
use crate::reconciler;
use crate::server::Server;
use crate::store::format::Identity as StoreIdentity;
use crate::store::{Damage, Lock, Opened, Store, StoreError};
use crate::tasks::Tasks;
use crate::time::{Counter, NodeClock};
use crate::trust::Trust;
use crate::turns::Turns;
use crate::witness::{Notebook, Witness};

pub use self::bootstrap::bootstrap;
pub use self::process::run;
pub use self::running::Running;
pub use crate::seeded::store_identity;

use self::bootstrap::Born;

/// Longest wait for what a node should know before it serves; it starts without it all the same.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// What a node is put together from.
pub struct Parts {
    /// Its configuration. Listen address, data directory, certificate files and log are the process's
    /// business.
    pub config: Config,
    /// What it proves itself with.
    pub node_identity: NodeIdentity,
    /// Where peers come in and are dialled from.
    pub port: Arc<dyn Port>,
    /// Its store. Where that proves nothing the node runs without taking part.
    pub opened: Opened,
    /// The seed of the store, also one that was put to use long ago: who the first members and
    /// administrators were. See [`bootstrap()`]. Its members are those that the node noted last, if it did.
    pub seed: Option<Seed>,
    /// What it uses of the machine that it runs on.
    pub machine: Machine,
    /// What starts its tasks, and ends them.
    pub tasks: Tasks,
}

/// What a node uses of the machine that it runs on, real or not, besides network and store.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Where its clock takes elapsed time from, and the wall clock that certificates go by.
    pub counter: Counter,
    /// What draws its ids and election timeouts.
    pub chance: Chance,
    /// Where work goes that waits for the disk.
    pub blocking: Blocking,
    /// Where it notes what others show of their stores.
    pub notebook: Notebook,
    /// How many processors there are.
    pub processors: usize,
    /// How much of the log it keeps.
    pub log_kept: LogKept,
}

impl Machine {
    /// The one that this process runs on.
    #[must_use]
    pub fn real(config: &Config) -> Self {
        let processors = std::thread::available_parallelism();
        Self {
            counter: Counter::of(config.clock.mode),
            chance: Chance::system(),
            blocking: Blocking::Threads,
            notebook: Notebook::beside_store(&config.data_dir),
            processors: processors.map_or(1, std::num::NonZero::get),
            log_kept: LogKept::default(),
        }
    }

    fn clock(
        &self,
        config: &Config,
        ceiling: Hlc,
        events: EventSink,
        name: &Name,
        tasks: &Tasks,
    ) -> NodeClock {
        let (counter, name) = (self.counter.clone(), name.clone());
        NodeClock::with_counter(&config.clock, ceiling, events, name, &tasks.aside(), counter)
    }

    fn witness(&self, identity: &StoreIdentity, store: Option<&Store>) -> Witness {
        let kept = (self.notebook.clone(), &self.chance, self.blocking);
        Witness::new(kept, identity, store.cloned())
    }

    fn around(
        &self,
        node_clock: NodeClock,
        (link, takers): (Arc<dyn Link>, Takers),
        members: PeerMonitor,
        witness: Witness,
        trust: Arc<Trust>,
    ) -> Outside {
        let (chance, blocking, processors) = (self.chance.clone(), self.blocking, self.processors);
        Outside { node_clock, link, takers, members, witness, trust, chance, blocking, processors }
    }
}

impl Parts {
    /// Puts the node together and starts it. It serves when this returns, as far as it can; whether it
    /// goes on is to be looked at with [`Running::ended`].
    ///
    /// # Errors
    /// When the store cannot be read or written. What was started then ends with the tasks.
    pub async fn start(self) -> Result<Running, StoreError> {
        let Self { config, node_identity, port, opened, seed, machine, tasks } = self;
        let blocking = machine.blocking;
        let reserve_bytes = config.limits.disk_reserve_bytes;
        let scrub_bytes_per_s = config.limits.scrub_bytes_per_s;
        let (gate, starting) = (Arc::clone(&port), tasks.clone());
        let basis = Basis { config, node_identity, port: gate, seed, machine, tasks: starting };
        let (node, exchanges) = match opened {
            Opened::Intact(store) => Box::pin(basis.start_whole(store)).await?,
            Opened::Repairing { identity, damage, lock } => {
                basis.start_repairing(identity, damage, lock)
            }
        };
        let server = start_server(&node, exchanges, &port, &tasks);
        let aside = tasks.aside();
        aside.once("disk", watch_disk(node.clone(), reserve_bytes, tasks.stop().clone()));
        aside.keep_until_stop("states", compare_states(node.clone()));
        aside.keep_until_stop("scrubber", scrub(node.clone(), scrub_bytes_per_s));
        Ok(Running { node, server, port, tasks, blocking })
    }
}

/// What a node is put together from besides its store.
struct Basis {
    config: Config,
    node_identity: NodeIdentity,
    port: Arc<dyn Port>,
    seed: Option<Seed>,
    machine: Machine,
    tasks: Tasks,
}

impl Basis {
    async fn start_whole(self, store: Store) -> Result<(Node, Exchanges), StoreError> {
        let Self { config, node_identity, port, seed, machine, tasks } = self;
        let name = node_identity.credentials.identity().name.clone();
        let (events, event_queue) = events::channel(machine.chance.clone());
        let floor = store.ceiling()?;
        let doorman = Doorman::new(name.clone(), events.clone());
        let node_clock = machine.clock(&config, floor, events.clone(), &name, &tasks);
        let ceiling = Ceiling::start(node_clock.clone(), store.clone(), &tasks);
        let trust = Arc::new(Trust::new(Some(store.clone()), doorman));
        let witness = machine.witness(store.identity(), Some(&store));
        let hello = hello_maker(identity_of(&node_identity), store.identity(), &witness, false);
        let takers = Takers::default();
        let (told, refused) = watch::channel(false);
        let Dialling { link, straight, book } =
            Dialling::over(port.link(hello, dialled(&trust, &witness, &takers, told)));
        let timing = timing_of(&config, machine.log_kept);
        let members = monitor(&witness);
        let lead = Lead::new(node_clock.clone(), &config.clock);
        let guard = lead.guard(members.clone());
        let observe = observer(&node_clock);
        let Born { members: noted, stores, admins } = Born::of(seed.as_ref());
        let own = (store.identity().raft_id, node_identity.credentials.fingerprint());
        trust.learn_seed(&stores, admins, own);
        let engine = Handle::start(
            store.clone(),
            timing,
            Arc::clone(&link),
            observe,
            guard,
            machine.chance.clone(),
        )
        .await?;
        let just_joined = store.durable()?.last.is_none();
        take_part(&engine, &witness, just_joined, &tasks).await;
        let parts = lead::Parts::new(&engine, &members, &store, timing.election_max_ms);
        lead.start(parts, config.clock.unsynced_start, &tasks);
        let parts = proposer::Parts {
            engine: engine.clone(),
            node_clock: node_clock.clone(),
            lead: lead.clone(),
            store: store.clone(),
            settings: first_settings(&config),
            node: name,
        };
        let proposer = start_writing(parts, &tasks);
        let standing =
            reconciler::follow_standing(&engine, store.clone(), Arc::clone(&trust), &tasks.aside());
        let core = Core {
            engine,
            proposer,
            lead,
            store,
            ceiling,
            closer: Closer::default(),
            feeding: Feeding::default(),
            events: events.clone(),
            standing,
            refused,
            noted,
        };
        let reconciling = reconciler_parts(&core, &node_clock, &members, &trust, &machine.chance);
        let outside = machine.around(node_clock, (link, takers), members, witness, trust);
        let node = Node::new(&config, node_identity, outside, Body::Whole(Box::new(core)));
        reconciler::start(reconciling(&node), &tasks.aside());
        start_telling(&node, events, event_queue, &tasks);
        follow_moved(&node, straight, book, &tasks.aside());
        let exchanges = exchanges_of(&node);
        Ok((node, exchanges))
    }

    fn start_repairing(
        self,
        identity: Option<StoreIdentity>,
        damage: Damage,
        lock: Option<Lock>,
    ) -> (Node, Exchanges) {
        let Self { config, node_identity, port, seed, machine, tasks } = self;
        let name = node_identity.credentials.identity().name.clone();
        let none = EventSink::nowhere();
        let node_clock = machine.clock(&config, Hlc::ZERO, none, &name, &tasks);
        let trust = Arc::new(Trust::new(None, Doorman::new(name, EventSink::nowhere())));
        // Where the store does not say any more who it is, the seed that made it does. The others would
        // take a node without a raft id for one that was removed.
        let born = || seed.as_ref().and_then(store_identity);
        let identity = identity.or_else(born).unwrap_or_default();
        let witness = machine.witness(&identity, None);
        let hello = hello_maker(identity_of(&node_identity), &identity, &witness, true);
        let takers = Takers::default();
        let (removed, _) = watch::channel(false);
        let link = port.link(hello, dialled(&trust, &witness, &takers, removed));
        tasks.keep("witness", witness.clone().keep(None, tasks.stop().clone()));
        let Born { stores, admins, .. } = Born::of(seed.as_ref());
        let own = (identity.raft_id, node_identity.credentials.fingerprint());
        trust.learn_seed(&stores, admins, own);
        let known = seed.as_ref().map(crate::seeded::members).unwrap_or_default();
        let members = monitor(&witness);
        let outside = machine.around(node_clock, (link, takers), members, witness, trust);
        let waits = arc_swap::ArcSwapOption::empty();
        let known = parking_lot::Mutex::new(known);
        let repairing = Repairing { damage, identity, known, waits, _lock: lock };
        let node = Node::new(&config, node_identity, outside, Body::Repairing(repairing));
        let exchanges = exchanges_of(&node);
        (node, exchanges)
    }
}

fn observer(node_clock: &NodeClock) -> raft::Observe {
    let observing = node_clock.clone();
    Arc::new(move |seen| observing.observe(seen))
}

/// How a node that takes part dials the others, and what it learns by that.
struct Dialling {
    /// For everybody: dials nodes where they have proven to be.
    link: Arc<dyn Link>,
    /// Dials them where it is told to.
    straight: Arc<dyn Link>,
    /// Where they have proven to be.
    book: Book,
}

impl Dialling {
    fn over(link: Arc<dyn Link>) -> Self {
        let (straight, book) = (link, Book::default());
        let link: Arc<dyn Link> = Arc::new(Roaming::new(Arc::clone(&straight), book.clone()));
        Self { link, straight, book }
    }
}

/// Starts what brings a node's own events, its alarms among them, to the primary.
fn start_telling(node: &Node, events: EventSink, queue: EventQueue, tasks: &Tasks) {
    let storing = node.clone();
    let store = move |event| {
        // Each future owns its node: a borrowed one could not move between threads.
        let node = storing.clone();
        async move { node.bring_event(event).await.map(drop) }
    };
    tasks.keep("events", queue.run(store, tasks.stop().clone()));
    let complaining = node.clone();
    let problems = move || complaining.own_problems();
    tasks.aside().keep_until_stop("alarms", alarms::run(node.name().clone(), problems, events));
}

/// Starts who stamps and orders, and who orders what retention asks for.
fn start_writing(parts: proposer::Parts, tasks: &Tasks) -> Proposer {
    let (engine, store, node_clock) =
        (parts.engine.clone(), parts.store.clone(), parts.node_clock.clone());
    let node = parts.node.clone();
    let proposer = Proposer::start(parts, tasks);
    let janitor = Janitor { engine, proposer: proposer.clone(), store, node_clock, node };
    tasks.aside().keep("janitor", janitor.run(tasks.stop().clone()));
    proposer
}

fn timing_of(config: &Config, kept: LogKept) -> Timing {
    Timing {
        heartbeat_ms: u64::from(config.raft.heartbeat_ms),
        election_min_ms: u64::from(config.raft.election_min_ms),
        election_max_ms: u64::from(config.raft.election_max_ms),
        // A clock that asks nobody is as good at the first moment as ever.
        from_the_start: config.clock.mode == ClockMode::Local,
        kept,
    }
}

/// Follows what the others show of their stores, and waits for the membership: peers are let in by it,
/// so it has to be known before they knock.
async fn take_part(engine: &Handle, witness: &Witness, just_joined: bool, tasks: &Tasks) {
    let stop = tasks.stop();
    tasks.keep("witness", witness.clone().keep(Some(engine.clone()), stop.clone()));
    tasks.once("elections", witness.clone().open_elections(engine.clone(), stop.clone()));
    let mut view = engine.view();
    let known = view.wait_for(|view| just_joined || !view.members.is_empty());
    if !matches!(tokio::time::timeout(READY_WITHIN, known).await, Ok(Ok(_))) {
        tracing::warn!("the membership is not known yet: no peer can be let in");
    }
}

fn identity_of(node_identity: &NodeIdentity) -> proto::Identity {
    node_identity.credentials.identity().clone()
}

/// The settings of a configuration, for a cluster that has none yet.
fn first_settings(config: &Config) -> Configure {
    let Config { clock, retention, tls, .. } = config;
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
        cert_life_s: Some(tls.cert_life.as_secs()),
    }
}

/// What is known of the peers: the witness hears everything first.
fn monitor(witness: &Witness) -> PeerMonitor {
    let witness = witness.clone();
    PeerMonitor::new().heard_by(Arc::new(move |info, asked| witness.heard(info, asked)))
}

/// How a node tells its peers of itself.
fn exchanges_of(node: &Node) -> Exchanges {
    let (myself, node_clock) = (node.clone(), node.node_clock().clone());
    let members = node.members();
    members.exchanges(Arc::new(move || myself.info()), Arc::new(move || node_clock.claim()))
}

/// What the reconciler works with, once there is a node.
fn reconciler_parts(
    core: &Core,
    node_clock: &NodeClock,
    members: &PeerMonitor,
    trust: &Arc<Trust>,
    chance: &Chance,
) -> impl FnOnce(&Node) -> reconciler::Parts + use<> {
    let (engine, lead, store) = (core.engine.clone(), core.lead.clone(), core.store.clone());
    let (members, node_clock, trust) = (members.clone(), node_clock.clone(), Arc::clone(trust));
    let chance = chance.clone();
    move |node| {
        let node = Arc::new(node.clone());
        reconciler::Parts { node, engine, members, lead, store, node_clock, chance, trust }
    }
}

/// Whether a peer that was dialled is the one, and how it stands with what it has shown before. One that
/// refuses this node is heeded by its key alone; `removed` notes that it says: as one that was removed.
fn dialled(
    trust: &Arc<Trust>,
    witness: &Witness,
    takers: &Takers,
    removed: watch::Sender<bool>,
) -> CheckPeer {
    let (trust, witness, takers) = (Arc::clone(trust), witness.clone(), takers.clone());
    Arc::new(move |peer, hello| {
        if trust.knows(peer) {
            witness.outlived_by(hello)?;
        }
        if hello.refusal.is_empty() {
            trust.dialled(peer, hello)?;
        } else {
            trust.heeds(peer, hello)?;
            if hello.why_refused() == Refusal::Removed {
                removed.send_if_modified(|removed| !std::mem::replace(removed, true));
            }
        }
        witness.answered_by(hello)?;
        takers.heard(hello);
        Ok(())
    })
}

fn hello_maker(
    me: proto::Identity,
    store: &StoreIdentity,
    witness: &Witness,
    repairing: bool,
) -> MakeHello {
    let (raft_id, incarnation) = (store.raft_id, store.incarnation.clone());
    let witness = witness.clone();
    Arc::new(move || {
        witness.attest(Hello {
            cluster: me.cluster.to_string(),
            name: me.name.to_string(),
            raft_id,
            incarnation: incarnation.clone(),
            version: VERSION.to_owned(),
            repairing,
            takes_forwards: true,
            ..Hello::default()
        })
    })
}

fn start_server(node: &Node, exchanges: Exchanges, port: &Arc<dyn Port>, tasks: &Tasks) -> Server {
    let (identity, repairing) = match node.body() {
        Body::Whole(core) => (core.store.identity().clone(), false),
        Body::Repairing(repairing) => (repairing.identity.clone(), true),
    };
    let server = Server {
        node: node.clone(),
        exchanges: exchanges.clone(),
        hello: hello_maker(node.identity().clone(), &identity, node.witness(), repairing),
        stop: tasks.stop().clone(),
        drain: CancellationToken::new(),
        requests: TaskTracker::new(),
        turns: Turns::new(CLIENT_TURNS_MAX, CLIENT_TURNS_KEPT),
        aside: tasks.aside_runtime(),
    };
    tasks.keep("server", server.clone().run(Arc::clone(port)));
    tasks.keep("members", ask_members(node.clone(), exchanges, tasks.clone()));
    server
}

/// Keeps one question going to every other member.
async fn ask_members(node: Node, exchanges: Exchanges, tasks: Tasks) {
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
                    node.link().forget(&peer.name);
                }
            }
            stays
        });
        for peer in peers {
            if !asked.iter().any(|(known, _)| *known == peer) {
                let asking = stop.child_token();
                let link = Arc::clone(node.link());
                tasks.once("peer", exchanges.clone().ask(link, peer.clone(), asking.clone()));
                asked.push((peer, asking));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}
