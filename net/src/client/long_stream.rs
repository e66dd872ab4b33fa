//! The long stream of a connection: the small calls that come often share it, each with a number. They
//! go out together and their answers come back together, and one timer looks after all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use proto::limits::FRAME_BYTES_MAX;
use quinn::SendStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::SILENT_MAX;
use super::ask::{Miss, Watch, lost};
use super::dial::Gateway;
use crate::frames::write_lost;
use crate::numbered::{NumberedRx, put_encoded};
use crate::reason::{End, end_of};

/// How often it is looked after while a call waits: a few times while a gateway may be silent.
const LOOK: Duration = Duration::from_millis(60);

/// The long stream of a connection. Ends when dropped.
#[derive(Debug)]
pub(super) struct LongStream {
    calls: Arc<Calls>,
    tasks: [AbortHandle; 2],
}

/// The calls that wait on it.
#[derive(Debug, Default)]
struct Calls {
    state: Mutex<State>,
    /// There is something to write.
    news: Notify,
    /// A call waits where none did.
    first: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// What is not written yet.
    out: BytesMut,
    /// The calls before this one may have gone out.
    taken: u64,
    waiting: HashMap<u64, Waiting>,
    /// Since when silence tells: something was sent that the gateway has not acknowledged.
    telling: Option<Instant>,
    ended: Option<End>,
}

#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Result<Bytes, Miss>>,
    since: Instant,
    limit: Duration,
}

impl LongStream {
    /// Begins one.
    pub(super) async fn open(gateway: &Gateway) -> Result<Self, End> {
        let (tx, rx) = gateway.connection.open_bi().await.map_err(|error| end_of(&error))?;
        let rx = NumberedRx::new(rx, BytesMut::new(), FRAME_BYTES_MAX);
        let calls = Arc::new(Calls::default());
        // What looks after it must not keep it.
        let gateway = Gateway { long: None, ..gateway.clone() };
        let write = tokio::spawn(write(Arc::clone(&calls), tx, gateway.clone())).abort_handle();
        let read = tokio::spawn(read(Arc::clone(&calls), rx, gateway)).abort_handle();
        Ok(Self { calls, tasks: [write, read] })
    }

    /// Asks, and waits so long for the answer.
    pub(super) async fn ask(&self, payload: &[u8], limit: Duration) -> Result<Bytes, Miss> {
        let (answer, answered) = oneshot::channel();
        let (call, first) = self.calls.begin(payload, answer, limit)?;
        self.calls.news.notify_one();
        if first {
            self.calls.first.notify_one();
        }
        let gone = |_| Err(Miss { sent: true, end: End::Lost("it was given up".to_owned()) });
        let answer = answered.await.unwrap_or_else(gone);
        drop(call);
        answer
    }
}

impl Drop for LongStream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// A call that waits, until it is dropped.
struct Call<'a> {
    calls: &'a Calls,
    number: u64,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.calls.state().waiting.remove(&self.number);
    }
}

impl Calls {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Puts a call in; says whether none waited before.
    fn begin(
        &self,
        payload: &[u8],
        answer: oneshot::Sender<Result<Bytes, Miss>>,
        limit: Duration,
    ) -> Result<(Call<'_>, bool), Miss> {
        let unsent = |end| Miss { sent: false, end };
        let since = Instant::now();
        let mut state = self.state();
        if let Some(end) = &state.ended {
            return Err(unsent(end.clone()));
        }
        let number = state.next;
        put_encoded(&mut state.out, number, payload)
            .map_err(|error| unsent(End::Lost(error.to_string())))?;
        state.next += 1;
        state.telling.get_or_insert(since);
        let first = state.waiting.is_empty();
        state.waiting.insert(number, Waiting { answer, since, limit });
        Ok((Call { calls: self, number }, first))
    }

    fn take(&self) -> Option<Bytes> {
        let mut state = self.state();
        state.taken = state.next;
        let out = state.out.split();
        (!out.is_empty()).then(|| out.freeze())
    }

    fn answered(&self, frames: Vec<(u64, Bytes)>) {
        let mut state = self.state();
        for (number, frame) in frames {
            if let Some(waiting) = state.waiting.remove(&number) {
                // Whoever asked may have given up.
                drop(waiting.answer.send(Ok(frame)));
            }
        }
    }

    /// Ends the calls whose time is over.
    fn expire(&self, now: Instant) {
        let mut state = self.state();
        let taken = state.taken;
        let over = |_: &u64, waiting: &mut Waiting| now >= waiting.since + waiting.limit;
        for (number, Waiting { answer, limit, .. }) in state.waiting.extract_if(over) {
            let end = End::Lost(format!("no answer in {limit:?}"));
            drop(answer.send(Err(Miss { sent: number < taken, end })));
        }
    }

    /// Ends them all, and whatever is asked later.
    fn end(&self, end: &End) {
        let mut state = self.state();
        state.ended.get_or_insert_with(|| end.clone());
        let taken = state.taken;
        for (number, waiting) in state.waiting.drain() {
            let miss = Miss { sent: number < taken, end: end.clone() };
            drop(waiting.answer.send(Err(miss)));
        }
    }
}

/// Writes what is asked until the stream is lost.
async fn write(calls: Arc<Calls>, mut tx: SendStream, gateway: Gateway) {
    loop {
        calls.news.notified().await;
        while let Some(bytes) = calls.take() {
            if let Err(error) = tx.write_chunk(bytes).await {
                return calls.end(&lost(&gateway, write_lost(error)));
            }
        }
    }
}

/// Takes answers until the stream is lost, and looks after the calls that wait.
async fn read(calls: Arc<Calls>, mut rx: NumberedRx, gateway: Gateway) {
    let mut ear = Ear::new(&gateway);
    let mut look = std::pin::pin!(sleep(LOOK));
    loop {
        let idle = calls.state().waiting.is_empty();
        tokio::select! {
            frames = rx.recv(usize::MAX) => match frames {
                Ok(frames) if frames.is_empty() => {
                    return calls.end(&End::Lost("it ended the stream".to_owned()));
                }
                Ok(frames) => calls.answered(frames),
                Err(error) => return calls.end(&lost(&gateway, error)),
            },
            () = calls.first.notified(), if idle => {
                ear.begin();
                look.as_mut().reset(Instant::now() + LOOK);
            }
            () = &mut look, if !idle => {
                calls.expire(Instant::now());
                if ear.is_lost(&calls).await {
                    return calls.end(&End::Lost("it stopped answering".to_owned()));
                }
                look.as_mut().reset(Instant::now() + LOOK);
            }
        }
    }
}

/// Hears whether the gateway is alive while calls wait.
struct Ear<'a> {
    watch: Watch<'a>,
    gateway: &'a Gateway,
    /// When something had come, as of the last look.
    heard: Instant,
    /// When its host was last asked.
    probed: Option<Instant>,
}

impl<'a> Ear<'a> {
    fn new(gateway: &'a Gateway) -> Self {
        Self { watch: Watch::new(gateway), gateway, heard: Instant::now(), probed: None }
    }

    /// The first call waits.
    fn begin(&mut self) {
        (self.watch, self.heard) = (Watch::new(self.gateway), Instant::now());
    }

    /// Looks; says whether the gateway is gone. The connection is closed then.
    async fn is_lost(&mut self, calls: &Calls) -> bool {
        let now = Instant::now();
        if !self.watch.is_silent() {
            (self.heard, self.probed) = (now, None);
            // It has acknowledged what it got before; now it may well be quiet, until prodded.
            calls.state().telling = None;
            return false;
        }
        let patience = self.watch.patience();
        let telling = calls.state().telling;
        let Some(since) = telling else {
            if now >= self.heard + patience / 2 {
                calls.state().telling = Some(now);
                self.gateway.prod().await;
            }
            return false;
        };
        let mut gone = now >= since + SILENT_MAX.max(patience);
        if !gone && now >= since + patience && self.probed.is_none_or(|at| now >= at + patience) {
            self.probed = Some(now);
            gone = self.watch.is_dead().await;
        }
        if gone {
            self.watch.hang_up();
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::SILENCE;

    fn ask(calls: &Calls, limit: Duration) -> (Call<'_>, oneshot::Receiver<Result<Bytes, Miss>>) {
        let (answer, answered) = oneshot::channel();
        (calls.begin(b"hello", answer, limit).unwrap().0, answered)
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_not_gone_out_was_not_done() {
        let calls = Calls::default();
        let (_one, mut first) = ask(&calls, SILENCE);
        assert!(calls.take().is_some() && calls.take().is_none());
        let (_two, mut second) = ask(&calls, SILENCE * 2);
        calls.expire(Instant::now() + SILENCE);
        assert!(matches!(first.try_recv(), Ok(Err(Miss { sent: true, .. }))));
        assert!(second.try_recv().is_err(), "it has time");
        calls.end(&End::Lost("gone".to_owned()));
        assert!(matches!(second.try_recv(), Ok(Err(Miss { sent: false, .. }))));
        let late = calls.begin(b"late", oneshot::channel().0, SILENCE);
        assert!(matches!(late, Err(Miss { sent: false, end: End::Lost(why) }) if why == "gone"));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_find_their_calls_by_number() {
        let calls = Calls::default();
        let (one, mut first) = ask(&calls, SILENCE);
        let (two, second) = ask(&calls, SILENCE);
        let (three, _given_up) = ask(&calls, SILENCE);
        let frames = [(two.number, "two"), (99, "nobody's"), (three.number, "three")];
        drop((two, three));
        calls.answered(frames.map(|(n, said)| (n, Bytes::from_static(said.as_bytes()))).into());
        assert!(second.await.is_err(), "a call that was given up waits for nothing");
        calls.answered(vec![(one.number, Bytes::from_static(b"one"))]);
        assert_eq!(first.try_recv().unwrap().unwrap(), "one");
        assert!(calls.state().waiting.is_empty());
    }
}
