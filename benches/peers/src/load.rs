//! A closed loop: so many workers, each with one request in flight.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::figures::{Figures, Tally};
use crate::systems::Clients;

/// How they ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    /// Tells its messages from those of other levels.
    pub(crate) series: usize,
    pub(crate) in_flight: usize,
    /// Time that counts.
    pub(crate) window: Duration,
    /// Time before it.
    pub(crate) ramp: Duration,
}

/// What they did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) figures: Figures,
    /// Requests in all, ramp-up included.
    pub(crate) all: u64,
}

/// Runs one level.
///
/// # Errors
/// When a worker died.
pub(crate) async fn run(clients: &Clients, level: Level, body: usize) -> anyhow::Result<Done> {
    let begin = Instant::now() + level.ramp;
    let workers = (0..level.in_flight).map(|worker| {
        let clients = clients.clone();
        tokio::spawn(async move { work(&clients, level, worker, begin, body).await })
    });
    let workers: Vec<_> = workers.collect();
    let (mut tally, mut all) = (Tally::new()?, 0);
    for worker in workers {
        let (own, count) = worker.await??;
        tally.add(&own)?;
        all += count;
    }
    Ok(Done { figures: tally.figures(level.window), all })
}

async fn work(
    clients: &Clients,
    level: Level,
    worker: usize,
    begin: Instant,
    body: usize,
) -> anyhow::Result<(Tally, u64)> {
    let end = begin + level.window;
    let (mut tally, mut number) = (Tally::new()?, 0);
    loop {
        let id = format!("{}-{worker}-{number}", level.series);
        let bytes: Bytes = id.bytes().chain([b'.']).cycle().take(body).collect();
        let began = Instant::now();
        if began >= end {
            return Ok((tally, number));
        }
        let answer = clients.send(worker, id, bytes).await;
        let ended = Instant::now();
        number += 1;
        match answer {
            Ok(()) if began >= begin => tally.note(ended - began, ended < end),
            Ok(()) if ended >= begin => tally.note_end(),
            Ok(()) => {}
            Err(error) => tally.fail(format!("{error:#}")),
        }
    }
}
