//! Requests that change nothing in the log: reads, lists, and this node's own housekeeping.

use std::time::Duration;

use clock::ClockState;
use model::query;
use net::PeerAddr;
use prost::Message as _;
use proto::peer::{PeerOp, ReadBarrier, Session, Sessions};
use proto::wire::{ClientRow, Clients, Empty, Get, Page, Position, Read};
use proto::{ErrorCode, Failure, Record};
use tokio::time::Instant;

use crate::raft::Barrier;
use crate::reader::{self, Reading, answered, barrier_failure, store_failure};

use super::primary::{GaveUp, Patience, Primary};
use super::{Core, Deadline, Node, Principal};

/// Longest wait for another node's list of clients.
const SESSIONS_WITHIN: Duration = Duration::from_millis(500);
/// How often a follower for whom nothing comes is told how far the log was looked at.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// A barrier changes nothing: whatever became of one, another may be asked for.
const PATIENCE: Patience = Patience {
    news: Duration::from_millis(20),
    spare: Duration::ZERO,
    no_primary: None,
    no_majority: Some(Duration::from_millis(500)),
    again: |_| true,
};

impl Node {
    /// One page. With `stale` it comes from this node's own state.
    pub(super) async fn read(
        &self,
        principal: &Principal,
        read: &Read,
        deadline: Deadline,
    ) -> Result<Page, Failure> {
        let core = self.core()?;
        self.fresh(core, principal, read.stale, deadline).await?;
        let mut reading = self.resolve(core, principal, read)?;
        if let Some(at) = reading.closes_at().filter(|_| !read.stale) {
            self.closed(core, at, deadline).await;
        }
        let page = reading.page(&core.store)?;
        Ok(Page { behind_ms: if read.stale { self.behind_ms(core) } else { 0 }, ..page })
    }

    /// Begins a followed read: the first page is fresh unless it is stale on purpose.
    pub(crate) async fn follow(
        &self,
        principal: &Principal,
        read: &Read,
        deadline: Deadline,
    ) -> Result<Following<'_>, Failure> {
        let core = self.core()?;
        self.fresh(core, principal, read.stale, deadline).await?;
        let reading = self.resolve(core, principal, read)?;
        let mut progress = core.engine.progress();
        progress.mark_changed();
        let (stale, told) = (read.stale, (Vec::new(), Instant::now()));
        Ok(Following { node: self, core, reading, progress, stale, first: true, told })
    }

    /// Resolves a read against this node's state and clock. A clock that no server has been believed
    /// for, or that may be wrong, would give the wrong range.
    fn resolve(&self, core: &Core, principal: &Principal, read: &Read) -> Result<Reading, Failure> {
        let node_clock = &self.inner.node_clock;
        let lost = matches!(node_clock.state(), ClockState::Unsynced | ClockState::Suspect);
        let now_ns = (!lost).then(|| node_clock.reading().now_ns);
        Reading::resolve(&core.store, principal.viewer(), read, now_ns)
    }

    pub(super) async fn get(
        &self,
        principal: &Principal,
        get: &Get,
        deadline: Deadline,
    ) -> Result<Record, Failure> {
        let core = self.core()?;
        self.fresh(core, principal, get.stale, deadline).await?;
        reader::get(&core.store, &principal.viewer(), get)
    }

    /// Waits until this node's state holds everything that was acknowledged before now, and checks
    /// that the caller is registered.
    pub(super) async fn fresh(
        &self,
        core: &Core,
        principal: &Principal,
        stale: bool,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        if !stale {
            self.barrier(core, deadline).await?;
        }
        let view = core.store.snapshot().map_err(store_failure)?;
        answered(&view, query::admitted(&view, &principal.caller()))
    }

    pub(super) async fn barrier(&self, core: &Core, deadline: Deadline) -> Result<(), Failure> {
        let mut tries = self.tries(core, PATIENCE, deadline);
        loop {
            let tried = match tries.primary() {
                Ok(primary) => self.try_barrier(core, primary, deadline).await,
                Err(failure) => Err(failure),
            };
            match tried {
                Ok(barrier) => return reader::reach(&core.engine, barrier, deadline.left()).await,
                Err(failure) => {
                    tries.again_after(failure).await.map_err(|GaveUp { last, .. }| {
                        let message = format!("no primary that reaches a majority: {last}");
                        Failure::new(ErrorCode::NoQuorum, message)
                    })?
                }
            }
        }
    }

    async fn try_barrier(
        &self,
        core: &Core,
        primary: Primary,
        deadline: Deadline,
    ) -> Result<Barrier, Failure> {
        let primary = match primary {
            Primary::Here => {
                let barrier = tokio::time::timeout_at(deadline.at(), core.engine.barrier()).await;
                let late = |_| Failure::new(ErrorCode::NoQuorum, "no majority answered in time");
                return barrier.map_err(late)?.map_err(|error| barrier_failure(&error));
            }
            Primary::There(primary) => primary,
        };
        let op = PeerOp::Barrier(Empty {});
        let answer =
            ReadBarrier::decode(self.ask_while_primary(core, &primary, op, deadline).await?);
        let answer = answer.map_err(|error| Failure::new(ErrorCode::NotPrimary, error))?;
        match answer.failure {
            Some(failure) => Err(failure),
            None => Ok(Barrier { primary: answer.primary, term: answer.term, index: answer.index }),
        }
    }

    /// Gives a barrier to another node, if this one is the primary.
    pub(crate) async fn give_barrier(&self) -> ReadBarrier {
        let given = match self.core() {
            Ok(core) => core.engine.barrier().await.map_err(|error| barrier_failure(&error)),
            Err(failure) => Err(failure),
        };
        match given {
            Ok(Barrier { primary, term, index }) => {
                ReadBarrier { primary, term, index, failure: None }
            }
            Err(failure) => ReadBarrier { failure: Some(failure), ..ReadBarrier::default() },
        }
    }

    /// How long ago this node last heard from a primary that a majority followed, in milliseconds. One that
    /// leads no more may answer still, and its word says nothing of how old this state is.
    fn behind_ms(&self, core: &Core) -> u64 {
        let view = core.engine.view().borrow().clone();
        if view.is_primary() {
            return view.quorum_ack_ms().unwrap_or(u64::MAX);
        }
        let ago = self.inner.witness.led_ago();
        ago.map_or(u64::MAX, |ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) async fn clients(
        &self,
        principal: &Principal,
        deadline: Deadline,
    ) -> Result<Clients, Failure> {
        let core = self.core()?;
        self.fresh(core, principal, false, deadline).await?;
        let registered = {
            let view = core.store.snapshot().map_err(store_failure)?;
            answered(&view, query::clients(&view))?
        };
        let mut seen = Vec::new();
        let asked = self.peers().into_iter().map(|peer| async move {
            let sessions = self.sessions_of(&peer, deadline).await;
            (peer.name.to_string(), sessions.unwrap_or_default())
        });
        seen.extend(futures::future::join_all(asked).await);
        seen.push((self.inner.name.to_string(), self.inner.sessions.list()));
        let clients = registered.into_iter().map(|client| {
            let home =
                if client.home.is_empty() { self.derived_home(&client.name) } else { client.home };
            let mut row = ClientRow { name: client.name, home, ..ClientRow::default() };
            for (node, sessions) in &seen {
                let found = sessions.sessions.iter().find(|session| session.name == row.name);
                if let Some(session) = found {
                    merge(&mut row, node, session);
                }
            }
            row
        });
        Ok(Clients { clients: clients.collect() })
    }

    async fn sessions_of(&self, peer: &PeerAddr, deadline: Deadline) -> Option<Sessions> {
        // A node that is down is known to be: asking it would only cost time.
        self.inner
            .members
            .heard(peer.name.as_str())
            .filter(crate::peer_monitor::PeerStatus::is_up)?;
        let asked = self.ask_peer(peer, PeerOp::Sessions(Empty {}), deadline);
        let answer = tokio::time::timeout(SESSIONS_WITHIN, asked).await.ok()?.ok()?;
        Sessions::decode(answer).ok()
    }

    /// Drops what is deleted, expired or snapshotted from this node's disk.
    pub(super) async fn compact(&self, principal: &Principal) -> Result<(), Failure> {
        principal.require_admin("compact a node")?;
        let core = self.core()?;
        core.engine.purge().await.map_err(store_failure)?;
        let store = core.store.clone();
        let compacted = self.inner.blocking.run(move || store.compact()).await;
        let ended = |error| Failure::new(ErrorCode::Internal, format!("compaction: {error}"));
        compacted.map_err(ended)?.map_err(store_failure)
    }
}

/// The gateway seen last wins, and a connection anywhere is a connection.
fn merge(row: &mut ClientRow, node: &str, session: &Session) {
    let newer = session.last_seen_ns > row.last_seen_ns;
    if (session.connected && !row.connected) || (newer && session.connected == row.connected) {
        node.clone_into(&mut row.via);
    }
    row.connected |= session.connected;
    row.last_seen_ns = row.last_seen_ns.max(session.last_seen_ns);
}

/// A followed read.
pub(crate) struct Following<'n> {
    node: &'n Node,
    core: &'n Core,
    reading: Reading,
    progress: tokio::sync::watch::Receiver<crate::raft::Progress>,
    stale: bool,
    first: bool,
    /// The place that the reader knows of, and since when.
    told: (Vec<Position>, Instant),
}

impl Following<'_> {
    /// Whether a page without records says something: a reader for whom nothing comes would go on
    /// elsewhere from a place that may be gone by then.
    fn is_worth_telling(&self, page: &Page) -> bool {
        let (place, since) = &self.told;
        *place != page.next && since.elapsed() >= TELL_EVERY
    }

    /// The next page with something in it (the first comes even if empty, and one now and then that
    /// says how far it has come); `None` once nothing more can come.
    ///
    /// # Errors
    /// When the node stops or the state cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Option<Page>, Failure> {
        loop {
            if self.reading.is_done() {
                return Ok(None);
            }
            // Looked at before the page is read: what comes later wakes the wait below.
            self.progress.borrow_and_update();
            let past = self.reading.is_past(self.node.last_stamp());
            let mut page = self.reading.page(&self.core.store)?;
            let first = std::mem::take(&mut self.first);
            if first
                || !page.records.is_empty()
                || page.gap.is_some()
                || self.is_worth_telling(&page)
            {
                self.told = (page.next.clone(), Instant::now());
                page.behind_ms = if self.stale { self.node.behind_ms(self.core) } else { 0 };
                return Ok(Some(page));
            }
            if past && page.end {
                return Ok(None);
            }
            if !page.end {
                // A long way to the next match: others have their turn in between.
                tokio::task::yield_now().await;
                continue;
            }
            let (node, core) = (self.node, self.core);
            let closing = self.reading.closes_at().filter(|_| !self.stale);
            tokio::select! {
                changed = self.progress.changed() => changed.map_err(|_| {
                    Failure::new(ErrorCode::Stopping, "the node is stopping")
                })?,
                () = node.close_in_time(core, closing) => {}
            }
        }
    }
}
