//! What becomes of a command whose standard output fails: its verdict stays, and what it did is said.
//!
//! Meant to catch a closed pipe that ends every command with 0, whatever it has left undone or found
//! out, and a full disk that hides what was stored.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Output, Stdio};

use proto::kv::{KvRow, KvRows};
use proto::token::{TokenChange, TokenOp, TokenView, Tokens};
use proto::wire::{Op, Reply, SetCursor, Status};
use proto::{ErrorCode, Tombstone};

use crate::node::{FakeNode, STAMP, ack, failure, page, record, status};
use crate::user::{User, text};

/// Where the output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// A pipe that nobody reads.
    Closed,
    /// A disk without room.
    Full,
}

/// Runs a command whose data is lost, with lines on its standard input.
fn lost(user: &User, to: To, args: &[&str], lines: &str) -> Output {
    let mut command = user.command(args);
    match to {
        To::Closed => command.stdout(std::io::pipe().unwrap().1),
        To::Full => command.stdout(File::options().write(true).open("/dev/full").unwrap()),
    };
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that ends before it has read them is right to.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn acking(user: &User) -> FakeNode {
    FakeNode::start(user, |_, op| match op {
        Op::Send(send) if send.id == "no" => vec![failure(ErrorCode::Denied)],
        Op::Send(send) => vec![ack(&send.id)],
        Op::Kv(change) => {
            let row = KvRow {
                key: change.key.clone(),
                value: change.value.clone().unwrap_or_default(),
                version: 4,
                by: "admin".into(),
                stamp: STAMP.to_bytes().to_vec(),
                ..KvRow::default()
            };
            vec![Reply::Kv(KvRows { rows: vec![row], more: false })]
        }
        Op::Delete(_) => {
            let stamp = STAMP.to_bytes().to_vec();
            let gone = Tombstone { by: "admin".into(), stamp, ..Tombstone::default() };
            let gone = Some(gone);
            vec![Reply::Deleted(proto::Record { deleted: gone, ..record(2, b"") })]
        }
        Op::Token(TokenChange { op: Some(TokenOp::Create(create)) }) => {
            let id = create.token.clone().unwrap().id;
            let view = TokenView { id, ..TokenView::default() };
            vec![Reply::Tokens(Tokens { tokens: vec![view], access: Vec::new() })]
        }
        Op::Status(_) => vec![Reply::Status(Status { quorum: false, ..status() })],
        Op::Read(read) if read.follow => vec![
            page(Vec::new(), 4, true),
            page(vec![proto::Record { from: "bob".into(), ..record(5, b"hi") }], 5, true),
        ],
        Op::Read(_) => vec![page(vec![record(1, b"one"), record(2, b"two")], 2, true)],
        Op::SetCursor(_) => vec![Reply::CursorSet(proto::wire::Empty {})],
        _ => vec![failure(ErrorCode::Invalid)],
    })
}

fn sent(node: &FakeNode) -> usize {
    node.ops().iter().filter(|op| matches!(op, Op::Send(_))).count()
}

#[test]
fn what_was_done_is_said_with_its_id() {
    let user = User::with_cluster();
    let _node = acking(&user);
    for (args, done) in [
        (&["send", "--to", "bob", "--id", "m-7", "hi"][..], "message m-7 is stored, seq 1"),
        (&["kv", "put", "a", "1"], "the key 'a' is set, its version is 4"),
        (&["kv", "delete", "a"], "the key 'a' is gone"),
        (&["delete", "m-2", "-y"], "message m-2 is deleted"),
        (&["admin", "add", "ada"], "token "),
        (&["cluster", "create", "other", "--base-port", "9001"], "is in other"),
    ] {
        for (to, exit) in [(To::Full, 1), (To::Closed, 0)] {
            for form in ["plain", "json"] {
                let output = lost(&user, to, &[args, &["-q", "-o", form]].concat(), "");
                let errors = text(&output.stderr);
                assert_eq!(code(&output), exit, "{args:?} {to:?}: {errors}");
                assert!(errors.contains("done all the same: "), "{args:?}: {errors}");
                assert!(errors.contains(done), "{args:?} {to:?}: {errors}");
                let told = errors.contains("cannot write to standard output");
                assert_eq!(told, to == To::Full, "{args:?}: {errors}");
            }
        }
    }
}

#[test]
fn messages_that_were_not_sent_are_not_success() {
    let user = User::with_cluster();
    let node = acking(&user);
    let args = ["send", "--to", "bob", "--repeat", "5", "--id", "r", "hi"];
    for (to, exit) in [(To::Closed, 141), (To::Full, 1)] {
        let before = sent(&node);
        let output = lost(&user, to, &args, "");
        let errors = text(&output.stderr);
        assert_eq!(code(&output), exit, "{errors}");
        assert_eq!(sent(&node) - before, 1, "it went on");
        assert!(errors.contains("1 of 5 messages are stored, 4 were not sent"), "{errors}");
        assert!(errors.contains("message r-1 is stored"), "{errors}");
    }
    // One document is written when all are stored: then nothing is undone.
    let before = sent(&node);
    let output = lost(&user, To::Closed, &[&args[..], &["--json"]].concat(), "");
    assert_eq!((code(&output), sent(&node) - before), (0, 5));
    assert!(text(&output.stderr).contains("message r-5 is stored"));
}

#[test]
fn a_lost_output_changes_no_verdict() {
    let user = User::with_cluster();
    let _node = acking(&user);
    for to in [To::Closed, To::Full] {
        for (args, exit) in [
            (&["status"][..], 10),
            (&["status", "--json"], 10),
            (&["health"], 10),
            (&["send", "--to", "bob", "--id", "no", "hi"], 4),
        ] {
            let output = lost(&user, to, args, "");
            let verdict =
                if exit == 10 { [10, 11].contains(&code(&output)) } else { code(&output) == exit };
            assert!(verdict, "{args:?} {to:?}: {}", text(&output.stderr));
        }
    }
}

#[test]
fn a_shell_says_what_it_did_not_run() {
    let user = User::with_cluster();
    let node = acking(&user);
    let line = |id: &str| format!("send --to bob --id {id} hi\n");
    for (to, exit) in [(To::Closed, 141), (To::Full, 1)] {
        let before = sent(&node);
        let output = lost(&user, to, &["shell"], &(line("s-1") + &line("s-2")));
        let errors = text(&output.stderr);
        assert_eq!((code(&output), sent(&node) - before), (exit, 1), "{errors}");
        assert!(errors.contains("message s-1 is stored"), "{errors}");
        assert!(errors.contains("not run: 'send --to bob --id s-2 hi'"), "{errors}");
    }
    for rest in ["", "# no command\n\n", "exit\n"] {
        let output = lost(&user, To::Closed, &["shell"], &(line("s-1") + rest));
        assert_eq!(code(&output), 0, "{rest:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_chat_says_that_not_every_line_was_sent() {
    let user = User::with_cluster();
    let _node = acking(&user);
    let (reader, lines) = std::io::pipe().unwrap();
    let mut command = user.command(&["chat", "--to", "@ops"]);
    command.stdin(reader).stdout(std::io::pipe().unwrap().1).stderr(Stdio::piped());
    // The input stays open: what would come is not sent.
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    let errors = text(&output.stderr);
    assert_eq!(code(&output), 141, "{errors}");
    assert!(errors.contains("what follows in the input was not sent"), "{errors}");
    drop(lines);
}

#[test]
fn a_cursor_does_not_pass_what_was_not_written() {
    let user = User::with_cluster();
    let node = acking(&user);
    let moved = || node.ops().iter().filter(|op| matches!(op, Op::SetCursor(_))).count();
    for to in [To::Closed, To::Full] {
        for form in
            [&["-o", "plain"][..], &["--json"], &["-o", "ndjson"], &["--hash"], &["-o", "raw"]]
        {
            let args = [&["read", "--cursor", "c"], form].concat();
            let output = lost(&user, to, &args, "");
            let exit = if to == To::Closed { 0 } else { 1 };
            assert_eq!(code(&output), exit, "{form:?}: {}", text(&output.stderr));
            assert_eq!(moved(), 0, "{form:?} {to:?}");
        }
    }
    for (count, form) in [&["--json"][..], &["--hash"], &["-o", "plain"]].iter().enumerate() {
        user.ok(&[&["read", "--cursor", "c"], *form].concat());
        assert_eq!(moved(), count + 1, "{form:?}");
    }
    let last = node.ops().into_iter().rev().find_map(|op| match op {
        Op::SetCursor(SetCursor { positions, .. }) => Some(positions[0].seq),
        _ => None,
    });
    assert_eq!(last, Some(2));
}

/// Seen to fail with the reader not looked for: the first waits for a message that does not come.
#[test]
fn what_follows_ends_with_its_reader() {
    let user = User::with_cluster();
    let said = proto::Record { from: "bob".into(), ..record(5, b"hi") };
    // One message, and then none for ever, however often it is asked.
    let _node = FakeNode::start(&user, move |_, op| match op {
        Op::Read(read) if read.follow && read.after.iter().all(|at| at.seq < 5) => {
            vec![page(vec![said.clone()], 5, true)]
        }
        Op::Read(read) if read.follow => vec![page(Vec::new(), 5, true)],
        Op::Read(_) => vec![page(Vec::new(), 4, true)],
        _ => vec![failure(ErrorCode::Invalid)],
    });
    for args in
        [&["read", "--follow"][..], &["events", "--follow"], &["chat", "--to", "@ops", "--stay"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = user.command(args);
        let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        drop(command);
        let mut lines = BufReader::new(reader);
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        assert!(!first.is_empty(), "{args:?}");
        assert_eq!(child.try_wait().unwrap(), None, "{args:?} ended by itself");
        drop(lines);
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), 0, "{args:?}: {}", text(&output.stderr));
    }
}
