//! The node's clock with servers that are told what to say and a counter that is moved by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use clock::packet::{NtpShort, NtpTime, Packet};
use clock::{Answer, ClockState, Failure, Hlc, RawExchange, Stamp, TickError};
use config::Clock;
use tokio_util::sync::CancellationToken;

use crate::tasks::Tasks;

use super::counter::{Counter, ManualClock};
use super::fake::{Fake, WALL_NS, asking, utc_ns};
use super::node_clock::NodeClock;
use super::sntp::Queried;
use crate::events::EventSink;

pub(super) const SECOND_NS: u64 = 1_000_000_000;

pub(super) fn started(
    servers: &[&Fake],
    clock: &Arc<ManualClock>,
) -> (NodeClock, CancellationToken) {
    with_config(&asking(servers), clock)
}

pub(super) fn with_config(
    config: &Clock,
    clock: &Arc<ManualClock>,
) -> (NodeClock, CancellationToken) {
    let cancel = CancellationToken::new();
    (node_clock(config, 0, &cancel, Counter::Manual(clock.clone())), cancel)
}

fn node_clock(
    config: &Clock,
    ceiling_ns: u64,
    cancel: &CancellationToken,
    counter: Counter,
) -> NodeClock {
    let (events, name) = (EventSink::nowhere(), "n1".parse().unwrap());
    let ceiling = if ceiling_ns == 0 { Hlc::ZERO } else { whole(ceiling_ns) };
    NodeClock::with_counter(config, ceiling, events, name, &Tasks::until(cancel.clone()), counter)
}

/// The ceiling that covers a whole nanosecond.
fn whole(ns: u64) -> Hlc {
    Hlc { ns, logical: u32::MAX }
}

/// Lets a burst go on until every server has been asked that often.
pub(super) async fn burst(node_clock: &NodeClock, clock: &Arc<ManualClock>, times: u64) {
    for asked in 1..times {
        node_clock.asked(asked).await;
        clock.advance(250_000_000);
    }
    node_clock.asked(times).await;
}

/// Answers for the first server, which is so far ahead of the local scale and says that it is within
/// so many 65536ths of a second of true time.
pub(super) fn feed(node_clock: &NodeClock, offset_ns: i64, dispersion: u32) {
    let raw_ns = node_clock.raw_ns();
    let utc_ns = node_clock.inner.scale.local_ns(raw_ns).checked_add_signed(offset_ns).unwrap();
    let now = NtpTime::from_unix_ns(utc_ns);
    let packet = Packet {
        version: 4,
        mode: 4,
        stratum: 1,
        precision: -20,
        root_dispersion: NtpShort(dispersion),
        receive: now,
        transmit: now,
        ..Packet::default()
    };
    let packet = packet.to_bytes();
    let exchange = RawExchange { t1_raw_ns: raw_ns, t4_raw_ns: raw_ns, packet };
    let asked = Queried::failed(Failure::Timeout);
    node_clock.answered(0, &Queried { answer: Answer::Exchange(exchange), ..asked });
}

fn started_local(clock: &Arc<ManualClock>, ceiling_ns: u64) -> NodeClock {
    let cancel = CancellationToken::new();
    node_clock(&Clock::local(), ceiling_ns, &cancel, Counter::Manual(clock.clone()))
}

#[tokio::test]
async fn three_good_servers_give_a_narrow_interval_that_holds_the_truth() {
    let clock = ManualClock::new(WALL_NS - 3600 * SECOND_NS);
    let truth_ns = || utc_ns(&clock, 0);
    let fakes = [
        Fake::good(&clock, 0).await,
        Fake::good(&clock, 200_000).await,
        Fake::good(&clock, -200_000).await,
    ];
    let (node_clock, cancel) = started(&fakes.each_ref(), &clock);
    burst(&node_clock, &clock, 4).await;
    assert_eq!(node_clock.state(), ClockState::Synced);
    let reading = node_clock.reading();
    assert!(reading.earliest_ns.unwrap() <= truth_ns());
    assert!(reading.latest_ns.unwrap() >= truth_ns());
    assert!(reading.error_ns().unwrap() < 10_000_000, "{reading:?}");
    let report = node_clock.report("n1");
    assert_eq!((report.node.as_str(), report.state.as_str()), ("n1", "synced"));
    assert_eq!(report.sources.len(), 3);
    for source in &report.sources {
        assert!(source.is_selected(), "{source:?}");
        assert_eq!(source.reach & 1, 1);
        assert!(source.offset_ns.unsigned_abs() < 1_000_000, "{source:?}");
    }
    cancel.cancel();
    node_clock.stopped().await;
}

#[tokio::test]
async fn a_liar_among_three_is_named_and_changes_nothing() {
    let clock = ManualClock::new(WALL_NS);
    let fakes = [
        Fake::good(&clock, 0).await,
        Fake::good(&clock, 100_000).await,
        Fake::good(&clock, 10_000_000_000).await,
    ];
    let (node_clock, cancel) = started(&fakes.each_ref(), &clock);
    burst(&node_clock, &clock, 2).await;
    let reading = node_clock.reading();
    assert!(reading.earliest_ns.unwrap() <= utc_ns(&clock, 0));
    assert!(reading.latest_ns.unwrap() >= utc_ns(&clock, 0));
    let verdicts: Vec<_> = node_clock.report("n1").sources.into_iter().map(|s| s.verdict).collect();
    assert_eq!(verdicts, ["selected", "selected", "falseticker"]);
    cancel.cancel();
    node_clock.stopped().await;
}

#[tokio::test]
async fn without_a_server_the_clock_waits_and_mints_nothing() {
    let clock = ManualClock::new(WALL_NS);
    let gone = Fake::start(|_| Vec::new()).await;
    let mut config = asking(&[&gone]);
    config.servers[0].timeout_ms = 50;
    let (node_clock, cancel) = with_config(&config, &clock);
    node_clock.asked(1).await;
    assert_eq!(node_clock.state(), ClockState::Unsynced);
    assert_eq!(node_clock.reading().earliest_ns, None);
    assert_eq!(node_clock.tick(), Err(TickError::Unsynced));
    assert_eq!(node_clock.refused(), [(config.servers[0].address.clone(), "timeout", 1)]);
    cancel.cancel();
    node_clock.stopped().await;
}

#[tokio::test]
async fn a_server_that_refuses_is_asked_no_more() {
    let clock = ManualClock::new(WALL_NS);
    let asked = Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    let deny = Fake::one(move |asked| {
        counted.fetch_add(1, Ordering::SeqCst);
        asked.kiss(*b"DENY")
    })
    .await;
    let (node_clock, cancel) = started(&[&deny], &clock);
    node_clock.asked(1).await;
    assert_eq!(node_clock.report("n1").sources[0].verdict, "kiss DENY");
    assert_eq!(node_clock.report("n1").sources[0].next_poll_ms, 0);
    cancel.cancel();
    node_clock.stopped().await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn losing_the_servers_is_holdover_and_then_expiry() {
    let clock = ManualClock::new(WALL_NS);
    let fake = Fake::good(&clock, 0).await;
    let config = Clock { max_error_ms: 1000, ..asking(&[&fake]) };
    let (node_clock, cancel) = with_config(&config, &clock);
    node_clock.reached(ClockState::Synced).await;
    cancel.cancel();
    node_clock.stopped().await;
    let before = node_clock.reading();
    clock.advance(1025 * SECOND_NS);
    assert_eq!(node_clock.state(), ClockState::Holdover);
    let after = node_clock.reading();
    assert_eq!(after.now_ns - before.now_ns, 1025 * SECOND_NS);
    let grown_ns = after.error_ns().unwrap() - before.error_ns().unwrap();
    assert!(grown_ns.abs_diff(512_500_000) < 1000, "500 ppm of 1025 s, not {grown_ns}");
    clock.advance(1000 * SECOND_NS);
    assert_eq!(node_clock.state(), ClockState::Expired);
    // Bounds stay honest: the truth is still inside.
    let late = node_clock.reading();
    assert!(late.earliest_ns.unwrap() <= utc_ns(&clock, 0));
    assert!(late.latest_ns.unwrap() >= utc_ns(&clock, 0));
}

#[tokio::test]
async fn a_local_clock_starts_at_the_wall_clock_and_says_so() {
    let clock = ManualClock::new(WALL_NS);
    let node_clock = started_local(&clock, 0);
    node_clock.decided().await;
    clock.advance(5 * SECOND_NS);
    let reading = node_clock.reading();
    assert_eq!(reading.now_ns, WALL_NS + 5 * SECOND_NS);
    assert_eq!((reading.earliest_ns, reading.latest_ns), (None, None));
    assert_eq!(node_clock.state(), ClockState::Local);
    node_clock.ceiling_persisted(whole(node_clock.reading().now_ns + 10 * SECOND_NS));
    assert_eq!(node_clock.tick(), Ok(Stamp::unbounded(Hlc::from_ns(WALL_NS + 5 * SECOND_NS))));
    node_clock.stopped().await;
}

#[tokio::test]
async fn a_stamp_waits_for_its_ceiling() {
    let clock = ManualClock::new(WALL_NS);
    let node_clock = started_local(&clock, 0);
    assert_eq!(node_clock.ceiling_wanted(), None, "an idle clock writes nothing");
    assert_eq!(node_clock.tick(), Err(TickError::Ceiling { needed_ns: WALL_NS }));
    let persist = async {
        let wanted = node_clock.next_ceiling().await;
        assert_eq!(wanted, whole(WALL_NS + 3 * SECOND_NS));
        node_clock.ceiling_persisted(wanted);
    };
    let (stamp, ()) = tokio::join!(node_clock.stamp(2), persist);
    assert_eq!(stamp.unwrap().hlc, Hlc::from_ns(WALL_NS));
    assert_eq!(node_clock.hlc().floor(), Hlc { ns: WALL_NS, logical: 1 });
    assert_eq!(node_clock.ceiling_wanted(), None);
    clock.advance(2 * SECOND_NS);
    node_clock.tick().unwrap();
    assert_eq!(node_clock.ceiling_wanted(), Some(whole(WALL_NS + 5 * SECOND_NS)));
    assert_eq!(node_clock.next_ceiling().await, whole(WALL_NS + 5 * SECOND_NS));
}

#[tokio::test]
async fn a_sealed_clock_refuses_those_who_wait() {
    let clock = ManualClock::new(WALL_NS);
    let node_clock = started_local(&clock, 0);
    let other = node_clock.clone();
    let (stamp, last) = tokio::join!(node_clock.stamp(1), async move { other.seal() });
    assert_eq!(stamp, Err(TickError::Sealed));
    assert_eq!(last, Hlc::ZERO, "nothing was issued");
}

#[tokio::test]
async fn a_restart_waits_out_its_ceiling_and_repeats_nothing() {
    let clock = ManualClock::new(WALL_NS);
    let ceiling_ns = WALL_NS + 3 * SECOND_NS;
    let node_clock = started_local(&clock, ceiling_ns);
    assert!(matches!(node_clock.tick(), Err(TickError::Ahead { .. })));
    assert_eq!(node_clock.ceiling_wanted(), None, "a restart does not push the ceiling on");
    clock.advance(3 * SECOND_NS + 1);
    assert!(matches!(node_clock.tick(), Err(TickError::Ceiling { .. })));
    node_clock.ceiling_persisted(node_clock.ceiling_wanted().unwrap());
    assert!(node_clock.tick().unwrap().hlc.ns > ceiling_ns);
}

/// Meant to catch the wait counted from the log's floor: a clock that once ran two days ahead would
/// wait for ever, write after write.
#[tokio::test]
async fn a_clock_far_behind_its_own_ceiling_refuses_at_once_until_it_is_released() {
    let clock = ManualClock::new(WALL_NS);
    let ahead_ns = WALL_NS + 172_800 * SECOND_NS;
    let node_clock = started_local(&clock, ahead_ns + SECOND_NS);
    let stored = Hlc::from_ns(ahead_ns);
    node_clock.observe(stored);
    let refused = node_clock.stamp(1).await.unwrap_err();
    let TickError::Behind { until_ns, .. } = refused else { panic!("{refused}") };
    assert!(until_ns.abs_diff(ahead_ns + SECOND_NS) <= SECOND_NS, "{until_ns}");
    assert_eq!(node_clock.behind(), Some(refused));
    assert_eq!(node_clock.ceiling_wanted(), None, "nothing far ahead becomes a ceiling");
    // What is stored lies two days ahead, so it is counted on from, and never beyond it in time.
    assert_eq!(node_clock.release(stored), stored);
    assert_eq!(node_clock.behind(), None);
    assert!(matches!(node_clock.tick(), Err(TickError::Ceiling { .. })));
    let wanted = node_clock.ceiling_wanted().unwrap();
    assert_eq!(wanted.ns, stored.ns);
    node_clock.ceiling_persisted(wanted);
    assert_eq!(node_clock.tick().unwrap().hlc, stored.succ());
    // Were nothing of it stored, time would be right at once.
    let node_clock = started_local(&clock, ahead_ns);
    node_clock.release(Hlc::from_ns(WALL_NS - SECOND_NS));
    node_clock.ceiling_persisted(whole(WALL_NS + SECOND_NS));
    assert_eq!(node_clock.tick().unwrap().hlc, Hlc::from_ns(WALL_NS));
}

#[tokio::test]
async fn whoever_needs_a_stamp_waits_out_the_old_ceiling() {
    let clock = ManualClock::new(WALL_NS);
    let ceiling_ns = WALL_NS + 205_000_000;
    let node_clock = started_local(&clock, ceiling_ns);
    let rest = async {
        clock.advance(SECOND_NS);
        node_clock.ceiling_persisted(node_clock.next_ceiling().await);
    };
    let (stamp, ()) = tokio::join!(node_clock.stamp(1), rest);
    assert_eq!(stamp.unwrap().hlc, Hlc::from_ns(WALL_NS + SECOND_NS));
}

#[tokio::test]
async fn a_token_is_admitted_within_reach_and_never_bent() {
    let clock = ManualClock::new(WALL_NS);
    let node_clock = started_local(&clock, 0);
    node_clock.ceiling_persisted(whole(WALL_NS + 10 * SECOND_NS));
    let near = Hlc { ns: WALL_NS + 150_000_000, logical: 9 };
    node_clock.admit(near).unwrap();
    assert_eq!(node_clock.tick().unwrap().hlc, near.succ());
    let far = Hlc::from_ns(WALL_NS + 250_000_000);
    assert_eq!(node_clock.admit(far), Err(TickError::Ahead { by_ns: 50_000_000 }));
    // The log may be ahead of any clock: what it holds is only counted on from.
    node_clock.observe(far);
    assert_eq!(node_clock.tick().unwrap().hlc, far.succ());
    assert_eq!(node_clock.admit(far), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_counters_run_and_readings_never_go_back() {
    for counter in [Counter::Raw, Counter::Boot] {
        let cancel = CancellationToken::new();
        let node_clock = node_clock(&Clock::local(), 0, &cancel, counter);
        let threads = (0..4).map(|_| {
            let node_clock = node_clock.clone();
            tokio::task::spawn_blocking(move || {
                let readings: Vec<u64> = (0..20_000).map(|_| node_clock.reading().now_ns).collect();
                (readings.is_sorted(), readings[readings.len() - 1])
            })
        });
        let first_ns = node_clock.reading().now_ns;
        for thread in threads.collect::<Vec<_>>() {
            let (sorted, last_ns) = thread.await.unwrap();
            assert!(sorted);
            assert!(last_ns > first_ns);
        }
    }
}

/// Seen to fail: without the ratchet in `NodeClock::look`, readers see time go back by some
/// nanoseconds when they are held between the view and the counter.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readings_never_go_back_while_views_change() {
    let idle = Fake::start(|_| Vec::new()).await;
    let cancel = CancellationToken::new();
    let node_clock = node_clock(&asking(&[&idle]), 0, &cancel, Counter::Raw);
    let feed = |offset_ns| feed(&node_clock, offset_ns, 1 << 12);
    feed(0);
    let ready = Arc::new(Barrier::new(4));
    let readers = (0..3).map(|_| {
        let (node_clock, ready) = (node_clock.clone(), ready.clone());
        tokio::task::spawn_blocking(move || {
            let mut last_ns = 0;
            ready.wait();
            while node_clock.state() == ClockState::Synced && !node_clock.hlc().is_sealed() {
                let now_ns = node_clock.reading().now_ns;
                assert!(now_ns >= last_ns, "{now_ns} after {last_ns}");
                last_ns = now_ns;
            }
            last_ns
        })
    });
    let readers: Vec<_> = readers.collect();
    ready.wait();
    // Longer than the filter remembers, so the target moves and the slew changes its direction.
    for round in 0..40_000 {
        feed(if round / 16 % 2 == 0 { 60_000_000 } else { 0 });
    }
    node_clock.seal();
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    cancel.cancel();
    node_clock.stopped().await;
}
