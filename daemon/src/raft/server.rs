//! The engine's side of streams that other nodes open.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use clock::guard::StampInFuture;
use futures::StreamExt as _;
use net::{FrameRx, FrameTx, Lane};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendError};
use parking_lot::Mutex;
use planted::Bug;
use prost::Message as _;
use proto::limits::WRITER_BYTES_MAX;
use tokio::task::AbortHandle;

use crate::pause;
use crate::store::{Chunk, Incoming, StoreError};

use super::Handle;
use super::codec::{self, CodecError, Request, RequestKind, Response, ResponseKind, SnapshotOpen};
use super::machine::SnapshotData;
use super::network::frame;
use super::types::{CommittedLeader, LogId, Snapshot, SnapshotMeta, Types};

/// How long the next chunk of a snapshot may take before the transfer is given up.
const SNAPSHOT_IDLE: Duration = Duration::from_secs(30);

/// The one snapshot that is being received, so that a newer one can end it.
#[derive(Debug, Default)]
pub(crate) struct Receiving(Mutex<Option<AbortHandle>>);

impl Receiving {
    fn replace(&self, next: Option<AbortHandle>) {
        let mut current = self.0.lock();
        if let Some(current) = std::mem::replace(&mut *current, next) {
            current.abort();
        }
    }
}

impl Handle {
    /// Serves an append stream until either side ends it.
    pub async fn serve_append(&self, mut tx: FrameTx, rx: FrameRx) {
        let refusal: Arc<OnceLock<StampInFuture>> = Arc::default();
        let (writer, guard, refused) =
            (self.writer.clone(), Arc::clone(&self.guard), Arc::clone(&refusal));
        let requests = futures::stream::unfold(rx, move |rx| {
            let (writer, guard, refused) =
                (writer.clone(), Arc::clone(&guard), Arc::clone(&refused));
            async move {
                let (request, rx) = next_append(rx, &writer).await?;
                if let Err(refusal) = guard.check(&request) {
                    // Ends the stream: everything before it is still answered.
                    let _ = refused.set(refusal);
                    return None;
                }
                Some((request, rx))
            }
        });
        let mut answers = std::pin::pin!(self.raft.stream_append(requests));
        let mut told = Told::default();
        while let Some(answer) = answers.next().await {
            if !told.is_news(&answer) {
                continue;
            }
            let answer = match answer {
                Ok(answer) => codec::encode_appended(&answer),
                Err(error) => Response { kind: Some(ResponseKind::Refused(error.to_string())) },
            };
            if let Err(error) = tx.send(frame(Lane::Append, &answer)).await {
                tracing::debug!(%error, "an append stream ended");
                return;
            }
        }
        if let Some(refusal) = refusal.get() {
            send_last(Lane::Append, &mut tx, ResponseKind::StampInFuture((*refusal).into())).await;
            return;
        }
        // The sender may be gone; then nobody waits for the end.
        let _ = tx.finish().await;
    }

    /// Serves one exchange of the engine on the urgent lane, whose first frame is given without its
    /// leading byte. A ballot for a candidate whose clock is proven wrong stays unanswered.
    pub async fn serve_urgent(&self, first: Bytes, mut tx: FrameTx) {
        let Ok(Request { kind: Some(kind) }) = Request::decode(first) else { return };
        let answer = match kind {
            RequestKind::Append(append) => {
                let kind = self.heartbeat(append).await;
                return send_last(Lane::Urgent, &mut tx, kind).await;
            }
            RequestKind::Vote(_) | RequestKind::PreVote(_) | RequestKind::Transfer(_)
                if !self.is_attested() =>
            {
                tracing::debug!(
                    "no vote before the nodes that may know more about this node were heard"
                );
                return;
            }
            RequestKind::Vote(ballot) | RequestKind::PreVote(ballot)
                if !self.may_be_elected(ballot.candidate())
                    || !self.goes_as_far(ballot.log_end()) =>
            {
                return;
            }
            RequestKind::PreVote(_) if self.ballots.is_one_out() => {
                tracing::debug!("a vote of this node is pending: it would give no other");
                return;
            }
            RequestKind::Vote(ballot) => self.vote(ballot).await,
            RequestKind::PreVote(ballot) => self.pre_vote(ballot).await,
            // Whoever gives the role away may have a bad clock; who gets it counts.
            RequestKind::Transfer(transfer) if !self.may_be_elected(Some(transfer.successor())) => {
                return;
            }
            RequestKind::Transfer(transfer) => self.take_over(transfer).await,
            RequestKind::Snapshot(_) => Err(CodecError("a snapshot on the urgent lane".to_owned())),
        };
        let kind = answer.unwrap_or_else(|error| ResponseKind::Refused(error.to_string()));
        send_last(Lane::Urgent, &mut tx, kind).await;
    }

    /// Whether a node may get the primary role, as far as its clock is concerned.
    fn may_be_elected(&self, candidate: Option<u64>) -> bool {
        let view = self.view.borrow();
        let member = candidate.and_then(|id| view.members.get(&id));
        let may = member.is_none_or(|member| self.guard.may_be_elected(&member.name));
        if !may {
            tracing::debug!(?candidate, "its clock and this node's contradict each other: no vote");
        }
        may
    }

    async fn vote(&self, ballot: codec::Ballot) -> Result<ResponseKind, CodecError> {
        let answer = self.raft.vote(codec::decode_ballot(ballot)?).await;
        let answer = answer.map_err(|error| CodecError(error.to_string()))?;
        Ok(ResponseKind::Voted(codec::encode_voted(&answer)))
    }

    async fn pre_vote(&self, ballot: codec::Ballot) -> Result<ResponseKind, CodecError> {
        let answer = self.raft.pre_vote(codec::decode_ballot(ballot)?).await;
        let answer = answer.map_err(|error| CodecError(error.to_string()))?;
        Ok(ResponseKind::Voted(codec::encode_voted(&answer)))
    }

    /// Takes a heartbeat, and answers it as soon as the engine follows whoever sent it.
    ///
    /// The engine's own answer waits until everything that it took before is on the disk: on a slow
    /// one a primary would lose its majority, although all hear it. What a heartbeat is answered with
    /// is only that; it says nothing of the log.
    async fn heartbeat(&self, append: codec::Append) -> ResponseKind {
        let refused = |why: &dyn std::fmt::Display| ResponseKind::Refused(why.to_string());
        let request = match codec::decode_append(append) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, "a heartbeat cannot be read");
                return refused(&error);
            }
        };
        if !request.entries.is_empty() {
            return refused(&"a heartbeat carries no entries");
        }
        if let Err(refusal) = self.guard.check(&request) {
            return ResponseKind::StampInFuture(refusal.into());
        }
        let (vote, prev) = (request.vote, request.prev_log_id);
        // In this order: what the engine is asked second, it looks at second.
        let answered = self.raft.append_entries(request);
        let follows = super::look(&self.raft, move |state| *state.vote_ref() == vote);
        let follows = async {
            match follows.await {
                Some(true) => {}
                // Its answer says why.
                Some(false) | None => std::future::pending().await,
            }
        };
        let answer = tokio::select! {
            biased;
            answer = answered => answer,
            () = follows => Ok(AppendEntriesResponse::PartialSuccess(self.overstated())),
        };
        let result = match answer {
            Ok(AppendEntriesResponse::Success) => Ok(prev),
            Ok(AppendEntriesResponse::PartialSuccess(matched)) => Ok(matched),
            Ok(AppendEntriesResponse::HigherVote(vote)) => Err(StreamAppendError::HigherVote(vote)),
            Ok(AppendEntriesResponse::Conflict) => match prev {
                Some(prev) => Err(StreamAppendError::Conflict(prev)),
                None => return refused(&"the beginning of a log conflicts with nothing"),
            },
            Err(error) => return refused(&error),
        };
        ResponseKind::Appended(codec::appended(&result))
    }

    /// Nothing, but for a bug.
    fn overstated(&self) -> Option<LogId> {
        if !planted::is(Bug::AckOverstated) {
            return None;
        }
        let last = self.store.range().1.checked_sub(1)?;
        let term = self.store.logged(last).ok()?.term;
        Some(LogId::new(CommittedLeader::new(term), last))
    }

    async fn take_over(&self, transfer: codec::Transfer) -> Result<ResponseKind, CodecError> {
        let request = codec::decode_transfer(transfer)?;
        let answer = self.raft.handle_transfer_leader(request).await;
        let answer = answer.map_err(|error| CodecError(error.to_string()))?;
        let why = answer.err().map(|error| error.to_string());
        Ok(ResponseKind::Transferred(why.unwrap_or_default()))
    }

    /// Receives a snapshot and installs it. A newer transfer ends an older one.
    pub async fn serve_snapshot(&self, mut tx: FrameTx, rx: FrameRx) {
        let this = self.clone();
        let task = pause::spawn(async move { this.receive_snapshot(rx).await });
        self.receiving.replace(Some(task.abort_handle()));
        let kind = match task.await {
            Ok(Ok(kind)) => kind,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a snapshot was refused; nothing was changed");
                ResponseKind::Refused(error.to_string())
            }
            Err(_) => ResponseKind::Refused("a newer snapshot took its place".to_owned()),
        };
        send_last(Lane::Snapshot, &mut tx, kind).await;
    }

    async fn receive_snapshot(&self, mut rx: FrameRx) -> Result<ResponseKind, SnapshotError> {
        let first = next_frame(&mut rx).await?;
        let Some(RequestKind::Snapshot(SnapshotOpen { vote: Some(vote), head: Some(head) })) =
            Request::decode(first)?.kind
        else {
            return Err(SnapshotError::Codec(CodecError("no head of a snapshot".to_owned())));
        };
        let applied = head.applied.clone().unwrap_or_default();
        let stamp = clock::Hlc::from_slice(&head.last_stamp)
            .ok_or_else(|| CodecError("no last stamp".to_owned()))?;
        let meta = SnapshotMeta {
            last_log_id: applied.last.as_ref().map(codec::mark_log_id),
            last_membership: codec::applied_membership(&applied)?,
        };
        tracing::info!(%meta, "receiving a snapshot");
        let mut incoming: Incoming = self.store.write_in(head)?;
        loop {
            let chunk = Chunk::decode(next_frame(&mut rx).await?)?;
            if incoming.push(&chunk)? {
                break;
            }
            // Rows go to the database as fast as it takes them; others get their turn.
            tokio::task::yield_now().await;
        }
        if rx.recv().await?.is_some() {
            return Err(SnapshotError::Codec(CodecError("something is left over".to_owned())));
        }
        self.store.check_past(&incoming)?;
        // Before the engine may act on it: what is stamped here next lies above it.
        (self.observe)(stamp);
        let snapshot = Snapshot { meta, snapshot: SnapshotData::In(Box::new(incoming)) };
        let installed = self.raft.install_full_snapshot(codec::vote(vote), snapshot).await;
        let installed = installed.map_err(|error| CodecError(error.to_string()))?;
        Ok(ResponseKind::Installed(codec::stored_vote(&installed.vote)))
    }
}

/// How far the last answer on an append stream went.
#[derive(Debug, Default)]
struct Told(Option<Option<LogId>>);

impl Told {
    /// Whether an answer says more than the last one. A request that brings no entries only says how far the
    /// log is committed: it is answered as the one before it, and nobody waits for that.
    fn is_news<R, E>(&mut self, answer: &Result<Result<Option<LogId>, R>, E>) -> bool {
        let matched = answer.as_ref().ok().and_then(|answer| answer.as_ref().ok()).copied();
        let news = matched.is_none() || matched != self.0;
        self.0 = matched;
        news
    }
}

#[derive(Debug, thiserror::Error)]
enum SnapshotError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Decode(#[from] prost::DecodeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Link(#[from] net::LinkError),
    #[error("no chunk for {} s", SNAPSHOT_IDLE.as_secs())]
    Idle,
    #[error("the sender stopped in the middle")]
    Cut,
}

async fn next_frame(rx: &mut FrameRx) -> Result<Bytes, SnapshotError> {
    let frame = tokio::time::timeout(SNAPSHOT_IDLE, rx.recv()).await;
    frame.map_err(|_| SnapshotError::Idle)??.ok_or(SnapshotError::Cut)
}

/// The next append request of a stream; `None` ends it. What cannot be read ends it as well: the
/// sender opens the next one.
async fn next_append(
    mut rx: FrameRx,
    writer: &crate::store::Writer,
) -> Option<(AppendEntriesRequest<Types>, FrameRx)> {
    // Before the engine's queue and not in it: there it would stop heartbeats as well.
    writer.wait_drained(WRITER_BYTES_MAX).await;
    let frame = match rx.recv().await {
        Ok(frame) => frame?,
        Err(error) => {
            tracing::debug!(%error, "an append stream ended");
            return None;
        }
    };
    let kind = Request::decode(frame).map(|request| request.kind);
    let Ok(Some(RequestKind::Append(append))) = kind else {
        tracing::warn!("an append stream carried something else");
        return None;
    };
    match codec::decode_append(append) {
        Ok(request) => Some((request, rx)),
        Err(error) => {
            tracing::warn!(%error, "an append request cannot be read");
            None
        }
    }
}

async fn send_last(lane: Lane, tx: &mut FrameTx, kind: ResponseKind) {
    let response = Response { kind: Some(kind) };
    // Answers carry no leading byte: the asker knows what it asked.
    let sent = tx.send(frame(Lane::Append, &response)).await;
    let sent = match sent {
        Ok(()) => tx.finish().await,
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, ?lane, "an answer was not taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with every answer sent.
    #[test]
    fn an_answer_is_sent_if_it_says_more_than_the_last() {
        let place = |index| Some(LogId::new(CommittedLeader::new(2), index));
        let (mut told, fine) = (Told::default(), |at| Ok::<_, ()>(Ok::<_, &str>(at)));
        let answers = [fine(None), fine(None), fine(place(7)), fine(place(7)), fine(place(8))];
        let news = answers.map(|answer| told.is_news(&answer));
        assert_eq!(news, [true, false, true, false, true], "the first is always sent");
        assert!(told.is_news(&Ok::<_, ()>(Err("conflict"))) && told.is_news(&fine(place(8))));
        assert!(told.is_news(&Err::<Result<_, ()>, _>("stopped")));
    }
}
