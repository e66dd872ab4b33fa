//! What the witness does by itself: it writes its memory down, and opens the elections to this node
//! once enough of the others were heard.

use std::time::Duration;

use planted::Bug;
use proto::attest::{LogEnd, may_vote};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::raft::Handle;

use super::file::Remembered;
use super::{OUTLIVED_FOR, State, Witness, place};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Further entries are written down this often; what tells of a copy at the next look.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long a voter waits, after its start, for others that may know more of it than it does. A
/// node that is there answers a call at once; one lost packet costs less than this.
const PATIENCE: Duration = Duration::from_millis(1200);
/// How long a voter waits, after that, for the holder of the best log to be elected. Several tries of
/// it fit in.
const BEST_LOG_FIRST: Duration = Duration::from_secs(4);

impl Witness {
    /// Keeps the memory until `stop`.
    pub(crate) async fn keep(self, engine: Option<Handle>, stop: CancellationToken) {
        *self.inner.engine.lock() = engine;
        let mut saved = Instant::now();
        while !stop.is_cancelled() {
            self.note_acknowledged();
            let (unsaved, urgent) = {
                let state = self.lock();
                (state.unsaved, state.urgent)
            };
            if urgent || unsaved && saved.elapsed() >= SAVE_EVERY {
                self.save().await;
                saved = Instant::now();
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        // The engine's links ask this witness: they would hold each other for ever.
        *self.inner.engine.lock() = None;
    }

    /// Writes down what is not yet. A disk that refuses is told of; the next news is tried anew.
    pub(crate) async fn save(&self) {
        let content = {
            let mut state = self.lock();
            if !state.unsaved {
                return;
            }
            (state.unsaved, state.urgent) = (false, false);
            let contradictions = state.contradictions.values().cloned().collect();
            Remembered { stores: state.memory.all(), contradictions }
        };
        let notebook = self.inner.notebook.clone();
        if notebook.is_gone() || planted::is(Bug::MemoryNotSaved) {
            // Its store is gone: there is nowhere to write to, and nobody who would miss it.
            return;
        }
        let written = self.inner.blocking.run(move || notebook.write(&content)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot write down what others have shown"),
            Err(error) => tracing::warn!(%error, "cannot write down what others have shown"),
        }
    }

    /// On the primary: what it has committed and another node's log is known to hold, that node has
    /// acknowledged, whether or not it knows yet that it is committed. Looked at ten times a second, and
    /// before a node that comes back is judged: it may have lost what it acknowledged last.
    pub(super) fn note_acknowledged(&self) {
        let Some(engine) = self.inner.engine.lock().clone() else { return };
        let matched = engine.matched();
        let members = engine.view();
        let members = members.borrow();
        let forget = |state: &mut State| {
            if members.members.contains_key(&self.inner.me.raft_id) {
                state.forget_strangers(&members.members);
            }
        };
        let committed = self.inner.store.as_ref().and_then(|store| store.durable().ok());
        let committed = committed.and_then(|durable| durable.committed).map(place);
        let Some(committed) = committed.filter(|_| !matched.is_empty()) else {
            return forget(&mut self.lock());
        };
        // Before the memory is locked: a place may have to be read from the disk.
        let held = |index: u64| match index >= committed.index {
            true => Some(committed.clone()),
            false => self.place_at(index),
        };
        let acknowledged: Vec<_> =
            matched.into_iter().filter_map(|(id, index)| Some((id, held(index?)?))).collect();
        let mut state = self.lock();
        forget(&mut state);
        for (raft_id, place) in acknowledged {
            if let Some(known) = state.memory.get(raft_id).cloned() {
                state.note(&proto::attest::Shown { committed: Some(place), ..known });
            }
        }
    }

    /// Lets this node take part in elections once all who could know more of its store than it does
    /// were heard. Until then it follows a primary, and neither votes nor stands.
    pub(crate) async fn open_elections(self, engine: Handle, stop: CancellationToken) {
        let began = Instant::now();
        let (mut view, mut met) = (engine.view(), self.inner.met.subscribe());
        loop {
            let over = began.elapsed() >= PATIENCE;
            let doubts = {
                let state = self.lock();
                let outlived = state.outlived.is_some_and(|(_, at)| at.elapsed() < OUTLIVED_FOR);
                outlived || !state.doubts.is_empty()
            };
            let may = {
                let (view, met) = (view.borrow_and_update(), met.borrow_and_update());
                may_vote(view.id, &view.voters, |id| met.contains(&id), over)
            };
            if may && !doubts {
                engine.wait_for_log(self.best_log(&engine));
                engine.attested();
                tracing::info!(after = ?began.elapsed(), "this node takes part in elections");
                return self.let_best_log_lead(&engine, &stop).await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = view.changed() => if changed.is_err() { return },
                changed = met.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Lets nobody lead whose log is behind the best one that is there, until somebody leads.
    async fn let_best_log_lead(&self, engine: &Handle, stop: &CancellationToken) {
        let (began, mut view) = (Instant::now(), engine.view());
        while began.elapsed() < BEST_LOG_FIRST && self.led_ago().is_none() {
            if view.borrow_and_update().is_primary() {
                break;
            }
            engine.wait_for_log(self.best_log(engine));
            tokio::select! {
                () = stop.cancelled() => return,
                changed = view.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        engine.wait_for_log(None);
    }

    fn best_log(&self, engine: &Handle) -> Option<LogEnd> {
        let view = engine.view();
        let voters = view.borrow().voters.clone();
        self.lock().ends.best(&voters)
    }
}
