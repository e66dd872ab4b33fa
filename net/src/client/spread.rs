//! Spreading calls over gateways: who is asked next, and the connections to them.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use proto::Name;
use proto::slots::slot_of_key;
use proto::wire::{Empty, Op, Reply, Slots};
use tokio::time::{Instant, timeout};

use super::Inner;
use super::call::CallState;
use super::dial::{DIAL_TIME, Gateway, Trouble};
use super::directory::Node;
use crate::reason::End;

/// Connections that are kept for later calls; the one unused for longest makes room.
const POOL_MAX: usize = 16;
/// How old the knowledge of who is primary may be before it is asked for again.
const PRIMARY_AGE: Duration = Duration::from_secs(2);
/// How long a call waits for a live list that is on its way. A gateway that is busy takes its time, and
/// one turn with an old list is one turn too many for its neighbour.
const LIST_TIME: Duration = Duration::from_secs(1);

/// Over which gateways calls go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Spread {
    /// One gateway for all of them: the home while it serves, else any.
    #[default]
    Home,
    /// Each to the next one.
    RoundRobin,
    /// The primary, which spares the way from a gateway to it.
    Primary,
    /// The home of this key: the same key, the same gateway.
    Hash(String),
    /// Any.
    Random,
}

/// Connections to gateways, for calls that are spread.
#[derive(Debug, Default)]
pub(super) struct Pool(Vec<Pooled>);

#[derive(Debug)]
struct Pooled {
    name: Name,
    used: Instant,
    /// The connection, or the attempt to get one that every call waits for.
    dialing: Shared<BoxFuture<'static, Result<Gateway, End>>>,
}

/// Where keys are at home, and the epoch of the live list at which that was learnt.
#[derive(Debug, Clone)]
pub(super) struct Homes {
    epoch: u64,
    slots: Arc<Slots>,
}

impl Inner {
    /// A gateway for a call, by its policy.
    pub(super) async fn gateway_for(
        self: &Arc<Self>,
        state: &mut CallState,
    ) -> Result<Gateway, Trouble> {
        let first = state.last_asked().is_none();
        if state.spread == Spread::Home && first || self.directory.via().is_some() {
            return self.gateway().await;
        }
        // On the heap: most calls stay at home, and need not be as large as this.
        Box::pin(self.spread_gateway(state)).await
    }

    /// Another gateway for a call that waits for those it has asked; `None` if there is none left.
    pub(super) async fn another(self: &Arc<Self>, state: &mut CallState) -> Option<Gateway> {
        if self.directory.via().is_some() {
            return None;
        }
        Box::pin(self.untried(state, true)).await
    }

    /// A gateway that was not asked yet. `aside`: it takes nobody's turn.
    async fn untried(self: &Arc<Self>, state: &mut CallState, aside: bool) -> Option<Gateway> {
        while let Some(node) = self.choose(state, aside).await {
            let at = node.name.as_ref().map_or(node.address.as_str(), Name::as_str);
            match self.pooled(&node, state.dial_limit()).await {
                // An address without a name may lead to anybody.
                Some(Ok(gateway)) if state.avoids(gateway.name.as_str()) => state.asks(at),
                Some(Ok(gateway)) => return Some(gateway),
                Some(Err(end)) => {
                    let gateway = node.label();
                    tracing::info!(gateway, reason = end.reason(), "no answer, asking elsewhere");
                    self.directory.demote(&node.address);
                    self.fail_turn(at);
                    state.failed(at);
                }
                // It may yet come: the next call finds it.
                None => state.asks(at),
            }
        }
        None
    }

    async fn spread_gateway(self: &Arc<Self>, state: &mut CallState) -> Result<Gateway, Trouble> {
        if state.spread != Spread::Home {
            self.await_list(LIST_TIME.min(state.timeout() / 3)).await;
        }
        if let Some(gateway) = self.untried(state, false).await {
            if state.spread == Spread::Home {
                // Unless others have one by now, it is the one for all calls.
                self.route().current.get_or_insert_with(|| gateway.clone());
            }
            return Ok(gateway);
        }
        // None of the preferred ones: any node at a known address will do.
        state.start_over();
        let gateway = self.gateway().await?;
        if state.spread == Spread::RoundRobin {
            self.ring.used(gateway.name.as_str());
        }
        Ok(gateway)
    }

    /// Takes a node out of the ring.
    pub(super) fn fail_turn(&self, name: &str) {
        if let Some(node) = self.directory.live().iter().find(|node| node.name == name) {
            self.ring.failed(node);
        }
    }

    /// Waits for a live list that is being learnt, so that a new node gets its turn in time.
    async fn await_list(&self, limit: Duration) {
        let learning = self.route().learning.clone();
        if let Some(learning) = learning {
            // Without it the call goes on with the list it has.
            drop(timeout(limit, learning).await);
        }
    }

    /// The next node for this call; `None` when all of them were asked. `aside`: none takes its turn.
    async fn choose(self: &Arc<Self>, state: &CallState, aside: bool) -> Option<Node> {
        if state.spread == Spread::Home {
            let fit = |node: &Node| match &node.name {
                Some(name) => !state.avoids(name.as_str()),
                None => !state.avoids(&node.address),
            };
            return self.directory.candidates().into_iter().find(fit);
        }
        if state.spread == Spread::Primary && !self.directory.is_fresh(PRIMARY_AGE) {
            self.learn_now().await;
        }
        let live = self.directory.live();
        let fit = |name: &str| !state.avoids(name);
        let name = match &state.spread {
            Spread::Home => None,
            Spread::RoundRobin if aside => {
                let names = live_names(&live);
                let last = state.last_asked();
                let at = names.iter().position(|name| Some(name.as_str()) == last);
                self.in_order(&names, at.map_or(0, |at| at + 1), fit)
            }
            Spread::RoundRobin => {
                (0..=live.len()).map_while(|_| self.ring.next(&live)).find(|name| fit(name))
            }
            Spread::Primary => {
                let primary = self.directory.primary().filter(|name| fit(name));
                primary.or_else(|| self.in_order(&live_names(&live), 0, fit))
            }
            Spread::Hash(key) => {
                let names = live_names(&live);
                let at = self.place_of(key, &names).await;
                self.in_order(&names, at, fit)
            }
            Spread::Random => {
                let [.., a, b] = uuid::Uuid::new_v4().into_bytes();
                let left: Vec<String> =
                    live_names(&live).into_iter().filter(|name| fit(name)).collect();
                let at = usize::from(u16::from_be_bytes([a, b])) % left.len().max(1);
                self.in_order(&left, at, fit)
            }
        };
        self.directory.find(&name?)
    }

    /// The first fit node from a place on, around the ring; one that failed lately only if there is
    /// no other.
    fn in_order(&self, names: &[String], at: usize, fit: impl Fn(&str) -> bool) -> Option<String> {
        let around = || names.iter().cycle().skip(at).take(names.len()).filter(|name| fit(name));
        let healthy = around().find(|name| !self.directory.is_demoted(name));
        healthy.or_else(|| around().next()).cloned()
    }

    /// The place of a key's home among these nodes. Where the home is not among them, the slot
    /// itself decides, so that its keys are spread over all that are left.
    async fn place_of(self: &Arc<Self>, key: &str, names: &[String]) -> usize {
        let slot = usize::from(slot_of_key(key));
        let by_slot = slot % names.len().max(1);
        let Some(slots) = self.slots().await else { return by_slot };
        let home = slots.homes.get(slot).and_then(|&at| usize::try_from(at).ok());
        let home = home.and_then(|at| slots.nodes.get(at));
        home.and_then(|home| names.iter().position(|name| name == home)).unwrap_or(by_slot)
    }

    /// The homes of all slots, asked for again when the nodes have changed.
    async fn slots(self: &Arc<Self>) -> Option<Arc<Slots>> {
        let epoch = self.directory.epoch();
        let kept = self.route().homes.clone();
        if let Some(kept) = kept.filter(|kept| kept.epoch == epoch) {
            return Some(kept.slots);
        }
        let gateway = self.gateway().await.ok()?;
        let answer = self.ask_once(&gateway, Op::Slots(Empty {})).await?;
        let Some(Reply::Slots(slots)) = answer.reply else { return None };
        let slots = Arc::new(slots);
        self.route().homes = Some(Homes { epoch, slots: Arc::clone(&slots) });
        Some(slots)
    }

    /// Asks for the live list and waits for it.
    async fn learn_now(self: &Arc<Self>) {
        let Ok(gateway) = self.gateway().await else { return };
        let answer = self.ask_once(&gateway, Op::Nodes(Empty {})).await;
        if let Some(Reply::Nodes(nodes)) = answer.and_then(|answer| answer.reply) {
            self.learnt(nodes);
        }
    }

    /// The connection to a node, or a new one; `None` while the node takes its time.
    async fn pooled(
        self: &Arc<Self>,
        node: &Node,
        limit: Duration,
    ) -> Option<Result<Gateway, End>> {
        let Some(name) = node.name.clone() else { return Some(self.dial(node.clone()).await) };
        let dialing = {
            let mut route = self.route();
            if let Some(current) = &route.current
                && current.name == name
                && current.connection.close_reason().is_none()
            {
                return Some(Ok(current.clone()));
            }
            route.pool.get(&name, || {
                let (own, node) = (Arc::clone(self), node.clone());
                // A task, so that the attempt goes on when the call that began it gives up.
                let task = tokio::spawn(async move { own.dial(node).await });
                let gone = || Err(End::Lost("the attempt was given up".to_owned()));
                async move { task.await.unwrap_or_else(|_| gone()) }.boxed().shared()
            })
        };
        // The attempt itself ends in its own time.
        let dialled = timeout(limit, dialing).await.ok()?;
        if dialled.is_err() {
            self.route().pool.forget(&name);
        }
        Some(dialled)
    }
}

fn live_names(live: &[super::ring::LiveNode]) -> Vec<String> {
    live.iter().map(|node| node.name.clone()).collect()
}

impl CallState {
    /// Time for one node to answer the door: a call must be able to try another.
    fn dial_limit(&self) -> Duration {
        DIAL_TIME.min(self.timeout() / 3)
    }
}

impl Pool {
    /// What is there for this node, unless it is of no use any more.
    fn get(
        &mut self,
        name: &Name,
        dial: impl FnOnce() -> Shared<BoxFuture<'static, Result<Gateway, End>>>,
    ) -> Shared<BoxFuture<'static, Result<Gateway, End>>> {
        self.0.retain(|pooled| pooled.is_useful());
        if let Some(pooled) = self.0.iter_mut().find(|pooled| &pooled.name == name) {
            pooled.used = Instant::now();
            return pooled.dialing.clone();
        }
        if self.0.len() >= POOL_MAX
            && let Some(oldest) = (0..self.0.len()).min_by_key(|&at| self.0.get(at).map(|p| p.used))
        {
            // Calls in flight on it hold the connection themselves.
            self.0.swap_remove(oldest);
        }
        let dialing = dial();
        let pooled = Pooled { name: name.clone(), used: Instant::now(), dialing: dialing.clone() };
        self.0.push(pooled);
        dialing
    }

    /// Lets go of a node.
    pub(super) fn forget(&mut self, name: &Name) {
        self.0.retain(|pooled| &pooled.name != name);
    }

    /// Any connection that stands.
    pub(super) fn any(&self) -> Option<Gateway> {
        let open = self.0.iter().filter(|pooled| pooled.is_useful());
        open.filter_map(|pooled| pooled.dialing.peek()?.as_ref().ok()).next().cloned()
    }
}

impl Pooled {
    fn is_useful(&self) -> bool {
        match self.dialing.peek() {
            Some(Ok(gateway)) => gateway.connection.close_reason().is_none(),
            Some(Err(_)) => false,
            None => true,
        }
    }
}
