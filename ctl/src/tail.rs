//! The last records of an answer: looked for from the end of the log backwards, in pieces that grow while
//! they hold little, so that neither a long log nor an answer that is spread thinly over it is read twice.

use std::collections::VecDeque;

use clock::Hlc;
use proto::Record;
use proto::wire::{self, Gap, Instant, Op, Page, Position, Reply, TimePoint};

use crate::error::CtlError;
use crate::filter::Filter;
use crate::session::Session;

/// Places of the first piece, at least and at most.
const FIRST: (u64, u64) = (16, 1000);
/// A piece with fewer records than this is followed by one that is four times as long.
const FEW: usize = 64;
/// Records of one piece that are kept, its last: what lies before them is another piece.
const PIECE_MAX: usize = 4096;

/// The answer to a question, from its end on.
pub(crate) struct Backwards<'a> {
    session: &'a Session,
    /// The question. Its instants are made exact by the first answer.
    read: wire::Read,
    filter: &'a Filter,
    /// Nothing up to this place is wanted.
    after: u64,
    /// Everything from this place on has been looked at.
    before: u64,
    /// Places of the next piece.
    span: u64,
    /// The node that told where the log ends.
    gateway: String,
    /// What it told.
    end: Page,
    /// How far the answer is complete.
    safe: Option<Hlc>,
    /// Whether the question says where it begins: what retention has removed from there on is missing.
    begins: bool,
    gap: Option<Gap>,
}

impl<'a> Backwards<'a> {
    /// Asks where the log ends. About `wanted` records will be asked for.
    pub(crate) async fn begin(
        session: &'a Session,
        read: wire::Read,
        filter: &'a Filter,
        wanted: u64,
    ) -> Result<Self, CtlError> {
        // From a time that never comes: no record, only the place where the log ends now.
        let begins = read.since.is_some() || !read.after.is_empty();
        let never = Instant::Hlc(Hlc::from_ns(u64::MAX).to_bytes().to_vec());
        let probe = wire::Read {
            since: Some(TimePoint { at: Some(never) }),
            until: None,
            after: Vec::new(),
            mode: 0,
            limit: 1,
            ..read.clone()
        };
        let (gateway, page) = ask(session, probe).await?;
        Ok(Self {
            session,
            filter,
            after: place_of(&read.after),
            before: place_of(&page.next).saturating_add(1),
            span: wanted.saturating_mul(2).clamp(FIRST.0, FIRST.1),
            gateway,
            read,
            end: page,
            safe: None,
            begins,
            gap: None,
        })
    }

    /// The node that told where the log ends, and how long ago it heard from a primary.
    pub(crate) fn told_by(&self) -> (&str, u64) {
        (&self.gateway, self.end.behind_ms)
    }

    /// Up to when the answer is complete, as far as that is known.
    pub(crate) fn safe(&self) -> Option<Hlc> {
        self.safe
    }

    /// What is missing of what was looked at.
    pub(crate) fn gap(&self) -> Option<Gap> {
        self.gap
    }

    /// The question for what comes behind the place where this began.
    pub(crate) fn onwards(self) -> wire::Read {
        wire::Read { after: self.end.next, ..self.read }
    }

    /// The last records, at most so many, in the order of the log.
    pub(crate) async fn last(&mut self, count: u64) -> Result<Vec<Record>, CtlError> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let mut last: VecDeque<Record> = VecDeque::new();
        while last.len() < count {
            let Some(piece) = self.piece().await? else { break };
            for record in piece.into_iter().rev().take(count - last.len()) {
                last.push_front(record);
            }
        }
        Ok(last.into())
    }

    /// The next piece towards the beginning, in the order of the log and perhaps without a record;
    /// `None` once there is no more.
    pub(crate) async fn piece(&mut self) -> Result<Option<Vec<Record>>, CtlError> {
        let last = self.before.saturating_sub(1);
        if last <= self.after {
            return Ok(None);
        }
        let start = last.saturating_sub(self.span).max(self.after);
        let mut read = wire::Read { after: place(start), limit: last - start, ..self.read.clone() };
        let mut kept: VecDeque<Record> = VecDeque::new();
        let mut begin = start;
        loop {
            let (_, page) = ask(self.session, read.clone()).await?;
            self.read.pin(&page);
            let next = place_of(&page.next);
            let (end, nowhere) = (page.end, page.records.is_empty() && page.next == read.after);
            if end && self.safe.is_none() {
                self.safe = Hlc::from_slice(&page.safe);
            }
            read.go_on(&page);
            if let Some(gap) = page.gap.filter(|_| self.begins) {
                let known = self.gap.unwrap_or(gap);
                let (from_seq, to_seq) =
                    (known.from_seq.min(gap.from_seq), known.to_seq.max(gap.to_seq));
                self.gap = Some(Gap { from_seq, to_seq, ..gap });
            }
            let mut beyond = false;
            for record in page.records {
                beyond |= record.seq >= self.before;
                if record.seq < self.before && self.filter.takes(&record) {
                    if kept.len() == PIECE_MAX {
                        kept.pop_front();
                    }
                    kept.push_back(record);
                }
            }
            if end || beyond || next >= last {
                break;
            }
            if nowhere {
                return Err(CtlError::unexpected("a page that leads nowhere"));
            }
        }
        if kept.len() == PIECE_MAX {
            // What lies before the first that is kept has been thrown away.
            begin = kept.front().map_or(start, |record| record.seq - 1);
            self.span = self.span.div_ceil(8);
        } else if kept.len() < FEW {
            self.span = self.span.saturating_mul(4);
        }
        assert!(begin < last, "each piece leads towards the beginning");
        self.before = begin + 1;
        Ok(Some(kept.into()))
    }
}

async fn ask(session: &Session, read: wire::Read) -> Result<(String, Page), CtlError> {
    match session.call(Op::Read(read)).await? {
        (gateway, Reply::Page(page)) => Ok((gateway, page)),
        _ => Err(CtlError::unexpected("no page")),
    }
}

fn place(seq: u64) -> Vec<Position> {
    // 0 is no place: whatever is kept.
    if seq == 0 { Vec::new() } else { vec![Position { shard: crate::SHARD, seq }] }
}

fn place_of(positions: &[Position]) -> u64 {
    positions.first().map_or(0, |position| position.seq)
}
