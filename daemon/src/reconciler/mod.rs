//! The reconciler: on the primary, and nowhere else, brings the engine in line with what the replicated
//! table of members says, notes what is noticed of the other nodes, and gives the primary role to
//! whom it belongs.
//!
//! Whatever it does is one step, thought out anew at every look from what holds then. So nothing has
//! to be remembered: a primary that dies in the middle of a change leaves a membership that its
//! successor looks at, and goes on from there.
//!
//! Invariants:
//! * at most one step is in progress;
//! * nothing here holds up the engine: it has a task of its own, and waits for nobody's disk;
//! * what fails is said once and tried again.
//!
//! Not here: what is a step (`plan`), when the role moves (`prefer`), what is noticed (`notice`), what
//! a change of members means (`model::members`).

mod failure_detector;
mod own_membership;
mod plan;
mod prefer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use model::query;
use proto::admin::Admins;
use proto::member::{
    BindKey, Lead as LeadChange, MemberChange, MemberOp, MemberRow, MemberState, Members as Rows,
    RepairedNode,
};
use proto::{ErrorCode, Failure, Name};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::lead::{self, Lead};
use crate::pause;
use crate::peer_monitor::PeerMonitor;
use crate::raft::{ChangeError, EngineState, Handle};
use crate::store::{Store, StoreError};
use crate::tasks::Tasks;
use crate::time::NodeClock;
use crate::trust::Trust;

pub use self::own_membership::OwnMembership;
pub(crate) use self::own_membership::{follow as follow_standing, is_first_store};
pub(crate) use self::plan::missing;

use self::failure_detector::{FailureDetector, Observed};
use self::plan::{Health, Situation, Step};
use self::prefer::{Candidate, Moment, Preference};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for a majority to take a change of the table.
const NOTED_WITHIN: Duration = Duration::from_secs(3);
/// Longest wait for a majority to take a change of the membership, before it is thought over.
const CHANGED_WITHIN: Duration = Duration::from_secs(10);
/// How long a node whose disk was slow is not preferred.
const SLOW_FOR: Duration = Duration::from_secs(60);
/// Longest wait for a successor to take the primary role over, before another is asked.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);

/// Before keys are noted again that could not be.
const BIND_AGAIN: Duration = Duration::from_secs(10);

/// The node, as far as the reconciler needs it: whether it is to act, and what has its steps ordered.
pub trait Orders: Send + Sync + 'static {
    /// The node's name.
    fn name(&self) -> &Name;

    /// Whether a majority would store what this node orders as primary; true on a backup.
    fn is_followed(&self, view: &EngineState) -> bool;

    /// Whether the node is handing over and stopping.
    fn is_leaving(&self) -> bool;

    /// Whether any administrator is entered.
    fn has_admins(&self) -> bool;

    /// Orders a change of the table on this primary, and waits until it is applied: for `within` at
    /// most.
    ///
    /// # Errors
    /// Why it was not done, or that nobody can say.
    fn order_member(
        &self,
        change: MemberChange,
        within: Duration,
    ) -> BoxFuture<'_, Result<(), Failure>>;

    /// Enters the first administrators. Where there are some nothing changes.
    ///
    /// # Errors
    /// As [`Orders::order_member`].
    fn order_first_admins(
        &self,
        first: Admins,
        within: Duration,
    ) -> BoxFuture<'_, Result<(), Failure>>;
}

/// What the reconciler works with.
pub struct Parts {
    /// The node, for what it orders.
    pub node: Arc<dyn Orders>,
    /// The engine.
    pub engine: Handle,
    /// How the other nodes are.
    pub members: PeerMonitor,
    /// Whether this node may lead.
    pub lead: Lead,
    /// The state, which holds the table.
    pub store: Store,
    /// The clock.
    pub node_clock: NodeClock,
    /// Draws the ids of what is ordered.
    pub chance: Chance,
    /// What is known of keys.
    pub(crate) trust: Arc<Trust>,
}

/// Starts the reconciler.
pub fn start(parts: Parts, tasks: &Tasks) {
    tasks.keep_until_stop("reconciler", run(parts));
}

async fn run(parts: Parts) {
    let mut view = parts.engine.view();
    loop {
        let term = match view.wait_for(EngineState::is_primary).await {
            Ok(now) => now.term,
            Err(_) => return,
        };
        Term::new(&parts, term).serve().await;
    }
}

/// What a step came to.
type Done = Result<(), ChangeError>;

/// One term as primary.
struct Term<'a> {
    parts: &'a Parts,
    term: u64,
    began: Instant,
    /// Whether the log says that this node leads.
    led: bool,
    noticing: FailureDetector,
    preference: Preference,
    /// The step in progress.
    running: Option<(Step, JoinHandle<Done>)>,
    /// When the disks of the others were last seen slow beside this node's, by raft id.
    slow: BTreeMap<u64, Instant>,
    /// What failed last, so that it is said once.
    failed: Option<String>,
    /// When keys may be noted again that could not be.
    binds_at: Instant,
}

impl Drop for Term<'_> {
    fn drop(&mut self) {
        if let Some((_, running)) = &self.running {
            running.abort();
        }
    }
}

impl<'a> Term<'a> {
    fn new(parts: &'a Parts, term: u64) -> Self {
        let (noticing, preference) = (FailureDetector::default(), Preference::default());
        let began = Instant::now();
        let slow = BTreeMap::new();
        let (led, running, failed, binds_at) = (false, None, None, began);
        Self { parts, term, began, led, noticing, preference, running, slow, failed, binds_at }
    }

    /// Looks again and again until the term is over.
    async fn serve(mut self) {
        let mut changes = self.parts.engine.view();
        loop {
            let view = changes.borrow_and_update().clone();
            if !view.is_primary() || view.term != self.term {
                return;
            }
            if self.parts.node.is_followed(&view) && !self.parts.node.is_leaving() {
                self.look(&view).await;
            }
            let over = changes.wait_for(|view| !view.is_primary() || view.term != self.term);
            // What ends it early is the end of the term, or of the engine.
            drop(tokio::time::timeout(LOOK_EVERY, over).await);
        }
    }

    async fn look(&mut self, view: &EngineState) {
        let rows = match rows(&self.parts.store) {
            Ok(rows) => rows.members,
            Err(error) => return self.say("the table of members cannot be read", &error),
        };
        if !self.led {
            return self.begin(view, &rows).await;
        }
        self.bind(&rows).await;
        self.notice(&rows).await;
        self.end_repairs(view, &rows).await;
        self.finish().await;
        let step = self.next(view, &rows);
        if let Some(step) = step.filter(|_| self.running.is_none()) {
            self.take(view, step).await;
        }
    }

    /// Enters the members that the table does not know, then says who leads. Once that is applied,
    /// so is everything that came before it: from then on the table is the one to go by.
    async fn begin(&mut self, view: &EngineState, rows: &[MemberRow]) {
        if let Some(missing) = missing(view, rows)
            && !self.order(MemberOp::Init(self.with_keys(missing))).await
        {
            return;
        }
        if !self.enter_admins().await {
            return;
        }
        self.led = self.order(MemberOp::Lead(LeadChange { term: self.term })).await;
    }

    /// Rows with the keys that this node knows.
    fn with_keys(&self, mut rows: Rows) -> Rows {
        for row in &mut rows.members {
            let key = self.parts.trust.proven(row.raft_id);
            row.fingerprint = key.map(Vec::from).unwrap_or_default();
        }
        rows
    }

    /// Enters the administrators of the seed, where nobody is entered yet.
    async fn enter_admins(&mut self) -> bool {
        let admins = self.parts.trust.seed_admins();
        if admins.is_empty() || self.parts.node.has_admins() {
            return true;
        }
        match self.parts.node.order_first_admins(Admins { admins }, NOTED_WITHIN).await {
            Ok(()) => true,
            Err(failure) => {
                self.say_failure(&failure);
                false
            }
        }
    }

    /// Notes the keys of members that have none in the table: first members of an earlier release.
    async fn bind(&mut self, rows: &[MemberRow]) {
        if Instant::now() < self.binds_at {
            return;
        }
        let bare =
            |row: &&MemberRow| row.fingerprint.is_empty() && row.noticed() != MemberState::Removed;
        for row in rows.iter().filter(bare) {
            let Some(key) = self.parts.trust.proven(row.raft_id) else { continue };
            let (name, raft_id, fingerprint) = (row.name.clone(), row.raft_id, key.to_vec());
            if !self.order(MemberOp::Bind(BindKey { name, raft_id, fingerprint })).await {
                self.binds_at = Instant::now() + BIND_AGAIN;
                return;
            }
        }
    }

    async fn notice(&mut self, rows: &[MemberRow]) {
        let looked = Observed {
            name: self.parts.node.name().as_str(),
            starts: self.parts.store.starts(),
            nonce: &self.parts.store.identity().nonce,
            rows,
            members: &self.parts.members,
            leading_for: self.began.elapsed(),
        };
        for notice in self.noticing.transitions(&looked) {
            if !self.order(MemberOp::Notice(notice)).await {
                return;
            }
        }
    }

    /// Notes of nodes that were taken back that they are what they were: they vote again, or follow, if
    /// that is all that they are meant to do.
    async fn end_repairs(&mut self, view: &EngineState, rows: &[MemberRow]) {
        let behind = self.parts.engine.behind();
        for row in rows.iter().filter(|row| plan::is_repaired(view, row, &behind)) {
            let (name, raft_id) = (row.name.clone(), row.raft_id);
            self.order(MemberOp::Repaired(RepairedNode { name, raft_id })).await;
        }
    }

    /// Looks what became of the step in progress.
    async fn finish(&mut self) {
        let Some((step, running)) = self.running.take_if(|(_, running)| running.is_finished())
        else {
            return;
        };
        match running.await {
            Ok(Ok(())) => {
                self.failed = None;
                tracing::info!(%step, term = self.term, "a step of the membership is done");
            }
            Ok(Err(error)) => self.say(&step.to_string(), &error),
            Err(error) => self.say(&step.to_string(), &error),
        }
    }

    /// The next step: what the table asks for first, then what is preferred.
    fn next(&mut self, view: &EngineState, rows: &[MemberRow]) -> Option<Step> {
        self.note_slow(view);
        let health = self.health(view);
        let now_ns = self.parts.node_clock.reading().now_ns.max(self.parts.engine.last_stamp().ns);
        let candidates = Candidate::all(view, rows, &health, now_ns);
        let own = rows.iter().find(|row| row.raft_id == view.id);
        // A role that is given away for a bad clock goes where that task says.
        let own = own.filter(|_| !self.parts.lead.hands_over());
        let moment = Moment { at: self.began.elapsed(), own, now_ns, candidates: &candidates };
        let preferred = self.preference.decide(&moment);
        let situation = Situation { view, rows, health: &health, candidates: &candidates };
        plan::next(&situation).or_else(|| preferred.map(Step::HandOver))
    }

    /// Notes whose disk is slow. It is not preferred for a while after that: a role that goes back to
    /// it at once would come back at once.
    fn note_slow(&mut self, view: &EngineState) {
        let own = self.parts.store.writer().ok().and_then(|writer| writer.sync_time());
        for (id, member) in view.members.iter().filter(|(id, _)| **id != view.id) {
            let heard = self.parts.members.heard(&member.name);
            let sync = heard.map_or(0, |heard| heard.info.sync_us);
            if lead::is_slow_beside(Duration::from_micros(sync), own) {
                self.slow.insert(*id, Instant::now());
            }
        }
        self.slow.retain(|_, seen| seen.elapsed() < SLOW_FOR);
    }

    /// How the others are, by raft id.
    fn health(&self, view: &EngineState) -> BTreeMap<u64, Health> {
        let behind = self.parts.engine.behind();
        let health = |(id, member): (&u64, &crate::raft::Member)| {
            let heard = self.parts.members.heard(&member.name).filter(|heard| heard.is_up())?;
            let may_lead = heard.info.clock.is_some_and(|clock| clock.may_lead);
            let behind = behind.get(id).copied().flatten();
            let slow = self.slow.contains_key(id);
            Some((*id, Health { may_lead, behind, slow }))
        };
        view.members.iter().filter(|(id, _)| **id != view.id).filter_map(health).collect()
    }

    async fn take(&mut self, view: &EngineState, step: Step) {
        match &step {
            Step::Init(rows) => {
                let rows = Rows { members: rows.clone(), ..Rows::default() };
                self.order(MemberOp::Init(self.with_keys(rows))).await;
            }
            Step::Change(change) => {
                let (engine, seen, change) =
                    (self.parts.engine.clone(), view.clone(), change.clone());
                tracing::info!(%step, term = self.term, "changing the members");
                let changing = async move { engine.change(&seen, change, CHANGED_WITHIN).await };
                self.running = Some((step, pause::spawn(changing)));
            }
            Step::HandOver(to) => {
                let engine = self.parts.engine.clone();
                self.preference.handed_over(self.began.elapsed());
                tracing::info!(%step, term = self.term, "handing the primary role over");
                let handing = hand_over(engine, *to);
                self.running = Some((step, pause::spawn(handing)));
            }
        }
    }

    /// Orders a change of the table; says whether it was done.
    async fn order(&mut self, op: MemberOp) -> bool {
        let change = MemberChange { op: Some(op), id: self.parts.chance.id().to_string() };
        match self.parts.node.order_member(change, NOTED_WITHIN).await {
            Ok(()) => true,
            Err(failure) => {
                self.say_failure(&failure);
                false
            }
        }
    }

    /// A role that is lost or not quite there yet is no news.
    fn say_failure(&mut self, failure: &Failure) {
        if !matches!(failure.error_code(), ErrorCode::NotPrimary | ErrorCode::NoQuorum) {
            self.say("a change of the table", failure);
        }
    }

    /// Says what failed, once.
    fn say(&mut self, what: &str, error: &dyn std::fmt::Display) {
        let text = format!("{what}: {error}");
        if self.failed.as_ref() != Some(&text) {
            tracing::warn!(term = self.term, "{text}; it is tried again");
            self.failed = Some(text);
        }
    }
}

/// The table of members as this node's state has it.
///
/// # Errors
/// When the state cannot be read.
pub(crate) fn rows(store: &Store) -> Result<Rows, StoreError> {
    let view = store.snapshot()?;
    view.judged(query::members(&view))
}

/// Asks a voter to take the role over, and waits until another one leads.
async fn hand_over(engine: Handle, to: u64) -> Done {
    let stopped = |error: StoreError| ChangeError::Stopped(error.to_string());
    engine.transfer(to).await.map_err(stopped)?;
    let mut view = engine.view();
    let taken = view.wait_for(|view| !view.is_primary());
    match tokio::time::timeout(HAND_OVER_WITHIN, taken).await {
        Ok(_) => Ok(()),
        Err(_) => Err(ChangeError::Late(HAND_OVER_WITHIN)),
    }
}
