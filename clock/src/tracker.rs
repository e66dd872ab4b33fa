//! All time servers of a node and the clock that follows them. Everything between a datagram and
//! a view, without the datagram.
//!
//! Invariants:
//! * `limits.phi_ppb` is the allowance that the view ages with;
//! * a server that is not fresh has no say, neither in the hull nor in the allowance.
//!
//! Not here: asking (`daemon::time`), and peers, which never enter the hull: they follow the same
//! servers, so they are no independent witnesses. What a person is told is in `health`.

use crate::discipline::{Discipline, Outcome, Round};
use crate::drift::{Measure, PHI_MAX_PPB, allowance_ppb, measured_ppb};
use crate::filter::Estimate;
use crate::health::Tally;
use crate::interval::Interval;
use crate::leap::{Leap, LeapNotice, LeapPolicy};
use crate::reading::ClockView;
use crate::sample::{Limits, Sample, Scale};
use crate::select::{Selection, is_falseticker, liars_max, select};
use crate::source::{Answer, Source, Verdict};
use crate::turned::Trust;

pub use crate::health::Alarm;

/// The servers and the clock.
#[derive(Debug, Clone)]
pub struct Tracker {
    sources: Vec<Source>,
    verdicts: Vec<Verdict>,
    trust: Vec<Trust>,
    discipline: Discipline,
    limits: Limits,
    policy: LeapPolicy,
    notice: LeapNotice,
    tally: Tally,
}

/// What the fresh servers say at one moment.
struct Vote {
    phi_ppb: u64,
    estimates: Vec<Option<Estimate>>,
    selection: Selection,
}

impl Tracker {
    /// A tracker of servers that have not been asked. `max_error_ns` is the error beyond which the
    /// clock counts as expired. The drift allowance is measured, whatever stands in `limits`; until
    /// then it is the largest.
    #[must_use]
    pub fn new(
        scale: Scale,
        limits: Limits,
        max_error_ns: u64,
        policy: LeapPolicy,
        sources: Vec<Source>,
    ) -> Self {
        let limits = Limits { phi_ppb: PHI_MAX_PPB, ..limits };
        Self {
            verdicts: vec![Verdict::Waiting; sources.len()],
            trust: vec![Trust::default(); sources.len()],
            tally: Tally::new(sources.len()),
            sources,
            discipline: Discipline::new(scale, limits.phi_ppb, max_error_ns),
            limits,
            policy,
            notice: LeapNotice::None,
        }
    }

    /// Takes what came of a query to the server at `index`, with the raw counter now, and lets all
    /// servers vote again.
    pub fn answered(&mut self, index: usize, answer: &Answer, raw_ns: u64) -> Outcome {
        self.leap_moment(raw_ns);
        let scale = *self.discipline.scale();
        let new_sample = self
            .sources
            .get_mut(index)
            .is_some_and(|source| source.answered(answer, &scale, &self.limits));
        self.round(raw_ns, new_sample)
    }

    /// Sets the reference id that a server would carry if it followed this very machine, as the next
    /// answer is to be judged: the address under which this machine asked.
    pub fn set_own_refid(&mut self, refid: Option<[u8; 4]>) {
        self.limits.own_refid = refid;
    }

    /// Lets time pass: servers cease to be fresh, and a leap second may come. For every second in
    /// which no answer comes; the bound itself needs nobody to wake up.
    pub fn pass(&mut self, raw_ns: u64) {
        self.leap_moment(raw_ns);
        self.round(raw_ns, false);
    }

    /// Forgets all samples: the machine was suspended, so the raw counter has missed time.
    pub fn suspended(&mut self, raw_ns: u64) {
        self.start_over(raw_ns);
        self.limits.phi_ppb = PHI_MAX_PPB;
        self.discipline.expect_leap(None);
        self.discipline.suspect(raw_ns);
    }

    /// Sets the error beyond which the clock counts as expired, nanoseconds.
    pub fn set_max_error(&mut self, max_error_ns: u64) {
        self.discipline.set_max_error(max_error_ns);
    }

    /// The clock as of the last round.
    #[must_use]
    pub fn view(&self) -> ClockView {
        self.discipline.view()
    }

    /// What the servers announce for the end of the day; with smearing servers, nothing follows.
    #[must_use]
    pub fn leap(&self) -> LeapNotice {
        self.notice
    }

    /// What a person should look at, as of the last round.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        self.tally.alarms(self.sources.iter().map(|source| source.newest()))
    }

    /// Why the clock is not synced, for a person; empty if it is.
    #[must_use]
    pub fn reason(&self, raw_ns: u64) -> String {
        let fresh = self.sources.iter().filter(|source| source.is_fresh(raw_ns)).count();
        self.tally.reason(&self.discipline.view(), raw_ns, fresh, self.limits.since_raw_ns)
    }

    /// The servers in the order of configuration, each with what is made of it.
    pub fn sources(&self) -> impl Iterator<Item = (&Source, Verdict)> {
        self.sources.iter().zip(self.verdicts.iter().copied())
    }

    /// Those that are called falsetickers after they were selected for long, in the order of
    /// configuration, from 0.
    pub fn turned(&self) -> impl Iterator<Item = usize> {
        let trust = self.trust.iter().enumerate();
        trust.filter(|(_, trust)| trust.has_turned()).map(|(index, _)| index)
    }

    /// One server.
    pub fn source_mut(&mut self, index: usize) -> Option<&mut Source> {
        self.sources.get_mut(index)
    }

    fn round(&mut self, raw_ns: u64, new_sample: bool) -> Outcome {
        let vote = self.vote(raw_ns);
        self.limits.phi_ppb = vote.phi_ppb;
        self.judge(&vote, raw_ns);
        let round = Round {
            selection: vote.selection,
            phi_ppb: vote.phi_ppb,
            fresh_until_ns: self.fresh_until_ns(),
            new_sample,
            settled: self.sources.iter().all(|source| source.is_settled(raw_ns)),
        };
        let outcome = self.discipline.round(raw_ns, &round);
        if outcome == Outcome::Disrupted {
            self.doubt(raw_ns);
        }
        self.expect_leap(&vote.estimates);
        outcome
    }

    /// What the fresh servers say together.
    fn vote(&mut self, raw_ns: u64) -> Vote {
        let fresh = self.sources.iter().filter(|source| source.is_fresh(raw_ns));
        let measures: Vec<Option<Measure>> = fresh.map(Source::drift).collect();
        let phi_ppb = self.allowance_ppb(&measures);
        let estimates: Vec<Option<Estimate>> =
            self.sources.iter().map(|source| source.estimate(raw_ns, phi_ppb)).collect();
        let fresh: Vec<Interval> = estimates.iter().flatten().map(|e| e.interval).collect();
        let selection = select(&fresh, self.sources.len());
        let agree = matches!(selection, Selection::Hull { .. });
        let inconsistent = estimates.iter().flatten().filter(|e| e.inconsistent).count();
        let rates: Vec<u64> = measures.iter().flatten().map(|m| m.rate_ppb).collect();
        assert!(phi_ppb <= PHI_MAX_PPB, "an allowance of {phi_ppb} ppb");
        self.tally.count(agree, inconsistent, measured_ppb(&rates, self.sources.len()));
        Vote { phi_ppb, estimates, selection }
    }

    /// The drift allowance that follows from what the fresh servers say, parts per billion. With too
    /// few of them to vote, it stays what it was: the machine is the same.
    fn allowance_ppb(&self, measures: &[Option<Measure>]) -> u64 {
        if measures.len() <= liars_max(self.sources.len()) {
            return self.limits.phi_ppb;
        }
        let bounds: Vec<u64> = measures.iter().flatten().map(|m| m.bound_ppb).collect();
        allowance_ppb(measured_ppb(&bounds, self.sources.len()))
    }

    /// After a disruption nothing that was measured of the drift holds, nor do old samples.
    fn doubt(&mut self, raw_ns: u64) {
        self.sources.iter_mut().for_each(Source::doubt);
        let vote = self.vote(raw_ns);
        self.limits.phi_ppb = vote.phi_ppb;
        if let Selection::Hull { hull, .. } = vote.selection {
            self.discipline.doubt(hull, vote.phi_ppb);
        }
    }

    /// At the first moment at which the announced leap may have come, the servers start over: what
    /// they said before, and what they say until all are past it, may lie a second off.
    fn leap_moment(&mut self, raw_ns: u64) {
        let view = self.discipline.view();
        if let Some(leap) = view.leap.filter(|leap| leap.may_have_come(raw_ns)) {
            self.start_over(leap.over_raw_ns(&view));
            self.notice = LeapNotice::None;
        }
    }

    /// Only what is asked from a value of the raw counter on counts from now on.
    fn start_over(&mut self, since_raw_ns: u64) {
        self.limits.since_raw_ns = self.limits.since_raw_ns.max(since_raw_ns);
        self.sources.iter_mut().for_each(Source::restart);
        self.trust.fill(Trust::default());
    }

    fn expect_leap(&mut self, estimates: &[Option<Estimate>]) {
        let fresh = self.sources.iter().zip(estimates).filter(|(_, estimate)| estimate.is_some());
        let newest = fresh.filter_map(|(source, _)| source.newest());
        let indicators: Vec<u8> = newest.map(|sample: &Sample| sample.leap).collect();
        // What was announced by servers that are silent now still comes.
        if indicators.len() > liars_max(self.sources.len()) {
            self.notice = LeapNotice::of(&indicators, self.sources.len());
        }
        if self.policy == LeapPolicy::Step {
            self.discipline.expect_leap(Leap::ahead(self.notice, &self.discipline.view()));
        }
    }

    fn judge(&mut self, vote: &Vote, raw_ns: u64) {
        assert_eq!(self.sources.len(), self.verdicts.len(), "each server has a verdict");
        assert_eq!(self.sources.len(), vote.estimates.len(), "and was looked at");
        let majority = match &vote.selection {
            Selection::Hull { majority, .. } => *majority,
            Selection::NotEnough | Selection::Disagree => None,
        };
        let fresh = || vote.estimates.iter().flatten().map(|estimate| estimate.interval);
        let agrees = |own: Interval| fresh().all(|other| own.intersect(other).is_some());
        for ((source, verdict), estimate) in
            self.sources.iter().zip(&mut self.verdicts).zip(&vote.estimates)
        {
            let interval = estimate.map(|e| e.interval);
            *verdict = match (source.own_verdict(), interval, majority) {
                (Some(own), _, _) => own,
                (None, Some(interval), Some(majority)) if is_falseticker(interval, majority) => {
                    Verdict::Falseticker
                }
                (None, Some(_), Some(_)) => Verdict::Selected,
                (None, Some(interval), None) if agrees(interval) => Verdict::TooFew,
                (None, Some(_), None) => Verdict::Disagrees,
                (None, None, _) => Verdict::Waiting,
            };
        }
        for (trust, verdict) in self.trust.iter_mut().zip(&self.verdicts) {
            trust.judged(*verdict, raw_ns);
        }
    }

    /// Raw counter from which on fewer than `f + 1` servers are fresh, if none answers again.
    fn fresh_until_ns(&self) -> u64 {
        let mut ends: Vec<u64> = self.sources.iter().filter_map(Source::fresh_until_ns).collect();
        ends.sort_unstable_by_key(|end| std::cmp::Reverse(*end));
        ends.get(liars_max(self.sources.len())).copied().unwrap_or(0)
    }
}
