//! The clock's history by itself: moments in, entries out.
//!
//! Seen to fail: without `sample` the worst bound is the last; with `worst_us` kept over an unknown
//! moment a period without bounds claims one; with the credit not spent a flapping clock floods;
//! with the waiting servers not taken back, an entry tells a change that was undone.

use clock::ClockState::{self, Holdover, Suspect, Synced, Unsynced};
use proto::event::{ClockCause, ClockEvent};

use super::history::{History, Moment};

const SECOND_NS: u64 = 1_000_000_000;
const WALL_S: u64 = 1_795_219_200;

/// A clock whose reading is right: both in seconds since the start.
fn at(second: u64, state: ClockState, error_us: Option<u64>) -> Moment {
    let (raw_ns, now_ns) = ((1000 + second) * SECOND_NS, (WALL_S + second) * SECOND_NS);
    Moment { raw_ns, now_ns, state, error_us }
}

fn new(every_s: u64) -> History {
    History::new("n1".to_owned(), every_s * SECOND_NS, &at(0, Unsynced, None))
}

fn due(history: &mut History, now: &Moment) -> Vec<ClockEvent> {
    history.due(now, now.state != Unsynced, || format!("clock {}", now.state))
}

/// A history whose first entry, synced at second 1, is written.
fn started(every_s: u64) -> History {
    let mut history = new(every_s);
    assert_eq!(due(&mut history, &at(1, Synced, Some(500))).len(), 1);
    history
}

#[test]
fn the_first_entry_is_the_start_and_speaks_of_no_time() {
    let mut history = new(60);
    assert_eq!(due(&mut history, &at(0, Unsynced, None)), []);
    let [start] = &due(&mut history, &at(1, Synced, Some(500)))[..] else { panic!() };
    assert_eq!(
        (start.cause, &*start.node, &*start.text),
        (ClockCause::Start, "n1", "clock synced")
    );
    assert_eq!((&*start.was, &*start.state), ("unsynced", "synced"));
    assert_eq!((start.since_ns, start.until_ns), ((WALL_S + 1) * SECOND_NS, start.since_ns));
    assert_eq!((start.worst_error_us, start.error_us), (Some(500), Some(500)));
    assert_eq!(due(&mut history, &at(2, Synced, Some(501))), [], "and once only");
}

#[test]
fn a_node_that_finds_no_server_starts_too_and_syncs_later() {
    let mut history = new(60);
    // Its guess of the time lies a day ahead.
    let ahead_ns = 86_400 * SECOND_NS;
    let guess = |second| {
        let moment = at(second, Unsynced, None);
        Moment { now_ns: moment.now_ns + ahead_ns, ..moment }
    };
    let start = history.due(&guess(8), true, || "clock unsynced".to_owned());
    assert_eq!((start[0].cause, &*start[0].state), (ClockCause::Start, "unsynced"));
    let [synced] = &due(&mut history, &at(20, Synced, Some(9)))[..] else { panic!() };
    assert_eq!(
        (synced.cause, &*synced.was, &*synced.state),
        (ClockCause::State, "unsynced", "synced")
    );
    assert_eq!(
        synced.until_ns - synced.since_ns,
        12 * SECOND_NS,
        "what passed, not what was guessed"
    );
    assert_eq!((synced.worst_error_us, synced.error_us), (None, Some(9)));
}

#[test]
fn an_entry_carries_the_worst_of_its_period_and_the_next_begins_where_it_ends() {
    let mut history = started(60);
    history.sample(Some(40_000));
    assert_eq!(due(&mut history, &at(30, Synced, Some(600))), []);
    let [first] = &due(&mut history, &at(61, Synced, Some(700)))[..] else { panic!() };
    assert_eq!(first.cause, ClockCause::History);
    assert_eq!((first.worst_error_us, first.error_us), (Some(40_000), Some(700)));
    let [second] = &due(&mut history, &at(121, Synced, Some(650)))[..] else { panic!() };
    assert_eq!(second.since_ns, first.until_ns);
    assert_eq!(
        second.worst_error_us,
        Some(700),
        "the period begins with what the last one ended with"
    );
}

#[test]
fn a_moment_without_a_bound_makes_the_period_unknown() {
    let mut history = started(60);
    history.sample(None);
    history.sample(Some(500));
    let [entry] = &due(&mut history, &at(61, Synced, Some(500)))[..] else { panic!() };
    assert_eq!((entry.worst_error_us, entry.error_us), (None, Some(500)));
    assert_eq!(due(&mut history, &at(121, Synced, Some(500)))[0].worst_error_us, Some(500));
}

#[test]
fn a_change_of_state_is_told_once_by_what_explains_it() {
    let mut history = started(60);
    let [entry] = &due(&mut history, &at(5, Holdover, Some(800)))[..] else { panic!() };
    assert_eq!(
        (entry.cause, &*entry.was, &*entry.state),
        (ClockCause::State, "synced", "holdover")
    );
    assert_eq!(due(&mut history, &at(6, Holdover, Some(801))), []);
    history.note(ClockCause::OsStep, "stepped");
    history.note(ClockCause::Suspend, "suspended");
    let entries = due(&mut history, &at(7, Suspect, None));
    let told: Vec<_> = entries.iter().map(|e| (e.cause, &*e.was, &*e.state)).collect();
    assert_eq!(
        told,
        [(ClockCause::Suspend, "holdover", "suspect"), (ClockCause::OsStep, "suspect", "suspect")]
    );
    assert_eq!(entries[1].since_ns, entries[1].until_ns);
}

#[test]
fn servers_are_told_at_most_every_ten_seconds_and_the_latest_wins() {
    let mut history = started(3600);
    let told = |history: &mut History, second, text: &str| -> Vec<String> {
        history.servers(text);
        let entries = due(history, &at(second, Synced, Some(1)));
        entries.into_iter().map(|entry| entry.text).collect()
    };
    assert_eq!(told(&mut history, 2, ""), [""; 0]);
    assert_eq!(told(&mut history, 3, "a is a falseticker"), ["a is a falseticker"]);
    for second in 4..13 {
        let text = if second % 2 == 0 { "" } else { "b is unreachable" };
        assert_eq!(told(&mut history, second, text), [""; 0]);
    }
    assert_eq!(told(&mut history, 13, "c is a falseticker"), ["c is a falseticker"]);
    assert_eq!(told(&mut history, 14, ""), [""; 0]);
    // Undone before it was told: there is nothing to tell.
    assert_eq!(told(&mut history, 15, "c is a falseticker"), [""; 0]);
    assert_eq!(told(&mut history, 40, "c is a falseticker"), [""; 0]);
}

#[test]
fn a_flapping_clock_cannot_flood() {
    let mut history = started(60);
    let (mut entries, mut last) = (Vec::new(), at(1, Synced, Some(500)));
    for tenth in 0..6000_u64 {
        let state = if tenth % 2 == 0 { Holdover } else { Synced };
        let moment = at(2, state, Some(500 + tenth));
        let by_ns = tenth * SECOND_NS / 10;
        last = Moment { raw_ns: moment.raw_ns + by_ns, now_ns: moment.now_ns + by_ns, ..moment };
        entries.extend(due(&mut history, &last));
    }
    assert!((60..=82).contains(&entries.len()), "{} in ten minutes", entries.len());
    // Nothing is lost of what counts: no gap, and the worst of all of it.
    assert!(entries.windows(2).all(|pair| pair[0].until_ns == pair[1].since_ns));
    assert!(entries.windows(2).all(|pair| pair[0].state == pair[1].was));
    let end = due(&mut history, &Moment { raw_ns: last.raw_ns + 60 * SECOND_NS, ..last });
    entries.extend(end);
    assert_eq!(entries.iter().filter_map(|e| e.worst_error_us).max(), Some(500 + 5999));
}

#[test]
fn a_long_sentence_is_cut_between_characters() {
    let mut history = started(60);
    history.note(ClockCause::Policy, "ä".repeat(400));
    let entries = due(&mut history, &at(3, Synced, Some(1)));
    assert_eq!(entries[0].text, "ä".repeat(250));
}
