//! Messages over HTTPS, by a real curl: sent once however often, read, followed over a killed node, deleted;
//! and bad input of every kind, which changes nothing.
//!
//! Promises: 3 once, 7 known sender, 8 refuses clearly. Meant to catch: the id of the path not used, a
//! follower that begins anew, and parameters that nobody knows let through.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};
use tests::Cluster;
use tests::curl::{Answer, Curl};
use tests::patience::{until, when};

use crate::smoke::{ACK, LISTED, NODE, RECORD, STATUS};

fn url(cluster: &Cluster, node: &str, path: &str) -> String {
    format!("https://{}/v1/{path}", cluster.address(node).unwrap())
}

/// A cluster with two clients, and what they speak through; `None` where there is no curl.
fn clients(nodes: u16) -> Option<(Cluster, Curl, Curl)> {
    let cluster = Cluster::start(nodes).unwrap();
    let stranger = Curl::stranger(&cluster).unwrap()?;
    cluster.register(&["alice", "bob"]).unwrap();
    let of = |name| stranger.of(cluster.user(), name).unwrap();
    let (alice, bob) = (of("alice"), of("bob"));
    Some((cluster, alice, bob))
}

/// Asks until the answer is one that was not for want of a primary: elections happen.
fn ask(curl: &Curl, args: &[&str], stdin: &[u8]) -> Answer {
    curl.ask_until_served(args, stdin).unwrap()
}

fn fields(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn set<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    names.iter().copied().collect()
}

#[test]
fn a_message_is_stored_once_and_read_by_curl_and_by_logctl() {
    let Some((cluster, alice, bob)) = clients(3) else { return };
    let put = |node: &str, body: &[u8]| {
        let url = url(&cluster, node, "messages/m-1?to=bob&header=kind=note");
        ask(&alice, &["-T", "-", &url], body)
    };
    let first = put("n1", b"hi");
    let again = until("a repeat", || {
        let again = put("n2", b"hi");
        when(again.status == 200, format!("{again:?}")).map(|()| again)
    })
    .unwrap();
    // Where the first answer was lost on the way the repeat is the first that was heard.
    assert!(matches!(first.status, 201 | 200), "{first:?}");
    assert_eq!(again.header("logd-duplicate"), "true");
    for answer in [&first, &again] {
        assert_eq!(answer.header("location"), "/v1/messages/m-1");
        assert_eq!(fields(&answer.json().unwrap()), set(ACK));
    }
    for field in ["seq", "stamp", "earliest", "latest", "id"] {
        assert_eq!(first.json().unwrap()[field], again.json().unwrap()[field], "{field}");
    }
    assert_eq!(first.header("logd-stamp"), first.json().unwrap()["stamp"]);
    // Another body under the same id is another message.
    put("n3", b"ho").refused(422, "conflict").unwrap();
    let by_logctl = cluster.user().json(&["--as", "bob", "get", "m-1"]).unwrap();
    let one = ask(&bob, &[&url(&cluster, "n2", "messages/m-1")], b"").json().unwrap();
    assert_eq!((fields(&one), &one), (set(RECORD), &by_logctl));
    assert_eq!((&one["from"], &one["headers"]), (&json!("alice"), &json!({"kind": "note"})));
    let raw = ["-H", "Accept: application/octet-stream", &url(&cluster, "n3", "messages/m-1")];
    assert_eq!(ask(&bob, &raw, b"").body, "hi");
    let page = ask(&bob, &[&url(&cluster, "n3", "messages")], b"").json().unwrap();
    let by_logctl = cluster.user().json(&["--as", "bob", "read"]).unwrap();
    assert_eq!(page["records"], by_logctl);
    assert_eq!(fields(&page["records"][0]), set(LISTED));
    assert_eq!(page["end"], true);
    // What is read from where that one ended is what came after it.
    let next = page["next"].as_str().unwrap().to_owned();
    let body = br#"{"to":"bob","body":"more","headers":{"a":"1"}}"#;
    let json =
        ["-H", "Content-Type: application/json", "-H", "Idempotency-Key: \"m-2\"", "-d", "@-"];
    ask(&alice, &[&json[..], &[&url(&cluster, "n1", "messages")]].concat(), body);
    let page = ask(&bob, &[&url(&cluster, "n1", &format!("messages?after={next}"))], b"");
    let page = page.json().unwrap();
    let ids: Vec<_> = page["records"].as_array().unwrap().iter().map(|r| &r["id"]).collect();
    assert_eq!(ids, [&json!("m-2")]);
    let lines = ["-H", "Accept: application/x-ndjson", &url(&cluster, "n1", "messages?limit=1")];
    let answer = ask(&bob, &lines, b"");
    assert_eq!((answer.body.lines().count(), answer.header("logd-end")), (1, "false"));
    // Whoever reads page by page until the end has them all.
    let after = format!("messages?limit=2&after={}", answer.header("logd-next"));
    let rest = ask(&bob, &[&url(&cluster, "n2", &after)], b"").json().unwrap();
    assert_eq!((&rest["records"][0]["id"], &rest["end"]), (&json!("m-2"), &json!(true)));
    // Without an id the node draws one, and says so.
    let drawn = ask(&alice, &["-d", "x", &url(&cluster, "n1", "messages?to=bob")], b"");
    assert_eq!((drawn.status, drawn.header("logd-id-drawn")), (201, "true"));
    assert_eq!(drawn.header("logd-id"), drawn.json().unwrap()["id"]);
    // Deleted by its sender, it is gone for whoever wants its body.
    let delete = ["-X", "DELETE", &url(&cluster, "n2", "messages/m-1?reason=old")];
    let gone = ask(&alice, &delete, b"").json().unwrap();
    assert_eq!(
        (&gone["deleted"]["by"], &gone["deleted"]["reason"]),
        (&json!("alice"), &json!("old"))
    );
    ask(&bob, &raw, b"").refused(410, "not-found").unwrap();
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let Some((cluster, alice, _)) = clients(1) else { return };
    ask(&alice, &["-T", "-", &url(&cluster, "n1", "messages/good?to=bob")], b"hi");
    let long_id = format!("messages/{}?to=bob", "i".repeat(200));
    let bad: [(u16, &str, &str, &[&str]); 27] = [
        (400, "invalid", "messages/m", &["-T", "-"]),
        (400, "invalid", "messages/m?to=Bob!", &["-T", "-"]),
        (400, "invalid", "messages/m?to=bob&to=carol", &["-T", "-"]),
        (400, "invalid", "messages/m?to=bob&from=carol", &["-T", "-"]),
        (400, "invalid", "messages/m?to=bob&header=x", &["-T", "-"]),
        (400, "invalid", "messages/m%20n?to=bob", &["-T", "-"]),
        (400, "invalid", "messages/m%ff?to=bob", &["-T", "-"]),
        (400, "invalid", "messages/m?to=%ff", &["-T", "-"]),
        (400, "invalid", &long_id, &["-T", "-"]),
        (403, "denied", "messages/m?to=$events", &["-T", "-"]),
        (404, "not-found", "messages/m?to=nobody", &["-T", "-"]),
        (400, "invalid", "messages/m?to=bob", &["-T", "-", "-H", "Logd-After: soon"]),
        (400, "invalid", "messages/m?to=bob", &["-T", "-", "-H", "Logd-Timeout-Ms: 0"]),
        (400, "invalid", "messages", &["-d", "{", "-H", "Content-Type: application/json"]),
        (
            400,
            "invalid",
            "messages",
            &[
                "-d",
                r#"{"to":"bob","body":"x","from":"carol"}"#,
                "-H",
                "Content-Type: application/json",
            ],
        ),
        (
            400,
            "invalid",
            "messages",
            &["-d", r#"["bob","m",{},"x",null,false]"#, "-H", "Content-Type: application/json"],
        ),
        (400, "invalid", "messages?after=1-999999", &[]),
        (400, "invalid", "messages?after=2-1", &[]),
        (400, "invalid", "messages?follow", &["-H", "Last-Event-ID: 1-999999"]),
        (400, "invalid", "events?after=1-999999", &["-H", "Accept: text/event-stream"]),
        (400, "invalid", "messages?limit=0", &[]),
        (400, "invalid", "messages?form=bob", &[]),
        (400, "invalid", "messages?since=soon", &[]),
        (400, "invalid", "messages", &["-H", "Last-Event-ID: here"]),
        (404, "not-found", "messages/nothing", &[]),
        (405, "invalid", "messages", &["-X", "PATCH"]),
        (403, "denied", "messages?from=bob&to=bob", &["-X", "GET"]),
    ];
    for (status, code, path, args) in bad {
        let url = url(&cluster, "n1", path);
        let answer = ask(&alice, &[args, &[&url]].concat(), b"body");
        answer.refused(status, code).unwrap_or_else(|error| panic!("{path} {args:?}: {error}"));
    }
    // More than a message may be, told before it is all here or not.
    let large = vec![b'x'; (1 << 20) + 1];
    let url_of = |path: &str| url(&cluster, "n1", path);
    let put = ["-T", "-", &url_of("messages/m?to=bob")];
    ask(&alice, &put, &large).refused(413, "invalid").unwrap();
    // By HTTP/2 the answer is heard as well. Meant to catch: the rest of the body left unread.
    let larger = vec![b'x'; 5 << 20];
    let post = ["--data-binary", "@-", &url_of("messages?to=bob")];
    for version in ["--http1.1", "--http2"] {
        for args in [&put[..], &post[..]] {
            let args = [&[version], args].concat();
            ask(&alice, &args, &larger).refused(413, "invalid").unwrap();
        }
    }
    let left = cluster.user().json(&["read"]).unwrap();
    let ids: Vec<_> = left.as_array().unwrap().iter().map(|record| &record["id"]).collect();
    assert_eq!(ids, [&json!("good")]);
}

/// Seen to fail: the reset of the stream came before the answer, and a group was made without one.
#[test]
fn no_answer_is_lost_where_nobody_reads_the_body() {
    let Some((cluster, alice, _)) = clients(1) else { return };
    let whole = vec![b'x'; 1 << 20];
    let unread = |path: &str| {
        let url = url(&cluster, "n1", path);
        ask(&alice, &["--http2", "-X", "PUT", "--data-binary", "@-", &url], &whole)
    };
    for turn in 0..6 {
        let made = unread(&format!("groups/unread{turn}"));
        assert_eq!(made.status, 201, "{made:?}");
        unread("nosuch").refused(404, "not-found").unwrap();
        unread("status").refused(405, "invalid").unwrap();
    }
}

/// A followed read by curl; ends with it.
struct Reading {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Reading {
    fn begin(curl: &Curl, url: &str, last: &str) -> Self {
        let mut command = curl.command(&["-N", "-H", "Accept: text/event-stream", url]);
        if !last.is_empty() {
            command.arg("-H").arg(format!("Last-Event-ID: {last}"));
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next event: its id, its name and its data; `None` at the end.
    fn next(&mut self) -> Option<(String, String, Value)> {
        let (mut id, mut name, mut data) = (String::new(), String::new(), None);
        loop {
            let line = self.lines.next()?.ok()?;
            match line.split_once(": ") {
                Some(("id", text)) => text.clone_into(&mut id),
                Some(("event", text)) => text.clone_into(&mut name),
                Some(("data", text)) => data = Some(serde_json::from_str(text).unwrap()),
                Some(_) => {}
                None => {
                    if let Some(data) = data.take() {
                        return Some((id, name, data));
                    }
                }
            }
        }
    }
}

#[test]
fn a_followed_read_goes_on_over_a_killed_node_without_gap_or_repeat() {
    let Some((mut cluster, alice, bob)) = clients(3) else { return };
    let send = |cluster: &Cluster, n: usize| {
        let nodes = cluster.present();
        let node = &nodes[n % nodes.len()];
        let url = url(cluster, node, &format!("messages/m-{n}?to=bob"));
        ask(&alice, &["-T", "-", &url], n.to_string().as_bytes());
    };
    let (mut got, mut last) = (Vec::new(), String::new());
    let read = |reading: &mut Reading, upto: usize, got: &mut Vec<Value>, last: &mut String| {
        while got.len() < upto {
            let Some((id, name, data)) = reading.next() else { return };
            if name.is_empty() {
                got.push(data["id"].clone());
                *last = id;
            }
        }
    };
    (0..5).for_each(|n| send(&cluster, n));
    // Where no primary is known there is no stream, and the next try has one.
    let mut reading = loop {
        let mut reading = Reading::begin(&bob, &url(&cluster, "n1", "messages"), &last);
        read(&mut reading, 5, &mut got, &mut last);
        if got.len() == 5 {
            break reading;
        }
    };
    cluster.set_away("n1");
    cluster.kill("n1").unwrap();
    (5..10).for_each(|n| send(&cluster, n));
    // Nothing more comes from there.
    read(&mut reading, 10, &mut got, &mut last);
    assert_eq!(got.len(), 5, "{got:?}");
    while got.len() < 10 {
        let mut reading = Reading::begin(&bob, &url(&cluster, "n2", "messages"), &last);
        read(&mut reading, 10, &mut got, &mut last);
    }
    let want: Vec<_> = (0..10).map(|n| json!(format!("m-{n}"))).collect();
    assert_eq!(got, want);
    // A node that stops says where it goes on.
    let mut reading = until("a first word", || {
        let mut reading = Reading::begin(&bob, &url(&cluster, "n2", "messages"), &last);
        let (_, name, _) = reading.next().ok_or("no stream")?;
        when(name == "safe", name).map(|()| reading)
    })
    .unwrap();
    let other = format!("https://{}", cluster.address("n3").unwrap());
    cluster.set_away("n2");
    cluster.stop("n2").unwrap();
    let moved = std::iter::from_fn(|| reading.next()).find(|(_, name, _)| name == "moved");
    let (_, _, moved) = moved.expect("it said nothing");
    assert!(moved["nodes"].as_array().unwrap().contains(&json!(other)), "{moved}");
}

/// Meant to catch: a stream from a node that is drained already.
#[test]
fn a_drained_node_sends_who_follows_elsewhere() {
    let Some((cluster, _, bob)) = clients(2) else { return };
    cluster.user().ok(&["node", "drain", "n1"]).unwrap();
    let (own, other) = (cluster.address("n1").unwrap(), cluster.address("n2").unwrap());
    let moved = until("a word of where to go on", || {
        let mut reading = Reading::begin(&bob, &format!("https://{own}/v1/messages"), "1-1");
        let (_, name, moved) = reading.next().ok_or("no stream")?;
        when(name == "moved", name).map(|()| moved)
    })
    .unwrap();
    assert_eq!(moved, json!({"next": "1-1", "nodes": [format!("https://{other}")]}));
}

#[test]
fn the_cluster_its_groups_and_keys_are_asked_for_by_curl() {
    let Some((cluster, alice, bob)) = clients(1) else { return };
    let get = |curl: &Curl, path: &str| ask(curl, &[&url(&cluster, "n1", path)], b"");
    let status = get(&alice, "status").json().unwrap();
    assert_eq!((fields(&status), fields(&status["nodes"][0])), (set(STATUS), set(NODE)));
    let nodes = get(&alice, "nodes").json().unwrap();
    assert_eq!((&nodes["n"], &nodes["nodes"][0]["name"]), (&json!(1), &json!("n1")));
    assert_eq!(get(&alice, "clock").json().unwrap()["node"], "n1");
    let by_logctl = cluster.user().json(&["cluster", "settings"]).unwrap();
    assert_eq!(get(&alice, "settings").json().unwrap(), by_logctl);
    let events = get(&alice, "events?types=leader").json().unwrap();
    assert_eq!(events["records"][0]["type"], "leader", "{events}");
    // A key changes at its version alone.
    let key = url(&cluster, "n1", "kv/a/b");
    let put = |version: &str, value: &[u8]| {
        let version = format!("If-Match: \"{version}\"");
        ask(&alice, &["-T", "-", "-H", &version, &key], value)
    };
    let first = put("0", b"one");
    assert_eq!(first.status, 200, "{first:?}");
    put("0", b"two").refused(409, "conflict").unwrap();
    let version = first.header("etag").trim_matches('"').to_owned();
    put(&version, b"two");
    let got = ask(&bob, &["-H", "Accept: application/octet-stream", &key], b"");
    assert_eq!(got.body, "two");
    ask(&bob, &["-X", "DELETE", &key], b"").refused(403, "denied").unwrap();
    assert_eq!(get(&bob, "kv?prefix=a/").json().unwrap()[0]["value"], "two");
    ask(&alice, &["-X", "DELETE", &key], b"");
    get(&bob, "kv/a/b").refused(404, "not-found").unwrap();
    // A group, and a message to it.
    let at = |path: &str| url(&cluster, "n1", path);
    assert_eq!(ask(&alice, &["-X", "PUT", &at("groups/ops")], b"").status, 201);
    ask(&alice, &["-X", "PUT", &at("groups/ops/members/bob")], b"");
    assert_eq!(get(&bob, "groups/ops").json().unwrap()["size"], 2);
    assert_eq!(get(&bob, "groups").json().unwrap()[0]["name"], "ops");
    ask(&alice, &["-T", "-", &at("messages/g?to=@ops")], b"all");
    let page = get(&bob, "messages?to=@ops").json().unwrap();
    assert!(page["records"].as_array().unwrap().iter().any(|r| r["id"] == "g"), "{page}");
    // A cursor stands where it was told to.
    let next = page["next"].as_str().unwrap();
    let set = ["-X", "PUT", &at(&format!("cursors/mine?after={next}"))];
    assert_eq!(ask(&bob, &set, b"").status, 204);
    let page = get(&bob, "messages?to=@ops&cursor=mine").json().unwrap();
    assert_eq!(page["records"], json!([]));
    ask(&alice, &["-X", "DELETE", &at("groups/ops/members/bob")], b"");
    ask(&alice, &["-X", "DELETE", &at("groups/ops")], b"");
    get(&alice, "groups/ops").refused(404, "not-found").unwrap();
}

/// The document's own commands, in its order.
#[test]
fn the_commands_of_the_document_work() {
    let Some((cluster, _, _)) = clients(1) else { return };
    let text = include_str!("../../docs/http.md");
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let script: String = blocks.collect();
    assert!(script.lines().count() >= 15, "{script}");
    let address = cluster.address("n1").unwrap();
    let script = script
        .replace("127.0.0.1:7101", &address)
        .replace("mycluster", cluster.dir().to_str().unwrap())
        .replace("curl ", "curl -q --fail-with-body --max-time 50 --retry 5 ");
    let output = std::process::Command::new("sh")
        .args(["-e", "-c", &script])
        .env("LOGCTL_HOME", cluster.user().home())
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{out}\n{err}");
    assert!(out.contains("\"duplicate\":true") && out.contains("\"type\":\"leader\""), "{out}");
}
