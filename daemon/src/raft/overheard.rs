//! What the engines of two nodes say to each other, for whoever watches a simulated network.

use std::collections::BTreeSet;

use clock::Hlc;
use net::Lane;
use openraft::EntryPayload;
use openraft::entry::RaftEntry as _;
use prost::Message as _;

use super::codec::{self, Request, RequestKind, Response, ResponseKind};
use super::network::URGENT_RAFT;
use super::types::LogId;

/// An entry's place: term and index.
pub type At = (u64, u64);

/// A message of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overheard {
    /// A primary appends entries, or says only how far it has committed.
    Append {
        /// Its term.
        term: u64,
        /// Its raft id.
        primary: u64,
        /// The last entry that it has committed.
        committed: Option<At>,
        /// What it appends, with the last stamp of each entry that has one.
        entries: Vec<(At, Option<Hlc>)>,
        /// Who decides from which of these entries on: one set of voters, or the old one and the new one.
        voters: Vec<(At, Vec<BTreeSet<u64>>)>,
    },
    /// A candidate asks for a vote.
    Ballot {
        /// The term that it stands for.
        term: u64,
        /// Its raft id.
        candidate: u64,
        /// Whether it only asks whether one would be given.
        pre: bool,
    },
    /// A snapshot begins that stands at this entry.
    Snapshot(Option<At>),
    /// Entries were taken; what the log is said to match up to, if it says so.
    Appended(Option<At>),
    /// A ballot was answered.
    Voted {
        /// Whether with a vote.
        granted: bool,
    },
    /// A snapshot was installed.
    Installed,
    /// Something else, a refusal among it.
    Other,
}

fn at(id: &LogId) -> At {
    (id.committed_leader_id().term, id.index())
}

/// What the opener of a stream says in it, in its first frame or, while it appends, in any; `None` if
/// that is no message of an engine.
#[must_use]
pub fn asked(lane: Lane, frame: &[u8]) -> Option<Overheard> {
    let message = match lane {
        Lane::Append | Lane::Snapshot => frame,
        Lane::Urgent => frame.strip_prefix(&[URGENT_RAFT])?,
        Lane::Request => return None,
    };
    Some(match Request::decode(message).ok()?.kind? {
        RequestKind::Append(append) => {
            let request = codec::decode_append(append).ok()?;
            let stamp = |entry: &super::Entry| {
                let EntryPayload::Normal(payload) = &entry.payload else { return None };
                let (base, count) = model::stamps_of(payload.batch()).ok()?;
                Some(base.hlc.advance(u64::from(count.saturating_sub(1))))
            };
            let voters = |entry: &super::Entry| {
                let EntryPayload::Membership(members) = &entry.payload else { return None };
                Some((at(&entry.log_id()), members.get_joint_config().clone()))
            };
            let entries = request.entries.iter();
            let leader = request.vote.leader_id();
            Overheard::Append {
                term: leader.term,
                primary: leader.voted_for,
                committed: request.leader_commit.as_ref().map(at),
                voters: entries.clone().filter_map(voters).collect(),
                entries: entries.map(|entry| (at(&entry.log_id()), stamp(entry))).collect(),
            }
        }
        RequestKind::Vote(ballot) => ballot_of(ballot, false)?,
        RequestKind::PreVote(ballot) => ballot_of(ballot, true)?,
        RequestKind::Snapshot(open) => {
            let last = open.head.and_then(|head| head.applied).and_then(|applied| applied.last);
            Overheard::Snapshot(last.map(|last| (last.term, last.index)))
        }
        RequestKind::Transfer(_) => Overheard::Other,
    })
}

fn ballot_of(ballot: codec::Ballot, pre: bool) -> Option<Overheard> {
    let request = codec::decode_ballot(ballot).ok()?;
    let leader = request.vote.leader_id();
    Some(Overheard::Ballot { term: leader.term, candidate: leader.voted_for, pre })
}

/// What a message of an engine is answered with; `None` if it cannot be read.
#[must_use]
pub fn answered(frame: &[u8]) -> Option<Overheard> {
    Some(match Response::decode(frame).ok()?.kind? {
        ResponseKind::Appended(appended) => match codec::decode_appended(&appended) {
            Ok(matched) => Overheard::Appended(matched.as_ref().map(at)),
            Err(_) => Overheard::Other,
        },
        ResponseKind::Voted(voted) => {
            let voted = codec::decode_voted(voted).ok()?;
            Overheard::Voted { granted: voted.vote_granted }
        }
        ResponseKind::Installed(_) => Overheard::Installed,
        ResponseKind::Transferred(_)
        | ResponseKind::Refused(_)
        | ResponseKind::StampInFuture(_) => Overheard::Other,
    })
}
