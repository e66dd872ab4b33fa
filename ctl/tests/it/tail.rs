//! The end of a log: the last messages, backwards, filtered, and what comes behind them.

use std::io::{BufRead, BufReader};

use proto::Header;
use proto::wire::{Gap, Instant, Op, Page, Position, Read, Reply};
use proto::{ErrorCode, Record};

use crate::node::{FakeNode, failure, record};
use crate::user::{User, json, text};

const RECORDS: u64 = 5000;
/// As many as a node puts into one page.
const PAGE: u64 = 500;

/// One record in fifty is an order, one in a thousand is for Ulm; each odd seq is for somebody else.
fn kept(seq: u64) -> Record {
    let header = |key: &str, value: &str| Header { key: key.into(), value: value.into() };
    let mut headers = Vec::new();
    if seq.is_multiple_of(50) {
        headers.push(header("kind", "order"));
    }
    if seq.is_multiple_of(1000) {
        headers.push(header("city", "Ulm"));
    }
    Record { headers, ..record(seq, format!("message {seq}").as_bytes()) }
}

/// Answers as a node with so many records does, whose reader sees the even ones.
fn answer(read: &Read) -> Vec<Reply> {
    let never = u64::MAX.to_be_bytes();
    let since = read.since.as_ref().and_then(|point| point.at.clone());
    let nothing = matches!(&since, Some(Instant::Hlc(at)) if at.starts_with(&never));
    let after = read.after.first().map_or(0, |at| at.seq);
    let page = |records: Vec<Record>, next| {
        let next = vec![Position { shard: 1, seq: next }];
        let end = next[0].seq >= RECORDS;
        vec![Reply::Page(Page { records, next, end, ..Page::default() })]
    };
    if nothing {
        return page(Vec::new(), after.max(RECORDS));
    }
    if read.follow {
        return page(vec![kept(after + 2), kept(after + 4)], after + 4);
    }
    let limit = if read.limit == 0 { PAGE } else { read.limit.min(PAGE) };
    let seqs = (after + 1..=RECORDS).filter(|seq| seq.is_multiple_of(2));
    let records: Vec<Record> = seqs.take(usize::try_from(limit).unwrap()).map(kept).collect();
    let full = records.len() as u64 == limit;
    let next = records.last().filter(|_| full).map_or(RECORDS, |record| record.seq);
    page(records, next)
}

fn log(user: &User) -> FakeNode {
    FakeNode::start(user, |_, op| match op {
        Op::Read(read) => answer(read),
        _ => vec![failure(ErrorCode::Invalid)],
    })
}

fn seqs(user: &User, args: &[&str]) -> Vec<u64> {
    let lines = user.ok(&[&["read", "-o", "ndjson"], args].concat());
    lines.lines().map(|line| json(line)["seq"].as_u64().unwrap()).collect()
}

/// Meant to catch: the first of a piece in the place of its last, with a piece that begins one place too
/// far, and with pieces that do not grow: Ulm took 157 requests.
#[test]
fn the_last_are_found_from_the_end() {
    let user = User::with_cluster();
    let node = log(&user);
    let asked = |args: &[&str]| {
        let before = node.ops().len();
        (seqs(&user, args), node.ops().len() - before)
    };
    assert_eq!(asked(&["-n", "3"]), (vec![4996, 4998, 5000], 2));
    assert_eq!(asked(&["-n", "0"]), (vec![], 1));
    let (twenty, requests) = asked(&["-n", "20"]);
    assert_eq!(twenty, (0..20).map(|n| 4962 + 2 * n).collect::<Vec<_>>());
    assert!(requests <= 3, "{requests} requests");
    assert_eq!(seqs(&user, &["-n", "2500"]), (1..=2500).map(|n| 2 * n).collect::<Vec<_>>());
    assert_eq!(seqs(&user, &["-n", "9999"]).len(), 2500, "there are no more");
    assert_eq!(
        seqs(&user, &["-n", "9999", "--from", "4990"]),
        [4990, 4992, 4994, 4996, 4998, 5000]
    );
    assert_eq!(asked(&["-n", "2", "-H", "kind=order"]).0, [4950, 5000]);
    let (ulm, requests) = asked(&["-n", "4", "-H", "city", "-H", "kind=order"]);
    assert_eq!(ulm, [2000, 3000, 4000, 5000]);
    assert!(requests <= 16, "{requests} requests");
    assert_eq!(seqs(&user, &["-n", "2", "--grep", "^message 4.00$"]), [4800, 4900]);
}

/// Of a log of which retention has removed the first 4,000. Meant to catch: a gap that nobody hears of.
#[test]
fn what_was_removed_is_told_to_who_says_where_to_begin() {
    let user = User::with_cluster();
    let _node = FakeNode::start(&user, |_, op| match op {
        Op::Read(read) => {
            let (after, from) = (read.after.first().map_or(0, |at| at.seq), read.after.is_empty());
            let kept = vec![Position { shard: 1, seq: after.max(4000) }];
            let gap = Gap { shard: 1, from_seq: after + 1, to_seq: 4000 };
            let gap = (!from && after < 4000).then_some(gap);
            let with = |reply| match reply {
                Reply::Page(page) => Reply::Page(Page { gap, ..page }),
                other => other,
            };
            answer(&Read { after: kept, ..read.clone() }).into_iter().map(with).collect()
        }
        _ => vec![failure(ErrorCode::Invalid)],
    });
    for args in [&["-n", "600", "--from", "3000"][..], &["--reverse", "--from", "3000"]] {
        let run = user.run(&[&["read", "-o", "ndjson"], args].concat());
        let said = text(&run.stderr);
        assert_eq!(run.status.code(), Some(5), "{args:?}: {said}");
        assert!(said.contains("seq 3000 to 4000"), "{args:?}: {said}");
        assert_eq!(text(&run.stdout).lines().count(), 501, "{args:?}");
    }
    // What was found before it, or from wherever the log begins, lacks nothing.
    assert_eq!(seqs(&user, &["-n", "3", "--from", "3000"]), [4996, 4998, 5000]);
    assert_eq!(seqs(&user, &["-n", "600"]).len(), 500);
}

/// Meant to catch: pieces that are not turned round.
#[test]
fn the_newest_come_first_if_wanted() {
    let user = User::with_cluster();
    let _node = log(&user);
    let all: Vec<u64> = (1..=2500).rev().map(|n| 2 * n).collect();
    assert_eq!(seqs(&user, &["--reverse"]), all);
    assert_eq!(seqs(&user, &["--reverse", "-n", "3"]), [5000, 4998, 4996]);
    assert_eq!(seqs(&user, &["--reverse", "--limit", "2", "-H", "city=Ulm"]), [5000, 4000]);
    let document = json(&user.ok(&["read", "--reverse", "-n", "2", "--json"]));
    assert_eq!((&document[0]["seq"], &document[1]["seq"]), (&5000.into(), &4998.into()));
    assert!(document[0].get("order_certain").is_none(), "{document}");
    for with in [&["--follow"][..], &["--hash"], &["--cursor", "mine"]] {
        user.fails(&[&["read", "--reverse"], with].concat(), 2);
    }
}

/// Meant to catch: everything shown from the beginning, as it was.
#[test]
fn who_follows_begins_with_the_last_ten() {
    let user = User::with_cluster();
    let _node = log(&user);
    let first = |args: &[&str], count: usize| {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut child = user.command(&[args, &["--json"]].concat()).stdout(writer).spawn().unwrap();
        let lines = BufReader::new(reader).lines().take(count);
        let seqs: Vec<u64> =
            lines.map(|line| json(&line.unwrap())["seq"].as_u64().unwrap()).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        seqs
    };
    let eleven: Vec<u64> = (0..12).map(|n| 4982 + 2 * n).collect();
    assert_eq!(first(&["read", "--follow"], 12), eleven);
    assert_eq!(first(&["events", "--follow"], 12), eleven);
    assert_eq!(first(&["read", "--follow", "-n", "1"], 3), [5000, 5002, 5004]);
    assert_eq!(first(&["read", "--follow", "-n", "0"], 2), [5002, 5004]);
    assert_eq!(first(&["read", "--follow", "--from", "0"], 2), [2, 4]);
    assert_eq!(first(&["read", "--follow", "--since", "2026-11-21"], 2), [2, 4]);
}

/// Meant to catch: a limit that the node is told: it sent two, and none of them was an order.
#[test]
fn what_is_filtered_here_is_counted_here() {
    let user = User::with_cluster();
    let node = log(&user);
    assert_eq!(seqs(&user, &["--limit", "2", "-H", "kind=order"]), [50, 100]);
    assert!(node.ops().iter().all(|op| matches!(op, Op::Read(read) if read.limit == 0)));
    let output = user.run(&["read", "--grep", "("]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("unclosed group"), "{}", text(&output.stderr));
}
