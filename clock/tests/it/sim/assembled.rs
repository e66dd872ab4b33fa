//! The tracker's parts put together again, with one rule exchanged: what the rules are for shows when
//! one is missing. With nothing exchanged it must be the tracker, bit for bit.

use clock::discipline::{Discipline, Outcome, Round};
use clock::drift::{PHI_MAX_PPB, WANDER_PPB, allowance_ppb, measured_ppb};
use clock::sample::Limits;
use clock::select::{Selection, liars_max, select};
use clock::{Answer, ClockView, Interval, Source};

use super::world::{Clock, MAX_ERROR_NS, Scenario, World};

/// What is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Nothing.
    Product,
    /// The bound is the deepest overlap (Marzullo), as if liars could not choose where that is.
    MaxOverlap,
    /// The bound is the narrowest server's, as if that one could not lie.
    SmallestBound,
    /// The drift is assumed to be within 50 ppm.
    FixedPhi,
    /// The drift is assumed to be what it was on average.
    NoWander,
}

pub(crate) struct Assembled {
    rule: Rule,
    sources: Vec<Source>,
    discipline: Discipline,
    limits: Limits,
}

impl Assembled {
    pub(crate) fn new(scenario: &Scenario, rule: Rule) -> Self {
        let (scale, limits, sources) = World::parts(scenario);
        let limits = Limits { phi_ppb: PHI_MAX_PPB, ..limits };
        let discipline = Discipline::new(scale, limits.phi_ppb, MAX_ERROR_NS);
        Self { rule, sources, discipline, limits }
    }

    fn round(&mut self, raw_ns: u64, new_sample: bool) -> Outcome {
        let (selection, phi_ppb) = self.vote(raw_ns);
        let mut ends: Vec<u64> = self.sources.iter().filter_map(Source::fresh_until_ns).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let fresh_until_ns = ends.get(liars_max(self.sources.len())).copied().unwrap_or(0);
        let settled = self.sources.iter().all(|source| source.is_settled(raw_ns));
        let round = Round { selection, phi_ppb, fresh_until_ns, new_sample, settled };
        let outcome = self.discipline.round(raw_ns, &round);
        if outcome == Outcome::Disrupted {
            self.sources.iter_mut().for_each(Source::doubt);
            let (selection, phi_ppb) = self.vote(raw_ns);
            if let Selection::Hull { hull, .. } = selection {
                self.discipline.doubt(hull, phi_ppb);
            }
        }
        outcome
    }

    fn vote(&mut self, raw_ns: u64) -> (Selection, u64) {
        let configured = self.sources.len();
        let phi_ppb = self.allowance(raw_ns);
        let estimates = self.sources.iter().filter_map(|s| s.estimate(raw_ns, phi_ppb));
        self.limits.phi_ppb = phi_ppb;
        let fresh: Vec<Interval> = estimates.map(|e| e.interval).collect();
        let selection = match (select(&fresh, configured), self.rule) {
            (Selection::Hull { majority, .. }, Rule::MaxOverlap) => {
                Selection::Hull { hull: deepest(&fresh), majority }
            }
            (Selection::Hull { majority, .. }, Rule::SmallestBound) => {
                let narrowest = fresh.iter().min_by_key(|interval| interval.width_ns());
                Selection::Hull { hull: *narrowest.unwrap(), majority }
            }
            (selection, _) => selection,
        };
        (selection, phi_ppb)
    }

    fn allowance(&self, raw_ns: u64) -> u64 {
        if self.rule == Rule::FixedPhi {
            return 50_000;
        }
        let fresh: Vec<&Source> = self.sources.iter().filter(|s| s.is_fresh(raw_ns)).collect();
        if fresh.len() <= liars_max(self.sources.len()) {
            return self.limits.phi_ppb;
        }
        let bounds: Vec<u64> = fresh.iter().filter_map(|s| Some(s.drift()?.bound_ppb)).collect();
        let measured_ppb = measured_ppb(&bounds, self.sources.len());
        let margin_ppb = if self.rule == Rule::NoWander { WANDER_PPB } else { 0 };
        allowance_ppb(measured_ppb.map(|ppb| ppb - margin_ppb))
    }
}

impl Clock for Assembled {
    fn answered(&mut self, index: usize, answer: &Answer, raw_ns: u64) -> Outcome {
        let scale = *self.discipline.scale();
        let new_sample = self.sources[index].answered(answer, &scale, &self.limits);
        self.round(raw_ns, new_sample)
    }

    fn pass(&mut self, raw_ns: u64) {
        self.round(raw_ns, false);
    }

    fn suspended(&mut self, raw_ns: u64) {
        self.limits.since_raw_ns = raw_ns;
        self.limits.phi_ppb = PHI_MAX_PPB;
        self.sources.iter_mut().for_each(Source::restart);
        self.discipline.suspect(raw_ns);
    }

    fn view(&self) -> ClockView {
        self.discipline.view()
    }

    fn source(&mut self, index: usize) -> &mut Source {
        &mut self.sources[index]
    }
}

/// Two clocks that must never differ.
pub(crate) struct Both<A, B>(pub(crate) A, pub(crate) B);

impl<A: Clock, B: Clock> Clock for Both<A, B> {
    fn answered(&mut self, index: usize, answer: &Answer, raw_ns: u64) -> Outcome {
        let outcomes =
            [self.0.answered(index, answer, raw_ns), self.1.answered(index, answer, raw_ns)];
        assert_eq!(outcomes[0], outcomes[1]);
        outcomes[0]
    }

    fn pass(&mut self, raw_ns: u64) {
        self.0.pass(raw_ns);
        self.1.pass(raw_ns);
    }

    fn suspended(&mut self, raw_ns: u64) {
        self.0.suspended(raw_ns);
        self.1.suspended(raw_ns);
    }

    fn view(&self) -> ClockView {
        let views = [self.0.view(), self.1.view()];
        assert_eq!(views[0], views[1]);
        views[0]
    }

    fn source(&mut self, index: usize) -> &mut Source {
        // Both need the same schedule; the waits are taken from the second.
        let poll = self.1.source(index).poll_mut().clone();
        *self.0.source(index).poll_mut() = poll;
        self.1.source(index)
    }
}

/// The first place that most intervals share.
fn deepest(intervals: &[Interval]) -> Interval {
    let depth = |at_ns| intervals.iter().filter(|j| j.contains(at_ns)).count();
    let most = intervals.iter().map(|j| depth(j.lo_ns())).max().unwrap();
    let lo_ns = intervals.iter().map(|j| j.lo_ns()).filter(|ns| depth(*ns) == most).min().unwrap();
    let ends = intervals.iter().map(|j| j.hi_ns()).filter(|ns| *ns >= lo_ns);
    Interval::new(lo_ns, ends.min().unwrap()).unwrap()
}
