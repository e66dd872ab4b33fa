//! Time servers that lie, refuse, are silent or are not who they claim to be: the clock stays
//! synced, its bounds hold, and every one of them is named with its reason.
//!
//! Promise 6, bounded time: as long as at most (N-1)/2 of N servers lie, true time lies in the
//! bounds.

use std::time::Duration;

use net::time_server::{Manner, TimeServer};
use proto::wire::{ClockReport, ClockSource};
use serde_json::Value;
use tests::timed::section;
use tests::{Timed, patience};

use crate::clock_truth::Witness;

const SECOND_NS: i64 = 1_000_000_000;

/// What a server does, and how it is shown.
struct Hostile {
    what: &'static str,
    change: fn(&mut Manner),
    /// How its verdict begins.
    verdict: &'static str,
    /// The reason under which its answers are counted; empty if none is refused.
    refused: &'static str,
}

const HOSTILE: [Hostile; 8] = [
    Hostile {
        what: "ten seconds ahead",
        change: |m| m.offset_ns = 10 * SECOND_NS,
        verdict: "falseticker",
        refused: "",
    },
    Hostile {
        what: "says that it is not synchronised",
        change: |m| m.leap = 3,
        verdict: "failed server_unsynced",
        refused: "server_unsynced",
    },
    Hostile {
        what: "asks to be asked less",
        change: |m| m.kiss = Some(*b"RATE"),
        verdict: "kiss RATE",
        refused: "kiss",
    },
    Hostile {
        what: "refuses",
        change: |m| m.kiss = Some(*b"DENY"),
        verdict: "kiss DENY",
        refused: "kiss",
    },
    Hostile {
        what: "silent",
        change: |m| m.silent = true,
        verdict: "failed timeout",
        refused: "timeout",
    },
    Hostile {
        what: "has not seen the request",
        change: |m| m.forged = true,
        verdict: "failed timeout",
        refused: "stray",
    },
    Hostile {
        what: "claims to have held the request longer than it was away",
        change: |m| m.held_ns = SECOND_NS / 2,
        verdict: "rejected negative delay",
        refused: "negative_delay",
    },
    Hostile {
        what: "stratum 15",
        change: |m| m.stratum = 15,
        verdict: "rejected stratum",
        refused: "stratum",
    },
];

fn source<'a>(report: &'a ClockReport, server: &TimeServer) -> &'a ClockSource {
    let address = server.address().to_string();
    report.sources.iter().find(|source| source.address == address).unwrap()
}

/// Whether a hostile server is shown as what it is.
fn is_named(report: &ClockReport, server: &TimeServer, hostile: &Hostile) -> bool {
    let source = source(report, server);
    let counted = hostile.refused.is_empty()
        || source.refused.iter().any(|row| row.reason.starts_with(hostile.refused));
    counted && source.verdict.starts_with(hostile.verdict)
}

#[test]
fn liars_are_named_and_move_nothing() {
    // n1: one of three lies. n2: two of five, together. n3: eight of sixteen, each in its way, but
    // only one of them so that it is heard.
    let mut timed = Timed::create(3, "").unwrap();
    let more =
        |count: usize| -> Vec<TimeServer> { (0..count).map(|_| timed.server().unwrap()).collect() };
    let (of_n2, of_n3) = (more(2), more(13));
    for (node, more) in [("n2", &of_n2), ("n3", &of_n3)] {
        let servers = timed.servers(node).iter().chain(more);
        let section = section("", servers.map(|server| server.address().to_string()));
        timed.cluster.configure_clock(node, &section).unwrap();
    }
    assert!(timed.cluster.start_and_settle().unwrap(), "a port was taken");
    let mut watched = Vec::new();
    for node in timed.cluster.names() {
        timed.wait_state(&node, "synced").unwrap();
        let client = timed.cluster.client("admin", Some(&node), Duration::from_secs(20)).unwrap();
        watched.push((client, Witness::default()));
    }

    let liar = &timed.servers("n1")[0];
    let before = liar.asked();
    liar.change(|manner| manner.offset_ns = 10 * SECOND_NS);
    of_n2.iter().for_each(|server| server.change(|manner| manner.offset_ns = -40_000_000));
    of_n3.iter().zip(&HOSTILE).for_each(|(server, hostile)| server.change(hostile.change));

    let mut named = [false; HOSTILE.len()];
    // Every reading of all three, until all are named, is right and calls itself synced.
    patience::until("a name for every liar", || {
        let mut reports = Vec::new();
        for (client, witness) in &mut watched {
            for _ in 0..20 {
                let report = witness.look(&timed.cluster, client);
                assert_eq!(report.state, "synced", "{report:?}");
                reports.push(report);
            }
        }
        let [.., of_third] = &reports[..] else { unreachable!() };
        let (of_first, of_second) = (&reports[19], &reports[39]);
        let found = source(of_first, liar).is_falseticker();
        patience::when(found, format!("{:?}", source(of_first, liar)))?;
        for server in &of_n2 {
            let source = source(of_second, server);
            patience::when(source.is_falseticker(), format!("{source:?}"))?;
        }
        // A verdict is that of the last answer, and a silent server becomes an unreachable one: each
        // must have been named once.
        for ((server, hostile), named) in of_n3.iter().zip(&HOSTILE).zip(&mut named) {
            *named |= is_named(of_third, server, hostile);
        }
        let unnamed = HOSTILE.iter().zip(&named).find(|(_, named)| !**named);
        unnamed.map_or(Ok(()), |(hostile, _)| Err(format!("{}: {of_third:?}", hostile.what)))
    })
    .unwrap();
    // The others are still believed.
    let report = timed.clock("n1").unwrap();
    let honest = report.sources.iter().filter(|source| source.is_selected());
    assert_eq!(honest.count(), 2, "{report:?}");
    assert!(liar.asked() > before);

    logctl_names_them(&timed, liar, &of_n3);
    reformed(&timed, &of_n2, &of_n3);
    for (client, witness) in watched {
        assert!(witness.readings >= 20);
        timed.cluster.wait(client.close());
    }
}

/// `logctl clock` shows verdicts, in JSON and to people.
#[track_caller]
fn logctl_names_them(timed: &Timed, liar: &TimeServer, of_n3: &[TimeServer]) {
    let user = timed.cluster.user();
    let clock = user.json(&["--via", "n1", "clock"]).unwrap();
    assert_eq!(clock["state"], "synced");
    let sources = clock["sources"].as_array().unwrap();
    let address = Value::from(liar.address().to_string());
    let row = sources.iter().find(|row| row["address"] == address).unwrap();
    assert_eq!(row["verdict"], "falseticker", "{clock}");
    // For people: every server has a line, and the one that refused says so for good.
    let shown = user.ok(&["--via", "n3", "clock", "sources"]).unwrap().text();
    for (server, hostile) in of_n3.iter().zip(&HOSTILE) {
        let address = server.address().to_string();
        let line = shown.lines().find(|line| line.contains(&address));
        let line = line.unwrap_or_else(|| panic!("{address} is not shown: {shown}"));
        let lasting = ["falseticker", "kiss DENY"].contains(&hostile.verdict);
        assert!(!lasting || line.contains(hostile.verdict), "{}: {line}", hostile.what);
    }
}

/// Servers that are honest again are believed again, but for one that refused: it must not be asked.
fn reformed(timed: &Timed, of_n2: &[TimeServer], of_n3: &[TimeServer]) {
    timed.behave();
    of_n2.iter().chain(of_n3).for_each(TimeServer::behave);
    let denied = of_n3.iter().zip(&HOSTILE).find(|(_, hostile)| hostile.verdict == "kiss DENY");
    let (denied, _) = denied.unwrap();
    let asked = denied.asked();
    for (node, servers) in [("n1", &timed.servers("n1")[..1]), ("n2", of_n2)] {
        timed
            .wait_clock(node, "servers that are believed again", |report| {
                let bad = servers.iter().map(|server| source(report, server));
                let mut bad = bad.filter(|source| !source.is_selected());
                bad.next().map_or(Ok(()), |source| Err(format!("{source:?}")))
            })
            .unwrap();
    }
    assert_eq!(denied.asked(), asked, "a server that refused was asked again");
}
