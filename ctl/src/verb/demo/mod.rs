//! `logctl demo`: a tour of a real cluster on this machine. Every claim on the way is checked, and
//! one that does not hold ends the tour with an error.

mod failover;
mod servers;
mod skew;
mod spread;
mod tour;

use std::time::Duration;

use proto::{ExitCode, Record};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use self::servers::Servers;
use self::skew::Skew;
use self::spread::Spreading;
use self::tour::{Tour, name};
use crate::cli::{Demo, Globals};
use crate::context;
use crate::error::CtlError;
use crate::home::Home;
use crate::local::{LocalCluster, find_logd, free_ports};
use crate::out::{Out, Shape};
use views::health::StatusView;

/// Name of the context that `--keep` leaves behind.
const CONTEXT: &str = "demo";

/// What the tour measured; the document of `-o json`.
#[derive(Debug, Serialize)]
struct Report {
    nodes: usize,
    first_message_ms: u128,
    failover_gap_ms: u128,
    acknowledged: usize,
    lost: usize,
    doubled: usize,
    caught_up_ms: u128,
    spreading: Spreading,
    clock: Option<Skew>,
    kept: Option<String>,
}

pub(crate) async fn run(args: Demo, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    if args.keep {
        refuse_to_replace_a_kept_demo()?;
    }
    let mut cluster = LocalCluster::new(find_logd(args.logd)?, args.nodes)?;
    if args.keep {
        cluster.keep_files();
    }
    // Whoever plays with a kept cluster has it after these servers are gone with the tour.
    let mut names = cluster.names();
    // One more node joins on the way.
    names.push(format!("n{}", args.nodes + 1));
    let servers = if args.keep { None } else { Some(Servers::start(&names).await?) };
    let mut tour = Tour::new(cluster, servers, globals, out);
    let mut stop = Stop::new()?;
    let done = tokio::select! {
        done = tour.walk(args.nodes, args.keep) => done,
        () = stop.asked() => Err(CtlError::refused(
            ExitCode::Interrupted,
            "interrupted; every process is stopped",
            "logctl demo",
        )),
    };
    // Dropping the tour ends the processes and removes the files, whatever happened.
    let report = match done {
        Ok(report) => report,
        Err(error) if args.keep => {
            // The error is what counts, also where nobody reads this line.
            drop(tour.say(&format!("the logs stay in {}", tour.cluster.dir().display())));
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    drop(tour);
    match out.shape() {
        Shape::Json => out.json(&report),
        Shape::Ndjson => out.json_line(&report),
        Shape::Table | Shape::Plain | Shape::Raw => Ok(()),
    }
}

/// A kept demo is found through its context; replacing that would lose sight of its processes.
fn refuse_to_replace_a_kept_demo() -> Result<(), CtlError> {
    let home = Home::from_env()?;
    let kept = home.load(&name(CONTEXT)?)?.filter(|context| context.ca.exists());
    match kept {
        None => Ok(()),
        Some(context) => Err(CtlError::conflict(
            format!("the context '{CONTEXT}' is in use, with {}", context.ca.display()),
            format!("stop that cluster, then logctl context remove {CONTEXT}"),
        )),
    }
}

/// Signals that end the tour early.
struct Stop([tokio::signal::unix::Signal; 3]);

impl Stop {
    fn new() -> Result<Self, CtlError> {
        let on = |kind| {
            signal(kind).map_err(|source| CtlError::File {
                what: "cannot watch for signals".into(),
                source,
            })
        };
        let kinds = (SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup());
        Ok(Self([on(kinds.0)?, on(kinds.1)?, on(kinds.2)?]))
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

impl Tour<'_> {
    async fn walk(&mut self, nodes: u8, keep: bool) -> Result<Report, CtlError> {
        self.create(nodes).await?;
        let first_message = self.first_message().await?;
        let (primary, failover) = self.failover().await?;
        let (lost, doubled) = self.account(&failover).await?;
        let caught_up = self.restart(&primary, &failover).await?;
        let spreading = self.spread(nodes).await?;
        let clock = self.skew().await?;
        let kept = if keep { Some(self.keep()?) } else { self.finish().await? };
        Ok(Report {
            nodes: nodes.into(),
            first_message_ms: first_message.as_millis(),
            failover_gap_ms: failover.gap.as_millis(),
            acknowledged: failover.acked.len(),
            lost,
            doubled,
            caught_up_ms: caught_up.as_millis(),
            spreading,
            clock,
            kept,
        })
    }

    async fn create(&mut self, nodes: u8) -> Result<(), CtlError> {
        self.title("A cluster: authority, certificates, keys, configurations")?;
        let dir = self.cluster.dir().display().to_string();
        let (count, port) = (nodes.to_string(), free_ports(nodes)?.to_string());
        let create = ["cluster", "create", &dir, "--nodes", &count, "--base-port", &port];
        self.logctl(&create).await?;
        self.give_time_servers()?;
        self.title("Its nodes: every connection is encrypted, both ends prove who they are")?;
        for node in self.cluster.names() {
            let line = self.cluster.command_line(&node);
            self.say(&format!("$ {line}"))?;
            self.cluster.start(&node)?;
        }
        let started = Instant::now();
        let status = self.wait_for("all nodes are up", StatusView::is_healthy).await?;
        self.say(&format!(
            "  {} nodes up, primary {}, after {} ms",
            status.nodes().len(),
            status.primary().unwrap_or("none"),
            started.elapsed().as_millis()
        ))
    }

    async fn first_message(&mut self) -> Result<Duration, CtlError> {
        self.title("Two clients: each makes its key here, the cluster signs the certificate")?;
        self.logctl(&["register", "alice"]).await?;
        self.logctl(&["register", "bob"]).await?;
        self.title("A message: sent through one node, read through another")?;
        let text = "hello bob, this is alice";
        self.logctl(&["--as", "alice", "--via", "n1", "send", "--to", "bob", text]).await?;
        self.logctl(&["--as", "bob", "--via", "n2", "read"]).await?;
        let took = self.began.elapsed();
        let seen = self.read_all("bob", Some("n2")).await?;
        let ours = |record: &Record| record.from == "alice" && record.body == text.as_bytes();
        self.claim(seen.iter().filter(|record| ours(record)).count() == 1, "bob has the message")?;
        self.say(&format!("  the first message was read {} ms after the start", took.as_millis()))?;
        self.title("How it is")?;
        self.logctl(&["status"]).await?;
        Ok(took)
    }

    async fn finish(&mut self) -> Result<Option<String>, CtlError> {
        let forced = self.cluster.stop().await;
        self.claim(forced == 0, "every node stops when asked")?;
        self.title("Done: all nodes are stopped, all files removed")?;
        self.say("  logctl demo --keep leaves a cluster to play with")?;
        Ok(None)
    }

    fn keep(&mut self) -> Result<String, CtlError> {
        let users = Home::from_env()?;
        let (_, context) = context::choose(&self.home, None)?;
        users.store(&name(CONTEXT)?, &context)?;
        if users.current()?.is_none() {
            users.set_current(&name(CONTEXT)?)?;
        }
        let pids: Vec<String> = self.cluster.keep_running().iter().map(u32::to_string).collect();
        let dir = self.cluster.dir().display().to_string();
        self.title("Done: the cluster keeps running, its context is 'demo'")?;
        self.say(&format!("  logctl --as {CONTEXT} status"))?;
        self.say(&format!("  LOGCTL_HOME={dir}/home logctl --as alice send --to bob hello"))?;
        self.say(&format!("  kill {} && rm -r {dir}    # the end of it", pids.join(" ")))?;
        Ok(dir)
    }
}
