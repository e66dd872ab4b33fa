//! Who may know whom: which crate names stand in which files, and which way dependencies point.

use std::collections::BTreeSet;

use super::dependencies::Metadata;
use super::tree::{TextFile, code, files, has_word};
use super::{none, one};

/// A name and the only places, as beginnings of paths, whose source may say it.
const CONFINED: &[(&[&str], &[&str])] = &[
    (
        &["openraft", "openraft_rt", "openraft_rt_tokio", "openraft_rt_sim", "openraft_macros"],
        &["daemon/src/raft/"],
    ),
    (&["rocksdb"], &["daemon/src/store/"]),
    (&["axum", "hyper", "hyper_util", "tokio_rustls"], &["daemon/src/front/"]),
    // benches measures QUIC alone beside the whole; tests speak it badly on purpose.
    (&["quinn"], &["net/", "benches/", "tests/"]),
    // tests makes certificates that the product refuses.
    (&["rcgen"], &["certs/", "tests/"]),
    (&["sntpc"], &["daemon/src/time/sntp.rs"]),
    (&["prometheus_client"], &["views/src/metrics/"]),
    (&["rustyline"], &["ctl/src/line_editor.rs"]),
    // Whoever turns messages to bytes needs its trait; identities and the command line do not.
    (&["prost"], &["proto/", "model/", "net/", "daemon/"]),
    (
        &["clap", "clap_complete", "clap_mangen"],
        &[
            "ctl/src/cli",
            "ctl/src/completion/",
            "ctl/src/main.rs",
            "ctl/src/verb/",
            "daemon/src/cli.rs",
            "daemon/src/man.rs",
            "daemon/src/main.rs",
            "sim/src/main.rs",
        ],
    ),
    (
        &["tokio", "tokio_util"],
        &["net/", "daemon/", "ctl/", "tests/", "benches/", "torture/", "sim/"],
    ),
    (
        &["SystemTime::now", "Instant::now"],
        // The demo's time servers are the world that its nodes ask for the time.
        &[
            "daemon/src/time/counter.rs",
            "ctl/src/verb/demo/servers.rs",
            "tests/",
            "benches/",
            "torture/",
            "sim/",
        ],
    ),
];

/// What each crate of ours may depend on, of ours.
const DIRECTION: &[(&str, &[&str])] = &[
    ("planted", &[]),
    // For tests alone.
    ("golden", &[]),
    ("clock", &["golden", "planted"]),
    ("proto", &["clock"]),
    ("model", &["clock", "golden", "planted", "proto"]),
    ("logd-log", &["golden", "planted", "proto"]),
    ("config", &["clock", "golden", "proto"]),
    ("views", &["clock", "proto"]),
    ("dialects", &["clock", "proto", "views"]),
    ("certs", &["proto"]),
    ("net", &["certs", "clock", "proto"]),
    (
        "daemon",
        &[
            "certs", "clock", "config", "dialects", "logd-log", "model", "net", "planted", "proto",
            "views",
        ],
    ),
    ("ctl", &["certs", "clock", "config", "net", "proto", "views"]),
    ("tests", &["certs", "clock", "config", "ctl", "daemon", "model", "net", "proto"]),
    ("benches", &["certs", "clock", "ctl", "daemon", "model", "net", "proto", "tests"]),
    ("torture", &["logd-log", "proto", "tests"]),
    (
        "sim",
        &["certs", "clock", "config", "daemon", "logd-log", "net", "planted", "proto", "tests"],
    ),
];

/// Crates that must not be linked into what a crate builds, not even through others.
const UNLINKED: &[(&str, &[&str])] = &[
    ("clock", &["tokio", "quinn", "rustls", "rocksdb", "openraft"]),
    ("golden", &["tokio", "quinn", "rustls", "rocksdb", "openraft"]),
    ("proto", &["tokio", "quinn", "rustls", "rocksdb", "openraft"]),
    ("model", &["tokio", "quinn", "rustls", "rocksdb", "openraft"]),
    ("logd-log", &["tokio", "quinn", "rustls", "rocksdb", "openraft"]),
    ("config", &["tokio", "quinn", "rustls", "rocksdb", "openraft"]),
    ("views", &["tokio", "quinn", "rustls", "rocksdb", "openraft"]),
    ("dialects", &["tokio", "quinn", "rustls", "rocksdb", "openraft"]),
    ("certs", &["tokio", "quinn", "rocksdb", "openraft"]),
    ("ctl", &["rocksdb", "librocksdb-sys", "openraft"]),
];

/// Names that stand where they may not. tokio's own `Instant` is a timer, not a clock.
fn strays(files: &[TextFile]) -> Vec<String> {
    let mut out = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let code = code(&file.text).replace("tokio::time::Instant::now", "timer");
        let of_std = |line: &str| line.contains("std::time") && has_word(line, "Instant");
        let timers_only = code.contains("use tokio::time::") && !code.lines().any(of_std);
        for (names, places) in CONFINED {
            if places.iter().any(|place| file.path.starts_with(place)) {
                continue;
            }
            for name in *names {
                if *name == "Instant::now" && timers_only {
                    continue;
                }
                let at = code.lines().position(|line| says(line, name));
                if let Some(line) = at {
                    let places = places.join(", ");
                    out.push(format!("{}:{}: '{name}' is for {places}", file.path, line + 1));
                }
            }
        }
    }
    out
}

/// Whether a line of code names the crate `name`, or calls it, if it is a path.
fn says(line: &str, name: &str) -> bool {
    if name.contains("::") {
        return has_word(line, name);
    }
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let as_path = line.match_indices(name).any(|(at, _)| {
        let before = &line[..at];
        let before = before.strip_suffix("::").unwrap_or(before);
        !before.ends_with(part_of_name) && line[at + name.len()..].starts_with("::")
    });
    let imported = line.trim_start().trim_start_matches("pub ").strip_prefix("use ");
    as_path || imported.is_some_and(|rest| rest.trim_end_matches(';') == name)
}

/// What of `proto` is named in `certs` besides names of members.
fn certs_knows_too_much(files: &[TextFile]) -> Vec<String> {
    let allowed = ["ClusterId", "Identity", "Name", "Role", "identity", "life", "name"];
    let mut out = Vec::new();
    for file in files.iter().filter(|f| f.is_rust() && f.path.starts_with("certs/src/")) {
        for (at, _) in code(&file.text).match_indices("proto::") {
            let rest: String = code(&file.text)[at + "proto::".len()..].chars().take(200).collect();
            let end = if rest.starts_with('{') { rest.find('}') } else { rest.find(is_no_name) };
            let list = rest[..end.unwrap_or(rest.len())].trim_start_matches('{').to_owned();
            for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                if !allowed.contains(&name.split("::").next().unwrap_or(name)) {
                    out.push(format!(
                        "{}: certs takes only names from proto, not {name}",
                        file.path
                    ));
                }
            }
        }
    }
    out
}

fn is_no_name(c: char) -> bool {
    !c.is_alphanumeric() && c != '_'
}

/// Dependencies that point the wrong way.
fn wrong_way(metadata: &Metadata) -> Vec<String> {
    let ours: BTreeSet<&str> = DIRECTION.iter().map(|(name, _)| *name).collect();
    let members = metadata.members();
    let mut out = Vec::new();
    for member in &members {
        let Some((_, allowed)) = DIRECTION.iter().find(|(name, _)| name == member) else {
            out.push(format!("{member} is new: give it a place in tidy/confinement.rs"));
            continue;
        };
        for wanted in metadata.direct(member).iter().filter(|name| ours.contains(name.as_str())) {
            if !allowed.contains(&wanted.as_str()) && wanted != member {
                out.push(format!("{member} must not know {wanted}"));
            }
        }
    }
    for (member, banned) in UNLINKED {
        let linked = metadata.linked(member);
        let bad = banned.iter().filter(|name| linked.contains(**name));
        out.extend(bad.map(|name| format!("{member} must not link {name}")));
    }
    out
}

#[test]
fn names_stand_only_where_they_may() {
    for (path, text, part) in [
        ("ctl/src/a.rs", "use quinn::Endpoint;", "'quinn' is for net/"),
        ("daemon/src/a.rs", "type R = openraft::Raft<()>;", "'openraft'"),
        ("daemon/src/raft/a.rs", "fn f(db: &::rocksdb::DB) {}", "'rocksdb'"),
        ("clock/src/a.rs", "use tokio;", "'tokio'"),
        ("daemon/src/a.rs", "let a = std::time::Instant::now();", "'Instant::now'"),
        ("daemon/src/time/poll.rs", "SystemTime::now()", "'SystemTime::now'"),
        ("model/src/a.rs", "pub use clap::Parser;", "'clap'"),
    ] {
        one(&strays(&[TextFile::planted(path, text)]), part);
    }
    for text in [
        "// quinn::Endpoint\nlet quinn = \"quinn::\"; self.quinn::<u8>();",
        "use crate::quinn::X; mod quinn; use daemon_quinn::X;",
        "use tokio::time::{Instant, sleep};\nlet a = Instant::now();",
        "let a = tokio::time::Instant::now();",
    ] {
        none(strays(&[TextFile::planted("ctl/src/a.rs", text)]));
    }
    none(strays(&files()));
}

#[test]
fn certs_takes_only_names_from_proto() {
    let planted = TextFile::planted("certs/src/a.rs", "use proto::{Identity, wire::Op, Role};");
    one(&certs_knows_too_much(&[planted]), "wire::Op");
    none(certs_knows_too_much(&files()));
}

#[test]
fn dependencies_point_one_way() {
    let planted = Metadata::planted(&[("ctl", &["daemon"]), ("daemon", &["rocksdb"])]);
    let found = wrong_way(&planted);
    assert!(found.contains(&"ctl must not know daemon".to_owned()), "{found:?}");
    assert!(found.contains(&"ctl must not link rocksdb".to_owned()), "{found:?}");
    one(&wrong_way(&Metadata::planted(&[("web", &[])])), "web is new");
    none(wrong_way(&Metadata::read()));
}
