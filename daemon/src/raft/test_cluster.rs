//! Nodes without a network and without clients: engine, clock, policy and proposer on a real store,
//! joined by a switchboard. For the tests of the engine and of the policy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clock::lead::UnsyncedStart;
use config::Clock;
use model::query::{self, Query, Reader};
use model::{Caller, Command, CommandOp, Outcome};
use net::switchboard::{Arrivals, Switchboard};
use net::{Lane, Link, PeerStream};
use proto::peer::{Hello, NodeInfo};
use proto::settings::Configure;
use proto::wire::{Ack, ClockReport};
use proto::{ErrorCode, Failure, Name};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::events::EventSink;
use crate::lead::{self, Lead};
use crate::peer_monitor::{Exchanges, PeerMonitor};
use crate::proposer::{self, Proposer};
use crate::store::format::Identity;
use crate::store::{Opened, Store, StoreError, Trouble};
use crate::tasks::Tasks;
use crate::time::{Counter, NodeClock};

use super::{
    EngineState, Guard, Handle, LogKept, Member, Timing, URGENT_RAFT, bootstrap, peer_address,
};

const CLUSTER: &str = "cccccccccccccccccccccccccccccccc";
/// Patience of every wait; far beyond what any of them takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How a node of a test differs from an ordinary one.
pub(crate) struct Setup {
    pub(crate) clock: Clock,
    pub(crate) counter: Counter,
    /// `None`: as in a real node, by its own clock.
    pub(crate) guard: Option<Guard>,
    /// Whether elections are on before the policy says so.
    pub(crate) from_the_start: bool,
    /// Whether it asks the others how they are.
    pub(crate) asks: bool,
    /// Number of members.
    pub(crate) members: u64,
    /// Whether its log begins with these members; a node that joins later learns of them.
    pub(crate) founds: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let (clock, counter) = (Clock::local(), Counter::Boot);
        Self {
            clock,
            counter,
            guard: None,
            from_the_start: true,
            asks: true,
            members: 3,
            founds: true,
        }
    }
}

pub(crate) struct TestNode {
    pub(crate) name: Name,
    pub(crate) engine: Handle,
    pub(crate) proposer: Proposer,
    pub(crate) lead: Lead,
    pub(crate) node_clock: NodeClock,
    pub(crate) members: PeerMonitor,
    pub(crate) store: Store,
    election_max_ms: u64,
    tasks: Tasks,
    /// `None` once it was handed back.
    dir: Option<tempfile::TempDir>,
}

impl Drop for TestNode {
    /// Ends the store's threads: one that closes the database while the process ends makes it abort.
    fn drop(&mut self) {
        self.tasks.stop().cancel();
        self.store.close();
    }
}

pub(crate) fn name(id: u64) -> Name {
    format!("n{id}").parse().unwrap()
}

fn identity(id: u64) -> Identity {
    Identity {
        cluster: CLUSTER.to_owned(),
        node: name(id).to_string(),
        raft_id: id,
        incarnation: vec![u8::try_from(id).unwrap(); 16],
        ..Identity::default()
    }
}

fn members(count: u64) -> BTreeMap<u64, Member> {
    (1..=count).map(|id| (id, member(id))).collect()
}

pub(crate) fn member(id: u64) -> Member {
    Member {
        name: name(id).to_string(),
        address: format!("switchboard:{id}"),
        incarnation: [u8::try_from(id).unwrap(); 16],
    }
}

pub(crate) fn hello(id: u64) -> Hello {
    Hello {
        cluster: CLUSTER.to_owned(),
        name: name(id).to_string(),
        raft_id: id,
        incarnation: vec![u8::try_from(id).unwrap(); 16],
        ..Hello::default()
    }
}

/// Starts a node and its policy.
pub(crate) async fn start(
    board: &Switchboard,
    id: u64,
    dir: tempfile::TempDir,
    setup: Setup,
) -> TestNode {
    let node = start_undecided(board, id, dir, setup).await;
    node.decide(UnsyncedStart::Wait);
    node
}

/// What the first primary sets.
fn first_settings() -> Configure {
    Configure { max_clock_error_us: Some(100_000), on_loss: Some(0), ..Configure::default() }
}

/// Starts a node whose policy has not begun: it does not stand for election unless it may from the
/// start, and mints nothing.
pub(crate) async fn start_undecided(
    board: &Switchboard,
    id: u64,
    dir: tempfile::TempDir,
    setup: Setup,
) -> TestNode {
    let Setup { clock, counter, guard, from_the_start, asks, members: count, founds } = setup;
    if !Store::exists(dir.path()).unwrap() {
        Store::create(dir.path(), &identity(id)).unwrap();
    }
    let store = tokio::time::timeout(PATIENCE, open(&dir, id)).await.expect("nobody holds it");
    let tasks = Tasks::until(CancellationToken::new());
    let (floor, events) = (store.ceiling().unwrap(), EventSink::nowhere());
    let node_clock = NodeClock::with_counter(&clock, floor, events, name(id), &tasks, counter);
    tasks.keep_until_stop("ceiling", keep_ceiling(node_clock.clone(), store.clone()));
    let (link, arrivals) = board.attach(&name(id), hello(id));
    let link: Arc<dyn Link> = Arc::new(link);
    let lead = Lead::new(node_clock.clone(), &clock);
    let known = PeerMonitor::new();
    let observing = node_clock.clone();
    let timing = Timing {
        heartbeat_ms: 50,
        election_min_ms: 200,
        election_max_ms: 400,
        from_the_start,
        kept: LogKept::default(),
    };
    if founds {
        bootstrap(&store, members(count)).await.unwrap();
    }
    let engine = Handle::start(
        store.clone(),
        timing,
        Arc::clone(&link),
        Arc::new(move |seen| observing.observe(seen)),
        guard.unwrap_or_else(|| lead.guard(known.clone())),
        Chance::system(),
    );
    let engine = engine.await.unwrap();
    engine.attested();
    let exchanges = exchanges(id, &known, &node_clock, &lead, engine.view());
    let serving = serve(engine.clone(), exchanges.clone(), arrivals);
    tasks.keep_until_stop("server", serving);
    for (peer, member) in members(count).into_iter().filter(|(peer, _)| asks && *peer != id) {
        let peer = peer_address(peer, &member).unwrap();
        let ask = exchanges.clone().ask(Arc::clone(&link), peer, tasks.stop().clone());
        tasks.once("peer", ask);
    }
    let parts = proposer::Parts {
        engine: engine.clone(),
        node_clock: node_clock.clone(),
        lead: lead.clone(),
        store: store.clone(),
        settings: first_settings(),
        node: name(id),
    };
    let proposer = Proposer::start(parts, &tasks);
    let (name, election_max_ms) = (name(id), timing.election_max_ms);
    TestNode {
        name,
        engine,
        proposer,
        lead,
        node_clock,
        members: known,
        store,
        election_max_ms,
        tasks,
        dir: Some(dir),
    }
}

async fn keep_ceiling(ceiling: NodeClock, store: Store) {
    loop {
        let wanted = ceiling.next_ceiling().await;
        // A store that is closed ends the test's node, and this with it.
        let Ok(writer) = store.writer() else { return };
        if writer.put_ceiling(wanted).await.is_err() {
            return;
        }
        ceiling.ceiling_persisted(wanted);
    }
}

fn exchanges(
    id: u64,
    known: &PeerMonitor,
    node_clock: &NodeClock,
    lead: &Lead,
    view: watch::Receiver<EngineState>,
) -> Exchanges {
    let (telling, reading, lead) = (node_clock.clone(), node_clock.clone(), lead.clone());
    let myself = move || {
        let role = view.borrow().role.as_str().to_owned();
        let report = telling.report(name(id).as_str());
        let clock = Some(ClockReport { may_lead: lead.may_lead(), ..report });
        let name = name(id).to_string();
        NodeInfo { name, role, clock, ..NodeInfo::default() }
    };
    known.exchanges(Arc::new(myself), Arc::new(move || reading.claim()))
}

/// Opens a store as soon as the last task of an earlier node has let go of it.
async fn open(dir: &tempfile::TempDir, id: u64) -> Store {
    loop {
        match Store::open(dir.path(), CLUSTER, name(id).as_str()) {
            Ok(Opened::Intact(store)) => return store,
            Ok(Opened::Repairing { damage, .. }) => panic!("{damage}"),
            Err(StoreError::Environment { trouble: Trouble::InUse, .. }) => {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn serve(engine: Handle, members: Exchanges, mut arrivals: Arrivals) {
    while let Some(PeerStream { from, lane, tx, mut rx }) = arrivals.recv().await {
        let (engine, members) = (engine.clone(), members.clone());
        tokio::spawn(async move {
            match lane {
                Lane::Append => engine.serve_append(tx, rx).await,
                Lane::Snapshot => engine.serve_snapshot(tx, rx).await,
                Lane::Urgent => match rx.recv().await {
                    Ok(Some(first)) if first[0] == URGENT_RAFT => {
                        engine.serve_urgent(first.slice(1..), tx).await;
                    }
                    Ok(Some(first)) => {
                        members.answer(&from.name.parse().unwrap(), first, tx, rx).await;
                    }
                    Ok(None) | Err(_) => {}
                },
                Lane::Request => {}
            }
        });
    }
}

impl TestNode {
    /// Starts the policy.
    pub(crate) fn decide(&self, unsynced_start: UnsyncedStart) {
        let parts = lead::Parts {
            engine: self.engine.clone(),
            members: self.members.clone(),
            store: self.store.clone(),
            election_max_ms: self.election_max_ms,
        };
        self.lead.start(parts, unsynced_start, &self.tasks);
    }

    /// Stops the engine without any goodbye and hands the directory back.
    pub(crate) async fn stop(mut self, board: &Switchboard) -> tempfile::TempDir {
        board.detach(&self.name);
        self.tasks.stop().cancel();
        self.engine.stop().await;
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.close()).await.unwrap();
        self.dir.take().unwrap()
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.engine.view().borrow().is_primary()
    }

    pub(crate) fn records(&self) -> Vec<proto::Record> {
        let view = self.store.snapshot().unwrap();
        let reader = Reader { name: String::new(), admin: true };
        let (mut records, mut after) = (Vec::new(), 0);
        loop {
            let query = Query { after, ..Query::default() };
            let page = query::page(&view, &reader, &query).unwrap();
            after = page.next;
            records.extend(page.records);
            if page.end {
                return records;
            }
        }
    }

    pub(crate) async fn send(&self, id: &str) -> Result<u64, Failure> {
        self.send_acked(id).await.map(|ack| ack.seq)
    }

    pub(crate) async fn send_acked(&self, id: &str) -> Result<Ack, Failure> {
        let op = CommandOp::Send {
            to: "*".to_owned(),
            id: id.to_owned(),
            headers: Vec::new(),
            body: "hello".into(),
        };
        let outcome = self.order(op).await?;
        if let Outcome::Refused(failure) = outcome {
            return Err(failure);
        }
        let Outcome::Sent(ack) = outcome else { panic!("{outcome:?}") };
        Ok(ack)
    }

    /// Orders an admin's command, as primary.
    pub(crate) async fn order(&self, op: CommandOp) -> Result<Outcome, Failure> {
        let caller = Caller { name: "admin".to_owned(), admin: true, fingerprint: [7; 32] };
        let command = Command { caller, gateway: self.name.to_string(), op };
        let proposed = self.proposer.propose(command, None);
        let proposed = tokio::time::timeout(Duration::from_secs(3), proposed).await;
        proposed.unwrap_or_else(|_| Err(Failure::new(ErrorCode::Unknown, "late")))
    }
}

/// Waits until something holds. Looked at again and again: what is waited for has no event of its
/// own.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited too long: {what}");
}

/// The node that leads and is not the given one.
pub(crate) async fn primary<'n>(nodes: &'n [TestNode], not: Option<&Name>) -> &'n TestNode {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            // Before the look: what changes after it is not missed.
            let mut changes: Vec<_> = nodes.iter().map(|node| node.engine.view()).collect();
            let leading = nodes.iter().filter(|node| Some(&node.name) != not);
            let leading = leading.filter(|node| node.is_primary());
            // One that was cut off believes in itself for a while.
            if let Some(node) = leading.max_by_key(|node| node.engine.view().borrow().term) {
                return node;
            }
            let changed = changes.iter_mut().map(|view| Box::pin(view.changed()));
            drop(futures::future::select_all(changed).await);
        }
    });
    found.await.expect("a primary")
}

/// Sends until it is acknowledged, by whoever leads.
pub(crate) async fn send_surely(nodes: &[TestNode], not: Option<&Name>, id: &str) -> u64 {
    let sent = tokio::time::timeout(PATIENCE, async {
        loop {
            match primary(nodes, not).await.send(id).await {
                Ok(seq) => return seq,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    sent.await.expect("an acknowledgement")
}

/// Waits until all nodes have applied as much as the one that has applied most.
pub(crate) async fn settle(nodes: &[TestNode]) {
    // What was answered is in what a look at the state shows, and in the progress a little later.
    let applied = |node: &TestNode| node.store.snapshot().unwrap().applied().unwrap().last;
    let index = nodes.iter().filter_map(applied).map(|last| last.index).max().unwrap();
    for node in nodes {
        let mut progress = node.engine.progress();
        let there = progress.wait_for(|progress| progress.index >= Some(index));
        tokio::time::timeout(PATIENCE, there).await.expect("it catches up").unwrap();
    }
}

pub(crate) async fn three(board: &Switchboard, setup: impl Fn(u64) -> Setup) -> Vec<TestNode> {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(start(board, id, tempfile::tempdir().unwrap(), setup(id)).await);
    }
    nodes
}
