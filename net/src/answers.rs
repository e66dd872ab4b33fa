//! The answers to the requests of one long stream, a client's or a gateway's: as they come, and many in one
//! write.
//!
//! A request is open from when it is read until its answer is written: so long it holds its place, see
//! `shares`. Whoever does not take its answers fills its own places, and is not listened to meanwhile.
//!
//! Invariant: a request is answered once. The first answer counts; what comes after it is dropped.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use proto::limits::{
    BATCH_BYTES_MAX, CLIENT_NUMBERED_MAX, CLIENT_REQUESTS_MAX, FORWARDS_MAX, NUMBERED_UNREAD_MAX,
};
use proto::wire::Response;
use quinn::{Connection, SendStream};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::frames::write_lost;
use crate::numbered::put;
use crate::shares::Held;
use crate::{FrameTx, LinkError};

/// How much of one long stream may be open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    /// Requests.
    requests: usize,
    /// Bytes of answers that are not taken.
    unread: usize,
}

impl Most {
    pub(crate) const CLIENT: Self =
        Self { requests: CLIENT_NUMBERED_MAX, unread: NUMBERED_UNREAD_MAX };
    /// As many as a gateway has open for all of its clients.
    pub(crate) const GATEWAY: Self =
        Self { requests: CLIENT_REQUESTS_MAX, unread: BATCH_BYTES_MAX };
}

/// Where answers are written.
#[derive(Debug)]
pub(crate) enum Way {
    Client(SendStream, Connection),
    Gateway(FrameTx),
}

impl Way {
    async fn write(&mut self, mut bytes: Bytes) -> Result<(), LinkError> {
        match self {
            Self::Client(tx, _) => tx.write_chunk(bytes).await.map_err(write_lost),
            Self::Gateway(tx) => {
                while !bytes.is_empty() {
                    tx.send(bytes.split_to(bytes.len().min(BATCH_BYTES_MAX))).await?;
                }
                Ok(())
            }
        }
    }

    /// Completes when the other side is gone.
    async fn gone(&self) {
        match self {
            Self::Client(_, connection) => drop(connection.closed().await),
            Self::Gateway(tx) => tx.stopped().await,
        }
    }
}

/// The requests of one long stream.
#[derive(Debug)]
pub(crate) struct Answers {
    most: Most,
    state: Mutex<State>,
    /// There is something to write.
    news: Notify,
    /// There is room for more requests.
    room: Notify,
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<u64, Open>,
    /// When the first of them is late, at the earliest; `None` if none ever is.
    due: Option<Instant>,
    /// Answers that are not written yet, and what their requests hold.
    out: BytesMut,
    answered: Vec<Held>,
    /// Bytes and requests that are being written.
    writing: (usize, usize),
}

#[derive(Debug)]
struct Open {
    /// What it holds of this node; what a gateway hands over is counted there.
    held: Option<Held>,
    due: Option<Instant>,
}

impl Answers {
    pub(crate) fn new(most: Most) -> Arc<Self> {
        let (news, room, ended) = (Notify::new(), Notify::new(), watch::Sender::new(false));
        Arc::new(Self { most, state: Mutex::default(), news, room, ended })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Notes a request; `None` if one with its number is open.
    pub(crate) fn open(self: &Arc<Self>, number: u64, held: Option<Held>) -> Option<Ticket> {
        let mut state = self.state();
        if state.open.contains_key(&number) {
            return None;
        }
        state.open.insert(number, Open { held, due: None });
        Some(Ticket { answers: Arc::clone(self), number })
    }

    /// Answers what holds no place.
    pub(crate) fn refuse(&self, number: u64, response: &Response) {
        self.state().put(number, response);
        self.news.notify_one();
    }

    /// When a request may be late.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.state().due
    }

    /// Those that are late by now. Each is told once.
    pub(crate) fn late(self: &Arc<Self>, now: Instant) -> Option<Late> {
        let mut numbers = Vec::new();
        {
            let mut state = self.state();
            let mut next: Option<Instant> = None;
            for (number, open) in &mut state.open {
                if open.due.take_if(|due| *due <= now).is_some() {
                    numbers.push(*number);
                } else if let Some(due) = open.due {
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
            }
            state.due = next;
        }
        numbers.sort_unstable();
        let late = !numbers.is_empty();
        late.then(|| Late { answers: Arc::clone(self), numbers })
    }

    /// Waits until more requests may be read, and says how many.
    pub(crate) async fn room(&self) -> usize {
        loop {
            let room = self.state().room(self.most);
            if room > 0 {
                return room;
            }
            self.room.notified().await;
        }
    }

    /// From now on nobody waits for answers.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
        let mut state = self.state();
        let open = std::mem::take(&mut state.open).into_values().filter_map(|open| open.held);
        let held: Vec<_> = open.chain(std::mem::take(&mut state.answered)).collect();
        state.out = BytesMut::new();
        drop(state);
        Held::give_all(held);
        // Whoever writes them has nothing more to do.
        self.news.notify_one();
    }

    /// What is to be written, with what it holds.
    pub(crate) fn take(&self) -> Option<(Bytes, Vec<Held>)> {
        let mut state = self.state();
        if state.out.is_empty() {
            return None;
        }
        let (bytes, held) = (state.out.split().freeze(), std::mem::take(&mut state.answered));
        state.writing = (bytes.len(), held.len());
        Some((bytes, held))
    }

    /// Whether nothing is open or waits to be taken.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state();
        state.open.is_empty() && state.out.is_empty()
    }

    /// Waits until there may be something to take.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Writes answers until nobody takes or gives any.
    pub(crate) async fn write(self: Arc<Self>, mut way: Way) {
        loop {
            tokio::select! {
                () = self.news() => {}
                () = way.gone() => return self.end(),
            }
            while let Some((bytes, held)) = self.take() {
                if way.write(bytes).await.is_err() {
                    return self.end();
                }
                self.state().writing = (0, 0);
                Held::give_all(held);
                self.room.notify_one();
            }
            if *self.ended.borrow() {
                return;
            }
        }
    }
}

impl State {
    /// How many requests may be read now: a few at a time, since each may be answered at once.
    fn room(&self, most: Most) -> usize {
        let (bytes, requests) = self.writing;
        if self.out.len() + bytes >= most.unread {
            return 0;
        }
        let open = self.open.len() + self.answered.len() + requests;
        most.requests.saturating_sub(open).min(FORWARDS_MAX)
    }

    fn put(&mut self, number: u64, response: &Response) {
        // What is too long for a frame is no answer to anything that comes this way.
        if let Err(error) = put(&mut self.out, number, response) {
            tracing::error!(%error, "an answer cannot be sent");
        }
    }

    /// Answers a request if it is open.
    fn answer(&mut self, number: u64, response: &Response) {
        if let Some(open) = self.open.remove(&number) {
            self.put(number, response);
            self.answered.extend(open.held);
        }
    }
}

/// A request of a long stream, which waits for its answer. Dropped, it gets none.
#[derive(Debug)]
pub struct Ticket {
    answers: Arc<Answers>,
    number: u64,
}

impl Ticket {
    /// The one request of these.
    pub(crate) fn alone(answers: &Arc<Answers>) -> Self {
        answers.state().open.insert(0, Open { held: None, due: None });
        Self { answers: Arc::clone(answers), number: 0 }
    }

    /// Answers it, if nothing has. Goes out with [`Flush::now`].
    pub fn answer(&self, response: &Response) -> Flush {
        self.answers.state().answer(self.number, response);
        Flush(Arc::clone(&self.answers))
    }

    /// From when on it is late, see [`crate::Incoming::Late`]; `None`: it never is.
    pub fn expires(&self, at: Option<Instant>) {
        let mut state = self.answers.state();
        let Some(open) = state.open.get_mut(&self.number) else { return };
        open.due = at;
        if let Some(at) = at {
            state.due = Some(state.due.map_or(at, |due| due.min(at)));
        }
    }

    /// Whether somebody still waits for its answer.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.answers.state().open.contains_key(&self.number)
    }

    /// Completes when the client is gone.
    pub(crate) async fn gone(&self) {
        // The sender is ours, so it cannot be gone.
        drop(self.answers.ended.subscribe().wait_for(|ended| *ended).await);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let open = self.answers.state().open.remove(&self.number);
        if open.is_some() {
            drop(open);
            self.answers.room.notify_one();
            self.answers.news.notify_one();
        }
    }
}

/// Answers that are ready to go out.
#[derive(Debug)]
#[must_use]
pub struct Flush(Arc<Answers>);

impl Flush {
    /// Sends them.
    pub fn now(self) {
        self.0.news.notify_one();
    }
}

/// Answers to several clients: each is written to once.
#[derive(Debug, Default)]
pub struct Flushes(Vec<Flush>);

impl Flushes {
    /// One more answer.
    pub fn add(&mut self, flush: Flush) {
        if !self.0.iter().any(|known| Arc::ptr_eq(&known.0, &flush.0)) {
            self.0.push(flush);
        }
    }

    /// Sends them all.
    pub fn now(self) {
        self.0.into_iter().for_each(Flush::now);
    }
}

/// Requests of one long stream whose time is over.
#[derive(Debug)]
pub struct Late {
    answers: Arc<Answers>,
    numbers: Vec<u64>,
}

impl Late {
    /// Answers all that have no answer yet.
    pub fn answer(self, response: &Response) {
        {
            let mut state = self.answers.state();
            self.numbers.iter().for_each(|number| state.answer(*number, response));
        }
        self.answers.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::{ClusterId, Identity, Role};

    use super::*;
    use crate::numbered::put;
    use crate::shares::{Seat, Shares};

    fn seat() -> Arc<Seat> {
        let cluster = ClusterId::from_bytes([1; 16]);
        let who = Identity { cluster, role: Role::Client, name: "alice".parse().unwrap() };
        Shares::new(100).connect(&who).unwrap()
    }

    fn response(gateway: &str) -> Response {
        Response { gateway: gateway.to_owned(), ..Response::default() }
    }

    fn frames(of: &[(u64, &str)]) -> BytesMut {
        let mut out = BytesMut::new();
        of.iter().for_each(|(number, said)| put(&mut out, *number, &response(said)).unwrap());
        out
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_counts() {
        let (answers, seat) = (Answers::new(Most::CLIENT), seat());
        let open = |number| answers.open(number, seat.request());
        let (one, two, three) = (open(1).unwrap(), open(2).unwrap(), open(3).unwrap());
        assert!(open(2).is_none(), "two of one number");
        let (soon, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        two.expires(Some(soon));
        three.expires(Some(later));
        one.answer(&response("in time")).now();
        let late = answers.late(Instant::now()).unwrap();
        assert_eq!(answers.due(), Some(later));
        two.answer(&response("just so")).now();
        late.answer(&response("late"));
        assert!(answers.late(soon).is_none(), "each is told once");
        answers.late(later).unwrap().answer(&response("late"));
        three.answer(&response("too late")).now();
        let (bytes, held) = answers.take().unwrap();
        assert_eq!(bytes, frames(&[(1, "in time"), (2, "just so"), (3, "late")]));
        assert_eq!((held.len(), answers.due()), (3, None));
        assert!(answers.take().is_none() && !one.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_no_answers_is_not_listened_to() {
        let (answers, seat) = (Answers::new(Most::CLIENT), seat());
        for number in 0..CLIENT_NUMBERED_MAX as u64 {
            answers.room().await;
            let ticket = answers.open(number, seat.request()).unwrap();
            let flush = ticket.answer(&response("n1"));
            drop(flush);
        }
        let waits = || tokio::time::timeout(Duration::from_secs(1), answers.room());
        assert!(waits().await.is_err(), "none is written");
        let (_, held) = answers.take().unwrap();
        assert!(waits().await.is_err(), "what is being written is not taken yet");
        answers.state().writing = (0, 0);
        drop(held);
        assert!(waits().await.is_ok());
        // One that nobody answers leaves its place.
        drop(answers.open(0, seat.request()));
        assert!(answers.state().open.is_empty());
    }
}
