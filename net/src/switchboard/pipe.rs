//! One direction of a stream over a switchboard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::line::Line;
use super::{Heard, Passing};
use crate::LinkError;

/// Frames that one direction of a stream holds.
const PIPE_FRAMES: usize = 64;

/// One direction of a stream.
pub(super) fn pipe(
    line: &Arc<Line>,
    (from, to): (&str, &str),
    passing: Passing,
) -> (PipeTx, PipeRx) {
    let (tx, rx) = mpsc::channel(PIPE_FRAMES);
    let (reads, read) = mpsc::channel(1);
    let end = || End {
        line: Arc::clone(line),
        changes: line.changes(),
        way: (from.to_owned(), to.to_owned()),
        aborted: Arc::default(),
    };
    let (sender, mut receiver) = (end(), end());
    receiver.aborted = Arc::clone(&sender.aborted);
    (
        PipeTx { end: sender, passing, frames: Some(tx), reads },
        PipeRx { end: receiver, frames: rx, held: None, reads: Some(read) },
    )
}

/// What both ends of a pipe know.
#[derive(Debug)]
struct End {
    line: Arc<Line>,
    changes: watch::Receiver<u64>,
    way: (String, String),
    aborted: Arc<AtomicBool>,
}

impl End {
    fn check(&self) -> Result<(), LinkError> {
        self.line.check()?;
        if self.aborted.load(Ordering::Acquire) {
            return Err(LinkError::Lost("the stream was reset".to_owned()));
        }
        Ok(())
    }

    /// Completes when the wires change in any way.
    async fn changed(&mut self) {
        // The sender lives in the board, which the line holds.
        drop(self.changes.changed().await);
    }
}

/// The sending half of a pipe.
#[derive(Debug)]
pub(crate) struct PipeTx {
    end: End,
    passing: Passing,
    frames: Option<mpsc::Sender<(Instant, Bytes)>>,
    /// Open as long as the other side reads.
    reads: mpsc::Sender<()>,
}

impl PipeTx {
    pub(crate) async fn send(&mut self, frame: Bytes) -> Result<(), LinkError> {
        let lost = || LinkError::Lost("the other side stopped reading".to_owned());
        self.end.check()?;
        let Some(frames) = &self.frames else { return Err(lost()) };
        let delay = self.end.line.delay(&self.end.way, self.passing.lane);
        let place = loop {
            tokio::select! {
                place = frames.reserve() => break place,
                _ = self.end.changes.changed() => {}
            }
            self.end.check()?;
        };
        let place = place.map_err(|_| lost())?;
        let (from, to) = &self.end.way;
        self.end.line.heard(&Heard { passing: self.passing, from, to, frame: &frame });
        place.send((Instant::now() + delay, frame));
        Ok(())
    }

    pub(crate) fn finish(&mut self) {
        self.frames = None;
    }

    pub(crate) fn abort(&mut self) {
        self.end.aborted.store(true, Ordering::Release);
        self.frames = None;
    }

    /// Completes when the other side has read everything, or reads no more.
    pub(crate) async fn stopped(&self) {
        let mut changes = self.end.line.changes();
        while self.end.check().is_ok() {
            tokio::select! {
                () = self.reads.closed() => return,
                _ = changes.changed() => {}
            }
        }
    }
}

/// The receiving half of a pipe.
#[derive(Debug)]
pub(crate) struct PipeRx {
    end: End,
    frames: mpsc::Receiver<(Instant, Bytes)>,
    /// A frame that has arrived but may not be seen yet; kept here so that `recv` can be cancelled.
    held: Option<(Instant, Bytes)>,
    /// `None` once everything is read.
    reads: Option<mpsc::Receiver<()>>,
}

impl PipeRx {
    pub(crate) async fn recv(&mut self) -> Result<Option<Bytes>, LinkError> {
        loop {
            self.end.check()?;
            if self.end.line.is_cut(&self.end.way) {
                if timeout(self.end.line.patience(), self.end.changed()).await.is_err() {
                    self.end.line.close("no answer");
                    return Err(LinkError::Lost("no answer".to_owned()));
                }
            } else if let Some((_, frame)) = self.held.take_if(|(due, _)| *due <= Instant::now()) {
                return Ok(Some(frame));
            } else if let Some((due, _)) = self.held {
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.end.changed() => {}
                }
            } else {
                tokio::select! {
                    frame = self.frames.recv() => match frame {
                        Some(frame) => self.held = Some(frame),
                        None => {
                            self.end.check()?;
                            self.reads = None;
                            return Ok(None);
                        }
                    },
                    () = self.end.changed() => {}
                }
            }
        }
    }
}
