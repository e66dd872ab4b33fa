//! A distributed chat: who finds a cluster, who is let in, and who is not.
//!
//! What happens to those who are in stands in
//! `membership`, their groups in `groups`.

use std::collections::BTreeSet;
use std::thread;

use proto::join::JOIN_ALPN;
use proto::token::JoinToken;
use tests::faketime::Faketime;
use tests::life::{Joining, joined_config, texts, token_of};
use tests::raw::Raw;
use tests::{Cluster, Follower, Hosts, Logd, User, ports};

/// Nodes that join at the same moment.
const AT_ONCE: [(&str, &str); 4] = [("n4", "n1"), ("n5", "n2"), ("n6", "n3"), ("n7", "n2")];

/// A token that names one node alone: whoever has it knows no other.
fn knowing_only(token: &str, address: &str) -> String {
    let mut token = JoinToken::decode(token).unwrap();
    token.addresses = vec![address.to_owned()];
    token.encode()
}

/// Lets nodes join, all at the same moment, each through a node of its own.
fn join_at_once(cluster: &mut Cluster, joiners: &[(&str, &str)]) {
    let first = ports::in_a_row(u16::try_from(joiners.len()).unwrap()).unwrap();
    let prepared: Vec<_> = (joiners.iter().zip(first..))
        .map(|((name, via), port)| {
            let token = cluster.node_token(&["--name", name]).unwrap();
            let token = knowing_only(&token, &cluster.address(via).unwrap());
            (*name, token, format!("127.0.0.1:{port}"))
        })
        .collect();
    thread::scope(|scope| {
        let cluster = &*cluster;
        let join = |(name, token, address): &(&str, String, String)| {
            let run = cluster.join_with_token(name, token, address, &[]).unwrap();
            assert_eq!(run.code, 0, "{run}");
        };
        let all: Vec<_> = prepared.iter().map(|one| scope.spawn(move || join(one))).collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    });
    for (name, _, address) in &prepared {
        cluster.enter_joined(name, address.clone()).unwrap();
        cluster.start_node(name).unwrap();
    }
}

#[test]
fn eight_find_each_other_through_one_host_each() {
    let mut cluster = Cluster::start(3).unwrap();
    let folder = cluster.folder().to_owned();
    let follow = |via| {
        ["events", "--follow", "--types", "join", "--since", "1h", "--via", via, "-o", "ndjson"]
    };
    let mut listeners: Vec<_> = ["n1", "n3"]
        .into_iter()
        .map(|via| Follower::start(cluster.user(), &follow(via), &folder, via).unwrap())
        .collect();
    join_at_once(&mut cluster, &AT_ONCE);
    for (name, _) in AT_ONCE {
        cluster.wait_node(name, "voter").unwrap();
    }
    // The eighth knows the first alone, and all know it.
    join_at_once(&mut cluster, &[("n8", "n1")]);
    cluster.wait_node("n8", "joined").unwrap();
    let wanted: BTreeSet<String> = (1..=8).map(|n| format!("n{n}")).collect();
    for via in ["n8", "n1", "n6"] {
        let status = cluster.user().run(&["status", "--via", via, "-o", "json"]).unwrap();
        let status = status.json().unwrap();
        let rows = status["nodes"].as_array().unwrap().iter();
        let names: BTreeSet<_> = rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names, wanted, "{status}");
    }
    // One order of events, the same numbers everywhere, each join once.
    let told = cluster.wait_event("n1", "joined n8").unwrap();
    for via in cluster.names() {
        let events = cluster.wait_event(&via, "joined n8").unwrap();
        let shared = told.len().min(events.len());
        assert_eq!(events[..shared], told[..shared], "{via}");
    }
    for (name, _) in AT_ONCE {
        let joined = format!("joined {name}");
        let count = texts(&told).into_iter().filter(|text| *text == joined).count();
        assert_eq!(count, 1, "{told:#?}");
    }
    let seqs = listeners.iter_mut().map(|listener| {
        let has = |lines: &[String]| lines.iter().any(|line| line.contains("joined n8"));
        listener.wait("the last join", |lines| has(lines).then_some(())).unwrap();
        assert_eq!(listener.stop().unwrap(), 0, "{}", listener.said());
        let lines = listener.lines().unwrap().into_iter();
        lines.map(|line| (line["seq"].clone(), line["text"].clone())).collect::<Vec<_>>()
    });
    let seqs: Vec<_> = seqs.collect();
    assert!(seqs[0].len() >= 5, "{seqs:?}");
    assert_eq!(seqs[0], seqs[1]);
}

/// `--output raw` gives the token alone: it goes into a command as it is.
#[test]
fn three_hosts_become_a_cluster_in_five_commands() {
    let Some(hosts) = Hosts::new(3).unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let home = |name: &str| User::new(folder.path().join(format!("home-{name}")));
    let admin = hosts.user(1, &home("admin"));
    let (one, at) = (dir("one"), Hosts::address(1));
    let create = ["cluster", "create", &one, "--nodes", "1", "--host", &at, "--start", "-o", "raw"];
    let token = token_of(&admin.ok(&create).unwrap()).unwrap();
    for (host, name) in [(2, "two"), (3, "three")] {
        let dir = dir(name);
        let join = ["cluster", "join", &token, "--name", name, "--dir", &dir, "--start"];
        hosts.user(host, &home(name)).ok(&join).unwrap();
    }
    admin.ok(&["send", "--to", "*", "--id", "first", "hello"]).unwrap();
    let wait = ["wait", "ready", "--nodes", "3", "--timeout", "60s"];
    admin.ok(&wait).unwrap();
    for via in ["n1", "two", "three"] {
        let got = admin.ok(&["get", "first", "--via", via, "-o", "raw"]).unwrap();
        assert_eq!(got.text(), "hello", "{via}");
    }
    assert!((1..=3).all(|host| hosts.pids(host).unwrap().len() == 1));
}

/// Everything that a refused joiner must leave as it was.
fn members(cluster: &Cluster) -> Vec<String> {
    let rows = cluster.node_rows("n1").unwrap();
    let events = cluster.events("n1").unwrap();
    let joins = events.iter().filter(|event| event.kind == "join" || event.kind == "member");
    rows.into_keys().chain(joins.map(|event| event.text.clone())).collect()
}

#[test]
fn newcomers_are_refused_each_for_its_own_reason() {
    let mut cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice"]).unwrap();
    let before = members(&cluster);
    other_authority(&cluster);
    clock_off_by_an_hour(&cluster);
    old_protocol(&cluster);
    assert_eq!(members(&cluster), before, "a refusal changed something");
    removed_node(&mut cluster);
}

/// Runs `cluster join` with a token, which must be refused; nothing is left in its folder.
#[track_caller]
fn refused(cluster: &Cluster, user: &User, token: &str, code: i32, part: &str) {
    let address = format!("127.0.0.1:{}", ports::in_a_row(1).unwrap());
    let dir = cluster.folder().join("refused");
    let path = dir.to_str().unwrap();
    let join = ["cluster", "join", token, "--name", "nx", "--dir", path];
    let at = ["--listen", &address, "--advertise", &address];
    let said = user.refused(&[&join[..], &at].concat(), code).unwrap();
    assert!(said.to_lowercase().contains(part), "no '{part}' in {said}");
    let left = joined_config(&dir);
    assert!(left.is_err(), "a refused joiner has a configuration: {left:?}");
}

fn other_authority(cluster: &Cluster) {
    let token = cluster.node_token(&[]).unwrap();
    let mut wrong = JoinToken::decode(&token).unwrap();
    wrong.ca_sha256[0] ^= 1;
    refused(cluster, &cluster.stranger("x"), &wrong.encode(), 4, "authority");
    // The token was not shown to whoever answered: it can still be used, here by nobody.
    let mut wrong = JoinToken::decode(&token).unwrap();
    wrong.secret[0] ^= 1;
    refused(cluster, &cluster.stranger("x"), &wrong.encode(), 4, "secret");
}

fn clock_off_by_an_hour(cluster: &Cluster) {
    let Some(clock) = Faketime::new(cluster.folder(), "joiner").unwrap() else { return };
    for seconds in [3600, -3600] {
        clock.step(seconds).unwrap();
        let user = cluster.stranger("x").with(clock.environment());
        // A token that lives longer than the step, or its age would be the reason.
        let token = cluster.node_token(&["--ttl", "3h"]).unwrap();
        refused(cluster, &user, &token, 12, "clock");
    }
}

fn old_protocol(cluster: &Cluster) {
    let address = cluster.address("n1").unwrap();
    let admin = cluster.user().credentials("admin").unwrap();
    let id = admin.identity().cluster.to_string();
    // A JoinHello of protocol 0, of release "0.0.1", in the frame that carries it.
    let mut hello = vec![0x08, 0, 0x12, 5];
    hello.extend(b"0.0.1");
    hello.extend([0x1a, u8::try_from(id.len()).unwrap()]);
    hello.extend(id.as_bytes());
    let mut frame = proto::frame::header(hello.len()).unwrap().to_vec();
    frame.extend(hello);
    let answer = cluster.wait(async {
        let raw = Raw::connect(&admin, &address, "n1", JOIN_ALPN).await.unwrap();
        raw.exchange(&frame).await.unwrap()
    });
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("protocol"), "{answer}");
}

/// A node that was removed has a certificate that is good in every other way.
fn removed_node(cluster: &mut Cluster) {
    cluster.join("n4", &Joining::default()).unwrap();
    cluster.wait_node("n4", "voter").unwrap();
    cluster.user().ok(&["-y", "node", "remove", "n4", "--timeout", "60s"]).unwrap();
    cluster.set_away("n4");
    cluster.wait_node("n4", "removed").unwrap();
    let node: &mut Logd = cluster.node("n4").unwrap();
    assert_eq!(node.ended().unwrap().code(), Some(13), "{}", node.log());
    // Nor does its store come back to life.
    cluster.node("n4").unwrap().start(&[]).unwrap();
    let code = cluster.node("n4").unwrap().ended().unwrap().code();
    assert_eq!(code, Some(13), "{}", cluster.node("n4").unwrap().log());
    cluster.wait_healthy().unwrap();
}
