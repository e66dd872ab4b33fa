//! The configured time servers: which address of each is asked, and that none is asked twice.
//!
//! Invariants: no two entries ask the same address at the same time, because one server that votes
//! twice is one liar that counts as two; no entry asks this very node.
//!
//! An entry without an address of its own still counts among the servers that may lie: it takes away
//! certainty, never adds any.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clock::Failure;
use config::{Clock, ClockServer};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

/// Longest wait for an address.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// All servers, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Servers {
    list: Vec<Server>,
    /// Where this node itself serves, `host:port`.
    own: Vec<String>,
    spots: Mutex<Vec<Spot>>,
    /// Ends the waits between queries.
    hurry: Notify,
    /// Ends the wait of those who refused.
    reloads: watch::Sender<()>,
}

/// One configured server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) config: ClockServer,
    /// Raw counter at the next query.
    next_query_ns: AtomicU64,
}

/// What is known of a server's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// Nothing; if it was asked before, where.
    Nowhere(Option<SocketAddr>),
    /// It is asked here.
    At(SocketAddr),
    /// Each of its addresses is asked on behalf of another entry; of this one, for example.
    Duplicate(usize),
    /// Its only addresses are this node's own.
    Own,
}

impl Servers {
    /// The servers of a configuration, all due at `raw_ns`.
    pub(super) fn new(config: &Clock, raw_ns: u64) -> Self {
        let server = |config: &ClockServer| Server {
            config: config.clone(),
            next_query_ns: AtomicU64::new(raw_ns),
        };
        Self {
            list: config.servers.iter().map(server).collect(),
            own: config.own.clone(),
            spots: Mutex::new(vec![Spot::Nowhere(None); config.servers.len()]),
            hurry: Notify::new(),
            reloads: watch::Sender::new(()),
        }
    }

    /// The entries.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Server> {
        self.list.iter()
    }

    /// One entry.
    pub(super) fn get(&self, index: usize) -> Option<&Server> {
        self.list.get(index)
    }

    /// What is known of an entry's address.
    pub(super) fn spot(&self, index: usize) -> Spot {
        self.lock().get(index).copied().unwrap_or(Spot::Nowhere(None))
    }

    /// The configured name of an entry.
    pub(super) fn name(&self, index: usize) -> &str {
        self.get(index).map_or("", |server| server.config.address.as_str())
    }

    /// Asks everybody who may be asked soon.
    pub(super) fn hurry(&self) {
        self.hurry.notify_waiters();
    }

    /// Waits for [`Servers::hurry`].
    pub(super) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Asks those again who refused.
    pub(super) fn reload(&self) {
        self.reloads.send_replace(());
    }

    /// Changes at each [`Servers::reload`].
    pub(super) fn reloads(&self) -> watch::Receiver<()> {
        self.reloads.subscribe()
    }

    /// The address to ask an entry at: the one it has, or a new one; and the entry that loses it by
    /// that.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn locate(
        &self,
        index: usize,
    ) -> Result<(SocketAddr, Option<usize>), Failure> {
        if let Spot::At(address) = self.spot(index) {
            return Ok((address, None));
        }
        let resolved = resolve(self.name(index)).await;
        if resolved.is_empty() {
            return Err(Failure::Unresolved);
        }
        let mut found = Vec::new();
        for address in resolved {
            if !self.is_own(address).await {
                found.push(address);
            }
        }
        let mut spots = self.lock();
        let spot = choose(&spots, index, &found);
        let loser = spots.iter().position(|held| matches!(spot, Spot::At(_)) && *held == spot);
        if let Some(held) = loser.and_then(|loser| spots.get_mut(loser)) {
            *held = Spot::Nowhere(None);
        }
        if let Some(held) = spots.get_mut(index) {
            *held = spot;
        }
        match spot {
            Spot::At(address) => Ok((address, loser)),
            Spot::Duplicate(_) => Err(Failure::Duplicate),
            Spot::Own => Err(Failure::Own),
            Spot::Nowhere(_) => Err(Failure::Unresolved),
        }
    }

    /// An entry's address is no good: another one is looked for before the next query.
    pub(super) fn forget(&self, index: usize) {
        if let Some(spot) = self.lock().get_mut(index)
            && let Spot::At(address) = *spot
        {
            *spot = Spot::Nowhere(Some(address));
        }
    }

    async fn is_own(&self, address: SocketAddr) -> bool {
        for own in &self.own {
            let Some((_, port)) = own.rsplit_once(':') else { continue };
            if port.parse() != Ok(address.port()) {
                continue;
            }
            let same = |own: SocketAddr| {
                own.ip() == address.ip() || (own.ip().is_unspecified() && is_local(address.ip()))
            };
            if resolve(own).await.into_iter().any(same) {
                return true;
            }
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Spot>> {
        // Every change is a plain assignment.
        self.spots.lock()
    }
}

impl Server {
    /// Says when it is asked next.
    pub(super) fn ask_at(&self, raw_ns: u64) {
        self.next_query_ns.store(raw_ns, Ordering::Relaxed);
    }

    /// Nanoseconds until it is asked next.
    pub(super) fn wait_ns(&self, raw_ns: u64) -> u64 {
        self.next_query_ns.load(Ordering::Relaxed).saturating_sub(raw_ns)
    }
}

/// Where an entry is asked, given the addresses that it may have. A free address is best, one that
/// failed before is worst. If others hold all of them, the entry that comes first in the
/// configuration wins, so that it does not depend on who was resolved first.
fn choose(spots: &[Spot], index: usize, found: &[SocketAddr]) -> Spot {
    let failed = match spots.get(index) {
        Some(Spot::Nowhere(failed)) => *failed,
        _ => None,
    };
    let holder = |address: &SocketAddr| spots.iter().position(|spot| *spot == Spot::At(*address));
    let mut free: Vec<SocketAddr> =
        found.iter().copied().filter(|address| holder(address).is_none()).collect();
    free.sort_by_key(|address| failed == Some(*address));
    if let Some(address) = free.first() {
        return Spot::At(*address);
    }
    let mut held = found.iter().filter_map(|address| Some((holder(address)?, *address)));
    match held.clone().find(|(holder, _)| *holder > index) {
        Some((_, address)) => Spot::At(address),
        None => held.next().map_or(Spot::Own, |(holder, _)| Spot::Duplicate(holder)),
    }
}

/// The addresses of a name, each written in one way only.
async fn resolve(name: &str) -> Vec<SocketAddr> {
    match tokio::time::timeout(RESOLVE_TIMEOUT, net::lookup(name)).await {
        Ok(Ok(found)) => {
            let plain = |at| match at {
                // Without its zone a link's own address leads nowhere.
                SocketAddr::V6(six) if six.scope_id() != 0 => at,
                SocketAddr::V6(_) | SocketAddr::V4(_) => {
                    SocketAddr::new(at.ip().to_canonical(), at.port())
                }
            };
            found.into_iter().map(plain).collect()
        }
        Ok(Err(error)) => {
            tracing::debug!(server = name, %error, "no address");
            Vec::new()
        }
        Err(_elapsed) => Vec::new(),
    }
}

/// Whether an address is one of this machine's: only those can be bound.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn the_later_of_two_takes_another_address_or_none() {
        let nowhere = Spot::Nowhere(None);
        let spots = [Spot::At(at(1)), nowhere, nowhere];
        assert_eq!(choose(&spots, 1, &[at(1), at(2)]), Spot::At(at(2)));
        assert_eq!(choose(&spots, 1, &[at(1)]), Spot::Duplicate(0));
        assert_eq!(choose(&spots, 1, &[]), Spot::Own);
    }

    #[test]
    fn whoever_comes_first_in_the_configuration_wins_in_whatever_order_they_come() {
        let spots = [Spot::Nowhere(None), Spot::At(at(1))];
        assert_eq!(choose(&spots, 0, &[at(1)]), Spot::At(at(1)));
        assert_eq!(choose(&spots, 0, &[at(1), at(2)]), Spot::At(at(2)), "a free one is better");
    }

    #[test]
    fn an_address_that_failed_is_the_last_to_be_tried_again() {
        let spots = [Spot::Nowhere(Some(at(1)))];
        assert_eq!(choose(&spots, 0, &[at(1), at(2)]), Spot::At(at(2)));
        assert_eq!(choose(&spots, 0, &[at(1)]), Spot::At(at(1)));
    }

    #[test]
    fn an_address_of_this_machine_is_known_by_binding_it() {
        assert!(is_local(IpAddr::from([127, 0, 0, 1])));
        assert!(!is_local(IpAddr::from([192, 0, 2, 1])));
    }

    #[tokio::test]
    async fn an_entry_that_comes_first_takes_the_address_of_a_later_one() {
        let server = |name: &str| ClockServer {
            address: format!("{name}:7999"),
            poll_s: 64,
            private: false,
            timeout_ms: 1000,
        };
        let list = vec![server("127.0.0.1"), server("127.1")];
        let servers = Servers::new(&Clock { servers: list, ..Clock::local() }, 0);
        let address = SocketAddr::from(([127, 0, 0, 1], 7999));
        assert_eq!(servers.locate(1).await, Ok((address, None)));
        assert_eq!(servers.locate(0).await, Ok((address, Some(1))));
        assert_eq!(servers.locate(0).await, Ok((address, None)));
        assert_eq!(servers.locate(1).await, Err(Failure::Duplicate));
        // The first is lost: the other name may lead to something else one day, so it may try.
        servers.forget(0);
        assert_eq!(servers.locate(1).await, Ok((address, None)));
    }

    #[tokio::test]
    async fn the_nodes_own_address_is_found_under_every_name() {
        let config = Clock {
            own: vec!["0.0.0.0:7101".to_owned(), "192.0.2.7:7201".to_owned()],
            ..Clock::local()
        };
        let servers = Servers::new(&config, 0);
        for (text, own) in [
            ("127.0.0.1:7101", true),
            ("127.0.0.1:7102", false),
            ("192.0.2.7:7201", true),
            ("192.0.2.8:7201", false),
            ("192.0.2.7:7101", false),
        ] {
            assert_eq!(servers.is_own(text.parse().unwrap()).await, own, "{text}");
        }
    }
}
