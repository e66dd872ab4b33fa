//! A connection between two nodes of a switchboard: all streams that one of them has opened to the other
//! since it dialled. It breaks as a whole, as QUIC's do.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use proto::peer::Hello;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;

use super::pipe::{PipeRx, PipeTx};
use super::{Board, Heard};
use crate::{FrameRx, FrameTx, Lane, LinkError, PeerStream};

/// A connection.
#[derive(Debug)]
pub(crate) struct Line {
    board: Arc<Board>,
    ends: (String, String),
    /// Resets of this pair when it was made.
    resets: u64,
    closed: OnceLock<String>,
}

/// A stream on its way to the called side.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) lane: Lane,
    pub(super) tx: PipeTx,
    pub(super) rx: PipeRx,
}

impl Line {
    pub(super) fn new(board: &Arc<Board>, from: &str, to: &str) -> Arc<Self> {
        let (board, ends) = (Arc::clone(board), (from.to_owned(), to.to_owned()));
        let resets = board.lock().resets_of(from, to);
        Arc::new(Self { board, ends, resets, closed: OnceLock::new() })
    }

    /// Whether it stands.
    pub(super) fn check(&self) -> Result<(), LinkError> {
        if let Some(reason) = self.closed.get() {
            return Err(LinkError::Lost(reason.clone()));
        }
        let (from, to) = &self.ends;
        if self.board.lock().resets_of(from, to) != self.resets {
            return Err(LinkError::Lost("the stream was reset".to_owned()));
        }
        Ok(())
    }

    /// Breaks it; the first reason stays.
    pub(super) fn close(&self, reason: &str) {
        if self.closed.set(reason.to_owned()).is_ok() {
            self.board.change(|_| {});
        }
    }

    /// Counts changes of the wires.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.board.changes.subscribe()
    }

    pub(super) fn is_cut(&self, way: &(String, String)) -> bool {
        self.board.lock().cut.contains(way)
    }

    pub(super) fn delay(&self, (from, to): &(String, String), lane: Lane) -> Duration {
        self.board.lock().delay_of(from, to, lane)
    }

    /// Tells whoever listens.
    pub(super) fn heard(&self, heard: &Heard<'_>) {
        if let Some(listener) = self.board.listener.get() {
            (listener.0)(heard);
        }
    }

    pub(super) fn patience(&self) -> Duration {
        self.board.patience
    }

    /// Whether nothing passes in one of the directions.
    fn is_cut_somewhere(&self) -> bool {
        let (from, to) = self.ends.clone();
        self.is_cut(&(from.clone(), to.clone())) || self.is_cut(&(to, from))
    }
}

/// The called end of a connection. Dropping it ends the connection.
#[derive(Debug)]
pub(crate) struct Called {
    line: Arc<Line>,
    streams: Mutex<mpsc::Receiver<Stream>>,
}

impl Called {
    pub(super) fn new(line: Arc<Line>, streams: mpsc::Receiver<Stream>) -> Self {
        Self { line, streams: Mutex::new(streams) }
    }

    /// The stream that the hellos pass on.
    pub(crate) async fn first(&self) -> Result<(FrameTx, FrameRx), LinkError> {
        let lost = || LinkError::Lost("the caller went away".to_owned());
        let Stream { tx, rx, .. } = self.stream().await.ok_or_else(lost)?;
        Ok((FrameTx::pipe(tx), FrameRx::pipe(rx)))
    }

    /// The next stream; `None` when the connection is over.
    pub(crate) async fn next(&self, from: &Arc<Hello>) -> Option<PeerStream> {
        let Stream { lane, tx, rx } = self.stream().await?;
        let from = Arc::clone(from);
        Some(PeerStream { from, lane, tx: FrameTx::pipe(tx), rx: FrameRx::pipe(rx) })
    }

    async fn stream(&self) -> Option<Stream> {
        let (mut streams, mut changes) = (self.streams.lock().await, self.line.changes());
        loop {
            self.line.check().ok()?;
            // A connection that nothing passes ends by itself.
            let patience = async {
                match self.line.is_cut_somewhere() {
                    true => drop(timeout(self.line.patience(), std::future::pending::<()>()).await),
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                stream = streams.recv() => return stream,
                _ = changes.changed() => {}
                () = patience => self.line.close("no answer"),
            }
        }
    }

    pub(crate) fn close(&self, reason: &str) {
        self.line.close(reason);
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        self.line.close("the other side went away");
    }
}
