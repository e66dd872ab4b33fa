//! Sending, reading, deleting.

use std::io::Write;
use std::process::Stdio;

use clock::{Hlc, Stamp};
use proto::wire::{ClockReport, Instant, Op, Page, Reply, SetCursor, TimePoint};
use proto::{ErrorCode, Record, Tombstone};

use crate::node::{FakeNode, STAMP, ack, failure, page, record};
use crate::user::{User, json, text};

/// Answers every send and keeps nothing.
fn acking(user: &User) -> FakeNode {
    FakeNode::start(user, |_, op| match op {
        Op::Send(send) => vec![ack(&send.id)],
        _ => vec![failure(ErrorCode::Invalid)],
    })
}

/// Answers reads with three records on two pages.
fn reading(user: &User) -> FakeNode {
    FakeNode::start(user, |_, op| match op {
        Op::Read(read) if read.follow => vec![
            page(vec![record(1, b"one"), record(2, b"two")], 2, false),
            page(vec![record(3, b"three")], 3, false),
        ],
        Op::Read(read) if read.after.is_empty() => {
            vec![page(vec![record(1, b"one"), record(2, b"tw\to")], 2, false)]
        }
        Op::Read(_) => vec![page(vec![record(3, b"thr\xffee")], 3, true)],
        Op::SetCursor(_) => vec![Reply::CursorSet(proto::wire::Empty {})],
        Op::Clock(_) => {
            vec![Reply::Clock(ClockReport { now_ns: STAMP.hlc.ns, ..ClockReport::default() })]
        }
        Op::Get(get) if get.id == "m-1" => vec![Reply::Record(record(1, b"one\n"))],
        Op::Get(_) => vec![Reply::Record(deleted())],
        Op::Delete(_) => vec![Reply::Deleted(deleted())],
        _ => vec![failure(ErrorCode::Invalid)],
    })
}

fn deleted() -> Record {
    let tombstone =
        Tombstone { by: "bob".into(), stamp: STAMP.to_bytes().to_vec(), reason: "too much".into() };
    Record { deleted: Some(tombstone), ..record(2, b"") }
}

#[test]
fn a_send_answers_with_its_acknowledgement() {
    let user = User::with_cluster();
    let node = acking(&user);
    let args = ["send", "--to", "bob", "hello", "--id", "m-1", "-H", "k=v"];
    assert_eq!(
        user.ok(&[&args[..], &["-o", "ndjson"]].concat()),
        concat!(
            r#"{"id":"m-1","shard":1,"seq":1,"stamp":"2026-11-21T01:30:45.123456789Z~0000002a","#,
            r#""earliest":"2026-11-21T01:30:45.121556789Z","#,
            r#""latest":"2026-11-21T01:30:45.124256789Z","#,
            r#""primary":"n1","gateway":"n1","duplicate":false}"#,
            "\n"
        )
    );
    assert_eq!(json(&user.ok(&[&args[..], &["--json"]].concat()))["seq"], 1);
    assert!(user.ok(&args).starts_with("m-1\t1\t1\t2026"));
    let table = user.ok(&[&args[..], &["-o", "table"]].concat());
    assert!(table.contains("01:30:45.123456 -1.9/+0.8 ms"), "{table}");
    let Some(Op::Send(send)) = node.ops().pop() else { panic!("no send") };
    assert_eq!((send.to.as_str(), send.id.as_str(), &send.body[..]), ("bob", "m-1", &b"hello"[..]));
    assert_eq!((send.headers[0].key.as_str(), send.headers[0].value.as_str()), ("k", "v"));
}

#[test]
fn a_body_comes_from_anywhere_to_the_byte() {
    let user = User::with_cluster();
    let node = acking(&user);
    let body = b"line\n\0\xff no newline";
    std::fs::write(user.home.path().join("file"), body).unwrap();
    user.ok(&["send", "--to", "*", "--file", "file"]);
    for args in [&["send", "--to", "@ops", "-"][..], &["send", "--to", "bob"]] {
        let mut child =
            user.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(body).unwrap();
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let sends: Vec<_> = node.ops();
    assert_eq!(sends.len(), 3);
    for op in sends {
        let Op::Send(send) = op else { panic!("{op:?}") };
        assert_eq!(&send.body[..], body);
        let id: uuid::Uuid = send.id.parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
    }
}

#[test]
fn what_was_seen_is_passed_on_to_the_next_command() {
    let user = User::with_cluster();
    let node = acking(&user);
    user.ok(&["send", "--to", "bob", "one"]);
    user.ok(&["send", "--to", "bob", "two"]);
    let tokens: Vec<_> = node.requests().into_iter().map(|request| request.causal_token).collect();
    assert_eq!(tokens, [Vec::new(), STAMP.hlc.to_bytes().to_vec()]);
}

fn tokens(node: &FakeNode) -> Vec<Vec<u8>> {
    node.requests().into_iter().map(|request| request.causal_token).collect()
}

#[test]
fn after_is_the_token_and_only_what_was_seen_is_kept() {
    let user = User::with_cluster();
    let node = acking(&user);
    let later = Hlc { ns: STAMP.hlc.ns + 1, logical: 7 };
    user.ok(&["send", "--to", "bob", "one", "--after", &later.to_string()]);
    user.ok(&["send", "--to", "bob", "two", "--after", &later.to_hex()]);
    // The answers were earlier ones, so nothing vouches for the stamp that was given.
    user.ok(&["send", "--to", "bob", "three"]);
    let given = later.to_bytes().to_vec();
    assert_eq!(tokens(&node), [given.clone(), given, Vec::new()]);
    user.ok(&["send", "--to", "bob", "four", "--commit-wait"]);
    let Some(Op::Send(send)) = node.ops().pop() else { panic!("no send") };
    assert!(send.commit_wait);
    for bad in ["soon", "2026-11-21", "2026-11-21T01:30:45Z", "12345"] {
        user.fails(&["send", "--to", "bob", "hi", "--after", bad], 2);
    }
}

#[test]
fn a_stamp_from_the_future_is_refused_and_not_kept() {
    let user = User::with_cluster();
    let node = FakeNode::start(&user, |_, op| match op {
        Op::Send(_) => vec![failure(ErrorCode::ClockAhead)],
        _ => vec![failure(ErrorCode::Invalid)],
    });
    let far = Hlc::from_ns(u64::MAX / 2).to_hex();
    let errors = user.fails(&["send", "--to", "bob", "hi", "--after", &far], 12);
    assert!(errors.contains("wait until the cluster's clock has passed"), "{errors}");
    user.fails(&["send", "--to", "bob", "hi"], 12);
    assert_eq!(tokens(&node).pop(), Some(Vec::new()));
}

#[test]
fn what_was_kept_is_named_where_it_is_in_the_way() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, op| match op {
        Op::Send(send) if send.id == "m-1" => vec![ack(&send.id)],
        _ => vec![failure(ErrorCode::ClockAhead)],
    });
    user.ok(&["send", "--to", "bob", "one", "--id", "m-1"]);
    let errors = user.fails(&["send", "--to", "bob", "two"], 12);
    let (_, rm) = errors.rsplit_once("rm ").unwrap();
    let path = rm.split(',').next().unwrap();
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(kept.starts_with(&STAMP.hlc.to_string()), "{kept}");
}

#[test]
fn a_stamp_file_of_no_use_is_told_and_ignored() {
    let user = User::with_cluster();
    let node = acking(&user);
    user.ok(&["send", "--to", "bob", "one"]);
    let state = user.home.path().join("state");
    let is_stamp = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "stamp");
    let files = std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    let path = files.into_iter().find(is_stamp).unwrap();
    let foreign = format!("{} {}\n", STAMP.hlc, "08".repeat(16));
    for (bad, why) in [("not a stamp", "holds no stamp"), (foreign.as_str(), "another cluster")] {
        std::fs::write(&path, bad).unwrap();
        let output = user.run(&["send", "--to", "bob", "two"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
        assert_eq!(tokens(&node).pop(), Some(Vec::new()));
        assert_eq!(text(&user.run(&["-q", "send", "--to", "bob", "two"]).stderr), "");
    }
    user.ok(&["send", "--to", "bob", "three"]);
    assert_eq!(tokens(&node).pop(), Some(STAMP.hlc.to_bytes().to_vec()));
}

#[test]
fn a_deletion_that_was_seen_is_a_stamp_that_was_seen() {
    let user = User::with_cluster();
    let later = Stamp { hlc: STAMP.hlc.advance(1000), ..STAMP };
    let node = FakeNode::start(&user, move |_, op| match op {
        Op::Read(_) => {
            let stamp = later.to_bytes().to_vec();
            let tombstone = Tombstone { by: "bob".into(), stamp, reason: String::new() };
            let gone = Record { deleted: Some(tombstone), ..record(1, b"") };
            vec![page(vec![gone, record(2, b"two")], 2, true)]
        }
        Op::Send(send) => vec![ack(&send.id)],
        _ => vec![failure(ErrorCode::Invalid)],
    });
    user.ok(&["read"]);
    user.ok(&["send", "--to", "bob", "one"]);
    assert_eq!(tokens(&node).pop(), Some(later.hlc.to_bytes().to_vec()));
}

#[test]
fn an_unknown_outcome_names_the_id_to_retry_with() {
    let user = User::with_cluster();
    let node = FakeNode::start(&user, |_, _| vec![failure(ErrorCode::Unknown)]);
    let errors = user.fails(&["send", "--to", "bob", "hi", "--timeout", "500ms"], 7);
    let ids: Vec<String> = node
        .ops()
        .into_iter()
        .map(|op| match op {
            Op::Send(send) => send.id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "one message, two ids: {ids:?}");
    assert!(errors.contains(&format!("--id {}", ids[0])), "{errors}");
}

#[test]
fn records_are_shown_page_after_page_in_every_form() {
    let user = User::with_cluster();
    let node = reading(&user);
    let lines = user.ok(&["read", "-o", "ndjson"]);
    let rows: Vec<_> = lines.lines().map(json).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!((&rows[1]["body"], &rows[2]["body_b64"]), (&"tw\to".into(), &"dGhy/2Vl".into()));
    let Some(Op::Read(second)) = node.ops().pop() else { panic!("no read") };
    assert_eq!(second.after[0].seq, 2);
    assert_eq!(json(&user.ok(&["read", "--json"])).as_array().unwrap().len(), 3);
    assert_eq!(user.ok(&["read"]).lines().nth(1).unwrap().split('\t').next_back(), Some("tw\\to"));
    let table = user.ok(&["read", "-o", "table"]);
    assert_eq!(table.matches("BODY").count(), 1, "{table}");
    assert_eq!(table.lines().count(), 4);
    let raw = user.run(&["read", "-o", "raw"]);
    assert_eq!(raw.stdout, b"one\ntw\to\nthr\xffee\n");
}

#[test]
fn an_empty_answer_is_empty_in_every_form() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, _| vec![page(Vec::new(), 0, true)]);
    assert_eq!(json(&user.ok(&["read", "--json"])), serde_json::json!([]));
    for form in ["ndjson", "plain", "raw", "table"] {
        assert_eq!(user.ok(&["read", "-o", form]), "", "{form}");
    }
}

#[test]
fn filters_and_times_reach_the_node() {
    let user = User::with_cluster();
    let node = reading(&user);
    user.ok(&[
        "read",
        "--from",
        "alice",
        "--to",
        "@ops",
        "--limit",
        "2",
        "--since",
        "yesterday",
        "--until",
        "10m",
    ]);
    let Some(Op::Read(read)) = node.ops().pop() else { panic!("no read") };
    assert_eq!((read.from.as_str(), read.to.as_str(), read.limit), ("alice", "@ops", 2));
    // Midnight by the node's clock, which says 2026-11-21.
    let midnight: Hlc = "2026-11-20T00:00:00Z~00000000".parse().unwrap();
    let at = |at| Some(TimePoint { at: Some(at) });
    assert_eq!(read.since, at(Instant::Hlc(midnight.to_bytes().to_vec())));
    // Counted from the beginning of the command, however long it takes.
    let until = read.until.and_then(|until| until.at);
    assert!(matches!(until, Some(Instant::AgoNs(ago)) if ago >= 600_000_000_000), "{until:?}");
}

#[test]
fn a_mode_needs_a_range_and_reaches_the_node() {
    let user = User::with_cluster();
    let node = reading(&user);
    for (mode, wire) in [("nominal", 0), ("possible", 1), ("definite", 2)] {
        user.ok(&["read", "--since", "2026-11-21", "--mode", mode]);
        let Some(Op::Read(read)) = node.ops().pop() else { panic!("no read") };
        assert_eq!(read.mode, wire, "{mode}");
    }
    let before = node.ops().len();
    assert!(user.fails(&["read", "--mode", "nominal"], 2).contains("range of time"));
    user.fails(&["read", "--mode", "some", "--since", "10m"], 2);
    assert_eq!(node.ops().len(), before);
}

#[test]
fn records_whose_order_is_unknown_are_marked_across_pages() {
    let user = User::with_cluster();
    let _node = reading(&user);
    let certain = |args: &[&str]| {
        let rows: Vec<_> = user.ok(args).lines().map(json).collect();
        rows.iter().map(|row| row["order_certain"].as_bool()).collect::<Vec<_>>()
    };
    let marks = [Some(true), Some(false), Some(false)];
    assert_eq!(certain(&["read", "-o", "ndjson"]), marks);
    assert_eq!(
        certain(&["read", "--follow", "--from", "0", "-o", "ndjson", "--limit", "3"]),
        marks
    );
    let lines = user.ok(&["read"]);
    let tilde: Vec<bool> =
        lines.lines().map(|line| line.split('\t').nth(1).unwrap().starts_with('~')).collect();
    assert_eq!(tilde, [false, true, true]);
    assert_eq!(user.ok(&["read", "-o", "table"]).matches("~01:30").count(), 2);
    let got = json(&user.ok(&["get", "m-1", "--json"]));
    assert!(got.get("order_certain").is_none(), "{got}");
    let line = user.ok(&["read", "--times", "eps,utc", "--limit", "1"]);
    let fields: Vec<&str> = line.lines().next().unwrap().split('\t').collect();
    assert_eq!(fields[1..4], ["-1.9/+0.8 ms", "2026-11-21T01:30:45.123456789Z", "alice"]);
    user.fails(&["read", "--times", "utc,moon"], 2);
}

#[test]
fn an_answer_that_is_not_complete_says_up_to_when() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, op| match op {
        Op::Clock(_) => {
            vec![Reply::Clock(ClockReport { now_ns: STAMP.hlc.ns, ..ClockReport::default() })]
        }
        _ => {
            let safe = STAMP.hlc.to_bytes().to_vec();
            let records = vec![record(1, b"one")];
            vec![Reply::Page(Page { records, end: true, safe, ..Page::default() })]
        }
    });
    for (until, complete) in [
        ("2026-11-21T01:30:45Z", true),
        ("2026-11-21T01:30:45.2Z", false),
        ("1s", true),
        ("now", true),
        ("2026-11-22", false),
    ] {
        let output = user.run(&["read", "--until", until]);
        assert_eq!(output.status.code(), Some(0));
        let notes = text(&output.stderr);
        let wanted = "complete up to 2026-11-21T01:30:45.123456789Z only";
        assert_eq!(notes.contains(wanted), !complete, "{until}: {notes}");
    }
    // Whoever wants one message has it.
    let limited = user.run(&["read", "--until", "2026-11-22", "--limit", "1"]);
    assert_eq!(text(&limited.stderr), "");
}

#[test]
fn a_cursor_moves_behind_what_was_written() {
    let user = User::with_cluster();
    let node = reading(&user);
    user.ok(&["read", "--cursor", "mine"]);
    let ops = node.ops();
    let Op::Read(first) = &ops[0] else { panic!("{ops:?}") };
    assert_eq!(first.cursor, "mine");
    let moved: Vec<u64> = ops
        .iter()
        .filter_map(|op| match op {
            Op::SetCursor(SetCursor { name, positions }) if name == "mine" => {
                Some(positions[0].seq)
            }
            _ => None,
        })
        .collect();
    assert_eq!(moved, [2, 3]);
}

#[test]
fn a_cursor_stays_when_the_reader_is_gone() {
    let user = User::with_cluster();
    let node = reading(&user);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = user.command(&["read", "--cursor", "mine"]).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!node.ops().iter().any(|op| matches!(op, Op::SetCursor(_))));
}

#[test]
fn following_in_json_is_one_object_a_line() {
    let user = User::with_cluster();
    let node = reading(&user);
    let lines = user.ok(&["read", "--follow", "--from", "0", "--json", "--limit", "3"]);
    let bodies: Vec<_> = lines.lines().map(|line| json(line)["body"].clone()).collect();
    assert_eq!(bodies, ["one", "two", "three"]);
    assert!(node.ops().iter().any(|op| matches!(op, Op::Read(read) if read.follow)));
}

#[test]
fn a_stale_read_says_how_far_behind() {
    let user = User::with_cluster();
    let node = FakeNode::start(&user, |_, _| {
        let records = vec![record(1, b"one")];
        vec![Reply::Page(Page { records, end: true, behind_ms: 1234, ..Page::default() })]
    });
    let output = user.run(&["read", "--stale"]);
    assert!(text(&output.stderr).contains("n1") && text(&output.stderr).contains("1.234 s ago"));
    assert_eq!(text(&output.stdout).lines().count(), 1);
    assert!(matches!(&node.ops()[0], Op::Read(read) if read.stale));
}

#[test]
fn one_message_and_what_is_left_of_a_deleted_one() {
    let user = User::with_cluster();
    let node = reading(&user);
    assert_eq!(user.ok(&["get", "m-1", "-o", "raw"]), "one\n");
    assert_eq!(json(&user.ok(&["get", "m-1", "--json"]))["from"], "alice");
    let left = json(&user.ok(&["get", "m-2", "--json"]));
    assert_eq!(left["body"], serde_json::Value::Null);
    assert_eq!(left["deleted"]["by"], "bob");
    assert!(user.ok(&["get", "m-2"]).contains("(deleted by bob at "));
    assert!(user.fails(&["get", "m-2", "-o", "raw"], 5).contains("deleted by bob"));
    let tombstone = json(&user.ok(&["delete", "m-2", "-y", "--reason", "why", "--json"]));
    assert_eq!(tombstone["deleted"]["reason"], "too much");
    let Some(Op::Delete(delete)) = node.ops().pop() else { panic!("no delete") };
    assert_eq!((delete.id.as_str(), delete.reason.as_str()), ("m-2", "why"));
    let before = node.ops().len();
    assert!(user.fails(&["delete", "m-2"], 2).contains("logctl delete m-2 -y"));
    assert_eq!(node.ops().len(), before, "a refused delete was sent");
}
