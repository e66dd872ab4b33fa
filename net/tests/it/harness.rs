//! A cluster of endpoints that keep a log between them, without a daemon.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use certs::{Authority, Credentials, IssueOptions, write_private, write_public};
use net::{Accepted, Client, ClientConfig, ClientConn, Endpoint, ReplyTx};
use parking_lot::Mutex;
use proto::peer::Hello;
use proto::wire::{
    Ack, Instant, NodeRow, Nodes, Op, Page, Position, Read, Reply, Request, Response, Slots,
};
use proto::{ClusterId, ErrorCode, Failure, Identity, Record, Role};
use rustls::pki_types::UnixTime;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Longest time that anything in a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Fails instead of hanging.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("this should not take so long")
}

/// An authority and a folder for certificates.
pub(crate) struct Pki {
    pub(crate) folder: TempDir,
    pub(crate) authority: Authority,
    pub(crate) cluster: ClusterId,
    files: AtomicU64,
}

impl Pki {
    pub(crate) fn new(byte: u8) -> Self {
        let cluster = ClusterId::from_bytes([byte; 16]);
        let authority = Authority::create(&cluster).unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { folder, authority, cluster, files: AtomicU64::new(0) }
    }

    pub(crate) fn issue(&self, role: Role, name: &str) -> Credentials {
        self.issue_with(role, name, &IssueOptions::default())
    }

    pub(crate) fn expired(&self, role: Role, name: &str) -> Credentials {
        let then = UnixTime::now().as_secs() - 24 * 3600;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(then));
        self.issue_with(
            role,
            name,
            &IssueOptions { now, life: Duration::ZERO, ..Default::default() },
        )
    }

    /// A member of this cluster that trusts another one's authority.
    pub(crate) fn trusting(&self, other: &Self, role: Role, name: &str) -> Credentials {
        let both = format!("{}{}", self.authority.cert_pem(), other.authority.cert_pem());
        self.write(role, name, &IssueOptions::default(), &both)
    }

    fn issue_with(&self, role: Role, name: &str, opts: &IssueOptions) -> Credentials {
        self.write(role, name, opts, self.authority.cert_pem())
    }

    fn write(&self, role: Role, name: &str, opts: &IssueOptions, ca: &str) -> Credentials {
        let identity =
            Identity { cluster: self.cluster.clone(), role, name: name.parse().unwrap() };
        let issued = self.authority.issue(&identity, opts).unwrap();
        let id = self.files.fetch_add(1, Ordering::Relaxed);
        let path = |kind: &str| self.folder.path().join(format!("{id}.{kind}"));
        write_public(&path("ca"), ca).unwrap();
        write_public(&path("crt"), &issued.cert_pem).unwrap();
        write_private(&path("key"), &issued.key_pem).unwrap();
        Credentials::load_any_age(&path("ca"), &path("crt"), &path("key")).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub(crate) fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn hello(pki: &Pki, name: &str, raft_id: u64, incarnation: u8) -> Hello {
    Hello {
        cluster: pki.cluster.to_string(),
        name: name.to_owned(),
        raft_id,
        incarnation: vec![incarnation; 16],
        version: "test".to_owned(),
        ..Hello::default()
    }
}

/// What all nodes of a test cluster know: a log, and how to behave.
pub(crate) struct World {
    pub(crate) log: watch::Sender<Vec<Record>>,
    pub(crate) nodes: Mutex<BTreeMap<String, SocketAddr>>,
    /// Sends and reads are answered with this instead, if it answers.
    pub(crate) script: Mutex<Box<Script>>,
    /// Requests that are held and not given up.
    pub(crate) held: Mutex<u32>,
    /// Requests served, by node.
    pub(crate) served: Mutex<BTreeMap<String, u64>>,
    /// Rows of the live list that are not the plain ones, and its epoch.
    rows: watch::Sender<(u64, BTreeMap<String, NodeRow>)>,
    slots: Mutex<Slots>,
}

/// By node and request number there.
pub(crate) type Script = dyn FnMut(&str, &Op) -> Option<Act> + Send;

/// What a node does instead of serving.
pub(crate) enum Act {
    Fail(Failure),
    /// Takes the request and says nothing.
    Hold,
    /// Does it and closes the connection instead of answering.
    DoAndHangUp,
    /// Serves it once this is true.
    Wait(watch::Receiver<bool>),
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            log: watch::channel(Vec::new()).0,
            nodes: Mutex::default(),
            script: Mutex::new(Box::new(|_, _| None)),
            held: Mutex::default(),
            served: Mutex::default(),
            rows: watch::channel((1, BTreeMap::new())).0,
            slots: Mutex::default(),
        })
    }

    /// Changes what the live list says of a node.
    pub(crate) fn change(&self, node: &str, change: impl FnOnce(&mut NodeRow)) {
        self.rows.send_modify(|(epoch, rows)| {
            *epoch += 1;
            let plain = || NodeRow {
                state: "joined".to_owned(),
                serves: true,
                incarnation: 1,
                ..NodeRow::default()
            };
            change(rows.entry(node.to_owned()).or_insert_with(plain));
        });
    }

    /// What nodes say of the homes of keys.
    pub(crate) fn slots(&self, slots: Slots) {
        *self.slots.lock() = slots;
    }

    /// Completes when somebody follows the live list.
    pub(crate) async fn watched(&self) {
        while self.rows.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn script(&self, script: impl FnMut(&str, &Op) -> Option<Act> + Send + 'static) {
        *self.script.lock() = Box::new(script);
    }

    pub(crate) fn served(&self, node: &str) -> u64 {
        self.served.lock().get(node).copied().unwrap_or(0)
    }

    fn append(&self, node: &str, from: &str, send: proto::wire::Send) -> Ack {
        let mut ack =
            Ack { shard: 1, gateway: node.to_owned(), id: send.id.clone(), ..Ack::default() };
        self.log.send_modify(|log| {
            let same = |record: &&Record| record.id == send.id && record.from == from;
            if let Some(known) = log.iter().find(same) {
                (ack.seq, ack.duplicate) = (known.seq, true);
                return;
            }
            ack.seq = log.len() as u64 + 1;
            log.push(Record {
                shard: 1,
                seq: ack.seq,
                from: from.to_owned(),
                to: send.to,
                id: send.id,
                body: send.body,
                ..Record::default()
            });
        });
        ack
    }

    fn page(&self, after: u64, limit: usize) -> Page {
        let log = self.log.borrow();
        let rest = log.iter().filter(|record| record.seq > after);
        let records: Vec<Record> = rest.take(limit).cloned().collect();
        let last = records.last().map_or(after, |record| record.seq);
        Page {
            end: last == log.len() as u64,
            records,
            next: vec![Position { shard: 1, seq: last }],
            ..Page::default()
        }
    }

    fn list(&self, cluster: &ClusterId) -> Nodes {
        let nodes = self.nodes.lock();
        let (epoch, rows) = &*self.rows.borrow();
        let row = |(name, address): (&String, &SocketAddr)| NodeRow {
            name: name.clone(),
            address: address.to_string(),
            up: true,
            ..rows.get(name).cloned().unwrap_or_default()
        };
        let nodes = nodes.iter().map(row).collect();
        Nodes { cluster: cluster.to_string(), epoch: *epoch, nodes }
    }

    fn response(&self, node: &str, reply: Reply) -> Response {
        let members_epoch = self.rows.borrow().0;
        Response { gateway: node.to_owned(), members_epoch, reply: Some(reply) }
    }
}

/// Ends a runtime and waits until nothing runs on it any more.
pub(crate) fn end(runtime: Runtime) {
    std::thread::spawn(move || runtime.shutdown_timeout(PATIENCE)).join().unwrap();
}

/// Binds as soon as the port is free: what a killed node held gives it back a little later.
pub(crate) fn bind(at: SocketAddr, credentials: &Credentials) -> Endpoint {
    loop {
        match Endpoint::bind(at, credentials) {
            Ok(endpoint) => return endpoint,
            Err(_) if at.port() != 0 => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A node on a runtime of its own, so that it can vanish as a killed process does.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) endpoint: Endpoint,
    runtime: Option<Runtime>,
}

impl Node {
    pub(crate) fn start(pki: &Pki, world: &Arc<World>, name: &str) -> Self {
        Self::start_at(pki.issue(Role::Node, name), world, any_port())
    }

    pub(crate) fn start_at(credentials: Credentials, world: &Arc<World>, at: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let name = credentials.identity().name.to_string();
        let endpoint = {
            let _on = runtime.enter();
            bind(at, &credentials)
        };
        let address = endpoint.local_addr();
        world.nodes.lock().insert(name.clone(), address);
        let (world, own) = (Arc::clone(world), endpoint.clone());
        let (node, cluster) = (name.clone(), credentials.identity().cluster.clone());
        runtime.spawn(async move {
            while let Some(accepted) = own.accept().await {
                if let Accepted::Client(connection) = accepted {
                    let (world, node) = (Arc::clone(&world), node.clone());
                    tokio::spawn(serve(connection, world, node, cluster.clone()));
                }
            }
        });
        Self { name, address, endpoint, runtime: Some(runtime) }
    }

    /// Keeps the node from doing anything for a while, as a busy machine does.
    pub(crate) fn pause(&self, time: Duration) {
        let runtime = self.runtime.as_ref().unwrap();
        let (begun, paused) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            begun.send(()).unwrap();
            // The fault itself, not a wait: this thread is to do nothing else.
            std::thread::sleep(time);
        });
        paused.recv().unwrap();
    }

    /// Vanishes without a word.
    pub(crate) fn kill(mut self) -> SocketAddr {
        if let Some(runtime) = self.runtime.take() {
            end(runtime);
        }
        self.address
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            end(runtime);
        }
    }
}

async fn serve(connection: ClientConn, world: Arc<World>, node: String, cluster: ClusterId) {
    let connection = Arc::new(connection);
    while let Some(incoming) = connection.next().await {
        for asked in incoming.alone() {
            let (world, node, cluster) = (Arc::clone(&world), node.clone(), cluster.clone());
            let connection = Arc::clone(&connection);
            tokio::spawn(async move { answer(&connection, asked, &world, &node, &cluster).await });
        }
    }
}

async fn answer(
    connection: &ClientConn,
    (request, mut reply): (Request, ReplyTx),
    world: &World,
    node: &str,
    cluster: &ClusterId,
) {
    let op = request.op.unwrap();
    if !matches!(op, Op::Nodes(_) | Op::WatchNodes(_)) {
        *world.served.lock().entry(node.to_owned()).or_default() += 1;
    }
    let mut act = (world.script.lock())(node, &op);
    if let Some(Act::Wait(mut until)) = act {
        until.wait_for(|go| *go).await.unwrap();
        act = None;
    }
    let from = connection.peer().identity.name.as_str();
    let say = match (act, op) {
        (Some(Act::Fail(failure)), _) => Reply::Failure(failure),
        (Some(Act::Hold), _) => {
            *world.held.lock() += 1;
            reply.stopped().await;
            *world.held.lock() -= 1;
            return;
        }
        (Some(Act::DoAndHangUp), Op::Send(send)) => {
            world.append(node, from, send);
            return connection.close(net::CloseCode::Done, "hanging up");
        }
        (_, Op::Send(send)) => Reply::Ack(world.append(node, from, send)),
        (_, Op::Read(read)) => return pages(&mut reply, world, node, &read).await,
        (_, Op::Nodes(_)) => Reply::Nodes(world.list(cluster)),
        (_, Op::WatchNodes(_)) => return lists(&mut reply, world, node, cluster).await,
        (_, Op::Slots(_)) => Reply::Slots(world.slots.lock().clone()),
        (_, Op::Ping(_)) => Reply::Pong(proto::wire::Empty {}),
        _ => Reply::Failure(Failure::new(ErrorCode::Invalid, "not in this test")),
    };
    let _ = reply.send(world.response(node, say)).await;
    reply.finish();
    reply.stopped().await;
}

async fn lists(reply: &mut ReplyTx, world: &World, node: &str, cluster: &ClusterId) {
    let mut changes = world.rows.subscribe();
    loop {
        changes.borrow_and_update();
        let list = world.response(node, Reply::Nodes(world.list(cluster)));
        if reply.send(list).await.is_err() || changes.changed().await.is_err() {
            return;
        }
    }
}

async fn pages(reply: &mut ReplyTx, world: &World, node: &str, read: &Read) {
    let mut changes = world.log.subscribe();
    let mut after = read.after.first().map_or(0, |after| after.seq);
    loop {
        changes.borrow_and_update();
        let page = world.page(after, 3);
        // Every node makes another instant of a relative time.
        let since = read.since.as_ref().map_or_else(Vec::new, |since| match &since.at {
            Some(Instant::Hlc(exact)) => exact.clone(),
            _ => node.as_bytes().iter().copied().cycle().take(12).collect(),
        });
        let page = Page { since, ..page };
        if !page.records.is_empty() || !read.follow {
            after = page.next[0].seq;
            if reply.send(world.response(node, Reply::Page(page))).await.is_err() {
                return;
            }
        } else if changes.changed().await.is_err() {
            return;
        }
        if !read.follow {
            reply.finish();
            return reply.stopped().await;
        }
    }
}

pub(crate) fn send(id: &str) -> Op {
    let body = bytes::Bytes::from_static(b"hi");
    Op::Send(proto::wire::Send {
        to: "bob".to_owned(),
        id: id.to_owned(),
        headers: vec![],
        body,
        ..Default::default()
    })
}

pub(crate) fn ping() -> Op {
    Op::Ping(proto::wire::Empty {})
}

pub(crate) fn config(credentials: Credentials, nodes: &[&Node]) -> ClientConfig {
    let address = |node: &&Node| format!("{}={}", node.name, node.address);
    ClientConfig::new(nodes.iter().map(address).collect(), credentials)
}

pub(crate) fn client(pki: &Pki, nodes: &[&Node]) -> Client {
    Client::new(config(pki.issue(Role::Client, "bob"), nodes)).unwrap()
}

/// Collects what is logged on this thread while it lives.
#[derive(Clone, Default)]
pub(crate) struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    pub(crate) fn collect() -> (Self, tracing::subscriber::DefaultGuard) {
        let logs = Self::default();
        let writer = logs.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (logs, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
