//! The task that drives the policy.

use std::time::Duration;

use clock::ClockState;
use clock::HlcClock;
use clock::lead::{ClockFitness, Decision, Mint, OnLoss, Policy, Refusal, Situation};
use model::{Table, query};
use proto::event::ClockCause;
use proto::settings::OnLoss as OnLossSetting;
use proto::wire::Settings;
use proto::{Problem, ProblemCode};
use tokio::sync::watch;
use tokio::time::Instant;

use super::fence::FenceWatch;
use super::{LastDecision, Lead, Parts};
use crate::peer_monitor::PeerMonitor;
use crate::raft::{EngineState, Handle, Role};
use crate::store::Kept;

/// Between two looks at the situation.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A refusal of a voter counts this long: the engine tries again once a second.
const REFUSED_FOR: Duration = Duration::from_millis(2500);
/// A voter whose log is further behind than this many entries is no successor: it would have to
/// catch up first, and nobody could write meanwhile.
pub(crate) const CAUGHT_UP: u64 = 1024;
/// A disk whose syncs take this long is slow, if another's do not.
pub(crate) const SLOW: Duration = Duration::from_millis(250);
/// How many times faster another's disk must be.
pub(crate) const FASTER: u32 = 4;

/// A voter to which the primary role could go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its raft id.
    pub(crate) id: u64,
    /// Its name.
    pub(crate) name: String,
    /// Whether its clock is good enough, as it says.
    pub(crate) may_lead: bool,
    /// How many entries it is behind this primary; `None` if not known.
    pub(crate) behind: Option<u64>,
    /// How long a sync of its disk takes, as it says; zero where there was none lately.
    pub(crate) sync: Duration,
}

impl Candidate {
    /// Whether its disk is slow beside one whose sync takes that long.
    pub(crate) fn is_slow_beside(&self, own: Option<Duration>) -> bool {
        is_slow_beside(self.sync, own)
    }
}

/// Whether a disk is slow beside another one, in the same sense in which a primary gives the role away
/// for its disk.
pub(crate) fn is_slow_beside(sync: Duration, other: Option<Duration>) -> bool {
    sync >= SLOW && sync >= other.unwrap_or_default().saturating_mul(FASTER)
}

/// The other voters that are up, the best last: those whose clock is good enough, among them those
/// whose disk is not slow, and among them the one whose log is furthest.
pub(crate) fn candidates(engine: &Handle, members: &PeerMonitor) -> Vec<Candidate> {
    let view = engine.view();
    let view = view.borrow();
    let successors = engine.successors();
    let candidate = |successor: &crate::raft::Successor| {
        let name = view.members.get(&successor.id)?.name.clone();
        let heard = members.heard(&name).filter(|heard| heard.is_up())?;
        let sync = Duration::from_micros(heard.info.sync_us);
        let may_lead = heard.info.clock.is_some_and(|clock| clock.may_lead);
        Some(Candidate { id: successor.id, name, may_lead, behind: successor.behind, sync })
    };
    let mut candidates: Vec<_> = successors.iter().filter_map(candidate).collect();
    let fastest = candidates.iter().map(|candidate| candidate.sync).min();
    // Stable: the order by logs stays within each part.
    candidates.sort_by_key(|candidate| (candidate.may_lead, !candidate.is_slow_beside(fastest)));
    candidates
}

/// What the engine's view says, as far as decisions depend on it: everything else in it changes
/// with every entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    role: Role,
    term: u64,
    primary: Option<u64>,
    voters: Vec<u64>,
}

impl Place {
    fn of(view: &EngineState) -> Self {
        let EngineState { role, term, primary, ref voters, .. } = *view;
        Self { role, term, primary, voters: voters.clone() }
    }
}

/// What was done or said before, so that it is done and said once.
#[derive(Debug, Default)]
struct DoneBefore {
    elections: Option<bool>,
    heartbeats: Option<bool>,
    degraded: bool,
    /// Whether the present spell of being unfit was told of.
    handed_over: bool,
    /// To whom the role was last handed.
    tried: Option<u64>,
}

pub(super) struct Task {
    lead: Lead,
    parts: Parts,
    policy: Policy,
    fence: FenceWatch,
    started: Instant,
    /// The cluster's settings: read when they change, and not here, where heartbeats wait.
    settings: Kept<Option<Settings>>,
    on_loss: OnLoss,
    before: DoneBefore,
}

impl Task {
    pub(super) fn new(lead: Lead, parts: Parts, policy: Policy) -> Self {
        let on_loss = lead.last.borrow().on_loss;
        let (fence, started) = (FenceWatch::default(), Instant::now());
        let before = DoneBefore::default();
        let settings = Kept::new(Table::Settings);
        Self { lead, parts, policy, fence, started, settings, on_loss, before }
    }

    pub(super) async fn run(mut self) {
        let (mut view, mut states) = (self.parts.engine.view(), self.lead.node_clock.states());
        loop {
            let place = Place::of(&view.borrow_and_update());
            states.mark_unchanged();
            self.look().await;
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = moved(&mut view, &place) => {}
                () = changed(&mut states) => {}
            }
        }
    }

    /// One look at the situation, and what follows from it.
    async fn look(&mut self) {
        self.follow_settings();
        let view = self.parts.engine.view().borrow().clone();
        let others = view.voters.iter().filter(|id| **id != view.id);
        let others: Vec<_> =
            others.filter_map(|id| Some(view.members.get(id)?.name.clone())).collect();
        self.fence.look(&self.parts.members, &others, &self.lead.node_clock);
        let situation = self.situation(&view, &others).await;
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let decision = self.policy.decide(now_ms, &situation);
        self.act(&view, &situation, decision).await;
    }

    /// Follows the cluster's settings.
    fn follow_settings(&mut self) {
        let settings = match self.parts.store.kept(&self.settings, |view| query::settings(view)) {
            Ok(Some(settings)) => settings,
            Ok(None) => return,
            Err(error) => return tracing::error!(%error, "the settings cannot be read"),
        };
        let max_error_ns = settings.max_clock_error_us.saturating_mul(1000);
        if max_error_ns != self.lead.node_clock.max_error_ns() {
            tracing::info!(max_error_us = settings.max_clock_error_us, "the cluster's setting");
            self.lead.node_clock.set_max_error_ns(max_error_ns);
        }
        self.on_loss = match settings.on_loss() {
            OnLossSetting::Degrade => OnLoss::Degrade,
            OnLossSetting::Refuse => OnLoss::Refuse,
        };
    }

    async fn situation(&self, view: &EngineState, others: &[String]) -> Situation {
        let (parts, node_clock) = (&self.parts, &self.lead.node_clock);
        let max_error_ns = node_clock.max_error_ns();
        let (state, reading) = (node_clock.state(), node_clock.reading());
        let cap_ns = HlcClock::cap_ns(&reading, max_error_ns);
        let standing = ClockFitness {
            state,
            error_ns: reading.error_ns(),
            ahead_ns: node_clock.hlc().ahead_ns(cap_ns, parts.engine.last_stamp()),
            behind: node_clock.behind().is_some(),
        };
        let is_primary = view.is_primary();
        let refusals = parts.engine.refusals();
        if !is_primary {
            refusals.clear();
        }
        let refusing = refusals.within(REFUSED_FOR);
        let is_up = |id: &u64| {
            let name = view.members.get(id).map(|member| member.name.as_str());
            let heard = name.and_then(|name| parts.members.heard(name));
            heard.is_some_and(|heard| heard.is_up())
        };
        // Who is down stores nothing either: with it, one that refuses can be one too many.
        let takes = |id: &&u64| **id == view.id || is_up(id) && !refusing.contains_key(*id);
        let taking = view.voters.iter().filter(takes).count();
        let is_successor = |candidate: &Candidate| {
            candidate.may_lead
                && candidate.behind.is_some_and(|behind| behind <= CAUGHT_UP)
                && !refusing.contains_key(&candidate.id)
        };
        let may_lead = |name: &String| {
            let heard = parts.members.heard(name).filter(|heard| heard.is_up());
            heard.and_then(|heard| heard.info.clock).is_some_and(|clock| clock.may_lead)
        };
        let lease = Duration::from_millis(parts.election_max_ms);
        Situation {
            standing,
            is_primary,
            has_primary: parts.engine.hears_primary(lease).await,
            another_may_lead: others.iter().any(may_lead),
            successor: is_primary
                && candidates(&parts.engine, &parts.members).iter().any(is_successor),
            refused: is_primary && !refusing.is_empty() && taking * 2 <= view.voters.len(),
            max_error_ns,
            on_loss: self.on_loss,
        }
    }

    async fn act(&mut self, view: &EngineState, situation: &Situation, decision: Decision) {
        let engine = &self.parts.engine;
        engine.allow_elections(decision.elections);
        engine.allow_heartbeats(decision.heartbeats);
        self.lead
            .node_clock
            .allow_unsynced(situation.is_primary && decision.mint == Mint::Unbounded);
        self.say(view, situation, decision);
        let said = LastDecision {
            decision: Some(decision),
            primary: situation.is_primary,
            on_loss: self.on_loss,
            problems: self.problems(view, situation, &decision),
        };
        self.lead.last.send_if_modified(|last| {
            let news = *last != said;
            *last = said;
            news
        });
        if decision.hand_over {
            self.hand_over(situation).await;
        }
    }

    /// Asks the best successor to take over; another one than last time if there is one.
    async fn hand_over(&mut self, situation: &Situation) {
        let engine = &self.parts.engine;
        let refusing = engine.refusals().within(REFUSED_FOR);
        let mut candidates = candidates(engine, &self.parts.members);
        candidates.retain(|candidate| candidate.may_lead && !refusing.contains_key(&candidate.id));
        let tried = self.before.tried;
        let other = candidates.iter().rfind(|candidate| Some(candidate.id) != tried);
        let Some(to) = other.or_else(|| candidates.last()) else { return };
        let why = standing_text(&situation.standing);
        tracing::warn!(to = to.name, clock = why, "handing the primary role over");
        if !std::mem::replace(&mut self.before.handed_over, true) {
            let text = format!("hands the primary role over to {}: its clock is {why}", to.name);
            self.lead.node_clock.note(ClockCause::Policy, text);
        }
        self.before.tried = Some(to.id);
        if let Err(error) = engine.transfer(to.id).await {
            tracing::warn!(%error, "the role could not be handed over");
        }
    }

    /// Logs what has changed, and writes what matters into the log's history.
    fn say(&mut self, view: &EngineState, situation: &Situation, decision: Decision) {
        let why = standing_text(&situation.standing);
        if self.before.elections.replace(decision.elections) != Some(decision.elections) {
            let elections = decision.elections;
            tracing::info!(elections, clock = why, term = view.term, "standing for election");
        }
        if self.before.heartbeats.replace(decision.heartbeats).unwrap_or(true)
            != decision.heartbeats
        {
            let text = match decision.heartbeats {
                true => "sends heartbeats again",
                false => "sends no heartbeats: the other nodes refuse this primary",
            };
            tracing::warn!(term = view.term, "{text}");
        }
        let fit = matches!(decision.mint, Mint::Allowed) && !decision.degraded;
        if fit || !situation.is_primary {
            self.before.handed_over = false;
        }
        if decision.degraded == std::mem::replace(&mut self.before.degraded, decision.degraded) {
            return;
        }
        let text = if decision.degraded {
            degraded_text(situation, &decision)
        } else if situation.is_primary {
            format!("leads with a good clock again: {why}")
        } else {
            "no longer leads with a clock that is not good enough".to_owned()
        };
        tracing::warn!("{text}");
        self.lead.node_clock.note(ClockCause::Policy, text);
    }

    fn problems(
        &self,
        view: &EngineState,
        situation: &Situation,
        decision: &Decision,
    ) -> Vec<Problem> {
        let mut problems: Vec<_> = self.fence.problem().into_iter().collect();
        let refusing = self.parts.engine.refusals().within(REFUSED_FOR);
        if let Some(worst) = refusing.values().max_by_key(|refusal| refusal.by_ns()) {
            let name = |id| view.members.get(id).map_or("?", |member| member.name.as_str());
            let names: Vec<_> = refusing.keys().map(name).collect();
            let ms = worst.by_ns().div_ceil(1_000_000);
            let names = names.join(", ");
            let detail = format!("{names} refuse its stamps, {ms} ms too far ahead");
            problems.push(Problem::new(ProblemCode::BadClock).about("stamps").detail(detail));
        }
        if decision.degraded {
            let why = degraded_text(situation, decision);
            problems.push(Problem::new(ProblemCode::ClockDegraded).detail(why));
        } else if !decision.may_lead
            && let Some(why) = cannot_lead(&situation.standing)
        {
            problems.push(Problem::new(ProblemCode::CannotLead).detail(why));
        }
        problems
    }
}

/// Why a node is no choice as primary, where its state alone does not say it.
fn cannot_lead(standing: &ClockFitness) -> Option<String> {
    if standing.behind {
        // That is a problem of its own, which says how far.
        return None;
    }
    let text = match standing.state {
        ClockState::Unsynced => "no time server has been believed since its start",
        _ if standing.ahead_ns > 0 => {
            let ms = standing.ahead_ns.div_ceil(1_000_000);
            return Some(format!("its next stamp would lie {ms} ms beyond what the others take"));
        }
        ClockState::Synced | ClockState::Holdover | ClockState::Disagree | ClockState::Expired => {
            "the error bound of its clock is too large"
        }
        ClockState::Suspect | ClockState::Local => return None,
    };
    Some(text.to_owned())
}

fn degraded_text(situation: &Situation, decision: &Decision) -> String {
    let clock = standing_text(&situation.standing);
    let limit = ms_text(situation.max_error_ns);
    match decision.mint {
        Mint::Refused(Refusal::InFuture) => "the other nodes refuse its stamps, and nobody takes \
             the primary role over"
            .to_owned(),
        Mint::Refused(Refusal::Behind) => {
            "the primary's clock is behind its own ceiling, and no voter's is better: writes are \
             refused"
                .to_owned()
        }
        Mint::Refused(_) => {
            format!(
                "the primary's clock is {clock} (limit {limit}) and no voter's is good enough: \
                 writes are refused"
            )
        }
        Mint::Allowed | Mint::Unbounded => {
            format!(
                "the primary's clock is {clock} (limit {limit}) and no voter's is good enough: \
                 writes go on with the bounds it has"
            )
        }
    }
}

/// `holdover, ±120.500 ms`.
fn standing_text(standing: &ClockFitness) -> String {
    match standing.error_ns {
        Some(error_ns) => format!("{}, ±{}", standing.state, ms_text(error_ns)),
        None => format!("{}, without bounds", standing.state),
    }
}

fn ms_text(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1000 % 1000)
}

/// Completes when the engine's view has moved to another place.
async fn moved(view: &mut watch::Receiver<EngineState>, from: &Place) {
    if view.wait_for(|view| Place::of(view) != *from).await.is_err() {
        std::future::pending().await
    }
}

async fn changed(states: &mut watch::Receiver<ClockState>) {
    if states.changed().await.is_err() {
        std::future::pending().await
    }
}
