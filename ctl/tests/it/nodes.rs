//! Looking after the nodes: what is asked of the cluster, what is waited for, and what is refused
//! before anything is asked.

use std::sync::OnceLock;

use parking_lot::Mutex;
use proto::ErrorCode;
use proto::member::{MemberOp, MemberRow, MemberState, RemoveNodes, SetNode};
use proto::overview::{Move, Share};
use proto::token::{TokenChange, TokenOp, TokenView, Tokens};
use proto::wire::{MemberChange, Members, NodeRow, Op, Planned, RaftView, Reply, Status};

use crate::node::{FakeNode, failure, node_row, status};
use crate::user::{User, json, text};

fn member(name: &str, state: MemberState) -> MemberRow {
    let raft_id = name.trim_start_matches('n').parse().unwrap();
    MemberRow {
        name: name.into(),
        raft_id,
        incarnation: vec![7; 16],
        address: format!("10.0.0.{raft_id}:7101"),
        priority: 1,
        state: state.into(),
        ..MemberRow::default()
    }
}

fn three() -> Vec<MemberRow> {
    ["n1", "n2", "n3"].map(|name| member(name, MemberState::Joined)).into()
}

fn members(rows: Vec<MemberRow>) -> Vec<Reply> {
    vec![Reply::Members(Members { epoch: 1, members: rows })]
}

fn engine(voters: &[&str], learners: &[&str], joint: bool) -> Vec<Reply> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    vec![Reply::Raft(RaftView {
        node: "n1".into(),
        raft_id: 1,
        role: "primary".into(),
        term: 4,
        voted_for: "n1".into(),
        vote_committed: true,
        committed: 9,
        applied: 9,
        voters: names(voters),
        learners: names(learners),
        joint,
        ..RaftView::default()
    })]
}

/// Answers with each reply once, with the last one for ever.
fn in_turn(mut replies: Vec<Vec<Reply>>) -> impl Fn() -> Vec<Reply> + Send + Sync {
    replies.reverse();
    let replies = Mutex::new(replies);
    move || {
        let mut replies = replies.lock();
        let last = replies.len() == 1;
        if last { replies[0].clone() } else { replies.pop().unwrap() }
    }
}

fn changes(node: &FakeNode) -> Vec<MemberOp> {
    let change = |op| match op {
        Op::Member(MemberChange { op, id }) => {
            assert!(!id.is_empty(), "a change without an id");
            op
        }
        _ => None,
    };
    node.ops().into_iter().filter_map(change).collect()
}

/// Meant to catch the engine not looked at: the command was done before the nodes were out.
#[test]
fn a_removal_waits_until_the_engine_is_done_with_it() {
    let user = User::with_cluster();
    let engines = in_turn(vec![
        engine(&["n1", "n2", "n3"], &[], true),
        engine(&["n1", "n2"], &["n3"], false),
        engine(&["n1", "n2"], &[], true),
        engine(&["n1", "n2"], &[], false),
    ]);
    let node = FakeNode::start(&user, move |_, op| match op {
        Op::Member(_) => members(vec![member("n3", MemberState::Removed)]),
        Op::Members(_) => members(vec![member("n3", MemberState::Joined)]),
        Op::Plan(_) => vec![Reply::Planned(Planned::default())],
        Op::Raft(_) => engines(),
        _ => vec![failure(ErrorCode::Invalid)],
    });
    assert!(user.fails(&["node", "remove", "n3"], 2).contains("terminal"), "it asks");
    // Meant to catch: the question asked first: nobody could say yes to a mistyped name.
    assert!(user.fails(&["node", "remove", "n9"], 5).contains("no node n9"));
    assert_eq!(changes(&node), []);
    let done = user.run(&["-y", "node", "remove", "n3", "--force", "--json"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(json(&text(&done.stdout))[0]["state"], "removed");
    assert!(text(&done.stderr).contains("n3 is still replicated to"), "{}", text(&done.stderr));
    let remove = RemoveNodes { names: vec!["n3".into()], force: true };
    assert_eq!(changes(&node), [MemberOp::Remove(remove)]);
    let looks = node.ops().into_iter().filter(|op| matches!(op, Op::Raft(_))).count();
    assert_eq!(looks, 4);
}

/// Seen to fail with the question asked first: a person said yes to what was refused then.
#[test]
fn nobody_is_asked_about_a_removal_that_cannot_be() {
    let user = User::with_cluster();
    let node = FakeNode::start(&user, |_, op| match op {
        Op::Members(_) => {
            members(vec![member("n2", MemberState::Left), member("n3", MemberState::Joined)])
        }
        Op::Plan(plan) if plan.remove == ["n3"] => vec![failure(ErrorCode::Conflict)],
        Op::Plan(_) => vec![Reply::Planned(Planned::default())],
        _ => vec![failure(ErrorCode::Invalid)],
    });
    assert!(user.fails(&["node", "remove", "n3"], 6).contains("as the test wants it"));
    assert!(user.fails(&["node", "remove", "n2"], 6).contains("--force"));
    assert!(user.fails(&["node", "remove", "n2", "--force"], 2).contains("terminal"));
    assert_eq!(changes(&node), []);
}

#[test]
fn a_removal_that_is_not_done_in_time_says_that_it_goes_on() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, op| match op {
        Op::Member(_) => members(vec![member("n3", MemberState::Removed)]),
        Op::Members(_) => members(vec![member("n3", MemberState::Joined)]),
        Op::Plan(_) => vec![Reply::Planned(Planned::default())],
        Op::Raft(_) => engine(&["n1", "n2", "n3"], &[], false),
        _ => vec![failure(ErrorCode::Invalid)],
    });
    let said = user.fails(&["-y", "node", "remove", "n3", "--timeout", "900ms"], 7);
    assert!(said.contains("it goes on"), "{said}");
}

#[test]
fn refusals_of_the_cluster_are_the_commands() {
    for (code, exit) in [(ErrorCode::NotFound, 5), (ErrorCode::Conflict, 6), (ErrorCode::Denied, 4)]
    {
        let user = User::with_cluster();
        let _node = FakeNode::start(&user, move |_, op| match op {
            Op::Raft(_) => engine(&["n1"], &[], false),
            Op::Members(_) => members(vec![member("n9", MemberState::Joined)]),
            _ => vec![failure(code)],
        });
        for args in [
            &["-y", "node", "remove", "n9"][..],
            &["node", "drain", "n9"],
            &["node", "promote", "n9"],
            &["node", "demote", "n9"],
            &["node", "set", "n9", "--priority", "3"],
        ] {
            let said = user.fails(args, exit);
            assert!(said.contains("as the test wants it"), "{args:?}: {said}");
        }
    }
}

#[test]
fn what_would_move_is_shown_and_nothing_is_done() {
    let user = User::with_cluster();
    let node = FakeNode::start(&user, |_, op| match op {
        Op::Plan(_) => vec![Reply::Planned(Planned {
            before: vec![Share { node: "n1".into(), slots: 4096 }],
            after: Vec::new(),
            moves: vec![Move { from: "n3".into(), to: "n1".into(), slots: 1024 }],
        })],
        _ => vec![failure(ErrorCode::Invalid)],
    });
    assert_eq!(user.ok(&["node", "remove", "n3", "--dry-run"]), "n3\tn1\t1024\n");
    let shown = json(&user.ok(&["node", "remove", "n3", "--dry-run", "--json"]));
    assert_eq!(shown["moves"][0]["slots"], 1024);
    assert_eq!(changes(&node), []);
}

/// Meant to catch the answer not waited for.
#[test]
fn a_drain_waits_until_another_node_is_primary() {
    let user = User::with_cluster();
    let led_by = |name: &str| vec![Reply::Status(Status { primary: name.into(), ..status() })];
    let answers = in_turn(vec![led_by("n1"), led_by(""), led_by("n2")]);
    let node = FakeNode::start(&user, move |_, op| match op {
        Op::Member(_) => {
            members(vec![MemberRow { drained: true, ..member("n1", MemberState::Joined) }])
        }
        Op::Status(_) => answers(),
        _ => vec![failure(ErrorCode::Invalid)],
    });
    let done = user.run(&["node", "drain", "n1", "--json"]);
    assert_eq!(json(&text(&done.stdout))["drained"], true);
    assert!(text(&done.stderr).contains("n1 is the primary"), "{}", text(&done.stderr));
    let set = |drained| {
        MemberOp::Set(SetNode { name: "n1".into(), drained: Some(drained), ..SetNode::default() })
    };
    assert_eq!(changes(&node), [set(true)]);
    user.ok(&["node", "drain", "n1", "--off"]);
    assert_eq!(changes(&node), [set(true), set(false)]);
}

#[test]
fn only_the_primary_steps_down_and_only_if_somebody_is_there() {
    let user = User::with_cluster();
    let voter = |name: &str, up| NodeRow { up, ..node_row(name) };
    let led_by = move |name: &str, up| {
        let nodes = vec![voter("n1", true), voter("n2", up)];
        vec![Reply::Status(Status { primary: name.into(), nodes, ..status() })]
    };
    let answers = in_turn(vec![
        led_by("n1", true),
        led_by("n1", false),
        led_by("n1", true),
        led_by("n1", true),
        led_by("n2", true),
    ]);
    let node = FakeNode::start(&user, move |_, op| match op {
        Op::Member(_) => members(vec![member("n1", MemberState::Joined)]),
        Op::Status(_) => answers(),
        Op::Raft(_) => engine(&["n1", "n2"], &[], false),
        _ => vec![failure(ErrorCode::Invalid)],
    });
    assert!(user.fails(&["node", "step-down", "n9"], 5).contains("no node n9"));
    assert!(user.fails(&["node", "step-down"], 6).contains("no other voter"));
    assert_eq!(changes(&node), []);
    assert_eq!(user.ok(&["node", "step-down", "--for", "2m"]), "n1\tn2\n");
    let [MemberOp::StepDown(down)] = &changes(&node)[..] else { panic!("{:?}", changes(&node)) };
    assert_eq!((down.name.as_str(), down.hold_ns), ("n1", 120_000_000_000));
    user.fails(&["node", "step-down", "--for", "0s"], 2);
}

#[test]
fn a_vote_is_waited_for() {
    let user = User::with_cluster();
    let engines = in_turn(vec![
        engine(&["n1"], &["n2"], false),
        engine(&["n1", "n2"], &[], true),
        engine(&["n1", "n2"], &[], false),
    ]);
    let node = FakeNode::start(&user, move |_, op| match op {
        Op::Member(_) => members(vec![member("n2", MemberState::Joined)]),
        Op::Raft(_) => engines(),
        _ => vec![failure(ErrorCode::Invalid)],
    });
    assert_eq!(json(&user.ok(&["node", "promote", "n2", "--json"]))["wants"], "voter");
    assert_eq!(changes(&node).len(), 1);
    let late = user.fails(&["node", "demote", "n2", "--timeout", "700ms"], 7);
    assert!(late.contains("still votes"), "{late}");
}

#[test]
fn nodes_to_come_are_named_counted_and_given_a_token_each() {
    let user = User::with_cluster();
    let node = FakeNode::start(&user, |_, op| match op {
        Op::Members(_) => members(three()),
        Op::Plan(_) => vec![Reply::Planned(Planned::default())],
        Op::Token(TokenChange { op: Some(TokenOp::Create(create)) }) => {
            let id = create.token.clone().unwrap().id;
            let view = TokenView { id, expires_ns: 7_000_000_000, ..TokenView::default() };
            vec![Reply::Tokens(Tokens { tokens: vec![view], access: Vec::new() })]
        }
        _ => vec![failure(ErrorCode::Invalid)],
    });
    for (args, exit) in [
        (&["n4", "n5", "--count", "1"][..], 2),
        (&["n4", "--count", "0"], 2),
        (&["n4", "n4"], 2),
        (&[], 2),
        (&["n4", "n1"], 6),
        (&["--count", "62"], 6),
    ] {
        user.fails(&[&["node", "add"], args].concat(), exit);
    }
    let dry = user.ok(&["node", "add", "n7", "--count", "2", "--dry-run"]);
    assert_eq!(dry, "n7\t\nn4\t\n");
    let tokens = |node: &FakeNode| {
        let create = |op| match op {
            Op::Token(TokenChange { op: Some(TokenOp::Create(create)) }) => {
                Some((create.name, create.uses, create.role))
            }
            _ => None,
        };
        node.ops().into_iter().filter_map(create).collect::<Vec<_>>()
    };
    assert_eq!(tokens(&node), []);
    let added = json(&user.ok(&["node", "add", "n7", "--count", "2", "--json"]));
    let rows = added["nodes"].as_array().unwrap();
    for (row, name) in rows.iter().zip(["n7", "n4"]) {
        assert_eq!(row["name"], name);
        let token = row["token"].as_str().unwrap();
        let decoded = proto::token::JoinToken::decode(token).unwrap();
        assert_eq!(decoded.name, name);
        assert!(row["command"].as_str().unwrap().contains(token), "{row}");
    }
    let node_token = |name: &str| (name.to_owned(), 1, "node".to_owned());
    assert_eq!(tokens(&node), [node_token("n7"), node_token("n4")]);
}

#[test]
fn one_node_and_all_engines_are_shown() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, op| match op {
        Op::Members(_) => members(three()),
        Op::Raft(_) => engine(&["n1", "n2"], &["n3"], false),
        _ => vec![failure(ErrorCode::Invalid)],
    });
    let shown = json(&user.ok(&["node", "show", "n1", "--json"]));
    assert_eq!((&shown["name"], &shown["raft_id"]), (&"n1".into(), &1.into()));
    assert_eq!(shown["engine"]["term"], 4);
    assert_eq!(shown["node"]["clock"]["state"], "local");
    assert_eq!(shown["store"], "07070707-0707-0707-0707-070707070707");
    let facts = user.ok(&["node", "show", "n1"]);
    assert!(facts.contains("name\tn1\n") && facts.contains("engine.voters\tn1 n2\n"), "{facts}");
    user.fails(&["node", "show", "n9"], 5);
    let engines = json(&user.ok(&["raft", "show", "--json"]));
    assert_eq!((&engines[0]["voted_for"], &engines[0]["joint"]), (&"n1".into(), &false.into()));
    assert_eq!(engines[0]["learners"][0], "n3");
    assert_eq!(user.ok(&["raft", "show", "--via", "n1"]).split('\t').count(), 14);
}

/// What the first node that is asked says, for ever; the others say that all is well.
fn first_asked_says(
    user: &User,
    bad: impl Fn() -> Vec<Reply> + Send + Sync + 'static,
    drained: bool,
) -> FakeNode {
    let first = OnceLock::<String>::new();
    FakeNode::start_each(user, move |name, _, op| match op {
        Op::Status(_) if first.get_or_init(|| name.to_owned()) == name => bad(),
        Op::Status(_) => {
            let mut status = Status { term: 4, ..status() };
            for row in &mut status.nodes {
                row.state = "joined".into();
                row.drained = drained && Some(&row.name) == first.get();
            }
            vec![Reply::Status(status)]
        }
        _ => vec![failure(ErrorCode::Invalid)],
    })
}

/// Seen to fail with: one node asked, as before; and what the first one said of itself forgotten.
#[test]
fn waiting_does_not_believe_one_node_alone() {
    let cut_off =
        || vec![Reply::Status(Status { primary: String::new(), quorum: false, ..status() })];
    let ready = ["wait", "ready", "--timeout", "5s"];
    // Drained and cut off: the others are who counts.
    let user = User::with_cluster();
    let _node = first_asked_says(&user, cut_off, true);
    assert_eq!(user.ok(&ready).lines().count(), 2);
    // In trouble of its own, which the others would know of.
    let user = User::with_cluster();
    let _node = first_asked_says(&user, || vec![failure(ErrorCode::Integrity)], false);
    assert_eq!(user.ok(&ready).lines().count(), 3);
    // It counts: without it the cluster is not as it was wanted, though the others have not noticed.
    let user = User::with_cluster();
    let _node = first_asked_says(&user, cut_off, false);
    let errors = user.fails(&ready, 7);
    assert!(errors.contains("sees no majority"), "{errors}");
}
