//! A fake node: accepts clients and answers from a script.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use certs::Credentials;
use clock::{Hlc, Stamp};
use net::{Accepted, ClientConn, Endpoint};
use parking_lot::Mutex;
use proto::wire::{Ack, NodeRow, Nodes, Op, Page, Reply, Request, Response, Status};
use proto::{ErrorCode, Failure, Identity, Record};
use tokio::sync::oneshot;

use crate::user::User;

type Script = dyn Fn(&str, &Identity, &Op) -> Vec<Reply> + Send + Sync;

/// 2026-11-21T01:30:45.123456789Z~0000002a
pub(crate) const STAMP: Stamp =
    Stamp { hlc: Hlc { ns: 1_795_224_645_123_456_789, logical: 42 }, early_us: 1900, late_us: 800 };

/// A running fake node. It stops when dropped.
pub(crate) struct FakeNode {
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeNode {
    /// Starts as `n1` of the user's cluster and makes the current context point to it.
    pub(crate) fn start(
        user: &User,
        script: impl Fn(&Identity, &Op) -> Vec<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start_as(user, &["n1"], move |_, identity, op| script(identity, op))
    }

    /// Three of them, `n1` to `n3`, which share script and requests.
    pub(crate) fn start_three(
        user: &User,
        script: impl Fn(&Identity, &Op) -> Vec<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start_each(user, move |_, identity, op| script(identity, op))
    }

    /// The same, with a script that knows which of them is asked.
    pub(crate) fn start_each(
        user: &User,
        script: impl Fn(&str, &Identity, &Op) -> Vec<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start_as(user, &["n1", "n2", "n3"], script)
    }

    fn start_as(
        user: &User,
        names: &'static [&'static str],
        script: impl Fn(&str, &Identity, &Op) -> Vec<Reply> + Send + Sync + 'static,
    ) -> Self {
        let pki = user.home.path().join("cluster/pki");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let log = Arc::clone(&seen);
        let serve = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(&pki, names, Arc::new(script), log, &tell, stopped));
        };
        let thread = std::thread::spawn(serve);
        let list: List = told.recv().unwrap();
        user.point_to(&list);
        Self { seen, stop: Some(stop), thread: Some(thread) }
    }

    /// Every request so far but the client's own questions for the list of nodes.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let own = |request: &Request| !matches!(request.op, Some(Op::Nodes(_) | Op::WatchNodes(_)));
        self.seen.lock().iter().filter(|request| own(request)).cloned().collect()
    }

    /// The operations among them.
    pub(crate) fn ops(&self) -> Vec<Op> {
        self.requests().into_iter().filter_map(|request| request.op).collect()
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the fake node failed");
        }
    }
}

/// Names and addresses of the nodes.
type List = Arc<Vec<(&'static str, SocketAddr)>>;

async fn run(
    pki: &Path,
    names: &'static [&'static str],
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Request>>>,
    tell: &mpsc::Sender<List>,
    stopped: oneshot::Receiver<()>,
) {
    let file = |name: &str| pki.join(name);
    let bind = |&name: &&'static str| {
        let (cert, key) = (file(&format!("{name}.crt")), file(&format!("{name}.key")));
        let credentials = Credentials::load(&file("ca.crt"), &cert, &key).unwrap();
        (name, Endpoint::bind("127.0.0.1:0".parse().unwrap(), &credentials).unwrap())
    };
    let endpoints: Vec<_> = names.iter().map(bind).collect();
    let address = |(name, endpoint): &(&'static str, Endpoint)| (*name, endpoint.local_addr());
    let list: List = Arc::new(endpoints.iter().map(address).collect());
    tell.send(Arc::clone(&list)).unwrap();
    for (name, endpoint) in endpoints {
        let (script, seen, list) = (Arc::clone(&script), Arc::clone(&seen), Arc::clone(&list));
        tokio::spawn(async move {
            while let Some(accepted) = endpoint.accept().await {
                let client = match accepted {
                    Accepted::Client(client) => client,
                    Accepted::Peer(_) => panic!("logctl opened the peer protocol"),
                    Accepted::Joiner(_) => continue,
                };
                let (script, seen, list) =
                    (Arc::clone(&script), Arc::clone(&seen), Arc::clone(&list));
                tokio::spawn(serve(client, name, script, seen, list));
            }
        });
    }
    // The runtime's end is that of the nodes.
    drop(stopped.await);
}

async fn serve(
    client: ClientConn,
    name: &str,
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Request>>>,
    list: List,
) {
    while let Some(incoming) = client.next().await {
        for (request, mut answers) in incoming.alone() {
            seen.lock().push(request.clone());
            let identity = client.peer().identity.clone();
            let op = request.op.unwrap();
            let replies = match &op {
                Op::Nodes(_) => vec![Reply::Nodes(nodes(&identity, &list))],
                _ => script(name, &identity, &op),
            };
            for reply in replies {
                let reply = Some(reply);
                let response = Response { gateway: name.into(), members_epoch: 1, reply };
                // A client that has enough closes the stream; that is its right.
                let _ = answers.send(response).await;
            }
            answers.finish();
        }
    }
}

/// One node, the primary.
pub(crate) fn node_row(name: &str) -> NodeRow {
    NodeRow {
        name: name.into(),
        role: if name == "n1" { "primary" } else { "backup" }.into(),
        address: "127.0.0.1:7101".into(),
        up: true,
        applied: 12,
        version: "0.1.0".into(),
        clock_state: "local".into(),
        ..NodeRow::default()
    }
}

fn nodes(identity: &Identity, list: &List) -> Nodes {
    let row = |(name, address): &(&str, SocketAddr)| NodeRow {
        address: address.to_string(),
        ..node_row(name)
    };
    let nodes = list.iter().map(row).collect();
    Nodes { cluster: identity.cluster.to_string(), epoch: 1, nodes }
}

/// A healthy cluster of three.
pub(crate) fn status() -> Status {
    Status {
        cluster: "07".repeat(16),
        term: 4,
        primary: "n1".into(),
        quorum: true,
        nodes: ["n1", "n2", "n3"].map(node_row).into(),
        ..Status::default()
    }
}

/// The acknowledgement of a message, as the first in its shard.
pub(crate) fn ack(id: &str) -> Reply {
    Reply::Ack(Ack {
        shard: 1,
        seq: 1,
        stamp: STAMP.to_bytes().to_vec(),
        primary: "n1".into(),
        gateway: "n1".into(),
        id: id.into(),
        duplicate: false,
        index: 5,
    })
}

/// A record from alice to bob.
pub(crate) fn record(seq: u64, body: &[u8]) -> Record {
    Record {
        shard: 1,
        seq,
        stamp: Stamp { hlc: STAMP.hlc.advance(seq), ..STAMP }.to_bytes().to_vec(),
        from: "alice".into(),
        to: "bob".into(),
        id: format!("m-{seq}"),
        body: body.to_vec().into(),
        gateway: "n2".into(),
        ..Record::default()
    }
}

/// A page that ends at `seq`.
pub(crate) fn page(records: Vec<Record>, seq: u64, end: bool) -> Reply {
    let next = vec![proto::wire::Position { shard: 1, seq }];
    Reply::Page(Page { records, next, end, ..Page::default() })
}

/// A refusal.
pub(crate) fn failure(code: ErrorCode) -> Reply {
    Reply::Failure(Failure::new(code, "as the test wants it"))
}
