//! Whole nodes in one process: everything but QUIC. A client's requests go through the dispatch; between
//! the nodes lies a switchboard.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use certs::{Authority, IssueOptions, write_private, write_public};
use config::seed::{Admin, KeyHash, Member};
use model::{Caller, Command, CommandOp, Outcome};
use net::Lane;
use net::switchboard::Switchboard;
use proto::admin::{AdminChange, AdminName, AdminOp, AdminRecovery};
use proto::wire::{Op, Read, Reply, Request, Response, Send};
use proto::{ClusterId, Identity, Role};
use uuid::Uuid;

use super::*;
use crate::node::Principal;
use crate::store::Trouble;

#[path = "states_test.rs"]
mod states_test;

/// Patience of every wait; far beyond what any of them takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// The key of the administrator.
const ADMIN: [u8; 32] = [7; 32];

fn key_of(who: &str) -> [u8; 32] {
    let mut key = [9; 32];
    key.iter_mut().zip(who.bytes()).for_each(|(to, from)| *to = from);
    key
}

fn name(id: u64) -> Name {
    format!("n{id}").parse().unwrap()
}

/// Three nodes with their folders, as `cluster create` makes them.
struct Cluster {
    board: Switchboard,
    folder: tempfile::TempDir,
    cluster: ClusterId,
    members: Vec<Member>,
    identities: BTreeMap<u64, NodeIdentity>,
    running: BTreeMap<u64, Running>,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = ClusterId::from_bytes([1; 16]);
        let authority = Authority::create(&cluster).unwrap();
        write_public(&folder.path().join("ca.crt"), authority.cert_pem()).unwrap();
        let (mut members, mut identities) = (Vec::new(), BTreeMap::new());
        for id in 1..=3 {
            let identity = Identity { cluster: cluster.clone(), role: Role::Node, name: name(id) };
            let issued = authority.issue(&identity, &IssueOptions::default()).unwrap();
            let file = |kind: &str| folder.path().join(format!("n{id}.{kind}"));
            write_public(&file("crt"), &issued.cert_pem).unwrap();
            write_private(&file("key"), &issued.key_pem).unwrap();
            let node_identity = NodeIdentity::load(&config_of(folder.path().into(), id)).unwrap();
            members.push(Member {
                name: name(id),
                raft_id: id,
                incarnation: Uuid::from_bytes([u8::try_from(id).unwrap(); 16]),
                address: address(id),
                key: Some(KeyHash(node_identity.credentials.fingerprint())),
            });
            identities.insert(id, node_identity);
        }
        let (board, running) = (Switchboard::new(), BTreeMap::new());
        let mut whole = Self { board, folder, cluster, members, identities, running };
        for id in 1..=3 {
            whole.start_node(id).await;
        }
        whole
    }

    fn seed(&self, id: u64) -> Seed {
        let admins = vec![Admin { name: "admin".parse().unwrap(), key: KeyHash(ADMIN) }];
        let (cluster, members) = (self.cluster.clone(), self.members.clone());
        Seed { cluster, node: name(id), joined: false, members, admins, starts: 0 }
    }

    /// Starts a node, and makes its store if there is none.
    async fn start_node(&mut self, id: u64) {
        let config = config_of(self.folder.path().into(), id);
        let seed = self.seed(id);
        std::fs::create_dir_all(&config.data_dir).unwrap();
        if !Store::exists(&config.data_dir).unwrap() {
            Store::create(&config.data_dir, &store_identity(&seed).unwrap()).unwrap();
        }
        let opened = tokio::time::timeout(PATIENCE, open(&config, &self.cluster)).await;
        let opened = opened.expect("nobody holds the store");
        let Opened::Intact(store) = &opened else { panic!("{opened:?}") };
        bootstrap(store, &seed).await.unwrap();
        let node_identity = match self.identities.remove(&id) {
            Some(first) => first,
            None => NodeIdentity::load(&config).unwrap(),
        };
        let credentials = &node_identity.credentials;
        let port = self.board.port(credentials.identity().clone(), credentials.fingerprint());
        let machine = Machine { blocking: Blocking::Threads, ..Machine::real(&config) };
        let parts = Parts {
            config,
            node_identity,
            port: Arc::new(port),
            opened,
            seed: Some(seed),
            machine,
            tasks: Tasks::until(CancellationToken::new()),
        };
        self.running.insert(id, parts.start().await.unwrap());
    }

    async fn stop_node(&mut self, id: u64) {
        self.running.remove(&id).unwrap().stop().await;
    }

    /// The node that leads, once all who run say the same.
    async fn primary(&self) -> u64 {
        let agreed = async {
            let mut views: Vec<_> =
                self.running.values().map(|node| node.node().engine().unwrap().view()).collect();
            loop {
                let seen: Vec<_> = views.iter().map(|view| view.borrow().primary).collect();
                if let [Some(first), rest @ ..] = seen.as_slice()
                    && rest.iter().all(|other| *other == Some(*first))
                    && self.running.contains_key(first)
                {
                    return *first;
                }
                let changed = views.iter_mut().map(|view| Box::pin(view.changed()));
                drop(futures::future::select_all(changed).await);
            }
        };
        tokio::time::timeout(PATIENCE, agreed).await.expect("a primary")
    }

    fn principal(&self, role: Role, who: &str, via: u64) -> Principal {
        let fingerprint = if who == "admin" { ADMIN } else { key_of(who) };
        let (cluster, name) = (self.cluster.clone(), who.parse().unwrap());
        Principal {
            identity: Identity { cluster, role, name },
            fingerprint,
            gateway: self::name(via),
        }
    }

    /// Asks a node as the administrator that the seed names.
    async fn ask(&self, id: u64, op: Op) -> Response {
        let principal = self.principal(Role::Admin, "admin", id);
        let request = Request { op: Some(op), ..Request::default() };
        self.running[&id].request(&principal, request).await
    }

    /// Has the primary order a command as if somebody had asked for it, whoever the primary is by then.
    async fn propose(&self, caller: Caller, op: CommandOp) -> Outcome {
        let proposed = async {
            loop {
                let node = self.running[&self.primary().await].node();
                let Body::Whole(core) = node.body() else { panic!("no store") };
                let (caller, op) = (caller.clone(), op.clone());
                let command = Command { caller, gateway: node.name().to_string(), op };
                match core.proposer.propose(command, None).await {
                    Ok(outcome) => return outcome,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, proposed).await.expect("an outcome")
    }

    /// Sends through a node until it is acknowledged; every try has the same id.
    async fn send(&self, through: u64, id: &str) -> proto::wire::Ack {
        self.sent_by(&self.principal(Role::Admin, "admin", through), through, id).await.0
    }

    /// Sends somebody's message until it is acknowledged. Also tells whether one try was enough.
    async fn sent_by(&self, who: &Principal, through: u64, id: &str) -> (proto::wire::Ack, bool) {
        let send = Send { to: "*".to_owned(), id: id.to_owned(), ..Send::default() };
        let request = Request { op: Some(Op::Send(send)), ..Request::default() };
        let sent = async {
            let mut at_once = true;
            loop {
                match self.running[&through].request(who, request.clone()).await.reply {
                    Some(Reply::Ack(ack)) if ack.id == id => return (ack, at_once),
                    Some(Reply::Failure(_)) => tokio::task::yield_now().await,
                    other => panic!("{id}: {other:?}"),
                }
                at_once = false;
            }
        };
        tokio::time::timeout(PATIENCE, sent).await.expect("an acknowledgement")
    }

    /// The ids of all messages, as one node reads them.
    async fn read(&self, through: u64) -> Vec<String> {
        self.page(through, &Read::default()).await
    }

    /// The ids of those that are asked for.
    async fn page(&self, through: u64, read: &Read) -> Vec<String> {
        let page = async {
            loop {
                match self.ask(through, Op::Read(read.clone())).await.reply {
                    Some(Reply::Page(page)) => {
                        return page.records.into_iter().map(|record| record.id).collect();
                    }
                    Some(Reply::Failure(_)) => tokio::task::yield_now().await,
                    other => panic!("{other:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, page).await.expect("a page")
    }

    async fn stop_all(self) {
        for node in self.running.values() {
            node.stop().await;
        }
    }
}

/// Opens a store as soon as the last task of an earlier node has let go of it.
async fn open(config: &Config, cluster: &ClusterId) -> Opened {
    loop {
        match Store::open(&config.data_dir, cluster.as_str(), config.node.as_str()) {
            Err(StoreError::Environment { trouble: Trouble::InUse, .. }) => {
                tokio::task::yield_now().await;
            }
            opened => return opened.unwrap(),
        }
    }
}

fn address(id: u64) -> String {
    format!("127.0.0.1:{id}")
}

fn config_of(folder: PathBuf, id: u64) -> Config {
    let text = format!(
        "node = \"n{id}\"\nlisten = \"{}\"\ndata_dir = \"n{id}\"\nclock.mode = \"local\"\n[tls]\n\
         ca = \"ca.crt\"\ncert = \"n{id}.crt\"\nkey = \"n{id}.key\"\n",
        address(id)
    );
    Config::parse(&text, &folder.join(format!("n{id}.toml"))).unwrap()
}

/// Seen to fail with: a forward that nobody answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_nodes_serve_through_a_backup_and_outlive_their_primary() {
    let mut cluster = Cluster::start().await;
    let primary = cluster.primary().await;
    let backup = primary % 3 + 1;
    let ack = cluster.send(backup, "one").await;
    assert_eq!((ack.primary, ack.gateway), (name(primary).to_string(), name(backup).to_string()));
    assert_eq!(cluster.read(backup).await, ["one"]);
    // In order: the role goes to another node before this one is gone.
    cluster.stop_node(primary).await;
    let next = cluster.primary().await;
    assert_ne!(next, primary);
    let ack = cluster.send(backup, "two").await;
    assert_ne!(ack.primary, name(primary).as_str());
    for id in cluster.running.keys() {
        assert_eq!(cluster.read(*id).await, ["one", "two"], "n{id}");
    }
    // And back again, with what it had.
    cluster.start_node(primary).await;
    cluster.send(primary, "three").await;
    assert_eq!(cluster.read(primary).await, ["one", "two", "three"]);
    cluster.stop_all().await;
}

/// It learns so from its own table, or from the others, who refuse its hellos.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_removed_from_the_table_ends_and_says_why() {
    let mut cluster = Cluster::start().await;
    let primary = cluster.primary().await;
    let gone = primary % 3 + 1;
    cluster.send(primary, "one").await;
    let remove = proto::wire::MemberChange {
        op: Some(proto::member::MemberOp::Remove(proto::member::RemoveNodes {
            names: vec![name(gone).to_string()],
            force: true,
        })),
        id: "removal".to_owned(),
    };
    // Not before the others have noted each other: a majority must stay.
    let done = async {
        loop {
            match cluster.ask(primary, Op::Member(remove.clone())).await.reply {
                Some(Reply::Members(_)) => return,
                Some(Reply::Failure(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("a removal");
    let removed = cluster.running.remove(&gone).unwrap();
    let why = tokio::time::timeout(PATIENCE, removed.ended()).await.expect("it ends");
    assert!(why.to_string().contains("was removed from the cluster"), "{why}");
    cluster.stop_all().await;
}

/// The hellos over the switchboard are those of QUIC. Seen to fail with
/// neither side judging them: the node then votes with what it has forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_store_was_set_back_hears_of_it_and_takes_no_part() {
    let mut cluster = Cluster::start().await;
    let primary = cluster.primary().await;
    let set_back = primary % 3 + 1;
    let folder = |kind: &str| cluster.folder.path().join(format!("n{set_back}{kind}"));
    let (now, old) = (folder(""), folder(".old"));
    cluster.send(primary, "one").await;
    assert_eq!(cluster.read(set_back).await, ["one"]);
    cluster.stop_node(set_back).await;
    copy(&now, &old);
    cluster.start_node(set_back).await;
    cluster.send(primary, "two").await;
    assert_eq!(cluster.read(set_back).await, ["one", "two"]);
    cluster.stop_node(set_back).await;
    std::fs::remove_dir_all(&now).unwrap();
    std::fs::rename(&old, &now).unwrap();
    cluster.start_node(set_back).await;
    let node = cluster.running.remove(&set_back).unwrap();
    let why = tokio::time::timeout(PATIENCE, node.ended()).await.expect("it ends");
    assert!(why.restarts(), "{why:#}");
    let Body::Whole(core) = node.node().body() else { panic!("it took part") };
    let damage = core.store.damage().map(ToString::to_string).unwrap_or_default();
    // Who heard the process before it just now takes this one for a second one with a copy.
    let hears = ["start", "a second process runs with a copy"];
    assert!(hears.iter().any(|it| damage.contains(it)), "{damage}");
    cluster.stop_all().await;
}

/// Copies a folder that nobody writes to.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// A gateway hands over many requests on one stream, whoever asks, and each client gets its own answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_hands_over_on_one_stream() {
    let cluster = Cluster::start().await;
    let primary = cluster.primary().await;
    let backup = primary % 3 + 1;
    for client in ["alice", "bob"] {
        let (name, home) = (client.to_owned(), String::new());
        let op = CommandOp::Register { name, fingerprint: key_of(client), home };
        let admin = Caller { name: "admin".to_owned(), admin: true, fingerprint: ADMIN };
        let outcome = cluster.propose(admin, op).await;
        assert!(matches!(outcome, Outcome::Registered { .. }), "{outcome:?}");
    }
    // The first of them opens the stream, once the backup has heard from the primary.
    cluster.send(backup, "warm").await;
    let who = |client| cluster.principal(Role::Client, client, backup);
    let (alice, bob) = (who("alice"), who("bob"));
    // An election in between opens other streams; then what comes next is to share one.
    let mut rounds = 0;
    while !shares_a_stream(&cluster, backup, [("alice", &alice), ("bob", &bob)], rounds).await {
        rounds += 1;
        assert!(rounds < 20, "a stream for each message");
    }
    for (client, many) in [("alice", 40), ("bob", 40)] {
        let read = Read { from: client.to_owned(), limit: 1000, ..Read::default() };
        let ids = cluster.page(backup, &read).await;
        assert_eq!(ids.len(), many * (rounds + 1), "{client}");
        assert!(ids.iter().all(|id| id.starts_with(client)), "{client}");
    }
    cluster.stop_all().await;
}

/// Sends 40 messages of each, all at once, each of which is stored once; tells whether they shared a stream.
async fn shares_a_stream(
    cluster: &Cluster,
    backup: u64,
    clients: [(&str, &Principal); 2],
    round: usize,
) -> bool {
    let primary = cluster.primary().await;
    let streams = || cluster.board.tries(&name(backup), &name(primary), Lane::Request);
    let before = streams();
    let all = clients.iter().flat_map(|(client, who)| {
        (0..40).map(move |n| async move {
            cluster.sent_by(who, backup, &format!("{client}-{round}-{n}")).await
        })
    });
    let acks = futures::future::join_all(all).await;
    let opened = streams() - before;
    let of_this = |ack: &proto::wire::Ack| ack.gateway == name(backup).as_str();
    assert!(acks.iter().all(|(ack, at_once)| of_this(ack) && !(ack.duplicate && *at_once)));
    let mut seqs: Vec<_> = acks.iter().map(|(ack, _)| ack.seq).collect();
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs.len(), 80, "each is stored once");
    opened < 20
}

/// What waits on the thread of heartbeats reads nothing that did not change. Tables that
/// are read every time are hundreds of reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_of_a_message_and_what_nodes_tell_each_other_need_no_database() {
    let cluster = Cluster::start().await;
    let primary = cluster.primary().await;
    let register = |client: &str| {
        let (name, home) = (client.to_owned(), String::new());
        CommandOp::Register { name, fingerprint: key_of(client), home }
    };
    let admin = || Caller { name: "admin".to_owned(), admin: true, fingerprint: ADMIN };
    cluster.propose(admin(), register("alice")).await;
    // Whoever leads by now: this node has applied what it reads.
    cluster.read(primary).await;
    let node = cluster.running[&primary].node();
    let alice = cluster.principal(Role::Client, "alice", primary);
    let bob = cluster.principal(Role::Client, "bob", primary);
    let store = proto::peer::StoreKey { name: "n1".to_owned(), ..Default::default() };
    // On this thread alone: no other task of the node runs on it meanwhile.
    let (before, mut told) = (crate::store::READS.get(), 0);
    for _ in 0..100 {
        // Of what others have made durable, and this one not yet, it tells nothing.
        told += usize::from(node.info().shown.is_some_and(|shown| shown.raft_id != 0));
        assert!(node.knows_client(&alice));
        assert!(!node.vouch(&store).member, "no such store");
    }
    let reads = crate::store::READS.get() - before;
    assert_eq!(told, 100, "it tells of its store");
    // Once each, and again where the nodes note something of each other meanwhile.
    assert!(reads < 60, "{reads} reads for 100 rounds");
    assert!(!node.knows_client(&bob));
    cluster.propose(admin(), register("bob")).await;
    cluster.read(primary).await;
    assert!(node.knows_client(&bob), "who was told that it is registered is");
    cluster.stop_all().await;
}

/// Without the look when it begins nobody would notice one that is entered and taken out between two looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_that_is_taken_out_at_once_is_noticed() {
    let cluster = Cluster::start().await;
    let primary = cluster.primary().await;
    let admin = Caller { name: "admin".to_owned(), admin: true, fingerprint: ADMIN };
    for round in 0..8 {
        let late = format!("late{round}");
        let change = |op| CommandOp::Admin(AdminChange { op: Some(op) });
        let own = Caller { name: late.clone(), admin: true, fingerprint: key_of(&late) };
        let (fingerprint, signature) = (key_of(&late).to_vec(), vec![1; 64]);
        let said = AdminRecovery { name: late.clone(), fingerprint, signature };
        // The node has just looked, and waits a moment before it looks again.
        cluster.send(primary, &late).await;
        let outcome = cluster.propose(own, change(AdminOp::Recover(said))).await;
        assert!(matches!(outcome, Outcome::Admins(_)), "{outcome:?}");
        let principal = cluster.principal(Role::Admin, &late, primary);
        let mut ended = Box::pin(cluster.running[&primary].node().removed_admin(&principal));
        assert!(futures::FutureExt::now_or_never(&mut ended).is_none(), "it is one");
        let remove = AdminOp::Remove(AdminName { name: late });
        let outcome = cluster.propose(admin.clone(), change(remove)).await;
        assert!(matches!(outcome, Outcome::Admins(_)), "{outcome:?}");
        let told = tokio::time::timeout(PATIENCE, ended).await.expect("its end");
        assert_eq!(told.error_code(), proto::ErrorCode::Denied);
    }
    cluster.stop_all().await;
}
