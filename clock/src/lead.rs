//! Who may lead with which clock, and what a primary does that may not.
//!
//! A state machine without a clock: the daemon describes the [`Situation`] a few times a second and
//! does what the [`Decision`] says. Safety never hangs on it. A wrong clock that leads costs good
//! bounds; the order of the log does not come from here.
//!
//! ```text
//!              error <= 80 %        <= 100 %              more, suspect, unsynced
//! backup       stands for election  does not              does not
//! primary      mints                mints                 hands over; nobody there: `OnLoss`
//! ```
//!
//! Invariants:
//! * a limit that was passed counts as passed until the error is well below it or has stayed
//!   within it for [`SETTLE_MS`]: no flapping;
//! * somebody may stand for election in the end, whatever the clocks say, for the sake of readers:
//!   after three election timeouts without a primary and without a better candidate, after ten with
//!   one. The better one may lack what is committed; it gets that from whoever is elected, and then
//!   the role. Only a clock that never was synchronised stays out, unless `unsynced_start` lets it in;
//! * heartbeats are never off for longer than [`SILENCE_ELECTIONS`] election timeouts running;
//! * a clock that is behind its own ceiling mints nothing, whatever is preferred on loss: its node
//!   stands for election only as the last resort, and hands over to any successor;
//! * a node whose stamps a quorum refuses does not stand for election for [`BARRED_MS`]: its longer
//!   log could win.
//!
//! Not here: how votes and heartbeats are switched off (`daemon::raft`), when peers count as heard
//! (`daemon`).

use std::fmt;
use std::str::FromStr;

use crate::state::ClockState;

/// Error with which a node may stand for election, in percent of the limit for a primary.
pub const CAMPAIGN_PERCENT: u64 = 80;
/// How far ahead of what backups accept the next stamp of a candidate may lie, nanoseconds: less
/// passes before an election is over, or is what the log has not applied yet.
pub const AHEAD_MAX_NS: u64 = 1_000_000_000;
/// A limit that was passed is kept again at once when the error falls to this share of it, in
/// percent.
pub const REGAIN_PERCENT: u64 = 80;
/// A limit that was passed is kept again when the error has stayed within it this long,
/// milliseconds.
pub const SETTLE_MS: u64 = 10_000;
/// How often a primary that should not lead tries to hand over, milliseconds.
pub const HAND_OVER_MS: u64 = 1000;
/// How many tries it takes until a successor that does not take over is none.
const TRIES: u64 = 3;
/// How many election timeouts without a primary or a better candidate let any clock stand.
pub const LAST_RESORT_ELECTIONS: u64 = 3;
/// How many election timeouts without a primary let any clock stand, whoever else may: those others
/// cannot win, because their logs lack what is committed.
pub const HOPELESS_ELECTIONS: u64 = 10;
/// How many election timeouts long a refused primary that could not hand over is silent.
pub const SILENCE_ELECTIONS: u64 = 5;
/// How long a primary that a quorum refused stays out of elections, milliseconds.
pub const BARRED_MS: u64 = 10_000;

/// What a primary does when no voter's clock is good enough to lead. A replicated setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnLoss {
    /// Go on writing: the order stays exact, bounds are wide or unknown.
    #[default]
    Degrade,
    /// Lead for reads only, and refuse writes until a clock is good again.
    Refuse,
}

/// What a node does whose clock never was synchronised since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UnsyncedStart {
    /// It does not lead.
    #[default]
    Wait,
    /// It may lead, with unknown bounds, once this many milliseconds have passed and nobody
    /// better is there.
    AllowAfterMs(u64),
}

/// A text that is neither `degrade` nor `refuse`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither 'degrade' nor 'refuse'")]
pub struct OnLossError(String);

/// A text that is no choice for an unsynchronised start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither 'wait' nor like 'allow-after:30s' (units s, m, ms)")]
pub struct UnsyncedStartError(String);

/// A node's clock, as far as leading is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockFitness {
    /// Its state, the peers' verdict included.
    pub state: ClockState,
    /// Its error bound, nanoseconds; `None` if not known.
    pub error_ns: Option<u64>,
    /// How far its next stamp would lie beyond what an honest backup accepts, nanoseconds; 0 if it
    /// does not. See [`crate::HlcClock::ahead_ns`].
    pub ahead_ns: u64,
    /// Whether it is behind its own ceiling, so that no stamp can be minted for long. See
    /// [`crate::TickError::Behind`].
    pub behind: bool,
}

/// Everything that a decision depends on, besides the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// This node's clock.
    pub standing: ClockFitness,
    /// Whether this node is the primary.
    pub is_primary: bool,
    /// Whether there is a primary that this node hears, or is.
    pub has_primary: bool,
    /// Whether another voter is heard and says that it may lead.
    pub another_may_lead: bool,
    /// Whether such a voter also holds all of the log, so that it can be handed over to.
    pub successor: bool,
    /// As primary: whether so many voters refuse its entries for stamps in the future that no
    /// quorum can store them.
    pub refused: bool,
    /// Limit of the error bound for a primary, nanoseconds.
    pub max_error_ns: u64,
    /// What to do if nobody qualifies.
    pub on_loss: OnLoss,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the engine may stand for election.
    pub elections: bool,
    /// Whether the engine, as primary, may send heartbeats.
    pub heartbeats: bool,
    /// Whether to ask the engine now to hand over to a successor. Said once a second at most.
    pub hand_over: bool,
    /// Whether stamps may be minted, as primary.
    pub mint: Mint,
    /// Whether this node is a primary that should not be one, and nobody takes over: what status
    /// calls `CLOCK_DEGRADED`, and an event when it changes.
    pub degraded: bool,
    /// What this node tells the others: whether it is a good choice as primary.
    pub may_lead: bool,
    /// Whether ballots of candidates whose clock is disjoint from this node's stay unanswered.
    pub shun_disjoint: bool,
}

/// Whether a primary may mint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mint {
    /// Yes, with the bounds of the reading.
    Allowed,
    /// Yes; the bounds are not known.
    Unbounded,
    /// No.
    Refused(Refusal),
}

/// Why a primary does not mint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Another node takes over: try again in a moment.
    #[error("this node's clock is not good enough, so it hands the role over")]
    HandingOver,
    /// `on_loss = "refuse"`.
    #[error("no voter's clock is good enough, and on_loss is 'refuse'")]
    NoClock,
    /// No time server has been believed yet, and `unsynced_start` does not allow to go without.
    #[error("the clock is not synchronised yet")]
    Unsynced,
    /// This node's clock is behind its own ceiling, and nobody takes over.
    #[error("the primary's clock is behind its own ceiling: no stamp can be minted")]
    Behind,
    /// The voters take its stamps for stamps from the future.
    #[error("the other nodes refuse this node's stamps, which lie in the future for them")]
    InFuture,
}

/// Whether a node with such a clock may stand for election.
#[must_use]
pub fn may_campaign(standing: &ClockFitness, max_error_ns: u64) -> bool {
    !standing.behind
        && (standing.state == ClockState::Local
            || standing.ahead_ns <= AHEAD_MAX_NS
                && within(standing, share_ns(max_error_ns, CAMPAIGN_PERCENT)))
}

/// Whether a primary with such a clock may stay primary.
#[must_use]
pub fn may_stay(standing: &ClockFitness, max_error_ns: u64) -> bool {
    standing.state == ClockState::Local || within(standing, max_error_ns)
}

/// Whether the error bound is claimed, known and not larger than a limit. `Expired` is left to
/// the comparison: the limit may have been raised since.
fn within(standing: &ClockFitness, limit_ns: u64) -> bool {
    let claimed = standing.state.is_trusted() || standing.state == ClockState::Expired;
    claimed && standing.error_ns.is_some_and(|error_ns| error_ns <= limit_ns)
}

fn share_ns(of_ns: u64, percent: u64) -> u64 {
    assert!(percent <= 100, "a share of {percent} %");
    u64::try_from(u128::from(of_ns) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// A limit of the error that is hard to regain once it was passed.
#[derive(Debug, Clone, Copy, Default)]
struct Limit {
    kept: bool,
    /// Whether it was kept once, and passed since.
    lost: bool,
    within_since_ms: Option<u64>,
}

impl Limit {
    /// `within`: the limit holds by itself; `well_within`: by far.
    fn update(&mut self, now_ms: u64, within: bool, well_within: bool) -> bool {
        if !within {
            self.lost |= self.kept;
            self.kept = false;
            self.within_since_ms = None;
            return false;
        }
        let since_ms = *self.within_since_ms.get_or_insert(now_ms);
        let settled = now_ms.saturating_sub(since_ms) >= SETTLE_MS;
        if !self.lost || well_within || settled {
            self.kept = true;
            self.lost = false;
        }
        assert!(!(self.kept && self.lost), "a limit is kept or lost");
        self.kept
    }
}

/// Follows one node's clock and role. Times are milliseconds of any clock that does not go back.
#[derive(Debug, Clone)]
pub struct Policy {
    started_ms: u64,
    election_max_ms: u64,
    unsynced_start: UnsyncedStart,
    campaign: Limit,
    stay: Limit,
    /// Since when there was neither a primary nor a better candidate, and no primary at all.
    forlorn_since_ms: Option<u64>,
    leaderless_since_ms: Option<u64>,
    /// Whether this node stands only for what its log holds: another one is to lead.
    for_another: bool,
    next_hand_over_ms: u64,
    /// Since when this node has been a primary that should not be one.
    leaves_since_ms: Option<u64>,
    /// Whether nobody took over while it has been one.
    degraded: bool,
    refused_since_ms: Option<u64>,
    silent_until_ms: Option<u64>,
    /// After a silence, until when there is none.
    heard_until_ms: u64,
    barred_until_ms: u64,
}

impl Policy {
    /// A node that starts at `now_ms`; `election_max_ms` is the longest election timeout.
    #[must_use]
    pub fn new(now_ms: u64, election_max_ms: u64, unsynced_start: UnsyncedStart) -> Self {
        Self {
            started_ms: now_ms,
            election_max_ms,
            unsynced_start,
            campaign: Limit::default(),
            stay: Limit::default(),
            forlorn_since_ms: None,
            leaderless_since_ms: None,
            for_another: false,
            next_hand_over_ms: 0,
            leaves_since_ms: None,
            degraded: false,
            refused_since_ms: None,
            silent_until_ms: None,
            heard_until_ms: 0,
            barred_until_ms: 0,
        }
    }

    /// What to do at `now_ms`. To be asked several times per election timeout, and when the
    /// situation changes.
    pub fn decide(&mut self, now_ms: u64, situation: &Situation) -> Decision {
        let kept = self.limits(now_ms, situation);
        self.watch_primary(now_ms, situation);
        let decision = if situation.is_primary {
            self.as_primary(now_ms, situation, kept)
        } else {
            self.as_backup(now_ms, situation, kept)
        };
        let Decision { hand_over, heartbeats, degraded, .. } = decision;
        assert!(!hand_over || heartbeats, "whoever is silent hands nothing over");
        assert!(situation.is_primary || !(hand_over || degraded), "a primary's matters alone");
        decision
    }

    fn limits(&mut self, now_ms: u64, situation: &Situation) -> Kept {
        let Situation { standing, max_error_ns, .. } = situation;
        // Stamps that lie ahead are no matter of the error, and need no time to settle.
        let error = ClockFitness { ahead_ns: 0, behind: false, ..*standing };
        let well_ns = share_ns(*max_error_ns, REGAIN_PERCENT);
        let campaign = self.campaign.update(
            now_ms,
            may_campaign(&error, *max_error_ns),
            may_campaign(&error, well_ns),
        );
        let stay =
            self.stay.update(now_ms, may_stay(&error, *max_error_ns), may_stay(&error, well_ns));
        assert!(!campaign || stay, "whoever may stand for election may stay primary");
        Kept { campaign: campaign && may_campaign(standing, *max_error_ns), stay }
    }

    fn watch_primary(&mut self, now_ms: u64, situation: &Situation) {
        let since = |old: Option<u64>, lasts: bool| lasts.then(|| old.unwrap_or(now_ms));
        let leaderless = !situation.has_primary && !situation.is_primary;
        self.leaderless_since_ms = since(self.leaderless_since_ms, leaderless);
        let forlorn = leaderless && !situation.another_may_lead;
        self.forlorn_since_ms = since(self.forlorn_since_ms, forlorn);
    }

    fn as_backup(&mut self, now_ms: u64, situation: &Situation, kept: Kept) -> Decision {
        self.leaves_since_ms = None;
        self.degraded = false;
        self.refused_since_ms = None;
        self.silent_until_ms = None;
        self.heard_until_ms = 0;
        let barred = now_ms < self.barred_until_ms;
        let hopeless = self.lasted(now_ms, self.leaderless_since_ms, HOPELESS_ELECTIONS);
        let forlorn = self.lasted(now_ms, self.forlorn_since_ms, LAST_RESORT_ELECTIONS);
        let last_resort = (hopeless || forlorn) && self.may_start(now_ms, situation);
        self.for_another = situation.another_may_lead && !kept.campaign;
        Decision {
            elections: !barred && (kept.campaign || last_resort),
            heartbeats: true,
            hand_over: false,
            mint: mint_with(&situation.standing),
            degraded: false,
            may_lead: kept.campaign && !barred,
            shun_disjoint: self.shuns(now_ms, situation),
        }
    }

    fn as_primary(&mut self, now_ms: u64, situation: &Situation, kept: Kept) -> Decision {
        let silent = self.is_silent(now_ms, situation);
        // Refused for longer than a moment. A stamp that is a little too early is soon accepted.
        let refused =
            self.silent_until_ms.is_some() || self.refused_ms(now_ms) >= self.election_max_ms();
        if refused {
            self.barred_until_ms = now_ms.saturating_add(BARRED_MS);
        }
        let barred = now_ms < self.barred_until_ms;
        let fit = kept.stay && !refused && !situation.standing.behind;
        self.for_another &= !fit;
        let leaves = !fit || situation.refused;
        let leaves_ms = self.leaves_ms(now_ms, leaves);
        // A successor that does not take over in a few tries is none.
        let handed_over_to = !silent && situation.successor && leaves_ms < TRIES * HAND_OVER_MS;
        self.degraded = !fit && (self.degraded || !handed_over_to);
        let hand_over =
            leaves && !silent && situation.successor && now_ms >= self.next_hand_over_ms;
        if hand_over {
            self.next_hand_over_ms = now_ms.saturating_add(HAND_OVER_MS);
        }
        Decision {
            elections: kept.campaign && !barred,
            heartbeats: !silent,
            hand_over,
            mint: self.mint(now_ms, situation, fit),
            degraded: self.degraded,
            may_lead: kept.campaign && !barred,
            shun_disjoint: self.shuns(now_ms, situation),
        }
    }

    /// Whether a refused primary is to let the others elect: at once if there is no one to hand over
    /// to, after one try otherwise. If the refusal was of a moment, nobody has noticed; if not, the
    /// silence lasts until others had their chance, and then this node is heard for one try more.
    fn is_silent(&mut self, now_ms: u64, situation: &Situation) -> bool {
        if let Some(until_ms) = self.silent_until_ms {
            if now_ms < until_ms {
                return true;
            }
            self.silent_until_ms = None;
            self.heard_until_ms = now_ms.saturating_add(HAND_OVER_MS);
        }
        if !situation.refused {
            self.refused_since_ms = None;
            return false;
        }
        let since_ms = *self.refused_since_ms.get_or_insert(now_ms);
        let try_ms = if situation.successor { HAND_OVER_MS } else { 0 };
        let from_ms = since_ms.saturating_add(try_ms).max(self.heard_until_ms);
        if now_ms < from_ms {
            return false;
        }
        if now_ms - from_ms >= self.election_max_ms() {
            let silence_ms = self.election_max_ms.saturating_mul(SILENCE_ELECTIONS);
            self.silent_until_ms = Some(from_ms.saturating_add(silence_ms).max(now_ms));
        }
        true
    }

    fn refused_ms(&self, now_ms: u64) -> u64 {
        self.refused_since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms))
    }

    /// How long a silence goes unnoticed: nobody stands while the last heartbeat is younger.
    fn election_max_ms(&self) -> u64 {
        self.election_max_ms.max(1)
    }

    /// How long this node has been a primary that should not be one, milliseconds.
    fn leaves_ms(&mut self, now_ms: u64, leaves: bool) -> u64 {
        if !leaves {
            self.leaves_since_ms = None;
            self.next_hand_over_ms = now_ms;
            return 0;
        }
        now_ms.saturating_sub(*self.leaves_since_ms.get_or_insert(now_ms))
    }

    fn mint(&self, now_ms: u64, situation: &Situation, fit: bool) -> Mint {
        if situation.refused || self.silent_until_ms.is_some() {
            return Mint::Refused(Refusal::InFuture);
        }
        if fit {
            return mint_with(&situation.standing);
        }
        if !self.may_start(now_ms, situation) {
            return Mint::Refused(Refusal::Unsynced);
        }
        if self.for_another && situation.another_may_lead && !self.degraded {
            // What it minted might be what the other refuses, and then could not take over.
            return Mint::Refused(Refusal::HandingOver);
        }
        if situation.standing.behind {
            // Whatever is preferred on loss: there is nothing that could be minted.
            let why = if self.degraded { Refusal::Behind } else { Refusal::HandingOver };
            return Mint::Refused(why);
        }
        match situation.on_loss {
            OnLoss::Degrade => mint_with(&situation.standing),
            OnLoss::Refuse if self.degraded => Mint::Refused(Refusal::NoClock),
            OnLoss::Refuse => Mint::Refused(Refusal::HandingOver),
        }
    }

    /// Whether this clock was synchronised, or may do without.
    fn may_start(&self, now_ms: u64, situation: &Situation) -> bool {
        situation.standing.state != ClockState::Unsynced
            || match self.unsynced_start {
                UnsyncedStart::Wait => false,
                UnsyncedStart::AllowAfterMs(ms) => now_ms.saturating_sub(self.started_ms) >= ms,
            }
    }

    /// Only a clock that nobody doubts judges others, and not when this leaves the cluster without
    /// a primary: of two nodes left, each might wait for the other for ever.
    fn shuns(&self, now_ms: u64, situation: &Situation) -> bool {
        situation.standing.state.is_trusted()
            && !situation.refused
            && !self.lasted(now_ms, self.leaderless_since_ms, LAST_RESORT_ELECTIONS)
    }

    /// Whether something has lasted for so many election timeouts.
    fn lasted(&self, now_ms: u64, since_ms: Option<u64>, elections: u64) -> bool {
        let enough_ms = self.election_max_ms.saturating_mul(elections);
        since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= enough_ms)
    }
}

/// Which limits are kept.
#[derive(Debug, Clone, Copy)]
struct Kept {
    campaign: bool,
    stay: bool,
}

/// Minting, as far as the clock's state goes: no bounds are given out that nobody vouches for.
fn mint_with(standing: &ClockFitness) -> Mint {
    let claimed = standing.state.is_trusted() || standing.state == ClockState::Expired;
    if claimed && standing.error_ns.is_some() { Mint::Allowed } else { Mint::Unbounded }
}

impl OnLoss {
    /// The choice as it is written in configuration and status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Degrade => "degrade",
            Self::Refuse => "refuse",
        }
    }
}

impl fmt::Display for OnLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OnLoss {
    type Err = OnLossError;

    fn from_str(text: &str) -> Result<Self, OnLossError> {
        [Self::Degrade, Self::Refuse]
            .into_iter()
            .find(|choice| choice.as_str() == text)
            .ok_or_else(|| OnLossError(text.chars().take(40).collect()))
    }
}

/// `wait`, or `allow-after:` and a span in the largest unit that fits.
impl fmt::Display for UnsyncedStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Wait => f.write_str("wait"),
            Self::AllowAfterMs(ms) if ms % 1000 != 0 => write!(f, "allow-after:{ms}ms"),
            Self::AllowAfterMs(ms) if ms == 0 || ms % 60_000 != 0 => {
                write!(f, "allow-after:{}s", ms / 1000)
            }
            Self::AllowAfterMs(ms) => write!(f, "allow-after:{}m", ms / 60_000),
        }
    }
}

impl FromStr for UnsyncedStart {
    type Err = UnsyncedStartError;

    fn from_str(text: &str) -> Result<Self, UnsyncedStartError> {
        if text == "wait" {
            return Ok(Self::Wait);
        }
        let span = text.strip_prefix("allow-after:").and_then(span_ms);
        span.map(Self::AllowAfterMs)
            .ok_or_else(|| UnsyncedStartError(text.chars().take(40).collect()))
    }
}

/// Reads `30s`, `2m` or `500ms` as milliseconds.
fn span_ms(text: &str) -> Option<u64> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let (digits, per) =
        units.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)))?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse::<u64>().ok()).flatten()?.checked_mul(per)
}

const _: () = assert!(CAMPAIGN_PERCENT <= REGAIN_PERCENT, "whoever may stand has regained all");
const _: () = assert!(LAST_RESORT_ELECTIONS < HOPELESS_ELECTIONS, "a better one stands first");
