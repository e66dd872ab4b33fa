//! Bounds that hold true time: three nodes that ask a real chronyd and two more servers.
//!
//! Promise 6, bounded time: every reading comes with bounds, and true time lies in them.

use std::time::Duration;

use clock::ClockState;
use net::Client;
use net::time_server::TimeServer;
use proto::wire::{ClockReport, Empty, Op, Reply};
use tests::chronyd::Chronyd;
use tests::timed::section;
use tests::truth::{self, Between};
use tests::{Cluster, Timed, node_clock};
use tokio_util::sync::CancellationToken;

/// Readings of each node.
const READINGS: u64 = 1000;
/// Polls of a time server after those of the start during which readings are taken.
const POLLS: u64 = 2;
/// Polls of the start.
const BURST: u64 = 4;
/// The two looks of a reading in this process lie no further apart, nanoseconds.
const BRACKET_NS: u64 = 1000;

/// A node's reading, between two looks at the wall clock.
pub(crate) fn reading(cluster: &Cluster, client: &Client) -> Between<ClockReport> {
    Between::look(u64::MAX, || {
        match cluster.wait(client.call(Op::Clock(Empty {}))).unwrap().reply {
            Some(Reply::Clock(report)) => report,
            other => panic!("no clock report: {other:?}"),
        }
    })
}

/// Takes readings of a node and checks each: the bounds hold true time, and the reading never goes
/// back.
#[derive(Default)]
pub(crate) struct Witness {
    last_ns: u64,
    pub(crate) readings: u64,
    /// Readings that lay beside their bounds: a new sample had narrowed them, and a reading never
    /// goes back, but waits.
    pub(crate) beside: u64,
}

impl Witness {
    /// One reading.
    #[track_caller]
    pub(crate) fn look(&mut self, cluster: &Cluster, client: &Client) -> ClockReport {
        let seen = reading(cluster, client);
        let report = seen.read.clone();
        let (Some(earliest), Some(latest)) = (report.earliest_ns, report.latest_ns) else {
            panic!("no bounds: {report:?}")
        };
        assert_eq!(
            seen.outside_ns(earliest, latest),
            0,
            "true time is not in the bounds: {seen:?}"
        );
        self.beside += u64::from(!(earliest..=latest).contains(&report.now_ns));
        assert!(report.now_ns >= self.last_ns, "back by {}", self.last_ns - report.now_ns);
        self.last_ns = report.now_ns;
        self.readings += 1;
        report
    }
}

#[test]
fn true_time_lies_in_the_bounds_of_every_reading() {
    let mut timed = Timed::create(3, "").unwrap();
    let Some(chronyd) = Chronyd::start(timed.cluster.folder()).unwrap() else { return };
    for node in timed.cluster.names() {
        let fakes = timed.servers(&node)[1..].iter().map(|server| server.address());
        let servers = std::iter::once(chronyd.address()).chain(fakes);
        let section = section("", servers.map(|address| address.to_string()));
        timed.cluster.configure_clock(&node, &section).unwrap();
    }
    assert!(timed.cluster.start_and_settle().unwrap(), "a port was taken");
    for node in timed.cluster.names() {
        let report = timed.wait_state(&node, "synced").unwrap();
        assert_eq!(report.sources.len(), 3);
        let all_selected = |report: &ClockReport| {
            let bad = report.sources.iter().find(|source| !source.is_selected());
            bad.map_or(Ok(()), |source| Err(source.verdict.clone()))
        };
        timed.wait_clock(&node, "three selected servers", all_selected).unwrap();
        let client = timed.cluster.client("admin", Some(&node), Duration::from_secs(20)).unwrap();
        let mut witness = Witness::default();
        let asked = |timed: &Timed| timed.servers(&node)[1].asked();
        while witness.readings < READINGS || asked(&timed) < BURST + POLLS {
            let report = witness.look(&timed.cluster, &client);
            assert_eq!(report.state, "synced");
            assert_eq!(report.node, node);
        }
        timed.cluster.wait(client.close());
        // One that ran ahead waits as long as it is ahead: microseconds in seconds.
        let Witness { readings, beside, .. } = witness;
        assert!(beside * 100 < readings, "{beside} of {readings} readings lay beside their bounds");
    }
}

#[test]
fn a_clock_in_this_process_is_right_to_the_microsecond() {
    // Without a network between the clock and the truth, a bound that is too narrow by microseconds
    // is found.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let Some(chronyd) = Chronyd::start(folder.path()).unwrap() else { return };
    let fake = || runtime.block_on(TimeServer::start(0, truth::now_ns)).unwrap();
    let fakes = [fake(), fake()];
    let servers = [chronyd.address(), fakes[0].address(), fakes[1].address()];
    let cancel = CancellationToken::new();
    let node_clock = {
        let _guard = runtime.enter();
        node_clock::asking(&servers, 4, cancel.clone()).unwrap()
    };
    runtime.block_on(node_clock.reached(ClockState::Synced));
    let (mut readings, mut last_ns) = (0_u64, 0);
    while readings < 10 * READINGS || fakes[0].asked() < BURST + POLLS {
        let seen = Between::look(BRACKET_NS, || node_clock.reading());
        let (earliest, latest) = (seen.read.earliest_ns.unwrap(), seen.read.latest_ns.unwrap());
        assert_eq!(seen.outside_ns(earliest, latest), 0, "reading {readings}: {seen:?}");
        assert!(seen.read.now_ns >= last_ns, "back by {}", last_ns - seen.read.now_ns);
        last_ns = seen.read.now_ns;
        readings += 1;
        // As long as many readings take, and leaves the processor to the servers.
        std::thread::sleep(Duration::from_micros(200));
    }
    cancel.cancel();
    runtime.block_on(node_clock.stopped());
}

#[test]
fn clocks_that_others_set_are_shown_in_every_status() {
    let timed = Timed::start(1, "").unwrap();
    let status = timed.cluster.status("n1").unwrap();
    let row = &status.nodes[0];
    assert_eq!(row.clock_state, "synced", "{row:?}");
    let bound = row.error_bound_us.unwrap();
    assert!((1..100_000).contains(&bound), "{bound} us");
    // The machine's clock may say anything: the node says what its servers say. All of them an hour
    // ahead from the start is an hour ahead.
    let mut ahead = Timed::create(1, "").unwrap();
    ahead.change("n1", |manner| manner.offset_ns = 3_600_000_000_000);
    assert!(ahead.cluster.start_and_settle().unwrap(), "a port was taken");
    let client = ahead.cluster.client("admin", Some("n1"), Duration::from_secs(20)).unwrap();
    let seen = reading(&ahead.cluster, &client);
    let (earliest, latest) = (seen.read.earliest_ns.unwrap(), seen.read.latest_ns.unwrap());
    let hour_before = |ns: u64| ns - 3_600_000_000_000;
    assert_eq!(seen.outside_ns(hour_before(earliest), hour_before(latest)), 0, "{seen:?}");
    ahead.cluster.wait(client.close());
}
