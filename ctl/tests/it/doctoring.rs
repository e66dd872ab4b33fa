//! `doctor` and `support-bundle`: what is looked at, what is said of it, and what is in no file.

use std::os::unix::fs::PermissionsExt as _;

use proto::wire::{ClockReport, Op, Reply};
use proto::{ErrorCode, Record};

use crate::node::{FakeNode, STAMP, failure, page, record, status};
use crate::user::{User, json, text};

fn answering(user: &User) -> FakeNode {
    FakeNode::start_three(user, |_, op| match op {
        Op::Status(_) => vec![Reply::Status(status())],
        Op::Clock(_) => {
            let now_ns = STAMP.hlc.ns;
            let state = "synced".to_owned();
            vec![Reply::Clock(ClockReport { now_ns, state, ..ClockReport::default() })]
        }
        Op::Read(read) if read.to == "$events" => {
            let event = Record { to: "$events".into(), ..record(4, b"joined n1") };
            vec![page(vec![event], 4, true)]
        }
        _ => vec![failure(ErrorCode::Invalid)],
    })
}

/// Meant to catch: a node that is silent and passed over, and a finding without a way out.
#[test]
fn a_doctor_says_what_is_wrong_and_what_to_do() {
    let user = User::with_cluster();
    let output = user.run(&["doctor", "--timeout", "300ms", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let findings = json(&text(&output.stdout));
    let findings = findings.as_array().unwrap();
    let of = |check: &str| findings.iter().filter(|f| f["check"] == check).collect::<Vec<_>>();
    assert_eq!(of("context")[0]["state"], "ok", "{findings:?}");
    assert_eq!(of("node").len(), 3, "{findings:?}");
    for node in of("node") {
        assert_eq!(node["state"], "bad");
        assert!(node["try"].as_str().unwrap().contains("systemctl status logd"), "{node}");
    }
    let stranger = User::new().run(&["-q", "doctor", "--as", "nobody"]);
    let said = text(&stranger.stderr);
    assert_eq!(stranger.status.code(), Some(5), "{said}");
    assert!(
        said.contains("no context 'nobody'") && said.contains("try: logctl context list"),
        "{said}"
    );
}

/// Meant to catch: a configuration that is wrong and taken as it is, and a port that nobody serves.
#[test]
fn a_doctor_reads_the_files_of_a_node() {
    let user = User::with_cluster();
    let look = |config: &str| {
        let output = user.run(&["doctor", "--config", config, "--timeout", "300ms", "--json"]);
        (output.status.code(), json(&text(&output.stdout)))
    };
    let (_, findings) = look("cluster/node1.toml");
    let state = |check: &str| {
        let all = findings.as_array().unwrap();
        all.iter().find(|f| f["check"] == check).map(|f| f["state"].clone())
    };
    // Nobody measures the clock of a cluster that was made without time servers.
    assert_eq!(state("configuration").unwrap(), "warning", "{findings}");
    assert_eq!(state("certificate").unwrap(), "ok", "{findings}");
    assert!(state("port").is_some() && state("disk").is_some() && state("room").is_some());
    let path = user.home.path().join("cluster/node1.toml");
    let broken = std::fs::read_to_string(&path).unwrap().replace("data_dir", "data_dri");
    std::fs::write(&path, broken).unwrap();
    let (code, findings) = look("cluster/node1.toml");
    assert_eq!(code, Some(2), "{findings}");
    assert!(findings[0]["found"].as_str().unwrap().contains("data_dri"), "{findings}");
    assert!(findings[0]["try"].as_str().unwrap().contains("--check-config"), "{findings}");
}

/// Meant to catch: a bundle with what a message, a key or a token says.
#[test]
fn a_bundle_has_events_and_no_secret() {
    let user = User::with_cluster();
    let node = answering(&user);
    user.run(&["support-bundle", "bundle.json"]);
    let bundle = std::fs::read_to_string(user.home.path().join("bundle.json")).unwrap();
    let whole = json(&bundle);
    assert_eq!(whole["events"][0]["text"], "joined n1", "{bundle}");
    for part in ["doctor", "status", "nodes", "clocks", "settings", "logctl"] {
        assert!(whole.get(part).is_some(), "{part}: {bundle}");
    }
    assert!(!bundle.contains("PRIVATE KEY") && !bundle.contains("logd-join"));
    let read = |op: &Op| matches!(op, Op::Read(read) if read.to != "$events");
    assert!(!node.ops().iter().any(read), "messages are not even read");
}

/// Seen to fail with the file written as any other: it took the place of one that was there, and everybody
/// could read it.
#[test]
fn a_bundle_is_its_owners_and_replaces_nothing() {
    let user = User::with_cluster();
    let brief = ["support-bundle", "bundle.json", "--timeout", "100ms"];
    let path = user.home.path().join("bundle.json");
    std::fs::write(&path, "mine").unwrap();
    assert!(user.fails(&brief, 6).contains("--force"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    user.ok(&[&brief[..], &["--force"]].concat());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(json(&std::fs::read_to_string(&path).unwrap())["doctor"].is_array());
    // Seen to fail: a device, a pipe or a socket was taken for a file that may be replaced.
    let socket = user.home.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let named = ["support-bundle", "socket", "--force", "--timeout", "100ms"];
    assert!(user.fails(&named, 6).contains("is no file"));
    assert!(!std::fs::symlink_metadata(&socket).unwrap().is_file());
    user.ok(&["support-bundle", "other.json", "--timeout", "100ms"]);
    let other = user.home.path().join("other.json");
    assert_eq!(std::fs::metadata(&other).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Seen to fail with every such node called ill, because no time server is asked, and sent to systemd.
#[test]
fn a_doctor_knows_a_cluster_to_try_things_on() {
    let user = User::with_cluster();
    std::fs::write(user.home.path().join("cluster/dev.toml"), "").unwrap();
    let output = user.run(&["doctor", "--timeout", "100ms", "--json"]);
    let findings = json(&text(&output.stdout));
    for finding in findings.as_array().unwrap() {
        let hint = finding["try"].as_str().unwrap_or_default();
        match finding["check"].as_str().unwrap() {
            "configuration" => assert_eq!(finding["state"], "ok", "{finding}"),
            "node" => assert!(hint.starts_with("logctl dev up --dir /"), "{finding}"),
            _ => {}
        }
    }
    assert!(text(&output.stderr).lines().last().unwrap().starts_with("try: logctl dev up"));
}
