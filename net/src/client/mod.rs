//! The client: finds a node that serves, asks it, and asks another one when that is of no use.
//!
//! One connection carries all calls at a time, one stream each, or one long stream for the small ones
//! that come often (`long_stream`); calls that are spread have one to each gateway in use. A call that gets no answer is
//! repeated as it is, through another gateway if need be: a send carries its message id, so a
//! repetition cannot double it. Repetitions end with the call's time; what then cannot be known is
//! reported as unknown, never as failed.
//!
//! While a call waits, the client watches whether anything at all comes from the gateway: QUIC
//! acknowledges a request within milliseconds, long before the answer. Where nothing comes for
//! [`SILENCE`], the host is asked whether its port is closed: then the process is dead. Who is silent
//! for [`SILENT_MAX`] is taken for dead anyway. One that is merely slow is not: another gateway is asked
//! as well (`attempts`), and the slow one keeps its place.

mod ask;
mod attempts;
mod call;
mod dial;
mod directory;
mod error;
mod follow;
mod long_stream;
mod probe;
mod pulse;
mod ring;
mod spread;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use certs::Credentials;
use clock::Hlc;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::{Mutex, MutexGuard};
use proto::record::read_stamp;
use proto::wire::{Nodes, Op, Read, Reply, Response};
use proto::{Identity, Name, Record};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

pub use self::call::Answer;
use self::dial::{Gateway, Trouble};
pub use self::directory::kept_addresses;
use self::directory::{Cache, Directory};
pub use self::error::ClientError;
pub use self::follow::Follow;
pub use self::ring::{LiveNode, MemoryRing, Ring, Turns};
pub use self::spread::Spread;
use self::spread::{Homes, Pool};
use self::watch::Watching;
use crate::{CloseCode, tune};

/// A gateway that sends nothing for so long, while a call waits, is looked at.
const SILENCE: Duration = Duration::from_millis(250);
/// One that sends nothing for so long is taken for dead: a busy machine may keep a process waiting for
/// a good part of it.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// How long a gateway that was of no use is asked last.
const DEMOTED: Duration = Duration::from_secs(2);
/// How often a client that is away from home looks whether home is back.
const HOMING: Duration = Duration::from_secs(5);
/// Bytes of large requests that are on the way at a time; the gateway would refuse more.
const ROOM_BYTES: usize = 12 << 20;
/// Time to finish learning the live list, and to say goodbye, when a client closes.
const LEARN_TIME: Duration = Duration::from_millis(500);
const GOODBYE_TIME: Duration = Duration::from_millis(10);

/// How a client finds its cluster.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Any of the cluster's addresses: `host:port` or `name=host:port`. The live list is learnt.
    pub addresses: Vec<String>,
    /// Who the client is.
    pub credentials: Credentials,
    /// The one node to use; no other is tried.
    pub via: Option<String>,
    /// The node to prefer while it serves.
    pub home: Option<String>,
    /// Time for one call, all repetitions included.
    pub timeout: Duration,
    /// File that keeps the live list from one process to the next.
    pub cache: Option<PathBuf>,
    /// Highest stamp seen by earlier processes: what this client sends gets a later one.
    pub causal_token: Option<Hlc>,
    /// Over which gateways calls go that do not say so themselves. `via` overrides it.
    pub spread: Spread,
    /// Whose turn it is in a round robin; `None` begins with the first node.
    pub ring: Option<Arc<dyn Ring>>,
}

impl ClientConfig {
    /// Ten seconds a call, no preference, nothing kept.
    #[must_use]
    pub fn new(addresses: Vec<String>, credentials: Credentials) -> Self {
        Self {
            addresses,
            credentials,
            via: None,
            home: None,
            timeout: Duration::from_secs(10),
            cache: None,
            causal_token: None,
            spread: Spread::Home,
            ring: None,
        }
    }
}

/// A client of one cluster. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    quic: quinn::Endpoint,
    dialing: Mutex<quinn::ClientConfig>,
    own: Identity,
    timeout: Duration,
    directory: Directory,
    route: Mutex<Route>,
    /// Epoch of the live list that was last asked for.
    asked_epoch: AtomicU64,
    homing: AtomicBool,
    causal_token: Mutex<Hlc>,
    room: Semaphore,
    spread: Spread,
    ring: Arc<dyn Ring>,
    watching: Watching,
}

/// The connection in use, or the attempt to get one that every call waits for; and those of calls
/// that are spread.
#[derive(Debug, Default)]
struct Route {
    current: Option<Gateway>,
    dialing: Option<Shared<BoxFuture<'static, Result<Gateway, Trouble>>>>,
    pool: Pool,
    homes: Option<Homes>,
    /// The gateway of the last answer.
    last: Option<Name>,
    learning: Option<Shared<BoxFuture<'static, ()>>>,
    next_homing: Option<Instant>,
}

impl Client {
    /// Prepares a client; nothing is sent yet. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When there is no address, a name is malformed, or the certificates cannot be used.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let dialing = tune::client(&config.credentials)?;
        let own = config.credentials.identity().clone();
        let directory = Directory::new(&config, &own.cluster)?;
        Ok(Self(Arc::new(Inner {
            quic: tune::client_endpoint()?,
            dialing: Mutex::new(dialing),
            own,
            timeout: config.timeout,
            asked_epoch: AtomicU64::new(directory.epoch()),
            directory,
            route: Mutex::default(),
            homing: AtomicBool::new(false),
            causal_token: Mutex::new(config.causal_token.unwrap_or(Hlc::ZERO)),
            room: Semaphore::new(ROOM_BYTES),
            spread: config.spread,
            ring: config.ring.unwrap_or_else(|| Arc::new(MemoryRing::default())),
            watching: Watching::default(),
        })))
    }

    /// Shows another certificate on connections from now on, those that stand go on.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn set_credentials(&self, credentials: &Credentials) -> Result<(), ClientError> {
        let dialing = tune::client(credentials)?;
        *self.0.dialing.lock() = dialing;
        Ok(())
    }

    /// Asks and waits for the answer; finds another gateway and asks again as long as that can
    /// help and the call's time lasts. A refusal is an error, see [`ClientError::Failure`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call(&self, op: Op) -> Result<Response, ClientError> {
        self.0.call(op, &self.0.spread).await.map(|answer| answer.response)
    }

    /// The same over gateways of its own choice, with the way that the answer took.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call_over(&self, op: Op, spread: &Spread) -> Result<Answer, ClientError> {
        self.0.call(op, spread).await
    }

    /// Names of all nodes that the client knows, those that do not serve now too, in the order of
    /// the ring.
    #[must_use]
    pub fn node_names(&self) -> Vec<String> {
        self.0.directory.names()
    }

    /// Reads page after page, through as many gateways as it takes, without gap or repetition.
    /// With `read.follow` it goes on with what comes; without, it ends at the end of the log.
    ///
    /// # Errors
    /// When no gateway can be reached in the call's time.
    pub async fn follow(&self, read: Read) -> Result<Follow, ClientError> {
        let mut follow = Follow::new(self.clone(), read);
        follow.open().await?;
        Ok(follow)
    }

    /// Name of the node in use, if there is one; of calls that are spread, the last that answered.
    #[must_use]
    pub fn gateway(&self) -> Option<String> {
        let route = self.0.route();
        let current = route.current.as_ref().map(|gateway| gateway.name.to_string());
        match self.0.spread {
            Spread::Home => current,
            Spread::RoundRobin | Spread::Primary | Spread::Hash(_) | Spread::Random => {
                route.last.as_ref().map(Name::to_string).or(current)
            }
        }
    }

    /// Highest stamp seen in answers; what this client sends from now on gets a later one.
    #[must_use]
    pub fn causal_token(&self) -> Option<Hlc> {
        Some(self.0.seen()).filter(|seen| *seen > Hlc::ZERO)
    }

    /// Says goodbye to the gateway, so that it need not wait for more. Clones end too.
    pub async fn close(self) {
        self.0.watching.end();
        let learning = self.0.route().learning.take();
        if let Some(learning) = learning {
            // A list that is not learnt in time is learnt by the next process.
            drop(timeout(LEARN_TIME, learning).await);
        }
        self.0.quic.close(CloseCode::Done.code(), b"done");
        drop(timeout(GOODBYE_TIME, self.0.quic.wait_idle()).await);
    }
}

impl Inner {
    fn route(&self) -> MutexGuard<'_, Route> {
        self.route.lock()
    }

    fn seen(&self) -> Hlc {
        *self.causal_token.lock()
    }

    /// Takes from an answer what later calls need: the highest stamp, and news of the live list.
    fn note(self: &Arc<Self>, gateway: &Gateway, response: &Response, spread: &Spread) {
        self.route().last = Some(gateway.name.clone());
        self.begin_watching();
        match &response.reply {
            Some(Reply::Ack(ack)) => self.note_stamp(&ack.stamp),
            Some(Reply::Record(record) | Reply::Deleted(record)) => self.note_record(record),
            Some(Reply::Page(page)) => page.records.iter().for_each(|r| self.note_record(r)),
            Some(Reply::Nodes(nodes)) => self.learnt(nodes.clone()),
            _ => {}
        }
        // Only a higher one is news: a follower may lag behind what is known here.
        let epoch = response.members_epoch;
        let known = self.asked_epoch.fetch_max(epoch, Ordering::Relaxed);
        if epoch > known.max(self.directory.epoch()) {
            self.learn(gateway.clone());
        }
        if *spread == Spread::Home {
            self.look_homewards(gateway);
        }
    }

    /// Looks whether home is back, if this gateway is not it and the last look is a while ago.
    fn look_homewards(self: &Arc<Self>, gateway: &Gateway) {
        if !gateway.at_home && self.spread == Spread::Home {
            self.drift_home();
        }
    }

    /// Whether there is a connection to home now, and this gateway is another node.
    fn is_home_again(&self, gateway: &Gateway) -> bool {
        let is_home =
            |current: &Gateway| current.at_home && current.connection.close_reason().is_none();
        !gateway.at_home
            && self.spread == Spread::Home
            && self.route().current.as_ref().is_some_and(is_home)
    }

    /// A record, and its deletion: that has a later stamp of its own.
    fn note_record(&self, record: &Record) {
        self.note_stamp(&record.stamp);
        if let Some(tombstone) = &record.deleted {
            self.note_stamp(&tombstone.stamp);
        }
    }

    fn note_stamp(&self, bytes: &[u8]) {
        if let Ok(stamp) = read_stamp(bytes) {
            let mut seen = self.causal_token.lock();
            *seen = stamp.hlc.max(*seen);
        }
    }

    /// Asks for the live list in the background.
    fn learn(self: &Arc<Self>, gateway: Gateway) {
        let own = Arc::clone(self);
        let task = tokio::spawn(async move {
            let answer = own.ask_once(&gateway, Op::Nodes(Default::default())).await;
            if let Some(Reply::Nodes(nodes)) = answer.and_then(|answer| answer.reply)
                && let Some(cache) = own.take_over(nodes)
            {
                // With the task: whoever waits for the list, waits until it is kept.
                drop(tokio::task::spawn_blocking(move || cache.write()).await);
            }
            // A gateway that lags behind its own answer is asked again at the next one.
            own.asked_epoch.store(own.directory.epoch(), Ordering::Relaxed);
        });
        // A task that panicked has learnt nothing, which is no harm.
        self.route().learning = Some(task.map(drop).boxed().shared());
    }

    fn learnt(self: &Arc<Self>, nodes: Nodes) {
        if let Some(cache) = self.take_over(nodes) {
            // Not on the way of an answer: a file takes its time.
            tokio::task::spawn_blocking(move || cache.write());
        }
    }

    /// Takes over a live list, and draws the consequences. Returns what is to be kept.
    fn take_over(self: &Arc<Self>, nodes: Nodes) -> Option<Cache> {
        let cache = self.directory.learn(nodes);
        let away = {
            let mut route = self.route();
            if route.current.as_ref().is_some_and(|own| self.directory.is_closed(&own.name)) {
                // Calls in flight hold the connection; the next one goes to a node that serves.
                route.current = None;
            }
            route.current.as_ref().is_some_and(|current| !current.at_home)
        };
        if away && self.directory.home().is_some() {
            // The list says that home serves: no need to wait for the next look.
            self.route().next_homing = None;
            self.drift_home();
        }
        cache
    }

    /// Looks now and then whether the preferred node is back, and goes back to it.
    fn drift_home(self: &Arc<Self>) {
        let Some(home) = self.directory.home() else { return };
        {
            let mut route = self.route();
            let now = Instant::now();
            if route.next_homing.is_some_and(|next| now < next) {
                return;
            }
            route.next_homing = Some(now + HOMING);
        }
        if self.homing.swap(true, Ordering::AcqRel) {
            return;
        }
        let own = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(gateway) = own.dial(home).await
                && own.serves(&gateway).await
            {
                own.route().current = Some(gateway);
            }
            own.homing.store(false, Ordering::Release);
        });
    }
}
