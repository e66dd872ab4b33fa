//! What the process is told by signals: stop, stop now, reload.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Signals as the rest of the daemon sees them.
#[derive(Debug)]
pub struct Signals {
    /// Cancelled by the first SIGTERM or SIGINT: hand over, drain, stop.
    pub stop: CancellationToken,
    /// Cancelled by the second: end at once.
    pub abort: CancellationToken,
    /// One message per SIGHUP; several while one is being handled become one.
    pub reload: mpsc::Receiver<()>,
}

impl Signals {
    /// Begins to listen. Needs a running tokio runtime.
    ///
    /// # Errors
    /// When the system refuses to install a handler.
    pub fn listen() -> io::Result<Self> {
        let term = signal(SignalKind::terminate())?;
        let int = signal(SignalKind::interrupt())?;
        let hup = signal(SignalKind::hangup())?;
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let (reloads, reload) = mpsc::channel(1);
        tokio::spawn(relay_stops(term, int, stop.clone(), abort.clone()));
        tokio::spawn(relay_reloads(hup, reloads));
        Ok(Self { stop, abort, reload })
    }
}

async fn relay_stops(
    mut term: Signal,
    mut int: Signal,
    stop: CancellationToken,
    abort: CancellationToken,
) {
    for (token, how) in [(stop, "hand over, drain, stop"), (abort, "stop at once")] {
        let signal = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        };
        tracing::info!(signal, "asked to stop: {how}");
        token.cancel();
    }
}

async fn relay_reloads(mut hup: Signal, reloads: mpsc::Sender<()>) {
    while hup.recv().await.is_some() {
        // A full channel means that a reload is due anyway; it will see the newest files.
        if let Err(mpsc::error::TrySendError::Closed(())) = reloads.try_send(()) {
            return;
        }
    }
}
