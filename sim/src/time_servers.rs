//! Time servers: most know the time, one lies when the run lets it, and all are away now and then.

use std::sync::Arc;
use std::time::Duration;

use clock::packet::Packet;
use daemon::time::TimeServers as Reached;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use log::memory::Random;
use net::time_server::{Manner, answer};
use parking_lot::Mutex;

use crate::trace::Trace;
use crate::world::WALL_NS;

/// How many there are: of four, one may lie.
const SERVERS: usize = 4;
/// Longest way of a packet, one way, microseconds; of some of them.
const WAY_MAX_US: u64 = 4_000;
const SLOW_WAY_MAX_US: u64 = 80_000;
/// How far a server is from true time, as it claims: its way there and back, and its error.
const ROOT_NS: u64 = 990_000;

/// The time servers of a run. Clones are the same.
#[derive(Debug, Clone)]
pub struct TimeServers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    trace: Trace,
    /// The one that may lie: two would be more than a cluster bears.
    liar: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: Random,
    /// How far the liar is ahead of true time.
    lie_ns: i64,
    are_away: bool,
}

impl TimeServers {
    /// All of them are there, and know the time.
    #[must_use]
    pub fn new(trace: &Trace, random: &mut Random) -> Self {
        let liar = usize::try_from(random.below(SERVERS as u64)).unwrap_or(0);
        let state = State { random: Random::new(random.draw()), lie_ns: 0, are_away: false };
        Self(Arc::new(Inner { trace: trace.clone(), liar, state: Mutex::new(state) }))
    }

    /// Lets the liar be so far ahead of true time.
    pub fn lie(&self, by_ns: i64) {
        self.0.state.lock().lie_ns = by_ns;
    }

    /// Lets all of them be away, or there again.
    pub fn be_away(&self, away: bool) {
        self.0.state.lock().are_away = away;
    }

    /// The part of a configuration that names them.
    #[must_use]
    pub fn config() -> String {
        let server = |number: usize| {
            format!(
                "[[clock.server]]\naddress = \"{}\"\npoll_s = 4\nprivate = true\n",
                name(number)
            )
        };
        (0..SERVERS).map(server).collect()
    }

    /// What a machine reaches.
    #[must_use]
    pub fn reached(&self) -> Arc<dyn Reached> {
        Arc::clone(&self.0) as _
    }
}

/// A server that follows another one, a millisecond away.
fn honest() -> Manner {
    let (root_delay_ns, root_dispersion_ns) = (ROOT_NS, ROOT_NS);
    Manner { stratum: 2, refid: *b"TEST", root_delay_ns, root_dispersion_ns, ..Manner::default() }
}

fn name(number: usize) -> String {
    format!("t{number}.example:123")
}

impl Inner {
    /// How long a packet is on its way.
    fn way(&self) -> Duration {
        let random = &mut self.state.lock().random;
        let most = if random.percent(90) { WAY_MAX_US } else { SLOW_WAY_MAX_US };
        Duration::from_micros(1 + random.below(most))
    }
}

impl Reached for Inner {
    fn ask<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Option<Packet>> {
        async move {
            let request = Packet { version: 4, mode: 3, poll: 6, ..Packet::default() };
            let is_liar = name(self.liar) == server;
            tokio::time::sleep(self.way()).await;
            let lie_ns = {
                let state = self.state.lock();
                if state.are_away {
                    return None;
                }
                if is_liar { state.lie_ns } else { 0 }
            };
            let now_ns = WALL_NS + self.trace.now_ns();
            tokio::time::sleep(self.way()).await;
            answer(&request, now_ns, now_ns, &Manner { offset_ns: lie_ns, ..honest() })
        }
        .boxed()
    }
}
