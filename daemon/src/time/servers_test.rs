//! Time servers that give no vote of their own: duplicates, the node itself, names that lead nowhere,
//! servers that refuse; and what the report says of each.
//!
//! Seen to fail: with `choose` blind to the other entries the duplicate votes; without `is_own` the
//! node asks itself; without `enable` a server that refused is lost for good; if a kiss does not count
//! as an answer, one that refuses keeps the start undecided.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clock::packet::Packet;
use clock::{Answer, ClockState, Failure, RawExchange, Reject};
use config::{Clock, ClockServer};
use proto::wire::ClockSource;

use super::counter::ManualClock;
use super::fake::{Fake, WALL_NS, asking, utc_ns};
use super::node_clock_test::{SECOND_NS, burst, started, with_config};
use super::sntp::Queried;

/// The same server under another name.
fn again(server: &ClockServer, name: &str) -> ClockServer {
    let (_, port) = server.address.rsplit_once(':').unwrap();
    ClockServer { address: format!("{name}:{port}"), ..server.clone() }
}

fn refused(source: &ClockSource, reason: &str) -> u64 {
    source.refused.iter().find(|row| row.reason == reason).map_or(0, |row| row.count)
}

#[tokio::test]
async fn one_server_under_two_names_has_one_vote() {
    let clock = ManualClock::new(WALL_NS);
    let liar = Fake::good(&clock, 10_000_000_000).await;
    let good = Fake::good(&clock, 0).await;
    let mut config = asking(&[&liar, &good]);
    config.servers.push(again(&config.servers[0], "127.1"));
    let (node_clock, cancel) = with_config(&config, &clock);
    burst(&node_clock, &clock, 2).await;
    // Two of three that agree would be believed.
    assert_eq!(node_clock.state(), ClockState::Unsynced);
    let report = node_clock.report("n1");
    let twice = &report.sources[2];
    assert_eq!(twice.verdict, format!("duplicate of {}", liar.address));
    assert_eq!((&*twice.asked, refused(twice, "duplicate")), ("", 2));
    assert_eq!(report.sources[0].asked, liar.address.to_string());
    let alarm = format!("{} is asked under another name already", config.servers[2].address);
    assert!(report.alarms.contains(&alarm), "{:?}", report.alarms);
    cancel.cancel();
    node_clock.stopped().await;
}

#[tokio::test]
async fn a_name_that_leads_to_this_node_is_not_asked() {
    let clock = ManualClock::new(WALL_NS);
    let myself = Fake::good(&clock, 0).await;
    let config = Clock { own: vec![myself.address.to_string()], ..asking(&[&myself]) };
    let (node_clock, cancel) = with_config(&config, &clock);
    burst(&node_clock, &clock, 2).await;
    assert_eq!(node_clock.state(), ClockState::Unsynced);
    let source = &node_clock.report("n1").sources[0];
    assert_eq!((&*source.verdict, refused(source, "own_address")), ("this node itself", 2));
    cancel.cancel();
    node_clock.stopped().await;
}

#[tokio::test]
async fn a_name_without_an_address_is_tried_again_and_harms_nobody() {
    let clock = ManualClock::new(WALL_NS);
    let fakes = [Fake::good(&clock, 0).await, Fake::good(&clock, 0).await];
    let mut config = asking(&fakes.each_ref());
    // An empty label: no resolver is asked about it.
    config.servers.push(again(&config.servers[0], "no..where"));
    let (node_clock, cancel) = with_config(&config, &clock);
    burst(&node_clock, &clock, 3).await;
    assert_eq!(node_clock.state(), ClockState::Synced);
    let source = &node_clock.report("n1").sources[2];
    assert_eq!((&*source.verdict, refused(source, "unresolved")), ("failed unresolved", 3));
    cancel.cancel();
    node_clock.stopped().await;
}

#[tokio::test]
async fn a_server_that_refused_is_asked_again_after_a_reload() {
    let clock = ManualClock::new(WALL_NS);
    let denies = Arc::new(AtomicBool::new(true));
    let (count, says_no, truth) = (Arc::new(AtomicU64::new(0)), denies.clone(), clock.clone());
    let counted = count.clone();
    let server = Fake::one(move |asked| {
        counted.fetch_add(1, Ordering::SeqCst);
        if says_no.load(Ordering::SeqCst) {
            asked.kiss(*b"DENY")
        } else {
            asked.good(utc_ns(&truth, 0))
        }
    })
    .await;
    let (node_clock, cancel) = started(&[&server], &clock);
    node_clock.asked(1).await;
    clock.advance(2000 * SECOND_NS);
    let report = node_clock.report("n1");
    assert_eq!(report.sources[0].verdict, "kiss DENY");
    let alarm = format!("{} refuses this node (DENY)", server.address);
    assert!(report.alarms.contains(&alarm), "{:?}", report.alarms);
    node_clock.reload();
    node_clock.asked(2).await;
    denies.store(false, Ordering::SeqCst);
    node_clock.reload();
    node_clock.reached(ClockState::Synced).await;
    assert_eq!(count.load(Ordering::SeqCst), 3);
    let source = &node_clock.report("n1").sources[0];
    assert!(source.is_selected(), "{source:?}");
    assert!(source.next_poll_ms > 0, "it is asked on as every other");
    cancel.cancel();
    node_clock.stopped().await;
}

#[tokio::test]
async fn one_that_refuses_does_not_keep_the_others_from_being_decided() {
    let clock = ManualClock::new(WALL_NS);
    let deny = Fake::one(|asked| asked.kiss(*b"DENY")).await;
    let silent = Fake::start(|_| Vec::new()).await;
    let mut config = asking(&[&deny, &silent]);
    config.servers[1].timeout_ms = 50;
    let (node_clock, cancel) = with_config(&config, &clock);
    let mut turned = node_clock.inner.turned.subscribe();
    for times in 1..=4 {
        assert!(!node_clock.inner.progress.borrow().decided);
        while refused(&node_clock.report("n1").sources[1], "timeout") < times {
            turned.changed().await.unwrap();
        }
        clock.advance(250_000_000);
    }
    assert!(node_clock.inner.progress.borrow().decided);
    cancel.cancel();
    node_clock.stopped().await;
}

#[tokio::test]
async fn a_server_that_is_asked_too_often_is_asked_half_as_often() {
    let clock = ManualClock::new(WALL_NS);
    let server = Fake::one(|asked| asked.kiss(*b"RATE")).await;
    let (node_clock, cancel) = started(&[&server], &clock);
    node_clock.asked(1).await;
    let source = node_clock.report("n1").sources.remove(0);
    assert_eq!((source.poll_s, refused(&source, "kiss")), (32, 1));
    assert!((28_000..=36_000).contains(&source.next_poll_ms), "no burst: {}", source.next_poll_ms);
    clock.advance(36 * SECOND_NS);
    node_clock.asked(2).await;
    assert_eq!(node_clock.report("n1").sources[0].poll_s, 64);
    cancel.cancel();
    node_clock.stopped().await;
}

#[tokio::test]
async fn hostile_answers_are_counted_by_reason_and_change_nothing() {
    type Make = fn(&Packet) -> Packet;
    let lies: [(&str, Make); 6] = [
        ("sent_before_received", |good| Packet { receive: later(good), ..*good }),
        ("no_receive_time", |good| Packet { receive: Default::default(), ..*good }),
        ("stratum", |good| Packet { stratum: 15, ..*good }),
        ("server_unsynced", |good| Packet { leap: 3, ..*good }),
        ("origin", |good| Packet { origin: later(good), ..*good }),
        ("precision", |good| Packet { precision: 1, ..*good }),
    ];
    let clock = ManualClock::new(WALL_NS);
    let fakes = [Fake::good(&clock, 0).await, Fake::good(&clock, 0).await];
    for (reason, lie) in lies {
        let truth = clock.clone();
        let liar = Fake::one(move |asked| lie(&asked.good(utc_ns(&truth, 0)))).await;
        let mut config = asking(&[&fakes[0], &fakes[1], &liar]);
        config.servers[2].timeout_ms = 50;
        let (node_clock, cancel) = with_config(&config, &clock);
        burst(&node_clock, &clock, 2).await;
        assert_eq!(node_clock.state(), ClockState::Synced, "{reason}");
        // An answer that does not carry the nonce answers nothing.
        let reason = if reason == "origin" { "stray" } else { reason };
        assert_eq!(refused(&node_clock.report("n1").sources[2], reason), 2, "{reason}");
        cancel.cancel();
        node_clock.stopped().await;
    }
}

fn later(packet: &Packet) -> clock::packet::NtpTime {
    clock::packet::NtpTime(packet.transmit.0 + (5 << 32))
}

#[tokio::test]
async fn a_server_that_follows_this_machine_is_no_source() {
    let clock = ManualClock::new(WALL_NS);
    let idle = Fake::start(|_| Vec::new()).await;
    let (node_clock, cancel) = started(&[&idle], &clock);
    let answer = |from: &str, refid: [u8; 4]| {
        let now = clock::packet::NtpTime::from_unix_ns(utc_ns(&clock, 0));
        let (stratum, precision) = (3, -20);
        let (receive, transmit) = (now, now);
        let packet = Packet { stratum, precision, refid, receive, transmit, ..Packet::default() };
        let (raw_ns, packet) = (node_clock.raw_ns(), packet.to_bytes());
        let exchange = RawExchange { t1_raw_ns: raw_ns, t4_raw_ns: raw_ns, packet };
        let from = Some(from.parse().unwrap());
        let answer = Answer::Exchange(exchange);
        node_clock.answered(0, &Queried { answer, from, ..Queried::failed(Failure::Timeout) });
        node_clock.report("n1").sources[0].verdict.clone()
    };
    let echo = format!("rejected {}", Reject::OwnEcho);
    assert_eq!(answer("192.0.2.7", [192, 0, 2, 7]), echo);
    assert_eq!(answer("::ffff:192.0.2.7", [192, 0, 2, 7]), echo);
    assert_eq!(answer("192.0.2.8", [192, 0, 2, 7]), "selected");
    // Another server on the same machine follows one on the same machine: that is no echo.
    assert_eq!(answer("127.0.0.1", [127, 0, 0, 1]), "selected");
    cancel.cancel();
    node_clock.stopped().await;
}

#[tokio::test]
async fn the_reference_is_shown_as_chronyc_shows_it() {
    let clock = ManualClock::new(WALL_NS);
    let following = |stratum, refid| {
        let truth = clock.clone();
        Fake::one(move |asked| Packet { stratum, refid, ..asked.good(utc_ns(&truth, 0)) })
    };
    let fakes = [
        following(1, *b"GPS\0").await,
        following(2, [192, 0, 2, 44]).await,
        following(1, [127, 127, 1, 1]).await,
        following(2, *b"GPS\0").await,
    ];
    let (node_clock, cancel) = started(&fakes.each_ref(), &clock);
    burst(&node_clock, &clock, 1).await;
    let shown: Vec<_> = node_clock.report("n1").sources.into_iter().map(|s| s.refid).collect();
    assert_eq!(shown, ["GPS", "192.0.2.44", "127.127.1.1", "71.80.83.0"]);
    cancel.cancel();
    node_clock.stopped().await;
}
