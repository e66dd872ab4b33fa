//! The engine's types as bytes: on disk inside a log entry, and on the wire between nodes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::guard::StampInFuture;
use openraft::EntryPayload;
use openraft::entry::RaftPayload as _;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use planted::Bug;
use prost::Message as _;
use proto::attest::LogEnd;

use crate::store::SnapshotHead;
use crate::store::format::{LogEntry, LogMark, Vote as StoredVote};

use super::types::{
    CommittedLeader, Entry, KIND_BLANK, KIND_MEMBERSHIP, KIND_NORMAL, LogId, Member, Membership,
    Payload, StoredMembership, Types, Vote,
};

/// Bytes that are not what a node of this release sends or stores.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a message of this protocol: {0}")]
pub(super) struct CodecError(pub String);

impl From<prost::DecodeError> for CodecError {
    fn from(error: prost::DecodeError) -> Self {
        Self(error.to_string())
    }
}

/// A place in the log.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct WireLogId {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct WireEntry {
    #[prost(message, optional, tag = "1")]
    id: Option<WireLogId>,
    #[prost(bytes = "bytes", tag = "2")]
    payload: Bytes,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct WireMember {
    #[prost(uint64, tag = "1")]
    raft_id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    address: String,
    #[prost(bytes = "vec", tag = "4")]
    incarnation: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct WireConfig {
    #[prost(uint64, repeated, tag = "1")]
    voters: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct WireMembership {
    #[prost(message, repeated, tag = "1")]
    configs: Vec<WireConfig>,
    #[prost(message, repeated, tag = "2")]
    members: Vec<WireMember>,
}

/// A message of the engine to another node.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Request {
    #[prost(oneof = "RequestKind", tags = "1, 2, 3, 4, 5")]
    pub(crate) kind: Option<RequestKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum RequestKind {
    #[prost(message, tag = "1")]
    Append(Append),
    #[prost(message, tag = "2")]
    Vote(Ballot),
    #[prost(message, tag = "3")]
    PreVote(Ballot),
    #[prost(message, tag = "4")]
    Transfer(Transfer),
    #[prost(message, tag = "5")]
    Snapshot(SnapshotOpen),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Append {
    #[prost(message, optional, tag = "1")]
    vote: Option<StoredVote>,
    #[prost(message, optional, tag = "2")]
    previous: Option<WireLogId>,
    #[prost(message, optional, tag = "3")]
    commit: Option<WireLogId>,
    #[prost(message, repeated, tag = "4")]
    entries: Vec<WireEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ballot {
    #[prost(message, optional, tag = "1")]
    vote: Option<StoredVote>,
    #[prost(message, optional, tag = "2")]
    last: Option<WireLogId>,
    #[prost(bool, tag = "3")]
    leadership_transfer: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Transfer {
    #[prost(message, optional, tag = "1")]
    from: Option<StoredVote>,
    #[prost(uint64, tag = "2")]
    to: u64,
    #[prost(message, optional, tag = "3")]
    last: Option<WireLogId>,
}

/// The first frame of a snapshot; chunks follow.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotOpen {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<StoredVote>,
    #[prost(message, optional, tag = "2")]
    pub(crate) head: Option<SnapshotHead>,
}

/// An answer to the engine of another node.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Response {
    #[prost(oneof = "ResponseKind", tags = "1, 2, 3, 4, 5, 6")]
    pub(crate) kind: Option<ResponseKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum ResponseKind {
    #[prost(message, tag = "1")]
    Appended(Appended),
    #[prost(message, tag = "2")]
    Voted(Voted),
    /// The transfer was taken up; empty = accepted, else why not.
    #[prost(string, tag = "3")]
    Transferred(String),
    /// The snapshot is installed; the receiver's vote.
    #[prost(message, tag = "4")]
    Installed(StoredVote),
    /// The receiver's engine cannot answer.
    #[prost(string, tag = "5")]
    Refused(String),
    /// A live entry lies in the receiver's future; nothing of the request was taken.
    #[prost(message, tag = "6")]
    StampInFuture(RefusedStamp),
}

/// See [`StampInFuture`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct RefusedStamp {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    stamp_ns: u64,
    #[prost(uint64, tag = "3")]
    limit_ns: u64,
}

impl From<StampInFuture> for RefusedStamp {
    fn from(StampInFuture { index, stamp_ns, limit_ns }: StampInFuture) -> Self {
        Self { index, stamp_ns, limit_ns }
    }
}

impl From<RefusedStamp> for StampInFuture {
    fn from(RefusedStamp { index, stamp_ns, limit_ns }: RefusedStamp) -> Self {
        Self { index, stamp_ns, limit_ns }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Appended {
    #[prost(message, optional, tag = "1")]
    matched: Option<WireLogId>,
    #[prost(message, optional, tag = "2")]
    conflict: Option<WireLogId>,
    #[prost(message, optional, tag = "3")]
    higher: Option<StoredVote>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Voted {
    #[prost(message, optional, tag = "1")]
    vote: Option<StoredVote>,
    #[prost(bool, tag = "2")]
    granted: bool,
    #[prost(message, optional, tag = "3")]
    last: Option<WireLogId>,
}

impl Ballot {
    /// Raft id of who stands for election; `None` if it does not say.
    pub(crate) fn candidate(&self) -> Option<u64> {
        self.vote.as_ref().map(|vote| vote.node)
    }

    /// Where the candidate's log ends; `None` if it holds nothing.
    pub(crate) fn log_end(&self) -> Option<LogEnd> {
        self.last.as_ref().map(|last| LogEnd { term: last.term, index: last.index })
    }
}

impl Transfer {
    /// Raft id of who is to take the primary role over.
    pub(crate) fn successor(&self) -> u64 {
        self.to
    }
}

fn missing(what: &str) -> CodecError {
    CodecError(format!("{what} is missing"))
}

pub(crate) fn log_id(id: WireLogId) -> LogId {
    LogId::new(CommittedLeader::new(id.term), id.index)
}

pub(crate) fn wire_log_id(id: &LogId) -> WireLogId {
    WireLogId { term: id.committed_leader_id().term, index: id.index() }
}

pub(crate) fn mark_log_id(mark: &LogMark) -> LogId {
    LogId::new(CommittedLeader::new(mark.term), mark.index)
}

pub(crate) fn vote(stored: StoredVote) -> Vote {
    if stored.committed {
        Vote::new_committed(stored.term, stored.node)
    } else {
        Vote::new(stored.term, stored.node)
    }
}

pub(crate) fn stored_vote(vote: &Vote) -> StoredVote {
    let leader = vote.leader_id();
    StoredVote { term: leader.term, node: leader.voted_for, committed: vote.is_committed() }
}

/// An entry as the store keeps it.
pub(crate) fn stored_entry(entry: &Entry) -> LogEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => Bytes::from_static(&[KIND_BLANK]),
        EntryPayload::Normal(payload) => {
            let stored = payload.stored();
            assert_eq!(stored.first(), Some(&KIND_NORMAL), "an entry that is read as another kind");
            stored.clone()
        }
        EntryPayload::Membership(membership) => {
            let mut bytes = vec![KIND_MEMBERSHIP];
            bytes.extend_from_slice(&encode_membership(membership));
            bytes.into()
        }
    };
    LogEntry { index: entry.log_id.index(), term: entry.log_id.committed_leader_id().term, payload }
}

/// An entry as the engine wants it.
///
/// # Errors
/// When the payload is of no known kind.
pub(crate) fn entry(stored: LogEntry) -> Result<Entry, CodecError> {
    let id = LogId::new(CommittedLeader::new(stored.term), stored.index);
    let payload = match stored.payload.split_first() {
        Some((&KIND_BLANK, [])) => EntryPayload::blank(),
        Some((&KIND_NORMAL, _)) => EntryPayload::Normal(Payload::from_stored(stored.payload)),
        Some((&KIND_MEMBERSHIP, bytes)) => EntryPayload::Membership(decode_membership(bytes)?),
        _ => return Err(CodecError(format!("log entry {} is of no known kind", stored.index))),
    };
    Ok(Entry { log_id: id, payload })
}

pub(crate) fn encode_membership(membership: &Membership) -> Vec<u8> {
    let configs = membership.get_joint_config().iter();
    let left_out = if planted::is(Bug::JointSkipped) { configs.len().saturating_sub(1) } else { 0 };
    let configs =
        configs.skip(left_out).map(|ids| WireConfig { voters: ids.iter().copied().collect() });
    let is_member = |id: u64| membership.nodes().any(|(member, _)| *member == id);
    assert!(membership.voter_ids().all(is_member), "a voter that is no member: {membership}");
    let members = membership.nodes().map(|(raft_id, member)| WireMember {
        raft_id: *raft_id,
        name: member.name.clone(),
        address: member.address.clone(),
        incarnation: member.incarnation.to_vec(),
    });
    WireMembership { configs: configs.collect(), members: members.collect() }.encode_to_vec()
}

pub(crate) fn decode_membership(bytes: &[u8]) -> Result<Membership, CodecError> {
    let wire = WireMembership::decode(bytes)?;
    let mut nodes = BTreeMap::new();
    for member in wire.members {
        let incarnation = member.incarnation.as_slice().try_into();
        let incarnation = incarnation.map_err(|_| missing("an incarnation"))?;
        let WireMember { raft_id, name, address, .. } = member;
        nodes.insert(raft_id, Member { name, address, incarnation });
    }
    if nodes.is_empty() && wire.configs.is_empty() {
        return Ok(Membership::default());
    }
    let configs = wire.configs.into_iter().map(|config| BTreeSet::from_iter(config.voters));
    Membership::new(configs.collect(), nodes).map_err(|error| CodecError(error.to_string()))
}

/// The membership of an applied state.
pub(crate) fn applied_membership(
    applied: &crate::store::format::AppliedState,
) -> Result<StoredMembership, CodecError> {
    let membership = decode_membership(&applied.membership)?;
    Ok(StoredMembership::new(applied.membership_at.as_ref().map(mark_log_id), membership))
}

/// An append as it is sent; `None` where its entries do not follow what they are sent after: the log was
/// purged between the engine's plan to send them and the reading.
pub(crate) fn encode_append(request: AppendEntriesRequest<Types>) -> Option<Request> {
    let next = request.prev_log_id.as_ref().map_or(0, |previous| previous.index() + 1);
    let mut entries = (next..).zip(&request.entries);
    if !entries.all(|(index, entry)| entry.log_id.index() == index) {
        return None;
    }
    let entries = request.entries.iter().map(|entry| {
        let stored = stored_entry(entry);
        WireEntry { id: Some(wire_log_id(&entry.log_id)), payload: stored.payload }
    });
    let last = request.entries.last().map(|entry| &entry.log_id);
    let told = last.filter(|_| planted::is(Bug::CommitTold)).or(request.leader_commit.as_ref());
    let append = Append {
        vote: Some(stored_vote(&request.vote)),
        previous: request.prev_log_id.as_ref().map(wire_log_id),
        commit: told.map(wire_log_id),
        entries: entries.collect(),
    };
    Some(Request { kind: Some(RequestKind::Append(append)) })
}

pub(crate) fn decode_append(append: Append) -> Result<AppendEntriesRequest<Types>, CodecError> {
    let entries = append.entries.into_iter().map(|wire| {
        let WireLogId { term, index } = wire.id.ok_or_else(|| missing("a log id"))?;
        entry(LogEntry { index, term, payload: wire.payload })
    });
    Ok(AppendEntriesRequest {
        vote: vote(append.vote.ok_or_else(|| missing("the vote"))?),
        prev_log_id: append.previous.map(log_id),
        leader_commit: append.commit.map(log_id),
        entries: entries.collect::<Result<_, _>>()?,
    })
}

pub(crate) fn encode_appended(result: &StreamAppendResult<Types>) -> Response {
    Response { kind: Some(ResponseKind::Appended(appended(result))) }
}

pub(crate) fn appended(result: &StreamAppendResult<Types>) -> Appended {
    let mut wire = Appended::default();
    match result {
        Ok(matched) => wire.matched = matched.as_ref().map(wire_log_id),
        Err(StreamAppendError::Conflict(at)) => wire.conflict = Some(wire_log_id(at)),
        Err(StreamAppendError::HigherVote(vote)) => wire.higher = Some(stored_vote(vote)),
    }
    wire
}

pub(crate) fn decode_appended(wire: &Appended) -> StreamAppendResult<Types> {
    match (wire.conflict, wire.higher) {
        (Some(at), _) => Err(StreamAppendError::Conflict(log_id(at))),
        (None, Some(higher)) => Err(StreamAppendError::HigherVote(vote(higher))),
        (None, None) => Ok(wire.matched.map(log_id)),
    }
}

pub(crate) fn encode_ballot(request: &VoteRequest<Types>) -> Ballot {
    let mut last = request.last_log_id.as_ref().map(wire_log_id);
    if let Some(last) = last.as_mut().filter(|_| planted::is(Bug::BallotOverstated)) {
        (last.term, last.index) = (request.vote.leader_id().term, last.index + 100);
    }
    Ballot {
        vote: Some(stored_vote(&request.vote)),
        last,
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn decode_ballot(ballot: Ballot) -> Result<VoteRequest<Types>, CodecError> {
    let vote = vote(ballot.vote.ok_or_else(|| missing("the vote"))?);
    let mut request = VoteRequest::new(vote, ballot.last.map(log_id));
    request.leadership_transfer = ballot.leadership_transfer;
    Ok(request)
}

pub(crate) fn encode_voted(response: &VoteResponse<Types>) -> Voted {
    Voted {
        vote: Some(stored_vote(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(wire_log_id),
    }
}

pub(crate) fn decode_voted(voted: Voted) -> Result<VoteResponse<Types>, CodecError> {
    let vote = vote(voted.vote.ok_or_else(|| missing("the vote"))?);
    let granted = voted.granted || planted::is(Bug::RefusedVoteCounts);
    Ok(VoteResponse::new(vote, voted.last.map(log_id), granted))
}

pub(crate) fn encode_transfer(request: &TransferLeaderRequest<Types>) -> Transfer {
    Transfer {
        from: Some(stored_vote(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(wire_log_id),
    }
}

pub(crate) fn decode_transfer(wire: Transfer) -> Result<TransferLeaderRequest<Types>, CodecError> {
    let from = vote(wire.from.ok_or_else(|| missing("the vote"))?);
    Ok(TransferLeaderRequest::new(from, wire.to, wire.last.map(log_id)))
}
