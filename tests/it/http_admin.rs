//! What an administrator asks over HTTPS: the table of members, what a node found in itself, settings.
//!
//! Meant to catch: a setting that only the asked node has, and one that any client may change.

use std::collections::BTreeMap;

use serde_json::Value;
use tests::Cluster;
use tests::curl::{Answer, Curl};
use tests::patience::{until, when};

fn url(cluster: &Cluster, node: &str, path: &str) -> String {
    format!("https://{}/v1/{path}", cluster.address(node).unwrap())
}

/// Asks until the cluster can answer: while it elects, nothing is done, and a setting is set twice as well.
fn ask(curl: &Curl, args: &[&str], stdin: &[u8]) -> Answer {
    curl.ask_until_served(args, stdin).unwrap()
}

#[test]
fn settings_are_changed_over_https_and_hold_everywhere() {
    let cluster = Cluster::start(3).unwrap();
    let Some(stranger) = Curl::stranger(&cluster).unwrap() else { return };
    cluster.register(&["alice"]).unwrap();
    let [alice, admin] = ["alice", "admin"].map(|who| stranger.of(cluster.user(), who).unwrap());
    let put = |who: &Curl, node: &str, name: &str, value: &str| {
        let url = url(&cluster, node, &format!("settings/{name}"));
        ask(who, &["-T", "-", &url], value.as_bytes())
    };
    for (node, name, value, field, shown) in [
        ("n1", "retain-age", "30d\n", "retain_age_ms", Value::from(30_u64 * 86_400_000)),
        ("n2", "retain-age", "none", "retain_age_ms", Value::Null),
        ("n3", "max-clock-error", "80ms", "max_clock_error_us", Value::from(80_000)),
        ("n1", "on-loss", "refuse", "on_loss", Value::from("refuse")),
        ("n2", "retain-bytes", "10GiB", "retain_bytes", Value::from(10_u64 << 30)),
    ] {
        let answer = put(&admin, node, name, value);
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        let all = answer.json().unwrap();
        assert_eq!(all[field], shown, "{name}: {all}");
        for other in cluster.names() {
            until("the setting", || {
                let run = cluster.user().json(&["cluster", "settings", "--via", &other]);
                let seen = run.map_err(|error| error.to_string())?;
                let got = ask(&alice, &[&url(&cluster, &other, "settings")], b"").json().unwrap();
                when(seen == all && got == all, format!("{name} at {other}: {seen} {got}"))
            })
            .unwrap();
        }
    }
    for (name, value, status, code) in [
        ("retain-age", "soon", 400, "invalid"),
        ("retain-age", "", 400, "invalid"),
        ("on-loss", "\u{1}", 400, "invalid"),
        ("colour", "blue", 404, "not-found"),
    ] {
        put(&admin, "n1", name, value).refused(status, code).unwrap();
    }
    put(&admin, "n1", "retain-count", &"1".repeat(1000)).refused(413, "invalid").unwrap();
    put(&alice, "n1", "retain-count", "1").refused(403, "denied").unwrap();
    put(&stranger, "n1", "retain-count", "1").refused(401, "denied").unwrap();
    let now = cluster.user().json(&["cluster", "settings"]).unwrap();
    assert_eq!(now["retain_count"], Value::Null, "{now}");
}

#[test]
fn members_and_what_nodes_found_in_themselves_are_told() {
    let cluster = Cluster::start(3).unwrap();
    let Some(stranger) = Curl::stranger(&cluster).unwrap() else { return };
    cluster.register(&["alice"]).unwrap();
    let [alice, admin] = ["alice", "admin"].map(|who| stranger.of(cluster.user(), who).unwrap());
    let members = ask(&alice, &[&url(&cluster, "n2", "members")], b"").json().unwrap();
    let names: Vec<&str> =
        members.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["n1", "n2", "n3"], "{members}");
    // The same fields and values as logctl has for one of them.
    let shown = cluster.user().json(&["node", "show", "n1"]).unwrap();
    for (field, value) in members[0].as_object().unwrap() {
        assert_eq!(shown.get(field), Some(value), "{field}: {shown}");
    }
    cluster.user().ok(&["send", "--as", "alice", "--to", "*", "hello"]).unwrap();
    let verify = |node: &str, query: &str| {
        let url = url(&cluster, node, &format!("verify{query}"));
        ask(&admin, &["-H", "Logd-Timeout-Ms: 30000", &url], b"")
    };
    // At one entry all have one digest, of their states and of all that they hold.
    until("digests at one entry", || {
        for field in ["digests", "contents"] {
            let mut at: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
            for node in cluster.names() {
                let told = verify(&node, "?deep").json().map_err(|error| error.to_string())?;
                when(told["problems"] == Value::Array(Vec::new()), told.to_string())?;
                for digest in told[field].as_array().into_iter().flatten() {
                    let index = digest["index"].as_u64().unwrap_or_default();
                    at.entry(index).or_default().push(digest["digest"].clone());
                }
            }
            let common: Vec<_> = at.values().filter(|all| all.len() == 3).collect();
            when(!common.is_empty(), format!("{field}: {at:?}"))?;
            assert!(common.iter().all(|all| all.iter().all(|one| *one == all[0])), "{at:?}");
        }
        Ok(())
    })
    .unwrap();
    let told = verify("n1", "?place=1&place=2").json().unwrap();
    assert_eq!((told["content"].clone(), told["records"].clone()), (Value::Null, Value::Null));
    assert_eq!(told["places"][1]["index"], 2, "{told}");
    verify("n1", "?place=x").refused(400, "invalid").unwrap();
    let url = url(&cluster, "n1", "verify");
    ask(&alice, &[&url], b"").refused(403, "denied").unwrap();
}
