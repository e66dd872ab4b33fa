//! Nodes that are told to stop, once or twice, while messages are sent: a stop is no failure, neither
//! in the exit code nor in the log.
//!
//! Promises: 1 durable. Seen to fail with an engine that is asked while it stops: each such question was
//! an error in the log.

use rustix::process::Signal;
use tests::{Cluster, Load};

use crate::failover::account_for;

/// How often every node is stopped.
const ROUNDS: usize = 4;
/// How a stop by a second signal begins what the process says last.
const SECOND: &str = "logd: a second signal";

fn log(cluster: &mut Cluster, name: &str) -> String {
    cluster.node(name).unwrap().log()
}

/// Lines that speak of a failure.
fn failures(cluster: &mut Cluster) -> Vec<String> {
    let failed = |line: &&str| {
        line.contains("\"level\":\"ERROR\"") || line.contains("panicked") || line.contains("panic:")
    };
    let mut found = Vec::new();
    for name in cluster.names() {
        let log = log(cluster, &name);
        found.extend(log.lines().filter(failed).map(|line| format!("{name}: {line}")));
    }
    found
}

/// Sends a second signal as soon as the first was noticed. Whether it ended the node: it may have
/// stopped already.
fn stop_at_once(cluster: &mut Cluster, name: &str) -> bool {
    let asked = |log: &str| log.matches("asked to stop: hand over").count();
    let before = log(cluster, name);
    let node = cluster.node(name).unwrap();
    node.signal(Signal::TERM).unwrap();
    tests::until("the first signal", || {
        tests::patience::when(asked(&node.log()) > asked(&before), "not noticed")
    })
    .unwrap();
    node.signal(Signal::TERM).unwrap();
    let code = node.ended().unwrap().code();
    let ended = node.log().matches(SECOND).count() > before.matches(SECOND).count();
    assert_eq!(code, Some(i32::from(ended)), "{name}: {}", node.log());
    ended
}

#[test]
fn a_stop_is_no_failure_and_a_second_signal_no_panic() {
    let mut cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    let load = Load::start(&cluster, &["alice", "bob"], 2, "bob", "stop").unwrap();
    let mut at_once = 0;
    for round in 0..ROUNDS {
        for name in cluster.names() {
            load.wait_more(20).unwrap();
            if round % 2 == 0 {
                assert_eq!(cluster.stop(&name).unwrap(), Some(0), "{}", log(&mut cluster, &name));
            } else {
                at_once += usize::from(stop_at_once(&mut cluster, &name));
            }
            cluster.start_node(&name).unwrap();
            cluster.wait_healthy().unwrap();
        }
    }
    let history = load.finish(&cluster).unwrap();
    account_for(&cluster, &history);
    assert!(at_once > 0, "no second signal came before its node had stopped");
    // The last two have no quorum to hand anything to.
    for name in cluster.names() {
        assert_eq!(cluster.stop(&name).unwrap(), Some(0), "{}", log(&mut cluster, &name));
    }
    assert_eq!(failures(&mut cluster), Vec::<String>::new());
}
