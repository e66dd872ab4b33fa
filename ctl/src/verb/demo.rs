//! `logctl demo`: a tour of a real cluster on this machine. Every claim on the way is checked, and
//! one that does not hold ends the tour with an error.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::wire::{self, Empty, Op, Reply};
use proto::{Name, Record};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::cli::{Demo, Globals};
use crate::context;
use crate::error::CtlError;
use crate::health::StatusView;
use crate::home::Home;
use crate::local::{LocalCluster, find_logd, free_ports};
use crate::out::{Out, Shape};
use crate::session::Session;

/// Name of the context that `--keep` leaves behind.
const CONTEXT: &str = "demo";
/// Messages sent before the primary is killed, and after the first one that got through again.
const SENDS_BEFORE: usize = 25;
const SENDS_AFTER: usize = 25;
/// Longest time for the cluster to become what the tour waits for.
const WITHIN: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(50);

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
    let mut tour = Tour::new(cluster, globals, out)?;
    let mut stop = Stop::new()?;
    let done = tokio::select! {
        done = tour.walk(args.nodes, args.keep) => done,
        () = stop.asked() => Err(CtlError::refused(
            130,
            "interrupted; every process is stopped",
            "logctl demo",
        )),
    };
    // Dropping the tour ends the processes and removes the files, whatever happened.
    let report = match done {
        Ok(report) => report,
        Err(error) if args.keep => {
            tour.say(&format!("the logs stay in {}", tour.cluster.dir().display()))?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    drop(tour);
    match out.shape() {
        Shape::Json => out.json(&report),
        Shape::Ndjson => out.json_line(&report),
        _ => Ok(()),
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

fn name(text: &str) -> Result<Name, CtlError> {
    text.parse().map_err(|_| CtlError::strange(&format!("the name '{text}'")))
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

/// The cluster, the two clients, and where the tour is told.
struct Tour<'a> {
    cluster: LocalCluster,
    home: Home,
    globals: Globals,
    out: &'a mut Out,
    began: Instant,
}

/// What happened while the primary was killed.
struct Failover {
    acked: BTreeMap<String, u64>,
    gap: Duration,
}

impl<'a> Tour<'a> {
    fn new(cluster: LocalCluster, globals: &Globals, out: &'a mut Out) -> Result<Self, CtlError> {
        let home = Home::at(&cluster.dir().join("home"));
        // The tour's own identities; the user's choice of context and node is for other clusters.
        let globals = Globals { context: None, via: None, timeout: WITHIN, ..globals.clone() };
        Ok(Self { cluster, home, globals, out, began: Instant::now() })
    }

    async fn walk(&mut self, nodes: u8, keep: bool) -> Result<Report, CtlError> {
        self.create(nodes).await?;
        let first_message = self.first_message().await?;
        let (primary, failover) = self.failover().await?;
        let (lost, doubled) = self.account(&failover).await?;
        let caught_up = self.restart(&primary, &failover).await?;
        let kept = if keep { Some(self.keep()?) } else { self.finish().await? };
        Ok(Report {
            nodes: nodes.into(),
            first_message_ms: first_message.as_millis(),
            failover_gap_ms: failover.gap.as_millis(),
            acknowledged: failover.acked.len(),
            lost,
            doubled,
            caught_up_ms: caught_up.as_millis(),
            kept,
        })
    }

    async fn create(&mut self, nodes: u8) -> Result<(), CtlError> {
        self.title("A cluster: authority, certificates, keys, configurations")?;
        let dir = self.cluster.dir().display().to_string();
        let (count, port) = (nodes.to_string(), free_ports(nodes)?.to_string());
        self.logctl(&["cluster", "create", &dir, "--nodes", &count, "--base-port", &port]).await?;
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

    /// Kills the primary while alice sends one message after the other.
    async fn failover(&mut self) -> Result<(String, Failover), CtlError> {
        self.title("The primary is killed while alice keeps sending")?;
        let status = self.status().await?;
        let primary = status.primary().map(str::to_owned);
        let primary = primary.ok_or_else(|| CtlError::strange("no primary"))?;
        let pid = self.cluster.pid(&primary).unwrap_or_default();
        self.say(&format!("$ kill -9 {pid}    # {primary}"))?;
        let alice = self.session("alice", None)?;
        let killed = Notify::new();
        let (sent, gone) = tokio::join!(send_on(&alice, &killed), async {
            killed.notified().await;
            self.cluster.kill(&primary)
        });
        alice.close().await;
        gone?;
        let failover = sent?;
        let status = self
            .wait_for("a new primary", |status| status.primary().is_some_and(|now| now != primary));
        let now = status.await?.primary().unwrap_or("none").to_owned();
        self.say(&format!("  primary was {primary}, is {now}"))?;
        self.say(&format!(
            "  alice sent {} messages; the longest wait for an answer was {} ms",
            failover.acked.len(),
            failover.gap.as_millis()
        ))?;
        Ok((primary, failover))
    }

    /// Compares what was acknowledged with what bob reads.
    async fn account(&mut self, failover: &Failover) -> Result<(usize, usize), CtlError> {
        let records = self.read_all("bob", None).await?;
        let (lost, doubled) = compare(failover, &records);
        let total = failover.acked.len();
        self.say(&format!(
            "  of {total} acknowledged messages {lost} are lost, {doubled} doubled"
        ))?;
        self.claim(lost == 0 && doubled == 0, "every acknowledged message is there once")?;
        // A new primary may be there before the silence of the old one is long enough to be noticed.
        self.wait_for("the others to miss the node", |status| !status.is_healthy()).await?;
        self.title("How it is now: it works, and says what is wrong")?;
        self.logctl_expecting(&["status"], &[10]).await?;
        Ok((lost, doubled))
    }

    async fn restart(&mut self, node: &str, failover: &Failover) -> Result<Duration, CtlError> {
        self.title("The killed node comes back and catches up")?;
        let line = self.cluster.command_line(node);
        self.say(&format!("$ {line}"))?;
        let started = Instant::now();
        self.cluster.start(node)?;
        self.wait_for("the node to catch up", |status| status.is_healthy() && status.lag() == 0)
            .await?;
        let took = started.elapsed();
        let (lost, doubled) = compare(failover, &self.read_all("bob", Some(node)).await?);
        self.claim(lost == 0 && doubled == 0, "the node that was killed has every message too")?;
        self.say(&format!("  {node} has every message, {} ms after its start", took.as_millis()))?;
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

    fn title(&mut self, text: &str) -> Result<(), CtlError> {
        self.say("")?;
        self.say(&format!("== {text}"))
    }

    /// A line of the tour: data where a person reads it, a note where a program does.
    fn say(&mut self, text: &str) -> Result<(), CtlError> {
        match self.out.shape() {
            Shape::Json | Shape::Ndjson => {
                self.out.note(text);
                Ok(())
            }
            _ => {
                self.out.line(text)?;
                self.out.flush()
            }
        }
    }

    fn claim(&self, holds: bool, what: &str) -> Result<(), CtlError> {
        if holds {
            return Ok(());
        }
        Err(CtlError::refused(
            13,
            format!("the demo's claim does not hold: {what}"),
            "report it with the output above",
        ))
    }

    async fn logctl(&mut self, args: &[&str]) -> Result<(), CtlError> {
        self.logctl_expecting(args, &[0]).await
    }

    /// Runs this binary as a user would, shows command and output, and checks the exit code.
    async fn logctl_expecting(&mut self, args: &[&str], codes: &[i32]) -> Result<(), CtlError> {
        let quoted = |arg: &&str| {
            if arg.contains(' ') { format!("'{arg}'") } else { (*arg).to_owned() }
        };
        let typed: Vec<String> = args.iter().map(quoted).collect();
        self.say(&format!("$ logctl {}", typed.join(" ")))?;
        let failed = |source| CtlError::File { what: "cannot run logctl".to_owned(), source };
        let mut command = tokio::process::Command::new(std::env::current_exe().map_err(failed)?);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("LOGCTL_") {
                command.env_remove(key);
            }
        }
        let output = command
            .args(args)
            .env("LOGCTL_HOME", self.home.folder())
            .env("LOGCTL_OUTPUT", "table")
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(WITHIN, output)
            .await
            .map_err(|_| CtlError::refused(7, "logctl does not come back", "logctl demo -v"))?
            .map_err(failed)?;
        // The advice after a success is for people who type; here the next step follows anyway.
        let advice = if output.status.success() { &[][..] } else { &output.stderr };
        for text in [&output.stdout, advice] {
            for line in String::from_utf8_lossy(text).lines() {
                self.say(format!("  {line}").trim_end())?;
            }
        }
        let code = output.status.code();
        let fits = code.is_some_and(|code| codes.contains(&code));
        let what =
            format!("logctl {} ends with exit code {codes:?}, not {code:?}", typed.join(" "));
        self.claim(fits, &what)
    }

    fn session(&self, who: &str, via: Option<&str>) -> Result<Session, CtlError> {
        let who = name(who)?;
        let via = via.map(name).transpose()?;
        let (who, context) = context::choose(&self.home, Some(&who))?;
        Session::with(&self.globals, &self.home, &who, context, via.as_ref())
    }

    async fn read_all(&self, who: &str, via: Option<&str>) -> Result<Vec<Record>, CtlError> {
        let session = self.session(who, via)?;
        let mut records = Vec::new();
        let mut read = wire::Read::default();
        loop {
            let (_, reply) = session.call(Op::Read(read.clone())).await?;
            let Reply::Page(page) = reply else { return Err(CtlError::strange("no page")) };
            records.extend(page.records);
            if page.end || page.next == read.after {
                break;
            }
            read.after = page.next;
        }
        session.close().await;
        Ok(records)
    }

    async fn status(&self) -> Result<StatusView, CtlError> {
        let session = self.session("admin", None)?;
        let answer = session.call(Op::Status(Empty {})).await;
        session.close().await;
        match answer? {
            (_, Reply::Status(status)) => Ok(status.into()),
            _ => Err(CtlError::strange("no status")),
        }
    }

    /// Asks until the cluster is as wanted; a node that ended is an error at once.
    async fn wait_for(
        &mut self,
        what: &str,
        wanted: impl Fn(&StatusView) -> bool,
    ) -> Result<StatusView, CtlError> {
        let give_up = Instant::now() + WITHIN;
        loop {
            self.cluster.check_alive()?;
            let last = match timeout(Duration::from_secs(2), self.status()).await {
                Ok(Ok(status)) if wanted(&status) => return Ok(status),
                Ok(Ok(status)) => status.problems().join("; "),
                Ok(Err(error)) => error.line(),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() > give_up {
                return Err(CtlError::refused(
                    7,
                    format!("waited {} s for {what}: {last}", WITHIN.as_secs()),
                    "logctl demo -v",
                ));
            }
            sleep(POLL_EVERY).await;
        }
    }
}

/// Sends one message after the other, asks for the kill on the way, and goes on until enough have
/// got through after it.
async fn send_on(alice: &Session, kill: &Notify) -> Result<Failover, CtlError> {
    let mut failover = Failover { acked: BTreeMap::new(), gap: Duration::ZERO };
    for n in 1..=SENDS_BEFORE + SENDS_AFTER {
        if n == SENDS_BEFORE {
            kill.notify_one();
        }
        let id = uuid::Uuid::now_v7().to_string();
        let body = format!("message {n}").into_bytes().into();
        let send = wire::Send { to: "bob".to_owned(), id, body, ..wire::Send::default() };
        let asked = Instant::now();
        match alice.call(Op::Send(send)).await {
            Ok((_, Reply::Ack(ack))) => failover.acked.insert(ack.id, ack.seq),
            Ok(_) => return Err(CtlError::strange("no acknowledgement")),
            Err(error) => {
                // Nobody would be left to kill for.
                kill.notify_one();
                return Err(error);
            }
        };
        failover.gap = failover.gap.max(asked.elapsed());
    }
    Ok(failover)
}

/// Acknowledged messages that are not among the records at their place, and records that stand
/// there twice.
fn compare(failover: &Failover, records: &[Record]) -> (usize, usize) {
    let mut seen: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for record in records {
        seen.entry(&record.id).or_default().push(record.seq);
    }
    let missing = |(id, seq): &(&String, &u64)| {
        !seen.get(id.as_str()).is_some_and(|places| places.contains(seq))
    };
    let lost = failover.acked.iter().filter(missing).count();
    (lost, seen.values().filter(|places| places.len() > 1).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, seq: u64) -> Record {
        Record { id: id.to_owned(), seq, ..Record::default() }
    }

    #[test]
    fn lost_and_doubled_messages_are_counted() {
        let acked = [("a".to_owned(), 1), ("b".to_owned(), 2), ("c".to_owned(), 3)].into();
        let failover = Failover { acked, gap: Duration::ZERO };
        let good = [record("a", 1), record("b", 2), record("c", 3), record("other", 4)];
        assert_eq!(compare(&failover, &good), (0, 0));
        let bad = [record("a", 1), record("a", 2), record("c", 9)];
        assert_eq!(compare(&failover, &bad), (2, 1));
    }
}
