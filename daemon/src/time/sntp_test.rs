//! One query against servers of every kind.
//!
//! Seen to fail: without the receive loop `strays_are_skipped` and `a_late_answer_is_a_stray` time
//! out or take the stray; with sntpc's own transmit time on the wire `the_nonce_is_fresh` fails.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use clock::packet::{NtpTime, Packet};
use clock::sample::Limits;
use clock::{Answer, Failure, Reject, Sample, Scale};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

use super::counter::{Counter, ManualClock};
use super::fake::{Asked, Fake, WALL_NS, utc_ns};
use super::sntp::{Queried, query};

const LONG: Duration = Duration::from_secs(10);
type Make = fn(&Asked) -> Packet;
const SHORT: Duration = Duration::from_millis(50);

fn scale() -> Scale {
    Scale { base_ns: WALL_NS, raw0_ns: ManualClock::START_NS }
}

async fn ask(fake: &Fake, clock: &Arc<ManualClock>, timeout: Duration) -> Queried {
    query(fake.address, &Counter::Manual(clock.clone()), &scale(), timeout).await
}

/// Asks once and judges what comes.
async fn judge(fake: &Fake) -> Result<Sample, Reject> {
    let clock = ManualClock::new(WALL_NS);
    let Answer::Exchange(exchange) = ask(fake, &clock, LONG).await.answer else {
        panic!("no exchange")
    };
    exchange.judge(&scale(), &Limits::new(50_000))
}

async fn answer_to(make: impl Fn(&Asked) -> Packet + Send + 'static) -> Answer {
    let fake = Fake::one(make).await;
    ask(&fake, &ManualClock::new(WALL_NS), LONG).await.answer
}

#[tokio::test]
async fn a_good_server_gives_its_offset_and_sntpc_agrees() {
    for offset_ns in [0, 1_234_567, -1_234_567, 3_600_000_000_000, -3_600_000_000_000] {
        let clock = ManualClock::new(WALL_NS);
        let fake = Fake::good(&clock, offset_ns).await;
        let asked = ask(&fake, &clock, LONG).await;
        let Answer::Exchange(exchange) = asked.answer else { panic!("{:?}", asked.answer) };
        let sample = exchange.judge(&scale(), &Limits::new(50_000)).unwrap();
        assert!(sample.theta_ns.abs_diff(offset_ns) <= 2, "{} {offset_ns}", sample.theta_ns);
        let theirs_us = asked.sntpc_offset_us.unwrap();
        assert!((sample.theta_ns / 1000).abs_diff(theirs_us) <= 2, "{theirs_us}");
        assert_eq!(asked.strays, 0);
    }
}

#[tokio::test]
async fn time_on_the_way_is_in_the_bound() {
    let clock = ManualClock::new(WALL_NS);
    let moved = clock.clone();
    // 3 ms to the server, 1 ms back: the offset is off by 1 ms, the bound covers it.
    let fake = Fake::start(move |asked| {
        moved.advance(3_000_000);
        let answer = asked.good(utc_ns(&moved, 0)).to_bytes().to_vec();
        moved.advance(1_000_000);
        vec![answer]
    })
    .await;
    let Answer::Exchange(exchange) = ask(&fake, &clock, LONG).await.answer else { panic!() };
    let sample = exchange.judge(&scale(), &Limits::new(50_000)).unwrap();
    assert!(sample.delta_ns.abs_diff(4_000_000) <= 2, "{}", sample.delta_ns);
    assert!(sample.theta_ns.abs_diff(1_000_000) <= 2, "{}", sample.theta_ns);
    assert!(sample.interval_at(exchange.t4_raw_ns, 50_000).contains(0));
}

#[tokio::test]
async fn strays_are_skipped() {
    let clock = ManualClock::new(WALL_NS);
    let fake = Fake::start(|asked| {
        let good = asked.good(WALL_NS);
        let forged = Packet { origin: NtpTime(good.origin.0 ^ 1), ..asked.good(WALL_NS + 1) };
        vec![vec![], b"short".to_vec(), vec![0; 600], forged.to_bytes().to_vec(), {
            let mut long = good.to_bytes().to_vec();
            long.extend([7; 20]);
            long
        }]
    })
    .await;
    let asked = ask(&fake, &clock, LONG).await;
    assert!(matches!(asked.answer, Answer::Exchange(_)), "{:?}", asked.answer);
    assert_eq!(asked.strays, 4);
}

#[tokio::test]
async fn a_third_party_is_not_heard() {
    let clock = ManualClock::new(WALL_NS);
    let intruder = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let fake = Fake::start(move |asked| {
        let forged = Packet { stratum: 1, ..asked.good(WALL_NS + 7) };
        intruder.try_send_to(&forged.to_bytes(), asked.from).unwrap();
        vec![asked.good(WALL_NS).to_bytes().to_vec()]
    })
    .await;
    let Answer::Exchange(exchange) = ask(&fake, &clock, LONG).await.answer else { panic!() };
    assert_eq!(Packet::from_bytes(&exchange.packet).stratum, 2);
}

#[tokio::test]
async fn a_late_answer_is_a_stray_and_spoils_no_later_query() {
    let clock = ManualClock::new(WALL_NS);
    let kept = Arc::new(Mutex::new(None::<Vec<u8>>));
    let fake = {
        let kept = kept.clone();
        Fake::start(move |asked| {
            let mut kept = kept.lock();
            let late = kept.replace(asked.good(WALL_NS).to_bytes().to_vec());
            late.map_or_else(Vec::new, |late| vec![late, kept.clone().unwrap()])
        })
        .await
    };
    let first = ask(&fake, &clock, SHORT).await;
    assert_eq!(first.answer, Answer::Failed(Failure::Timeout));
    for _ in 0..3 {
        let later = ask(&fake, &clock, LONG).await;
        assert!(matches!(later.answer, Answer::Exchange(_)), "{:?}", later.answer);
        assert_eq!(later.strays, 1);
    }
}

#[tokio::test]
async fn no_answer_ends_in_time_and_a_closed_port_at_once() {
    let clock = ManualClock::new(WALL_NS);
    let silent = Fake::start(|_| Vec::new()).await;
    assert_eq!(ask(&silent, &clock, SHORT).await.answer, Answer::Failed(Failure::Timeout));
    let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let refused = query(closed, &Counter::Manual(clock), &scale(), LONG).await;
    assert_eq!(refused.answer, Answer::Failed(Failure::Network));
}

#[tokio::test]
async fn kisses_are_recognised_only_with_the_nonce() {
    for code in [*b"RATE", *b"DENY", *b"RSTR", *b"XYZW", *b"ABCD"] {
        assert_eq!(answer_to(move |asked| asked.kiss(code)).await, Answer::Kiss(code));
    }
    let clock = ManualClock::new(WALL_NS);
    let forged = Fake::one(|asked| Packet { origin: NtpTime(1), ..asked.kiss(*b"DENY") }).await;
    let asked = ask(&forged, &clock, SHORT).await;
    assert_eq!((asked.answer, asked.strays), (Answer::Failed(Failure::Timeout), 1));
}

#[tokio::test]
async fn answers_that_break_the_protocol_are_named() {
    let protocol = |what| Answer::Failed(Failure::Protocol(what));
    let cases: [(Make, &str); 7] = [
        (|a| Packet { mode: 3, ..a.good(WALL_NS) }, "mode"),
        (|a| Packet { version: 5, ..a.good(WALL_NS) }, "version"),
        (|a| Packet { leap: 3, ..a.good(WALL_NS) }, "server_unsynced"),
        (|a| Packet { stratum: 16, ..a.good(WALL_NS) }, "stratum"),
        (|a| Packet { transmit: NtpTime(0), ..a.good(WALL_NS) }, "no_transmit_time"),
        (
            |a| Packet { root_dispersion: clock::packet::NtpShort(16 << 16), ..a.good(WALL_NS) },
            "distance",
        ),
        (
            |a| Packet { reference: NtpTime::from_unix_ns(WALL_NS * 2), ..a.good(WALL_NS) },
            "reference_after_transmit",
        ),
    ];
    for (make, what) in cases {
        assert_eq!(answer_to(make).await, protocol(what));
    }
}

#[tokio::test]
async fn what_sntpc_accepts_and_should_not_is_rejected() {
    let second = 1_u64 << 32;
    // Sent before received.
    let fake = Fake::one(move |a| {
        let good = a.good(WALL_NS);
        Packet { receive: NtpTime(good.transmit.0 + 5 * second), ..good }
    })
    .await;
    assert_eq!(judge(&fake).await, Err(Reject::SentBeforeReceived));
    // Held for 10 s although the round trip took none: the delay is negative.
    let fake = Fake::one(move |a| {
        let good = a.good(WALL_NS + 3_600_000_000_000);
        Packet { receive: NtpTime(good.transmit.0 - 10 * second), ..good }
    })
    .await;
    assert_eq!(judge(&fake).await, Err(Reject::HeldTooLong));
    // Held for 1 ms although the round trip took none.
    let fake = Fake::one(move |a| {
        let good = a.good(WALL_NS);
        Packet { receive: NtpTime(good.transmit.0 - second / 1000), ..good }
    })
    .await;
    assert_eq!(judge(&fake).await, Err(Reject::NegativeDelay));
    // No receive time.
    let fake = Fake::one(|a| Packet { receive: NtpTime(0), ..a.good(WALL_NS) }).await;
    assert_eq!(judge(&fake).await, Err(Reject::NoReceiveTime));
    // The request, sent back as the answer: the nonce is no time.
    let fake = Fake::one(|a| {
        let (good, echo) = (a.good(WALL_NS), a.packet.transmit);
        Packet { receive: echo, transmit: echo, reference: echo, ..good }
    })
    .await;
    let clock = ManualClock::new(WALL_NS);
    let answer = ask(&fake, &clock, LONG).await.answer;
    let Answer::Exchange(exchange) = answer else { panic!("{answer:?}") };
    // Whatever time the nonce happens to spell, it is nowhere near ours.
    let judged = exchange.judge(&scale(), &Limits::new(50_000));
    assert!(judged.is_err() || judged.unwrap().theta_ns.abs() > 1_000_000_000);
    // A precision that makes sntpc's dispersion panic.
    let fake = Fake::one(|a| Packet { precision: -128, ..a.good(WALL_NS) }).await;
    assert_eq!(judge(&fake).await, Err(Reject::Precision));
    // Strata beyond ours.
    let fake = Fake::one(|a| Packet { stratum: 15, ..a.good(WALL_NS) }).await;
    assert_eq!(judge(&fake).await, Err(Reject::Stratum));
}

#[tokio::test]
async fn the_nonce_is_fresh_and_tells_no_time() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let fake = {
        let seen = seen.clone();
        Fake::start(move |asked| {
            seen.lock().push((asked.packet.transmit, asked.from.port()));
            vec![asked.good(WALL_NS).to_bytes().to_vec()]
        })
        .await
    };
    let clock = ManualClock::new(WALL_NS);
    for _ in 0..8 {
        ask(&fake, &clock, LONG).await;
    }
    let mut nonces: Vec<u64> = seen.lock().iter().map(|(nonce, _)| nonce.0).collect();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), 8);
    // The clock stood still, so a transmit time would have been the same in the upper bits.
    assert!(nonces.windows(2).any(|pair| pair[0] >> 32 != pair[1] >> 32));
}
