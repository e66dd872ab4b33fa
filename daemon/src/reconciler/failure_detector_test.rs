//! Tables of what is noticed, and a simulation of a link that comes and goes.
//!
//! Seen to fail with each of: silence without the watching's limit; a repairing node taken for one
//! that takes part; `hears` of a silent or leaving witness; joining without the run; a stop believed
//! of an earlier life; the own pause ignored.

use proptest::prelude::*;

use tokio::time::Instant;

use super::*;

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

fn row(name: &str, state: MemberState) -> MemberRow {
    let name = name.to_owned();
    MemberRow { name, raft_id: 7, state: state.into(), starts: 2, ..MemberRow::default() }
}

fn voice(age_ms: u32, run_ms: u32) -> Voice {
    Voice { age: MS * age_ms, run: MS * run_ms, starts: 2, ..Voice::default() }
}

/// What n1, primary for `watching`, notes of n4 in a state, given who is heard.
fn noted(state: MemberState, voices: &[(&str, Voice)], watching: Duration) -> String {
    let voices: BTreeMap<_, _> = voices.iter().map(|(n, v)| (*n, v.clone())).collect();
    let rows = [row("n1", MemberState::Joined), row("n4", state)];
    let look =
        Look { name: "n1", starts: 2, nonce: &[7; 16], rows: &rows, voices: &voices, watching };
    let notes: Vec<_> = transitions(&look).iter().map(said).collect();
    notes.join("; ")
}

fn said(notice: &Notice) -> String {
    assert_eq!((&*notice.name, notice.raft_id), ("n4", 7));
    let state = MemberState::try_from(notice.state).unwrap().as_str();
    let text = format!("{state} {} {} {}", notice.starts, notice.reason, notice.detail);
    text.trim_end().to_owned()
}

#[test]
fn silence_becomes_suspicion_and_then_absence() {
    use MemberState::{Admitted, Joined, Left, Removed, Suspect};
    for (state, age_ms, watching, expected) in [
        (Joined, 999, LONG, ""),
        (Joined, 1000, LONG, "suspect 0"),
        (Suspect, 3999, LONG, ""),
        (Suspect, 4000, LONG, "left 0 unreachable"),
        // Somebody was suspect under another primary already, or nobody looked in between.
        (Joined, 4000, LONG, "left 0 unreachable"),
        (Left, 4000, LONG, ""),
        (Removed, 4000, LONG, ""),
        (Admitted, 4000, LONG, ""),
        // Times start over with a primary.
        (Joined, 60_000, MS * 999, ""),
        (Joined, 60_000, MS * 1000, "suspect 0"),
        (Suspect, 60_000, MS * 3999, ""),
        (Suspect, 60_000, MS * 4000, "left 0 unreachable"),
    ] {
        let heard = noted(state, &[("n4", voice(age_ms, 60_000))], watching);
        assert_eq!(heard, expected, "{state:?}, silent for {age_ms} ms, watched {watching:?}");
    }
    assert_eq!(noted(Joined, &[], MS * 999), "");
    assert_eq!(noted(Joined, &[], MS * 1000), "suspect 0");
    assert_eq!(noted(Suspect, &[], MS * 4000), "left 0 unreachable");
}

#[test]
fn a_node_that_others_hear_is_cut_off() {
    let witness = |age_ms, leaving, hears: &str| Voice {
        hears: hears.split(' ').map(ToOwned::to_owned).collect(),
        leaving,
        ..voice(age_ms, 60_000)
    };
    for (n2, n3, expected) in [
        (witness(0, false, "n1 n3"), witness(0, false, "n1 n4"), "left 0 cut off n3 hears it"),
        (witness(0, false, "n4"), witness(0, false, "n4"), "left 0 cut off n2, n3 hear it"),
        (witness(0, false, "n1"), witness(0, false, "n2"), "left 0 unreachable"),
        // A witness that is silent itself, or goes, is none.
        (witness(1000, false, "n4"), witness(0, true, "n4"), "left 0 unreachable"),
    ] {
        // What it said of itself before is no testimony.
        let n4 = witness(4000, false, "n4");
        let voices = [("n2", n2), ("n3", n3), ("n4", n4)];
        assert_eq!(noted(MemberState::Suspect, &voices, LONG), expected);
    }
}

#[test]
fn who_is_heard_for_a_moment_is_back() {
    use MemberState::{Admitted, Joined, Left, Removed, Suspect};
    for (state, voice, expected) in [
        (Suspect, voice(0, 299), ""),
        (Suspect, voice(999, 300), "joined 2"),
        (Left, voice(0, 300), "joined 2"),
        (Admitted, voice(0, 300), "joined 2"),
        (Removed, voice(0, 300), ""),
        (Joined, voice(0, 300), ""),
        // It was restarted in less than the time after which silence counts.
        (Joined, Voice { starts: 3, ..voice(0, 299) }, ""),
        (Joined, Voice { starts: 3, ..voice(0, 300) }, "joined 3"),
    ] {
        // It need not have been watched for long: a voice is a voice.
        assert_eq!(noted(state, &[("n4", voice.clone())], MS), expected, "{state:?}: {voice:?}");
    }
}

#[test]
fn an_announced_stop_counts_at_once_and_for_its_own_life_only() {
    use MemberState::{Admitted, Joined, Left, Suspect};
    for (state, starts, age_ms, expected) in [
        (Joined, 2, 0, "left 2 stopped"),
        (Suspect, 2, 0, "left 2 stopped"),
        // The announcement stands, however long ago it was made: it is the reason for the silence.
        (Joined, 2, 60_000, "left 2 stopped"),
        (Joined, 3, 0, "left 3 stopped"),
        (Joined, 1, 0, ""),
        (Left, 2, 0, ""),
        (Admitted, 2, 0, ""),
    ] {
        let leaving = Voice { leaving: true, starts, ..voice(age_ms, 1000) };
        let heard = noted(state, &[("n4", leaving)], LONG);
        assert_eq!(heard, expected, "{state:?}, life {starts}, {age_ms} ms ago");
    }
}

#[test]
fn a_node_without_a_proven_store_takes_no_part_whatever_it_says() {
    let repairing = |leaving| Voice { repairing: true, starts: 0, leaving, ..voice(0, 60_000) };
    let n3 = Voice { hears: vec!["n4".to_owned()], ..voice(0, 60_000) };
    for leaving in [false, true] {
        let voices = [("n3", n3.clone()), ("n4", repairing(leaving))];
        assert_eq!(noted(MemberState::Left, &voices, LONG), "");
        assert_eq!(noted(MemberState::Joined, &voices, MS * 1000), "suspect 0");
        assert_eq!(
            noted(MemberState::Suspect, &voices, LONG),
            "left 0 unreachable it cannot prove its store intact"
        );
    }
}

#[test]
fn the_primary_notes_itself() {
    let voices = BTreeMap::new();
    for (state, starts, expected) in [
        (MemberState::Admitted, 1, "joined 1"),
        (MemberState::Left, 2, "joined 2"),
        (MemberState::Suspect, 2, "joined 2"),
        (MemberState::Joined, 3, "joined 3"),
        (MemberState::Joined, 2, ""),
        (MemberState::Removed, 3, ""),
    ] {
        let rows = [row("n4", state)];
        let look = Look {
            name: "n4",
            starts,
            nonce: &[7; 16],
            rows: &rows,
            voices: &voices,
            watching: LONG,
        };
        assert_eq!(transitions(&look).iter().map(said).collect::<String>(), expected, "{state:?}");
    }
}

#[tokio::test]
async fn silence_counts_anew_after_a_pause_of_this_node() {
    let mut detector = FailureDetector::default();
    let start = Instant::now();
    let mut watched = |at_ms: u32| detector.watching_at(start + MS * at_ms).as_millis();
    for (at_ms, expected) in
        [(0, 0), (100, 100), (600, 600), (1100, 1100), (1601, 0), (1700, 99), (2201, 0)]
    {
        assert_eq!(watched(at_ms), expected, "at {at_ms} ms");
    }
}

/// One step of 50 ms: whether n4 is heard in it, whether n1 runs in it, and whether n4 was started
/// anew.
type Step = (bool, bool, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Stretches, so that silences of every length come up.
    let heard =
        prop_oneof![2 => Just((true, false)), 2 => Just((false, false)), 1 => Just((true, true))];
    let stretch = (heard, prop::bool::weighted(0.9), 1_usize..120);
    prop::collection::vec(stretch, 1..30).prop_map(|stretches| {
        let steps = stretches.into_iter().flat_map(|((heard, born), runs, length)| {
            (0..length).map(move |at| (heard, runs, born && at == 0))
        });
        steps.collect()
    })
}

/// What the simulation knows of n4.
struct Link {
    row: MemberRow,
    voice: Option<(u32, u32, u64)>,
}

proptest! {
    /// However the link and the primary behave: nothing is noted without the silence or the voice that
    /// it stands for, all of it while this node ran, and nothing that changes nothing.
    #[test]
    fn nothing_is_noted_without_its_time(steps in steps()) {
        let start = Instant::now();
        let mut detector = FailureDetector::default();
        let mut link = Link { row: row("n4", MemberState::Joined), voice: None };
        let (mut starts, mut ran, mut now_ms) = (2, None::<(u32, u32)>, 0_u32);
        for (heard, runs, born) in steps {
            now_ms += 50;
            starts += u64::from(born);
            if !runs {
                continue;
            }
            // A pause of up to half a second is none.
            let before = ran.filter(|(_, last)| now_ms - last <= 500);
            let ran_since = before.map_or(now_ms, |(since, _)| since);
            ran = Some((ran_since, now_ms));
            if heard {
                let run = link.voice.filter(|(at, _, life)| now_ms - at < 500 && *life == starts);
                link.voice = Some((now_ms, run.map_or(now_ms, |(_, since, _)| since), starts));
            }
            let of = |(at, since, starts): (u32, u32, u64)| {
                Voice { starts, ..voice(now_ms - at, at - since) }
            };
            let voices = link.voice.map(|voice| ("n4", of(voice))).into_iter().collect();
            let watching = detector.watching_at(start + MS * now_ms);
            let rows = [link.row.clone()];
            let look = Look { name: "n1", starts: 1, nonce: &[7; 16], rows: &rows, voices: &voices, watching };
            let notices = transitions(&look);
            prop_assert!(notices.len() <= 1);
            let Some(notice) = notices.first() else { continue };
            let state = MemberState::try_from(notice.state).unwrap();
            let quiet_ms = now_ms - link.voice.map_or(0, |(at, _, _)| at);
            let ran_ms = now_ms - ran_since;
            let silent = |ms: u32| quiet_ms >= ms && ran_ms >= ms;
            match state {
                MemberState::Left => prop_assert!(silent(4000), "{quiet_ms} {ran_ms}"),
                MemberState::Suspect => prop_assert!(silent(1000), "{quiet_ms} {ran_ms}"),
                MemberState::Admitted | MemberState::Removed => prop_assert!(false, "{state:?}"),
                MemberState::Joined => {
                    let (at, since, life) = link.voice.unwrap();
                    prop_assert!(at - since >= 300 && now_ms - at < 1000 && life == notice.starts);
                    link.row.starts = notice.starts;
                }
            }
            prop_assert!(state != link.row.noticed() || state == MemberState::Joined);
            link.row.state = state.into();
        }
    }
}
