//! What retention removed before a reader came by is said in every form; and a time relative to now is
//! the same instant on every page.
//!
//! The fault: exit code 0, and the records alone.

use proto::ErrorCode;
use proto::wire::{Gap, Instant, Op, Page, Reply, TimePoint};

use crate::node::{FakeNode, failure, page, record};
use crate::user::{User, json, text};

fn gap(from_seq: u64, to_seq: u64) -> Option<Gap> {
    Some(Gap { shard: 1, from_seq, to_seq })
}

fn with_gap(reply: Reply, gap: Option<Gap>) -> Reply {
    match reply {
        Reply::Page(page) => Reply::Page(Page { gap, ..page }),
        other => other,
    }
}

/// Two pages; before each of them something is missing.
fn overtaken(user: &User) -> FakeNode {
    FakeNode::start(user, |_, op| match op {
        Op::Read(read) if read.follow => vec![
            with_gap(page(vec![record(8, b"eight")], 8, false), gap(3, 7)),
            page(vec![record(9, b"nine")], 9, false),
        ],
        Op::Read(read) if read.after.first().is_none_or(|after| after.seq < 8) => {
            vec![with_gap(page(vec![record(8, b"eight")], 8, false), gap(3, 7))]
        }
        Op::Read(_) => vec![with_gap(page(vec![record(12, b"twelve")], 12, true), gap(9, 11))],
        Op::SetCursor(_) => vec![Reply::CursorSet(proto::wire::Empty {})],
        _ => vec![failure(ErrorCode::Invalid)],
    })
}

#[test]
fn what_is_missing_is_said_in_every_form_and_is_an_error() {
    let user = User::with_cluster();
    let _node = overtaken(&user);
    let read = |form: &str| {
        let run = user.run(&["read", "--cursor", "worker", "-o", form]);
        let said = text(&run.stderr);
        assert_eq!(run.status.code(), Some(5), "{form}: {said}");
        assert!(said.contains("up to 5 messages for this reader, seq 3 to 7"), "{form}: {said}");
        assert!(said.contains("up to 3 messages for this reader, seq 9 to 11"), "{form}: {said}");
        assert!(said.lines().last().unwrap().starts_with("try: "), "{form}: {said}");
        text(&run.stdout)
    };
    let lines: Vec<_> = read("ndjson").lines().map(json).collect();
    let first =
        serde_json::json!({"gap": {"shard": 1, "from_seq": 3, "to_seq": 7, "count_max": 5}});
    assert_eq!(lines[0], first);
    let seqs: Vec<_> = lines.iter().map(|line| line["seq"].as_u64()).collect();
    assert_eq!(seqs, [None, Some(8), None, Some(12)]);
    let document = json(&read("json"));
    assert_eq!(document.as_array().unwrap(), &lines);
    let plain = read("plain");
    let fields: Vec<Vec<&str>> = plain.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!((&fields[0][..], fields[1][0]), (&["gap", "3", "7", "5"][..], "8"));
    assert_eq!(read("raw"), "eight\ntwelve\n");
    assert_eq!(read("table").lines().count(), 3);
    let run = user.run(&["read", "--from", "3", "--hash", "-o", "json"]);
    assert_eq!(run.status.code(), Some(5));
    assert_eq!(json(&text(&run.stdout))["missing"], 8);
}

#[test]
fn a_reader_that_minds_no_gap_is_told_all_the_same() {
    let user = User::with_cluster();
    let _node = overtaken(&user);
    let run = user.run(&["read", "--from", "3", "--allow-gap", "-o", "ndjson"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert!(text(&run.stderr).contains("seq 3 to 7"));
    assert_eq!(text(&run.stdout).lines().count(), 4);
    let run = user.run(&["read", "--from", "3", "--follow", "--limit", "2", "-o", "json"]);
    assert_eq!(run.status.code(), Some(5), "{}", text(&run.stderr));
    let shown = text(&run.stdout);
    let lines: Vec<_> = shown.lines().map(json).collect();
    assert_eq!((&lines[0]["gap"]["count_max"], &lines[2]["seq"]), (&5.into(), &9.into()));
}

/// The fault: the same question for every page, where "10m" is later on the second.
#[test]
fn a_relative_time_is_resolved_on_the_first_page_alone() {
    let user = User::with_cluster();
    let node = FakeNode::start(&user, |_, op| match op {
        Op::Read(read) if read.after.is_empty() => match page(vec![record(1, b"one")], 1, false) {
            Reply::Page(page) => {
                vec![Reply::Page(Page { since: vec![7; 12], until: Vec::new(), ..page })]
            }
            other => vec![other],
        },
        Op::Read(_) => vec![page(vec![record(2, b"two")], 2, true)],
        _ => vec![failure(ErrorCode::Invalid)],
    });
    for verb in [&["read", "--since", "10m"][..], &["events", "--since", "10m"]] {
        user.ok(verb);
        let Some(Op::Read(second)) = node.ops().pop() else { panic!("no read") };
        let exact = Some(TimePoint { at: Some(Instant::Hlc(vec![7; 12])) });
        assert_eq!(second.since, exact, "{verb:?}");
    }
}
