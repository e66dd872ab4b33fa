//! Seen to fail with: the better of two entries taken where they overlap; the end of the range not
//! cut; a row of no data left out; the beginning of an unsynced clock believed.

use proptest::prelude::*;
use proto::Header;

use super::*;

const S: u64 = 1_000_000_000;

fn entry(seq: u64, cause: ClockCause, was: &str, from: u64, to: u64, worst: Option<u64>) -> Entry {
    let event = ClockEvent {
        node: "n1".into(),
        cause,
        state: if cause == ClockCause::Start { "unsynced" } else { "synced" }.into(),
        was: was.into(),
        since_ns: from * S,
        until_ns: to * S,
        worst_error_us: worst,
        error_us: worst,
        text: format!("entry {seq}"),
    };
    Entry { event, seq, stamp: format!("stamp {seq}") }
}

fn history(seq: u64, from: u64, to: u64, worst: u64) -> Entry {
    entry(seq, ClockCause::History, "synced", from, to, Some(worst))
}

fn range(since: Option<u64>, until: Option<u64>, now: u64) -> Range {
    Range { since_ns: since.map(|s| s * S), until_ns: until.map(|s| s * S), now_ns: now * S }
}

/// `from-to state within seq` of each row, in seconds.
fn short(rows: &[Row]) -> Vec<String> {
    let seq = |row: &Row| row.proof.as_ref().map_or_else(|| "-".into(), |(seq, _)| seq.to_string());
    let row = |row: &Row| {
        let (from, to, within) = (row.from_ns / S, row.to_ns / S, row.within.as_str());
        format!("{from}-{to} {} {within} {}", row.state, seq(row))
    };
    rows.iter().map(row).collect()
}

#[test]
fn each_entry_proves_the_time_before_it() {
    let entries = [
        entry(1, ClockCause::Start, "unsynced", 100, 100, None),
        entry(2, ClockCause::State, "unsynced", 100, 103, None),
        history(3, 103, 163, 900),
        history(4, 163, 223, 60_000),
    ];
    let rows = rows(&entries, range(None, None, 230), 50_000);
    assert_eq!(
        short(&rows),
        ["100-103 unsynced unknown 2", "103-163 synced yes 3", "163-223 synced no 4"]
    );
    assert_eq!((rows[1].cause, rows[1].reason.as_str()), ("history", "entry 3"));
    let sum = Sum::of(&rows);
    assert!(!sum.is_good());
    assert_eq!(sum.sentence("50ms"), "60 s above 50ms, 3 s unknown");
    assert_eq!(Sum::of(&rows[1..2]).sentence("50ms"), "60 s within 50ms");
    assert!(Sum::of(&rows[1..2]).is_good());
}

#[test]
fn the_tolerance_itself_is_within() {
    let within = |tolerance_us| {
        rows(&[history(1, 0, 60, 900)], range(None, None, 60), tolerance_us)[0].within
    };
    assert_eq!(within(900), Within::Yes);
    assert_eq!(within(899), Within::No);
}

#[test]
fn a_node_that_was_down_has_no_data() {
    let entries = [
        history(1, 100, 160, 900),
        entry(5, ClockCause::Start, "unsynced", 300, 300, None),
        entry(6, ClockCause::State, "unsynced", 300, 302, None),
        history(7, 302, 362, 900),
    ];
    let rows = rows(&entries, range(None, None, 362), 50_000);
    assert_eq!(
        short(&rows),
        [
            "100-160 synced yes 1",
            "160-300 no data unknown -",
            "300-302 unsynced unknown 6",
            "302-362 synced yes 7"
        ]
    );
    assert_eq!(rows[1].reason, "no entry before the one at its start");
    assert_eq!(Sum::of(&rows).sentence("50ms"), "142 s unknown");
}

#[test]
fn a_range_is_filled_to_both_ends() {
    let entries = [history(1, 100, 160, 900), history(2, 160, 220, 900)];
    let rows = |since, until, now| rows(&entries, range(since, until, now), 50_000);
    let filled = rows(Some(50), Some(250), 300);
    assert_eq!(
        short(&filled),
        [
            "50-100 no data unknown -",
            "100-160 synced yes 1",
            "160-220 synced yes 2",
            "220-250 no data unknown -"
        ]
    );
    assert_eq!(filled[0].reason, "before the first entry");
    assert_eq!(filled[3].reason, "after the last entry");
    assert_eq!(
        short(&rows(Some(120), Some(170), 300)),
        ["120-160 synced yes 1", "160-170 synced yes 2"]
    );
    // What is to come is nobody's.
    assert_eq!(short(&rows(Some(120), Some(900), 220)).len(), 2);
    assert_eq!(rows(Some(120), Some(120), 300), []);
}

#[test]
fn silence_longer_than_expected_is_told_without_being_asked_for() {
    let entries = [history(1, 100, 160, 900)];
    let last = |now| short(&rows(&entries, range(None, None, now), 50_000)).pop().unwrap();
    assert_eq!(last(280), "100-160 synced yes 1");
    assert_eq!(last(281), "160-281 no data unknown -");
    let slow = [history(1, 0, 600, 900)];
    assert_eq!(rows(&slow, range(None, None, 1800), 50_000).len(), 1);
    assert_eq!(rows(&slow, range(None, None, 1801), 50_000).len(), 2);
}

#[test]
fn a_node_without_entries_is_a_row_if_there_is_a_range() {
    let rows = |range| rows(&[], range, 50_000);
    assert_eq!(rows(range(None, None, 100)), []);
    assert_eq!(Sum::of(&[]).sentence("50ms"), "no clock history");
    assert!(!Sum::of(&[]).is_good());
    let one = rows(range(Some(10), None, 100));
    assert_eq!(short(&one), ["10-100 no data unknown -"]);
    assert_eq!(one[0].reason, "no entry at all");
}

#[test]
fn of_two_entries_for_one_time_the_worse_counts() {
    let worse = entry(2, ClockCause::Suspend, "suspect", 120, 140, None);
    let entries = [history(1, 100, 160, 900), worse, history(3, 130, 200, 70_000)];
    assert_eq!(
        short(&rows(&entries, range(None, None, 200), 50_000)),
        ["100-120 synced yes 1", "120-140 suspect unknown 2", "140-200 synced no 3"]
    );
}

#[test]
fn an_unsynced_clock_does_not_know_when_it_started() {
    let entries = [
        history(1, 4000, 4060, 900),
        entry(2, ClockCause::Start, "unsynced", 500, 500, None),
        // Its clock was an hour late until the servers answered.
        entry(3, ClockCause::State, "unsynced", 500, 4103, None),
        history(4, 4103, 4163, 900),
    ];
    let rows = rows(&entries, range(Some(4000), None, 4163), 50_000);
    assert_eq!(
        short(&rows),
        ["4000-4060 synced yes 1", "4060-4103 unsynced unknown 3", "4103-4163 synced yes 4"]
    );
}

#[test]
fn only_a_node_s_own_words_count() {
    let event = history(1, 0, 60, 900).event;
    let record = |from: &str, headers: Vec<Header>| Record {
        seq: 7,
        from: from.into(),
        stamp: vec![0; 20],
        headers,
        ..Record::default()
    };
    assert_eq!(super::entry(&record("n1", event.headers())).unwrap().unwrap().seq, 7);
    assert_eq!(super::entry(&record("n1", Vec::new())), Ok(None));
    let foreign = super::entry(&record("n2", event.headers())).unwrap_err();
    assert!(foreign.contains("record 7") && foreign.contains("n2"), "{foreign}");
    let mut broken = event.headers();
    broken.pop();
    assert!(super::entry(&record("n1", broken)).unwrap_err().contains("error_us"));
}

fn any_entry() -> impl Strategy<Value = (u64, u64, Option<u64>, bool)> {
    (0..200_u64, 0..200_u64, proptest::option::of(0..100_u64), any::<bool>())
}

proptest! {
    #[test]
    fn the_rows_tile_the_range_with_the_worst_of_what_is_known(
        made in proptest::collection::vec(any_entry(), 0..12),
        since in proptest::option::of(0..220_u64),
        until in proptest::option::of(0..220_u64),
        now in 0..240_u64,
    ) {
        let entries: Vec<Entry> = made
            .iter()
            .zip(1..)
            .map(|(&(from, to, worst, unsynced), seq)| {
                let was = if unsynced { "unsynced" } else { "synced" };
                entry(seq, ClockCause::State, was, from, to, worst)
            })
            .collect();
        let range = range(since, until, now);
        let rows = rows(&entries, range, 50);
        for pair in rows.windows(2) {
            prop_assert_eq!(pair[0].to_ns, pair[1].from_ns);
        }
        for row in &rows {
            prop_assert!(row.from_ns < row.to_ns);
        }
        if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            prop_assert!(since.is_none_or(|since| first.from_ns == since * S));
            prop_assert!(until.is_none_or(|until| last.to_ns == until.min(now) * S));
        } else if let (Some(since), Some(until)) = (since, until) {
            prop_assert!(since >= until.min(now));
        }
        // A second at a time, against all entries: exactly the worst of those that speak of it.
        let spans = spans(&entries);
        for row in &rows {
            for at in (row.from_ns / S)..(row.to_ns / S) {
                let here = spans.iter().filter(|s| s.from_ns <= at * S && s.to_ns > at * S);
                let here: Vec<Option<u64>> =
                    here.map(|span| span.entry.event.worst_error_us).collect();
                let worst = here.iter().copied().max_by_key(|us| (us.is_none(), *us));
                prop_assert_eq!(row.proof.is_some(), worst.is_some());
                prop_assert_eq!(row.worst_error_us, worst.flatten());
            }
        }
    }
}
