//! Links to peers over QUIC: one pooled connection per peer for the urgent lane and one for the
//! rest, dialled on demand.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use proto::peer::{Hello, Refusal};
use proto::{Identity, Name, Role};
use quinn::Connection;
use tokio::time::{Instant, timeout};

use crate::endpoint::{Dialer, certified};
use crate::frames::{FrameRx, FrameTx};
use crate::hello::{self, refuses};
use crate::reason::{End, end_of};
use crate::repeat::Repeats;
use crate::{CheckPeer, CloseCode, Lane, Link, LinkError, MakeHello, PeerAddr, Refused};

/// Time to reach a peer and to exchange hellos with it.
const DIAL_TIME: Duration = Duration::from_millis(1500);
/// A refusal is not asked for again so soon: it takes a person or a change of members to lift it.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Nor is a peer dialled again so soon that does not answer, closes at once, or says "not yet".
const FAILED_PAUSE: Duration = Duration::from_millis(100);

/// The production [`Link`].
#[derive(Clone)]
pub struct QuicLink {
    dialer: Dialer,
    hello: MakeHello,
    check: CheckPeer,
    pool: Arc<Mutex<HashMap<(Name, bool), Pooled>>>,
    repeats: Arc<Repeats>,
}

/// A connection to a peer, or the attempt to have one. Whoever needs it waits for the same attempt.
struct Pooled {
    to: PeerAddr,
    dial: Dial,
}

/// Errors carry when they came.
type Dial = Shared<BoxFuture<'static, Result<Connection, (LinkError, Instant)>>>;

impl fmt::Debug for QuicLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicLink").finish_non_exhaustive()
    }
}

impl Link for QuicLink {
    fn open<'a>(
        &'a self,
        to: &'a PeerAddr,
        lane: Lane,
    ) -> BoxFuture<'a, Result<(FrameTx, FrameRx), LinkError>> {
        self.open_stream(to, lane).boxed()
    }

    fn forget(&self, peer: &Name) {
        let mut pool = self.pool.lock();
        for urgent in [false, true] {
            let pooled = pool.remove(&(peer.clone(), urgent));
            if let Some(Ok(connection)) = pooled.as_ref().and_then(|pooled| pooled.dial.peek()) {
                connection.close(CloseCode::Done.code(), b"no longer a member");
            }
        }
    }
}

impl QuicLink {
    pub(crate) fn new(dialer: Dialer, hello: MakeHello, check: CheckPeer) -> Self {
        Self { dialer, hello, check, pool: Arc::default(), repeats: Arc::default() }
    }

    async fn open_stream(
        &self,
        to: &PeerAddr,
        lane: Lane,
    ) -> Result<(FrameTx, FrameRx), LinkError> {
        let connection = self.connection(to, lane == Lane::Urgent).await?;
        let lost = |error| LinkError::Lost(end_of(&error).reason().to_owned());
        let (tx, rx) = timeout(DIAL_TIME, connection.open_bi())
            .await
            .map_err(|_| LinkError::Unreachable {
                peer: to.name.to_string(),
                reason: "it takes no more streams".to_owned(),
            })?
            .map_err(lost)?;
        drop(tx.set_priority(lane.priority()));
        Ok((FrameTx::quic_in_lane(tx, lane.byte()), FrameRx::quic(rx)))
    }

    async fn connection(&self, to: &PeerAddr, urgent: bool) -> Result<Connection, LinkError> {
        let dial = {
            let mut pool = self.pool.lock();
            let key = (to.name.clone(), urgent);
            match pool.get(&key).filter(|pooled| pooled.serves(to)) {
                Some(pooled) => pooled.dial.clone(),
                None => {
                    let dial = self.dial(to.clone(), urgent);
                    pool.insert(key, Pooled { to: to.clone(), dial: dial.clone() });
                    dial
                }
            }
        };
        dial.await.map_err(|(error, _)| error)
    }

    /// Dials in a task of its own, so that the attempt goes on when whoever began it gives up.
    fn dial(&self, to: PeerAddr, urgent: bool) -> Dial {
        let (dialer, hello) = (self.dialer.clone(), Arc::clone(&self.hello));
        let check = Arc::clone(&self.check);
        let repeats = Arc::clone(&self.repeats);
        let task = tokio::spawn(async move {
            let dialled = timeout(DIAL_TIME, dial(&dialer, &to, hello(), &check)).await;
            let unreachable = || LinkError::Unreachable {
                peer: to.name.to_string(),
                reason: format!("no answer from {} in {DIAL_TIME:?}", to.address),
            };
            let dialled = dialled.unwrap_or_else(|_| Err(unreachable()));
            match &dialled {
                Ok(_) => tracing::debug!(peer = %to.name, urgent, "connected to a peer"),
                Err(LinkError::Refused { why: Refusal::NotYet, .. }) => {}
                Err(error @ LinkError::Refused { .. }) if repeats.is_news(&error.to_string()) => {
                    tracing::warn!(peer = %to.name, address = to.address, %error, "refused");
                }
                Err(error) => tracing::debug!(peer = %to.name, %error, "cannot reach a peer"),
            }
            dialled.map_err(|error| (error, Instant::now()))
        });
        let stopped = |_| (LinkError::Lost("this node is stopping".to_owned()), Instant::now());
        async move { task.await.map_err(stopped)? }.boxed().shared()
    }
}

impl Pooled {
    /// Whether this is, or may become, a connection to that very store.
    fn serves(&self, to: &PeerAddr) -> bool {
        let fine = match self.dial.peek() {
            None => true,
            Some(Ok(connection)) => connection.close_reason().is_none(),
            Some(Err((error, at))) => at.elapsed() < pause_after(error),
        };
        fine && self.to == *to
    }
}

/// How long a failed attempt answers for those who ask next. They are answered at once, so each of
/// them has a pace of its own.
fn pause_after(error: &LinkError) -> Duration {
    match error {
        LinkError::Refused { why, .. } if *why != Refusal::NotYet => REFUSED_PAUSE,
        LinkError::Refused { .. }
        | LinkError::Unreachable { .. }
        | LinkError::Lost(_)
        | LinkError::Frame(_) => FAILED_PAUSE,
    }
}

async fn dial(
    dialer: &Dialer,
    to: &PeerAddr,
    hello: Hello,
    check: &CheckPeer,
) -> Result<Connection, LinkError> {
    let peer = || to.name.to_string();
    let unreachable = |reason: String| LinkError::Unreachable { peer: peer(), reason };
    let ended = |error: quinn::ConnectionError| match end_of(&error) {
        // Who closes has shown no hello, so what it says of this node is for people alone.
        End::RefusedUs(reason) | End::RevokedUs(reason) => {
            refuses(Refusal::Other, &reason).by(to.name.as_str())
        }
        End::WeRefused(reason) => Refused::from(reason).by(to.name.as_str()),
        End::Moving(reason) | End::Busy(reason) | End::Lost(reason) => {
            LinkError::Unreachable { peer: peer(), reason: format!("{}: {reason}", to.address) }
        }
    };
    let identity = Identity { name: to.name.clone(), role: Role::Node, ..dialer.own() };
    let address = dialer.resolve(&to.address).await.map_err(&unreachable)?;
    let connecting = dialer.connect(address, &identity.dns_name()).map_err(&unreachable)?;
    let connection = connecting.await.map_err(&ended)?;
    // The connection stands as soon as this side is content; whether the other side is, only its
    // first answer tells.
    match exchange(&connection, dialer, to, &identity, hello, check).await {
        Ok(()) => Ok(connection),
        Err(error) => {
            let error = match (connection.close_reason(), error) {
                (Some(closed), LinkError::Lost(_)) => ended(closed),
                (_, error) => error,
            };
            let code = match error {
                LinkError::Refused { why: Refusal::NotYet, .. } => CloseCode::Busy,
                LinkError::Refused { .. }
                | LinkError::Frame(_)
                | LinkError::Lost(_)
                | LinkError::Unreachable { .. } => CloseCode::Refused,
            };
            connection.close(code.code(), error.to_string().as_bytes());
            Err(error)
        }
    }
}

/// Says who this node is and checks who answers.
async fn exchange(
    connection: &Connection,
    dialer: &Dialer,
    to: &PeerAddr,
    identity: &Identity,
    hello: Hello,
    check: &CheckPeer,
) -> Result<(), LinkError> {
    let lost = |error| LinkError::Lost(end_of(&error).reason().to_owned());
    let (tx, rx) = connection.open_bi().await.map_err(lost)?;
    let stream = (FrameTx::quic(tx), FrameRx::quic(rx));
    let certified = || certified(connection);
    hello::say(stream, to, (&dialer.own(), identity), hello, certified, check).await
}

/// The addresses of a `host:port`, see [`proto::address`].
///
/// # Errors
/// When the name has none, or nobody can say.
pub async fn lookup(address: &str) -> std::io::Result<Vec<SocketAddr>> {
    // The system knows a zone's name, but not in brackets.
    if let Some((host, port)) = address.strip_prefix('[').and_then(|rest| rest.split_once("]:"))
        && host.contains('%')
        && let Ok(port) = port.parse::<u16>()
    {
        return tokio::net::lookup_host((host, port)).await.map(Iterator::collect);
    }
    tokio::net::lookup_host(address).await.map(Iterator::collect)
}

/// Picks the address of a name that a socket of this family can send to.
pub(crate) async fn resolve(address: &str, own: SocketAddr) -> Result<SocketAddr, String> {
    if let Ok(literal) = address.parse() {
        return Ok(literal);
    }
    let found = lookup(address).await;
    let mut found = found.map_err(|error| format!("cannot resolve {address}: {error}"))?;
    // A socket of version 6 sends to both, one of version 4 to its own only.
    found.sort_by_key(|candidate| candidate.is_ipv4() != own.is_ipv4());
    found.first().copied().ok_or_else(|| format!("{address} has no address"))
}
