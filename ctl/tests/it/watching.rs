//! What happened to the cluster, and waiting until it is as wanted.

use std::io::{BufRead, BufReader};

use parking_lot::Mutex;
use proto::member::{MemberRow, MemberState, Members};
use proto::wire::{Op, Page, Position, Read, Reply};
use proto::{ErrorCode, Header, Record};

use crate::node::{FakeNode, failure, page, record, status};
use crate::user::{User, json, text};

/// An event as the cluster writes it.
fn event(seq: u64, kind: &str, body: &str) -> Record {
    let header = |key: &str, value: &str| Header { key: key.into(), value: value.into() };
    Record {
        from: "n1".into(),
        to: "$events".into(),
        headers: vec![header("type", kind), header("node", "n4"), header("reason", "stopped")],
        ..record(seq, body.as_bytes())
    }
}

/// Two pages: every read but the first goes on after the first.
fn story(op: &Op) -> Vec<Reply> {
    let Op::Read(Read { to, after, .. }) = op else { return vec![failure(ErrorCode::Invalid)] };
    assert_eq!(to, "$events");
    if after.is_empty() {
        vec![page(vec![event(3, "join", "joined n4"), event(5, "clock", "n4: synced")], 6, false)]
    } else {
        assert_eq!(after, &[Position { shard: 1, seq: 6 }]);
        vec![page(vec![event(7, "leave", "left n4 (stopped)")], 9, true)]
    }
}

/// Seen to fail with the types compared before the aliases, and with the second page left out.
#[test]
fn events_are_shown_in_every_form_and_by_type() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, op| story(op));
    let stamp = "2026-11-21T01:30:45.123456789Z~";
    let plain = user.ok(&["events"]);
    let lines: Vec<Vec<&str>> = plain.lines().map(|line| line.split('\t').collect()).collect();
    let [join, _, leave] = &lines[..] else { panic!("{plain}") };
    assert_eq!((join[0], join[2], join[3]), ("3", "join", "joined n4"));
    assert!(join[1].starts_with(stamp), "{plain}");
    assert_eq!((leave[0], leave[2], leave[3]), ("7", "leave", "left n4 (stopped)"));
    for (types, expected) in [
        ("join", &["joined n4"][..]),
        ("joined,left", &["joined n4", "left n4 (stopped)"]),
        ("alarm", &[]),
    ] {
        let shown = user.ok(&["events", "--types", types]);
        let texts: Vec<_> = shown.lines().filter_map(|line| line.split('\t').nth(3)).collect();
        assert_eq!(texts, expected, "{types}");
    }
    let table = user.ok(&["events", "-o", "table"]);
    assert!(
        table.lines().nth(2).unwrap().contains("~2026-11-21 01:30:45.123456 -1.9/+0.8 ms"),
        "{table}"
    );
    let document = json(&user.ok(&["events", "--json"]));
    let last = &document[2];
    assert_eq!((&last["seq"], &last["type"]), (&7.into(), &"leave".into()));
    assert_eq!((&last["node"], &last["text"]), (&"n4".into(), &"left n4 (stopped)".into()));
    assert_eq!(last["headers"]["reason"], "stopped");
    assert_eq!(user.ok(&["events", "-o", "ndjson"]).lines().count(), 3);
}

#[test]
fn an_unknown_type_is_refused_with_the_known_ones() {
    let user = User::with_cluster();
    let errors = user.fails(&["events", "--types", "join,reboot"], 2);
    for known in proto::event::TYPES {
        assert!(errors.contains(known), "{known}: {errors}");
    }
    assert!(errors.contains("reboot"), "{errors}");
    user.fails(&["events", "--since", "soon"], 2);
}

#[test]
fn followed_events_come_as_they_happen_and_go_on_where_the_gateway_failed() {
    let user = User::with_cluster();
    let node = FakeNode::start(&user, |_, op| match op {
        Op::Read(Read { follow: true, after, .. }) if after.is_empty() => {
            // The stream ends after this: the client goes on after what it has.
            vec![page(vec![event(3, "join", "joined n4"), event(4, "clock", "synced")], 4, true)]
        }
        Op::Read(Read { follow: true, after, .. }) if after[0].seq == 4 => {
            vec![page(vec![event(5, "leave", "left n4 (stopped)")], 5, true)]
        }
        _ => vec![Reply::Page(Page::default())],
    });
    let (reader, writer) = std::io::pipe().unwrap();
    let args = ["events", "--follow", "--types", "join,leave", "--json"];
    let mut child = user.command(&args).stdout(writer).spawn().unwrap();
    let mut lines = BufReader::new(reader).lines();
    let mut next = || json(&lines.next().unwrap().unwrap())["text"].clone();
    assert_eq!(next(), "joined n4");
    assert_eq!(next(), "left n4 (stopped)");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(node.ops().len() >= 2);
}

/// Seen to fail with the first answer taken as the last.
#[test]
fn waiting_ends_when_it_is_so() {
    let user = User::with_cluster();
    let looks = Mutex::new(0);
    let _node = FakeNode::start(&user, move |_, op| {
        let mut looks = looks.lock();
        *looks += u32::from(matches!(op, Op::Status(_)));
        let mut status = status();
        for row in &mut status.nodes {
            row.state = "joined".into();
        }
        if *looks < 3 {
            status.nodes[2].state = "admitted".into();
        }
        vec![Reply::Status(status)]
    });
    let ready = user.ok(&["wait", "ready", "--nodes", "3"]);
    assert_eq!(
        ready.lines().collect::<Vec<_>>(),
        ["n1\tprimary\tjoined", "n2\tbackup\tjoined", "n3\tbackup\tjoined"]
    );
    assert_eq!(user.ok(&["wait", "node", "n1", "--state", "primary"]), "n1\tprimary\tjoined\n");
    user.ok(&["wait", "in-sync"]);
    user.ok(&["wait", "clock"]);
}

/// Seen to fail with the global default of ten seconds for `--timeout`, and with exit code 1.
#[test]
fn waiting_in_vain_says_what_is_missing() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, _| vec![Reply::Status(status())]);
    for (args, expected) in [
        (&["ready"][..], "n2 is not noted as a member yet"),
        (&["ready", "--nodes", "4"], "0 of 4 nodes"),
        (&["node", "n4"], "n4 is not in the list of nodes"),
        (&["node", "n2", "--state", "primary"], "n2 is not noted yet, up, no voter, backup"),
    ] {
        let args = [&["wait"], args, &["--timeout", "300ms"]].concat();
        let errors = user.fails(&args, 7);
        assert!(errors.contains(expected) && errors.contains("300ms"), "{args:?}: {errors}");
    }
    assert!(user.ok(&["wait", "ready", "--help"]).contains("[default: 60s]"));
    assert!(user.ok(&["help", "options"]).contains("[default: 10s]"));
    user.fails(&["wait", "node", "n2", "--state", "asleep"], 2);
    user.fails(&["wait", "ready", "--nodes", "0"], 2);
}

#[test]
fn a_node_that_never_was_is_not_waited_for() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, _| {
        let row = |name: &str, state: MemberState| MemberRow {
            name: name.into(),
            state: state.into(),
            ..MemberRow::default()
        };
        let members = vec![row("n1", MemberState::Joined), row("n4", MemberState::Removed)];
        vec![Reply::Members(Members { epoch: 1, members })]
    });
    let wait = |name| ["wait", "node", name, "--state", "removed", "--timeout", "300ms"];
    assert_eq!(user.ok(&wait("n4")), "n4\t\tremoved\n");
    assert!(user.fails(&wait("n1"), 7).contains("n1 is joined"));
    user.fails(&wait("n5"), 5);
}

#[test]
fn waiting_outlasts_a_cluster_that_is_not_there_yet() {
    let user = User::with_cluster();
    let output = user.run(&["wait", "ready", "--timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
}
