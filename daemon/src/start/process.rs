//! A node as a process: on a UDP port and in a data directory, until it is told to stop.
//!
//! Port, store and verdict, then the node, then READY once it can serve. What only a process has is
//! here: certificates that are renewed and read again, the service manager, the end by an exit code.

use std::sync::Arc;
use std::time::Duration;

use config::Config;
use config::seed::Seed;
use net::{CloseCode, Endpoint, NetError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failed};
use crate::front::{Door, Front};
use crate::node::{Node, VERSION, keep_certificate, note_members, taken_back};
use crate::node_identity::NodeIdentity;
use crate::process::Process;
use crate::store::{Opened, Store, StoreError};
use crate::tasks::Tasks;

use super::bootstrap::{bootstrap, open_store, tell_of_vote};
use super::ending::{ended_by, failed_on};
use super::{Machine, Parts, READY_WITHIN, Running};

/// Runs a node until it is told to stop or cannot go on.
///
/// # Errors
/// Why it could not start or go on, with the exit code.
pub async fn run(
    config: Config,
    node_identity: NodeIdentity,
    process: Process,
) -> Result<(), Failed> {
    let began = Instant::now();
    let clients_max = config.limits.client_connections;
    let endpoint = Endpoint::bind_for(config.listen, &node_identity.credentials, clients_max);
    let endpoint = endpoint.map_err(|error| {
        Failed::new(
            Exit::Network,
            error,
            "set another address in listen, or stop the process that uses it",
        )
    })?;
    let door = open_door(&config, &node_identity)?;
    let certificate = node_identity.credentials.cert_sha256_text();
    crate::exit::before_database();
    let (opened, seed) = open_store(&config, &node_identity)?;
    let store = match &opened {
        Opened::Intact(store) => {
            let disk = config.data_dir.clone();
            store.on_failure(Box::new(move |error| failed_on(&disk, error).end()));
            Some(store.clone())
        }
        Opened::Repairing { damage, .. } => {
            tracing::error!(
                reason = %damage,
                "this node cannot prove its store intact: it takes no part and serves nothing of \
                 its own. It asks the others to take it back with a new store"
            );
            None
        }
    };
    let tasks = Tasks::until(CancellationToken::new()).beside(process.aside.clone());
    let started = Box::pin(start(&config, node_identity, &endpoint, (opened, seed), tasks)).await;
    let running = match (started, &store) {
        (Ok(running), _) => running,
        (Err(error), Some(store)) => return Err(ended_by(store, error).await),
        (Err(error), None) => return Err(Failed::from(&error)),
    };
    let front = door.map(|door| {
        let (server, endpoint) = (running.server.clone(), endpoint.clone());
        Front::start(door, server, endpoint, &running.tasks)
    });
    announce(&config, &running.node, &endpoint, &certificate);
    let first_vote = tell_of_vote(running.node.clone(), began, running.tasks.stop().clone());
    running.tasks.once("first vote", first_vote);
    until_the_end(&config, (&endpoint, front), &running, process).await
}

/// Takes the TCP port, before anything is done that another process could be in the way of.
fn open_door(config: &Config, node_identity: &NodeIdentity) -> Result<Option<Door>, Failed> {
    let listen = config.http.listen;
    if !config.http.enabled {
        return Ok(None);
    }
    Door::open(&config.http, &node_identity.credentials).map(Some).map_err(|error| {
        Failed::new(
            Exit::Network,
            error.context(format!("cannot serve HTTPS on TCP {listen}")),
            "set another address with listen in [http], or enabled = false there, or stop the \
             process that uses it",
        )
    })
}

/// Puts a seed to use, once, and the node together.
async fn start(
    config: &Config,
    node_identity: NodeIdentity,
    endpoint: &Endpoint,
    (opened, seed): (Opened, Option<Seed>),
    tasks: Tasks,
) -> Result<Running, StoreError> {
    if let (Opened::Intact(store), Some(seed)) = (&opened, &seed) {
        put_to_use(config, store, seed).await?;
    }
    // Only a help at the beginning of a node's life: no reason not to start later.
    let used = || Seed::read_used(&config.data_dir).ok().flatten();
    let seed = last_known(config, &node_identity, seed.or_else(used));
    let parts = Parts {
        config: config.clone(),
        node_identity,
        port: Arc::new(endpoint.clone()),
        opened,
        seed,
        machine: Machine::real(config),
        tasks,
    };
    parts.start().await
}

/// What a node goes by that cannot prove its store, or has one that is older than it should be: the members
/// may be others than when it was made.
fn last_known(config: &Config, me: &NodeIdentity, seed: Option<Seed>) -> Option<Seed> {
    let Some(noted) = crate::join::noted_members(config, me) else { return seed };
    let admins = seed.map(|seed| seed.admins).unwrap_or_default();
    Some(Seed { admins, ..noted })
}

async fn put_to_use(config: &Config, store: &Store, seed: &Seed) -> Result<(), StoreError> {
    bootstrap(store, seed).await?;
    let known = Seed { joined: true, admins: Vec::new(), starts: 0, ..seed.clone() };
    known.write_members(&config.tls).unwrap_or_else(|error| {
        tracing::warn!(%error, "the members cannot be noted beside this node's key");
    });
    let put_away = Seed::put_away(&config.data_dir);
    put_away.map_err(|error| StoreError::Foreign(error.to_string()))
}

/// Logs the one line that says who runs where. All of it is in the text, too: the journal shows no more.
fn announce(config: &Config, node: &Node, endpoint: &Endpoint, certificate: &str) {
    let (name, cluster) = (node.name(), &node.identity().cluster);
    let (listen, advertise) = (endpoint.local_addr(), &config.advertise);
    tracing::info!(
        node = %name,
        listen = %listen,
        https = config.http.enabled.then(|| config.http.listen.to_string()),
        advertise = %advertise,
        cluster = %cluster,
        certificate,
        version = VERSION,
        "logd is running: {name} of cluster {cluster}, at {advertise} (listening on {listen}), \
         certificate SHA-256 {certificate}"
    );
}

async fn until_the_end(
    config: &Config,
    (endpoint, front): (&Endpoint, Option<Front>),
    running: &Running,
    process: Process,
) -> Result<(), Failed> {
    let Process { notifier, stop, reloads, .. } = process;
    let tasks = &running.tasks.aside();
    keep_certificate(&running.node, &config.tls, &reloads.trigger(), tasks);
    note_members(&running.node, config, tasks);
    let (endpoint, node, told) = (endpoint.clone(), running.node.clone(), front.clone());
    let take = move |node_identity: NodeIdentity| {
        endpoint.reload(&node_identity.credentials)?;
        if let Some(front) = &front {
            front.reload(&node_identity.credentials)?;
        }
        node.take(node_identity);
        Ok::<(), NetError>(())
    };
    tasks.once("reload", reloads.serve(stop.clone(), take));
    let (status, node) = (notifier.clone(), running.node.clone());
    tasks.keep_until_stop("service status", async move {
        loop {
            status.status(&node.summary());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let (fed, node, stopping) = (notifier.clone(), running.node.clone(), tasks.stop().clone());
    // With those whose progress it tells of.
    running
        .tasks
        .once("watchdog", async move { fed.watchdog(move || node.progress(), stopping).await });
    tokio::select! {
        () = stop.cancelled() => {}
        () = can_serve(&running.node) => notifier.ready(),
        // It never will.
        _ = running.node.witness().lacking() => {}
    }
    tokio::select! {
        () = stop.cancelled() => {
            let told = async { if let Some(front) = told { front.balancers_told().await } };
            running.stop_once(told).await;
            Ok(())
        }
        why = running.ended() => Err(why),
        why = taken_back(&running.node, config) => {
            running.port.close(CloseCode::Moving, "moving");
            Err(why)
        }
    }
}

/// Waits until the node can serve: a primary is known, or known to be absent, and the clock has
/// decided what it is.
async fn can_serve(node: &Node) {
    let decided = node.node_clock().decided();
    if let Some(engine) = node.engine() {
        let mut view = engine.view();
        let led = view.wait_for(|view| view.primary.is_some());
        drop(tokio::time::timeout(READY_WITHIN, led).await);
    }
    drop(tokio::time::timeout(READY_WITHIN, decided).await);
}
