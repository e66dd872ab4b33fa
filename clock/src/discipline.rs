//! The clock as it goes: keeps the bound, and slews the reading after the target.
//!
//! * `B`, the bound, is intersected with each new hull and widens between rounds with the drift
//!   allowance. Without a new sample it only widens. A hull that contradicts `B` changes nothing at
//!   first; three in a row, each with a new sample, mean that something unseen happened to the
//!   counter: the clock starts again from the hull, in a new epoch, and is suspect until another
//!   round agrees.
//! * `c`, the reading's offset, is set once, at the first sync, when nothing has been stamped; then
//!   it is slewed. A reading that a round leaves beside the bound comes back into it at once: it
//!   steps forward, or waits until true time has come up to it. The same if the target is far away:
//!   slewing would take minutes to months.
//!
//! Not here: how fast the bound widens (`drift`), and when a leap second is ahead (`leap`).

use crate::interval::Interval;
use crate::leap::Leap;
use crate::reading::{ClockView, SLEW_PPB};
use crate::sample::Scale;
use crate::select::{Majority, Selection};
use crate::state::ClockState;

/// A target this far ahead is stepped to, and one this far behind is waited for, although the
/// reading lies in the bound. Nanoseconds.
pub const STEP_NS: i64 = 128_000_000;
/// Contradicting rounds that make a disruption.
pub const DISRUPTION_ROUNDS: u32 = 3;

/// What the servers say in a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// What they say together.
    pub selection: Selection,
    /// The drift allowance from now on, parts per billion.
    pub phi_ppb: u64,
    /// Raw counter from which on too few of them are fresh, nanoseconds.
    pub fresh_until_ns: u64,
    /// Whether a sample came since the last round.
    pub new_sample: bool,
    /// Whether every server has answered, or has been asked so often that there is no use in waiting
    /// for it. Until then a clock without bounds is set by a majority only: a server more may tell
    /// who is wrong, and the reading cannot be taken back.
    pub settled: bool,
}

/// What a round did, apart from the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The bound was narrowed.
    Narrowed,
    /// The clock was set for the first time.
    FirstSync,
    /// No sample came: the bound widened with the time that passed.
    Kept,
    /// The hull contradicts the bound: counted, if a sample came.
    Contradicted,
    /// The hull contradicted the bound too often: the clock was set again, and is suspect until a
    /// round narrows the new bound.
    Disrupted,
    /// The first hull after a suspension: the clock was set again.
    Resynced,
    /// Too few servers are fresh, or they disagree: the bound widens.
    Coasting,
}

/// The state of the clock.
///
/// Invariants: the reading never goes back after the first sync; the bound's width shrinks only in
/// a round with a new sample.
#[derive(Debug, Clone)]
pub struct Discipline {
    scale: Scale,
    view: ClockView,
    contradictions: u32,
}

impl Discipline {
    /// A clock that has seen no server. `phi_ppb` is the drift allowance in parts per billion,
    /// `max_error_ns` the error beyond which the clock counts as expired.
    #[must_use]
    pub fn new(scale: Scale, phi_ppb: u64, max_error_ns: u64) -> Self {
        let state = ClockState::Unsynced;
        let view = ClockView::unchecked(scale.raw0_ns, scale.base_ns, max_error_ns, state);
        Self { scale, view: ClockView { phi_ppb, ..view }, contradictions: 0 }
    }

    /// The clock as of the last round.
    #[must_use]
    pub fn view(&self) -> ClockView {
        self.view
    }

    /// The local scale.
    #[must_use]
    pub fn scale(&self) -> &Scale {
        &self.scale
    }

    /// Sets the error beyond which the clock counts as expired, nanoseconds.
    pub fn set_max_error(&mut self, max_error_ns: u64) {
        self.view.max_error_ns = max_error_ns;
    }

    /// Sets the leap second that is ahead. One that may have come already widens the bound.
    pub fn expect_leap(&mut self, leap: Option<Leap>) {
        self.view.leap = leap;
    }

    /// Takes what the servers say at a value of the raw counter.
    pub fn round(&mut self, raw_ns: u64, round: &Round) -> Outcome {
        self.advance(raw_ns);
        self.view.phi_ppb = round.phi_ppb;
        let before = self.view;
        let outcome = match &round.selection {
            Selection::Hull { hull, majority } => {
                self.view.fresh_until_ns = round.fresh_until_ns;
                if !round.new_sample {
                    self.keep(*hull)
                } else if self.view.bound.is_some() || majority.is_some() || round.settled {
                    self.combine(*hull, *majority)
                } else {
                    Outcome::Coasting
                }
            }
            Selection::NotEnough => self.coast(ClockState::Holdover),
            Selection::Disagree => self.coast(ClockState::Disagree),
        };
        assert!(self.view.epoch >= before.epoch, "the clock was set less often than before");
        if before.epoch > 0 {
            let now_ns = |view: ClockView| view.now(view.raw_at_ns).now_ns;
            assert!(now_ns(self.view) >= now_ns(before), "a round sets the reading forward only");
        }
        if !round.new_sample {
            assert!(self.view.bound == before.bound, "only a sample says more than time");
        }
        outcome
    }

    /// Says that the bound may be wrong: it is unknown until the next hull, and so is trust.
    pub fn suspect(&mut self, raw_ns: u64) {
        self.advance(raw_ns);
        if self.view.epoch > 0 {
            self.view.state = ClockState::Suspect;
            self.view.bound = None;
            self.contradictions = 0;
        }
    }

    /// After a disruption: takes in what another hull says, and another allowance. What made the
    /// disruption may have been a drift that was not allowed for.
    pub fn doubt(&mut self, hull: Interval, phi_ppb: u64) {
        let width_ns = |view: &ClockView| view.bound.map(Interval::width_ns);
        let before = width_ns(&self.view);
        self.view.phi_ppb = phi_ppb;
        self.view.bound = self.view.bound.map(|bound| bound.cover(hull));
        assert!(width_ns(&self.view) >= before, "a doubt makes nothing more certain");
    }

    /// Moves the view to `raw_ns`: the reading and the bound are what the old view says there.
    fn advance(&mut self, raw_ns: u64) {
        let raw_ns = raw_ns.max(self.view.raw_at_ns);
        let before = self.view.now(self.view.raw_at_ns);
        self.view = ClockView {
            raw_at_ns: raw_ns,
            base_ns: self.scale.local_ns(raw_ns),
            c_ns: self.view.c_at(raw_ns),
            bound: self.view.bound_at(raw_ns),
            leap: self.view.leap.filter(|leap| !leap.may_have_come(raw_ns)),
            ..self.view
        };
        let now = self.view.now(raw_ns);
        assert!(now.now_ns >= before.now_ns, "the reading went back from {before:?} to {now:?}");
    }

    /// A hull with a new sample in it.
    fn combine(&mut self, hull: Interval, majority: Option<Majority>) -> Outcome {
        let (bound, outcome) = match self.view.bound {
            None if self.view.epoch == 0 => (hull, Outcome::FirstSync),
            None => (hull, Outcome::Resynced),
            Some(grown) => match grown.intersect(hull) {
                Some(common) => (common, Outcome::Narrowed),
                None if self.contradictions + 1 < DISRUPTION_ROUNDS => {
                    (grown, Outcome::Contradicted)
                }
                None => (hull, Outcome::Disrupted),
            },
        };
        match outcome {
            Outcome::Contradicted => self.contradictions += 1,
            Outcome::Disrupted => {
                self.contradictions = 0;
                self.view.state = ClockState::Suspect;
            }
            Outcome::FirstSync | Outcome::Resynced | Outcome::Narrowed => {
                self.contradictions = 0;
                self.view.state = ClockState::Synced;
            }
            Outcome::Kept | Outcome::Coasting => {}
        }
        assert!(self.contradictions < DISRUPTION_ROUNDS, "contradicted, and nothing came of it");
        self.view.epoch += u64::from(sets(outcome));
        self.view.bound = Some(bound);
        self.aim(bound, majority, outcome);
        outcome
    }

    /// A hull of samples that were all there in the last round, too: a server fewer says it.
    fn keep(&mut self, hull: Interval) -> Outcome {
        let Some(grown) = self.view.bound else { return Outcome::Kept };
        if grown.intersect(hull).is_none() {
            return Outcome::Contradicted;
        }
        if self.view.state != ClockState::Suspect {
            self.view.state = ClockState::Synced;
        }
        Outcome::Kept
    }

    /// Chooses the target and, where the rules allow, sets the reading to it.
    fn aim(&mut self, bound: Interval, majority: Option<Majority>, outcome: Outcome) {
        let wanted_ns = match majority {
            Some(majority) => majority.first.mid_ns(),
            None if outcome == Outcome::FirstSync => bound.mid_ns(),
            None => self.view.target_ns,
        };
        let target_ns = bound.clamp(wanted_ns);
        assert!(bound.contains(target_ns), "the reading aims at {target_ns}, outside of {bound:?}");
        self.view.target_ns = target_ns;
        if outcome == Outcome::FirstSync {
            self.view.c_ns = target_ns;
            return;
        }
        let raw_ns = self.view.raw_at_ns;
        let to_target_ns = self.view.to_target_ns(raw_ns);
        let said_ns = target_ns.saturating_sub(to_target_ns);
        // Where the reading has to be at once; from there it is slewed.
        let goal_ns = if (-STEP_NS..=STEP_NS).contains(&to_target_ns) {
            bound.clamp(said_ns)
        } else {
            target_ns
        };
        if goal_ns > said_ns {
            self.view.c_ns = goal_ns;
        } else if goal_ns < said_ns || self.view.waits(raw_ns) {
            // Below the reading that is held, nobody sees `c` move.
            self.view.hold_ns = self.view.now(raw_ns).now_ns;
            self.view.c_ns = goal_ns;
        }
    }

    fn coast(&mut self, state: ClockState) -> Outcome {
        if self.view.state != ClockState::Unsynced && self.view.state != ClockState::Suspect {
            self.view.state = state;
        }
        Outcome::Coasting
    }
}

/// Whether the bound was replaced by the hull.
fn sets(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::FirstSync | Outcome::Resynced | Outcome::Disrupted)
}

const _: () = assert!(SLEW_PPB < 1_000_000_000);
const _: () = assert!(DISRUPTION_ROUNDS > 1, "one round alone never sets a clock again");
