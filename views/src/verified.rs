//! What a node found in itself: what it can be compared with others by.

use proto::attest::Place;
use proto::overview::DigestAt;
use proto::wire::Verified;
use serde::Serialize;

/// One node's state. Nodes whose digests at one index differ are not the same any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedView {
    node: String,
    /// Of its state at the last entries that it applied, the newest last.
    digests: Vec<DigestView>,
    /// Of every row that it holds, at entries behind which all nodes read theirs.
    contents: Vec<DigestView>,
    /// The same as it was read now; these three only if that was asked for.
    content: Option<DigestView>,
    records: Option<u64>,
    bytes: Option<u64>,
    /// The last place of the log that it holds and knows to be committed.
    committed: Option<PlaceView>,
    /// Index of the first place that its log still tells.
    first: u64,
    /// The places that were asked for, as far as its log reaches.
    places: Vec<PlaceView>,
    /// What is wrong; empty if nothing is.
    problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct DigestView {
    index: u64,
    digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PlaceView {
    index: u64,
    term: u64,
    /// Of the log up to here.
    hash: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl From<DigestAt> for DigestView {
    fn from(DigestAt { index, digest }: DigestAt) -> Self {
        Self { index, digest: hex(&digest) }
    }
}

impl From<Place> for PlaceView {
    fn from(Place { index, term, hash }: Place) -> Self {
        Self { index, term, hash: hex(&hash) }
    }
}

impl From<Verified> for VerifiedView {
    fn from(verified: Verified) -> Self {
        let whole = verified.content.is_some();
        let digests = |all: Vec<DigestAt>| all.into_iter().map(DigestView::from).collect();
        Self {
            node: verified.node,
            digests: digests(verified.digests),
            contents: digests(verified.contents),
            content: verified.content.map(DigestView::from),
            records: whole.then_some(verified.records),
            bytes: whole.then_some(verified.bytes),
            committed: verified.committed.map(PlaceView::from),
            first: verified.first,
            places: verified.places.into_iter().map(PlaceView::from).collect(),
            problems: verified.problems,
        }
    }
}
