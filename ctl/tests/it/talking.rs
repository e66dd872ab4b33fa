//! Groups, chat, and the dictionary.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

use proto::group::{GroupMember, GroupOp, GroupView, Groups};
use proto::kv::{KvRow, KvRows};
use proto::wire::{Op, Position, Read, Reply};
use proto::{ErrorCode, Record};

use crate::node::{FakeNode, STAMP, ack, failure, page, record};
use crate::user::{User, json, text};

fn ops() -> GroupView {
    let member = |name: &str| GroupMember { name: name.into(), from_seq: 7 };
    GroupView {
        name: "ops".into(),
        owner: "alice".into(),
        since: STAMP.hlc.to_bytes().to_vec(),
        members: vec![member("alice"), member("bob")],
        size: 2,
    }
}

fn grouping(user: &User) -> FakeNode {
    FakeNode::start(user, |_, op| match op {
        Op::Group(_) | Op::Groups(_) => vec![Reply::Groups(Groups { groups: vec![ops()] })],
        _ => vec![failure(ErrorCode::Invalid)],
    })
}

#[test]
fn groups_are_changed_and_shown() {
    let user = User::with_cluster();
    let node = grouping(&user);
    let made = json(&user.ok(&["group", "create", "@ops", "--json"]));
    assert_eq!((&made["name"], &made["size"]), (&"ops".into(), &2.into()));
    user.ok(&["group", "add", "ops", "bob", "carol", "--history", "--id", "g-1"]);
    user.ok(&["group", "remove", "ops", "bob"]);
    user.ok(&["group", "delete", "ops"]);
    let changes: Vec<_> = node
        .ops()
        .into_iter()
        .map(|op| match op {
            Op::Group(change) => change,
            other => panic!("{other:?}"),
        })
        .collect();
    let Some(GroupOp::Add(add)) = &changes[1].op else { panic!("{changes:?}") };
    assert_eq!((add.members.join(" "), add.history), ("bob carol".to_owned(), true));
    assert_eq!(changes[1].id, "g-1");
    assert!(matches!(changes[0].op, Some(GroupOp::Create(_))) && changes[0].id.len() == 36);
    assert!(matches!(changes[2].op, Some(GroupOp::Remove(_))));
    assert!(matches!(changes[3].op, Some(GroupOp::Delete(_))));
    let shown = json(&user.ok(&["group", "show", "ops", "--json"]));
    assert_eq!(shown["members"][1]["name"], "bob");
    assert_eq!(user.ok(&["group", "show", "ops"]), "alice\t7\nbob\t7\n");
    assert!(user.ok(&["group", "list"]).starts_with("ops\talice\t2\t2026"));
    assert_eq!(json(&user.ok(&["group", "list", "--json"]))[0]["owner"], "alice");
}

#[test]
fn bad_groups_reach_no_node() {
    let user = User::with_cluster();
    let node = grouping(&user);
    let many: Vec<String> = (0..101).map(|n| format!("c{n}")).collect();
    let many: Vec<&str> =
        ["group", "add", "ops"].into_iter().chain(many.iter().map(String::as_str)).collect();
    for bad in [
        &["group", "create", "@OPS"][..],
        &["group", "add", "ops"],
        &["group", "add", "ops", "@bob"],
        &["group", "remove", "ops", "bob", "--history"],
        &["chat", "--to", "$events"],
        &["chat", "--to", "@ops", "--limit", "0"],
        &many,
    ] {
        user.fails(bad, 2);
    }
    assert!(node.ops().is_empty());
}

fn row(key: &str, value: &[u8], version: u64) -> KvRow {
    let stamp = STAMP.to_bytes().to_vec();
    let (by, owner, shared_with) = ("alice".into(), "alice".into(), String::new());
    KvRow { key: key.into(), value: value.into(), version, by, stamp, owner, shared_with }
}

fn dictionary(user: &User) -> FakeNode {
    FakeNode::start(user, |_, op| match op {
        Op::KvRead(read) if read.prefix && read.after.is_empty() => {
            vec![Reply::Kv(KvRows { rows: vec![row("a", b"1", 3)], more: true })]
        }
        Op::KvRead(read) if read.prefix => {
            vec![Reply::Kv(KvRows { rows: vec![row("b", b"\xff", 4)], more: false })]
        }
        Op::KvRead(read) if read.key == "a" => {
            vec![Reply::Kv(KvRows { rows: vec![row("a", b"one\n", 3)], more: false })]
        }
        Op::KvRead(_) => vec![Reply::Kv(KvRows::default())],
        Op::Kv(change) if change.expect == Some(9) => vec![failure(ErrorCode::Conflict)],
        Op::Kv(change) => {
            let value = change.value.clone().unwrap_or_default();
            let shared_with = change.shared_with.clone().unwrap_or_default();
            let row = KvRow { shared_with, ..row(&change.key, &value, 4) };
            vec![Reply::Kv(KvRows { rows: vec![row], more: false })]
        }
        _ => vec![failure(ErrorCode::Invalid)],
    })
}

#[test]
fn keys_are_read_and_set() {
    let user = User::with_cluster();
    let node = dictionary(&user);
    assert_eq!(user.ok(&["kv", "get", "a", "-o", "raw"]), "one\n");
    let shown = json(&user.ok(&["kv", "get", "a", "--json", "--stale"]));
    assert_eq!((&shown["value"], &shown["version"]), (&"one\n".into(), &3.into()));
    user.fails(&["kv", "get", "none"], 5);
    let all = json(&user.ok(&["kv", "list", "--json"]));
    assert_eq!((&all[0]["key"], &all[1]["value_b64"]), (&"a".into(), &"/w==".into()));
    assert_eq!(json(&user.ok(&["kv", "put", "a", "-1", "--json"]))["value"], "-1");
    std::fs::write(user.home.path().join("file"), b"\0x").unwrap();
    user.ok(&["kv", "put", "a", "--file", "file", "--if-version", "0", "--id", "k-1"]);
    let Some(Op::Kv(change)) = node.ops().pop() else { panic!("no change") };
    assert_eq!((change.value.as_deref(), change.expect), (Some(&b"\0x"[..]), Some(0)));
    assert_eq!(change.id, "k-1");
    user.ok(&["kv", "delete", "a", "--if-version", "3"]);
    let Some(Op::Kv(change)) = node.ops().pop() else { panic!("no change") };
    assert_eq!((change.value, change.expect), (None, Some(3)));
    assert!(user.fails(&["kv", "put", "a", "x", "--if-version", "9"], 6).contains("kv get a"));
}

#[test]
fn a_key_is_shared_with_everybody_a_group_or_nobody() {
    let user = User::with_cluster();
    let node = dictionary(&user);
    for (flags, sent, shown) in [
        (&[][..], None, None),
        (&["--shared"], Some("*"), Some("*")),
        (&["--group", "@ops"], Some("@ops"), Some("@ops")),
        (&["--group", "ops"], Some("@ops"), Some("@ops")),
        (&["--own"], Some(""), None),
    ] {
        let row = json(&user.ok(&[&["kv", "put", "a", "x", "--json"], flags].concat()));
        let Some(Op::Kv(change)) = node.ops().pop() else { panic!("no change") };
        assert_eq!(change.shared_with.as_deref(), sent, "{flags:?}");
        assert_eq!((row["owner"].as_str(), row["shared_with"].as_str()), (Some("alice"), shown));
    }
    let before = node.ops().len();
    for bad in [&["--shared", "--own"][..], &["--group", "a", "--shared"], &["--group", "*"]] {
        user.fails(&[&["kv", "put", "a", "x"], bad].concat(), 2);
    }
    assert_eq!(node.ops().len(), before);
}

#[test]
fn a_value_is_exchanged_at_the_version_it_was_read_at() {
    let user = User::with_cluster();
    let node = dictionary(&user);
    user.ok(&["kv", "cas", "a", "one\n", "two"]);
    let Some(Op::Kv(change)) = node.ops().pop() else { panic!("no change") };
    assert_eq!((change.value.as_deref(), change.expect), (Some(&b"two"[..]), Some(3)));
    let before = node.ops().len();
    assert!(user.fails(&["kv", "cas", "a", "other", "two"], 6).contains("version 3"));
    user.fails(&["kv", "cas", "none", "other", "two"], 5);
    assert!(node.ops()[before..].iter().all(|op| matches!(op, Op::KvRead(_))));
}

fn said(seq: u64, from: &str, body: &str) -> Record {
    Record { from: from.into(), to: "@ops".into(), ..record(seq, body.as_bytes()) }
}

/// A chat with its input open, and its lines.
struct Chat {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Chat {
    fn start(user: &User, args: &[&str]) -> Self {
        let mut command = user.command(&[&["chat"], args].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn say(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }
}

/// Follows: the first page is empty, then comes what is given; what came before is at seq 4.
fn talking(user: &User, then: Vec<Record>) -> FakeNode {
    FakeNode::start(user, move |_, op| match op {
        Op::Read(read) if read.follow => {
            assert_eq!(read.after, [Position { shard: 1, seq: 4 }]);
            let last = then.last().map_or(4, |record| record.seq);
            vec![page(Vec::new(), 4, true), page(then.clone(), last, true)]
        }
        Op::Read(Read { to, with, .. }) if to == "@ops" || with == "bob" => {
            vec![page(Vec::new(), 4, true)]
        }
        Op::Read(_) => vec![failure(ErrorCode::Denied)],
        Op::Send(send) => vec![ack(&send.id)],
        _ => vec![failure(ErrorCode::Invalid)],
    })
}

/// Seen to fail with own lines shown as soon as they are sent.
#[test]
fn a_chat_shows_what_comes_back_in_its_order() {
    let user = User::with_cluster();
    let node = talking(&user, vec![said(5, "bob", "hi"), said(6, "admin", "hello")]);
    let mut chat = Chat::start(&user, &["--to", "@ops", "--limit", "2"]);
    chat.say("hello\n\n");
    assert_eq!([chat.line(), chat.line()], ["bob: hi", "admin: hello"]);
    let output = chat.child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("chatting as admin in @ops"));
    let sends: Vec<_> = node.ops().into_iter().filter(|op| matches!(op, Op::Send(_))).collect();
    assert!(sends.len() <= 1, "an empty line is no message: {sends:?}");
}

#[test]
fn a_chat_ends_with_its_input_once_its_lines_are_shown() {
    let user = User::with_cluster();
    // The acknowledgement says seq 1, which lies before what the follow is at.
    let node = talking(&user, Vec::new());
    let mut chat = Chat::start(&user, &["--to", "@ops"]);
    chat.say("one\ntwo\nthree");
    drop(chat.child.stdin.take());
    assert_eq!(chat.child.wait().unwrap().code(), Some(0));
    let bodies: Vec<_> = node
        .ops()
        .into_iter()
        .filter_map(|op| match op {
            Op::Send(send) => Some((send.to, send.body)),
            _ => None,
        })
        .collect();
    let to = |body: &'static str| ("@ops".to_owned(), body.into());
    assert_eq!(bodies, [to("one"), to("two"), to("three")]);
}

#[test]
fn a_chat_that_is_refused_says_so_before_it_reads_a_line() {
    let user = User::with_cluster();
    let node = talking(&user, Vec::new());
    user.fails(&["chat", "--to", "@none"], 4);
    assert!(!node.ops().iter().any(|op| matches!(op, Op::Send(_))));
}

#[test]
fn a_conversation_of_two_is_read_in_both_directions() {
    let user = User::with_cluster();
    let node = talking(&user, vec![said(5, "bob", "hi")]);
    let lines = user.ok(&["chat", "--to", "bob", "--stay", "--limit", "1", "-o", "ndjson"]);
    assert_eq!(json(&lines)["body"], "hi");
    let read = node.ops().into_iter().find_map(|op| match op {
        Op::Read(read) if read.follow => Some(read),
        _ => None,
    });
    let read = read.unwrap();
    assert_eq!((read.with.as_str(), read.to.as_str()), ("bob", ""));
}
