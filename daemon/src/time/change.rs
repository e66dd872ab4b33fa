//! How the clock changes: by answers of its servers, by time alone, by a suspension of the machine, by
//! its peers.
//!
//! Invariants: whoever changes the clock holds the tracker, so views are published in their order; each
//! change is framed by [`NodeClock::before_change`] and [`NodeClock::after_change`], so the history knows how
//! large the error bound got before a change narrowed it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clock::discipline::Outcome;
use clock::poll::BURST_QUERIES;
use clock::{Answer, ClockState, Failure, Source, Tracker, Verdict};
use config::ClockMode;
use proto::event::ClockCause;
use proto::peer::NodeEvent;

use super::history::Moment;
use super::node_clock::{NodeClock, Progress, SUSPENDED_NS};
use super::report::seconds;
use super::sntp::{Queried, random_u64};

impl NodeClock {
    /// Takes what came of a query. Returns the raw counter at which to ask again, or `None` if that
    /// must not be, and whether another address should be looked for.
    pub(super) fn answered(&self, index: usize, asked: &Queried) -> (Option<u64>, bool) {
        let mut tracker = self.inner.tracker.lock();
        let raw_ns = self.raw_ns();
        self.before_change(raw_ns);
        tracker.set_own_refid(asked.own_refid());
        let outcome = tracker.answered(index, &asked.answer, raw_ns);
        self.publish(&tracker);
        let happened = match outcome {
            Outcome::Contradicted => {
                tracing::warn!("time servers contradict the clock's bounds");
                None
            }
            Outcome::Disrupted => {
                let text = "the servers contradicted the clock too often, so it was set again";
                tracing::warn!("{text}");
                Some((ClockCause::Disruption, text.to_owned()))
            }
            Outcome::Resynced => {
                tracing::info!("the clock was set after a suspension");
                None
            }
            Outcome::FirstSync | Outcome::Narrowed | Outcome::Kept | Outcome::Coasting => None,
        };
        let Some(source) = tracker.source_mut(index) else { return (None, false) };
        source.count_strays(asked.strays);
        let wait_ms = source.poll_mut().after_query(random_u64());
        let next_ns = wait_ms.map(|wait_ms| raw_ns + wait_ms * 1_000_000);
        // Where the network has no way to go, another address may be reached at once.
        let no_way = asked.answer == Answer::Failed(Failure::Network) && source.reach() == 0;
        let lost = source.is_lost() || no_way;
        self.after_change(&tracker, raw_ns, happened);
        drop(tracker);

        if let (Some(server), Some(next_ns)) = (self.inner.servers.get(index), next_ns) {
            server.ask_at(next_ns);
        }
        (next_ns, lost)
    }

    /// Another machine is asked for an entry from now on: what was said before does not count.
    pub(super) fn restart(&self, index: usize) {
        let mut tracker = self.inner.tracker.lock();
        if let Some(source) = tracker.source_mut(index) {
            source.restart();
        }
        drop(tracker);
        self.refresh();
    }

    /// The configuration was reloaded: servers that refused are asked again.
    pub fn reload(&self) {
        let mut tracker = self.inner.tracker.lock();
        for index in 0..self.inner.servers.iter().len() {
            if let Some(source) = tracker.source_mut(index) {
                source.poll_mut().enable();
            }
        }
        drop(tracker);
        self.inner.servers.reload();
    }

    /// Somebody set the operating system's clock by so many nanoseconds. Nothing follows from it.
    pub(super) fn os_stepped(&self, by_ns: i64) {
        let way = if by_ns > 0 { "forward" } else { "back" };
        let by = seconds(by_ns.unsigned_abs());
        let text =
            format!("the operating system's clock was set {way} by {by}: logd does not follow");
        tracing::warn!("{text}");
        self.note(ClockCause::OsStep, text);
    }

    /// The peers' verdict: a sentence that says why they overrule this clock, or `None` if they do
    /// not. It is written to the history. Changes nothing in local mode.
    pub fn set_fenced(&self, why: Option<String>) {
        let inner = &self.inner;
        if inner.mode == ClockMode::Local {
            return;
        }
        let tracker = inner.tracker.lock();
        let before = inner.fenced.load_full();
        if before.as_deref() == why.as_ref() {
            return;
        }
        let happened = match (&before, &why) {
            (None, Some(why)) => Some(why.clone()),
            (Some(_), None) => Some("its peers and its clock agree again".to_owned()),
            // Other figures of the same contradiction.
            _ => None,
        };
        let raw_ns = self.raw_ns();
        self.before_change(raw_ns);
        inner.fenced.store(why.map(Arc::new));
        self.after_change(&tracker, raw_ns, happened.map(|text| (ClockCause::Peers, text)));
    }

    /// Takes which servers all nodes have turned against. Nothing follows but that it is told.
    pub(crate) fn set_doubtful(&self, servers: BTreeSet<String>) {
        if **self.inner.doubtful.load() == servers {
            return;
        }
        if let Some(server) = servers.iter().next() {
            tracing::warn!(server, "all nodes now reject a time server that they believed");
        }
        self.inner.doubtful.store(Arc::new(servers));
        self.refresh();
    }

    /// Takes the error bound once more before it changes: now it is as large as it got.
    pub(super) fn before_change(&self, raw_ns: u64) {
        if let Some(history) = &self.inner.history {
            history.lock().sample(self.look_at(raw_ns).0.error_us());
        }
    }

    /// Publishes what the tracker says.
    pub(super) fn publish(&self, tracker: &Tracker) {
        self.inner.view.store(Arc::new(tracker.view()));
    }

    /// Tells those who wait, and the history. `happened` is what happened, if it was more than the
    /// passing of time.
    pub(super) fn after_change(
        &self,
        tracker: &Tracker,
        raw_ns: u64,
        happened: Option<(ClockCause, String)>,
    ) {
        let inner = &self.inner;
        let (reading, state) = self.look_at(raw_ns);
        let asked = tracker.sources().map(|(source, _)| source.queries()).min().unwrap_or(0);
        // Whoever was told to stay away has got its answer.
        let answered = |(source, verdict): (&Source, Verdict)| {
            source.queries() >= u64::from(BURST_QUERIES) || matches!(verdict, Verdict::Kiss(_))
        };
        let decided = state != ClockState::Unsynced || tracker.sources().all(answered);
        let progress = Progress { state, asked, decided };
        inner.progress.send_if_modified(|last| std::mem::replace(last, progress) != progress);
        inner.turned.send_replace(());
        let describe = || self.describe(tracker, raw_ns);
        inner.states.send_if_modified(|last| {
            if *last != state {
                let error_us = reading.error_us();
                tracing::info!(from = %last, to = %state, error_us, why = describe(), "clock state");
            }
            std::mem::replace(last, state) != state
        });
        let Some(history) = &inner.history else { return };
        let moment = Moment { raw_ns, now_ns: reading.now_ns, state, error_us: reading.error_us() };
        let mut history = history.lock();
        history.servers(&self.server_troubles(tracker));
        if let Some((cause, text)) = happened {
            history.note(cause, text);
        }
        for entry in history.due(&moment, progress.decided, describe) {
            let (headers, id) = (entry.headers(), String::new());
            inner.events.push(NodeEvent { id, headers, text: entry.text });
        }
    }

    /// If the machine was suspended since the last look, nothing measured before counts any more.
    /// Returns whether it was.
    pub(super) fn notice_suspension(&self) -> bool {
        let inner = &self.inner;
        let suspended = || {
            let dealt_with_ns = inner.suspended_ns.load(Ordering::SeqCst);
            let now_ns = inner.counter.suspended_ns();
            let missed_ns = now_ns.saturating_sub(dealt_with_ns);
            (missed_ns > SUSPENDED_NS).then_some((now_ns, missed_ns))
        };
        if inner.mode == ClockMode::Local || suspended().is_none() {
            return false;
        }
        let mut tracker = inner.tracker.lock();
        // Another thread may have been faster.
        let Some((now_ns, missed_ns)) = suspended() else { return true };
        let text = format!("the machine was suspended for {}", seconds(missed_ns));
        tracing::warn!("{text}: the clock is set again");
        let raw_ns = self.raw_ns();
        self.before_change(raw_ns);
        tracker.suspended(raw_ns);
        self.publish(&tracker);
        inner.suspended_ns.store(now_ns, Ordering::SeqCst);
        self.after_change(&tracker, raw_ns, Some((ClockCause::Suspend, text)));
        drop(tracker);
        inner.servers.hurry();
        true
    }

    /// Tells those who wait what time alone has done to the state.
    pub(super) fn refresh(&self) {
        self.refresh_with(None);
    }

    /// Writes an event with the clock's present state. Does nothing in local mode.
    pub fn note(&self, cause: ClockCause, text: impl Into<String>) {
        self.refresh_with(Some((cause, text.into())));
    }

    fn refresh_with(&self, happened: Option<(ClockCause, String)>) {
        if self.inner.mode == ClockMode::Local {
            return;
        }
        let mut tracker = self.inner.tracker.lock();
        let raw_ns = self.raw_ns();
        self.before_change(raw_ns);
        tracker.set_max_error(self.max_error_ns());
        tracker.pass(raw_ns);
        self.publish(&tracker);
        self.after_change(&tracker, raw_ns, happened);
    }
}
