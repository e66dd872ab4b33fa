//! Ranges of time that end about now, on a cluster where nobody writes: they are answered completely
//! all the same, and what that costs the log is little, however many ask.
//!
//! Promises: 6 bounded time. Seen to fail with a followed read that waits for somebody to write.

use std::time::Duration;

use clock::Hlc;
use net::{Client, ClientError};
use proto::wire::{Instant, Op, Page, Read, Reply, TimeMode, TimePoint};
use tests::patience::when;
use tests::{Cluster, until};

const MS: u64 = 1_000_000;
/// Reads at the same time, through each node.
const READERS: usize = 30;
/// Longest wait for a followed read to end.
const PATIENCE: Duration = Duration::from_secs(20);

fn now_ns(cluster: &Cluster, node: &str) -> u64 {
    match cluster.ask(node, Op::Clock(Default::default())).unwrap().reply {
        Some(Reply::Clock(report)) => report.now_ns,
        other => panic!("{other:?}"),
    }
}

fn range(until_ns: u64, mode: TimeMode) -> Read {
    let at = Some(Instant::Hlc(Hlc::from_ns(until_ns).to_bytes().to_vec()));
    Read { until: Some(TimePoint { at }), mode: mode.into(), ..Read::default() }
}

fn page(reply: Option<Reply>) -> Page {
    match reply {
        Some(Reply::Page(page)) => page,
        other => panic!("{other:?}"),
    }
}

fn read(cluster: &Cluster, node: &str, read: Read) -> Page {
    page(cluster.ask(node, Op::Read(read)).unwrap().reply)
}

fn safe_ns(page: &Page) -> u64 {
    Hlc::from_slice(&page.safe).unwrap().ns
}

/// A cluster whose first primary has said all that it says by itself: nobody writes any more.
fn settled() -> Cluster {
    let cluster = Cluster::start(3).unwrap();
    for node in cluster.names() {
        until("the cluster's settings", || {
            let status = cluster.status(&node).map_err(|error| error.to_string())?;
            when(status.settings.is_some(), format!("{node} knows none"))
        })
        .unwrap();
    }
    cluster.wait_level().unwrap();
    cluster
}

#[test]
fn a_range_that_ends_now_is_complete_although_nobody_writes() {
    let cluster = settled();
    for node in cluster.names() {
        for mode in [TimeMode::Nominal, TimeMode::Definite, TimeMode::Possible] {
            let until_ns = now_ns(&cluster, &node);
            let page = read(&cluster, &node, range(until_ns, mode));
            assert_eq!((page.end, safe_ns(&page)), (true, until_ns), "{node} {mode:?}");
        }
        // One that ends in an hour is answered as far as it goes, and says so.
        let until_ns = now_ns(&cluster, &node) + 3_600_000 * MS;
        let page = read(&cluster, &node, range(until_ns, TimeMode::Nominal));
        assert!(page.end && safe_ns(&page) < until_ns);
        // So is one that asks nobody.
        let until_ns = now_ns(&cluster, &node);
        let page =
            read(&cluster, &node, Read { stale: true, ..range(until_ns, TimeMode::Nominal) });
        assert!(safe_ns(&page) < until_ns, "nothing was written since");
    }
}

#[test]
fn readers_share_what_closes_their_ranges_and_followers_end() {
    let cluster = settled();
    let applied = || cluster.status("n1").unwrap().nodes.iter().map(|n| n.applied).max().unwrap();
    let before = applied();
    let until_ns = now_ns(&cluster, "n1") + 300 * MS;
    let clients: Vec<_> = cluster
        .names()
        .iter()
        .map(|node| cluster.client("admin", Some(node), Duration::from_secs(20)).unwrap())
        .collect();
    let ask = |client: &Client| {
        let client = client.clone();
        let asked = async move { client.call(Op::Read(range(until_ns, TimeMode::Nominal))).await };
        cluster.runtime().spawn(asked)
    };
    let asked: Vec<_> =
        clients.iter().flat_map(|client| (0..READERS).map(move |_| ask(client))).collect();
    for answer in asked {
        let answer = cluster.wait(answer).unwrap().unwrap();
        assert_eq!(safe_ns(&page(answer.reply)), until_ns);
    }
    let spent = applied() - before;
    assert!((1..=3).contains(&spent), "{spent} entries for {} readers", 3 * READERS);

    // A followed read ends by itself, on every node, when its range is over.
    let until_ns = now_ns(&cluster, "n1") + 300 * MS;
    let follow = |client: &Client| {
        let client = client.clone();
        cluster.runtime().spawn(async move {
            let read = Read { follow: true, ..range(until_ns, TimeMode::Nominal) };
            let mut follow = client.follow(read).await?;
            let mut pages = 0;
            while follow.next().await?.is_some() {
                pages += 1;
            }
            Ok::<_, ClientError>(pages)
        })
    };
    for ended in clients.iter().map(follow).collect::<Vec<_>>() {
        let ended = cluster.wait(async { tokio::time::timeout(PATIENCE, ended).await });
        let pages = ended.expect("a followed read that does not end").unwrap().unwrap();
        assert_eq!(pages, 1, "an empty page, and the end");
    }
    until("a log that has passed the range", || {
        let page = read(&cluster, "n1", Read { stale: true, ..range(until_ns, TimeMode::Nominal) });
        when(safe_ns(&page) == until_ns, "not yet")
    })
    .unwrap();
}
