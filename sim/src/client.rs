//! Senders and readers, and what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use log::memory::Random;
use net::ClientError;
use parking_lot::Mutex;
use proto::wire::{Empty, Op, Page, Position, Read, Reply, Request, Response, Send};
use proto::{ErrorCode, Executed, Failure, Record};
use tests::freshness::Seen;
use tests::history::{Attempt, History, Outcome};
use tokio::time::Instant;

use crate::cluster::{Cluster, Who};
use crate::machine::{Machine, pick};
use crate::note;
use crate::trace::Trace;

/// Time for one request.
const DEADLINE: Duration = Duration::from_secs(2);
/// Records of a page of whoever reads everything: few, so that a run goes over many pages.
const PAGE: u64 = 40;
/// Messages that a client sends at once, at most.
const BURST: u64 = 8;
/// How often somebody reads from a node that stands still.
const ASKED_OFTEN: usize = 8;
/// How often a send of unknown outcome is sent again under its id.
const TRIES: usize = 4;

/// What all clients of a run share.
#[derive(Clone)]
pub struct Clients {
    /// Those that clients go to: of members.
    machines: Arc<Mutex<Vec<Arc<Machine>>>>,
    cluster: Arc<Cluster>,
    trace: Trace,
    stop: Arc<AtomicBool>,
    highest: Arc<AtomicU64>,
    history: Arc<Mutex<History>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Clients {
    /// Clients that know no machine yet, none of them at work.
    #[must_use]
    pub fn new(cluster: &Arc<Cluster>, trace: &Trace) -> Self {
        Self {
            machines: Arc::default(),
            cluster: Arc::clone(cluster),
            trace: trace.clone(),
            stop: Arc::default(),
            highest: Arc::default(),
            history: Arc::default(),
            seen: Arc::default(),
        }
    }

    /// Tells all of them which machines there are.
    pub fn go_to(&self, machines: Vec<Arc<Machine>>) {
        *self.machines.lock() = machines;
    }

    /// One of the machines, if there is any.
    fn any(&self, random: &mut Random) -> Option<Arc<Machine>> {
        pick(random, &self.machines.lock()).cloned()
    }

    /// Tells all of them to end after what they are about.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What every send was told.
    #[must_use]
    pub fn history(&self) -> History {
        self.history.lock().clone()
    }

    /// What every read showed.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks one node. What a node that dies meanwhile has done is unknown.
    pub async fn ask(&self, who: Who, machine: &Machine, op: Op) -> Result<Response, ClientError> {
        self.ask_within(who, machine, op, DEADLINE).await
    }

    /// Asks one node, which is told how long it may take.
    async fn ask_within(
        &self,
        who: Who,
        machine: &Machine,
        op: Op,
        deadline: Duration,
    ) -> Result<Response, ClientError> {
        let down = || {
            let message = "nobody listens there";
            ClientError::Failure(Failure::new(ErrorCode::Stopping, message))
        };
        let process = machine.process().ok_or_else(down)?;
        let principal = self.cluster.principal(who, &machine.name);
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        let request = Request { op: Some(op), deadline_ms, ..Request::default() };
        let answer = process.pause.within(process.running.request(&principal, request));
        let answer = process.died.run_until_cancelled(answer);
        match tokio::time::timeout(deadline + DEADLINE, answer).await {
            Ok(Some(response)) => answer_of(response),
            Ok(None) => Err(unknown("the node died")),
            Err(_) => Err(unknown("no answer")),
        }
    }

    /// Registers a client, through this node.
    ///
    /// # Errors
    /// When that is not known to be done.
    pub async fn register(&self, number: u8, machine: &Machine) -> Result<(), ClientError> {
        let register = self.cluster.register(number);
        self.ask(Who::Admin, machine, Op::Register(register)).await.map(drop)
    }

    /// Sends one message after the other.
    pub async fn send(self, who: Who, mut random: Random) {
        let mut count = 0;
        while !self.stopped() {
            // Mostly one, now and then some at once, on one stream or each by itself.
            let at_once = if random.percent(85) { 1 } else { 1 + random.below(BURST) };
            // Others use the same ids.
            let ids: Vec<_> = (1..=at_once).map(|nth| format!("m{}", count + nth)).collect();
            count += at_once;
            let together = at_once > 1 && random.percent(60);
            let begun = match together {
                true => self.send_together(who, &ids, &mut random).await,
                false => ids.iter().map(|_| Begun::now()).collect(),
            };
            let sends = ids.iter().zip(begun).map(|(id, begun)| {
                let (this, mut random) = (&self, Random::new(random.draw()));
                async move { this.send_surely(who, id, begun, &mut random).await }
            });
            futures::future::join_all(sends.collect::<Vec<_>>()).await;
            self.rest(&mut random, 60).await;
        }
    }

    /// Sends a message until it is acknowledged or that was tried often enough, through any node; now
    /// and then once more. To the history it is one send, from the first call on.
    async fn send_surely(&self, who: Who, id: &str, begun: Begun, random: &mut Random) {
        let Begun { invoked, mut last } = begun;
        if let Some(acked @ Outcome::Acked { .. }) = last {
            return self.note(who, id, invoked, acked);
        }
        // Some are in a hurry, and some try once.
        let deadline = match random.percent(70) {
            true => DEADLINE,
            false => Duration::from_millis(100 + random.below(900)),
        };
        let tries = if random.percent(75) { TRIES } else { 1 };
        for _ in 0..tries {
            let Some(machine) = self.any(random) else { return };
            let outcome = self.send_once(who, &machine, id, deadline).await;
            match &outcome {
                Outcome::Acked { .. } => {
                    self.note(who, id, invoked, outcome);
                    if random.percent(90) {
                        return;
                    }
                }
                // What was unknown once may have been done, whatever is said later.
                Outcome::Unknown(_) => last = Some(outcome),
                Outcome::Refused(_) => {
                    last.get_or_insert(outcome);
                }
            }
            self.rest(random, 200).await;
        }
        if let Some(outcome) = last {
            self.note(who, id, invoked, outcome);
        }
    }

    /// Sends messages at once, on one stream of one node; gives what became of each.
    async fn send_together(&self, who: Who, ids: &[String], random: &mut Random) -> Vec<Begun> {
        let mut all: Vec<_> = ids.iter().map(|_| Begun::now()).collect();
        let Some(machine) = self.any(random) else { return all };
        let Some(process) = machine.process() else { return all };
        let principal = self.cluster.principal(who, &machine.name);
        let deadline_ms = u32::try_from(DEADLINE.as_millis()).unwrap_or(u32::MAX);
        let request = |id: &String| Request {
            op: Some(Op::Send(message(id))),
            deadline_ms,
            ..Request::default()
        };
        let requests = ids.iter().map(request).collect();
        let answers = process.pause.within(process.running.requests(&principal, requests));
        let answers = process.died.run_until_cancelled(answers);
        let answers = tokio::time::timeout(DEADLINE * 2, answers).await.ok().flatten();
        let mut answers = answers.unwrap_or_default().into_iter();
        let name = self.cluster.name(who);
        for (id, begun) in ids.iter().zip(&mut all) {
            let outcome = Outcome::of(match answers.next().map(answer_of) {
                Some(answer) => answer,
                None => Err(unknown("the stream broke")),
            });
            note!(self.trace, "{name}/{id} with others at {}: {}", machine.name, short(&outcome));
            begun.last = Some(outcome);
        }
        all
    }

    /// Sends a message, through one node.
    async fn send_once(
        &self,
        who: Who,
        machine: &Machine,
        id: &str,
        deadline: Duration,
    ) -> Outcome {
        let send = Op::Send(message(id));
        let outcome = Outcome::of(self.ask_within(who, machine, send, deadline).await);
        let name = self.cluster.name(who);
        note!(self.trace, "{name}/{id} at {}: {}", machine.name, short(&outcome));
        outcome
    }

    fn note(&self, who: Who, id: &str, invoked: std::time::Instant, outcome: Outcome) {
        if let Outcome::Acked { seq, .. } = &outcome {
            self.highest.fetch_max(*seq, Ordering::SeqCst);
        }
        let id = id_of(self.cluster.name(who).as_str(), id);
        let completed = Instant::now().into_std();
        self.history.lock().attempts.push(Attempt { id, invoked, completed, outcome });
    }

    /// Reads from the end, again and again, through any node.
    pub async fn read(self, mut random: Random) {
        while !self.stopped() {
            let Some(machine) = self.any(&mut random) else { return };
            self.read_once(&machine).await;
            self.rest(&mut random, 150).await;
        }
    }

    /// Reads from the end through one node, some times, whether it has answered or not.
    pub async fn ask_often(self, machine: Arc<Machine>, mut random: Random) {
        for _ in 0..ASKED_OFTEN {
            self.rest(&mut random, 800).await;
            let (this, machine) = (self.clone(), Arc::clone(&machine));
            drop(tokio::spawn(async move { this.read_once(&machine).await }));
        }
    }

    async fn read_once(&self, machine: &Machine) {
        let acked = self.highest.load(Ordering::SeqCst);
        if let Some(last) = self.last_from(machine, acked).await {
            note!(self.trace, "read at {}: {last} after {acked}", machine.name);
            self.seen.lock().push(Seen { node: machine.name.to_string(), acked, last });
        }
    }

    /// Compacts a node now and then.
    pub async fn compact(self, mut random: Random) {
        while !self.stopped() {
            self.rest(&mut random, 2_000).await;
            let Some(machine) = self.any(&mut random) else { return };
            let done = self.ask(Who::Admin, &machine, Op::Compact(Empty {})).await.is_ok();
            note!(self.trace, "compacted {}: {done}", machine.name);
        }
    }

    async fn rest(&self, random: &mut Random, most_ms: u64) {
        tokio::time::sleep(Duration::from_millis(1 + random.below(most_ms))).await;
    }

    /// The highest number that a fresh read finds from `acked` on; 0 if it finds nothing there.
    async fn last_from(&self, machine: &Machine, acked: u64) -> Option<u64> {
        let page = self.page(machine, "", acked.saturating_sub(1), 0).await.ok()?;
        Some(page.records.last().map_or(0, |record| record.seq))
    }

    /// A page of fresh records to somebody, behind a number; so many at most, 0 for what a page holds.
    async fn page(
        &self,
        machine: &Machine,
        to: &str,
        after: u64,
        limit: u64,
    ) -> Result<Page, ClientError> {
        let after = vec![Position { shard: 1, seq: after }];
        let read = Read { after, to: to.to_owned(), limit, ..Read::default() };
        match self.ask(Who::Admin, machine, Op::Read(read)).await?.reply {
            Some(Reply::Page(page)) => Ok(page),
            other => Err(unknown(&format!("not a page: {other:?}"))),
        }
    }

    /// Reads to the end; gives the records, and how far that was.
    async fn to_end(&self, machine: &Machine, to: &str) -> Result<(Vec<Record>, u64), ClientError> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = self.page(machine, to, after, PAGE).await?;
            let full = page.records.len() as u64 == PAGE;
            all.extend(page.records.into_iter().map(named));
            after = page.next.first().map_or(after, |next| next.seq);
            // One that is full ends by its own limit.
            if page.end && !full {
                return Ok((all, after));
            }
        }
    }

    /// All records of a node, events too, read fresh through it, and up to which number.
    ///
    /// # Errors
    /// When a page cannot be had.
    pub async fn records(&self, machine: &Machine) -> Result<(Vec<Record>, u64), ClientError> {
        let (mut all, end) = self.to_end(machine, "").await?;
        // Events that came meanwhile stand behind the end.
        all.extend(self.to_end(machine, "$events").await?.0);
        all.retain(|record| record.seq <= end);
        all.sort_by_key(|record| record.seq);
        Ok((all, end))
    }
}

/// A send that has begun: since when, and what the last call came to.
struct Begun {
    invoked: std::time::Instant,
    last: Option<Outcome>,
}

impl Begun {
    fn now() -> Self {
        Self { invoked: Instant::now().into_std(), last: None }
    }
}

/// A message. Equal for all who use the id, so that nothing but the sender tells them apart.
fn message(id: &str) -> Send {
    let body = format!("body of {id}");
    Send { to: "*".to_owned(), id: id.to_owned(), body: body.into(), ..Send::default() }
}

/// An answer, or the failure that it is.
fn answer_of(response: Response) -> Result<Response, ClientError> {
    match response.reply {
        Some(Reply::Failure(failure)) => Err(ClientError::Failure(failure)),
        _ => Ok(response),
    }
}

/// What tells a message from all others in a history: ids are the senders' own.
fn id_of(sender: &str, id: &str) -> String {
    format!("{sender}/{id}")
}

fn named(record: Record) -> Record {
    let id = id_of(&record.from, &record.id);
    Record { id, ..record }
}

fn unknown(why: &str) -> ClientError {
    let failure = Failure::new(ErrorCode::Unknown, why);
    debug_assert_eq!(failure.error_code().executed(), Executed::Unknown, "nobody knows");
    ClientError::Failure(failure)
}

/// An outcome in a line of the trace.
fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Acked { seq, duplicate: false, .. } => format!("acked as {seq}"),
        Outcome::Acked { seq, duplicate: true, .. } => format!("acked before as {seq}"),
        Outcome::Unknown(why) => format!("unknown ({why})"),
        Outcome::Refused(why) => format!("refused ({why})"),
    }
}
