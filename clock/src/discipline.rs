//! The clock as it goes: keeps the bound, and slews the reading after the target.
//!
//! * `B`, the bound, is intersected with each new hull and widens between rounds with the drift
//!   allowance. A hull that contradicts `B` changes nothing at first; three in a row, each with a
//!   new sample, mean that something unseen happened to the counter: the clock starts again from
//!   the hull, in a new epoch.
//! * `c`, the reading's offset, is set once, at the first sync, when nothing has been stamped; then
//!   it is slewed. Only a target far ahead makes it step, and only forward.
//!
//! Not here: the drift guard that measures the allowance; it will set `phi_ppb`.

use crate::interval::Interval;
use crate::reading::{ClockView, SLEW_PPB};
use crate::sample::Scale;
use crate::select::Selection;
use crate::state::ClockState;

/// A target this far ahead is stepped to, nanoseconds. Slewing it would take minutes.
pub const STEP_NS: i64 = 128_000_000;
/// Contradicting rounds that make a disruption.
pub const DISRUPTION_ROUNDS: u32 = 3;

/// What a round did, apart from the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The bound was narrowed.
    Narrowed,
    /// The clock was set for the first time.
    FirstSync,
    /// The hull contradicts the bound: counted.
    Contradicted,
    /// The hull contradicted the bound too often: the clock was set again.
    Disrupted,
    /// Too few servers are fresh, or they disagree: the bound widens.
    Coasting,
}

/// The state of the clock.
///
/// Invariants: the reading never goes back after the first sync; the bound's width shrinks only in
/// a round.
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

    /// Takes what the servers say at a value of the raw counter. `fresh_until_ns` is the value from
    /// which on too few will be fresh; `new_sample` tells whether a sample came since the last round.
    pub fn round(
        &mut self,
        raw_ns: u64,
        selection: &Selection,
        fresh_until_ns: u64,
        new_sample: bool,
    ) -> Outcome {
        self.advance(raw_ns);
        let before = self.view;
        let outcome = match selection {
            Selection::Hull { hull, majority } => {
                self.view.fresh_until_ns = fresh_until_ns;
                self.combine(*hull, *majority, new_sample)
            }
            Selection::NotEnough => self.coast(ClockState::Holdover),
            Selection::Disagree => self.coast(ClockState::Disagree),
        };
        if before.epoch > 0 {
            assert!(self.view.c_ns >= before.c_ns, "a round sets the reading forward only");
        }
        outcome
    }

    /// Says that the bound may be wrong: it is unknown until the next hull, and so is trust.
    pub fn suspect(&mut self, raw_ns: u64) {
        self.advance(raw_ns);
        if self.view.epoch > 0 {
            self.view.state = ClockState::Suspect;
            self.view.bound = None;
        }
    }

    /// Moves the view to `raw_ns`: the reading and the bound are what the old view says there.
    fn advance(&mut self, raw_ns: u64) {
        let raw_ns = raw_ns.max(self.view.raw_at_ns);
        self.view = ClockView {
            raw_at_ns: raw_ns,
            base_ns: self.scale.local_ns(raw_ns),
            c_ns: self.view.c_at(raw_ns),
            bound: self.view.bound_at(raw_ns),
            ..self.view
        };
    }

    fn combine(&mut self, hull: Interval, majority: Option<Interval>, new: bool) -> Outcome {
        let (bound, outcome) = match self.view.bound {
            None if self.view.epoch == 0 => (hull, Outcome::FirstSync),
            None => (hull, Outcome::Disrupted),
            Some(grown) => match grown.intersect(hull) {
                Some(common) => (common, Outcome::Narrowed),
                None if self.contradictions + u32::from(new) < DISRUPTION_ROUNDS => {
                    self.contradictions += u32::from(new);
                    (grown, Outcome::Contradicted)
                }
                None => (hull, Outcome::Disrupted),
            },
        };
        if outcome != Outcome::Contradicted {
            self.contradictions = 0;
            self.view.state = ClockState::Synced;
        }
        if matches!(outcome, Outcome::FirstSync | Outcome::Disrupted) {
            self.view.epoch += 1;
        }
        self.view.bound = Some(bound);
        self.aim(bound, majority, outcome);
        outcome
    }

    /// Chooses the target and, where the rules allow, sets the reading to it.
    fn aim(&mut self, bound: Interval, majority: Option<Interval>, outcome: Outcome) {
        let wanted_ns = match (majority, outcome) {
            (Some(deepest), _) => deepest.mid_ns(),
            (None, Outcome::FirstSync | Outcome::Disrupted) => bound.mid_ns(),
            (None, _) => self.view.target_ns,
        };
        let target_ns = bound.clamp(wanted_ns);
        self.view.target_ns = target_ns;
        let far_ahead = target_ns.saturating_sub(self.view.c_ns) > STEP_NS;
        if outcome == Outcome::FirstSync || far_ahead {
            self.view.c_ns = target_ns;
        }
    }

    fn coast(&mut self, state: ClockState) -> Outcome {
        if self.view.bound.is_some() {
            self.view.state = state;
        }
        Outcome::Coasting
    }
}

const _: () = assert!(SLEW_PPB < 1_000_000_000);
