//! The clock's states: their texts, and every transition, in one table.
//!
//! Seen to fail: with a disruption that leaves the clock synced; with a suspect clock that silence
//! turns into holdover; with a first sync on servers of which one may be lying; with a round without a
//! sample that ends a suspicion.

use ClockState as S;
use clock::discipline::{Discipline, Round};
use clock::select::Selection;
use clock::{ClockState, ClockView, Interval, Scale};

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

/// What happens to a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// Enough servers answer and agree with each other and with the clock; a sample came.
    Agree,
    /// As before, but a server fell silent and no sample came.
    Kept,
    /// They agree well enough for a bound, not for a majority, and others have yet to answer.
    Split,
    /// They agree with each other, and not with the clock.
    Against,
    /// That for the third time running.
    Thrice,
    /// Too few servers are fresh.
    Silence,
    /// The servers contradict each other.
    Dispute,
    /// The machine was suspended.
    Suspend,
    /// No server has answered for so long that too few are fresh.
    Stale,
    /// The bound has grown beyond the limit.
    Wide,
    /// The limit is set below the bound.
    Tight,
    /// The limit is set far above the bound.
    Loose,
}

/// Every transition: a column per state, a row per input, a dot where the state stays. A clock may be
/// suspect without bounds, after a suspension, or with new ones, after a disruption. `local` is not
/// among them: such a clock has no servers, and time does nothing to it.
const TRANSITIONS: &str = "
            unsynced  synced    holdover  disagree  expired   suspended disrupted
agree       synced    .         synced    synced    synced    synced    synced
kept        .         .         synced    synced    .         .         .
split       .         .         synced    synced    synced    .         synced
against     synced    .         .         .         .         synced    .
thrice      synced    suspect   suspect   suspect   suspect   synced    .
silence     .         holdover  .         holdover  .         .         .
dispute     .         disagree  disagree  .         .         .         .
suspend     .         suspect   suspect   suspect   suspect   .         .
stale       .         holdover  .         .         .         .         .
wide        .         expired   expired   expired   .         .         .
tight       .         expired   expired   expired   .         .         .
loose       .         .         .         .         holdover  .         .
";

impl Input {
    const ALL: [Self; 12] = [
        Self::Agree,
        Self::Kept,
        Self::Split,
        Self::Against,
        Self::Thrice,
        Self::Silence,
        Self::Dispute,
        Self::Suspend,
        Self::Stale,
        Self::Wide,
        Self::Tight,
        Self::Loose,
    ];
}

struct Machine {
    discipline: Discipline,
    raw_ns: u64,
}

impl Machine {
    fn new() -> Self {
        let scale = Scale { base_ns: 1_795_219_200 * SECOND, raw0_ns: 0 };
        Self { discipline: Discipline::new(scale, 50_000, 100 * MILLI), raw_ns: SECOND }
    }

    fn round(&mut self, selection: Selection, new_sample: bool, settled: bool) {
        self.raw_ns += SECOND;
        let fresh_until_ns = self.raw_ns + 1024 * SECOND;
        let round = Round { selection, phi_ppb: 50_000, fresh_until_ns, new_sample, settled };
        self.discipline.round(self.raw_ns, &round);
    }

    fn hull(&mut self, mid_ms: i64, new_sample: bool) {
        let hull = Interval::around(mid_ms * 1_000_000, MILLI);
        self.round(Selection::Hull { hull, majority: Some(hull.into()) }, new_sample, true);
    }

    fn feed(&mut self, input: Input) {
        // The hull that agrees is where the last one was; the other is 5 s ahead.
        let here_ms = self.discipline.view().target_ns / 1_000_000;
        match input {
            Input::Agree => self.hull(here_ms, true),
            Input::Kept => self.hull(here_ms, false),
            Input::Split => {
                let hull = Interval::around(here_ms * 1_000_000, MILLI);
                self.round(Selection::Hull { hull, majority: None }, true, false);
            }
            Input::Against => self.hull(here_ms + 5000, true),
            Input::Thrice => (0..3).for_each(|_| self.hull(here_ms + 5000, true)),
            Input::Silence => self.round(Selection::NotEnough, false, true),
            Input::Dispute => self.round(Selection::Disagree, true, true),
            Input::Suspend => self.discipline.suspect(self.raw_ns),
            Input::Stale => self.raw_ns += 1100 * SECOND,
            Input::Wide => self.raw_ns += 10_000 * SECOND,
            Input::Tight => self.discipline.set_max_error(MILLI / 2),
            Input::Loose => self.discipline.set_max_error(10 * SECOND),
        }
    }

    fn state(&self) -> ClockState {
        self.discipline.view().state_at(self.raw_ns)
    }
}

/// A clock in the state of a column.
fn machine_in(column: &str) -> Machine {
    let inputs: &[Input] = match column {
        "unsynced" => &[],
        "synced" => &[Input::Agree],
        "holdover" => &[Input::Agree, Input::Silence],
        "disagree" => &[Input::Agree, Input::Dispute],
        "expired" => &[Input::Agree, Input::Silence, Input::Wide],
        "suspended" => &[Input::Agree, Input::Suspend],
        "disrupted" => &[Input::Agree, Input::Thrice],
        other => panic!("no column is called {other}"),
    };
    let mut machine = Machine::new();
    inputs.iter().for_each(|input| machine.feed(*input));
    let state = match column {
        "suspended" | "disrupted" => S::Suspect,
        name => name.parse().unwrap(),
    };
    assert_eq!(machine.state(), state, "{column}");
    machine
}

#[test]
fn every_input_in_every_state() {
    let mut lines = TRANSITIONS.trim().lines();
    let columns: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!((columns.len(), lines.clone().count()), (7, Input::ALL.len()));
    for (line, input) in lines.zip(Input::ALL) {
        let mut cells = line.split_whitespace();
        assert_eq!(cells.next(), Some(format!("{input:?}").to_lowercase().as_str()));
        assert_eq!(cells.clone().count(), columns.len(), "{line}");
        for (cell, column) in cells.zip(&columns) {
            let mut machine = machine_in(column);
            let was = machine.state();
            machine.feed(input);
            let expected = if cell == "." { was } else { cell.parse().unwrap() };
            assert_eq!(machine.state(), expected, "{column}, {input:?}");
        }
    }
}

#[test]
fn the_same_hull_again_ends_the_suspicion_and_silence_does_not() {
    let mut machine = Machine::new();
    for input in [Input::Agree, Input::Thrice, Input::Silence, Input::Dispute, Input::Kept] {
        machine.feed(input);
    }
    assert_eq!((machine.state(), machine.discipline.view().epoch), (S::Suspect, 2));
    assert!(machine.discipline.view().bound.is_some(), "the bound is the new hull");
    machine.feed(Input::Agree);
    assert_eq!((machine.state(), machine.discipline.view().epoch), (S::Synced, 2));
    machine.feed(Input::Suspend);
    assert_eq!(machine.discipline.view().bound, None);
    machine.feed(Input::Agree);
    assert_eq!((machine.state(), machine.discipline.view().epoch), (S::Synced, 3));
}

fn view(state: ClockState) -> ClockView {
    ClockView {
        bound: Some(Interval::around(0, 1_000_000)),
        phi_ppb: 50_000,
        fresh_until_ns: 1_000_000_000_000,
        epoch: 1,
        ..ClockView::unchecked(0, 1_795_219_200_000_000_000, 100_000_000, state)
    }
}

#[test]
fn states_read_back() {
    for state in ClockState::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
        assert_eq!(state.to_string(), state.as_str().to_lowercase());
    }
    for text in ["", "Synced", "free", " synced"] {
        let error = text.parse::<ClockState>().unwrap_err();
        assert_eq!(error.to_string(), format!("'{text}' is not a clock state"));
    }
}

#[test]
fn time_alone_makes_a_state_worse_and_never_better() {
    // 1 ms and 50 ppm: 100 ms are reached after 1980 s. Fresh samples end at 1000 s.
    let seconds = [0, 999, 1001, 1979, 1981, 100_000];
    let table = [
        (S::Unsynced, [S::Unsynced; 6]),
        (S::Synced, [S::Synced, S::Synced, S::Holdover, S::Holdover, S::Expired, S::Expired]),
        (S::Holdover, [S::Holdover, S::Holdover, S::Holdover, S::Holdover, S::Expired, S::Expired]),
        (S::Disagree, [S::Disagree, S::Disagree, S::Disagree, S::Disagree, S::Expired, S::Expired]),
        (S::Expired, [S::Expired; 6]),
        (S::Suspect, [S::Suspect; 6]),
        (S::Local, [S::Local; 6]),
    ];
    for (published, expected) in table {
        let found = seconds.map(|second| view(published).state_at(second * 1_000_000_000));
        assert_eq!(found, expected, "{published}");
    }
}

#[test]
fn only_states_with_a_claimed_bound_are_trusted() {
    let trusted: Vec<_> = ClockState::ALL.into_iter().filter(|state| state.is_trusted()).collect();
    assert_eq!(trusted, [ClockState::Synced, ClockState::Holdover, ClockState::Disagree]);
}

#[test]
fn the_error_is_the_larger_side() {
    let reading =
        ClockView { c_ns: 300_000, target_ns: 300_000, ..view(ClockState::Synced) }.now(0);
    assert_eq!(reading.error_ns(), Some(1_300_000));
    assert_eq!(reading.error_us(), Some(1300));
    let unknown = ClockView { bound: None, ..view(ClockState::Suspect) }.now(0);
    assert_eq!(unknown.error_ns(), None);
}
