//! What the service manager is told: ready, how it goes, reloading, stopping, still alive.
//!
//! Under anything but systemd every call is silent. A message that cannot be sent is logged and
//! otherwise ignored: the manager has its own time limits, and a daemon that serves must not stop
//! because nobody listens.
//!
//! Not here: when a node counts as ready (`node`).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// Speaks to the service manager. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    /// The last status, so that an unchanged one is not sent again.
    status: Arc<Mutex<String>>,
    /// Whether the manager was told that the node can serve.
    ready: Arc<AtomicBool>,
}

impl Notifier {
    /// A notifier for this process.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The node can serve.
    pub fn ready(&self) {
        self.ready.store(true, Ordering::Release);
        send(&[NotifyState::Ready]);
    }

    /// Whether a manager waits for this process to be ready.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        let manager = std::env::var_os("NOTIFY_SOCKET").is_some();
        manager && !self.ready.load(Ordering::Acquire)
    }

    /// What `systemctl status` shows: one line. Sent only when it changed.
    pub fn status(&self, line: &str) {
        let mut last = self.status.lock();
        if *last != line {
            line.clone_into(&mut last);
            send(&[NotifyState::Status(line)]);
        }
    }

    /// A reload begins; [`Notifier::reloaded`] ends it. Both parts travel in one datagram: newer
    /// managers take a reload without its time for one that never began.
    pub fn reloading(&self) {
        if !self.ready.load(Ordering::Acquire) {
            return;
        }
        match NotifyState::monotonic_usec_now() {
            Ok(now) => send(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "cannot tell the service manager of a reload"),
        }
    }

    /// The reload is over. Says nothing while the node is still starting: the end of a reload is
    /// the same message as ready, and a node that cannot serve yet must not send it.
    pub fn reloaded(&self) {
        if self.ready.load(Ordering::Acquire) {
            send(&[NotifyState::Ready]);
        }
    }

    /// The node begins to stop.
    pub fn stopping(&self) {
        send(&[NotifyState::Stopping]);
    }

    /// The start or stop takes longer than usual: the manager shall wait this much more.
    pub fn extend_timeout(&self, more: Duration) {
        send(&[NotifyState::ExtendTimeoutUsec(
            u32::try_from(more.as_micros()).unwrap_or(u32::MAX),
        )]);
    }

    /// Feeds the watchdog until `stop`, as long as `progress` says that the node still gets on. It
    /// is asked three times per watchdog period, and answers why not if nothing has moved since it
    /// was last asked; then the watchdog starves and the manager starts the node anew.
    ///
    /// Returns at once when the manager keeps no watchdog over this process.
    pub async fn watchdog(
        &self,
        mut progress: impl FnMut() -> Result<(), String>,
        stop: CancellationToken,
    ) {
        let Some(period) = sd_notify::watchdog_enabled() else { return };
        let mut ticks = tokio::time::interval((period / 3).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Once it is to stop it says nothing more, although a tick is due, too.
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match progress() {
                Ok(()) => send(&[NotifyState::Watchdog]),
                Err(why) => tracing::error!(why, "no progress: the watchdog is not fed"),
            }
        }
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        let socket = std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from);
        tracing::warn!(%error, ?socket, "cannot tell the service manager");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    /// Runs only as the child of the test below, which gives it a socket.
    #[tokio::test]
    async fn child_speaks() {
        if std::env::var_os("LOGD_TEST_NOTIFY").is_none() {
            return;
        }
        let notifier = Notifier::new();
        notifier.status("backup of n1");
        notifier.status("backup of n1");
        notifier.reloading();
        notifier.reloaded();
        notifier.ready();
        notifier.reloading();
        notifier.reloaded();
        notifier.extend_timeout(Duration::from_secs(2));
        let stop = CancellationToken::new();
        let mut asked = 0;
        let ending = stop.clone();
        let progress = move || {
            asked += 1;
            if asked == 3 {
                ending.cancel();
            }
            if asked == 2 { Err("the writer stands still".to_owned()) } else { Ok(()) }
        };
        notifier.watchdog(progress, stop).await;
        notifier.stopping();
    }

    #[test]
    fn the_manager_hears_what_it_needs_in_the_datagrams_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "notify::tests::child_speaks"])
            .env("LOGD_TEST_NOTIFY", "1")
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "3000")
            .env_remove("WATCHDOG_PID")
            .output()
            .unwrap();
        assert!(status.status.success(), "{status:?}");
        socket.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0; 512];
        while let Ok(len) = socket.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..len]).into_owned());
        }
        let reload = heard.iter().position(|text| text.starts_with("RELOADING=1\n")).unwrap();
        let time = heard.remove(reload);
        assert!(heard[..reload].contains(&"READY=1\n".to_owned()), "a reload before ready");
        assert!(time.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{time}");
        let want = [
            "STATUS=backup of n1\n",
            "READY=1\n",
            "READY=1\n",
            "EXTEND_TIMEOUT_USEC=2000000\n",
            "WATCHDOG=1\n",
            "WATCHDOG=1\n",
            "STOPPING=1\n",
        ];
        assert_eq!(heard, want);
    }
}
