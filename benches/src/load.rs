//! Requests in a closed loop.

use std::time::{Duration, Instant};

use net::{Client, ClientError};
use proto::wire::{Op, Reply, Send};

use crate::cluster::RECEIVER;
use crate::figures::{Figures, Tally};

/// Bytes of every body.
pub(crate) const BODY_BYTES: usize = 256;

/// What the workers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// An answer and nothing else.
    Ping,
    /// To store a message.
    Send,
}

/// How they ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    /// Tells its messages from those of other levels.
    pub(crate) number: usize,
    /// Workers, each with one request in flight.
    pub(crate) in_flight: usize,
    /// Time that counts.
    pub(crate) window: Duration,
    /// Time before it.
    pub(crate) ramp: Duration,
}

/// What became of one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Stored under this number.
    Acked(u64),
    /// Refused: it must not be there.
    Refused,
    /// Nobody could say.
    Unknown,
}

/// What all workers did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) figures: Figures,
    /// What they are made of.
    pub(crate) tally: Tally,
    /// For each worker, the fates of its sends in the order of their numbers, ramp-up included.
    pub(crate) all: Vec<Vec<Fate>>,
    /// When each that was done well was answered, ramp-up included, in no order.
    pub(crate) ends: Vec<Instant>,
}

/// Name of a message: level, worker, number.
pub(crate) fn id(level: usize, worker: usize, number: usize) -> String {
    format!("{level}-{worker}-{number}")
}

/// Its body: the name over and over, so that no two are alike.
pub(crate) fn body(id: &str) -> Vec<u8> {
    id.bytes().chain([b'.']).cycle().take(BODY_BYTES).collect()
}

/// Runs one level; workers are spread over the clients.
///
/// # Errors
/// When no connection can be made, or a worker died.
pub(crate) async fn run(clients: &[Client], level: Level, work: Work) -> anyhow::Result<Done> {
    for client in clients {
        client.call(Op::Ping(Default::default())).await?;
    }
    let begin = Instant::now() + level.ramp;
    let workers = (0..level.in_flight).zip(clients.iter().cycle());
    let workers: Vec<_> = workers
        .map(|(worker, client)| {
            let loop_ = Loop { client: client.clone(), level, worker, begin, work };
            tokio::spawn(loop_.run())
        })
        .collect();
    let (mut tally, mut all, mut ends) = (Tally::new()?, Vec::new(), Vec::new());
    for worker in workers {
        let (own, fates, ended) = worker.await??;
        tally.add(&own)?;
        all.push(fates);
        ends.extend(ended);
    }
    Ok(Done { figures: tally.figures(level.window), tally, all, ends })
}

/// One worker.
struct Loop {
    client: Client,
    level: Level,
    worker: usize,
    begin: Instant,
    work: Work,
}

impl Loop {
    async fn run(self) -> anyhow::Result<(Tally, Vec<Fate>, Vec<Instant>)> {
        let end = self.begin + self.level.window;
        let (mut tally, mut fates, mut ends) = (Tally::new()?, Vec::new(), Vec::new());
        loop {
            let op = self.op(fates.len());
            let began = Instant::now();
            if began >= end {
                return Ok((tally, fates, ends));
            }
            let answer = self.client.call(op).await;
            let ended = Instant::now();
            let counts = began >= self.begin;
            let in_window = ended >= self.begin && ended < end;
            match self.judge(answer.map(|answer| answer.reply)) {
                Ok(fate) => {
                    fates.extend(fate);
                    ends.push(ended);
                    if counts {
                        tally.note(ended - began, in_window);
                    } else if in_window {
                        tally.note_end();
                    }
                }
                Err((fate, why)) => {
                    fates.push(fate);
                    // An error while it runs up is an error too.
                    tally.fail(why);
                }
            }
        }
    }

    fn op(&self, number: usize) -> Op {
        match self.work {
            Work::Ping => Op::Ping(Default::default()),
            Work::Send => {
                let id = id(self.level.number, self.worker, number);
                let body = body(&id).into();
                Op::Send(Send {
                    to: RECEIVER.to_owned(),
                    id,
                    headers: Vec::new(),
                    body,
                    commit_wait: false,
                })
            }
        }
    }

    /// The fate of a send, none for a ping; or why it was not done.
    fn judge(
        &self,
        answer: Result<Option<Reply>, ClientError>,
    ) -> Result<Option<Fate>, (Fate, String)> {
        match (self.work, answer) {
            (Work::Ping, Ok(Some(Reply::Pong(_)))) => Ok(None),
            (Work::Send, Ok(Some(Reply::Ack(ack)))) => Ok(Some(Fate::Acked(ack.seq))),
            (_, Ok(other)) => Err((Fate::Unknown, format!("an unfit answer: {other:?}"))),
            (_, Err(ClientError::Failure(failure))) => {
                let code = failure.error_code();
                let fate = match code.executed() {
                    proto::Executed::No => Fate::Refused,
                    proto::Executed::Unknown => Fate::Unknown,
                };
                Err((fate, format!("{code:?}")))
            }
            (_, Err(error)) => Err((Fate::Unknown, error.to_string())),
        }
    }
}
