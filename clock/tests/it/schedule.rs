//! When a server is asked again, and what its answers do to that.

use clock::packet::{NtpTime, Packet};
use clock::poll::Poll;
use clock::sample::Limits;
use clock::{Answer, Failure, RawExchange, Scale, Source, Verdict};

const BASE_NS: u64 = 1_795_219_200_000_000_000;
const SCALE: Scale = Scale { base_ns: BASE_NS, raw0_ns: 0 };
const TIMEOUT: Answer = Answer::Failed(Failure::Timeout);

fn good() -> Answer {
    let now = NtpTime::from_unix_ns(BASE_NS);
    let packet =
        Packet { stratum: 1, precision: -20, receive: now, transmit: now, ..Packet::default() };
    Answer::Exchange(RawExchange { t1_raw_ns: 0, t4_raw_ns: 0, packet: packet.to_bytes() })
}

/// Feeds answers; returns the waits after each, without jitter, in milliseconds.
fn waits(source: &mut Source, answers: &[Answer]) -> Vec<Option<u64>> {
    let limits = Limits::new(50_000);
    let middle = |wait: &u64| wait / 5 / 2;
    answers
        .iter()
        .map(|answer| {
            source.answered(answer, &SCALE, &limits);
            let random = source.poll_mut().clone().after_query(0).map_or(0, |wait| {
                // The lowest jitter is 10 % off; the middle of the spread gives the plain wait.
                middle(&(wait * 10 / 9))
            });
            source.poll_mut().after_query(random)
        })
        .collect()
}

#[test]
fn a_burst_then_the_interval() {
    let mut public = Source::new(Poll::new(64_000, false));
    assert_eq!(
        waits(&mut public, &[good(); 6]),
        [Some(2000), Some(2000), Some(2000), Some(64_000), Some(64_000), Some(64_000)]
    );
    let mut private = Source::new(Poll::new(16_000, true));
    assert_eq!(waits(&mut private, &[good(); 4]), [Some(250), Some(250), Some(250), Some(16_000)]);
}

#[test]
fn the_interval_is_kept_in_range_and_spread() {
    assert_eq!(Poll::new(1, false).interval_ms(), 4_000);
    assert_eq!(Poll::new(u64::MAX, false).interval_ms(), 1_024_000);
    let mut poll = Poll::new(64_000, false);
    poll.settle();
    let waits: Vec<u64> =
        (0..20_000).filter_map(|random| poll.after_query(random * 7)).skip(3).collect();
    assert_eq!(waits.iter().min(), Some(&57_600));
    assert_eq!(waits.iter().max(), Some(&70_400));
}

#[test]
fn a_server_that_never_answered_is_asked_soon_and_then_less() {
    let mut source = Source::new(Poll::new(64_000, false));
    let answers = [TIMEOUT; 9];
    let seconds: Vec<_> =
        waits(&mut source, &answers).into_iter().map(|w| w.unwrap() / 1000).collect();
    assert_eq!(seconds, [2, 2, 2, 4, 8, 16, 32, 64, 64]);
    assert_eq!(waits(&mut source, &[good()]), [Some(64_000)]);
}

#[test]
fn rate_halves_the_pace_for_good_and_ends_the_burst() {
    let rate = Answer::Kiss(*b"RATE");
    let mut source = Source::new(Poll::new(64_000, false));
    assert_eq!(
        waits(&mut source, &[good(), rate, good(), rate, good()]),
        [Some(2000), Some(128_000), Some(128_000), Some(256_000), Some(256_000)]
    );
    waits(&mut source, &[rate; 8]);
    assert_eq!(source.poll_mut().interval_ms(), 1_024_000);
}

#[test]
fn deny_and_rstr_end_it_and_other_kisses_do_not() {
    for code in [*b"DENY", *b"RSTR"] {
        let mut source = Source::new(Poll::new(64_000, false));
        assert_eq!(waits(&mut source, &[good(), Answer::Kiss(code)]), [Some(2000), None]);
        source.restart();
        assert_eq!(source.poll_mut().after_query(0), None, "not even after a suspension");
        assert_eq!(source.own_verdict(), Some(Verdict::Kiss(code)));
    }
    let mut source = Source::new(Poll::new(64_000, false));
    assert_eq!(waits(&mut source, &[Answer::Kiss(*b"STEP"), good()]), [Some(2000), Some(2000)]);
    assert_eq!(source.own_verdict(), None);
}

#[test]
fn eight_misses_make_a_server_unreachable() {
    let mut source = Source::new(Poll::new(16_000, true));
    assert_eq!(source.own_verdict(), Some(Verdict::Waiting));
    waits(&mut source, &[good()]);
    assert!(source.estimate(0, 0).is_some());
    waits(&mut source, &[TIMEOUT; 7]);
    assert_eq!(source.own_verdict(), Some(Verdict::Failed(Failure::Timeout)));
    assert!(source.estimate(0, 0).is_some(), "its sample still counts");
    waits(&mut source, &[TIMEOUT]);
    assert_eq!(source.reach(), 0);
    assert_eq!(source.own_verdict(), Some(Verdict::Unreachable));
    assert!(source.estimate(0, 0).is_none());
    waits(&mut source, &[good()]);
    assert_eq!((source.reach(), source.own_verdict()), (1, None));
    assert_eq!(source.refused().get("timeout"), Some(&8));
}

#[test]
fn verdicts_are_short_words() {
    let texts = [
        (Verdict::Kiss(*b"RATE"), "kiss RATE"),
        (Verdict::Kiss([0, b'\n', 0xff, b'A']), "kiss \\x00\\n\\xffA"),
        (Verdict::Rejected(clock::Reject::NegativeDelay), "rejected negative delay"),
        (Verdict::Failed(Failure::Protocol("mode")), "failed mode"),
        (Verdict::Falseticker, "falseticker"),
    ];
    for (verdict, text) in texts {
        assert_eq!(verdict.to_string(), text);
    }
}
