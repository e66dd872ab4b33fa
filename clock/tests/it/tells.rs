//! What the tracker tells a person: why it is not synced, what to look at, and what it makes of each
//! server; and which answers it does not count.
//!
//! Seen to fail: with the answer to a question from before a suspension taken for a sample; with an
//! entry that leads to the node itself shown as unreachable after eight tries.

use clock::packet::{NtpTime, Packet};
use clock::poll::Poll;
use clock::sample::Limits;
use clock::tracker::Alarm;
use clock::{
    Answer, ClockState, Failure, LeapPolicy, RawExchange, Reject, Scale, Source, Tracker, Verdict,
};

const SECOND: u64 = 1_000_000_000;
const MILLI: i64 = 1_000_000;
const SCALE: Scale = Scale { base_ns: 1_795_219_200 * SECOND, raw0_ns: 0 };
const TIMEOUT: Answer = Answer::Failed(Failure::Timeout);

fn tracker(servers: usize) -> Tracker {
    let sources = (0..servers).map(|_| Source::new(Poll::new(64_000, false))).collect();
    Tracker::new(SCALE, Limits::new(0), 100_000_000, LeapPolicy::Smear, sources)
}

/// What a server answers at once that is off by so much, and was corrected so long ago.
fn says(raw_ns: u64, off_ns: i64, age_ns: u64) -> Answer {
    let now_ns = SCALE.local_ns(raw_ns).checked_add_signed(off_ns).unwrap();
    let now = NtpTime::from_unix_ns(now_ns);
    let packet = Packet {
        stratum: 1,
        precision: -20,
        receive: now,
        transmit: now,
        reference: NtpTime::from_unix_ns(now_ns - age_ns),
        ..Packet::default()
    };
    let packet = packet.to_bytes();
    Answer::Exchange(RawExchange { t1_raw_ns: raw_ns, t4_raw_ns: raw_ns, packet })
}

fn hear(tracker: &mut Tracker, raw_ns: u64, offs_ns: &[i64]) {
    for (index, off_ns) in offs_ns.iter().enumerate() {
        tracker.answered(index, &says(raw_ns, *off_ns, 0), raw_ns);
    }
}

fn told(tracker: &Tracker, raw_ns: u64) -> (ClockState, String) {
    (tracker.view().state_at(raw_ns), tracker.reason(raw_ns))
}

fn is(state: ClockState, reason: &str) -> (ClockState, String) {
    (state, reason.to_owned())
}

fn verdicts(tracker: &Tracker) -> Vec<String> {
    tracker.sources().map(|(_, verdict)| verdict.to_string()).collect()
}

#[test]
fn an_unsynced_clock_says_what_is_missing() {
    let none = tracker(0);
    assert_eq!(told(&none, 0), is(ClockState::Unsynced, "no time server is configured"));
    let mut one = tracker(1);
    assert_eq!(told(&one, 0), is(ClockState::Unsynced, "0 of 1 servers answer; 1 is needed"));
    hear(&mut one, SECOND, &[0]);
    assert_eq!(told(&one, SECOND), is(ClockState::Synced, ""));

    let mut three = tracker(3);
    hear(&mut three, SECOND, &[0]);
    let reason = "1 of 3 servers answers; 2 are needed";
    assert_eq!(told(&three, SECOND), is(ClockState::Unsynced, reason));
    hear(&mut three, SECOND, &[0, 10 * MILLI]);
    let reason = "2 of 3 servers answer, and no 2 of them agree";
    assert_eq!(told(&three, SECOND), is(ClockState::Unsynced, reason));
    hear(&mut three, SECOND, &[0, 10 * MILLI, 20 * MILLI]);
    let reason = "3 of 3 servers answer, and no 2 of them agree";
    assert_eq!(told(&three, SECOND), is(ClockState::Unsynced, reason));
    hear(&mut three, SECOND, &[0, 0, 20 * MILLI]);
    assert_eq!(told(&three, SECOND), is(ClockState::Synced, ""));
}

#[test]
fn a_clock_that_was_synced_says_what_it_lost() {
    let mut tracker = tracker(3);
    hear(&mut tracker, SECOND, &[0; 3]);
    let late_ns = 1030 * SECOND;
    tracker.pass(late_ns);
    // At 500 ppm, the allowance as long as nothing is measured.
    let lost = "0 of 3 servers answer; 2 are needed";
    let reason = format!("the error bound is 514.6 ms, the limit 100.0 ms; {lost}");
    assert_eq!(told(&tracker, late_ns), is(ClockState::Expired, &reason));
    tracker.set_max_error(SECOND);
    assert_eq!(told(&tracker, late_ns), is(ClockState::Holdover, lost));
    hear(&mut tracker, late_ns, &[0, 10 * MILLI, 20 * MILLI]);
    let split = "3 of 3 servers answer, and no 2 of them agree";
    assert_eq!(told(&tracker, late_ns), is(ClockState::Disagree, split));
    hear(&mut tracker, late_ns, &[0; 3]);
    assert_eq!(told(&tracker, late_ns), is(ClockState::Synced, ""));
    tracker.suspended(late_ns);
    let reason = format!("the machine was suspended; {lost}");
    assert_eq!(told(&tracker, late_ns), is(ClockState::Suspect, &reason));
}

#[test]
fn a_clock_that_was_set_back_says_how_far_it_is() {
    let mut tracker = tracker(3);
    hear(&mut tracker, SECOND, &[0; 3]);
    tracker.suspended(2 * SECOND);
    hear(&mut tracker, 3 * SECOND, &[-400 * MILLI + 50_000; 3]);
    let (state, reason) = told(&tracker, 3 * SECOND);
    assert_eq!(state, ClockState::Expired);
    assert!(reason.starts_with("the error bound is 400."), "{reason}");
    assert!(
        reason.ends_with("the reading is 400.0 ms ahead and waits for true time to catch up"),
        "{reason}"
    );
    let (state, reason) = told(&tracker, 3 * SECOND + 200_000_000);
    assert_eq!(state, ClockState::Expired);
    assert!(reason.contains("200.0 ms ahead"), "{reason}");
    assert_eq!(told(&tracker, 3 * SECOND + 400_000_000), is(ClockState::Synced, ""));
}

#[test]
fn a_wide_bound_is_the_servers() {
    let mut tracker = tracker(1);
    tracker.set_max_error(1000);
    hear(&mut tracker, SECOND, &[0]);
    let reason = "the error bound is 0.1 ms, the limit 0.1 ms; the servers themselves are not more \
                  accurate";
    assert_eq!(told(&tracker, SECOND), is(ClockState::Expired, reason));
}

#[test]
fn a_disrupted_clock_says_so() {
    let mut tracker = tracker(3);
    hear(&mut tracker, SECOND, &[0; 3]);
    hear(&mut tracker, 2 * SECOND, &[5000 * MILLI; 3]);
    assert_eq!(told(&tracker, 2 * SECOND), is(ClockState::Synced, ""), "two rounds are no proof");
    hear(&mut tracker, 3 * SECOND, &[5000 * MILLI]);
    let reason = "the servers contradicted the clock three times in a row, so it was set again";
    assert_eq!(told(&tracker, 3 * SECOND), is(ClockState::Suspect, reason));
    hear(&mut tracker, 4 * SECOND, &[5000 * MILLI]);
    assert_eq!(told(&tracker, 4 * SECOND), is(ClockState::Synced, ""));
}

#[test]
fn alarms_are_sentences() {
    let mut few = tracker(2);
    few.answered(1, &says(SECOND, 0, 25 * 3600 * SECOND), SECOND);
    assert_eq!(
        few.alarms(),
        [Alarm::FewServers { configured: 2 }, Alarm::StaleReference { server: 1 }]
    );
    assert_eq!(tracker(3).alarms(), []);
    let texts = [
        (Alarm::FewServers { configured: 0 }, "no time server is configured"),
        (
            Alarm::FewServers { configured: 1 },
            "1 time server is configured: with fewer than 3, a wrong one is not found out",
        ),
        (
            Alarm::FewServers { configured: 2 },
            "2 time servers are configured: with fewer than 3, a wrong one is not found out",
        ),
        (Alarm::Drift { measured_ppb: 500_001 }, "the counter drifts by 501 ppm"),
        (Alarm::Inconsistent { servers: 3 }, "the samples of 3 time servers contradict each other"),
        (
            Alarm::StaleReference { server: 0 },
            "the clock of time server 1 was last corrected over a day ago",
        ),
    ];
    for (alarm, text) in texts {
        assert_eq!(alarm.to_string(), text);
    }
}

#[test]
fn an_entry_that_is_no_server_is_told_by_its_reason() {
    let mut tracker = tracker(4);
    let failures = [Failure::Duplicate, Failure::Own, Failure::Unresolved, Failure::Network];
    for _ in 0..9 {
        for (index, failure) in failures.into_iter().enumerate() {
            tracker.answered(index, &Answer::Failed(failure), SECOND);
        }
    }
    let expected = ["failed duplicate", "failed own_address", "failed unresolved", "unreachable"];
    assert_eq!(verdicts(&tracker), expected);
    assert_eq!(tracker.reason(SECOND), "0 of 4 servers answer; 2 are needed");
}

#[test]
fn what_was_asked_before_a_suspension_does_not_count() {
    let mut tracker = tracker(1);
    let asked_before = says(SECOND, 0, 0);
    tracker.suspended(2 * SECOND);
    tracker.answered(0, &asked_before, 2 * SECOND);
    assert_eq!(tracker.view().state, ClockState::Unsynced);
    let (_, verdict) = tracker.sources().next().unwrap();
    assert_eq!(verdict, Verdict::Rejected(Reject::Overtaken));
    hear(&mut tracker, 2 * SECOND, &[0]);
    assert_eq!(tracker.view().state, ClockState::Synced);
}

#[test]
fn time_alone_makes_servers_stale() {
    let mut tracker = tracker(1);
    hear(&mut tracker, SECOND, &[0]);
    assert_eq!(verdicts(&tracker), ["selected"]);
    tracker.pass(1025 * SECOND);
    assert_eq!(verdicts(&tracker), ["selected"]);
    tracker.pass(1026 * SECOND);
    assert_eq!(verdicts(&tracker), ["waiting"]);
    tracker.answered(0, &TIMEOUT, 1027 * SECOND);
    assert_eq!(verdicts(&tracker), ["failed timeout"]);
}
