//! A distributed chat: who is noticed to leave and to come back, and who leads.

use std::collections::{BTreeMap, BTreeSet};

use rustix::process::Signal;
use tests::life::texts;
use tests::patience::when;
use tests::{Cluster, Event, Follower, until};

/// Events whose sentence begins so.
fn count(events: &[Event], beginning: &str) -> usize {
    events.iter().filter(|event| event.text.starts_with(beginning)).count()
}

fn follow(cluster: &Cluster, via: &str, more: &[&str]) -> Follower {
    let args = ["events", "--follow", "--since", "1h", "--via", via, "-o", "ndjson"];
    let name = format!("events-{via}-{}", more.concat());
    Follower::start(cluster.user(), &[&args[..], more].concat(), cluster.folder(), &name).unwrap()
}

#[test]
fn what_happens_is_told_once_and_everywhere() {
    let mut cluster = Cluster::start(3).unwrap();
    cluster.wait_node("n3", "primary").unwrap();
    // Whoever was never heard cannot leave.
    for name in cluster.names() {
        cluster.wait_event("n2", &format!("joined {name}")).unwrap();
    }
    let mut live = [follow(&cluster, "n2", &[]), follow(&cluster, "n3", &[])];
    a_killed_node_leaves_and_rejoins(&mut cluster);
    a_pause_is_suspected_and_a_long_one_is_a_leave(&mut cluster);
    a_stop_is_announced(&mut cluster);
    types_are_filtered(&cluster);
    a_replay_is_what_was_seen_live(&cluster, &mut live);
}

fn a_killed_node_leaves_and_rejoins(cluster: &mut Cluster) {
    cluster.kill("n1").unwrap();
    cluster.set_away("n1");
    for via in ["n2", "n3"] {
        let events = cluster.wait_event(via, "left n1 (unreachable)").unwrap();
        assert_eq!(count(&events, "left n1"), 1, "{events:#?}");
        assert_eq!(count(&events, "left"), 1, "{events:#?}");
    }
    // Only the state decides, so a row is right once the event is there.
    let row = cluster.node_rows("n2").unwrap()["n1"].clone();
    assert_ne!(row["state"], "up", "{row}");
    cluster.start_node("n1").unwrap();
    let events = cluster.wait_event("n1", "rejoined n1 (incarnation 2)").unwrap();
    assert_eq!(count(&events, "rejoined"), 1, "{events:#?}");
    assert_eq!(count(&events, "left"), 1, "{events:#?}");
    cluster.wait_level().unwrap();
}

fn a_pause_is_suspected_and_a_long_one_is_a_leave(cluster: &mut Cluster) {
    let before = cluster.events("n3").unwrap().len();
    let since = |cluster: &Cluster| cluster.events("n3").unwrap()[before..].to_vec();
    cluster.node("n1").unwrap().signal(Signal::STOP).unwrap();
    // The kill before has left a suspicion too: this one is another.
    until("n1 to be suspected", || {
        let events = since(cluster);
        when(texts(&events).contains(&"suspect n1"), format!("{events:?}"))
    })
    .unwrap();
    cluster.node("n1").unwrap().signal(Signal::CONT).unwrap();
    until("n1 to be heard again", || {
        let events = since(cluster);
        when(texts(&events).contains(&"n1 is heard again"), format!("{events:?}"))
    })
    .unwrap();
    // A machine that was busy for seconds makes a leave of it; then that must be told as one.
    let events = since(cluster);
    assert!(count(&events, "left") <= count(&events, "rejoined"), "{events:#?}");
    cluster.wait_healthy().unwrap();
    // Longer.
    let before = cluster.events("n3").unwrap().len();
    cluster.node("n1").unwrap().signal(Signal::STOP).unwrap();
    let left = until("a leave", || {
        let events = cluster.events("n3").map_err(|error| error.to_string())?[before..].to_vec();
        let left = events.iter().find(|event| event.kind == "leave").cloned();
        left.ok_or_else(|| format!("{events:?}"))
    })
    .unwrap();
    assert!(left.text.starts_with("left n1 ("), "{left:?}");
    cluster.node("n1").unwrap().signal(Signal::CONT).unwrap();
    cluster.wait_node("n1", "joined").unwrap();
    cluster.wait_healthy().unwrap();
    // The same process: it is no new incarnation.
    let events = cluster.events("n3").unwrap();
    assert_eq!(count(&events, "rejoined n1 (incarnation 3)"), 0, "{events:#?}");
}

fn a_stop_is_announced(cluster: &mut Cluster) {
    let before = cluster.events("n3").unwrap().len();
    cluster.set_away("n1");
    assert_eq!(cluster.stop("n1").unwrap(), Some(0));
    let events = cluster.wait_event("n3", "left n1 (stopped)").unwrap()[before..].to_vec();
    assert_eq!(count(&events, "suspect"), 0, "a stop is no failure: {events:#?}");
    cluster.start_node("n1").unwrap();
    cluster.wait_event("n2", "rejoined n1 (incarnation 3)").unwrap();
    cluster.wait_healthy().unwrap();
}

fn types_are_filtered(cluster: &Cluster) {
    let all = cluster.events("n2").unwrap();
    for types in ["leave", "join,leave", "suspect"] {
        let some = cluster.events_with("n2", &["--types", types]).unwrap();
        let wanted: BTreeSet<&str> = types.split(',').collect();
        let until = some.last().unwrap().seq;
        let selected = all.iter().filter(|event| wanted.contains(event.kind.as_str()));
        let selected: Vec<_> = selected.filter(|event| event.seq <= until).cloned().collect();
        assert_eq!(some[..selected.len()], selected[..], "{types}");
    }
    let said = cluster.user().refused(&["events", "--types", "join,weather"], 2).unwrap();
    assert!(said.contains("weather"), "{said}");
}

fn a_replay_is_what_was_seen_live(cluster: &Cluster, live: &mut [Follower; 2]) {
    let replayed = cluster.events("n1").unwrap();
    for follower in live {
        let seen = follower
            .wait("the last event", |lines| {
                let events = lines.iter().map(|line| serde_json::from_str(line).unwrap());
                let events: Vec<_> = events.map(|value| Event::read(&value).unwrap()).collect();
                let seq = |events: &[Event]| events.last().map(|event| event.seq);
                (seq(&events) >= seq(&replayed)).then_some(events)
            })
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(seen[..replayed.len()], replayed[..], "{}", follower.said());
        assert_eq!(follower.stop().unwrap(), 0, "{}", follower.said());
    }
}

#[test]
fn the_highest_priority_leads() {
    let mut cluster = Cluster::start(3).unwrap();
    // Priorities are the numbers of the names.
    cluster.wait_node("n3", "primary").unwrap();
    a_vote_outlives_its_node(&mut cluster);
    cluster.kill("n3").unwrap();
    cluster.set_away("n3");
    cluster.wait_node("n2", "primary").unwrap();
    cluster.start_node("n3").unwrap();
    cluster.wait_node("n3", "primary").unwrap();
    cluster.wait_healthy().unwrap();
    // Another one, because somebody says so; and back.
    cluster.user().ok(&["node", "set", "n1", "--priority", "9"]).unwrap();
    cluster.wait_node("n1", "primary").unwrap();
    cluster.user().ok(&["node", "set", "n1", "--priority", "1"]).unwrap();
    cluster.wait_node("n3", "primary").unwrap();
    cluster.wait_healthy().unwrap();
    // One event a term, the same on every node.
    let told = cluster.events_with("n1", &["--types", "leader"]).unwrap();
    assert!(told.len() >= 5, "the kills and settings did not bite: {told:#?}");
    let mut terms = BTreeMap::new();
    for event in &told {
        let term = event.text.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        assert_eq!(terms.insert(term, event.node.clone()), None, "twice in a term: {told:#?}");
    }
    for via in cluster.names() {
        assert_eq!(cluster.events_with(&via, &["--types", "leader"]).unwrap(), told, "{via}");
    }
}

fn a_vote_outlives_its_node(cluster: &mut Cluster) {
    let shown = |cluster: &Cluster| {
        let views = cluster.user().json(&["raft", "show", "--via", "n1"]).unwrap();
        let rows = views.as_array().cloned().unwrap_or_else(|| vec![views.clone()]);
        let row = rows.iter().find(|row| row["node"] == "n1");
        row.unwrap_or_else(|| panic!("{views}")).clone()
    };
    let before = shown(cluster);
    assert_eq!(before["voters"].as_array().unwrap().len(), 3, "{before}");
    assert!(before["committed"].as_u64().unwrap() > 0, "{before}");
    cluster.kill("n1").unwrap();
    cluster.start_node("n1").unwrap();
    cluster.wait_healthy().unwrap();
    let after = shown(cluster);
    let term = |view: &serde_json::Value| view["term"].as_u64().unwrap();
    assert!(term(&after) >= term(&before), "{before} {after}");
    // In a term in which it had voted, it has voted for the same node.
    if term(&after) == term(&before) && before["voted_for"].is_string() {
        assert_eq!(after["voted_for"], before["voted_for"], "{before} {after}");
    }
}

#[test]
fn five_nodes_survive_two() {
    let mut cluster = Cluster::start(5).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    let user = cluster.user().clone();
    // A client that knows two nodes by name, and learns the others.
    let [ca, cert, key] = user.identity_files("bob").unwrap();
    let file = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (file(&ca), file(&cert), file(&key));
    let known = ["n1", "n2"].map(|name| format!("{name}={}", cluster.address(name).unwrap()));
    let other = tests::User::new(cluster.folder().join("other"));
    let add = ["context", "add", "bob", "--ca", &ca, "--cert", &cert, "--key", &key];
    other.ok(&[&add[..], &["--node", &known[0], "--node", &known[1]]].concat()).unwrap();
    other.ok(&["--as", "bob", "read"]).unwrap();
    for node in ["n1", "n2"] {
        cluster.kill(node).unwrap();
        cluster.set_away(node);
    }
    // Two of five are down.
    let send = ["--as", "alice", "send", "--to", "bob", "--id", "two-down", "still here"];
    user.ok(&send).unwrap();
    // A start while both addresses are down.
    let read = other.json(&["--as", "bob", "read"]).unwrap();
    assert_eq!(read[0]["id"], "two-down", "{read}");
    // A third.
    cluster.kill("n3").unwrap();
    let send = ["--as", "alice", "send", "--to", "bob", "--timeout", "4s", "nobody counts"];
    let run = user.run(&send).unwrap();
    assert!(
        run.code == 11 || run.code == 7,
        "no quorum, or unknown at the moment of the kill: {run}"
    );
    // Once the others know that the primary is gone, nothing is unknown any more.
    until("a refusal for want of a majority", || {
        user.refused(&send, 11).map(drop).map_err(|error| error.to_string())
    })
    .unwrap();
    user.refused(&["--as", "bob", "read", "--timeout", "3s"], 11).unwrap();
    let stale = user.json(&["--as", "bob", "read", "--stale"]).unwrap();
    assert_eq!(stale[0]["id"], "two-down", "{stale}");
    cluster.start_node("n3").unwrap();
    user.ok(&["--as", "alice", "send", "--to", "bob", "--timeout", "60s", "again"]).unwrap();
}
