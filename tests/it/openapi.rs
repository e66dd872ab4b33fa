//! What is answered is what the served document says, field by field.
//!
//! Meant to catch: a field that is new and not described, and one that is described and gone.

use serde_json::Value;
use tests::Cluster;
use tests::curl::{Answer, Curl};
use tests::schema::check;

/// A question: its method, its path as the document has it and as it is asked, and what curl sends besides.
type Asked<'a> = (&'a str, &'a str, &'a str, &'a [&'a str]);

/// In this order, for each stands on those before it.
const ASKED: [Asked<'static>; 30] = [
    ("put", "/v1/messages/{id}", "/v1/messages/m?to=alice&header=a=1", &["-T", "-"]),
    ("put", "/v1/messages/{id}", "/v1/messages/m?to=alice&header=a=1", &["-T", "-"]),
    ("post", "/v1/messages", "/v1/messages?to=*", &["-d", "x"]),
    ("get", "/v1/messages", "/v1/messages", &[]),
    ("get", "/v1/messages/{id}", "/v1/messages/m", &[]),
    ("delete", "/v1/messages/{id}", "/v1/messages/m?reason=old", &["-X", "DELETE"]),
    ("get", "/v1/messages", "/v1/messages?limit=1", &[]),
    ("get", "/v1/messages", "/v1/messages?limit=0", &[]),
    ("get", "/v1/events", "/v1/events", &[]),
    ("get", "/v1/status", "/v1/status", &[]),
    ("get", "/v1/nodes", "/v1/nodes", &[]),
    ("get", "/v1/clock", "/v1/clock", &[]),
    ("get", "/v1/clock/report", "/v1/clock/report?since=1h&tolerance=50ms", &[]),
    ("get", "/v1/settings", "/v1/settings", &[]),
    ("put", "/v1/settings/{name}", "/v1/settings/cert-life", &["-X", "PUT", "-d", "90d"]),
    ("get", "/v1/members", "/v1/members", &[]),
    ("get", "/v1/verify", "/v1/verify?place=1", &[]),
    ("get", "/v1/verify", "/v1/verify?deep", &[]),
    ("put", "/v1/groups/{name}", "/v1/groups/ops", &["-X", "PUT"]),
    ("put", "/v1/groups/{name}/members/{member}", "/v1/groups/ops/members/alice", &["-X", "PUT"]),
    ("get", "/v1/groups", "/v1/groups", &[]),
    ("get", "/v1/groups/{name}", "/v1/groups/ops", &[]),
    ("delete", "/v1/groups/{name}", "/v1/groups/ops", &["-X", "DELETE"]),
    ("put", "/v1/kv/{key}", "/v1/kv/a/b?shared_with=*", &["-T", "-"]),
    ("get", "/v1/kv", "/v1/kv?prefix=a", &[]),
    ("get", "/v1/kv/{key}", "/v1/kv/a/b", &[]),
    ("delete", "/v1/kv/{key}", "/v1/kv/a/b", &["-X", "DELETE"]),
    ("get", "/v1/kv/{key}", "/v1/kv/a/b", &[]),
    ("get", "/healthz", "/healthz", &[]),
    ("get", "/v1/openapi.json", "/v1/openapi.json", &[]),
];

fn ask(curl: &Curl, args: &[&str]) -> Answer {
    curl.ask_until_served(args, b"hi").unwrap()
}

#[test]
fn answers_are_what_the_document_says() {
    let cluster = Cluster::start(1).unwrap();
    let Some(stranger) = Curl::stranger(&cluster).unwrap() else { return };
    cluster.register(&["alice"]).unwrap();
    let alice = stranger.of(cluster.user(), "alice").unwrap();
    let base = format!("https://{}", cluster.address("n1").unwrap());
    let document = ask(&alice, &[&format!("{base}/v1/openapi.json")]).json().unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let admin = stranger.of(cluster.user(), "admin").unwrap();
    for (method, path, asked, args) in ASKED {
        let operators = ["/v1/settings/{name}", "/v1/verify"].contains(&path);
        let who = if operators { &admin } else { &alice };
        let answer = ask(who, &[args, &[&format!("{base}{asked}")]].concat());
        let responses = &document["paths"][path][method]["responses"];
        let status = answer.status.to_string();
        let response = responses.get(&status).unwrap_or_else(|| &responses["default"]);
        let is_problem = answer.status >= 400 && path != "/healthz";
        let kind = if is_problem { "application/problem+json" } else { "application/json" };
        assert_eq!(answer.header("content-type"), kind, "{method} {asked}: {answer:?}");
        let schema = &response["content"][kind]["schema"];
        assert_ne!(schema, &Value::Null, "{method} {asked} with {status} is not described");
        let value = answer.json().unwrap();
        check(&document, schema, &value, "it")
            .unwrap_or_else(|error| panic!("{method} {asked}: {error}"));
    }
    stranger.ask(&[&format!("{base}/v1/openapi.json")]).unwrap().refused(401, "denied").unwrap();
}
