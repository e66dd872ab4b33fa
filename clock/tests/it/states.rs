//! The clock's states: their texts, and what time alone does to each.

use clock::{ClockState, ClockView, Interval};

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
    use ClockState as S;
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
