//! How long messages stay is the cluster's to say, whoever is primary; and who comes too late is told.

use std::fs;

use serde_json::{Value, json};
use tests::patience::when;
use tests::{Cluster, Follower, until};

const READ: [&str; 5] = ["--as", "bob", "read", "-o", "ndjson"];

fn send(cluster: &Cluster, count: usize) {
    let count = count.to_string();
    let send = ["--as", "alice", "send", "--to", "bob", "--repeat", &count, "hi"];
    cluster.user().ok(&send).unwrap();
}

/// Lowest and highest kept seq, on a node.
fn kept(cluster: &Cluster, node: &str) -> (u64, u64) {
    let status = cluster.status(node).unwrap();
    (status.first_seq, status.last_seq)
}

/// Waits until so many messages are left at most on a node; returns the first.
fn wait_trimmed(cluster: &Cluster, node: &str, most: u64) -> u64 {
    until("messages to go", || {
        let (first, last) = kept(cluster, node);
        when(last + 1 - first <= most, format!("{first} to {last} are kept")).map(|()| first)
    })
    .unwrap()
}

/// Seen to fail with a verdict that lets every gap pass, exit code 0; and on the code before, and with one
/// floor for all streams, where carol was told of others' messages.
#[test]
fn a_reader_that_retention_has_overtaken_is_told_what_is_missing() {
    let cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    let user = cluster.user();
    send(&cluster, 10);
    let cursor = [&READ[..], &["--cursor", "w"]].concat();
    let first = user.ok(&[&cursor[..], &["--limit", "3"]].concat()).unwrap().lines().unwrap();
    let stood = first.last().unwrap()["seq"].as_u64().unwrap();
    user.ok(&["cluster", "set", "retain-count=4"]).unwrap();
    send(&cluster, 10);
    let floor = wait_trimmed(&cluster, "n1", 4);
    let run = user.run(&cursor).unwrap();
    assert_eq!(run.code, 5, "{run}");
    let lines = run.lines().unwrap();
    let gap = |from: u64, to: u64| json!({"gap": {"shard": 1, "from_seq": from, "to_seq": to, "count_max": to + 1 - from}});
    // The last one that was removed and was hers or everyone's; events may have pushed out more since.
    let to = lines[0]["gap"]["to_seq"].as_u64().unwrap();
    assert!(to > stood && floor > stood, "{run}");
    assert_eq!(lines[0], gap(stood + 1, to));
    assert!(lines[1..].iter().all(|line| line["seq"].as_u64() > Some(to)), "{run}");
    let said = format!("seq {} to {to} of the log, were removed by retention", stood + 1);
    assert!(run.stderr.contains(&said), "{run}");
    // It was said; from there on nothing is missing, unless more has gone since.
    let again = user.run(&[&cursor[..], &["--allow-gap"]].concat()).unwrap();
    assert_eq!(again.code, 0, "{again}");
    // What others have lost is no gap; an instant is a place, too.
    cluster.register(&["carol"]).unwrap();
    for from in ["1", "0"] {
        user.ok(&["--as", "carol", "read", "--from", from]).unwrap();
    }
    user.ok(&["--as", "carol", "read", "--since", "1h"]).unwrap();
    let since = user.run(&[&READ[..], &["--since", "1h"]].concat()).unwrap();
    assert_eq!((since.code, &since.lines().unwrap()[0]["gap"]["from_seq"]), (5, &json!(1)));
    // From a place below the floor, also while following.
    let from = [&READ[..], &["--from", "1"]].concat();
    assert_eq!(user.run(&from).unwrap().code, 5);
    assert_eq!(user.run(&[&from[..], &["--allow-gap"]].concat()).unwrap().code, 0);
    assert_eq!(user.run(&[&READ[..], &["--from", "0"]].concat()).unwrap().code, 0);
    let follow = [&from[..], &["--follow"]].concat();
    let mut follower = Follower::start(user, &follow, cluster.folder(), "follower").unwrap();
    let shown: Value =
        follower.wait("the gap", |text| serde_json::from_str(text.first()?).ok()).unwrap();
    assert_eq!(shown["gap"]["from_seq"], 1);
    assert_eq!(follower.stop().unwrap(), 5, "{}", follower.said());
    // The change is an event, and says who made it.
    user.ok(&["cluster", "set", "retain-count=none"]).unwrap();
    let events = user.json(&["events", "--types", "settings"]).unwrap();
    let last = events.as_array().unwrap().last().unwrap();
    assert_eq!(last["text"], "retain-count is none, was 4", "{events}");
    assert_eq!(last["headers"]["by"], "admin", "{events}");
}

/// The fault: the primary goes by its own file, and a successor keeps everything.
#[test]
fn retention_outlives_the_primary_whose_file_began_it() {
    let mut cluster = Cluster::create(3).unwrap();
    let rewrite = |cluster: &mut Cluster, node: &str, line: &str| {
        let path = cluster.node(node).unwrap().config().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let begin = text.find("max_records").unwrap();
        let begin = text[..begin].rfind('\n').unwrap() + 1;
        let end = begin + text[begin..].find('\n').unwrap();
        fs::write(&path, format!("{}{line}{}", &text[..begin], &text[end..])).unwrap();
    };
    for node in cluster.names() {
        rewrite(&mut cluster, &node, "max_records = 30");
    }
    assert!(cluster.start_and_settle().unwrap(), "the ports are taken");
    cluster.register(&["alice", "bob"]).unwrap();
    send(&cluster, 50);
    wait_trimmed(&cluster, "n1", 30);
    // Nobody but the primary has it in a file any more.
    for node in ["n1", "n2"] {
        assert_eq!(cluster.stop(node).unwrap(), Some(0));
        rewrite(&mut cluster, node, "#max_records = 0");
        cluster.start_node(node).unwrap();
        cluster.wait_healthy().unwrap();
    }
    let primary = cluster.wait_primary("n1").unwrap();
    assert_eq!(primary, "n3");
    cluster.kill("n3").unwrap();
    cluster.set_away("n3");
    cluster.wait_primary("n1").unwrap();
    send(&cluster, 50);
    wait_trimmed(&cluster, "n1", 30);
    let settings = cluster.user().json(&["cluster", "settings"]).unwrap();
    assert_eq!(settings["retain_count"], 30);
    // A file that says something else is a problem, as for the clock's settings.
    rewrite(&mut cluster, "n3", "max_records = 9");
    cluster.start_node("n3").unwrap();
    until("the problem", || {
        let run = cluster.ctl(&["status", "-o", "json"]).map_err(|error| error.to_string())?;
        let told = run.text().contains("the file says 9, the cluster has 30");
        when(told && run.code == 10, run.to_string())
    })
    .unwrap();
    cluster.user().ok(&["cluster", "set", "retain-count=9"]).unwrap();
    wait_trimmed(&cluster, "n1", 9);
}
