//! Finding the primary, asking it, trying again: the one place for all three.
//!
//! What only the primary can do is done in tries. Each looks anew where the primary is; one that asks
//! another node ends as soon as that node is no longer the primary. Between two tries there is news of
//! a primary, or a short wait.
//!
//! Invariant: a question is passed on once. The node that gets it and is not the primary says so, and
//! whoever asked looks anew.
//!
//! Not here: what is asked (`write`, `answer`, `own`, `close`, `join`), how the primary orders it (`own`).

use std::time::Duration;

use net::{FrameRx, FrameTx, Lane, PeerAddr};
use prost::Message as _;
use proto::peer::{PeerOp, PeerRequest};
use proto::wire::{Reply, Response};
use proto::{ErrorCode, Executed, Failure};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::raft::{EngineState, Role, peer_address};

use super::{Core, Deadline, Node};

/// A majority that does not answer this often, one look after the other, is not there.
const NO_MAJORITY_LOOKS: u32 = 5;
/// Between two of these looks.
const NO_MAJORITY_LOOK: Duration = Duration::from_millis(100);

/// Where the primary is.
pub(super) enum Primary {
    /// It is this node.
    Here,
    /// It is another one.
    There(PeerAddr),
}

/// How long somebody goes on who needs the primary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Longest wait for news of a primary before the next try.
    pub(super) news: Duration,
    /// With less time left nothing is tried again: an answer that comes too late would leave open
    /// what the last one has made clear.
    pub(super) spare: Duration,
    /// Longest time without a primary, after which whoever asked may look elsewhere.
    pub(super) no_primary: Option<Duration>,
    /// Longest time without a majority, after which no primary can be expected.
    pub(super) no_majority: Option<Duration>,
    /// After which failures another try makes sense.
    pub(super) again: fn(ErrorCode) -> bool,
}

/// Tries of one thing.
pub(super) struct Tries<'n> {
    node: &'n Node,
    core: &'n Core,
    patience: Patience,
    deadline: Deadline,
    changes: watch::Receiver<EngineState>,
    /// What the last try went by.
    seen: Leading,
    began: Instant,
    unknown: bool,
}

/// Why there is no further try.
pub(super) struct GaveUp {
    /// What the last one came to.
    pub(super) last: Failure,
    /// Whether any of them may have taken effect.
    pub(super) unknown: bool,
}

impl GaveUp {
    /// What whoever asked is told, unless there is more to say about the last try.
    pub(super) fn or_unknown(self) -> Failure {
        if !self.unknown {
            return of_the_cluster(self.last);
        }
        let message = format!("nobody can say whether it was done: {}", self.last);
        Failure::new(ErrorCode::Unknown, message)
    }
}

/// Whether another primary, or the same in a moment, may answer otherwise.
pub(super) fn primary_may_change_that(code: ErrorCode) -> bool {
    match code {
        ErrorCode::NotPrimary
        | ErrorCode::NoQuorum
        | ErrorCode::Stopping
        | ErrorCode::Repairing
        | ErrorCode::Unknown => true,
        ErrorCode::Internal
        | ErrorCode::Invalid
        | ErrorCode::Denied
        | ErrorCode::NotFound
        | ErrorCode::Conflict
        | ErrorCode::Busy
        | ErrorCode::ClockUnavailable
        | ErrorCode::ClockAhead
        | ErrorCode::Integrity
        | ErrorCode::DiskFull
        | ErrorCode::Version
        | ErrorCode::Deadline
        | ErrorCode::Removed
        | ErrorCode::NoSigner => false,
    }
}

impl Patience {
    /// Whether there is no further try after one that ended with `code` and left so much time, asked
    /// for since so long. `majority`: whether so many voters answer that there may be a primary.
    fn ends(&self, code: ErrorCode, left: Duration, since: Duration, majority: bool) -> bool {
        let late = left.is_zero() || left < self.spare;
        let longer = |than: Option<Duration>| than.is_some_and(|most| since > most);
        let unreached = matches!(code, ErrorCode::NoQuorum | ErrorCode::NotPrimary);
        let nobody = code == ErrorCode::NoQuorum && longer(self.no_primary);
        let hopeless = unreached && !majority && longer(self.no_majority);
        late || nobody || hopeless || !(self.again)(code)
    }
}

impl Tries<'_> {
    /// Where this try finds the primary.
    pub(super) fn primary(&mut self) -> Result<Primary, Failure> {
        self.seen = seen(&self.core.engine.view().borrow());
        self.node.primary(self.core)
    }

    /// Waits for the moment of the next try.
    ///
    /// # Errors
    /// When there is to be none.
    pub(super) async fn again_after(&mut self, last: Failure) -> Result<(), GaveUp> {
        let code = last.error_code();
        self.unknown |= code.executed() == Executed::Unknown;
        let left = self.deadline.left();
        let gave_up = |unknown| Err(GaveUp { last, unknown });
        let majority = self.node.majority_answers(self.core);
        if self.patience.ends(code, left, self.began.elapsed(), majority) || self.node.is_leaving()
        {
            return gave_up(self.unknown);
        }
        match news(&mut self.changes, &mut self.seen, self.patience.news.min(left)).await {
            true => Ok(()),
            // The engine ended: nothing will be answered.
            false => gave_up(self.unknown),
        }
    }
}

/// Waits for another primary than was seen, at most so long; the next try begins with that. Tells whether
/// there is an engine still.
async fn news(
    changes: &mut watch::Receiver<EngineState>,
    last: &mut Leading,
    within: Duration,
) -> bool {
    let other = changes.wait_for(|now| seen(now) != *last || now.stopped.is_some());
    match tokio::time::timeout(within, other).await {
        Ok(Ok(now)) => {
            *last = seen(&now);
            now.stopped.is_none()
        }
        Ok(Err(_)) => false,
        Err(_) => true,
    }
}

/// What the last try says of the cluster. That the node which led cannot prove its store is its own affair:
/// the gateway is well, and what its client meets is that nobody leads.
fn of_the_cluster(last: Failure) -> Failure {
    if last.error_code() == ErrorCode::Repairing {
        return Failure::new(ErrorCode::NoQuorum, format!("there is no primary: {}", last.message));
    }
    last
}

/// Who leads in which term, and what this node is: news of anything else helps no try.
type Leading = (Option<u64>, u64, Role);

fn seen(view: &EngineState) -> Leading {
    (view.primary, view.term, view.role)
}

impl Node {
    /// Begins to try something that only the primary can do.
    pub(super) fn tries<'n>(
        &'n self,
        core: &'n Core,
        patience: Patience,
        deadline: Deadline,
    ) -> Tries<'n> {
        let changes = core.engine.view();
        let seen = seen(&changes.borrow());
        let began = Instant::now();
        Tries { node: self, core, patience, deadline, changes, seen, began, unknown: false }
    }

    /// Where the primary is, if one is known.
    pub(super) fn primary(&self, core: &Core) -> Result<Primary, Failure> {
        let view = core.engine.view();
        let view = view.borrow();
        if view.is_primary() {
            return Ok(Primary::Here);
        }
        let primary = view.primary_member();
        let primary = primary.and_then(|(id, member)| peer_address(id, member));
        let primary = primary.filter(|primary| primary.name != self.inner.name);
        let nobody = || Failure::new(ErrorCode::NoQuorum, "there is no primary");
        primary.map(Primary::There).ok_or_else(nobody)
    }

    /// Has the primary do something, once: `here` if this node is it, else by a question whose answer
    /// `read` understands.
    pub(super) async fn bring<T>(
        &self,
        op: PeerOp,
        here: impl Future<Output = Result<T, Failure>>,
        read: impl FnOnce(Reply) -> Option<T>,
        deadline: Deadline,
    ) -> Result<T, Failure> {
        let core = self.core()?;
        match self.primary(core)? {
            Primary::Here => here.await,
            Primary::There(primary) => {
                let reply = self.ask_primary(core, &primary, op, deadline).await?;
                let other = "the primary's answer is one to something else";
                read(reply).ok_or_else(|| Failure::new(ErrorCode::Unknown, other))
            }
        }
    }

    /// One question to the primary that is answered with a `Response`.
    pub(super) async fn ask_primary(
        &self,
        core: &Core,
        primary: &PeerAddr,
        op: PeerOp,
        deadline: Deadline,
    ) -> Result<Reply, Failure> {
        let unknown = |what: &dyn std::fmt::Display| Failure::new(ErrorCode::Unknown, what);
        let answer = self.ask_while_primary(core, primary, op, deadline).await?;
        let response = Response::decode(answer).map_err(|error| unknown(&error))?;
        match response.reply {
            Some(Reply::Failure(failure)) => Err(failure),
            Some(reply) => Ok(reply),
            None => Err(unknown(&"the primary sent an empty answer")),
        }
    }

    /// One question to the primary. Ends early when it is no longer the primary: what was asked of it
    /// may never be answered.
    pub(super) async fn ask_while_primary(
        &self,
        core: &Core,
        primary: &PeerAddr,
        op: PeerOp,
        deadline: Deadline,
    ) -> Result<bytes::Bytes, Failure> {
        let mut view = core.engine.view();
        let deposed = view.wait_for(|view| view.primary != Some(primary.raft_id));
        let asked = async {
            let stream = tokio::select! {
                stream = self.request_stream(primary, deadline) => stream?,
                () = self.no_majority(core) => {
                    let message = format!("{} and others do not answer", primary.name);
                    return Err(Failure::new(ErrorCode::NoQuorum, message));
                }
            };
            exchange(primary, stream, op, deadline).await
        };
        tokio::select! {
            answer = asked => answer,
            // Also when the engine ended: nothing will be answered either.
            _ = deposed => {
                let message = format!("{} is no longer the primary", primary.name);
                Err(Failure::new(ErrorCode::Unknown, message))
            }
        }
    }

    /// Whether so many voters answer this node, itself included, that there may be a primary.
    fn majority_answers(&self, core: &Core) -> bool {
        let view = core.engine.view();
        let view = view.borrow();
        let answers = |id: &&u64| {
            let name = view.members.get(*id).map_or("", |member| member.name.as_str());
            **id == view.id || self.inner.members.heard(name).is_some_and(|heard| heard.is_up())
        };
        view.voters.iter().filter(answers).count() * 2 > view.voters.len()
    }

    /// Completes once no majority has answered for a while.
    async fn no_majority(&self, core: &Core) {
        let mut looks = 0;
        while looks < NO_MAJORITY_LOOKS {
            tokio::time::sleep(NO_MAJORITY_LOOK).await;
            looks = if self.majority_answers(core) { 0 } else { looks + 1 };
        }
    }

    /// One request to another node. An error before it was sent says that nothing was done.
    pub(super) async fn ask_peer(
        &self,
        peer: &PeerAddr,
        op: PeerOp,
        deadline: Deadline,
    ) -> Result<bytes::Bytes, Failure> {
        let stream = self.request_stream(peer, deadline).await?;
        exchange(peer, stream, op, deadline).await
    }

    /// A stream for one request to another node.
    async fn request_stream(
        &self,
        peer: &PeerAddr,
        deadline: Deadline,
    ) -> Result<(FrameTx, FrameRx), Failure> {
        let not_sent = |error: &dyn std::fmt::Display| {
            Failure::new(ErrorCode::NotPrimary, format!("{}: {error}", peer.name))
        };
        let opened = self.inner.link.open(peer, Lane::Request);
        let opened = tokio::time::timeout_at(deadline.at(), opened).await;
        let opened = opened.map_err(|_| not_sent(&"no connection in time"))?;
        opened.map_err(|error| not_sent(&error))
    }
}

async fn exchange(
    peer: &PeerAddr,
    (mut tx, mut rx): (FrameTx, FrameRx),
    op: PeerOp,
    deadline: Deadline,
) -> Result<bytes::Bytes, Failure> {
    let lost = |error: &dyn std::fmt::Display| {
        Failure::new(ErrorCode::Unknown, format!("{}: {error}", peer.name))
    };
    let exchange = async {
        tx.send_message(&PeerRequest { op: Some(op) }).await?;
        tx.finish().await?;
        rx.recv().await
    };
    match tokio::time::timeout_at(deadline.at(), exchange).await {
        Ok(Ok(Some(answer))) => Ok(answer),
        Ok(Ok(None)) => Err(lost(&"it ended without an answer")),
        Ok(Err(error)) => Err(lost(&error)),
        Err(_) => Err(lost(&"no answer in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        news: Duration::from_millis(20),
        spare: Duration::from_millis(60),
        no_primary: Some(Duration::from_secs(3)),
        no_majority: Some(Duration::from_millis(500)),
        again: primary_may_change_that,
    };

    /// Seen to fail with each of the first three reasons to end left out. Meant to catch the one of a lost majority.
    #[test]
    fn tries_end_with_the_time_the_primary_or_a_final_answer() {
        let ms = Duration::from_millis;
        for (code, left_ms, since_ms, ends) in [
            (ErrorCode::NotPrimary, 5000, 0, false),
            (ErrorCode::Unknown, 60, 9000, false),
            (ErrorCode::Unknown, 59, 0, true),
            // Nobody leads: the client may find somebody who knows better.
            (ErrorCode::NoQuorum, 5000, 3000, false),
            (ErrorCode::NoQuorum, 5000, 3001, true),
            (ErrorCode::NotPrimary, 5000, 3001, false),
            // The same everywhere, or for the client to decide.
            (ErrorCode::Conflict, 5000, 0, true),
            (ErrorCode::Busy, 5000, 0, true),
            (ErrorCode::Internal, 5000, 0, true),
        ] {
            let ended = PATIENCE.ends(code, ms(left_ms), ms(since_ms), true);
            assert_eq!(ended, ends, "{code:?}, {left_ms} ms left, after {since_ms} ms");
        }
        // Without time left nothing waits, or a loop would spin.
        let none = Patience { spare: Duration::ZERO, no_primary: None, ..PATIENCE };
        assert!(none.ends(ErrorCode::NotPrimary, Duration::ZERO, Duration::ZERO, true));
        // Without a majority nobody can lead. What may have been done is asked for as long as there is time.
        for (code, since_ms, ends) in [
            (ErrorCode::NoQuorum, 500, false),
            (ErrorCode::NoQuorum, 501, true),
            (ErrorCode::NotPrimary, 501, true),
            (ErrorCode::Unknown, 9000, false),
        ] {
            let ended = PATIENCE.ends(code, ms(900), ms(since_ms), false);
            assert_eq!(ended, ends, "{code:?}, after {since_ms} ms without a majority");
        }
    }

    /// Seen to fail with the former primary's word passed on as the gateway's own: clients were told of damage
    /// (13) where there was no majority (11).
    #[test]
    fn a_primary_that_is_no_more_is_none() {
        let damaged = Failure::new(ErrorCode::Repairing, "n3 cannot prove its store intact");
        let told = of_the_cluster(damaged);
        assert_eq!(told.error_code(), ErrorCode::NoQuorum);
        assert!(told.message.contains("n3 cannot prove"), "{told}");
        for code in [ErrorCode::Busy, ErrorCode::NotPrimary, ErrorCode::Unknown] {
            assert_eq!(of_the_cluster(Failure::new(code, "so")).error_code(), code);
        }
    }

    /// Seen to fail with what the last try came to passed on as it is.
    #[test]
    fn what_may_have_been_done_once_stays_unknown() {
        let last = || Failure::new(ErrorCode::NoQuorum, "there is no primary");
        let told = |unknown| GaveUp { last: last(), unknown }.or_unknown().error_code();
        assert_eq!((told(false), told(true)), (ErrorCode::NoQuorum, ErrorCode::Unknown));
    }

    /// Seen to fail with a `news` that goes on from what was seen first: the tries after a change then
    /// came one upon the other, without end.
    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_primary_is_news_once() {
        let (engine, mut changes) = watch::channel(EngineState::default());
        let mut last = seen(&changes.borrow());
        engine.send_modify(|state| state.term += 1);
        let began = Instant::now();
        let within = Duration::from_millis(100);
        assert!(news(&mut changes, &mut last, within).await);
        assert_eq!(began.elapsed(), Duration::ZERO, "there is news");
        assert!(news(&mut changes, &mut last, within).await);
        assert_eq!(began.elapsed(), within, "there is none");
        drop(engine);
        assert!(!news(&mut changes, &mut last, within).await);
    }
}
