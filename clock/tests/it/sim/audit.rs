//! Looks at a clock and counts what it should not have said.

use clock::{ClockState, ClockView};

use super::machine::Machine;

/// What was seen of a clock in one run or several.
#[derive(Debug, Clone, Default)]
pub(crate) struct Audit {
    /// Looks at a clock that claimed to know bounds.
    pub(crate) evaluations: u64,
    /// I3: true time was outside the bounds.
    pub(crate) outside: u64,
    /// I2: the reading went back.
    pub(crate) went_back: u64,
    /// The reading was outside its bounds, and did not wait for them to come up.
    pub(crate) astray: u64,
    /// I9: the interval became narrower without a new sample.
    pub(crate) shrank: u64,
    /// The reading ran faster or slower than it may, and did not step.
    pub(crate) uneven: u64,
    /// What the first violation looked like.
    pub(crate) first: Option<String>,
    /// The states that the clock went through.
    pub(crate) states: Vec<ClockState>,
    half_widths_ns: Vec<u64>,
    errors_ns: Vec<u64>,
    last: Option<Look>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    raw_ns: u64,
    now_ns: u64,
    width_ns: Option<u64>,
    epoch: u64,
    bounds: Option<(u64, u64)>,
    /// The reading ran ahead, and lets true time come up.
    waits: bool,
}

impl Audit {
    /// Looks at the clock. `new_sample` tells whether one came since the last look; `steady` whether
    /// the figures of this moment are worth keeping.
    pub(crate) fn look(
        &mut self,
        view: &ClockView,
        machine: &Machine,
        new_sample: bool,
        steady: bool,
    ) {
        let reading = view.now(machine.raw_ns);
        let state = view.state_at(machine.raw_ns);
        if self.states.last() != Some(&state) {
            self.states.push(state);
        }
        let bounds = reading.earliest_ns.zip(reading.latest_ns);
        let width_ns = bounds.map(|(earliest_ns, latest_ns)| latest_ns - earliest_ns);
        let look = Look {
            raw_ns: machine.raw_ns,
            now_ns: reading.now_ns,
            width_ns,
            epoch: view.epoch,
            bounds,
            waits: view.waits(machine.raw_ns),
        };
        if let Some((earliest_ns, latest_ns)) = bounds {
            self.evaluations += 1;
            let utc_ns = machine.utc_ns;
            if utc_ns < earliest_ns || utc_ns > latest_ns {
                self.outside += 1;
                let describe = || format!("{utc_ns} outside {earliest_ns}..{latest_ns}: {view:?}");
                self.first.get_or_insert_with(describe);
            }
            let inside = (earliest_ns..=latest_ns).contains(&reading.now_ns);
            self.astray += u64::from(!inside && !look.waits);
            if steady {
                self.half_widths_ns.push(look.width_ns.unwrap_or(0) / 2);
                self.errors_ns.push(reading.now_ns.abs_diff(utc_ns));
            }
        }
        if let Some(last) = self.last.filter(|last| last.epoch > 0) {
            self.compare(&last, &look, new_sample);
        }
        self.last = Some(look);
    }

    fn compare(&mut self, last: &Look, look: &Look, new_sample: bool) {
        self.went_back += u64::from(look.now_ns < last.now_ns);
        // An unknown width counts as the widest.
        let shrank = match (last.width_ns, look.width_ns) {
            (Some(before), Some(after)) => after < before,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        self.shrank += u64::from(shrank && !new_sample);
        let elapsed_ns = look.raw_ns - last.raw_ns;
        let gone_ns = look.now_ns.saturating_sub(last.now_ns);
        let stepped = gone_ns > elapsed_ns + 120_000_000;
        let waited = (last.waits || look.waits) && gone_ns <= elapsed_ns + elapsed_ns / 2000 + 2;
        let uneven = gone_ns.abs_diff(elapsed_ns) > elapsed_ns / 2000 + 2;
        // A new sample may have left the reading beside the bound; then it came back at once.
        let slack_ns = elapsed_ns / 500 + 2;
        let straight_ns = last.now_ns + elapsed_ns;
        let came_back = new_sample
            && look.bounds.is_some_and(|(earliest_ns, latest_ns)| {
                straight_ns < earliest_ns + slack_ns || straight_ns + slack_ns > latest_ns
            });
        self.uneven += u64::from(uneven && !stepped && !waited && !came_back);
        // It stands still while it waits, and only then.
        self.uneven += u64::from(last.waits && look.waits && gone_ns > 0 && !stepped);
    }

    /// Everything that should not be.
    pub(crate) fn violations(&self) -> u64 {
        self.outside + self.went_back + self.astray + self.shrank + self.uneven
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.evaluations += other.evaluations;
        self.outside += other.outside;
        self.went_back += other.went_back;
        self.astray += other.astray;
        self.shrank += other.shrank;
        self.uneven += other.uneven;
        self.first = self.first.take().or_else(|| other.first.clone());
        self.half_widths_ns.extend(&other.half_widths_ns);
        self.errors_ns.extend(&other.errors_ns);
    }

    /// Median and 99th percentile of the half-widths, then of the reading's errors, microseconds.
    pub(crate) fn figures_us(&self) -> [u64; 4] {
        let place = |values: &[u64], percent: usize| {
            let mut sorted = values.to_vec();
            sorted.sort_unstable();
            sorted.get(sorted.len() * percent / 100).copied().unwrap_or(0).div_ceil(1000)
        };
        let (widths, errors) = (&self.half_widths_ns, &self.errors_ns);
        [place(widths, 50), place(widths, 99), place(errors, 50), place(errors, 99)]
    }
}
