//! Failover, Raft and replicated storage: health, redirection, order, the dictionary,
//! identity of messages, the shell.
use std::collections::BTreeSet;

use rustix::process::Signal;
use tests::patience::when;
use tests::{Cluster, until};

#[test]
fn nodes_die_and_what_they_kept_does_not() {
    let mut cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    health_follows_the_facts(&mut cluster);
    a_dead_first_address_is_passed_by(&mut cluster);
    a_dictionary_is_one_on_all_nodes(&cluster);
    the_same_id_is_the_same_message(&mut cluster);
    a_deleted_message_is_gone(&cluster);
    one_order_on_all_nodes(&cluster);
    states_are_compared(&cluster);
}

/// Waits until `logctl check --node` says so.
fn wait_check(cluster: &Cluster, node: &str, code: i32) {
    until(&format!("exit code {code} of a check of {node}"), || {
        let args = ["check", "--node", node, "--timeout", "2s"];
        let run = cluster.user().run(&args).map_err(|error| error.to_string())?;
        when(run.code == code, run.to_string())
    })
    .unwrap();
}

fn nagios(cluster: &Cluster, args: &[&str]) -> i32 {
    let args = [&["check", "--nagios", "--timeout", "2s"], args].concat();
    cluster.user().run(&args).unwrap().code
}

fn health_follows_the_facts(cluster: &mut Cluster) {
    cluster.wait_healthy().unwrap();
    let codes = |cluster: &Cluster| {
        let code = |name: &String| cluster.user().run(&["check", "--node", name]).unwrap().code;
        cluster.names().iter().map(code).collect::<Vec<_>>()
    };
    assert_eq!(codes(cluster), [0, 0, 0]);
    assert_eq!(nagios(cluster, &[]), 0);
    // Dead, and half open: a process that is there and says nothing.
    for pause in [false, true] {
        if pause {
            cluster.node("n2").unwrap().signal(Signal::STOP).unwrap();
        } else {
            cluster.kill("n2").unwrap();
        }
        cluster.set_away("n2");
        wait_check(cluster, "n2", 3);
        cluster.wait_node("n2", "left").unwrap();
        for via in ["n1", "n3"] {
            let run = cluster.user().run(&["check", "--via", via]).unwrap();
            assert_eq!(run.code, 10, "{run}");
        }
        assert_eq!(nagios(cluster, &["--via", "n1"]), 1);
        assert_eq!(nagios(cluster, &["--node", "n2"]), 2);
        let row = cluster.node_rows("n1").unwrap()["n2"].clone();
        assert!(row["state"] != "up" && row["state"] != "joined", "{row}");
        if pause {
            cluster.node("n2").unwrap().signal(Signal::CONT).unwrap();
        } else {
            cluster.start_node("n2").unwrap();
        }
        cluster.wait_node("n2", "joined").unwrap();
        wait_check(cluster, "n2", 0);
    }
    cluster.set_present("n2");
    cluster.wait_healthy().unwrap();
}

fn a_dead_first_address_is_passed_by(cluster: &mut Cluster) {
    let user = cluster.user().clone();
    let [ca, cert, key] = user.identity_files("bob").unwrap();
    let file = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (file(&ca), file(&cert), file(&key));
    let known = ["n1", "n2"].map(|name| format!("{name}={}", cluster.address(name).unwrap()));
    let other = tests::User::new(cluster.folder().join("redirected"));
    let add = ["context", "add", "bob", "--ca", &ca, "--cert", &cert, "--key", &key];
    let nodes = ["--node", &known[0], "--node", &known[1], "--home", "n1"];
    other.ok(&[&add[..], &nodes].concat()).unwrap();
    cluster.kill("n1").unwrap();
    cluster.set_away("n1");
    let run = other.ok(&["--as", "bob", "-v", "read"]).unwrap();
    assert!(run.stderr.contains("n1") && run.stderr.contains("n2"), "no redirect: {run}");
    cluster.start_node("n1").unwrap();
    cluster.wait_healthy().unwrap();
}

fn a_dictionary_is_one_on_all_nodes(cluster: &Cluster) {
    let user = cluster.user();
    user.ok(&["--as", "alice", "kv", "put", "colour", "red", "--shared"]).unwrap();
    let at = |via: &str| user.json(&["--as", "bob", "kv", "get", "colour", "--via", via]).unwrap();
    let answers: BTreeSet<String> = cluster.names().iter().map(|via| at(via).to_string()).collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let before = at("n1");
    assert_eq!(before["value"], "red", "{before}");
    let version = before["version"].to_string();
    let put = |version: &str, value: &str| {
        user.run(&["--as", "bob", "kv", "put", "colour", value, "--if-version", version]).unwrap()
    };
    let refused = put("999999", "blue").refused(6).unwrap();
    assert!(refused.contains(&version), "which version is there: {refused}");
    assert_eq!(put(&version, "pink").code, 0);
    put(&version, "green").refused(6).unwrap();
    user.refused(&["--as", "bob", "kv", "cas", "colour", "red", "green"], 6).unwrap();
    user.ok(&["--as", "bob", "kv", "cas", "colour", "pink", "blue"]).unwrap();
    for via in cluster.names() {
        assert_eq!(at(&via)["value"], "blue", "{via}");
    }
    user.ok(&["--as", "alice", "kv", "delete", "colour"]).unwrap();
    for via in cluster.names() {
        user.refused(&["--as", "bob", "kv", "get", "colour", "--via", &via], 5).unwrap();
    }
}

fn the_same_id_is_the_same_message(cluster: &mut Cluster) {
    let user = cluster.user().clone();
    let send = || {
        let args = ["--as", "alice", "send", "--to", "bob", "--id", "once", "--timeout", "60s"];
        user.json(&[&args[..], &["only once"]].concat()).unwrap()
    };
    let first = send();
    assert_eq!(first["duplicate"], false, "{first}");
    let primary = cluster.wait_primary("n1").unwrap();
    cluster.kill(&primary).unwrap();
    let second = send();
    cluster.start_node(&primary).unwrap();
    cluster.wait_healthy().unwrap();
    for node in cluster.names() {
        cluster.kill(&node).unwrap();
    }
    cluster.start_all().unwrap();
    cluster.wait_healthy().unwrap();
    for again in [second, send()] {
        assert_eq!(again["duplicate"], true, "{again}");
        let place = |ack: &serde_json::Value| (ack["seq"].clone(), ack["stamp"].clone());
        assert_eq!(place(&again), place(&first));
    }
    let read = user.json(&["--as", "bob", "read"]).unwrap();
    let count = read.as_array().unwrap().iter().filter(|row| row["id"] == "once").count();
    assert_eq!(count, 1, "{read}");
}

fn a_deleted_message_is_gone(cluster: &Cluster) {
    let user = cluster.user();
    let secret = "a-sentence-that-stands-nowhere-else";
    user.ok(&["--as", "alice", "send", "--to", "bob", "--id", "secret", secret]).unwrap();
    user.ok(&["--as", "bob", "get", "secret"]).unwrap();
    user.ok(&["--as", "alice", "delete", "secret", "-y", "--reason", "too much"]).unwrap();
    let run = user.run(&["--as", "bob", "get", "secret"]).unwrap();
    let said = format!("{}{}", run.text(), run.stderr);
    assert!(said.contains("deleted") && said.contains("alice"), "{run}");
    assert!(!said.contains(secret), "{run}");
}

fn one_order_on_all_nodes(cluster: &Cluster) {
    let hash = |via: &String| {
        let run = cluster.user().ok(&["read", "--hash", "--via", via]).unwrap();
        run.text()
    };
    let hashes: BTreeSet<String> = cluster.names().iter().map(hash).collect();
    assert_eq!(hashes.len(), 1, "{hashes:?}");
    cluster.user().ok(&["--as", "alice", "send", "--to", "bob", "one more"]).unwrap();
    let after: BTreeSet<String> = cluster.names().iter().map(hash).collect();
    assert_eq!(after.len(), 1, "{after:?}");
    assert_ne!(hashes, after, "a hash that does not see a message");
}

fn states_are_compared(cluster: &Cluster) {
    cluster.user().ok(&["verify", "--state"]).unwrap();
    let run = cluster.user().ok(&["verify", "--state", "--deep", "-o", "json"]).unwrap();
    for name in cluster.names() {
        assert!(run.text().contains(&name), "{run}");
    }
}

#[test]
fn the_shell_takes_one_line_after_the_other() {
    let cluster = Cluster::start(1).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    let typed =
        b"--as alice send --to bob 'two words'\n--as bob read\nno such verb\nget nothing\nexit\n";
    let run = cluster.user().run_with(&["shell"], typed).unwrap();
    assert!(run.text().contains("two words"), "{run}");
    // A wrong line does not end it, and is told.
    assert!(run.stderr.contains("nothing"), "{run}");
    assert_eq!(cluster.records("n1", false).unwrap().len(), 1);
}

#[test]
fn a_node_is_told_where_to_listen_and_whom_to_join() {
    let mut cluster = Cluster::start(1).unwrap();
    let token = cluster.node_token(&[]).unwrap();
    // Its three start commands in our syntax: a configuration, an address, somebody to ask.
    let address = format!("127.0.0.1:{}", tests::ports::in_a_row(1).unwrap());
    let mut node = bare(&cluster, "backup", &address);
    let through = cluster.address("n1").unwrap();
    // Refused, each with the code of its reason, and nothing keeps it from the right one.
    let mut wrong = proto::token::JoinToken::decode(&token).unwrap();
    wrong.secret[0] ^= 1;
    node.start(&["--join", &through, "--token", &wrong.encode()]).unwrap();
    assert_eq!(node.ended().unwrap().code(), Some(4), "{}", node.log());
    let mut taken = bare(&cluster, "n1", &address);
    taken.start(&["--join", &through, "--token", &token]).unwrap();
    assert_eq!(taken.ended().unwrap().code(), Some(6), "{}", taken.log());
    node.start(&["--join", &through, "--token", &token]).unwrap();
    cluster.enter(node, address);
    cluster.wait_node("backup", "voter").unwrap();
    cluster.wait_healthy().unwrap();
    cluster.kill("backup").unwrap();
    // It is a member: it needs to be told nothing any more.
    cluster.start_node("backup").unwrap();
    cluster.wait_healthy().unwrap();
}

/// A machine with the daemon and its configuration, and without a key.
fn bare(cluster: &Cluster, name: &str, address: &str) -> tests::Logd {
    let dir = cluster.joined_dir(name);
    std::fs::create_dir_all(&dir).unwrap();
    let config = dir.join("node.toml");
    let text = format!(
        "node = \"{name}\"\ndata_dir = \"data\"\nlisten = \"{address}\"\n[tls]\nca = \"ca.crt\"\n\
         cert = \"node.crt\"\nkey = \"node.key\"\n[clock]\nmode = \"local\"\n"
    );
    std::fs::write(&config, text).unwrap();
    tests::Logd::new(name, config, dir.join("log"))
}
