//! The engine's messages to other nodes, over [`net::Link`].
//!
//! Routed by which client the engine asked for: entries on the append lane, heartbeats and ballots
//! on the urgent lane, snapshots on their own. Urgent never waits behind bulk.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clock::guard::StampInFuture;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _};
use net::{FrameRx, FrameTx, Lane, Link, LinkError, PeerAddr};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes, RaftNetworkFactory};
use prost::Message as _;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::pause;

use super::ballots::Ballots;
use super::codec::{self, CodecError, Request, RequestKind, Response, ResponseKind};
use super::guard::Refusals;
use super::machine::SnapshotData;
use super::types::{Member, Snapshot, Types, Vote};

/// How long the next chunk of a snapshot, or its receipt, may take.
const SNAPSHOT_IDLE: Duration = Duration::from_secs(30);
/// How long a request that only says how far the log is committed waits for entries that say so as well.
const BARE_WAITS: Duration = Duration::from_millis(1);
/// First byte of a frame on the urgent lane that carries a message of the engine.
pub(crate) const URGENT_RAFT: u8 = 1;
/// First byte of a frame on the urgent lane that carries how a node is.
pub(crate) const URGENT_INFO: u8 = 2;

const _: () = assert!(URGENT_RAFT != URGENT_INFO, "the two protocols of the lane are told apart");

type RpcError = RPCError<Types>;

/// Makes the engine's clients.
pub(super) struct Network {
    link: Arc<dyn Link>,
    id: u64,
    refusals: Arc<Refusals>,
    silent: Arc<AtomicBool>,
    ballots: Arc<Ballots>,
}

impl Network {
    /// A network over a link, for the node with this raft id. Entries that others refuse for their
    /// stamps are noted in `refusals`. While `silent`, nothing is sent as a primary: a request that
    /// is refused for one entry may come behind one that is not, and that would keep the others
    /// from electing as a heartbeat does.
    #[must_use]
    pub(super) fn new(
        link: Arc<dyn Link>,
        id: u64,
        refusals: Arc<Refusals>,
        silent: Arc<AtomicBool>,
        ballots: Arc<Ballots>,
    ) -> Self {
        Self { link, id, refusals, silent, ballots }
    }

    fn client(&self, target: u64, member: &Member, lane: Lane) -> Peer {
        assert_ne!(target, self.id, "a node sends itself nothing");
        let address = peer_address(target, member);
        let (link, refusals) = (Arc::clone(&self.link), Arc::clone(&self.refusals));
        let (silent, ballots) = (Arc::clone(&self.silent), Arc::clone(&self.ballots));
        Peer { link, id: self.id, target, address, lane, refusals, silent, ballots }
    }
}

/// A member as the link addresses it; `None` if its name is not one.
pub fn peer_address(raft_id: u64, member: &Member) -> Option<PeerAddr> {
    let name = member.name.parse().ok()?;
    let (address, incarnation) = (member.address.clone(), member.incarnation);
    Some(PeerAddr { name, raft_id, address, incarnation })
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        self.client(target, node, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Peer {
        self.client(target, node, Lane::Urgent)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Member) -> Peer {
        self.client(target, node, Lane::Snapshot)
    }
}

/// The engine's client of one other node on one lane.
pub(super) struct Peer {
    link: Arc<dyn Link>,
    id: u64,
    target: u64,
    address: Option<PeerAddr>,
    lane: Lane,
    refusals: Arc<Refusals>,
    silent: Arc<AtomicBool>,
    ballots: Arc<Ballots>,
}

fn unreachable(error: &(impl std::error::Error + 'static)) -> RpcError {
    RPCError::Unreachable(Unreachable::new(error))
}

fn codec_error(error: &CodecError) -> RpcError {
    unreachable(error)
}

impl Peer {
    async fn open(&self, lane: Lane, ttl: Duration) -> Result<(FrameTx, FrameRx), RpcError> {
        let Some(address) = &self.address else {
            return Err(codec_error(&CodecError("a member without a name".to_owned())));
        };
        match tokio::time::timeout(ttl, self.link.open(address, lane)).await {
            Ok(opened) => opened.map_err(|error| unreachable(&error)),
            Err(_) => Err(self.timed_out(RPCTypes::Vote, ttl)),
        }
    }

    /// # Errors
    /// While this node says nothing as a primary.
    fn may_speak(&self) -> Result<(), RpcError> {
        if self.silent.load(Ordering::Relaxed) {
            return Err(codec_error(&CodecError("this node is silent for a while".to_owned())));
        }
        Ok(())
    }

    fn timed_out(&self, action: RPCTypes, timeout: Duration) -> RpcError {
        let (id, target) = (self.id, self.target);
        RPCError::Timeout(Timeout { action, id, target, timeout })
    }

    /// One request and its answer on the urgent lane, after `patience` at the latest; that is asked
    /// again each `ttl`, since it grows while others wait for their disks.
    async fn ask(
        &self,
        kind: RequestKind,
        ttl: Duration,
        patience: impl Fn() -> Duration,
    ) -> Result<ResponseKind, RpcError> {
        let exchange = async {
            let (mut tx, mut rx) = self.open(Lane::Urgent, ttl).await?;
            let request = Request { kind: Some(kind) };
            tx.send(frame(Lane::Urgent, &request)).await.map_err(|error| unreachable(&error))?;
            tx.finish().await.map_err(|error| unreachable(&error))?;
            receive(&mut rx).await
        };
        let (mut exchange, since) = (std::pin::pin!(exchange), Instant::now());
        let answer = loop {
            match tokio::time::timeout(ttl, &mut exchange).await {
                Ok(answer) => break answer,
                Err(_) if since.elapsed() < patience() => {}
                Err(_) => break Err(self.timed_out(RPCTypes::Vote, ttl)),
            }
        };
        match answer? {
            ResponseKind::Refused(why) => Err(refused(why)),
            kind @ (ResponseKind::Appended(_)
            | ResponseKind::Voted(_)
            | ResponseKind::Transferred(_)
            | ResponseKind::Installed(_)
            | ResponseKind::StampInFuture(_)) => Ok(kind),
        }
    }

    async fn ballot(
        &self,
        kind: RequestKind,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let answer = self.ask(kind, option.hard_ttl(), || self.ballots.patience()).await?;
        let ResponseKind::Voted(voted) = answer else { return Err(unexpected()) };
        codec::decode_voted(voted).map_err(|error| codec_error(&error))
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
        ttl: Duration,
    ) -> Result<SnapshotResponse<Types>, RpcError> {
        self.may_speak()?;
        let SnapshotData::Out(mut reader) = snapshot.snapshot else {
            return Err(codec_error(&CodecError("a snapshot without data".to_owned())));
        };
        let (mut tx, mut rx) = self.open(Lane::Snapshot, ttl).await?;
        let open = codec::SnapshotOpen {
            vote: Some(codec::stored_vote(&vote)),
            head: Some(reader.head.clone()),
        };
        let request = Request { kind: Some(RequestKind::Snapshot(open)) };
        send_chunk(&mut tx, request.encode_to_vec().into()).await?;
        while let Some(chunk) = reader.next().await {
            let chunk = chunk.map_err(|error| unreachable(&error))?;
            send_chunk(&mut tx, chunk.encode_to_vec().into()).await?;
        }
        tx.finish().await.map_err(|error| unreachable(&error))?;
        let answer = tokio::time::timeout(SNAPSHOT_IDLE, receive(&mut rx)).await;
        match answer
            .unwrap_or_else(|_| Err(self.timed_out(RPCTypes::InstallSnapshot, SNAPSHOT_IDLE)))?
        {
            ResponseKind::Installed(vote) => Ok(SnapshotResponse::new(codec::vote(vote))),
            ResponseKind::Refused(why) => Err(refused(why)),
            ResponseKind::Appended(_)
            | ResponseKind::Voted(_)
            | ResponseKind::Transferred(_)
            | ResponseKind::StampInFuture(_) => Err(unexpected()),
        }
    }
}

async fn send_chunk(tx: &mut FrameTx, frame: Bytes) -> Result<(), RpcError> {
    match tokio::time::timeout(SNAPSHOT_IDLE, tx.send(frame)).await {
        Ok(sent) => sent.map_err(|error| unreachable(&error)),
        Err(_) => Err(codec_error(&CodecError("the receiver takes no more chunks".to_owned()))),
    }
}

/// The other side says why not.
fn refused(why: String) -> RpcError {
    codec_error(&CodecError(why))
}

fn unexpected() -> RpcError {
    codec_error(&CodecError("an answer of another kind".to_owned()))
}

/// A frame for a lane: on the urgent one, whose streams carry two protocols, a byte in front says
/// which.
pub(crate) fn frame(lane: Lane, message: &impl prost::Message) -> Bytes {
    match lane {
        Lane::Urgent => {
            let mut out = vec![URGENT_RAFT];
            out.extend_from_slice(&message.encode_to_vec());
            out.into()
        }
        Lane::Append | Lane::Snapshot | Lane::Request => message.encode_to_vec().into(),
    }
}

async fn receive(rx: &mut FrameRx) -> Result<ResponseKind, RpcError> {
    let frame = rx.recv().await.map_err(|error| unreachable(&error))?;
    let frame = frame
        .ok_or_else(|| unreachable(&LinkError::Lost("it ended without an answer".to_owned())))?;
    decode_response(frame).map_err(|error| codec_error(&error))
}

fn decode_response(frame: Bytes) -> Result<ResponseKind, CodecError> {
    let response = Response::decode(frame)?;
    response.kind.ok_or_else(|| CodecError("an empty answer".to_owned()))
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RpcError> {
        let input = futures::stream::iter([rpc]);
        let mut answers = self.stream_append(input, option).await?;
        match answers.next().await {
            Some(answer) => answer.map(Into::into),
            None => Err(unreachable(&LinkError::Lost("it ended without an answer".to_owned()))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        async move {
            // The engine takes its pause after a failure where it is asked for the first request.
            // Opened before that, a peer that is refused at once would be tried without a pause.
            let Some(first) = input.next().await else {
                return Ok(futures::stream::empty().boxed());
            };
            let input = futures::stream::iter([first]).chain(input);
            self.may_speak()?;
            let lane = self.lane;
            assert_ne!(lane, Lane::Snapshot, "entries and heartbeats have lanes of their own");
            let silent = Arc::clone(&self.silent);
            let (tx, rx) = self.open(lane, option.hard_ttl()).await?;
            let sender = pause::spawn(send_appends(lane, tx, input, silent)).abort_handle();
            // A late answer on the append lane is a slow disk and no reason to send all again; a
            // heartbeat that is late is of no use to anyone.
            let patience = (lane == Lane::Urgent).then(|| option.hard_ttl());
            let state = Answers { rx, patience, peer: self, _sender: AbortOnDrop(sender) };
            let answers = futures::stream::unfold(Some(state), |state| async move {
                let mut state = state?;
                match state.next().await {
                    Some(Ok(answer)) => {
                        let go_on = answer.is_ok().then_some(state);
                        Some((Ok(answer), go_on))
                    }
                    Some(Err(error)) => Some((Err(error), None)),
                    None => None,
                }
            });
            Ok(answers.boxed())
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        self.ballot(RequestKind::Vote(codec::encode_ballot(&rpc)), &option).await
    }

    // The default grants: a peer that cannot be reached would count as a vote.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        if self.ballots.is_one_out() {
            let why = "a vote of this node is pending: it asks for no other";
            return Err(codec_error(&CodecError(why.to_owned())));
        }
        self.ballot(RequestKind::PreVote(codec::encode_ballot(&rpc)), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let ttl = option.hard_ttl().min(SNAPSHOT_IDLE);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot, ttl) => Ok(sent?),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        let kind = RequestKind::Transfer(codec::encode_transfer(&req));
        let answer = self.ask(kind, option.hard_ttl(), || self.ballots.patience()).await?;
        let ResponseKind::Transferred(why) = answer else { return Err(unexpected()) };
        if why.is_empty() { Ok(Ok(())) } else { Err(refused(why)) }
    }
}

async fn send_appends<S>(lane: Lane, mut tx: FrameTx, mut input: S, silent: Arc<AtomicBool>)
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    let (mut company, mut next) = (Company::default(), input.next().await);
    while let Some(request) = next.take() {
        if silent.load(Ordering::Relaxed) {
            break;
        }
        if lane == Lane::Append && request.entries.is_empty() {
            // It says how far the log is committed. Whoever waits here for just that goes first.
            tokio::task::yield_now().await;
            if let Some(later) = company.overtaken_by(&mut input).await {
                // That says so, too.
                next = later;
                continue;
            }
        } else {
            company.entries(Instant::now());
        }
        let Some(request) = codec::encode_append(request) else {
            // The engine begins anew, and sees then that a snapshot has to go.
            tracing::debug!("an append stream ended: what it was to send next is purged");
            return;
        };
        if let Err(error) = tx.send(frame(lane, &request)).await {
            // The receiving half sees the same end and tells the engine.
            tracing::debug!(%error, "an append stream ended");
            return;
        }
        next = input.next().await;
    }
    if let Err(error) = tx.finish().await {
        tracing::debug!(%error, "an append stream ended");
    }
}

/// Whether a request without entries is soon followed by one with some, as the last one was. Then it need not
/// go: the others are woken once instead of twice.
#[derive(Debug, Default)]
struct Company {
    /// When the last one without entries was there, and none with some since.
    bare: Option<Instant>,
    soon: bool,
}

impl Company {
    /// Some entries are there.
    fn entries(&mut self, now: Instant) {
        if let Some(bare) = self.bare.take() {
            self.soon = now < bare + BARE_WAITS;
        }
    }

    /// What comes in the place of a request without entries, if there is soon something; the end of all, too.
    async fn overtaken_by<S>(&mut self, input: &mut S) -> Option<Option<S::Item>>
    where
        S: Stream + Unpin,
    {
        self.bare = Some(Instant::now());
        if !self.soon {
            return None;
        }
        let next = tokio::time::timeout(BARE_WAITS, input.next()).await.ok();
        self.soon = next.is_some();
        next
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Answers<'s> {
    rx: FrameRx,
    patience: Option<Duration>,
    peer: &'s Peer,
    _sender: AbortOnDrop,
}

impl Answers<'_> {
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>, RpcError>> {
        let frame = match self.patience {
            Some(patience) => match tokio::time::timeout(patience, self.rx.recv()).await {
                Ok(frame) => frame,
                Err(_) => {
                    return Some(Err(self.peer.timed_out(RPCTypes::AppendEntries, patience)));
                }
            },
            None => self.rx.recv().await,
        };
        let frame = match frame {
            Ok(frame) => frame?,
            Err(error) => return Some(Err(unreachable(&error))),
        };
        Some(match decode_response(frame) {
            Ok(ResponseKind::Appended(appended)) => {
                let answer = codec::decode_appended(&appended);
                if let Ok(Some(matched)) = &answer {
                    self.peer.refusals.accepted(self.peer.target, matched.index());
                }
                Ok(answer)
            }
            Ok(ResponseKind::StampInFuture(refusal)) => {
                let refusal = StampInFuture::from(refusal);
                self.peer.refusals.refused(self.peer.target, refusal);
                Err(unreachable(&refusal))
            }
            Ok(ResponseKind::Refused(why)) => Err(codec_error(&CodecError(why))),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(codec_error(&error)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither is each sent at once nor each held.
    #[tokio::test(start_paused = true)]
    async fn what_the_next_says_too_waits_for_it_where_that_is_soon() {
        let (entries, mut input) = futures::channel::mpsc::unbounded();
        let (mut company, began) = (Company::default(), Instant::now());
        assert_eq!(company.overtaken_by(&mut input).await, None, "nobody knows yet");
        company.entries(Instant::now());
        for entry in [1, 2] {
            entries.unbounded_send(entry).unwrap();
            assert_eq!(company.overtaken_by(&mut input).await, Some(Some(entry)));
            company.entries(Instant::now());
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(company.overtaken_by(&mut input).await, None, "nothing came in time");
        let waited = began.elapsed();
        assert!(waited >= BARE_WAITS, "{waited:?}");
        // What comes too late is no company.
        company.entries(Instant::now());
        entries.unbounded_send(3).unwrap();
        assert_eq!(company.overtaken_by(&mut input).await, None);
        assert_eq!(began.elapsed(), waited, "it is sent at once");
        company.entries(Instant::now());
        drop(entries);
        assert_eq!(company.overtaken_by(&mut input).await, Some(Some(3)));
        assert_eq!(company.overtaken_by(&mut input).await, Some(None), "the end");
    }
}
