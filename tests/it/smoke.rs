//! Messages from one client to another, through one node and out of another, as a user does it.
//!
//! Promises: 3 once, 4 fresh, 5 causal, 7 known sender. Negative controls, each seen to fail: a
//! daemon that remembers no ids, and one field of a list misspelt.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::Cluster;

/// Fields that the product promises, and no other.
pub(crate) const ACK: &[&str] =
    &["id", "shard", "seq", "stamp", "earliest", "latest", "primary", "gateway", "duplicate"];
pub(crate) const RECORD: &[&str] = &[
    "seq", "stamp", "earliest", "latest", "from", "proof", "to", "id", "headers", "gateway", "body",
];
/// A record of a list says also whether its order in real time is certain.
pub(crate) const LISTED: &[&str] = &[
    "seq",
    "stamp",
    "earliest",
    "latest",
    "order_certain",
    "from",
    "proof",
    "to",
    "id",
    "headers",
    "gateway",
    "body",
];
pub(crate) const STATUS: &[&str] =
    &["cluster", "term", "primary", "quorum", "nodes", "healthy", "problems"];
pub(crate) const NODE: &[&str] =
    &["id", "role", "address", "state", "applied", "lag", "version", "clock", "certificate"];
/// A node as `logctl nodes` lists it.
pub(crate) const MEMBER: &[&str] = &[
    "name",
    "id",
    "role",
    "state",
    "reason",
    "up",
    "voter",
    "priority",
    "drained",
    "serves",
    "incarnation",
    "address",
    "applied",
    "lag",
    "version",
    "clock",
    "certificate",
    "signs",
    "scrub",
];
pub(crate) const CLOCK: &[&str] = &["state", "error_bound_us"];
pub(crate) const CLIENT: &[&str] = &["name", "home", "via", "connected", "last_seen"];

/// Checks that an object has these fields and no others.
#[track_caller]
pub(crate) fn has_fields(value: &Value, fields: &[&str]) {
    let found: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted: BTreeSet<&str> = fields.iter().copied().collect();
    assert_eq!(found, wanted, "{value}");
}

/// RFC 3339 in UTC with nanoseconds, `~`, and the logical part.
#[track_caller]
fn is_stamp(value: &Value) {
    let text = value.as_str().unwrap();
    let (utc, logical) = text.split_once('~').unwrap();
    assert_eq!((utc.len(), logical.len()), ("2026-11-21T01:30:45.123456789Z".len(), 8), "{text}");
    assert!(text.parse::<clock::Hlc>().is_ok(), "{text}");
}

/// Three nodes, with alice and bob registered.
pub(crate) fn alice_and_bob() -> Cluster {
    let cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    cluster
}

#[test]
fn a_message_goes_in_at_one_node_and_comes_out_at_another() {
    let cluster = alice_and_bob();
    let user = cluster.user();
    let send = ["--as", "alice", "--via", "n1", "send", "--to", "bob", "hello"];
    let ack = user.json(&send).unwrap();
    has_fields(&ack, ACK);
    is_stamp(&ack["stamp"]);
    // Events of the nodes took the first places.
    assert_eq!(ack["shard"], json!(1));
    assert!(ack["seq"].as_u64() > Some(0), "{ack}");
    assert_eq!((&ack["gateway"], &ack["duplicate"]), (&json!("n1"), &json!(false)));

    for node in ["n3", "n2", "n1"] {
        let read = ["--as", "bob", "--via", node, "read", "-o", "ndjson"];
        let records = user.ok(&read).unwrap().lines().unwrap();
        let [record] = records.as_slice() else { panic!("{node}: {records:?}") };
        has_fields(record, LISTED);
        for field in ["seq", "stamp", "earliest", "latest", "id", "gateway"] {
            assert_eq!(record[field], ack[field], "{field}");
        }
        assert_eq!((&record["from"], &record["to"]), (&json!("alice"), &json!("bob")));
        assert_eq!((&record["body"], &record["headers"]), (&json!("hello"), &json!({})));
    }
    // What alice sent is hers to read as well; a third client sees nothing of it.
    user.ok(&["register", "carol"]).unwrap();
    let sent = user.json(&["--as", "alice", "read", "--from", "alice"]).unwrap();
    assert_eq!(sent.as_array().unwrap().len(), 1);
    assert_eq!(user.json(&["--as", "carol", "read"]).unwrap(), json!([]));
    user.refused(&["--as", "carol", "get", ack["id"].as_str().unwrap()], 5).unwrap();
}

#[test]
fn bodies_are_bytes_from_arguments_files_and_pipes() {
    let cluster = alice_and_bob();
    let user = cluster.user();
    let bytes: Vec<u8> = (0..=255).collect();
    let path = cluster.folder().join("bytes");
    std::fs::write(&path, &bytes).unwrap();
    let file = path.to_str().unwrap();
    user.ok(&["--as", "alice", "send", "--to", "bob", "--id", "file", "--file", file]).unwrap();
    let piped = ["--as", "alice", "send", "--to", "bob", "--id", "pipe"];
    assert_eq!(user.run_with(&piped, b"from a pipe\n").unwrap().code, 0);
    let dash = ["--as", "alice", "send", "--to", "bob", "--id", "dash", "-"];
    assert_eq!(user.run_with(&dash, "grüße".as_bytes()).unwrap().code, 0);
    user.ok(&["--as", "alice", "send", "--to", "bob", "--id", "empty", ""]).unwrap();
    let headers = ["-H", "kind=note", "--header", "trace=a=b"];
    let send = ["--as", "alice", "send", "--to", "bob", "--id", "headed", "hi"];
    user.ok(&[&send[..], &headers].concat()).unwrap();

    let read = user.json(&["--as", "bob", "read"]).unwrap();
    let [file, pipe, dash, empty, headed] = read.as_array().unwrap().as_slice() else {
        panic!("{read}")
    };
    let fields: Vec<&str> =
        LISTED.iter().map(|&field| if field == "body" { "body_b64" } else { field }).collect();
    has_fields(file, &fields);
    let begin = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
    assert!(file["body_b64"].as_str().unwrap().starts_with(begin), "{file}");
    assert_eq!(pipe["body"], "from a pipe\n");
    assert_eq!(dash["body"], "grüße");
    assert_eq!(empty["body"], "");
    assert_eq!(headed["headers"], json!({"kind": "note", "trace": "a=b"}));

    let raw = user.ok(&["--as", "bob", "get", "file", "-o", "raw"]).unwrap();
    assert_eq!(raw.stdout, bytes);
}

#[test]
fn a_message_is_found_by_its_id_and_leaves_a_tombstone() {
    let cluster = alice_and_bob();
    let user = cluster.user();
    user.ok(&["--as", "alice", "send", "--to", "bob", "--id", "m1", "secret words"]).unwrap();
    let got = user.json(&["--as", "bob", "get", "m1"]).unwrap();
    has_fields(&got, RECORD);
    assert_eq!(got["body"], "secret words");
    let reason = ["--as", "alice", "delete", "m1", "-y", "--reason", "sent too early"];
    user.ok(&reason).unwrap();
    for node in cluster.names() {
        let gone = user.json(&["--as", "bob", "--via", &node, "get", "m1"]).unwrap();
        assert_eq!((&gone["seq"], &gone["stamp"]), (&got["seq"], &got["stamp"]));
        assert_eq!(gone["body"], Value::Null);
        assert_eq!(gone["deleted"]["by"], "alice");
        assert_eq!(gone["deleted"]["reason"], "sent too early");
        is_stamp(&gone["deleted"]["stamp"]);
        let text = user.ok(&["--as", "bob", "--via", &node, "get", "m1"]).unwrap().text();
        assert!(text.contains("deleted by alice"), "{text}");
    }
    user.refused(&["--as", "bob", "get", "m2"], 5).unwrap();
}

/// What is searched for cannot be compressed, and a message beside it that stays is found: words were not, in
/// files that are, whether they had been deleted or not. The one that stays shows that a search finds something.
#[test]
fn a_deleted_body_is_gone_from_every_disk_once_they_are_compacted() {
    let cluster = alice_and_bob();
    let user = cluster.user();
    let secret = |id: &str| -> Vec<u8> {
        let bytes: Vec<u8> = (0..3).flat_map(|_| uuid::Uuid::new_v4().into_bytes()).collect();
        let file = cluster.folder().join(id);
        std::fs::write(&file, &bytes).unwrap();
        let file = file.display().to_string();
        user.ok(&["--as", "alice", "send", "--to", "bob", "--id", id, "--file", &file]).unwrap();
        bytes
    };
    let (gone, kept) = (secret("gone"), secret("kept"));
    user.ok(&["--as", "alice", "delete", "gone", "-y"]).unwrap();
    cluster.wait_level().unwrap();
    user.ok(&["compact"]).unwrap();
    for node in cluster.names() {
        assert!(!files_with(&cluster.data(&node), &kept).is_empty(), "{node}: nothing is found");
        for part in gone.chunks(16) {
            assert_eq!(files_with(&cluster.data(&node), part), Vec::<String>::new(), "{node}");
        }
    }
}

/// Files below a folder that hold some bytes.
fn files_with(folder: &std::path::Path, part: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, part));
        } else if std::fs::read(&path).unwrap().windows(part.len()).any(|bytes| bytes == part) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn the_same_id_is_the_same_message() {
    let cluster = alice_and_bob();
    let user = cluster.user();
    let send = |via: &str, sender: &str, body: &str| {
        user.run(&[
            "--as", sender, "--via", via, "send", "--to", "bob", "--id", "once", body, "--json",
        ])
    };
    let first = send("n1", "alice", "hi").unwrap().json().unwrap();
    assert_eq!(first["duplicate"], false);
    for node in ["n1", "n2", "n3"] {
        let again = send(node, "alice", "hi").unwrap().json().unwrap();
        assert_eq!(again["duplicate"], true);
        for field in ["id", "shard", "seq", "stamp", "earliest", "latest"] {
            assert_eq!(again[field], first[field], "{field} through {node}");
        }
    }
    let said = send("n2", "alice", "other").unwrap().refused(6).unwrap();
    assert!(said.contains("once"), "{said}");
    // An id is its sender's own.
    let bobs = send("n2", "bob", "other").unwrap().json().unwrap();
    assert_eq!(bobs["duplicate"], json!(false));
    assert!(bobs["seq"].as_u64() > first["seq"].as_u64(), "{bobs} after {first}");
}

#[test]
fn status_nodes_and_clients_have_their_fields() {
    let cluster = Cluster::start(3).unwrap();
    let user = cluster.user();
    user.ok(&["register", "alice", "--home", "n2"]).unwrap();
    user.ok(&["register", "bob"]).unwrap();
    user.ok(&["--as", "alice", "send", "--to", "bob", "hi"]).unwrap();
    cluster.wait_level().unwrap();

    let status = user.json(&["status"]).unwrap();
    has_fields(&status, STATUS);
    assert_eq!((&status["quorum"], &status["healthy"]), (&json!(true), &json!(true)));
    assert_eq!(status["problems"], json!([]));
    let nodes = status["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    for (node, name) in nodes.iter().zip(cluster.names()) {
        has_fields(node, NODE);
        has_fields(&node["clock"], CLOCK);
        assert_eq!((&node["id"], &node["state"]), (&json!(name), &json!("up")));
        assert_eq!(node["address"], cluster.address(&name).unwrap());
        assert_eq!(node["clock"]["state"], "local");
        let role = if node["id"] == status["primary"] { "primary" } else { "backup" };
        assert_eq!(node["role"], role);
    }

    let clients = user.json(&["clients"]).unwrap();
    let [alice, bob] = clients.as_array().unwrap().as_slice() else { panic!("{clients}") };
    for (client, name) in [(alice, "alice"), (bob, "bob")] {
        has_fields(client, CLIENT);
        assert_eq!(client["name"], name);
    }
    assert_eq!((&alice["home"], &alice["via"]), (&json!("n2"), &json!("n2")));
    assert!(alice["last_seen"].is_string() && bob["home"].is_string());
    let at_n2 = user.json(&["clients", "--home", "n2"]).unwrap();
    assert!(at_n2.as_array().unwrap().iter().all(|client| client["home"] == "n2"));
    // Any node gives the same registry.
    for node in cluster.names() {
        let there = user.json(&["clients", "--via", &node]).unwrap();
        let names: Vec<_> = there.as_array().unwrap().iter().map(|c| &c["name"]).collect();
        assert_eq!(names, ["alice", "bob"]);
    }
}

#[test]
fn ranges_limits_and_cursors_choose_what_is_read() {
    let cluster = alice_and_bob();
    let user = cluster.user();
    let send = |id: &str, from: &str, to: &str| {
        user.json(&["--as", from, "send", "--to", to, "--id", id, id]).unwrap()
    };
    let acks = [send("a", "alice", "bob"), send("b", "bob", "bob"), send("c", "alice", "*")];
    let read = |args: &[&str]| -> Vec<String> {
        let base = ["--as", "bob", "read"];
        let records = user.json(&[&base[..], args].concat()).unwrap();
        let ids = records.as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap().to_owned());
        ids.collect()
    };
    let stamp = acks[1]["stamp"].as_str().unwrap();
    assert_eq!(read(&[]), ["a", "b", "c"]);
    assert_eq!(read(&["--since", stamp]), ["b", "c"]);
    assert_eq!(read(&["--until", stamp]), ["a"]);
    assert_eq!(read(&["--since", "1h", "--until", "now"]), ["a", "b", "c"]);
    assert_eq!(read(&["--from", "alice"]), ["a", "c"]);
    assert_eq!(read(&["--to", "*"]), ["c"]);
    assert_eq!(read(&["--limit", "2"]), ["a", "b"]);
    assert_eq!(read(&["--cursor", "mine", "--limit", "2"]), ["a", "b"]);
    assert_eq!(read(&["--cursor", "mine", "--via", "n3"]), ["c"]);
    assert_eq!(read(&["--cursor", "mine"]), Vec::<String>::new());
    // From the end.
    assert_eq!(read(&["-n", "2"]), ["b", "c"]);
    assert_eq!(read(&["-n", "1", "--from", "bob"]), ["b"]);
    assert_eq!(read(&["-n", "2", "--until", stamp]), ["a"]);
    assert_eq!(read(&["--reverse"]), ["c", "b", "a"]);
    assert_eq!(read(&["--grep", "^[ac]$", "--limit", "1"]), ["a"]);
    // What does not end is lines, whatever was asked for.
    let follow = ["--as", "bob", "read", "--follow", "--limit", "3", "-o", "json"];
    assert_eq!(user.ok(&follow).unwrap().lines().unwrap().len(), 3);
}

#[test]
fn whoever_has_read_a_message_answers_after_it() {
    let cluster = alice_and_bob();
    let user = cluster.user();
    let mut last = String::new();
    for round in 0..6 {
        let (from, to) = if round % 2 == 0 { ("alice", "bob") } else { ("bob", "alice") };
        let via = format!("n{}", round % 3 + 1);
        let ack = user.json(&["--as", from, "--via", &via, "send", "--to", to, "turn"]).unwrap();
        let stamp = ack["stamp"].as_str().unwrap().to_owned();
        assert!(stamp > last, "{stamp} after {last}");
        let there = user.json(&["--as", to, "read", "--since", &stamp]).unwrap();
        assert_eq!(there.as_array().unwrap().len(), 1, "not fresh: {there}");
        last = stamp;
    }
}
