//! What one may get wrong about nodes, tokens and groups: each a clear refusal, and nothing changed.
//!
//! Promise 8, refuses clearly.

use std::collections::BTreeSet;
use std::net::UdpSocket;

use serde_json::Value;
use tests::life::token_of;
use tests::{Cluster, Run, ports};

/// Everything that a refusal must leave as it was.
fn state(cluster: &Cluster) -> String {
    let json = |args: &[&str]| cluster.user().json(args).unwrap();
    let nodes = json(&["nodes"]);
    let rows = nodes["nodes"].as_array().unwrap().iter();
    let keys = ["id", "address", "state", "voter", "priority", "drained"];
    let fixed = |row: &Value| keys.map(|key| row[key].to_string()).join(" ");
    let nodes: Vec<String> = rows.map(fixed).collect();
    let tokens = json(&["cluster", "token", "list"]);
    let groups = json(&["group", "list"]);
    let shares = json(&["route", "--plan", "add", "n99"])["before"].to_string();
    let seqs: Vec<u64> =
        cluster.records("n1", false).unwrap().iter().map(|record| record.seq).collect();
    format!("{nodes:#?} {tokens} {groups} {shares} {seqs:?}")
}

#[test]
fn bad_changes_of_nodes_and_groups_change_nothing() {
    let cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    cluster.wait_node("n3", "primary").unwrap();
    let user = cluster.user();
    user.ok(&["group", "create", "ops"]).unwrap();
    user.ok(&["group", "add", "ops", "alice"]).unwrap();
    let before = state(&cluster);
    let refused: &[(i32, &str, &[&str])] = &[
        // Nodes that are not there, or are there.
        (5, "n9", &["node", "show", "n9"]),
        (5, "n9", &["-y", "node", "remove", "n9"]),
        (5, "n9", &["-y", "node", "remove", "n1", "n9"]),
        (5, "n9", &["node", "drain", "n9"]),
        (5, "n9", &["node", "promote", "n9"]),
        (5, "n9", &["node", "demote", "n9"]),
        (5, "n9", &["node", "set", "n9", "--priority", "3"]),
        (6, "n1", &["node", "add", "n1"]),
        (5, "n9", &["node", "step-down", "n9"]),
        // A majority, or all.
        (6, "", &["-y", "node", "remove", "n1", "n2", "n3"]),
        (6, "", &["-y", "node", "remove", "n1", "n2", "n3", "--force"]),
        // Who may not.
        (4, "", &["--as", "alice", "-y", "node", "remove", "n1"]),
        (4, "", &["--as", "alice", "node", "drain", "n1"]),
        (4, "", &["--as", "alice", "node", "step-down"]),
        (4, "", &["--as", "alice", "cluster", "token", "create", "--role", "node"]),
        // Tokens.
        (2, "role", &["cluster", "token", "create", "--role", "king"]),
        (2, "uses", &["cluster", "token", "create", "--role", "node", "--uses", "0"]),
        (2, "", &["cluster", "token", "create", "--role", "node", "--name", "No Name"]),
        (2, "", &["cluster", "token", "revoke", "0123456789abcdef"]),
        // Groups.
        (5, "nobody", &["group", "show", "nobody"]),
        (5, "nobody", &["group", "delete", "nobody"]),
        (5, "nobody", &["group", "add", "nobody", "alice"]),
        (5, "mallory", &["group", "add", "ops", "mallory"]),
        (6, "ops", &["group", "create", "ops"]),
        (2, "", &["group", "create", "Not A Name"]),
        (4, "", &["--as", "bob", "group", "add", "ops", "bob"]),
        (4, "", &["--as", "bob", "group", "delete", "ops"]),
        // Events, waits and routes.
        (2, "weather", &["events", "--types", "weather"]),
        (2, "", &["wait", "node", "n1", "--state", "happy"]),
        (7, "", &["wait", "node", "n1", "--state", "removed", "--timeout", "1s"]),
        (5, "n9", &["route", "--plan", "remove", "n9"]),
        (6, "n1", &["route", "--plan", "add", "n1"]),
    ];
    let mut wrong = Vec::new();
    for (code, part, args) in refused {
        match user.run(args).unwrap().refused(*code) {
            Ok(said) if said.contains(part) => {}
            Ok(said) => wrong.push(format!("no '{part}' for {args:?}: {said}")),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), refused.len(), wrong.join("\n"));
    assert_eq!(state(&cluster), before);
    cluster.wait_healthy().unwrap();
}

/// Ids of the tokens that are listed.
fn ids(cluster: &Cluster) -> BTreeSet<String> {
    let list = cluster.user().json(&["cluster", "token", "list"]).unwrap();
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// Tries to join as a node of this name.
fn join(cluster: &Cluster, token: &str, name: &str, address: &str) -> Run {
    cluster.join_with_token(name, token, address, &[]).unwrap()
}

#[test]
fn bad_tokens_and_addresses_let_nobody_in() {
    let cluster = Cluster::start(3).unwrap();
    let other = Cluster::start(1).unwrap();
    let token = cluster.node_token(&[]).unwrap();
    let bound = cluster.node_token(&["--name", "n7"]).unwrap();
    let known = ids(&cluster);
    let revoked = cluster.node_token(&[]).unwrap();
    let id: String = ids(&cluster).difference(&known).next().unwrap().clone();
    let client = ["cluster", "token", "create", "--role", "client"];
    let client = token_of(&cluster.user().ok(&client).unwrap()).unwrap();
    cluster.user().ok(&["cluster", "token", "revoke", &id]).unwrap();
    // A token of another cluster that lies at this one's addresses.
    let mut foreign = proto::token::JoinToken::decode(&other.node_token(&[]).unwrap()).unwrap();
    foreign.addresses = vec![cluster.address("n1").unwrap()];
    let before = state(&cluster);
    let cut = |at: usize| {
        let mut text = token.clone();
        text.remove(at);
        text
    };
    let free = || format!("127.0.0.1:{}", ports::in_a_row(1).unwrap());
    let wrong = [
        (2, "damaged or cut", cut(40), "n4"),
        (2, "damaged or cut", cut(token.len() - 1), "n4"),
        (2, "join token", "hello".to_owned(), "n4"),
        (4, "revoked", revoked, "n4"),
        (2, "n7", bound.clone(), "n4"),
        (4, "client", client, "n4"),
        (4, "authority", foreign.encode(), "n4"),
        (6, "n2", token.clone(), "n2"),
    ];
    for (code, part, token, name) in wrong {
        let run = join(&cluster, &token, name, &free());
        let said = run.refused(code).unwrap_or_else(|error| panic!("'{part}': {error}"));
        assert!(said.contains(part), "no '{part}' in {said}");
    }
    advertised_elsewhere(&cluster, &token);
    assert_eq!(state(&cluster), before);
    // After all that the token is good for what it is for, once.
    let run = join(&cluster, &token, "n4", &free());
    assert_eq!(run.code, 0, "{run}");
    let said = join(&cluster, &token, "n5", &free()).refused(4).unwrap();
    assert!(said.contains("used"), "{said}");
}

/// An address at which somebody else listens, or nobody.
fn advertised_elsewhere(cluster: &Cluster, token: &str) {
    let somebody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let theirs = somebody.local_addr().unwrap().to_string();
    let nobody = format!("127.0.0.1:{}", ports::in_a_row(1).unwrap());
    let member = cluster.address("n2").unwrap();
    for advertised in [&theirs, &nobody, &member] {
        let listen = format!("127.0.0.1:{}", ports::in_a_row(1).unwrap());
        let dir = cluster.folder().join("elsewhere");
        let dir = dir.to_str().unwrap();
        let args = ["cluster", "join", token, "--name", "n4", "--dir", dir];
        let at = ["--listen", &listen, "--advertise", advertised];
        let stranger = cluster.stranger("elsewhere");
        let said = stranger.refused(&[&args[..], &at].concat(), 2).unwrap();
        assert!(said.contains(advertised.as_str()), "{said}");
    }
}
