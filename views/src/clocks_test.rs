//! Seen to fail with the bounds of a suspect clock shown as a claim, and with `*` given to the
//! first used server instead of the best.

use super::*;
use crate::show::Shape;
use crate::show::tests::shown;

const NOW: u64 = 1_795_224_645_000_000_000;

fn source(address: &str, verdict: &str, distance_ns: u64) -> ClockSource {
    ClockSource {
        address: address.into(),
        reach: 0o377,
        stratum: 2,
        offset_ns: -1_500,
        delay_ns: 250_000,
        distance_ns,
        verdict: verdict.into(),
        next_poll_ms: 1500,
        refid: "GPS".into(),
        poll_s: 16,
        age_ms: Some(12_400),
        refused: vec![Refused { reason: "timeout".into(), count: 3 }],
        asked: "192.0.2.1:123".into(),
    }
}

fn report() -> ClockReport {
    ClockReport {
        node: "n1".into(),
        state: "synced".into(),
        now_ns: NOW,
        earliest_ns: Some(NOW - 1_000_000),
        latest_ns: Some(NOW + 500_001),
        drift_ppb: 50_000,
        max_error_us: 100_000,
        sources: vec![
            source("a:123", "selected", 900_000),
            source("b:123", "selected", 800_000),
            source("c:123", "falseticker", 100),
        ],
        peers: vec![ClockPeer {
            node: "n2".into(),
            state: "synced".into(),
            offset_ns: 12_345,
            delay_ns: 300_000,
            error_bound_us: Some(950),
            verdict: "compatible".into(),
            age_ms: 90,
        }],
        epoch: 1,
        refusal_in_ms: Some(1_979_500),
        may_lead: true,
        slew_ns: 6_523,
        leap: "normal".into(),
        ..ClockReport::default()
    }
}

fn tracked(view: &ClockView, key: &str) -> String {
    let lines = view.tracking();
    lines.into_iter().find(|(name, _)| *name == key).unwrap().1
}

#[test]
fn tracking_is_in_chronyc_s_words() {
    let view = ClockView::from(report());
    for (key, value) in [
        ("Reference", "a:123, b:123 (2 of 3)"),
        ("Stratum", "3"),
        ("System time", "0.000006523 seconds slow of NTP time"),
        ("Error bound", "0.001000000 seconds"),
        ("Error limit", "0.100000000 seconds"),
        ("Root distance", "0.000800000 seconds"),
        ("Drift allowance", "50.000 ppm"),
        ("Update interval", "16 seconds"),
        ("Leap status", "Normal"),
        ("Refusal in", "1979 seconds without any server"),
        ("May lead", "yes"),
    ] {
        assert_eq!(tracked(&view, key), value, "{key}");
    }
    let fast = ClockView::from(ClockReport { slew_ns: -1_000, ..report() });
    assert_eq!(tracked(&fast, "System time"), "0.000001000 seconds fast of NTP time");
}

#[test]
fn what_is_not_known_is_said_to_be_unknown() {
    let bare = ClockReport { node: "n1".into(), state: "local".into(), ..ClockReport::default() };
    let view = ClockView::from(bare);
    for key in ["Stratum", "Earliest", "Latest", "Error bound", "Root distance", "Refusal in"] {
        assert_eq!(tracked(&view, key), "unknown", "{key}");
    }
    assert_eq!(tracked(&view, "Reference"), "the machine's own clock");
    let unsynced = ClockView::from(ClockReport { state: "unsynced".into(), ..report() });
    assert_eq!(tracked(&unsynced, "Reference"), "a:123, b:123 (2 of 3)");
}

#[test]
fn what_a_suspect_clock_believed_is_no_claim() {
    let suspect = ClockReport {
        state: "suspect".into(),
        reason: "2 of 2 peers contradict it".into(),
        ..report()
    };
    assert_eq!(error_bound_ns(&suspect), None);
    let view = ClockView::from(suspect);
    assert_eq!((view.earliest.as_ref(), view.error_bound_us), (None, None));
    assert_eq!(tracked(&view, "State"), "suspect (2 of 2 peers contradict it)");
    let error = view.verdict().unwrap_err();
    assert_eq!(error.code, ExitCode::Clock);
    assert_eq!(error.what, "the clock of n1 is suspect: 2 of 2 peers contradict it");
}

#[test]
fn a_bound_past_the_limit_is_said() {
    let late = ClockReport {
        state: "expired".into(),
        latest_ns: Some(NOW + 100_000_001),
        refusal_in_ms: None,
        ..report()
    };
    assert_eq!(tracked(&ClockView::from(late), "Refusal in"), "past the limit");
}

#[test]
fn sources_carry_chronyc_s_marks() {
    let view = ClockView::from(report());
    assert_eq!(
        shown(Shape::Table, view.sources()),
        "\
NODE  MS  ADDRESS  STRATUM  POLL  REACH  LASTRX  OFFSET   BOUND      REFUSED  VERDICT
n1    ^+  a:123    2        16s   377    12s     -1500ns  +/- 900us  3        selected
n1    ^*  b:123    2        16s   377    12s     -1500ns  +/- 800us  3        selected
n1    ^x  c:123    2        16s   377    12s     -1500ns  +/- 100ns  3        falseticker
"
    );
    assert_eq!(
        shown(Shape::Plain, &view.sources()[..1]),
        "n1\t^+\ta:123\t2\t16\t377\t12400\t-1500\t900000\t250000\tGPS\tselected\ttimeout=3\n"
    );
    assert_eq!(
        view.sources()[0].refusals().as_deref(),
        Some("n1: 3 timeout refused answers of a:123")
    );
    for (verdict, wanted) in [
        ("unreachable", "^?"),
        ("waiting", "^?"),
        ("kiss RATE", "^-"),
        ("rejected stratum", "^-"),
        ("disagree", "^-"),
    ] {
        assert_eq!(mark(verdict, false), wanted, "{verdict}");
    }
}

#[test]
fn a_server_without_a_sample_has_no_offset() {
    let silent = ClockSource { age_ms: None, ..source("a:123", "waiting", 0) };
    let report = ClockReport { sources: vec![silent], ..report() };
    let line = shown(Shape::Table, ClockView::from(report).sources());
    let fields: Vec<&str> = line.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(&fields[6..9], ["-", "-", "-"]);
}

#[test]
fn peers_are_lines_of_their_own() {
    assert_eq!(
        shown(Shape::Plain, ClockView::from(report()).peers()),
        "n1\tn2\tsynced\t12345\t300000\t950\t90\tcompatible\n"
    );
    assert_eq!(
        shown(Shape::Table, ClockView::from(report()).peers()),
        "\
NODE  PEER  STATE   OFFSET  DELAY  BOUND      LASTRX  VERDICT
n1    n2    synced  +13us   300us  +/- 950us  0s      compatible
"
    );
}

#[test]
fn a_clock_has_exactly_these_fields() {
    let text = serde_json::to_string(&ClockView::from(ClockReport {
        sources: Vec::new(),
        peers: Vec::new(),
        ..report()
    }))
    .unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"node":"n1","state":"synced","now":"2026-11-21T01:30:45.000000000Z","#,
            r#""earliest":"2026-11-21T01:30:44.999000000Z","#,
            r#""latest":"2026-11-21T01:30:45.000500001Z","error_bound_us":1000,"#,
            r#""max_error_us":100000,"drift_ppb":50000,"hlc":null,"ceiling":null,"reason":"","#,
            r#""reference":[],"stratum":null,"root_distance_ns":null,"update_interval_s":null,"#,
            r#""slew_ns":6523,"leap":"normal","hlc_lead_ns":0,"epoch":1,"#,
            r#""refusal_in_ms":1979500,"may_lead":true,"alarms":[],"sources":[],"peers":[]}"#
        )
    );
}

#[test]
fn numbers_are_short_and_never_too_small() {
    let texts =
        [0, 9_999, 10_000, 10_001, 9_999_000, 9_999_001, 9_999_000_000, 10_000_000_000].map(human);
    assert_eq!(texts, ["0ns", "9999ns", "10us", "11us", "9999us", "10ms", "9999ms", "10s"]);
    assert_eq!(decimal(-1_500_000_000), "-1.500000000");
    assert_eq!([12_400, 600_000, 36_000_000].map(age), ["12s", "10m", "10h"]);
}
