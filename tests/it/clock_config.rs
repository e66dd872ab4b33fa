//! Time servers and settings that a person may get wrong: each a clear refusal, or a node that says so
//! and serves what it can.
//!
//! Promises: 6 bounded time, 8 refuses clearly. Seen to fail with a primary that lost the entry which
//! sets the first settings: nothing was named.

use tests::timed::section;
use tests::{Timed, patience, until};

/// A node's `[clock]` section that is refused, and what is said of it.
fn refused(timed: &mut Timed, section: &str, part: &str) {
    timed.cluster.configure_clock("n1", section).unwrap();
    let node = timed.cluster.node("n1").unwrap();
    let before = node.log().len();
    node.start(&["--check-config"]).unwrap();
    let code = node.ended().unwrap().code();
    let log = node.log();
    let said = &log[before..];
    assert_eq!(code, Some(2), "{section}\n{said}");
    assert!(said.contains(part), "'{part}' is not said of {section}\n{said}");
    assert!(said.lines().any(|line| line.starts_with("try: ")), "no hint: {said}");
}

#[test]
fn a_wrong_clock_section_is_2_and_says_why() {
    let mut timed = Timed::create(1, "").unwrap();
    let one = |keys: &str| section(keys, ["10.0.0.1:123".to_owned()]);
    let own = timed.cluster.address("n1").unwrap();
    let server =
        |keys: &str| format!("mode = \"sntp\"\n[[clock.server]]\naddress = \"10.0.0.1\"\n{keys}\n");
    let twice = ["ntp.example:123".to_owned(), "NTP.example".to_owned()];
    let cases = [
        (section("", []), "no time server"),
        (section("", twice), "listed twice"),
        (section("", [own]), "this node itself"),
        (server("poll_s = 3"), "4"),
        (server("poll_s = 1025"), "1024"),
        (server("timeout_ms = 49"), "50"),
        (server("timeout_ms = \"soon\""), "timeout_ms"),
        (server("pol_s = 16"), "did you mean 'poll_s'"),
        (one("max_error_ms = 0"), "10000"),
        (one("max_error_ms = 10001"), "10000"),
        (one("history_s = 0"), "3600"),
        (one("history_s = 3601"), "3600"),
        (one("on_loss = \"ignore\""), "refuse"),
        (one("unsynced_start = \"allow\""), "allow-after"),
        (one("leap = \"ignore\""), "smear"),
        ("mode = \"gps\"".to_owned(), "sntp"),
    ];
    for (section, part) in cases {
        refused(&mut timed, &section, part);
    }
}

#[test]
fn servers_that_cannot_be_asked_are_named_and_have_no_vote() {
    let mut timed = Timed::create(1, "").unwrap();
    let own = timed.cluster.address("n1").unwrap();
    let own_port = own.rsplit_once(':').unwrap().1.to_owned();
    let server = timed.servers("n1")[0].address();
    let strange = [
        ("no.such.host.invalid:123".to_owned(), "failed unresolved"),
        // The first server, and the node itself, by another name.
        (format!("localhost:{}", server.port()), "duplicate of "),
        (format!("localhost:{own_port}"), "this node itself"),
    ];
    let honest = timed.servers("n1").iter().map(|server| server.address().to_string());
    let more = strange.iter().map(|(address, _)| address.clone());
    let section = section("", honest.chain(more).collect::<Vec<_>>());
    timed.cluster.configure_clock("n1", &section).unwrap();
    timed.cluster.start_all().unwrap();
    // Three of six answer, and at most two may lie: that is enough.
    timed.wait_state("n1", "synced").unwrap();
    for (address, verdict) in &strange {
        timed
            .wait_clock("n1", &format!("{address} as {verdict}"), |report| {
                let source = report.sources.iter().find(|source| source.address == *address);
                let shown = source.map_or("nothing", |source| source.verdict.as_str());
                patience::when(shown.starts_with(verdict), shown)
            })
            .unwrap();
    }
    timed.cluster.wait_primary("n1").unwrap();
    timed.cluster.register(&["alice", "bob"]).unwrap();
    timed.cluster.user().ok(&["--as", "alice", "send", "--to", "bob", "hi"]).unwrap();
}

#[test]
fn a_node_whose_file_says_otherwise_is_named_and_follows_the_cluster() {
    let mut timed = Timed::start(3, "").unwrap();
    assert_eq!(timed.cluster.stop("n2").unwrap(), Some(0));
    let servers = timed.servers("n2").iter().map(|server| server.address().to_string());
    let section = section("max_error_ms = 50\non_loss = \"refuse\"", servers.collect::<Vec<_>>());
    timed.cluster.configure_clock("n2", &section).unwrap();
    timed.cluster.start_node("n2").unwrap();
    until("a problem that names the node and both values", || {
        let status = timed.cluster.status("n1").map_err(|error| error.to_string())?;
        let rows = status
            .nodes
            .iter()
            .flat_map(|row| row.problems.iter().map(|problem| problem.clone().of(&row.name)));
        let all = status.problems.iter().cloned().chain(rows).map(|problem| problem.to_string());
        let all: Vec<String> = all.collect();
        let named = |parts: &[&str]| all.iter().any(|p| parts.iter().all(|part| p.contains(part)));
        let so = named(&["n2", "50", "100"]) && named(&["n2", "refuse", "degrade"]);
        patience::when(so, format!("{all:?}"))
    })
    .unwrap();
    let report = timed.clock("n2").unwrap();
    assert_eq!(report.max_error_us, 100_000, "the file won over the cluster");
}
