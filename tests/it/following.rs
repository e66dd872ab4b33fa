//! A follower that began at a time relative to now, while its gateway is killed or paused, and while it
//! goes back to its home: nothing is lost and nothing comes twice.
//!
//! Seen to fail with "now" asked for anew at every gateway: what was sent between the fault and the new
//! connection was missing.

use rustix::process::Signal;
use serde_json::Value;
use tests::patience::when;
use tests::{Cluster, Follower, Load, until};

use crate::failover::account_for;

/// Where bob is connected, if he is.
fn gateway_of_bob(cluster: &Cluster) -> Result<String, String> {
    let rows = cluster.user().json(&["clients"]).map_err(|error| error.to_string())?;
    let rows = rows.as_array().cloned().unwrap_or_default();
    let bob = rows.iter().find(|row| row["name"] == "bob").ok_or("no bob")?;
    when(bob["connected"] == true, format!("{bob}"))?;
    Ok(bob["via"].as_str().unwrap_or_default().to_owned())
}

fn seqs(lines: &[Value]) -> Vec<u64> {
    lines.iter().filter_map(|line| line["seq"].as_u64()).collect()
}

/// Begins to follow now, and sends until something of it is shown: then it has begun.
fn begin(cluster: &Cluster, name: &str, cursor: Option<&str>) -> Follower {
    let mut args = ["--as", "bob", "read", "--follow", "--since", "now", "-o", "ndjson"].to_vec();
    args.extend(cursor.into_iter().flat_map(|cursor| ["--cursor", cursor]));
    let follower = Follower::start(cluster.user(), &args, cluster.folder(), name).unwrap();
    until("the first message", || {
        let send = ["--as", "alice", "send", "--to", "bob", "first"];
        cluster.user().ok(&send).map_err(|error| error.to_string())?;
        when(!follower.text().is_empty(), follower.said())
    })
    .unwrap();
    follower
}

#[test]
fn now_is_when_the_read_began_whatever_becomes_of_the_gateway() {
    let mut cluster = Cluster::start(3).unwrap();
    cluster.user().ok(&["register", "alice"]).unwrap();
    // The gateway is not the primary: what is lost is lost by the reader alone.
    cluster.user().ok(&["register", "bob", "--home", "n1"]).unwrap();
    let cases = [
        (Signal::KILL, None),
        (Signal::STOP, None),
        (Signal::KILL, Some("k")),
        (Signal::STOP, Some("s")),
    ];
    for (at, (signal, cursor)) in cases.into_iter().enumerate() {
        let mut follower = begin(&cluster, &format!("follower-{at}"), cursor);
        until("bob at home", || {
            let via = gateway_of_bob(&cluster)?;
            when(via == "n1", via)
        })
        .unwrap();
        let load = Load::start(&cluster, &["alice"], 4, "bob", &format!("f{at}")).unwrap();
        load.wait_more(50).unwrap();
        cluster.node("n1").unwrap().signal(signal).unwrap();
        load.wait_more(100).unwrap();
        until("bob at another gateway", || {
            let via = gateway_of_bob(&cluster)?;
            when(via != "n1", via)
        })
        .unwrap();
        load.wait_more(50).unwrap();
        if signal == Signal::KILL {
            cluster.node("n1").unwrap().ended().unwrap();
            cluster.start_node("n1").unwrap();
        } else {
            cluster.node("n1").unwrap().signal(Signal::CONT).unwrap();
        }
        cluster.wait_healthy().unwrap();
        until("bob back at home", || {
            let via = gateway_of_bob(&cluster)?;
            when(via == "n1", via)
        })
        .unwrap();
        load.wait_more(50).unwrap();
        let history = load.finish(&cluster).unwrap();
        account_for(&cluster, &history);
        let all: Vec<u64> =
            cluster.records("n2", false).unwrap().iter().map(|record| record.seq).collect();
        let last = *all.last().unwrap();
        follower
            .wait("the last message", |_| {
                let shown = seqs(&follower.lines().ok()?);
                (shown.last() == Some(&last)).then_some(())
            })
            .unwrap();
        assert_eq!(follower.stop().unwrap(), 0, "{}", follower.said());
        let shown = seqs(&follower.lines().unwrap());
        let wanted: Vec<u64> = all.into_iter().filter(|seq| *seq >= shown[0]).collect();
        assert_eq!(shown, wanted, "{signal:?}, cursor {cursor:?}");
        if let Some(cursor) = cursor {
            let read = ["--as", "bob", "read", "--cursor", cursor, "-o", "ndjson"];
            assert_eq!(cluster.user().ok(&read).unwrap().text(), "", "all of it was read");
        }
    }
}
