//! Pages: the records that a reader may see and asked for, in log order.
//!
//! A page takes a bounded number of steps, whatever the question. Where they do not suffice it ends
//! early, possibly empty, and says where the next one goes on.
//!
//! Not here: which records belong to a range of time (`window`), what lies in an inbox (`source`).

use bytes::Bytes;
use clock::Hlc;
use proto::limits::{
    CLOCK_ERROR_MAX_US, PAGE_BYTES_MAX, PAGE_LOOKED_BYTES_MAX, PAGE_RECORDS_MAX, PAGE_STEPS_MAX,
};
use proto::wire::{Gap, TimeMode};
use proto::{Name, Record, Stream};

use crate::SHARD;
use crate::query::skipper::Skipper;
use crate::query::source::{Index, Seek, Source, Steps};
use crate::rows::command::ADMIN;
use crate::rows::error::{QueryError, StateError, denied, invalid, not_found};
use crate::rows::find::{Reader, is_own, record_row};
use crate::rows::membership_spans::groups_of;
use crate::rows::names::client_row;
use crate::rows::slots::{sender_key, stream_key};
use crate::rows::values::{State, decode_record, record_hlc, record_stamp};
use crate::rows::view::{Table, View};
use crate::rows::window::Window;
use crate::rules::floors::{self, Floor};
use crate::rules::groups::{readable, require_known};
use crate::rules::settings::settings;
use planted::Bug;

/// Which records to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// Not stamped before this.
    pub since: Option<Hlc>,
    /// Stamped before this.
    pub until: Option<Hlc>,
    /// What the two mean.
    pub mode: TimeMode,
    /// Only from this sender; empty = all.
    pub from: String,
    /// Only to this recipient; empty = all.
    pub to: String,
    /// Only what went between the reader and this client, in both directions; empty = all. Not
    /// together with `from` or `to`.
    pub with: String,
    /// Only seqs above this one.
    pub after: u64,
    /// Whether a reader has come as far as `after`, so that it misses what was removed behind it.
    pub resumes: bool,
    /// Most records; 0, or more than a page may hold = as many as a page may hold.
    pub limit: usize,
}

/// Records in log order.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// [`Query::after`] of the next page: everything up to here was looked at.
    pub next: u64,
    /// Whether the next page would be empty for now. Without it there may be more, even if this page
    /// is empty: it took long enough.
    pub end: bool,
    /// The answer is complete up to this instant, and never says so beyond [`Query::until`]. In
    /// possible time it lies behind the last stamp, since a later one may reach back.
    pub safe: Hlc,
    /// What a reader that resumes, or asks from an instant on, can have no more.
    pub gap: Option<Gap>,
}

/// One page of what the reader may see and asked for.
///
/// # Errors
/// Refused where a filter is malformed, asks for somebody else's messages, or ends before it
/// begins.
pub fn page(view: &dyn View, reader: &Reader, query: &Query) -> Result<Page, QueryError> {
    let source = source(view, reader, query)?;
    let state = State::load(view)?;
    let &Query { mode, since, until, .. } = query;
    let window = Window { mode, since, until };
    let (first, last) = range(view, &state, query, &window)?;
    let limit = match query.limit {
        0 => PAGE_RECORDS_MAX,
        limit => limit.min(PAGE_RECORDS_MAX),
    };
    let gap = missed(view, &state, query, &source)?;
    let mut search = Search::new(view, source, window, last);
    let (mut records, mut bytes, mut seq) = (Vec::new(), 0, first);
    // Where the next page goes on; `None` at the end.
    let stopped = loop {
        match search.next(seq)? {
            Step::End => break None,
            Step::Paused(at) => break Some(at - 1),
            Step::Found(found, row) => {
                let full = records.len() == limit
                    || (!records.is_empty() && bytes + row.len() > PAGE_BYTES_MAX);
                if full {
                    // Not `found - 1`: what lies between may be shown to nobody, and so it stays.
                    break Some(seq - 1);
                }
                bytes += row.len();
                records.push(decode_record(row)?);
                seq = found + 1;
            }
        }
    };
    let (next, looked) = match stopped {
        Some(next) => (next, record_hlc(&record_row(view, next)?)?),
        None => (query.after.max(last), state.last),
    };
    assert!(records.len() <= limit, "a page holds no more than it may");
    assert!(next >= query.after, "the next page never begins before this one");
    let safe = until.into_iter().fold(complete_until(view, mode, looked)?, Hlc::min);
    assert!(until.is_none_or(|until| safe <= until), "no page speaks for what it was not asked");
    let next = next + u64::from(planted::is(Bug::PageSkipsOne) && stopped.is_some());
    Ok(Page { records, next, end: stopped.is_none(), safe, gap })
}

/// What retention has removed between the place where a reader stood, or the instant that it asks from,
/// and the first record that is kept, as far as it can have belonged to the answer. Who names neither
/// asks for what there is. Stamps ascend, so a range of time misses nothing that was stamped before it.
fn missed(
    view: &dyn View,
    state: &State,
    query: &Query,
    source: &Source<'_>,
) -> Result<Option<Gap>, StateError> {
    let from_seq = query.after.saturating_add(1);
    if from_seq >= state.first_seq || !(query.resumes || query.since.is_some()) {
        return Ok(None);
    }
    let stamp = match state.records() {
        0 => state.last.succ(),
        _ => record_hlc(&record_row(view, state.first_seq)?)?,
    };
    let untold = floors::untold(view, Floor { seq: state.first_seq, stamp })?;
    let own = source.floor(view, from_seq)?;
    let lost = |floor: &Floor| {
        let before = match (query.mode, query.since) {
            (TimeMode::Nominal | TimeMode::Definite, Some(since)) => floor.stamp < since,
            // A stamp without known bounds belongs to every range.
            (TimeMode::Possible, _) | (_, None) => false,
        };
        floor.seq >= from_seq && !before
    };
    let highest = own.into_iter().chain([untold]).filter(lost).max();
    assert!(highest.is_none_or(|highest| highest.seq >= from_seq), "a gap is not empty");
    Ok(highest.map(|Floor { seq: to_seq, .. }| Gap { shard: u32::from(SHARD), from_seq, to_seq }))
}

/// Up to which instant an answer is complete that holds everything stamped up to `stamp`. In possible
/// time a later stamp may reach back, by twice the largest clock error, the lead that a primary may
/// mint ahead.
fn complete_until(view: &dyn View, mode: TimeMode, stamp: Hlc) -> Result<Hlc, StateError> {
    match mode {
        TimeMode::Nominal | TimeMode::Definite => Ok(stamp),
        TimeMode::Possible => Ok(Hlc::from_ns(stamp.ns.saturating_sub(reach_back_ns(view)?))),
    }
}

/// How far a stamp may reach back at most, nanoseconds: twice the largest clock error.
pub(crate) fn reach_back_ns(view: &dyn View) -> Result<u64, StateError> {
    let error_us = settings(view)?.map_or(CLOCK_ERROR_MAX_US, |set| set.max_clock_error_us);
    Ok(error_us.saturating_mul(2_000))
}

/// A search in progress.
struct Search<'v> {
    view: &'v dyn View,
    source: Source<'v>,
    window: Window,
    skipper: Skipper<'v>,
    /// Highest seq that can belong to it.
    last: u64,
    steps: Steps,
    /// Bytes of rows that were looked at and not shown.
    looked_bytes: usize,
}

enum Step {
    /// A record that belongs to the answer, and its row.
    Found(u64, Bytes),
    /// It took too long; nothing below this seq belongs to the answer any more.
    Paused(u64),
    /// There is no more.
    End,
}

impl<'v> Search<'v> {
    fn new(view: &'v dyn View, source: Source<'v>, window: Window, last: u64) -> Self {
        let skipper = Skipper::new(view, window);
        let steps = Steps(PAGE_STEPS_MAX);
        Self { view, source, window, skipper, last, steps, looked_bytes: 0 }
    }

    /// The first record not below `from` that belongs to the answer.
    fn next(&mut self, from: u64) -> Result<Step, StateError> {
        let mut seq = from;
        loop {
            let found = match self.source.seek(seq, &mut self.steps)? {
                Seek::Found(found) if found <= self.last => found,
                Seek::Paused(at) if at <= self.last => return Ok(Step::Paused(at)),
                Seek::Found(_) | Seek::Paused(_) | Seek::End => return Ok(Step::End),
            };
            // The range of seqs is the range of stamps already.
            if self.window.mode == TimeMode::Nominal {
                return Ok(Step::Found(found, record_row(self.view, found)?));
            }
            let may = self.skipper.skip(found, self.last, &mut self.steps)?;
            if may == found {
                let row = record_row(self.view, found)?;
                if self.window.holds(record_stamp(&row)?) {
                    return Ok(Step::Found(found, row));
                }
                self.looked_bytes += row.len();
                seq = found + 1;
            } else {
                seq = may;
            }
            if seq > self.last {
                return Ok(Step::End);
            }
            if !self.steps.take() || self.looked_bytes > PAGE_LOOKED_BYTES_MAX {
                return Ok(Step::Paused(seq));
            }
        }
    }
}

/// Checks what the reader asks for and finds where to read it.
fn source<'v>(
    view: &'v dyn View,
    reader: &Reader,
    query: &Query,
) -> Result<Source<'v>, QueryError> {
    if let (Some(since), Some(until)) = (query.since, query.until)
        && until < since
    {
        return Err(invalid(format!("until {until} lies before since {since}")).into());
    }
    if !query.with.is_empty() {
        return conversation(view, reader, query);
    }
    let (from, to) = (&query.from, &query.to);
    if !from.is_empty() {
        from.parse::<Name>().map_err(invalid)?;
    }
    let stream = if to.is_empty() { None } else { Some(to.parse::<Stream>().map_err(invalid)?) };
    let own = reader.admin || *from == reader.name;
    let of = |stream: &Stream| Index::new(view, Table::Streams, stream_key(stream));
    let sender = (!from.is_empty()).then(|| {
        let key = sender_key(stream.as_ref().unwrap_or(&Stream::Everyone), from);
        Source::Index(Index::new(view, Table::Senders, key.into_owned()))
    });
    let recipients = match &stream {
        Some(Stream::Group(name)) if !own => {
            let spans = readable(view, reader, name.as_str())?;
            let all = of(&Stream::Group(name.clone()));
            Some(Source::Index(all.within(spans)))
        }
        Some(stream) => {
            require_readable(view, reader, stream, own)?;
            Some(Source::Index(of(stream)))
        }
        None if own => None,
        None => Some(inbox(view, reader)?),
    };
    Ok(match (recipients, sender) {
        (Some(recipients), Some(sender)) => Source::Both(Box::new([recipients, sender])),
        (Some(one), None) | (None, Some(one)) => one,
        // Events are shown to those who ask for them.
        (None, None) => Source::AllBut(of(&Stream::Events)),
    })
}

/// What went between the reader and another client.
fn conversation<'v>(
    view: &'v dyn View,
    reader: &Reader,
    query: &Query,
) -> Result<Source<'v>, QueryError> {
    if !query.from.is_empty() || !query.to.is_empty() {
        return Err(invalid("a conversation has both directions: neither from nor to").into());
    }
    let own: Name = reader.name.parse().map_err(invalid)?;
    let other: Name = query.with.parse().map_err(invalid)?;
    if other.as_str() != ADMIN && client_row(view, other.as_str())?.is_none() {
        return Err(not_found(format!("no client '{other}'")).into());
    }
    let way = |from: &Name, to: &Name| {
        let to = Stream::Client(to.clone());
        let sender = sender_key(&to, from.as_str()).into_owned();
        let streams = Index::new(view, Table::Streams, stream_key(&to));
        let senders = Index::new(view, Table::Senders, sender);
        Source::Both(Box::new([Source::Index(streams), Source::Index(senders)]))
    };
    Ok(Source::Any(vec![way(&own, &other), way(&other, &own)]))
}

/// Everything that is addressed to a client: itself, everyone, and its groups while it was a member.
fn inbox<'v>(view: &'v dyn View, reader: &Reader) -> Result<Source<'v>, QueryError> {
    let name = reader.name.parse().map_err(invalid)?;
    let of = |stream: &Stream| Index::new(view, Table::Streams, stream_key(stream));
    let mut streams = vec![of(&Stream::Client(name)), of(&Stream::Everyone)];
    for (group, spans) in groups_of(view, &reader.name)? {
        let group = group
            .parse()
            .map_err(|_| StateError::corrupt(Table::ClientGroups, "a group has no name"))?;
        streams.push(of(&Stream::Group(group)).within(spans));
    }
    Ok(Source::Any(streams.into_iter().map(Source::Index).collect()))
}

/// Refuses a stream that the reader may not see: somebody else's, or of a group that is not there.
fn require_readable(
    view: &dyn View,
    reader: &Reader,
    stream: &Stream,
    own: bool,
) -> Result<(), QueryError> {
    if let Stream::Group(name) = stream {
        return require_known(view, name.as_str());
    }
    let to = stream.to_string();
    if own || *stream == Stream::Events || is_own(reader, &to) {
        return Ok(());
    }
    Err(denied(format!(
        "'{}' reads its own messages, everyone's ('*'), those of its groups, those it sent and \
         '$events', not those to '{to}'",
        reader.name
    ))
    .into())
}

/// First and last seq that the query's time range and position leave.
fn range(
    view: &dyn View,
    state: &State,
    query: &Query,
    window: &Window,
) -> Result<(u64, u64), StateError> {
    let lowest = query.after.saturating_add(1).max(state.first_seq);
    let mut first = lowest;
    let mut last = state.last_seq;
    match window.mode {
        TimeMode::Nominal | TimeMode::Definite => {
            if let Some(since) = query.since {
                first = seq_at(view, state, since, first)?;
            }
            if let Some(until) = query.until {
                // The lowest seq is at least 1, so this does not underflow.
                last = seq_at(view, state, until, state.first_seq)? - 1;
            }
        }
        TimeMode::Possible if window.is_empty() => last = first - 1,
        // A stamp far from the range may have bounds that reach into it.
        TimeMode::Possible => {}
    }
    assert!(first >= lowest, "what was read is not read again");
    assert!(last <= state.last_seq.max(lowest), "a range ends with the log");
    Ok((first, last))
}

/// The lowest seq, not below `low`, whose record is stamped at or after `hlc`; one beyond the last
/// if there is none. Stamps ascend with seq, so halving finds it.
fn seq_at(view: &dyn View, state: &State, hlc: Hlc, low: u64) -> Result<u64, StateError> {
    let (mut low, mut high) = (low, state.last_seq + 1);
    if low >= high || hlc > state.last {
        return Ok(high.max(low));
    }
    // A reader that goes on where it stopped is past the instant already.
    let mut probe = low;
    while low < high {
        if record_hlc(&record_row(view, probe)?)? < hlc {
            low = probe + 1;
        } else {
            high = probe;
        }
        probe = low + (high - low) / 2;
    }
    assert_eq!(low, high, "halving ends at one place");
    Ok(low)
}

const _: () = assert!(PAGE_STEPS_MAX > PAGE_RECORDS_MAX, "the steps suffice for a full page");
