//! Access tokens by a real curl: they stand for one client, at every node at once, until they are revoked or
//! over; a record says that its sender was proven so.
//!
//! Promise 7, known sender. Meant to catch: a token of another client's taken, a revoked one good for what is
//! open, and a message of a token shown as one of a certificate.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use tests::Cluster;
use tests::curl::{Answer, Curl};
use tests::patience::{until, when};

fn url(cluster: &Cluster, node: &str, path: &str) -> String {
    format!("https://{}/v1/{path}", cluster.address(node).unwrap())
}

/// Asks until the answer is one that was not for want of a primary: elections happen.
fn ask(curl: &Curl, token: &str, args: &[&str], stdin: &[u8]) -> Answer {
    let header = format!("Authorization: Bearer {token}");
    let args = [&["-H", &header], args].concat();
    curl.ask_until_served(&args, stdin).unwrap()
}

fn made(cluster: &Cluster, client: &str, ttl: &str) -> (String, String) {
    let made = cluster.user().json(&["access", "create", client, "--ttl", ttl]).unwrap();
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    (text("token"), text("id"))
}

fn state(cluster: &Cluster, id: &str) -> Value {
    let listed = cluster.user().json(&["access", "list"]).unwrap();
    let line = listed.as_array().unwrap().iter().find(|line| line["id"] == id).cloned();
    line.unwrap()["state"].clone()
}

#[test]
fn a_token_stands_for_its_client_until_it_is_revoked() {
    let cluster = Cluster::start(3).unwrap();
    let Some(curl) = Curl::stranger(&cluster).unwrap() else { return };
    cluster.register(&["alice", "bob"]).unwrap();
    let (token, id) = made(&cluster, "alice", "1h");
    // At every node at once, however far it is.
    for (n, node) in cluster.names().iter().enumerate() {
        let put = ["-T", "-", &url(&cluster, node, &format!("messages/m-{n}?to=bob"))];
        let answer = ask(&curl, &token, &put, b"hi");
        assert!(matches!(answer.status, 200 | 201), "{node}: {answer:?}");
    }
    cluster.user().ok(&["--as", "alice", "send", "--to", "bob", "--id", "by-key", "ho"]).unwrap();
    let read = cluster.user().json(&["--as", "bob", "read"]).unwrap();
    let proofs: Vec<_> = read.as_array().unwrap().iter().map(|record| &record["proof"]).collect();
    let by_token = json!(format!("token {id}"));
    assert_eq!(&proofs[..3], [&by_token; 3], "{read}");
    let by_key = proofs[3].as_str().unwrap();
    assert!(by_key.starts_with("certificate ") && by_key.len() == 12 + 64, "{read}");
    assert!(read.as_array().unwrap().iter().all(|record| record["from"] == "alice"), "{read}");
    let table = cluster.user().ok(&["--as", "bob", "read", "-o", "table"]).unwrap();
    assert_eq!(table.text().matches("alice (token)").count(), 3, "{table}");
    let event = cluster.user().json(&["events", "--types", "access"]).unwrap();
    assert!(event.to_string().contains("an access token for alice was made"), "{event}");
    // It is alice's alone, and what is cut or made up is nobody's.
    let inbox = ask(&curl, &token, &[&url(&cluster, "n1", "messages?to=bob")], b"");
    inbox.refused(403, "denied").unwrap();
    let (bobs, _) = made(&cluster, "bob", "1h");
    let cut = &token[..token.len() - 1];
    let forged = {
        let mut other = proto::access::AccessToken::decode(&bobs).unwrap();
        other.id = proto::access::AccessToken::decode(&token).unwrap().id;
        other.encode()
    };
    let messages = url(&cluster, "n2", "messages");
    for wrong in [cut, &forged, "hello", ""] {
        let answer = ask(&curl, wrong, &[&messages], b"");
        let problem = answer.refused(401, "denied").unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("token"), "{problem}");
        assert!(answer.header("www-authenticate").contains("Bearer"), "{answer:?}");
    }
    // Revoked, it ends what is open with it and opens nothing any more.
    let header = format!("Authorization: Bearer {token}");
    let follow = ["-N", "-H", &header, "-H", "Accept: text/event-stream", &messages];
    let mut stream = curl.command(&follow);
    let mut child = stream.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let begun = lines.by_ref().map_while(Result::ok).any(|line| line == "event: safe");
    assert!(begun, "the stream has begun");
    cluster.user().ok(&["access", "revoke", &token]).unwrap();
    let end = lines.map_while(Result::ok).find(|line| line.contains("was revoked"));
    child.wait().unwrap();
    assert!(end.is_some(), "the stream ended without a word");
    assert_eq!(state(&cluster, &id), "revoked");
    for node in cluster.names() {
        let answer = until("a refusal", || {
            let answer = ask(&curl, &token, &[&url(&cluster, &node, "messages")], b"");
            when(answer.status == 401, format!("{answer:?}")).map(|()| answer)
        });
        let problem = answer.unwrap().refused(401, "denied").unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("was revoked"), "{problem}");
    }
}

#[test]
fn a_token_expires_and_makes_room() {
    let cluster = Cluster::start(1).unwrap();
    let Some(curl) = Curl::stranger(&cluster).unwrap() else { return };
    cluster.register(&["alice"]).unwrap();
    let (token, id) = made(&cluster, "alice", "1s");
    let problem = until("its end", || {
        let answer = ask(&curl, &token, &[&url(&cluster, "n1", "messages")], b"");
        when(answer.status == 401, format!("{answer:?}"))?;
        answer.refused(401, "denied").map_err(|error| error.to_string())
    })
    .unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("has expired"), "{problem}");
    assert_eq!(state(&cluster, &id), "expired");
    // As many as one client may have; the dead one gives way.
    (0..proto::limits::ACCESS_PER_CLIENT_MAX).for_each(|_| drop(made(&cluster, "alice", "1h")));
    let text = cluster.user().refused(&["access", "create", "alice"], 6).unwrap();
    assert!(text.contains("revoke some first"), "{text}");
    cluster.user().refused(&["access", "create", "nobody"], 5).unwrap();
    cluster.user().refused(&["--as", "alice", "access", "create", "alice"], 4).unwrap();
    cluster.user().refused(&["--as", "alice", "access", "list"], 4).unwrap();
    cluster.user().refused(&["access", "create", "alice", "--ttl", "100d"], 2).unwrap();
    cluster.user().refused(&["access", "revoke", "hello"], 2).unwrap();
}
