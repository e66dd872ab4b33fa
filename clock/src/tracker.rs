//! All time servers of a node and the clock that follows them. Everything between a datagram and
//! a view, without the datagram.
//!
//! Not here: asking (`daemon::time`), and peers, which never enter the hull: they follow the same
//! servers, so they are no independent witnesses.

use crate::discipline::{Discipline, Outcome};
use crate::interval::Interval;
use crate::reading::ClockView;
use crate::sample::{Limits, Scale};
use crate::select::{Selection, is_falseticker, liars_max, select};
use crate::source::{Answer, Source, Verdict};

/// The servers and the clock.
#[derive(Debug, Clone)]
pub struct Tracker {
    sources: Vec<Source>,
    verdicts: Vec<Verdict>,
    discipline: Discipline,
    limits: Limits,
}

impl Tracker {
    /// A tracker of servers that have not been asked. `max_error_ns` is the error beyond which the
    /// clock counts as expired; the drift allowance is in `limits`.
    #[must_use]
    pub fn new(scale: Scale, limits: Limits, max_error_ns: u64, sources: Vec<Source>) -> Self {
        let verdicts = vec![Verdict::Waiting; sources.len()];
        let discipline = Discipline::new(scale, limits.phi_ppb, max_error_ns);
        Self { sources, verdicts, discipline, limits }
    }

    /// Takes what came of a query to the server at `index`, with the raw counter now, and lets all
    /// servers vote again.
    pub fn answered(&mut self, index: usize, answer: &Answer, raw_ns: u64) -> Outcome {
        let scale = *self.discipline.scale();
        let new_sample = self
            .sources
            .get_mut(index)
            .is_some_and(|source| source.answered(answer, &scale, &self.limits));
        self.round(raw_ns, new_sample)
    }

    /// Forgets all samples: the machine was suspended, so the raw counter has missed time.
    pub fn suspended(&mut self, raw_ns: u64) {
        for source in &mut self.sources {
            source.restart();
        }
        self.discipline.suspect(raw_ns);
    }

    /// The clock as of the last round.
    #[must_use]
    pub fn view(&self) -> ClockView {
        self.discipline.view()
    }

    /// The servers in the order of configuration, each with what is made of it.
    pub fn sources(&self) -> impl Iterator<Item = (&Source, Verdict)> {
        self.sources.iter().zip(self.verdicts.iter().copied())
    }

    /// One server.
    pub fn source_mut(&mut self, index: usize) -> Option<&mut Source> {
        self.sources.get_mut(index)
    }

    fn round(&mut self, raw_ns: u64, new_sample: bool) -> Outcome {
        let phi_ppb = self.limits.phi_ppb;
        let estimates: Vec<Option<Interval>> = self
            .sources
            .iter()
            .map(|source| source.estimate(raw_ns, phi_ppb).map(|e| e.interval))
            .collect();
        let fresh: Vec<Interval> = estimates.iter().copied().flatten().collect();
        let selection = select(&fresh, self.sources.len());
        self.judge(&estimates, &selection);
        self.discipline.round(raw_ns, &selection, self.fresh_until_ns(), new_sample)
    }

    fn judge(&mut self, estimates: &[Option<Interval>], selection: &Selection) {
        let majority = match selection {
            Selection::Hull { majority, .. } => *majority,
            Selection::NotEnough | Selection::Disagree => None,
        };
        for ((source, verdict), estimate) in
            self.sources.iter().zip(&mut self.verdicts).zip(estimates)
        {
            *verdict = match (source.own_verdict(), estimate, majority) {
                (Some(own), _, _) => own,
                (None, Some(interval), Some(majority)) if is_falseticker(*interval, majority) => {
                    Verdict::Falseticker
                }
                (None, Some(_), Some(_)) => Verdict::Selected,
                (None, Some(_), None) => Verdict::Disagrees,
                (None, None, _) => Verdict::Waiting,
            };
        }
    }

    /// Raw counter from which on fewer than `f + 1` servers are fresh, if none answers again.
    fn fresh_until_ns(&self) -> u64 {
        let mut ends: Vec<u64> = self.sources.iter().filter_map(Source::fresh_until_ns).collect();
        ends.sort_unstable_by_key(|end| std::cmp::Reverse(*end));
        ends.get(liars_max(self.sources.len())).copied().unwrap_or(0)
    }
}
