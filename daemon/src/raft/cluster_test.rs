//! Three engines on real stores in one process, joined by a switchboard that can cut them apart.
//!
//! Protects: durable, one order, once a term one primary, stamps ascend without the ratchet.
//! Seen to fail once: with the proposer reading the leader id after the stamp and `observe` left
//! out of the log's `append`, `ratcheted` is not 0.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::query::{self, Query, Reader};
use model::{Caller, Command, CommandOp, Outcome};
use net::switchboard::{Arrivals, Switchboard};
use net::{Lane, PeerStream};
use proto::Name;
use proto::peer::Hello;
use tokio_util::sync::CancellationToken;

use crate::config::Clock;
use crate::events::EventSink;
use crate::proposer::Proposer;
use crate::store::format::Identity;
use crate::store::{Op, Opened, Store};
use crate::time::Keeper;

use super::{Handle, Member, Timing, URGENT_RAFT};

const CLUSTER: &str = "cccccccccccccccccccccccccccccccc";
/// Patience of every wait; far beyond what any of them takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct TestNode {
    name: Name,
    engine: Handle,
    proposer: Proposer,
    store: Store,
    stop: CancellationToken,
    dir: tempfile::TempDir,
}

fn name(id: u64) -> Name {
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

fn members() -> BTreeMap<u64, Member> {
    let member = |id: u64| Member {
        name: name(id).to_string(),
        address: format!("switchboard:{id}"),
        incarnation: [u8::try_from(id).unwrap(); 16],
    };
    (1..=3).map(|id| (id, member(id))).collect()
}

async fn start(board: &Switchboard, id: u64, dir: tempfile::TempDir) -> TestNode {
    if !Store::exists(dir.path()) {
        Store::create(dir.path(), &identity(id)).unwrap();
    }
    let store = tokio::time::timeout(PATIENCE, open(&dir, id)).await.expect("nobody holds it");
    let stop = CancellationToken::new();
    let (ceiling_ns, events) = (store.ceiling_ns().unwrap(), EventSink::nowhere());
    let keeper = Keeper::start(&Clock::local(), ceiling_ns, events, name(id), stop.clone());
    let (ceiling, writing) = (keeper.clone(), store.clone());
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        loop {
            let ceiling_ns = ceiling.next_ceiling().await;
            writing.writer().unwrap().run(Op::Ceiling(ceiling_ns)).await.unwrap();
            ceiling.ceiling_persisted(ceiling_ns);
        }
    }));
    let hello = Hello {
        cluster: CLUSTER.to_owned(),
        name: name(id).to_string(),
        raft_id: id,
        incarnation: vec![u8::try_from(id).unwrap(); 16],
        ..Hello::default()
    };
    let (link, arrivals) = board.attach(&name(id), hello);
    let observing = keeper.clone();
    let timing = Timing { heartbeat_ms: 50, election_min_ms: 200, election_max_ms: 400 };
    let engine = Handle::start(
        store.clone(),
        timing,
        Arc::new(link),
        Arc::new(move |seen| observing.observe(seen)),
    );
    let engine = engine.await.unwrap();
    tokio::spawn(stop.clone().run_until_cancelled_owned(serve(engine.clone(), arrivals)));
    engine.initialize(members()).await.unwrap();
    let proposer = Proposer::start(engine.clone(), keeper, name(id), stop.clone());
    TestNode { name: name(id), engine, proposer, store, stop, dir }
}

/// Opens a store as soon as the last task of an earlier node has let go of it.
async fn open(dir: &tempfile::TempDir, id: u64) -> Store {
    loop {
        match Store::open(dir.path(), CLUSTER, name(id).as_str()) {
            Ok(Opened::Intact(store)) => return store,
            Ok(Opened::Repairing { reason, .. }) => panic!("{reason}"),
            Err(error) if error.to_string().contains("in use") => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn serve(engine: Handle, mut arrivals: Arrivals) {
    while let Some(PeerStream { lane, tx, mut rx, .. }) = arrivals.recv().await {
        let engine = engine.clone();
        tokio::spawn(async move {
            match lane {
                Lane::Append => engine.serve_append(tx, rx).await,
                Lane::Snapshot => engine.serve_snapshot(tx, rx).await,
                Lane::Urgent => {
                    if let Ok(Some(first)) = rx.recv().await {
                        assert_eq!(first[0], URGENT_RAFT);
                        engine.serve_urgent(first.slice(1..), tx, rx).await;
                    }
                }
                Lane::Request => {}
            }
        });
    }
}

impl TestNode {
    /// Stops the engine without any goodbye and hands the directory back.
    async fn stop(self, board: &Switchboard) -> tempfile::TempDir {
        board.detach(&self.name);
        self.stop.cancel();
        self.engine.stop().await;
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.close()).await.unwrap();
        self.dir
    }

    fn records(&self) -> Vec<proto::Record> {
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

    async fn send(&self, id: &str) -> Result<u64, proto::Failure> {
        let caller = Caller { name: "admin".to_owned(), admin: true, fingerprint: [7; 32] };
        let op = CommandOp::Send {
            to: "*".to_owned(),
            id: id.to_owned(),
            headers: Vec::new(),
            body: "hello".into(),
        };
        let command = Command { caller, gateway: self.name.to_string(), op };
        let proposed = tokio::time::timeout(Duration::from_secs(3), async {
            self.proposer.propose(command, None).await
        });
        let late = |_| proto::Failure::new(proto::ErrorCode::Unknown, "late");
        match proposed.await.map_err(late)?? {
            Outcome::Sent(ack) => Ok(ack.seq),
            Outcome::Refused(failure) => Err(failure),
            other => panic!("{other:?}"),
        }
    }
}

/// The node that leads and is not the given one.
async fn primary<'n>(nodes: &'n [TestNode], not: Option<&Name>) -> &'n TestNode {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let leading = nodes.iter().filter(|node| Some(&node.name) != not);
            for node in leading {
                if node.engine.view().borrow().is_primary() {
                    return node;
                }
            }
            let mut changes: Vec<_> = nodes.iter().map(|node| node.engine.view()).collect();
            let changed = changes.iter_mut().map(|view| Box::pin(view.changed()));
            drop(futures::future::select_all(changed).await);
        }
    });
    found.await.expect("a primary")
}

/// Sends until it is acknowledged, by whoever leads.
async fn send_surely(nodes: &[TestNode], not: Option<&Name>, id: &str) -> u64 {
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
async fn settle(nodes: &[TestNode]) {
    let index = nodes.iter().filter_map(|n| n.engine.progress().borrow().index).max().unwrap();
    for node in nodes {
        let mut progress = node.engine.progress();
        let there = progress.wait_for(|progress| progress.index >= Some(index));
        tokio::time::timeout(PATIENCE, there).await.expect("it catches up").unwrap();
    }
}

fn check_equal(nodes: &[TestNode], acked: &BTreeMap<String, u64>) {
    let records = nodes[0].records();
    for node in nodes {
        assert_eq!(node.records(), records, "{} differs", node.name);
        let digest = |n: &TestNode| query::stats(&n.store.snapshot().unwrap()).unwrap().digest;
        assert_eq!(digest(node), digest(&nodes[0]), "state of {}", node.name);
        assert_eq!(node.engine.ratcheted(), 0, "stamps raised on {}", node.name);
    }
    for (at, pair) in records.windows(2).enumerate() {
        assert!(pair[0].hlc().unwrap() < pair[1].hlc().unwrap(), "stamps at {at}");
        assert_eq!(pair[0].seq + 1, pair[1].seq, "seq at {at}");
    }
    for (id, seq) in acked {
        let found: Vec<_> = records.iter().filter(|record| record.id == *id).collect();
        assert_eq!(found.len(), 1, "{id} is there {} times", found.len());
        assert_eq!(found[0].seq, *seq, "{id}");
    }
}

async fn three(board: &Switchboard) -> Vec<TestNode> {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(start(board, id, tempfile::tempdir().unwrap()).await);
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_records_survive_cuts_of_the_primary() {
    let board = Switchboard::new();
    let nodes = three(&board).await;
    let mut acked = BTreeMap::new();
    for round in 0..5 {
        for i in 0..20 {
            let id = format!("{round}-{i}");
            acked.insert(id.clone(), send_surely(&nodes, None, &id).await);
        }
        let cut = primary(&nodes, None).await.name.clone();
        board.isolate(&cut);
        // The old primary may take some; nobody acknowledges them.
        let lonely = nodes.iter().find(|node| node.name == cut).unwrap();
        let lost = format!("{round}-lost");
        let (alone, id) = tokio::join!(lonely.send(&lost), async {
            let id = format!("{round}-other");
            acked.insert(id.clone(), send_surely(&nodes, Some(&cut), &id).await);
            id
        });
        assert!(alone.is_err(), "a lonely primary acknowledged {lost} beside {id}");
        board.heal_all();
    }
    settle(&nodes).await;
    check_equal(&nodes, &acked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_catches_up_by_log_and_by_snapshot() {
    let board = Switchboard::new();
    let mut nodes = three(&board).await;
    let mut acked = BTreeMap::new();
    for purge in [false, true] {
        let away = nodes.iter().position(|n| !n.engine.view().borrow().is_primary()).unwrap();
        let id = nodes[away].store.identity().raft_id;
        let dir = nodes.remove(away).stop(&board).await;
        for i in 0..50 {
            let id = format!("{purge}-{i}");
            acked.insert(id.clone(), send_surely(&nodes, None, &id).await);
        }
        settle(&nodes).await;
        if purge {
            for node in &nodes {
                node.engine.purge().await.unwrap();
            }
        }
        nodes.push(start(&board, id, dir).await);
        settle(&nodes).await;
    }
    let last = nodes.last().unwrap();
    assert!(last.store.generation() > 0, "the second time it took a snapshot");
    acked.insert("after".to_owned(), send_surely(&nodes, None, "after").await);
    settle(&nodes).await;
    check_equal(&nodes, &acked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_all_nodes_loses_nothing() {
    let board = Switchboard::new();
    let mut nodes = three(&board).await;
    let mut acked = BTreeMap::new();
    for round in 0..3 {
        for i in 0..20 {
            let id = format!("{round}-{i}");
            acked.insert(id.clone(), send_surely(&nodes, None, &id).await);
        }
        let mut dirs = Vec::new();
        for node in nodes {
            dirs.push((node.store.identity().raft_id, node.stop(&board).await));
        }
        nodes = Vec::new();
        for (id, dir) in dirs {
            nodes.push(start(&board, id, dir).await);
        }
        acked
            .insert(format!("{round}-up"), send_surely(&nodes, None, &format!("{round}-up")).await);
    }
    settle(&nodes).await;
    check_equal(&nodes, &acked);
}
