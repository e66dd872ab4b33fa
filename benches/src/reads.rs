//! What reading costs: one message by its id, and a page, asked of the primary, of a backup, and of a
//! backup's own state; and how long after its acknowledgement a message is with a reader that follows on
//! another node.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use net::Client;
use proto::wire::{Get, Op, Position, Read, Reply, Send};
use serde_json::{Value, json};

use crate::args::Args;
use crate::cluster::{self, Cluster, NODES, RECEIVER, SENDER};
use crate::figures::{Figures, Tally};
use crate::load::{Fate, Level, Work, body, id};
use crate::machine::Machine;
use crate::{load, report};

/// Senders at a time while the log is filled.
const FILLERS: usize = 64;
/// Records of a page.
const PAGE: u64 = 100;
/// Longest wait of a follower for a message that was acknowledged.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(30);

/// What is asked for, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// One message by its id.
    Message,
    /// [`PAGE`] messages in a row.
    Page,
}

/// One line.
struct Row {
    what: String,
    figures: Figures,
}

/// Measures and shows it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (machine, rows) =
        cluster::measured(args, NODES, async |cluster| measure(args, cluster).await)?;
    report::say(&format!("\n{machine}\n\n{:<44}{}", "", Figures::headings()));
    for row in &rows {
        report::say(&format!("{:<44}{}", row.what, row.figures.columns()));
    }
    let document = json!({
        "format": report::FORMAT,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine.json(),
        "nodes": NODES,
        "seconds": args.window.as_secs_f64(),
        "page": PAGE,
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    report::write(&document, args.out.as_deref())?;
    for Row { what, figures } in &rows {
        anyhow::ensure!(figures.errors.is_empty(), "{what}: {:?}", figures.errors);
        anyhow::ensure!(figures.done > 0, "{what}: nothing was answered");
    }
    Ok(())
}

async fn measure(args: &Args, cluster: &mut Cluster) -> anyhow::Result<(Machine, Vec<Row>)> {
    let machine = Machine::look(cluster.folder());
    let primary = cluster.status().await?.primary;
    let mut others = cluster.names().into_iter().filter(|name| *name != primary);
    let (backup, other) = others.next().zip(others.next()).context("a cluster of three")?;
    let stored = fill(args, cluster, &primary).await?;
    let mut rows = Vec::new();
    for (asked, what) in [(Asked::Message, "one message"), (Asked::Page, "a page of 100")] {
        for (node, how, stale) in [
            (&primary, "primary", false),
            (&backup, "backup", false),
            (&backup, "backup, stale", true),
        ] {
            let client = cluster.client(RECEIVER, Some(node))?;
            let figures = read(args, &client, asked, stale, &stored).await?;
            client.close().await;
            rows.push(Row { what: format!("{what}, {how}"), figures });
        }
    }
    for (gateway, how) in [(&primary, "primary"), (&other, "backup")] {
        let figures = follow(args, cluster, gateway, &backup, how).await?;
        rows.push(Row { what: format!("ack via {how} to a follower of a backup"), figures });
    }
    Ok((machine, rows))
}

/// Sends for one level, and returns ids and numbers of what is stored.
async fn fill(args: &Args, cluster: &Cluster, via: &str) -> anyhow::Result<Vec<(String, u64)>> {
    let clients = cluster.clients(via, FILLERS)?;
    let level = Level { number: 0, in_flight: FILLERS, window: args.window, ramp: args.ramp };
    let done = load::run(&clients, level, Work::Send).await?;
    for client in clients {
        client.close().await;
    }
    let mut stored = Vec::new();
    for (worker, fates) in done.all.iter().enumerate() {
        for (number, fate) in fates.iter().enumerate() {
            match fate {
                Fate::Acked(seq) => stored.push((id(0, worker, number), *seq)),
                Fate::Refused | Fate::Unknown => {}
            }
        }
    }
    stored.sort_unstable_by_key(|(_, seq)| *seq);
    anyhow::ensure!(stored.len() as u64 > PAGE, "only {} messages are stored", stored.len());
    Ok(stored)
}

/// One question after the other, for a time.
async fn read(
    args: &Args,
    client: &Client,
    asked: Asked,
    stale: bool,
    stored: &[(String, u64)],
) -> anyhow::Result<Figures> {
    let mut tally = Tally::new()?;
    let begin = Instant::now() + args.ramp;
    // Spread over the whole log: a stride that meets every message before it meets one again.
    let pages = stored.len() - usize::try_from(PAGE)?;
    for at in (0..).map(|n: usize| n.wrapping_mul(7919) % pages) {
        let Some((id, seq)) = stored.get(at) else { continue };
        let op = match asked {
            Asked::Message => Op::Get(Get { id: id.clone(), stale, from: SENDER.to_owned() }),
            Asked::Page => {
                let after = vec![Position { shard: 1, seq: seq - 1 }];
                Op::Read(Read { after, limit: PAGE, stale, ..Read::default() })
            }
        };
        let began = Instant::now();
        if began >= begin + args.window {
            break;
        }
        let answer = client.call(op).await?.reply;
        let ended = Instant::now();
        let fits = match (asked, &answer) {
            (Asked::Message, Some(Reply::Record(record))) => record.seq == *seq,
            (Asked::Page, Some(Reply::Page(page))) => {
                page.records.len() as u64 == PAGE
                    && page.records.first().is_some_and(|r| r.seq == *seq)
            }
            _ => false,
        };
        anyhow::ensure!(fits, "an unfit answer to a read of {id}: {answer:?}");
        if began >= begin {
            tally.note(ended - began, ended < begin + args.window);
        }
    }
    Ok(tally.figures(args.window))
}

/// One message after the other through a gateway, while somebody follows on another node: the time from
/// each acknowledgement until the message is there, nothing if it was there before.
async fn follow(
    args: &Args,
    cluster: &Cluster,
    gateway: &str,
    node: &str,
    how: &str,
) -> anyhow::Result<Figures> {
    let (sender, reader) =
        (cluster.client(SENDER, Some(gateway))?, cluster.client(RECEIVER, Some(node))?);
    let end = cluster.status().await?.last_seq;
    let after = vec![Position { shard: 1, seq: end }];
    let mut follow = reader.follow(Read { after, follow: true, ..Read::default() }).await?;
    let (seen, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let follower = tokio::spawn(async move {
        while let Ok(Some(page)) = follow.next().await {
            let at = Instant::now();
            if page.records.into_iter().any(|record| seen.send((record.id, at)).is_err()) {
                return;
            }
        }
    });
    let mut tally = Tally::new()?;
    let begin = Instant::now() + args.ramp;
    for number in 0_u64.. {
        let began = Instant::now();
        if began >= begin + args.window {
            break;
        }
        let id = format!("followed-{how}-{number}");
        let send = Send {
            to: RECEIVER.to_owned(),
            body: body(&id).into(),
            id: id.clone(),
            ..Send::default()
        };
        let answer = sender.call(Op::Send(send)).await?.reply;
        let acked = Instant::now();
        anyhow::ensure!(matches!(answer, Some(Reply::Ack(_))), "no acknowledgement: {answer:?}");
        let there = async {
            while let Some((seen, at)) = arrived.recv().await {
                if seen == id {
                    return Some(at);
                }
            }
            None
        };
        let at = tokio::time::timeout(FOLLOWED_WITHIN, there).await;
        let at = at.ok().flatten().with_context(|| format!("{id} never came to the follower"))?;
        if began >= begin {
            tally.note(at.saturating_duration_since(acked), at < begin + args.window);
        }
    }
    follower.abort();
    sender.close().await;
    reader.close().await;
    Ok(tally.figures(args.window))
}

impl Row {
    fn json(&self) -> Value {
        let mut out = self.figures.json();
        if let Some(out) = out.as_object_mut() {
            out.insert("what".to_owned(), json!(self.what));
        }
        out
    }
}
